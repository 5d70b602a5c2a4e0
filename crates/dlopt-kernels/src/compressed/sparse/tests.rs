use super::*;
use crate::compressed::{Codes, Product};
use crate::level::at_every_level;
use crate::nn::{Dense, Team};

/// Numbers in -1..1.
pub(super) fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    (0..len).map(|_| (f64::from(next()) / f64::from(1_u32 << 31) - 1.0) as f32).collect()
}

/// Weights `[outputs, inputs]`, all but a fraction of them 0, more of them in later rows than in earlier ones.
pub(super) fn weights(outputs: usize, inputs: usize, sparsity: f32, seed: u32) -> Vec<f32> {
    let (mut values, chance) = (noise(outputs * inputs, seed), noise(outputs * inputs, seed + 1));
    for (at, (value, chance)) in values.iter_mut().zip(chance).enumerate() {
        let more = (at / inputs) as f32 / outputs as f32 - 0.5;
        if (chance + 1.0) / 2.0 < sparsity + more * (1.0 - sparsity) {
            *value = 0.0;
        }
    }
    values
}

const SHAPES: [(usize, usize, f32); 9] = [
    (1, 1, 0.0),
    (3, 5, 0.5),
    (10, 84, 0.9),
    (37, 300, 0.7),
    (70, 17, 0.3),
    (130, 513, 0.95),
    (33, 1000, 0.99),
    (5, 2000, 0.999),
    (300, 40, 1.0),
];

fn packed(outputs: usize, inputs: usize, weight: &[f32], purpose: Use) -> SparseMatrix {
    SparseMatrix::pack(outputs, inputs, purpose, &mut |output, row| {
        row.copy_from_slice(&weight[output * inputs..][..inputs]);
    })
}

fn dense(rows: usize, inputs: usize, outputs: usize, x: &[f32], weight: &[f32], bias: &[f32], relu: bool) -> Vec<f32> {
    let transposed: Vec<f32> = (0..inputs * outputs).map(|at| weight[at % outputs * inputs + at / outputs]).collect();
    let layer = Dense::new(inputs, outputs, relu);
    let (mut packed, mut out) = (vec![], vec![0.0; rows * outputs]);
    layer.pack_forward(&Team::new(1), &transposed, &mut packed);
    layer.forward(rows, x, &packed, Some(bias), &mut out);
    out
}

#[test]
fn every_use_gives_what_the_dense_layer_gives() {
    for (outputs, inputs, sparsity) in SHAPES {
        let (weight, bias) = (weights(outputs, inputs, sparsity, 7), noise(outputs, 9));
        for rows in [1, 3, 16, 21, 64, 70] {
            let x = noise(rows * inputs, 11);
            let relu = rows % 2 == 1;
            let wanted = dense(rows, inputs, outputs, &x, &weight, &bias, relu);
            for purpose in [Use::OneRow, Use::ManyRows, Use::Both] {
                let found = at_every_level(|| {
                    let matrix = packed(outputs, inputs, &weight, purpose);
                    let mut out = vec![f32::NAN; rows * outputs];
                    matrix.multiply(&Team::new(2), rows, &x, Some(&bias), relu, &mut out);
                    out
                });
                assert_eq!(found, wanted, "{rows} rows, {inputs} to {outputs}, {purpose:?}");
            }
        }
    }
}

#[test]
fn codes_are_summed_before_they_are_scaled() {
    for (outputs, inputs, sparsity) in SHAPES {
        let codes: Vec<i8> = weights(outputs, inputs, sparsity, 3).iter().map(|w| (w * 127.0) as i8).collect();
        let (scale, bias) = (noise(outputs, 5), noise(outputs, 6));
        for rows in [1, 5, 33] {
            let x = noise(rows * inputs, 4);
            let wanted: Vec<f32> = (0..rows * outputs)
                .map(|at| {
                    let (x, codes) = (&x[at / outputs * inputs..][..inputs], &codes[at % outputs * inputs..][..inputs]);
                    let sum = x.iter().zip(codes).fold(0.0, |sum, (&x, &code)| f32::from(code).mul_add(x, sum));
                    f32::mul_add(sum, scale[at % outputs], bias[at % outputs]).max(0.0)
                })
                .collect();
            for purpose in [Use::OneRow, Use::ManyRows] {
                let found = at_every_level(|| {
                    let matrix = SparseMatrix::pack_codes(
                        Codes {
                            outputs,
                            inputs,
                            bits: 8,
                            group: inputs,
                            scale: &scale,
                            zero: &[],
                            row: &mut |output, row| row.copy_from_slice(&codes[output * inputs..][..inputs]),
                        },
                        purpose,
                    );
                    let mut out = vec![f32::NAN; rows * outputs];
                    matrix.multiply(&Team::new(2), rows, &x, Some(&bias), true, &mut out);
                    out
                });
                assert_eq!(found, wanted, "{rows} rows, {inputs} to {outputs}, {purpose:?}");
            }
        }
    }
}
