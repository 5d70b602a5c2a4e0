//! The seam holds what it is for: masks on weights, fake-quantized weights, a second loss, a changed batch, a saved state.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dlopt_checkpoint::{Dtype, Result};
use dlopt_data::{Batch, Dataset, DatasetInfo, Elements, Parts};
use dlopt_kernels::nn::Team;
use dlopt_model::FlatLayout;

use crate::{Engine, Extension, ExtraLoss, Model, Moment, Observer, Passed, Request, Settings, Trained, Trainer};

struct Silent;

impl Observer for Silent {}

/// Points of two classes.
pub(crate) fn dataset() -> Dataset {
    let mut info = DatasetInfo::plain(Elements::Vector { features: 3, names: Vec::new() });
    info.classes = vec!["left".to_owned(), "right".to_owned()];
    info.splits = [("train".to_owned(), [0, 30])].into();
    let values: Vec<f32> = (0..90).map(|i| ((i * 7 % 13) as f32 - 6.0) / 5.0).collect();
    let labels = values.chunks_exact(3).map(|row| u32::from(row[0] + row[1] > 0.0)).collect();
    let inputs = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let parts =
        Parts { name: "points".to_owned(), info, dtype: Dtype::F32, inputs, labels, targets: None, lengths: None };
    Dataset::from_parts(parts).unwrap()
}

/// Three epochs of Adam.
pub(crate) fn settings() -> Settings {
    Settings { epochs: 3, batch: 7, learning_rate: 0.01, seed: 5, ..Settings::default() }
}

fn trained(extensions: Vec<Box<dyn Extension>>) -> (Model, Trained) {
    let mut dataset = dataset();
    let request = Request {
        model: Some("mlp"),
        init: None,
        adopts: false,
        initialization: None,
        seed: 5,
        uses_own_preprocessing: false,
    };
    let model = Model::make(&request, &mut dataset).unwrap();
    let settings = settings();
    let frozen = vec![false; model.layout.nodes.len()];
    let trainer = Trainer {
        augmenter: None,
        settings: &settings,
        dataset: Arc::new(dataset),
        nodes: &model.nodes,
        layout: &model.layout,
        engine: Engine::new("cpu", &model.nodes, &model.layout, &frozen, Arc::new(Team::new(2))).unwrap(),
        extensions,
        save_every: None,
        state_path: None,
        run: serde_json::Value::Null,
        stop: &AtomicBool::new(false),
    };
    let trained = trainer.train(model.weights.clone(), model.buffers.clone(), false, &mut Silent).unwrap();
    (model, trained)
}

/// Every third weight stays zero.
struct Mask;

impl Mask {
    fn apply(weights: &mut [f32]) {
        weights.iter_mut().step_by(3).for_each(|w| *w = 0.0);
    }
}

impl Extension for Mask {
    fn begin(&mut self, _layout: &FlatLayout, weights: &mut [f32]) -> Result<()> {
        Self::apply(weights);
        Ok(())
    }

    fn updated(&mut self, _at: Moment, weights: &mut [f32]) -> Result<()> {
        Self::apply(weights);
        Ok(())
    }
}

#[test]
fn a_mask_holds_through_every_update() {
    let (model, trained) = trained(vec![Box::new(Mask)]);
    assert!(trained.weights.iter().step_by(3).all(|w| *w == 0.0));
    let moved = trained.weights.iter().zip(&model.weights).skip(1).step_by(3).filter(|(a, b)| a != b).count();
    assert!(moved > 0, "the others are trained");
}

/// The network runs with weights rounded to quarters, while those behind them are trained.
struct Rounded;

impl Extension for Rounded {
    fn weights(&mut self, _at: Moment, weights: &[f32], used: &mut [f32]) -> Result<bool> {
        used.iter_mut().zip(weights).for_each(|(u, w)| *u = (w * 4.0).round() / 4.0);
        Ok(true)
    }
}

#[test]
fn fake_quantized_weights_train_the_ones_behind_them() {
    let (model, rounded) = trained(vec![Box::new(Rounded)]);
    let (_, plain) = trained(Vec::new());
    assert!(rounded.weights != plain.weights && rounded.weights != model.weights);
    assert!(rounded.weights.iter().any(|w| (w * 4.0).fract() != 0.0), "what is trained is not rounded");
}

/// Pulls all outputs towards zero, strongly.
struct Pull;

impl Extension for Pull {
    fn loss(&mut self, _at: Moment, _batch: &Batch, passed: &Passed<'_>) -> Result<Option<ExtraLoss>> {
        let Passed { outputs, scale, .. } = *passed;
        let sum = outputs.iter().map(|o| 50.0 * f64::from(o * o)).sum();
        Ok(Some(ExtraLoss { sum, gradient: outputs.iter().map(|o| 100.0 * scale * o).collect(), taps: Vec::new() }))
    }
}

#[test]
fn a_second_loss_adds_to_the_first_and_to_its_gradient() {
    let (_, pulled) = trained(vec![Box::new(Pull)]);
    let (_, plain) = trained(Vec::new());
    assert!(pulled.history[0].train_loss > plain.history[0].train_loss);
    let last = |t: &Trained| t.history.last().unwrap().train_loss;
    assert!(last(&pulled) < pulled.history[0].train_loss, "it is made small");
    assert!(last(&plain) < last(&pulled));
}

/// Says that every sample is half of each class.
struct Undecided;

impl Extension for Undecided {
    fn batch(&mut self, _at: Moment, batch: &mut Batch) -> Result<()> {
        batch.targets = vec![0.5; 2 * batch.indices.len()];
        Ok(())
    }
}

#[test]
fn soft_targets_of_a_changed_batch_take_the_place_of_labels() {
    let (_, undecided) = trained(vec![Box::new(Undecided)]);
    let least = std::f64::consts::LN_2;
    assert!(undecided.history.iter().all(|e| e.train_loss >= least - 1e-6), "two equal halves cost ln 2 at least");
}
