//! Elements in files: their types, and the way to and from `f32`.

/// Element type of a slice of bytes, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Float {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of binary32.
    BF16,
    /// IEEE 754 binary64.
    F64,
}

impl Float {
    /// Size of one element in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Float::F16 | Float::BF16 => 2,
            Float::F32 => 4,
            Float::F64 => 8,
        }
    }
}

/// How the `N` bytes of one element are read.
pub(crate) trait Stored<const N: usize> {
    /// The key: magnitude bits, at most 31.
    fn key(bytes: [u8; N]) -> u32;
    /// The value, exactly.
    fn value(bytes: [u8; N]) -> f32;
}

/// [`Float::F32`], as a type.
pub(crate) struct Single;

/// [`Float::F16`], as a type.
pub(crate) struct Half;

/// [`Float::BF16`], as a type.
pub(crate) struct Brain;

impl Stored<4> for Single {
    #[inline(always)]
    fn key(bytes: [u8; 4]) -> u32 {
        u32::from_le_bytes(bytes) & 0x7fff_ffff
    }

    #[inline(always)]
    fn value(bytes: [u8; 4]) -> f32 {
        f32::from_le_bytes(bytes)
    }
}

impl Stored<2> for Half {
    #[inline(always)]
    fn key(bytes: [u8; 2]) -> u32 {
        u32::from(u16::from_le_bytes(bytes) & 0x7fff)
    }

    #[inline(always)]
    fn value(bytes: [u8; 2]) -> f32 {
        from_f16(u16::from_le_bytes(bytes))
    }
}

impl Stored<2> for Brain {
    #[inline(always)]
    fn key(bytes: [u8; 2]) -> u32 {
        u32::from(u16::from_le_bytes(bytes) & 0x7fff)
    }

    #[inline(always)]
    fn value(bytes: [u8; 2]) -> f32 {
        from_bf16(u16::from_le_bytes(bytes))
    }
}

/// Elements counted between two looks at a result: fits a count in 16 bits.
const STRIDE: usize = 8192;

/// The elements of `F32` bytes where they lie, if the machine can read them there.
///
/// `None` where the bytes are not aligned to four, are not whole elements, or the
/// machine is big-endian; [`widen`] always works.
pub fn view_f32(bytes: &[u8]) -> Option<&[f32]> {
    if cfg!(target_endian = "big") {
        return None;
    }
    // SAFETY: every pattern of 32 bits is an `f32`.
    match unsafe { bytes.align_to() } {
        ([], x, []) => Some(x),
        _ => None,
    }
}

/// Reads elements as `f32`, exactly; `F64` is rounded to the nearest.
///
/// `bytes`: `kind.bytes()` for each element of `out`. Subnormals and infinities
/// are kept, NaN stays NaN.
pub fn widen(kind: Float, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(bytes.len(), out.len() * kind.bytes());
    dispatch!(widen_body(kind: Float, bytes: &[u8], out: &mut [f32]))
}

#[inline(always)]
fn widen_body(kind: Float, bytes: &[u8], out: &mut [f32]) {
    match kind {
        Float::F32 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = f32::from_le_bytes(*bytes);
            }
        }
        Float::F16 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = from_f16(u16::from_le_bytes(*bytes));
            }
        }
        Float::BF16 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = from_bf16(u16::from_le_bytes(*bytes));
            }
        }
        Float::F64 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = f64::from_le_bytes(*bytes) as f32;
            }
        }
    }
}

/// Writes `f32` as elements, to nearest, ties to even.
///
/// Overflow gives infinity, NaN a quiet NaN; `F32` and `F64` are exact.
/// `out`: `kind.bytes()` for each element of `x`.
pub fn narrow(kind: Float, x: &[f32], out: &mut [u8]) {
    assert_eq!(out.len(), x.len() * kind.bytes());
    dispatch!(narrow_body(kind: Float, x: &[f32], out: &mut [u8]))
}

#[inline(always)]
fn narrow_body(kind: Float, x: &[f32], out: &mut [u8]) {
    match kind {
        Float::F32 => {
            for (out, x) in out.as_chunks_mut().0.iter_mut().zip(x) {
                *out = x.to_le_bytes();
            }
        }
        Float::F16 => {
            for (out, x) in out.as_chunks_mut().0.iter_mut().zip(x) {
                *out = to_f16(*x).to_le_bytes();
            }
        }
        Float::BF16 => {
            for (out, x) in out.as_chunks_mut().0.iter_mut().zip(x) {
                *out = to_bf16(*x).to_le_bytes();
            }
        }
        Float::F64 => {
            for (out, x) in out.as_chunks_mut().0.iter_mut().zip(x) {
                *out = f64::from(*x).to_le_bytes();
            }
        }
    }
}

#[inline(always)]
fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[inline(always)]
pub(crate) fn from_f16(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff);
    // Subnormals are multiples of 2^-24.
    let small = (magnitude as i32 as f32 * f32::from_bits(0x3380_0000)).to_bits();
    let normal = (magnitude << 13) + (112 << 23);
    let special = (magnitude << 13) | 0x7f80_0000;
    let value = if magnitude < 0x0400 { small } else { normal };
    f32::from_bits(sign | if magnitude >= 0x7c00 { special } else { value })
}

#[inline(always)]
pub(crate) fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let quiet = (bits >> 16) | 0x0040;
    (if bits & 0x7fff_ffff > 0x7f80_0000 { quiet } else { rounded }) as u16
}

#[inline(always)]
pub(crate) fn to_f16(x: f32) -> u16 {
    let bits = x.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    // One unit in the last place of 0.5 is 2^-24, the step of f16 subnormals.
    let small = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0x3f00_0000);
    let rounded = magnitude.wrapping_add(0x0fff + ((magnitude >> 13) & 1));
    let normal = rounded.wrapping_sub(112 << 23) >> 13;
    let quiet = 0x7e00 | ((magnitude >> 13) & 0x03ff);
    let value = if magnitude < 0x3880_0000 { small } else { normal };
    let value = if magnitude >= 0x477f_f000 { 0x7c00 } else { value };
    let value = if magnitude > 0x7f80_0000 { quiet } else { value };
    (value | ((bits >> 16) & 0x8000)) as u16
}

/// Index of the first NaN or infinity.
///
/// Tests exponent bits only, a block at a time.
pub fn first_nonfinite(kind: Float, bytes: &[u8]) -> Option<usize> {
    dispatch!(first_nonfinite_body(kind: Float, bytes: &[u8]) -> Option<usize>)
}

#[inline(always)]
fn first_nonfinite_body(kind: Float, bytes: &[u8]) -> Option<usize> {
    match kind {
        Float::F32 => first_nonfinite_as(bytes, |b| u32::from_le_bytes(b) << 1 >= 0xff00_0000),
        Float::F16 => first_nonfinite_as(bytes, |b| u16::from_le_bytes(b) << 1 >= 0xf800),
        Float::BF16 => first_nonfinite_as(bytes, |b| u16::from_le_bytes(b) << 1 >= 0xff00),
        Float::F64 => first_nonfinite_as(bytes, |b| u64::from_le_bytes(b) << 1 >= 0x7ff << 53),
    }
}

#[inline(always)]
fn first_nonfinite_as<const N: usize>(bytes: &[u8], is_bad: impl Fn([u8; N]) -> bool) -> Option<usize> {
    let elements = bytes.as_chunks::<N>().0;
    for (block, chunk) in elements.chunks(STRIDE).enumerate() {
        let any = chunk.iter().fold(false, |any, b| any | is_bad(*b));
        if any {
            let within = chunk.iter().position(|b| is_bad(*b))?;
            return Some(block * STRIDE + within);
        }
    }
    None
}

/// How many elements are zero, of either sign.
pub fn count_zeros(kind: Float, bytes: &[u8]) -> u64 {
    dispatch!(count_zeros_body(kind: Float, bytes: &[u8]) -> u64)
}

#[inline(always)]
fn count_zeros_body(kind: Float, bytes: &[u8]) -> u64 {
    match kind {
        Float::F32 => bytes
            .as_chunks()
            .0
            .chunks(STRIDE)
            .map(|chunk| chunk.iter().fold(0, |n, b| n + u32::from(u32::from_le_bytes(*b) << 1 == 0)))
            .map(u64::from)
            .sum(),
        Float::F16 | Float::BF16 => bytes
            .as_chunks()
            .0
            .chunks(STRIDE)
            .map(|chunk| chunk.iter().fold(0, |n, b| n + u16::from(u16::from_le_bytes(*b) << 1 == 0)))
            .map(u64::from)
            .sum(),
        Float::F64 => bytes.as_chunks().0.iter().fold(0, |n, b| n + u64::from(u64::from_le_bytes(*b) << 1 == 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::at_every_level;
    use half::{bf16, f16};

    fn every_16_bit_pattern() -> Vec<u8> {
        (0..=u16::MAX).flat_map(u16::to_le_bytes).collect()
    }

    /// Bits, with every NaN made the same.
    fn bits(x: &[f32]) -> Vec<u32> {
        x.iter().map(|x| if x.is_nan() { 0x7fc0_0000 } else { x.to_bits() }).collect()
    }

    #[test]
    fn widens_every_16_bit_pattern_like_half() {
        let bytes = every_16_bit_pattern();
        for (kind, reference) in [
            (Float::F16, (|b| f16::from_bits(b).to_f32()) as fn(u16) -> f32),
            (Float::BF16, |b| bf16::from_bits(b).to_f32()),
        ] {
            let got = at_every_level(|| {
                let mut out = vec![0.0; 65536];
                widen(kind, &bytes, &mut out);
                bits(&out)
            });
            let expected: Vec<f32> = (0..=u16::MAX).map(reference).collect();
            assert_eq!(got, bits(&expected), "{kind:?}");
        }
    }

    #[test]
    fn narrows_to_nearest_even_like_half() {
        // Every f16 and bf16 value, the midpoints between neighbours, and one step aside.
        let mut x = vec![f32::NAN, -f32::NAN, f32::MAX, 65504.0, 65519.996, 65520.0, 1e-8, -1e-45];
        for b in 0..=u16::MAX {
            for wide in [f16::from_bits(b).to_f32().to_bits(), u32::from(b) << 16] {
                for near in [0, 1, 0x0fff, 0x1000, 0x1001, 0x7fff, 0x8000, 0x8001, 0xffff] {
                    x.push(f32::from_bits(wide.wrapping_add(near)));
                }
            }
            x.push((f16::from_bits(b).to_f32() + f16::from_bits(b.wrapping_add(1)).to_f32()) / 2.0);
        }
        for (kind, reference) in [
            (Float::F16, (|x| f16::from_f32(x).to_bits()) as fn(f32) -> u16),
            (Float::BF16, |x| bf16::from_f32(x).to_bits()),
        ] {
            let got = at_every_level(|| {
                let mut out = vec![0; x.len() * 2];
                narrow(kind, &x, &mut out);
                out
            });
            for (x, b) in x.iter().zip(got.as_chunks().0) {
                assert_eq!(u16::from_le_bytes(*b), reference(*x), "{kind:?} {x:e} {:x}", x.to_bits());
            }
        }
    }

    #[test]
    fn f32_and_f64_round_trip() {
        let x = [1.5, -0.0, f32::INFINITY, 1e-45, -3.25];
        for kind in [Float::F32, Float::F64] {
            let mut bytes = vec![0; x.len() * kind.bytes()];
            narrow(kind, &x, &mut bytes);
            let mut back = [7.0; 5];
            widen(kind, &bytes, &mut back);
            assert_eq!(bits(&back), bits(&x), "{kind:?}");
        }
    }

    #[test]
    fn a_view_needs_alignment_and_whole_elements() {
        let mut bytes = [0; 4 * 5 + 3];
        let start = bytes.as_ptr().align_offset(4);
        narrow(Float::F32, &[1.5, -2.0, 0.0, 3.0], &mut bytes[start..start + 16]);
        assert_eq!(view_f32(&bytes[start..start + 16]), Some(&[1.5, -2.0, 0.0, 3.0][..]));
        assert_eq!(view_f32(&bytes[start + 1..start + 17]), None);
        assert_eq!(view_f32(&bytes[start..start + 15]), None);
    }

    #[test]
    fn f64_is_rounded_to_nearest() {
        let mut out = [0.0];
        widen(Float::F64, &(1.0 + 2f64.powi(-24) + 2f64.powi(-50)).to_le_bytes(), &mut out);
        assert_eq!(out[0], 1.0 + f32::EPSILON);
    }

    #[test]
    fn finds_the_first_nonfinite_at_any_place_and_offset() {
        for kind in [Float::F32, Float::F16, Float::BF16, Float::F64] {
            let len = STRIDE + 37;
            for bad in [0, 1, 15, 16, STRIDE - 1, STRIDE, len - 1] {
                for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    let mut x = vec![65504.0f32; len];
                    x[bad] = value;
                    let mut bytes = vec![0; len * kind.bytes() + 1];
                    narrow(kind, &x, &mut bytes[1..]);
                    let got = at_every_level(|| first_nonfinite(kind, &bytes[1..]));
                    assert_eq!(got, Some(bad), "{kind:?} {value}");
                    x[bad] = 0.0;
                    narrow(kind, &x, &mut bytes[1..]);
                    assert_eq!(first_nonfinite(kind, &bytes[1..]), None);
                }
            }
            assert_eq!(first_nonfinite(kind, &[]), None);
        }
    }

    #[test]
    fn counts_zeros_of_both_signs() {
        for kind in [Float::F32, Float::F16, Float::BF16, Float::F64] {
            let x: Vec<f32> = (0..STRIDE + 5).map(|i| [0.0, -0.0, 1e-6, -1.0, f32::NAN][i % 5]).collect();
            let mut bytes = vec![0; x.len() * kind.bytes()];
            narrow(kind, &x, &mut bytes);
            let expected = x.iter().filter(|x| **x == 0.0).count() as u64;
            assert_eq!(at_every_level(|| count_zeros(kind, &bytes)), expected, "{kind:?}");
        }
    }
}
