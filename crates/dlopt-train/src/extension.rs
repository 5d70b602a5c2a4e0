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
}

/// What an extra loss adds for a batch.
#[derive(Clone, Debug)]
pub struct ExtraLoss {
    /// Its sum over the samples of the batch.
    pub sum: f64,
    /// Its gradient with respect to the outputs, `[samples, outputs]`, of the sum.
    pub gradient: Vec<f32>,
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
    /// fills `used`, which holds a copy of `weights`, and returns true. Gradients are then those at `used`.
    fn weights(&mut self, _at: Moment, _weights: &[f32], _used: &mut [f32]) -> Result<bool> {
        Ok(false)
    }

    /// A loss beside the main one (a teacher's).
    fn loss(&mut self, _at: Moment, _batch: &Batch, _outputs: &[f32]) -> Result<Option<ExtraLoss>> {
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

    /// What must be saved for a resume, as named vectors.
    fn save(&self) -> Vec<(String, Vec<f32>)> {
        Vec::new()
    }

    /// Takes back what [`Extension::save`] gave.
    fn restore(&mut self, _saved: &[(String, Vec<f32>)]) -> Result<()> {
        Ok(())
    }
}
