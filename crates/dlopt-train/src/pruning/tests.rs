use dlopt_model::{Description, Shape, resolve};

use super::*;
use crate::masks::ranges_of_weights;

fn pruning(text: &str) -> Pruning {
    Pruning::parse(text).unwrap()
}

fn planned(layers: &str, shape: &Shape) -> (Vec<Node>, FlatLayout) {
    let description = Description::from_toml(&format!("layers = [{layers}]")).unwrap();
    let nodes = resolve(&description, shape, 2).unwrap();
    let layout = FlatLayout::of(&nodes);
    (nodes, layout)
}

fn dense() -> (Vec<Node>, FlatLayout) {
    let layers = "{ type = \"dense\", units = 4 }, { type = \"dense\", units = \"classes\" }";
    planned(layers, &Shape::Vector { features: 5 })
}

fn at(step: u64) -> Moment {
    Moment { epoch: 0, step, steps: 40, key: 0, learning_rate: 0.0 }
}

#[test]
fn terms_are_read_in_any_order_and_others_are_named() {
    let read = pruning("magnitude 0.9 cubic 1..8");
    assert_eq!((read.sparsity, read.curve, read.begin, read.end), (0.9, Curve::Cubic, 1.0, Some(8.0)));
    let read = pruning("every=50,tensor,once,0.5");
    assert_eq!((read.every, read.scope, read.curve), (Some(50), Some(Among::Tensor), Curve::Once));
    for text in ["cubic", "0.9 sooner", "0.9 1..x", "0.9 every=-1"] {
        assert!(Pruning::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_schedule_lies_within_the_training() {
    for (text, part) in [
        ("0.9 5..2", "ends before it begins"),
        ("0.9 0..11", "after epoch 11"),
        ("1.5", "between 0 and 1"),
        ("0.9 every=0", "1 or more updates"),
        ("0.9 -1..3", "from 0 on"),
    ] {
        let error = pruning(text).check(10).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    pruning("0.9 0..10").check(10).unwrap();
    pruning("0.9 9..9").check(10).unwrap();
}

#[test]
fn the_share_of_zeros_grows_along_its_curve() {
    let span = Span { begin: 10, end: 30, every: 5 };
    let shares = |text: &str| -> Vec<Option<f64>> {
        [9, 10, 12, 20, 30, 35].map(|step| pruning(text).sparsity_after(step, span, 0.1)).to_vec()
    };
    assert_eq!(shares("0.9 linear"), [None, Some(0.1), None, Some(0.5), Some(0.9), None]);
    assert_eq!(shares("0.9 once"), [None, Some(0.9), None, Some(0.9), Some(0.9), None]);
    let cubic = shares("0.9 cubic");
    assert!((cubic[3].unwrap() - (0.9 - 0.8 * 0.125)).abs() < 1e-12 && cubic[4] == Some(0.9));
}

#[test]
fn weights_that_left_never_come_back() {
    let (nodes, layout) = dense();
    let first: Vec<f32> = (0..layout.params_len).map(|i| (i as f32 * 0.37).sin() + 0.01).collect();
    let mut own = GradualPruning::new(&pruning("0.75 0..8 every=1"), 10, &nodes, &layout, &[], &first).unwrap();
    let (mut weights, mut gone) = (first, 0);
    let mut saved = own.clone();
    for step in 0..40 {
        weights.iter_mut().enumerate().for_each(|(i, w)| *w += (i as f32 + step as f32).cos() * 0.1);
        own.updated(at(step), &mut weights).unwrap();
        let zeros = Masks::of(&layout, &weights).zeros();
        assert!(zeros >= gone && zeros == own.masks.zeros(), "update {step}");
        gone = zeros;
        if step == 20 {
            saved.restore(&own.save()).unwrap();
            assert_eq!(saved.masks.to_floats(), own.masks.to_floats());
        }
    }
    assert_eq!(gone, 21, "three quarters of 28 weights");
    assert!(!own.may_end(at(31)) && own.may_end(at(32)));
}

#[test]
fn tensors_are_pruned_alike_or_together() {
    let (nodes, layout) = dense();
    let weights: Vec<f32> = (0..layout.params_len).map(|i| if i < 24 { 1.0 } else { 0.1 }).collect();
    let zeros = |scope: &str| {
        let mut own =
            GradualPruning::new(&pruning(&format!("0.25 once {scope} 0..0")), 10, &nodes, &layout, &[], &weights);
        let mut left = weights.clone();
        own.as_mut().ok().unwrap().updated(at(0), &mut left).unwrap();
        ranges_of_weights(&layout).into_iter().map(|r| left[r].iter().filter(|w| **w == 0.0).count()).collect()
    };
    let (global, tensor): (Vec<usize>, Vec<usize>) = (zeros("global"), zeros("tensor"));
    assert_eq!((global, tensor), (vec![0, 7], vec![5, 2]));
}

/// Trains nothing: chooses once, and returns what is left as a checkpoint has it, with the masks.
fn once(text: &str, nodes: &[Node], layout: &FlatLayout, weights: &[f32]) -> (Vec<dlopt_model::NamedTensor>, Masks) {
    let mut own = GradualPruning::new(&pruning(text), 10, nodes, layout, &[], weights).ok().unwrap();
    let mut left = weights.to_vec();
    own.updated(at(0), &mut left).unwrap();
    (layout.params_to_checkpoint(&left), own.masks)
}

fn waves(layout: &FlatLayout) -> Vec<f32> {
    (0..layout.params_len).map(|i| (i as f32 * 0.37).sin() + 0.01).collect()
}

#[test]
fn patterns_imply_a_sparsity_or_need_one() {
    assert_eq!(pruning("1:4 cubic 1..8").sparsity, 0.75);
    assert_eq!(pruning("0.5,channels,neurons").pattern.to_string(), "channels,neurons");
    for (text, part) in [
        ("2:4 0.7", "2:4 is a sparsity of 0.5, not 0.7"),
        ("2:4 global", "compares the weights of each group"),
        ("2:4 4x1", "`2:4,4x1` is no pattern"),
        ("0", "how sparse the network shall become"),
        ("channels", "how sparse the network shall become"),
        ("0.5 layers", "whole layers do not leave while training"),
    ] {
        let error = Pruning::parse(text).unwrap_err();
        assert!(error.message().contains(part), "{text}: {error}");
    }
}

#[test]
fn groups_along_the_inputs_lose_their_smallest() {
    let (nodes, layout) = dense();
    let weights = waves(&layout);
    let before = layout.params_to_checkpoint(&weights);
    let (after, _) = once("1:4 once 0..0", &nodes, &layout, &weights);
    for (before, after) in before.iter().zip(&after).filter(|(before, _)| before.shape.len() == 2) {
        let columns = before.shape[1];
        for (was, is) in before.values.chunks(columns).zip(after.values.chunks(columns)) {
            for (was, is) in was.chunks(4).zip(is.chunks(4)) {
                // A tail keeps its share rounded up, so a single weight stays.
                assert_eq!(is.iter().filter(|v| **v != 0.0).count(), 1);
                let largest = was.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap();
                assert!(is.contains(&largest));
            }
        }
    }
    // Half of the way each group of four has lost one of its three.
    let mut own =
        GradualPruning::new(&pruning("1:4 linear 0..4 every=1"), 4, &nodes, &layout, &[], &weights).ok().unwrap();
    let mut left = weights;
    own.updated(at(19), &mut left).unwrap();
    let first = &layout.params_to_checkpoint(&left)[0].values[..4];
    assert_eq!(first.iter().filter(|v| **v == 0.0).count(), 1);
}

#[test]
fn blocks_leave_as_a_whole() {
    let (nodes, layout) = dense();
    let (after, masks) = once("0.5 once 2x2 tensor 0..0", &nodes, &layout, &waves(&layout));
    let first = &after[0];
    assert_eq!(first.shape, [4, 5]);
    let at = |row: usize, column: usize| first.values[row * 5 + column] == 0.0;
    let mut gone = 0;
    for (row, column) in [(0, 0), (0, 2), (2, 0), (2, 2)] {
        let own = [at(row, column), at(row, column + 1), at(row + 1, column), at(row + 1, column + 1)];
        assert!(own.iter().all(|zero| *zero == own[0]), "block {row}, {column}");
        gone += 4 * usize::from(own[0]);
    }
    // The last column is in blocks of two rows and one column.
    assert!(at(0, 4) == at(1, 4) && at(2, 4) == at(3, 4));
    gone += 2 * (usize::from(at(0, 4)) + usize::from(at(2, 4)));
    assert_eq!((gone, masks.zeros()), (12, 16), "half of twenty lies between two and three blocks; half of eight");
}

#[test]
fn channels_leave_with_all_that_writes_and_reads_them() {
    let layers = "{ type = \"conv2d\", filters = 4, kernel = 2, bias = false }, { type = \"batch_norm\" }, \
                  { type = \"activation\", function = \"relu\" }, { type = \"flatten\" }, { type = \"dense\", units = 6 }, \
                  { type = \"dense\", units = \"classes\" }";
    let (nodes, layout) = planned(layers, &Shape::Image { height: 3, width: 3, channels: 2 });
    let weights = waves(&layout);
    let (after, masks) = once("0.5 once channels 0..0", &nodes, &layout, &weights);
    let tensor = |role: &str| after.iter().find(|t| t.name.ends_with(role)).unwrap();
    let filters: Vec<bool> = tensor("conv1.weight").values.chunks(8).map(|f| f.iter().all(|v| *v == 0.0)).collect();
    assert_eq!(filters.iter().filter(|gone| **gone).count(), 2);
    let norms: Vec<&dlopt_model::NamedTensor> = after.iter().filter(|t| t.shape == [4]).collect();
    assert_eq!(norms.len(), 2, "scale and shift");
    for norm in norms {
        assert_eq!(norm.values.iter().map(|v| *v == 0.0).collect::<Vec<_>>(), filters, "{}", norm.name);
    }
    let reader = after.iter().find(|t| t.shape == [6, 16]).unwrap();
    for row in reader.values.chunks(16) {
        let zeros: Vec<bool> = row.chunks(4).map(|own| own.iter().all(|v| *v == 0.0)).collect();
        assert_eq!(zeros, filters);
    }
    // Neurons were not asked for, and nothing that left may come back, the shift of a norm neither.
    assert!(after.iter().find(|t| t.shape == [6]).unwrap().values.iter().all(|v| *v != 0.0));
    let mut gradients = vec![1.0; layout.params_len];
    masks.clone().gradients(at(1), &weights, &mut gradients).unwrap();
    let shift = after.iter().filter(|t| t.shape == [4]).nth(1).unwrap();
    let moved = layout.params_to_checkpoint(&gradients).into_iter().find(|t| t.name == shift.name).unwrap();
    assert_eq!(moved.values.iter().map(|v| *v == 0.0).collect::<Vec<_>>(), filters);
    let error = |text: &str| GradualPruning::new(&pruning(text), 10, &nodes, &layout, &[], &weights).err().unwrap();
    assert!(error("0.5 hidden").message().contains("no hidden of this network can leave"));
    assert!(error("0.8 channels").message().contains("75.00% can"));
}
