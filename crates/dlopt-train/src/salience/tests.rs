//! Scores against finite differences and values by hand, and statistics against those of the whole split.

use dlopt_checkpoint::Dtype;
use dlopt_data::{Batch, DatasetInfo, Elements, Parts};
use dlopt_model::{Description, FlatLayout, JointChanges, Mode, ModelConfig, Network, Shape, coupling, initial_values};

use super::*;
use crate::loss::LossOptions;
use crate::statistics;

const SHAPE: Shape = Shape::Image { height: 3, width: 4, channels: 2 };
const SAMPLES: usize = 24;

/// Pictures that differ from sample to sample, in three classes.
fn dataset() -> Dataset {
    let mut info = DatasetInfo::plain(Elements::Image { height: 3, width: 4, channels: 2 });
    info.classes = ["a", "b", "c"].map(str::to_owned).to_vec();
    info.splits = [("train".to_owned(), [0, SAMPLES]), ("test".to_owned(), [SAMPLES, SAMPLES + 4])].into();
    let values: Vec<f32> = (0..(SAMPLES + 4) * SHAPE.len()).map(|i| (i as f32 * 0.61).sin() + 0.2).collect();
    let labels = (0..SAMPLES as u32 + 4).map(|at| at * 5 % 3).collect();
    let inputs = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let name = "pictures".to_owned();
    Dataset::from_parts(Parts { name, info, dtype: Dtype::F32, inputs, labels, targets: None, lengths: None }).unwrap()
}

fn network(layers: &str) -> Loaded {
    let description =
        Description::from_toml(&format!("layers = [{layers}, {{ type = \"dense\", units = \"classes\" }}]"));
    let config = ModelConfig::new(&description.unwrap(), SHAPE, 3, Vec::new()).unwrap();
    let nodes = config.resolve().unwrap();
    let layout = FlatLayout::of(&nodes);
    let (mut params, mut buffers) = initial_values(&nodes, &layout, 3).unwrap();
    params.iter_mut().enumerate().for_each(|(i, value)| *value += 0.05 * (i as f32 * 0.7).sin());
    buffers.iter_mut().enumerate().for_each(|(i, value)| *value += 0.3 * (i as f32 * 0.9).sin());
    Loaded { config, nodes, layout, params, buffers }
}

fn found(criterion: &str, loaded: &Loaded, batches: [usize; 2]) -> GivenImportance {
    let (dataset, team) = (dataset(), Arc::new(Team::new(2)));
    let looking = Looking { dataset: &dataset, split: "train", batches, team: &team, stop: &false.into() };
    Salience::named(criterion).unwrap().of(loaded, &looking).unwrap()
}

/// The loss of each sample of the training split, in inference.
fn losses(loaded: &Loaded, params: &[f32]) -> Vec<f64> {
    let mut network = Network::new(&loaded.nodes, &loaded.layout, &[], Arc::new(Team::new(1)));
    network.load(params, false);
    let (dataset, mut batch) = (dataset(), Batch::default());
    let mut one = |sample: usize| {
        dataset.gather(&[sample], &mut batch).unwrap();
        let outputs = network.forward(params, &mut loaded.buffers.clone(), &batch.inputs, None, Mode::Inference);
        let options = LossOptions { class_weights: &[], label_smoothing: 0.0, scale: 1.0 };
        Loss::CrossEntropy.evaluate(&options, &outputs, &batch, &mut [0.0; 3])
    };
    (0..SAMPLES).map(&mut one).collect()
}

/// The slope of each sample's loss as a weight grows by its own size, for every weight.
fn slopes(loaded: &Loaded) -> Vec<Vec<f64>> {
    let slope = |at: usize| {
        let moved = |by: f32| {
            let mut params = loaded.params.clone();
            params[at] *= 1.0 + by;
            losses(loaded, &params)
        };
        let (up, down) = (moved(0.02), moved(-0.02));
        up.iter().zip(down).map(|(up, down)| (up - down) / 0.04).collect()
    };
    (0..loaded.params.len()).map(slope).collect()
}

#[test]
fn gradients_score_as_the_slope_of_the_loss_does() {
    let loaded = network(
        "{ type = \"conv2d\", filters = 4, kernel = 2, activation = \"tanh\" }, { type = \"batch_norm\" }, \
         { type = \"dropout\", rate = 0.9 }, { type = \"global_avg_pool\" }, { type = \"dense\", units = 3, activation = \"tanh\" }",
    );
    let slopes = slopes(&loaded);
    let graph = coupling(&loaded.nodes);
    for (criterion, batch, looked_at, factor) in [("taylor", 6, 6, 1.0), ("fisher", 6, 1, 0.5)] {
        let mut wanted = JointChanges::new(&graph);
        for first in (0..SAMPLES).step_by(looked_at) {
            let mean = |own: &Vec<f64>| (own[first..first + looked_at].iter().sum::<f64>() / looked_at as f64) as f32;
            let products: Vec<f32> = slopes.iter().map(mean).collect();
            wanted.add(&loaded.layout.params_to_checkpoint(&products));
        }
        let wanted = wanted.importance("", Value::Null, factor);
        let found = found(criterion, &loaded, [SAMPLES / batch, batch]);
        for (found, wanted) in found.groups.iter().flatten().zip(wanted.groups.iter().flatten()) {
            let size = wanted.iter().fold(1e-9_f64, |size, value| size.max(*value));
            for (a, b) in found.iter().zip(wanted) {
                assert!((a - b).abs() < 0.03 * size, "{criterion}: {a} and {b}");
            }
        }
        assert!(found.groups[3].is_none(), "nothing reads what comes out");
        let tensors = found.tensors.unwrap();
        assert!(tensors["conv1.weight"] > 0.0 && tensors["bn1.weight"] == 0.0);
    }
}

#[test]
fn a_channel_counts_as_the_gate_behind_it() {
    // `fc1`, 3 units of the pictures' mean, then `tanh`: the product of the readers' weights with their gradients is that of
    // what they read with its gradient.
    let loaded = network("{ type = \"global_avg_pool\" }, { type = \"dense\", units = 3, activation = \"tanh\" }");
    let gated = |unit: usize, by: f32| {
        let mut all = loaded.layout.to_checkpoint(&loaded.params, &loaded.buffers);
        let weight = all.iter_mut().find(|tensor| tensor.name == "fc2.weight").unwrap();
        weight.values.iter_mut().skip(unit).step_by(3).for_each(|value| *value *= by);
        let values =
            |own: &dlopt_model::FlatTensor| Ok(all.iter().find(|t| t.name == own.name).unwrap().values.clone());
        losses(&loaded, &loaded.layout.params_from_checkpoint(values).unwrap())
    };
    let found = found("fisher", &loaded, [4, 6]);
    for (unit, found) in found.groups[1].as_ref().unwrap().iter().enumerate() {
        let slopes = gated(unit, 1.02).into_iter().zip(gated(unit, 0.98)).map(|(up, down)| (up - down) / 0.04);
        let wanted = 0.5 * slopes.map(|slope| slope * slope).sum::<f64>() / SAMPLES as f64;
        assert!((found - wanted).abs() < 0.02 * wanted, "{found} and {wanted}");
    }
}

#[test]
fn activations_are_counted_behind_their_function_and_within_blocks() {
    let loaded = network(
        "{ type = \"conv2d\", filters = 4, kernel = 2, activation = \"relu\" }, \
         { type = \"residual\", body = [{ type = \"conv2d\", filters = 3, kernel = 1, activation = \"relu\" }, \
         { type = \"conv2d\", filters = 4, kernel = 1 }] }, { type = \"flatten\" }, { type = \"dense\", units = 2 }",
    );
    // The same by a network of the first layers, and of the block's on what comes out of them.
    let part = |from: usize, to: usize, inputs: &[f32]| {
        let mut nodes = loaded.nodes[from..to].to_vec();
        if let [dlopt_model::Node { op: dlopt_model::Op::Residual { body, .. }, .. }] = &nodes[..] {
            nodes = body[..2].to_vec();
        }
        let layout = FlatLayout::of(&nodes);
        let stored = loaded.layout.to_checkpoint(&loaded.params, &loaded.buffers);
        let values = |own: &dlopt_model::FlatTensor| {
            Ok(stored.iter().find(|tensor| tensor.name == own.name).unwrap().values.clone())
        };
        let (params, mut buffers) = layout.from_checkpoint(values).unwrap();
        let mut network = Network::new(&nodes, &layout, &[], Arc::new(Team::new(1)));
        network.load(&params, false);
        network.forward(&params, &mut buffers, inputs, None, Mode::Inference)
    };
    let (data, mut batch) = (dataset(), Batch::default());
    data.gather(&(0..SAMPLES).collect::<Vec<_>>(), &mut batch).unwrap();
    let first = part(0, 2, &batch.inputs);
    let inner = part(2, 3, &first);
    let means = |values: &[f32], channels: usize, score: fn(f64) -> f64| {
        let mut sums = vec![0.0; channels];
        values.iter().enumerate().for_each(|(at, value)| sums[at % channels] += score(f64::from(*value)));
        sums.into_iter().map(|sum| sum * channels as f64 / values.len() as f64).collect::<Vec<f64>>()
    };
    let close = |found: &Option<Vec<f64>>, wanted: &[f64]| {
        let found = found.as_ref().unwrap();
        found.len() == wanted.len() && found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6)
    };
    for (criterion, score) in
        [("mean-activation", f64::abs as fn(f64) -> f64), ("apoz", |v| f64::from(u8::from(v > 0.0)))]
    {
        let found = found(criterion, &loaded, [5, 5]);
        assert!(close(&found.groups[1], &means(&first, 4, score)), "{criterion}: {found:?}");
        assert!(close(&found.groups[2], &means(&inner, 3, score)), "{criterion}: {found:?}");
        // What goes in is put out by no layer; what is flattened counts by what lies before it.
        assert!(found.groups[0].is_none() && found.tensors.is_none());
    }
}

#[test]
fn statistics_are_those_of_the_data() {
    let loaded = network("{ type = \"batch_norm\" }, { type = \"global_avg_pool\" }");
    let (dataset, team) = (dataset(), Arc::new(Team::new(2)));
    let looking = |batches| Looking { dataset: &dataset, split: "train", batches, team: &team, stop: &STOP };
    static STOP: AtomicBool = AtomicBool::new(false);
    let found = statistics(&loaded, &looking([1, SAMPLES])).unwrap();
    let mut batch = Batch::default();
    dataset.gather(&(0..SAMPLES).collect::<Vec<_>>(), &mut batch).unwrap();
    for channel in 0..2 {
        let own: Vec<f64> = batch.inputs.iter().skip(channel).step_by(2).map(|v| f64::from(*v)).collect();
        let mean = own.iter().sum::<f64>() / own.len() as f64;
        // Unbiased, as PyTorch keeps it.
        let variance = own.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (own.len() - 1) as f64;
        assert_eq!([found[0].name.as_str(), found[1].name.as_str()], ["bn1.running_mean", "bn1.running_var"]);
        assert!((f64::from(found[0].values[channel]) - mean).abs() < 1e-5, "{found:?}, {mean}");
        assert!((f64::from(found[1].values[channel]) - variance).abs() < 1e-5, "{found:?}, {variance}");
    }
    let plain = network("{ type = \"global_avg_pool\" }");
    assert!(statistics(&plain, &looking([1, 4])).unwrap().is_empty());
    let error = statistics(&loaded, &looking([0, 4])).unwrap_err();
    assert!(error.message().contains("no samples to look at"), "{error}");
    let facts = looking([2, 7]).facts().unwrap();
    assert_eq!((facts["samples"].as_u64(), facts["split"].as_str()), (Some(14), Some("train")));
}

#[test]
fn biases_give_outputs_the_means_back_that_they_had() {
    let whole = network(
        "{ type = \"conv2d\", filters = 4, kernel = 2, activation = \"relu\" }, { type = \"flatten\" }, \
         { type = \"dense\", units = 5, activation = \"tanh\" }",
    );
    let mut left = whole.clone();
    // Some weights of every layer are gone, and no bias.
    for tensor in left.layout.tensors().to_vec().iter().filter(|tensor| tensor.shape.len() > 1) {
        left.params[tensor.range.clone()].iter_mut().step_by(3).for_each(|weight| *weight = 0.0);
    }
    let (dataset, team) = (dataset(), Arc::new(Team::new(2)));
    let looking = Looking { dataset: &dataset, split: "train", batches: [4, 6], team: &team, stop: &false.into() };
    let found = crate::biases(&whole, &left, |_| None, &looking).unwrap();
    assert_eq!(found.len(), 3);
    let outputs = |loaded: &Loaded| {
        let mut network = Network::new(&loaded.nodes, &loaded.layout, &[], Arc::new(Team::new(1)));
        network.load(&loaded.params, false);
        let mut batch = Batch::default();
        dataset.gather(&(0..SAMPLES).collect::<Vec<_>>(), &mut batch).unwrap();
        let values = network.forward(&loaded.params, &mut [], &batch.inputs, None, Mode::Inference);
        [0, 1, 2].map(|at| values.iter().skip(at).step_by(3).sum::<f32>() / SAMPLES as f32)
    };
    let apart = |a: [f32; 3], b: [f32; 3]| (0..3).map(|at| (a[at] - b[at]).abs()).fold(0.0, f32::max);
    let wanted = outputs(&whole);
    assert!(apart(outputs(&left), wanted) > 0.01);
    for own in found {
        let tensor = left.layout.tensors().iter().find(|tensor| tensor.name == own.name).unwrap().clone();
        left.params[tensor.range].copy_from_slice(&own.values);
    }
    assert!(apart(outputs(&left), wanted) < 1e-5);
    assert!(crate::biases(&whole, &whole, |_| None, &looking).unwrap().is_empty(), "what is whole stays as it is");
}
