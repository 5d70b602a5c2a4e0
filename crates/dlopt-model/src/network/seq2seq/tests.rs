use std::collections::BTreeMap;
use std::path::Path;

use dlopt_checkpoint::{Checkpoint, Dtype, Tensors};
use dlopt_kernels::{Level, limit_level};

use super::super::{DecoderInputs, Network};
use super::*;
use crate::description::{Answers, Description, Tokens};
use crate::init::initial_values;
use crate::layout::FlatLayout;
use crate::plan::{Node, Shape};
use crate::resolve::{resolve_for, resolve_open};

/// Largest difference over the largest magnitude, as in the golden tests of other layers.
const TOLERANCE: f32 = 2e-5;

/// Tensors as floats, whatever their type.
fn read(path: &Path) -> Option<(serde_json::Value, BTreeMap<String, Vec<f32>>)> {
    let checkpoint = Checkpoint::open(path).unwrap();
    let case = serde_json::from_str(checkpoint.header.metadata.get("seq2seq")?).unwrap();
    let mut tensors = BTreeMap::new();
    for (index, info) in checkpoint.header.tensors.iter().enumerate() {
        let mut bytes = vec![0; info.bytes() as usize];
        checkpoint.read(index, 0, &mut bytes).unwrap();
        let values = match info.dtype {
            Dtype::I64 => bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f32).collect(),
            _ => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        };
        tensors.insert(info.name.clone(), values);
    }
    Some((case, tensors))
}

fn whole(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| *v as u32).collect()
}

/// Outputs, and gradients by name.
fn run(
    nodes: &[Node],
    layout: &FlatLayout,
    tensors: &BTreeMap<String, Vec<f32>>,
    threads: usize,
) -> BTreeMap<String, Vec<f32>> {
    let weights = layout.params_from_checkpoint(|t| Ok(tensors[&format!("parameter.{}", t.name)].clone())).unwrap();
    let mut network = Network::new(nodes, layout, &[false], Arc::new(Team::new(threads)));
    network.load(&weights, true);
    let (tokens, lengths) = (whole(&tensors["target_in"]), whole(&tensors["target_lengths"]));
    let decoder = Some(DecoderInputs { tokens: &tokens, lengths: &lengths });
    let read = whole(&tensors["source_lengths"]);
    let source = &tensors["source"];
    let inferred = network.forward_taught(&weights, &mut [], source, Some(&read), decoder, Mode::Inference);
    let mode = Mode::Training { key: 1 };
    let output = network.forward_taught(&weights, &mut [], source, Some(&read), decoder, mode);
    assert_eq!(inferred, output);
    let mut gradients = vec![0.0; weights.len()];
    network.backward(&weights, tensors["upstream"].clone(), &mut gradients, false);
    let mut found = BTreeMap::from([("output".to_owned(), output)]);
    for tensor in layout.params_to_checkpoint(&gradients) {
        found.insert(format!("gradient.{}", tensor.name), tensor.values);
    }
    found
}

#[test]
fn encoders_and_decoders_agree_with_pytorch_on_every_instruction_set() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/seq2seq");
    let mut cases = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "safetensors") {
            continue;
        }
        let (case, tensors) = read(&path).unwrap();
        cases += 1;
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let description = Description::from_value(serde_json::json!({ "layers": [case["layer"]] })).unwrap();
        let (time, outputs) = (case["time"].as_u64().unwrap() as usize, case["outputs"].as_u64().unwrap() as usize);
        let nodes = resolve_for(&description, &Shape::Tokens { time }, outputs, true).unwrap();
        let layout = FlatLayout::of(&nodes);
        limit_level(Some(Level::Portable));
        let portable = run(&nodes, &layout, &tensors, 1);
        for (level, threads) in [(Level::Avx2, 3), (Level::Avx512, 1), (Level::Avx512, 3)] {
            limit_level(Some(level));
            assert_eq!(run(&nodes, &layout, &tensors, threads), portable, "{name}: {level:?}, {threads} threads");
        }
        limit_level(None);
        let gradients = layout.tensors().iter().map(|t| format!("gradient.{}", t.name));
        for key in gradients.chain(["output".to_owned()]) {
            let wanted = &tensors[&key];
            let hidden = wanted.len() / 3;
            // Memory holds one bias where both are only added up; the first carries the sum.
            let range = match key.contains(".bias_hh") {
                true if name.starts_with("gru") => 2 * hidden..wanted.len(),
                true => continue,
                false => 0..wanted.len(),
            };
            let largest = wanted.iter().fold(1e-3_f32, |m, v| m.max(v.abs()));
            for at in range {
                let (f, w) = (portable[&key][at], wanted[at]);
                assert!((f - w).abs() <= TOLERANCE * largest, "{name}: {key}: value {at} is {f}, wanted {w}");
            }
        }
    }
    assert_eq!(cases, 4);
}

fn small(text: &str, time: usize, steps: usize) -> (Vec<Node>, FlatLayout) {
    let tokens = Tokens { vocabulary: Some(8), answers: Some(Answers { steps, start: 1, end: 2 }) };
    let description = Description::from_toml(&format!("layers = [{{ type = \"seq2seq\", {text} }}]")).unwrap();
    let nodes = resolve_open(&description.with_tokens(&tokens), &Shape::Tokens { time }, 8).unwrap();
    let layout = FlatLayout::of(&nodes);
    (nodes, layout)
}

/// Weights that make up their mind: unlike fresh ones, they prefer some tokens clearly.
fn bold(nodes: &[Node], layout: &FlatLayout) -> Vec<f32> {
    let mut weights = initial_values(nodes, layout, 5).unwrap().0;
    weights.iter_mut().for_each(|w| *w *= 6.0);
    weights
}

const SOURCES: [f32; 15] = [3., 4., 5., 6., 7., 5., 5., 3., 0., 0., 7., 0., 0., 0., 0.];
const LENGTHS: [u32; 3] = [5, 3, 1];

#[test]
fn greedy_decoding_is_a_beam_of_one_and_what_the_taught_network_says_next() {
    for text in ["hidden = 24, embedding = 9", "hidden = 24, embedding = 9, attention = \"dot\", cell = \"lstm\""] {
        let (nodes, layout) = small(text, 5, 9);
        let weights = bold(&nodes, &layout);
        let team = Arc::new(Team::new(2));
        let mut translator = Translator::new(&nodes, &layout, &weights, Arc::clone(&team)).unwrap();
        let found = translator.translate(3, &SOURCES, Some(&LENGTHS), &Decoding::default());
        let mut network = Network::new(&nodes, &layout, &[false], team);
        network.load(&weights, false);
        // One step more each time, read back from the start.
        let mut wanted = vec![vec![1_u32]; 3];
        let mut log_probabilities = [0.0; 3];
        let mut ended = [false; 3];
        for step in 0..9 {
            let tokens: Vec<u32> = wanted.iter().flat_map(|w| (0..9).map(|s| w.get(s).copied().unwrap_or(0))).collect();
            let lengths = [step as u32 + 1; 3];
            let decoder = Some(DecoderInputs { tokens: &tokens, lengths: &lengths });
            let outputs = network.forward_taught(&weights, &mut [], &SOURCES, Some(&LENGTHS), decoder, Mode::Inference);
            for sample in 0..3 {
                let logits = &outputs[(sample * 9 + step) * 8..][..8];
                let next = (0..8).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
                let sum: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
                if !ended[sample] {
                    log_probabilities[sample] += f64::from(logits[next]) - sum.ln();
                }
                ended[sample] |= next == 2;
                wanted[sample].push(next as u32);
            }
        }
        for (sample, found) in found.iter().enumerate() {
            let wanted: Vec<u32> = wanted[sample][1..].iter().copied().take_while(|&t| t != 2).collect();
            assert_eq!((&found[0].tokens, found[0].is_complete), (&wanted, ended[sample]), "{text}");
            assert!((found[0].log_probability - log_probabilities[sample]).abs() < 1e-4);
        }
        // A sample's translation does not depend on its neighbours.
        let alone = translator.translate(1, &SOURCES[5..10], Some(&LENGTHS[1..2]), &Decoding::default());
        assert_eq!(alone[0], found[1]);
    }
}

#[test]
fn a_beam_wider_than_all_sequences_finds_the_likeliest_of_all() {
    let (nodes, layout) = small("hidden = 20, embedding = 5, attention = \"dot\"", 5, 3);
    let weights = bold(&nodes, &layout);
    let team = Arc::new(Team::new(1));
    let how = Decoding { beam: 100, length_penalty: 0.7, most_steps: None, best: 4 };
    let found =
        Translator::new(&nodes, &layout, &weights, Arc::clone(&team)).unwrap().translate(1, &SOURCES[..5], None, &how);
    let mut network = Network::new(&nodes, &layout, &[false], team);
    network.load(&weights, false);
    let mut all: Vec<(f64, Vec<u32>)> = Vec::new();
    let others: Vec<u32> = (0..8).filter(|&t| t != 2).collect();
    let mut sequences: Vec<Vec<u32>> = vec![vec![]];
    sequences.extend(others.iter().map(|&a| vec![a]));
    sequences.extend(others.iter().flat_map(|&a| others.iter().map(move |&b| vec![a, b])));
    for own in sequences {
        let mut tokens = vec![1];
        tokens.extend(&own);
        tokens.resize(3, 0);
        let decoder = Some(DecoderInputs { tokens: &tokens, lengths: &[3] });
        let outputs = network.forward_taught(&weights, &mut [], &SOURCES[..5], None, decoder, Mode::Inference);
        let mut sum = 0.0;
        for (step, &token) in own.iter().chain(&[2]).enumerate() {
            let logits = &outputs[step * 8..][..8];
            let total: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
            sum += f64::from(logits[token as usize]) - total.ln();
        }
        all.push((sum / ((6.0 + own.len() as f64) / 6.0).powf(0.7), own));
    }
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    assert_eq!(found[0].len(), 4);
    for (found, (score, tokens)) in found[0].iter().zip(&all) {
        assert_eq!(&found.tokens, tokens);
        assert!((found.score - score).abs() < 1e-4, "{} {score}", found.score);
    }
}

#[test]
fn a_small_network_learns_to_turn_tokens_round() {
    for text in ["hidden = 48, embedding = 16", "hidden = 32, embedding = 16, attention = \"dot\", dropout = 0.05"] {
        let (nodes, layout) = small(text, 4, 5);
        let mut weights = initial_values(&nodes, &layout, 1).unwrap().0;
        let team = Arc::new(Team::new(2));
        let mut network = Network::new(&nodes, &layout, &[false], Arc::clone(&team));
        let mut moments = [vec![0.0; weights.len()], vec![0.0; weights.len()]];
        let mut state = 7_u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let samples = 64;
        let mut batch = || {
            let (mut source, mut lengths, mut answers) = (vec![0.0; samples * 4], vec![], vec![0; samples * 5]);
            for sample in 0..samples {
                let len = 1 + draw(4) as usize;
                lengths.push(len as u32);
                for at in 0..len {
                    let token = 3 + draw(5) as u32;
                    source[sample * 4 + at] = token as f32;
                    answers[sample * 5 + len - 1 - at] = token;
                }
                answers[sample * 5 + len] = 2;
            }
            (source, lengths, answers)
        };
        for step in 0..500 {
            let (source, lengths, answers) = batch();
            let ends: Vec<u32> = lengths.iter().map(|l| l + 1).collect();
            let mut tokens = answers.clone();
            for row in tokens.chunks_exact_mut(5) {
                row.rotate_right(1);
                row[0] = 1;
            }
            network.load(&weights, true);
            let decoder = Some(DecoderInputs { tokens: &tokens, lengths: &ends });
            let mode = Mode::Training { key: step };
            let outputs = network.forward_taught(&weights, &mut [], &source, Some(&lengths), decoder, mode);
            let mut gradient = vec![0.0; outputs.len()];
            let all: f32 = ends.iter().map(|&e| e as f32).sum();
            for (sample, &end) in ends.iter().enumerate() {
                let (at, rows) = (sample * 40, end as usize);
                dlopt_kernels::nn::softmax_cross_entropy(
                    rows,
                    8,
                    &outputs[at..at + rows * 8],
                    &answers[sample * 5..][..rows],
                    None,
                    0.0,
                    1.0 / all,
                    &mut gradient[at..at + rows * 8],
                );
            }
            let mut gradients = vec![0.0; weights.len()];
            network.backward(&weights, gradient, &mut gradients, false);
            // Adam (Kingma and Ba, 2015).
            let [m, v] = &mut moments;
            let (a, b) = (1.0 - 0.9_f32.powi(step as i32 + 1), 1.0 - 0.999_f32.powi(step as i32 + 1));
            for (at, g) in gradients.iter().enumerate() {
                m[at] = 0.9 * m[at] + 0.1 * g;
                v[at] = 0.999 * v[at] + 0.001 * g * g;
                weights[at] -= 0.01 * (m[at] / a) / ((v[at] / b).sqrt() + 1e-8);
            }
        }
        let (source, lengths, answers) = batch();
        let mut translator = Translator::new(&nodes, &layout, &weights, team).unwrap();
        for beam in [1, 3] {
            let how = Decoding { beam, ..Decoding::default() };
            let found = translator.translate(samples, &source, Some(&lengths), &how);
            let right =
                found.iter().zip(answers.chunks_exact(5)).zip(&lengths).filter(|((found, answer), len)| {
                    found[0].is_complete && found[0].tokens == answer[..**len as usize]
                });
            assert!(right.count() >= 62, "{text}, beam {beam}");
        }
    }
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let tokens = Tokens { vocabulary: Some(8), answers: Some(Answers { steps: 4, start: 1, end: 9 }) };
    let resolved = |text: &str, tokens: &Tokens, input: Shape| {
        let description = Description::from_toml(&format!("layers = [{text}]")).unwrap().with_tokens(tokens);
        resolve_for(&description, &input, 8, true).unwrap_err().message().to_owned()
    };
    let layer = "{ type = \"seq2seq\" }";
    let time = Shape::Tokens { time: 3 };
    assert!(resolved(layer, &tokens, time.clone()).contains("`end` is 9; tokens that come out are below 8"));
    assert!(resolved(layer, &Tokens::default(), time.clone()).contains("`vocabulary` is missing"));
    assert!(resolved(layer, &tokens, Shape::Vector { features: 3 }).contains("takes tokens; 3 plain values"));
    let text = "{ type = \"embedding\", size = 3 }, { type = \"lstm\", hidden = 8 }";
    assert!(resolved(text, &tokens, time).contains("ends in 8 plain values; the data want 8 values at every step"));
    let (nodes, layout) = {
        let description = Description::from_toml("layers = [{ type = \"dense\", units = 2 }]").unwrap();
        let nodes = resolve_open(&description, &Shape::Vector { features: 3 }, 2).unwrap();
        let layout = FlatLayout::of(&nodes);
        (nodes, layout)
    };
    let error = Translator::new(&nodes, &layout, &[0.0; 8], Arc::new(Team::new(1))).err().unwrap();
    assert!(error.message().contains("no encoder and decoder"));
}
