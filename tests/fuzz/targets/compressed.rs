//! Small networks as every pass stores them, changed at will, prepared for running and run at every level of the machine:
//! refused, or the same logits everywhere, near those of the decoded network.
#![no_main]

use std::sync::{Arc, LazyLock};

use arbitrary::Arbitrary;
use dlopt_checkpoint::{Checkpoint, Pass, Target};
use dlopt_fuzz::{file, folder};
use dlopt_kernels::nn::Team;
use dlopt_kernels::{Level, limit_level};
use dlopt_model::{
    Arithmetic, Description, Execution, FlatLayout, Kernels, Mode, ModelConfig, Network, Shape, initial_values, load,
    prepare, save_through, to_tensors,
};
use dlopt_prune::{Prune, PruneOptions};
use dlopt_quantize::{Fallback, Quantize, Scheme};
use libfuzzer_sys::fuzz_target;

const SAMPLES: usize = 3;

const NETWORKS: [(&str, Shape); 3] = [
    (
        "layers = [
            { type = 'conv2d', filters = 16, kernel = 3, padding = 1, bias = false },
            { type = 'batch_norm' },
            { type = 'activation', function = 'relu' },
            { type = 'max_pool2d', size = 2 },
            { type = 'flatten' },
            { type = 'dense', units = 19 },
            { type = 'dense', units = 'classes' },
        ]",
        Shape::Image { height: 6, width: 4, channels: 3 },
    ),
    (
        "layers = [
            { type = 'lstm', hidden = 16, bidirectional = true },
            { type = 'dense', units = 'classes' },
        ]",
        Shape::Series { time: 5, features: 16 },
    ),
    (
        "layers = [{ type = 'dense', units = 33, activation = 'relu' }, { type = 'dense', units = 'classes' }]",
        Shape::Vector { features: 64 },
    ),
];

const SCHEMES: [&str; 8] = ["w4a16:8", "w4a16_asym:8", "w8a16:16", "w2a16:8", "w8a8", "fp8_block", "fp8a16", "bf16"];

static TEAM: LazyLock<Arc<Team>> = LazyLock::new(|| Arc::new(Team::new(1)));

/// Each network as each pass stores it, in bytes.
static MADE: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let quantize = |scheme: &str| Quantize {
        fallback: Fallback::Channel,
        ..Quantize::new(Scheme::parse(scheme).expect("a scheme that there is"))
    };
    let schemes = SCHEMES.map(quantize);
    let options =
        |store: &str| PruneOptions { sparsity: Some(0.8), store: store.to_owned(), ..PruneOptions::default() };
    let pruned = ["dense", "bitmask"].map(|store| Prune::new(options(store)).expect("options that are right"));
    let mut chains: Vec<Vec<&dyn Pass>> = schemes.iter().map(|scheme| vec![scheme as &dyn Pass]).collect();
    chains.extend(pruned.iter().map(|prune| vec![prune as &dyn Pass]));
    chains.push(vec![&pruned[0], &schemes[0]]);
    let networks = NETWORKS.iter().flat_map(|(text, input)| chains.iter().map(move |passes| (text, input, passes)));
    networks.map(|(text, input, passes)| make(text, input.clone(), passes)).collect()
});

fn make(text: &str, input: Shape, passes: &[&dyn Pass]) -> Vec<u8> {
    let description = Description::from_toml(text).expect("a description that is right");
    let config = ModelConfig::new(&description, input, 5, Vec::new()).expect("layers with names");
    let nodes = config.resolve().expect("layers that fit");
    let layout = FlatLayout::of(&nodes);
    let (params, buffers) = initial_values(&nodes, &layout, 3).expect("a small network");
    let (header, tensors) = to_tensors(&config, &layout, &params, &buffers, &Default::default());
    let path = folder().join("made.safetensors");
    save_through(Target::File(path.clone()), &header, &tensors, passes, true).expect("passes that apply");
    std::fs::read(&path).expect("what was written")
}

/// One change of a file.
#[derive(Arbitrary, Debug)]
enum Change {
    /// Sets a byte of the tensors.
    Byte { at: u16, to: u8 },
    /// Fills some of them.
    Fill { at: u16, len: u8, to: u8 },
    /// Sets four: a NaN, an infinity, a word of codes.
    Word { at: u16, to: u32 },
    /// Writes a digit over one of the header's: shapes, offsets, bits, groups.
    Digit { at: u8, to: u8 },
    /// Writes any character over one of the header's.
    Text { at: u16, to: u8 },
}

#[derive(Arbitrary, Debug)]
struct Case {
    made: u8,
    kernels: u8,
    arithmetic: u8,
    folds: bool,
    changes: Vec<Change>,
}

impl Case {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = MADE[usize::from(self.made) % MADE.len()].clone();
        let header = u64::from_le_bytes(*bytes.first_chunk().expect("a file has a header")) as usize;
        let (text, data) = bytes[8..].split_at_mut(header);
        let digits: Vec<usize> = (0..text.len()).filter(|at| text[*at].is_ascii_digit()).collect();
        for change in self.changes.iter().take(6) {
            match *change {
                Change::Byte { at, to } => {
                    let at = usize::from(at) % data.len();
                    data[at] = to;
                }
                Change::Fill { at, len, to } => {
                    let at = usize::from(at) % data.len();
                    let end = data.len().min(at + usize::from(len));
                    data[at..end].fill(to);
                }
                Change::Word { at, to } => {
                    let at = usize::from(at) % (data.len() / 4);
                    data[4 * at..][..4].copy_from_slice(&to.to_le_bytes());
                }
                Change::Digit { at, to } => text[digits[usize::from(at) % digits.len()]] = b'0' + to % 10,
                Change::Text { at, to } => {
                    let at = usize::from(at) % text.len();
                    text[at] = to;
                }
            }
        }
        bytes
    }
}

/// Logits of some samples, unless the checkpoint is refused.
fn logits(checkpoint: &Checkpoint, execution: &Execution, inputs: &mut Vec<f32>) -> Option<Vec<f32>> {
    let prepared = prepare(checkpoint, execution, &TEAM).ok()?;
    let loaded = &prepared.loaded;
    fill(inputs, &loaded.config.input);
    let mut network = Network::holding(&loaded.nodes, &loaded.layout, &prepared.held, Arc::clone(&TEAM), &[]);
    network.load(&loaded.params, false);
    let mut buffers = loaded.buffers.clone();
    Some(network.forward(&loaded.params, &mut buffers, inputs, None, Mode::Inference))
}

fn fill(inputs: &mut Vec<f32>, shape: &Shape) {
    let len = shape.len();
    inputs.clear();
    inputs.extend((0..SAMPLES * len).map(|at| ((at * 37 + 11) % 64) as f32 / 32.0 - 0.5));
    if let Shape::Tokens { .. } = shape {
        inputs.fill(0.0);
    }
}

/// The logits of the network that is decoded whole.
fn decoded(checkpoint: &Checkpoint, inputs: &[f32]) -> Option<Vec<f32>> {
    let loaded = load(checkpoint).ok()?;
    let mut network = Network::new(&loaded.nodes, &loaded.layout, &[], Arc::clone(&TEAM));
    network.load(&loaded.params, false);
    let mut buffers = loaded.buffers.clone();
    Some(network.forward(&loaded.params, &mut buffers, inputs, None, Mode::Inference))
}

/// Whether two runs say the same, bit for bit; NaN is NaN.
fn are_same(a: &Option<Vec<f32>>, b: &Option<Vec<f32>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan())
        }
        (a, b) => a.is_none() && b.is_none(),
    }
}

fuzz_target!(|case: Case| {
    let path = file("model.safetensors", &case.bytes());
    let Ok(checkpoint) = Checkpoint::open(&path) else { return };
    let kernels = [Kernels::Auto, Kernels::Compressed, Kernels::Dense][usize::from(case.kernels) % 3];
    let arithmetic = [Arithmetic::Stored, Arithmetic::Float, Arithmetic::Int8][usize::from(case.arithmetic) % 3];
    let execution = Execution { kernels, arithmetic, batch: SAMPLES, folds: case.folds };
    let mut inputs = Vec::new();
    limit_level(Some(Level::Portable));
    let portable = logits(&checkpoint, &execution, &mut inputs);
    for level in [Level::Avx2, Level::Avx512, Level::Amx] {
        limit_level(Some(level));
        let found = logits(&checkpoint, &execution, &mut inputs);
        assert!(are_same(&found, &portable), "{level:?} differs from portable: {found:?}, {portable:?}");
    }
    limit_level(None);
    let Some(found) = portable.filter(|_| arithmetic == Arithmetic::Float) else { return };
    let wanted = decoded(&checkpoint, &inputs).expect("what is prepared can be loaded");
    let most = wanted.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    if !most.is_finite() || most > 1e6 || wanted.iter().any(|value| value.is_nan()) {
        return;
    }
    for (found, wanted) in found.iter().zip(&wanted) {
        assert!((found - wanted).abs() <= 1e-2 * most.max(1e-3), "{found} and {wanted}, of {most} at most");
    }
});
