//! Errors, warnings and reports on standard error. Colours respect `NO_COLOR` and vanish when nobody sees them.
//!
//! A standard error that is closed or full changes nothing about the work, so failures to write there are let go.

use std::io::Write;

use anstyle::{AnsiColor, Style};
use dlopt_checkpoint::Error;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default();

/// Prints an error and what to try.
pub(crate) fn error(error: &Error) {
    let mut text = format!("{ERROR}error{ERROR:#}: {}\n", one_line(error.message()));
    if let Some(hint) = error.what_to_try() {
        text.push_str(&format!("  {HINT}try{HINT:#}: {}\n", one_line(hint)));
    }
    tell(&text);
}

/// Prints a warning.
pub(crate) fn warning(text: &str) {
    tell(&format!("{WARNING}warning{WARNING:#}: {}\n", one_line(text)));
}

/// Prints text on standard error.
pub(crate) fn tell(text: &str) {
    let mut err = anstream::stderr().lock();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

/// Text in which no name of a tensor or file can begin a new line or steer a terminal.
pub(crate) fn one_line(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len()), |mut line, c| {
        if c.is_control() {
            line.extend(c.escape_debug())
        } else {
            line.push(c)
        }
        line
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_as_escapes() {
        assert_eq!(one_line("a\nb\u{1b}[2J"), "a\\nb\\u{1b}[2J");
        assert_eq!(one_line("ünïcode"), "ünïcode");
    }
}
