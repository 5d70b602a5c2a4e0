//! The search for the weights to prune: the `count` smallest by (key, tensor, index), in rounds over streamed blocks.
//!
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

use crate::keys::Keys;
use crate::view::View;

/// Most slots of which each tie is remembered.
const EXACT_SLOTS: usize = 1024;

/// Most runs of slots that are counted in a round.
const PIECES: usize = 1 << 16;

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
}

#[derive(Clone)]
enum Stage {
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
    /// By segment of slots; one in all but the last digit of 15-bit keys.
    histograms: Vec<Option<Histogram>>,
    /// Number of the piece, keys below, keys equal.
    pieces: Vec<(usize, u64, u64)>,
    /// Ties of each slot that has any, one bit an element.
    ties: Vec<(usize, Vec<u64>)>,
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
        Stage::Digit { .. } => true,
        Stage::Pieces { slots, .. } | Stage::Exact { slots } => {
            let own = view.slots_of(rows);
            own.start < slots.end && slots.start < own.end
        }
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
    let step = match search.stage.clone() {
        Stage::Digit { shift } => search.after_digit(units, shift, &seen),
        Stage::Pieces { slots, shift } => search.after_pieces(units, slots, shift, seen.pieces),
        Stage::Exact { .. } => search.after_exact(seen.ties),
    };
    match step {
        Some(cut) => Step::Done(Arc::new(State::Found(cut))),
        None => Step::Again(Arc::new(State::Searching(search))),
    }
}

impl Search {
    fn begin(view: &View) -> Self {
        Self { stage: Stage::Digit { shift: view.place.width.first_shift() }, prefix: 0, rest: 0, kept: Vec::new() }
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
        let all = 0..units.last().map_or(0, |u| u.place.first_slot + u.slots);
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

/// The units of a round.
pub(crate) fn views(units: &[(usize, &Unit)]) -> Vec<View> {
    let mut views: Vec<_> = units.iter().map(|(_, unit)| View::of(unit)).collect();
    views.sort_by_key(|v| v.place.first_slot);
    views
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_half_to_even() {
        assert_eq!([1, 3, 5, 7].map(|n| zeros_at(0.5, n)), [0, 2, 2, 4]);
        assert_eq!(zeros_at(1.0, 7), 7);
        assert_eq!(zeros_at(0.0, 7), 0);
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
