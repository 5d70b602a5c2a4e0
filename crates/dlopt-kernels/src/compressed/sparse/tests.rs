use super::*;
use crate::compressed::{Codes, Maps, Product};
use crate::level::{at_every_level, at_this_level};
use crate::nn::{ConvShape, Convolution, Dense, Team};

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

fn shape(
    size: [usize; 2],
    channels: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 4],
) -> ConvShape {
    ConvShape {
        height: size[0],
        width: size[1],
        inputs: channels[0],
        outputs: channels[1],
        kernel,
        stride,
        dilation: [1, 1],
        padding,
        groups: 1,
    }
}

#[test]
fn a_convolution_gives_what_the_dense_one_gives() {
    let dilated = ConvShape { dilation: [2, 3], ..shape([11, 13], [3, 9], [3, 2], [2, 1], [2, 1, 0, 3]) };
    let shapes = [
        shape([1, 1], [1, 1], [1, 1], [1, 1], [0; 4]),
        shape([4, 4], [2, 3], [3, 3], [1, 1], [1; 4]),
        shape([9, 13], [5, 18], [3, 3], [1, 1], [1; 4]),
        shape([28, 30], [1, 32], [3, 3], [1, 1], [1; 4]),
        shape([7, 90], [4, 10], [1, 5], [1, 1], [0, 0, 2, 2]),
        shape([6, 5], [17, 7], [1, 1], [1, 1], [0; 4]),
        shape([11, 16], [3, 8], [3, 3], [2, 2], [1; 4]),
        shape([10, 9], [2, 20], [5, 3], [3, 2], [0, 1, 2, 0]),
        shape([5, 2], [3, 4], [2, 1], [1, 4], [0; 4]),
        shape([5, 6], [70, 6], [3, 2], [1, 1], [1, 1, 0, 1]),
        shape([3, 4], [150, 5], [2, 2], [1, 1], [0, 1, 1, 0]),
        shape([40, 33], [2, 70], [3, 3], [1, 1], [0; 4]),
        dilated,
    ];
    for (at, shape) in shapes.into_iter().enumerate() {
        // Two one after the other, or sixteen and three more abreast.
        let (images, depth) = (19, shape.weight_len() / shape.outputs);
        let weight = weights(shape.outputs, depth, 0.6, at as u32);
        let transposed: Vec<f32> =
            (0..weight.len()).map(|at| weight[at % shape.outputs * depth + at / shape.outputs]).collect();
        let (x, bias) = (noise(images * shape.input_len(), 2), noise(shape.outputs, 3));
        for (relu, pool) in [(false, false), (true, false), (true, true)] {
            let layer = Convolution::new(shape, relu, pool);
            let (mut packed, mut wanted) = (vec![], vec![0.0; images * layer.output_len()]);
            layer.pack_forward(&Team::new(1), &transposed, &mut packed);
            layer.forward(images, &x, &packed, Some(&bias), &mut wanted, None);
            for (planned, images) in [(2, 2), (images, images), (images, 2)] {
                let found = at_every_level(|| {
                    let layer = SparseConvolution::pack(shape, relu, pool, planned, &mut |output, row| {
                        row.copy_from_slice(&weight[output * depth..][..depth]);
                    });
                    let mut out = vec![f32::NAN; images * layer.output_len()];
                    layer.forward(images, &x[..images * shape.input_len()], Some(&bias), &mut out);
                    out
                });
                assert_eq!(found, wanted[..found.len()], "{shape:?}, relu {relu}, pool {pool}, {images} of {planned}");
            }
        }
    }
}

#[test]
fn a_convolution_of_codes_is_scaled_behind_the_sum() {
    let shape = shape([5, 6], [2, 3], [3, 3], [1, 1], [1; 4]);
    let codes: Vec<i8> = weights(3, 18, 0.5, 1).iter().map(|w| (w * 127.0) as i8).collect();
    let (x, scale, bias) = (noise(60, 2), [0.5, 0.25, 2.0], [1.0, -1.0, 0.0]);
    let of = |images: usize| {
        at_every_level(|| {
            let row = &mut |output: usize, row: &mut [i8]| row.copy_from_slice(&codes[output * 18..][..18]);
            let codes = Codes { outputs: 3, inputs: 18, bits: 8, group: 18, scale: &scale, zero: &[], row };
            let mut out = vec![f32::NAN; 90];
            SparseConvolution::pack_codes(shape, false, false, images, codes).forward(1, &x, Some(&bias), &mut out);
            out
        })
    };
    let found = of(1);
    assert_eq!(found, of(16), "abreast");
    for (at, &found) in found.iter().enumerate() {
        let (pixel, output) = (at / 3, at % 3);
        let mut sum = 0.0_f32;
        for tap in 0..9 {
            let (y, x_at) = (pixel / 6 + tap / 3, pixel % 6 + tap % 3);
            for input in 0..2 {
                if (1..6).contains(&y) && (1..7).contains(&x_at) {
                    let code = f32::from(codes[output * 18 + tap * 2 + input]);
                    sum = code.mul_add(x[((y - 1) * 6 + x_at - 1) * 2 + input], sum);
                }
            }
        }
        assert_eq!(found, sum.mul_add(scale[output], bias[output]), "pixel {pixel}, output {output}");
    }
}

#[test]
fn only_the_layouts_that_were_asked_for_are_held() {
    let (outputs, inputs) = (40, 200);
    let weight = weights(outputs, inputs, 0.8, 7);
    let purposes = [Use::OneRow, Use::ManyRows, Use::Both];
    let [one, many, both] = at_this_level(|| purposes.map(|purpose| packed(outputs, inputs, &weight, purpose).bytes()));
    assert!(one < outputs * inputs * 2 && many < outputs * inputs * 2);
    assert_eq!(both, one + many);
    let matrix = packed(outputs, inputs, &weight, Use::ManyRows);
    assert_eq!(matrix.layout_names(), [None, Some("blocked")]);
    assert_eq!(matrix.extents(), [outputs, inputs]);
    let zeros = weight.iter().filter(|&&w| w == 0.0).count();
    assert!((matrix.sparsity() - zeros as f64 / weight.len() as f64).abs() < 1e-12);
}

#[test]
fn sixteen_lanes_give_what_eight_give() {
    for (outputs, inputs, sparsity) in SHAPES {
        let (weight, x) = (weights(outputs, inputs, sparsity, 7), noise(inputs, 8));
        let rows = rows::Rows::read(outputs, inputs, &mut |output, row| {
            row.copy_from_slice(&weight[output * inputs..][..inputs]);
        });
        let product = |matrix: windowed::Windowed<f32>| {
            let mut out = vec![f32::NAN; outputs];
            matrix.multiply(0..matrix.tiles(), &x, target::Target::new(None, None, false, &mut out));
            out
        };
        at_every_level(|| {
            let wide = product(windowed::Windowed::pack_lanes::<16>(&rows, 64));
            assert_eq!(wide, product(windowed::Windowed::pack_lanes::<16>(&rows, 32)), "{inputs} to {outputs}");
            assert_eq!(wide, product(windowed::Windowed::pack_lanes::<8>(&rows, 8)), "{inputs} to {outputs}");
            let mut out = vec![f32::NAN; outputs];
            let listed = listed::Listed::pack(&rows);
            listed.multiply(0..listed.tiles(), &x, target::Target::new(None, None, false, &mut out));
            assert_eq!(wide, out, "{inputs} to {outputs}");
        });
    }
}

#[test]
#[should_panic(expected = "values of the inputs")]
fn a_row_too_few_is_refused() {
    packed(2, 3, &[1.0; 6], Use::OneRow).multiply(&Team::new(1), 2, &[0.0; 3], None, false, &mut [0.0; 4]);
}

#[test]
#[should_panic(expected = "one scale for each output")]
fn groups_of_scales_are_refused() {
    let codes =
        Codes { outputs: 1, inputs: 4, bits: 4, group: 2, scale: &[1.0; 2], zero: &[], row: &mut |_, row| row.fill(1) };
    SparseMatrix::pack_codes(codes, Use::OneRow);
}
