//! Quantization: dense weights to codes and scales.

use std::collections::{BTreeMap, HashMap};

use dlopt_checkpoint::{
    Block, Choice, Decision, Error, HISTORY_KEY, Header, LAYOUT_KEY, LayerKind, Note, Output, Partial, Pass, Plan,
    Result, Selection, Step, StoredTensor, TensorInfo, Unit, extend_history, layout_text, must_match, read_layout,
};
use dlopt_kernels::Float;
use serde_json::{Value, json};

use crate::encode::{Chosen, Job, Seen};
use crate::formats::float;
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

/// Kinds that are quantized without being asked for.
const DEFAULT_KINDS: [LayerKind; 3] = [LayerKind::Linear, LayerKind::Convolution, LayerKind::Recurrent];

/// Kinds that a rule with wildcards may select.
const MATRIX_KINDS: [LayerKind; 9] = [
    LayerKind::Linear,
    LayerKind::TransposedLinear,
    LayerKind::Convolution,
    LayerKind::TransposedConvolution,
    LayerKind::Recurrent,
    LayerKind::Expert,
    LayerKind::Embedding,
    LayerKind::Head,
    LayerKind::Unknown,
];

/// Kinds that only a full name selects.
const OTHER_KINDS: [LayerKind; 3] = [LayerKind::Norm, LayerKind::Bias, LayerKind::FixedTransform];

/// Modules that runtimes merge into one, by the last component of their names.
const FUSED: [&[&str]; 4] =
    [&["q_proj", "k_proj", "v_proj"], &["query", "key", "value"], &["gate_proj", "up_proj"], &["w1", "w3"]];

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

    fn scheme_of(&self, rule: Option<usize>) -> &Scheme {
        match rule.map(|r| &self.rules[r].target) {
            Some(RuleTarget::Scheme(scheme)) => scheme,
            Some(RuleTarget::Skip) | None => &self.scheme,
        }
    }
}

/// How a unit is encoded, as a number.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Key {
    rule: Option<usize>,
    is_fallback: bool,
    from: Float,
}

const FLOATS: [Float; 4] = [Float::F32, Float::F16, Float::BF16, Float::F64];

impl Key {
    fn pack(self) -> usize {
        let from = FLOATS.iter().position(|f| *f == self.from).unwrap_or(0);
        self.rule.map_or(0, |r| r + 1) << 3 | usize::from(self.is_fallback) << 2 | from
    }

    fn unpack(key: usize) -> Self {
        Self { rule: (key >> 3).checked_sub(1), is_fallback: key & 4 != 0, from: FLOATS[key & 3] }
    }
}

/// What is done to one tensor.
enum Fate {
    Skipped(String),
    /// The user wants it quantized and it cannot be.
    Unfit(String),
    Taken(Key),
}

impl Quantize {
    /// Decides what is done to each tensor, in order.
    fn fates(&self, header: &Header) -> Result<Vec<(Choice, Fate)>> {
        for rule in &self.rules {
            must_match(&rule.glob, header)?;
        }
        let by_default = self.selection.choose(header, &DEFAULT_KINDS)?;
        let any_kind = [&MATRIX_KINDS[..], &OTHER_KINDS].concat();
        let by_rule = self.selection.choose(header, &any_kind)?;
        let choices = by_default.into_iter().zip(by_rule).zip(&header.tensors);
        choices.map(|((choice, asked), tensor)| self.fate(choice, asked, tensor)).collect()
    }

    fn fate(&self, mut choice: Choice, asked: Choice, tensor: &TensorInfo) -> Result<(Choice, Fate)> {
        let rule = self.rules.iter().position(|r| r.glob.matches(&tensor.name));
        if let Some(rule) = rule {
            let is_named = self.rules[rule].glob.is_exact(&tensor.name);
            if matches!(self.rules[rule].target, RuleTarget::Skip) {
                let reason = choice.skipped.take().unwrap_or_else(|| "left out by a rule".to_owned());
                return Ok((choice, Fate::Skipped(reason)));
            }
            if is_named || MATRIX_KINDS.contains(&choice.layer.kind) {
                choice = Choice { is_named: is_named || choice.is_named, ..asked };
            }
        }
        if let Some(reason) = choice.skipped.clone() {
            let is_excluded = self.selection.exclude.iter().any(|g| g.matches(&tensor.name));
            if choice.is_named && !is_excluded {
                return Err(Error::input(format!("tensor `{}` was named, but cannot be taken: {reason}", tensor.name)));
            }
            return Ok((choice, Fate::Skipped(reason)));
        }
        let from = float(tensor.dtype).expect("only weight floats are selected");
        let scheme = self.scheme_of(rule);
        let key = |is_fallback| Fate::Taken(Key { rule, is_fallback, from });
        let Storage::Codes(_) = scheme.storage else { return Ok((choice, key(false))) };
        let fate = match obstacle(&choice, tensor) {
            Some(reason) => Fate::Unfit(reason),
            None => match scheme.granularity {
                Granularity::Group(size) if !choice.layer.columns.is_multiple_of(size) => match self.fallback {
                    Fallback::Channel => key(true),
                    Fallback::Skip => {
                        Fate::Unfit(format!("groups of {size} do not divide its {} columns", choice.layer.columns))
                    }
                },
                _ => key(false),
            },
        };
        if let (Fate::Unfit(reason), true) = (&fate, choice.is_named) {
            return Err(Error::input(format!(
                "tensor `{}` has shape {:?} and cannot become {}: {reason}",
                tensor.name,
                tensor.shape,
                scheme.label()
            ))
            .hint(unfit_hint(&choice)));
        }
        Ok((choice, fate))
    }
}

/// Why no scheme with scales can hold a tensor.
fn obstacle(choice: &Choice, tensor: &TensorInfo) -> Option<String> {
    let kind = choice.layer.kind;
    if tensor.elements() == 0 {
        return Some("it is empty".to_owned());
    }
    if tensor.shape.len() < 2 {
        return Some("it is a vector, not a matrix".to_owned());
    }
    let is_transposed =
        matches!(kind, LayerKind::TransposedLinear | LayerKind::TransposedConvolution | LayerKind::Expert);
    is_transposed.then(|| kind.reason_to_skip().to_owned())
}

fn unfit_hint(choice: &Choice) -> String {
    match common_groups(std::iter::once(choice.layer.columns)).first() {
        Some(size) => format!("--group {size}, --fallback channel, or do not name it"),
        None => "--group channel, or do not name it".to_owned(),
    }
}

/// Group sizes that divide every one of `columns`, the customary first.
fn common_groups(columns: impl Iterator<Item = usize> + Clone) -> Vec<usize> {
    let fits = |size: &usize| columns.clone().all(|c| c > 0 && c.is_multiple_of(*size));
    [128, 64, 32, 256, 16, 512, 8].into_iter().filter(fits).collect()
}

/// Weights that were to be quantized.
#[derive(Default)]
struct Tally {
    wanted: usize,
    taken: usize,
    /// Columns of those a group size did not fit.
    unfit_columns: Vec<usize>,
}

impl Tally {
    /// Refuses to do nothing, naming what would help.
    fn check(&self, scheme: &Scheme) -> Result<()> {
        if self.taken > 0 {
            return Ok(());
        }
        if let (Granularity::Group(size), false) = (scheme.granularity, self.unfit_columns.is_empty()) {
            let common = common_groups(self.unfit_columns.iter().copied());
            let sizes: Vec<_> = common.iter().map(usize::to_string).collect();
            let hint = match sizes.as_slice() {
                [] => "--group channel, or --fallback channel".to_owned(),
                sizes => format!("--group {} fits them all, or --group channel", sizes.join(" or ")),
            };
            return Err(Error::input(format!("groups of {size} fit none of the selected tensors")).hint(hint));
        }
        Err(Error::input("no tensor is selected that can be quantized")
            .hint("--explain says why for each; --include takes tensors of other kinds"))
    }

    /// What to say when less than half could be done.
    fn gate(&self) -> Option<String> {
        (self.taken * 2 < self.wanted).then(|| {
            let percent = self.taken as f64 / self.wanted as f64 * 100.0;
            format!("only {percent:.0} % of the selected weights could be quantized")
        })
    }
}

/// Whether runtimes build this weight as a linear layer.
fn is_linear_module(choice: &Choice, tensor: &TensorInfo) -> bool {
    tensor.name.ends_with(".weight")
        && tensor.shape.len() == 2
        && matches!(choice.layer.kind, LayerKind::Linear | LayerKind::Head)
}

fn module(tensor: &TensorInfo) -> &str {
    tensor.name.strip_suffix(".weight").unwrap_or(&tensor.name)
}

impl Pass for Quantize {
    fn verb(&self) -> &'static str {
        "quantize"
    }

    fn options(&self) -> Value {
        let globs = |globs: &[dlopt_checkpoint::NameGlob]| globs.iter().map(|g| g.text().to_owned()).collect::<Vec<_>>();
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
            let job = Job { scheme: &scheme, granularity, ..self.job(&Unit { key: key.pack(), ..Unit::copy(at, tensor) }) };
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
                    let (name, entry) =
                        dlopt::entry(&tensor.name, tensor.dtype, &tensor.shape, &scheme, format, parts);
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
    let is_decoder =
        architectures.into_iter().flatten().filter_map(Value::as_str).any(|a| a.ends_with("ForCausalLM"));
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

impl Quantize {
    /// Refuses different schemes for layers that runtimes merge into one.
    fn check_fused(&self, input: &Header, fates: &[(Choice, Fate)]) -> Result<()> {
        let mut families: HashMap<(usize, &str), Vec<(&str, Option<Scheme>)>> = HashMap::new();
        let mut order = Vec::new();
        for (tensor, (choice, fate)) in input.tensors.iter().zip(fates) {
            let path = module(tensor);
            let (parent, leaf) = path.rsplit_once('.').unwrap_or(("", path));
            let Some(family) = FUSED.iter().position(|f| f.contains(&leaf)) else { continue };
            if !is_linear_module(choice, tensor) {
                continue;
            }
            let scheme = match fate {
                Fate::Taken(key) => {
                    let scheme = self.scheme_of(key.rule);
                    let granularity = if key.is_fallback { Granularity::Channel } else { scheme.granularity };
                    scheme.format().map(|_| scheme.with_granularity(granularity))
                }
                _ => None,
            };
            let members = families.entry((family, parent)).or_default();
            if members.is_empty() {
                order.push((family, parent));
            }
            members.push((path, scheme));
        }
        for members in order.iter().map(|key| &families[key]) {
            let (first, rest) = members.split_first().expect("families have members");
            let is_alike = |other: &Option<Scheme>| match (&first.1, other) {
                (None, None) => true,
                (Some(a), Some(b)) => a.is_like(b),
                _ => false,
            };
            if let Some(other) = rest.iter().find(|(_, scheme)| !is_alike(scheme)) {
                let say = |s: &Option<Scheme>| s.as_ref().map_or("dense".to_owned(), Scheme::label);
                return Err(Error::input(format!(
                    "runtimes merge `{}` and `{}` into one layer, but one would be {} and the other {}",
                    first.0,
                    other.0,
                    say(&first.1),
                    say(&other.1)
                ))
                .hint("let rules, --include and --exclude match all of them or none"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_packs_and_unpacks() {
        for rule in [None, Some(0), Some(7)] {
            for from in FLOATS {
                for is_fallback in [false, true] {
                    let key = Key { rule, is_fallback, from };
                    assert_eq!(Key::unpack(key.pack()), key);
                }
            }
        }
    }

    #[test]
    fn group_sizes_that_fit_all_are_found() {
        assert_eq!(common_groups([96, 160].into_iter()), [32, 16, 8]);
        assert!(common_groups([37].into_iter()).is_empty());
    }
}
