//! The slices that the channels of a group have of one tensor.

use std::ops::Range;

use super::Member;

/// Rows of a tensor, seen as slices of channels.
#[derive(Clone, Debug)]
pub struct Pieces<'a> {
    /// Whose slices they are.
    pub member: &'a Member,
    /// How many channels there are.
    pub channels: usize,
    /// Extents of the tensor, `[out, in, ...]`.
    shape: &'a [usize],
    /// The first row that there is.
    first: usize,
    values: &'a [f32],
    /// The channel of each place on the member's axis.
    owners: Vec<Option<usize>>,
}

impl<'a> Pieces<'a> {
    /// The slices that a member of a group of `channels` has of a tensor.
    pub fn new(member: &'a Member, channels: usize, shape: &'a [usize], values: &'a [f32]) -> Self {
        Self::of_rows(member, channels, shape, 0..shape.first().copied().unwrap_or(1), values)
    }

    /// The same of some rows, places on the first axis, with the values of these.
    pub fn of_rows(
        member: &'a Member,
        channels: usize,
        shape: &'a [usize],
        rows: Range<usize>,
        values: &'a [f32],
    ) -> Self {
        let mut owners = vec![None; shape.get(member.axis).copied().unwrap_or(1)];
        for (channel, places) in member.entries.chunks(member.per_channel.max(1)).enumerate() {
            places.iter().for_each(|&place| owners[place] = Some(channel));
        }
        Self { member, channels, shape, first: rows.start, values, owners }
    }

    /// Calls `see` with runs of values and the channel that they belong to, in the order of the tensor.
    pub fn each(&self, mut see: impl FnMut(usize, &[f32])) {
        let (outputs, extent) = (self.shape.first().copied().unwrap_or(1), self.owners.len());
        let inner: usize = self.shape.iter().skip(self.member.axis + 1).product();
        // Slices of a row along the axis: one where rows themselves are places on it.
        let places = if self.member.axis == 0 { 1 } else { extent };
        for (row, slices) in (self.first..).zip(self.values.chunks_exact((places * inner).max(1))) {
            for (place, slice) in slices.chunks_exact(inner.max(1)).enumerate() {
                let owner = match self.member.blocks {
                    _ if self.member.axis == 0 => self.owners[row],
                    0 | 1 => self.owners[place],
                    blocks => Some(row * blocks / outputs * (self.channels / blocks) + place),
                };
                if let Some(channel) = owner {
                    see(channel, slice);
                }
            }
        }
    }

    /// The sum over the values of each channel.
    pub fn sums(&self, of: impl Fn(f64) -> f64) -> Vec<f64> {
        let mut sums = vec![0.0; self.channels];
        self.each(|channel, run| sums[channel] += run.iter().map(|&value| of(f64::from(value))).sum::<f64>());
        sums
    }

    /// The values of each channel, one after the other.
    pub fn gathered(&self) -> Vec<Vec<f32>> {
        let mut all = vec![Vec::new(); self.channels];
        self.each(|channel, run| all[channel].extend_from_slice(run));
        all
    }
}
