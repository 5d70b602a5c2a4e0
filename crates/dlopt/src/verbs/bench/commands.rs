//! Commands of a sweep or a recipe as processes of this binary, one at a time, with a bar.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dlopt_bench::Commands;
use dlopt_checkpoint::{Context, Error, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::exit;
use crate::messages;

/// Processes of this binary.
pub(in crate::verbs) struct Processes {
    binary: PathBuf,
    stop: Arc<AtomicBool>,
    bar: ProgressBar,
    /// Nobody sees a bar: lines are printed.
    prints: bool,
}

impl Processes {
    pub(in crate::verbs) fn new(stop: &Arc<AtomicBool>, quiet: bool) -> Result<Self> {
        let is_seen = !quiet && std::io::stderr().is_terminal();
        let target = if is_seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{wide_msg} {bar:20} {pos} of {len}, {eta} left");
        bar.set_style(style.expect("the template is a constant"));
        let binary = std::env::current_exe().at("this program")?;
        Ok(Self { binary, stop: Arc::clone(stop), bar, prints: !quiet && !is_seen })
    }

    pub(in crate::verbs) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Commands for Processes {
    fn run(&self, words: &[String]) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(stopped());
        }
        let output = Command::new(&self.binary)
            .arg(format!("--works-for={}", std::process::id()))
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .at(self.binary.display())?;
        if self.stop.load(Ordering::Relaxed) {
            return Err(stopped());
        }
        match output.status.code() {
            // A gate that is not met says something of the result, which is there.
            Some(0) => Ok(()),
            Some(code) if code == i32::from(exit::GATE_NOT_MET) => Ok(()),
            code => {
                let text = String::from_utf8_lossy(&output.stderr);
                let reason = text.lines().find_map(|line| line.strip_prefix("error: ")).or(text.lines().last());
                let how = code.map_or("it was killed".to_owned(), |code| format!("exit code {code}"));
                Err(Error::input(format!("{}: {}", words[0], reason.unwrap_or(&how))))
            }
        }
    }

    fn tell(&self, what: &str, done: usize, all: usize) {
        self.bar.set_length(all as u64);
        self.bar.set_position(done as u64);
        self.bar.set_message(what.to_owned());
        if self.prints && done < all {
            messages::tell(&format!("{} of {all}: {what}\n", done + 1));
        }
    }
}

fn stopped() -> Error {
    Error::interrupted("stopped; what was finished is kept, and the same command goes on from there")
}
