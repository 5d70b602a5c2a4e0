//! What pruning costs: what the network is worth on data before, once it is pruned, and after recovery.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use dlopt_bench::{Commands, Quality};
use dlopt_checkpoint::{Context, Error, Result};
use serde_json::{Map, Value, json};

use crate::args::OutputArgs;
use crate::job;
use crate::tables::columns;
use crate::verbs::bench::commands::Processes;

/// Data that say what the network is worth.
#[derive(Args, Debug, Default)]
pub(super) struct WorthArgs {
    /// Say what the network is worth on this dataset before pruning, after it, and after --recover: `dlopt eval` with a paired
    /// test against the original
    #[arg(long, value_name = "DATA")]
    eval: Option<PathBuf>,

    /// Split that --eval looks at [default: that of `dlopt eval`]
    #[arg(long, value_name = "SPLIT", requires = "eval")]
    split: Option<String>,
}

/// What the network was worth each time it was asked.
pub(super) struct Worth<'a> {
    args: &'a WorthArgs,
    input: &'a Path,
    threads: Option<u16>,
    tmp_dir: PathBuf,
    processes: Processes,
    found: RefCell<Vec<(&'static str, Quality)>>,
}

impl WorthArgs {
    /// The dataset.
    pub(super) fn data(&self) -> Option<&Path> {
        self.eval.as_deref()
    }

    /// Asks what the network is worth before anything is pruned; nothing where nobody wants to know, or nothing is written.
    ///
    /// # Errors
    /// When the checkpoint comes through a pipe or goes into one, or cannot be evaluated on the data.
    pub(super) fn begin<'a>(
        &'a self,
        input: Option<&'a Path>,
        output: &OutputArgs,
        stop: &Arc<AtomicBool>,
    ) -> Result<Option<Worth<'a>>> {
        if self.eval.is_none() || output.dry_run {
            return Ok(None);
        }
        let is_named = |path: &&Path| *path != Path::new("-");
        let (Some(input), Some(_)) = (input.filter(is_named), output.output.as_deref().filter(is_named)) else {
            return Err(Error::usage("--eval compares a file or folder that is read with one that is written")
                .hint("name the input, and -o OUT; or pipe into `dlopt eval -`"));
        };
        let worth = Worth {
            args: self,
            input,
            threads: output.work.threads,
            tmp_dir: job::tmp_dir(&output.work, output.output.as_deref())?,
            processes: Processes::new(stop, true)?,
            found: RefCell::default(),
        };
        worth.ask("before", input)?;
        Ok(Some(worth))
    }
}

impl Worth<'_> {
    /// Asks what a checkpoint of the network is worth, compared with the original unless it is that.
    pub(super) fn ask(&self, when: &'static str, checkpoint: &Path) -> Result<()> {
        let report = tempfile::Builder::new().prefix(".dlopt-").suffix(".json").tempfile_in(&self.tmp_dir);
        let report = report.at(self.tmp_dir.display())?.into_temp_path();
        let mut words = vec!["eval".to_owned(), checkpoint.display().to_string(), "--quiet".to_owned()];
        let mut flag = |name: &str, value: String| words.push(format!("--{name}={value}"));
        if checkpoint != self.input {
            flag("against", self.input.display().to_string());
        }
        flag("data", self.args.eval.as_deref().map(|path| path.display().to_string()).unwrap_or_default());
        flag("report", report.display().to_string());
        if let Some(split) = &self.args.split {
            flag("split", split.clone());
        }
        if let Some(threads) = self.threads {
            flag("threads", threads.to_string());
        }
        self.processes.run(&words)?;
        let said = std::fs::read(&report).at(report.display())?;
        let said: Value =
            serde_json::from_slice(&said).map_err(|error| Error::input(format!("{}: {error}", report.display())))?;
        let quality = Quality::of(&said).ok_or_else(|| {
            Error::input(format!("{}: its evaluation has no metric to compare by", checkpoint.display()))
        })?;
        self.found.borrow_mut().push((when, quality));
        Ok(())
    }

    /// A row each time it was asked.
    pub(super) fn table(&self) -> String {
        let found = self.found.borrow();
        let row = |(when, own): &(&str, Quality)| {
            let points =
                |value: f64| if own.is_share { format!("{:+.2}", 100.0 * value) } else { format!("{value:+.5}") };
            let range = |[low, high]: [f64; 2]| match own.is_share {
                true => format!("{:.2} to {:.2}", 100.0 * low, 100.0 * high),
                false => format!("{low:.5} to {high:.5}"),
            };
            let pair = own.paired.as_ref();
            vec![
                format!("  {when}"),
                own.text(),
                own.interval.map_or("-".to_owned(), range),
                pair.map_or("-".to_owned(), |pair| points(pair.difference)),
                pair.and_then(|pair| pair.interval)
                    .map_or("-".to_owned(), |[low, high]| format!("{} to {}", points(low), points(high))),
            ]
        };
        let Some((_, first)) = found.first() else { return String::new() };
        let metric = format!("  {}", first.metric);
        columns(
            &[&metric, "value", "95% interval", "change", "95% interval"],
            &found.iter().map(row).collect::<Vec<_>>(),
        )
    }

    /// Its part of the report.
    pub(super) fn report(&self) -> Map<String, Value> {
        let found = self.found.borrow();
        let stages: Map<String, Value> = found.iter().map(|(when, own)| ((*when).to_owned(), json!(own))).collect();
        Map::from_iter([("quality".to_owned(), Value::Object(stages))])
    }
}
