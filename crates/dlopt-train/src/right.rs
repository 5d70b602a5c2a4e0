//! How many outputs are right: of the samples of a batch, or of the tokens of its sequences.

use std::ops::AddAssign;

use dlopt_data::Batch;
use dlopt_kernels::nn;

use crate::sequences;

/// Right ones among how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Right {
    pub(crate) right: u64,
    pub(crate) of: u64,
}

impl AddAssign for Right {
    fn add_assign(&mut self, other: Self) {
        self.right += other.right;
        self.of += other.of;
    }
}

impl Right {
    /// Those of a batch whose largest output is at the label, at the largest target, or at the token.
    pub(crate) fn of(outputs: &[f32], batch: &Batch) -> Self {
        if !batch.sequences.is_empty() {
            return sequences::right(outputs, batch);
        }
        let rows = batch.indices.len();
        let columns = outputs.len() / rows.max(1);
        let mut places = vec![0; rows];
        nn::argmax_rows(rows, columns, outputs, &mut places);
        let mut wanted = vec![0; rows];
        if batch.targets.is_empty() {
            wanted.copy_from_slice(&batch.labels);
        } else {
            nn::argmax_rows(rows, columns, &batch.targets, &mut wanted);
        }
        // A sample without any target has no label that counts.
        let counts =
            |row: usize| batch.targets.is_empty() || batch.targets[row * columns..][..columns].iter().any(|t| *t > 0.0);
        let counted = places.iter().zip(&wanted).enumerate().filter(|(row, _)| counts(*row));
        let (mut right, mut of) = (0, 0);
        for (_, (place, label)) in counted {
            of += 1;
            right += u64::from(place == label);
        }
        Self { right, of }
    }

    /// The share that is right; 0 of nothing.
    pub(crate) fn share(self) -> f64 {
        self.right as f64 / self.of.max(1) as f64
    }
}
