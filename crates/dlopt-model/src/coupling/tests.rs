//! Groups of small networks by hand.

use dlopt_prune::Group;

use super::*;
use crate::description::{Answers, Description, Tokens};
use crate::presets::Preset;
use crate::resolve::{resolve, resolve_for};

fn of(layers: &str, input: Shape, outputs: usize) -> Coupling {
    let description = Description::from_toml(&format!("layers = [{layers}]")).unwrap();
    coupling(&resolve(&description, &input, outputs).unwrap())
}

fn picture(channels: usize) -> Shape {
    Shape::Image { height: 4, width: 3, channels }
}

/// The group that a tensor's axis is of, with where its channel 1 lies.
fn find<'a>(coupling: &'a Coupling, tensor: &str, axis: usize) -> (&'a Group, Vec<usize>) {
    let is_own = |member: &&dlopt_prune::Member| member.tensor == tensor && member.axis == axis;
    let own = |group: &'a Group| group.members.iter().find(is_own).map(|member| (group, member.of(1).to_vec()));
    coupling.groups.iter().find_map(own).unwrap()
}

/// Names and axes of a group's members: `conv1.weight 0`.
fn members(group: &Group) -> Vec<String> {
    group.members.iter().map(|member| format!("{} {}", member.tensor, member.axis)).collect()
}

#[test]
fn a_filter_goes_with_its_norm_and_all_that_reads_it() {
    let own = of(
        "{ type = \"conv2d\", filters = 5, kernel = 3, padding = 1 }, { type = \"batch_norm\", activation = \"relu\" }, \
         { type = \"max_pool2d\" }, { type = \"flatten\" }, { type = \"dropout\", rate = 0.5 }, \
         { type = \"dense\", units = 7 }, { type = \"dense\", units = \"classes\" }",
        picture(2),
        3,
    );
    let groups: Vec<(usize, bool)> = own.groups.iter().map(|group| (group.channels, group.is_cuttable())).collect();
    assert_eq!(groups, [(2, false), (5, true), (7, true), (3, false)]);
    assert_eq!(members(&own.groups[0]), ["conv1.weight 1"]);
    let filters = [
        "conv1.weight 0",
        "conv1.bias 0",
        "bn1.weight 0",
        "bn1.bias 0",
        "bn1.running_mean 0",
        "bn1.running_var 0",
        "fc1.weight 1",
    ];
    assert_eq!(members(&own.groups[1]), filters);
    // A picture of 2 x 1, in the checkpoint channel by channel.
    assert_eq!(find(&own, "fc1.weight", 1).1, [2, 3]);
    assert_eq!(members(&own.groups[3]), ["fc2.weight 0", "fc2.bias 0"]);
}

#[test]
fn flattened_with_channels_last_a_channel_lies_apart() {
    let layers = "{ type = \"conv2d\", filters = 5, kernel = 1 }, { type = \"flatten\", order = \"channels_last\" }, \
                  { type = \"layer_norm\" }, { type = \"dense\", units = \"classes\" }";
    let own = of(layers, Shape::Image { height: 1, width: 3, channels: 2 }, 3);
    for (tensor, axis) in [("norm1.weight", 0), ("norm1.bias", 0), ("fc.weight", 1)] {
        let (group, places) = find(&own, tensor, axis);
        assert_eq!((group.channels, places), (5, vec![1, 6, 11]), "{tensor}");
    }
}

#[test]
fn depthwise_filters_are_the_channels_that_go_in() {
    let own = of(
        "{ type = \"conv2d\", filters = 4, kernel = 1 }, { type = \"depthwise_conv2d\", kernel = 3, multiplier = 2 }, \
         { type = \"depthwise_conv2d\", kernel = 1, multiplier = 3 }, { type = \"global_avg_pool\" }, \
         { type = \"dense\", units = \"classes\" }",
        picture(1),
        3,
    );
    assert_eq!(own.groups.iter().map(|group| group.channels).collect::<Vec<_>>(), [1, 4, 3]);
    assert_eq!(find(&own, "conv2.weight", 0).1, [2, 3]);
    assert_eq!(find(&own, "conv3.bias", 0).1, [6, 7, 8, 9, 10, 11]);
    assert_eq!(find(&own, "fc.weight", 1).1, [6, 7, 8, 9, 10, 11]);
    assert!(own.groups[1].is_cuttable());
    assert_eq!(own.groups[1].runs, 1);
}

#[test]
fn grouped_convolutions_keep_as_many_channels_of_every_group() {
    let layers = "{ type = \"conv2d\", filters = 12, kernel = 1 }, \
                  { type = \"conv2d\", filters = 6, kernel = 1, groups = 2 }, \
                  { type = \"conv2d\", filters = 9, kernel = 1, groups = 3 }, { type = \"global_avg_pool\" }, \
                  { type = \"dense\", units = \"classes\" }";
    let own = of(layers, picture(2), 3);
    let runs: Vec<[usize; 2]> = own.groups.iter().map(|group| [group.channels, group.runs]).collect();
    // The six channels are written in two runs and read in three.
    assert_eq!(runs, [[2, 1], [12, 2], [6, 6], [9, 3], [3, 1]]);
    let reads = own.groups[1].members.iter().find(|member| member.tensor == "conv2.weight").unwrap();
    assert_eq!((reads.axis, reads.blocks), (1, 2));
    assert_eq!(reads.entries, [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]);
}

#[test]
fn an_identity_shortcut_makes_one_group_of_what_it_runs_through() {
    let input = Shape::Image { height: 8, width: 8, channels: 3 };
    let nodes = resolve(&Preset::named("resnet20").unwrap().description(), &input, 10).unwrap();
    let own = coupling(&nodes);
    assert_eq!(find(&own, "conv1.weight", 0).0, find(&own, "layer1.2.conv2.weight", 0).0);
    assert_eq!(find(&own, "conv1.weight", 0).0, find(&own, "layer2.0.downsample.0.weight", 1).0);
    assert_eq!(find(&own, "layer2.0.downsample.0.weight", 0).0, find(&own, "layer2.2.bn2.running_var", 0).0);
    assert_eq!(find(&own, "layer3.2.conv2.weight", 0).0, find(&own, "fc.weight", 1).0);
    // The input, three trunks, what lies within nine blocks, the classes.
    assert_eq!(own.groups.len(), 1 + 3 + 9 + 1);
    assert_eq!(own.groups.iter().filter(|group| !group.is_cuttable()).count(), 2);
}

#[test]
fn what_is_added_to_an_input_or_an_output_stays() {
    let block = "{ type = \"residual\", body = [{ type = \"dense\", units = 4 }, { type = \"dense\", units = 3 }] }";
    let own = of(block, Shape::Vector { features: 3 }, 3);
    let groups: Vec<(usize, bool)> = own.groups.iter().map(|group| (group.channels, group.is_cuttable())).collect();
    assert_eq!(groups, [(3, false), (4, true)]);
}

#[test]
fn recurrent_units_have_a_row_in_every_gate() {
    let layers = "{ type = \"gru\", hidden = 5, layers = 2, bidirectional = true }, \
                  { type = \"dense\", units = \"classes\" }";
    let own = of(layers, Shape::Series { time: 4, features: 2 }, 3);
    assert_eq!(own.groups.iter().map(|group| group.channels).collect::<Vec<_>>(), [2, 5, 5, 5, 5, 3]);
    let backward = [
        "gru.weight_ih_l0_reverse 0",
        "gru.weight_hh_l0_reverse 1",
        "gru.weight_hh_l0_reverse 0",
        "gru.bias_ih_l0_reverse 0",
        "gru.bias_hh_l0_reverse 0",
        "gru.weight_ih_l1 1",
        "gru.weight_ih_l1_reverse 1",
    ];
    assert_eq!(members(&own.groups[2]), backward);
    assert_eq!(find(&own, "gru.weight_hh_l0_reverse", 0).1, [1, 6, 11]);
    assert_eq!(find(&own, "gru.weight_hh_l0_reverse", 1).1, [1]);
    // Forward first, then backward.
    let reads = own.groups[2].members.iter().find(|member| member.tensor == "gru.weight_ih_l1").unwrap();
    assert_eq!(reads.entries, [5, 6, 7, 8, 9]);
}

#[test]
fn a_row_of_a_picture_is_a_step_of_all_its_columns() {
    let layers = "{ type = \"conv2d\", filters = 4, kernel = 1 }, { type = \"lstm\", hidden = 5 }, \
                  { type = \"dense\", units = \"classes\" }";
    let own = of(layers, picture(2), 3);
    assert_eq!(find(&own, "conv1.weight", 0).0, find(&own, "lstm.weight_ih_l0", 1).0);
    assert_eq!(find(&own, "lstm.weight_ih_l0", 1).1, [1, 5, 9]);
    assert_eq!(find(&own, "lstm.weight_ih_l0", 0).1, [1, 6, 11, 16]);
}

#[test]
fn encoder_and_decoder_share_their_state() {
    let description = Preset::named("seq2seq").unwrap().description();
    let answers = Some(Answers { steps: 6, start: 0, end: 1 });
    let described = description.with_tokens(&Tokens { vocabulary: Some(11), answers });
    let own = coupling(&resolve_for(&described, &Shape::Tokens { time: 7 }, 9, true).unwrap());
    // Two embeddings, the state, what attention makes of it, the outputs.
    assert_eq!(own.groups.iter().map(|group| group.channels).collect::<Vec<_>>(), [256, 256, 256, 256, 9]);
    let (state, places) = find(&own, "attention.weight", 1);
    assert_eq!(places, [1, 257]);
    assert_eq!(state, find(&own, "encoder.gru.weight_hh_l0", 1).0);
    assert_eq!(state, find(&own, "decoder.gru.bias_hh_l0", 0).0);
    assert_eq!(find(&own, "attention.weight", 0).0, find(&own, "output.weight", 1).0);
    assert_eq!(find(&own, "decoder.embedding.weight", 1).0, find(&own, "decoder.gru.weight_ih_l0", 1).0);
    assert!(!find(&own, "output.bias", 0).0.is_cuttable());
    let plain = description_without_attention();
    let own = coupling(&resolve_for(&plain, &Shape::Tokens { time: 7 }, 9, true).unwrap());
    assert_eq!(find(&own, "output.weight", 1).0, find(&own, "encoder.lstm.weight_hh_l0", 0).0);
}

fn description_without_attention() -> Description {
    Description::from_toml(
        "layers = [{ type = \"seq2seq\", embedding = 3, cell = \"lstm\", hidden = 5, vocabulary = 11, steps = 6, \
         start = 0, end = 1 }]",
    )
    .unwrap()
}

#[test]
fn real_and_imaginary_parts_go_together() {
    let layers = "{ type = \"conv1d\", filters = 6, kernel = 1 }, { type = \"magnitude\" }, \
                  { type = \"global_avg_pool\" }, { type = \"dense\", units = \"classes\" }";
    let own = of(layers, Shape::Series { time: 4, features: 2 }, 3);
    let (group, places) = find(&own, "conv1.weight", 0);
    assert_eq!((group.channels, group.is_cuttable(), places), (3, true, vec![1, 4]));
}

#[test]
fn channels_that_cannot_be_cut_in_step_stay() {
    // Six values of a picture's two channels, added to six units.
    let layers = "{ type = \"conv2d\", filters = 2, kernel = 1 }, { type = \"flatten\", order = \"channels_last\" }, \
                  { type = \"residual\", body = [{ type = \"dense\", units = 6 }] }, { type = \"dense\", units = 4 }, \
                  { type = \"residual\", body = [{ type = \"dense\", units = 6 }, { type = \"dense\", units = 4 }] }, \
                  { type = \"dense\", units = \"classes\" }";
    let own = of(layers, Shape::Image { height: 1, width: 3, channels: 1 }, 3);
    assert_eq!(find(&own, "conv1.weight", 0).0, find(&own, "block1.fc.weight", 0).0);
    // Both units and values are the picture's two channels, three of each.
    assert_eq!(find(&own, "block1.fc.weight", 0).1, [1, 3, 5]);
    // Two directions, added to units of one layer: half of the units are of each.
    let layers = "{ type = \"gru\", hidden = 2, bidirectional = true, return_sequences = true }, \
                  { type = \"residual\", body = [{ type = \"dense\", units = 4 }] }, { type = \"global_avg_pool\" }, \
                  { type = \"dense\", units = \"classes\" }";
    let own = of(layers, Shape::Series { time: 4, features: 2 }, 3);
    let (group, _) = find(&own, "block1.fc.weight", 0);
    assert_eq!((group.channels, group.is_cuttable()), (4, false));
}
