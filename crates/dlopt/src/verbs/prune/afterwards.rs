//! What follows once the pruned network is written: recovery, and what the network is worth before and after that.

use std::cell::OnceCell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dlopt_checkpoint::Result;
use dlopt_model::StructureReport;
use serde_json::{Map, Value};

use super::PruneArgs;
use super::data::{Between, DataArgs};
use super::worth::Worth;
use crate::args::OutputArgs;

/// What is to follow.
pub(super) struct Afterwards<'a> {
    input: Option<&'a Path>,
    output: &'a OutputArgs,
    data: &'a DataArgs,
    /// Where the network lies while it is recovered.
    between: Option<Between>,
    worth: Option<Worth<'a>>,
    stop: &'a Arc<AtomicBool>,
    /// What was recovered.
    recovered: OnceCell<String>,
}

impl<'a> Afterwards<'a> {
    /// What the flags ask for; what the network is worth before it is pruned is found out at once.
    ///
    /// # Errors
    /// When it cannot be done with what is read and written.
    pub(super) fn new(args: &'a PruneArgs, stop: &'a Arc<AtomicBool>) -> Result<Self> {
        let (input, output) = (args.io.input.as_deref(), &args.io.output);
        Ok(Self {
            input,
            output,
            data: &args.data,
            between: args.data.between(output)?,
            worth: args.worth.begin(input, output, stop)?,
            stop,
            recovered: OnceCell::new(),
        })
    }

    /// How the pass writes.
    pub(super) fn written(&self) -> &OutputArgs {
        self.between.as_ref().map_or(self.output, |between| &between.output)
    }

    /// Recovers the network, of which `left` says what left, and asks what it is worth.
    ///
    /// # Errors
    /// When the data do not fit, a file cannot be read or written, or somebody stops the work.
    pub(super) fn run(&self, left: Option<StructureReport>) -> Result<()> {
        let ask = |when, output: &OutputArgs| match (&self.worth, &output.output) {
            (Some(worth), Some(path)) => worth.ask(when, path),
            _ => Ok(()),
        };
        ask("pruned", self.written())?;
        if let Some(between) = &self.between {
            let told = self.data.recover(self.input, between, self.output, left, self.stop)?;
            self.recovered.get_or_init(|| told);
            ask("recovered", self.output)?;
        }
        Ok(())
    }

    /// What people read of it.
    pub(super) fn table(&self) -> String {
        let worth = self.worth.as_ref().map(Worth::table).unwrap_or_default();
        self.recovered.get().cloned().unwrap_or_default() + &worth
    }

    /// Its part of the report.
    pub(super) fn report(&self) -> Map<String, Value> {
        self.worth.as_ref().map(Worth::report).unwrap_or_default()
    }
}
