//! Networks drawn at random over the grammar of descriptions: whatever they are, what is left of them computes what they do
//! without what left, or nothing can leave.

use proptest::prelude::*;

use super::*;

/// Layers that go from pictures to pictures of the same size, to begin with `channels`; and the channels then.
fn picture_layer() -> BoxedStrategy<String> {
    let activation = prop_oneof![Just(""), Just(", activation = \"relu\""), Just(", activation = \"hard_swish\"")];
    let conv = (1_usize..5, 1_usize..4, 1_usize..4, activation, any::<bool>()).prop_map(|(filters, groups, kernel, activation, bias)| {
        // Multiples of 12, so that two or three groups divide whatever goes in.
        format!("{{ type = \"conv2d\", filters = {}, kernel = {kernel}, padding = \"same\", groups = {groups}, bias = {bias}{activation} }}", 12 * filters)
    });
    let depthwise = (1_usize..3, 1_usize..4).prop_map(|(multiplier, kernel)| {
        format!("{{ type = \"depthwise_conv2d\", kernel = {kernel}, multiplier = {multiplier}, padding = \"same\" }}")
    });
    prop_oneof![
        4 => conv,
        1 => depthwise,
        2 => Just("{ type = \"batch_norm\", activation = \"relu\" }".to_owned()),
        1 => Just("{ type = \"avg_pool2d\", size = 2, stride = 1, padding = \"same\" }".to_owned()),
        1 => Just("{ type = \"dropout\", rate = 0.5 }".to_owned()),
    ]
    .boxed()
}

/// A residual block for 24 channels: without a shortcut of its own, or with one.
fn block() -> BoxedStrategy<String> {
    let out = "{ type = \"conv2d\", filters = 24, kernel = 1 }, { type = \"batch_norm\" }";
    (proptest::collection::vec(picture_layer(), 0..3), any::<bool>())
        .prop_map(move |(layers, has_shortcut)| {
            let body: Vec<String> = layers.into_iter().chain([out.to_owned()]).collect();
            let shortcut = if has_shortcut { format!(", shortcut = [{out}]") } else { String::new() };
            format!("{{ type = \"residual\", activation = \"relu\", body = [{}]{shortcut} }}", body.join(", "))
        })
        .boxed()
}

fn head() -> BoxedStrategy<String> {
    prop_oneof![
        Just("{ type = \"global_avg_pool\" }"),
        Just("{ type = \"global_max_pool\" }, { type = \"dense\", units = 7, activation = \"tanh\" }"),
        Just("{ type = \"flatten\" }, { type = \"dense\", units = 6 }, { type = \"batch_norm\" }"),
        Just("{ type = \"flatten\", order = \"channels_last\" }, { type = \"batch_norm\" }"),
        Just("{ type = \"lstm\", hidden = 5, layers = 2 }"),
        Just("{ type = \"gru\", hidden = 4, bidirectional = true, return_sequences = true }, { type = \"conv1d\", filters = 6, kernel = 2 }, { type = \"global_avg_pool\" }"),
        Just("{ type = \"rnn\", hidden = 6, return_sequences = true }, { type = \"residual\", body = [{ type = \"dense\", units = 5, activation = \"relu\" }, { type = \"dense\", units = 6 }] }, { type = \"flatten\" }"),
    ]
    .prop_map(str::to_owned)
    .boxed()
}

fn network() -> BoxedStrategy<String> {
    let trunk = "{ type = \"conv2d\", filters = 24, kernel = 2, padding = \"same\" }".to_owned();
    let front = proptest::collection::vec(picture_layer(), 0..4);
    let blocks = proptest::collection::vec(block(), 0..3);
    (front, blocks, proptest::collection::vec(picture_layer(), 0..3), head())
        .prop_map(move |(front, blocks, back, head)| {
            let first = "{ type = \"conv2d\", filters = 12, kernel = 1 }".to_owned();
            let classes = "{ type = \"dense\", units = \"classes\" }".to_owned();
            let all = [first].into_iter().chain(front).chain([trunk.clone()]).chain(blocks).chain(back);
            all.chain([head, classes]).collect::<Vec<_>>().join(", ")
        })
        .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_left_computes_what_the_whole_does_without_the_rest(
        layers in network(), is_global in any::<bool>(), sparsity in 0.1_f64..0.6, criterion in 0_usize..4,
    ) {
        let own = described(&layers, Shape::Image { height: 4, width: 3, channels: 2 });
        let criterion = ["l1", "l2", "geometric-median", "random"][criterion];
        let options = StructureOptions {
            scope: Some(if is_global { PruneScope::Global } else { PruneScope::Tensor }),
            weigh: Weigh::Weights(importance_named(criterion).unwrap()),
            target: Target::Width,
            ..options("channels,neurons,hidden", sparsity)
        };
        match pruned(&own, &options) {
            Ok((left, report)) => {
                let (found, wanted) = (outputs(&left), outputs(&masked(&own, &report)));
                let size = wanted.iter().fold(1.0_f32, |size, value| size.max(value.abs()));
                for (a, b) in found.iter().zip(&wanted) {
                    prop_assert!((a - b).abs() < 1e-4 * size, "{a} and {b}: {layers}");
                }
            }
            Err(error) => prop_assert!(error.message().contains("can"), "{error}: {layers}"),
        }
    }
}
