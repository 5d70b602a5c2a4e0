//! The matrix of a layer as its checkpoint holds it: values, or codes with scales.

use dlopt_checkpoint::{Result, Tensors};
use dlopt_kernels::compressed::{Codes, Float8Codes};
use dlopt_kernels::{Float, decode_fp8, decode_int};
use dlopt_quantize::{Activations, Coded, StoredWeight};
use half::{bf16, f16};

use super::fold::Factors;

/// A matrix `[outputs, inputs]`; the inputs of a convolution are flattened.
pub(super) struct Source {
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    held: Values,
    /// Bits of the places in a codebook that the values were decoded from.
    codebook: Option<u32>,
}

enum Values {
    Floats(Vec<f32>),
    /// The bits of 16-bit floats.
    Halves(Float, Vec<u16>),
    Codes {
        coded: Coded,
        bits: u32,
        group: usize,
        is_integer: bool,
        activations: Activations,
    },
}

impl Source {
    /// A matrix of values.
    pub(super) fn floats(outputs: usize, values: Vec<f32>) -> Self {
        Self { outputs, inputs: values.len() / outputs.max(1), held: Values::Floats(values), codebook: None }
    }

    /// A matrix of 16-bit floats, by their bits.
    pub(super) fn halves(outputs: usize, float: Float, bits: Vec<u16>) -> Self {
        Self { outputs, inputs: bits.len() / outputs.max(1), held: Values::Halves(float, bits), codebook: None }
    }

    /// The same, if the weight is stored so, as decoded from a codebook.
    #[must_use]
    pub(super) fn decoded_from(mut self, weight: Option<&StoredWeight>) -> Self {
        self.codebook = weight.filter(|weight| weight.is_codebook()).map(StoredWeight::bits);
        self
    }

    /// A matrix of codes; a norm behind it goes into the scales.
    ///
    /// # Errors
    /// When codes or scales cannot be had or are out of range.
    pub(super) fn codes(weight: &StoredWeight, from: &dyn Tensors, factors: Option<&Factors>) -> Result<Self> {
        let [outputs, inputs] = weight.extents();
        let mut coded = weight.read(from)?;
        if let Some(factors) = factors {
            factors.scale_rows(&mut coded.scale);
            if weight.is_integer() {
                make_positive(&mut coded, outputs, weight.bits());
            }
        }
        let (bits, group, is_integer) = (weight.bits(), weight.group(), weight.is_integer());
        let held = Values::Codes { coded, bits, group, is_integer, activations: weight.activations() };
        Ok(Self { outputs, inputs, held, codebook: None })
    }

    /// Puts the inputs of a picture, which stand channel by channel, in the order row, column, channel. Where inputs of
    /// several groups have scales of their own they stay as they are, and `false` comes back.
    pub(super) fn take_as_it_comes(&mut self, [height, width, channels]: [usize; 3]) -> bool {
        let (inputs, pixels) = (self.inputs, height * width);
        match &mut self.held {
            Values::Floats(values) => by_pixels(values, inputs, pixels, channels),
            Values::Halves(_, bits) => by_pixels(bits, inputs, pixels, channels),
            Values::Codes { coded, group, .. } if *group >= inputs => {
                by_pixels(&mut coded.codes, inputs, pixels, channels);
            }
            Values::Codes { .. } => return false,
        }
        true
    }

    /// Puts the inputs of a convolution, which stand channel by channel, in the order tap, channel; what has scales for
    /// several groups of them is decoded for that.
    pub(super) fn take_by_taps(&mut self, taps: usize) {
        let picture = [taps, 1, self.inputs / taps.max(1)];
        if !self.take_as_it_comes(picture) {
            self.held = Values::Floats(self.decode());
            self.take_as_it_comes(picture);
        }
    }

    /// How it is stored, for people.
    pub(super) fn describe(&self) -> String {
        let zeros = self.zero_share();
        let zeros = if zeros >= 0.01 { format!(", {:.0} % zeros", 100.0 * zeros) } else { String::new() };
        let codebook = self.codebook.map_or(String::new(), |bits| format!("codebook{bits} as "));
        match &self.held {
            Values::Floats(_) => format!("{codebook}f32{zeros}"),
            Values::Halves(Float::F16, _) => format!("{codebook}f16{zeros}"),
            Values::Halves(..) => format!("{codebook}bf16{zeros}"),
            Values::Codes { bits, group, is_integer, coded, .. } => {
                let kind = if *is_integer { "int" } else { "fp" };
                let zero = if coded.zero.is_empty() { "" } else { ", zero points" };
                let group = if *group < self.inputs { format!(" group {group}") } else { String::new() };
                format!("{kind}{bits}{group}{zero}{zeros}")
            }
        }
    }

    /// The share of values that are 0.
    pub(super) fn zero_share(&self) -> f64 {
        let zeros = match &self.held {
            Values::Floats(values) => values.iter().filter(|value| **value == 0.0).count(),
            Values::Halves(_, bits) => bits.iter().filter(|bits| **bits & 0x7fff == 0).count(),
            Values::Codes { coded, group, is_integer, .. } => {
                let groups = self.inputs.div_ceil(*group);
                let rows = coded.codes.chunks_exact(self.inputs).enumerate();
                rows.map(|(row, codes)| {
                    let zero = |i: usize| coded.zero.get(row * groups + i / group).copied().unwrap_or(0);
                    // Of FP8 both zeros count.
                    let is_zero = |i: usize, code: i8| if *is_integer { code == zero(i) } else { code & 0x7f == 0 };
                    codes.iter().enumerate().filter(|&(i, code)| is_zero(i, *code)).count()
                })
                .sum()
            }
        };
        zeros as f64 / (self.outputs * self.inputs).max(1) as f64
    }

    /// Whether it is stored as integers.
    pub(super) fn is_integer(&self) -> bool {
        matches!(self.held, Values::Codes { is_integer: true, .. })
    }

    /// What its scheme asks of activations.
    pub(super) fn activations(&self) -> Activations {
        match &self.held {
            Values::Floats(_) | Values::Halves(..) => Activations::Dense,
            Values::Codes { activations, .. } => *activations,
        }
    }

    /// Calls `pack` with integer codes, if it is stored as such.
    pub(super) fn with_codes<R>(&self, pack: impl FnOnce(Codes<'_>) -> R) -> Option<R> {
        let Values::Codes { coded, bits, group, is_integer: true, .. } = &self.held else { return None };
        let inputs = self.inputs;
        Some(pack(Codes {
            outputs: self.outputs,
            inputs,
            bits: *bits,
            group: *group,
            scale: &coded.scale,
            zero: &coded.zero,
            row: &mut |row, codes| codes.copy_from_slice(&coded.codes[row * inputs..][..inputs]),
        }))
    }

    /// Calls `pack` with codes of FP8 E4M3, if it is stored as such.
    pub(super) fn with_float8<R>(&self, pack: impl FnOnce(Float8Codes<'_>) -> R) -> Option<R> {
        let Values::Codes { coded, group, is_integer: false, .. } = &self.held else { return None };
        let inputs = self.inputs;
        Some(pack(Float8Codes {
            outputs: self.outputs,
            inputs,
            group: *group,
            scale: &coded.scale,
            row: &mut |row, codes| {
                let own = &coded.codes[row * inputs..][..inputs];
                codes.iter_mut().zip(own).for_each(|(to, from)| *to = *from as u8);
            },
        }))
    }

    /// Calls `pack` with the rows of f32 values, if it is stored as such.
    pub(super) fn with_floats<R>(&self, pack: impl FnOnce(&mut dyn FnMut(usize, &mut [f32])) -> R) -> Option<R> {
        let Values::Floats(values) = &self.held else { return None };
        let inputs = self.inputs;
        Some(pack(&mut |row, to| to.copy_from_slice(&values[row * inputs..][..inputs])))
    }

    /// Calls `pack` with the type and the rows of 16-bit floats, if it is stored as such.
    pub(super) fn with_halves<R>(&self, pack: impl FnOnce(Float, &mut dyn FnMut(usize, &mut [u16])) -> R) -> Option<R> {
        let Values::Halves(float, bits) = &self.held else { return None };
        let inputs = self.inputs;
        Some(pack(*float, &mut |row, to| to.copy_from_slice(&bits[row * inputs..][..inputs])))
    }

    /// Its values, `[outputs, inputs]`, each product rounded once.
    pub(super) fn decode(&self) -> Vec<f32> {
        let (coded, group, is_integer) = match &self.held {
            Values::Floats(values) => return values.clone(),
            Values::Halves(Float::F16, bits) => {
                return bits.iter().map(|bits| f16::from_bits(*bits).to_f32()).collect();
            }
            Values::Halves(_, bits) => return bits.iter().map(|bits| bf16::from_bits(*bits).to_f32()).collect(),
            Values::Codes { coded, group, is_integer, .. } => (coded, *group, *is_integer),
        };
        let groups = self.inputs.div_ceil(group);
        let zeros: Vec<f32> = coded.zero.iter().map(|zero| f32::from(*zero)).collect();
        let mut values = vec![0.0; self.outputs * self.inputs];
        for (row, values) in values.chunks_exact_mut(self.inputs).enumerate() {
            let codes = &coded.codes[row * self.inputs..][..self.inputs];
            let own = row * groups..(row + 1) * groups;
            if is_integer {
                let zero = if zeros.is_empty() { &[][..] } else { &zeros[own.clone()] };
                decode_int(codes, group, &coded.scale[own], zero, values);
            } else {
                let bytes: Vec<u8> = codes.iter().map(|code| *code as u8).collect();
                decode_fp8(&bytes, group, &coded.scale[own], values);
            }
        }
        values
    }
}

/// Transposes every row from `[channels, pixels]` to `[pixels, channels]`.
fn by_pixels<T: Copy>(values: &mut [T], inputs: usize, pixels: usize, channels: usize) {
    let mut before = Vec::with_capacity(inputs);
    for row in values.chunks_exact_mut(inputs) {
        before.clear();
        before.extend_from_slice(row);
        for (pixel, to) in row.chunks_exact_mut(channels).enumerate() {
            to.iter_mut().zip(before[pixel..].iter().step_by(pixels)).for_each(|(to, from)| *to = *from);
        }
    }
}

/// Turns the signs of the rows whose scales became negative, as kernels want them positive; not of those that hold the one
/// code without a counterpart.
fn make_positive(coded: &mut Coded, outputs: usize, bits: u32) {
    let least = (-1_i32 << (bits - 1)) as i8;
    let Coded { codes, scale, zero } = coded;
    let groups = scale.len() / outputs.max(1);
    let inputs = codes.len() / outputs.max(1);
    for (row, (codes, scale)) in codes.chunks_exact_mut(inputs).zip(scale.chunks_exact_mut(groups)).enumerate() {
        let zero = if zero.is_empty() { &mut [][..] } else { &mut zero[row * groups..][..groups] };
        if scale.iter().all(|scale| *scale >= 0.0) || codes.contains(&least) || zero.contains(&least) {
            continue;
        }
        scale.iter_mut().for_each(|scale| *scale = -*scale);
        codes.iter_mut().chain(zero).for_each(|code| *code = -*code);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_with_negative_scales_turn_their_signs_where_they_can() {
        let mut coded = Coded { codes: vec![1, -7, 3, -8, 5, 0], scale: vec![-0.5, -0.25, 2.0], zero: vec![2, 1, -3] };
        make_positive(&mut coded, 3, 4);
        let wanted = Coded { codes: vec![-1, 7, 3, -8, 5, 0], scale: vec![0.5, -0.25, 2.0], zero: vec![-2, 1, -3] };
        assert_eq!(coded, wanted);
    }

    #[test]
    fn inputs_of_a_picture_are_taken_as_they_come() {
        // Two channels of three pixels.
        let mut source = Source::floats(1, vec![0.0, 1.0, 2.0, 10.0, 11.0, 12.0]);
        assert!(source.take_as_it_comes([3, 1, 2]));
        assert_eq!(source.decode(), [0.0, 10.0, 1.0, 11.0, 2.0, 12.0]);
        assert_eq!((source.describe(), source.zero_share()), ("f32, 17 % zeros".to_owned(), 1.0 / 6.0));
    }
}
