//! How many channels of each layer stay, so that a network shrinks by what was asked for.
//!
//! Sizes of a network lose channels one step at a time: a step is one channel of every run of every group that shares the
//! size. The steps stand in one order, decided before costs are looked at: the same share of every size
//! ([`Widths::evenly`]), or by importance, whichever size it is of ([`Widths::by_importance`]). How many of them are taken
//! is then a search for the cost wanted ([`closest_prefix`]).
//!
//! Across sizes, importance counts relative to the mean of its own group, as layers differ in scale (Fang et al., 2023,
//! arXiv:2301.12900, section 3.3). A floor keeps every size from vanishing.

use dlopt_checkpoint::Result;

use crate::coupling::{Coupling, Group};

/// The sizes of a network that may shrink.
#[derive(Clone, Debug)]
pub struct Widths<'a> {
    coupling: &'a Coupling,
    sizes: Vec<Size>,
}

/// Groups that keep the same number of channels.
#[derive(Clone, Debug)]
struct Size {
    groups: Vec<usize>,
    /// Channels that each group loses in a step.
    step: usize,
    /// Steps until nothing is left.
    steps: usize,
    /// Steps that may be taken.
    most: usize,
}

impl<'a> Widths<'a> {
    /// The sizes all of whose groups can be cut and `may` be, of which at least the share `floor` (0..=1) of the channels
    /// stays, and at least one step. Sizes that are multiples of `round_to` stay so: vectors of that many values are full.
    pub fn new(coupling: &'a Coupling, floor: f64, round_to: usize, may: impl Fn(&Group) -> bool) -> Self {
        let size = |groups: &Vec<usize>| {
            let own = || groups.iter().map(|&group| &coupling.groups[group]);
            let channels = own().next()?.channels;
            let step = own().map(|group| group.runs).fold(1, least_common_multiple);
            if !own().all(|group| group.is_cuttable() && may(group)) || channels % step != 0 {
                return None;
            }
            let rounded = least_common_multiple(step, round_to.max(1));
            let step = if channels % rounded == 0 { rounded } else { step };
            let steps = channels / step;
            let stays = ((floor * steps as f64).ceil() as usize).clamp(1, steps);
            Some(Size { groups: groups.clone(), step, steps, most: steps - stays })
        };
        Self { coupling, sizes: coupling.sizes.iter().filter_map(size).collect() }
    }

    /// Whether no size can lose a step.
    pub fn is_empty(&self) -> bool {
        self.sizes.iter().all(|size| size.most == 0)
    }

    /// The order of steps in which every size keeps the same share: for each step, the size that loses it.
    pub fn evenly(&self) -> Vec<usize> {
        self.ordered(|size| (1..=size.most).map(|step| (step as f64 - 0.5) / size.steps as f64).collect())
    }

    /// The order of steps in which the least important channels go first, whichever size they are of. `importance` has a
    /// number for each channel of each group.
    pub fn by_importance(&self, importance: &[Vec<f64>]) -> Vec<usize> {
        self.ordered(|size| {
            let mut means = vec![0.0; size.steps];
            for &group in &size.groups {
                let own = &importance[group];
                let total: f64 = own.iter().sum();
                let scale = if total > 0.0 { own.len() as f64 / total } else { 0.0 };
                let runs = self.coupling.groups[group].runs;
                let mut sorted: Vec<Vec<f64>> = own.chunks_exact(own.len() / runs).map(<[f64]>::to_vec).collect();
                sorted.iter_mut().for_each(|run| run.sort_by(f64::total_cmp));
                // A step takes so many channels of each run.
                let each = size.step / runs;
                for (step, mean) in means.iter_mut().enumerate() {
                    let taken: f64 = sorted.iter().flat_map(|run| &run[step * each..(step + 1) * each]).sum();
                    *mean += scale * taken / (size.step * size.groups.len()) as f64;
                }
            }
            means.truncate(size.most);
            means
        })
    }

    /// Channels that each group keeps after `taken` steps.
    pub fn counts(&self, taken: &[usize]) -> Vec<usize> {
        let mut counts: Vec<usize> = self.coupling.groups.iter().map(|group| group.channels).collect();
        for &size in taken {
            let own = &self.sizes[size];
            own.groups.iter().for_each(|&group| counts[group] -= own.step);
        }
        counts
    }

    /// Channels that each group keeps where those of no importance go: as many of each size as the group of it that needs most.
    pub fn that_matter(&self, importance: &[Vec<f64>]) -> Vec<usize> {
        let mut counts = self.counts(&[]);
        for size in &self.sizes {
            let needs = |&group: &usize| {
                let (own, runs) = (&importance[group], self.coupling.groups[group].runs);
                let of_run = |run: &[f64]| run.iter().filter(|own| **own > 0.0).count();
                runs * own.chunks_exact((own.len() / runs).max(1)).map(of_run).max().unwrap_or(0)
            };
            let channels = size.step * size.steps;
            let needed = size.groups.iter().map(needs).max().unwrap_or(channels);
            let steps = ((channels - needed) / size.step).min(size.most);
            size.groups.iter().for_each(|&group| counts[group] -= steps * size.step);
        }
        counts
    }

    /// Sizes by the keys of their steps, which ascend within each; of equal keys the earlier size goes first.
    fn ordered(&self, keys: impl Fn(&Size) -> Vec<f64>) -> Vec<usize> {
        let of = |(at, size)| keys(size).into_iter().map(move |key| (key, at));
        let mut steps: Vec<(f64, usize)> = self.sizes.iter().enumerate().flat_map(of).collect();
        steps.sort_by(|a, b| a.0.total_cmp(&b.0));
        steps.into_iter().map(|(_, size)| size).collect()
    }
}

/// How many of `len` steps come closest to a `cost` of `wanted`, which falls or stays with every step; of equals the fewest.
///
/// # Errors
/// When a cost cannot be worked out.
pub fn closest_prefix(len: usize, wanted: f64, cost: impl Fn(usize) -> Result<f64>) -> Result<usize> {
    // The fewest steps that cost no more than is wanted.
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = (low + high) / 2;
        if cost(middle)? <= wanted { high = middle } else { low = middle + 1 }
    }
    if low > 0 && (cost(low - 1)? - wanted) <= (wanted - cost(low)?).abs() { Ok(low - 1) } else { Ok(low) }
}

pub(crate) fn least_common_multiple(a: usize, b: usize) -> usize {
    let (mut larger, mut smaller) = (a, b);
    while smaller > 0 {
        (larger, smaller) = (smaller, larger % smaller);
    }
    a / larger.max(1) * b
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coupling::Maker;

    fn group(channels: usize, runs: usize) -> Group {
        Group { channels, members: Vec::new(), made_by: Maker::Dense, fixed: None, runs }
    }

    fn coupling() -> Coupling {
        let fixed = Group { fixed: Some("it comes out".to_owned()), ..group(3, 1) };
        // A size by itself, one of two groups, one in two runs, one that stays.
        let groups = vec![group(4, 1), group(6, 1), group(6, 1), group(8, 2), fixed];
        Coupling { groups, sizes: vec![vec![0], vec![1, 2], vec![3], vec![4]] }
    }

    #[test]
    fn channels_of_no_importance_go_and_a_size_keeps_what_its_fullest_group_needs() {
        let coupling = coupling();
        let widths = Widths::new(&coupling, 0.0, 1, |_| true);
        let own = |text: &str| text.bytes().map(|b| f64::from(b - b'0')).collect::<Vec<f64>>();
        // Of the group in two runs one run needs three; a size whose channels are all dead keeps one.
        let importance = [own("0000"), own("300300"), own("003030"), own("10001101"), own("000")];
        assert_eq!(widths.that_matter(&importance), [1, 2, 2, 6, 3]);
    }

    #[test]
    fn every_size_loses_the_same_share() {
        let coupling = coupling();
        let widths = Widths::new(&coupling, 0.0, 1, |_| true);
        let order = widths.evenly();
        // All but one step of each: 3, 5 and 3.
        assert_eq!(order, [1, 0, 2, 1, 0, 2, 1, 1, 0, 2, 1]);
        assert_eq!(widths.counts(&order[..6]), [2, 4, 4, 4, 3]);
        assert_eq!(widths.counts(&order), [1, 1, 1, 2, 3]);
        let widths = Widths::new(&coupling, 0.5, 1, |group| group.runs == 1);
        let order = widths.evenly();
        assert_eq!(widths.counts(&order), [2, 3, 3, 8, 3]);
        assert!(Widths::new(&coupling, 1.0, 1, |_| true).is_empty());
        // Of 4, 6, 6 and 8 channels those of 4 and 8 are multiples.
        let widths = Widths::new(&coupling, 0.0, 4, |_| true);
        assert_eq!(widths.counts(&widths.evenly()), [4, 1, 1, 4, 3]);
    }

    #[test]
    fn the_least_important_go_first_relative_to_their_group() {
        let coupling = coupling();
        let widths = Widths::new(&coupling, 0.0, 1, |group| group.channels != 6);
        // Means 25 and 1: relative 0.04, 0.08, 1.2, 2.68; runs of 0.5 0.5 1 1 and 1 1 1.5 1.5.
        let importance = [
            vec![67.0, 1.0, 30.0, 2.0],
            vec![1.0; 6],
            vec![1.0; 6],
            vec![1.0, 0.5, 1.0, 0.5, 1.5, 1.5, 1.0, 1.0],
            vec![1.0; 3],
        ];
        // Steps of the runs: 0.75, 0.75, 1.25.
        assert_eq!(widths.by_importance(&importance), [0, 0, 1, 1, 0, 1]);
        assert_eq!(
            widths
                .by_importance(
                    &vec![vec![0.0; 8]; 5]
                        .iter()
                        .zip([4, 6, 6, 8, 3])
                        .map(|(v, n)| v[..n].to_vec())
                        .collect::<Vec<_>>()
                )
                .len(),
            6
        );
    }

    #[test]
    fn the_closest_cost_is_found() {
        let costs = [10.0, 9.0, 6.0, 6.0, 2.0];
        let closest = |wanted: f64| closest_prefix(4, wanted, |at| Ok(costs[at])).unwrap();
        assert_eq!([11.0, 10.0, 9.4, 7.4, 6.0, 4.5, 4.0, 3.9, 0.0].map(closest), [0, 0, 1, 2, 2, 3, 3, 4, 4]);
    }
}
