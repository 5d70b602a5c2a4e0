//! Which slices of which tensors go together: whoever removes a channel removes all of them.
//!
//! A *channel* is one feature of what flows between layers: a filter, a unit, a hidden state, a value of an embedding. It is
//! written by slices of some tensors (rows of a weight, an entry of a bias) and read by slices of others (columns of the
//! next weight, an entry of a norm). Channels that can only be cut in step form a [`Group`]: those of one convolution and
//! all that reads it, or those of all blocks that one identity shortcut runs through.
//!
//! Importance of channel `k` of a group: `I(k) = sum over members m of s(m[k]) / sum over channels j of s(m[j])`, where `m[k]`
//! is the member's slice and `s` what an [`Importance`] says of it. The sum over a group is DepGraph's (Fang et al., 2023,
//! arXiv:2301.12900); that every member is divided by its own total is ours, so that a wide tensor does not outvote a
//! narrow one.
//!
//! Tensors are `[out, in, ...]`, as PyTorch stores them.

mod cut;
mod pieces;

use dlopt_checkpoint::{Error, Result};

use crate::importance::Importance;

pub use cut::{Cut, Slices};
pub use pieces::Pieces;

/// All groups of a network. Every tensor's axis belongs to groups as a whole, or to none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coupling {
    /// In the order in which their channels are first written.
    pub groups: Vec<Group>,
    /// Groups that keep the same number of channels, not the same ones, because a description says their size once: the
    /// layers and directions of a recurrent stack. Every group stands in one of these lists.
    pub sizes: Vec<Vec<usize>>,
}

/// What made the channels of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// Nothing: they go in.
    Input,
    /// Filters of a convolution.
    Convolution,
    /// Units of a dense layer.
    Dense,
    /// Hidden units of a recurrent layer.
    Recurrent,
    /// Values of an embedding.
    Embedding,
}

/// What a tensor does with the channels on one of its axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its slices work the channels out.
    Writes,
    /// Its slices take them in.
    Reads,
    /// Its values are the scales of a norm.
    Scales,
    /// It goes along: biases, shifts, running statistics say where a channel lies, not how much it says.
    Follows,
}

/// Channels that are cut in step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// How many.
    pub channels: usize,
    /// What writes and reads them.
    pub members: Vec<Member>,
    /// What made them; where several layers did, the first of them.
    pub made_by: Maker,
    /// Why no channel may go, if so: those of the network's inputs and outputs stay.
    pub fixed: Option<String>,
    /// Runs of equal length that the channels come in, of which each must keep as many: those of grouped convolutions.
    pub runs: usize,
}

/// The part that a group has in one axis of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Name in a checkpoint.
    pub tensor: String,
    /// 0 for outputs, 1 for inputs.
    pub axis: usize,
    /// What the tensor does with the channels.
    pub part: Part,
    /// Places on the axis, `[channels, per_channel]`: several where a picture was flattened, one for each gate of a
    /// recurrent layer.
    pub entries: Vec<usize>,
    /// Places that a channel has.
    pub per_channel: usize,
    /// Blocks of rows of which each reads one run of the channels, at the places `entries` counted within the block: the
    /// inputs of a grouped convolution. 1 for everything else.
    pub blocks: usize,
}

impl Member {
    /// The places of one channel.
    pub fn of(&self, channel: usize) -> &[usize] {
        &self.entries[channel * self.per_channel..(channel + 1) * self.per_channel]
    }
}

impl Group {
    /// Whether channels may go.
    pub fn is_cuttable(&self) -> bool {
        self.fixed.is_none()
    }

    /// The tensor that people know the group by: the first that writes its channels, or else the first of all.
    pub fn name(&self) -> &str {
        let writes = self.members.iter().find(|member| member.part == Part::Writes);
        writes.or(self.members.first()).map_or("", |member| &member.tensor)
    }

    /// How much each channel matters, 0 for slices that all score 0. `scores` gives what a member's slices score, one number
    /// for each channel, or nothing where it shall not count.
    pub fn shares<'a>(&self, scores: impl Fn(&Member) -> Option<&'a [f64]>) -> Vec<f64> {
        let mut sums = vec![0.0; self.channels];
        for own in self.members.iter().filter_map(scores) {
            let total: f64 = own.iter().sum();
            if total > 0.0 {
                sums.iter_mut().zip(own).for_each(|(sum, own)| *sum += own / total);
            }
        }
        sums
    }

    /// The same, from the tensors themselves. `values` gives a member's tensor, its shape first, or nothing where it shall
    /// not count.
    pub fn importance<'a>(
        &self,
        by: &dyn Importance,
        values: impl Fn(&Member) -> Option<(&'a [usize], &'a [f32])>,
    ) -> Vec<f64> {
        let score = |member: &Member| {
            let (shape, values) = values(member).filter(|_| by.counts(member.part))?;
            Some(by.scores(&Pieces::new(member, self.channels, shape, values), 0))
        };
        let scores: Vec<Option<Vec<f64>>> = self.members.iter().map(score).collect();
        let at = |member: &Member| self.members.iter().position(|own| std::ptr::eq(own, member));
        self.shares(|member| at(member).and_then(|at| scores[at].as_deref()))
    }

    /// The `count` channels that matter most, in their order; of equals the first, and as many of every run.
    ///
    /// # Errors
    /// When the group cannot be cut, has fewer channels, or has runs that `count` cannot be shared out among.
    pub fn strongest(&self, importance: &[f64], count: usize) -> Result<Vec<usize>> {
        if count == self.channels {
            return Ok((0..count).collect());
        }
        if !self.is_cuttable() {
            return Err(Error::input(format!("{count} of {} channels that cannot be cut", self.channels))
                .hint("inputs and outputs of a network stay as they are"));
        }
        if count == 0 || count > self.channels || !count.is_multiple_of(self.runs) {
            let runs = if self.runs > 1 { format!(", as many in each of {} runs", self.runs) } else { String::new() };
            return Err(Error::input(format!("{count} channels of {}{runs}", self.channels))
                .hint("keep at least one, at most all, and the same number in every run"));
        }
        let mut kept = Vec::with_capacity(count);
        let run = self.channels / self.runs;
        for first in (0..self.channels).step_by(run) {
            let mut order: Vec<usize> = (first..first + run).collect();
            // The sort is stable, so of equals the first stay in front.
            order.sort_by(|&a, &b| importance[b].total_cmp(&importance[a]));
            order.truncate(count / self.runs);
            order.sort_unstable();
            kept.extend(order);
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests;
