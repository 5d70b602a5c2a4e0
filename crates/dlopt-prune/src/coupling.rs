//! Which slices of which tensors go together: whoever removes a channel removes all of them.
//!
//! A *channel* is one feature of what flows between layers: a filter, a unit, a hidden state, a value of an embedding. It is
//! written by slices of some tensors (rows of a weight, an entry of a bias) and read by slices of others (columns of the
//! next weight, an entry of a norm). Channels that can only be cut in step form a [`Group`]: those of one convolution and
//! all that reads it, or those of all blocks that one identity shortcut runs through.
//!
//! Importance of channel `k` of a group: `I(k) = sum over members m of |m[k]|^2 / |m|^2`, where `m[k]` is the member's slice
//! and `m` all its slices. The sum over a group is DepGraph's (Fang et al., 2023, arXiv:2301.12900); that every member is
//! divided by its own total is ours, so that a wide tensor does not outvote a narrow one.
//!
//! Tensors are `[out, in, ...]`, as PyTorch stores them.

mod cut;

use dlopt_checkpoint::{Error, Result};

pub use cut::{Cut, Slices};

/// All groups of a network. Every tensor's axis belongs to groups as a whole, or to none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coupling {
    /// In the order in which their channels are first written.
    pub groups: Vec<Group>,
}

/// Channels that are cut in step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// How many.
    pub channels: usize,
    /// What writes and reads them.
    pub members: Vec<Member>,
    /// Whether channels may go: not those of the network's inputs and outputs.
    pub is_cuttable: bool,
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
    /// How much each channel matters, 0 for slices that are all zero. `values` gives a member's tensor, its shape first, or
    /// nothing where it shall not count.
    pub fn importance<'a>(&self, values: impl Fn(&Member) -> Option<(&'a [usize], &'a [f32])>) -> Vec<f64> {
        let mut sums = vec![0.0; self.channels];
        for member in &self.members {
            let Some((shape, values)) = values(member) else { continue };
            let own = self.squares(member, shape, values);
            let total: f64 = own.iter().sum();
            if total > 0.0 {
                sums.iter_mut().zip(own).for_each(|(sum, own)| *sum += own / total);
            }
        }
        sums
    }

    /// The squared norm of each channel's slice.
    fn squares(&self, member: &Member, shape: &[usize], values: &[f32]) -> Vec<f64> {
        let extent = shape[member.axis];
        let outer: usize = shape[..member.axis].iter().product();
        let inner: usize = shape[member.axis + 1..].iter().product();
        let mut owners = vec![None; extent];
        for (channel, places) in member.entries.chunks(member.per_channel.max(1)).enumerate() {
            places.iter().for_each(|&place| owners[place] = Some(channel));
        }
        let mut squares = vec![0.0; self.channels];
        for (row, slices) in values.chunks_exact((extent * inner).max(1)).enumerate() {
            for (place, slice) in slices.chunks_exact(inner.max(1)).enumerate() {
                let owner = match member.blocks {
                    0 | 1 => owners[place],
                    blocks => Some(row * blocks / outer * (self.channels / blocks) + place),
                };
                if let Some(channel) = owner {
                    squares[channel] += slice.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>();
                }
            }
        }
        squares
    }

    /// The `count` channels that matter most, in their order; of equals the first, and as many of every run.
    ///
    /// # Errors
    /// When the group cannot be cut, has fewer channels, or has runs that `count` cannot be shared out among.
    pub fn strongest(&self, importance: &[f64], count: usize) -> Result<Vec<usize>> {
        if count == self.channels {
            return Ok((0..count).collect());
        }
        if !self.is_cuttable {
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
