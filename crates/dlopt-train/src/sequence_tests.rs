//! The loop on tokens: a language model, and a decoder with everything it can be asked.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dlopt_checkpoint::{Dtype, Header, TensorInfo, write_file};
use dlopt_data::{Dataset, Learns};
use dlopt_kernels::nn::Team;
use dlopt_model::{Decoding, LayerType, Translator};

use crate::{Engine, Loss, Model, Observer, Request, Sampling, Settings, Trained, Trainer};

struct Silent;

impl Observer for Silent {}

fn open(dir: &Path, about: serde_json::Value, tensors: &[(&str, &[usize], Vec<u16>)]) -> Dataset {
    let mut header = Header::default();
    header.metadata.insert("dlopt.dataset".to_owned(), about.to_string());
    let mut bytes: Vec<Vec<u8>> = Vec::new();
    for (name, shape, values) in tensors {
        header.tensors.push(TensorInfo::new(*name, Dtype::U16, shape.to_vec()));
        bytes.push(values.iter().flat_map(|v| v.to_le_bytes()).collect());
    }
    let path = dir.join("data.safetensors");
    write_file(&path, &header, &bytes, true).unwrap();
    Dataset::open(&path).unwrap()
}

/// Words of one to four letters (3 to 7) with an end (2), and the same letters from the back.
fn reversed(dir: &Path) -> Dataset {
    let (samples, mut state) = (203, 1_u32);
    let (mut inputs, mut lengths, mut sequences) = (vec![0; samples * 5], Vec::new(), vec![0; samples * 6]);
    for sample in 0..samples {
        let mut draw = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % below
        };
        let len = 1 + draw(4) as usize;
        for at in 0..len {
            let token = 3 + draw(5) as u16;
            inputs[sample * 5 + at] = token;
            sequences[sample * 6 + len - 1 - at] = token;
        }
        inputs[sample * 5 + len] = 2;
        sequences[sample * 6 + len] = 2;
        lengths.push(len as u16 + 1);
    }
    let about = serde_json::json!({
        "schema": 1,
        "elements": { "kind": "tokens", "time": 5, "vocabulary": 8 },
        "splits": { "train": [0, 183], "validation": [183, 203] },
        "learns": { "kind": "sequence", "time": 6, "vocabulary": 8, "start": 1, "end": 2 },
    });
    let tensors: [(&str, &[usize], Vec<u16>); 4] = [
        ("inputs", &[samples, 5], inputs),
        ("lengths", &[samples], lengths.clone()),
        ("sequences", &[samples, 6], sequences),
        ("sequence_lengths", &[samples], lengths),
    ];
    open(dir, about, &tensors)
}

/// Windows of a text in which each of five letters follows the one before it.
fn text(dir: &Path) -> Dataset {
    let about = serde_json::json!({
        "schema": 1,
        "elements": { "kind": "tokens", "time": 7, "vocabulary": 5 },
        "splits": { "train": [0, 40], "validation": [40, 50] },
        "learns": { "kind": "next-token" },
    });
    let inputs = (0..50 * 8).map(|i| ((i / 8 * 3 + i % 8) % 5) as u16).collect();
    open(dir, about, &[("inputs", &[50, 8], inputs)])
}

fn made(dir: &Path, layers: &str, dataset: &mut Dataset) -> dlopt_checkpoint::Result<Model> {
    let path = dir.join("net.toml");
    std::fs::write(&path, format!("layers = [{layers}]")).unwrap();
    let request = Request {
        model: path.to_str(),
        init: None,
        adopts: false,
        initialization: None,
        seed: 5,
        uses_own_preprocessing: false,
    };
    Model::make(&request, dataset)
}

fn settings(epochs: usize) -> Settings {
    Settings {
        epochs,
        batch: 16,
        learning_rate: 0.01,
        validation_split: Some("validation".to_owned()),
        seed: 5,
        ..Settings::default()
    }
}

fn trained(model: &Model, dataset: Dataset, settings: &Settings, threads: usize) -> Trained {
    let frozen = vec![false; model.layout.nodes.len()];
    let trainer = Trainer {
        settings,
        dataset: Arc::new(dataset),
        nodes: &model.nodes,
        layout: &model.layout,
        engine: Engine::new("cpu", &model.nodes, &model.layout, &frozen, Arc::new(Team::new(threads))).unwrap(),
        augmenter: None,
        extensions: Vec::new(),
        save_every: None,
        state_path: None,
        run: serde_json::Value::Null,
        stop: &AtomicBool::new(false),
    };
    trainer.train(model.weights.clone(), model.buffers.clone(), false, &mut Silent).unwrap()
}

const DECODER: &str = "{ type = \"seq2seq\", embedding = 12, hidden = 24, attention = \"dot\", dropout = 0.1 }";

#[test]
fn a_decoder_learns_and_its_config_says_all_that_decoding_needs() {
    let dir = tempfile::tempdir().unwrap();
    let model = made(dir.path(), DECODER, &mut reversed(dir.path())).unwrap();
    let LayerType::Seq2seq(layer) = &model.config.description.layers[0].kind else { panic!() };
    assert_eq!((layer.vocabulary, layer.steps, layer.start, layer.end), (Some(8), Some(6), Some(1), Some(2)));
    assert_eq!((model.config.outputs, model.config.is_per_step), (8, true));
    let found = trained(&model, reversed(dir.path()), &settings(40), 2);
    let last = found.history.last().unwrap();
    assert!(last.validation_accuracy.unwrap() > 0.9, "{last:?}");
    let team = Arc::new(Team::new(1));
    let mut translator = Translator::new(&model.nodes, &model.layout, &found.weights, team).unwrap();
    let said = translator.translate(1, &[4.0, 4.0, 7.0, 2.0, 0.0], Some(&[4]), &Decoding::default());
    assert_eq!(said[0][0].tokens, [7, 4, 4]);
}

#[test]
fn every_update_is_a_function_of_the_seed_and_not_of_the_threads() {
    let dir = tempfile::tempdir().unwrap();
    let model = made(dir.path(), DECODER, &mut reversed(dir.path())).unwrap();
    let with = |sampling: &str, seed: u64, accumulate: usize, threads: usize| {
        let sampling = Sampling::parse(sampling).unwrap();
        let settings = Settings { sampling, seed, accumulate, ..settings(2) };
        trained(&model, reversed(dir.path()), &settings, threads).weights
    };
    let first = with("0", 5, 1, 1);
    assert!(first == with("0", 5, 1, 3));
    assert!(first != with("0", 6, 1, 1));
    let sampled = with("0.5,0.2", 5, 1, 1);
    assert!(sampled != first && sampled == with("0.5,0.2", 5, 1, 3));
    assert!(sampled != with("0.5,0", 5, 1, 1) && sampled != with("0.9,0.2", 5, 1, 1));
    assert!(with("0.5,0.2", 5, 2, 1) != sampled);
}

#[test]
fn a_language_model_learns_at_every_step() {
    let dir = tempfile::tempdir().unwrap();
    let layers = "{ type = \"embedding\", size = 6 }, { type = \"lstm\", hidden = 12, return_sequences = true }, \
                  { type = \"dense\", units = \"classes\" }";
    let model = made(dir.path(), layers, &mut text(dir.path())).unwrap();
    let LayerType::Embedding(embedding) = &model.config.description.layers[0].kind else { panic!() };
    assert_eq!((embedding.vocabulary, model.config.outputs), (Some(5), 5));
    let found = trained(&model, text(dir.path()), &settings(20), 2);
    let (first, last) = (&found.history[0], found.history.last().unwrap());
    // The mean over tokens begins near the logarithm of five.
    assert!((first.train_loss - 5.0_f64.ln()).abs() < 0.3, "{first:?}");
    assert!(last.validation_accuracy.unwrap() > 0.95 && last.validation_loss.unwrap() < 0.4, "{last:?}");
}

#[test]
fn networks_that_put_out_something_else_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |layers: &str, mut dataset: Dataset| {
        let error = made(dir.path(), layers, &mut dataset).unwrap_err();
        error.message().to_owned()
    };
    let classes = "{ type = \"embedding\", size = 6 }, { type = \"lstm\", hidden = 12 }, \
                   { type = \"dense\", units = \"classes\" }";
    assert!(refused(classes, text(dir.path())).contains("want 5 values at every step"));
    let steps = classes.replace("hidden = 12", "hidden = 12, return_sequences = true");
    assert!(refused(&steps, reversed(dir.path())).contains("the network has no decoder"));
    let given = DECODER.replace("dropout = 0.1", "dropout = 0.1, steps = 6, start = 1, end = 3");
    assert!(refused(&given, reversed(dir.path())).contains("between the tokens 1 and 2"));
    let given = DECODER.replace("dropout = 0.1", "steps = 6, start = 1, end = 2");
    assert!(refused(&given, text(dir.path())).contains("no sequences for a decoder"));
    let error = Loss::Mse.check(&reversed(dir.path())).unwrap_err();
    assert!(error.message().contains("has tokens to learn"), "{error}");
    assert!(matches!(reversed(dir.path()).info().learns, Learns::Sequence { .. }));
}
