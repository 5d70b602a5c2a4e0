use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use dlopt_checkpoint::{Checkpoint, Error, Header, Target};
use dlopt_prune::{Prune, PruneOptions};
use dlopt_quantize::{Fallback, Quantize, Scheme};

use super::*;
use crate::config::ModelConfig;
use crate::description::Description;
use crate::init::initial_values;
use crate::network::{Mode, Network};
use crate::plan::Shape;
use crate::weights::{load, save_through, to_tensors};

/// A picture's network with batch norms behind convolutions, in a residual block and behind a dense layer.
const PICTURES: &str = "
layers = [
    { type = 'conv2d', filters = 8, kernel = 3, padding = 1, bias = false },
    { type = 'batch_norm' },
    { type = 'activation', function = 'relu' },
    { type = 'max_pool2d', size = 2 },
    { type = 'residual', body = [
        { type = 'conv2d', filters = 12, kernel = 3, padding = 1 },
        { type = 'batch_norm' },
        { type = 'activation', function = 'relu' },
        { type = 'conv2d', filters = 12, kernel = 3, padding = 1, bias = false },
        { type = 'batch_norm' },
    ], shortcut = [{ type = 'conv2d', filters = 12, kernel = 1, bias = false }, { type = 'batch_norm' }] },
    { type = 'activation', function = 'relu' },
    { type = 'flatten' },
    { type = 'dense', units = 48, bias = false },
    { type = 'batch_norm' },
    { type = 'activation', function = 'relu' },
    { type = 'dense', units = 'classes' },
]";

const SERIES: &str = "
layers = [
    { type = 'conv1d', filters = 16, kernel = 3, padding = 1, activation = 'relu' },
    { type = 'lstm', hidden = 24, bidirectional = true, return_sequences = true },
    { type = 'gru', hidden = 16 },
    { type = 'dense', units = 'classes' },
]";

/// A network with random weights and running statistics that do something.
struct Case {
    config: ModelConfig,
    samples: usize,
    inputs: Vec<f32>,
    lengths: Option<Vec<u32>>,
}

impl Case {
    fn new(text: &str, input: Shape, lengths: Option<Vec<u32>>) -> Self {
        let config = ModelConfig::new(&Description::from_toml(text).unwrap(), input, 5, Vec::new()).unwrap();
        let samples = 4;
        let inputs = numbers(samples * config.input.len(), 9);
        Self { config, samples, inputs, lengths }
    }

    fn all() -> [Self; 2] {
        [
            Self::new(PICTURES, Shape::Image { height: 10, width: 8, channels: 3 }, None),
            Self::new(SERIES, Shape::Series { time: 9, features: 8 }, Some(vec![9, 4, 1, 7])),
        ]
    }

    /// Its checkpoint, after the passes.
    fn checkpoint(&self, passes: &[&dyn Pass]) -> (tempfile::TempDir, Checkpoint) {
        let nodes = self.config.resolve().unwrap();
        let layout = FlatLayout::of(&nodes);
        let (mut params, mut buffers) = initial_values(&nodes, &layout, 3).unwrap();
        let noise = numbers(params.len(), 4);
        params.iter_mut().zip(noise).for_each(|(value, noise)| *value += 0.05 * noise);
        let noise = numbers(buffers.len(), 5);
        buffers.iter_mut().zip(noise).for_each(|(value, noise)| *value += 0.3 * noise);
        let (header, tensors) = to_tensors(&self.config, &layout, &params, &buffers, &Default::default());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        save_through(Target::File(path.clone()), &header, &tensors, passes, false).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        (dir, checkpoint)
    }

    /// What the network says on the kernels of f32.
    fn dense(&self, checkpoint: &Checkpoint) -> Vec<f32> {
        let loaded = load(checkpoint).unwrap();
        let mut network = Network::new(&loaded.nodes, &loaded.layout, &[], Arc::new(Team::new(1)));
        network.load(&loaded.params, false);
        let mut buffers = loaded.buffers.clone();
        let lengths = self.lengths.as_deref();
        let out = network.forward(&loaded.params, &mut buffers, &self.inputs, lengths, Mode::Inference);
        let samples: Vec<&[f32]> = out.chunks_exact(out.len() / self.samples).collect();
        assert!(samples.windows(2).all(|pair| pair[0] != pair[1]), "a network that says the same of all: {out:?}");
        out
    }

    /// The same as it is prepared.
    fn prepared(&self, checkpoint: &Checkpoint, execution: Execution, threads: usize) -> (Prepared, Vec<f32>) {
        let team = Arc::new(Team::new(threads));
        let execution = Execution { batch: self.samples, ..execution };
        let prepared = prepare(checkpoint, &execution, &team).unwrap();
        let loaded = &prepared.loaded;
        let mut network = Network::holding(&loaded.nodes, &loaded.layout, &prepared.held, team, &[]);
        network.load(&loaded.params, false);
        let mut buffers = loaded.buffers.clone();
        let lengths = self.lengths.as_deref();
        let out = network.forward(&loaded.params, &mut buffers, &self.inputs, lengths, Mode::Inference);
        (prepared, out)
    }
}

fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn quantize(scheme: &str) -> Quantize {
    Quantize { fallback: Fallback::Channel, ..Quantize::new(Scheme::parse(scheme).unwrap()) }
}

fn prune(sparsity: f64, store: &str) -> Prune {
    Prune::new(PruneOptions { sparsity: Some(sparsity), store: store.to_owned(), ..PruneOptions::default() }).unwrap()
}

#[track_caller]
fn assert_close(found: &[f32], wanted: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), wanted.len());
    let most = wanted.iter().fold(0.0_f32, |most, w| most.max(w.abs()));
    for (at, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        assert!((found - wanted).abs() <= tolerance * most, "{what}: output {at} is {found}, wanted {wanted}");
    }
}

#[test]
fn folded_batch_norms_change_no_logit() {
    let [pictures, _] = Case::all();
    let (_dir, checkpoint) = pictures.checkpoint(&[]);
    let (prepared, out) = pictures.prepared(&checkpoint, Execution::default(), 2);
    assert_eq!(prepared.folded, 5);
    assert!(prepared.loaded.nodes.iter().all(|node| !matches!(node.op, Op::BatchNorm { .. })));
    assert!(prepared.loaded.buffers.is_empty());
    assert_close(&out, &pictures.dense(&checkpoint), 1e-5, "folded");
    let whole = Execution { folds: false, ..Execution::default() };
    let (prepared, out) = pictures.prepared(&checkpoint, whole, 1);
    assert_eq!(prepared.folded, 0);
    assert_eq!(out, pictures.dense(&checkpoint));
}

#[test]
fn whatever_the_passes_write_runs_as_it_is_stored() {
    let schemes =
        ["w4a16:8", "w4a16_asym:8", "w8a16:16", "w2a16:8", "fp8_block", "fp8a16", "bf16", "w3a16_asym:8", "w6a16:8"]
            .map(quantize);
    let half_empty = [prune(0.9, "dense"), prune(0.9, "bitmask")];
    let mut chains: Vec<Vec<&dyn Pass>> = schemes.iter().map(|scheme| vec![scheme as &dyn Pass]).collect();
    chains.extend(half_empty.iter().map(|prune| vec![prune as &dyn Pass]));
    chains.push(vec![&half_empty[0], &schemes[2]]);
    for case in Case::all() {
        for passes in &chains {
            let (_dir, checkpoint) = case.checkpoint(passes);
            let wanted = case.dense(&checkpoint);
            let mut runs = Vec::new();
            for (kernels, threads) in
                [(Kernels::Auto, 1), (Kernels::Auto, 2), (Kernels::Dense, 1), (Kernels::Compressed, 2)]
            {
                let float = Execution { kernels, arithmetic: Arithmetic::Float, ..Execution::default() };
                let (prepared, out) = case.prepared(&checkpoint, float, threads);
                let what = format!("{:?} {kernels:?} {:?}", case.config.input, prepared.choices);
                assert_close(&out, &wanted, 2e-3, &what);
                // A recurrent layer sums in another order where it is asked to take the least memory.
                let is_same = kernels == Kernels::Auto || kernels == Kernels::Compressed && case.lengths.is_none();
                runs.extend(is_same.then_some(out));
            }
            assert!(runs.iter().all(|run| *run == runs[0]), "neither threads nor the choice of a kernel change a byte");
        }
    }
}

#[test]
fn int8_activations_are_near_and_only_where_they_are_asked_for() {
    let scheme = quantize("w8a8");
    for case in Case::all() {
        let (_dir, checkpoint) = case.checkpoint(&[&scheme]);
        let wanted = case.dense(&checkpoint);
        let (prepared, out) = case.prepared(&checkpoint, Execution::default(), 2);
        assert!(prepared.choices.iter().any(|choice| choice.reason.contains("int8")), "{:?}", prepared.choices);
        assert_close(&out, &wanted, 0.05, "int8");
        assert_ne!(out, wanted);
        let float = Execution { arithmetic: Arithmetic::Float, ..Execution::default() };
        assert_close(&case.prepared(&checkpoint, float, 1).1, &wanted, 2e-3, "float");
    }
}

#[test]
fn zeros_of_int8_weights_are_left_out_without_changing_a_byte() {
    let (sparse, scheme) = (prune(0.96, "dense"), quantize("w8a8"));
    for case in Case::all() {
        let (_dir, checkpoint) = case.checkpoint(&[&sparse, &scheme]);
        let small = Execution { kernels: Kernels::Compressed, ..Execution::default() };
        let (prepared, out) = case.prepared(&checkpoint, small, 2);
        let names: Vec<&str> = prepared.choices.iter().map(|choice| &*choice.kernel).collect();
        assert!(names.contains(&"sparse int8 x int8"), "{names:?}");
        assert_eq!(case.prepared(&checkpoint, Execution::default(), 1).1, out);
    }
}

#[test]
fn dense_and_sparse_kernels_of_int8_give_the_same_bytes() {
    let (sparse, scheme) = (prune(0.96, "dense"), quantize("w8a8"));
    for case in Case::all() {
        let (_dir, checkpoint) = case.checkpoint(&[&sparse, &scheme]);
        let stored = StoredWeight::all(checkpoint.header()).unwrap();
        let mut compared = 0;
        for weight in stored.iter().filter(|weight| weight.is_integer()) {
            let source = Source::codes(weight, &checkpoint, None).unwrap();
            for rows in [1, 5, 40] {
                let x = numbers(rows * source.inputs, 6);
                let results: Vec<_> = kinds::matrices(&source, rows, true, false)
                    .unwrap()
                    .into_iter()
                    .map(|candidate| {
                        let mut out = vec![f32::NAN; rows * source.outputs];
                        candidate.kernel.multiply(&Team::new(2), rows, &x, None, true, &mut out);
                        out
                    })
                    .collect();
                assert!(results.iter().all(|out| *out == results[0]), "{}, {rows} rows", source.describe());
                compared += results.len() / 2;
            }
        }
        assert!(compared > 0, "a sparse kernel beside the dense one");
    }
}

#[test]
fn compressed_weights_take_less_memory() {
    let scheme = quantize("w4a16:8");
    let [pictures, _] = Case::all();
    let (_dir, checkpoint) = pictures.checkpoint(&[&scheme]);
    let small = Execution { kernels: Kernels::Compressed, ..Execution::default() };
    let (compressed, _) = pictures.prepared(&checkpoint, small, 1);
    let dense = Execution { kernels: Kernels::Dense, ..Execution::default() };
    let (dense, _) = pictures.prepared(&checkpoint, dense, 1);
    assert!(compressed.bytes() < dense.bytes(), "{} and {}", compressed.bytes(), dense.bytes());
    assert_eq!(compressed.parameters, dense.parameters);
    assert!(dense.choices.is_empty());
    // Without a clock no twin is made beside what is small.
    assert!(compressed.choices.iter().all(|choice| choice.microseconds == 0.0 && choice.dense_microseconds == 0.0));
    assert!(compressed.choices.iter().any(|choice| choice.bytes > 0 && choice.bytes < choice.dense_bytes));
}

#[test]
fn weights_of_f32_are_held_once_where_memory_rules() {
    let [pictures, _] = Case::all();
    let (_dir, checkpoint) = pictures.checkpoint(&[]);
    let small = Execution { kernels: Kernels::Compressed, ..Execution::default() };
    let (compressed, found) = pictures.prepared(&checkpoint, small, 2);
    let (dense, wanted) =
        pictures.prepared(&checkpoint, Execution { kernels: Kernels::Dense, ..Execution::default() }, 1);
    assert_eq!(found, wanted);
    let held: Vec<usize> =
        compressed.choices.iter().filter(|choice| choice.kernel == "f32, by outputs").map(|c| c.bytes).collect();
    // Of the second layer's five outputs sixteen are packed.
    assert_eq!(held, [4 * 48 * 240, 4 * 16 * 48]);
    let twice = 2 * 4 * (48 * 240 + 5 * 48);
    assert_eq!(dense.bytes() - compressed.bytes(), twice - held.iter().sum::<usize>());
}

#[test]
fn a_recurrent_layer_of_f32_runs_on_one_path_whatever_the_batch() {
    // Large enough for kernels that a few rows alone have.
    let text = "layers = [{ type = 'lstm', hidden = 192 }, { type = 'dense', units = 'classes' }]";
    let case = Case::new(text, Shape::Series { time: 3, features: 192 }, None);
    let (_dir, checkpoint) = case.checkpoint(&[]);
    let kernel = |batch| {
        let execution = Execution { kernels: Kernels::Compressed, batch, ..Execution::default() };
        prepare(&checkpoint, &execution, &Arc::new(Team::new(1))).unwrap().choices.swap_remove(0).kernel
    };
    assert_eq!([kernel(1), kernel(64)], ["f32", "f32"]);
}

/// A checkpoint whose file fails after so many reads.
struct Failing<'a>(&'a Checkpoint, AtomicUsize);

impl Tensors for Failing<'_> {
    fn header(&self) -> &Header {
        self.0.header()
    }

    fn read(&self, tensor: usize, offset: u64, into: &mut [u8]) -> Result<()> {
        match self.1.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)) {
            Ok(_) => self.0.read(tensor, offset, into),
            Err(_) => Err(Error::input("the disk is gone")),
        }
    }
}

#[test]
fn codes_that_cannot_be_read_again_are_an_error_and_no_matrix() {
    let [pictures, _] = Case::all();
    let (_dir, checkpoint) = pictures.checkpoint(&[&quantize("w4a16:8")]);
    let stored = StoredWeight::all(checkpoint.header()).unwrap();
    let weight = stored.iter().find(|weight| weight.is_integer()).unwrap();
    let counted = Failing(&checkpoint, AtomicUsize::new(100));
    assert!(Source::codes(weight, &counted, None).is_ok());
    let reads = 100 - counted.1.load(Relaxed);
    assert!(Source::codes(weight, &Failing(&checkpoint, AtomicUsize::new(reads - 1)), None).is_err());
    let failing = Failing(&checkpoint, AtomicUsize::new(reads));
    let source = Source::codes(weight, &failing, None).unwrap();
    assert!(source.decode().unwrap_err().message().contains("the disk is gone"));
}

#[test]
fn scales_that_are_no_sizes_are_refused_whichever_kernels_are_asked_for() {
    for scheme in ["w4a16:8", "w8a8", "fp8a16"] {
        let [pictures, _] = Case::all();
        let (dir, checkpoint) = pictures.checkpoint(&[&quantize(scheme)]);
        let at = checkpoint.header.tensors.iter().position(|tensor| tensor.name.ends_with("_scale")).unwrap();
        let path = dir.path().join("model.safetensors");
        let mut bytes = std::fs::read(&path).unwrap();
        let data = bytes.len() as u64 - checkpoint.header.data_bytes() + checkpoint.header.offsets()[at];
        bytes[data as usize..][..4].copy_from_slice(&[0xff; 4]);
        std::fs::write(&path, bytes).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        for kernels in [Kernels::Auto, Kernels::Dense, Kernels::Compressed] {
            let execution = Execution { kernels, ..Execution::default() };
            let error = prepare(&checkpoint, &execution, &Arc::new(Team::new(1))).unwrap_err();
            assert!(
                error.message().contains("scale that is not positive"),
                "{scheme} {kernels:?}: {}",
                error.message()
            );
        }
    }
}
