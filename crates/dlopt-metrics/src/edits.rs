//! Errors of sequences: how many tokens must be put in, left out or changed to make one of another.
//!
//! The token error rate of many sequences is the sum of their edits over the sum of their references' lengths (word error
//! rate, phoneme error rate). Of several references the nearest counts: the one with the fewest edits, of equals the
//! longest. Source: V. I. Levenshtein, 1966.

/// The fewest insertions, deletions and substitutions that make `to` of `from`.
pub fn edit_distance<T: PartialEq>(from: &[T], to: &[T]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (done, a) in from.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = done + 1;
        for (at, b) in to.iter().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[at + 1];
            row[at + 1] = changed.min(row[at] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

/// The edits to the nearest of some references, and its length; (tokens, 0) without references.
pub fn nearest_edits<T: PartialEq, R: AsRef<[T]>>(hypothesis: &[T], references: &[R]) -> (usize, usize) {
    references
        .iter()
        .map(|reference| (edit_distance(hypothesis, reference.as_ref()), reference.as_ref().len()))
        .min_by_key(|&(edits, len)| (edits, std::cmp::Reverse(len)))
        .unwrap_or((hypothesis.len(), 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted_by_hand() {
        let of = |a: &str, b: &str| edit_distance(a.as_bytes(), b.as_bytes());
        assert_eq!(of("kitten", "sitting"), 3);
        assert_eq!(of("", "abc"), 3);
        assert_eq!(of("abc", ""), 3);
        assert_eq!(of("abc", "abc"), 0);
        assert_eq!(of("ab", "ba"), 2);
    }

    #[test]
    fn the_nearest_reference_counts() {
        assert_eq!(nearest_edits(&[1, 2, 3], &[vec![1, 2], vec![1, 2, 3, 4], vec![9, 9, 9]]), (1, 4));
        assert_eq!(nearest_edits::<u32, Vec<u32>>(&[1, 2], &[]), (2, 0));
    }
}
