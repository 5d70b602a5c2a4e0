//! Quantization: dense weights to codes and scales.

use std::collections::BTreeMap;

use dlopt_checkpoint::{
    Block, Decision, Error, HISTORY_KEY, Header, LAYOUT_KEY, NameGlob, Note, Output, Partial, Pass, Plan, Result,
    Selection, Step, StoredTensor, Unit, extend_history, layout_text, read_layout,
};
use serde_json::{Value, json};

use crate::encode::{Chosen, Job, Seen};
use crate::fates::{Fate, Key, Tally, obstacle};
use crate::fused::{is_linear_module, module};
use crate::layouts::{compressed_tensors, dlopt};
use crate::methods::{Method, method_named};
use crate::{Granularity, Rule, RuleTarget, Scheme, Storage};

/// What is done to a weight whose columns the group size does not divide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// It stays as it is.
    #[default]
    Skip,
    /// It gets one scale per output.
    Channel,
}

/// The pass that quantizes.
#[derive(Clone, Debug)]
pub struct Quantize {
    /// How weights are stored.
    pub scheme: Scheme,
    /// How scales are chosen.
    pub method: &'static dyn Method,
    /// Which tensors.
    pub selection: Selection,
    /// Schemes for some of them; the first that matches wins.
    pub rules: Vec<Rule>,
    /// What is done where the group size does not fit.
    pub fallback: Fallback,
    /// NaN becomes 0 and infinities the largest code, instead of an error.
    pub allow_nonfinite: bool,
}

impl Quantize {
    /// Round to nearest of all linear, convolution and recurrent weights.
    pub fn new(scheme: Scheme) -> Self {
        let method = method_named("rtn").expect("the table holds round to nearest");
        Self {
            scheme,
            method,
            selection: Selection::default(),
            rules: Vec::new(),
            fallback: Fallback::Skip,
            allow_nonfinite: false,
        }
    }

    fn job(&self, unit: &Unit) -> Job<'_> {
        let Key { rule, is_fallback, from } = Key::unpack(unit.key);
        let scheme = self.scheme_of(rule);
        let granularity = if is_fallback { Granularity::Channel } else { scheme.granularity };
        Job { scheme, granularity, method: self.method, from, allow_nonfinite: self.allow_nonfinite }
    }

    pub(crate) fn scheme_of(&self, rule: Option<usize>) -> &Scheme {
        match rule.map(|r| &self.rules[r].target) {
            Some(RuleTarget::Scheme(scheme)) => scheme,
            Some(RuleTarget::Skip) | None => &self.scheme,
        }
    }
}

impl Pass for Quantize {
    fn verb(&self) -> &'static str {
        "quantize"
    }

    fn options(&self) -> Value {
        let globs = |globs: &[NameGlob]| globs.iter().map(|g| g.text().to_owned()).collect::<Vec<_>>();
        let mut options = self.scheme.facts();
        let more = json!({
            "method": self.method.plugin().name,
            "include": globs(&self.selection.include),
            "exclude": globs(&self.selection.exclude),
            "rules": self.rules.iter().map(Rule::text).collect::<Vec<_>>(),
            "fallback": match self.fallback { Fallback::Skip => "skip", Fallback::Channel => "channel" },
            "tied": if self.selection.change_tied { "both" } else { "skip" },
            "allow_nonfinite": self.allow_nonfinite,
        });
        if let (Some(options), Value::Object(more)) = (options.as_object_mut(), more) {
            options.extend(more);
        }
        options
    }

    fn plan(&self, input: &Header) -> Result<Plan> {
        refuse_quantized(input)?;
        let config = input.config()?;
        let fates = self.fates(input)?;
        self.check_fused(input, &fates)?;
        let mut plan = Plan { metadata: input.metadata.clone(), ..Plan::default() };
        let mut tally = Tally::default();
        let mut groups: Vec<(Scheme, Vec<String>)> = Vec::new();
        let mut ignore = Vec::new();
        let mut shapes = BTreeMap::new();
        let mut layout = BTreeMap::new();
        for (at, (tensor, (choice, fate))) in input.tensors.iter().zip(&fates).enumerate() {
            let is_module = is_linear_module(choice, tensor);
            let mut note = |action: String, reason: &str| {
                let kind = choice.layer.kind.label().to_owned();
                plan.notes.push(Note { tensor: tensor.name.clone(), kind, action, reason: reason.to_owned() });
            };
            let key = match fate {
                Fate::Taken(key) => *key,
                Fate::Skipped(reason) | Fate::Unfit(reason) => {
                    if matches!(fate, Fate::Unfit(_)) {
                        tally.wanted += tensor.elements();
                        if obstacle(choice, tensor).is_none() {
                            tally.unfit_columns.push(choice.layer.columns);
                        }
                    }
                    if is_module {
                        ignore.push(module(tensor).to_owned());
                    }
                    note("skipped".to_owned(), reason);
                    plan.units.push(Unit::copy(at, tensor));
                    continue;
                }
            };
            tally.wanted += tensor.elements();
            tally.taken += tensor.elements();
            let scheme = self.scheme_of(key.rule);
            let granularity = if key.is_fallback { Granularity::Channel } else { scheme.granularity };
            let scheme = scheme.with_granularity(granularity);
            let reason = match (key.rule, key.is_fallback) {
                (_, true) => "the group size does not divide its columns",
                (Some(_), _) => "by a rule",
                (None, _) => "selected",
            };
            note(scheme.label(), reason);
            let is_served = is_module && config.is_some() && scheme.format().is_some();
            let job =
                Job { scheme: &scheme, granularity, ..self.job(&Unit { key: key.pack(), ..Unit::copy(at, tensor) }) };
            let matrix = [choice.layer.rows, choice.layer.columns];
            if let Storage::Dense(to) = scheme.storage
                && to == tensor.dtype
            {
                plan.units.push(Unit::copy(at, tensor));
            } else {
                let (unit, roles) = job.unit(at, tensor, matrix, is_served, key.pack());
                plan.units.push(unit);
                if let (Some(format), false) = (scheme.format(), is_served) {
                    let parts = roles.into_iter().map(|(role, part)| (role.to_owned(), part)).collect();
                    let (name, entry) = dlopt::entry(&tensor.name, tensor.dtype, &tensor.shape, &scheme, format, parts);
                    layout.insert(name, entry);
                }
            }
            if is_served {
                let is_padded = granularity == Granularity::Channel || granularity == Granularity::Tensor;
                let is_padded = is_padded && scheme.format().is_some_and(|f| f.packs());
                if is_padded && !(matrix[1] * scheme.bits as usize).is_multiple_of(32) {
                    shapes.insert(tensor.name.clone(), matrix);
                }
                let module = module(tensor).to_owned();
                match groups.iter_mut().find(|(s, _)| s.is_like(&scheme)) {
                    Some((_, modules)) => modules.push(module),
                    None => groups.push((scheme, vec![module])),
                }
            } else if is_module {
                ignore.push(module(tensor).to_owned());
            }
        }
        tally.check(&self.scheme)?;
        plan.gate = tally.gate();
        plan.warnings.extend(plan.gate.clone());
        if config.is_some() && !layout.is_empty() {
            plan.warnings.push(format!(
                "{} tensors are stored as only dlopt reads them: no runtime's layout holds quantized convolutions, \
                 recurrent weights or embeddings",
                layout.len()
            ));
        }
        if let (Some(config), false) = (config, groups.is_empty()) {
            // Stable, so that of two that are used alike the first in the file stays first.
            groups.sort_by_key(|(_, modules)| std::cmp::Reverse(modules.len()));
            ignore.extend(missing_head(&config, input));
            let config = compressed_tensors::with_quantization(config, &groups, ignore);
            plan.metadata.insert("config".to_owned(), compressed_tensors::config_text(&config));
        }
        if !shapes.is_empty() {
            plan.metadata.insert(compressed_tensors::SHAPES_KEY.to_owned(), compressed_tensors::shapes_text(&shapes));
        }
        extend_layout(&mut plan, input, layout)?;
        plan.metadata.insert(HISTORY_KEY.to_owned(), extend_history(input, self.verb(), self.options())?);
        crate::cast::update_dtype(&mut plan, input)?;
        plan.check_names()?;
        Ok(plan)
    }

    fn begin(&self, _so_far: Option<&Decision>) -> Partial {
        Box::new(Seen::default())
    }

    fn survey(
        &self,
        unit: &Unit,
        _position: usize,
        block: &Block<'_>,
        so_far: Option<&Decision>,
        partial: &mut Partial,
    ) -> Result<()> {
        let Some(seen) = partial.downcast_mut::<Seen>() else { return Ok(()) };
        self.job(unit).survey(unit, block, chosen(so_far), seen)
    }

    fn merge(&self, into: &mut Partial, from: Partial) {
        if let (Some(into), Ok(from)) = (into.downcast_mut::<Seen>(), from.downcast::<Seen>()) {
            into.merge(*from);
        }
    }

    fn decide(&self, units: &[(usize, &Unit)], so_far: Option<&Decision>, all: Partial) -> Result<Step> {
        let lost = || Error::input("a survey came back without what it saw");
        let seen = all.downcast::<Seen>().map_err(|_| lost())?;
        let (_, unit) = units.first().ok_or_else(lost)?;
        Ok(self.job(unit).decide(chosen(so_far), *seen))
    }

    fn apply(
        &self,
        unit: &Unit,
        _position: usize,
        block: &Block<'_>,
        decision: Option<&Decision>,
        output: &mut Output<'_>,
    ) -> Result<()> {
        self.job(unit).apply(unit, block, chosen(decision), output)
    }
}

fn chosen(decision: Option<&Decision>) -> Option<&Chosen> {
    decision.and_then(|d| d.downcast_ref::<Chosen>())
}

/// The output head that the model makes from its embeddings: no tensor of the file, but a linear layer to runtimes.
fn missing_head(config: &serde_json::Map<String, Value>, input: &Header) -> Option<String> {
    let is_tied = config.get("tie_word_embeddings").and_then(Value::as_bool) == Some(true);
    let architectures = config.get("architectures").and_then(Value::as_array);
    let is_decoder = architectures.into_iter().flatten().filter_map(Value::as_str).any(|a| a.ends_with("ForCausalLM"));
    let is_there = input.tensors.iter().any(|t| t.name == "lm_head.weight");
    ((is_tied || is_decoder) && !is_there).then(|| "lm_head".to_owned())
}

/// Adds entries to what `dlopt.layout` already holds.
fn extend_layout(plan: &mut Plan, input: &Header, entries: BTreeMap<String, StoredTensor>) -> Result<()> {
    if !entries.is_empty() {
        let mut layout = read_layout(input)?;
        layout.extend(entries);
        plan.metadata.insert(LAYOUT_KEY.to_owned(), layout_text(layout));
    }
    Ok(())
}

/// Refuses a checkpoint that is stored in parts already.
fn refuse_quantized(input: &Header) -> Result<()> {
    let config = input.config()?.unwrap_or_default();
    let layout = read_layout(input)?;
    let endings = [".weight_packed", ".weight_scale", ".qweight", ".weight_scale_inv", ".bitmask", "_bitmask"];
    let by_name = || input.tensors.iter().find(|t| endings.iter().any(|e| t.name.ends_with(e)));
    let why = if compressed_tensors::quantization(&config).is_some() {
        "its config holds a `quantization_config`".to_owned()
    } else if let Some((name, stored)) = layout.first_key_value() {
        format!("`{name}` is stored as `{}`", stored.format)
    } else if let Some(tensor) = by_name() {
        format!("it holds `{}`", tensor.name)
    } else {
        return Ok(());
    };
    Err(Error::input(format!("the checkpoint is compressed already: {why}"))
        .hint("dlopt convert --decompress makes it dense again"))
}
