//! The search for the weights to prune: the `count` smallest by (key, tensor, index), in rounds over streamed blocks.
//!
//! 0. *Sample* and *window*, only for magnitudes of many 32-bit floats: a sample brackets the key of the last weight to
//!    prune, and one pass counts the keys below the bracket and collects those within, by slot. That tells the key, its
//!    ties, and the slot where the last of them stands. Where the sample misled, the digits decide.
//! 1. *Digits*: a radix search from the highest 16 bits of the keys down gives the key of the last weight to prune, and
//!    how many weights of exactly that key (*ties*) must go. Magnitudes of 16-bit floats take one round.
//! 2. *Pieces*, only when some ties go and others stay, or when sizes must be known: ties, and smaller keys, in each run
//!    of slots. It needs only those slots that may hold the last tie to go.
//! 3. *Exact*: where in the last few slots that tie stands.
//!
//! What comes out is the same however blocks are cut: counts add up in any order.

use std::ops::Range;
use std::sync::Arc;

use dlopt_checkpoint::{Decision, Step, Unit};
use dlopt_kernels::{bracket, keys_within_32, sample_keys_32};

use crate::keys::Keys;
use crate::view::View;

/// Most slots of which each tie is remembered.
const EXACT_SLOTS: usize = 1024;

/// Most runs of slots that are counted in a round.
const PIECES: usize = 1 << 16;

/// Of so many elements one is in the sample; odd, so that it falls on all columns in turn.
const SAMPLE_STEP: usize = 255;

/// Most keys that are collected of a window.
const COLLECTED: usize = 1 << 23;

/// How many zeros a sparsity asks for: `sparsity * weights`, to nearest, halves to even.
pub fn zeros_at(sparsity: f64, weights: u64) -> u64 {
    ((sparsity * weights as f64).round_ties_even() as u64).min(weights)
}

/// What is known between rounds.
pub(crate) enum State {
    /// The next round.
    Searching(Search),
    /// The end.
    Found(Cut),
}

/// The next round.
#[derive(Clone)]
pub(crate) struct Search {
    stage: Stage,
    /// The digits found so far; the whole key after the last.
    prefix: u64,
    /// How many of the keys that begin with `prefix` must go, in `stage`'s range of slots.
    rest: u64,
    /// Keys kept before each slot, when sizes must be known and pieces were counted.
    kept: Vec<u64>,
    /// Whether a round has looked at every element.
    has_seen_all: bool,
}

#[derive(Clone)]
enum Stage {
    Sample,
    Window { keys: Range<u32> },
    Digit { shift: u32 },
    Pieces { slots: Range<usize>, shift: u32 },
    Exact { slots: Range<usize> },
}

/// Which weights go: keys below `key`, and those equal to it before `element` of `slot`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cut {
    pub(crate) key: u64,
    pub(crate) slot: usize,
    pub(crate) element: usize,
    /// Weights kept before each slot, and in all; only for bitmasks.
    pub(crate) kept: Vec<u64>,
}

impl Cut {
    /// Before which element of a slot weights with the key itself go.
    pub(crate) fn within(&self, slot: usize) -> usize {
        match slot.cmp(&self.slot) {
            std::cmp::Ordering::Less => usize::MAX,
            std::cmp::Ordering::Equal => self.element,
            std::cmp::Ordering::Greater => 0,
        }
    }
}

impl State {
    pub(crate) fn of(decision: &Decision) -> &Self {
        decision.downcast_ref().expect("the executor hands back what was decided")
    }

    /// The end of the search.
    pub(crate) fn cut(decision: &Decision) -> &Cut {
        match Self::of(decision) {
            Self::Found(cut) => cut,
            Self::Searching(_) => unreachable!("apply comes after the last round"),
        }
    }
}

/// What a round saw.
#[derive(Default)]
pub(crate) struct Seen {
    /// Keys of the sample.
    sample: Vec<u32>,
    window: Window,
    /// By segment of slots; one in all but the last digit of 15-bit keys.
    histograms: Vec<Option<Histogram>>,
    /// Number of the piece, keys below, keys equal.
    pieces: Vec<(usize, u64, u64)>,
    /// Ties of each slot that has any, one bit an element.
    ties: Vec<(usize, Vec<u64>)>,
}

/// What was seen of a window of keys.
#[derive(Default)]
struct Window {
    /// Keys below it.
    below: u64,
    /// Keys within, up to [`COLLECTED`].
    keys: Vec<u32>,
    /// The slots that `keys` came from, and how many from each.
    slots: Vec<(usize, usize)>,
    /// More were within, and none are remembered.
    is_overfull: bool,
}

impl Window {
    fn add(&mut self, slot: usize, bytes: &[u8], keys: &Range<u32>) {
        if self.is_overfull {
            return;
        }
        let before = self.keys.len();
        self.below += keys_within_32(bytes, keys.clone(), &mut self.keys);
        if self.keys.len() > before {
            self.slots.push((slot, self.keys.len() - before));
        }
        self.limit();
    }

    fn merge(&mut self, other: Self) {
        self.below += other.below;
        self.keys.extend(other.keys);
        self.slots.extend(other.slots);
        self.is_overfull |= other.is_overfull;
        self.limit();
    }

    fn limit(&mut self) {
        if self.is_overfull || self.keys.len() > COLLECTED {
            *self = Self { is_overfull: true, ..Self::default() };
        }
    }

    /// The key of a rank, counted from 1 among all elements, if it is within.
    fn key(&self, rank: u64) -> Option<u32> {
        let place = usize::try_from(rank.checked_sub(self.below + 1)?).ok()?;
        (place < self.keys.len()).then(|| *self.keys.clone().select_nth_unstable(place).1)
    }

    /// How many of the slots' keys are equal to one, as pieces.
    fn ties(&self, key: u32) -> Vec<(usize, u64, u64)> {
        let mut rest = &self.keys[..];
        let mut ties = |&(slot, count): &(usize, usize)| {
            let (own, later) = rest.split_at(count);
            rest = later;
            let equal = own.iter().filter(|k| **k == key).count() as u64;
            (equal > 0).then_some((slot, 0, equal))
        };
        self.slots.iter().filter_map(&mut ties).collect()
    }
}

/// Counts that cannot overflow, in 32 bits for as long as possible.
struct Histogram {
    recent: Vec<u32>,
    /// Elements in `recent`.
    seen: u64,
    earlier: Option<Vec<u64>>,
}

impl Histogram {
    fn new(bins: usize) -> Self {
        Self { recent: vec![0; bins], seen: 0, earlier: None }
    }

    /// Makes place for so many elements more.
    fn reserve(&mut self, elements: u64) {
        self.seen += elements;
        if self.seen > u64::from(u32::MAX) {
            let earlier = self.earlier.get_or_insert_with(|| vec![0; self.recent.len()]);
            for (sum, count) in earlier.iter_mut().zip(&mut self.recent) {
                *sum += u64::from(std::mem::take(count));
            }
            self.seen = elements;
        }
    }

    fn merge(&mut self, other: &Self) {
        self.reserve(other.seen);
        for (sum, count) in self.recent.iter_mut().zip(&other.recent) {
            *sum += count;
        }
        if let Some(other) = &other.earlier {
            let earlier = self.earlier.get_or_insert_with(|| vec![0; other.len()]);
            for (sum, count) in earlier.iter_mut().zip(other) {
                *sum += count;
            }
        }
    }

    fn count(&self, bin: usize) -> u64 {
        u64::from(self.recent[bin]) + self.earlier.as_ref().map_or(0, |e| e[bin])
    }
}

impl Seen {
    /// Adds what another worker saw.
    pub(crate) fn merge(&mut self, other: Self) {
        if self.histograms.len() < other.histograms.len() {
            self.histograms.resize_with(other.histograms.len(), || None);
        }
        for (into, from) in self.histograms.iter_mut().zip(other.histograms) {
            match (into.as_mut(), from) {
                (Some(into), Some(from)) => into.merge(&from),
                (None, from) => *into = from,
                (Some(_), None) => {}
            }
        }
        self.sample.extend(other.sample);
        self.window.merge(other.window);
        self.pieces.extend(other.pieces);
        self.ties.extend(other.ties);
    }

    fn histogram(&mut self, segment: usize, bins: usize) -> &mut Histogram {
        if self.histograms.len() <= segment {
            self.histograms.resize_with(segment + 1, || None);
        }
        self.histograms[segment].get_or_insert_with(|| Histogram::new(bins))
    }
}

/// Whether a round needs these rows.
pub(crate) fn looks_at(view: &View, rows: &Range<usize>, so_far: Option<&Decision>) -> bool {
    let Some(State::Searching(search)) = so_far.map(State::of) else { return true };
    match &search.stage {
        Stage::Sample | Stage::Window { .. } | Stage::Digit { .. } => true,
        Stage::Pieces { slots, .. } | Stage::Exact { slots } => {
            let own = view.slots_of(rows);
            own.start < slots.end && slots.start < own.end
        }
    }
}

/// Whether this round is the first to look at every element.
pub(crate) fn is_first_look(view: &View, so_far: Option<&Decision>) -> bool {
    match so_far.map(State::of) {
        Some(State::Searching(search)) => !search.has_seen_all,
        _ => !view.place.is_sampled,
    }
}

/// Looks at the rows from `first` on.
pub(crate) fn survey(view: &View, keys: &Keys, first: usize, bytes: &[u8], so_far: Option<&Decision>, seen: &mut Seen) {
    let begin = Search::begin(view);
    let search = match so_far.map(State::of) {
        Some(State::Searching(search)) => search,
        _ => &begin,
    };
    match &search.stage {
        Stage::Sample => sample_keys_32(bytes, SAMPLE_STEP, &mut seen.sample),
        Stage::Window { keys } => {
            view.split(first, bytes).for_each(|(slot, _, bytes)| seen.window.add(slot, bytes, keys))
        }
        Stage::Digit { shift } => tally(view, keys, first, bytes, search.prefix, *shift, seen),
        Stage::Pieces { slots, shift } => {
            for (slot, index, bytes) in view.split(first, bytes).filter(|s| slots.contains(&s.0)) {
                let (below, equal) = keys.count(bytes, index, search.prefix);
                match seen.pieces.last_mut() {
                    Some(last) if last.0 == slot >> shift => {
                        last.1 += below;
                        last.2 += equal;
                    }
                    _ => seen.pieces.push((slot >> shift, below, equal)),
                }
            }
        }
        Stage::Exact { slots } => {
            for (slot, index, bytes) in view.split(first, bytes).filter(|s| slots.contains(&s.0)) {
                let mut ties = vec![0u64; (bytes.len() / view.kind.bytes()).div_ceil(64)];
                keys.each(bytes, index, |i, key| ties[i / 64] |= u64::from(key == search.prefix) << (i % 64));
                if ties.iter().any(|word| *word != 0) {
                    seen.ties.push((slot, ties));
                }
            }
        }
    }
}

fn tally(view: &View, keys: &Keys, first: usize, bytes: &[u8], prefix: u64, shift: u32, seen: &mut Seen) {
    let bins = view.place.width.bins();
    let size = view.kind.bytes();
    if is_segmented(view) {
        // Runs of slots in one segment, so that the kernels get long slices.
        let slot_bytes = (view.slot_rows * view.columns * size).max(1);
        let mut slot = view.slots_of(&(first..first)).start;
        let mut rest = bytes;
        while !rest.is_empty() {
            let segment = slot >> view.place.segment_shift;
            let slots = ((segment + 1) << view.place.segment_shift) - slot;
            let (now, later) = rest.split_at(rest.len().min(slots.saturating_mul(slot_bytes)));
            let histogram = seen.histogram(segment, bins);
            histogram.reserve((now.len() / size) as u64);
            keys.tally(now, 0, shift, prefix, &mut histogram.recent);
            (slot, rest) = (slot + slots, later);
        }
    } else {
        let histogram = seen.histogram(0, bins);
        histogram.reserve((bytes.len() / size) as u64);
        keys.tally(bytes, (first * view.columns) as u64, shift, prefix, &mut histogram.recent);
    }
}

/// Where one histogram holds whole keys, it is kept by segment: the cut then needs a look at one segment only.
fn is_segmented(view: &View) -> bool {
    view.place.width.first_shift() == 0 && !view.is_bitmask
}

/// Concludes a round over `units`, which are searched together. `target` is how many weights must go.
pub(crate) fn decide(units: &[View], target: u64, so_far: Option<&Decision>, seen: Seen) -> Step {
    let mut search = match so_far.map(State::of) {
        Some(State::Searching(search)) => search.clone(),
        _ => Search { rest: target, ..Search::begin(&units[0]) },
    };
    search.has_seen_all |= !matches!(search.stage, Stage::Sample);
    let step = match search.stage.clone() {
        Stage::Sample => search.after_sample(units, seen.sample),
        Stage::Window { .. } => search.after_window(units, &seen.window),
        Stage::Digit { shift } => search.after_digit(units, shift, &seen),
        Stage::Pieces { slots, shift } => search.after_pieces(units, slots, shift, seen.pieces),
        Stage::Exact { .. } => search.after_exact(seen.ties),
    };
    match step {
        Some(cut) => Step::Done(Arc::new(State::Found(cut))),
        None => Step::Again(Arc::new(State::Searching(search))),
    }
}

impl Stage {
    fn first_digit(view: &View) -> Self {
        Self::Digit { shift: view.place.width.first_shift() }
    }
}

impl Search {
    fn begin(view: &View) -> Self {
        let stage = if view.place.is_sampled { Stage::Sample } else { Stage::first_digit(view) };
        Self { stage, prefix: 0, rest: 0, kept: Vec::new(), has_seen_all: false }
    }

    fn after_sample(&mut self, units: &[View], mut sample: Vec<u32>) -> Option<Cut> {
        let elements: usize = units.iter().map(|u| u.elements).sum();
        let keys = bracket(&mut sample, self.rest as f64 / elements as f64);
        let within = sample.iter().filter(|key| keys.contains(key)).count();
        // With many ties the window would be most of the tensor.
        let is_crowded = within > sample.len() / 4;
        self.stage = if is_crowded { Stage::first_digit(&units[0]) } else { Stage::Window { keys } };
        None
    }

    fn after_window(&mut self, units: &[View], seen: &Window) -> Option<Cut> {
        let Some(key) = seen.key(self.rest) else {
            self.stage = Stage::first_digit(&units[0]);
            return None;
        };
        self.prefix = key.into();
        self.rest -= seen.below + seen.keys.iter().filter(|k| **k < key).count() as u64;
        let slots = all_slots(units);
        if units[0].is_bitmask {
            self.stage = Stage::Pieces { slots, shift: 0 };
            return None;
        }
        if key == 0 {
            return Some(self.all_ties());
        }
        self.after_pieces(units, slots, 0, seen.ties(key))
    }

    fn after_digit(&mut self, units: &[View], shift: u32, seen: &Seen) -> Option<Cut> {
        let histograms: Vec<_> = seen.histograms.iter().flatten().collect();
        let bins = units[0].place.width.bins();
        let count = |bin: usize| histograms.iter().map(|h| h.count(bin)).sum::<u64>();
        let (mut bin, mut equal) = (0, count(0));
        while equal < self.rest && bin + 1 < bins {
            self.rest -= equal;
            bin += 1;
            equal = count(bin);
        }
        self.prefix = (self.prefix << 16) | bin as u64;
        if shift > 0 {
            self.stage = Stage::Digit { shift: shift - 16 };
            return None;
        }
        let all = all_slots(units);
        if units[0].is_bitmask {
            self.stage = Stage::Pieces { slots: all, shift: 0 };
            return None;
        }
        // Zeros are zeros: which of them go makes no difference.
        if self.rest == equal || self.prefix == 0 {
            return Some(self.all_ties());
        }
        if !is_segmented(&units[0]) {
            self.narrow(all);
            return None;
        }
        let size = units[0].place.segment_shift;
        for (segment, histogram) in seen.histograms.iter().enumerate() {
            let ties = histogram.as_ref().map_or(0, |h| h.count(bin));
            if ties >= self.rest {
                self.narrow(segment << size..((segment + 1) << size).min(all.end));
                return None;
            }
            self.rest -= ties;
        }
        unreachable!("the segments' ties add up to all")
    }

    /// Every weight with the key goes.
    fn all_ties(&mut self) -> Cut {
        Cut { key: self.prefix, slot: usize::MAX, element: 0, kept: std::mem::take(&mut self.kept) }
    }

    /// Goes on among these slots.
    fn narrow(&mut self, slots: Range<usize>) {
        if slots.len() <= EXACT_SLOTS {
            self.stage = Stage::Exact { slots };
            return;
        }
        let mut shift = 0;
        while slots.len() >> shift >= PIECES {
            shift += 1;
        }
        self.stage = Stage::Pieces { slots, shift };
    }

    fn after_pieces(
        &mut self,
        units: &[View],
        slots: Range<usize>,
        shift: u32,
        mut pieces: Vec<(usize, u64, u64)>,
    ) -> Option<Cut> {
        pieces.sort_unstable_by_key(|p| p.0);
        pieces.dedup_by(|later, sum| {
            let is_same = later.0 == sum.0;
            if is_same {
                sum.1 += later.1;
                sum.2 += later.2;
            }
            is_same
        });
        let mut last = None;
        let mut rest = self.rest;
        for (piece, _, equal) in &pieces {
            if rest == 0 {
                break;
            }
            if *equal >= rest {
                last = Some((*piece, rest, *equal));
                break;
            }
            rest -= equal;
        }
        if units[0].is_bitmask {
            self.kept = kept_before(units, &pieces, self.rest);
        }
        let Some((piece, rest, equal)) = last else {
            // No tie goes at all.
            return Some(Cut { key: self.prefix, slot: 0, element: 0, kept: std::mem::take(&mut self.kept) });
        };
        let first = (piece << shift).max(slots.start);
        let end = ((piece + 1) << shift).min(slots.end);
        if rest == equal {
            return Some(Cut { key: self.prefix, slot: end, element: 0, kept: std::mem::take(&mut self.kept) });
        }
        self.rest = rest;
        self.narrow(first..end);
        None
    }

    fn after_exact(&mut self, mut ties: Vec<(usize, Vec<u64>)>) -> Option<Cut> {
        ties.sort_unstable_by_key(|t| t.0);
        let mut rest = self.rest;
        for (slot, words) in ties {
            for (i, word) in words.iter().enumerate() {
                let ones = u64::from(word.count_ones());
                if ones >= rest {
                    let element = i * 64 + nth_one(*word, rest) + 1;
                    let kept = std::mem::take(&mut self.kept);
                    return Some(Cut { key: self.prefix, slot, element, kept });
                }
                rest -= ones;
            }
        }
        // The weights changed between two rounds; apply says so.
        Some(self.all_ties())
    }
}

/// Weights kept before each slot, and in all, when the first `rest` ties go. `pieces` are slots, all of them.
fn kept_before(units: &[View], pieces: &[(usize, u64, u64)], mut rest: u64) -> Vec<u64> {
    let mut kept = vec![0];
    let mut sum = 0;
    let slots = units
        .iter()
        .flat_map(|u| (u.place.first_slot..u.place.first_slot + u.slots).map(|slot| u.slot_elements(slot) as u64));
    for (elements, (_, below, equal)) in slots.zip(pieces) {
        let ties = (*equal).min(rest);
        rest -= ties;
        sum += elements - below - ties;
        kept.push(sum);
    }
    kept
}

/// The place of the `n`-th one of a word, counted from 1.
fn nth_one(mut word: u64, n: u64) -> usize {
    for _ in 1..n {
        word &= word - 1;
    }
    word.trailing_zeros() as usize
}

fn all_slots(units: &[View]) -> Range<usize> {
    0..units.last().map_or(0, |u| u.place.first_slot + u.slots)
}

/// The units of a round.
pub(crate) fn views(units: &[(usize, &Unit)]) -> Vec<View> {
    let mut views: Vec<_> = units.iter().map(|(_, unit)| View::of(unit)).collect();
    views.sort_by_key(|v| v.place.first_slot);
    views
}

#[cfg(test)]
mod tests {
    use dlopt_kernels::Float;

    use super::*;
    use crate::criteria::Rank;
    use crate::keys::Width;
    use crate::view::{Place, ROW};

    #[test]
    fn rounds_half_to_even() {
        assert_eq!([1, 3, 5, 7].map(|n| zeros_at(0.5, n)), [0, 2, 2, 4]);
        assert_eq!(zeros_at(1.0, 7), 7);
        assert_eq!(zeros_at(0.0, 7), 0);
    }

    /// The cut of one tensor, and how many rounds of each stage it took.
    fn search(x: &[f32], target: u64, is_sampled: bool) -> (Cut, [usize; 5]) {
        let slots = x.len().div_ceil(ROW);
        let place = Place::new(0, slots, Width::Single, is_sampled);
        let kind = Float::F32;
        let view = View { kind, columns: ROW, elements: x.len(), slot_rows: 1, slots, place, is_bitmask: false };
        let keys = Keys { kind, width: Width::Single, rank: Rank::Magnitude, stream: 0 };
        let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
        let (mut so_far, mut rounds) = (None, [0; 5]);
        loop {
            let stage = match so_far.as_ref().map(State::of) {
                Some(State::Searching(search)) => search.stage.clone(),
                _ => Search::begin(&view).stage,
            };
            rounds[match stage {
                Stage::Sample => 0,
                Stage::Window { .. } => 1,
                Stage::Digit { .. } => 2,
                Stage::Pieces { .. } => 3,
                Stage::Exact { .. } => 4,
            }] += 1;
            let mut all = Seen::default();
            for (i, block) in bytes.chunks(3 * ROW * 4).enumerate().rev() {
                let mut seen = Seen::default();
                survey(&view, &keys, 3 * i, block, so_far.as_ref(), &mut seen);
                all.merge(seen);
            }
            match decide(&[view], target, so_far.as_ref(), all) {
                Step::Again(decision) => so_far = Some(decision),
                Step::Done(decision) => return (State::cut(&decision).clone(), rounds),
            }
        }
    }

    fn goes(cut: &Cut, x: &[f32]) -> Vec<bool> {
        let of = |(i, x): (usize, &f32)| {
            let key = u64::from(x.abs().to_bits());
            key < cut.key || (key == cut.key && i % ROW < cut.within(i / ROW))
        };
        x.iter().enumerate().map(of).collect()
    }

    fn scattered(count: u32, distinct: u32) -> Vec<f32> {
        (0..count).map(|i| ((i.wrapping_mul(2_654_435_761) >> 7) % distinct) as f32 - distinct as f32 / 2.0).collect()
    }

    #[test]
    fn a_window_finds_the_cut_in_one_pass_and_a_look_at_the_last_slot() {
        let x = scattered(300_001, 1 << 20);
        for target in [1, 77_777, 150_001, 299_990, 300_001] {
            let (by_digits, rounds) = search(&x, target, false);
            assert_eq!(rounds[..3], [0, 0, 2]);
            let (by_window, rounds) = search(&x, target, true);
            assert_eq!(rounds[..4], [1, 1, 0, 0], "{target}");
            assert_eq!(goes(&by_window, &x), goes(&by_digits, &x), "{target}");
        }
    }

    #[test]
    fn the_digits_decide_where_the_window_cannot() {
        let ties = scattered(50_000, 5);
        // Every element of the sample is large, all others are small.
        let misled: Vec<f32> = (0..200_000)
            .map(|i| if (i % (3 * ROW)).is_multiple_of(SAMPLE_STEP) { 9.0 + i as f32 } else { 1.0 + i as f32 * 1e-6 })
            .collect();
        for (x, windows) in [(&ties, 0), (&misled, 1)] {
            let target = x.len() as u64 / 2 + 1;
            let (by_window, rounds) = search(x, target, true);
            assert_eq!(rounds[..3], [1, windows, 2]);
            assert_eq!(goes(&by_window, x), goes(&search(x, target, false).0, x));
        }
    }

    #[test]
    fn an_overfull_window_remembers_nothing() {
        let mut window = Window { below: 3, keys: vec![5; COLLECTED], slots: vec![(0, COLLECTED)], is_overfull: false };
        assert_eq!(window.key(4), Some(5));
        window.merge(Window { below: 1, keys: vec![5], slots: vec![(1, 1)], is_overfull: false });
        assert!(window.is_overfull && window.keys.is_empty() && window.key(4).is_none());
    }

    #[test]
    fn finds_the_ones_of_a_word() {
        let word = 0b1010_0100;
        assert_eq!([1, 2, 3].map(|n| nth_one(word, n)), [2, 5, 7]);
    }

    #[test]
    fn histograms_spill_before_they_overflow() {
        let mut histogram = Histogram::new(2);
        for _ in 0..3 {
            histogram.reserve(1 << 31);
            histogram.recent[1] += 1 << 31;
        }
        assert_eq!(histogram.count(1), 3 << 31);
    }
}
