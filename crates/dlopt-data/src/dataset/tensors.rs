//! The tensors of a dataset file: found, and those beside the inputs read whole.

use dlopt_checkpoint::{Checkpoint, Dtype, Error, Result, TensorInfo, Tensors, alignment_bytes, dtype_name};

use super::Part;
use crate::convert::{Affine, STORABLE};

/// The tensors that make up one, in order.
pub(super) struct Whole {
    /// Dtype and shape of all together; `None` when there are none.
    pub(super) kind: Option<(Dtype, Vec<usize>)>,
    pub(super) parts: Vec<Part>,
}

/// `NAME`, or `NAME.0`, `NAME.1`… which follow each other along the samples.
pub(super) fn parts_of(checkpoint: &Checkpoint, name: &str) -> Result<Whole> {
    let tensors = &checkpoint.header.tensors;
    let mut found: Vec<(usize, usize)> = Vec::new();
    for (tensor, info) in tensors.iter().enumerate() {
        if info.name == name {
            found = vec![(0, tensor)];
            break;
        }
        if let Some(number) = info.name.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'))
            && let Ok(number) = number.parse()
        {
            found.push((number, tensor));
        }
    }
    found.sort_unstable();
    let mut whole = Whole { kind: None, parts: Vec::with_capacity(found.len()) };
    for (place, &(number, tensor)) in found.iter().enumerate() {
        let info: &TensorInfo = &tensors[tensor];
        if number != place {
            return Err(Error::input(format!("tensor `{name}.{place}` is missing; `{}` is there", info.name)));
        }
        let Some((&samples, rest)) = info.shape.split_first() else {
            return Err(Error::input(format!("tensor `{}` is a single number; wanted one for each sample", info.name)));
        };
        let first = match &mut whole.kind {
            None => {
                whole.kind = Some((info.dtype, info.shape.clone()));
                0
            }
            Some((dtype, shape)) => {
                if *dtype != info.dtype || shape[1..] != *rest {
                    return Err(Error::input(format!(
                        "tensor `{}` is {} {:?}, but `{}` is {} {shape:?}",
                        info.name,
                        dtype_name(info.dtype),
                        info.shape,
                        tensors[found[0].1].name,
                        dtype_name(*dtype)
                    )));
                }
                let first = shape[0];
                shape[0] = first
                    .checked_add(samples)
                    .ok_or_else(|| Error::input(format!("the parts of `{name}` hold too many samples together")))?;
                first
            }
        };
        whole.parts.push(Part { tensor, first, samples });
    }
    Ok(whole)
}

/// The bytes of all parts, one after the other.
pub(super) fn read_all(checkpoint: &Checkpoint, parts: &[Part], bytes: u64) -> Result<Vec<u8>> {
    let size = usize::try_from(bytes).map_err(|_| Error::input(format!("{bytes} bytes do not fit this machine")))?;
    let mut all = vec![0; size];
    let mut rest = &mut all[..];
    for part in parts {
        let (own, after) = rest.split_at_mut(checkpoint.header.tensors[part.tensor].bytes() as usize);
        checkpoint.read(part.tensor, 0, own)?;
        rest = after;
    }
    Ok(all)
}

/// A tensor of one whole number a sample, such as class numbers.
pub(super) fn whole_numbers(checkpoint: &Checkpoint, name: &str) -> Result<Option<Vec<u32>>> {
    token_rows(checkpoint, name, 1)
}

/// A tensor of whole numbers, `width` for each of its rows.
pub(super) fn token_rows(checkpoint: &Checkpoint, name: &str, width: usize) -> Result<Option<Vec<u32>>> {
    let whole = parts_of(checkpoint, name)?;
    let Some((dtype, shape)) = whole.kind else { return Ok(None) };
    if shape.iter().skip(1).product::<usize>() != width {
        return Err(Error::input(format!("`{name}` has shape {shape:?}; wanted [samples], one number each"))
            .hint("class numbers, not one column a class; numbers to predict belong into `targets`"));
    }
    let bytes = read_all(
        checkpoint,
        &whole.parts,
        shape.iter().map(|&e| e as u64).product::<u64>() * alignment_bytes(dtype) as u64,
    )?;
    let wide: Box<dyn Iterator<Item = i64> + '_> = match dtype {
        Dtype::U8 => Box::new(bytes.iter().map(|&x| i64::from(x))),
        Dtype::I8 => Box::new(bytes.iter().map(|&x| i64::from(x as i8))),
        Dtype::U16 => Box::new(bytes.as_chunks().0.iter().map(|&x| i64::from(u16::from_le_bytes(x)))),
        Dtype::I16 => Box::new(bytes.as_chunks().0.iter().map(|&x| i64::from(i16::from_le_bytes(x)))),
        Dtype::U32 => Box::new(bytes.as_chunks().0.iter().map(|&x| i64::from(u32::from_le_bytes(x)))),
        Dtype::I32 => Box::new(bytes.as_chunks().0.iter().map(|&x| i64::from(i32::from_le_bytes(x)))),
        Dtype::I64 => Box::new(bytes.as_chunks().0.iter().map(|&x| i64::from_le_bytes(x))),
        // What exceeds 2^63 becomes negative and is refused below.
        Dtype::U64 => Box::new(bytes.as_chunks().0.iter().map(|&x| u64::from_le_bytes(x) as i64)),
        _ => {
            return Err(Error::input(format!("`{name}` is {}; wanted whole numbers", dtype_name(dtype)))
                .hint("numbers to predict belong into `targets`"));
        }
    };
    wide.enumerate()
        .map(|(sample, x)| {
            u32::try_from(x)
                .map_err(|_| Error::input(format!("`{name}` of sample {sample} is {x}; wanted 0 to {}", u32::MAX)))
        })
        .collect::<Result<Vec<_>>>()
        .map(Some)
}

/// A tensor of floats.
pub(super) fn numbers(checkpoint: &Checkpoint, name: &str) -> Result<Option<Vec<f32>>> {
    let whole = parts_of(checkpoint, name)?;
    let Some((dtype, shape)) = whole.kind else { return Ok(None) };
    if !STORABLE.contains(&dtype) {
        return Err(Error::input(format!("`{name}` is {}; wanted numbers", dtype_name(dtype))));
    }
    if shape.len() > 2 {
        return Err(Error::input(format!("`{name}` has shape {shape:?}; wanted [samples, outputs]")));
    }
    let elements = shape.iter().map(|&e| e as u64).product::<u64>();
    let bytes = read_all(checkpoint, &whole.parts, elements * alignment_bytes(dtype) as u64)?;
    let mut values = vec![0.0; elements as usize];
    // What is not finite is refused, with its place, when the parts are put together.
    Affine::plain().apply(dtype, &bytes, &mut values);
    Ok(Some(values))
}
