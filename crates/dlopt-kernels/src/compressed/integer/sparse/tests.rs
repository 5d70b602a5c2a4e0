use proptest::prelude::*;

use super::super::registers::PANEL;
use super::super::tests::{floats, random};
use super::SparseInt8Matrix;
use super::few_rows::FewRows;
use super::halved::{Halved, PANELS};
use super::masked::Masked;
use super::matrix::One;
use super::picked::{MOST_WINDOW, Picked};
use super::set::Set;
use crate::compressed::sparse::Use;
use crate::compressed::sparse::rows::Rows;
use crate::compressed::{Codes, Int8Matrix, Product};
use crate::level::{at_every_level, at_this_level};
use crate::nn::Team;

#[derive(Clone, Debug)]
struct Case {
    rows: usize,
    outputs: usize,
    inputs: usize,
    /// Of 100 codes so many are 0; later outputs have more of the others.
    zeros: usize,
    input_scale: Option<f32>,
    relu: bool,
}

impl Case {
    fn new(rows: usize, outputs: usize, inputs: usize, zeros: usize) -> Self {
        Self { rows, outputs, inputs, zeros, input_scale: None, relu: rows.is_multiple_of(2) }
    }

    fn codes(&self) -> Vec<i8> {
        let mut next = random(5);
        let code = |at: usize| {
            let (value, chance) = (next(), next() as usize % 100);
            let more = (100 - self.zeros) * (at / self.inputs) / self.outputs / 2;
            if chance + more < self.zeros { 0 } else { (value >> 24) as u8 as i8 }
        };
        (0..self.outputs * self.inputs).map(code).collect()
    }

    fn pack<M>(&self, codes: &[i8], pack: impl Fn(&mut Codes<'_>) -> Result<M, &'static str>) -> M {
        let scale: Vec<f32> = floats(3, self.outputs);
        let row = &mut |output: usize, to: &mut [i8]| to.copy_from_slice(&codes[output * self.inputs..][..self.inputs]);
        let (outputs, inputs) = (self.outputs, self.inputs);
        pack(&mut Codes { outputs, inputs, bits: 8, group: inputs, scale: &scale, zero: &[], row }).unwrap()
    }

    fn computed(&self, matrix: &dyn Product, threads: usize, x: &[f32]) -> Vec<u32> {
        let bias = floats(6, self.outputs);
        let mut out = vec![f32::INFINITY; self.rows * self.outputs];
        matrix.multiply(&Team::new(threads), self.rows, x, Some(&bias), self.relu, &mut out);
        out.into_iter().map(|value| if value.is_nan() { u32::MAX } else { value.to_bits() }).collect()
    }

    fn agrees_on(&self, x: &[f32]) {
        let codes = self.codes();
        let dense = self.pack(&codes, Int8Matrix::pack);
        let dense = match self.input_scale {
            Some(scale) => dense.with_input_scale(scale),
            None => dense,
        };
        let wanted = at_this_level(|| self.computed(&dense, 1, x));
        for purpose in [Use::OneRow, Use::ManyRows, Use::Both] {
            let found = at_every_level(|| {
                let matrix = self.pack(&codes, |codes| SparseInt8Matrix::pack(codes, purpose));
                let matrix = match self.input_scale {
                    Some(scale) => matrix.with_input_scale(scale),
                    None => matrix,
                };
                self.computed(&matrix, 2, x)
            });
            assert_eq!(found, wanted, "{self:?}, {purpose:?}");
        }
    }

    fn agrees(&self) {
        self.agrees_on(&floats(4, self.rows * self.inputs));
    }
}

#[test]
fn every_use_gives_what_the_dense_matrix_gives() {
    for (outputs, inputs, zeros) in [
        (1, 1, 0),
        (3, 5, 50),
        (10, 84, 90),
        (37, 300, 70),
        (70, 17, 30),
        (130, 513, 95),
        (33, 1000, 99),
        (300, 40, 100),
    ] {
        for rows in [1, 2, 3, 7, 21, 33, 64, 70] {
            Case::new(rows, outputs, inputs, zeros).agrees();
        }
    }
}

/// Codes of which two of each four are 0, and now and then three.
fn halved(outputs: usize, inputs: usize) -> Vec<i8> {
    let mut next = random(9);
    let mut codes = vec![0; outputs * inputs];
    for row in codes.chunks_exact_mut(inputs) {
        for four in row.chunks_mut(4) {
            for _ in 0..2 {
                let at = next() as usize % four.len();
                four[at] = (next() >> 24) as u8 as i8;
            }
        }
    }
    codes
}

#[test]
fn codes_of_which_two_of_each_four_are_0_give_what_the_dense_matrix_gives() {
    for (outputs, inputs) in [(1, 4), (16, 8), (33, 20), (37, 300), (70, 17), (200, 515)] {
        let codes = halved(outputs, inputs);
        for rows in [1, 2, 3, 5, 8, 21, 64, 300] {
            let case = Case::new(rows, outputs, inputs, 50);
            let x = floats(4, rows * inputs);
            let dense = case.pack(&codes, Int8Matrix::pack);
            let wanted = at_this_level(|| case.computed(&dense, 1, &x));
            let found = at_every_level(|| {
                let sparse = case.pack(&codes, |codes| SparseInt8Matrix::pack(codes, Use::ManyRows));
                case.computed(&sparse, 2, &x)
            });
            assert_eq!(found, wanted, "{case:?}");
        }
    }
}

#[test]
fn two_of_each_four_sum_the_same_with_every_set() {
    at_this_level(|| {
        let (outputs, inputs, count) = (45, 51, 13);
        let codes = halved(outputs, inputs);
        let rows = Rows::read(outputs, inputs, &mut |output, row: &mut [i8]| {
            row.copy_from_slice(&codes[output * inputs..][..inputs]);
        });
        let packed = Halved::pack(&rows).unwrap();
        let step = inputs.next_multiple_of(16);
        let mut next = random(8);
        let x: Vec<u8> = (0..count * step).map(|_| (next() >> 24) as u8).collect();
        let tile = PANELS * PANEL;
        for set in [Set::Portable, Set::Avx2, Set::Vnni, Set::Vbmi].into_iter().filter(|set| *set <= Set::now()) {
            for first in 0..packed.tiles() {
                let mut sums = vec![7; count * tile];
                let few = FewRows { count, x: x.as_ptr(), step, sums: sums.as_mut_ptr(), sums_step: tile };
                // SAFETY: rows are padded to a multiple of sixteen, the sums are all there, and the set was detected.
                unsafe { packed.multiply(set, first, few) };
                for (at, sum) in sums.into_iter().enumerate() {
                    let output = first * tile + at % tile;
                    let own = codes.get(output * inputs..(output + 1) * inputs).unwrap_or(&[]);
                    let products = own.iter().zip(&x[at / tile * step..]);
                    let wanted: i32 = products.map(|(&code, &x)| i32::from(code) * i32::from(x)).sum();
                    assert_eq!(sum, wanted, "{set:?}, row {}, output {output}", at / tile);
                }
            }
        }
    });
}

#[test]
fn three_of_four_are_not_packed_as_two() {
    let packed = |codes: &[i8]| {
        Halved::pack(&Rows::read(1, codes.len(), &mut |_, row: &mut [i8]| row.copy_from_slice(codes))).is_some()
    };
    assert!(packed(&[1, 0, 0, 2, 3, 4, 0, 0, 0, 0, 5]) && !packed(&[0, 0, 0, 0, 1, 2, 0, 3]));
}

#[test]
fn work_for_several_threads_agrees() {
    for rows in [1, 9, 300] {
        Case::new(rows, 700, 1100, 60).agrees();
    }
}

#[test]
fn a_given_scale_clips() {
    for rows in [1, 40] {
        Case { input_scale: Some(0.01), ..Case::new(rows, 40, 200, 70) }.agrees();
    }
}

#[test]
fn the_greatest_sums_agree() {
    for rows in [1, 33] {
        let (outputs, inputs) = (17, 65_536);
        let case = Case { relu: false, ..Case::new(rows, outputs, inputs, 0) };
        for code in [-128, 127] {
            let codes = vec![code; outputs * inputs];
            let x = vec![-3.0; rows * inputs];
            let wanted = at_this_level(|| case.computed(&case.pack(&codes, Int8Matrix::pack), 1, &x));
            for purpose in [Use::OneRow, Use::ManyRows] {
                let sparse = |codes: &mut Codes<'_>| SparseInt8Matrix::pack(codes, purpose);
                assert_eq!(at_every_level(|| case.computed(&case.pack(&codes, sparse), 1, &x)), wanted);
            }
        }
    }
}

#[test]
fn a_row_without_a_finite_greatest_value_gives_nan() {
    for rows in [2, 40] {
        let case = Case::new(rows, 20, 100, 80);
        let mut x = floats(4, rows * 100);
        x[7] = f32::NAN;
        x[100..200].fill(0.0);
        case.agrees_on(&x);
    }
}

/// Layouts work at any set, whichever they were packed for.
#[test]
fn every_layout_of_one_row_sums_the_same_with_every_set() {
    at_this_level(|| {
        for (outputs, inputs, zeros) in [(5, 63, 40), (33, 64, 80), (50, 777, 70), (16, 1024, 97)] {
            let case = Case::new(7, outputs, inputs, zeros);
            let codes = case.codes();
            let rows = Rows::read(outputs, inputs, &mut |output, row: &mut [i8]| {
                row.copy_from_slice(&codes[output * inputs..][..inputs]);
            });
            let step = inputs.next_multiple_of(64) + MOST_WINDOW;
            let mut next = random(8);
            let x: Vec<i8> = (0..case.rows * step).map(|_| ((next() >> 24) as u8 as i8).max(-127)).collect();
            let wanted: Vec<i32> = (0..case.rows * outputs)
                .map(|at| {
                    let (x, codes) = (&x[at / outputs * step..], &codes[at % outputs * inputs..][..inputs]);
                    codes.iter().zip(x).map(|(&code, &x)| i32::from(code) * i32::from(x)).sum()
                })
                .collect();
            let layouts = [
                One::Picked(Picked::pack(&rows, Set::Vbmi)),
                One::Picked(Picked::pack(&rows, Set::Avx2)),
                One::Masked(Masked::pack(&rows)),
            ];
            for set in [Set::Portable, Set::Avx2, Set::Vnni, Set::Vbmi].into_iter().filter(|set| *set <= Set::now()) {
                let raise = if set == Set::Vbmi { 0x80 } else { 0 };
                let x: Vec<u8> = x.iter().map(|x| x.cast_unsigned() ^ raise).collect();
                for layout in &layouts {
                    let mut sums = vec![0; case.rows * outputs];
                    let few =
                        FewRows { count: case.rows, x: x.as_ptr(), step, sums: sums.as_mut_ptr(), sums_step: outputs };
                    // SAFETY: rows are padded, the sums are all there, and the set was detected.
                    unsafe { layout.multiply(set, |all| 0..all, few) };
                    for (at, sum) in sums.iter_mut().enumerate() {
                        let own = &codes[at % outputs * inputs..][..inputs];
                        *sum -= i32::from(raise) * own.iter().map(|&code| i32::from(code)).sum::<i32>();
                    }
                    assert_eq!(sums, wanted, "{set:?}, {layout:?}");
                }
            }
        }
    });
}

#[test]
fn dense_codes_never_pay_and_very_sparse_ones_always_do() {
    for purpose in [Use::OneRow, Use::ManyRows, Use::Both] {
        assert!(at_every_level(|| !SparseInt8Matrix::pays(purpose, 0.3) && SparseInt8Matrix::pays(purpose, 0.95)));
    }
}

#[test]
fn matrices_for_other_kernels_are_refused() {
    let refused = |bits: u32, group: usize, scale: &[f32], zero: &[i8], code: i8| {
        let row = &mut |_: usize, to: &mut [i8]| to.fill(code);
        let mut codes = Codes { outputs: 1, inputs: 64, bits, group, scale, zero, row };
        SparseInt8Matrix::pack(&mut codes, Use::OneRow).err()
    };
    assert_eq!(refused(4, 64, &[1.0], &[0], 7), None);
    assert_eq!(refused(9, 64, &[1.0], &[], 0), Some("its codes have other bits"));
    assert_eq!(refused(8, 32, &[1.0; 2], &[], 0), Some("an output has several scales"));
    assert_eq!(refused(8, 64, &[1.0], &[1], 0), Some("it has zero points"));
    assert_eq!(refused(8, 64, &[f32::NAN], &[], 0), Some("a scale is not finite"));
    assert_eq!(refused(4, 64, &[1.0], &[], 8), Some("a code is out of range"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn any_matrix_agrees(
        rows in 1_usize..80,
        outputs in 1_usize..90,
        inputs in 1_usize..700,
        zeros in 0_usize..101,
        input_scale in proptest::option::of(0.001_f32..0.1),
        relu: bool,
    ) {
        Case { rows, outputs, inputs, zeros, input_scale, relu }.agrees();
    }
}
