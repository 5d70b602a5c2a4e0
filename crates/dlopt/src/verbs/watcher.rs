//! Shows a training while it runs, logs it, and keeps checkpoints of it.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Instant;

use dlopt_checkpoint::{Pass, Result, Target, make_folder, write_bytes};
use dlopt_data::Dataset;
use dlopt_metrics::EpochRecord;
use dlopt_model::save_through;
use dlopt_train::{Model, Observer, Settings, Trained};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::messages;
use crate::streams;

/// An epoch, and how fast it went.
#[derive(Clone, Serialize)]
pub(super) struct EpochReport {
    #[serde(flatten)]
    pub(super) record: EpochRecord,
    pub(super) train_samples_per_second: f64,
}

/// What is kept of a training beside its result.
#[derive(Clone, Default)]
pub(super) struct Keeps<'a> {
    /// A JSON line for each epoch goes here.
    pub(super) log: Option<&'a Path>,
    /// Checkpoints of epochs go into this folder, and so many of them stay.
    pub(super) checkpoints: Option<(&'a Path, usize)>,
    /// What those go through before they are written.
    pub(super) passes: Vec<&'a dyn Pass>,
}

/// Shows a training, logs it, and keeps checkpoints of it.
pub(super) struct Watcher<'a> {
    /// The verb that trains, for the history.
    verb: &'static str,
    /// In front of the lines about epochs: which of several trainings this is.
    title: String,
    keeps: Keeps<'a>,
    quiet: bool,
    settings: &'a Settings,
    model: &'a Model,
    dataset: &'a Dataset,
    started: Instant,
    pub(super) first_step: Option<f64>,
    bar: ProgressBar,
    is_shown: bool,
    pub(super) epochs: Vec<EpochReport>,
    updates_since_drawn: u32,
    /// Where the last good weights go when the loss is no number, as they are trained, to go on from.
    pub(super) last_good: Option<PathBuf>,
}

impl<'a> Watcher<'a> {
    /// Watches a training that `verb` runs; with `quiet` it says nothing.
    pub(super) fn new(
        verb: &'static str,
        (settings, model, dataset): (&'a Settings, &'a Model, &'a Dataset),
        quiet: bool,
        started: Instant,
    ) -> Self {
        let is_shown = !quiet && std::io::stderr().is_terminal() && !streams::stdout_is_pipe();
        let target = if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg}, {per_sec}, {eta} left")
            .expect("the template is a constant");
        bar.set_style(style);
        Self {
            verb,
            title: String::new(),
            keeps: Keeps::default(),
            quiet,
            settings,
            model,
            dataset,
            started,
            first_step: None,
            bar,
            is_shown,
            epochs: Vec::new(),
            updates_since_drawn: 0,
            last_good: None,
        }
    }

    /// Puts a title in front of what is shown.
    pub(super) fn titled(mut self, title: &str) -> Self {
        self.title = format!("{title} ");
        self
    }

    /// Keeps a log and checkpoints.
    pub(super) fn keeping(mut self, keeps: Keeps<'a>) -> Self {
        self.keeps = keeps;
        self
    }

    /// Takes the bar off the screen.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Observer for Watcher<'_> {
    fn epoch_begins(&mut self, epoch: usize, done: usize, samples: usize) {
        self.bar.reset();
        self.bar.set_length(samples as u64);
        self.bar.set_position(done as u64);
        self.bar.set_prefix(format!("{}epoch {epoch}/{}", self.title, self.settings.epochs));
    }

    fn updated(&mut self, samples: usize, mean_loss: f64) {
        if self.first_step.is_none() {
            self.first_step = Some(self.started.elapsed().as_secs_f64());
        }
        if self.is_shown {
            self.bar.inc(samples as u64);
            self.updates_since_drawn += 1;
            if self.updates_since_drawn >= 50 {
                self.updates_since_drawn = 0;
                self.bar.set_message(format!("loss {mean_loss:.4}"));
            }
        }
    }

    fn epoch_ended(&mut self, record: &EpochRecord, samples_per_second: f64) -> Result<()> {
        if !self.quiet {
            let line = format!("{}{}", self.title, line(record, self.settings.epochs, samples_per_second));
            self.bar.suspend(|| messages::tell(&line));
        }
        self.epochs.push(EpochReport { record: record.clone(), train_samples_per_second: samples_per_second });
        Ok(())
    }

    fn history(&mut self, history: &[EpochRecord]) -> Result<()> {
        let Some(path) = self.keeps.log else { return Ok(()) };
        let lines: String = history.iter().map(EpochRecord::to_line).collect();
        write_bytes(path, lines.as_bytes(), true)
    }

    fn diverged(&mut self, last_good: &Trained) -> Result<Option<PathBuf>> {
        let Some(path) = &self.last_good else { return Ok(None) };
        if let Some(folder) = path.parent() {
            make_folder(folder)?;
        }
        let (header, tensors) = self.model.checkpoint(self.verb, self.settings, self.dataset, last_good)?;
        dlopt_checkpoint::write_file(path, &header, &tensors, true)?;
        Ok(Some(path.clone()))
    }

    fn wants_checkpoints(&self) -> bool {
        self.keeps.checkpoints.is_some()
    }

    fn checkpoint(&mut self, trained: &Trained, is_best: bool) -> Result<()> {
        let Some((folder, keep_last)) = self.keeps.checkpoints else { return Ok(()) };
        make_folder(folder)?;
        let (header, tensors) = self.model.checkpoint(self.verb, self.settings, self.dataset, trained)?;
        let name = |epoch: usize| folder.join(format!("epoch-{epoch:04}.safetensors"));
        let write = |path| save_through(Target::File(path), &header, &tensors, &self.keeps.passes, true);
        write(name(trained.epoch))?;
        if is_best {
            write(folder.join("best.safetensors"))?;
        }
        if let Some(old) = trained.epoch.checked_sub(keep_last.max(1)).filter(|old| *old > 0) {
            // One that a resumed run never wrote is not there.
            let _ = std::fs::remove_file(name(old));
        }
        Ok(())
    }
}

fn line(record: &EpochRecord, epochs: usize, samples_per_second: f64) -> String {
    let share = |a: Option<f64>| a.map_or(String::new(), |a| format!(", accuracy {:.2}%", 100.0 * a));
    let validation = record
        .validation_loss
        .map_or(String::new(), |loss| format!(" · validation loss {loss:.4}{}", share(record.validation_accuracy)));
    format!(
        "epoch {}/{epochs}: loss {:.4}{}{validation} · {samples_per_second:.0} samples/s, {:.1} s\n",
        record.epoch,
        record.train_loss,
        share(record.train_accuracy),
        record.seconds
    )
}
