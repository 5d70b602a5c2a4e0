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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::at_every_level;
    use crate::nn::check::{bits, values};

    #[test]
    fn rows_are_gathered_by_token() {
        let table = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let mut out = [0.0; 8];
        embedding(&[2.0, 0.0, 2.0, 1.0], &table, 2, &mut out);
        assert_eq!(out, [5.0, 6.0, 1.0, 2.0, 5.0, 6.0, 3.0, 4.0]);
    }

    #[test]
    fn gradients_of_equal_tokens_add_up() {
        let (tokens, g) = ([2.0, 0.0, 2.0, 2.0], values(4 * 19, 1));
        let sums = at_every_level(|| {
            let mut sums = vec![1.0; 3 * 19];
            embedding_gradient(&tokens, &g, 19, &mut sums);
            bits(&sums)
        });
        for i in 0..19 {
            assert_eq!(sums[i], (1.0 + g[19 + i]).to_bits());
            assert_eq!(sums[19 + i], 1.0_f32.to_bits());
            assert_eq!(sums[38 + i], (1.0 + g[i] + g[38 + i] + g[57 + i]).to_bits());
        }
    }

    #[test]
    fn empty_rows_and_no_tokens_are_fine() {
        embedding(&[5.0], &[], 0, &mut []);
        embedding(&[], &[1.0], 1, &mut []);
    }

    #[test]
    fn tokens_outside_the_table_are_refused() {
        for token in [-1.0, 3.0, 1e30, f32::NAN, f32::NEG_INFINITY] {
            assert!(std::panic::catch_unwind(|| embedding(&[token], &[0.0; 6], 2, &mut [0.0; 2])).is_err());
        }
    }
}
