//! What a PyTorch pickle may ask for: the allow-list, and what each entry builds here.

use std::rc::Rc;

use super::pickle::{Heap, Value};
use crate::dtype::Dtype;
use crate::error::{Error, Result};

/// What a pickle may call or refer to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Callable {
    /// `OrderedDict` and its like.
    Mapping,
    /// Returns its only argument.
    Size,
    /// `torch._utils._rebuild_tensor` and `_v2`: the storage knows the dtype.
    RebuildTyped,
    /// `torch._utils._rebuild_tensor_v3`: the dtype is an argument.
    RebuildUntyped,
    /// `torch._utils._rebuild_parameter`: a tensor around its first argument.
    Parameter,
    /// `torch._tensor._rebuild_from_type_v2`: calls its first argument with its third.
    FromType,
    /// A class of storages; `None` holds bytes.
    Storage(Option<Dtype>),
    /// An element type.
    Dtype(Dtype),
    /// Something harmless that no tensor needs; calling it gives nothing.
    Inert(&'static str),
}

/// A run of numbers that tensors are views of.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    pub(super) key: Rc<str>,
    /// `None` counts in bytes.
    pub(super) dtype: Option<Dtype>,
    /// Elements of the whole storage.
    pub(super) elements: u64,
    /// Where in it this view begins, in elements.
    pub(super) begin: u64,
    /// Elements of this view.
    pub(super) view_elements: u64,
}

/// A tensor as the pickle describes it, not yet checked.
#[derive(Clone, Debug)]
pub(super) struct StoredTensor {
    /// Its place in the heap's storages.
    pub(super) storage: u32,
    pub(super) dtype: Dtype,
    /// In elements from the storage's begin.
    pub(super) offset: u64,
    pub(super) shape: Vec<u64>,
    /// In elements.
    pub(super) strides: Vec<u64>,
}

/// The callable of this name.
///
/// # Errors
/// When it is not on the list; nothing is ever run.
pub(super) fn allowed(module: &str, name: &str, what: &str) -> Result<Callable> {
    let callable = match module {
        "torch" | "torch.cuda" => torch_name(name),
        "torch.storage" if matches!(name, "UntypedStorage" | "_UntypedStorage") => Some(Callable::Storage(None)),
        "torch._utils" => match name {
            "_rebuild_tensor" | "_rebuild_tensor_v2" => Some(Callable::RebuildTyped),
            "_rebuild_tensor_v3" => Some(Callable::RebuildUntyped),
            "_rebuild_parameter" | "_rebuild_parameter_with_state" => Some(Callable::Parameter),
            _ => None,
        },
        "torch._tensor" if name == "_rebuild_from_type_v2" => Some(Callable::FromType),
        "torch.nn.parameter" if matches!(name, "Parameter" | "Buffer") => Some(Callable::Inert("class")),
        "collections" => match name {
            "OrderedDict" | "defaultdict" => Some(Callable::Mapping),
            "Counter" | "deque" => Some(Callable::Inert("collection")),
            _ => None,
        },
        "builtins" | "__builtin__" => match name {
            "dict" => Some(Callable::Mapping),
            "list" | "set" | "frozenset" | "bytearray" => Some(Callable::Inert("collection")),
            "int" | "float" | "complex" => Some(Callable::Inert("number")),
            _ => None,
        },
        // What training scripts leave beside the weights: options and measured figures.
        "argparse" if name == "Namespace" => Some(Callable::Inert("options")),
        "_codecs" if name == "encode" => Some(Callable::Inert("bytes")),
        "numpy" if matches!(name, "dtype" | "ndarray") => Some(Callable::Inert("NumPy value")),
        "numpy.core.multiarray" | "numpy._core.multiarray" if matches!(name, "scalar" | "_reconstruct") => {
            Some(Callable::Inert("NumPy value"))
        }
        _ => None,
    };
    callable.ok_or_else(|| {
        Error::input(format!(
            "{what} asks to call `{}.{}`; dlopt runs no code from pickles",
            super::shown(module),
            super::shown(name)
        ))
        .hint("if you trust the file, load it in Python and save the weights alone: torch.save(model.state_dict(), …)")
    })
}

fn torch_name(name: &str) -> Option<Callable> {
    let dtype = match name.strip_suffix("Storage").unwrap_or(name) {
        "BFloat16" | "bfloat16" => Dtype::BF16,
        "Half" | "float16" => Dtype::F16,
        "Float" | "float32" => Dtype::F32,
        "Double" | "float64" => Dtype::F64,
        "Long" | "int64" => Dtype::I64,
        "Int" | "int32" => Dtype::I32,
        "Short" | "int16" => Dtype::I16,
        "Char" | "int8" => Dtype::I8,
        "Byte" | "uint8" => Dtype::U8,
        "Bool" | "bool" => Dtype::BOOL,
        "ComplexFloat" | "complex64" => Dtype::C64,
        "uint16" => Dtype::U16,
        "uint32" => Dtype::U32,
        "uint64" => Dtype::U64,
        "float8_e4m3fn" => Dtype::F8_E4M3,
        "float8_e5m2" => Dtype::F8_E5M2,
        "float8_e4m3fnuz" => Dtype::F8_E4M3FNUZ,
        "float8_e5m2fnuz" => Dtype::F8_E5M2FNUZ,
        "float8_e8m0fnu" => Dtype::F8_E8M0,
        "Untyped" => return Some(Callable::Storage(None)),
        "Size" => return Some(Callable::Size),
        "device" => return Some(Callable::Inert("device")),
        "Tensor" => return Some(Callable::Inert("class")),
        _ => return None,
    };
    let is_storage = name.ends_with("Storage");
    // `torch.Float` is no name, and neither is `torch.float32Storage`.
    if is_storage != name.starts_with(|c: char| c.is_ascii_uppercase()) {
        return None;
    }
    Some(if is_storage { Callable::Storage(Some(dtype)) } else { Callable::Dtype(dtype) })
}

/// What calling `callable` with a tuple of arguments gives.
pub(super) fn call(callable: Callable, arguments: &Value, heap: &mut Heap) -> Result<Value> {
    let Some(items) = heap.items(arguments) else {
        return Err(Error::input("the pickle calls something without a tuple of arguments"));
    };
    match callable {
        Callable::Mapping => {
            let entries = match items.first().and_then(|pairs| heap.items(pairs)) {
                None => Vec::new(),
                Some(pairs) => pairs_of(pairs, heap)?,
            };
            Ok(heap.new_map(entries))
        }
        Callable::Size => match items {
            [sizes] if heap.items(sizes).is_some() => Ok(sizes.clone()),
            _ => Err(wrong_arguments("torch.Size")),
        },
        Callable::RebuildTyped | Callable::RebuildUntyped => rebuild(callable, items, heap).map(|tensor| {
            heap.tensors.push(tensor);
            Value::Tensor(heap.tensors.len() as u32 - 1)
        }),
        Callable::Parameter => match items.first() {
            Some(tensor @ Value::Tensor(_)) => Ok(tensor.clone()),
            _ => Err(wrong_arguments("torch._utils._rebuild_parameter")),
        },
        Callable::FromType => match items {
            // A second one inside could nest without end.
            [Value::Callable(inner), _, arguments, ..] if *inner != Callable::FromType => {
                let (inner, arguments) = (*inner, arguments.clone());
                call(inner, &arguments, heap)
            }
            _ => Err(wrong_arguments("torch._tensor._rebuild_from_type_v2")),
        },
        Callable::Inert(kind) => Ok(Value::Other(kind)),
        Callable::Storage(_) | Callable::Dtype(_) => Err(Error::input("the pickle calls a storage or an element type")),
    }
}

fn wrong_arguments(name: &str) -> Error {
    Error::input(format!("the pickle calls `{name}` with other arguments than PyTorch does"))
}

/// The entries of an `OrderedDict` from its list of `[key, value]`.
fn pairs_of(pairs: &[Value], heap: &Heap) -> Result<Vec<(Value, Value)>> {
    pairs
        .iter()
        .map(|pair| match heap.items(pair) {
            Some([key, value]) => Ok((key.clone(), value.clone())),
            _ => Err(wrong_arguments("collections.OrderedDict")),
        })
        .collect()
}

fn rebuild(callable: Callable, items: &[Value], heap: &Heap) -> Result<StoredTensor> {
    let is_untyped = callable == Callable::RebuildUntyped;
    let wrong = || wrong_arguments("torch._utils._rebuild_tensor");
    let [Value::Storage(storage), Value::Int(offset), shape, strides, rest @ ..] = items else {
        return Err(wrong());
    };
    let found = &heap.storages[*storage as usize];
    // After the strides: requires_grad, hooks, the dtype if the storage has none, flags.
    let (dtype, flags) = match (found.dtype, is_untyped) {
        (Some(dtype), false) => (dtype, rest.get(2)),
        (None, true) => match rest.get(2) {
            Some(Value::Callable(Callable::Dtype(dtype))) => (*dtype, rest.get(3)),
            _ => return Err(wrong()),
        },
        _ => return Err(wrong()),
    };
    if let Some(entries) = flags.and_then(|flags| heap.entries(flags))
        && entries.iter().any(|(_, value)| matches!(value, Value::Bool(true)))
    {
        return Err(Error::input(format!(
            "the tensor in storage `{}` is kept conjugated or negated",
            super::shown(&found.key)
        ))
        .hint("save tensor.resolve_conj().resolve_neg() instead"));
    }
    let offset = u64::try_from(*offset).map_err(|_| wrong())?;
    let shape = extents(shape, heap).ok_or_else(wrong)?;
    let strides = extents(strides, heap).ok_or_else(wrong)?;
    if shape.len() != strides.len() {
        return Err(wrong());
    }
    Ok(StoredTensor { storage: *storage, dtype, offset, shape, strides })
}

/// A tuple of counts; none is negative and there are not too many.
fn extents(value: &Value, heap: &Heap) -> Option<Vec<u64>> {
    let items = heap.items(value).filter(|items| items.len() <= super::MAX_DIMENSIONS)?;
    items
        .iter()
        .map(|item| match item {
            Value::Int(extent) => u64::try_from(*extent).ok(),
            _ => None,
        })
        .collect()
}

/// The storage a persistent id stands for: `('storage', class, key, location, elements[, view])`.
pub(super) fn persistent(id: &Value, heap: &mut Heap) -> Result<Value> {
    let wrong = || Error::input("the pickle refers to something outside of it that is no storage");
    let items = heap.items(id).ok_or_else(wrong)?;
    if let [Value::Text(kind), ..] = items
        && &**kind == "module"
    {
        return Err(Error::input("holds a whole model with its code, not only weights")
            .hint("load it in Python and save the weights alone: torch.save(model.state_dict(), …)"));
    }
    let [
        Value::Text(kind),
        Value::Callable(Callable::Storage(dtype)),
        Value::Text(key),
        _location,
        Value::Int(elements),
        rest @ ..,
    ] = items
    else {
        return Err(wrong());
    };
    let elements = u64::try_from(*elements).map_err(|_| wrong())?;
    if &**kind != "storage" {
        return Err(wrong());
    }
    let mut storage = Storage { key: Rc::clone(key), dtype: *dtype, elements, begin: 0, view_elements: elements };
    // The old form may view a part of another storage: (key, begin, elements).
    if let Some(view) = rest.first().and_then(|view| heap.items(view)) {
        let [_, Value::Int(begin), Value::Int(view_elements)] = view else {
            return Err(wrong());
        };
        storage.begin = u64::try_from(*begin).map_err(|_| wrong())?;
        storage.view_elements = u64::try_from(*view_elements).map_err(|_| wrong())?;
        if storage.begin.checked_add(storage.view_elements).is_none_or(|end| end > elements) {
            return Err(Error::input(format!(
                "the view of storage `{}` is larger than it",
                super::shown(&storage.key)
            )));
        }
    }
    heap.storages.push(storage);
    Ok(Value::Storage(heap.storages.len() as u32 - 1))
}
