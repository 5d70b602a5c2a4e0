//! A progress bar with rate and time left, when somebody is there to see it.

use std::io::IsTerminal;

use dlopt_checkpoint::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Draws on standard error when it is a terminal and standard output is no pipe.
pub(crate) struct Bar {
    bar: ProgressBar,
}

impl Bar {
    /// A bar, hidden when `quiet` or when nobody would see it.
    pub(crate) fn new(quiet: bool) -> Self {
        let units = "{binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}";
        Self::counting(units, quiet)
    }

    /// The same, of samples.
    pub(crate) fn of_samples(quiet: bool) -> Self {
        Self::counting("{human_pos} of {human_len} samples, {per_sec}", quiet)
    }

    /// The same, of tensors.
    pub(crate) fn of_tensors(quiet: bool) -> Self {
        Self::counting("{human_pos} of {human_len} tensors", quiet)
    }

    fn counting(units: &str, quiet: bool) -> Self {
        let is_seen = !quiet && std::io::stderr().is_terminal() && !crate::streams::stdout_is_pipe();
        let target = if is_seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template(&format!("{{msg:>9}} {{wide_bar}} {units}, {{eta}} left"))
            .expect("the units are constants");
        bar.set_style(style);
        Self { bar }
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Bar {
    fn phase(&self, name: &str, bytes: u64) {
        self.bar.reset();
        self.bar.set_length(bytes);
        self.bar.set_message(name.to_owned());
    }

    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }
}
