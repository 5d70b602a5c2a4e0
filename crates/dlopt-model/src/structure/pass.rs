//! The pass: what was asked for, what it plans from the header, and what it does to each tensor.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use dlopt_checkpoint::{
    Block, Decision, Error, HISTORY_KEY, Header, NameGlob, Note, Output, Partial, Pass, Plan, Read, Result, Scope,
    Span, Step, TensorInfo, Unit, Write, extend_history, must_match,
};
use dlopt_prune::{Importance, PruneScope, Slices, Structure};
use serde_json::{Value, json};

use super::decide::Stays;
use super::given::GivenImportance;
use super::network::{Prunable, Pruned};
use super::report::StructureReport;
use super::survey::Seen;

/// Bytes of a piece of a tensor that is weighed by itself.
const PIECE_BYTES: usize = 4 << 20;

/// What a sparsity is a share of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Trained values.
    #[default]
    Parameters,
    /// Multiply-adds of a sample.
    MultiplyAdds,
    /// Bytes of the tensors.
    Bytes,
    /// Channels, units or layers themselves.
    Width,
}

impl Target {
    /// All of them, with their names on the command line.
    pub const NAMES: [(&'static str, Self); 4] =
        [("params", Self::Parameters), ("flops", Self::MultiplyAdds), ("size", Self::Bytes), ("width", Self::Width)];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, target)| *target == self).map_or("", |(name, _)| name)
    }

    /// What it counts, for people.
    pub fn what(self) -> &'static str {
        match self {
            Self::Parameters => "parameters",
            Self::MultiplyAdds => "multiply-adds",
            Self::Bytes => "bytes",
            Self::Width => "channels",
        }
    }
}

/// What says how much a channel matters.
#[derive(Clone)]
pub enum Weigh {
    /// The weights themselves.
    Weights(&'static dyn Importance),
    /// Something that was found out before, on data.
    Given(GivenImportance),
}

/// What was asked for.
#[derive(Clone)]
pub struct StructureOptions {
    /// What leaves.
    pub structure: Structure,
    /// Share of `target` that leaves, 0..=1; `None`: the channels that do not matter at all, because all that writes and reads them
    /// is 0, as pruning while training leaves them.
    pub sparsity: Option<f64>,
    /// What it is a share of.
    pub target: Target,
    /// Whether each layer loses the same share, or the least important channels of all go; `None`: the same share.
    pub scope: Option<PruneScope>,
    /// Share of the channels of each layer that stays at least, 0..=1; `None`: a tenth where the scope is global, else 0.
    pub floor: Option<f64>,
    /// What widths that are multiples of it stay multiples of; 1 for any.
    pub round_to: usize,
    /// What says how much a channel matters.
    pub weigh: Weigh,
    /// Only channels that tensors of these names write may go; all where there are none.
    pub include: Vec<NameGlob>,
    /// Channels that tensors of these names write stay.
    pub exclude: Vec<NameGlob>,
    /// Whether NaN and infinity are let through, as the largest magnitudes.
    pub allow_nonfinite: bool,
    /// For criteria that draw.
    pub seed: u64,
}

/// Takes whole channels or layers out of a network.
pub struct PruneStructure {
    pub(super) options: StructureOptions,
    /// What `plan` saw last.
    network: RwLock<Option<Arc<Prunable>>>,
    report: RwLock<Option<StructureReport>>,
}

/// What was decided for every tensor.
struct Decided {
    pruned: Pruned,
    /// Nothing where whole layers leave.
    slices: Option<BTreeMap<String, Slices>>,
}

impl PruneStructure {
    /// Checks what was asked for.
    ///
    /// # Errors
    /// When a share is out of range, or options contradict each other.
    pub fn new(options: StructureOptions) -> Result<Self> {
        for (name, share) in [("--sparsity", options.sparsity), ("--floor", options.floor)] {
            if let Some(share) = share.filter(|share| !(0.0..=1.0).contains(share)) {
                return Err(Error::usage(format!("{name} is {share}, and not in 0..=1")));
            }
        }
        if options.structure == Structure::Layers {
            if options.scope.is_some() {
                return Err(Error::usage("--pattern layers compares all layers, so --scope means nothing")
                    .hint("leave --scope out"));
            }
            if !options.include.is_empty() || !options.exclude.is_empty() {
                return Err(Error::usage(
                    "--pattern layers chooses among all layers that can go, not by names of tensors",
                )
                .hint("leave --include and --exclude out"));
            }
        }
        Ok(Self { options, network: RwLock::default(), report: RwLock::default() })
    }

    /// What left, once it is decided.
    pub fn report(&self) -> Option<StructureReport> {
        self.report.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn network(&self) -> Arc<Prunable> {
        let network = self.network.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(network.as_ref().expect("`plan` comes before everything else"))
    }

    /// The network that is left; notes what left for [`Self::report`].
    fn settle(&self, network: &Prunable, stays: &Stays) -> Result<Decided> {
        let (decided, kept) = match stays {
            Stays::Channels(kept) => {
                let cut = dlopt_prune::Cut::new(&network.coupling, kept.clone());
                let slices = Some(network.slices(&cut));
                (Decided { pruned: network.narrowed(&cut)?, slices }, Some(kept.as_slice()))
            }
            Stays::Layers(stays) => (Decided { pruned: network.shortened(stays)?, slices: None }, None),
        };
        let report = StructureReport::new(network, &decided.pruned, kept);
        *self.report.write().unwrap_or_else(PoisonError::into_inner) = Some(report);
        Ok(decided)
    }

    /// Whether the survey must see a tensor.
    fn weighs(&self, network: &Prunable, name: &str) -> bool {
        let Weigh::Weights(by) = &self.options.weigh else { return false };
        let is_own = |group: &dlopt_prune::Group| {
            let counts = |member: &dlopt_prune::Member| member.tensor == name && by.counts(member.part);
            (self.options.structure == Structure::Layers || self.may(group)) && group.members.iter().any(counts)
        };
        network.coupling.groups.iter().any(is_own)
    }

    /// Rows that a tensor is worked on by: one where all of it must be seen together.
    fn rows(&self, network: &Prunable, tensor: &TensorInfo, name: &str) -> usize {
        let is_whole = match &self.options.weigh {
            Weigh::Weights(by) => !by.adds_up() && self.weighs(network, name),
            Weigh::Given(_) => false,
        };
        if is_whole { 1 } else { tensor.shape.first().copied().unwrap_or(1).max(1) }
    }

    fn metadata(&self, input: &Header, pruned: Option<&Pruned>) -> Result<BTreeMap<String, String>> {
        let mut metadata = input.metadata.clone();
        metadata.insert(HISTORY_KEY.to_owned(), extend_history(input, self.verb(), self.options())?);
        if let Some(pruned) = pruned {
            metadata.insert("config".to_owned(), pruned.config.to_json());
        }
        Ok(metadata)
    }

    /// Units and notes, in the order of the input, with the shapes that are decided or else those that are there.
    fn units(&self, input: &Header, network: &Prunable, decided: Option<&Decided>) -> (Vec<Unit>, Vec<Note>) {
        let slices = decided.and_then(|decided| decided.slices.as_ref());
        let is_layers = self.options.structure == Structure::Layers;
        let (mut units, mut notes) = (Vec::new(), Vec::new());
        for (at, (tensor, name)) in input.tensors.iter().zip(&network.names).enumerate() {
            let own = slices.and_then(|slices| slices.get(name));
            let shape = own.map_or_else(|| tensor.shape.clone(), |own| own.shape.clone());
            let action = match own {
                Some(own) if !own.is_whole() => format!("{:?} of {:?}", own.shape, own.from),
                _ => "stays".to_owned(),
            };
            let (mut name, mut action) = (name.clone(), action);
            let is_known = network.coupling.groups.iter().any(|g| g.members.iter().any(|m| m.tensor == name));
            if let (true, Some(decided)) = (is_layers, decided) {
                match renamed(&decided.pruned, network, &name) {
                    Some(new) if new == name => {}
                    Some(new) => {
                        action = format!("becomes `{new}`");
                        name = new;
                    }
                    None => {
                        notes.push(note(tensor, "leaves with its layer", network));
                        continue;
                    }
                }
            }
            notes.push(note(tensor, &action, network));
            if !is_known || (is_layers && decided.is_some()) {
                units.push(Unit::rename(at, tensor, name));
                continue;
            }
            let info = TensorInfo { name: name.clone(), dtype: tensor.dtype, shape };
            let rows = self.rows(network, tensor, &network.names[at]);
            let row_bytes = tensor.bytes() as usize / rows;
            let span = match rows > 1 && info.shape.first() != tensor.shape.first() {
                true => Span::Ragged { offsets: 0 },
                false => Span::row(info.bytes() as usize / rows),
            };
            units.push(Unit {
                name,
                reads: vec![Read { tensor: at, span: Span::row(row_bytes) }],
                writes: vec![Write { span, info }],
                rows,
                row_quantum: piece_rows(rows, row_bytes),
                scope: Scope::Model,
                key: at,
                is_copy: false,
            });
        }
        (units, notes)
    }
}

/// Rows of a piece that is weighed by itself: the same at any memory, as scores are added up piece by piece.
fn piece_rows(rows: usize, row_bytes: usize) -> usize {
    (PIECE_BYTES / row_bytes.max(1)).clamp(1, rows)
}

/// The rows of a tensor of `shape` that rows of a unit are.
fn rows_of(unit: &Unit, rows: Range<usize>, shape: &[usize]) -> Range<usize> {
    if unit.rows == 1 { 0..shape.first().copied().unwrap_or(1) } else { rows }
}

/// What a tensor is called in the network that is left; nothing where it left. Tensors that no layer has, counters of
/// batches, go where those beside them go.
fn renamed(pruned: &Pruned, network: &Prunable, name: &str) -> Option<String> {
    if let Some((new, _)) = pruned.sources.iter().find(|(_, source)| *source == name) {
        return Some(new.clone());
    }
    if network.has(name) {
        return None;
    }
    let module = name.rsplit_once('.').map_or("", |(module, _)| module);
    let beside = |source: &&String| source.rsplit_once('.').is_some_and(|(own, _)| own == module);
    pruned.sources.values().find(beside).map(|_| name.to_owned())
}

fn note(tensor: &TensorInfo, action: &str, network: &Prunable) -> Note {
    let own = network.names.iter().position(|name| *name == tensor.name);
    let name = own.map_or(tensor.name.as_str(), |at| &network.names[at]);
    let of = network.coupling.groups.iter().flat_map(|group| group.members.iter().map(move |member| (group, member)));
    let groups: Vec<String> = of
        .filter(|(_, member)| member.tensor == name)
        .map(|(group, member)| format!("axis {} of group {}", member.axis, group.name()))
        .collect();
    let reason = if groups.is_empty() { "no channel lies on it".to_owned() } else { groups.join(", ") };
    Note { tensor: tensor.name.clone(), kind: "channels".to_owned(), action: action.to_owned(), reason }
}

impl Pass for PruneStructure {
    fn verb(&self) -> &'static str {
        "prune"
    }

    fn options(&self) -> Value {
        let globs = |globs: &[NameGlob]| globs.iter().map(|g| g.text().to_owned()).collect::<Vec<_>>();
        let own = &self.options;
        let mut options = json!({
            "pattern": own.structure.to_string(),
            "sparsity": own.sparsity,
            "target": own.target.name(),
            "floor": self.floor(),
            "include": globs(&own.include),
            "exclude": globs(&own.exclude),
            "allow_nonfinite": own.allow_nonfinite,
        });
        if own.structure != Structure::Layers {
            options["scope"] = json!(own.scope.unwrap_or_default().name());
            options["round_to"] = json!(own.round_to);
        }
        match &own.weigh {
            Weigh::Weights(by) => {
                options["criterion"] = json!(by.plugin().name);
                if by.is_seeded() {
                    options["seed"] = json!(own.seed);
                }
            }
            Weigh::Given(given) => {
                options["criterion"] = json!(given.criterion);
                options["on"] = given.facts.clone();
            }
        }
        options
    }

    fn plan(&self, input: &Header) -> Result<Plan> {
        let globs = self.options.include.iter().chain(&self.options.exclude);
        globs.into_iter().try_for_each(|glob| must_match(glob, input))?;
        let network = Arc::new(Prunable::of(input)?);
        *self.network.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&network));
        // Where every layer loses the same share, sizes follow from the header alone.
        let decided = match self.sizes_need_a_look() {
            true => None,
            false => Some(self.settle(&network, &self.first_channels(&network)?)?),
        };
        let (units, notes) = self.units(input, &network, decided.as_ref());
        let metadata = self.metadata(input, decided.as_ref().map(|decided| &decided.pruned))?;
        let plan = Plan { units, metadata, notes, warnings: Vec::new(), gate: None };
        plan.check_names()?;
        Ok(plan)
    }

    fn replan(&self, input: &Header, plan: &Plan, decision: &Decision) -> Result<Option<Plan>> {
        let decided = decided(decision);
        let (units, notes) = self.units(input, &self.network(), Some(decided));
        let metadata = self.metadata(input, Some(&decided.pruned))?;
        Ok(Some(Plan { units, metadata, notes, ..plan.clone() }))
    }

    fn sizes_need_a_look(&self) -> bool {
        let own = &self.options;
        own.structure == Structure::Layers || own.scope == Some(PruneScope::Global) || own.sparsity.is_none()
    }

    fn begin(&self, _so_far: Option<&Decision>) -> Partial {
        Box::new(Seen::default())
    }

    fn looks_at(&self, unit: &Unit, _rows: &Range<usize>, _so_far: Option<&Decision>) -> bool {
        let network = self.network();
        self.weighs(&network, &network.names[unit.key])
    }

    fn survey(
        &self,
        unit: &Unit,
        _position: usize,
        block: &Block<'_>,
        _so_far: Option<&Decision>,
        partial: &mut Partial,
    ) -> Result<()> {
        let network = self.network();
        let name = &network.names[unit.key];
        let row_values = network.shape(name).iter().product::<usize>() / unit.rows;
        let values = self.values(unit, block.rows.start * row_values, block.inputs[0])?;
        let piece = unit.row_quantum;
        let pieces = block.rows.clone().step_by(piece).zip(values.chunks((piece * row_values).max(1)));
        for (first, values) in pieces {
            let rows = rows_of(unit, first..block.rows.end.min(first + piece), network.shape(name));
            seen(partial).see(self, &network, name, &rows, values);
        }
        Ok(())
    }

    fn merge(&self, into: &mut Partial, mut from: Partial) {
        let from = std::mem::take(seen(&mut from));
        seen(into).take(from);
    }

    fn decide(&self, _units: &[(usize, &Unit)], _so_far: Option<&Decision>, mut all: Partial) -> Result<Step> {
        let network = self.network();
        let stays = self.stays(&network, &std::mem::take(seen(&mut all)).scores())?;
        Ok(Step::Done(Arc::new(self.settle(&network, &stays)?)))
    }

    fn ragged(
        &self,
        unit: &Unit,
        _position: usize,
        _write: usize,
        rows: &Range<usize>,
        decision: &Decision,
    ) -> Range<u64> {
        let slices = decided(decision).slices.as_ref().and_then(|slices| slices.get(&unit.name));
        let slices = slices.expect("every tensor of a group has slices");
        let info = &unit.writes[0].info;
        let row_bytes = info.bytes() / info.shape.first().map_or(1, |&rows| rows.max(1) as u64);
        let at = |row: usize| slices.rows_before(row) as u64 * row_bytes;
        at(rows.start)..at(rows.end)
    }

    fn apply(
        &self,
        unit: &Unit,
        _position: usize,
        block: &Block<'_>,
        decision: Option<&Decision>,
        output: &mut Output<'_>,
    ) -> Result<()> {
        let decided = decided(decision.expect("units that lose channels are decided first"));
        let slices = decided.slices.as_ref().and_then(|slices| slices.get(&unit.name));
        let slices = slices.expect("every tensor of a group has slices");
        let (bytes, out) = (block.inputs[0], &mut output.parts[0]);
        let rows = rows_of(unit, block.rows.clone(), &slices.from);
        match unit.writes[0].info.dtype.bitsize() / 8 {
            2 => out.copy_from_slice(slices.of_rows(rows, bytes.as_chunks::<2>().0).as_flattened()),
            4 => out.copy_from_slice(slices.of_rows(rows, bytes.as_chunks::<4>().0).as_flattened()),
            _ => out.copy_from_slice(slices.of_rows(rows, bytes.as_chunks::<8>().0).as_flattened()),
        }
        Ok(())
    }
}

fn decided(decision: &Decision) -> &Decided {
    decision.downcast_ref().expect("the executor hands back what `decide` made")
}

fn seen(partial: &mut Partial) -> &mut Seen {
    partial.downcast_mut().expect("the executor hands back what `begin` made")
}
