//! The pass that changes nothing: for moving a checkpoint between file, folder and stream.

use crate::error::Result;
use crate::header::{Header, TensorInfo};
use crate::layers::Model;
use crate::pass::{Block, Decision, Note, Output, Pass, Plan, Unit};

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
        let model = Model::of(input)?;
        let note = |t: &TensorInfo| Note {
            tensor: t.name.clone(),
            kind: model.layer(t).kind.label().to_owned(),
            action: "carried".to_owned(),
            reason: "nothing was asked for but another container".to_owned(),
        };
        let notes = input.tensors.iter().map(note).collect();
        Ok(Plan { units, metadata: input.metadata.clone(), notes, ..Plan::default() })
    }

    fn apply(&self, _: &Unit, _: usize, _: &Block<'_>, _: Option<&Decision>, _: &mut Output<'_>) -> Result<()> {
        Ok(())
    }
}
