//! Zero points as `pack-quantized` packs them: `[outputs, groups]` along the outputs, a dense stream of bits for each group.
//!
//! Word `w` of group `g` is at `[w, g]`. Where bits do not divide 32, a zero point may lie in two words, and 32 outputs fill
//! `bits` of them. Source: compressed-tensors 0.20.

/// Rows whose packed zero points fill whole words.
pub(crate) fn quantum(bits: u32) -> usize {
    if 32 % bits == 0 { 32 / bits as usize } else { 32 }
}

/// Words that hold the packed zero points of `rows` rows in one column.
pub(crate) fn words(rows: usize, bits: u32) -> usize {
    (rows * bits as usize).div_ceil(32)
}

/// Packs the zero points of a few rows, `[rows, groups]`, along the rows: a stream of bits for each group, word by word,
/// `groups` words apart. `first` words of each are before them.
pub(crate) fn pack(zeros: &[i8], groups: usize, bits: u32, first: usize, out: &mut [u8]) {
    let (half, mask) = (1u8 << (bits - 1), 0xffu8 >> (8 - bits));
    for g in 0..groups {
        let (mut pending, mut held, mut word) = (0u64, 0, first);
        let mut flush = |pending: u64| {
            let at = (word * groups + g) * 4;
            out[at..at + 4].copy_from_slice(&(pending as u32).to_le_bytes());
            word += 1;
        };
        for zero in zeros.iter().skip(g).step_by(groups) {
            pending |= u64::from((*zero as u8).wrapping_add(half) & mask) << held;
            held += bits;
            if held >= 32 {
                flush(pending);
                (pending, held) = (pending >> 32, held - 32);
            }
        }
        if held > 0 {
            flush(pending);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zero_point_may_lie_in_two_words() {
        // Rows 0 to 12 of one group: code 3, which is 7 with its half, in the eleventh, at bits 30 to 32.
        let mut zeros = [-4_i8; 13];
        zeros[10] = 3;
        let mut out = [0xff; 8];
        pack(&zeros, 1, 3, 0, &mut out);
        assert_eq!(out, (7_u64 << 30).to_le_bytes());
        assert_eq!((quantum(3), words(13, 3), words(32, 3), quantum(4), words(9, 4)), (32, 2, 3, 8, 2));
    }

    #[test]
    fn groups_stand_beside_each_other_and_pieces_behind_each_other() {
        let zeros: Vec<i8> = (0..9 * 2).map(|i| if i % 2 == 0 { -8 } else { -7 }).collect();
        let mut out = [0; 24];
        pack(&zeros, 2, 4, 1, &mut out);
        let words: Vec<u32> = out.as_chunks().0.iter().map(|word: &[u8; 4]| u32::from_le_bytes(*word)).collect();
        assert_eq!(words, [0, 0, 0, 0x1111_1111, 0, 1]);
    }
}
