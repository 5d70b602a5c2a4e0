//! Channels that are made one by one, found to be the same, and put into groups.
//!
//! Two disjoint-set forests (Tarjan, 1975): one of channels, one of the layers that made them. Roots are the smallest
//! numbers of their sets, so that the order of groups and of their channels is that of the walk.

use std::collections::BTreeMap;

use dlopt_prune::{Coupling, Group, Member};

/// All channels of a walk.
#[derive(Default)]
pub(super) struct Channels {
    /// For every channel.
    channels: Forest,
    /// For every call of [`Channels::make`].
    makers: Forest,
    maker_of: Vec<usize>,
    is_fixed: Vec<bool>,
    axes: Vec<Axis>,
}

/// The channels along one axis of a tensor.
struct Axis {
    tensor: String,
    axis: usize,
    channels: Vec<usize>,
    runs: usize,
}

/// A disjoint-set forest.
#[derive(Default)]
struct Forest {
    parents: Vec<usize>,
}

impl Forest {
    fn add(&mut self) -> usize {
        self.parents.push(self.parents.len());
        self.parents.len() - 1
    }

    fn root(&self, mut own: usize) -> usize {
        while self.parents[own] != own {
            own = self.parents[own];
        }
        own
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.parents[a.max(b)] = a.min(b);
    }
}

impl Channels {
    /// New channels of one layer.
    pub(super) fn make(&mut self, count: usize) -> Vec<usize> {
        let maker = self.makers.add();
        self.is_fixed.push(false);
        self.maker_of.resize(self.maker_of.len() + count, maker);
        (0..count).map(|_| self.channels.add()).collect()
    }

    /// None of these can be cut.
    pub(super) fn fix(&mut self, channels: &[usize]) {
        channels.iter().for_each(|&channel| self.is_fixed[self.maker_of[channel]] = true);
    }

    /// Each of `a` is the one of `b` at the same place.
    pub(super) fn join(&mut self, a: &[usize], b: &[usize]) {
        for (&a, &b) in a.iter().zip(b) {
            self.channels.join(a, b);
            self.makers.join(self.maker_of[a], self.maker_of[b]);
        }
    }

    /// The places on an axis of a tensor are of these channels.
    pub(super) fn lie_on(&mut self, tensor: &str, axis: usize, channels: &[usize]) {
        self.lie_in_runs(tensor, axis, channels, 1);
    }

    /// The same for a grouped convolution: its outputs (axis 0) come in runs, and so do its inputs (axis 1), where each run
    /// has the same places.
    pub(super) fn lie_in_runs(&mut self, tensor: &str, axis: usize, channels: &[usize], runs: usize) {
        self.axes.push(Axis { tensor: tensor.to_owned(), axis, channels: channels.to_vec(), runs });
    }

    /// Channels that are cut in step, with all that they lie on.
    pub(super) fn groups(&self) -> Coupling {
        // Channels by group, and the place of each in its group.
        let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut places = vec![0; self.maker_of.len()];
        for channel in 0..places.len() {
            let root = self.channels.root(channel);
            if root == channel {
                let own = members.entry(self.group_of(channel)).or_default();
                places[channel] = own.len();
                own.push(channel);
            }
            places[channel] = places[root];
        }
        let mut groups: BTreeMap<usize, Group> = BTreeMap::new();
        for (&group, own) in &members {
            let made = Group { channels: own.len(), members: Vec::new(), is_cuttable: true, runs: 1 };
            groups.insert(group, made);
        }
        for (maker, _) in self.is_fixed.iter().enumerate().filter(|(_, is_fixed)| **is_fixed) {
            if let Some(group) = groups.get_mut(&self.makers.root(maker)) {
                group.is_cuttable = false;
            }
        }
        for axis in &self.axes {
            self.add(axis, &places, &mut groups);
        }
        Coupling { groups: groups.into_values().filter(|group| !group.members.is_empty()).collect() }
    }

    fn group_of(&self, channel: usize) -> usize {
        self.makers.root(self.maker_of[channel])
    }

    /// Adds an axis to the groups whose channels lie on it. A group of which not all channels have as many places cannot
    /// be cut.
    fn add(&self, axis: &Axis, places: &[usize], groups: &mut BTreeMap<usize, Group>) {
        let mut shares: BTreeMap<usize, Vec<Vec<usize>>> = BTreeMap::new();
        for (place, &channel) in axis.channels.iter().enumerate() {
            let group = self.group_of(channel);
            let channels = groups[&group].channels;
            shares.entry(group).or_insert_with(|| vec![Vec::new(); channels])[places[channel]].push(place);
        }
        for (number, share) in shares {
            let Some(group) = groups.get_mut(&number) else { continue };
            let per_channel = share[0].len();
            let in_order = |(channel, places): (usize, &Vec<usize>)| places[..] == [channel];
            let is_whole = share.iter().enumerate().all(in_order) && share.len() == axis.channels.len();
            if per_channel == 0 || share.iter().any(|own| own.len() != per_channel) || (axis.runs > 1 && !is_whole) {
                group.is_cuttable = false;
                continue;
            }
            let mut entries = share.concat();
            let mut blocks = 1;
            if axis.runs > 1 {
                group.runs = least_common_multiple(group.runs, axis.runs);
                if axis.axis == 1 {
                    blocks = axis.runs;
                    entries.iter_mut().for_each(|place| *place %= axis.channels.len() / axis.runs);
                }
            }
            group.members.push(Member { tensor: axis.tensor.clone(), axis: axis.axis, entries, per_channel, blocks });
        }
    }
}

fn least_common_multiple(a: usize, b: usize) -> usize {
    let (mut larger, mut smaller) = (a, b);
    while smaller > 0 {
        (larger, smaller) = (smaller, larger % smaller);
    }
    a / larger * b
}
