//! Weights from checkpoints, and checkpoints from weights.
//!
//! Any checkpoint that dlopt writes can be read: pruned and quantized tensors are decoded on the way, 16-bit and 64-bit
//! floats become f32. A folder, a PyTorch or a NumPy file is as good as a safetensors file.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Cursor;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use dlopt_checkpoint::{
    Carry, Checkpoint, Dtype, Error, Header, Job, LAYOUT_KEY, NoProgress, Pass, Resources, Result, Target, TensorInfo,
    Tensors, View, dtype_name, write_file,
};
use dlopt_prune::Densify;
use dlopt_quantize::Dequantize;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

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

/// Reads a checkpoint that says which network it is.
///
/// # Errors
/// When it has no config of this crate, or its weights do not fit it: the tensor and both shapes are named.
pub fn load(checkpoint: &Checkpoint) -> Result<Loaded> {
    let named = |e| within(e, &checkpoint.name);
    let config = ModelConfig::of(&checkpoint.header).map_err(named)?;
    let nodes = config.resolve().map_err(named)?;
    let layout = FlatLayout::of(&nodes);
    let (params, buffers) = load_weights(checkpoint, &layout)?;
    Ok(Loaded { config, nodes, layout, params, buffers })
}

/// Reads trained values and running statistics for a known network, from a checkpoint with or without a config.
///
/// # Errors
/// When a tensor is missing, has another shape, or belongs to no layer; they are named.
pub fn load_weights(checkpoint: &Checkpoint, layout: &FlatLayout) -> Result<(Vec<f32>, Vec<f32>)> {
    decoded(checkpoint, |source| {
        let found = Found::new(source, layout);
        found.refuse_strangers(layout)?;
        layout.from_checkpoint(|tensor| found.read(tensor))
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
    let target = match target {
        Target::File(path) => return write_file(&path, header, tensors, force),
        other => other,
    };
    let tmp_dir = match &target {
        Target::Folder(path) => path.parent().filter(|p| *p != Path::new("")).unwrap_or(Path::new(".")).to_owned(),
        _ => std::env::temp_dir(),
    };
    let mut file = header.to_bytes()?;
    tensors.iter().for_each(|bytes| file.extend_from_slice(bytes));
    let checkpoint = Checkpoint::from_stream(Box::new(Cursor::new(file)), "the trained network".to_owned())?;
    let job = Job {
        checkpoint: &checkpoint,
        passes: vec![&Carry],
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
    job.run(target).map(|_| ())
}

/// The tensors of a checkpoint, matched with those of a network.
struct Found<'a> {
    source: &'a dyn Tensors,
    by_name: HashMap<String, usize>,
}

impl<'a> Found<'a> {
    /// A prefix that all names share (`module.`, `model.`) is taken off if the names then are the network's.
    fn new(source: &'a dyn Tensors, layout: &FlatLayout) -> Self {
        let names: Vec<&str> = source.header().tensors.iter().map(|t| t.name.as_str()).collect();
        let own: HashSet<&str> = layout.tensors().iter().map(|t| t.name.as_str()).collect();
        let prefix = names.first().and_then(|name| name.split_once('.')).map(|(first, _)| format!("{first}."));
        let without = |prefix: &str| names.iter().map(|name| name.strip_prefix(prefix)).collect::<Option<Vec<&str>>>();
        let stripped = prefix
            .filter(|_| !names.iter().any(|name| own.contains(name)))
            .and_then(|prefix| without(&prefix))
            .filter(|names| names.iter().any(|name| own.contains(name)));
        let by_name = stripped.unwrap_or(names).iter().enumerate().map(|(i, name)| ((*name).to_owned(), i)).collect();
        Self { source, by_name }
    }

    fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|&index| &self.source.header().tensors[index])
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

    fn refuse_strangers(&self, layout: &FlatLayout) -> Result<()> {
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

    fn read(&self, tensor: &FlatTensor) -> Result<Vec<f32>> {
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
        let mut bytes = vec![0; info.bytes() as usize];
        self.source.read(index, 0, &mut bytes)?;
        Ok(floats(info.dtype, &bytes))
    }
}

fn is_readable(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// Values of a readable dtype, little-endian, as f32.
fn floats(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    let words = |bytes: &[u8]| -> Vec<u16> { bytes.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b)).collect() };
    match dtype {
        Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
        Dtype::F16 => {
            let halves: Vec<f16> = words(bytes).into_iter().map(f16::from_bits).collect();
            halves.to_f32_vec()
        }
        Dtype::BF16 => words(bytes).into_iter().map(|bits| bf16::from_bits(bits).to_f32()).collect(),
        _ => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
    }
}

fn list(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(SHOWN_NAMES).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(SHOWN_NAMES);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{tail}", shown.join(", "))
}

/// Calls `work` with the checkpoint as dense tensors under their own names.
fn decoded<R>(checkpoint: &Checkpoint, work: impl FnOnce(&dyn Tensors) -> Result<R>) -> Result<R> {
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
fn within(error: Error, name: &str) -> Error {
    if error.message().contains(name) { error } else { error.within(name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::initial_values;
    use crate::plan::Shape;
    use crate::presets::Preset;
    use dlopt_prune::{Prune, PruneOptions};
    use dlopt_quantize::{Overrides, Quantize, Scheme};
    use tempfile::TempDir;

    fn network(preset: &str, input: Shape, outputs: usize) -> Loaded {
        let classes = (0..outputs).map(|class| format!("class {class}")).collect();
        let config = ModelConfig::new(&Preset::named(preset).unwrap().description(), input, outputs, classes).unwrap();
        let nodes = config.resolve().unwrap();
        let layout = FlatLayout::of(&nodes);
        let (params, buffers) = initial_values(&nodes, &layout, 11).unwrap();
        Loaded { config, nodes, layout, params, buffers }
    }

    fn small_cnn() -> Loaded {
        network("cnn", Shape::Image { height: 14, width: 13, channels: 1 }, 3)
    }

    fn written(network: &Loaded, target: Target) {
        let metadata = BTreeMap::from([("dlopt.note".to_owned(), "kept".to_owned())]);
        let (header, tensors) =
            to_tensors(&network.config, &network.layout, &network.params, &network.buffers, &metadata);
        save(target, &header, &tensors, false).unwrap();
    }

    /// What a pass makes of a network that lies at `path`.
    fn through(pass: &dyn Pass, path: &Path) -> Loaded {
        let checkpoint = Checkpoint::open(path).unwrap();
        let out = path.with_extension("out.safetensors");
        let job = Job {
            checkpoint: &checkpoint,
            passes: vec![pass],
            is_folder: false,
            max_shard_bytes: None,
            keep_files: true,
            force: true,
            resume: false,
            resources: Resources {
                threads: 1,
                memory_bytes: 64 << 20,
                tmp_dir: std::env::temp_dir(),
                progress: &NoProgress,
                stop: &AtomicBool::new(false),
            },
        };
        job.run(Target::File(out.clone())).unwrap();
        let changed = Checkpoint::open(&out).unwrap();
        assert_ne!(changed.header.tensors, checkpoint.header.tensors, "the pass stores something differently");
        load(&changed).unwrap()
    }

    #[test]
    fn a_network_comes_back_from_a_file_a_folder_and_a_stream() {
        for preset in ["cnn", "gru", "resnet20"] {
            let network = network(preset, Shape::Image { height: 14, width: 13, channels: 2 }, 4);
            let dir = TempDir::new().unwrap();
            let (file, folder) = (dir.path().join("a.safetensors"), dir.path().join("b"));
            written(&network, Target::File(file.clone()));
            written(&network, Target::Folder(folder.clone()));
            assert!(folder.join("config.json").is_file());
            let stream = Box::new(Cursor::new(std::fs::read(&file).unwrap()));
            for checkpoint in [
                Checkpoint::open(&file).unwrap(),
                Checkpoint::open(&folder).unwrap(),
                Checkpoint::from_stream(stream, "stdin".into()).unwrap(),
            ] {
                let back = load(&checkpoint).unwrap();
                assert_eq!(back.config, network.config);
                assert_eq!(back.nodes, network.nodes);
                assert_eq!((back.params, back.buffers), (network.params.clone(), network.buffers.clone()));
            }
            assert!(Checkpoint::open(&file).unwrap().header.metadata.contains_key("dlopt.note"));
        }
    }

    #[test]
    fn equal_networks_give_equal_bytes() {
        let dir = TempDir::new().unwrap();
        let (a, b) = (dir.path().join("a.safetensors"), dir.path().join("b.safetensors"));
        written(&small_cnn(), Target::File(a.clone()));
        written(&small_cnn(), Target::File(b.clone()));
        assert_eq!(std::fs::read(a).unwrap(), std::fs::read(b).unwrap());
    }

    #[test]
    fn pruned_and_quantized_networks_are_read() {
        let dir = TempDir::new().unwrap();
        let cases: [(&str, Loaded); 2] =
            [("cnn", small_cnn()), ("lstm", network("lstm", Shape::Series { time: 5, features: 6 }, 3))];
        for (name, network) in cases {
            let path = dir.path().join(format!("{name}.safetensors"));
            written(&network, Target::File(path.clone()));
            let options = PruneOptions { sparsity: Some(0.5), store: "bitmask".into(), ..PruneOptions::default() };
            let pruned = through(&Prune::new(options).unwrap(), &path);
            let zeros = pruned.params.iter().filter(|v| **v == 0.0).count();
            assert!(2 * zeros > network.params.len() * 9 / 10, "{name}: {zeros} zeros of {}", network.params.len());
            assert!(pruned.params.iter().zip(&network.params).all(|(a, b)| *a == 0.0 || a == b));
            for scheme in ["w8a16", "w8a8"] {
                let mut quantize = Quantize::new(Scheme::new(scheme, Overrides::default()).unwrap());
                quantize.fallback = dlopt_quantize::Fallback::Channel;
                let quantized = through(&quantize, &path);
                let far = quantized.params.iter().zip(&network.params).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
                assert!(far > 0.0 && far < 0.01, "{name} as {scheme}: {far}");
            }
        }
    }

    /// A checkpoint of tensors of one dtype, each element the bytes given.
    fn bare(dir: &TempDir, tensors: &[(&str, Dtype, &[usize])], element: &[u8]) -> Checkpoint {
        let mut header = Header::default();
        let mut bytes = Vec::new();
        for (name, dtype, shape) in tensors {
            let info = TensorInfo::new(*name, *dtype, *shape);
            bytes.push(element.iter().copied().cycle().take(info.bytes() as usize).collect::<Vec<u8>>());
            header.tensors.push(info);
        }
        let path = dir.path().join("bare.safetensors");
        write_file(&path, &header, &bytes, true).unwrap();
        Checkpoint::open(&path).unwrap()
    }

    #[test]
    fn bare_weights_of_any_float_are_read_for_a_known_network() {
        let dir = TempDir::new().unwrap();
        let network = network("mlp", Shape::Vector { features: 3 }, 2);
        let shapes: Vec<(String, Vec<usize>)> =
            network.layout.tensors().iter().map(|t| (t.name.clone(), t.shape.clone())).collect();
        let quarter = 1.25_f32;
        let dtypes: [(Dtype, Vec<u8>); 4] = [
            (Dtype::F64, 1.25_f64.to_le_bytes().into()),
            (Dtype::F32, quarter.to_le_bytes().into()),
            (Dtype::F16, f16::from_f32(quarter).to_le_bytes().into()),
            (Dtype::BF16, bf16::from_f32(quarter).to_le_bytes().into()),
        ];
        for (dtype, element) in dtypes {
            for prefix in ["", "module."] {
                let names: Vec<String> = shapes.iter().map(|(name, _)| format!("{prefix}{name}")).collect();
                let mut tensors: Vec<(&str, Dtype, &[usize])> = names
                    .iter()
                    .zip(&shapes)
                    .map(|(name, (_, shape))| (name.as_str(), dtype, shape.as_slice()))
                    .collect();
                let counter = format!("{prefix}bn1.num_batches_tracked");
                tensors.push((&counter, Dtype::F32, &[]));
                let (params, _) = load_weights(&bare(&dir, &tensors, &element), &network.layout).unwrap();
                assert!(params.iter().all(|value| *value == quarter), "{dtype:?} {prefix}");
            }
        }
    }

    #[test]
    fn weights_that_do_not_fit_are_named() {
        let dir = TempDir::new().unwrap();
        let network = network("mlp", Shape::Vector { features: 3 }, 2);
        let fit: Vec<(&str, Dtype, &[usize])> =
            network.layout.tensors().iter().map(|t| (t.name.as_str(), Dtype::F32, t.shape.as_slice())).collect();
        let refused = |tensors: &[(&str, Dtype, &[usize])]| {
            load_weights(&bare(&dir, tensors, &[0]), &network.layout).unwrap_err().message().to_owned()
        };
        assert!(load_weights(&bare(&dir, &fit, &[0]), &network.layout).is_ok());
        let mut other = fit.clone();
        other[0].2 = &[128, 4];
        let message = refused(&other);
        assert!(message.contains("bare.safetensors"), "{message}");
        assert!(message.ends_with("tensor `fc1.weight` has shape [128, 4], the network wants [128, 3]"), "{message}");
        assert!(refused(&fit[1..]).ends_with("the checkpoint lacks `fc1.weight`"));
        let mut more = fit.clone();
        more.push(("fc9.weight", Dtype::F32, &[1]));
        assert!(refused(&more).ends_with("has `fc9.weight` that the network does not"));
        assert!(refused(&[("a.b", Dtype::F32, &[1])]).contains("no tensor of the checkpoint fits"));
        let mut integers = fit.clone();
        integers[1].1 = Dtype::I32;
        assert!(refused(&integers).contains("holds I32, and the network wants floats"));
        let error = load(&bare(&dir, &fit, &[0])).unwrap_err();
        assert!(error.message().contains("bare.safetensors: the checkpoint has no config"), "{error}");
    }

    #[test]
    fn what_fits_is_adopted_and_the_rest_starts_anew() {
        let dir = TempDir::new().unwrap();
        let old = network("lstm", Shape::Series { time: 5, features: 6 }, 3);
        let path = dir.path().join("old.safetensors");
        written(&old, Target::File(path.clone()));
        let checkpoint = Checkpoint::open(&path).unwrap();
        let new = network("lstm", Shape::Series { time: 9, features: 6 }, 7);
        let (mut params, mut buffers) = (vec![0.5; new.layout.params_len], Vec::new());
        let adopted = adopt_weights(&checkpoint, &new.layout, &mut params, &mut buffers).unwrap();
        assert_eq!(adopted.fresh, ["fc.weight", "fc.bias"]);
        assert_eq!(adopted.unused, [] as [&str; 0]);
        let head = new.layout.nodes[1].trained[0].start;
        assert_eq!(params[..head], old.params[..head]);
        assert!(params[head..].iter().all(|value| *value == 0.5));
        let other = network("mlp", Shape::Vector { features: 3 }, 2);
        let mut params = vec![0.0; other.layout.params_len];
        let error = adopt_weights(&checkpoint, &other.layout, &mut params, &mut buffers).unwrap_err();
        assert!(error.message().contains("no tensor of the checkpoint fits"), "{error}");
    }

    #[test]
    fn an_existing_file_is_kept() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("a.safetensors");
        std::fs::write(&path, "mine").unwrap();
        let network = small_cnn();
        let (header, tensors) =
            to_tensors(&network.config, &network.layout, &network.params, &network.buffers, &BTreeMap::new());
        assert!(save(Target::File(path.clone()), &header, &tensors, false).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
        save(Target::File(path.clone()), &header, &tensors, true).unwrap();
        assert_eq!(load(&Checkpoint::open(&path).unwrap()).unwrap().params, network.params);
    }
}
