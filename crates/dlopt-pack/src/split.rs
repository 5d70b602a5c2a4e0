//! How the bytes of a tensor fall into planes: parts of numbers that have a distribution of their own.

use dlopt_kernels::{pack, packed_bytes, unpack};

use crate::report::Kind;

/// A way to cut a run of elements into planes. What it is lies in the file, so that readers need not guess it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Split {
    /// Elements of so many bytes, little-endian: a plane for each byte, the lowest first. 1, 2, 4 or 8.
    Bytes(usize),
    /// bf16: signs with mantissas, then exponents.
    Bf16,
    /// f32: two planes of mantissas, one of signs with the highest mantissa bits, then exponents.
    F32,
    /// Rows of integers in a dense stream of bits, in whole 32-bit words: one plane of codes.
    Codes {
        /// Bits of a code, 1 to 7.
        bits: u32,
        /// Codes of a row.
        columns: usize,
    },
}

/// A plane of a block.
pub(crate) struct Plane {
    /// One symbol a byte.
    pub(crate) symbols: Vec<u8>,
    /// What it holds.
    pub(crate) kind: Kind,
}

impl Split {
    /// Bytes that belong together: blocks are made of whole ones.
    pub(crate) fn unit(self) -> usize {
        match self {
            Split::Bytes(width) => width,
            Split::Bf16 => 2,
            Split::F32 => 4,
            Split::Codes { bits, columns } => packed_bytes(columns, bits),
        }
    }

    /// Bytes of an element; codes have none.
    pub(crate) fn width(self) -> Option<usize> {
        match self {
            Split::Codes { .. } => None,
            _ => Some(self.unit()),
        }
    }

    /// Symbols of each plane of `len` bytes.
    pub(crate) fn lens(self, len: usize) -> Vec<usize> {
        let units = len / self.unit();
        match self {
            Split::Bytes(width) => vec![units; width],
            Split::Bf16 => vec![units; 2],
            Split::F32 => vec![units; 4],
            Split::Codes { columns, .. } => vec![units * columns],
        }
    }

    /// Cuts whole units; nothing where joining would not give these bytes back (bits set in the padding of codes).
    pub(crate) fn cut(self, bytes: &[u8]) -> Option<Vec<Plane>> {
        let plane = |kind, symbols| Plane { symbols, kind };
        Some(match self {
            Split::Bytes(1) => vec![plane(Kind::Bytes, bytes.to_vec())],
            Split::Bytes(width) => {
                let of = |at: usize| bytes.iter().skip(at).step_by(width).copied().collect();
                (0..width).map(|at| plane(Kind::Bytes, of(at))).collect()
            }
            Split::Bf16 => {
                let halves = bytes.as_chunks::<2>().0.iter().map(|half| u16::from_le_bytes(*half));
                let rest = halves.clone().map(|half| (half >> 8 & 0x80 | half & 0x7f) as u8).collect();
                let exponents = halves.map(|half| (half >> 7) as u8).collect();
                vec![plane(Kind::Mantissas, rest), plane(Kind::Exponents, exponents)]
            }
            Split::F32 => {
                let singles = bytes.as_chunks::<4>().0.iter().map(|single| u32::from_le_bytes(*single));
                let low = singles.clone().map(|single| single as u8).collect();
                let middle = singles.clone().map(|single| (single >> 8) as u8).collect();
                let high = singles.clone().map(|single| (single >> 24 & 0x80 | single >> 16 & 0x7f) as u8).collect();
                let exponents = singles.map(|single| (single >> 23) as u8).collect();
                let mantissas = |symbols| plane(Kind::Mantissas, symbols);
                vec![mantissas(low), mantissas(middle), mantissas(high), plane(Kind::Exponents, exponents)]
            }
            Split::Codes { bits, columns } => {
                let mut codes = vec![0_i8; bytes.len() / self.unit() * columns];
                for (row, codes) in bytes.chunks_exact(self.unit()).zip(codes.chunks_exact_mut(columns)) {
                    unpack(row, bits, codes);
                }
                let above = 1_i8 << (bits - 1);
                let symbols: Vec<u8> = codes.iter().map(|code| code.wrapping_add(above).cast_unsigned()).collect();
                let mut back = vec![0; bytes.len()];
                self.join(std::slice::from_ref(&symbols), &mut back);
                if back != bytes {
                    return None;
                }
                vec![plane(Kind::Codes, symbols)]
            }
        })
    }

    /// The bytes that were cut into these planes, whose lengths are those of [`Self::lens`].
    pub(crate) fn join(self, planes: &[Vec<u8>], out: &mut [u8]) {
        match self {
            Split::Bytes(width) => {
                for (at, plane) in planes.iter().enumerate() {
                    out.iter_mut().skip(at).step_by(width).zip(plane).for_each(|(to, from)| *to = *from);
                }
            }
            Split::Bf16 => {
                for ((to, &rest), &exponent) in out.as_chunks_mut::<2>().0.iter_mut().zip(&planes[0]).zip(&planes[1]) {
                    let rest = u16::from(rest);
                    *to = ((rest & 0x80) << 8 | u16::from(exponent) << 7 | rest & 0x7f).to_le_bytes();
                }
            }
            Split::F32 => {
                let planes = planes[0].iter().zip(&planes[1]).zip(planes[2].iter().zip(&planes[3]));
                for (to, ((low, middle), (high, exponent))) in out.as_chunks_mut::<4>().0.iter_mut().zip(planes) {
                    let [low, middle, high, exponent] = [low, middle, high, exponent].map(|byte| u32::from(*byte));
                    let high = (high & 0x80) << 24 | (high & 0x7f) << 16;
                    *to = (high | exponent << 23 | middle << 8 | low).to_le_bytes();
                }
            }
            Split::Codes { bits, columns } => {
                let above = 1_u8 << (bits - 1);
                let mut codes = vec![0_i8; columns];
                for (row, symbols) in out.chunks_exact_mut(self.unit()).zip(planes[0].chunks_exact(columns)) {
                    let centred = symbols.iter().map(|symbol| symbol.wrapping_sub(above).cast_signed());
                    codes.iter_mut().zip(centred).for_each(|(to, from)| *to = from);
                    pack(&codes, bits, row);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn back(split: Split, bytes: &[u8]) -> Option<Vec<u8>> {
        let planes = split.cut(bytes)?;
        let lens: Vec<usize> = planes.iter().map(|plane| plane.symbols.len()).collect();
        assert_eq!(lens, split.lens(bytes.len()));
        let mut out = vec![0xee; bytes.len()];
        split.join(&planes.into_iter().map(|plane| plane.symbols).collect::<Vec<_>>(), &mut out);
        Some(out)
    }

    #[test]
    fn exponents_stand_alone() {
        let numbers = [1.5_f32, -1.25, f32::NAN, -0.0];
        let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        let planes = Split::F32.cut(&bytes).unwrap();
        assert_eq!(planes[3].symbols, [127, 127, 255, 0]);
        assert_eq!(planes[2].symbols[..2], [0x40, 0xa0]);
        let halves: Vec<u8> = numbers.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect();
        assert_eq!(Split::Bf16.cut(&halves).unwrap()[1].symbols, [127, 127, 255, 0]);
    }

    #[test]
    fn codes_are_symbols_from_zero_and_padding_must_be_empty() {
        // Rows of seven 5-bit codes: 35 bits in two words.
        let split = Split::Codes { bits: 5, columns: 7 };
        let mut row = vec![0_u8; 8];
        pack(&[-16, 15, 0, 1, -1, 3, 7], 5, &mut row);
        assert_eq!(split.cut(&row).unwrap()[0].symbols, [0, 31, 16, 17, 15, 19, 23]);
        row[7] = 0x80;
        assert!(split.cut(&row).is_none());
    }

    proptest! {
        #[test]
        fn whatever_is_cut_is_joined(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            bits in 1_u32..8,
            columns in 1_usize..50,
        ) {
            for split in [Split::Bytes(1), Split::Bytes(2), Split::Bytes(4), Split::Bytes(8), Split::Bf16, Split::F32] {
                let whole = &bytes[..bytes.len() / split.unit() * split.unit()];
                prop_assert_eq!(back(split, whole).unwrap(), whole);
            }
            let split = Split::Codes { bits, columns };
            let whole = &bytes[..bytes.len() / split.unit() * split.unit()];
            if let Some(out) = back(split, whole) {
                prop_assert_eq!(out, whole);
            }
        }
    }
}
