//! The pass: what was asked for, which tensors are pruned, and who does the work on their rows.

mod units;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{PoisonError, RwLock};

use dlopt_checkpoint::{
    Block, Choice, Decision, Error, HISTORY_KEY, Header, LAYOUT_KEY, LayerKind, Note, Output, Partial, Pass, Plan,
    Result, Selection, Step, TensorInfo, Unit, extend_history, is_weight_float, layout_text, read_layout,
};
use dlopt_kernels::{Float, first_nonfinite};
use serde_json::json;

use crate::compressed::refuse_compressed;
use crate::criteria::{Criterion, stream};
use crate::keys::{Keys, Width};
use crate::patterns::n_of_m::{self, Along};
use crate::patterns::{Pattern, unstructured};
use crate::rules::{self, ShareRule, share_of};
use crate::search::{self, Seen, zeros_at};
use crate::stores::{Store, bitmask};
use crate::view::View;

/// Kinds that are pruned without being asked for.
pub(crate) const KINDS: [LayerKind; 6] = [
    LayerKind::Linear,
    LayerKind::TransposedLinear,
    LayerKind::Convolution,
    LayerKind::TransposedConvolution,
    LayerKind::Recurrent,
    LayerKind::Expert,
];

/// Among how many weights a search begins with a sample: fewer are counted as fast, of more the sample takes memory.
const SAMPLED: Range<usize> = 1 << 18..1 << 30;

/// Why a selected tensor is left as it is.
const EMPTY: &str = "it has no elements";

/// Among which weights an unstructured pattern compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PruneScope {
    /// Those of each tensor.
    #[default]
    Tensor,
    /// Those of all selected tensors together.
    Global,
}

impl PruneScope {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tensor => "tensor",
            Self::Global => "global",
        }
    }

    /// The scope of a name.
    ///
    /// # Errors
    /// When it is neither `tensor` nor `global`.
    pub fn named(name: &str) -> Result<Self> {
        [Self::Tensor, Self::Global]
            .into_iter()
            .find(|s| s.name() == name)
            .ok_or_else(|| Error::usage(format!("no scope is named `{name}`")).hint("`tensor` or `global`"))
    }
}

/// What was asked for.
#[derive(Clone, Debug)]
pub struct PruneOptions {
    /// A name of [`crate::criteria`].
    pub criterion: String,
    /// `unstructured`, or N:M.
    pub pattern: String,
    /// Among which weights an unstructured pattern compares; `None` is per tensor.
    pub scope: Option<PruneScope>,
    /// Share of zeros, 0..=1. Unstructured pruning needs it, or rules; N:M implies it.
    pub sparsity: Option<f64>,
    /// Shares of single tensors where the pattern is unstructured and compares within each; the first that matches wins.
    pub rules: Vec<ShareRule>,
    /// A name of [`crate::stores`].
    pub store: String,
    /// Which tensors.
    pub selection: Selection,
    /// Whether NaN and infinity are let through, as the largest magnitudes.
    pub allow_nonfinite: bool,
    /// For criteria that draw.
    pub seed: u64,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self {
            criterion: "magnitude".to_owned(),
            pattern: "unstructured".to_owned(),
            scope: None,
            sparsity: None,
            rules: Vec::new(),
            store: "dense".to_owned(),
            selection: Selection::default(),
            allow_nonfinite: false,
            seed: 0,
        }
    }
}

/// Sets weights to zero.
#[derive(Debug)]
pub struct Prune {
    criterion: Criterion,
    pattern: Pattern,
    scope: PruneScope,
    /// 0..=1; nothing where rules name what is pruned.
    sparsity: Option<f64>,
    rules: Vec<ShareRule>,
    store: Store,
    selection: Selection,
    allow_nonfinite: bool,
    seed: u64,
    /// Among how many weights a search begins with a sample.
    pub(crate) sampled: Range<usize>,
    /// The shape of each tensor that is stored as a bitmask, by name: what `plan` saw last, for `NAME.shape`.
    shapes: RwLock<HashMap<String, Vec<usize>>>,
}

impl Prune {
    /// Checks what was asked for.
    ///
    /// # Errors
    /// When names are unknown, the sparsity is missing or out of range, or options contradict each other.
    pub fn new(options: PruneOptions) -> Result<Self> {
        let criterion = Criterion::named(&options.criterion)?;
        let pattern = Pattern::parse(&options.pattern)?;
        let store = Store::named(&options.store)?;
        if let Some(sparsity) = options.sparsity
            && !(0.0..=1.0).contains(&sparsity)
        {
            return Err(Error::usage(format!("sparsity {sparsity} is not in 0..=1"))
                .hint("it is the share of zeros: 0.5 is half of the weights"));
        }
        let sparsity = match (pattern, options.sparsity) {
            (Pattern::Unstructured, None) if options.rules.is_empty() => {
                return Err(
                    Error::usage("unstructured pruning needs a sparsity").hint("--sparsity 0.5, or --pattern 2:4")
                );
            }
            (Pattern::Unstructured, sparsity) => sparsity,
            (Pattern::NOfM { n, m }, asked) => {
                let implied = 1.0 - n as f64 / m as f64;
                if asked.is_some_and(|s| (s - implied).abs() > 1e-9) {
                    return Err(Error::usage(format!("pattern {pattern} means a sparsity of {implied}, not another"))
                        .hint("leave --sparsity out"));
                }
                if options.scope == Some(PruneScope::Global) {
                    return Err(Error::usage(format!("pattern {pattern} compares within groups of {m}, not globally"))
                        .hint("leave --scope out"));
                }
                Some(implied)
            }
        };
        let is_each = pattern == Pattern::Unstructured && options.scope != Some(PruneScope::Global);
        if !is_each && !options.rules.is_empty() {
            return Err(Error::usage("rules are shares of zeros of single tensors")
                .hint("leave --rule out, or take --pattern unstructured and --scope tensor"));
        }
        Ok(Self {
            criterion,
            pattern,
            scope: options.scope.unwrap_or_default(),
            sparsity,
            rules: options.rules,
            store,
            selection: options.selection,
            allow_nonfinite: options.allow_nonfinite,
            seed: options.seed,
            sampled: SAMPLED,
            shapes: RwLock::default(),
        })
    }

    fn is_global(&self) -> bool {
        self.pattern == Pattern::Unstructured && self.scope == PruneScope::Global
    }

    /// The share of zeros that a tensor gets.
    fn share(&self, name: &str) -> f64 {
        share_of(&self.rules, self.sparsity, name).unwrap_or(0.0)
    }

    fn action(&self, name: &str) -> String {
        match self.pattern {
            // Without the noise of the last binary digits.
            Pattern::Unstructured => format!("prune {}% unstructured", (self.share(name) * 1e11).round() / 1e9),
            Pattern::NOfM { .. } => format!("prune {}", self.pattern),
        }
    }

    /// Selected tensors, and why others are not.
    fn choose(&self, input: &Header) -> Result<Vec<Choice>> {
        let mut choices = rules::choose(input, &self.selection, &self.rules, self.sparsity.is_some())?;
        for (choice, tensor) in choices.iter_mut().zip(&input.tensors) {
            if choice.skipped.is_some() {
                continue;
            }
            if let Some(reason) = refusal(self.pattern, choice.layer.kind) {
                if choice.is_named {
                    return Err(Error::input(format!("tensor `{}`: {reason}", tensor.name))
                        .hint("--pattern unstructured takes it"));
                }
                choice.skipped = Some(reason);
            } else if tensor.elements() == 0 {
                choice.skipped = Some(EMPTY.to_owned());
            }
        }
        Ok(choices)
    }

    fn keys(&self, unit: &Unit, kind: Float, width: Width) -> Keys {
        Keys { kind, width, rank: self.criterion.rank, stream: stream(self.seed, &unit.name) }
    }

    fn check_finite(&self, unit: &Unit, kind: Float, first: usize, bytes: &[u8]) -> Result<()> {
        if self.allow_nonfinite {
            return Ok(());
        }
        let Some(i) = first_nonfinite(kind, bytes) else { return Ok(()) };
        let mut value = [0.0];
        dlopt_kernels::widen(kind, &bytes[i * kind.bytes()..(i + 1) * kind.bytes()], &mut value);
        let what = if value[0].is_nan() { "NaN" } else { "infinity" };
        Err(Error::input(format!("tensor `{}` holds {what} at index {}", unit.name, first + i))
            .hint("--allow-nonfinite goes on"))
    }
}

/// Why a pattern cannot be had on a kind of layer.
pub(crate) fn refusal(pattern: Pattern, kind: LayerKind) -> Option<String> {
    (pattern != Pattern::Unstructured && kind == LayerKind::TransposedConvolution)
        .then(|| format!("stored [in, out, …], so no run of weights is the inputs of one output; {pattern} needs one"))
}

/// Which way groups of N:M run in a tensor, as stored; `None`: along the columns of each row, else down the rows of
/// matrices of so many rows.
pub(crate) fn inputs_down(kind: LayerKind, shape: &[usize]) -> Option<usize> {
    match kind {
        LayerKind::TransposedLinear => shape.first().copied(),
        LayerKind::Expert => shape.get(1).copied(),
        _ => None,
    }
}

impl Prune {
    /// Why a tensor is pruned.
    fn reason(&self, tensor: &TensorInfo, choice: &Choice) -> &'static str {
        match self.rules.iter().any(|rule| rule.glob.matches(&tensor.name)) {
            true => "by a rule",
            false if KINDS.contains(&choice.layer.kind) => "selected by default",
            false => "included",
        }
    }

    fn notes(&self, input: &Header, choices: &[Choice]) -> Vec<Note> {
        let note = |(tensor, choice): (&TensorInfo, &Choice)| {
            let (action, reason) = match &choice.skipped {
                Some(reason) => ("skipped".to_owned(), reason.clone()),
                None => (self.action(&tensor.name), self.reason(tensor, choice).to_owned()),
            };
            Note { tensor: tensor.name.clone(), kind: choice.layer.kind.label().to_owned(), action, reason }
        };
        input.tensors.iter().zip(choices).map(note).collect()
    }
}

/// The error when no tensor is selected.
fn nothing_selected(input: &Header, choices: &[Choice]) -> Error {
    let could: Vec<_> = input
        .tensors
        .iter()
        .zip(choices)
        .filter(|(t, _)| is_weight_float(t.dtype) && t.shape.len() >= 2)
        .take(3)
        .map(|(t, _)| format!("`{}`", t.name))
        .collect();
    let error = Error::input("no tensor is selected, so there is nothing to prune");
    if could.is_empty() {
        return error.hint("the checkpoint has no matrix of floating-point weights");
    }
    error.hint(format!("--include takes names, such as {}; --explain says why each was skipped", could.join(", ")))
}

impl Pass for Prune {
    fn verb(&self) -> &'static str {
        "prune"
    }

    fn options(&self) -> serde_json::Value {
        let globs =
            |globs: &[dlopt_checkpoint::NameGlob]| globs.iter().map(|g| g.text().to_owned()).collect::<Vec<_>>();
        let mut options = json!({
            "criterion": self.criterion.plugin.name,
            "pattern": self.pattern.to_string(),
            "scope": self.scope.name(),
            "sparsity": self.sparsity,
            "store": self.store.name(),
            "include": globs(&self.selection.include),
            "exclude": globs(&self.selection.exclude),
            "tied": if self.selection.change_tied { "both" } else { "skip" },
            "allow_nonfinite": self.allow_nonfinite,
        });
        if !self.rules.is_empty() {
            options["rules"] = json!(self.rules.iter().map(ShareRule::text).collect::<Vec<_>>());
        }
        if self.criterion.is_seeded() {
            options["seed"] = json!(self.seed);
        }
        options
    }

    fn plan(&self, input: &Header) -> Result<Plan> {
        refuse_compressed(input)?;
        let choices = self.choose(input)?;
        if choices.iter().all(|c| c.skipped.as_ref().is_some_and(|reason| reason != EMPTY)) {
            return Err(nothing_selected(input, &choices));
        }
        let mut metadata = input.metadata.clone();
        metadata.insert(HISTORY_KEY.to_owned(), extend_history(input, self.verb(), self.options())?);
        let mut warnings = Vec::new();
        if self.store == Store::Bitmask {
            let mut layout = read_layout(input)?;
            let selected = input.tensors.iter().zip(&choices).filter(|(_, c)| c.skipped.is_none());
            let mut shapes = self.shapes.write().unwrap_or_else(PoisonError::into_inner);
            for (tensor, _) in selected {
                layout.insert(tensor.name.clone(), bitmask::stored(tensor));
                shapes.insert(tensor.name.clone(), tensor.shape.clone());
            }
            metadata.insert(LAYOUT_KEY.to_owned(), layout_text(layout));
            warnings.push(
                "current runtimes no longer read bitmask storage; `dlopt convert --decompress` makes it dense again"
                    .to_owned(),
            );
        }
        let plan = Plan {
            units: self.units(input, &choices),
            metadata,
            notes: self.notes(input, &choices),
            warnings,
            gate: None,
        };
        plan.check_names()?;
        Ok(plan)
    }

    fn replan(&self, _input: &Header, plan: &Plan, decision: &Decision) -> Result<Option<Plan>> {
        if !self.sizes_need_a_look() {
            return Ok(None);
        }
        let mut plan = plan.clone();
        for unit in plan.units.iter_mut().filter(|u| !u.is_copy) {
            let kept = unstructured::kept_elements(&View::of(unit), decision);
            unit.writes[0].info.shape = vec![kept];
        }
        Ok(Some(plan))
    }

    fn sizes_need_a_look(&self) -> bool {
        self.is_global() && self.store == Store::Bitmask
    }

    fn begin(&self, _so_far: Option<&Decision>) -> Partial {
        Box::new(Seen::default())
    }

    fn looks_at(&self, unit: &Unit, rows: &Range<usize>, so_far: Option<&Decision>) -> bool {
        search::looks_at(&View::of(unit), rows, so_far)
    }

    fn survey(
        &self,
        unit: &Unit,
        _position: usize,
        block: &Block<'_>,
        so_far: Option<&Decision>,
        partial: &mut Partial,
    ) -> Result<()> {
        let view = View::of(unit);
        let first = block.rows.start;
        if search::is_first_look(&view, so_far) {
            self.check_finite(unit, view.kind, first * view.columns, block.inputs[0])?;
        }
        let keys = self.keys(unit, view.kind, view.place.width);
        search::survey(&view, &keys, first, block.inputs[0], so_far, seen(partial));
        Ok(())
    }

    fn merge(&self, into: &mut Partial, from: Partial) {
        let from = from.downcast::<Seen>().expect("the executor merges what `begin` made");
        seen(into).merge(*from);
    }

    fn decide(&self, units: &[(usize, &Unit)], so_far: Option<&Decision>, all: Partial) -> Result<Step> {
        let all = all.downcast::<Seen>().expect("the executor merges what `begin` made");
        let views = search::views(units);
        let weights: usize = views.iter().map(|v| v.elements).sum();
        // All tensors have the same share, or there is one.
        let share = units.first().map_or(0.0, |(_, unit)| self.share(&unit.name));
        Ok(search::decide(&views, zeros_at(share, weights as u64), so_far, *all))
    }

    fn ragged(
        &self,
        unit: &Unit,
        _position: usize,
        _write: usize,
        rows: &Range<usize>,
        decision: &Decision,
    ) -> Range<u64> {
        unstructured::kept_bytes(&View::of(unit), rows, decision)
    }

    fn apply(
        &self,
        unit: &Unit,
        _position: usize,
        block: &Block<'_>,
        decision: Option<&Decision>,
        output: &mut Output<'_>,
    ) -> Result<()> {
        let first = block.rows.start;
        let bytes = block.inputs[0];
        let view = View::of(unit);
        if let Pattern::NOfM { n, m } = self.pattern {
            self.check_finite(unit, view.kind, first * view.columns, bytes)?;
            let rows = n_of_m::Rows {
                name: &unit.name,
                keys: self.keys(unit, view.kind, Width::Double),
                along: Along::of(unit.key),
                columns: view.columns,
                first,
                bytes,
            };
            let part = &unit.writes[0];
            let offset = part.span.range(&block.rows, part.info.bytes()).map_or(0, |r| r.start);
            n_of_m::apply(&rows, n, m, offset / view.kind.bytes() as u64, output)?;
        } else {
            let decision = decision.expect("unstructured units are looked at first");
            let keys = self.keys(unit, view.kind, view.place.width);
            unstructured::apply(&view, &keys, &unit.name, first, bytes, decision, output)?;
        }
        if let [_, _, _, shape] = &mut output.parts[..] {
            let shapes = self.shapes.read().unwrap_or_else(PoisonError::into_inner);
            bitmask::write_shape(shapes.get(&unit.name).map_or(&[], Vec::as_slice), shape);
        }
        Ok(())
    }
}

fn seen(partial: &mut Partial) -> &mut Seen {
    partial.downcast_mut().expect("the executor hands back what `begin` made")
}
