//! Flags of pruning that looks at data: criteria before, statistics after.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use dlopt_checkpoint::{Checkpoint, Context, Error, Result};
use dlopt_data::Dataset;
use dlopt_kernels::nn::Team;
use dlopt_model::{GivenImportance, GroupChange, Loaded, Restate, StructureReport, load};
use dlopt_train::{Looking, Salience, biases, open_fitting, statistics};

use crate::args::{OutputArgs, ReportArgs};
use crate::job;

/// Batches that are looked at.
const BATCHES: usize = 16;
/// Samples of a batch.
const BATCH: usize = 64;
/// Which samples.
const SPLIT: &str = "train";

/// Data that pruning looks at.
#[derive(Args, Debug, Default)]
pub(super) struct DataArgs {
    /// Dataset that the criterion looks at: its training split
    #[arg(long, value_name = "DATA")]
    data: Option<PathBuf>,

    /// Batches of 64 samples that --data and --recover look at, evenly spaced [default: 16]
    #[arg(long, value_name = "N")]
    batches: Option<usize>,

    /// Estimate the running statistics of batch norms anew on the training split of this dataset; where channels left, the
    /// biases of layers without a norm too, unless the checkpoint comes through a pipe
    #[arg(long, value_name = "DATA")]
    recover: Option<PathBuf>,
}

impl DataArgs {
    /// Refuses what only criteria of channels look at.
    pub(super) fn refuse_criterion(&self) -> Result<()> {
        if self.data.is_some() {
            return Err(Error::usage("--data is about channels or layers that leave, and none do")
                .hint("--pattern channels, neurons, hidden or layers; --recover for what they lost"));
        }
        self.refuse_batches()
    }

    /// Refuses a number of batches that nothing looks at.
    fn refuse_batches(&self) -> Result<()> {
        match self.batches.is_some() && self.data.is_none() && self.recover.is_none() {
            true => Err(Error::usage("--batches is about --data or --recover, and neither is given")),
            false => Ok(()),
        }
    }

    /// The files that are read.
    pub(super) fn files(&self) -> [Option<&Path>; 2] {
        [self.data.as_deref(), self.recover.as_deref()]
    }

    /// How much channels matter, if the criterion is one that looks at data.
    pub(super) fn weigh(
        &self,
        criterion: Option<&str>,
        input: Option<&Path>,
        threads: usize,
        stop: &AtomicBool,
    ) -> Result<Option<GivenImportance>> {
        self.refuse_batches()?;
        let name = criterion.unwrap_or("l2");
        let (salience, data) = match (Salience::named(name), &self.data) {
            (Some(salience), Some(data)) => (salience, data),
            (None, Some(_)) => {
                return Err(Error::usage(format!(
                    "criterion `{name}` looks at weights alone, so --data means nothing"
                ))
                .hint("--criterion taylor, fisher, mean-activation or apoz; --recover re-estimates batch norms"));
            }
            (_, None) => return Ok(None),
        };
        let Some(path) = input.filter(|path| *path != Path::new("-")) else {
            return Err(Error::usage(format!(
                "criterion `{name}` reads the checkpoint twice, and standard input is read once"
            ))
            .hint("name the checkpoint's file"));
        };
        let checkpoint = Checkpoint::open(path)?;
        let loaded = load(&checkpoint)?;
        let found =
            self.looking(&loaded, &checkpoint.name, data, threads, stop, |looking| salience.of(&loaded, looking))?;
        Ok(Some(found))
    }

    /// Runs `work` on the data, which fit the network.
    fn looking<T>(
        &self,
        loaded: &Loaded,
        name: &str,
        data: &Path,
        threads: usize,
        stop: &AtomicBool,
        work: impl FnOnce(&Looking<'_>) -> Result<T>,
    ) -> Result<T> {
        let dataset: Dataset = open_fitting(loaded, name, data, false)?;
        let team = Arc::new(Team::new(threads));
        let batches = [self.batches.unwrap_or(BATCHES), BATCH];
        work(&Looking { dataset: &dataset, split: SPLIT, batches, team: &team, stop })
    }

    /// Where the pruned network goes first, if statistics and biases are to be estimated anew: a file beside the output.
    pub(super) fn between(&self, output: &OutputArgs) -> Result<Option<Between>> {
        if self.recover.is_none() || output.dry_run {
            return Ok(None);
        }
        if output.output.as_deref().is_none_or(|path| path == Path::new("-")) {
            return Err(Error::usage("--recover writes a file or a folder").hint("-o OUT"));
        }
        let beside = job::tmp_dir(&output.work, output.output.as_deref())?;
        let file = tempfile::Builder::new().prefix(".dlopt-").suffix(".safetensors").tempfile_in(&beside);
        let file = file.at(beside.display())?.into_temp_path();
        let output = OutputArgs {
            output: Some(file.to_path_buf()),
            force: true,
            resume: false,
            max_shard_size: None,
            ..output.clone()
        };
        Ok(Some(Between { file, output }))
    }

    /// Estimates statistics and biases of the network that was pruned from `input` into `between` anew, and writes it to the
    /// output; `report` says which channels or layers left. What was done, as people read it.
    pub(super) fn recover(
        &self,
        input: Option<&Path>,
        between: &Between,
        output: &OutputArgs,
        report: Option<StructureReport>,
        stop: &Arc<AtomicBool>,
    ) -> Result<String> {
        let Some(data) = self.recover.as_deref() else { unreachable!("there is something between") };
        let checkpoint = Checkpoint::open(&between.file)?;
        let mut loaded = load(&checkpoint)?;
        let threads = output.work.threads();
        // Layers that left have no outputs to compare, and a pipe is read once. After zeros, means that were right made the
        // seed network worse: 90 % pruned it fell from 71 % to 50 %, as what is left varies less and the mean then decides.
        let report = report.filter(|report| report.groups.iter().any(|group| group.kept.is_some()));
        let whole = match (&report, input.filter(|path| *path != Path::new("-"))) {
            (Some(_), Some(path)) => Some(load(&job::open_whole(path)?)?),
            _ => None,
        };
        let kept = |tensor: &str| {
            let groups = report.as_ref().map_or(&[][..], |report| &report.groups);
            let lies = |group: &&GroupChange| group.members.iter().any(|own| own.tensor == tensor && own.axis == 0);
            groups.iter().find(lies).and_then(|group| group.kept.clone())
        };
        let (norms, biases, facts) =
            self.looking(&loaded.clone(), "the pruned network", data, threads, stop, |looking| {
                let norms = statistics(&loaded, looking)?;
                loaded.buffers = loaded.layout.buffers_from_checkpoint(|tensor| {
                    let own = norms.iter().find(|own| own.name == tensor.name);
                    own.map(|own| own.values.clone()).ok_or_else(|| Error::input(format!("no `{}`", tensor.name)))
                })?;
                let biases = whole.as_ref().map(|whole| biases(whole, &loaded, kept, looking)).transpose()?;
                Ok((norms, biases.unwrap_or_default(), looking.facts()?))
            })?;
        let what = match (norms.len() / 2, biases.len()) {
            (0, 0) => "nothing to estimate anew".to_owned(),
            (norms, 0) => format!("statistics of {norms} batch norms estimated anew"),
            (0, biases) => format!("{biases} biases estimated anew"),
            (norms, biases) => format!("statistics of {norms} batch norms and {biases} biases estimated anew"),
        };
        let found = norms.into_iter().chain(biases).collect();
        let quietly = OutputArgs {
            report: ReportArgs { quiet: true, ..ReportArgs::default() },
            explain: false,
            files_from: None,
            ..output.clone()
        };
        job::run(Some(&between.file), &quietly, &[Box::new(Restate::new("recover", facts, found))], stop)?;
        Ok(format!("{what}; to go on: dlopt train --init, dlopt distill --teacher\n"))
    }
}

/// A pruned network on its way to the output.
pub(super) struct Between {
    file: tempfile::TempPath,
    /// How it is written.
    pub(super) output: OutputArgs,
}
