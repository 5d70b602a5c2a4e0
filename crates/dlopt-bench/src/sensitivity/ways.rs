//! What every change makes of every tensor: its bytes and its weights, as the passes would write them.

use std::collections::BTreeMap;

use dlopt_checkpoint::{Error, Header, Pass, Plan, Result};
use dlopt_prune::{Prune, PruneOptions, zeros_at};
use dlopt_quantize::{Quantize, Room, Simulated};

use super::{Change, Options};

/// A change, and what it does to the tensors that it fits.
pub(super) struct Way {
    pub(super) change: Change,
    /// By the tensor's position in the header.
    pub(super) taken: BTreeMap<usize, Taken>,
}

/// What a change makes of a tensor.
pub(super) struct Taken {
    /// Of all its parts.
    pub(super) bytes: u64,
    how: How,
}

enum How {
    Quantized(Simulated),
    Pruned(f64),
}

impl Way {
    /// Plans a change for all tensors at once. A change that fits no tensor is no error: others may.
    pub(super) fn of(change: &Change, header: &Header, options: &Options) -> Result<Self> {
        let mut taken = BTreeMap::new();
        match change {
            Change::Scheme(scheme) => {
                let mut quantize = Quantize::new(scheme.clone());
                quantize.method = options.method;
                quantize.selection = options.selection.clone();
                quantize.allow_nonfinite = options.allow_nonfinite;
                if let Ok(plan) = quantize.plan(header) {
                    let sizes = sizes(&plan);
                    for simulated in quantize.simulate(header)? {
                        let (at, bytes) = (simulated.tensor, sizes[&simulated.tensor]);
                        taken.insert(at, Taken { bytes, how: How::Quantized(simulated) });
                    }
                }
            }
            Change::Sparsity(share) => {
                let prune = Prune::new(PruneOptions {
                    sparsity: Some(*share),
                    store: "bitmask".to_owned(),
                    selection: options.selection.clone(),
                    allow_nonfinite: options.allow_nonfinite,
                    ..PruneOptions::default()
                })?;
                let plan = prune.plan(header)?;
                let sizes = sizes(&plan);
                for unit in plan.units.iter().filter(|unit| !unit.is_copy) {
                    let Some(read) = unit.reads.first() else { continue };
                    let bytes = sizes[&read.tensor];
                    taken.insert(read.tensor, Taken { bytes, how: How::Pruned(*share) });
                }
            }
        }
        Ok(Self { change: change.clone(), taken })
    }
}

/// The bytes that a plan makes of each tensor.
fn sizes(plan: &Plan) -> BTreeMap<usize, u64> {
    let mut sizes = BTreeMap::new();
    for unit in &plan.units {
        if let Some(read) = unit.reads.first() {
            *sizes.entry(read.tensor).or_insert(0) += unit.writes.iter().map(|w| w.info.bytes()).sum::<u64>();
        }
    }
    sizes
}

impl Taken {
    /// Changes the weights of the tensor in place.
    pub(super) fn apply(&self, values: &mut [f32]) -> Result<()> {
        match &self.how {
            How::Quantized(simulated) => {
                let mut room = Room::default();
                let piece = (simulated.quantum() * simulated.columns).max(1);
                values.chunks_mut(piece).for_each(|rows| simulated.apply(rows, &mut room));
                Ok(())
            }
            How::Pruned(share) => prune(values, *share),
        }
    }
}

/// Sets the smallest to zero; of equal ones the first.
pub(crate) fn prune(values: &mut [f32], share: f64) -> Result<()> {
    let zeros = usize::try_from(zeros_at(share, values.len() as u64)).map_err(|_| Error::input("too many weights"))?;
    if zeros == 0 {
        return Ok(());
    }
    let mut order: Vec<u32> = (0..values.len() as u32).collect();
    let key = |at: &u32| (values[*at as usize].to_bits() & 0x7fff_ffff, *at);
    order.select_nth_unstable_by_key(zeros - 1, key);
    order[..zeros].iter().for_each(|at| values[*at as usize] = 0.0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_become_zero() {
        let mut values = [3.0, -1.0, 0.5, -2.0, 0.25];
        prune(&mut values, 0.4).unwrap();
        assert_eq!(values, [3.0, -1.0, 0.0, -2.0, 0.0]);
    }
}
