//! Matrices of codes.

use proptest::prelude::*;

use super::{bits, codes, everywhere, floats, quantized, random};
use crate::compressed::{Codes, Int2Matrix, Int4Matrix, Int8Matrix, Product};
use crate::nn::Team;

/// A matrix and what it is multiplied by.
#[derive(Clone, Debug)]
struct Case {
    rows: usize,
    outputs: usize,
    inputs: usize,
    bits: u32,
    group: usize,
    has_zeros: bool,
    /// Scales that 16 bits hold.
    has_short_scales: bool,
    input_scale: Option<f32>,
    relu: bool,
}

impl Case {
    fn groups(&self) -> usize {
        self.inputs.div_ceil(self.group)
    }

    fn weights(&self) -> Vec<i8> {
        codes(1, self.outputs * self.inputs, self.bits)
    }

    fn zeros(&self) -> Vec<i8> {
        if self.has_zeros { codes(2, self.outputs * self.groups(), self.bits) } else { vec![] }
    }

    fn scales(&self) -> Vec<f32> {
        let mut next = random(3);
        let step = if self.has_short_scales { 0.015_625 } else { 0.01 };
        (0..self.outputs * self.groups()).map(|_| (next() % 9) as f32 * step).collect()
    }

    fn bias(&self) -> Vec<f32> {
        floats(4, self.outputs)
    }

    fn x(&self) -> Vec<f32> {
        floats(5, self.rows * self.inputs)
    }

    /// Packs the matrix with `pack`.
    fn pack<M>(&self, pack: impl Fn(&mut Codes<'_>) -> Result<M, &'static str>) -> Result<M, &'static str> {
        let (weights, scale, zero) = (self.weights(), self.scales(), self.zeros());
        let mut row = |output: usize, to: &mut [i8]| {
            to.copy_from_slice(&weights[output * self.inputs..][..self.inputs]);
        };
        let Self { outputs, inputs, bits, group, .. } = *self;
        pack(&mut Codes { outputs, inputs, bits, group, scale: &scale, zero: &zero, row: &mut row })
    }

    fn product(&self) -> Box<dyn Product> {
        match (self.bits, self.input_scale) {
            (2, None) => Box::new(self.pack(Int2Matrix::pack).unwrap()),
            (2, Some(s)) => Box::new(self.pack(Int2Matrix::pack).unwrap().with_input_scale(s)),
            (..=4, None) => Box::new(self.pack(Int4Matrix::pack).unwrap()),
            (..=4, Some(s)) => Box::new(self.pack(Int4Matrix::pack).unwrap().with_input_scale(s)),
            (_, None) => Box::new(self.pack(Int8Matrix::pack).unwrap()),
            (_, Some(s)) => Box::new(self.pack(Int8Matrix::pack).unwrap().with_input_scale(s)),
        }
    }

    /// The definition: integers, then the documented steps in `f32`.
    fn expected(&self, x: &[f32]) -> Vec<u32> {
        let (weights, scales, zeros, bias) = (self.weights(), self.scales(), self.zeros(), self.bias());
        let mut expected = vec![];
        for x in x.chunks(self.inputs) {
            let (x, scale) = quantized(x, self.input_scale);
            for output in 0..self.outputs {
                let mut total = 0.0_f32;
                for group in 0..self.groups() {
                    let at = output * self.groups() + group;
                    let zero = zeros.get(at).map_or(0, |&zero| i32::from(zero));
                    let end = self.inputs.min((group + 1) * self.group);
                    let sum: i32 = (group * self.group..end)
                        .map(|i| (i32::from(weights[output * self.inputs + i]) - zero) * x[i])
                        .sum();
                    total = (sum as f32).mul_add(scales[at], total);
                }
                let value = total.mul_add(scale, bias[output]);
                let value = if self.relu && value < 0.0 { 0.0 } else { value };
                expected.push(bits(value));
            }
        }
        expected
    }

    fn computed(&self, product: &dyn Product, threads: usize, x: &[f32]) -> Vec<u32> {
        let mut out = vec![f32::NAN; self.rows * self.outputs];
        product.multiply(&Team::new(threads), self.rows, x, Some(&self.bias()), self.relu, &mut out);
        out.into_iter().map(bits).collect()
    }

    fn agrees(&self) {
        let (product, x) = (self.product(), self.x());
        let computed = everywhere(|| self.computed(&*product, 1, &x));
        assert!(computed == self.expected(&x), "{self:?}");
        assert!(computed == self.computed(&*product, 3, &x), "{self:?}");
    }
}

fn case(rows: usize, outputs: usize, inputs: usize, bits: u32, group: usize) -> Case {
    Case {
        rows,
        outputs,
        inputs,
        bits,
        group,
        has_zeros: false,
        has_short_scales: true,
        input_scale: None,
        relu: false,
    }
}

#[test]
fn a_scale_an_output_agrees() {
    for bits in 2..=8 {
        case(1, 17, 70, bits, 70).agrees();
        case(7, 33, 129, bits, 200).agrees();
        Case { has_zeros: true, has_short_scales: false, relu: true, ..case(23, 80, 64, bits, 64) }.agrees();
    }
}

#[test]
fn groups_agree() {
    for bits in 2..=8 {
        case(3, 70, 257, bits, 32).agrees();
        Case { has_zeros: true, has_short_scales: false, ..case(9, 19, 1100, bits, 128) }.agrees();
        Case { has_zeros: true, ..case(6, 5, 1500, bits, 704) }.agrees();
    }
}

#[test]
fn work_for_several_threads_agrees() {
    case(1, 1030, 480, 8, 480).agrees();
    case(70, 70, 700, 8, 700).agrees();
    case(70, 70, 700, 4, 128).agrees();
    case(530, 20, 96, 8, 96).agrees();
}

#[test]
fn the_lowest_codes_meet_the_greatest_activations() {
    let ends = Case { rows: 6, ..case(1, 16, 65_536, 8, 65_536) };
    let lowest = |_: usize, to: &mut [i8]| to.fill(-128);
    let scale = [1.0; 16];
    let (zero, x) = ([127; 16], vec![-3.0; 6 * 65_536]);
    let codes = |row| Codes { outputs: 16, inputs: 65_536, bits: 8, group: 65_536, scale: &scale, zero: &zero, row };
    let product = Int8Matrix::pack(&mut codes(&mut { lowest })).unwrap();
    let computed = everywhere(|| {
        let mut out = vec![0.0; 6 * 16];
        product.multiply(&Team::new(1), ends.rows, &x, None, false, &mut out);
        out
    });
    let expected = (255_i32 * 127 * 65_536) as f32 * (3.0 / 127.0);
    assert!(computed.iter().all(|&out| out == expected), "{} {expected}", computed[0]);
}

#[test]
fn a_row_without_a_finite_greatest_value_gives_nan() {
    for bits in [2, 4, 8] {
        let case = Case { relu: true, ..case(9, 20, 100, bits, 32) };
        let mut x = case.x();
        (x[100 + 99], x[3 * 100], x[7 * 100 + 31]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
        for input_scale in [None, Some(0.02)] {
            let case = Case { input_scale, ..case.clone() };
            let product = case.product();
            let computed = everywhere(|| case.computed(&*product, 1, &x));
            for (row, computed) in computed.chunks(20).enumerate() {
                assert!(computed.iter().all(|&bits| (bits == u32::MAX) == [1, 3, 7].contains(&row)), "row {row}");
            }
        }
    }
}

#[test]
fn rows_of_almost_nothing_count_as_zeros() {
    let case = case(3, 20, 40, 8, 40);
    let mut x = vec![f32::MIN_POSITIVE; 120];
    x[40..80].fill(0.0);
    x[80..].fill(1e-45);
    let product = case.product();
    let bias = [case.bias(), case.bias(), case.bias()].concat();
    let computed = everywhere(|| case.computed(&*product, 1, &x));
    assert!(computed == bias.into_iter().map(bits).collect::<Vec<_>>());
}

#[test]
fn a_given_scale_clips() {
    let case = Case { input_scale: Some(0.004), ..case(5, 20, 300, 8, 300) };
    assert!(case.x().iter().any(|x| x.abs() > 1.0));
    case.agrees();
    Case { bits: 4, group: 32, rows: 2, ..case }.agrees();
}

#[test]
fn matrices_for_other_kernels_are_refused() {
    let refused = |case: Case| case.pack(Int8Matrix::pack).unwrap_err();
    assert_eq!(refused(case(1, 3, 40, 4, 40)), "its codes have other bits");
    assert_eq!(refused(case(1, 3, 40, 8, 16)), "its groups are no multiples of 32 inputs");
    assert_eq!(refused(case(1, 3, 65_537, 8, 65_537)), "its sums could leave 32 bits");
    let mut wild = |_: usize, to: &mut [i8]| to.fill(8);
    let mut codes = Codes { outputs: 1, inputs: 5, bits: 4, group: 5, scale: &[f32::NAN], zero: &[], row: &mut wild };
    assert_eq!(Int4Matrix::pack(&mut codes).unwrap_err(), "a scale is not finite");
    codes.scale = &[1.0];
    assert_eq!(Int4Matrix::pack(&mut codes).unwrap_err(), "a code is out of range");
    codes.zero = &[-9];
    assert_eq!(Int4Matrix::pack(&mut codes).unwrap_err(), "a zero point is out of range");
}

#[test]
fn short_scales_take_half_the_memory() {
    let bytes = |has_short_scales| Case { has_short_scales, ..case(1, 32, 256, 4, 32) }.product().bytes();
    assert_eq!(bytes(true), 32 * 128 + 2 * 32 * 8);
    assert_eq!(bytes(false), 32 * 128 + 4 * 32 * 8);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_matrix_agrees(
        rows in 1_usize..20,
        outputs in 1_usize..150,
        inputs in 1_usize..900,
        bits in 2_u32..9,
        group in 0_usize..9,
        has_zeros: bool,
        has_short_scales: bool,
        relu: bool,
        is_given: bool,
    ) {
        let group = if group == 0 { inputs } else { 32 * group };
        let input_scale = is_given.then_some(0.011);
        Case { rows, outputs, inputs, bits, group, has_zeros, has_short_scales, input_scale, relu }.agrees();
    }
}
