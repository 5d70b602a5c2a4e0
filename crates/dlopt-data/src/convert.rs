//! Raw elements to numbers a network takes: `(x - center[j]) * gain[j]`, `j` the position in the sample modulo the
//! number of statistics.
//!
//! `center = mean / scale` and `gain = scale / deviation` give `(scale * x - mean) / deviation`. The difference comes
//! first, so that a small spread around a large mean keeps its digits.

use dlopt_checkpoint::Dtype;
use half::{bf16, f16};

use crate::info::Preprocessing;

/// Shortest run that one turn of the inner loop works on; statistics are repeated up to it.
const RUN: usize = 256;

/// The elements that can be stored.
pub(crate) const STORABLE: [Dtype; 12] = [
    Dtype::U8,
    Dtype::I8,
    Dtype::U16,
    Dtype::I16,
    Dtype::U32,
    Dtype::I32,
    Dtype::U64,
    Dtype::I64,
    Dtype::F16,
    Dtype::BF16,
    Dtype::F32,
    Dtype::F64,
];

/// What is done to each element.
#[derive(Debug)]
pub(crate) struct Affine {
    /// One number, or a multiple of as many as there are statistics.
    center: Vec<f32>,
    gain: Vec<f32>,
}

impl Affine {
    /// Numbers as they are.
    pub(crate) fn plain() -> Self {
        Self { center: vec![0.0], gain: vec![1.0] }
    }

    /// What these statistics say; they have been checked.
    pub(crate) fn new(preprocessing: &Preprocessing) -> Self {
        let scale = f64::from(preprocessing.scale);
        if preprocessing.mean.is_empty() {
            return Self { center: vec![0.0], gain: vec![preprocessing.scale] };
        }
        let center: Vec<f32> = preprocessing.mean.iter().map(|&mean| (f64::from(mean) / scale) as f32).collect();
        let gain: Vec<f32> =
            preprocessing.deviation.iter().map(|&deviation| (scale / f64::from(deviation)) as f32).collect();
        let times = if center.len() == 1 { 1 } else { RUN.div_ceil(center.len()) };
        Self { center: center.repeat(times), gain: gain.repeat(times) }
    }

    /// Turns the elements of one sample, or its beginning, into numbers. Says whether all of them are finite.
    pub(crate) fn apply(&self, dtype: Dtype, bytes: &[u8], out: &mut [f32]) -> bool {
        match dtype {
            Dtype::U8 => self.run(bytes, out, |[x]: [u8; 1]| f32::from(x)),
            Dtype::I8 => self.run(bytes, out, |x| f32::from(i8::from_le_bytes(x))),
            Dtype::U16 => self.run(bytes, out, |x| f32::from(u16::from_le_bytes(x))),
            Dtype::I16 => self.run(bytes, out, |x| f32::from(i16::from_le_bytes(x))),
            Dtype::U32 => self.run(bytes, out, |x| u32::from_le_bytes(x) as f32),
            Dtype::I32 => self.run(bytes, out, |x| i32::from_le_bytes(x) as f32),
            Dtype::U64 => self.run(bytes, out, |x| u64::from_le_bytes(x) as f32),
            Dtype::I64 => self.run(bytes, out, |x| i64::from_le_bytes(x) as f32),
            Dtype::F16 => self.run_checked(bytes, out, |x| f16::from_le_bytes(x).to_f32()),
            Dtype::BF16 => self.run_checked(bytes, out, |x| bf16::from_le_bytes(x).to_f32()),
            Dtype::F32 => self.run_checked(bytes, out, f32::from_le_bytes),
            Dtype::F64 => self.run_checked(bytes, out, |x| f64::from_le_bytes(x) as f32),
            // Refused when the dataset is opened.
            _ => false,
        }
    }

    /// For whole numbers, which are always finite.
    fn run<const SIZE: usize>(&self, bytes: &[u8], out: &mut [f32], number: impl Fn([u8; SIZE]) -> f32) -> bool {
        let (elements, _) = bytes.as_chunks::<SIZE>();
        if let ([center], [gain]) = (&self.center[..], &self.gain[..]) {
            for (out, &x) in out.iter_mut().zip(elements) {
                *out = (number(x) - center) * gain;
            }
            return true;
        }
        let run = self.center.len();
        for (out, elements) in out.chunks_mut(run).zip(elements.chunks(run)) {
            for (((out, &x), center), gain) in out.iter_mut().zip(elements).zip(&self.center).zip(&self.gain) {
                *out = (number(x) - center) * gain;
            }
        }
        true
    }

    fn run_checked<const SIZE: usize>(
        &self,
        bytes: &[u8],
        out: &mut [f32],
        number: impl Fn([u8; SIZE]) -> f32,
    ) -> bool {
        self.run(bytes, out, number);
        out.iter().fold(true, |finite, x| finite & x.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::info::{DatasetInfo, Elements};

    fn affine(scale: f32, mean: &[f32], deviation: &[f32]) -> Affine {
        let plain = DatasetInfo::plain(Elements::Vector { features: 6, names: Vec::new() }).preprocessing(Dtype::U8);
        Affine::new(&Preprocessing { scale, mean: mean.to_vec(), deviation: deviation.to_vec(), ..plain })
    }

    #[test]
    fn statistics_repeat_along_the_sample() {
        let mut out = [0.0; 6];
        assert!(affine(0.5, &[1.0, 2.0, 3.0], &[2.0, 4.0, 0.5]).apply(Dtype::U8, &[2, 8, 7, 255, 0, 6], &mut out));
        assert_eq!(out, [0.0, 0.5, 1.0, 63.25, -0.5, 0.0]);
        affine(0.25, &[], &[]).apply(Dtype::U8, &[0, 4, 2, 1, 8, 16], &mut out);
        assert_eq!(out, [0.0, 1.0, 0.5, 0.25, 2.0, 4.0]);
        affine(1.0, &[1.0], &[2.0]).apply(Dtype::U8, &[1, 3, 5, 7, 9, 0], &mut out);
        assert_eq!(out, [0.0, 1.0, 2.0, 3.0, 4.0, -0.5]);
    }

    #[test]
    fn long_samples_keep_the_statistics_of_their_channel() {
        let (mean, deviation) = ([1.0, -2.0, 4.0], [1.0, 2.0, 4.0]);
        let bytes: Vec<u8> = (0..999_u32).map(|i| (i * 7 % 251) as u8).collect();
        let mut out = vec![0.0; 999];
        affine(1.0, &mean, &deviation).apply(Dtype::U8, &bytes, &mut out);
        for (i, (&x, &y)) in bytes.iter().zip(&out).enumerate() {
            assert_eq!(y, (f32::from(x) - mean[i % 3]) / deviation[i % 3], "{i}");
        }
    }

    #[test]
    fn every_storable_dtype_gives_its_number() {
        let plain = affine(1.0, &[], &[]);
        let one = |dtype, bytes: &[u8]| {
            let mut out = [0.0];
            assert!(plain.apply(dtype, bytes, &mut out), "{dtype:?}");
            out[0]
        };
        assert_eq!(one(Dtype::U8, &[200]), 200.0);
        assert_eq!(one(Dtype::I8, &[0xff]), -1.0);
        assert_eq!(one(Dtype::U16, &60000_u16.to_le_bytes()), 60000.0);
        assert_eq!(one(Dtype::I16, &(-300_i16).to_le_bytes()), -300.0);
        assert_eq!(one(Dtype::U32, &70000_u32.to_le_bytes()), 70000.0);
        assert_eq!(one(Dtype::I32, &(-70000_i32).to_le_bytes()), -70000.0);
        assert_eq!(one(Dtype::U64, &9_u64.to_le_bytes()), 9.0);
        assert_eq!(one(Dtype::I64, &(-9_i64).to_le_bytes()), -9.0);
        assert_eq!(one(Dtype::F16, &f16::from_f32(0.5).to_le_bytes()), 0.5);
        assert_eq!(one(Dtype::BF16, &bf16::from_f32(-3.0).to_le_bytes()), -3.0);
        assert_eq!(one(Dtype::F32, &1.25_f32.to_le_bytes()), 1.25);
        assert_eq!(one(Dtype::F64, &2.5_f64.to_le_bytes()), 2.5);
        assert_eq!(STORABLE.len(), 12);
    }

    #[test]
    fn numbers_that_are_none_are_told() {
        let plain = affine(1.0, &[], &[]);
        let mut out = [0.0; 2];
        for bad in [f32::NAN, f32::INFINITY] {
            let bytes: Vec<u8> = [1.0, bad].iter().flat_map(|x: &f32| x.to_le_bytes()).collect();
            assert!(!plain.apply(Dtype::F32, &bytes, &mut out));
        }
        assert!(!plain.apply(Dtype::F64, &1e300_f64.to_le_bytes(), &mut out[..1]));
    }

    #[test]
    fn a_small_spread_around_a_large_mean_keeps_its_digits() {
        let mut out = [0.0];
        affine(1.0, &[1_000_000.0], &[0.5]).apply(Dtype::F32, &1_000_000.25_f32.to_le_bytes(), &mut out);
        assert_eq!(out, [0.5]);
    }
}
