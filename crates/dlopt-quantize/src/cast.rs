//! Casts between floats.

use dlopt_checkpoint::{
    Block, Decision, Dtype, Error, HISTORY_KEY, Header, LayerKind, Note, Output, Pass, Plan, Result, Selection, Unit,
    dtype_name, extend_history, is_weight_float,
};
use serde_json::{Value, json};

use crate::encode::{apply_cast, cast_unit};
use crate::formats::float;
use crate::layouts::{compressed_tensors, dlopt, stored_weights};

/// Every kind that holds floats.
const FLOAT_KINDS: [LayerKind; 12] = [
    LayerKind::Linear,
    LayerKind::TransposedLinear,
    LayerKind::Convolution,
    LayerKind::TransposedConvolution,
    LayerKind::Recurrent,
    LayerKind::Expert,
    LayerKind::Embedding,
    LayerKind::Head,
    LayerKind::Norm,
    LayerKind::Bias,
    LayerKind::FixedTransform,
    LayerKind::Unknown,
];

/// The pass that stores floats in another type, to nearest, ties to even.
#[derive(Clone, Debug)]
pub struct Cast {
    to: Dtype,
    /// Which tensors; all floats unless narrowed.
    pub selection: Selection,
    /// Numbers the type cannot hold become infinite, instead of an error.
    pub allow_nonfinite: bool,
}

impl Cast {
    /// Casts every float to `to`.
    ///
    /// # Errors
    /// When `to` is not F32, BF16 or F16.
    pub fn new(to: Dtype) -> Result<Self> {
        if !matches!(to, Dtype::F32 | Dtype::BF16 | Dtype::F16) {
            return Err(
                Error::usage(format!("weights are not cast to {}", dtype_name(to))).hint("take f32, bf16 or f16")
            );
        }
        let selection = Selection { change_tied: true, ..Selection::default() };
        Ok(Self { to, selection, allow_nonfinite: false })
    }

    /// Reads the name of a type: `f32`, `bf16`, `f16` and their longer names.
    ///
    /// # Errors
    /// When the text names none of them.
    pub fn parse(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "f32" | "fp32" | "float32" => Self::new(Dtype::F32),
            "bf16" | "bfloat16" => Self::new(Dtype::BF16),
            "f16" | "fp16" | "float16" => Self::new(Dtype::F16),
            _ => Err(Error::usage(format!("`{text}` is no type weights are cast to")).hint("take f32, bf16 or f16")),
        }
    }
}

impl Pass for Cast {
    fn verb(&self) -> &'static str {
        "convert"
    }

    fn options(&self) -> Value {
        let globs =
            |globs: &[dlopt_checkpoint::NameGlob]| globs.iter().map(|g| g.text().to_owned()).collect::<Vec<_>>();
        json!({
            "dtype": dtype_name(self.to),
            "include": globs(&self.selection.include),
            "exclude": globs(&self.selection.exclude),
            "tied": if self.selection.change_tied { "both" } else { "skip" },
            "allow_nonfinite": self.allow_nonfinite,
        })
    }

    fn plan(&self, input: &Header) -> Result<Plan> {
        let mut parts = dlopt::part_names(input)?;
        for stored in stored_weights(input)? {
            parts.extend(stored.parts.all().map(|at| input.tensors[at].name.clone()));
        }
        let choices = self.selection.choose(input, &FLOAT_KINDS)?;
        let mut plan = Plan { metadata: input.metadata.clone(), ..Plan::default() };
        for (at, (tensor, choice)) in input.tensors.iter().zip(choices).enumerate() {
            let from = float(tensor.dtype);
            let reason = match choice.skipped {
                Some(reason) => Some(reason),
                None if parts.contains(&tensor.name) => Some("part of a compressed weight".to_owned()),
                None if tensor.dtype == self.to => Some(format!("is {} already", dtype_name(self.to))),
                None if tensor.elements() == 0 => Some("is empty".to_owned()),
                None => None,
            };
            let (action, reason) = match (reason, from) {
                (None, Some(from)) => {
                    let key = FROM.iter().position(|f| *f == from).unwrap_or(0);
                    plan.units.push(cast_unit(at, tensor, self.to, key));
                    (dtype_name(self.to).to_ascii_lowercase(), "selected".to_owned())
                }
                (reason, _) => {
                    plan.units.push(Unit::copy(at, tensor));
                    ("skipped".to_owned(), reason.unwrap_or_default())
                }
            };
            let kind = choice.layer.kind.label().to_owned();
            plan.notes.push(Note { tensor: tensor.name.clone(), kind, action, reason });
        }
        plan.metadata.insert(HISTORY_KEY.to_owned(), extend_history(input, self.verb(), self.options())?);
        update_dtype(&mut plan, input)?;
        Ok(plan)
    }

    fn apply(
        &self,
        unit: &Unit,
        _position: usize,
        block: &Block<'_>,
        _decision: Option<&Decision>,
        output: &mut Output<'_>,
    ) -> Result<()> {
        apply_cast(unit, block, FROM[unit.key % FROM.len()], self.allow_nonfinite, output)
    }
}

/// Types by the key of a unit.
const FROM: [dlopt_kernels::Float; 4] =
    [dlopt_kernels::Float::F32, dlopt_kernels::Float::F16, dlopt_kernels::Float::BF16, dlopt_kernels::Float::F64];

/// Writes the type of the weights into the config, when all floats have the same one now and it is another.
pub(crate) fn update_dtype(plan: &mut Plan, input: &Header) -> Result<()> {
    let mut floats = plan.units.iter().filter(|u| !u.is_copy).flat_map(|u| &u.writes).map(|w| w.info.dtype);
    let Some(to) = floats.next().filter(|d| is_weight_float(*d)) else { return Ok(()) };
    let mut written = plan.units.iter().flat_map(|u| &u.writes).map(|w| w.info.dtype);
    let is_uniform = written.all(|d| d == to || !is_weight_float(d)) && floats.all(|d| d == to);
    let Some(mut config) = input.config()?.filter(|_| is_uniform) else { return Ok(()) };
    let name = match to {
        Dtype::F32 => "float32",
        Dtype::BF16 => "bfloat16",
        Dtype::F16 => "float16",
        _ => return Ok(()),
    };
    let mut is_changed = false;
    for key in ["dtype", "torch_dtype"] {
        if let Some(value) = config.get_mut(key).filter(|v| v.as_str().is_some_and(|v| v != name)) {
            *value = json!(name);
            is_changed = true;
        }
    }
    if is_changed {
        plan.metadata.insert("config".to_owned(), compressed_tensors::config_text(&config));
    }
    Ok(())
}
