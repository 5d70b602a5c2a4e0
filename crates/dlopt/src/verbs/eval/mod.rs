//! `dlopt eval`: what a network is worth on data, and whether another is worth more.

mod corrupt;
mod draw;
mod run;
mod samples;
mod sequences;
mod text;
mod tokens;
mod tta;

use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use dlopt_checkpoint::{Error, Result};
use dlopt_data::{Dataset, Learns};
use dlopt_kernels::nn::Team;
use dlopt_metrics::{
    BinaryReport, ClassificationReport, Options, PairedRegressionReport, PairedReport, PairedRobustnessReport,
    PairedSequenceReport, PairedTokenReport, RegressionReport, RobustnessReport,
};
use serde::Serialize;

use self::run::Run;
use self::sequences::Sequences;
use self::tokens::Tokens;
use self::tta::Tta;
use super::kernels::KernelArgs;
use super::predict::SearchArgs;
use super::training::threads;
use crate::args::ReportArgs;
use crate::exit;
use crate::job;
use crate::streams;

pub(super) use self::samples::says_yes_or_no;

const EXAMPLES: &str = "\
Examples:
  dlopt eval cnn.safetensors --data fashion.safetensors
  dlopt eval small/ --against cnn.safetensors --data fashion.safetensors      both, and a paired test
  dlopt eval cnn.safetensors --data d.safetensors --confusion c.svg --reliability r.svg --mistakes worst.png
  dlopt eval cnn.safetensors --data d.safetensors --predictions logits.safetensors --json
  dlopt eval cnn.safetensors --data d.safetensors --tta 8 --augment-op rotate=±10 --augment-op translate=±0.05
  dlopt eval robust.safetensors --against cnn.safetensors --data d.safetensors --corrupt --plot robust.svg
  dlopt eval seq2seq.safetensors --data pairs.safetensors --beam 4 --length-penalty 1
  dlopt prune cnn.safetensors --sparsity 0.8 | dlopt eval - --data d.safetensors --min-accuracy 0.9";

/// Evaluate a network, dense or compressed: metrics with 95 % intervals
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct EvalArgs {
    /// Checkpoint of a network: a file, a folder, or - for standard input
    #[arg(value_name = "MODEL")]
    model: PathBuf,

    /// Dataset file or folder made by `dlopt prepare`
    #[arg(long, value_name = "DATA")]
    data: PathBuf,

    /// Another checkpoint to compare with, sample by sample
    #[arg(long, value_name = "MODEL")]
    against: Option<PathBuf>,

    /// Split to evaluate on; `all` for every sample [default: test, else validation, else all]
    #[arg(long)]
    split: Option<String>,

    /// Samples of a batch; changes the speed, not the metrics
    #[arg(long, default_value_t = 250)]
    batch: usize,

    /// Run the split so many times and report the median speed
    #[arg(long, default_value_t = 1, value_name = "TIMES")]
    repeat: usize,

    /// Resamples of the bootstrap
    #[arg(long, default_value_t = 1000, value_name = "COUNT")]
    resamples: usize,

    /// Average what the network says of each sample and of N changed copies of it (test-time augmentation), and score that;
    /// they are changed by the recipe that the network was trained with, or by --augment or --augment-op
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000), conflicts_with = "corrupt")]
    tta: Option<u16>,

    /// Change the copies of --tta by this recipe (TOML), as `dlopt augment` takes it
    #[arg(long, value_name = "FILE", requires = "tta")]
    augment: Option<PathBuf>,

    /// Change the copies of --tta by an operation, in the order given: NAME, NAME=VALUE, NAME=VALUE,key=value…
    #[arg(long, value_name = "OP", requires = "tta", conflicts_with = "augment")]
    augment_op: Vec<String>,

    /// Also measure the accuracy on pictures that are turned, noisy, blurred, scaled and of less contrast, each at five
    /// strengths (`dlopt list` names them)
    #[arg(long)]
    corrupt: bool,

    /// Draw the accuracy by strength of each corruption into this SVG file
    #[arg(long, value_name = "FILE", requires = "corrupt")]
    plot: Option<PathBuf>,

    /// Decides the resamples, and what --tta and --corrupt draw
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Write outputs, predicted classes and labels to this safetensors file
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,

    /// Draw the confusion matrix into this SVG file
    #[arg(long, value_name = "FILE")]
    confusion: Option<PathBuf>,

    /// Draw the reliability diagram into this SVG file
    #[arg(long, value_name = "FILE")]
    reliability: Option<PathBuf>,

    /// Put the pictures with the worst mistakes into this PNG file
    #[arg(long, value_name = "FILE")]
    mistakes: Option<PathBuf>,

    /// How many pictures --mistakes shows
    #[arg(long, default_value_t = 24, value_name = "COUNT", requires = "mistakes")]
    mistakes_shown: usize,

    /// Exit with code 3 when the accuracy, 0..1, is lower: the share of samples, tokens or sequences that are right
    #[arg(long, value_name = "SHARE")]
    min_accuracy: Option<f64>,

    #[command(flatten)]
    search: SearchArgs,

    /// Let a network that says the next token begin anew with every window, as in training
    #[arg(long)]
    no_carry: bool,

    /// Apply the checkpoint's scale and statistics to the raw elements, though the data were prepared otherwise
    #[arg(long)]
    use_own_preprocessing: bool,

    /// cpu, or cuda, cuda:1, metal where dlopt was built with that feature; candle runs candle on the CPU, for comparison
    #[arg(long, default_value = "cpu")]
    device: String,

    #[command(flatten)]
    kernels: KernelArgs,

    /// Threads [default: all cores]; the metrics are the same at any number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Replace existing files
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    report: ReportArgs,
}

/// What the evaluation says.
#[derive(Serialize)]
struct Report {
    data: String,
    split: String,
    samples: usize,
    batch: usize,
    threads: usize,
    model: ModelReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<ModelReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paired: Option<Paired>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paired_corruption: Option<PairedRobustnessReport>,
}

/// What one network is worth.
#[derive(Serialize)]
struct ModelReport {
    name: String,
    /// Of the checkpoint's tensors, compressed or not.
    bytes: u64,
    /// Of weights and statistics in memory while it runs.
    memory_bytes: usize,
    parameters: usize,
    /// The median of the runs.
    samples_per_second: f64,
    samples_per_second_of_runs: Vec<f64>,
    /// Of the mean over copies, where --tta asks for it.
    metrics: Metrics,
    #[serde(skip_serializing_if = "Option::is_none")]
    tta: Option<Tta>,
    #[serde(skip_serializing_if = "Option::is_none")]
    corruption: Option<RobustnessReport>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum Metrics {
    Classification(Box<ClassificationReport>),
    Binary(BinaryReport),
    Regression(RegressionReport),
    Sequences(Box<Sequences>),
    Tokens(Box<Tokens>),
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum Paired {
    Classification(Box<PairedReport>),
    Regression(PairedRegressionReport),
    Sequences(PairedSequenceReport),
    Tokens(PairedTokenReport),
}

impl Metrics {
    fn text(&self) -> String {
        match self {
            Self::Classification(report) => report.text(),
            Self::Binary(report) => report.text(),
            Self::Regression(report) => report.text(),
            Self::Sequences(report) => report.text(),
            Self::Tokens(report) => report.text(),
        }
    }

    fn accuracy(&self) -> Option<f64> {
        match self {
            Self::Classification(report) => Some(report.accuracy.value),
            Self::Binary(report) => Some(report.accuracy.value),
            Self::Regression(_) => None,
            Self::Sequences(report) => Some(report.accuracy()),
            Self::Tokens(report) => Some(report.accuracy()),
        }
    }
}

impl Paired {
    fn text(&self, first: &str, second: &str) -> String {
        match self {
            Self::Classification(paired) => paired.text(first, second),
            Self::Regression(paired) => paired.text(first, second),
            Self::Sequences(paired) => paired.text(first, second),
            Self::Tokens(paired) => paired.text(first, second),
        }
    }
}

/// What is evaluated: the samples, and all that decides the figures.
struct Job<'a> {
    args: &'a EvalArgs,
    dataset: &'a Dataset,
    samples: Range<usize>,
    team: Arc<Team>,
    options: Options,
    stop: &'a AtomicBool,
}

/// What one network, or two, are worth.
struct Measured {
    runs: Vec<Run>,
    model: ModelReport,
    against: Option<ModelReport>,
    paired: Option<Paired>,
    paired_corruption: Option<PairedRobustnessReport>,
}

pub(super) fn run(args: &EvalArgs, stop: &Arc<AtomicBool>) -> Result<ExitCode> {
    if args.batch == 0 || args.repeat == 0 {
        return Err(Error::usage("--batch and --repeat must be 1 or more"));
    }
    let written = [
        ("--predictions", args.predictions.as_deref()),
        ("--confusion", args.confusion.as_deref()),
        ("--reliability", args.reliability.as_deref()),
        ("--mistakes", args.mistakes.as_deref()),
        ("--plot", args.plot.as_deref()),
        ("--report", args.report.report.as_deref()),
    ];
    let read = [Some(&*args.data), Some(&*args.model), args.against.as_deref(), args.augment.as_deref()];
    job::check_files(&written, &read)?;
    let dataset = Dataset::open(&args.data)?;
    check_asked(args, &dataset.info().learns)?;
    let split = split_of(args, &dataset);
    let samples = match split.as_str() {
        "all" => 0..dataset.samples(),
        name => dataset.split(name)?,
    };
    if samples.is_empty() {
        return Err(Error::input(format!("{}: the split `{split}` has no samples", dataset.name())));
    }
    let team = Arc::new(Team::new(threads(args.threads)));
    let options = Options { resamples: args.resamples, seed: args.seed, threads: team.threads(), ..Options::default() };
    let job = Job { args, dataset: &dataset, samples, team, options, stop };
    let measured = match dataset.info().learns {
        Learns::Sample => samples::measured(&job)?,
        Learns::Sequence { end, .. } => sequences::measured(&job, end)?,
        Learns::NextToken => tokens::measured(&job)?,
    };
    let gate = match (args.min_accuracy, measured.model.metrics.accuracy()) {
        (Some(least), Some(accuracy)) => (accuracy < least).then_some("min-accuracy"),
        (Some(_), None) => return Err(Error::usage("--min-accuracy needs classes, and the outputs are numbers")),
        _ => None,
    };
    let report = Report {
        data: dataset.name().to_owned(),
        split,
        samples: job.samples.len(),
        batch: args.batch,
        threads: job.team.threads(),
        model: measured.model,
        against: measured.against,
        paired: measured.paired,
        paired_corruption: measured.paired_corruption,
    };
    job::write_report(args.report.report.as_deref(), &report)?;
    if args.report.json {
        streams::print_json(&report)?;
    } else if !args.report.quiet {
        let mut text = text::text(&report);
        if args.report.verbose {
            for run in &measured.runs {
                text.push_str(&format!("\n{}\n{}", run.name, text::tensors(&run.tensors)));
            }
        }
        streams::print(&text)?;
    }
    Ok(exit::for_gates(gate.into_iter()))
}

/// Refuses flags that the data leave nothing to do for.
fn check_asked(args: &EvalArgs, learns: &Learns) -> Result<()> {
    if args.search.is_asked() && !matches!(learns, Learns::Sequence { .. }) {
        return Err(Error::usage("--beam and --length-penalty are for data with sequences to put out"));
    }
    if args.device != "cpu" && matches!(learns, Learns::Sequence { .. }) {
        return Err(Error::usage("sequences are decoded on the CPU alone").hint("--device cpu"));
    }
    if args.no_carry && *learns != Learns::NextToken {
        return Err(Error::usage("--no-carry is for data whose next token is learned"));
    }
    let of_samples = [
        ("--predictions", args.predictions.is_some()),
        ("--confusion", args.confusion.is_some()),
        ("--reliability", args.reliability.is_some()),
        ("--mistakes", args.mistakes.is_some()),
        ("--tta", args.tta.is_some()),
        ("--corrupt", args.corrupt),
    ];
    match of_samples.iter().find(|(_, is_asked)| *is_asked && *learns != Learns::Sample) {
        Some((flag, _)) => Err(Error::usage(format!("{flag} is for data with one answer a sample"))),
        None => Ok(()),
    }
}

fn split_of(args: &EvalArgs, dataset: &Dataset) -> String {
    let has = |name: &&str| dataset.info().splits.contains_key(*name);
    let default = || ["test", "validation"].iter().find(|name| has(name)).map_or("all", |name| name);
    args.split.clone().unwrap_or_else(|| default().to_owned())
}
