//! Layouts: where a reader finds out how a weight is stored.
//!
//! Both layouts name the parts of a weight `T` alike: `T_packed` (or `T` itself for one byte a weight), `T_scale`,
//! `T_zero_point`. They differ in where bits and groups are written down.
//!
//! To add one: a file here that turns its description into `Stored`, and a line in [`LAYOUTS`] and `stored_weights`.

pub(crate) mod compressed_tensors;
pub(crate) mod dlopt;

use dlopt_checkpoint::{Dtype, Error, Header, Result, Span, TensorInfo, dtype_name, is_weight_float, tensor_bytes};
use dlopt_kernels::Float;
use serde_json::{Value, json};

use crate::formats::{self, Decode};
use crate::{Granularity, Plugin, Scheme, zeros};

/// Every layout, in the order of help texts.
pub static LAYOUTS: &[Plugin] = &[compressed_tensors::PLUGIN, dlopt::PLUGIN];

/// Arguments of quantized weights, as `quantization_config` and `dlopt.layout` spell them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WeightArgs {
    pub(crate) bits: u32,
    pub(crate) is_float: bool,
    /// `None`: whatever the shapes say.
    pub(crate) granularity: Option<Granularity>,
}

/// The arguments of a scheme as JSON, with the keys readers allow and no other.
pub(crate) fn args_json(scheme: &Scheme) -> Value {
    let (strategy, group) = match scheme.granularity {
        Granularity::Tensor => ("tensor", Value::Null),
        Granularity::Channel => ("channel", Value::Null),
        Granularity::Group(size) => ("group", json!(size)),
        Granularity::Block { .. } => ("block", Value::Null),
    };
    let mut args = serde_json::Map::new();
    if let Granularity::Block { rows, columns } = scheme.granularity {
        args.insert("block_structure".into(), json!([rows, columns]));
    }
    args.insert("dynamic".into(), json!(false));
    args.insert("group_size".into(), group);
    args.insert("num_bits".into(), json!(scheme.bits));
    args.insert("strategy".into(), json!(strategy));
    args.insert("symmetric".into(), json!(scheme.is_symmetric));
    args.insert("type".into(), json!(scheme.numbers));
    Value::Object(args)
}

/// Reads the arguments; `place` names what they are about.
pub(crate) fn read_args(args: &Value, place: &str) -> Result<WeightArgs> {
    let wrong = |what: &str| Error::input(format!("{place}: {what}"));
    let bits = args.get("num_bits").map_or(Some(8), Value::as_u64);
    let bits = bits.filter(|b| (1..=8).contains(b)).ok_or_else(|| wrong("`num_bits` is not in 1..=8"))?;
    let group = match args.get("group_size") {
        None | Some(Value::Null) => None,
        Some(size) if size.as_i64() == Some(-1) => None,
        Some(size) => Some(
            size.as_u64()
                .and_then(|s| usize::try_from(s).ok())
                .filter(|s| *s > 0)
                .ok_or_else(|| wrong("`group_size` is no positive number"))?,
        ),
    };
    let strategy = args.get("strategy").and_then(Value::as_str);
    let granularity = match (strategy, group) {
        (Some("tensor"), _) => Some(Granularity::Tensor),
        (Some("channel"), _) => Some(Granularity::Channel),
        (Some("group" | "tensor_group") | None, Some(size)) => Some(Granularity::Group(size)),
        (Some("block"), _) => {
            let side = |i: usize| args.get("block_structure")?.get(i)?.as_u64().and_then(|s| usize::try_from(s).ok());
            match (side(0), side(1)) {
                (Some(rows), Some(columns)) if rows > 0 && columns > 0 => Some(Granularity::Block { rows, columns }),
                _ => return Err(wrong("`block_structure` is no pair of positive numbers")),
            }
        }
        (None, None) => None,
        (Some(other), _) => return Err(wrong(&format!("strategy `{other}` is not known"))),
    };
    let is_float = match args.get("type") {
        None | Some(Value::Null) => false,
        Some(kind) if kind.as_str() == Some("int") => false,
        Some(kind) if kind.as_str() == Some("float") => true,
        Some(other) => return Err(wrong(&format!("type {other} is neither `int` nor `float`"))),
    };
    Ok(WeightArgs { bits: bits as u32, is_float, granularity })
}

/// How the codes of a stored weight are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codes {
    /// A dense bit stream of integers.
    Packed,
    /// As many integers as fit whole in each word, as before compressed-tensors 0.13.
    PackedByWord,
    /// One integer a byte.
    Bytes,
    /// FP8 E4M3.
    Fp8,
    /// FP4 E2M1, two a byte.
    Fp4,
    /// FP6 E2M3, four to three bytes.
    Fp6,
    /// A dense bit stream of places in tables.
    Codebook,
}

impl Codes {
    pub(crate) const ALL: [Self; 7] =
        [Self::Packed, Self::PackedByWord, Self::Bytes, Self::Fp8, Self::Fp4, Self::Fp6, Self::Codebook];

    /// The format that reads them; words are taken apart before.
    pub(crate) fn decoder(self) -> &'static dyn Decode {
        let named = |name| formats::format_named(name).expect("the table holds this format") as &dyn Decode;
        match self {
            Self::Packed | Self::PackedByWord => named("pack-quantized"),
            Self::Bytes => named("int-quantized"),
            Self::Fp8 => named("float-quantized"),
            Self::Fp4 => &formats::FP4_PACKED,
            Self::Fp6 => &formats::FP6_PACKED,
            Self::Codebook => named("codebook"),
        }
    }

    fn is_packed(self) -> bool {
        matches!(self, Self::Packed | Self::PackedByWord)
    }
}

/// How scales are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScaleType {
    /// As floats.
    Float(Float),
    /// As powers of two.
    E8M0,
    /// As FP8, to be divided by one F32 for the whole tensor.
    Fp8Global,
}

impl ScaleType {
    pub(crate) const ALL: [Self; 6] = [
        Self::Float(Float::F32),
        Self::Float(Float::F16),
        Self::Float(Float::BF16),
        Self::Float(Float::F64),
        Self::E8M0,
        Self::Fp8Global,
    ];

    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Float(float) => float.bytes(),
            Self::E8M0 | Self::Fp8Global => 1,
        }
    }
}

/// The tensors that hold a weight, by their positions in the header.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parts {
    pub(crate) codes: usize,
    pub(crate) scale: usize,
    pub(crate) zero: Option<usize>,
    pub(crate) shape: Option<usize>,
    pub(crate) global: Option<usize>,
    /// Of no use to the dense weight: scales of activations.
    pub(crate) other: Vec<usize>,
}

impl Parts {
    pub(crate) fn all(&self) -> impl Iterator<Item = usize> + '_ {
        let some = [Some(self.codes), Some(self.scale), self.zero, self.shape, self.global];
        some.into_iter().flatten().chain(self.other.iter().copied())
    }
}

/// A weight that is stored in parts.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// What it decodes to.
    pub(crate) info: TensorInfo,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) parts: Parts,
    pub(crate) codes: Codes,
    pub(crate) bits: u32,
    pub(crate) scale_type: ScaleType,
    /// Columns that share a scale.
    pub(crate) group: usize,
    /// Rows that share a scale; `None` when all do.
    pub(crate) height: Option<usize>,
}

/// What is known of a weight before its shapes are looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) args: Option<WeightArgs>,
    /// Its dense shape, if written down.
    pub(crate) shape: Option<Vec<usize>>,
    /// Its dense dtype, if written down.
    pub(crate) dtype: Option<Dtype>,
    /// Whether codes are places in tables.
    pub(crate) has_tables: bool,
}

/// Every weight that is stored in parts, by either layout, in the order of the header.
///
/// # Errors
/// When parts are missing or their shapes disagree.
pub(crate) fn stored_weights(header: &Header) -> Result<Vec<Stored>> {
    let mut weights = dlopt::read(header)?;
    weights.extend(compressed_tensors::read(header)?);
    weights.sort_by_key(|w| w.parts.all().min());
    Ok(weights)
}

/// Works out how a weight is stored from what is known and from the shapes of its parts.
pub(crate) fn resolve(header: &Header, known: &Known, parts: Parts) -> Result<Stored> {
    let name = &known.name;
    let (codes_info, scale_info) = (&header.tensors[parts.codes], &header.tensors[parts.scale]);
    let &[rows, width] = codes_info.shape.as_slice() else {
        return Err(wrong(codes_info, "has to be a matrix"));
    };
    if rows == 0 || width == 0 {
        return Err(wrong(codes_info, "is empty"));
    }
    let small_shape = match (known.has_tables, known.args.as_ref(), scale_info.shape.as_slice()) {
        (true, Some(args), [small @ .., entries]) if *entries == 1 << args.bits => small,
        (true, ..) => return Err(wrong(scale_info, "is no table of as many values as codes tell apart")),
        (false, _, shape) => shape,
    };
    let scale_shape = match *small_shape {
        [] => [1, 1],
        [rows] => [rows, 1],
        [rows, columns] => [rows, columns],
        _ => return Err(wrong(scale_info, "has to be a matrix")),
    };
    let scale_type = scale_type(scale_info, &parts)?;
    let (codes, bits, columns) = match codes_info.dtype {
        Dtype::I8 => (Codes::Bytes, known.args.as_ref().filter(|a| !a.is_float).map_or(8, |a| a.bits), width),
        Dtype::F8_E4M3 => (Codes::Fp8, 8, width),
        Dtype::I32 if known.has_tables => match packed(codes_info, scale_shape, known)? {
            (Codes::Packed, bits, columns) => (Codes::Codebook, bits, columns),
            _ => return Err(wrong(codes_info, &format!("does not hold the codes of `{name}` as one stream a row"))),
        },
        _ if known.has_tables => return Err(wrong(codes_info, "is of no dtype that places in tables have")),
        Dtype::I32 => packed(codes_info, scale_shape, known)?,
        Dtype::U8 => fp4_or_fp6(codes_info, scale_shape, scale_type)?,
        _ => return Err(wrong(codes_info, "is of no dtype that codes have")),
    };
    let (height, group) = arrangement(scale_info, scale_shape, [rows, columns], known, codes)?;
    let shape = known.shape.clone().unwrap_or_else(|| vec![rows, columns]);
    let trailing = shape.iter().skip(1).try_fold(1usize, |n, d| n.checked_mul(*d));
    if shape.first() != Some(&rows) || trailing != Some(columns) {
        return Err(wrong(codes_info, &format!("cannot hold `{name}` of shape {shape:?}")));
    }
    let dtype = known.dtype.unwrap_or(match scale_type {
        ScaleType::Float(float) => formats::dtype(float),
        ScaleType::E8M0 | ScaleType::Fp8Global => Dtype::BF16,
    });
    tensor_bytes(dtype, &shape).map_err(|e| e.within(format!("tensor `{name}`")))?;
    let stored = Stored {
        info: TensorInfo::new(name.clone(), dtype, shape),
        rows,
        columns,
        parts,
        codes,
        bits,
        scale_type,
        group,
        height,
    };
    check_small_parts(header, &stored, scale_shape)?;
    Ok(stored)
}

fn wrong(info: &TensorInfo, what: &str) -> Error {
    Error::input(format!("tensor `{}` ({} {:?}) {what}", info.name, dtype_name(info.dtype), info.shape))
}

fn scale_type(info: &TensorInfo, parts: &Parts) -> Result<ScaleType> {
    match (info.dtype, parts.global) {
        (Dtype::F8_E4M3, Some(_)) => Ok(ScaleType::Fp8Global),
        (Dtype::U8 | Dtype::F8_E8M0, None) => Ok(ScaleType::E8M0),
        (dtype, None) if is_weight_float(dtype) => {
            Ok(ScaleType::Float(formats::float(dtype).expect("weight floats are floats")))
        }
        _ => Err(wrong(info, "is of no dtype that scales have")),
    }
}

/// Packing, bits and columns of packed integers.
fn packed(info: &TensorInfo, scale_shape: [usize; 2], known: &Known) -> Result<(Codes, u32, usize)> {
    let Some(args) = known.args.as_ref().filter(|a| !a.is_float) else {
        return Err(wrong(info, "holds packed integers, and nothing says how many bits they have")
            .hint("keep config.json beside the file"));
    };
    let (words, bits) = (info.shape[1], args.bits as usize);
    let per_word = 32 / bits;
    let is_dense = |columns: usize| columns.checked_mul(bits).is_some_and(|b| b.div_ceil(32) == words);
    let by_word = |columns: usize| columns.div_ceil(per_word) == words;
    let columns = match (&known.shape, args.granularity) {
        (Some(shape), _) => shape.iter().skip(1).try_fold(1usize, |n, d| n.checked_mul(*d)),
        (None, Some(Granularity::Group(size))) => scale_shape[1].checked_mul(size),
        // Without padding; `weight_shape` is compared when it is read.
        (None, _) => (words * 32).is_multiple_of(bits).then(|| words * 32 / bits),
    };
    match columns {
        Some(columns) if columns > 0 && is_dense(columns) => Ok((Codes::Packed, args.bits, columns)),
        Some(columns) if columns > 0 && by_word(columns) => Ok((Codes::PackedByWord, args.bits, columns)),
        None if known.shape.is_none() => Err(wrong(info, &format!("leaves open how many {bits}-bit columns it holds"))),
        _ => Err(wrong(info, &format!("does not hold {bits}-bit codes for scales of shape {scale_shape:?}"))),
    }
}

fn fp4_or_fp6(info: &TensorInfo, scale_shape: [usize; 2], scale_type: ScaleType) -> Result<(Codes, u32, usize)> {
    let width = info.shape[1];
    let group = if scale_type == ScaleType::Fp8Global { 16 } else { 32 };
    let columns = scale_shape[1].checked_mul(group);
    if matches!(scale_type, ScaleType::E8M0 | ScaleType::Fp8Global) {
        if columns == width.checked_mul(2) {
            return Ok((Codes::Fp4, 4, width * 2));
        }
        if scale_type == ScaleType::E8M0 && columns.is_some_and(|c| Some(c / 4 * 3) == Some(width) && c % 4 == 0) {
            return Ok((Codes::Fp6, 6, width / 3 * 4));
        }
    }
    Err(wrong(info, &format!("does not hold 4-bit or 6-bit floats for scales of shape {scale_shape:?}")))
}

/// Rows (`None`: all) and columns that share a scale.
fn arrangement(
    info: &TensorInfo,
    scale_shape: [usize; 2],
    [rows, columns]: [usize; 2],
    known: &Known,
    codes: Codes,
) -> Result<(Option<usize>, usize)> {
    let granularity = known.args.as_ref().and_then(|a| a.granularity);
    let is_block = |h: usize, w: usize| scale_shape == [rows.div_ceil(h), columns.div_ceil(w)];
    let [scale_rows, groups] = scale_shape;
    let disagrees = || wrong(info, &format!("does not fit `{}` of shape [{rows}, {columns}]", known.name));
    match granularity {
        Some(Granularity::Block { rows: h, columns: w }) if is_block(h, w) => return Ok((Some(h), w)),
        Some(Granularity::Block { .. }) => return Err(disagrees()),
        Some(Granularity::Group(size)) if groups.checked_mul(size) != Some(columns) => return Err(disagrees()),
        _ => {}
    }
    if scale_rows == rows && groups > 0 && columns.is_multiple_of(groups) {
        return Ok((Some(1), columns / groups));
    }
    if scale_shape == [1, 1] {
        return Ok((None, columns));
    }
    if granularity.is_none() && codes == Codes::Fp8 && is_block(128, 128) {
        return Ok((Some(128), 128));
    }
    Err(disagrees())
}

/// Checks the shapes of zero points, recorded shape and global scale.
fn check_small_parts(header: &Header, stored: &Stored, scale_shape: [usize; 2]) -> Result<()> {
    let part = |at: usize| &header.tensors[at];
    if let Some(zero) = stored.parts.zero.map(part) {
        let fits = match stored.codes {
            Codes::Packed | Codes::PackedByWord => {
                let words = stored.zero_words(stored.rows);
                zero.dtype == Dtype::I32 && stored.height == Some(1) && zero.shape == [words, scale_shape[1]]
            }
            Codes::Bytes => zero.dtype == Dtype::I8 && zero.elements() == scale_shape[0] * scale_shape[1],
            _ => false,
        };
        if !fits {
            return Err(wrong(zero, &format!("does not fit `{}`", stored.info.name)));
        }
    }
    if let Some(shape) = stored.parts.shape.map(part)
        && (shape.dtype != Dtype::I64 || shape.elements() != 2)
    {
        return Err(wrong(shape, "has to be two I64 numbers"));
    }
    if let Some(global) = stored.parts.global.map(part)
        && (global.dtype != Dtype::F32 || global.elements() != 1)
    {
        return Err(wrong(global, "has to be one F32 number"));
    }
    Ok(())
}

impl Stored {
    /// Groups of a row.
    pub(crate) fn groups(&self) -> usize {
        self.columns.div_ceil(self.group)
    }

    /// Words that hold the packed zero points of `rows` rows in one column.
    pub(crate) fn zero_words(&self, rows: usize) -> usize {
        match self.codes {
            Codes::PackedByWord => rows.div_ceil(32 / self.bits as usize),
            _ => zeros::words(rows, self.bits),
        }
    }

    /// Rows whose packed zero points fill whole words.
    fn zero_quantum(&self) -> usize {
        match self.codes {
            Codes::PackedByWord => 32 / self.bits as usize,
            _ => zeros::quantum(self.bits),
        }
    }

    /// Blocks of rows begin at multiples of it.
    pub(crate) fn row_quantum(&self) -> usize {
        match self.parts.zero {
            Some(_) if self.codes.is_packed() => self.zero_quantum(),
            _ => self.height.unwrap_or(1),
        }
    }

    /// What the codes, scales, zero points, shape and global scale own per row; positions and spans, in that order.
    pub(crate) fn reads(&self, header: &Header) -> Vec<(usize, Span)> {
        let code_bytes = header.tensors[self.parts.codes].bytes() as usize / self.rows;
        let entries = self.codes.decoder().entries(self.bits).unwrap_or(1);
        let scale_bytes = self.groups() * entries * self.scale_type.bytes();
        let per_scale = |bytes: usize| match self.height {
            Some(rows) => Span::Every { rows, bytes },
            None => Span::Whole,
        };
        let mut reads = vec![(self.parts.codes, Span::row(code_bytes)), (self.parts.scale, per_scale(scale_bytes))];
        if let Some(zero) = self.parts.zero {
            let quantum = self.zero_quantum();
            let span = if self.codes.is_packed() {
                Span::Every { rows: quantum, bytes: self.zero_words(quantum) * self.groups() * 4 }
            } else {
                per_scale(self.groups())
            };
            reads.push((zero, span));
        }
        reads.extend([self.parts.shape, self.parts.global].into_iter().flatten().map(|at| (at, Span::Whole)));
        reads
    }
}
