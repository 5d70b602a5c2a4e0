//! Every layer against PyTorch: outputs, gradients of all parameters and of the input, running statistics, at every
//! instruction set and at one and three threads. `fixtures/layers/generate.py` made the files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dlopt_checkpoint::{Checkpoint, Tensors};
use dlopt_kernels::nn::Team;
use dlopt_kernels::{Level, limit_level};

use super::{Mode, Network};
use crate::description::Description;
use crate::layout::FlatLayout;
use crate::plan::{Node, Shape};
use crate::resolve::resolve_open;

/// Largest difference over the largest magnitude: the file is exact to one rounding, the network sums in 32 bits.
const TOLERANCE: f32 = 2e-5;

struct Case {
    nodes: Vec<Node>,
    layout: FlatLayout,
    is_training: bool,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    lengths: Option<Vec<u32>>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/layers")
}

fn read(path: &Path) -> Option<Case> {
    let checkpoint = Checkpoint::open(path).unwrap();
    let case: serde_json::Value = serde_json::from_str(checkpoint.header.metadata.get("case")?).unwrap();
    let mut tensors = BTreeMap::new();
    let mut lengths = None;
    for (index, info) in checkpoint.header.tensors.iter().enumerate() {
        let mut bytes = vec![0; info.bytes() as usize];
        checkpoint.read(index, 0, &mut bytes).unwrap();
        if info.name == "lengths" {
            lengths = Some(bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as u32).collect());
            continue;
        }
        let values = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        tensors.insert(info.name.clone(), (info.shape.clone(), values));
    }
    let description =
        Description::from_value(serde_json::json!({ "layers": case["layers"] })).unwrap().named().unwrap();
    let input: Shape = serde_json::from_value(case["input"].clone()).unwrap();
    let outputs = *tensors["output"].0.last().unwrap();
    let nodes = resolve_open(&description, &input, outputs).unwrap();
    let layout = FlatLayout::of(&nodes);
    Some(Case { nodes, layout, is_training: case["mode"] == "training", tensors, lengths })
}

/// `[n, c, h, w]` to `[n, h, w, c]`, or back.
fn turned(values: &[f32], shape: &Shape, to_channels_last: bool) -> Vec<f32> {
    let Shape::Image { height, width, channels } = *shape else { return values.to_vec() };
    let mut out = vec![0.0; values.len()];
    for (image, out) in values.chunks_exact(shape.len()).zip(out.chunks_exact_mut(shape.len())) {
        for c in 0..channels {
            for p in 0..height * width {
                let (first, last) = (c * height * width + p, p * channels + c);
                if to_channels_last { out[last] = image[first] } else { out[first] = image[last] }
            }
        }
    }
    out
}

fn close(found: &[f32], wanted: &[f32], what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let scale = wanted.iter().fold(1e-3_f32, |m, v| m.max(v.abs()));
    for (index, (f, w)) in found.iter().zip(wanted).enumerate() {
        assert!((f - w).abs() <= TOLERANCE * scale, "{what}: value {index} is {f}, wanted {w} (largest {scale})");
    }
}

/// All that a network gives, as named vectors in the checkpoint's layouts.
fn run(case: &Case, threads: usize) -> BTreeMap<String, Vec<f32>> {
    let get = |name: &str| case.tensors[&format!("parameter.{name}")].1.clone();
    let weights = case.layout.params_from_checkpoint(|t| Ok(get(&t.name))).unwrap();
    let mut buffers = case.layout.buffers_from_checkpoint(|t| Ok(get(&t.name))).unwrap();
    // Evaluation with gradients is what a frozen layer does.
    let is_frozen = vec![!case.is_training; case.layout.nodes.len()];
    let mut network = Network::new(&case.nodes, &case.layout, &is_frozen, Arc::new(Team::new(threads)));
    network.load(&weights, true);
    let input = turned(&case.tensors["input"].1, network.input(), true);
    let lengths = case.lengths.as_deref();
    let outputs = network.forward(&weights, &mut buffers, &input, lengths, Mode::Training { key: 1 });
    let upstream = turned(&case.tensors["upstream"].1, network.output(), true);
    let mut gradients = vec![0.0; weights.len()];
    let dx = network.backward(&weights, upstream, &mut gradients, true).unwrap();
    let mut found = BTreeMap::new();
    found.insert("output".to_owned(), turned(&outputs, network.output(), false));
    found.insert("gradient.input".to_owned(), turned(&dx, network.input(), false));
    for tensor in case.layout.params_to_checkpoint(&gradients) {
        found.insert(format!("gradient.{}", tensor.name), tensor.values);
    }
    for tensor in case.layout.buffers_to_checkpoint(&buffers) {
        found.insert(format!("after.{}", tensor.name), tensor.values);
    }
    if !case.is_training {
        network.load(&weights, false);
        let outputs = network.forward(&weights, &mut buffers, &input, lengths, Mode::Inference);
        assert_eq!(turned(&outputs, network.output(), false), found["output"], "a frozen layer infers");
    }
    found
}

#[test]
fn every_layer_agrees_with_pytorch_on_every_instruction_set() {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder()).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    let mut cases = 0;
    for path in paths.iter().filter(|p| p.extension().is_some_and(|e| e == "safetensors")) {
        let Some(case) = read(path) else { continue };
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        cases += 1;
        limit_level(Some(Level::Portable));
        let portable = run(&case, 1);
        for level in [Level::Avx2, Level::Avx512] {
            limit_level(Some(level));
            for threads in [1, 3] {
                let bits = |found: &BTreeMap<String, Vec<f32>>| -> Vec<(String, Vec<u32>)> {
                    found.iter().map(|(n, v)| (n.clone(), v.iter().map(|x| x.to_bits()).collect())).collect()
                };
                assert_eq!(bits(&run(&case, threads)), bits(&portable), "{name}: {level:?}, {threads} threads");
            }
        }
        limit_level(None);
        for (key, (_, wanted)) in &case.tensors {
            let is_result = key == "output" || key.starts_with("gradient.") || key.starts_with("after.");
            if !is_result || (key.starts_with("gradient.") && key != "gradient.input" && !case.is_training) {
                continue;
            }
            let Some(found) = portable.get(key) else { panic!("{name}: nothing for {key}") };
            if key.starts_with("gradient.") && (key.contains("bias_hh") || key.contains("bias_ih")) {
                close_biases(&case, &portable, key, &name);
            } else {
                close(found, wanted, &format!("{name}: {key}"));
            }
        }
    }
    assert!(cases > 60, "{cases} golden cases");
}

/// Gradients of recurrent biases: memory holds one where both are only added up, so either of the file's is it.
fn close_biases(case: &Case, found: &BTreeMap<String, Vec<f32>>, key: &str, name: &str) {
    let wanted = &case.tensors[key].1;
    let other = key.replace("bias_hh", "bias_ih");
    let hidden = wanted.len() / 3;
    let is_gru = key.contains("gru");
    if key.contains("bias_ih") {
        close(&found[key], wanted, &format!("{name}: {key}"));
    } else if is_gru {
        // The new gate's hidden bias is apart; of the others the first carries the sum.
        close(&found[key][2 * hidden..], &wanted[2 * hidden..], &format!("{name}: {key}, new gate"));
        close(&found[&other][..2 * hidden], &wanted[..2 * hidden], &format!("{name}: {other}, reset and update"));
    } else {
        close(&found[&other], wanted, &format!("{name}: {other}"));
    }
}

#[test]
fn windows_over_series_shorten_what_a_recurrent_layer_reads() {
    let text = "layers = [
        { type = \"conv1d\", filters = 3, kernel = 3, activation = \"relu\" },
        { type = \"max_pool1d\", size = 2 },
        { type = \"lstm\", hidden = 5 },
        { type = \"dense\", units = \"classes\" },
    ]";
    let description = Description::from_toml(text).unwrap();
    let nodes = resolve_open(&description, &Shape::Series { time: 14, features: 2 }, 4).unwrap();
    let layout = FlatLayout::of(&nodes);
    let (weights, mut buffers) = crate::init::initial_values(&nodes, &layout, 3).unwrap();
    let mut network = Network::new(&nodes, &layout, &vec![false; layout.nodes.len()], Arc::new(Team::new(2)));
    network.load(&weights, true);
    // The same valid steps in a longer padded series say the same.
    let lengths = [14, 9, 4];
    let mut input: Vec<f32> = (0..3 * 14 * 2).map(|i| (i as f32 * 0.37).sin()).collect();
    let first = network.forward(&weights, &mut buffers, &input, Some(&lengths), Mode::Training { key: 0 });
    let mut gradients = vec![0.0; weights.len()];
    network.backward(&weights, vec![1.0; first.len()], &mut gradients, true).unwrap();
    for (sample, length) in lengths.iter().enumerate() {
        input[(sample * 14 + *length as usize) * 2..(sample + 1) * 14 * 2].fill(9.0);
    }
    let again = network.forward(&weights, &mut buffers, &input, Some(&lengths), Mode::Inference);
    assert_eq!(first, again);
}
