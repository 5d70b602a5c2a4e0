//! Students that compute what their teachers compute, once what goes is zero in the teacher.

use super::*;
use crate::plan::Shape;
use crate::testing::{assert_close, clear, described, network, outputs, preset};

/// A student whose fresh values are all one number that no weight is.
fn student(teacher: &Loaded, text: &str) -> (Loaded, TakenOver) {
    let derivation = Derivation::parse(text).unwrap().unwrap();
    let mut config = teacher.config.clone();
    config.description = derivation.description(&config.description).unwrap();
    let nodes = config.resolve().unwrap();
    let layout = FlatLayout::of(&nodes);
    let (mut params, mut buffers) = (vec![FRESH; layout.params_len], vec![FRESH; layout.buffers_len]);
    let taken = derivation.take_over(teacher, &nodes, &layout, &mut params, &mut buffers).unwrap();
    (Loaded { config, nodes, layout, params, buffers }, taken)
}

const FRESH: f32 = 77.0;

/// The teacher with zeros wherever the channels that `text` drops lie.
fn without_what_goes(teacher: &Loaded, text: &str) -> Loaded {
    let (student, _) = student(teacher, text);
    let derivation = Derivation::parse(text).unwrap().unwrap();
    let names = derivation.names(&teacher.config.description, &student.layout).unwrap();
    let graph = coupling(&teacher.nodes);
    let by = importance_named("l2").unwrap();
    let kept = choose(&graph, &coupling(&student.nodes), &names, &Stored::new(teacher), by);
    let mut tensors: BTreeMap<String, NamedTensor> = teacher
        .layout
        .to_checkpoint(&teacher.params, &teacher.buffers)
        .into_iter()
        .map(|tensor| (tensor.name.clone(), tensor))
        .collect();
    let mut cut = 0;
    for (group, kept) in graph.groups.iter().zip(&kept) {
        for channel in (0..group.channels).filter(|channel| !kept.contains(channel)) {
            cut += 1;
            group
                .members
                .iter()
                .for_each(|member| clear(tensors.get_mut(&member.tensor).unwrap(), member, group, channel));
        }
    }
    assert!(cut > 0, "nothing goes");
    let (params, buffers) = teacher.layout.from_checkpoint(|tensor| Ok(tensors[&tensor.name].values.clone())).unwrap();
    Loaded { params, buffers, ..teacher.clone() }
}

/// Checks that the student computes what the teacher does without what goes, and takes over all.
fn check(teacher: &Loaded, text: &str, place: &str) {
    let teacher = without_what_goes(teacher, text);
    let (student, taken) = student(&teacher, text);
    assert!(taken.tensors.iter().all(|tensor| tensor.origin != Origin::Fresh), "{place}: {}", taken.summary());
    assert!(student.params.len() < teacher.params.len(), "{place}");
    assert!(!student.params.contains(&FRESH) && !student.buffers.contains(&FRESH), "{place}");
    assert_close(&outputs(&student), &outputs(&teacher), place);
}

#[test]
fn half_of_every_preset_computes_what_the_teacher_does_without_the_other_half() {
    for name in [
        "cnn",
        "lenet5",
        "lenet300",
        "resnet20",
        "mobilenet",
        "mlp",
        "lstm",
        "gru",
        "bigru",
        "textcnn",
        "textgru",
        "charlstm",
        "seq2seq",
    ] {
        check(&preset(name), "width=0.5", name);
    }
    check(&preset("seq2seq"), "hidden=37", "seq2seq, hidden");
    check(&preset("bigru"), "hidden=37", "bigru, hidden");
}

#[test]
fn odd_layers_are_cut_right() {
    let picture = Shape::Image { height: 5, width: 6, channels: 2 };
    let classes = "{ type = \"dense\", units = \"classes\" }";
    for layers in [
        "{ type = \"conv2d\", filters = 12, kernel = 1 }, { type = \"conv2d\", filters = 24, kernel = 3, groups = 3, activation = \"relu\" }, { type = \"depthwise_conv2d\", kernel = 2, multiplier = 2 }, { type = \"flatten\" }",
        "{ type = \"conv2d\", filters = 12, kernel = 2, activation = \"relu\" }, { type = \"flatten\", order = \"channels_last\" }, { type = \"batch_norm\" }, { type = \"dense\", units = 10, activation = \"tanh\" }",
        "{ type = \"conv2d\", filters = 6, kernel = 2, padding = \"same\" }, { type = \"batch_norm\" }, { type = \"rnn\", hidden = 7, layers = 2, bidirectional = true }",
        "{ type = \"lstm\", hidden = 8, layers = 2, return_sequences = true }, { type = \"conv1d\", filters = 6, kernel = 3, padding = \"same\" }, { type = \"flatten\", order = \"channels_first\" }",
        "{ type = \"gru\", hidden = 8, return_sequences = true }, { type = \"residual\", activation = \"relu\", body = [{ type = \"conv1d\", filters = 10, kernel = 3, padding = \"same\", activation = \"relu\" }, { type = \"conv1d\", filters = 8, kernel = 1 }, { type = \"batch_norm\" }] }, { type = \"global_max_pool\" }",
        "{ type = \"gru\", hidden = 8, return_sequences = true }, { type = \"pad1d\", left = 1, right = 2, mode = \"edge\" }, { type = \"dense\", units = 6 }, { type = \"flatten\" }",
    ] {
        let teacher = described(&format!("{layers}, {classes}"), picture.clone());
        check(&teacher, "width=0.5", layers);
    }
}

#[test]
fn the_whole_teacher_comes_back_bit_for_bit() {
    for name in ["cnn", "resnet20", "bigru", "seq2seq"] {
        let mut teacher = preset(name);
        teacher.params[5] = -0.0;
        teacher.params.iter_mut().rev().take(20).for_each(|value| *value = -0.0);
        let (student, taken) = student(&teacher, "width=1");
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&student.params), bits(&teacher.params), "{name}");
        assert_eq!(bits(&student.buffers), bits(&teacher.buffers), "{name}");
        assert!(taken.tensors.iter().all(|tensor| tensor.origin == Origin::Whole { tensor: tensor.name.clone() }));
    }
}

#[test]
fn a_block_that_adds_nothing_can_be_dropped() {
    let mut teacher = preset("resnet20");
    let silent = ["layer1.1.bn2", "layer2.2.bn2"];
    for tensor in teacher.layout.tensors() {
        if silent.iter().any(|name| tensor.name == format!("{name}.weight") || tensor.name == format!("{name}.bias")) {
            teacher.params[tensor.range.clone()].fill(0.0);
        }
    }
    let (student, taken) = student(&teacher, "layers=0,2,3,4,6,7,8");
    assert!(taken.tensors.iter().all(|tensor| matches!(tensor.origin, Origin::Whole { .. })));
    assert_close(&outputs(&student), &outputs(&teacher), "resnet20");
    check(&teacher, "layers=0,2,3,4,6,7,8;width=0.5", "resnet20, narrow");
}

#[test]
fn layers_of_a_stack_move_up() {
    let layers =
        "{ type = \"gru\", hidden = 6, layers = 4, bidirectional = true }, { type = \"dense\", units = \"classes\" }";
    let teacher = described(layers, Shape::Series { time: 4, features: 3 });
    let (own, taken) = student(&teacher, "layers=0,3");
    let stored = |own: &Loaded, name: &str| {
        let tensors = own.layout.to_checkpoint(&own.params, &own.buffers);
        tensors.into_iter().find(|tensor| tensor.name == name).unwrap().values
    };
    for part in ["weight_ih", "weight_hh", "bias_ih", "bias_hh"] {
        for end in ["", "_reverse"] {
            let (new, old) = (format!("gru.{part}_l1{end}"), format!("gru.{part}_l3{end}"));
            assert_eq!(stored(&own, &new), stored(&teacher, &old));
            let tensor = taken.tensors.iter().find(|tensor| tensor.name == new).unwrap();
            assert_eq!(tensor.origin, Origin::Whole { tensor: old });
        }
    }
    let (_, taken) = student(&teacher, "layers=0,3;hidden=2");
    let moved = taken.tensors.iter().find(|tensor| tensor.name == "gru.weight_ih_l1").unwrap();
    assert_eq!(moved.origin, Origin::Selected { tensor: "gru.weight_ih_l3".into(), of: vec![18, 12] });
    assert_eq!(moved.kept(), "6 of 18 x 4 of 12");
}

#[test]
fn the_heaviest_channels_stay_in_their_order() {
    let layers = "{ type = \"dense\", units = 4 }, { type = \"dense\", units = \"classes\", bias = false }";
    let mut teacher = described(layers, Shape::Vector { features: 1 });
    // `fc1.weight` [4, 1], `fc1.bias`, `fc2.weight` [in, out] in memory. Shares of the units: 1, 4, 9, 4 of 18 and
    // 16, 4, 4, 16 of 40; the bias does not count.
    teacher.params = [1.0, -2.0, 3.0, 2.0].into_iter().chain([50.0, 6.0, 7.0, 8.0]).collect();
    for row in [2.0, 1.0, -1.0, 2.0] {
        teacher.params.extend([row; 4]);
    }
    let (own, taken) = student(&teacher, "width=0.5");
    assert_eq!(own.params[..4], [3.0, 2.0, 7.0, 8.0]);
    assert_eq!(own.params[4..], [-1.0, -1.0, -1.0, -1.0, 2.0, 2.0, 2.0, 2.0]);
    assert_eq!(taken.summary(), "12 of 12 values from the teacher: 0 tensors whole, 3 in part, 0 start anew");
    assert_eq!(taken.tensors[2].kept(), "4 x 2 of 4");
    teacher.params.fill(1.0);
    teacher.params[4..8].copy_from_slice(&[1.0, 2.0, 3.0, 4.0]);
    assert_eq!(student(&teacher, "width=0.5").0.params[2..4], [1.0, 2.0]);
}

#[test]
fn what_does_not_fit_starts_anew() {
    let block = "{ type = \"gru\", hidden = 2, bidirectional = true, return_sequences = true }, \
                 { type = \"residual\", body = [{ type = \"dense\", units = 4 }] }, { type = \"global_avg_pool\" }, \
                 { type = \"dense\", units = 6 }, { type = \"dense\", units = \"classes\" }";
    let teacher = described(block, Shape::Series { time: 4, features: 3 });
    let (own, taken) = student(&teacher, "width=0.5");
    let fresh: Vec<&str> =
        taken.tensors.iter().filter(|t| t.origin == Origin::Fresh).map(|tensor| tensor.name.as_str()).collect();
    // What two directions and one layer add up to cannot be cut in step.
    assert!(fresh.contains(&"gru.weight_ih_l0") && fresh.contains(&"block1.fc.weight"), "{fresh:?}");
    assert!(!fresh.contains(&"fc2.weight"), "{fresh:?}");
    assert!(taken.summary().ends_with("start anew"), "{}", taken.summary());
    let first = own.layout.tensors().iter().find(|tensor| tensor.name == "block1.fc.weight").unwrap();
    assert!(own.params[first.range.clone()].iter().all(|value| *value == FRESH));
    // Another number of classes: all but the last layer is the teacher's.
    let teacher = preset("cnn");
    let other = network(&teacher.config.description, teacher.config.input.clone(), 3, false);
    let (mut params, mut buffers) = (vec![FRESH; other.layout.params_len], Vec::new());
    let whole = Derivation::default();
    let taken = whole.take_over(&teacher, &other.nodes, &other.layout, &mut params, &mut buffers).unwrap();
    let fresh: Vec<&str> =
        taken.tensors.iter().filter(|t| t.origin == Origin::Fresh).map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(fresh, ["fc2.weight", "fc2.bias"]);
    assert_eq!(params.iter().filter(|value| **value == FRESH).count(), 64 * 3 + 3);
}
