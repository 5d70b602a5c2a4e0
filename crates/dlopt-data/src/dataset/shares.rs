//! Shares of classes: what the labels of mixed samples are, `[samples, classes]`, each row from 0 on with a sum of 1.

use dlopt_checkpoint::{Error, Result};

use super::Dataset;

/// How far the sum of a row may be from 1.
const TOLERANCE: f32 = 1e-3;

impl Dataset {
    /// Whether samples have shares of several classes.
    pub fn has_shares(&self) -> bool {
        self.shares.is_some()
    }

    /// Fills `[classes]` with the shares of a sample's classes: those that the dataset holds, or 1 for its label. Of a
    /// sample into which another one was mixed, `mixed` is that one and the share, in 0..=1, that the own label keeps.
    pub fn shares_of(&self, sample: usize, mixed: Option<(usize, f32)>, out: &mut [f32]) {
        let add = |sample: usize, part: f32, out: &mut [f32]| match &self.shares {
            Some(shares) => {
                let own = &shares[sample * out.len()..][..out.len()];
                out.iter_mut().zip(own).for_each(|(out, share)| *out += part * share);
            }
            None => out[self.labels[sample] as usize] += part,
        };
        out.fill(0.0);
        match mixed {
            None => add(sample, 1.0, out),
            Some((other, kept)) => {
                add(sample, kept, out);
                add(other, 1.0 - kept, out);
            }
        }
    }
}

/// Refuses what are no shares of the classes of so many samples.
pub(super) fn check(shares: &[f32], labels: &[u32], samples: usize, classes: usize) -> Result<()> {
    if labels.is_empty() {
        return Err(Error::input("`shares` without `labels`").hint("`labels` has the class of the largest share"));
    }
    if shares.len() != samples * classes {
        return Err(Error::input(format!("{} shares for {samples} samples of {classes} classes", shares.len())));
    }
    for (sample, own) in shares.chunks_exact(classes).enumerate() {
        let sum: f32 = own.iter().sum();
        if !(own.iter().all(|share| *share >= 0.0) && (sum - 1.0).abs() <= TOLERANCE) {
            return Err(Error::input(format!("the shares of sample {sample} have the sum {sum}"))
                .hint("wanted a share of each class, 0 to 1, with a sum of 1"));
        }
    }
    Ok(())
}
