//! Channels that are made one by one, found to be the same, and put into groups.
//!
//! Disjoint-set forests (Tarjan, 1975): of channels, of the layers that made them, of groups that share a size. Roots are the
//! smallest numbers of their sets, so that the order of groups and of their channels is that of the walk.

use std::collections::BTreeMap;

use dlopt_prune::{Coupling, Group, Maker, Member, Part};

/// All channels of a walk.
#[derive(Default)]
pub(super) struct Channels {
    /// For every channel.
    channels: Forest,
    /// For every call of [`Channels::make`].
    makers: Forest,
    maker_of: Vec<usize>,
    kinds: Vec<Maker>,
    /// Why the channels of a maker stay, if they do.
    fixed: Vec<Option<String>>,
    /// The size that a maker's channels are counted by, where a description says it once for several.
    sizes: Vec<Option<String>>,
    axes: Vec<Axis>,
}

/// The channels along one axis of a tensor.
struct Axis {
    tensor: String,
    axis: usize,
    part: Part,
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
    pub(super) fn make(&mut self, count: usize, kind: Maker) -> Vec<usize> {
        let maker = self.makers.add();
        self.kinds.push(kind);
        self.fixed.push(None);
        self.sizes.push(None);
        self.maker_of.resize(self.maker_of.len() + count, maker);
        (0..count).map(|_| self.channels.add()).collect()
    }

    /// None of these can be cut, because of this.
    pub(super) fn fix(&mut self, channels: &[usize], why: &str) {
        for &channel in channels {
            self.fixed[self.maker_of[channel]].get_or_insert_with(|| why.to_owned());
        }
    }

    /// There are as many of these as of all others of this size.
    pub(super) fn count_by(&mut self, size: &str, channels: &[usize]) {
        channels.iter().for_each(|&channel| self.sizes[self.maker_of[channel]] = Some(size.to_owned()));
    }

    /// The group of each channel and its number in it; nothing where no tensor has it. `roots` are the numbers that the
    /// groups of [`Self::groups`] go by here.
    pub(super) fn places(&self, roots: &[usize], channels: &[usize]) -> Vec<Option<[usize; 2]>> {
        let numbers = self.numbers();
        let place = |&channel: &usize| {
            let group = roots.iter().position(|root| *root == self.group_of(channel))?;
            Some([group, numbers[self.channels.root(channel)]])
        };
        channels.iter().map(place).collect()
    }

    /// Each of `a` is the one of `b` at the same place.
    pub(super) fn join(&mut self, a: &[usize], b: &[usize]) {
        for (&a, &b) in a.iter().zip(b) {
            self.channels.join(a, b);
            self.makers.join(self.maker_of[a], self.maker_of[b]);
        }
    }

    /// The places on an axis of a tensor are of these channels.
    pub(super) fn lie_on(&mut self, tensor: &str, axis: usize, part: Part, channels: &[usize]) {
        self.lie_in_runs(tensor, axis, part, channels, 1);
    }

    /// The same for a grouped convolution: its outputs (axis 0) come in runs, and so do its inputs (axis 1), where each run
    /// has the same places.
    pub(super) fn lie_in_runs(&mut self, tensor: &str, axis: usize, part: Part, channels: &[usize], runs: usize) {
        self.axes.push(Axis { tensor: tensor.to_owned(), axis, part, channels: channels.to_vec(), runs });
    }

    /// Channels that are cut in step, with all that they lie on; and the number that each group goes by here.
    pub(super) fn groups(&self) -> (Coupling, Vec<usize>) {
        let places = self.numbers();
        let mut groups: BTreeMap<usize, Group> = BTreeMap::new();
        for channel in (0..places.len()).filter(|&channel| self.channels.root(channel) == channel) {
            let made_by = self.maker_of_group(self.group_of(channel));
            let new = || Group { channels: 0, members: Vec::new(), made_by, fixed: None, runs: 1 };
            groups.entry(self.group_of(channel)).or_insert_with(new).channels += 1;
        }
        for (maker, why) in self.fixed.iter().enumerate() {
            if let (Some(why), Some(group)) = (why, groups.get_mut(&self.makers.root(maker))) {
                group.fixed.get_or_insert_with(|| why.clone());
            }
        }
        for axis in &self.axes {
            self.add(axis, &places, &mut groups);
        }
        groups.retain(|_, group| !group.members.is_empty());
        let (roots, mut groups): (Vec<usize>, Vec<Group>) = groups.into_iter().unzip();
        let sizes = self.shared_sizes(&roots);
        sizes.iter().for_each(|size| agree(size, &mut groups));
        (Coupling { groups, sizes }, roots)
    }

    /// The number of each channel in its group.
    fn numbers(&self) -> Vec<usize> {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        let mut numbers = vec![0; self.maker_of.len()];
        for channel in 0..numbers.len() {
            let root = self.channels.root(channel);
            if root == channel {
                let count = counts.entry(self.group_of(channel)).or_default();
                numbers[channel] = *count;
                *count += 1;
            }
            numbers[channel] = numbers[root];
        }
        numbers
    }

    /// What made a group: the first of its makers but for the network's inputs.
    fn maker_of_group(&self, group: usize) -> Maker {
        let own = (0..self.kinds.len()).filter(|&maker| self.makers.root(maker) == group);
        own.map(|maker| self.kinds[maker]).find(|kind| *kind != Maker::Input).unwrap_or(Maker::Input)
    }

    /// Groups by the sizes that they share; one that shares none is a size by itself.
    fn shared_sizes(&self, roots: &[usize]) -> Vec<Vec<usize>> {
        let mut forest = Forest { parents: (0..roots.len()).collect() };
        let mut first: BTreeMap<&str, usize> = BTreeMap::new();
        for (maker, size) in self.sizes.iter().enumerate() {
            let Some(size) = size else { continue };
            let Some(group) = roots.iter().position(|root| *root == self.makers.root(maker)) else { continue };
            forest.join(*first.entry(size).or_insert(group), group);
        }
        let own = |root: usize| (0..roots.len()).filter(|&group| forest.root(group) == root).collect::<Vec<_>>();
        (0..roots.len()).map(own).filter(|size| !size.is_empty()).collect()
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
                let why = || format!("its channels do not lie side by side, as often each, in `{}`", axis.tensor);
                group.fixed.get_or_insert_with(why);
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
            let (tensor, axis, part) = (axis.tensor.clone(), axis.axis, axis.part);
            group.members.push(Member { tensor, axis, part, entries, per_channel, blocks });
        }
    }
}

/// Groups that share a size can only be cut if all of them can, and have as many channels.
fn agree(size: &[usize], groups: &mut [Group]) {
    let own = || size.iter().map(|&group| &groups[group]);
    let uneven = own()
        .find(|group| group.channels != groups[size[0]].channels)
        .map(|group| format!("its size is also that of `{}`, which has {} channels", group.name(), group.channels));
    let also = |group: &Group| Some(format!("its size is also that of `{}`: {}", group.name(), group.fixed.as_ref()?));
    if let Some(why) = own().find_map(also).or(uneven) {
        for &group in size {
            groups[group].fixed.get_or_insert_with(|| why.clone());
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
