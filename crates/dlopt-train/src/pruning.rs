//! Pruning while training: the smallest weights leave little by little, and what stays learns to do without them.
//!
//! With `s0` the share of zeros in the beginning, `s` the one that is asked for and `p` in 0..=1 how much of the schedule
//! is done, the share of zeros is
//! - cubic: `s + (s0 - s) * (1 - p)^3`: fast while much is superfluous, slow at the end (Zhu and Gupta, 2017,
//!   arXiv:1710.01878)
//! - linear: `s0 + (s - s0) * p`
//! - once: `s` as soon as the schedule begins
//!
//! Whenever weights are chosen, those that are gone are the smallest of all, so none comes back. Between two choices, and
//! after the last one, masks keep zeros as [`crate::Masks`] do.
//!
//! What leaves may be single weights, weights of each group of M, blocks, or whole channels ([`Leaving`]).

mod choice;
mod pattern;
mod places;

use std::ops::Range;

use dlopt_checkpoint::{Error, Result};
use dlopt_model::{FlatLayout, Node};
use serde::{Deserialize, Serialize};

use crate::extension::{Extension, Moment};
use crate::masks::Masks;
use choice::Chooser;

pub use pattern::Leaving;

/// Choices in an epoch, when nothing else is asked for.
const CHOICES_AN_EPOCH: u64 = 20;
/// Share of the epochs after which the schedule is done, when nothing else is asked for.
const DONE_AFTER: f64 = 0.75;

/// When how many weights leave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pruning {
    /// Share of zeros at the end, over 0 and below 1: of weights, or of channels where they leave. N:M implies it.
    #[serde(default)]
    pub sparsity: f64,
    /// What leaves as a whole.
    #[serde(default, skip_serializing_if = "Leaving::is_weights")]
    pub pattern: Leaving,
    /// How the share grows.
    #[serde(default)]
    pub curve: Curve,
    /// Over which weights the smallest are sought: all, unless it is said, and of channels those of each layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Among>,
    /// Epochs before the schedule begins.
    #[serde(default)]
    pub begin: f64,
    /// Epochs after which it is done; three quarters of all when it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<f64>,
    /// Updates from one choice of weights to the next; a twentieth of an epoch when it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
}

/// How the share of zeros grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Curve {
    /// Fast, then slowly.
    #[default]
    Cubic,
    /// Evenly.
    Linear,
    /// At one stroke.
    Once,
}

/// Over which weights the smallest are sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Among {
    /// All of the network.
    Global,
    /// Those of each tensor, which end as sparse as each other.
    Tensor,
}

impl Pruning {
    /// Reads terms in any order: the sparsity, `cubic`, `linear` or `once`, the epochs `1..8`, `every=100` updates,
    /// `global` or `tensor`, and what leaves: `2:4`, `4x1`, `channels`, `neurons`, `hidden`. `magnitude`, which is how weights
    /// are weighed, may be said.
    ///
    /// # Errors
    /// When a term is unknown, or as [`Pruning::settled`].
    pub fn parse(text: &str) -> Result<Self> {
        let mut own = Self {
            sparsity: 0.0,
            pattern: Leaving::Weights,
            curve: Curve::Cubic,
            scope: None,
            begin: 0.0,
            end: None,
            every: None,
        };
        let mut leaving: Vec<&str> = Vec::new();
        for term in text.split([' ', ',']).filter(|term| !term.is_empty()) {
            let unknown = || {
                Error::usage(format!("`{term}` is no part of a pruning schedule"))
                    .hint("for example 0.9 cubic 1..8 every=100 global; or the name of a TOML file")
            };
            match term {
                "magnitude" => {}
                "cubic" => own.curve = Curve::Cubic,
                "linear" => own.curve = Curve::Linear,
                "once" => own.curve = Curve::Once,
                "global" => own.scope = Some(Among::Global),
                "tensor" => own.scope = Some(Among::Tensor),
                _ => {
                    if let Some((begin, end)) = term.split_once("..") {
                        own.begin = begin.parse().map_err(|_| unknown())?;
                        own.end = Some(end.parse().map_err(|_| unknown())?);
                    } else if let Some(every) = term.strip_prefix("every=") {
                        own.every = Some(every.parse().map_err(|_| unknown())?);
                    } else if Leaving::parse(term)?.is_some() {
                        leaving.push(term);
                    } else {
                        own.sparsity = term.parse::<f64>().map_err(|_| unknown())?;
                    }
                }
            }
        }
        if !leaving.is_empty() {
            let text = leaving.join(",");
            own.pattern = Leaving::parse(&text)?
                .ok_or_else(|| Error::usage(format!("`{text}`: a schedule has one pattern")).hint("2:4, or 4x1"))?;
        }
        own.settled()
    }

    /// With the sparsity that its pattern implies.
    ///
    /// # Errors
    /// When there is none, or it is another one, or N:M is to compare weights of several groups.
    pub fn settled(mut self) -> Result<Self> {
        if let Some(share) = self.pattern.share() {
            if self.sparsity != 0.0 && self.sparsity != share {
                return Err(Error::usage(format!("{} is a sparsity of {share}, not {}", self.pattern, self.sparsity))
                    .hint("leave the sparsity out"));
            }
            if self.scope.is_some() {
                return Err(Error::usage(format!("{} compares the weights of each group", self.pattern))
                    .hint("leave global and tensor out"));
            }
            self.sparsity = share;
        }
        if self.sparsity == 0.0 {
            return Err(Error::usage("the pruning schedule does not say how sparse the network shall become")
                .hint("0.9 cubic 1..8"));
        }
        Ok(self)
    }

    fn scope(&self) -> Among {
        self.scope.unwrap_or(match self.pattern {
            Leaving::Channels(_) => Among::Tensor,
            _ => Among::Global,
        })
    }

    /// Refuses what cannot be done in so many epochs.
    ///
    /// # Errors
    /// When a value is out of its range, or the schedule ends before it begins or after training.
    pub fn check(&self, epochs: usize) -> Result<()> {
        let (begin, end, epochs) = (self.begin, self.end(epochs), epochs as f64);
        let refuse = |is_wrong: bool, text: String| if is_wrong { Err(Error::usage(text)) } else { Ok(()) };
        let sparsity = self.sparsity;
        refuse(!(sparsity > 0.0 && sparsity < 1.0), format!("a sparsity lies between 0 and 1, found {sparsity}"))?;
        refuse(!(begin >= 0.0 && end.is_finite()), format!("epochs are numbers from 0 on, found {begin}..{end}"))?;
        refuse(end < begin, format!("the pruning schedule ends before it begins: epochs {begin}..{end}"))?;
        refuse(end > epochs, format!("the pruning schedule ends after epoch {end}, and training after {epochs}"))?;
        refuse(self.every == Some(0), "weights are chosen every 1 or more updates, found 0".to_owned())
    }

    fn end(&self, epochs: usize) -> f64 {
        self.end.unwrap_or_else(|| (DONE_AFTER * epochs as f64).max(self.begin))
    }

    /// The share of zeros that a choice after `step` updates makes, if there is one then.
    fn sparsity_after(&self, step: u64, span: Span, first: f64) -> Option<f64> {
        let Span { begin, end, every } = span;
        let is_due = step == end || (begin..end).contains(&step) && (step - begin).is_multiple_of(every);
        if !is_due {
            return None;
        }
        let done = if end > begin { (step - begin) as f64 / (end - begin) as f64 } else { 1.0 };
        let last = self.sparsity.max(first);
        Some(match self.curve {
            Curve::Cubic => last + (first - last) * (1.0 - done).powi(3),
            Curve::Linear => first + (last - first) * done,
            Curve::Once => last,
        })
    }
}

/// A schedule in updates.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    begin: u64,
    end: u64,
    every: u64,
}

/// Takes part in a training and prunes by a [`Pruning`].
#[derive(Clone)]
pub struct GradualPruning {
    pruning: Pruning,
    epochs: usize,
    layout: FlatLayout,
    chooser: Chooser,
    masks: Masks,
    /// Share of zeros in the beginning.
    first: f64,
}

impl GradualPruning {
    /// Prunes what training begins with, in the layout's order, over so many epochs; `frozen` slots stay as they are.
    ///
    /// # Errors
    /// As [`Pruning::check`], and when channels are to leave and the network has none that can.
    pub fn new(
        pruning: &Pruning,
        epochs: usize,
        nodes: &[Node],
        layout: &FlatLayout,
        frozen: &[Range<usize>],
        first: &[f32],
    ) -> Result<Self> {
        pruning.check(epochs)?;
        let chooser = Chooser::new(pruning, nodes, layout, frozen)?;
        Ok(Self {
            pruning: pruning.clone(),
            epochs,
            layout: layout.clone(),
            first: chooser.zeros(layout, first),
            chooser,
            masks: Masks::of(layout, first),
        })
    }

    fn span(&self, at: Moment) -> Span {
        let per_epoch = at.steps / self.epochs.max(1) as u64;
        let updates = |epochs: f64| (epochs * per_epoch as f64).round() as u64;
        // The last update at the latest: nothing happens after it. A choice follows an update.
        let end = updates(self.pruning.end(self.epochs)).clamp(1, at.steps.max(1));
        let begin = updates(self.pruning.begin).clamp(1, end);
        Span { begin, end, every: self.pruning.every.unwrap_or(per_epoch / CHOICES_AN_EPOCH).max(1) }
    }

    /// Sets the weights to 0 that the network does without, and what lies behind them.
    fn choose(&mut self, sparsity: f64, weights: &mut [f32]) -> Result<()> {
        let beside = self.chooser.choose(sparsity, &self.layout, weights)?;
        self.masks = Masks::of(&self.layout, weights);
        self.masks.add(&beside);
        Ok(())
    }
}

impl Extension for GradualPruning {
    fn gradients(&mut self, at: Moment, weights: &[f32], gradients: &mut [f32]) -> Result<()> {
        self.masks.gradients(at, weights, gradients)
    }

    fn updated(&mut self, at: Moment, weights: &mut [f32]) -> Result<()> {
        self.masks.updated(at, weights)?;
        let span = self.span(at);
        if let Some(sparsity) = self.pruning.sparsity_after(at.step + 1, span, self.first) {
            self.choose(sparsity, weights)?;
        }
        Ok(())
    }

    fn averaged(&mut self, at: Moment, average: &mut [f32]) -> Result<()> {
        self.masks.updated(at, average)
    }

    fn may_end(&self, at: Moment) -> bool {
        at.step >= self.span(at).end
    }

    fn save(&self) -> Vec<(String, Vec<f32>)> {
        vec![("keeps".to_owned(), self.masks.to_floats())]
    }

    fn restore(&mut self, saved: &[(String, Vec<f32>)]) -> Result<()> {
        for (name, keeps) in saved {
            if name == "keeps" && keeps.len() == self.layout.params_len {
                self.masks = Masks::of_floats(&self.layout, keeps);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
