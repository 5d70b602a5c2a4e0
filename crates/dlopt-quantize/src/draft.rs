//! The plan of a quantization in the making, tensor by tensor.

use std::collections::BTreeMap;

use dlopt_checkpoint::{
    Choice, Header, LAYOUT_KEY, Note, Plan, Result, StoredTensor, TensorInfo, Unit, layout_text, read_layout,
};
use serde_json::{Map, Value};

use crate::encode::Job;
use crate::fates::{Key, Tally};
use crate::fused::{is_linear_module, module};
use crate::layouts::{compressed_tensors, dlopt};
use crate::{Granularity, Scheme, Storage};

/// What was decided so far.
pub(crate) struct Draft {
    plan: Plan,
    pub(crate) tally: Tally,
    /// Runtimes find a config, so linear layers follow their layout.
    has_config: bool,
    /// Schemes of linear layers and their modules.
    groups: Vec<(Scheme, Vec<String>)>,
    /// Linear layers that stay dense.
    ignore: Vec<String>,
    /// Shapes that the header of the output cannot say.
    shapes: BTreeMap<String, [usize; 2]>,
    layout: BTreeMap<String, StoredTensor>,
}

impl Draft {
    pub(crate) fn new(input: &Header, has_config: bool) -> Self {
        Self {
            plan: Plan { metadata: input.metadata.clone(), ..Plan::default() },
            tally: Tally::default(),
            has_config,
            groups: Vec::new(),
            ignore: Vec::new(),
            shapes: BTreeMap::new(),
            layout: BTreeMap::new(),
        }
    }

    fn note(&mut self, tensor: &TensorInfo, choice: &Choice, action: String, reason: &str) {
        let kind = choice.layer.kind.label().to_owned();
        self.plan.notes.push(Note { tensor: tensor.name.clone(), kind, action, reason: reason.to_owned() });
    }

    /// A tensor that stays as it is.
    pub(crate) fn skip(&mut self, at: usize, tensor: &TensorInfo, choice: &Choice, reason: &str) {
        self.note(tensor, choice, "skipped".to_owned(), reason);
        self.plan.units.push(Unit::copy(at, tensor));
        self.leave_dense(choice, tensor);
    }

    /// A layer that no runtime finds quantized.
    pub(crate) fn leave_dense(&mut self, choice: &Choice, tensor: &TensorInfo) {
        if is_linear_module(choice, tensor) {
            self.ignore.push(module(tensor).to_owned());
        }
    }

    /// A tensor that gets the scheme of `job`.
    pub(crate) fn take(&mut self, at: usize, tensor: &TensorInfo, choice: &Choice, key: Key, job: &Job) {
        let reason = match (key.rule, key.is_fallback) {
            (_, true) => "the group size does not divide its columns",
            (Some(_), _) => "by a rule",
            (None, _) => "selected",
        };
        self.note(tensor, choice, job.scheme.label(), reason);
        self.tally.hit(tensor);
        let is_module = is_linear_module(choice, tensor);
        let is_servable = job.scheme.format().is_some_and(|format| format.entries(job.scheme.bits).is_none());
        let is_served = is_module && self.has_config && is_servable;
        if is_module && !is_served {
            self.ignore.push(module(tensor).to_owned());
        }
        if matches!(job.scheme.storage, Storage::Dense(to) if to == tensor.dtype) {
            return self.plan.units.push(Unit::copy(at, tensor));
        }
        let matrix = [choice.layer.rows, choice.layer.columns];
        let (unit, roles) = job.unit(at, tensor, matrix, is_served, key.pack());
        self.plan.units.push(unit);
        if is_served {
            self.serve(tensor, matrix, &job.scheme);
        } else if let Some(format) = job.scheme.format() {
            let parts = roles.into_iter().map(|(role, part)| (role.to_owned(), part)).collect();
            self.layout.insert(tensor.name.clone(), dlopt::entry(tensor, &job.scheme, format, parts));
        }
    }

    /// A linear layer in the runtimes' layout.
    fn serve(&mut self, tensor: &TensorInfo, matrix: [usize; 2], scheme: &Scheme) {
        let has_groups = matches!(scheme.granularity, Granularity::Group(_));
        let is_padded = !(matrix[1] * scheme.bits as usize).is_multiple_of(32);
        if is_padded && !has_groups && scheme.format().is_some_and(|f| f.packs()) {
            self.shapes.insert(tensor.name.clone(), matrix);
        }
        let module = module(tensor).to_owned();
        match self.groups.iter_mut().find(|(s, _)| s.is_like(scheme)) {
            Some((_, modules)) => modules.push(module),
            None => self.groups.push((scheme.clone(), vec![module])),
        }
    }

    /// The plan, with all metadata but the history.
    pub(crate) fn finish(mut self, input: &Header, config: Option<Map<String, Value>>) -> Result<Plan> {
        self.plan.gate = self.tally.gate();
        self.plan.warnings.extend(self.plan.gate.clone());
        if self.has_config && !self.layout.is_empty() {
            self.plan.warnings.push(format!(
                "{} tensors are stored as only dlopt reads them: no runtime's layout holds codebooks, or quantized \
                 convolutions, recurrent weights or embeddings",
                self.layout.len()
            ));
        }
        let metadata = &mut self.plan.metadata;
        if let (Some(config), false) = (config, self.groups.is_empty()) {
            // Stable, so that of two that are used alike the first in the file stays first.
            self.groups.sort_by_key(|(_, modules)| std::cmp::Reverse(modules.len()));
            self.ignore.extend(missing_head(&config, input));
            let config = compressed_tensors::with_quantization(config, &self.groups, self.ignore);
            metadata.insert("config".to_owned(), compressed_tensors::config_text(&config));
        }
        if !self.shapes.is_empty() {
            let text = compressed_tensors::shapes_text(&self.shapes);
            metadata.insert(compressed_tensors::SHAPES_KEY.to_owned(), text);
        }
        if !self.layout.is_empty() {
            let mut layout = read_layout(input)?;
            layout.extend(self.layout);
            metadata.insert(LAYOUT_KEY.to_owned(), layout_text(layout));
        }
        Ok(self.plan)
    }
}

/// The output head that the model makes from its embeddings: no tensor of the file, but a linear layer to runtimes.
fn missing_head(config: &Map<String, Value>, input: &Header) -> Option<String> {
    let is_tied = config.get("tie_word_embeddings").and_then(Value::as_bool) == Some(true);
    let architectures = config.get("architectures").and_then(Value::as_array);
    let is_decoder = architectures.into_iter().flatten().filter_map(Value::as_str).any(|a| a.ends_with("ForCausalLM"));
    let is_there = input.tensors.iter().any(|t| t.name == "lm_head.weight");
    ((is_tied || is_decoder) && !is_there).then(|| "lm_head".to_owned())
}
