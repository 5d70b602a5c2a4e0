//! Dense bit streams: element `i` at bit `i * bits`, stored as `code + 2^(bits - 1)`.
//!
//! Little-endian throughout, padded with zero bits to whole 32-bit words, as in
//! the packed tensors of compressed-tensors.

/// Bytes that `len` codes of `bits` bits take: whole 32-bit words.
pub fn packed_bytes(len: usize, bits: u32) -> usize {
    (len * bits as usize).div_ceil(32) * 4
}

/// Packs a row of codes, each in -2^(bits-1)..2^(bits-1), into `bits` (1..=8) bits.
///
/// Higher bits of a code are dropped. `out`: [`packed_bytes`] of the row.
pub fn pack(codes: &[i8], bits: u32, out: &mut [u8]) {
    assert!((1..=8).contains(&bits));
    assert_eq!(out.len(), packed_bytes(codes.len(), bits));
    dispatch!(pack_body(codes: &[i8], bits: u32, out: &mut [u8]))
}

#[inline(always)]
fn pack_body(codes: &[i8], bits: u32, out: &mut [u8]) {
    // Adding 2^(bits-1) in `bits` bits is flipping the top bit.
    let done = match bits {
        2 => {
            let (quads, _) = codes.as_chunks::<4>();
            for (out, quad) in out.iter_mut().zip(quads) {
                let t = (u32::from_le_bytes(quad.map(|c| c as u8)) ^ 0x0202_0202) & 0x0303_0303;
                *out = (t | t >> 6 | t >> 12 | t >> 18) as u8;
            }
            quads.len() * 4
        }
        4 => {
            let (pairs, _) = codes.as_chunks::<2>();
            for (out, pair) in out.iter_mut().zip(pairs) {
                let t = (u16::from_le_bytes(pair.map(|c| c as u8)) ^ 0x0808) & 0x0f0f;
                *out = (t | t >> 4) as u8;
            }
            pairs.len() * 2
        }
        8 => {
            for (out, code) in out.iter_mut().zip(codes) {
                *out = *code as u8 ^ 0x80;
            }
            codes.len()
        }
        _ => {
            let (eights, _) = codes.as_chunks::<8>();
            // Eight codes fill exactly `bits` bytes.
            for (out, eight) in out.chunks_exact_mut(bits as usize).zip(eights) {
                let word = eight.iter().rev().fold(0u64, |word, c| word << bits | field(*c, bits));
                out.copy_from_slice(&word.to_le_bytes()[..bits as usize]);
            }
            eights.len() * 8
        }
    };
    pack_tail(&codes[done..], bits, &mut out[done * bits as usize / 8..]);
}

/// The bits of one code.
#[inline(always)]
fn field(code: i8, bits: u32) -> u64 {
    u64::from((code as u8 ^ (1 << (bits - 1))) & (0xff >> (8 - bits)))
}

/// Fewer than eight codes and the padding.
fn pack_tail(codes: &[i8], bits: u32, out: &mut [u8]) {
    let word = codes.iter().rev().fold(0u64, |word, c| word << bits | field(*c, bits));
    out.fill(0);
    for (out, byte) in out.iter_mut().zip(word.to_le_bytes()) {
        *out = byte;
    }
}

/// Unpacks a row: the inverse of [`pack`].
///
/// `packed`: [`packed_bytes`] of the row.
pub fn unpack(packed: &[u8], bits: u32, codes: &mut [i8]) {
    assert!((1..=8).contains(&bits));
    assert_eq!(packed.len(), packed_bytes(codes.len(), bits));
    dispatch!(unpack_body(packed: &[u8], bits: u32, codes: &mut [i8]))
}

#[inline(always)]
fn unpack_body(packed: &[u8], bits: u32, codes: &mut [i8]) {
    let done = match bits {
        2 => {
            let (quads, _) = codes.as_chunks_mut::<4>();
            for (quad, byte) in quads.iter_mut().zip(packed) {
                let t = u32::from(*byte);
                let t = (t | t << 6 | t << 12 | t << 18) & 0x0303_0303;
                *quad = minus(t, 0x0202_0202).to_le_bytes().map(|b| b as i8);
            }
            quads.len() * 4
        }
        4 => {
            let (pairs, _) = codes.as_chunks_mut::<2>();
            for (pair, byte) in pairs.iter_mut().zip(packed) {
                let t = u16::from(*byte);
                let t = (t | t << 4) & 0x0f0f;
                // Each byte minus 8, no borrow between bytes.
                let t = ((t | 0x8080) - 0x0808) ^ 0x8080;
                *pair = t.to_le_bytes().map(|b| b as i8);
            }
            pairs.len() * 2
        }
        8 => {
            for (code, byte) in codes.iter_mut().zip(packed) {
                *code = (*byte ^ 0x80) as i8;
            }
            codes.len()
        }
        _ => {
            let (eights, _) = codes.as_chunks_mut::<8>();
            for (eight, bytes) in eights.iter_mut().zip(packed.chunks_exact(bits as usize)) {
                let mut word = [0; 8];
                word[..bits as usize].copy_from_slice(bytes);
                read_fields(u64::from_le_bytes(word), bits, eight);
            }
            eights.len() * 8
        }
    };
    let mut word = [0; 8];
    for (to, byte) in word.iter_mut().zip(&packed[done * bits as usize / 8..]) {
        *to = *byte;
    }
    read_fields(u64::from_le_bytes(word), bits, &mut codes[done..]);
}

/// Each byte of `t` (below 128) minus the same byte of `offset`, no borrow between bytes.
#[inline(always)]
fn minus(t: u32, offset: u32) -> u32 {
    ((t | 0x8080_8080) - offset) ^ 0x8080_8080
}

#[inline(always)]
fn read_fields(word: u64, bits: u32, codes: &mut [i8]) {
    let mask = 0xffu8 >> (8 - bits);
    let half = 1u8 << (bits - 1);
    for (i, code) in codes.iter_mut().enumerate() {
        *code = ((word >> (i as u32 * bits)) as u8 & mask).wrapping_sub(half) as i8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::at_every_level;
    use proptest::prelude::*;

    #[test]
    fn packs_int4_low_nibble_first_with_zero_padding() {
        let mut out = [0xff; 4];
        pack(&[-8, 7, 0], 4, &mut out);
        assert_eq!(out, [0xf0, 0x08, 0, 0]);
    }

    #[test]
    fn packs_int3_across_bytes() {
        // Fields 0, 7, 4, 5: 000 | 111<<3 | 100<<6 | 101<<9.
        let mut out = [0xff; 4];
        pack(&[-4, 3, 0, 1], 3, &mut out);
        assert_eq!(out, 0b101_100_111_000u32.to_le_bytes());
    }

    #[test]
    fn an_empty_row_packs_to_nothing() {
        pack(&[], 4, &mut []);
        unpack(&[], 3, &mut []);
    }

    proptest! {
        #[test]
        fn packs_like_the_definition_and_back(
            codes in prop::collection::vec(any::<i8>(), 0..300),
            bits in 1u32..=8,
        ) {
            let codes: Vec<i8> = codes.iter().map(|c| c >> (8 - bits)).collect();
            let mut expected = vec![0u8; packed_bytes(codes.len(), bits)];
            for (i, c) in codes.iter().enumerate() {
                let field = (i32::from(*c) + (1 << (bits - 1))) as usize;
                for b in 0..bits as usize {
                    let at = i * bits as usize + b;
                    expected[at / 8] |= (((field >> b) & 1) << (at % 8)) as u8;
                }
            }
            let (packed, back) = at_every_level(|| {
                let mut packed = vec![0xaa; expected.len()];
                pack(&codes, bits, &mut packed);
                let mut back = vec![0; codes.len()];
                unpack(&packed, bits, &mut back);
                (packed, back)
            });
            prop_assert_eq!(packed, expected);
            prop_assert_eq!(back, codes);
        }
    }
}
