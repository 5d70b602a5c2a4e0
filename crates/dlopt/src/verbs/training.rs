//! What every training is told, whoever asks for it: flags, and the settings they mean.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use dlopt_augment::{Augmenter, Recipe};
use dlopt_checkpoint::{Context, Error, Result};
use dlopt_data::Dataset;
use dlopt_model::{Node, Op};
use dlopt_train::{Loss, Optimizer, OptimizerOptions, Sampling, Schedule, Settings, balanced_weights, state_folder};

use crate::job::Out;

/// How the file of weights begins that a training leaves when its loss is no number: nothing to resume.
pub(super) const LAST_GOOD: &str = "last-good";

/// Flags of a training.
#[derive(Args, Debug)]
pub(super) struct TrainingArgs {
    /// Leave tensors as they are whose name matches this glob (`*` crosses dots); may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(super) freeze: Vec<String>,

    /// Times every sample is used
    #[arg(long, default_value_t = 10)]
    pub(super) epochs: usize,

    /// Samples of a batch
    #[arg(long, default_value_t = 32)]
    pub(super) batch: usize,

    /// Batches whose gradients one update adds up
    #[arg(long, default_value_t = 1, value_name = "BATCHES")]
    pub(super) accumulate: usize,

    /// sgd, adam, adamw or rmsprop
    #[arg(long, default_value = "adam")]
    pub(super) optimizer: String,

    /// Step size [default: 0.001; sgd: 0.01]
    #[arg(long, visible_alias = "lr", value_name = "RATE")]
    pub(super) learning_rate: Option<f64>,

    /// Decay of weights [default: 0; adamw: 0.004]
    #[arg(long, value_name = "DECAY")]
    pub(super) weight_decay: Option<f64>,

    /// Let biases and norms decay as well
    #[arg(long)]
    pub(super) decay_all: bool,

    /// Momentum of sgd and rmsprop [default: 0]
    #[arg(long)]
    pub(super) momentum: Option<f32>,

    /// Look ahead along the momentum (Nesterov)
    #[arg(long)]
    pub(super) nesterov: bool,

    /// Decay of adam's first moment [default: 0.9]
    #[arg(long)]
    pub(super) beta1: Option<f32>,

    /// Decay of adam's second moment [default: 0.999]
    #[arg(long)]
    pub(super) beta2: Option<f32>,

    /// Decay of rmsprop's mean of squares [default: 0.9]
    #[arg(long)]
    pub(super) rho: Option<f32>,

    /// Added to a root before it divides [default: 1e-7]
    #[arg(long)]
    pub(super) epsilon: Option<f32>,

    /// constant, step=EVERY,GAMMA, cosine[=FLOOR], linear[=FLOOR], one-cycle or plateau[=FACTOR,PATIENCE]
    #[arg(long, default_value = "constant")]
    pub(super) schedule: String,

    /// Updates over which the learning rate rises to its value
    #[arg(long, default_value_t = 0, value_name = "UPDATES")]
    pub(super) warmup: u64,

    /// Share of the probability that is spread over all classes, 0..1
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub(super) label_smoothing: f32,

    /// Share of the tokens a decoder reads that are those it said itself, reached after a part of the training [default: 0]
    #[arg(long, value_name = "SHARE[,PART]")]
    pub(super) scheduled_sampling: Option<String>,

    /// Weight of each class in the loss: `balanced`, or a number for each, with commas
    #[arg(long, value_name = "WEIGHTS")]
    pub(super) class_weights: Option<String>,

    /// Change every sample anew in every epoch by this recipe (TOML), as `dlopt augment --recipe` does
    #[arg(long, value_name = "FILE")]
    pub(super) augment: Option<PathBuf>,

    /// The same by operations, in order: NAME, NAME=VALUE, NAME=VALUE,key=value…; may be repeated
    #[arg(long, value_name = "OP", conflicts_with = "augment")]
    pub(super) augment_op: Vec<String>,

    /// Decides how samples are changed, apart from --seed, so that several runs see the same ones [default: --seed]
    #[arg(long, value_name = "SEED")]
    pub(super) augment_seed: Option<u64>,

    /// Change samples so many times, and then use the same ones again [default: anew in every epoch]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) augment_views: Option<u64>,

    /// Largest norm of all gradients together
    #[arg(long, value_name = "NORM")]
    pub(super) clip_norm: Option<f64>,

    /// Largest magnitude of a gradient
    #[arg(long, value_name = "VALUE")]
    pub(super) clip_value: Option<f32>,

    /// Keep a running average of the weights with this decay, such as 0.999; it is what is written
    #[arg(long, value_name = "DECAY")]
    pub(super) average: Option<f32>,

    /// Leave samples of this class out of the training; may be repeated
    #[arg(long, value_name = "CLASS")]
    pub(super) without_class: Vec<String>,

    /// The split to train on, or several: train+extra
    #[arg(long, default_value = "train", value_name = "SPLIT")]
    pub(super) split: String,

    /// The split to watch after each epoch; `none` for none [default: `validation`, if the data have it]
    #[arg(long, value_name = "SPLIT")]
    pub(super) validation: Option<String>,

    /// Stop after so many epochs without a lower validation loss, and write the best
    #[arg(long, value_name = "EPOCHS")]
    pub(super) patience: Option<usize>,

    /// Write the weights with the lowest validation loss, not the last ones
    #[arg(long)]
    pub(super) keep_best: bool,

    /// Decides first weights, order and dropout
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,

    /// Go on with a run that was stopped
    #[arg(long)]
    pub(super) resume: bool,

    /// Updates between two saves of what --resume goes on from [default: 15 seconds]
    #[arg(long, value_name = "UPDATES", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) save_every: Option<u64>,

    /// Replace an existing output, and forget a run that was stopped
    #[arg(long)]
    pub(super) force: bool,

    /// cpu, or cuda, cuda:1, metal where dlopt was built with that feature; candle runs candle on the CPU, for comparison
    #[arg(long, default_value = "cpu")]
    pub(super) device: String,

    /// Threads [default: all cores]; the result is the same at any number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) threads: Option<u16>,
}

impl TrainingArgs {
    /// What the flags mean for these data and a network of `outputs` outputs.
    pub(super) fn settings(&self, dataset: &Dataset, outputs: usize, nodes: &[Node], loss: Loss) -> Result<Settings> {
        let options = OptimizerOptions {
            momentum: self.momentum,
            nesterov: self.nesterov,
            beta1: self.beta1,
            beta2: self.beta2,
            rho: self.rho,
            epsilon: self.epsilon,
        };
        let optimizer = Optimizer::named(&self.optimizer, options)?;
        let validation = match self.validation.as_deref() {
            Some("none") => None,
            Some(name) => Some(name.to_owned()),
            None => dataset.info().splits.contains_key("validation").then(|| "validation".to_owned()),
        };
        let class_weights = match self.class_weights.as_deref() {
            None => Vec::new(),
            Some("balanced") => balanced_weights(dataset, &self.split)?,
            Some(text) => listed_weights(text, outputs)?,
        };
        let sampling = self.scheduled_sampling.as_deref().map_or(Ok(Sampling::default()), Sampling::parse)?;
        if sampling.share > 0.0 && !nodes.iter().any(|node| matches!(node.op, Op::Seq2seq(_))) {
            return Err(
                Error::usage("--scheduled-sampling: the network has no decoder").hint("--model seq2seq has one")
            );
        }
        Ok(Settings {
            epochs: self.epochs,
            batch: self.batch,
            accumulate: self.accumulate,
            optimizer,
            learning_rate: self.learning_rate.unwrap_or_else(|| optimizer.default_learning_rate()),
            weight_decay: self.weight_decay.unwrap_or_else(|| optimizer.default_weight_decay()),
            decays_all: self.decay_all,
            schedule: Schedule::parse(&self.schedule)?,
            warmup_steps: self.warmup,
            loss,
            label_smoothing: self.label_smoothing,
            class_weights,
            sampling,
            augment: self.recipe()?,
            augment_seed: self.augment_seed,
            augment_views: self.augment_views,
            clip_norm: self.clip_norm,
            clip_value: self.clip_value,
            average: self.average,
            patience: self.patience,
            keeps_best: self.keep_best,
            pruning: None,
            keeps_zeros: false,
            mask: None,
            fake_quantize: None,
            share_weights: None,
            freeze: self.freeze.clone(),
            training_split: self.split.clone(),
            without_classes: self.without_class.clone(),
            validation_split: validation,
            seed: self.seed,
            distillation: None,
        })
    }

    /// The recipe that samples are changed by.
    fn recipe(&self) -> Result<Option<serde_json::Value>> {
        if self.augment.is_none() && self.augment_op.is_empty() {
            return Ok(None);
        }
        Ok(Some(super::augment::recipe(self.augment.as_deref(), &self.augment_op)?.spec()))
    }

    /// The folder of the state; refuses to run over one that another run left, unless told what to do with it.
    pub(super) fn state_folder(&self, out: &Out) -> Result<Option<PathBuf>> {
        let path = match out {
            Out::File(path) | Out::Folder(path) => path,
            _ if self.resume => {
                return Err(Error::usage("--resume goes on with what -o OUT left").hint("name OUT with -o"));
            }
            _ => return Ok(None),
        };
        let folder = state_folder(path);
        if path.exists() && !self.force && !self.resume {
            return Err(Error::input(format!("{}: exists", path.display())).hint("--force replaces it"));
        }
        let was_stopped = std::fs::read_dir(&folder)
            .is_ok_and(|files| files.flatten().any(|file| !file.file_name().to_string_lossy().starts_with(LAST_GOOD)));
        if was_stopped && !self.resume {
            if !self.force {
                return Err(Error::input(format!("{}: a run was stopped here", folder.display()))
                    .hint("--resume goes on with it, --force begins again"));
            }
            remove(&folder)?;
        }
        if self.resume && !was_stopped {
            return Err(Error::input(format!("{}: no state to go on from", folder.display()))
                .hint("a run saves its state every 15 seconds; without one, begin again without --resume"));
        }
        Ok(Some(folder))
    }
}

/// What changes the samples of a training.
pub(super) fn augmenter(settings: &Settings, dataset: &Arc<Dataset>) -> Result<Option<Augmenter>> {
    let Some(spec) = &settings.augment else { return Ok(None) };
    let seed = settings.augment_seed.unwrap_or(settings.seed);
    // Where samples are mixed, partners come from the first split.
    let split = settings.training_split.split('+').next().unwrap_or_default().trim();
    Ok(Some(Augmenter::new(Recipe::of(spec)?, dataset, split, seed)?))
}

pub(super) fn threads(asked: Option<u16>) -> usize {
    asked.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from)
}

/// Removes the folder of a state if nothing is kept in it, so that nobody takes it for a run that was stopped.
pub(super) fn leave_no_empty(folder: &Path) {
    // A folder with files stays: that is what it is for.
    let _ = std::fs::remove_dir(folder);
}

pub(super) fn remove(folder: &Path) -> Result<()> {
    std::fs::remove_dir_all(folder).at(folder.display())
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
