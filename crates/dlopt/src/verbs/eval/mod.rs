//! `dlopt eval`: what a network is worth on data, and whether another is worth more.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use clap::Args;
use dlopt_checkpoint::{Dtype, Error, Header, Result, TensorInfo, dtype_name, write_bytes, write_file};
use dlopt_data::{Batch, Dataset, Elements};
use dlopt_kernels::nn::Team;
use dlopt_metrics::{
    BinaryReport, ClassificationReport, Options, PairedRegressionReport, PairedReport, Picture, Pixels,
    RegressionReport, binary, classification, confusion_matrix_svg, contact_sheet_png, paired, paired_regression,
    regression, reliability_svg, worst_mistakes,
};
use dlopt_model::{Loaded, ModelConfig, load};
use dlopt_train::{Engine, check_preprocessing, check_shape, check_vocabulary, run_over, use_own_preprocessing};
use serde::Serialize;

use super::train::threads;
use crate::args::ReportArgs;
use crate::exit;
use crate::job;
use crate::streams;
use crate::tables::{columns, grouped};

const EXAMPLES: &str = "\
Examples:
  dlopt eval cnn.safetensors --data fashion.safetensors
  dlopt eval small/ --against cnn.safetensors --data fashion.safetensors      both, and a paired test
  dlopt eval cnn.safetensors --data d.safetensors --confusion c.svg --reliability r.svg --mistakes worst.png
  dlopt eval cnn.safetensors --data d.safetensors --predictions logits.safetensors --json
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

    /// Decides the resamples
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

    /// Exit with code 3 when the accuracy, 0..1, is lower
    #[arg(long, value_name = "SHARE")]
    min_accuracy: Option<f64>,

    /// Apply the checkpoint's scale and statistics to the raw elements, though the data were prepared otherwise
    #[arg(long)]
    use_own_preprocessing: bool,

    /// cpu, or cuda, cuda:1, metal where dlopt was built with that feature; candle runs candle on the CPU, for comparison
    #[arg(long, default_value = "cpu")]
    device: String,

    /// Threads [default: all cores]; the metrics are the same at any number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Replace existing files
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    report: ReportArgs,
}

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
}

#[derive(Serialize)]
struct ModelReport {
    name: String,
    /// Of the checkpoint's tensors, compressed or not.
    bytes: u64,
    parameters: usize,
    /// The median of the runs.
    samples_per_second: f64,
    samples_per_second_of_runs: Vec<f64>,
    metrics: Metrics,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum Metrics {
    Classification(Box<ClassificationReport>),
    Binary(BinaryReport),
    Regression(RegressionReport),
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum Paired {
    Classification(Box<PairedReport>),
    Regression(PairedRegressionReport),
}

impl Metrics {
    fn text(&self) -> String {
        match self {
            Self::Classification(report) => report.text(),
            Self::Binary(report) => report.text(),
            Self::Regression(report) => report.text(),
        }
    }

    fn accuracy(&self) -> Option<f64> {
        match self {
            Self::Classification(report) => Some(report.accuracy.value),
            Self::Binary(report) => Some(report.accuracy.value),
            Self::Regression(_) => None,
        }
    }
}

/// A network that has been run over the split.
struct Run {
    name: String,
    bytes: u64,
    /// Those of the checkpoint, compressed or not.
    tensors: Vec<TensorInfo>,
    loaded: Loaded,
    outputs: Vec<f32>,
    /// Samples a second of every run.
    rates: Vec<f64>,
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
        ("--report", args.report.report.as_deref()),
    ];
    job::check_files(&written, &[Some(&args.data), Some(&args.model), args.against.as_deref()])?;
    let dataset = Dataset::open(&args.data)?;
    let split = split_of(args, &dataset);
    let samples: Vec<usize> = match split.as_str() {
        "all" => (0..dataset.samples()).collect(),
        name => dataset.split(name)?.collect(),
    };
    if samples.is_empty() {
        return Err(Error::input(format!("{}: the split `{split}` has no samples", dataset.name())));
    }
    let range = samples[0]..samples[samples.len() - 1] + 1;
    let team = Arc::new(Team::new(threads(args.threads)));
    let own = outputs(args, &args.model, &range, &team, stop)?;
    let other = args.against.as_deref().map(|path| outputs(args, path, &range, &team, stop)).transpose()?;

    let options = Options { resamples: args.resamples, seed: args.seed, threads: team.threads(), ..Options::default() };
    let truth = Truth::of(&dataset, &range);
    let model = measured(&own, &truth, &options)?;
    let against = other.as_ref().map(|run| measured(run, &truth, &options)).transpose()?;
    let paired = other.as_ref().map(|other| compared(other, &own, &truth, &options)).transpose()?;
    draw(args, &dataset, &own, &model, &truth, range.start)?;
    if let Some(path) = &args.predictions {
        write_predictions(path, &own, &truth, args.force)?;
    }
    let gate = match (args.min_accuracy, model.metrics.accuracy()) {
        (Some(least), Some(accuracy)) => (accuracy < least).then_some("min-accuracy"),
        (Some(_), None) => return Err(Error::usage("--min-accuracy needs classes, and the outputs are numbers")),
        _ => None,
    };
    let report = Report {
        data: dataset.name().to_owned(),
        split,
        samples: samples.len(),
        batch: args.batch,
        threads: team.threads(),
        model,
        against,
        paired,
    };
    job::write_report(args.report.report.as_deref(), &report)?;
    if args.report.json {
        streams::print_json(&report)?;
    } else if !args.report.quiet {
        let mut text = text(&report);
        if args.report.verbose {
            for run in std::iter::once(&own).chain(&other) {
                text.push_str(&format!("\n{}\n{}", run.name, tensors(&run.tensors)));
            }
        }
        streams::print(&text)?;
    }
    Ok(exit::for_gates(gate.into_iter()))
}

fn split_of(args: &EvalArgs, dataset: &Dataset) -> String {
    let has = |name: &&str| dataset.info().splits.contains_key(*name);
    let default = || ["test", "validation"].iter().find(|name| has(name)).map_or("all", |name| name);
    args.split.clone().unwrap_or_else(|| default().to_owned())
}

/// Loads a network and runs it over the samples.
fn outputs(
    args: &EvalArgs,
    path: &Path,
    samples: &std::ops::Range<usize>,
    team: &Arc<Team>,
    stop: &Arc<AtomicBool>,
) -> Result<Run> {
    let checkpoint = job::open_whole(path)?;
    let loaded = load(&checkpoint)?;
    // Two networks may have been trained on data prepared in two ways; each gets its own numbers.
    let mut dataset = Dataset::open(&args.data)?;
    check_shape(&loaded.config, &checkpoint.name, &dataset)?;
    check_vocabulary(&loaded.nodes, &dataset)?;
    if args.use_own_preprocessing {
        use_own_preprocessing(&loaded.config, &checkpoint.name, &mut dataset)?;
    }
    check_preprocessing(&loaded.config, &checkpoint.name, &dataset)?;
    let wanted = if dataset.targets().is_some() { dataset.outputs() } else { dataset.classes().len() };
    if loaded.config.outputs != wanted {
        return Err(Error::input(format!(
            "{}: has {} outputs, and {} asks for {wanted}",
            checkpoint.name,
            loaded.config.outputs,
            dataset.name()
        )));
    }
    let dataset = Arc::new(dataset);
    let is_frozen = vec![false; loaded.layout.nodes.len()];
    let mut engine = Engine::new(&args.device, &loaded.nodes, &loaded.layout, &is_frozen, Arc::clone(team))?;
    let mut buffers = loaded.buffers.clone();
    let mut all = Vec::with_capacity(samples.len() * loaded.config.outputs);
    let mut rates = Vec::with_capacity(args.repeat);
    for _ in 0..args.repeat {
        all.clear();
        let began = Instant::now();
        let values = (&loaded.params[..], &mut buffers[..]);
        run_over(&mut engine, &dataset, samples.clone(), args.batch, values, stop, |_, outputs| {
            all.extend_from_slice(outputs);
            Ok(())
        })?;
        rates.push(samples.len() as f64 / began.elapsed().as_secs_f64().max(1e-9));
    }
    Ok(Run {
        name: checkpoint.name.clone(),
        bytes: checkpoint.header.data_bytes(),
        tensors: checkpoint.header.tensors.clone(),
        loaded,
        outputs: all,
        rates,
    })
}

/// What is true of the samples.
struct Truth {
    labels: Vec<u32>,
    targets: Vec<f32>,
    names: Vec<String>,
}

impl Truth {
    fn of(dataset: &Dataset, samples: &std::ops::Range<usize>) -> Self {
        match dataset.targets() {
            Some(targets) => {
                let width = dataset.outputs();
                let targets = targets[samples.start * width..samples.end * width].to_vec();
                Self { labels: Vec::new(), targets, names: dataset.info().outputs.clone() }
            }
            None => {
                let labels = dataset.labels()[samples.clone()].to_vec();
                Self { labels, targets: Vec::new(), names: dataset.classes().to_vec() }
            }
        }
    }

    fn is_yes_or_no(&self) -> bool {
        !self.targets.is_empty() && self.targets.iter().all(|t| *t == 0.0 || *t == 1.0)
    }
}

/// Whether a network was trained to say yes or no.
pub(super) fn says_yes_or_no(config: &ModelConfig) -> bool {
    config.training["settings"]["loss"]["name"] == "binary-cross-entropy"
}

fn measured(run: &Run, truth: &Truth, options: &Options) -> Result<ModelReport> {
    let outputs = run.loaded.config.outputs;
    let metrics = if truth.targets.is_empty() {
        Metrics::Classification(Box::new(classification(&run.outputs, outputs, &truth.labels, &truth.names, options)?))
    } else if says_yes_or_no(&run.loaded.config) && truth.is_yes_or_no() {
        Metrics::Binary(binary(&run.outputs, outputs, &truth.targets, &truth.names, options)?)
    } else {
        Metrics::Regression(regression(&run.outputs, outputs, &truth.targets, &truth.names, options)?)
    };
    Ok(ModelReport {
        name: run.name.clone(),
        bytes: run.bytes,
        parameters: run.loaded.layout.params_len,
        samples_per_second: median(&run.rates),
        samples_per_second_of_runs: run.rates.clone(),
        metrics,
    })
}

/// The middle one; of an even number the upper of the two in the middle.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn compared(first: &Run, second: &Run, truth: &Truth, options: &Options) -> Result<Paired> {
    let outputs = second.loaded.config.outputs;
    Ok(if truth.targets.is_empty() {
        Paired::Classification(Box::new(paired(&first.outputs, &second.outputs, outputs, &truth.labels, options)?))
    } else {
        Paired::Regression(paired_regression(&first.outputs, &second.outputs, outputs, &truth.targets, options)?)
    })
}

fn draw(args: &EvalArgs, dataset: &Dataset, run: &Run, model: &ModelReport, truth: &Truth, first: usize) -> Result<()> {
    let wants = args.confusion.is_some() || args.reliability.is_some() || args.mistakes.is_some();
    let Metrics::Classification(report) = &model.metrics else {
        return if wants {
            Err(Error::usage("--confusion, --reliability and --mistakes need classes, and the outputs are numbers"))
        } else {
            Ok(())
        };
    };
    if let Some(path) = &args.confusion {
        write_bytes(path, confusion_matrix_svg(report).as_bytes(), args.force)?;
    }
    if let Some(path) = &args.reliability {
        write_bytes(path, reliability_svg(&report.calibration).as_bytes(), args.force)?;
    }
    let Some(path) = &args.mistakes else { return Ok(()) };
    let Elements::Image { height, width, channels } = dataset.info().elements else {
        return Err(Error::usage("--mistakes shows pictures, and the data are none"));
    };
    let worst = worst_mistakes(&run.outputs, run.loaded.config.outputs, &truth.labels, args.mistakes_shown)?;
    let indices: Vec<usize> = worst.iter().map(|m| first + m.sample as usize).collect();
    let mut batch = Batch::default();
    dataset.gather(&indices, &mut batch)?;
    let name = |class: u32| truth.names.get(class as usize).cloned().unwrap_or_else(|| class.to_string());
    let pictures: Vec<Picture<'_>> = worst
        .iter()
        .zip(batch.inputs.chunks_exact(height * width * channels))
        .map(|(mistake, pixels)| Picture {
            pixels: Pixels::F32(pixels),
            height,
            width,
            channels,
            label: name(mistake.label.unwrap_or_default()),
            predicted: name(mistake.predicted),
            confidence: mistake.confidence,
        })
        .collect();
    let title = format!("The {} worst mistakes of {}", pictures.len(), run.name);
    write_bytes(path, &contact_sheet_png(&title, &pictures)?, args.force)
}

/// `outputs` `[samples, outputs]`, and `predicted` and `labels` `[samples]` or `targets` `[samples, outputs]`.
fn write_predictions(path: &Path, run: &Run, truth: &Truth, force: bool) -> Result<()> {
    let width = run.loaded.config.outputs;
    let rows = run.outputs.len() / width.max(1);
    let floats = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let numbers = |values: &[u32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let mut header = Header::default();
    header.metadata.insert("format".to_owned(), "pt".to_owned());
    let mut tensors = vec![floats(&run.outputs)];
    header.tensors.push(TensorInfo::new("outputs", Dtype::F32, [rows, width]));
    if truth.targets.is_empty() {
        let mut predicted = vec![0; rows];
        dlopt_kernels::nn::argmax_rows(rows, width, &run.outputs, &mut predicted);
        header.tensors.push(TensorInfo::new("predicted", Dtype::U32, [rows]));
        header.tensors.push(TensorInfo::new("labels", Dtype::U32, [rows]));
        tensors.extend([numbers(&predicted), numbers(&truth.labels)]);
    } else {
        header.tensors.push(TensorInfo::new("targets", Dtype::F32, [rows, width]));
        tensors.push(floats(&truth.targets));
    }
    write_file(path, &header, &tensors, force)
}

fn text(report: &Report) -> String {
    let mut text = format!("{}: split {}, {} samples\n", report.data, report.split, report.samples);
    for model in std::iter::once(&report.model).chain(&report.against) {
        text.push_str(&format!(
            "\n{}: {} parameters in {} bytes; {:.0} samples/s{} in batches of {}, {} threads\n{}",
            model.name,
            grouped(model.parameters as u64),
            grouped(model.bytes),
            model.samples_per_second,
            spread(&model.samples_per_second_of_runs),
            report.batch,
            report.threads,
            model.metrics.text()
        ));
    }
    if let (Some(paired), Some(against)) = (&report.paired, &report.against) {
        text.push('\n');
        text.push_str(&match paired {
            Paired::Classification(paired) => paired.text(&against.name, &report.model.name),
            Paired::Regression(paired) => paired.text(&against.name, &report.model.name),
        });
    }
    text
}

/// How far the speeds of several runs lie apart.
fn spread(rates: &[f64]) -> String {
    if rates.len() < 2 {
        return String::new();
    }
    let low = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let high = rates.iter().copied().fold(0.0, f64::max);
    format!(" ({low:.0} to {high:.0} in {} runs)", rates.len())
}

/// A line for each tensor, as the checkpoint stores it.
fn tensors(tensors: &[TensorInfo]) -> String {
    let rows: Vec<_> = tensors
        .iter()
        .map(|t| {
            let (dtype, shape) = (dtype_name(t.dtype), format!("{:?}", t.shape));
            vec![format!("  {}", t.name), dtype.to_owned(), shape, grouped(t.bytes())]
        })
        .collect();
    columns(&["  tensor", "dtype", "shape", "bytes"], &rows)
}
