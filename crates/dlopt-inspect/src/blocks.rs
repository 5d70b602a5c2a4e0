//! How tensors are cut into blocks, and how blocks are worked on by many threads and folded in order.
//!
//! The cut depends on the shape alone, so every figure has the same bits at any number of threads and any memory; the
//! memory budget only says how many threads may hold a block at once.

use std::ops::Range;
use std::sync::atomic::Ordering;

use dlopt_checkpoint::{Error, Resources, Result, TensorInfo, Tensors};
use rayon::prelude::*;

use crate::values::{value_bits, value_count};

/// Values that a block aims at: 1 MiB as `f32`.
const BLOCK_VALUES: usize = 1 << 18;
/// Blocks that are handed to the threads at once; bounds the results waiting to be folded.
const WAVE_BLOCKS: usize = 512;
/// Memory that one thread needs for a block of one side, in bytes: source, decoded bytes, values, room to spare.
const BLOCK_MEMORY_BYTES: u64 = 16 * BLOCK_VALUES as u64;

/// A run of values of one tensor: whole rows, or a piece of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The caller's number of the tensor.
    pub(crate) tensor: usize,
    /// The values, counted through the whole tensor.
    pub(crate) values: Range<usize>,
}

impl Block {
    /// The bytes of the block in a tensor of this dtype.
    pub(crate) fn bytes(&self, info: &TensorInfo) -> Range<u64> {
        let bits = value_bits(info.dtype) as u128;
        let at = |value: usize| (value as u128 * bits / 8) as u64;
        at(self.values.start)..at(self.values.end)
    }
}

/// Values in a row of the tensor seen as a matrix: all extents but the first; vectors are one row.
pub(crate) fn row_values(info: &TensorInfo) -> usize {
    if info.shape.len() < 2 {
        return value_count(info);
    }
    value_count(info) / info.shape[0].max(1)
}

/// Whether the tensor has rows that begin at whole bytes.
pub(crate) fn has_rows(info: &TensorInfo) -> bool {
    info.shape.len() > 1 && begins_at_bytes(info)
}

fn begins_at_bytes(info: &TensorInfo) -> bool {
    (row_values(info) * value_bits(info.dtype)).is_multiple_of(8)
}

/// Cuts a tensor into blocks. Pieces of a row begin at multiples of `quantum` and of 8.
pub(crate) fn cut(tensor: usize, info: &TensorInfo, quantum: usize) -> Vec<Block> {
    let total = value_count(info);
    let row = row_values(info);
    if total == 0 {
        return Vec::new();
    }
    let rows = total / row;
    let mut blocks = Vec::new();
    let mut push = |values: Range<usize>| blocks.push(Block { tensor, values });
    // Rows below a byte that do not end with one are cut as one long row.
    let is_ragged = !begins_at_bytes(info);
    if row > BLOCK_VALUES || is_ragged {
        let (rows, row) = if is_ragged { (1, total) } else { (rows, row) };
        let step = quantum.max(1).saturating_mul(8);
        let piece = (BLOCK_VALUES / step).max(1).saturating_mul(step);
        for begin in (0..rows).map(|r| r * row) {
            let mut at = 0;
            while at < row {
                let end = at.saturating_add(piece).min(row);
                push(begin + at..begin + end);
                at = end;
            }
        }
        return blocks;
    }
    // Packed zero points are decoded 8 rows at a time, scales of fp8 blocks 128: whole quanta are decoded once.
    let fit = BLOCK_VALUES / row;
    let step = [128, 8, 1].into_iter().find(|&q| fit >= q).map_or(1, |q| fit / q * q);
    let mut at = 0;
    while at < rows {
        let end = at.saturating_add(step).min(rows);
        push(at * row..end * row);
        at = end;
    }
    blocks
}

/// As many threads as were asked for and as the memory allows, when each holds a block of each of `sides` checkpoints.
pub(crate) fn pool(resources: &Resources<'_>, sides: usize) -> Result<rayon::ThreadPool> {
    let affordable = resources.memory_bytes / (BLOCK_MEMORY_BYTES * sides as u64);
    let threads = (resources.threads.max(1) as u64).min(affordable.max(1)) as usize;
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|e| Error::input(format!("cannot start {threads} threads: {e}")).hint("try fewer with --threads"))
}

/// Runs `work` on every block from many threads and hands the results to `fold` in the order of the blocks.
/// `sides` checkpoints are read for each block; each worker has its own `scratch`.
pub(crate) fn run<S: Default, R: Send>(
    blocks: &[Block],
    sides: usize,
    resources: &Resources<'_>,
    work: impl Fn(&mut S, &Block) -> Result<R> + Sync,
    mut fold: impl FnMut(&Block, R),
) -> Result<()> {
    let pool = pool(resources, sides)?;
    for wave in blocks.chunks(WAVE_BLOCKS) {
        let results: Vec<Result<R>> = pool.install(|| {
            wave.par_iter()
                .with_max_len(1)
                .map_init(S::default, |scratch, block| {
                    if resources.stop.load(Ordering::Relaxed) {
                        return Err(Error::interrupted("stopped"));
                    }
                    work(scratch, block)
                })
                .collect()
        });
        for (block, result) in wave.iter().zip(results) {
            fold(block, result?);
        }
    }
    Ok(())
}

/// Reads the bytes of a block.
pub(crate) fn read(tensors: &dyn Tensors, tensor: usize, block: &Block, into: &mut Vec<u8>) -> Result<()> {
    let range = block.bytes(&tensors.header().tensors[tensor]);
    into.resize((range.end - range.start) as usize, 0);
    tensors.read(tensor, range.start, into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlopt_checkpoint::Dtype;

    fn ends(shape: &[usize], dtype: Dtype, quantum: usize) -> Vec<usize> {
        let info = TensorInfo::new("w", dtype, shape);
        let blocks = cut(0, &info, quantum);
        let mut at = 0;
        for block in &blocks {
            assert_eq!(block.values.start, at);
            at = block.values.end;
        }
        assert_eq!(at, value_count(&info));
        blocks.iter().map(|b| b.values.end).collect()
    }

    #[test]
    fn small_tensors_are_one_block() {
        assert_eq!(ends(&[3, 5], Dtype::F32, 1), [15]);
        assert_eq!(ends(&[], Dtype::F32, 1), [1]);
        assert_eq!(ends(&[0, 7], Dtype::F32, 1), [0usize; 0]);
    }

    #[test]
    fn rows_are_cut_in_whole_quanta() {
        let ends = ends(&[1000, 1000], Dtype::BF16, 1);
        assert_eq!(ends[0], 256 * 1000); // 262 rows fit, 256 are two times 128
        let ends = super::tests::ends(&[100, 10_000], Dtype::BF16, 1);
        assert_eq!(ends[0], 24 * 10_000);
    }

    #[test]
    fn long_rows_are_cut_inside() {
        let ends = ends(&[2, 300_001], Dtype::F32, 5);
        assert_eq!(ends, [262_120, 300_001, 300_001 + 262_120, 600_002]);
        assert_eq!(super::tests::ends(&[1 << 19], Dtype::F32, 1), [1 << 18, 1 << 19]);
    }

    #[test]
    fn blocks_below_a_byte_begin_at_whole_bytes() {
        let info = TensorInfo::new("w", Dtype::F4, [400_000, 3]);
        for block in cut(0, &info, 1) {
            assert_eq!(block.values.start % 2, 0);
        }
    }
}
