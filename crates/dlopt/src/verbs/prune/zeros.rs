//! What is told of weights that became zero: a bar for every tensor, and what they cost.

use std::cell::RefCell;
use std::path::Path;

use dlopt_checkpoint::{Context, Outcome, Result};
use dlopt_metrics::{ShareBar, shares_svg};
use serde_json::{Map, Value};

use super::afterwards::Afterwards;
use crate::job::Telling;
use crate::tables;

/// Tells of the zeros of a job.
pub(super) struct Zeroed<'a> {
    pub(super) graph: Option<&'a Path>,
    pub(super) is_verbose: bool,
    pub(super) afterwards: Afterwards<'a>,
    /// Share of zeros in every tensor that was pruned.
    pub(super) bars: RefCell<Vec<ShareBar>>,
}

impl Telling for Zeroed<'_> {
    fn finish(&self, outcome: &Outcome) -> Result<()> {
        let tensors = outcome.passes.iter().flat_map(|pass| &pass.tensors);
        *self.bars.borrow_mut() = tensors
            .map(|own| ShareBar { name: own.tensor.clone(), share: own.sparsity_after, of: own.weights })
            .collect();
        self.afterwards.run(None)
    }

    fn table(&self) -> String {
        // A line for every tensor says more already.
        let bars = if self.is_verbose { String::new() } else { tables::zeros(&self.bars.borrow()) };
        bars + &self.afterwards.table()
    }

    fn report(&self) -> Map<String, Value> {
        self.afterwards.report()
    }

    fn write(&self) -> Result<()> {
        match self.graph {
            Some(path) => {
                let drawn = shares_svg("Zeros of each tensor", &self.bars.borrow());
                std::fs::write(path, drawn).at(path.display())
            }
            None => Ok(()),
        }
    }
}
