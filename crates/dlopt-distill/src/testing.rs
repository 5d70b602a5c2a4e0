//! Small data and networks that the tests of teachers, caches and trainings share.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dlopt_augment::{Augmenter, Recipe};
use dlopt_checkpoint::{Checkpoint, Dtype, Header, TensorInfo, write_file};
use dlopt_data::{Dataset, DatasetInfo, Elements, Parts};
use dlopt_kernels::nn::Team;
use dlopt_model::Description;
use dlopt_train::{Model, Optimizer, OptimizerOptions, Settings, Trained};

use crate::cache::{Facts, Making, make};
use crate::teacher::Teacher;

/// Points of three features in three classes: 29 to train on, 7 more.
pub(crate) fn points() -> Dataset {
    let mut info = DatasetInfo::plain(Elements::Vector { features: 3, names: Vec::new() });
    info.classes = ["left", "right", "above"].map(str::to_owned).to_vec();
    info.splits = [("train".to_owned(), [0, 29]), ("more".to_owned(), [29, 36])].into();
    let values: Vec<f32> = (0..36 * 3).map(|i| ((i * 7 % 13) as f32 - 6.0) / 5.0).collect();
    let label = |row: &[f32]| if row[2] > 0.6 { 2 } else { u32::from(row[0] + row[1] > 0.0) };
    let labels = values.chunks_exact(3).map(label).collect();
    let inputs = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let parts =
        Parts { name: "points".to_owned(), info, dtype: Dtype::F32, inputs, labels, targets: None, lengths: None };
    Dataset::from_parts(parts).unwrap()
}

/// Words of one to three letters with an end, and the same letters from the back.
pub(crate) fn words(dir: &Path) -> Dataset {
    let samples = 19;
    let (mut inputs, mut lengths, mut sequences) = (vec![0_u16; samples * 4], Vec::new(), vec![0_u16; samples * 5]);
    for sample in 0..samples {
        let len = 1 + sample % 3;
        for at in 0..len {
            let token = 3 + ((sample * 5 + at * 3) % 4) as u16;
            inputs[sample * 4 + at] = token;
            sequences[sample * 5 + len - 1 - at] = token;
        }
        inputs[sample * 4 + len] = 2;
        sequences[sample * 5 + len] = 2;
        lengths.push(len as u16 + 1);
    }
    let about = serde_json::json!({
        "schema": 1,
        "elements": { "kind": "tokens", "time": 4, "vocabulary": 7 },
        "splits": { "train": [0, 14], "more": [14, 19] },
        "learns": { "kind": "sequence", "time": 5, "vocabulary": 7, "start": 1, "end": 2 },
    });
    let mut header = Header::default();
    header.metadata.insert("dlopt.dataset".to_owned(), about.to_string());
    let mut bytes: Vec<Vec<u8>> = Vec::new();
    for (name, shape, values) in [
        ("inputs", vec![samples, 4], inputs),
        ("lengths", vec![samples], lengths.clone()),
        ("sequences", vec![samples, 5], sequences),
        ("sequence_lengths", vec![samples], lengths),
    ] {
        header.tensors.push(TensorInfo::new(name, Dtype::U16, shape));
        bytes.push(values.iter().flat_map(|v| v.to_le_bytes()).collect());
    }
    let path = dir.join("words.safetensors");
    write_file(&path, &header, &bytes, true).unwrap();
    Dataset::open(&path).unwrap()
}

/// A network of one smooth hidden layer.
pub(crate) fn net(units: usize) -> String {
    format!(
        "layers = [{{ type = \"dense\", units = {units}, activation = \"tanh\" }}, {{ type = \"dense\", units = \"classes\" }}]"
    )
}

/// A network with its first weights.
pub(crate) fn model(text: &str, seed: u64, dataset: &Dataset) -> Model {
    Model::of_description(&Description::from_toml(text).unwrap(), seed, dataset).unwrap()
}

/// A checkpoint of a network, as if it had been trained.
pub(crate) fn checkpoint(dir: &Path, text: &str, seed: u64, dataset: &Dataset) -> Checkpoint {
    let model = model(text, seed, dataset);
    let trained = Trained {
        weights: model.weights.iter().map(|w| 2.5 * w).collect(),
        buffers: model.buffers.clone(),
        history: Vec::new(),
        epoch: 0,
        steps: 0,
        stopped_early: false,
    };
    let (header, tensors) = model.checkpoint("train", &Settings::default(), dataset, &trained).unwrap();
    let path = dir.join(format!("teacher-{seed}.safetensors"));
    write_file(&path, &header, &tensors, true).unwrap();
    Checkpoint::open(&path).unwrap()
}

/// A teacher of nine hidden units, or a decoder where there are sequences.
pub(crate) fn teacher(dir: &Path, seed: u64, dataset: &Dataset, layers: &[&str]) -> Teacher {
    let text = if dataset.sequence_steps() > 0 {
        "layers = [{ type = \"seq2seq\", embedding = 5, hidden = 6 }]".to_owned()
    } else {
        net(9)
    };
    let checkpoint = checkpoint(dir, &text, seed, dataset);
    let layers: Vec<String> = layers.iter().map(|&layer| layer.to_owned()).collect();
    Teacher::open(vec![(checkpoint, 1.0)], dataset, &layers, "cpu", &Arc::new(Team::new(1))).unwrap()
}

/// Settings of a training of three epochs in batches of seven.
pub(crate) fn settings() -> Settings {
    Settings {
        epochs: 3,
        batch: 7,
        optimizer: Optimizer::named("adam", OptimizerOptions::default()).unwrap(),
        learning_rate: 0.01,
        seed: 5,
        ..Settings::default()
    }
}

/// What changes samples, in two views.
pub(crate) fn noise(settings: Settings) -> Settings {
    let recipe = Recipe::of(&serde_json::json!([{ "op": "noise", "sigma": 0.3 }])).unwrap();
    Settings { augment: Some(recipe.spec()), augment_seed: Some(4), augment_views: Some(2), ..settings }
}

pub(crate) fn augmenter(settings: &Settings, dataset: &Arc<Dataset>) -> Option<Augmenter> {
    let recipe = Recipe::of(settings.augment.as_ref()?).unwrap();
    Some(Augmenter::new(recipe, dataset, "train", settings.augment_seed.unwrap()).unwrap())
}

/// Asks a teacher for a whole cache; it is stopped after so many rows.
pub(crate) fn fill(
    path: &Path,
    facts: &Facts,
    teacher: &mut Teacher,
    (dataset, settings): (&Arc<Dataset>, &Settings),
    stopped_after: Option<usize>,
) -> dlopt_checkpoint::Result<()> {
    let stop = AtomicBool::new(false);
    let mut progress = |done: usize| {
        if stopped_after.is_some_and(|rows| done >= rows) {
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    };
    let augmenter = augmenter(settings, dataset);
    let folder = path.with_extension("parts");
    let mut making = Making {
        dataset,
        augmenter: augmenter.as_ref(),
        batch: 8,
        threads: 2,
        folder: &folder,
        stop: &stop,
        progress: &mut progress,
    };
    make(path, facts, teacher, &mut making, false)
}
