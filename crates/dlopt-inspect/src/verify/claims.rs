//! What the history claims of zeros: sparsity reached, `n:m` patterns kept.

use std::collections::HashMap;

use dlopt_checkpoint::{Header, Resources, Result, TensorInfo, Tensors};
use dlopt_prune::{Claim, Pattern, claims, zeros_at};

use super::Found;
use crate::blocks::{Block, read, run};
use crate::stats::{self, Scan};
use crate::values::{Values, value_count};

/// Values that a block of rows aims at.
const BLOCK_VALUES: usize = 1 << 18;

/// The claims of a stored header.
pub(super) fn read_claims(header: &Header, found: &mut Found) -> Vec<Claim> {
    claims(header).unwrap_or_else(|error| {
        found.check("claims", "what the history claims of zeros");
        found.model_error(error.message());
        Vec::new()
    })
}

/// Looks at every decoded tensor, and for the patterns that are claimed along its columns.
pub(super) fn scan(tensors: &dyn Tensors, claims: &[Claim], resources: &Resources<'_>) -> Result<Vec<Scan>> {
    let mut patterns: HashMap<&str, Vec<(usize, usize)>> = HashMap::new();
    for claim in claims.iter().filter(|c| c.inputs_down.is_none()) {
        if let Pattern::NOfM { n, m } = claim.pattern {
            for name in &claim.tensors {
                patterns.entry(name).or_default().push((n, m));
            }
        }
    }
    let infos = &tensors.header().tensors;
    stats::scan(tensors, resources, |t| patterns.get(infos[t].name.as_str()).cloned().unwrap_or_default())
}

/// Holds each claim against what was seen.
pub(super) fn check(
    tensors: &dyn Tensors,
    claims: &[Claim],
    scans: &[Scan],
    resources: &Resources<'_>,
    found: &mut Found,
) -> Result<()> {
    if claims.is_empty() {
        found.skip("claims", "what the history claims of zeros", "nothing was pruned");
        return Ok(());
    }
    found.check("claims", format!("{} claims of the history about zeros", claims.len()));
    let by_name = tensors.header().by_name();
    for claim in claims {
        // A tensor that is gone makes the claim of all of them together void.
        let places: Option<Vec<usize>> = claim.tensors.iter().map(|n| by_name.get(n.as_str()).copied()).collect();
        let Some(places) = places else {
            for name in claim.tensors.iter().filter(|n| !by_name.contains_key(n.as_str())) {
                found.warn(name, "the history says it was pruned, and it is not there");
            }
            continue;
        };
        match claim.pattern {
            Pattern::Unstructured => check_sparsity(claim, &places, scans, tensors.header(), found),
            Pattern::NOfM { n, m } => {
                for (name, place) in claim.tensors.iter().zip(places) {
                    let holds = match claim.inputs_down {
                        Some(rows) => holds_down(tensors, place, rows, (n, m), resources)?,
                        None => holds_along(&scans[place], (n, m)),
                    };
                    if !holds {
                        found.error(
                            name,
                            format!("the history says {n}:{m}, and some group of {m} keeps more than {n}"),
                        );
                    }
                }
            }
        }
    }
    Ok(())
}

fn check_sparsity(claim: &Claim, places: &[usize], scans: &[Scan], header: &Header, found: &mut Found) {
    let Some(sparsity) = claim.sparsity else { return };
    let zeros: u64 = places.iter().map(|&p| scans[p].spread.zeros).sum();
    let weights: u64 = places.iter().map(|&p| header.tensors[p].elements() as u64).sum();
    let wanted = zeros_at(sparsity, weights);
    if zeros < wanted {
        let what = format!("the history says sparsity {sparsity}: {wanted} zeros of {weights}; there are {zeros}");
        match claim.tensors.as_slice() {
            [name] => found.error(name, what),
            several => found.model_error(format!("{} tensors together: {what}", several.len())),
        }
    }
}

/// Patterns wider than the columns were not looked for: they are claimed of a tail only.
fn holds_along(scan: &Scan, pattern: (usize, usize)) -> bool {
    scan.patterns.iter().find(|(p, _)| *p == pattern).is_none_or(|(_, holds)| *holds)
}

/// Whether the pattern holds down the rows of matrices of `rows` rows each.
fn holds_down(
    tensors: &dyn Tensors,
    tensor: usize,
    rows: usize,
    (n, m): (usize, usize),
    resources: &Resources<'_>,
) -> Result<bool> {
    let info = &tensors.header().tensors[tensor];
    let columns = info.shape.last().copied().unwrap_or(1);
    if m == 0 || rows == 0 || columns == 0 {
        return Ok(true);
    }
    let blocks = cut_down(info, rows, columns, m);
    let mut holds = true;
    let look = |scratch: &mut (Vec<u8>, Values), block: &Block| {
        read(tensors, tensor, block, &mut scratch.0)?;
        scratch.1.read(info.dtype, &scratch.0, true);
        Ok(columns_hold(&scratch.1.double, columns, n, m))
    };
    run(&blocks, 1, resources, look, |_, own| holds &= own)?;
    Ok(holds)
}

/// Blocks of whole groups of rows; none reaches over the end of a matrix.
fn cut_down(info: &TensorInfo, rows: usize, columns: usize, m: usize) -> Vec<Block> {
    let total_rows = value_count(info) / columns;
    let step = (BLOCK_VALUES / columns / m).max(1).saturating_mul(m);
    let mut blocks = Vec::new();
    let mut at = 0;
    while at < total_rows {
        let end_of_matrix = (at / rows + 1).saturating_mul(rows).min(total_rows);
        let end = at.saturating_add(step).min(end_of_matrix);
        blocks.push(Block { tensor: 0, values: at * columns..end * columns });
        at = end;
    }
    blocks
}

/// Whether at most `n` of each `m` rows are not zero in every column; a tail of `r` rows may have `ceil(r * n / m)`.
fn columns_hold(values: &[f64], columns: usize, n: usize, m: usize) -> bool {
    values.chunks(columns.saturating_mul(m)).all(|group| {
        let rows = group.len() / columns;
        let most = rows.saturating_mul(n).div_ceil(m);
        (0..columns).all(|c| group[c..].iter().step_by(columns).filter(|x| **x != 0.0).count() <= most)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlopt_checkpoint::Dtype;

    #[test]
    fn groups_run_down_the_rows() {
        // [5, 2]: four rows and a tail of one.
        let values = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0];
        assert!(columns_hold(&values, 2, 2, 4));
        assert!(!columns_hold(&values, 2, 1, 4));
    }

    #[test]
    fn blocks_end_with_their_matrix() {
        let info = TensorInfo::new("w", Dtype::F32, [2, 5, 100_000]);
        let ends: Vec<usize> = cut_down(&info, 5, 100_000, 4).iter().map(|b| b.values.end / 100_000).collect();
        assert_eq!(ends, [4, 5, 9, 10]);
    }
}
