//! Networks through files, folders, streams and passes; weights that fit, and that do not.

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
    let (header, tensors) = to_tensors(&network.config, &network.layout, &network.params, &network.buffers, &metadata);
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
            let mut tensors: Vec<(&str, Dtype, &[usize])> =
                names.iter().zip(&shapes).map(|(name, (_, shape))| (name.as_str(), dtype, shape.as_slice())).collect();
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
