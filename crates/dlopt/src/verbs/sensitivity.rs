//! `dlopt sensitivity`: what each scheme and sparsity would cost each tensor; and flags that `quantize` shares with it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use clap::{Args, ValueEnum};
use dlopt_bench::sensitivity::{Change, Fisher, Judge, Options, Quality, TensorCosts, Watched, costs};
use dlopt_checkpoint::{Checkpoint, Error, Progress, Result};
use dlopt_data::Dataset;
use dlopt_kernels::nn::Team;
use dlopt_quantize::methods::{METHODS, Method, method_named};
use serde::Serialize;

use super::training::threads;
use crate::args::{ReportArgs, SelectArgs};
use crate::job;
use crate::progress::Bar;
use crate::streams;
use crate::tables::{columns, grouped};

const EXAMPLES: &str = "\
Examples:
  dlopt sensitivity model/                                          from the weights alone
  dlopt sensitivity cnn.safetensors --data fashion.safetensors      the network run with each tensor changed
  dlopt sensitivity cnn.safetensors --data fashion.safetensors --measure fisher
  dlopt sensitivity model/ --change w4a16:32 --change w2a16:32 --change 0.5 --json";

/// What is tried on each tensor unless asked otherwise.
const CHANGES: [&str; 10] = [
    "f16",
    "w8a16:channel",
    "w4a16:32",
    "w4a16:128",
    "w4a16:channel",
    "w2a16:32",
    "w2a16:channel",
    "0.5",
    "0.8",
    "0.9",
];

/// Say what each scheme and each share of zeros would cost each tensor
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SensitivityArgs {
    /// Checkpoint: a .safetensors file, a model folder, or a .pth/.bin/.npz file
    #[arg(value_name = "MODEL")]
    model: PathBuf,

    #[command(flatten)]
    judging: JudgingArgs,

    /// What to try on each tensor: a scheme such as w4a16:32, or a share of zeros such as 0.5; may be repeated [default: ten]
    #[arg(long, value_name = "CHANGE")]
    change: Vec<String>,

    /// How scales are chosen: rtn, absmax or mse
    #[arg(long, default_value = "rtn")]
    method: String,

    #[command(flatten)]
    select: SelectArgs,

    /// Threads [default: all cores]; the figures are the same at any number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    #[command(flatten)]
    report: ReportArgs,
}

/// How the cost of a change is judged.
#[derive(Args, Debug, Default, Clone)]
pub(crate) struct JudgingArgs {
    /// Dataset that the network is run on
    #[arg(long, value_name = "DATA")]
    pub(crate) data: Option<PathBuf>,

    /// Split of it to run on [default: validation, else train]; never test, which is for the figures in the end
    #[arg(long)]
    pub(crate) split: Option<String>,

    /// First samples of the split to run on [default: 2000]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) samples: Option<u32>,

    /// What counts as damage: weights (relative squared error), fisher (diagonal Fisher information, of classifiers) or
    /// measured (KL divergence of the network's answers with one tensor changed) [default: measured with --data, else weights]
    #[arg(long, value_enum)]
    pub(crate) measure: Option<Measure>,
}

/// What counts as damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measure {
    Weights,
    Fisher,
    Measured,
}

impl Measure {
    /// What its numbers are.
    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::Weights => "relative squared error",
            Self::Fisher => "predicted nats a sample",
            Self::Measured => "divergence of the answers",
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Fisher => "fisher",
            Self::Measured => "measured",
        }
    }
}

/// Who judges.
pub(super) enum Judges {
    Nobody,
    Fisher(Box<Fisher>),
    Watched(Box<Watched>),
}

impl Judges {
    pub(super) fn as_judge(&mut self) -> Option<&mut dyn Judge> {
        match self {
            Self::Nobody => None,
            Self::Fisher(fisher) => Some(&mut **fisher),
            Self::Watched(watched) => Some(&mut **watched),
        }
    }
}

impl JudgingArgs {
    /// What counts as damage.
    pub(super) fn measure(&self) -> Result<Measure> {
        match (self.measure, &self.data) {
            (None, None) => Ok(Measure::Weights),
            (None, Some(_)) => Ok(Measure::Measured),
            (Some(Measure::Weights), _) => Ok(Measure::Weights),
            (Some(_), None) => Err(Error::usage("--measure fisher and measured run the network").hint("--data DATA")),
            (Some(other), Some(_)) => Ok(other),
        }
    }

    /// The dataset, and the split of it that choices are made on.
    pub(super) fn data(&self) -> Result<Option<(Dataset, String)>> {
        let Some(path) = &self.data else { return Ok(None) };
        let dataset = Dataset::open(path)?;
        let has = |name: &&str| dataset.info().splits.contains_key(*name);
        let split = match &self.split {
            Some(split) => split.clone(),
            None => (*["validation", "train"].iter().find(|name| has(name)).unwrap_or(&"validation")).to_owned(),
        };
        dataset.split(&split)?;
        Ok(Some((dataset, split)))
    }

    /// Samples to run on at most.
    pub(super) fn most(&self) -> usize {
        self.samples.unwrap_or(2000) as usize
    }

    /// Opens the network for whoever judges.
    pub(super) fn judges(
        &self,
        checkpoint: &Checkpoint,
        team: &Arc<Team>,
        stop: &Arc<AtomicBool>,
    ) -> Result<(Measure, Judges, Option<String>)> {
        let measure = self.measure()?;
        let judges = match (measure, self.data()?) {
            (Measure::Fisher, Some((dataset, split))) => {
                (Judges::Fisher(Box::new(Fisher::open(checkpoint, dataset, &split, self.most(), team)?)), Some(split))
            }
            (Measure::Measured, Some((dataset, split))) => {
                let watched = Watched::open(checkpoint, dataset, &split, self.most(), team, Arc::clone(stop))?;
                (Judges::Watched(Box::new(watched)), Some(split))
            }
            _ => (Judges::Nobody, None),
        };
        Ok((measure, judges.0, judges.1))
    }
}

/// The method of a name.
pub(super) fn method(name: &str) -> Result<&'static dyn Method> {
    method_named(name).ok_or_else(|| {
        let names: Vec<_> = METHODS.iter().map(|m| m.plugin().name).collect();
        Error::usage(format!("no method is named `{name}`")).hint(names.join(" or "))
    })
}

/// Tries all changes on all tensors, with a bar.
pub(super) fn measured_costs(
    checkpoint: &Checkpoint,
    options: &Options,
    judges: &mut Judges,
    team: &Team,
    quiet: bool,
) -> Result<Vec<TensorCosts>> {
    let bar = Bar::of_tensors(quiet);
    let mut before = 0;
    let found = costs(checkpoint, options, judges.as_judge(), team, |done, all| {
        if before == 0 {
            bar.phase("tensors", all as u64);
        }
        bar.advance((done - before) as u64);
        before = done;
    });
    bar.clear();
    found
}

#[derive(Serialize)]
struct Report {
    model: String,
    measure: &'static str,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    split: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    samples: Option<usize>,
    /// What the unchanged network is worth on them.
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<Quality>,
    method: String,
    seconds: f64,
    tensors: Vec<TensorCosts>,
}

pub(super) fn run(args: &SensitivityArgs, stop: &Arc<AtomicBool>) -> Result<ExitCode> {
    let began = Instant::now();
    job::check_files(
        &[("--report", args.report.report.as_deref())],
        &[Some(&*args.model), args.judging.data.as_deref()],
    )?;
    let texts: Vec<&str> = match args.change.is_empty() {
        true => CHANGES.to_vec(),
        false => args.change.iter().map(String::as_str).collect(),
    };
    let options = Options {
        changes: texts.iter().map(|text| Change::parse(text)).collect::<Result<_>>()?,
        method: method(&args.method)?,
        selection: args.select.selection()?,
        allow_nonfinite: args.select.allow_nonfinite,
    };
    let checkpoint = job::open_whole(Path::new(&args.model))?;
    let team = Arc::new(Team::new(threads(args.threads)));
    let (measure, mut judges, split) = args.judging.judges(&checkpoint, &team, stop)?;
    let tensors = measured_costs(&checkpoint, &options, &mut judges, &team, args.report.quiet)?;
    let (samples, baseline) = match &judges {
        Judges::Watched(watched) => (Some(watched.samples()), Some(watched.baseline())),
        _ => (None, None),
    };
    let report = Report {
        model: checkpoint.name.clone(),
        measure: measure.name(),
        unit: measure.unit(),
        data: args.judging.data.as_ref().filter(|_| split.is_some()).map(|data| data.display().to_string()),
        split,
        samples,
        baseline,
        method: args.method.clone(),
        seconds: began.elapsed().as_secs_f64(),
        tensors,
    };
    job::write_report(args.report.report.as_deref(), &report)?;
    if args.report.json {
        streams::print_json(&report)?;
    } else if !args.report.quiet {
        streams::print(&text(&report, &texts, args.report.verbose))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(report: &Report, changes: &[&str], is_verbose: bool) -> String {
    let mut text = match (&report.split, report.samples) {
        (Some(split), Some(samples)) => {
            format!("{}: {} on {} samples of {split}\n", report.model, report.unit, grouped(samples as u64))
        }
        (Some(split), None) => format!("{}: {} by {split}\n", report.model, report.unit),
        _ => format!("{}: {} of each tensor, of its weights alone\n", report.model, report.unit),
    };
    if let Some(baseline) = report.baseline {
        let right = baseline.accuracy.map_or(String::new(), |share| format!(", {:.2}% right", 100.0 * share));
        text.push_str(&format!("unchanged: loss {:.4}{right}\n", baseline.loss));
    }
    if is_verbose {
        text.push_str(&every_cost(report));
        return text;
    }
    let mut head = vec!["tensor", "weights"];
    head.extend(changes);
    let rows: Vec<Vec<String>> = report
        .tensors
        .iter()
        .map(|tensor| {
            let cell = |change: &&str| {
                let text = Change::parse(change).map_or((*change).to_owned(), |change| change.text());
                let own = tensor.costs.iter().find(|cost| cost.change == text);
                own.map_or("-".to_owned(), |cost| format!("{:.2e}", cost.damage))
            };
            let own = [tensor.tensor.clone(), grouped(tensor.weights)];
            own.into_iter().chain(changes.iter().map(cell)).collect()
        })
        .collect();
    text.push_str(&columns(&head, &rows));
    text
}

/// A line for every change of every tensor.
fn every_cost(report: &Report) -> String {
    let rows: Vec<Vec<String>> = report
        .tensors
        .iter()
        .flat_map(|tensor| {
            tensor.costs.iter().map(|cost| {
                let quality = |of: fn(&Quality) -> Option<f64>| {
                    cost.quality.as_ref().and_then(of).map_or("-".to_owned(), |value| format!("{value:.4}"))
                };
                vec![
                    tensor.tensor.clone(),
                    cost.change.clone(),
                    grouped(cost.bytes),
                    format!("{:.2}", cost.bits_per_weight),
                    format!("{:.2}%", 100.0 * cost.relative_error),
                    format!("{:.3e}", cost.damage),
                    quality(|q| Some(q.loss)),
                    quality(|q| q.accuracy),
                ]
            })
        })
        .collect();
    columns(&["tensor", "change", "bytes", "bits", "rel. error", "damage", "loss", "accuracy"], &rows)
}
