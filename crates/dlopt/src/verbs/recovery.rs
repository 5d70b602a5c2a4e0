//! Training on from a compressed checkpoint: flags that say what stays of its compression, and what follows from them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use dlopt_checkpoint::{Context, Error, Pass, PassReport, Result};
use dlopt_kernels::nn::Team;
use dlopt_model::load_weights;
use dlopt_prune::is_pruned;
use dlopt_quantize::{Quantize, is_quantized};
use dlopt_train::{Extension, FakeQuantize, GradualPruning, Masks, Model, Pruning, Settings, Sharing, frozen_slots};

use super::codes::CodesArgs;
use crate::job;
use crate::messages;
use crate::tables;

/// What stays of a compression while training goes on.
#[derive(Args, Debug, Default, Clone)]
pub(crate) struct RecoveryArgs {
    /// Set the smallest weights to 0 little by little while training: the sparsity of the end, then if need be `cubic`, `linear` or
    /// `once`, the epochs it takes (1..8), `every=100` updates, `global` or `tensor`, and what leaves as a whole (2:4 along the
    /// inputs, blocks of 4x1 weights, `channels`, `neurons`, `hidden`); or a TOML file of these
    #[arg(long, value_name = "SCHEDULE|FILE.toml", conflicts_with = "zeros")]
    prune: Option<String>,

    /// Whether weights that are 0 in the beginning stay 0 [default: keep where the checkpoint was pruned, else free]
    #[arg(long, value_enum)]
    zeros: Option<Zeros>,

    /// Set the weights to 0, and keep them there, that are 0 in this checkpoint of the same network: with the weights of an
    /// early epoch a lottery ticket
    #[arg(long, value_name = "CHECKPOINT", conflicts_with_all = ["prune", "zeros"])]
    zeros_of: Option<PathBuf>,

    /// Train with weights as `dlopt quantize` stores them by this scheme, w4a16 or w8a8:channel or another, and store
    /// them so
    #[arg(long, value_name = "SCHEME")]
    fake_quantize: Option<String>,

    /// Share values among weights by this scheme, codebook5 or codebook4:channel or another, train the values and store
    /// codebooks; which weight has which value stays, and zeros stay 0
    #[arg(long, value_name = "SCHEME", conflicts_with_all = ["prune", "zeros", "fake_quantize"])]
    share_weights: Option<String>,

    #[command(flatten)]
    codes: CodesArgs,
}

/// What becomes of weights that are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Zeros {
    /// They stay 0: the checkpoint stays as sparse as it is
    Keep,
    /// They are trained like the others
    Free,
}

/// What a training does beside training.
pub(super) struct Recovery {
    pruning: Option<Pruning>,
    masks: Option<Masks>,
    /// What they are, where another network says it.
    mask: Option<String>,
    quantize: Option<Quantize>,
    /// Whether the values of its codebooks are what is trained.
    shares: bool,
    /// What people should know of the quantization.
    warnings: Vec<String>,
    /// The weights were quantized, and will be dense.
    becomes_dense: bool,
}

impl RecoveryArgs {
    /// What the flags mean for the network that training begins with.
    pub(super) fn recovery(&self, model: &Model) -> Result<Recovery> {
        let quantize = match self.fake_quantize.as_ref().or(self.share_weights.as_ref()) {
            Some(scheme) => Some(self.codes.quantize(scheme, None, None)?),
            None => None,
        };
        if let (None, Some(flag)) = (&quantize, self.codes.given()) {
            return Err(Error::usage(format!("{flag} says how weights are quantized, and they are not"))
                .hint("--fake-quantize SCHEME or --share-weights SCHEME trains with quantized weights; `dlopt quantize` needs no training"));
        }
        let pruning = self.prune.as_deref().map(schedule).transpose()?;
        let masks = match self.zeros {
            // Pruning and sharing keep what was 0 as well.
            _ if pruning.is_some() || self.share_weights.is_some() => None,
            _ if self.zeros_of.is_some() => self.zeros_of.as_deref().map(|path| zeros_of(path, model)).transpose()?,
            Some(Zeros::Free) => None,
            Some(Zeros::Keep) => Some(Masks::of(&model.layout, &model.weights)),
            None if is_pruned(model.source())? => Some(Masks::of(&model.layout, &model.weights)),
            None => None,
        };
        let warnings = match &quantize {
            Some(quantize) => quantize.plan(&model.header())?.warnings,
            None => Vec::new(),
        };
        let becomes_dense = quantize.is_none() && is_quantized(model.source())?;
        let masks = masks.filter(|masks| masks.zeros() > 0);
        let mask = masks.as_ref().filter(|_| self.zeros_of.is_some()).map(Masks::digest);
        let shares = self.share_weights.is_some();
        Ok(Recovery { pruning, masks, mask, quantize, shares, warnings, becomes_dense })
    }
}

impl Recovery {
    /// Writes down what decides the bytes of the result.
    pub(super) fn settle(&self, settings: &mut Settings) {
        settings.pruning.clone_from(&self.pruning);
        settings.mask.clone_from(&self.mask);
        settings.keeps_zeros = self.masks.is_some();
        let options = self.quantize.as_ref().map(Pass::options);
        *if self.shares { &mut settings.share_weights } else { &mut settings.fake_quantize } = options;
    }

    /// Who takes part in every step.
    pub(super) fn extensions(
        &self,
        model: &Model,
        settings: &Settings,
        team: &Arc<Team>,
    ) -> Result<Vec<Box<dyn Extension>>> {
        let mut extensions: Vec<Box<dyn Extension>> = Vec::new();
        if let Some(pruning) = &self.pruning {
            let frozen = frozen_slots(&model.layout, &settings.freeze)?;
            let (layout, epochs) = (&model.layout, settings.epochs);
            extensions.push(Box::new(GradualPruning::new(
                pruning,
                epochs,
                &model.nodes,
                layout,
                &frozen,
                &model.weights,
            )?));
        }
        if let Some(masks) = &self.masks {
            extensions.push(Box::new(masks.clone()));
        }
        if let (Some(quantize), true) = (&self.quantize, self.shares) {
            let (layout, weights) = (&model.layout, &model.weights);
            extensions.push(Box::new(Sharing::new(quantize, &model.header(), layout, Arc::clone(team), weights)?));
        } else if let Some(fake) = self.fake(model, team)? {
            extensions.push(Box::new(fake));
        }
        Ok(extensions)
    }

    /// Trained weights as a reader of the checkpoint gets them.
    pub(super) fn stored(&self, model: &Model, team: &Arc<Team>, weights: &[f32]) -> Result<Vec<f32>> {
        let mut stored = weights.to_vec();
        if let Some(mut fake) = self.fake(model, team)? {
            fake.apply(&mut stored);
        }
        Ok(stored)
    }

    fn fake(&self, model: &Model, team: &Arc<Team>) -> Result<Option<FakeQuantize>> {
        let Some(quantize) = &self.quantize else { return Ok(None) };
        FakeQuantize::new(quantize, &model.header(), &model.layout, Arc::clone(team)).map(Some)
    }

    /// The passes that a trained checkpoint goes through before it is written.
    pub(super) fn passes(&self) -> Vec<&dyn Pass> {
        self.quantize.iter().map(|quantize| quantize as &dyn Pass).collect()
    }

    /// Share of the weights that are 0 in the end, 0..=1, where masks decide it.
    pub(super) fn sparsity(&self, model: &Model, trained: &[f32]) -> Option<f64> {
        match (&self.pruning, &self.masks) {
            _ if self.shares => Some(Masks::of(&model.layout, trained).sparsity()),
            (Some(_), _) => Some(Masks::of(&model.layout, trained).sparsity()),
            (None, masks) => masks.as_ref().map(Masks::sparsity),
        }
    }

    /// Says before training what stays and what does not.
    pub(super) fn tell(&self) {
        if let Some(pruning) = &self.pruning {
            messages::tell(&format!(
                "{} leave while training, {:.1}% of them in the end\n",
                pruning.pattern.what(),
                100.0 * pruning.sparsity
            ));
        }
        if let Some(masks) = &self.masks {
            let (zeros, percent) = (tables::grouped(masks.zeros() as u64), 100.0 * masks.sparsity());
            messages::tell(&format!("{zeros} zeros stay, {percent:.1}% of the weights; --zeros free trains them\n"));
        }
        if let Some(quantize) = &self.quantize {
            let how =
                if self.shares { "values are shared and trained" } else { "quantized in training and in the output" };
            messages::tell(&format!("{how}: {}\n", quantize.scheme.label()));
            self.warnings.iter().for_each(|warning| messages::warning(warning));
        }
        if self.becomes_dense {
            messages::tell(
                "the checkpoint is quantized, and the output will be dense; --fake-quantize SCHEME keeps it quantized, \
                 --share-weights SCHEME its codebooks\n",
            );
        }
    }
}

/// The zeros of another checkpoint of the network.
fn zeros_of(path: &Path, model: &Model) -> Result<Masks> {
    let checkpoint = job::open_whole(path)?;
    let (weights, _) = load_weights(&checkpoint, &model.layout).map_err(|e| e.within(&checkpoint.name))?;
    let masks = Masks::of(&model.layout, &weights);
    if masks.zeros() == 0 {
        return Err(
            Error::input(format!("{}: none of its weights is 0", path.display())).hint("`dlopt prune` it first")
        );
    }
    Ok(masks)
}

/// A schedule as terms, or in a file.
fn schedule(text: &str) -> Result<Pruning> {
    if !text.ends_with(".toml") {
        return Pruning::parse(text);
    }
    let said = std::fs::read_to_string(text).at(text)?;
    let read: Pruning = toml::from_str(&said).map_err(|error| {
        Error::input(format!("{text}: {error}")).hint("keys are sparsity, pattern, curve, scope, begin, end, every")
    })?;
    read.settled().map_err(|error| error.within(text))
}

/// Says what the passes did to a trained checkpoint.
pub(super) fn tell_passes(passes: &[PassReport]) {
    for pass in passes {
        let (before, after) = (tables::grouped(pass.bytes_before), tables::grouped(pass.bytes_after));
        messages::tell(&format!("{}: {before} -> {after} bytes\n", pass.verb));
    }
}
