//! `dlopt train`: a network, from scratch or from a checkpoint.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use clap::{Args, ValueEnum};
use dlopt_checkpoint::{PassReport, Result, write_bytes};
use dlopt_data::Dataset;
use dlopt_kernels::nn::Team;
use dlopt_metrics::learning_curves_svg;
use dlopt_model::{Initialization, save_through};
use dlopt_train::{
    Engine, Loss, Model, Request, Settings, TensorChange, Trained, Trainer, changes, frozen_nodes, frozen_slots,
    run_facts, training_samples,
};
use serde::Serialize;

use super::recovery::{RecoveryArgs, tell_passes};
use super::training::{LAST_GOOD, TrainingArgs, augmenter, remove, threads};
use super::watcher::{EpochReport, Keeps, Watcher};
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
  dlopt train --init m.safetensors --data d.safetensors --fake-quantize w4a16 --group 32 --epochs 2 -o int4.safetensors
  dlopt train --init pruned.safetensors --data d.safetensors --share-weights codebook5 --epochs 5 -o shared.safetensors
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

    /// cross-entropy, binary-cross-entropy, mse or huber[=DELTA] [default: cross-entropy for classes, mse for targets]
    #[arg(long)]
    loss: Option<String>,

    #[command(flatten)]
    training: TrainingArgs,

    #[command(flatten)]
    recovery: RecoveryArgs,

    /// Write a checkpoint after each epoch into this folder, and the best one as best.safetensors
    #[arg(long, value_name = "DIR")]
    checkpoints: Option<PathBuf>,

    /// How many of --checkpoints to keep
    #[arg(long, default_value_t = 3, value_name = "COUNT", requires = "checkpoints")]
    keep_last: usize,

    /// Apply the checkpoint's scale and statistics to the raw elements, though the data were prepared otherwise
    #[arg(long)]
    use_own_preprocessing: bool,

    /// Show layers, shapes, parameters, multiply-adds and memory, and train nothing
    #[arg(long)]
    dry_run: bool,

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
    /// Share of the weights, biases and norms left out, that were kept at 0.
    kept_sparsity: Option<f64>,
    /// What became of the weights.
    tensors: Vec<TensorChange>,
    /// What was done to the trained weights before they were written.
    passes: Vec<PassReport>,
    output: Option<String>,
}

pub(super) fn run(args: &TrainArgs, stop: &Arc<AtomicBool>) -> Result<ExitCode> {
    let started = Instant::now();
    let out = Out::named(args.output.as_deref(), false);
    let needs_stdout = matches!(out, Out::Stdout) && !args.dry_run;
    let stdout = needs_stdout.then(streams::stdout_for_checkpoint).transpose()?;
    check_files(args)?;
    let mut dataset = Dataset::open(&args.data)?;
    let model = model(args, &mut dataset)?;
    let default_loss = if dataset.targets().is_some() { Loss::Mse } else { Loss::CrossEntropy };
    let loss = args.loss.as_deref().map_or(Ok(default_loss), Loss::parse)?;
    loss.check(&dataset)?;
    let training = &args.training;
    let mut settings = training.settings(&dataset, model.config.outputs, &model.nodes, loss)?;
    let recovery = args.recovery.recovery(&model)?;
    recovery.settle(&mut settings);
    settings.check()?;
    let team = Arc::new(Team::new(threads(training.threads)));
    let summary = dlopt_model::Summary::of(&model.config, &model.nodes, training.batch, settings.optimizer.moments())?;
    if args.dry_run {
        streams::print(&summary.text())?;
        return Ok(ExitCode::SUCCESS);
    }
    if !args.report.quiet {
        messages::tell(&summary.text());
        messages::tell(&format!("{}; {} threads\n", model.origin, team.threads()));
        recovery.tell();
    }
    let state = training.state_folder(&out)?;
    let dataset = Arc::new(dataset);
    let frozen = frozen_nodes(&model.layout, &frozen_slots(&model.layout, &settings.freeze)?);
    let training_samples = training_samples(&settings, &dataset)?.len();
    let keeps = Keeps {
        log: args.log.as_deref(),
        checkpoints: args.checkpoints.as_deref().map(|folder| (folder, args.keep_last)),
        passes: recovery.passes(),
    };
    let mut watcher = Watcher::new("train", (&settings, &model, &dataset), args.report.quiet, started).keeping(keeps);
    watcher.last_good = state.as_ref().map(|folder| folder.join(format!("{LAST_GOOD}.safetensors")));
    let trainer = Trainer {
        settings: &settings,
        dataset: Arc::clone(&dataset),
        nodes: &model.nodes,
        layout: &model.layout,
        engine: Engine::new(&training.device, &model.nodes, &model.layout, &frozen, Arc::clone(&team))?,
        extensions: recovery.extensions(&model, &settings, &team)?,
        augmenter: augmenter(&settings, &dataset)?,
        save_every: training.save_every,
        state_path: state.as_ref().map(|folder| folder.join("state.safetensors")),
        run: run_facts(&settings, &model, &dataset),
        stop,
    };
    let trained = trainer.train(model.weights.clone(), model.buffers.clone(), training.resume, &mut watcher);
    watcher.clear();
    let trained = trained?;
    let (header, tensors) = model.checkpoint("train", &settings, &dataset, &trained)?;
    if let Some(path) = &args.curves {
        write_bytes(path, learning_curves_svg(&trained.history).as_bytes(), true)?;
    }
    let passes =
        save_through(out.target(stdout)?, &header, &tensors, &recovery.passes(), training.force || training.resume)?;
    let stored = recovery.stored(&model, &team, &trained.weights)?;
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
        kept_sparsity: recovery.sparsity(&model, &trained.weights),
        tensors: changes(&model.layout, &model.weights, &stored),
        passes,
        output: args.output.as_ref().map(|p| p.display().to_string()),
    };
    tell(args, &report, &trained)?;
    Ok(exit::for_gates(report.passes.iter().filter_map(|pass| pass.gate.as_deref())))
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
    job::check_files(&written, &[Some(&args.data), args.init.as_deref(), model, args.training.augment.as_deref()])
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
        seed: args.training.seed,
        uses_own_preprocessing: args.use_own_preprocessing,
    };
    Model::make(&request, dataset)
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
        tell_passes(&report.passes);
        let why = if trained.stopped_early { ", stopped early" } else { "" };
        let place = report.output.as_deref().unwrap_or("standard output");
        messages::tell(&format!("{} updates{why}; weights of epoch {} in {place}\n", trained.steps, trained.epoch));
    }
    Ok(())
}

/// A line for each tensor: how large its values were and are, and how far they moved.
pub(super) fn tensors(changes: &[TensorChange]) -> String {
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
