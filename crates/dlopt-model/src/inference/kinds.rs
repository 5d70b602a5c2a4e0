//! The table of compressed kernels: which can run a weight as it is stored.

use std::sync::Arc;

use dlopt_checkpoint::Result;
use dlopt_kernels::compressed::sparse::{SparseConvolution, SparseMatrix, Use, Work, pays};
use dlopt_kernels::compressed::{
    Int2Matrix, Int4Matrix, Int8Convolution, Int8Matrix, Maps, Product, SparseInt8Matrix, WeightOnly,
};
use dlopt_kernels::level;
use dlopt_kernels::nn::ConvShape;

use super::choose::Candidate;
use super::source::Source;

/// Inputs and outputs of a layer whose activations become integers at least. Below, quantizing them costs more than it saves;
/// and a first layer that sees one channel is what int8 hurts most. Shapes decide it and not the clock: results must not
/// depend on the machine.
const INT8: [usize; 2] = [16, 16];

/// Whether a layer of these extents is large enough for int8 activations.
pub(super) fn takes_int8(outputs: usize, inputs: usize) -> bool {
    inputs >= INT8[0] && outputs >= INT8[1]
}

/// What the kernels that leave zeros out are called.
pub(super) const SPARSE: &str = "sparse";

/// What the kernel of plain f32 that spreads outputs over threads is called.
pub(super) const BY_OUTPUTS: &str = "f32, by outputs";

/// Rows of activations that are few.
const FEW_ROWS: usize = 6;
/// The same where weights and activations are bytes, and zeros are left out.
const FEW_INT8_ROWS: usize = 8;
/// Values of a matrix that are worth the work of several threads.
const WORTH_SPREADING: usize = 1 << 17;

fn candidate(name: &'static str, kernel: impl Product + 'static) -> Candidate<Arc<dyn Product>> {
    Candidate { name, bytes: kernel.bytes(), kernel: Arc::new(kernel) }
}

/// The kernels that multiply a matrix with so many rows of activations. Those of int8 activations are given alone, the dense
/// one first, and all give the same bytes; the others all give those of f32 on the decoded matrix. With `takes_floats` there
/// is one for plain f32 in any case.
///
/// # Errors
/// When codes cannot be had any more.
pub(super) fn matrices(
    source: &Source<'_>,
    rows: usize,
    is_int8: bool,
    takes_floats: bool,
) -> Result<Vec<Candidate<Arc<dyn Product>>>> {
    if is_int8 {
        let found = source.with_codes(|mut codes| match codes.bits {
            2 => Int2Matrix::pack(&mut codes).ok().map(|matrix| candidate("int2 x int8", matrix)),
            3 | 4 => Int4Matrix::pack(&mut codes).ok().map(|matrix| candidate("int4 x int8", matrix)),
            _ => Int8Matrix::pack(&mut codes).ok().map(|matrix| candidate("int8 x int8", matrix)),
        })?;
        let mut found: Vec<_> = found.flatten().into_iter().collect();
        let purpose = if rows <= FEW_INT8_ROWS { Use::OneRow } else { Use::ManyRows };
        if !found.is_empty() && SparseInt8Matrix::pays(purpose, source.zero_share()) {
            let sparse = source.with_codes(|mut codes| SparseInt8Matrix::pack(&mut codes, purpose).ok())?;
            found.extend(sparse.flatten().map(|matrix| candidate("sparse int8 x int8", matrix)));
        }
        return Ok(found);
    }
    let mut found = Vec::new();
    found.extend(source.with_codes(|codes| {
        let name = match codes.bits {
            1 | 2 => "int2 x f32",
            3 | 4 => "int4 x f32",
            _ => "int8 x f32",
        };
        candidate(name, WeightOnly::integers(codes))
    })?);
    found.extend(source.with_float8(|codes| candidate("fp8 x f32", WeightOnly::float8(codes)))?);
    found.extend(source.with_halves(|float, row| {
        candidate("f16 x f32", WeightOnly::halves(source.outputs, source.inputs, float, row))
    }));
    // Few rows are spread over threads by outputs, which the plain layer does not do.
    if takes_floats || rows <= FEW_ROWS && source.outputs * source.inputs >= WORTH_SPREADING {
        found.extend(
            source.with_floats(|row| candidate(BY_OUTPUTS, WeightOnly::floats(source.outputs, source.inputs, row))),
        );
    }
    let (purpose, work) = if rows == 1 { (Use::OneRow, Work::OneRow) } else { (Use::ManyRows, Work::ManyRows) };
    if pays(level(), work, source.zero_share()) {
        let pack = |row: &mut dyn FnMut(usize, &mut [f32])| {
            candidate(SPARSE, SparseMatrix::pack(source.outputs, source.inputs, purpose, row))
        };
        found.push(source.with_values(pack)?);
    }
    Ok(found)
}

/// The kernels that convolve so many images at a time with a matrix whose inputs go tap by tap.
///
/// # Errors
/// As [`matrices`].
pub(super) fn maps(
    shape: ConvShape,
    (relu, pools): (bool, bool),
    images: usize,
    source: &Source<'_>,
    is_int8: bool,
) -> Result<Vec<Candidate<Arc<dyn Maps>>>> {
    if is_int8 {
        let found = source.with_codes(|mut codes| Int8Convolution::pack(shape, relu, pools, &mut codes).ok())?;
        let named = |kernel: Int8Convolution| Candidate {
            name: "int8 x int8",
            bytes: kernel.bytes(),
            kernel: Arc::new(kernel) as Arc<dyn Maps>,
        };
        return Ok(found.flatten().map(named).into_iter().collect());
    }
    if shape.groups > 1 || !pays(level(), Work::Convolution, source.zero_share()) {
        return Ok(Vec::new());
    }
    let kernel = source.with_values(|row| SparseConvolution::pack(shape, relu, pools, images, row))?;
    Ok(vec![Candidate { name: SPARSE, bytes: kernel.bytes(), kernel: Arc::new(kernel) }])
}
