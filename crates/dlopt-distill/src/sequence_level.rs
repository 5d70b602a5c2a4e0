//! Sequence-level distillation: a student learns the sequences that the teacher puts out, as if they were right.
//!
//! The teacher decodes every sample of the training with a beam; the best hypothesis, cut to the longest sequence that the
//! data hold, takes the place of the answer. Whatever compares tokens then compares them along it.
//! Source: Kim and Rush, 2016, arXiv:1606.07947, section 3.2.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dlopt_checkpoint::{Error, Result};
use dlopt_data::{Batch, Dataset, Learns};
use dlopt_kernels::nn::Team;
use dlopt_model::{Decoding, Translator};

use crate::teacher::Teacher;

/// Samples that are decoded at once.
const BATCH: usize = 64;

/// Replaces the answers of `samples` by what the teacher puts out with a beam of `beam`; returns how many changed.
///
/// # Errors
/// When there are several teachers or the data have no sequences, when data fail, or `stop` was set.
pub fn take_sequences(
    dataset: &mut Dataset,
    teacher: &Teacher,
    samples: &[Range<usize>],
    beam: usize,
    team: &Arc<Team>,
    stop: &AtomicBool,
    progress: &dyn Fn(usize),
) -> Result<usize> {
    let Learns::Sequence { end, .. } = dataset.info().learns else {
        return Err(Error::usage(format!("{}: has no sequences that a teacher could put out", dataset.name()))
            .hint("--loss kd=1 compares what is said of each sample or token"));
    };
    let mut networks = teacher.networks();
    let (Some((_, loaded, _)), None) = (networks.next(), networks.next()) else {
        return Err(Error::usage("sequences are put out by one teacher, and there are several"));
    };
    let mut translator = Translator::new(&loaded.nodes, &loaded.layout, &loaded.params, Arc::clone(team))?;
    let how = Decoding { beam, ..Decoding::default() };
    let mut batch = Batch::default();
    let mut changed = 0;
    for range in samples {
        for first in range.clone().step_by(BATCH) {
            let indices: Vec<usize> = (first..(first + BATCH).min(range.end)).collect();
            dataset.gather(&indices, &mut batch)?;
            let found = translator.translate(indices.len(), &batch.inputs, batch.lengths.as_deref(), &how);
            for (&sample, found) in indices.iter().zip(found) {
                let mut tokens = found.into_iter().next().map(|best| best.tokens).unwrap_or_default();
                tokens.truncate(dataset.sequence_steps().saturating_sub(1));
                tokens.push(end);
                changed += usize::from(dataset.answers(sample).first() != Some(&tokens.as_slice()));
                dataset.set_answer(sample, &tokens)?;
            }
            progress(indices.len());
            if stop.load(Ordering::Relaxed) {
                return Err(Error::interrupted("stopped while the teacher put out sequences"));
            }
        }
    }
    Ok(changed)
}
