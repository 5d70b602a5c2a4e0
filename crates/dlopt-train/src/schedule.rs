//! Learning rates over time.
//!
//! All but `plateau` are functions of the step alone, so a resumed run needs no state for them. With `t` the step since
//! the warm-up, `T` the steps after it and `r` the learning rate asked for:
//! - constant: `r`
//! - step: `r * gamma^(epoch / every)`, whole epochs (PyTorch's `StepLR`)
//! - cosine: `m + (r - m) * (1 + cos(pi * t / T)) / 2` with `m = r * floor` (Loshchilov and Hutter, 2016,
//!   arXiv 1608.03983)
//! - linear: `r * (1 + (floor - 1) * t / T)`
//! - one-cycle: from `r / 25` up to `r` over 30 % of the steps and down to `r / 250,000`, both along half a cosine
//!   (Smith and Topin, 2017, arXiv 1708.07120; PyTorch's `OneCycleLR` without its cycle of the momentum)
//! - plateau: times `factor` whenever `patience` epochs in a row did not lower the watched loss (PyTorch's
//!   `ReduceLROnPlateau` with a relative threshold of 1e-4)

use dlopt_checkpoint::{Error, Result};
use serde::{Deserialize, Serialize};

/// The names that [`Schedule::parse`] knows, with their options.
pub const SCHEDULES: [(&str, &str); 6] = [
    ("constant", "the learning rate as it is"),
    ("step=EVERY,GAMMA", "times GAMMA every EVERY epochs"),
    ("cosine[=FLOOR]", "half a cosine down to FLOOR times the learning rate [default: 0]"),
    ("linear[=FLOOR]", "a line down to FLOOR times the learning rate [default: 0]"),
    ("one-cycle", "up from 1/25 over 30 % of the steps, then down to 1/250,000"),
    ("plateau[=FACTOR,PATIENCE]", "times FACTOR after PATIENCE epochs without a lower loss [default: 0.1,5]"),
];

/// How the learning rate changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Schedule {
    /// It does not.
    #[default]
    Constant,
    /// In steps.
    Step {
        /// Epochs between two steps.
        every: usize,
        /// Factor of each step.
        gamma: f64,
    },
    /// Down along half a cosine.
    Cosine {
        /// Share of the learning rate at the end.
        floor: f64,
    },
    /// Down along a line.
    Linear {
        /// Share of the learning rate at the end.
        floor: f64,
    },
    /// Up and down once.
    OneCycle,
    /// Down when the loss stands still.
    Plateau {
        /// Factor of each step.
        factor: f64,
        /// Epochs without a lower loss before a step.
        patience: usize,
    },
}

/// Where in its run a training stands.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    /// Updates done before this one.
    pub step: u64,
    /// Updates of the whole run.
    pub steps: u64,
    /// Updates of the warm-up, at the beginning.
    pub warmup: u64,
    /// Whole epochs done.
    pub epoch: usize,
}

impl Schedule {
    /// Reads `NAME` or `NAME=VALUE,…`.
    ///
    /// # Errors
    /// When the name is unknown or a value is out of its range.
    pub fn parse(text: &str) -> Result<Self> {
        let (name, values) = text.split_once('=').unwrap_or((text, ""));
        let values: Vec<f64> = values
            .split(',')
            .filter(|v| !v.is_empty())
            .map(|v| v.trim().parse::<f64>().ok().filter(|v| v.is_finite() && *v >= 0.0))
            .collect::<Option<_>>()
            .ok_or_else(|| Error::usage(format!("schedule `{text}`: the values must be numbers, 0 or more")))?;
        let known = match (name, values.as_slice()) {
            ("constant", []) => Some(Self::Constant),
            ("step", &[every, gamma]) if every >= 1.0 => Some(Self::Step { every: every as usize, gamma }),
            ("cosine", []) => Some(Self::Cosine { floor: 0.0 }),
            ("cosine", &[floor]) if floor <= 1.0 => Some(Self::Cosine { floor }),
            ("linear", []) => Some(Self::Linear { floor: 0.0 }),
            ("linear", &[floor]) if floor <= 1.0 => Some(Self::Linear { floor }),
            ("one-cycle", []) => Some(Self::OneCycle),
            ("plateau", []) => Some(Self::Plateau { factor: 0.1, patience: 5 }),
            ("plateau", &[factor, patience]) if factor < 1.0 => {
                Some(Self::Plateau { factor, patience: patience as usize })
            }
            _ => None,
        };
        known.ok_or_else(|| {
            let names: Vec<&str> = SCHEDULES.iter().map(|(name, _)| *name).collect();
            Error::usage(format!("schedule `{text}` is not known or its values are out of range"))
                .hint(format!("one of {}", names.join(", ")))
        })
    }

    /// The factor that the learning rate has at a step; `plateau` is the factor reached so far.
    pub fn factor(&self, at: Position, plateau: f64) -> f64 {
        if at.step < at.warmup {
            return (at.step + 1) as f64 / at.warmup as f64;
        }
        let t = (at.step - at.warmup) as f64;
        let total = at.steps.saturating_sub(at.warmup).max(1) as f64;
        match *self {
            Self::Constant => 1.0,
            Self::Step { every, gamma } => gamma.powi((at.epoch / every.max(1)) as i32),
            Self::Cosine { floor } => floor + (1.0 - floor) * (1.0 + (std::f64::consts::PI * t / total).cos()) / 2.0,
            Self::Linear { floor } => 1.0 + (floor - 1.0) * t / total,
            Self::OneCycle => {
                let (top, end) = (0.3 * total - 1.0, total - 1.0);
                let (low, last) = (1.0 / 25.0, 1.0 / 250_000.0);
                if t <= top {
                    half_cosine(low, 1.0, t / top.max(1.0))
                } else {
                    half_cosine(1.0, last, (t - top) / (end - top).max(1.0))
                }
            }
            Self::Plateau { .. } => plateau,
        }
    }
}

/// From `start` to `end` as `share` goes from 0 to 1.
fn half_cosine(start: f64, end: f64, share: f64) -> f64 {
    end + (start - end) / 2.0 * (1.0 + (std::f64::consts::PI * share).cos())
}

/// What `plateau` remembers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlateauState {
    /// The lowest loss so far; infinite at first, which JSON cannot say.
    pub best: Option<f64>,
    /// Epochs in a row that did not lower it.
    pub waited: usize,
    /// The factor reached.
    pub factor: f64,
}

impl Default for PlateauState {
    fn default() -> Self {
        Self { best: None, waited: 0, factor: 1.0 }
    }
}

impl PlateauState {
    /// Takes in the loss of an epoch.
    pub fn observe(&mut self, schedule: &Schedule, loss: f64) {
        let Schedule::Plateau { factor, patience } = *schedule else { return };
        if self.best.is_none_or(|best| loss < best * (1.0 - 1e-4)) {
            (self.best, self.waited) = (Some(loss), 0);
            return;
        }
        self.waited += 1;
        if self.waited > patience {
            self.factor *= factor;
            self.waited = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(step: u64) -> Position {
        Position { step, steps: 10, warmup: 0, epoch: step as usize }
    }

    #[test]
    fn a_cosine_goes_down_to_its_floor() {
        let schedule = Schedule::parse("cosine=0.1").unwrap();
        assert_eq!(schedule.factor(at(0), 1.0), 1.0);
        assert!((schedule.factor(at(5), 1.0) - 0.55).abs() < 1e-12);
        assert!((schedule.factor(at(10), 1.0) - 0.1).abs() < 1e-12);
    }

    #[test]
    fn a_step_waits_whole_epochs() {
        let schedule = Schedule::parse("step=3,0.5").unwrap();
        let factors: Vec<f64> = (0..7).map(|s| schedule.factor(at(s), 1.0)).collect();
        assert_eq!(factors, [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25]);
    }

    #[test]
    fn a_warm_up_rises_in_equal_steps() {
        let position = |step| Position { step, steps: 12, warmup: 4, epoch: 0 };
        let factors: Vec<f64> = (0..5).map(|s| Schedule::Constant.factor(position(s), 1.0)).collect();
        assert_eq!(factors, [0.25, 0.5, 0.75, 1.0, 1.0]);
    }

    #[test]
    fn a_plateau_lowers_the_rate_after_its_patience() {
        let schedule = Schedule::parse("plateau=0.5,1").unwrap();
        let mut state = PlateauState::default();
        for (loss, factor) in [(1.0, 1.0), (0.9, 1.0), (0.9, 1.0), (0.95, 0.5), (0.9, 0.5), (0.89, 0.5)] {
            state.observe(&schedule, loss);
            assert_eq!(state.factor, factor, "{loss}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_names_there_are() {
        for text in ["cosin", "step=3", "step=0,1", "cosine=2", "plateau=1.5,3", "linear=x", "constant=1"] {
            let error = Schedule::parse(text).unwrap_err();
            assert!(error.message().contains(text), "{error}");
        }
    }
}
