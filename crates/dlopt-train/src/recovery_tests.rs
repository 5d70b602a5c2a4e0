//! Training on from compressed weights: zeros that stay, gradients that go straight through, runs that are resumed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dlopt_checkpoint::{Checkpoint, Dtype, Target};
use dlopt_data::{Dataset, DatasetInfo, Elements, Parts};
use dlopt_kernels::nn::Team;
use dlopt_model::{Description, ModelConfig, Shape, initial_values, load_weights, save_through, to_tensors};
use dlopt_quantize::{Fallback, Quantize, Rule, Scheme};

use crate::extension_tests::{dataset, settings};
use crate::{
    Engine, Extension, FakeQuantize, Masks, Model, Observer, Optimizer, OptimizerOptions, Request, Settings, Trained,
    Trainer, run_facts,
};

/// A model whose small weights are 0.
fn pruned(dataset: &mut Dataset) -> Model {
    let request = Request {
        model: Some("mlp"),
        init: None,
        adopts: false,
        initialization: None,
        seed: 5,
        uses_own_preprocessing: false,
    };
    let mut model = Model::make(&request, dataset).unwrap();
    model.weights.iter_mut().filter(|w| w.abs() < 0.1).for_each(|w| *w = 0.0);
    model
}

fn quantize(scheme: &str) -> Quantize {
    let mut quantize = Quantize::new(Scheme::parse(scheme).unwrap());
    quantize.fallback = Fallback::Channel;
    quantize
}

fn both(model: &Model, team: &Arc<Team>) -> Vec<Box<dyn Extension>> {
    let fake = FakeQuantize::new(&quantize("w4a16:32"), &model.header(), &model.layout, Arc::clone(team)).unwrap();
    vec![Box::new(Masks::of(&model.layout, &model.weights)), Box::new(fake)]
}

/// Where a run keeps its state, whether it goes on, and when it is stopped.
#[derive(Default)]
struct Course {
    state: Option<PathBuf>,
    resumes: bool,
    stops_after: Option<u64>,
}

/// Sets the flag that a signal would set.
struct Stopper<'a> {
    left: Option<u64>,
    stop: &'a AtomicBool,
}

impl Observer for Stopper<'_> {
    fn updated(&mut self, _samples: usize, _mean_loss: f64) {
        self.left = self.left.map(|left| left - 1);
        self.stop.store(self.left == Some(0), Ordering::Relaxed);
    }
}

fn run(
    (model, dataset): (&Model, &Arc<Dataset>),
    settings: &Settings,
    extensions: impl Fn(&Model, &Arc<Team>) -> Vec<Box<dyn Extension>>,
    threads: usize,
    course: Course,
) -> dlopt_checkpoint::Result<Trained> {
    let (team, stop) = (Arc::new(Team::new(threads)), AtomicBool::new(false));
    let extensions = extensions(model, &team);
    let frozen = vec![false; model.layout.nodes.len()];
    let trainer = Trainer {
        augmenter: None,
        settings,
        dataset: Arc::clone(dataset),
        nodes: &model.nodes,
        layout: &model.layout,
        engine: Engine::new("cpu", &model.nodes, &model.layout, &frozen, team)?,
        extensions,
        save_every: Some(1000),
        state_path: course.state,
        run: run_facts(settings, model, dataset),
        stop: &stop,
    };
    let mut stopper = Stopper { left: course.stops_after, stop: &stop };
    trainer.train(model.weights.clone(), model.buffers.clone(), course.resumes, &mut stopper)
}

fn optimizers() -> Vec<(Optimizer, f64)> {
    let plain = OptimizerOptions::default();
    let momentum = OptimizerOptions { momentum: Some(0.9), ..plain };
    let nesterov = OptimizerOptions { nesterov: true, ..momentum };
    [
        ("sgd", nesterov, 0.1),
        ("adam", plain, 0.1),
        ("adamw", plain, 0.5),
        ("rmsprop", momentum, 0.1),
        ("sgd", plain, 0.0),
    ]
    .into_iter()
    .map(|(name, options, decay)| (Optimizer::named(name, options).unwrap(), decay))
    .collect()
}

#[test]
fn zeros_stay_under_every_optimizer_with_decay_and_in_the_average() {
    let mut dataset = dataset();
    let model = pruned(&mut dataset);
    let dataset = Arc::new(dataset);
    let masks = |model: &Model, _: &Arc<Team>| -> Vec<Box<dyn Extension>> {
        vec![Box::new(Masks::of(&model.layout, &model.weights))]
    };
    for (optimizer, weight_decay) in optimizers() {
        for average in [None, Some(0.9)] {
            let settings = Settings { optimizer, weight_decay, decays_all: true, average, ..settings() };
            let trained = run((&model, &dataset), &settings, masks, 2, Course::default()).unwrap();
            let mut moved_biases = 0;
            for tensor in model.layout.tensors() {
                let (before, after) = (&model.weights[tensor.range.clone()], &trained.weights[tensor.range.clone()]);
                if tensor.name.ends_with("weight") {
                    assert!(before.contains(&0.0), "{} is pruned", tensor.name);
                    let is_kept = |(b, a): (&f32, &f32)| (*b == 0.0) == (*a == 0.0);
                    assert!(before.iter().zip(after).all(is_kept), "{optimizer:?} {average:?} {}", tensor.name);
                } else {
                    moved_biases += after.iter().filter(|a| **a != 0.0).count();
                }
            }
            assert!(moved_biases > 0, "biases begin at 0 and are free");
            let free = run((&model, &dataset), &settings, |_, _| Vec::new(), 2, Course::default()).unwrap();
            assert!(free.weights != trained.weights, "{optimizer:?}");
        }
    }
}

#[test]
fn gradients_go_straight_through_to_the_weights_behind() {
    // One sample, one layer of two outputs, one update of plain descent at rate 1: the softmax of Q(w) x.
    let x = [0.5f32, -1.0, 2.0];
    let w = [[0.9f32, -0.31, 0.12], [0.05, 0.4, -0.7]];
    let mut info = DatasetInfo::plain(Elements::Vector { features: 3, names: Vec::new() });
    info.classes = vec!["left".to_owned(), "right".to_owned()];
    info.splits = [("train".to_owned(), [0, 1])].into();
    let inputs = x.iter().flat_map(|v| v.to_le_bytes()).collect();
    let parts = Parts {
        name: "point".to_owned(),
        info,
        dtype: Dtype::F32,
        inputs,
        labels: vec![1],
        targets: None,
        lengths: None,
    };
    let mut dataset = Dataset::from_parts(parts).unwrap();
    let request = Request {
        model: Some("linear"),
        init: None,
        adopts: false,
        initialization: None,
        seed: 0,
        uses_own_preprocessing: false,
    };
    let mut model = Model::make(&request, &mut dataset).unwrap();
    let stored = |name: &str| if name.ends_with("weight") { w.concat() } else { vec![0.0; 2] };
    model.weights = model.layout.params_from_checkpoint(|t| Ok(stored(&t.name))).unwrap();
    let optimizer = Optimizer::named("sgd", OptimizerOptions::default()).unwrap();
    let settings = Settings { epochs: 1, optimizer, learning_rate: 1.0, ..settings() };
    let fake = |model: &Model, team: &Arc<Team>| -> Vec<Box<dyn Extension>> {
        let mut quantize = quantize("w4a16:channel");
        // The last layer of a network is left alone unless it is asked for.
        quantize.rules = vec![Rule::parse("*.weight=w4a16:channel").unwrap()];
        vec![Box::new(FakeQuantize::new(&quantize, &model.header(), &model.layout, Arc::clone(team)).unwrap())]
    };
    let trained = run((&model, &Arc::new(dataset)), &settings, fake, 1, Course::default()).unwrap();

    // 4 bits, symmetric: codes -8..=7, scale = largest magnitude / 7.5.
    let quantized = w.map(|row| {
        let scale = row.iter().fold(0.0f32, |m, w| m.max(w.abs())) / 7.5;
        row.map(|w| (w / scale).round_ties_even().clamp(-8.0, 7.0) * scale)
    });
    let logits = quantized.map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum::<f32>());
    let p = 1.0 / (1.0 + (logits[1] - logits[0]).exp());
    let expected = [0, 1].map(|class| {
        // dL/dlogit = p - y; the label is 1.
        let slope = if class == 0 { p } else { -p };
        [0, 1, 2].map(|i| w[class][i] - slope * x[i])
    });
    let named = model.layout.params_to_checkpoint(&trained.weights);
    let found = &named.iter().find(|t| t.name.ends_with("weight")).unwrap().values;
    for (found, expected) in found.iter().zip(expected.concat()) {
        // Sums of three products in another order.
        assert!((found - expected).abs() < 1e-6, "{found}, wanted {expected}");
    }
    let loss = -f64::from(1.0 - p).ln();
    assert!((trained.history[0].train_loss - loss).abs() < 1e-6, "the loss is that of the quantized weights");
}

#[test]
fn threads_and_a_stop_change_no_byte() {
    let mut dataset = dataset();
    let model = pruned(&mut dataset);
    let dataset = Arc::new(dataset);
    let settings = Settings { average: Some(0.9), keeps_zeros: true, ..settings() };
    let whole = run((&model, &dataset), &settings, both, 1, Course::default()).unwrap();
    let other = run((&model, &dataset), &settings, both, 3, Course::default()).unwrap();
    assert_eq!(whole.weights, other.weights);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.safetensors");
    let course = |resumes, stops_after| Course { state: Some(path.clone()), resumes, stops_after };
    run((&model, &dataset), &settings, both, 2, course(false, Some(7))).unwrap_err();
    let resumed = run((&model, &dataset), &settings, both, 2, course(true, None)).unwrap();
    assert_eq!((resumed.weights, resumed.history.len()), (whole.weights, whole.history.len()));
    let free = Settings { keeps_zeros: false, ..settings };
    let error = run((&model, &dataset), &free, both, 2, course(true, None)).unwrap_err();
    assert!(error.message().contains("had another"), "{}", error.message());
}

/// What is trained, as a reader of the file that `save` writes gets it.
fn through_a_file(config: &ModelConfig, values: (&[f32], &[f32]), quantize: &Quantize, path: &Path) -> Vec<f32> {
    let layout = dlopt_model::FlatLayout::of(&config.resolve().unwrap());
    let (header, tensors) = to_tensors(config, &layout, values.0, values.1, &Default::default());
    save_through(Target::File(path.to_owned()), &header, &tensors, &[quantize], true).unwrap();
    load_weights(&Checkpoint::open(path).unwrap(), &layout).unwrap().0
}

#[test]
fn the_network_runs_with_what_a_reader_will_get_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.safetensors");
    let pictures = Shape::Image { height: 9, width: 7, channels: 3 };
    let tokens = Shape::Tokens { time: 6 };
    let cases = [
        (
            "{ type = \"conv2d\", filters = 33, kernel = 3, activation = \"relu\" }, { type = \"batch_norm\" }, \
             { type = \"flatten\" }, { type = \"dense\", units = 19 }, { type = \"dense\", units = \"classes\" }",
            pictures,
        ),
        (
            "{ type = \"embedding\", vocabulary = 50, size = 12 }, { type = \"gru\", hidden = 17, bidirectional = true }, \
             { type = \"dense\", units = \"classes\" }",
            tokens,
        ),
        (
            "{ type = \"lstm\", hidden = 40 }, { type = \"dense\", units = \"classes\" }",
            Shape::Series { time: 4, features: 5 },
        ),
    ];
    for (text, shape) in cases {
        let description = Description::from_toml(&format!("layers = [{text}]")).unwrap();
        let config = ModelConfig::new(&description, shape, 2, vec!["a".into(), "b".into()]).unwrap();
        let nodes = config.resolve().unwrap();
        let layout = dlopt_model::FlatLayout::of(&nodes);
        let (weights, buffers) = initial_values(&nodes, &layout, 3).unwrap();
        let header = to_tensors(&config, &layout, &weights, &buffers, &Default::default()).0;
        for scheme in ["w4a16:32", "w2a16_asym:8", "w8a8:tensor", "w8a16:channel", "fp8", "bf16"] {
            let quantize = quantize(scheme);
            let expected = through_a_file(&config, (&weights, &buffers), &quantize, &path);
            for threads in [1, 3] {
                let mut fake = FakeQuantize::new(&quantize, &header, &layout, Arc::new(Team::new(threads))).unwrap();
                let mut found = weights.clone();
                // The second time finds no trace of the first.
                fake.apply(&mut vec![1.0; weights.len()]);
                fake.apply(&mut found);
                let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert!(bits(&found) == bits(&expected), "{scheme}: {text}");
                assert!(found != weights, "{scheme}: {text}");
            }
        }
    }
}
