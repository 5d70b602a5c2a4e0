//! The pass that changes nothing: for moving a checkpoint between file, folder and stream.

use crate::error::Result;
use crate::header::Header;
use crate::pass::{Block, Decision, Output, Pass, Plan, Unit};

/// Carries every tensor through untouched and leaves no trace in the history.
pub struct Carry;

impl Pass for Carry {
    fn verb(&self) -> &'static str {
        "convert"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::json!({})
    }

    fn plan(&self, input: &Header) -> Result<Plan> {
        let units = input.tensors.iter().enumerate().map(|(i, t)| Unit::copy(i, t)).collect();
        Ok(Plan { units, metadata: input.metadata.clone(), ..Plan::default() })
    }

    fn apply(&self, _: &Unit, _: usize, _: &Block<'_>, _: Option<&Decision>, _: &mut Output<'_>) -> Result<()> {
        Ok(())
    }
}
