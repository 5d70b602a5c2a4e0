//! The matrix of a layer as its checkpoint holds it: values, or codes with scales.

use dlopt_checkpoint::{Result, Tensors};
use dlopt_kernels::compressed::{Codes, Float8Codes};
use dlopt_kernels::{Float, decode_fp8, decode_int};
use dlopt_quantize::{Activations, StoredWeight};
use half::{bf16, f16};

use super::coded::CodedMatrix;
use super::fold::Factors;

/// A matrix `[outputs, inputs]`; the inputs of a convolution are flattened.
pub(super) struct Source<'a> {
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    held: Values<'a>,
    /// Bits of the places in a codebook that the values were decoded from.
    codebook: Option<u32>,
}

enum Values<'a> {
    Floats(Vec<f32>),
    /// The bits of 16-bit floats.
    Halves(Float, Vec<u16>),
    Codes(CodedMatrix<'a>),
}

impl<'a> Source<'a> {
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
    pub(super) fn codes(weight: &'a StoredWeight, from: &'a dyn Tensors, factors: Option<&Factors>) -> Result<Self> {
        let [outputs, inputs] = weight.extents();
        let held = Values::Codes(CodedMatrix::read(weight, from, factors)?);
        Ok(Self { outputs, inputs, held, codebook: None })
    }

    /// Puts the inputs of a picture, which stand channel by channel, in the order row, column, channel. Where inputs of
    /// several groups have scales of their own they stay as they are, and `false` comes back.
    pub(super) fn take_as_it_comes(&mut self, [height, width, channels]: [usize; 3]) -> bool {
        let (inputs, pixels) = (self.inputs, height * width);
        match &mut self.held {
            Values::Floats(values) => by_pixels(values, inputs, pixels, channels),
            Values::Halves(_, bits) => by_pixels(bits, inputs, pixels, channels),
            Values::Codes(coded) if coded.may_reorder() => coded.reorder(pixels, channels),
            Values::Codes(_) => return false,
        }
        true
    }

    /// Puts the inputs of a convolution, which stand channel by channel, in the order tap, channel; what has scales for
    /// several groups of them is decoded for that.
    ///
    /// # Errors
    /// When codes cannot be had any more.
    pub(super) fn take_by_taps(&mut self, taps: usize) -> Result<()> {
        let picture = [taps, 1, self.inputs / taps.max(1)];
        if !self.take_as_it_comes(picture) {
            self.held = Values::Floats(self.decode()?);
            self.take_as_it_comes(picture);
        }
        Ok(())
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
            Values::Codes(coded) => {
                let weight = coded.weight;
                let (kind, bits) = (if weight.is_integer() { "int" } else { "fp" }, weight.bits());
                let zero = if coded.zero.is_empty() { "" } else { ", zero points" };
                let group = weight.group();
                let group = if group < self.inputs { format!(" group {group}") } else { String::new() };
                format!("{kind}{bits}{group}{zero}{zeros}")
            }
        }
    }

    /// The share of values that are 0.
    pub(super) fn zero_share(&self) -> f64 {
        let zeros = match &self.held {
            Values::Floats(values) => values.iter().filter(|value| **value == 0.0).count(),
            Values::Halves(_, bits) => bits.iter().filter(|bits| **bits & 0x7fff == 0).count(),
            Values::Codes(coded) => coded.zeros,
        };
        zeros as f64 / (self.outputs * self.inputs).max(1) as f64
    }

    /// Whether it is stored as integers.
    pub(super) fn is_integer(&self) -> bool {
        matches!(&self.held, Values::Codes(coded) if coded.weight.is_integer())
    }

    /// What its scheme asks of activations.
    pub(super) fn activations(&self) -> Activations {
        match &self.held {
            Values::Floats(_) | Values::Halves(..) => Activations::Dense,
            Values::Codes(coded) => coded.weight.activations(),
        }
    }

    /// Calls `pack` with integer codes, if it is stored as such.
    ///
    /// # Errors
    /// When codes cannot be had any more.
    pub(super) fn with_codes<R>(&self, pack: impl FnOnce(Codes<'_>) -> R) -> Result<Option<R>> {
        let Values::Codes(coded) = &self.held else { return Ok(None) };
        if !coded.weight.is_integer() {
            return Ok(None);
        }
        let packed = coded.with_rows(|row| {
            pack(Codes {
                outputs: self.outputs,
                inputs: self.inputs,
                bits: coded.weight.bits(),
                group: coded.weight.group(),
                scale: &coded.scale,
                zero: &coded.zero,
                row,
            })
        });
        packed.map(Some)
    }

    /// Calls `pack` with codes of FP8 E4M3, if it is stored as such.
    ///
    /// # Errors
    /// As [`Self::with_codes`].
    pub(super) fn with_float8<R>(&self, pack: impl FnOnce(Float8Codes<'_>) -> R) -> Result<Option<R>> {
        let Values::Codes(coded) = &self.held else { return Ok(None) };
        if coded.weight.is_integer() {
            return Ok(None);
        }
        let mut own = vec![0; self.inputs];
        let packed = coded.with_rows(|row| {
            pack(Float8Codes {
                outputs: self.outputs,
                inputs: self.inputs,
                group: coded.weight.group(),
                scale: &coded.scale,
                row: &mut |output, codes| {
                    row(output, &mut own);
                    codes.iter_mut().zip(&own).for_each(|(to, from)| *to = from.cast_unsigned());
                },
            })
        });
        packed.map(Some)
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

    /// Calls `pack` with what writes the values of a row, to be called once for each, in order; each product is rounded once.
    ///
    /// # Errors
    /// When codes cannot be had any more.
    pub(super) fn with_values<R>(&self, pack: impl FnOnce(&mut dyn FnMut(usize, &mut [f32])) -> R) -> Result<R> {
        let inputs = self.inputs;
        let coded = match &self.held {
            Values::Floats(values) => {
                return Ok(pack(&mut |row, to| to.copy_from_slice(&values[row * inputs..][..inputs])));
            }
            Values::Halves(float, bits) => {
                let value = |bits: u16| match float {
                    Float::F16 => f16::from_bits(bits).to_f32(),
                    _ => bf16::from_bits(bits).to_f32(),
                };
                return Ok(pack(&mut |row, to| {
                    to.iter_mut().zip(&bits[row * inputs..]).for_each(|(to, bits)| *to = value(*bits));
                }));
            }
            Values::Codes(coded) => coded,
        };
        let group = coded.weight.group();
        let groups = inputs.div_ceil(group);
        let (mut codes, mut bytes) = (vec![0; inputs], Vec::new());
        coded.with_rows(|row| {
            pack(&mut |output, to| {
                row(output, &mut codes);
                let own = output * groups..(output + 1) * groups;
                let scale = &coded.scale[own.clone()];
                if coded.weight.is_integer() {
                    let zero = coded.zero.get(own).unwrap_or_default();
                    let zero: Vec<f32> = zero.iter().map(|zero| f32::from(*zero)).collect();
                    decode_int(&codes, group, scale, &zero, to);
                } else {
                    bytes.clear();
                    bytes.extend(codes.iter().map(|code| code.cast_unsigned()));
                    decode_fp8(&bytes, group, scale, to);
                }
            })
        })
    }

    /// Its values, `[outputs, inputs]`.
    ///
    /// # Errors
    /// As [`Self::with_values`].
    pub(super) fn decode(&self) -> Result<Vec<f32>> {
        let mut values = vec![0.0; self.outputs * self.inputs];
        self.with_values(|row| {
            values.chunks_exact_mut(self.inputs).enumerate().for_each(|(output, to)| row(output, to));
        })?;
        Ok(values)
    }
}

/// Transposes every row from `[channels, pixels]` to `[pixels, channels]`.
pub(super) fn by_pixels<T: Copy>(values: &mut [T], inputs: usize, pixels: usize, channels: usize) {
    let mut before = Vec::with_capacity(inputs);
    for row in values.chunks_exact_mut(inputs) {
        before.clear();
        before.extend_from_slice(row);
        for (pixel, to) in row.chunks_exact_mut(channels).enumerate() {
            to.iter_mut().zip(before[pixel..].iter().step_by(pixels)).for_each(|(to, from)| *to = *from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_of_a_picture_are_taken_as_they_come() {
        // Two channels of three pixels.
        let mut source = Source::floats(1, vec![0.0, 1.0, 2.0, 10.0, 11.0, 12.0]);
        assert!(source.take_as_it_comes([3, 1, 2]));
        assert_eq!(source.decode().unwrap(), [0.0, 10.0, 1.0, 11.0, 2.0, 12.0]);
        assert_eq!((source.describe(), source.zero_share()), ("f32, 17 % zeros".to_owned(), 1.0 / 6.0));
    }
}
