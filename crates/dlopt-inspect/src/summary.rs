//! What a checkpoint holds, from headers alone: no weight is read, whatever its size.

use std::collections::{BTreeMap, HashMap};

use dlopt_checkpoint::{
    Checkpoint, Companions, Content, Header, HistoryEntry, Model, TensorInfo, Tensors, dtype_name, read_history,
    read_layout,
};
use serde::Serialize;
use serde_json::Value;

use crate::decode::decoded;

/// What a checkpoint holds.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The file, folder or stream.
    pub name: String,
    /// Bytes of all tensors as stored.
    pub bytes: u64,
    /// Tensors as stored.
    pub tensor_count: usize,
    /// Elements of all tensors as decoded; those of the stored ones when it cannot be decoded.
    pub parameters: u64,
    /// Bits that a parameter takes on average.
    pub bits_per_parameter: f64,
    /// The config's `model_type`.
    pub model_type: Option<String>,
    /// By dtype, most bytes first.
    pub dtypes: Vec<DtypeSummary>,
    /// By the first parts of the names, layer numbers taken together, in the order of the file.
    pub modules: Vec<ModuleSummary>,
    /// Every stored tensor, in the order of the file.
    pub tensors: Vec<TensorSummary>,
    /// The keys of the metadata.
    pub metadata: Vec<MetadataSummary>,
    /// What was done to it, oldest first.
    pub history: Vec<HistoryEntry>,
    /// The small files that travel with it.
    pub companions: Vec<CompanionSummary>,
    /// The files that hold the tensors.
    pub shards: Vec<ShardSummary>,
    /// How weights are compressed, if they are.
    pub quantization: Option<QuantizationSummary>,
    /// Entries of a foreign file that are no tensors.
    pub left_out: Vec<String>,
    /// What could not be read (a broken history or config, a compression that cannot be decoded).
    pub warnings: Vec<String>,
}

/// All tensors of one dtype.
#[derive(Clone, Debug, Serialize)]
pub struct DtypeSummary {
    /// Its name.
    pub dtype: &'static str,
    /// Tensors of it.
    pub tensors: usize,
    /// Elements of it.
    pub elements: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their share of all bytes, 0..=1.
    pub share: f64,
}

/// All tensors of one part of the model.
#[derive(Clone, Debug, Serialize)]
pub struct ModuleSummary {
    /// Its name, `*` for layer numbers (`encoder.layer.*.attention`); empty for tensors at the top.
    pub module: String,
    /// Tensors as stored.
    pub tensors: usize,
    /// Elements as decoded.
    pub parameters: u64,
    /// Bytes as stored.
    pub bytes: u64,
    /// Its share of all bytes, 0..=1.
    pub share: f64,
}

/// One stored tensor.
#[derive(Clone, Debug, Serialize)]
pub struct TensorSummary {
    /// Its name.
    pub name: String,
    /// Its dtype.
    pub dtype: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its bytes.
    pub bytes: u64,
    /// What it, or the tensor it is a part of, is to its model.
    pub kind: &'static str,
    /// The tensor it is a part of, when that is stored in parts.
    pub part_of: Option<String>,
    /// Its shard, as a position in [`Summary::shards`].
    pub shard: usize,
}

/// One key of the metadata.
#[derive(Clone, Debug, Serialize)]
pub struct MetadataSummary {
    /// The key.
    pub key: String,
    /// Length of its text in bytes.
    pub bytes: usize,
}

/// One small file.
#[derive(Clone, Debug, Serialize)]
pub struct CompanionSummary {
    /// Its relative path.
    pub name: String,
    /// Its size, when known.
    pub bytes: Option<u64>,
}

/// One file of weights.
#[derive(Clone, Debug, Serialize)]
pub struct ShardSummary {
    /// Its name.
    pub name: String,
    /// Tensors in it.
    pub tensors: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// How weights are compressed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct QuantizationSummary {
    /// The config's `quant_method`.
    pub method: Option<String>,
    /// The config's groups: format, weights in words, targets.
    pub groups: Vec<QuantizationGroup>,
    /// Modules that the config leaves alone.
    pub ignore: Vec<String>,
    /// Tensors that `dlopt.layout` stores in parts, by format.
    pub layout: BTreeMap<String, usize>,
    /// Tensors as decoded that are stored in parts or as codes.
    pub compressed_tensors: usize,
}

/// One group of the config.
#[derive(Clone, Debug, Serialize)]
pub struct QuantizationGroup {
    /// Its name.
    pub name: String,
    /// Its format.
    pub format: String,
    /// The weights in words (`int4 symmetric, group 128`).
    pub weights: String,
    /// The activations in words; absent when they stay as they are.
    pub activations: Option<String>,
    /// The modules it is meant for.
    pub targets: Vec<String>,
}

/// Sums up a checkpoint. What is broken inside its metadata becomes a warning, so that it can always be looked at.
pub fn summary(checkpoint: &Checkpoint) -> Summary {
    let header = &checkpoint.header;
    let mut warnings = Vec::new();
    let model = header_model(header, &mut warnings);
    let history = read_history(header).unwrap_or_else(|e| {
        warnings.push(e.message().to_owned());
        Vec::new()
    });
    let logical = decoded(checkpoint, |view| Ok(view.header().clone())).unwrap_or_else(|e| {
        warnings.push(format!("cannot be decoded: {}", e.message()));
        header.clone()
    });
    let parts = parts(header, &logical);
    let bytes = header.data_bytes();
    let parameters = logical.tensors.iter().map(|t| t.elements() as u64).sum();
    let config = header.config().ok().flatten();
    Summary {
        name: checkpoint.name.clone(),
        bytes,
        tensor_count: header.tensors.len(),
        parameters,
        bits_per_parameter: if parameters == 0 { 0.0 } else { 8.0 * bytes as f64 / parameters as f64 },
        model_type: config.as_ref().and_then(|c| Some(c.get("model_type")?.as_str()?.to_owned())),
        dtypes: dtypes(header),
        modules: modules(header, &logical),
        tensors: tensors(checkpoint, &logical, &parts, &model),
        metadata: header
            .metadata
            .iter()
            .map(|(key, text)| MetadataSummary { key: key.clone(), bytes: text.len() })
            .collect(),
        history,
        companions: companions(&checkpoint.companions),
        shards: shards(checkpoint),
        quantization: quantization(header, config.as_ref(), &parts, &mut warnings),
        left_out: checkpoint.left_out.clone(),
        warnings,
    }
}

/// The metadata of a checkpoint in full; what is JSON is given as such.
pub fn metadata(checkpoint: &Checkpoint) -> BTreeMap<String, Value> {
    let value = |text: &String| match serde_json::from_str(text) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) => value,
        _ => Value::String(text.clone()),
    };
    checkpoint.header.metadata.iter().map(|(key, text)| (key.clone(), value(text))).collect()
}

fn header_model(header: &Header, warnings: &mut Vec<String>) -> Model {
    Model::of(header).unwrap_or_else(|e| {
        warnings.push(e.message().to_owned());
        Model::default()
    })
}

fn share(bytes: u64, all: u64) -> f64 {
    bytes as f64 / all.max(1) as f64
}

fn dtypes(header: &Header) -> Vec<DtypeSummary> {
    let all = header.data_bytes();
    let mut by_name: BTreeMap<&'static str, DtypeSummary> = BTreeMap::new();
    for tensor in &header.tensors {
        let dtype = dtype_name(tensor.dtype);
        let empty = DtypeSummary { dtype, tensors: 0, elements: 0, bytes: 0, share: 0.0 };
        let entry = by_name.entry(dtype).or_insert(empty);
        entry.tensors += 1;
        entry.elements += tensor.elements() as u64;
        entry.bytes += tensor.bytes();
    }
    let mut dtypes: Vec<_> = by_name.into_values().collect();
    dtypes.sort_by_key(|d| std::cmp::Reverse(d.bytes));
    for dtype in &mut dtypes {
        dtype.share = share(dtype.bytes, all);
    }
    dtypes
}

fn modules(header: &Header, logical: &Header) -> Vec<ModuleSummary> {
    let all = header.data_bytes();
    let mut modules: Vec<ModuleSummary> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut place = |modules: &mut Vec<ModuleSummary>, name: &str| {
        let module = module_of(name);
        *places.entry(module.clone()).or_insert_with(|| {
            modules.push(ModuleSummary { module, tensors: 0, parameters: 0, bytes: 0, share: 0.0 });
            modules.len() - 1
        })
    };
    for tensor in &header.tensors {
        let at = place(&mut modules, &tensor.name);
        modules[at].tensors += 1;
        modules[at].bytes += tensor.bytes();
    }
    for tensor in &logical.tensors {
        let at = place(&mut modules, &tensor.name);
        modules[at].parameters += tensor.elements() as u64;
    }
    for module in &mut modules {
        module.share = share(module.bytes, all);
    }
    modules
}

/// The part of the model a tensor belongs to: down to one name below the first layer number, or two names deep.
fn module_of(name: &str) -> String {
    let mut names: Vec<&str> = name.split('.').collect();
    names.pop();
    let is_number = |n: &&str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
    let depth = names.iter().position(is_number).map_or(2, |first| first + 2);
    let shown = names.iter().take(depth).map(|n| if is_number(n) { "*" } else { n });
    shown.collect::<Vec<_>>().join(".")
}

/// What each stored tensor is a part of, by its name.
fn parts(header: &Header, logical: &Header) -> HashMap<String, String> {
    const SUFFIXES: [&str; 9] = [
        "_packed",
        "_scale",
        "_zero_point",
        "_shape",
        "_global_scale",
        "_g_idx",
        ".compressed",
        ".bitmask",
        ".row_offsets",
    ];
    let mut parts = HashMap::new();
    for (name, stored) in read_layout(header).unwrap_or_default() {
        parts.extend(stored.parts.into_values().map(|part| (part, name.clone())));
    }
    let (stored, decoded) = (header.by_name(), logical.by_name());
    for tensor in &header.tensors {
        let name = &tensor.name;
        if parts.contains_key(name) || decoded.get(name.as_str()).is_some_and(|&i| logical.tensors[i] == *tensor) {
            continue;
        }
        let whole = SUFFIXES.iter().chain(&[".shape", ""]).find_map(|suffix| {
            let stem = name.strip_suffix(suffix)?;
            let at = *decoded.get(stem)?;
            let is_stored_so = stored.get(stem).is_some_and(|&i| header.tensors[i] == logical.tensors[at]);
            (!is_stored_so).then(|| stem.to_owned())
        });
        if let Some(whole) = whole {
            parts.insert(name.clone(), whole);
        }
    }
    parts
}

fn tensors(
    checkpoint: &Checkpoint,
    logical: &Header,
    parts: &HashMap<String, String>,
    model: &Model,
) -> Vec<TensorSummary> {
    let by_name = logical.by_name();
    let kind = |tensor: &TensorInfo| model.layer(tensor).kind.label();
    let summary = |(tensor, &shard): (&TensorInfo, &usize)| {
        let part_of = parts.get(&tensor.name);
        let whole = part_of.and_then(|name| by_name.get(name.as_str())).map(|&i| &logical.tensors[i]);
        TensorSummary {
            name: tensor.name.clone(),
            dtype: dtype_name(tensor.dtype),
            shape: tensor.shape.clone(),
            bytes: tensor.bytes(),
            kind: kind(whole.unwrap_or(tensor)),
            part_of: part_of.cloned(),
            shard,
        }
    };
    checkpoint.header.tensors.iter().zip(&checkpoint.shard_of).map(summary).collect()
}

fn companions(companions: &Companions) -> Vec<CompanionSummary> {
    match companions {
        Companions::Folder { dir, files } => files
            .iter()
            .map(|file| CompanionSummary {
                name: file.to_string_lossy().into_owned(),
                bytes: dir.join(file).metadata().ok().map(|m| m.len()),
            })
            .collect(),
        Companions::Embedded(files) => files
            .iter()
            .map(|(name, content)| {
                let bytes = match content {
                    Content::Text(text) => text.len(),
                    Content::Base64(text) => text.trim_end_matches('=').len() * 3 / 4,
                };
                CompanionSummary { name: name.clone(), bytes: Some(bytes as u64) }
            })
            .collect(),
    }
}

fn shards(checkpoint: &Checkpoint) -> Vec<ShardSummary> {
    let mut shards: Vec<_> =
        checkpoint.shards.iter().map(|name| ShardSummary { name: name.clone(), tensors: 0, bytes: 0 }).collect();
    for (tensor, &shard) in checkpoint.header.tensors.iter().zip(&checkpoint.shard_of) {
        if let Some(shard) = shards.get_mut(shard) {
            shard.tensors += 1;
            shard.bytes += tensor.bytes();
        }
    }
    shards
}

fn quantization(
    header: &Header,
    config: Option<&serde_json::Map<String, Value>>,
    parts: &HashMap<String, String>,
    warnings: &mut Vec<String>,
) -> Option<QuantizationSummary> {
    let mut found = QuantizationSummary::default();
    match read_layout(header) {
        Ok(layout) => layout.into_values().for_each(|stored| *found.layout.entry(stored.format).or_default() += 1),
        Err(e) => warnings.push(e.message().to_owned()),
    }
    let mut whole: Vec<&String> = parts.values().collect();
    whole.sort();
    whole.dedup();
    found.compressed_tensors = whole.len();
    let quantization = config.and_then(|c| c.get("quantization_config")).and_then(Value::as_object);
    if let Some(quantization) = quantization {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let texts = |value: Option<&Value>| -> Vec<String> {
            value.and_then(Value::as_array).into_iter().flatten().filter_map(|v| text(Some(v))).collect()
        };
        found.method = text(quantization.get("quant_method"));
        found.ignore = texts(quantization.get("ignore"));
        let format = text(quantization.get("format")).unwrap_or_default();
        let groups = quantization.get("config_groups").and_then(Value::as_object);
        for (name, group) in groups.into_iter().flatten() {
            found.groups.push(QuantizationGroup {
                name: name.clone(),
                format: text(group.get("format")).unwrap_or_else(|| format.clone()),
                weights: group.get("weights").and_then(numbers).unwrap_or_else(|| "as they are".to_owned()),
                activations: group.get("input_activations").and_then(numbers),
                targets: texts(group.get("targets")),
            });
        }
    }
    let is_there = quantization.is_some() || !found.layout.is_empty() || found.compressed_tensors > 0;
    is_there.then_some(found)
}

/// An args object of the config in words.
fn numbers(args: &Value) -> Option<String> {
    let args = args.as_object()?;
    let text = |key: &str| args.get(key).and_then(Value::as_str);
    let bits = args.get("num_bits").and_then(Value::as_u64).map_or(String::new(), |b| b.to_string());
    let mut words = format!("{}{bits}", text("type").unwrap_or("int"));
    if args.get("symmetric").and_then(Value::as_bool) == Some(false) {
        words.push_str(" asymmetric");
    }
    if let Some(strategy) = text("strategy") {
        words.push_str(&format!(", {strategy}"));
    }
    if let Some(size) = args.get("group_size").and_then(Value::as_u64) {
        words.push_str(&format!(" {size}"));
    }
    if let Some(block) = args.get("block_structure").and_then(Value::as_array) {
        let extents: Vec<String> = block.iter().map(Value::to_string).collect();
        words.push_str(&format!(" {}", extents.join("x")));
    }
    if args.get("dynamic").is_some_and(|d| d.as_bool() == Some(true) || d.is_string()) {
        words.push_str(", dynamic");
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_taken_together() {
        assert_eq!(module_of("encoder.layer.11.attention.self.query.weight"), "encoder.layer.*.attention");
        assert_eq!(module_of("model.layers.0.self_attn.q_proj.weight_packed"), "model.layers.*.self_attn");
        assert_eq!(module_of("embeddings.word_embeddings.weight"), "embeddings.word_embeddings");
        assert_eq!(module_of("lm_head.weight"), "lm_head");
        assert_eq!(module_of("weight"), "");
        assert_eq!(module_of("0.weight"), "*");
        assert_eq!(module_of("model.layers.0.mlp.experts.3.up.weight"), "model.layers.*.mlp");
    }
}
