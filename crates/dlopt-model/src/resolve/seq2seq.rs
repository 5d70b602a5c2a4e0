//! From the options of a `seq2seq` layer to its plan.

use dlopt_checkpoint::{Error, Result};

use super::{Builder, extent, given, parameter, recurrent_parameters, share};
use crate::description::{Attention, Seq2seq, SequenceCell};
use crate::plan::{Init, Op, Parameter, RecurrentKind, Role, Shape, Translation};

impl Builder {
    pub(super) fn seq2seq(&mut self, name: &str, layer: &Seq2seq) -> Result<()> {
        if !matches!(self.shape, Shape::Tokens { .. }) {
            return Err(Error::input(format!("takes tokens; {} reaches it", self.shape.describe()))
                .hint("prepare texts with a step that makes tokens of them"));
        }
        let plan = Translation {
            kind: match layer.cell {
                SequenceCell::Gru => RecurrentKind::Gru,
                SequenceCell::Lstm => RecurrentKind::Lstm,
            },
            embedding: extent("embedding", layer.embedding)?,
            hidden: extent("hidden", layer.hidden)?,
            has_attention: layer.attention == Attention::Dot,
            dropout: share("dropout", layer.dropout)?,
            vocabulary: extent("vocabulary", given("vocabulary", layer.vocabulary)?)?,
            outputs: extent("outputs", self.outputs)?,
            steps: extent("steps", given("steps", layer.steps)?)?,
            start: given("start", layer.start)?,
            end: given("end", layer.end)?,
        };
        for (option, token) in [("start", plan.start), ("end", plan.end)] {
            if token as usize >= plan.outputs {
                return Err(Error::input(format!(
                    "`{option}` is {token}; tokens that come out are below {}",
                    plan.outputs
                )));
            }
        }
        let parameters = self.parameters(&plan)?;
        let output = Shape::Series { time: plan.steps, features: plan.outputs };
        self.push(name, Op::Seq2seq(plan), output, parameters);
        Ok(())
    }

    fn parameters(&self, plan: &Translation) -> Result<Vec<Parameter>> {
        let (hidden, outputs) = (plan.hidden, plan.outputs);
        let cell = match plan.kind {
            RecurrentKind::Lstm => "lstm",
            _ => "gru",
        };
        let mut all = Vec::new();
        for (side, vocabulary) in [("encoder", plan.vocabulary), ("decoder", outputs)] {
            let table = vec![vocabulary, plan.embedding];
            let init = Init::Uniform { bound: 0.05 };
            all.push(parameter(&format!("{side}.embedding"), "weight", table, Role::Table, init)?);
            all.extend(recurrent_parameters(&format!("{side}.{cell}"), "l0", plan.kind, plan.embedding, hidden)?);
        }
        let mut dense = |name: &str, [rows, columns]: [usize; 2]| -> Result<()> {
            let role = Role::DenseWeight { flattened: None };
            all.push(parameter(name, "weight", vec![rows, columns], role, self.weight_init(columns, rows))?);
            all.push(parameter(name, "bias", vec![rows], Role::Bias, Init::Zeros)?);
            Ok(())
        };
        if plan.has_attention {
            dense("attention", [hidden, 2 * hidden])?;
        }
        dense("output", [outputs, hidden])?;
        Ok(all)
    }
}
