//! A pass that gives some tensors other values of the same shape and type, and leaves all others as they are.

use std::collections::HashMap;

use dlopt_checkpoint::{
    Block, Decision, Dtype, Error, HISTORY_KEY, Header, Note, Output, Pass, Plan, Read, Result, Scope, Span,
    TensorInfo, Unit, Write, extend_history,
};
use half::{bf16, f16};
use serde_json::Value;

use crate::layout::NamedTensor;

/// Gives tensors values that were found out on data.
pub struct Restate {
    verb: &'static str,
    options: Value,
    tensors: HashMap<String, NamedTensor>,
}

impl Restate {
    /// The pass that writes `tensors` in the place of those of their names; `verb` and `options` go into the history.
    pub fn new(verb: &'static str, options: Value, tensors: Vec<NamedTensor>) -> Self {
        Self { verb, options, tensors: tensors.into_iter().map(|own| (own.name.clone(), own)).collect() }
    }

    fn unit(&self, at: usize, tensor: &TensorInfo) -> Unit {
        if !self.tensors.contains_key(&tensor.name) {
            return Unit::copy(at, tensor);
        }
        let span = || Span::row(tensor.bytes() as usize);
        Unit {
            name: tensor.name.clone(),
            reads: vec![Read { tensor: at, span: span() }],
            writes: vec![Write { info: tensor.clone(), span: span() }],
            rows: 1,
            row_quantum: 1,
            scope: Scope::Block,
            key: 0,
            is_copy: false,
        }
    }
}

impl Pass for Restate {
    fn verb(&self) -> &'static str {
        self.verb
    }

    fn options(&self) -> Value {
        self.options.clone()
    }

    fn plan(&self, input: &Header) -> Result<Plan> {
        for own in self.tensors.values() {
            let found = input.tensors.iter().find(|tensor| tensor.name == own.name).map(|tensor| &tensor.shape);
            if found != Some(&own.shape) {
                return Err(Error::input(format!("the checkpoint has no tensor `{}` {:?}", own.name, own.shape)));
            }
        }
        let mut metadata = input.metadata.clone();
        metadata.insert(HISTORY_KEY.to_owned(), extend_history(input, self.verb, self.options())?);
        let note = |tensor: &TensorInfo| Note {
            tensor: tensor.name.clone(),
            kind: "values".to_owned(),
            action: if self.tensors.contains_key(&tensor.name) { "stated anew" } else { "stays" }.to_owned(),
            reason: String::new(),
        };
        Ok(Plan {
            units: input.tensors.iter().enumerate().map(|(at, tensor)| self.unit(at, tensor)).collect(),
            metadata,
            notes: input.tensors.iter().map(note).collect(),
            ..Plan::default()
        })
    }

    fn apply(
        &self,
        unit: &Unit,
        _position: usize,
        _block: &Block<'_>,
        _decision: Option<&Decision>,
        output: &mut Output<'_>,
    ) -> Result<()> {
        let values = self.tensors[&unit.name].values.iter();
        let bytes: Vec<u8> = match unit.writes[0].info.dtype {
            Dtype::F16 => values.flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
            Dtype::BF16 => values.flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect(),
            Dtype::F64 => values.flat_map(|&value| f64::from(value).to_le_bytes()).collect(),
            _ => values.flat_map(|&value| value.to_le_bytes()).collect(),
        };
        output.parts[0].copy_from_slice(&bytes);
        Ok(())
    }
}
