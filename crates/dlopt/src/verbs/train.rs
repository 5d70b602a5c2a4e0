//! `dlopt train`: a network, from scratch or from a checkpoint.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use clap::{Args, ValueEnum};
use dlopt_augment::{Augmenter, Recipe};
use dlopt_checkpoint::{Context, Error, Result, make_folder, write_bytes};
use dlopt_data::Dataset;
use dlopt_kernels::nn::Team;
use dlopt_metrics::{EpochRecord, learning_curves_svg};
use dlopt_model::{Initialization, Op, save};
use dlopt_train::{
    Engine, Loss, Model, Observer, Optimizer, OptimizerOptions, Request, Sampling, Schedule, Settings, TensorChange,
    Trained, Trainer, balanced_weights, changes, frozen_nodes, frozen_slots, run_facts, state_folder,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::args::ReportArgs;
use crate::exit;
use crate::job::{self, Out};
use crate::messages;
use crate::streams;
use crate::tables::columns;

const EXAMPLES: &str = "\
Examples:
  dlopt train --model cnn --data fashion.safetensors -o fashion-cnn.safetensors
  dlopt train --model lstm --data vowels.safetensors --epochs 40 --batch 16 -o vowels.safetensors
  dlopt train --model my.toml --data d.safetensors --optimizer sgd --momentum 0.9 --schedule cosine -o m.safetensors
  dlopt train --init pruned.safetensors --data d.safetensors --epochs 2 --learning-rate 1e-4 -o tuned.safetensors
  dlopt train --model cnn --data d.safetensors --validation validation --patience 3 --curves curves.svg -o m.safetensors
  dlopt train --model cnn --data d.safetensors --augment-op rotate=±15 --augment-op noise=0.05 -o m.safetensors
  dlopt train … -o m.safetensors --resume       after a kill: ends in the same bytes

`dlopt list` names the models, optimizers, schedules and losses. A description is TOML:
  layers = [{ type = \"conv2d\", filters = 8, kernel = 3, activation = \"relu\" }, { type = \"flatten\" },
            { type = \"dense\", units = \"classes\" }]";

/// Train a network, or train a checkpoint further
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TrainArgs {
    /// A model by name, a description (NAME.toml), or a checkpoint of dlopt
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,

    /// Dataset file or folder made by `dlopt prepare`
    #[arg(long, value_name = "DATA")]
    data: PathBuf,

    /// File to write, or FOLDER/ [default: standard output]
    #[arg(short, long = "output", value_name = "OUT")]
    output: Option<PathBuf>,

    /// Begin with the weights of this checkpoint (.safetensors, folder, .pth, .npz)
    #[arg(long, value_name = "CHECKPOINT")]
    init: Option<PathBuf>,

    /// With --init, let tensors of another shape start anew, such as the last layer for other classes
    #[arg(long, requires = "init")]
    adopt: bool,

    /// How fresh weights of convolutions and dense layers start [default: as the model says, else glorot]
    #[arg(long, value_enum)]
    initialization: Option<Start>,

    /// Leave tensors as they are whose name matches this glob (`*` crosses dots); may be repeated
    #[arg(long, value_name = "GLOB")]
    freeze: Vec<String>,

    /// Times every sample is used
    #[arg(long, default_value_t = 10)]
    epochs: usize,

    /// Samples of a batch
    #[arg(long, default_value_t = 32)]
    batch: usize,

    /// Batches whose gradients one update adds up
    #[arg(long, default_value_t = 1, value_name = "BATCHES")]
    accumulate: usize,

    /// sgd, adam, adamw or rmsprop
    #[arg(long, default_value = "adam")]
    optimizer: String,

    /// Step size [default: 0.001; sgd: 0.01]
    #[arg(long, visible_alias = "lr", value_name = "RATE")]
    learning_rate: Option<f64>,

    /// Decay of weights [default: 0; adamw: 0.004]
    #[arg(long, value_name = "DECAY")]
    weight_decay: Option<f64>,

    /// Let biases and norms decay as well
    #[arg(long)]
    decay_all: bool,

    /// Momentum of sgd and rmsprop [default: 0]
    #[arg(long)]
    momentum: Option<f32>,

    /// Look ahead along the momentum (Nesterov)
    #[arg(long)]
    nesterov: bool,

    /// Decay of adam's first moment [default: 0.9]
    #[arg(long)]
    beta1: Option<f32>,

    /// Decay of adam's second moment [default: 0.999]
    #[arg(long)]
    beta2: Option<f32>,

    /// Decay of rmsprop's mean of squares [default: 0.9]
    #[arg(long)]
    rho: Option<f32>,

    /// Added to a root before it divides [default: 1e-7]
    #[arg(long)]
    epsilon: Option<f32>,

    /// constant, step=EVERY,GAMMA, cosine[=FLOOR], linear[=FLOOR], one-cycle or plateau[=FACTOR,PATIENCE]
    #[arg(long, default_value = "constant")]
    schedule: String,

    /// Updates over which the learning rate rises to its value
    #[arg(long, default_value_t = 0, value_name = "UPDATES")]
    warmup: u64,

    /// cross-entropy, binary-cross-entropy, mse or huber[=DELTA] [default: cross-entropy for classes, mse for targets]
    #[arg(long)]
    loss: Option<String>,

    /// Share of the probability that is spread over all classes, 0..1
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    label_smoothing: f32,

    /// Share of the tokens a decoder reads that are those it said itself, reached after a part of the training [default: 0]
    #[arg(long, value_name = "SHARE[,PART]")]
    scheduled_sampling: Option<String>,

    /// Weight of each class in the loss: `balanced`, or a number for each, with commas
    #[arg(long, value_name = "WEIGHTS")]
    class_weights: Option<String>,

    /// Change every sample anew in every epoch by this recipe (TOML), as `dlopt augment --recipe` does
    #[arg(long, value_name = "FILE")]
    augment: Option<PathBuf>,

    /// The same by operations, in order: NAME, NAME=VALUE, NAME=VALUE,key=value…; may be repeated
    #[arg(long, value_name = "OP", conflicts_with = "augment")]
    augment_op: Vec<String>,

    /// Largest norm of all gradients together
    #[arg(long, value_name = "NORM")]
    clip_norm: Option<f64>,

    /// Largest magnitude of a gradient
    #[arg(long, value_name = "VALUE")]
    clip_value: Option<f32>,

    /// Keep a running average of the weights with this decay, such as 0.999; it is what is written
    #[arg(long, value_name = "DECAY")]
    average: Option<f32>,

    /// The split to train on
    #[arg(long, default_value = "train", value_name = "SPLIT")]
    split: String,

    /// The split to watch after each epoch; `none` for none [default: `validation`, if the data have it]
    #[arg(long, value_name = "SPLIT")]
    validation: Option<String>,

    /// Stop after so many epochs without a lower validation loss, and write the best
    #[arg(long, value_name = "EPOCHS")]
    patience: Option<usize>,

    /// Write the weights with the lowest validation loss, not the last ones
    #[arg(long)]
    keep_best: bool,

    /// Write a checkpoint after each epoch into this folder, and the best one as best.safetensors
    #[arg(long, value_name = "DIR")]
    checkpoints: Option<PathBuf>,

    /// How many of --checkpoints to keep
    #[arg(long, default_value_t = 3, value_name = "COUNT", requires = "checkpoints")]
    keep_last: usize,

    /// Decides first weights, order and dropout
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Go on with a run that was stopped
    #[arg(long)]
    resume: bool,

    /// Updates between two saves of what --resume goes on from [default: 15 seconds]
    #[arg(long, value_name = "UPDATES", value_parser = clap::value_parser!(u64).range(1..))]
    save_every: Option<u64>,

    /// Replace an existing output, and forget a run that was stopped
    #[arg(long)]
    force: bool,

    /// Apply the checkpoint's scale and statistics to the raw elements, though the data were prepared otherwise
    #[arg(long)]
    use_own_preprocessing: bool,

    /// Show layers, shapes, parameters, multiply-adds and memory, and train nothing
    #[arg(long)]
    dry_run: bool,

    /// cpu, or cuda, cuda:1, metal where dlopt was built with that feature; candle runs candle on the CPU, for comparison
    #[arg(long, default_value = "cpu")]
    device: String,

    /// Threads [default: all cores]; the result is the same at any number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Write a JSON line for each epoch to this file
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,

    /// Draw the learning curves into this SVG file
    #[arg(long, value_name = "FILE")]
    curves: Option<PathBuf>,

    #[command(flatten)]
    report: ReportArgs,
}

/// How fresh weights start.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Start {
    /// Uniform, by inputs and outputs (Glorot and Bengio, 2010)
    Glorot,
    /// Normal, by inputs (He et al., 2015)
    He,
}

/// What `--json` and `--report` say.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    origin: &'a str,
    parameters: usize,
    training_samples: usize,
    settings: &'a Settings,
    epochs: Vec<EpochReport>,
    /// The epoch that the written weights are of.
    epoch: usize,
    updates: u64,
    stopped_early: bool,
    /// From the start of the process to the end of the first update.
    seconds_to_first_step: Option<f64>,
    /// What became of the weights.
    tensors: Vec<TensorChange>,
    output: Option<String>,
}

#[derive(Clone, Serialize)]
struct EpochReport {
    #[serde(flatten)]
    record: EpochRecord,
    train_samples_per_second: f64,
}

pub(super) fn run(args: &TrainArgs, stop: &Arc<AtomicBool>) -> Result<ExitCode> {
    let started = Instant::now();
    let out = Out::named(args.output.as_deref(), false);
    let needs_stdout = matches!(out, Out::Stdout) && !args.dry_run;
    let stdout = needs_stdout.then(streams::stdout_for_checkpoint).transpose()?;
    check_files(args)?;
    let mut dataset = Dataset::open(&args.data)?;
    let model = model(args, &mut dataset)?;
    let settings = settings(args, &dataset, &model)?;
    settings.check()?;
    let team = Arc::new(Team::new(threads(args.threads)));
    let summary = dlopt_model::Summary::of(&model.config, &model.nodes, args.batch, settings.optimizer.moments())?;
    if args.dry_run {
        streams::print(&summary.text())?;
        return Ok(ExitCode::SUCCESS);
    }
    if !args.report.quiet {
        messages::tell(&summary.text());
        messages::tell(&format!("{}; {} threads\n", model.origin, team.threads()));
    }
    let state = state_of(args, &out)?;
    let dataset = Arc::new(dataset);
    let frozen = frozen_nodes(&model.layout, &frozen_slots(&model.layout, &settings.freeze)?);
    let training_samples = dataset.split(&settings.training_split)?.len();
    let mut watcher = Watcher::new(args, &settings, &model, &dataset, started);
    watcher.last_good = state.as_ref().map(|folder| folder.join("last-good.safetensors"));
    let trainer = Trainer {
        settings: &settings,
        dataset: Arc::clone(&dataset),
        nodes: &model.nodes,
        layout: &model.layout,
        engine: Engine::new(&args.device, &model.nodes, &model.layout, &frozen, team)?,
        extensions: Vec::new(),
        augmenter: augmenter(&settings, &dataset)?,
        save_every: args.save_every,
        state_path: state.as_ref().map(|folder| folder.join("state.safetensors")),
        run: run_facts(&settings, &model, &dataset),
        stop,
    };
    let trained = trainer.train(model.weights.clone(), model.buffers.clone(), args.resume, &mut watcher);
    watcher.bar.finish_and_clear();
    let trained = trained?;
    let (header, tensors) = model.checkpoint("train", &settings, &dataset, &trained)?;
    if let Some(path) = &args.curves {
        write_bytes(path, learning_curves_svg(&trained.history).as_bytes(), true)?;
    }
    save(out.target(stdout)?, &header, &tensors, args.force || args.resume)?;
    if let Some(folder) = state.as_deref().filter(|folder| folder.exists()) {
        remove(folder)?;
    }
    let report = Report {
        model: args.model.as_deref().unwrap_or("of the checkpoint"),
        origin: &model.origin,
        parameters: model.layout.params_len,
        training_samples,
        settings: &settings,
        epochs: watcher.epochs.clone(),
        epoch: trained.epoch,
        updates: trained.steps,
        stopped_early: trained.stopped_early,
        seconds_to_first_step: watcher.first_step,
        tensors: changes(&model.layout, &model.weights, &trained.weights),
        output: args.output.as_ref().map(|p| p.display().to_string()),
    };
    tell(args, &report, &trained)?;
    Ok(exit::for_gates(std::iter::empty()))
}

/// Hours of work must not end in a file that cannot be written, or replace what it began with.
fn check_files(args: &TrainArgs) -> Result<()> {
    let best = args.checkpoints.as_deref().map(|folder| folder.join("best.safetensors"));
    let written = [
        ("--output", args.output.as_deref()),
        ("--log", args.log.as_deref()),
        ("--curves", args.curves.as_deref()),
        ("--report", args.report.report.as_deref()),
        ("--checkpoints", best.as_deref().filter(|best| best.exists())),
    ];
    let model = args.model.as_deref().map(Path::new).filter(|path| path.exists());
    job::check_files(&written, &[Some(&args.data), args.init.as_deref(), model, args.augment.as_deref()])
}

fn model(args: &TrainArgs, dataset: &mut Dataset) -> Result<Model> {
    let request = Request {
        model: args.model.as_deref(),
        init: args.init.as_deref(),
        adopts: args.adopt,
        initialization: args.initialization.map(|start| match start {
            Start::Glorot => Initialization::Glorot,
            Start::He => Initialization::He,
        }),
        seed: args.seed,
        uses_own_preprocessing: args.use_own_preprocessing,
    };
    Model::make(&request, dataset)
}

fn settings(args: &TrainArgs, dataset: &Dataset, model: &Model) -> Result<Settings> {
    let options = OptimizerOptions {
        momentum: args.momentum,
        nesterov: args.nesterov,
        beta1: args.beta1,
        beta2: args.beta2,
        rho: args.rho,
        epsilon: args.epsilon,
    };
    let optimizer = Optimizer::named(&args.optimizer, options)?;
    let default_loss = if dataset.targets().is_some() { Loss::Mse } else { Loss::CrossEntropy };
    let loss = args.loss.as_deref().map_or(Ok(default_loss), Loss::parse)?;
    loss.check(dataset)?;
    let validation = match args.validation.as_deref() {
        Some("none") => None,
        Some(name) => Some(name.to_owned()),
        None => dataset.info().splits.contains_key("validation").then(|| "validation".to_owned()),
    };
    let class_weights = match args.class_weights.as_deref() {
        None => Vec::new(),
        Some("balanced") => balanced_weights(dataset, &args.split)?,
        Some(text) => listed_weights(text, model.config.outputs)?,
    };
    let sampling = args.scheduled_sampling.as_deref().map_or(Ok(Sampling::default()), Sampling::parse)?;
    if sampling.share > 0.0 && !model.nodes.iter().any(|node| matches!(node.op, Op::Seq2seq(_))) {
        return Err(Error::usage("--scheduled-sampling: the network has no decoder").hint("--model seq2seq has one"));
    }
    Ok(Settings {
        epochs: args.epochs,
        batch: args.batch,
        accumulate: args.accumulate,
        optimizer,
        learning_rate: args.learning_rate.unwrap_or_else(|| optimizer.default_learning_rate()),
        weight_decay: args.weight_decay.unwrap_or_else(|| optimizer.default_weight_decay()),
        decays_all: args.decay_all,
        schedule: Schedule::parse(&args.schedule)?,
        warmup_steps: args.warmup,
        loss,
        label_smoothing: args.label_smoothing,
        class_weights,
        sampling,
        augment: augment(args)?,
        clip_norm: args.clip_norm,
        clip_value: args.clip_value,
        average: args.average,
        patience: args.patience,
        keeps_best: args.keep_best,
        freeze: args.freeze.clone(),
        training_split: args.split.clone(),
        validation_split: validation,
        seed: args.seed,
    })
}

/// The recipe that samples are changed by.
fn augment(args: &TrainArgs) -> Result<Option<serde_json::Value>> {
    if args.augment.is_none() && args.augment_op.is_empty() {
        return Ok(None);
    }
    Ok(Some(super::augment::recipe(args.augment.as_deref(), &args.augment_op)?.spec()))
}

fn augmenter(settings: &Settings, dataset: &Arc<Dataset>) -> Result<Option<Augmenter>> {
    let Some(spec) = &settings.augment else { return Ok(None) };
    Ok(Some(Augmenter::new(Recipe::of(spec)?, dataset, &settings.training_split, settings.seed)?))
}

fn listed_weights(text: &str, classes: usize) -> Result<Vec<f32>> {
    let weights: Option<Vec<f32>> =
        text.split(',').map(|w| w.trim().parse().ok().filter(|w: &f32| w.is_finite() && *w >= 0.0)).collect();
    match weights {
        Some(weights) if weights.len() == classes => Ok(weights),
        Some(weights) => {
            Err(Error::usage(format!("--class-weights has {} numbers for {classes} classes", weights.len())))
        }
        None => Err(Error::usage(format!("--class-weights {text}: wanted `balanced` or numbers, 0 or more"))),
    }
}

pub(super) fn threads(asked: Option<u16>) -> usize {
    asked.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from)
}

/// The folder of the state, made; refuses to run over one that another run left, unless told what to do with it.
fn state_of(args: &TrainArgs, out: &Out) -> Result<Option<PathBuf>> {
    let path = match out {
        Out::File(path) | Out::Folder(path) => path,
        _ if args.resume => return Err(Error::usage("--resume goes on with what -o OUT left").hint("name OUT with -o")),
        _ => return Ok(None),
    };
    let folder = state_folder(path);
    let state = folder.join("state.safetensors");
    if path.exists() && !args.force && !args.resume {
        return Err(Error::input(format!("{}: exists", path.display())).hint("--force replaces it"));
    }
    if state.exists() && !args.resume {
        if !args.force {
            return Err(Error::input(format!("{}: a run was stopped here", folder.display()))
                .hint("--resume goes on with it, --force begins again"));
        }
        remove(&folder)?;
    }
    if args.resume && !state.exists() {
        return Err(Error::input(format!("{}: no state to go on from", folder.display()))
            .hint("a run saves its state every 15 seconds; without one, begin again without --resume"));
    }
    Ok(Some(folder))
}

fn remove(folder: &Path) -> Result<()> {
    std::fs::remove_dir_all(folder).at(folder.display())
}

fn tell(args: &TrainArgs, report: &Report<'_>, trained: &Trained) -> Result<()> {
    job::write_report(args.report.report.as_deref(), report)?;
    if args.report.json {
        let is_free = args.output.as_deref().is_some_and(|p| p != Path::new("-"));
        if is_free { streams::print_json(report)? } else { messages::tell(&streams::json(report)) }
    } else if !args.report.quiet {
        if args.report.verbose {
            messages::tell(&tensors(&report.tensors));
        }
        let why = if trained.stopped_early { ", stopped early" } else { "" };
        let place = report.output.as_deref().unwrap_or("standard output");
        messages::tell(&format!("{} updates{why}; weights of epoch {} in {place}\n", trained.steps, trained.epoch));
    }
    Ok(())
}

/// A line for each tensor: how large its values were and are, and how far they moved.
fn tensors(changes: &[TensorChange]) -> String {
    let rows: Vec<_> = changes
        .iter()
        .map(|c| {
            let moved = c.relative_change.map_or("-".to_owned(), |share| format!("{:.2}%", 100.0 * share));
            let shape = format!("{:?}", c.shape);
            vec![format!("  {}", c.name), shape, format!("{:.5}", c.rms_before), format!("{:.5}", c.rms_after), moved]
        })
        .collect();
    columns(&["  tensor", "shape", "first rms", "rms", "moved by"], &rows)
}

/// Shows a training, logs it, and keeps checkpoints of it.
struct Watcher<'a> {
    args: &'a TrainArgs,
    settings: &'a Settings,
    model: &'a Model,
    dataset: &'a Dataset,
    started: Instant,
    first_step: Option<f64>,
    bar: ProgressBar,
    is_shown: bool,
    epochs: Vec<EpochReport>,
    updates_since_drawn: u32,
    /// Where the last good weights go when the loss is no number.
    last_good: Option<PathBuf>,
}

impl<'a> Watcher<'a> {
    fn new(
        args: &'a TrainArgs,
        settings: &'a Settings,
        model: &'a Model,
        dataset: &'a Dataset,
        started: Instant,
    ) -> Self {
        let is_shown = !args.report.quiet && std::io::stderr().is_terminal() && !streams::stdout_is_pipe();
        let target = if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg}, {per_sec}, {eta} left")
            .expect("the template is a constant");
        bar.set_style(style);
        Self {
            args,
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
}

impl Observer for Watcher<'_> {
    fn epoch_begins(&mut self, epoch: usize, done: usize, samples: usize) {
        self.bar.reset();
        self.bar.set_length(samples as u64);
        self.bar.set_position(done as u64);
        self.bar.set_prefix(format!("epoch {epoch}/{}", self.settings.epochs));
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
        if !self.args.report.quiet {
            self.bar.suspend(|| messages::tell(&line(record, self.settings.epochs, samples_per_second)));
        }
        self.epochs.push(EpochReport { record: record.clone(), train_samples_per_second: samples_per_second });
        Ok(())
    }

    fn history(&mut self, history: &[EpochRecord]) -> Result<()> {
        let Some(path) = &self.args.log else { return Ok(()) };
        let lines: String = history.iter().map(EpochRecord::to_line).collect();
        write_bytes(path, lines.as_bytes(), true)
    }

    fn diverged(&mut self, last_good: &Trained) -> Result<Option<PathBuf>> {
        let Some(path) = &self.last_good else { return Ok(None) };
        if let Some(folder) = path.parent() {
            make_folder(folder)?;
        }
        let (header, tensors) = self.model.checkpoint("train", self.settings, self.dataset, last_good)?;
        dlopt_checkpoint::write_file(path, &header, &tensors, true)?;
        Ok(Some(path.clone()))
    }

    fn wants_checkpoints(&self) -> bool {
        self.args.checkpoints.is_some()
    }

    fn checkpoint(&mut self, trained: &Trained, is_best: bool) -> Result<()> {
        let Some(folder) = &self.args.checkpoints else { return Ok(()) };
        make_folder(folder)?;
        let (header, tensors) = self.model.checkpoint("train", self.settings, self.dataset, trained)?;
        let name = |epoch: usize| folder.join(format!("epoch-{epoch:04}.safetensors"));
        dlopt_checkpoint::write_file(&name(trained.epoch), &header, &tensors, true)?;
        if is_best {
            dlopt_checkpoint::write_file(&folder.join("best.safetensors"), &header, &tensors, true)?;
        }
        if let Some(old) = trained.epoch.checked_sub(self.args.keep_last.max(1)).filter(|old| *old > 0) {
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
