//! The one seam on the loop: what pruning schedules, quantization-aware training, distillation and augmentation need.

use dlopt_checkpoint::Result;
use dlopt_data::Batch;
use dlopt_model::FlatLayout;

/// Where the loop stands when it calls an extension.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Whole epochs done.
    pub epoch: usize,
    /// Updates done.
    pub step: u64,
    /// Updates of the whole run.
    pub steps: u64,
    /// What randomness of this step is keyed by.
    pub key: u64,
    /// The step size of its update.
    pub learning_rate: f64,
}

impl Moment {
    /// How much of the training is done, 0..=1.
    pub fn progress(&self) -> f64 {
        self.step as f64 / self.steps.max(1) as f64
    }
}

/// What a batch became on its way through the network.
#[derive(Clone, Copy, Debug)]
pub struct Passed<'a> {
    /// `[samples, outputs]`, or `[samples * steps, outputs]`.
    pub outputs: &'a [f32],
    /// What the taps of the engine put out, in their order.
    pub taps: &'a [&'a [f32]],
    /// What gradients are multiplied by: the part of the update's mean that a sample is.
    pub scale: f32,
}

/// What an extra loss adds for a batch. Gradients are those of the sum, times the scale.
#[derive(Clone, Debug, Default)]
pub struct ExtraLoss {
    /// Its sum over the samples of the batch.
    pub sum: f64,
    /// With respect to the outputs, as many.
    pub gradient: Vec<f32>,
    /// With respect to what each tap put out; or empty.
    pub taps: Vec<Vec<f32>>,
}

/// Something that takes part in every step. Every method does nothing unless it is overridden.
///
/// Vectors of weights are in the order of the [`FlatLayout`]. An extension must be a pure function of what it is given
/// and of its saved state, so that a resumed run ends in the same bytes.
pub trait Extension: Send {
    /// Before the first step, and again after a resume.
    fn begin(&mut self, _layout: &FlatLayout, _weights: &mut [f32]) -> Result<()> {
        Ok(())
    }

    /// Changes a batch before it is used (augmentation, mixing, soft targets).
    fn batch(&mut self, _at: Moment, _batch: &mut Batch) -> Result<()> {
        Ok(())
    }

    /// The weights that the network runs with, if they differ from those that are trained (fake-quantized weights): it
    /// changes `used`, which holds a copy of `weights` or what an extension before it made of them, and returns true.
    /// Gradients are then those at `used`. The same weights are validated, of the average if there is one.
    fn weights(&mut self, _at: Moment, _weights: &[f32], _used: &mut [f32]) -> Result<bool> {
        Ok(false)
    }

    /// How much the main loss counts.
    fn main_weight(&self, _at: Moment) -> f64 {
        1.0
    }

    /// A loss beside the main one (a teacher's).
    fn loss(&mut self, _at: Moment, _batch: &Batch, _passed: &Passed<'_>) -> Result<Option<ExtraLoss>> {
        Ok(None)
    }

    /// Changes gradients before they are clipped and used (straight-through ranges, penalties, an all-reduce).
    fn gradients(&mut self, _at: Moment, _weights: &[f32], _gradients: &mut [f32]) -> Result<()> {
        Ok(())
    }

    /// After an update (masks on weights).
    fn updated(&mut self, _at: Moment, _weights: &mut [f32]) -> Result<()> {
        Ok(())
    }

    /// After an update, the running average of the weights, if there is one.
    fn averaged(&mut self, _at: Moment, _average: &mut [f32]) -> Result<()> {
        Ok(())
    }

    /// Whether the weights of now may be those that training comes to (a schedule is done).
    fn may_end(&self, _at: Moment) -> bool {
        true
    }

    /// What must be saved for a resume, as named vectors.
    fn save(&self) -> Vec<(String, Vec<f32>)> {
        Vec::new()
    }

    /// Takes back what [`Extension::save`] gave.
    fn restore(&mut self, _saved: &[(String, Vec<f32>)]) -> Result<()> {
        Ok(())
    }
}
