//! What is told of weights that became zero: a bar for every tensor, and what they cost.

use std::cell::RefCell;
use std::path::Path;

use dlopt_checkpoint::{Context, Outcome, Result};
use dlopt_metrics::{ShareBar, shares_svg};
use serde_json::{Map, Value};

use super::worth::Worth;
use crate::args::OutputArgs;
use crate::job::Telling;
use crate::tables;

/// Tells of the zeros of a job.
pub(super) struct Zeroed<'a> {
    worth: Option<Worth<'a>>,
    graph: Option<&'a Path>,
    output: &'a OutputArgs,
    /// Share of zeros in every tensor that was pruned.
    bars: RefCell<Vec<ShareBar>>,
}

impl<'a> Zeroed<'a> {
    pub(super) fn new(worth: Option<Worth<'a>>, graph: Option<&'a Path>, output: &'a OutputArgs) -> Self {
        Self { worth, graph, output, bars: RefCell::default() }
    }
}

impl Telling for Zeroed<'_> {
    fn finish(&self, outcome: &Outcome) -> Result<()> {
        let tensors = outcome.passes.iter().flat_map(|pass| &pass.tensors);
        *self.bars.borrow_mut() = tensors
            .map(|own| ShareBar { name: own.tensor.clone(), share: own.sparsity_after, of: own.weights })
            .collect();
        match (&self.worth, &self.output.output) {
            (Some(worth), Some(path)) => worth.ask("pruned", path),
            _ => Ok(()),
        }
    }

    fn table(&self) -> String {
        // A line for every tensor says more already.
        let bars = if self.output.report.verbose { String::new() } else { tables::zeros(&self.bars.borrow()) };
        bars + &self.worth.as_ref().map(Worth::table).unwrap_or_default()
    }

    fn report(&self) -> Map<String, Value> {
        self.worth.as_ref().map(Worth::report).unwrap_or_default()
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
