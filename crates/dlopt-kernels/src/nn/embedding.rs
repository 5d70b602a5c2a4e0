//! Rows of a table by token number, and the sum of gradients into those rows.

use super::elementwise::add_into;

/// `out[i] = table[tokens[i]]`, with `table` `[rows, size]` and `out` `[tokens, size]`.
///
/// Tokens are whole numbers held as `f32`, as inputs of a network are; a fraction is cut off.
///
/// # Panics
/// When lengths disagree, or a token is not a row of the table (callers check their data).
pub fn embedding(tokens: &[f32], table: &[f32], size: usize, out: &mut [f32]) {
    assert_eq!(Some(out.len()), tokens.len().checked_mul(size), "`out` is [tokens, size]");
    if size == 0 {
        return;
    }
    for (token, out) in tokens.iter().zip(out.chunks_exact_mut(size)) {
        out.copy_from_slice(&table[row(*token, table.len(), size)]);
    }
}

/// `table_gradient[tokens[i]] += gradient[i]`, one token after the other.
///
/// A token that occurs in several chunks adds to the same row, so chunks must not share `table_gradient` at one time.
///
/// # Panics
/// As [`embedding`].
pub fn embedding_gradient(tokens: &[f32], gradient: &[f32], size: usize, table_gradient: &mut [f32]) {
    assert_eq!(Some(gradient.len()), tokens.len().checked_mul(size), "`gradient` is [tokens, size]");
    if size == 0 {
        return;
    }
    let len = table_gradient.len();
    for (token, gradient) in tokens.iter().zip(gradient.chunks_exact(size)) {
        add_into(gradient, &mut table_gradient[row(*token, len, size)]);
    }
}

/// Where a token's row lies in a table of `len` values.
fn row(token: f32, len: usize, size: usize) -> std::ops::Range<usize> {
    assert!(token > -1.0 && token < (len / size) as f32, "token {token} is not one of {} rows", len / size);
    let start = token as usize * size;
    start..start + size
}
