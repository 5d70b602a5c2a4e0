//! The layout of compressed-tensors, which vLLM and transformers load: `quantization_config` in the model's config.
//!
//! A linear layer `M` holds `M.weight_packed` (or `M.weight` of one byte a weight), `M.weight_scale`,
//! `M.weight_shape` and `M.weight_zero_point`. Source: compressed-tensors 0.20.
//!
//! `dlopt.shapes` adds what the header of such a file cannot say: the columns of packed weights whose rows end in
//! padding.

use std::collections::{BTreeMap, HashMap, HashSet};

use dlopt_checkpoint::{Dtype, Error, Header, Result, TensorInfo};
use serde_json::{Map, Value, json};

use super::{Known, Parts, Stored, WeightArgs, args_json, dlopt, read_args, resolve};
use crate::{Activations, Plugin, Scheme};

pub(super) const PLUGIN: Plugin = Plugin {
    name: "compressed-tensors",
    summary: "linear layers as vLLM and transformers load them",
    source: "compressed-tensors 0.20",
};

/// The metadata key of shapes that the header cannot say.
pub(crate) const SHAPES_KEY: &str = "dlopt.shapes";

/// The version of compressed-tensors that the layout follows.
const VERSION: &str = "0.20.0";

/// The key in the model's config.
const CONFIG_KEY: &str = "quantization_config";

/// The config with `quantization_config` added. `groups`: schemes and their modules, the most used one first.
pub(crate) fn with_quantization(
    mut config: Map<String, Value>,
    groups: &[(Scheme, Vec<String>)],
    ignore: Vec<String>,
) -> Map<String, Value> {
    let mut config_groups = Map::new();
    for (i, (scheme, modules)) in groups.iter().enumerate() {
        let targets = if i == 0 { json!(["Linear"]) } else { json!(modules) };
        config_groups.insert(
            format!("group_{i}"),
            json!({
                "format": scheme.storage.name(),
                "input_activations": activations_json(scheme.activations),
                "output_activations": null,
                "targets": targets,
                "weights": args_json(scheme),
            }),
        );
    }
    let first = groups.first().map_or("dense", |(scheme, _)| scheme.storage.name());
    let is_mixed = groups.iter().any(|(scheme, _)| scheme.storage.name() != first);
    let quantization = json!({
        "config_groups": config_groups,
        "format": if is_mixed { "mixed-precision" } else { first },
        "global_compression_ratio": null,
        "ignore": ignore,
        "kv_cache_scheme": null,
        "moe_sparsity_config": null,
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
        "sparsity_config": {},
        "transform_config": {},
        "version": VERSION,
    });
    config.insert(CONFIG_KEY.into(), quantization);
    config
}

fn activations_json(activations: Activations) -> Value {
    let (numbers, strategy, group) = match activations {
        Activations::Dense => return Value::Null,
        Activations::Int8Token => ("int", "token", Value::Null),
        Activations::Fp8Token => ("float", "token", Value::Null),
        Activations::Fp8Group128 => ("float", "group", json!(128)),
    };
    json!({
        "dynamic": true,
        "group_size": group,
        "num_bits": 8,
        "strategy": strategy,
        "symmetric": true,
        "type": numbers,
    })
}

/// What the config asks of the activations of a module: those of the group that names it, else of the only group there is,
/// else of the one that says `Linear`. Nothing where there is no such group.
pub(crate) fn activations(config: &Map<String, Value>, module: &str) -> Option<Activations> {
    let groups = quantization(config).and_then(|q| q.get("config_groups")).and_then(Value::as_object);
    let groups: Vec<&Value> = groups.into_iter().flat_map(Map::values).collect();
    let targets = |group: &Value, wanted: &str| {
        let targets = group.get("targets").and_then(Value::as_array);
        targets.into_iter().flatten().any(|target| target.as_str() == Some(wanted))
    };
    let named = groups.iter().find(|group| targets(group, module));
    let only = named.or(groups.first().filter(|_| groups.len() == 1));
    let found = only.or_else(|| groups.iter().find(|group| targets(group, "Linear")))?;
    let asked = found.get("input_activations");
    let known = [Activations::Int8Token, Activations::Fp8Token, Activations::Fp8Group128].into_iter().find(|known| {
        let same = |key: &str| asked.and_then(|asked| asked.get(key)) == activations_json(*known).get(key);
        ["num_bits", "strategy", "type"].into_iter().all(same)
    });
    Some(known.unwrap_or(Activations::Dense))
}

/// A config as Hugging Face writes it: indented by two, with a newline at the end.
pub(crate) fn config_text(config: &Map<String, Value>) -> String {
    let mut text = serde_json::to_string_pretty(config).expect("JSON values always serialise");
    text.push('\n');
    text
}

/// The metadata text of shapes by tensor.
pub(crate) fn shapes_text(shapes: &BTreeMap<String, [usize; 2]>) -> String {
    json!({"schema": 1, "tensors": shapes}).to_string()
}

fn read_shapes(header: &Header) -> Result<HashMap<String, Vec<usize>>> {
    #[derive(serde::Deserialize)]
    struct Shapes {
        tensors: HashMap<String, Vec<usize>>,
    }
    let Some(text) = header.metadata.get(SHAPES_KEY) else { return Ok(HashMap::new()) };
    let shapes: Shapes =
        serde_json::from_str(text).map_err(|e| Error::input(format!("metadata `{SHAPES_KEY}` is unreadable: {e}")))?;
    Ok(shapes.tensors)
}

/// The `quantization_config` of a header, under either of its names.
pub(crate) fn quantization(config: &Map<String, Value>) -> Option<&Value> {
    [CONFIG_KEY, "compression_config"].iter().filter_map(|k| config.get(*k)).find(|v| !v.is_null())
}

/// The config without it.
pub(crate) fn without_quantization(mut config: Map<String, Value>) -> Map<String, Value> {
    config.shift_remove(CONFIG_KEY);
    config.shift_remove("compression_config");
    config
}

/// A group of `config_groups`.
struct Group {
    targets: Vec<String>,
    args: WeightArgs,
    format: Option<String>,
    /// It only lists modules by name, and so is about no others.
    is_by_name: bool,
}

impl Group {
    /// Whether its format stores codes of this dtype.
    fn stores(&self, codes: Dtype) -> bool {
        match self.format.as_deref() {
            Some("pack-quantized") => codes == Dtype::I32,
            Some("int-quantized") => codes == Dtype::I8,
            Some("float-quantized" | "mxfp8-quantized") => codes == Dtype::F8_E4M3,
            Some("naive-quantized") => matches!(codes, Dtype::F8_E4M3 | Dtype::I8),
            Some("nvfp4-pack-quantized" | "mxfp4-pack-quantized" | "mxfp6-pack-quantized") => codes == Dtype::U8,
            _ => true,
        }
    }
}

/// Formats that a config may name.
const READABLE: [&str; 10] = [
    "dense",
    "pack-quantized",
    "int-quantized",
    "float-quantized",
    "naive-quantized",
    "mixed-precision",
    "nvfp4-pack-quantized",
    "mxfp4-pack-quantized",
    "mxfp6-pack-quantized",
    "mxfp8-quantized",
];

/// The groups whose weights are quantized.
fn read_groups(quantization: &Value, header: &Header) -> Result<Vec<Group>> {
    let method = quantization.get("quant_method").filter(|m| !m.is_null());
    if let Some(method) = method.filter(|m| m.as_str() != Some("compressed-tensors")) {
        let method = method.as_str().map_or_else(|| method.to_string(), str::to_owned);
        return Err(Error::input(format!("the model is quantized by `{method}`, which this dlopt does not read"))
            .hint("it reads the layout of compressed-tensors and its own"));
    }
    let of_weight = |t: &TensorInfo| t.name.find(".weight").map(|end| t.name[..end].to_owned());
    let modules: HashSet<String> = header.tensors.iter().filter_map(of_weight).collect();
    let groups = quantization.get("config_groups").and_then(Value::as_object);
    let mut read = Vec::new();
    for (name, group) in groups.into_iter().flatten() {
        let Some(weights) = group.get("weights").filter(|w| !w.is_null()) else { continue };
        let args = read_args(weights, &format!("`{name}` of `quantization_config`"))?;
        let targets = group.get("targets").and_then(Value::as_array);
        let targets: Vec<_> = targets.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        let format = group.get("format").or(quantization.get("format"));
        let format = format.and_then(Value::as_str).map(str::to_owned);
        if let Some(unknown) = format.as_deref().filter(|f| !READABLE.contains(f)) {
            return Err(Error::input(format!("`{name}` of `quantization_config`: format `{unknown}` is not known")));
        }
        let is_by_name = targets.iter().all(|t| modules.contains(t.as_str()));
        read.push(Group { targets, args, format, is_by_name });
    }
    Ok(read)
}

/// The quantized weights that follow this layout.
pub(super) fn read(header: &Header) -> Result<Vec<Stored>> {
    let config = header.config()?.unwrap_or_default();
    let groups = quantization(&config).map_or(Ok(Vec::new()), |q| read_groups(q, header))?;
    let shapes = read_shapes(header)?;
    let elsewhere = dlopt::part_names(header)?;
    let by_name = header.by_name();
    let mut weights = Vec::new();
    for (at, tensor) in header.tensors.iter().enumerate().filter(|(_, t)| !elsewhere.contains(&t.name)) {
        let Some(module) = module_of(&tensor.name, tensor.dtype) else { continue };
        let part = |suffix: &str| by_name.get(format!("{module}.{suffix}").as_str()).copied();
        refuse_old_layouts(module, &part)?;
        let Some(scale) = part("weight_scale") else {
            if tensor.name.ends_with("_packed") {
                return Err(Error::input(format!("tensor `{}` has no `{module}.weight_scale` beside it", tensor.name)));
            }
            continue;
        };
        let parts = Parts {
            codes: at,
            scale,
            zero: part("weight_zero_point"),
            shape: part("weight_shape"),
            global: part("weight_global_scale"),
            other: ["input_scale", "input_zero_point", "input_global_scale"].iter().filter_map(|s| part(s)).collect(),
        };
        let name = format!("{module}.weight");
        let shape = shapes.get(&name).cloned();
        weights.push(resolve_in_groups(header, Known { name, shape, ..Known::default() }, parts, &groups, module)?);
    }
    Ok(weights)
}

/// The module whose codes a tensor holds.
fn module_of(name: &str, dtype: Dtype) -> Option<&str> {
    match name.strip_suffix(".weight_packed") {
        Some(module) => Some(module),
        None if matches!(dtype, Dtype::I8 | Dtype::F8_E4M3) => name.strip_suffix(".weight"),
        None => None,
    }
}

fn refuse_old_layouts(module: &str, part: &dyn Fn(&str) -> Option<usize>) -> Result<()> {
    if part("weight_g_idx").is_some() {
        return Err(Error::input(format!("`{module}` has its columns in another order (`weight_g_idx`)"))
            .hint("this dlopt does not read it: write the checkpoint again with `actorder` \"weight\""));
    }
    if part("scale_packed").is_some() {
        return Err(Error::input(format!("`{module}` is stored as `marlin-24`, a layout of one GPU kernel"))
            .hint("compress the original checkpoint again"));
    }
    Ok(())
}

/// Finds the group of a module: by its exact name, else the one that its shapes agree with.
fn resolve_in_groups(header: &Header, known: Known, parts: Parts, groups: &[Group], module: &str) -> Result<Stored> {
    let with = |group: &Group| {
        let known = Known { args: Some(group.args.clone()), ..known.clone() };
        resolve(header, &known, parts.clone())
    };
    if let Some(group) = groups.iter().find(|g| g.targets.iter().any(|t| t == module)) {
        return with(group);
    }
    let codes = header.tensors[parts.codes].dtype;
    let is_candidate = |g: &&Group| groups.len() == 1 || (!g.is_by_name && g.stores(codes));
    let by_class: Vec<_> = groups.iter().filter(is_candidate).collect();
    match by_class.as_slice() {
        [] => resolve(header, &known, parts.clone()),
        [only] => with(only),
        several => {
            let mut found: Vec<Stored> = Vec::new();
            let mut first_error = None;
            for group in several {
                match with(group) {
                    Ok(stored) => found.push(stored),
                    Err(error) => first_error = first_error.or(Some(error)),
                }
            }
            let facts = |s: &Stored| (s.codes, s.bits, s.columns, s.group);
            found.dedup_by_key(|s| facts(s));
            match (found.len(), first_error) {
                (1, _) => Ok(found.remove(0)),
                (0, Some(error)) => Err(error),
                _ => Err(Error::input(format!("`{module}` fits more than one group of `quantization_config`"))
                    .hint("list the module by name in the `targets` of its group")),
            }
        }
    }
}
