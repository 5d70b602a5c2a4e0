//! `quantization_config` against the tensors: every linear layer is stored as its group says or is ignored, with exactly
//! the parts that loaders expect. Source of the rules: compressed-tensors 0.20.

use std::collections::{BTreeMap, HashSet};

use dlopt_checkpoint::{Dtype, Header, LayerKind, Model, TensorInfo, dtype_name, is_weight_float, read_layout};
use serde_json::Value;

use super::Found;
use super::targets::matches;

/// Names that parts of a weight have below their module.
const PARTS: [&str; 6] =
    ["weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_global_scale", "weight_g_idx"];

/// A group of the config.
struct Group<'c> {
    name: &'c str,
    format: &'c str,
    targets: Vec<&'c str>,
    bits: u64,
    strategy: &'c str,
    group_size: Option<u64>,
    block: Option<(u64, u64)>,
    is_symmetric: bool,
}

/// The tensors below one module that belong to its weight.
#[derive(Default)]
struct Module<'h> {
    weight: Option<&'h TensorInfo>,
    parts: BTreeMap<&'static str, &'h TensorInfo>,
}

impl Module<'_> {
    /// Whether its weight is stored as codes.
    fn is_quantized(&self) -> bool {
        let is_codes = self.weight.is_some_and(|w| matches!(w.dtype, Dtype::I8 | Dtype::F8_E4M3));
        self.parts.contains_key("weight_packed") || (is_codes && self.parts.contains_key("weight_scale"))
    }
}

pub(super) fn check(header: &Header, found: &mut Found) {
    const WHAT: &str = "linear layers are stored as `quantization_config` says";
    let config = header.config().ok().flatten().unwrap_or_default();
    let elsewhere: HashSet<String> =
        read_layout(header).unwrap_or_default().into_values().flat_map(|s| s.parts.into_values()).collect();
    let modules = modules(header, &elsewhere);
    let quantization =
        ["quantization_config", "compression_config"].iter().find_map(|key| config.get(*key)?.as_object());
    let Some(quantization) = quantization else {
        found.check("quantization", "no parts of quantized weights without a config that explains them");
        for part in modules.values().flat_map(|m| m.parts.values()) {
            found.error(
                &part.name,
                "a part of a quantized weight, and no `quantization_config` or `dlopt.layout` explains it",
            );
        }
        return;
    };
    let method = quantization.get("quant_method").and_then(Value::as_str).unwrap_or("compressed-tensors");
    if method != "compressed-tensors" {
        return found.skip("quantization", WHAT, format!("nothing is known of method `{method}`"));
    }
    found.check("quantization", WHAT);
    let top = quantization.get("format").and_then(Value::as_str).unwrap_or_default();
    let groups = groups(quantization.get("config_groups"), top);
    let ignore = texts(quantization.get("ignore"));
    let is_any = modules.values().any(Module::is_quantized);
    match quantization.get("quantization_status").and_then(Value::as_str) {
        Some("compressed") | None => {}
        Some(other) if is_any => found.model_error(format!(
            "`quantization_status` is `{other}`; loaders take the weights as packed only when it is `compressed`"
        )),
        Some(_) => {}
    }
    let model = Model::of(header).unwrap_or_default();
    let mut unknown: HashSet<String> = HashSet::new();
    for (name, module) in &modules {
        let mut is = |entry: &&str| {
            matches(entry, name, "Linear").unwrap_or_else(|| {
                unknown.insert((*entry).to_owned());
                false
            })
        };
        let is_ignored = ignore.iter().any(&mut is);
        // Names and patterns go before classes.
        let by_name = groups.iter().find(|g| g.targets.iter().any(|t| *t != "Linear" && is(t)));
        let group = by_name.or_else(|| groups.iter().find(|g| g.targets.contains(&"Linear")));
        check_module(name, module, group, is_ignored, &model, found);
    }
    let mut unknown: Vec<_> = unknown.into_iter().collect();
    unknown.sort();
    for entry in unknown {
        found.model_warning(format!("`{entry}` of `quantization_config` is a pattern that was not understood"));
    }
}

fn check_module(
    name: &str,
    module: &Module<'_>,
    group: Option<&Group<'_>>,
    is_ignored: bool,
    model: &Model,
    found: &mut Found,
) {
    if module.is_quantized() {
        match group {
            _ if is_ignored => found.error(&format!("{name}.weight"), "is quantized, and `ignore` says it is not"),
            None => found.error(&format!("{name}.weight"), "is quantized, and no group of the config targets it"),
            Some(group) => check_parts(name, module, group, found),
        }
        return;
    }
    for part in module.parts.values() {
        found.error(&part.name, "a part of a quantized weight that is not there");
    }
    let (Some(weight), Some(group), false) = (module.weight, group, is_ignored) else { return };
    let is_dense = is_weight_float(weight.dtype) && weight.shape.len() == 2;
    match model.layer(weight).kind {
        LayerKind::Linear if is_dense => found
            .error(&weight.name, format!("is dense, `{}` targets it and `ignore` does not name `{name}`", group.name)),
        LayerKind::Head if is_dense => found.warn(
            &weight.name,
            format!(
                "is dense, and `ignore` does not name `{name}`: if it is a linear layer, loaders expect it quantized"
            ),
        ),
        _ => {}
    }
}

/// The parts of a quantized module: dtypes, shapes, none missing, none too many.
fn check_parts(name: &str, module: &Module<'_>, group: &Group<'_>, found: &mut Found) {
    let expected: (&str, &[Dtype], &[&str]) = match group.format {
        "pack-quantized" => ("weight_packed", &[Dtype::I32], &["weight_scale", "weight_shape"]),
        "int-quantized" => ("weight", &[Dtype::I8], &["weight_scale"]),
        "float-quantized" | "mxfp8-quantized" => ("weight", &[Dtype::F8_E4M3], &["weight_scale"]),
        "naive-quantized" => ("weight", &[Dtype::F8_E4M3, Dtype::I8], &["weight_scale"]),
        "nvfp4-pack-quantized" => ("weight_packed", &[Dtype::U8], &["weight_scale", "weight_global_scale"]),
        "mxfp4-pack-quantized" | "mxfp6-pack-quantized" => ("weight_packed", &[Dtype::U8], &["weight_scale"]),
        other => return found.warn(&format!("{name}.weight"), format!("nothing is known of format `{other}`")),
    };
    let (codes_name, dtypes, needed) = expected;
    let codes = if codes_name == "weight" { module.weight } else { module.parts.get(codes_name).copied() };
    let Some(codes) = codes else {
        return found.error(&format!("{name}.{codes_name}"), format!("is missing; `{}` stores it so", group.format));
    };
    if !dtypes.contains(&codes.dtype) {
        found.error(
            &codes.name,
            format!("is {}; `{}` has {}", dtype_name(codes.dtype), group.format, dtype_name(dtypes[0])),
        );
    }
    let has_zero = group.format.ends_with("pack-quantized")
        || group.format == "int-quantized"
        || group.format == "naive-quantized";
    let mut allowed: Vec<&str> = needed.to_vec();
    if codes_name == "weight_packed" {
        allowed.push("weight_packed");
    }
    if !group.is_symmetric && has_zero {
        allowed.push("weight_zero_point");
        if !module.parts.contains_key("weight_zero_point") {
            found.error(&format!("{name}.weight_zero_point"), "is missing; the scheme is asymmetric");
        }
    }
    for needed in needed.iter().filter(|n| !module.parts.contains_key(**n)) {
        found.error(&format!("{name}.{needed}"), format!("is missing; `{}` has one", group.format));
    }
    for (role, part) in module.parts.iter().filter(|(role, _)| !allowed.contains(*role)) {
        let why = if *role == "weight_zero_point" { "the scheme is symmetric" } else { "loaders do not know it" };
        found.error(&part.name, format!("does not belong to `{}`: {why}", group.format));
    }
    check_shapes(codes, module, group, found);
}

/// Scales and zero points have the shapes that the strategy gives them.
fn check_shapes(codes: &TensorInfo, module: &Module<'_>, group: &Group<'_>, found: &mut Found) {
    let (&[rows, width], Some(scale)) = (codes.shape.as_slice(), module.parts.get("weight_scale")) else { return };
    let (rows, width) = (rows as u64, width as u64);
    let columns = match group.format {
        // How many columns the last word holds, only `weight_shape` says; whole groups tell too.
        "pack-quantized" => scale.shape.get(1).and_then(|&g| (g as u64).checked_mul(group.group_size?)),
        "nvfp4-pack-quantized" | "mxfp4-pack-quantized" => width.checked_mul(2),
        "mxfp6-pack-quantized" => Some(width / 3 * 4),
        _ => Some(width),
    };
    let expected = match (group.strategy, group.group_size, group.block, columns) {
        ("tensor", ..) => Some(vec![1]),
        ("channel", ..) => Some(vec![rows, 1]),
        ("group" | "tensor_group", Some(size), _, Some(columns)) if size > 0 => {
            if columns % size != 0 {
                found.error(&codes.name, format!("has {columns} columns, no multiple of its group size {size}"));
            }
            Some(vec![rows, columns.div_ceil(size)])
        }
        ("block", _, Some((h, w)), Some(columns)) if h > 0 && w > 0 => {
            Some(vec![rows.div_ceil(h), columns.div_ceil(w)])
        }
        _ => None,
    };
    let shape: Vec<u64> = scale.shape.iter().map(|&d| d as u64).collect();
    if let Some(expected) = &expected
        && *expected != shape
        && !(group.strategy == "tensor" && shape.iter().product::<u64>() == 1)
    {
        found.error(&scale.name, format!("has shape {shape:?}; strategy `{}` makes it {expected:?}", group.strategy));
    }
    if let (Some(zero), Some(&groups)) = (module.parts.get("weight_zero_point"), shape.last()) {
        let is_packed = group.format == "pack-quantized";
        let words = (rows.saturating_mul(group.bits)).div_ceil(32);
        let (dtype, expected) = if is_packed { (Dtype::I32, vec![words, groups]) } else { (Dtype::I8, shape.clone()) };
        let own: Vec<u64> = zero.shape.iter().map(|&d| d as u64).collect();
        if zero.dtype != dtype || own != expected {
            let found_dtype = dtype_name(zero.dtype);
            found.error(&zero.name, format!("is {found_dtype} {own:?}; expected {} {expected:?}", dtype_name(dtype)));
        }
    }
}

/// Modules that have a `weight` or parts of one, by name.
fn modules<'h>(header: &'h Header, elsewhere: &HashSet<String>) -> BTreeMap<&'h str, Module<'h>> {
    let mut modules: BTreeMap<&str, Module<'_>> = BTreeMap::new();
    for tensor in header.tensors.iter().filter(|t| !elsewhere.contains(&t.name)) {
        let Some((module, parameter)) = tensor.name.rsplit_once('.') else { continue };
        if parameter == "weight" {
            modules.entry(module).or_default().weight = Some(tensor);
        } else if let Some(role) = PARTS.iter().find(|p| **p == parameter) {
            modules.entry(module).or_default().parts.insert(role, tensor);
        }
    }
    modules
}

fn texts(value: Option<&Value>) -> Vec<&str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn groups<'c>(groups: Option<&'c Value>, top: &'c str) -> Vec<Group<'c>> {
    let groups = groups.and_then(Value::as_object);
    let group = |(name, group): (&'c String, &'c Value)| {
        let weights = group.get("weights")?.as_object()?;
        let text = |key: &str| weights.get(key).and_then(Value::as_str);
        let group_size = weights.get("group_size").and_then(Value::as_u64);
        let side = |i: usize| weights.get("block_structure")?.get(i)?.as_u64();
        let by_size = match weights.get("group_size").and_then(Value::as_i64) {
            None => "tensor",
            Some(-1) => "channel",
            Some(_) => "group",
        };
        Some(Group {
            name,
            format: group.get("format").and_then(Value::as_str).unwrap_or(top),
            targets: texts(group.get("targets")),
            bits: weights.get("num_bits").and_then(Value::as_u64).unwrap_or(8),
            strategy: text("strategy").unwrap_or(by_size),
            group_size,
            block: side(0).zip(side(1)),
            is_symmetric: weights.get("symmetric").and_then(Value::as_bool).unwrap_or(true),
        })
    };
    groups.into_iter().flatten().filter_map(group).collect()
}
