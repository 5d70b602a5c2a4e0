//! Convolutions of codes.

use proptest::prelude::*;

use super::{bits, codes, everywhere, floats, quantized};
use crate::compressed::{Codes, Int8Convolution, Maps};
use crate::nn::ConvShape;

#[derive(Clone, Debug)]
struct Case {
    shape: ConvShape,
    bits: u32,
    relu: bool,
    pool: bool,
    input_scale: Option<f32>,
}

impl Case {
    fn weights(&self) -> Vec<i8> {
        codes(1, self.shape.weight_len(), self.bits)
    }

    fn scales(&self) -> Vec<f32> {
        floats(2, self.shape.outputs).iter().map(|x| x.abs() / 100.0).collect()
    }

    fn pack(&self) -> Result<Int8Convolution, &'static str> {
        let (weights, scale) = (self.weights(), self.scales());
        let (outputs, inputs) = (self.shape.outputs, self.shape.weight_len() / self.shape.outputs);
        let mut row = |output: usize, to: &mut [i8]| to.copy_from_slice(&weights[output * inputs..][..inputs]);
        let mut codes =
            Codes { outputs, inputs, bits: self.bits, group: inputs, scale: &scale, zero: &[], row: &mut row };
        let packed = Int8Convolution::pack(self.shape, self.relu, self.pool, &mut codes)?;
        Ok(match self.input_scale {
            Some(scale) => packed.with_input_scale(scale),
            None => packed,
        })
    }

    /// The definition, one loop a letter.
    fn expected(&self, x: &[f32], bias: &[f32]) -> Vec<u32> {
        let (s, weights, scales) = (self.shape, self.weights(), self.scales());
        let inputs = s.weight_len() / s.outputs;
        let mut expected = vec![];
        for image in x.chunks(s.input_len()) {
            let (image, scale) = quantized(image, self.input_scale);
            let value = |y: usize, column: usize, o: usize| {
                let mut sum = 0;
                for at in 0..inputs {
                    let (ky, kx, i) = (at / s.inputs / s.kernel[1], at / s.inputs % s.kernel[1], at % s.inputs);
                    let iy = (y * s.stride[0] + ky * s.dilation[0]).wrapping_sub(s.padding[0]);
                    let ix = (column * s.stride[1] + kx * s.dilation[1]).wrapping_sub(s.padding[2]);
                    if iy < s.height && ix < s.width {
                        sum += i32::from(weights[o * inputs + at]) * image[(iy * s.width + ix) * s.inputs + i];
                    }
                }
                let value = (sum as f32 * scales[o]).mul_add(scale, bias[o]);
                if self.relu && value < 0.0 { 0.0 } else { value }
            };
            let each = if self.pool { 2 } else { 1 };
            for y in 0..s.out_height() / each {
                for column in 0..s.out_width() / each {
                    for o in 0..s.outputs {
                        let window =
                            (0..each * each).map(|at| value(y * each + at / each, column * each + at % each, o));
                        expected.push(bits(window.fold(f32::NEG_INFINITY, f32::max)));
                    }
                }
            }
        }
        expected
    }

    fn agrees(&self) {
        let packed = self.pack().unwrap();
        let (x, bias) = (floats(3, 2 * self.shape.input_len()), floats(4, self.shape.outputs));
        let computed = everywhere(|| {
            let mut out = vec![f32::NAN; 2 * packed.output_len()];
            packed.forward(2, &x, Some(&bias), &mut out);
            out.into_iter().map(bits).collect::<Vec<_>>()
        });
        assert!(computed == self.expected(&x, &bias), "{self:?}");
    }
}

fn case(size: [usize; 2], channels: [usize; 2], kernel: [usize; 2], padding: [usize; 4]) -> Case {
    let shape = ConvShape {
        height: size[0],
        width: size[1],
        inputs: channels[0],
        outputs: channels[1],
        kernel,
        stride: [1, 1],
        dilation: [1, 1],
        padding,
        groups: 1,
    };
    Case { shape, bits: 8, relu: false, pool: false, input_scale: None }
}

#[test]
fn layers_of_few_and_many_channels_agree() {
    case([9, 8], [1, 32], [3, 3], [1; 4]).agrees();
    case([7, 7], [32, 70], [3, 3], [1; 4]).agrees();
    case([5, 6], [48, 33], [3, 2], [0, 1, 2, 0]).agrees();
    case([13, 4], [3, 5], [1, 1], [0; 4]).agrees();
}

#[test]
fn a_pool_takes_whole_windows() {
    let pooled = |case: Case| Case { relu: true, pool: true, ..case }.agrees();
    pooled(case([9, 7], [1, 19], [3, 3], [1; 4]));
    pooled(case([8, 10], [16, 65], [3, 3], [1; 4]));
    pooled(case([6, 21], [5, 130], [2, 2], [0; 4]));
}

#[test]
fn strides_and_dilations_agree() {
    let plain = case([9, 10], [5, 17], [3, 3], [2, 1, 0, 3]);
    let with = |stride, dilation| ConvShape { stride, dilation, ..plain.shape };
    Case { shape: with([2, 3], [1, 1]), relu: true, ..plain }.agrees();
    Case { shape: with([1, 2], [2, 3]), input_scale: Some(0.01), ..plain }.agrees();
    Case { shape: with([3, 1], [1, 2]), relu: true, pool: true, bits: 3, ..plain }.agrees();
}

#[test]
fn a_kernel_that_does_not_fit_gives_no_outputs() {
    Case { relu: true, pool: true, ..case([2, 5], [3, 4], [3, 3], [0; 4]) }.agrees();
}

#[test]
fn an_image_with_nan_gives_nan_and_its_neighbour_does_not() {
    let case = Case { relu: true, pool: true, ..case([6, 6], [2, 20], [3, 3], [1; 4]) };
    let packed = case.pack().unwrap();
    let mut x = floats(3, 2 * case.shape.input_len());
    x[17] = f32::NEG_INFINITY;
    let computed = everywhere(|| {
        let mut out = vec![0.0; 2 * packed.output_len()];
        packed.forward(2, &x, None, &mut out);
        out.into_iter().map(bits).collect::<Vec<_>>()
    });
    let (first, second) = computed.split_at(packed.output_len());
    assert!(first.iter().all(|&bits| bits == u32::MAX) && second.iter().all(|&bits| bits != u32::MAX));
}

#[test]
fn convolutions_for_other_kernels_are_refused() {
    let mut grouped = case([5, 5], [4, 6], [3, 3], [0; 4]);
    grouped.shape.groups = 2;
    assert_eq!(grouped.pack().unwrap_err(), "its channels are in groups");
    let shape = case([5, 5], [1, 1], [2, 2], [0; 4]).shape;
    let mut row = |_: usize, to: &mut [i8]| to.fill(-9);
    let mut codes = Codes { outputs: 1, inputs: 4, bits: 4, group: 2, scale: &[1.0; 2], zero: &[], row: &mut row };
    let refused = |codes: &mut Codes<'_>| Int8Convolution::pack(shape, false, false, codes).unwrap_err();
    assert_eq!(refused(&mut codes), "an output has several scales");
    (codes.group, codes.scale, codes.zero) = (4, &[-1.0], &[1]);
    assert_eq!(refused(&mut codes), "it has zero points");
    codes.zero = &[0];
    assert_eq!(refused(&mut codes), "a scale is negative or not finite");
    codes.scale = &[1.0];
    assert_eq!(refused(&mut codes), "a code is out of range");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_shape_agrees(
        size in [1_usize..9, 1_usize..9],
        channels in [1_usize..20, 1_usize..70],
        kernel in [1_usize..4, 1_usize..5],
        stride in [1_usize..4, 1_usize..4],
        dilation in [1_usize..3, 1_usize..3],
        padding in [0_usize..4, 0_usize..4, 0_usize..4, 0_usize..4],
        bits in 2_u32..9,
        last in 0_usize..3,
    ) {
        let case = case(size, channels, kernel, padding);
        let shape = ConvShape { stride, dilation, ..case.shape };
        Case { shape, bits, relu: last > 0, pool: last > 1, ..case }.agrees();
    }
}
