//! How weights follow gradients, in one pass over the flat vectors.
//!
//! With `g` the gradient, `r` the learning rate, `d` the weight decay:
//! - SGD: `g += d p; v = m v + g; p -= r v` (Nesterov: `p -= r (g + m v)`)
//! - Adam (Kingma and Ba, 2014, arXiv 1412.6980): `g += d p; m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
//!   p -= r (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + epsilon)`
//! - AdamW (Loshchilov and Hutter, 2017, arXiv 1711.05101): Adam without decay in `g`, and `p -= r d p` first
//! - RMSprop (Hinton, 2012): `g += d p; v = rho v + (1 - rho) g^2; p -= r g / (sqrt(v) + epsilon)`, with momentum
//!   `u = m u + g / (sqrt(v) + epsilon); p -= r u`
//!
//! These are PyTorch's forms; defaults are Keras's.

use std::ops::Range;

use dlopt_checkpoint::{Error, Result};
use dlopt_kernels::nn::{self, Team};
use serde::{Deserialize, Serialize};

/// The names of [`Optimizer::named`].
pub const OPTIMIZERS: [(&str, &str); 4] = [
    ("sgd", "gradient descent, with momentum and Nesterov's look ahead"),
    ("adam", "first and second moments, corrected for their start"),
    ("adamw", "Adam with weight decay apart from the gradient"),
    ("rmsprop", "gradients over their running root mean square"),
];

/// Values of a task.
const VALUES_PER_TASK: usize = 16384;

/// How weights follow gradients.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the options are those of the formulas above")]
pub enum Optimizer {
    Sgd { momentum: f32, nesterov: bool },
    Adam { beta1: f32, beta2: f32, epsilon: f32 },
    Adamw { beta1: f32, beta2: f32, epsilon: f32 },
    Rmsprop { rho: f32, epsilon: f32, momentum: f32 },
}

/// Options that not every optimiser has.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "the options are those of the formulas above")]
pub struct OptimizerOptions {
    pub momentum: Option<f32>,
    pub nesterov: bool,
    pub beta1: Option<f32>,
    pub beta2: Option<f32>,
    pub rho: Option<f32>,
    pub epsilon: Option<f32>,
}

impl Default for Optimizer {
    /// Adam, as Keras has it.
    fn default() -> Self {
        Self::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-7 }
    }
}

impl Optimizer {
    /// The optimiser of a name, with Keras's defaults for what is not given.
    ///
    /// # Errors
    /// When the name is unknown, or an option is given that it does not have.
    pub fn named(name: &str, with: OptimizerOptions) -> Result<Self> {
        let only = |given: &[(&str, bool)]| match given.iter().find(|(_, is_given)| *is_given) {
            Some((flag, _)) => Err(Error::usage(format!("{flag} does not go with the optimizer `{name}`"))),
            None => Ok(()),
        };
        let momentum = [("--momentum", with.momentum.is_some()), ("--nesterov", with.nesterov)];
        let betas = [("--beta1", with.beta1.is_some()), ("--beta2", with.beta2.is_some())];
        let (beta1, beta2) = (with.beta1.unwrap_or(0.9), with.beta2.unwrap_or(0.999));
        let epsilon = with.epsilon.unwrap_or(1e-7);
        match name {
            "sgd" => {
                only(&betas)?;
                only(&[("--rho", with.rho.is_some()), ("--epsilon", with.epsilon.is_some())])?;
                Ok(Self::Sgd { momentum: with.momentum.unwrap_or(0.0), nesterov: with.nesterov })
            }
            "adam" | "adamw" => {
                only(&momentum)?;
                only(&[("--rho", with.rho.is_some())])?;
                Ok(match name {
                    "adam" => Self::Adam { beta1, beta2, epsilon },
                    _ => Self::Adamw { beta1, beta2, epsilon },
                })
            }
            "rmsprop" => {
                only(&betas)?;
                only(&[("--nesterov", with.nesterov)])?;
                let (rho, momentum) = (with.rho.unwrap_or(0.9), with.momentum.unwrap_or(0.0));
                Ok(Self::Rmsprop { rho, epsilon, momentum })
            }
            _ => {
                let names: Vec<&str> = OPTIMIZERS.iter().map(|(name, _)| *name).collect();
                Err(Error::usage(format!("optimizer `{name}` is not known"))
                    .hint(format!("one of {}", names.join(", "))))
            }
        }
    }

    /// The learning rate that Keras gives it.
    pub fn default_learning_rate(&self) -> f64 {
        if matches!(self, Self::Sgd { .. }) { 0.01 } else { 0.001 }
    }

    /// The weight decay that Keras gives it.
    pub fn default_weight_decay(&self) -> f64 {
        if matches!(self, Self::Adamw { .. }) { 0.004 } else { 0.0 }
    }

    /// Refuses values out of their ranges.
    ///
    /// # Errors
    /// The first such value.
    pub fn check(&self) -> Result<()> {
        let share = |flag: &str, value: f32| {
            if (0.0..1.0).contains(&value) { Ok(()) } else { Err(Error::usage(format!("{flag} must be in 0..1"))) }
        };
        let positive = |value: f32| {
            let holds = value.is_finite() && value > 0.0;
            if holds { Ok(()) } else { Err(Error::usage("--epsilon must be more than 0")) }
        };
        match *self {
            Self::Sgd { momentum, nesterov } => {
                share("--momentum", momentum)?;
                if nesterov && momentum == 0.0 {
                    return Err(Error::usage("--nesterov needs --momentum"));
                }
                Ok(())
            }
            Self::Adam { beta1, beta2, epsilon } | Self::Adamw { beta1, beta2, epsilon } => {
                share("--beta1", beta1)?;
                share("--beta2", beta2)?;
                positive(epsilon)
            }
            Self::Rmsprop { rho, epsilon, momentum } => {
                share("--rho", rho)?;
                share("--momentum", momentum)?;
                positive(epsilon)
            }
        }
    }

    /// Vectors as long as the weights that it keeps.
    pub fn moments(&self) -> usize {
        match *self {
            Self::Sgd { momentum, .. } => usize::from(momentum > 0.0),
            Self::Adam { .. } | Self::Adamw { .. } => 2,
            Self::Rmsprop { momentum, .. } => 1 + usize::from(momentum > 0.0),
        }
    }
}

/// A range of the flat vectors that is trained, and whether weight decay takes part.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Where.
    pub range: Range<usize>,
    /// Whether it decays.
    pub decays: bool,
}

/// One update.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Counted from 1.
    pub number: u64,
    /// After the schedule.
    pub learning_rate: f64,
    /// Of the groups that decay.
    pub weight_decay: f64,
    /// What gradients are multiplied by first: clipping by their norm.
    pub gradient_scale: f32,
}

/// Changes the weights of `groups`; everything else stays.
///
/// # Panics
/// When the vectors are not equally long, or not as many as [`Optimizer::moments`] says.
pub fn update(
    optimizer: &Optimizer,
    team: &Team,
    groups: &[Group],
    step: Step,
    weights: &mut [f32],
    gradients: &[f32],
    moments: &mut [Vec<f32>],
) {
    assert_eq!(moments.len(), optimizer.moments(), "one vector for each moment");
    let mut tasks = Vec::new();
    let mut weights = Cut::new(weights);
    let mut moments: Vec<Cut<'_>> = moments.iter_mut().map(|m| Cut::new(m)).collect();
    for group in groups {
        for start in group.range.clone().step_by(VALUES_PER_TASK) {
            let range = start..(start + VALUES_PER_TASK).min(group.range.end);
            let own: Vec<&mut [f32]> = moments.iter_mut().map(|m| m.take(range.clone())).collect();
            tasks.push((weights.take(range.clone()), &gradients[range], own, group.decays));
        }
    }
    team.each(&mut tasks, |_, (p, g, moments, decays)| {
        let weight_decay = if *decays { step.weight_decay as f32 } else { 0.0 };
        let (rate, gradient_scale) = (step.learning_rate as f32, step.gradient_scale);
        match (*optimizer, moments.as_mut_slice()) {
            (Optimizer::Sgd { momentum, nesterov }, moments) => {
                let options = nn::Sgd { rate, momentum, nesterov, weight_decay, gradient_scale };
                nn::sgd(options, p, g, moments.first_mut().map(|m| &mut **m));
            }
            (Optimizer::Adam { beta1, beta2, epsilon } | Optimizer::Adamw { beta1, beta2, epsilon }, [m, v]) => {
                let decoupled = matches!(optimizer, Optimizer::Adamw { .. });
                let number = step.number;
                let options =
                    nn::Adam { rate, beta1, beta2, epsilon, weight_decay, decoupled, step: number, gradient_scale };
                nn::adam(options, p, g, m, v);
            }
            (Optimizer::Rmsprop { rho, epsilon, momentum }, [v, rest @ ..]) => {
                let options = nn::RmsProp { rate, alpha: rho, epsilon, weight_decay, momentum, gradient_scale };
                nn::rmsprop(options, p, g, v, rest.first_mut().map(|m| &mut **m));
            }
            _ => unreachable!("the number of moments was checked"),
        }
    });
}

/// Hands out disjoint pieces of a slice, front to back.
struct Cut<'a> {
    rest: &'a mut [f32],
    at: usize,
}

impl<'a> Cut<'a> {
    fn new(values: &'a mut [f32]) -> Self {
        Self { rest: values, at: 0 }
    }

    fn take(&mut self, range: Range<usize>) -> &'a mut [f32] {
        let rest = std::mem::take(&mut self.rest);
        let (piece, rest) = rest[range.start - self.at..].split_at_mut(range.len());
        (self.rest, self.at) = (rest, range.end);
        piece
    }
}
