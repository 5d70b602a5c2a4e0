//! Tensors without the channels that go.

use std::ops::Range;

use super::{Coupling, Member};

/// Which channels stay of every group.
#[derive(Clone, Debug)]
pub struct Cut<'a> {
    coupling: &'a Coupling,
    kept: Vec<Vec<usize>>,
}

/// What stays of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slices {
    /// The tensor's own extents.
    pub from: Vec<usize>,
    /// Extents of what stays.
    pub shape: Vec<usize>,
    /// Places on the first axis, ascending.
    rows: Vec<usize>,
    /// Places on the second axis, for each block of rows.
    columns: Vec<Vec<usize>>,
}

impl<'a> Cut<'a> {
    /// Keeps `kept` of every group, in ascending order.
    ///
    /// # Panics
    /// When there is not one list for each group.
    pub fn new(coupling: &'a Coupling, kept: Vec<Vec<usize>>) -> Self {
        assert_eq!(kept.len(), coupling.groups.len(), "one list of channels for each group");
        Self { coupling, kept }
    }

    /// The channels that stay of each group.
    pub fn kept(&self) -> &[Vec<usize>] {
        &self.kept
    }

    /// What stays of a tensor of shape `from`, `[out, in, ...]`.
    pub fn slices(&self, tensor: &str, from: &[usize]) -> Slices {
        let axis = |axis: usize| from.get(axis).map_or_else(|| vec![vec![0]], |&len| self.places(tensor, axis, len));
        let rows = axis(0).swap_remove(0);
        let columns = axis(1);
        let mut shape = from.to_vec();
        shape.iter_mut().zip([rows.len(), columns[0].len()]).for_each(|(extent, kept)| *extent = kept);
        Slices { from: from.to_vec(), shape, rows, columns }
    }

    /// The places of an axis that stay, in order, for each block of rows.
    fn places(&self, tensor: &str, axis: usize, len: usize) -> Vec<Vec<usize>> {
        let is_own = |member: &&Member| member.tensor == tensor && member.axis == axis;
        let mut stays = vec![true; len];
        for (group, kept) in self.coupling.groups.iter().zip(&self.kept) {
            for member in group.members.iter().filter(is_own) {
                if member.blocks > 1 {
                    return blocks(member, group.channels, kept);
                }
                member.entries.iter().for_each(|&place| stays[place] = false);
                kept.iter().flat_map(|&channel| member.of(channel)).for_each(|&place| stays[place] = true);
            }
        }
        vec![(0..len).filter(|&place| stays[place]).collect()]
    }
}

/// The places that stay in each block; all blocks keep as many.
fn blocks(member: &Member, channels: usize, kept: &[usize]) -> Vec<Vec<usize>> {
    let run = channels / member.blocks;
    let own = |block: usize| kept.iter().filter(move |&&channel| channel / run == block);
    (0..member.blocks).map(|block| own(block).flat_map(|&channel| member.of(channel)).copied().collect()).collect()
}

impl Slices {
    /// Whether nothing goes.
    pub fn is_whole(&self) -> bool {
        self.shape == self.from
    }

    /// The values that stay, of a tensor with `values`.
    pub fn of<T: Copy>(&self, values: &[T]) -> Vec<T> {
        self.of_rows(0..self.from.first().copied().unwrap_or(1), values)
    }

    /// How many of the first `rows` rows stay.
    pub fn rows_before(&self, rows: usize) -> usize {
        self.rows.partition_point(|&row| row < rows)
    }

    /// The values that stay of some rows, `values` being theirs.
    pub fn of_rows<T: Copy>(&self, rows: Range<usize>, values: &[T]) -> Vec<T> {
        let outputs = self.from.first().copied().unwrap_or(1).max(1);
        let inputs = self.from.get(1).copied().unwrap_or(1);
        let taps: usize = self.from.iter().skip(2).product();
        let kept = &self.rows[self.rows_before(rows.start)..self.rows_before(rows.end)];
        let mut own = Vec::with_capacity(kept.len() * self.shape.iter().skip(1).product::<usize>());
        for &row in kept {
            for &column in &self.columns[row * self.columns.len() / outputs] {
                let first = ((row - rows.start) * inputs + column) * taps;
                own.extend_from_slice(&values[first..first + taps]);
            }
        }
        own
    }
}
