//! Which rows of the outputs count: all samples, or the tokens up to the end of each sequence.

use std::borrow::Cow;
use std::ops::Range;

use dlopt_checkpoint::{Error, Result};
use dlopt_data::Batch;

/// Rows of a batch.
pub(crate) struct Rows {
    /// Outputs of a row.
    pub(crate) width: usize,
    /// Runs of rows that count, as places in the outputs; nothing where all do.
    runs: Option<Vec<Range<usize>>>,
    outputs: usize,
}

impl Rows {
    pub(crate) fn of(batch: &Batch, outputs: usize) -> Self {
        if batch.sequences.is_empty() {
            return Self { width: outputs / batch.indices.len().max(1), runs: None, outputs };
        }
        let width = outputs / batch.sequences.len();
        let steps = batch.sequences.len() / batch.sequence_lengths.len().max(1);
        if batch.sequence_lengths.iter().all(|&length| length as usize == steps) {
            return Self { width, runs: None, outputs };
        }
        let run = |(sample, &length): (usize, &u32)| {
            let first = sample * steps * width;
            first..first + length as usize * width
        };
        Self { width, runs: Some(batch.sequence_lengths.iter().enumerate().map(run).collect()), outputs }
    }

    /// The rows that count, side by side.
    pub(crate) fn gathered<'a>(&self, values: &'a [f32]) -> Result<Cow<'a, [f32]>> {
        if values.len() != self.outputs {
            return Err(Error::input(format!(
                "the teacher says {} values of a batch, and the student {}",
                values.len(),
                self.outputs
            ))
            .hint("teacher and student must agree on the outputs"));
        }
        Ok(match &self.runs {
            None => values.into(),
            Some(runs) => runs.iter().flat_map(|run| &values[run.clone()]).copied().collect::<Vec<f32>>().into(),
        })
    }

    /// Where [`Self::gathered`] values came from; zeros between them.
    pub(crate) fn scattered(&self, values: Vec<f32>, len: usize) -> Vec<f32> {
        let Some(runs) = &self.runs else { return values };
        let mut all = vec![0.0; len];
        let mut rest = values.as_slice();
        for run in runs {
            let (own, behind) = rest.split_at(run.len());
            all[run.clone()].copy_from_slice(own);
            rest = behind;
        }
        all
    }

    /// The class or token of each row that counts; of mixed samples the one with the largest share.
    pub(crate) fn labels(&self, batch: &Batch) -> Vec<u32> {
        if !batch.sequences.is_empty() {
            let steps = batch.sequences.len() / batch.sequence_lengths.len().max(1);
            let rows = batch.sequences.chunks_exact(steps.max(1)).zip(&batch.sequence_lengths);
            return rows.flat_map(|(row, &length)| &row[..length as usize]).copied().collect();
        }
        if batch.labels.is_empty() || batch.targets.is_empty() {
            return batch.labels.clone();
        }
        let mut labels = vec![0; batch.indices.len()];
        dlopt_kernels::nn::argmax_rows(labels.len(), batch.targets.len() / labels.len(), &batch.targets, &mut labels);
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_after_the_end_are_left_out_and_come_back_as_zeros() {
        let batch = Batch {
            indices: vec![0, 1],
            sequences: vec![1, 0, 0, 0, 1, 1],
            sequence_lengths: vec![1, 3],
            ..Batch::default()
        };
        let outputs: Vec<f32> = (0..12).map(|v| v as f32).collect();
        let rows = Rows::of(&batch, 12);
        assert_eq!(rows.width, 2);
        let own = rows.gathered(&outputs).unwrap().to_vec();
        assert_eq!(own, [0.0, 1.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
        assert_eq!(rows.labels(&batch), [1, 0, 1, 1]);
        let back = rows.scattered(own, 12);
        assert_eq!(back[..8], [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 6.0, 7.0]);
        assert!(rows.gathered(&outputs[..10]).unwrap_err().message().contains("10 values"));
    }

    #[test]
    fn a_mixed_sample_has_the_label_of_the_larger_share() {
        let batch =
            Batch { indices: vec![0, 1], labels: vec![0, 1], targets: vec![0.3, 0.7, 0.4, 0.6], ..Batch::default() };
        assert_eq!(Rows::of(&batch, 4).labels(&batch), [1, 1]);
    }
}
