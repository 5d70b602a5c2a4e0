//! A compressed matrix gives the bytes of its decompressed twin.

use super::*;
use crate::element::{from_f16, narrow, to_f16};
use crate::level::at_every_level;
use crate::nn::Dense;
use crate::{decode_fp8, decode_int};

/// Uniform in -1..1.
fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// A packed matrix, and its weights as `[outputs, inputs]`.
struct Twins {
    packed: WeightOnly,
    decoded: Vec<f32>,
}

/// Short ones are positive and of 11 bits, as those of checkpoints are.
fn scales(len: usize, is_short: bool) -> Vec<f32> {
    let short = |x: f32| from_f16(to_f16(0.03 * x.abs() + 0.001));
    noise(len, 5).into_iter().map(|x| if is_short { short(x) } else { 0.03 * x }).collect()
}

fn integers([outputs, inputs]: [usize; 2], bits: u32, group: usize, has_zero: bool, is_short: bool) -> Twins {
    let groups = inputs.div_ceil(group);
    let half = (1 << (bits - 1)) as f32;
    let code = |x: f32| (x * half).floor() as i8;
    let codes: Vec<i8> = noise(outputs * inputs, bits).into_iter().map(code).collect();
    let scale = scales(outputs * groups, is_short);
    let zero: Vec<i8> = if has_zero { noise(scale.len(), 7).into_iter().map(code).collect() } else { vec![] };
    let mut row = |output: usize, to: &mut [i8]| to.copy_from_slice(&codes[output * inputs..][..inputs]);
    let packed =
        WeightOnly::integers(Codes { outputs, inputs, bits, group, scale: &scale, zero: &zero, row: &mut row });
    let mut decoded = vec![0.0; codes.len()];
    for (output, to) in decoded.chunks_exact_mut(inputs).enumerate() {
        let zero: Vec<f32> = zero.iter().skip(output * groups).take(groups).copied().map(f32::from).collect();
        let range = output * inputs..(output + 1) * inputs;
        decode_int(&codes[range], group, &scale[output * groups..][..groups], &zero, to);
    }
    Twins { packed, decoded }
}

fn float8([outputs, inputs]: [usize; 2], group: usize, codes: &[u8], scale: &[f32]) -> Twins {
    let groups = inputs.div_ceil(group);
    let mut row = |output: usize, to: &mut [u8]| to.copy_from_slice(&codes[output * inputs..][..inputs]);
    let packed = WeightOnly::float8(Float8Codes { outputs, inputs, group, scale, row: &mut row });
    let mut decoded = vec![0.0; codes.len()];
    for (output, to) in decoded.chunks_exact_mut(inputs).enumerate() {
        decode_fp8(&codes[output * inputs..][..inputs], group, &scale[output * groups..][..groups], to);
    }
    Twins { packed, decoded }
}

fn halves([outputs, inputs]: [usize; 2], float: Float) -> Twins {
    let mut bytes = vec![0; 2 * outputs * inputs];
    let mut values = noise(outputs * inputs, 11);
    // Subnormal as binary16.
    values[0] = 3e-6;
    narrow(float, &values, &mut bytes);
    let bits: Vec<u16> = bytes.as_chunks().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
    let mut row = |output: usize, to: &mut [u16]| to.copy_from_slice(&bits[output * inputs..][..inputs]);
    let packed = WeightOnly::halves(outputs, inputs, float, &mut row);
    let mut decoded = vec![0.0; bits.len()];
    crate::widen(float, &bytes, &mut decoded);
    Twins { packed, decoded }
}

/// The bits of each value; every NaN alike.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }).collect()
}

impl Twins {
    #[track_caller]
    fn agree(&self, what: &str) {
        let [outputs, inputs] = self.packed.extents();
        let mut weight = vec![0.0; inputs * outputs];
        for (at, value) in self.decoded.iter().enumerate() {
            weight[at % inputs * outputs + at / inputs] = *value;
        }
        for rows in [0, 1, 2, 3, 4, 5, 6, 7, 13] {
            let (x, bias) = (noise(rows * inputs, 13), noise(outputs, 17));
            let (bias, relu) = ((rows != 3).then_some(&bias[..]), rows % 2 == 0);
            at_every_level(|| {
                let (alone, team) = (Team::new(1), Team::new(3));
                let layer = Dense::new(inputs, outputs, relu);
                let mut packed = vec![];
                layer.pack_forward(&alone, &weight, &mut packed);
                let mut wanted = vec![0.5; rows * outputs];
                layer.forward(rows, &x, &packed, bias, &mut wanted);
                for team in [alone, team] {
                    let mut found = vec![-0.5; rows * outputs];
                    self.packed.multiply(&team, rows, &x, bias, relu, &mut found);
                    assert!(bits(&found) == bits(&wanted), "{what}, {outputs} x {inputs}, {rows} rows");
                }
                bits(&wanted)
            });
        }
    }
}

/// One output, a register, a panel and one more, more than the panels of a tile, and enough for a team.
const EXTENTS: [[usize; 2]; 5] = [[1, 1], [8, 5], [17, 33], [83, 131], [150, 900]];

#[test]
fn integers_of_every_width_multiply_as_their_decoded_twins() {
    for extents in EXTENTS {
        for (bits, group, has_zero, is_short) in [
            (8, extents[1], false, false),
            (8, 32, true, false),
            (5, 7, true, true),
            (4, 128, false, true),
            (4, 32, true, false),
            (3, 5, false, false),
            (2, 16, true, true),
            (2, 7, false, false),
            (1, 16, true, true),
            (1, 7, false, false),
        ] {
            let twins = integers(extents, bits, group, has_zero, is_short);
            twins.agree(&format!("int{bits}, groups of {group}"));
        }
    }
}

#[test]
fn every_8_bit_float_multiplies_as_its_decoded_twin() {
    let codes: Vec<u8> =
        (0..19 * 128).map(|at| (at * 37 % 256) as u8).map(|c| if c & 127 == 127 { 1 } else { c }).collect();
    for (group, size) in [(128, 0.01), (50, 1e-3), (128, 1e30)] {
        let scale: Vec<f32> = noise(19 * 128_usize.div_ceil(group), 3).iter().map(|x| x * size).collect();
        float8([19, 128], group, &codes, &scale).agree(&format!("fp8, groups of {group}, scales of {size}"));
    }
}

#[test]
fn a_row_with_a_nan_gives_nan_and_no_other_does() {
    let mut codes = vec![0x38; 20 * 6];
    codes[6 * 17 + 4] = 0x7f;
    codes[6 * 3] = 0xff;
    let twins = float8([20, 6], 4, &codes, &[0.5; 40]);
    twins.agree("fp8 with NaN");
    let mut out = vec![0.0; 20];
    twins.packed.multiply(&Team::new(1), 1, &[1.0; 6], None, false, &mut out);
    let found: Vec<usize> = (0..20).filter(|output| out[*output].is_nan()).collect();
    assert_eq!(found, [3, 17]);
}

#[test]
fn floats_of_16_bits_multiply_as_their_widened_twins() {
    for extents in EXTENTS {
        halves(extents, Float::F16).agree("f16");
        halves(extents, Float::BF16).agree("bf16");
    }
}

#[test]
fn plain_floats_multiply_as_a_dense_layer_does() {
    for extents in EXTENTS {
        let [outputs, inputs] = extents;
        let decoded = noise(outputs * inputs, 19);
        let mut row = |output: usize, to: &mut [f32]| to.copy_from_slice(&decoded[output * inputs..][..inputs]);
        let packed = WeightOnly::floats(outputs, inputs, &mut row);
        Twins { packed, decoded }.agree("f32");
    }
}

#[test]
fn bytes_are_those_of_the_codes_and_of_scales_as_short_as_they_can_be() {
    let bytes = |bits, has_zero, is_short| integers([32, 256], bits, 64, has_zero, is_short).packed.bytes();
    let (codes, groups) = (32 * 256, 32 * 4);
    assert_eq!(bytes(8, false, false), codes + 4 * groups);
    assert_eq!(bytes(8, false, true), codes + 2 * groups);
    assert_eq!(bytes(4, true, true), codes / 2 + 2 * groups + groups);
    assert_eq!(bytes(2, false, true), codes / 4 + 2 * groups);
    assert_eq!(halves([32, 256], Float::BF16).packed.bytes(), 2 * codes);
}

#[test]
#[should_panic(expected = "one scale a group")]
fn a_scale_too_few_is_refused() {
    let codes = Codes { outputs: 2, inputs: 5, bits: 4, group: 2, scale: &[1.0; 5], zero: &[], row: &mut |_, _| {} };
    WeightOnly::integers(codes);
}

#[test]
#[should_panic(expected = "values of the inputs")]
fn a_row_too_few_is_refused() {
    let matrix = integers([3, 4], 8, 4, false, false).packed;
    matrix.multiply(&Team::new(1), 2, &[0.0; 4], None, false, &mut [0.0; 6]);
}
