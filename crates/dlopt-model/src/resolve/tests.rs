//! Presets by hand, names, refusals, and windows of any size.

use super::*;
use crate::description::{Answers, Padding, Tokens};
use crate::plan::parameters;
use crate::presets::{PRESETS, Preset};
use dlopt_checkpoint::{Dtype, LayerKind, Model, TensorInfo};
use proptest::prelude::*;

fn picture(height: usize, width: usize, channels: usize) -> Shape {
    Shape::Image { height, width, channels }
}

fn preset(name: &str, input: Shape, outputs: usize) -> Vec<Node> {
    resolve(&Preset::named(name).unwrap().description(), &input, outputs).unwrap()
}

fn layers(text: &str, input: Shape, outputs: usize) -> Result<Vec<Node>> {
    resolve(&Description::from_toml(&format!("layers = [{text}]")).unwrap(), &input, outputs)
}

fn trained(nodes: &[Node]) -> usize {
    parameters(nodes).iter().filter(|p| p.is_trained).map(|p| p.len()).sum()
}

#[test]
fn the_seed_network_has_its_known_shapes() {
    let nodes = preset("cnn", picture(28, 28, 1), 10);
    let shapes: Vec<(&str, Shape)> = nodes.iter().map(|n| (n.name.as_str(), n.output.clone())).collect();
    let vector = |features| Shape::Vector { features };
    assert_eq!(
        shapes,
        [
            ("conv1", picture(26, 26, 32)),
            ("conv1.relu", picture(26, 26, 32)),
            ("pool1", picture(13, 13, 32)),
            ("conv2", picture(11, 11, 64)),
            ("conv2.relu", picture(11, 11, 64)),
            ("pool2", picture(5, 5, 64)),
            ("flatten", vector(1600)),
            ("fc1", vector(64)),
            ("fc1.relu", vector(64)),
            ("fc2", vector(10)),
        ]
    );
    let names: Vec<(&str, &[usize])> =
        parameters(&nodes).into_iter().map(|p| (p.name.as_str(), p.shape.as_slice())).collect();
    assert_eq!(
        names,
        [
            ("conv1.weight", &[32, 1, 3, 3][..]),
            ("conv1.bias", &[32]),
            ("conv2.weight", &[64, 32, 3, 3]),
            ("conv2.bias", &[64]),
            ("fc1.weight", &[64, 1600]),
            ("fc1.bias", &[64]),
            ("fc2.weight", &[10, 64]),
            ("fc2.bias", &[10]),
        ]
    );
    assert_eq!(trained(&nodes), 121_930);
    assert_eq!(parameters(&nodes)[4].role, Role::DenseWeight { flattened: Some([5, 5, 64]) });
    assert_eq!(parameters(&nodes)[6].role, Role::DenseWeight { flattened: None });
}

#[test]
fn presets_have_the_sizes_of_their_papers() {
    assert_eq!(trained(&preset("lenet5", picture(28, 28, 1), 10)), 61_706);
    assert_eq!(trained(&preset("lenet300", picture(28, 28, 1), 10)), 266_610);
    // 0.27 million, with the three extra tensors of each of two shortcuts: 269,722 + 2,752.
    assert_eq!(trained(&preset("resnet20", picture(32, 32, 3), 10)), 272_474);
    // 4 gates, 28 inputs and 128 states, two biases; 128 to 10.
    assert_eq!(trained(&preset("lstm", Shape::Series { time: 28, features: 28 }, 10)), 4 * 128 * (28 + 128 + 2) + 1290);
    assert_eq!(trained(&preset("gru", picture(28, 14, 2), 10)), 3 * 128 * (28 + 128 + 2) + 1290);
    assert_eq!(trained(&preset("mlp", Shape::Vector { features: 13 }, 3)), 13 * 128 + 128 + 128 * 64 + 64 + 195);
    let mobile = preset("mobilenet", picture(28, 28, 1), 10);
    assert_eq!(mobile[mobile.len() - 2].input, picture(7, 7, 256));
    let residual = preset("resnet20", picture(28, 28, 1), 10);
    assert_eq!(residual[residual.len() - 2].input, picture(7, 7, 64));
}

#[test]
fn every_preset_takes_some_kind_of_sample() {
    let samples = [
        picture(28, 28, 1),
        picture(32, 31, 3),
        Shape::Series { time: 29, features: 12 },
        Shape::Vector { features: 4 },
        Shape::Tokens { time: 9 },
    ];
    let tokens = Tokens { vocabulary: Some(5), answers: Some(Answers { steps: 4, start: 1, end: 2 }) };
    for preset in PRESETS {
        let description = preset.description().with_tokens(&tokens);
        let is_per_step = ["charlstm", "seq2seq"].contains(&preset.name);
        let taken = samples.iter().filter(|s| resolve_for(&description, s, 3, is_per_step).is_ok()).count();
        assert!(taken >= 1, "{}", preset.name);
        assert!(preset.description().summary.is_some(), "{}", preset.name);
    }
}

#[test]
fn prune_and_quantize_take_layers_for_what_they_are() {
    let kind = |nodes: &[Node], name: &str| {
        let all = parameters(nodes);
        let own = all.iter().find(|p| p.name == name).unwrap_or_else(|| panic!("{name}"));
        Model::default().layer(&TensorInfo::new(name, Dtype::F32, own.shape.clone())).kind
    };
    let cnn = preset("cnn", picture(28, 28, 1), 10);
    assert_eq!(kind(&cnn, "conv1.weight"), LayerKind::Convolution);
    assert_eq!(kind(&cnn, "fc1.weight"), LayerKind::Linear);
    assert_eq!(kind(&cnn, "fc2.weight"), LayerKind::Linear);
    assert_eq!(kind(&cnn, "fc2.bias"), LayerKind::Bias);
    let residual = preset("resnet20", picture(28, 28, 1), 10);
    assert_eq!(kind(&residual, "layer2.0.conv1.weight"), LayerKind::Convolution);
    assert_eq!(kind(&residual, "layer2.0.downsample.0.weight"), LayerKind::Convolution);
    assert_eq!(kind(&residual, "layer2.0.bn1.weight"), LayerKind::Norm);
    assert_eq!(kind(&residual, "layer2.0.bn1.running_var"), LayerKind::Norm);
    assert_eq!(kind(&residual, "fc.weight"), LayerKind::Head);
    let mobile = preset("mobilenet", picture(28, 28, 1), 10);
    assert_eq!(kind(&mobile, "conv2.weight"), LayerKind::Convolution);
    let lstm = preset("lstm", picture(28, 28, 1), 10);
    assert_eq!(kind(&lstm, "lstm.weight_hh_l0"), LayerKind::Recurrent);
    assert_eq!(kind(&lstm, "lstm.bias_ih_l0"), LayerKind::Bias);
    assert_eq!(kind(&lstm, "fc.weight"), LayerKind::Head);
    let text = "{ type = \"embedding\", vocabulary = 9, size = 5 }, { type = \"conv1d\", filters = 3, kernel = 2 }, \
                { type = \"global_max_pool\" }, { type = \"dense\", units = \"classes\" }";
    let words = layers(text, Shape::Tokens { time: 7 }, 2).unwrap();
    assert_eq!(kind(&words, "embedding.weight"), LayerKind::Embedding);
    assert_eq!(kind(&words, "conv1.weight"), LayerKind::Convolution);
    let tokens = Tokens { vocabulary: Some(9), answers: Some(Answers { steps: 4, start: 1, end: 2 }) };
    let description = Preset::named("seq2seq").unwrap().description().with_tokens(&tokens);
    let translation = resolve_for(&description, &Shape::Tokens { time: 7 }, 12, true).unwrap();
    assert_eq!(kind(&translation, "encoder.embedding.weight"), LayerKind::Embedding);
    assert_eq!(kind(&translation, "decoder.gru.weight_ih_l0"), LayerKind::Recurrent);
    assert_eq!(kind(&translation, "attention.weight"), LayerKind::Linear);
    assert_eq!(kind(&translation, "output.weight"), LayerKind::Head);
}

#[test]
fn extents_of_a_translation_past_any_machine_are_refused() {
    for option in ["embedding", "hidden", "vocabulary", "steps"] {
        for value in ["0", "99999999999"] {
            let text = format!("layers = [{{ type = \"seq2seq\", {option} = {value} }}]");
            let tokens = Tokens { vocabulary: Some(9), answers: Some(Answers { steps: 4, start: 1, end: 2 }) };
            let description = Description::from_toml(&text).unwrap().with_tokens(&tokens);
            let error = resolve_for(&description, &Shape::Tokens { time: 7 }, 12, true).unwrap_err();
            assert!(error.message().contains(&format!("`{option}` is {value}")), "{error}");
        }
    }
    let text = "layers = [{ type = \"seq2seq\", hidden = 16777216 }]";
    let tokens = Tokens { vocabulary: Some(9), answers: Some(Answers { steps: 4, start: 1, end: 2 }) };
    let description = Description::from_toml(text).unwrap().with_tokens(&tokens);
    let error = resolve_for(&description, &Shape::Tokens { time: 7 }, 12, true).unwrap_err();
    assert!(error.message().contains("is too large"), "{error}");
}

#[test]
fn stacked_layers_have_pytorchs_names() {
    let text = "{ type = \"gru\", hidden = 3, layers = 2, bidirectional = true, dropout = 0.2 }, { type = \"dense\", units = \"classes\" }";
    let nodes = layers(text, Shape::Series { time: 5, features: 4 }, 2).unwrap();
    let names: Vec<&str> = nodes.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["gru.l0", "gru.dropout0", "gru.l1", "fc"]);
    let own: Vec<(&str, &[usize])> =
        nodes[2].parameters.iter().map(|p| (p.name.as_str(), p.shape.as_slice())).collect();
    assert_eq!(own[0], ("gru.weight_ih_l1", &[9, 6][..]));
    assert_eq!(own[5], ("gru.weight_hh_l1_reverse", &[9, 3][..]));
    assert_eq!(nodes[0].output, Shape::Series { time: 5, features: 6 });
    assert_eq!(nodes[2].output, Shape::Vector { features: 6 });
}

#[test]
fn same_padding_halves_with_the_odd_cell_behind() {
    let conv = |size: usize, kernel: usize, stride: usize| {
        let text = format!(
            "{{ type = \"conv2d\", filters = 2, kernel = {kernel}, stride = {stride}, padding = \"same\" }}, \
             {{ type = \"global_avg_pool\" }}"
        );
        let nodes = layers(&text, picture(size, size, 3), 2).unwrap();
        let Op::Convolution { padding, .. } = nodes[0].op else { panic!("not a convolution") };
        (padding, nodes[0].output.clone())
    };
    // Keras: 7 with stride 2 gives 4; 28 with kernel 3 and stride 2 pads one cell, at the end.
    assert_eq!(conv(7, 3, 1), ([1, 1, 1, 1], picture(7, 7, 2)));
    assert_eq!(conv(7, 3, 2), ([1, 1, 1, 1], picture(4, 4, 2)));
    assert_eq!(conv(28, 3, 2), ([0, 1, 0, 1], picture(14, 14, 2)));
    assert_eq!(conv(5, 4, 1), ([1, 2, 1, 2], picture(5, 5, 2)));
    assert_eq!(conv(5, 1, 3), ([0, 0, 0, 0], picture(2, 2, 2)));
}

#[test]
fn shrinking_below_one_names_the_layer_and_the_sizes() {
    let error = resolve(&Preset::named("cnn").unwrap().description(), &picture(8, 8, 1), 10).unwrap_err();
    assert_eq!(
        error.message(),
        "layer `pool2` (max_pool2d): a window of 2 rows does not fit the 1 rows that reach it: nothing would come out"
    );
    let text = "{ type = \"conv1d\", filters = 2, kernel = 3, dilation = 4, padding = [1, 0] }";
    let error = layers(text, Shape::Series { time: 7, features: 2 }, 2).unwrap_err();
    assert_eq!(
        error.message(),
        "layer `conv1` (conv1d): a window of 3 steps, spread over 9 does not fit the 8 steps that reach it with \
         padding, 7 without: nothing would come out"
    );
}

#[test]
fn layers_refuse_what_they_do_not_take() {
    let refused = |text: &str, input: Shape| layers(text, input, 2).unwrap_err().message().to_owned();
    let vector = Shape::Vector { features: 4 };
    assert!(
        refused("{ type = \"conv2d\", filters = 2, kernel = 3 }", vector.clone()).contains("takes pictures; 4 plain")
    );
    assert!(refused("{ type = \"dense\", units = 2 }", picture(3, 4, 5)).contains("a picture of 3 x 4 x 5 reaches it"));
    assert!(refused("{ type = \"lstm\", hidden = 2 }", vector.clone()).contains("takes series"));
    assert!(refused("{ type = \"embedding\", vocabulary = 3, size = 2 }", vector.clone()).contains("takes tokens"));
    assert!(refused("{ type = \"batch_norm\" }", Shape::Tokens { time: 3 }).contains("tokens reach it"));
    assert!(
        refused("{ type = \"dense\", units = 3 }", vector.clone()).contains("ends in 3 plain values; the data want 2")
    );
    assert!(refused("{ type = \"dense\", units = 0 }", vector.clone()).contains("`units` is 0"));
    assert!(refused("{ type = \"dense\", units = 99999999999 }", vector.clone()).contains("at most"));
    assert!(refused("{ type = \"dropout\", rate = 1.0 }", vector.clone()).contains("less than 1"));
    assert!(refused("{ type = \"batch_norm\", momentum = 1.5 }", vector.clone()).contains("a share"));
    assert!(refused("{ type = \"batch_norm\", epsilon = 0 }", vector).contains("more than 0"));
    assert!(
        refused("{ type = \"conv2d\", filters = 4, kernel = 1, groups = 3 }", picture(2, 2, 6)).contains("3 groups")
    );
    assert!(
        refused("{ type = \"max_pool2d\", size = 2, padding = 2 }", picture(6, 6, 1)).contains("as wide as the window")
    );
    let wide = "{ type = \"conv2d\", filters = 16777216, kernel = 16777216, padding = 16777216 }";
    assert!(refused(wide, picture(9, 9, 9)).contains("too large"));
    let uneven = "{ type = \"residual\", body = [{ type = \"conv2d\", filters = 5, kernel = 3 }] }";
    assert!(
        refused(uneven, picture(7, 7, 5))
            .contains("its body gives a picture of 5 x 5 x 5, its shortcut a picture of 7")
    );
    let norm = "{ type = \"flatten\" }, { type = \"batch_norm\" }, { type = \"dense\", units = 2 }";
    assert!(refused(norm, picture(3, 3, 2)).contains("channels first reaches a norm"));
    assert!(
        layers(
            &norm.replace("{ type = \"flatten\" }", "{ type = \"flatten\", order = \"channels_last\" }"),
            picture(3, 3, 2),
            2
        )
        .is_ok()
    );
    assert!(refused("{ type = \"flatten\" }", picture(1, 2, 0)).contains("cannot be a sample"));
    assert!(resolve(&Description::default(), &picture(1, 1, 1), 1).unwrap_err().message().contains("no layers"));
}

proptest! {
    #[test]
    fn windows_cover_what_they_say(size in 1_usize..40, kernel in 1_usize..7, stride in 1_usize..5, dilation in 1_usize..4, before in 0_usize..4, after in 0_usize..4) {
        let padding = Padding::Sides(vec![before, after]);
        let window = Window { kernel: [1, kernel], stride: [1, stride], dilation: [1, dilation], padding: &padding, axes: 1 };
        let reach = dilation * (kernel - 1) + 1;
        match window.slide([1, size]) {
            Ok((_, [1, fits])) => {
                prop_assert!((fits - 1) * stride + reach <= size + before + after);
                prop_assert!(fits * stride + reach > size + before + after);
            }
            Ok(other) => prop_assert!(false, "{other:?}"),
            Err(_) => prop_assert!(reach > size + before + after),
        }
    }

    #[test]
    fn any_sample_is_resolved_or_refused(height in 0_usize..40, width in 0_usize..40, channels in 0_usize..5, outputs in 1_usize..9) {
        for preset in PRESETS {
            for input in [picture(height, width, channels), Shape::Series { time: height, features: width }, Shape::Vector { features: width }, Shape::Tokens { time: height }] {
                if let Ok(nodes) = resolve(&preset.description(), &input, outputs) {
                    prop_assert_eq!(&nodes[nodes.len() - 1].output, &Shape::Vector { features: outputs });
                }
            }
        }
    }
}

#[test]
fn windows_shorten_series_each_by_itself() {
    let text = "{ type = \"conv1d\", filters = 2, kernel = 3, stride = 2 }, { type = \"lstm\", hidden = 2 }";
    let nodes = layers(text, Shape::Series { time: 9, features: 2 }, 2).unwrap();
    // Too short for a window counts as one step, which sees the zeros behind it.
    assert_eq!(nodes[0].steps_of(&[9, 8, 3, 2, 1]), [4, 3, 1, 1, 1]);
    assert_eq!(nodes[1].steps_of(&[4, 1]), [4, 1]);
    let text = "{ type = \"avg_pool1d\", padding = \"same\" }, { type = \"lstm\", hidden = 2 }";
    let nodes = layers(text, Shape::Series { time: 9, features: 2 }, 2).unwrap();
    assert_eq!(nodes[0].steps_of(&[9, 8, 1]), [5, 4, 1]);
}

#[test]
fn the_smallest_table_decides_the_tokens() {
    use crate::plan::vocabulary;
    let text = "{ type = \"embedding\", vocabulary = 9, size = 5 }, { type = \"gru\", hidden = 2 }";
    assert_eq!(vocabulary(&layers(text, Shape::Tokens { time: 7 }, 2).unwrap()), Some(9));
    assert_eq!(vocabulary(&preset("cnn", picture(28, 28, 1), 10)), None);
}

#[test]
fn padding_and_magnitudes_take_what_they_can() {
    let series = Shape::Series { time: 5, features: 6 };
    let nodes = layers(
        "{ type = \"pad1d\", left = 1, right = 4, mode = \"reflect\" }, { type = \"magnitude\" }, { type = \"gru\", hidden = 2 }",
        series.clone(),
        2,
    )
    .unwrap();
    assert_eq!(nodes[0].name, "pad1");
    assert_eq!(nodes[0].output, Shape::Series { time: 10, features: 6 });
    assert_eq!(nodes[0].steps_of(&[5, 2]), [10, 7]);
    assert_eq!((nodes[1].name.as_str(), nodes[1].output.features()), ("magnitude1", 3));
    let refused = |text: &str, input: Shape| layers(text, input, 2).unwrap_err().message().to_owned();
    let message = refused("{ type = \"pad1d\", right = 5, mode = \"reflect\" }", series.clone());
    assert!(message.ends_with("`right` is 5, and a reflection of 5 steps has 4"), "{message}");
    let message = refused("{ type = \"pad1d\", left = 99999999 }", series);
    assert!(message.contains("`left` is 99999999; it is at most"), "{message}");
    assert!(refused("{ type = \"pad1d\", left = 1 }", picture(3, 3, 2)).contains("takes series"));
    assert!(refused("{ type = \"magnitude\" }", Shape::Vector { features: 7 }).contains("7 features reach it"));
    assert!(refused("{ type = \"magnitude\" }", Shape::Tokens { time: 4 }).contains("tokens reach it"));
}
