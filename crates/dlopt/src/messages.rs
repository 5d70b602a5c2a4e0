//! Errors and warnings on standard error. Colours respect `NO_COLOR` and vanish when nobody sees them.

use anstyle::{AnsiColor, Style};
use dlopt_checkpoint::Error;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default();

/// Prints an error and what to try.
pub(crate) fn error(error: &Error) {
    anstream::eprintln!("{ERROR}error{ERROR:#}: {}", error.message());
    if let Some(hint) = error.what_to_try() {
        anstream::eprintln!("  {HINT}try{HINT:#}: {hint}");
    }
}

/// Prints a warning.
pub(crate) fn warning(text: &str) {
    anstream::eprintln!("{WARNING}warning{WARNING:#}: {text}");
}
