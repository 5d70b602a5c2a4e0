//! What is known of a sample only when it has been changed: its steps, and what was mixed into it.

use dlopt_checkpoint::{Dtype, Result, TensorInfo, alignment_bytes};
use dlopt_data::{Changed, Dataset};

use super::places::Places;

/// The marks of samples, in their order.
#[derive(Default)]
pub(super) struct Marks {
    /// Steps that count, where samples differ in them.
    steps: Vec<u32>,
    /// The sample that was mixed in and the share that the own label keeps, where samples are mixed; the sample itself
    /// and 1 where none was.
    mixed: Vec<(u32, f32)>,
}

impl Marks {
    /// Takes the marks of one more sample, which comes of `source`.
    pub(super) fn push(&mut self, changed: Changed, source: usize, has_lengths: bool, mixes: bool) {
        if has_lengths {
            self.steps.push(changed.steps as u32);
        }
        if mixes {
            let (other, kept) = changed.mixed.unwrap_or((source, 1.0));
            self.mixed.push((other as u32, kept));
        }
    }

    /// Takes the marks of more samples.
    pub(super) fn append(&mut self, mut next: Self) {
        self.steps.append(&mut next.steps);
        self.mixed.append(&mut next.mixed);
    }

    /// Gives the bytes of `lengths`, `labels` or `shares` row by row.
    pub(super) fn write(
        &self,
        tensor: &TensorInfo,
        dataset: &Dataset,
        places: &Places,
        give: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        if tensor.name == "lengths" {
            return self.steps.iter().try_for_each(|&steps| give(number(steps, tensor.dtype, &mut [0; 8])));
        }
        let mut shares = vec![0.0; dataset.classes().len()];
        let mut bytes = Vec::new();
        for source in 0..dataset.samples() {
            for place in places.of(source) {
                let (other, kept) = self.mixed[place];
                dataset.shares_of(source, Some((other as usize, kept)), &mut shares);
                if tensor.name == "shares" {
                    bytes.clear();
                    bytes.extend(shares.iter().flat_map(|share| share.to_le_bytes()));
                    give(&bytes)?;
                } else {
                    // The class of the largest share; of several the own.
                    let own = dataset.labels()[source];
                    let largest = (0..).zip(&shares).fold((own, shares[own as usize]), |most, (class, &share)| {
                        if share > most.1 { (class, share) } else { most }
                    });
                    give(number(largest.0, tensor.dtype, &mut [0; 8]))?;
                }
            }
        }
        Ok(())
    }
}

/// A whole number as wide as the type.
fn number(value: u32, dtype: Dtype, room: &mut [u8; 8]) -> &[u8] {
    *room = u64::from(value).to_le_bytes();
    &room[..alignment_bytes(dtype)]
}
