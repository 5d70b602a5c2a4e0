//! Matrices of any codes, scales and zero points on their kernels, at every level of the machine: the same at each, and what
//! a plain sum gives.
#![no_main]

use std::sync::LazyLock;

use arbitrary::{Arbitrary, Result, Unstructured};
use dlopt_kernels::compressed::sparse::{SparseMatrix, Use};
use dlopt_kernels::compressed::{
    Codes, Float8Codes, Int2Matrix, Int4Matrix, Int8Convolution, Int8Matrix, Maps, Product, SparseInt8Matrix,
    WeightOnly,
};
use dlopt_kernels::nn::{ConvShape, Team};
use dlopt_kernels::{Float, Level, decode_fp8, limit_level};
use libfuzzer_sys::fuzz_target;

static TEAM: LazyLock<Team> = LazyLock::new(|| Team::new(2));

/// A matrix that may lie about its codes, and rows of activations.
#[derive(Debug)]
struct Case {
    bits: u32,
    group: usize,
    outputs: usize,
    inputs: usize,
    rows: usize,
    relu: bool,
    codes: Vec<i8>,
    scale: Vec<f32>,
    zero: Vec<i8>,
    x: Vec<f32>,
    bias: Vec<f32>,
}

/// Numbers near 1 mostly, and sometimes any bits at all.
fn number(u: &mut Unstructured<'_>) -> f32 {
    let byte = u8::arbitrary(u).unwrap_or(3);
    match byte {
        0 => f32::from_bits(u32::arbitrary(u).unwrap_or(0)),
        1..64 => 0.0,
        _ => f32::from(i16::from(byte) - 160) / 32.0,
    }
}

impl<'a> Arbitrary<'a> for Case {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let bits = u.int_in_range(2..=8)?;
        let (outputs, inputs): (usize, usize) = (u.int_in_range(1..=70)?, u.int_in_range(1..=200)?);
        let group = *u.choose(&[inputs, 1, 7, 16, 32, 64, 128, 300])?;
        let (rows, relu) = (u.int_in_range(1..=20)?, bool::arbitrary(u)?);
        let (is_asymmetric, is_in_range) = (bool::arbitrary(u)?, u8::arbitrary(u)? > 8);
        let groups = inputs.div_ceil(group);
        let code = |u: &mut Unstructured<'a>| {
            let code = i8::arbitrary(u).unwrap_or(0);
            if is_in_range { code << (8 - bits) >> (8 - bits) } else { code }
        };
        let zero = if is_asymmetric { (0..outputs * groups).map(|_| code(u)).collect() } else { Vec::new() };
        let scale = (0..outputs * groups).map(|_| number(u)).collect();
        let bias = (0..outputs).map(|_| number(u)).collect();
        let x = (0..rows * inputs).map(|_| number(u)).collect();
        let codes = (0..outputs * inputs).map(|_| code(u)).collect();
        Ok(Self { bits, group, outputs, inputs, rows, relu, codes, scale, zero, x, bias })
    }
}

impl Case {
    fn with_codes<R>(&self, pack: impl FnOnce(Codes<'_>) -> R) -> R {
        pack(Codes {
            outputs: self.outputs,
            inputs: self.inputs,
            bits: self.bits,
            group: self.group,
            scale: &self.scale,
            zero: &self.zero,
            row: &mut |row, to| to.copy_from_slice(&self.codes[row * self.inputs..][..self.inputs]),
        })
    }

    fn is_in_range(&self) -> bool {
        let half = 1 << (self.bits - 1);
        self.codes.iter().chain(&self.zero).all(|code| (-half..half).contains(&i32::from(*code)))
    }

    fn group_of(&self, output: usize, input: usize) -> usize {
        output * self.inputs.div_ceil(self.group) + input / self.group
    }

    /// What the codes stand for.
    fn integers(&self) -> Vec<f32> {
        self.decoded(|code, at| f32::from(i16::from(code) - i16::from(self.zero.get(at).copied().unwrap_or(0))))
    }

    fn float8(&self) -> Vec<f32> {
        self.decoded(|code, _| {
            let mut value = [0.0];
            decode_fp8(&[code.cast_unsigned()], 1, &[1.0], &mut value);
            value[0]
        })
    }

    fn decoded(&self, value: impl Fn(i8, usize) -> f32) -> Vec<f32> {
        let place = |at: usize| (at / self.inputs, at % self.inputs);
        let each = self.codes.iter().enumerate().map(|(at, code)| {
            let (output, input) = place(at);
            let group = self.group_of(output, input);
            value(*code, group) * self.scale[group]
        });
        each.collect()
    }

    /// The product by the plainest loop, and the size of what was summed.
    fn plain(&self, weight: &[f32]) -> Vec<(f64, f64)> {
        let one = |row: usize, output: usize| {
            let (x, w) = (&self.x[row * self.inputs..][..self.inputs], &weight[output * self.inputs..][..self.inputs]);
            let bias = f64::from(self.bias[output]);
            x.iter().zip(w).fold((bias, bias.abs()), |(sum, size), (x, w)| {
                let product = f64::from(*x) * f64::from(*w);
                (sum + product, size + product.abs())
            })
        };
        (0..self.rows * self.outputs).map(|at| one(at / self.outputs, at % self.outputs)).collect()
    }

    fn multiply(&self, matrix: &dyn Product) -> Vec<f32> {
        let mut out = vec![0.0; self.rows * self.outputs];
        matrix.multiply(&TEAM, self.rows, &self.x, Some(&self.bias), self.relu, &mut out);
        out
    }

    /// Packs and runs at every level. Floats are what the plain loop says; quantized activations are compared by level.
    fn check(&self, name: &str, weight: Option<&[f32]>, pack: impl Fn() -> Option<Box<dyn Product>>) {
        let at = |level: Level| {
            limit_level(Some(level));
            pack().map(|matrix| self.multiply(&*matrix))
        };
        let portable = at(Level::Portable);
        for level in [Level::Avx2, Level::Avx512, Level::Amx] {
            let found = at(level);
            assert!(are_same(found.as_deref(), portable.as_deref()), "{name}: {level:?} differs from portable");
        }
        limit_level(None);
        let (Some(found), Some(weight)) = (portable, weight) else { return };
        for (at, (found, (sum, size))) in found.iter().zip(self.plain(weight)).enumerate() {
            let wanted = if self.relu { sum.max(0.0) } else { sum };
            // Sums of products that do not overflow: each addition rounds by half of the last place at most.
            let is_checked = size.is_finite() && size < 1e30;
            let most = size * 1e-5 + 1e-30;
            assert!(
                !is_checked || (f64::from(*found) - wanted).abs() <= most,
                "{name}: output {at}: {found}, {wanted}"
            );
        }
    }
}

/// The same bits, but NaN is NaN.
fn are_same(found: Option<&[f32]>, wanted: Option<&[f32]>) -> bool {
    match (found, wanted) {
        (Some(found), Some(wanted)) => {
            let is_same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
            found.len() == wanted.len() && found.iter().zip(wanted).all(is_same)
        }
        (found, wanted) => found.is_none() && wanted.is_none(),
    }
}

/// The kernels that quantize activations refuse what they cannot take, and agree with the plain loop on whole numbers.
fn integers(case: &Case) {
    case.check("int8 x int8", None, || {
        case.with_codes(|mut codes| Int8Matrix::pack(&mut codes).ok().map(|matrix| Box::new(matrix) as _))
    });
    case.check("int4 x int8", None, || {
        case.with_codes(|mut codes| Int4Matrix::pack(&mut codes).ok().map(|matrix| Box::new(matrix) as _))
    });
    case.check("int2 x int8", None, || {
        case.with_codes(|mut codes| Int2Matrix::pack(&mut codes).ok().map(|matrix| Box::new(matrix) as _))
    });
    let dense = case.with_codes(|mut codes| Int8Matrix::pack(&mut codes).ok()).map(|matrix| case.multiply(&matrix));
    for purpose in [Use::OneRow, Use::ManyRows, Use::Both] {
        let pack = || case.with_codes(|mut codes| SparseInt8Matrix::pack(&mut codes, purpose).ok());
        case.check("sparse int8 x int8", None, || pack().map(|matrix| Box::new(matrix) as _));
        if let (Some(dense), Some(sparse)) = (&dense, pack()) {
            assert!(
                are_same(Some(&case.multiply(&sparse)), Some(dense)),
                "{purpose:?}: zeros left out change the result"
            );
        }
    }
    let accepted = [
        case.with_codes(|mut codes| Int8Matrix::pack(&mut codes).is_ok()),
        case.with_codes(|mut codes| Int4Matrix::pack(&mut codes).is_ok()),
        case.with_codes(|mut codes| Int2Matrix::pack(&mut codes).is_ok()),
    ];
    let is_fit = case.is_in_range() && case.scale.iter().all(|scale| scale.is_finite());
    assert!(is_fit || accepted == [false; 3], "codes, zero points or scales that lie are taken");
}

fn convolution(case: &Case) {
    let shape = ConvShape {
        height: 3,
        width: 4,
        inputs: case.inputs,
        outputs: case.outputs,
        kernel: [1, 1],
        stride: [1, 1],
        dilation: [1, 1],
        padding: [0, 1, 1, 0],
        groups: 1,
    };
    let images = case.rows / 12;
    let x = &case.x[..images * shape.input_len()];
    let at = |level: Level| {
        limit_level(Some(level));
        let packed = case.with_codes(|mut codes| Int8Convolution::pack(shape, case.relu, false, &mut codes).ok())?;
        let mut out = vec![0.0; images * packed.output_len()];
        packed.forward(images, x, Some(&case.bias), &mut out);
        Some(out)
    };
    let portable = at(Level::Portable);
    for level in [Level::Avx2, Level::Avx512, Level::Amx] {
        assert!(are_same(at(level).as_deref(), portable.as_deref()), "a convolution differs at {level:?}");
    }
    limit_level(None);
}

fuzz_target!(|case: Case| {
    integers(&case);
    convolution(&case);
    let (weight, is_finite) = (case.integers(), case.scale.iter().all(|scale| scale.is_finite()));
    if is_finite && case.is_in_range() {
        case.check("integers x f32", Some(&weight), || {
            case.with_codes(|codes| Some(Box::new(WeightOnly::integers(codes)) as _))
        });
    }
    if is_finite {
        case.check("fp8 x f32", Some(&case.float8()), || {
            Some(Box::new(WeightOnly::float8(Float8Codes {
                outputs: case.outputs,
                inputs: case.inputs,
                group: case.group,
                scale: &case.scale,
                row: &mut |row, to| {
                    let own = &case.codes[row * case.inputs..][..case.inputs];
                    to.iter_mut().zip(own).for_each(|(to, code)| *to = code.cast_unsigned());
                },
            })))
        });
    }
    let halves: Vec<f32> = weight.iter().map(|value| f32::from_bits(value.to_bits() & 0xffff_0000)).collect();
    case.check("bf16 x f32", Some(&halves), || {
        Some(Box::new(WeightOnly::halves(case.outputs, case.inputs, Float::BF16, &mut |row, to| {
            let own = &halves[row * case.inputs..][..case.inputs];
            to.iter_mut().zip(own).for_each(|(to, value)| *to = (value.to_bits() >> 16) as u16);
        })))
    });
    // Two of each four are 0, not the same ones in every row.
    let kept = |at: usize| (at % case.inputs + at / case.inputs) % 4 < 2;
    let codes = case.codes.iter().enumerate().map(|(at, code)| if kept(at) { *code } else { 0 }).collect();
    // Zeros are left out, so that what is infinite times nothing is nothing there.
    if weight.iter().chain(&case.x).all(|value| value.is_finite()) {
        for purpose in [Use::OneRow, Use::ManyRows, Use::Both] {
            case.check("sparse", Some(&weight), || {
                Some(Box::new(SparseMatrix::pack(case.outputs, case.inputs, purpose, &mut |row, to| {
                    to.copy_from_slice(&weight[row * case.inputs..][..case.inputs]);
                })))
            });
        }
    }
    integers(&Case { codes, ..case });
});
