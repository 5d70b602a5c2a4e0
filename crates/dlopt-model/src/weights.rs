//! Weights from checkpoints, and checkpoints from weights.
//!
//! Any checkpoint that dlopt writes can be read: pruned and quantized tensors are decoded on the way, 16-bit and 64-bit
//! floats become f32. A folder, a PyTorch or a NumPy file is as good as a safetensors file.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Cursor;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use dlopt_checkpoint::{
    Carry, Checkpoint, Dtype, Error, Header, Job, LAYOUT_KEY, NoProgress, Pass, PassReport, Resources, Result, Target,
    TensorInfo, Tensors, View, dtype_name, write_file,
};
use dlopt_kernels::Float;
use dlopt_prune::Densify;
use dlopt_quantize::Dequantize;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::architectures::Architecture;
use crate::config::ModelConfig;
use crate::layout::{FlatLayout, FlatTensor};
use crate::plan::Node;

/// Names in one message.
const SHOWN_NAMES: usize = 4;

/// A network with its weights.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the checkpoint says of it.
    pub config: ModelConfig,
    /// Its plan.
    pub nodes: Vec<Node>,
    /// Where its parameters lie.
    pub layout: FlatLayout,
    /// Loaded values.
    pub params: Vec<f32>,
    /// Running statistics.
    pub buffers: Vec<f32>,
}

/// What was found for a network in a checkpoint of another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Tensors of the network that the checkpoint has in another shape, and lacks: they start anew.
    pub fresh: Vec<String>,
    /// Tensors of the checkpoint that the network has no place for.
    pub unused: Vec<String>,
}

/// Reads a checkpoint that says which network it is, or holds the tensors of one of [`ARCHITECTURES`](crate::ARCHITECTURES).
///
/// # Errors
/// When it is neither, or its weights do not fit it: the tensor and both shapes are named.
pub fn load(checkpoint: &Checkpoint) -> Result<Loaded> {
    let named = |e| within(e, &checkpoint.name);
    let config = config_of(checkpoint)?;
    let nodes = config.resolve().map_err(named)?;
    let layout = FlatLayout::of(&nodes);
    let (params, buffers) = load_weights(checkpoint, &layout)?;
    Ok(Loaded { config, nodes, layout, params, buffers })
}

/// Which network a checkpoint's weights belong to: what its config says, or what its tensors are called.
///
/// # Errors
/// When it has no config of this crate, and the tensors are none of [`ARCHITECTURES`](crate::ARCHITECTURES).
pub fn config_of(checkpoint: &Checkpoint) -> Result<ModelConfig> {
    let named = |e| within(e, &checkpoint.name);
    let own = checkpoint.header.config().map_err(named)?;
    if own.is_none_or(|config| !config.contains_key("model_type"))
        && let Some((_, config)) = decoded(checkpoint, |source| Ok(Architecture::of(source.header())))?
    {
        return Ok(config);
    }
    ModelConfig::of(&checkpoint.header).map_err(named)
}

/// Reads trained values and running statistics for a known network, from a checkpoint with or without a config.
///
/// # Errors
/// When a tensor is missing, has another shape, or belongs to no layer; they are named.
pub fn load_weights(checkpoint: &Checkpoint, layout: &FlatLayout) -> Result<(Vec<f32>, Vec<f32>)> {
    decoded(checkpoint, |source| {
        let found = Found::new(source, layout);
        found.refuse_strangers(layout)?;
        // Before there is memory for what a config claims.
        layout.tensors().iter().try_for_each(|tensor| found.place(tensor).map(|_| ()))?;
        layout.from_checkpoint(|tensor| found.read(tensor))
    })
}

/// What a checkpoint calls each tensor of a network, in the layout's order; nothing for one that it lacks.
///
/// # Errors
/// When the checkpoint cannot be decoded.
pub fn stored_names(checkpoint: &Checkpoint, layout: &FlatLayout) -> Result<Vec<Option<String>>> {
    decoded(checkpoint, |source| {
        let found = Found::new(source, layout);
        Ok(layout.tensors().iter().map(|tensor| found.stored_name(&tensor.name).map(str::to_owned)).collect())
    })
}

/// Takes from a checkpoint what fits a network by name and shape; the rest of `params` and `buffers` stays as it is.
/// For training on with another number of classes.
///
/// # Errors
/// When nothing fits, or the checkpoint cannot be read.
pub fn adopt_weights(
    checkpoint: &Checkpoint,
    layout: &FlatLayout,
    params: &mut Vec<f32>,
    buffers: &mut Vec<f32>,
) -> Result<Adopted> {
    decoded(checkpoint, |source| {
        let found = Found::new(source, layout);
        let own: HashMap<String, Vec<f32>> =
            layout.to_checkpoint(params, buffers).into_iter().map(|t| (t.name, t.values)).collect();
        let fits = |tensor: &FlatTensor| {
            // A recurrent layer's tensors are kept as one, so they are taken together.
            let shared = |t: &&FlatTensor| t.node == tensor.node && t.is_trained == tensor.is_trained;
            layout.tensors().iter().filter(shared).all(|t| found.has(t))
        };
        let fresh: Vec<String> = layout.tensors().iter().filter(|t| !fits(t)).map(|t| t.name.clone()).collect();
        if fresh.len() == layout.tensors().len() {
            return Err(found.nothing_fits(layout));
        }
        let (new_params, new_buffers) = layout.from_checkpoint(|tensor| match fits(tensor) {
            true => found.read(tensor),
            false => Ok(own.get(&tensor.name).cloned().unwrap_or_default()),
        })?;
        (*params, *buffers) = (new_params, new_buffers);
        Ok(Adopted { fresh, unused: found.strangers(layout).into_iter().map(str::to_owned).collect() })
    })
}

/// A header and the bytes of its tensors: the network as a checkpoint in memory. `metadata` goes beside the config
/// (the history, the small files).
pub fn to_tensors(
    config: &ModelConfig,
    layout: &FlatLayout,
    params: &[f32],
    buffers: &[f32],
    metadata: &BTreeMap<String, String>,
) -> (Header, Vec<Vec<u8>>) {
    let mut header = Header { tensors: Vec::new(), metadata: metadata.clone() };
    header.metadata.insert("format".to_owned(), "pt".to_owned());
    header.metadata.insert("config".to_owned(), config.to_json());
    let mut bytes = Vec::new();
    for tensor in layout.to_checkpoint(params, buffers) {
        header.tensors.push(TensorInfo::new(tensor.name, Dtype::F32, tensor.shape));
        bytes.push(tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect());
    }
    (header, bytes)
}

/// Writes a checkpoint in memory to a file or folder, which appears whole or not at all, or to a stream.
///
/// # Errors
/// When the target exists and `force` is not set, or the disk is full or fails.
pub fn save(target: Target, header: &Header, tensors: &[Vec<u8>], force: bool) -> Result<()> {
    save_through(target, header, tensors, &[], force).map(|_| ())
}

/// Writes a checkpoint in memory, as passes make it, to a file or folder, which appears whole or not at all, or to a
/// stream. Says what the passes did.
///
/// # Errors
/// When a pass does not apply, the target exists and `force` is not set, or the disk is full or fails.
pub fn save_through(
    target: Target,
    header: &Header,
    tensors: &[Vec<u8>],
    passes: &[&dyn Pass],
    force: bool,
) -> Result<Vec<PassReport>> {
    let target = match target {
        Target::File(path) if passes.is_empty() => {
            return write_file(&path, header, tensors, force).map(|()| Vec::new());
        }
        other => other,
    };
    let tmp_dir = match &target {
        Target::File(path) | Target::Folder(path) => {
            path.parent().filter(|p| *p != Path::new("")).unwrap_or(Path::new(".")).to_owned()
        }
        Target::Stream(_) => std::env::temp_dir(),
    };
    let mut file = header.to_bytes()?;
    tensors.iter().for_each(|bytes| file.extend_from_slice(bytes));
    let checkpoint = Checkpoint::from_stream(Box::new(Cursor::new(file)), "the trained network".to_owned())?;
    let job = Job {
        checkpoint: &checkpoint,
        passes: if passes.is_empty() { vec![&Carry] } else { passes.to_vec() },
        is_folder: matches!(target, Target::Folder(_)),
        max_shard_bytes: None,
        keep_files: true,
        force,
        resume: false,
        resources: Resources {
            threads: 1,
            memory_bytes: 256 << 20,
            tmp_dir,
            progress: &NoProgress,
            stop: &AtomicBool::new(false),
        },
    };
    let outcome = job.run(target)?;
    Ok(if passes.is_empty() { Vec::new() } else { outcome.passes })
}

/// The tensors of a checkpoint, matched with those of a network.
pub(crate) struct Found<'a> {
    source: &'a dyn Tensors,
    by_name: HashMap<String, usize>,
}

impl<'a> Found<'a> {
    pub(crate) fn new(source: &'a dyn Tensors, layout: &FlatLayout) -> Self {
        Self { source, by_name: names_in_plan(source.header(), layout).into_iter().zip(0..).collect() }
    }

    fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|&index| &self.source.header().tensors[index])
    }

    /// What the checkpoint calls a tensor of the network.
    pub(crate) fn stored_name(&self, name: &str) -> Option<&str> {
        self.info(name).map(|info| info.name.as_str())
    }

    /// The bits of a tensor of 16-bit floats, and their type; nothing if it has another.
    pub(crate) fn halves(&self, name: &str) -> Result<Option<(Float, Vec<u16>)>> {
        let Some(&index) = self.by_name.get(name) else { return Ok(None) };
        let info = &self.source.header().tensors[index];
        let float = match info.dtype {
            Dtype::F16 => Float::F16,
            Dtype::BF16 => Float::BF16,
            _ => return Ok(None),
        };
        let mut bytes = vec![0; info.bytes() as usize];
        self.source.read(index, 0, &mut bytes)?;
        Ok(Some((float, words(&bytes))))
    }

    fn has(&self, tensor: &FlatTensor) -> bool {
        self.info(&tensor.name).is_some_and(|info| info.shape == tensor.shape && is_readable(info.dtype))
    }

    /// Names in the checkpoint that the network does not have; PyTorch's counters of batches are nobody's.
    fn strangers(&self, layout: &FlatLayout) -> Vec<&str> {
        let own: HashSet<&str> = layout.tensors().iter().map(|t| t.name.as_str()).collect();
        let mut names: Vec<&str> = self
            .by_name
            .keys()
            .map(String::as_str)
            .filter(|name| !own.contains(name) && !name.ends_with("num_batches_tracked"))
            .collect();
        names.sort_unstable();
        names
    }

    pub(crate) fn refuse_strangers(&self, layout: &FlatLayout) -> Result<()> {
        let missing: Vec<&str> =
            layout.tensors().iter().map(|t| t.name.as_str()).filter(|name| !self.by_name.contains_key(*name)).collect();
        let strangers = self.strangers(layout);
        if missing.is_empty() && strangers.is_empty() {
            return Ok(());
        }
        if missing.len() == layout.tensors().len() {
            return Err(self.nothing_fits(layout));
        }
        let mut parts = Vec::new();
        if !missing.is_empty() {
            parts.push(format!("lacks {}", list(&missing)));
        }
        if !strangers.is_empty() {
            parts.push(format!("has {} that the network does not", list(&strangers)));
        }
        Err(Error::input(format!("the checkpoint {}", parts.join(" and ")))
            .hint("it belongs to another network: see `dlopt inspect`"))
    }

    fn nothing_fits(&self, layout: &FlatLayout) -> Error {
        let wanted: Vec<&str> = layout.tensors().iter().map(|t| t.name.as_str()).collect();
        let mut found: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
        found.sort_unstable();
        let found = if found.is_empty() { "no tensors".to_owned() } else { list(&found) };
        Error::input(format!("no tensor of the checkpoint fits: the network has {}, it holds {found}", list(&wanted)))
            .hint("it belongs to another network: see `dlopt inspect`")
    }

    /// Where a tensor of the network is in the checkpoint, if its shape and dtype are right.
    pub(crate) fn place(&self, tensor: &FlatTensor) -> Result<usize> {
        let Some(&index) = self.by_name.get(&tensor.name) else {
            return Err(Error::input(format!("the checkpoint lacks `{}`", tensor.name)));
        };
        let info = &self.source.header().tensors[index];
        if info.shape != tensor.shape {
            return Err(Error::input(format!(
                "tensor `{}` has shape {:?}, the network wants {:?}",
                tensor.name, info.shape, tensor.shape
            ))
            .hint("config and weights belong to different networks, or the data have other sizes"));
        }
        if !is_readable(info.dtype) {
            return Err(Error::input(format!(
                "tensor `{}` holds {}, and the network wants floats",
                tensor.name,
                dtype_name(info.dtype)
            )));
        }
        Ok(index)
    }

    pub(crate) fn read(&self, tensor: &FlatTensor) -> Result<Vec<f32>> {
        let index = self.place(tensor)?;
        let info = &self.source.header().tensors[index];
        if info.dtype == Dtype::F32 {
            let mut values = vec![0.0_f32; info.elements()];
            self.source.read(index, 0, bytemuck::cast_slice_mut(&mut values))?;
            // They are stored little-endian.
            values.iter_mut().for_each(|value| *value = f32::from_bits(u32::from_le(value.to_bits())));
            return Ok(values);
        }
        let mut bytes = vec![0; info.bytes() as usize];
        self.source.read(index, 0, &mut bytes)?;
        Ok(floats(info.dtype, &bytes))
    }
}

/// What a plan calls each tensor of a checkpoint. A prefix that all names share (`module.`, `model.`) is taken off if the
/// names then are the network's; a network of others has its names changed to the plan's.
pub(crate) fn names_in_plan(header: &Header, layout: &FlatLayout) -> Vec<String> {
    if let Some((architecture, _)) = Architecture::of(header) {
        return header.tensors.iter().map(|tensor| architecture.name_of(&tensor.name).to_owned()).collect();
    }
    let names: Vec<&str> = header.tensors.iter().map(|t| t.name.as_str()).collect();
    let own: HashSet<&str> = layout.tensors().iter().map(|t| t.name.as_str()).collect();
    let prefix = names.first().and_then(|name| name.split_once('.')).map(|(first, _)| format!("{first}."));
    let without = |prefix: &str| names.iter().map(|name| name.strip_prefix(prefix)).collect::<Option<Vec<&str>>>();
    let stripped = prefix
        .filter(|_| !names.iter().any(|name| own.contains(name)))
        .and_then(|prefix| without(&prefix))
        .filter(|names| names.iter().any(|name| own.contains(name)));
    stripped.unwrap_or(names).into_iter().map(str::to_owned).collect()
}

pub(crate) fn is_readable(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// Little-endian numbers of 16 bits.
fn words(bytes: &[u8]) -> Vec<u16> {
    bytes.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b)).collect()
}

/// Values of a readable dtype other than f32, little-endian.
fn floats(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    match dtype {
        Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
        Dtype::F16 => {
            let halves: Vec<f16> = words(bytes).into_iter().map(f16::from_bits).collect();
            halves.to_f32_vec()
        }
        _ => words(bytes).into_iter().map(|bits| bf16::from_bits(bits).to_f32()).collect(),
    }
}

fn list(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(SHOWN_NAMES).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(SHOWN_NAMES);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{tail}", shown.join(", "))
}

/// Calls `work` with the checkpoint as dense tensors under their own names.
pub(crate) fn decoded<R>(checkpoint: &Checkpoint, work: impl FnOnce(&dyn Tensors) -> Result<R>) -> Result<R> {
    const PARTS: [&str; 6] = ["_packed", "_scale", "_zero_point", "compressed", "bitmask", "qweight"];
    let named = |e| within(e, &checkpoint.name);
    if let Some(stream) = checkpoint.stream() {
        stream.spool_all(&std::env::temp_dir()).and_then(|()| stream.finish()).map_err(named)?;
    }
    let header = &checkpoint.header;
    let is_plain = !header.metadata.contains_key(LAYOUT_KEY)
        && !header.metadata.get("config").is_some_and(|config| config.contains("quantization_config"))
        && !header.tensors.iter().any(|t| PARTS.iter().any(|part| t.name.ends_with(part)));
    let passes: &[&dyn Pass] = if is_plain { &[] } else { &[&Densify, &Dequantize] };
    let view = View::new(checkpoint, passes).map_err(named)?;
    work(&view).map_err(named)
}

/// Puts the file in front, unless the message names it already.
pub(crate) fn within(error: Error, name: &str) -> Error {
    if error.message().contains(name) { error } else { error.within(name) }
}

#[cfg(test)]
mod tests;
