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

use std::ops::Range;

use dlopt_checkpoint::{Error, Result};
use dlopt_model::FlatLayout;
use serde::{Deserialize, Serialize};

use crate::extension::{Extension, Moment};
use crate::masks::{Masks, ranges_of_weights};

/// Choices in an epoch, when nothing else is asked for.
const CHOICES_AN_EPOCH: u64 = 20;
/// Share of the epochs after which the schedule is done, when nothing else is asked for.
const DONE_AFTER: f64 = 0.75;

/// When how many weights leave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pruning {
    /// Share of zeros at the end, over 0 and below 1.
    pub sparsity: f64,
    /// How the share grows.
    #[serde(default)]
    pub curve: Curve,
    /// Over which weights the smallest are sought.
    #[serde(default)]
    pub scope: Among,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Among {
    /// All of the network.
    #[default]
    Global,
    /// Those of each tensor, which end as sparse as each other.
    Tensor,
}

impl Pruning {
    /// Reads terms in any order: the sparsity, `cubic`, `linear` or `once`, the epochs `1..8`, `every=100` updates,
    /// `global` or `tensor`. `magnitude`, which is how weights are weighed, may be said.
    ///
    /// # Errors
    /// When a term is unknown or the sparsity is missing.
    pub fn parse(text: &str) -> Result<Self> {
        let mut sparsity = None;
        let mut own =
            Self { sparsity: 0.0, curve: Curve::Cubic, scope: Among::Global, begin: 0.0, end: None, every: None };
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
                "global" => own.scope = Among::Global,
                "tensor" => own.scope = Among::Tensor,
                _ => {
                    if let Some((begin, end)) = term.split_once("..") {
                        own.begin = begin.parse().map_err(|_| unknown())?;
                        own.end = Some(end.parse().map_err(|_| unknown())?);
                    } else if let Some(every) = term.strip_prefix("every=") {
                        own.every = Some(every.parse().map_err(|_| unknown())?);
                    } else {
                        sparsity = Some(term.parse::<f64>().map_err(|_| unknown())?);
                    }
                }
            }
        }
        own.sparsity = sparsity.ok_or_else(|| {
            Error::usage(format!("`{text}` does not say how sparse the network shall become")).hint("0.9 cubic 1..8")
        })?;
        Ok(own)
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
#[derive(Clone, Debug)]
pub struct GradualPruning {
    pruning: Pruning,
    epochs: usize,
    layout: FlatLayout,
    /// Where weights lie that may leave.
    ranges: Vec<Range<usize>>,
    masks: Masks,
    /// Share of zeros in the beginning.
    first: f64,
}

impl GradualPruning {
    /// Prunes what training begins with, in the layout's order, over so many epochs; `frozen` slots stay as they are.
    ///
    /// # Errors
    /// As [`Pruning::check`].
    pub fn new(
        pruning: &Pruning,
        epochs: usize,
        layout: &FlatLayout,
        frozen: &[Range<usize>],
        first: &[f32],
    ) -> Result<Self> {
        pruning.check(epochs)?;
        let is_frozen = |range: &Range<usize>| frozen.iter().any(|own| own.start < range.end && range.start < own.end);
        let ranges: Vec<_> = ranges_of_weights(layout).into_iter().filter(|range| !is_frozen(range)).collect();
        let zeros = ranges.iter().flat_map(|range| &first[range.clone()]).filter(|weight| **weight == 0.0).count();
        let weights: usize = ranges.iter().map(Range::len).sum();
        Ok(Self {
            pruning: pruning.clone(),
            epochs,
            layout: layout.clone(),
            ranges,
            masks: Masks::of(layout, first),
            first: zeros as f64 / weights.max(1) as f64,
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
    fn choose(&mut self, sparsity: f64, weights: &mut [f32]) {
        match self.pruning.scope {
            Among::Global => zero_smallest(weights, self.ranges.iter().cloned().flatten().collect(), sparsity),
            Among::Tensor => {
                self.ranges.iter().for_each(|range| zero_smallest(weights, range.clone().collect(), sparsity));
            }
        }
        self.masks = Masks::of(&self.layout, weights);
    }
}

/// Sets the share `sparsity` of the weights at `places` to 0, the smallest first, of equals the first.
fn zero_smallest(weights: &mut [f32], mut places: Vec<usize>, sparsity: f64) {
    let count = ((sparsity * places.len() as f64).round() as usize).min(places.len());
    if count == 0 {
        return;
    }
    // Magnitudes are ordered as their bits are, NaN above all.
    places.select_nth_unstable_by_key(count - 1, |&place| (weights[place].abs().to_bits(), place));
    places[..count].iter().for_each(|&place| weights[place] = 0.0);
}

impl Extension for GradualPruning {
    fn gradients(&mut self, at: Moment, weights: &[f32], gradients: &mut [f32]) -> Result<()> {
        self.masks.gradients(at, weights, gradients)
    }

    fn updated(&mut self, at: Moment, weights: &mut [f32]) -> Result<()> {
        self.masks.updated(at, weights)?;
        let span = self.span(at);
        if let Some(sparsity) = self.pruning.sparsity_after(at.step + 1, span, self.first) {
            self.choose(sparsity, weights);
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
                self.masks = Masks::of(&self.layout, keeps);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use dlopt_model::{Description, Shape, resolve};

    use super::*;

    fn pruning(text: &str) -> Pruning {
        Pruning::parse(text).unwrap()
    }

    fn layout() -> FlatLayout {
        let text = "layers = [{ type = \"dense\", units = 4 }, { type = \"dense\", units = \"classes\" }]";
        let description = Description::from_toml(text).unwrap();
        FlatLayout::of(&resolve(&description, &Shape::Vector { features: 5 }, 2).unwrap())
    }

    fn at(step: u64) -> Moment {
        Moment { epoch: 0, step, steps: 40, key: 0, learning_rate: 0.0 }
    }

    #[test]
    fn terms_are_read_in_any_order_and_others_are_named() {
        let read = pruning("magnitude 0.9 cubic 1..8");
        assert_eq!((read.sparsity, read.curve, read.begin, read.end), (0.9, Curve::Cubic, 1.0, Some(8.0)));
        let read = pruning("every=50,tensor,once,0.5");
        assert_eq!((read.every, read.scope, read.curve), (Some(50), Among::Tensor, Curve::Once));
        for text in ["cubic", "0.9 sooner", "0.9 1..x", "0.9 every=-1"] {
            assert!(Pruning::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_schedule_lies_within_the_training() {
        for (text, part) in [
            ("0.9 5..2", "ends before it begins"),
            ("0.9 0..11", "after epoch 11"),
            ("1.5", "between 0 and 1"),
            ("0", "between 0 and 1"),
            ("0.9 every=0", "1 or more updates"),
            ("0.9 -1..3", "from 0 on"),
        ] {
            let error = pruning(text).check(10).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        pruning("0.9 0..10").check(10).unwrap();
        pruning("0.9 9..9").check(10).unwrap();
    }

    #[test]
    fn the_share_of_zeros_grows_along_its_curve() {
        let span = Span { begin: 10, end: 30, every: 5 };
        let shares = |text: &str| -> Vec<Option<f64>> {
            [9, 10, 12, 20, 30, 35].map(|step| pruning(text).sparsity_after(step, span, 0.1)).to_vec()
        };
        assert_eq!(shares("0.9 linear"), [None, Some(0.1), None, Some(0.5), Some(0.9), None]);
        assert_eq!(shares("0.9 once"), [None, Some(0.9), None, Some(0.9), Some(0.9), None]);
        let cubic = shares("0.9 cubic");
        assert!((cubic[3].unwrap() - (0.9 - 0.8 * 0.125)).abs() < 1e-12 && cubic[4] == Some(0.9));
    }

    #[test]
    fn weights_that_left_never_come_back() {
        let layout = layout();
        let first: Vec<f32> = (0..layout.params_len).map(|i| (i as f32 * 0.37).sin() + 0.01).collect();
        let mut own = GradualPruning::new(&pruning("0.75 0..8 every=1"), 10, &layout, &[], &first).unwrap();
        let (mut weights, mut gone) = (first, 0);
        let mut saved = own.clone();
        for step in 0..40 {
            weights.iter_mut().enumerate().for_each(|(i, w)| *w += (i as f32 + step as f32).cos() * 0.1);
            own.updated(at(step), &mut weights).unwrap();
            let zeros = Masks::of(&layout, &weights).zeros();
            assert!(zeros >= gone && zeros == own.masks.zeros(), "update {step}");
            gone = zeros;
            if step == 20 {
                saved.restore(&own.save()).unwrap();
                assert_eq!(saved.masks.to_floats(), own.masks.to_floats());
            }
        }
        assert_eq!(gone, 21, "three quarters of 28 weights");
        assert!(!own.may_end(at(31)) && own.may_end(at(32)));
    }

    #[test]
    fn tensors_are_pruned_alike_or_together() {
        let layout = layout();
        let weights: Vec<f32> = (0..layout.params_len).map(|i| if i < 24 { 1.0 } else { 0.1 }).collect();
        let zeros = |scope: &str| {
            let mut own = GradualPruning::new(&pruning(&format!("0.25 once {scope} 0..0")), 10, &layout, &[], &weights);
            let mut left = weights.clone();
            own.as_mut().unwrap().updated(at(0), &mut left).unwrap();
            ranges_of_weights(&layout).into_iter().map(|r| left[r].iter().filter(|w| **w == 0.0).count()).collect()
        };
        let (global, tensor): (Vec<usize>, Vec<usize>) = (zeros("global"), zeros("tensor"));
        assert_eq!((global, tensor), (vec![0, 7], vec![5, 2]));
    }
}
