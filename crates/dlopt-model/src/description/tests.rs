//! What is read, what is refused and how, and the names that layers get.

use super::*;
use crate::presets::PRESETS;
use proptest::prelude::*;

fn refused(text: &str) -> (String, String) {
    let error = Description::from_toml(text).unwrap_err();
    (error.message().to_owned(), error.what_to_try().unwrap_or_default().to_owned())
}

#[test]
fn every_option_has_its_default() {
    let conv = Description::from_toml("layers = [{ type = \"conv2d\", filters = 4, kernel = [3, 5] }]").unwrap();
    let LayerType::Conv2d(conv) = &conv.layers[0].kind else { panic!("not a convolution") };
    assert_eq!((conv.filters, conv.kernel), (Units::Count(4), Extents([3, 5])));
    assert_eq!((conv.stride, conv.dilation, conv.groups), (Extents([1, 1]), Extents([1, 1]), 1));
    assert_eq!((&conv.padding, conv.bias, conv.activation), (&Padding::Valid, true, None));
}

#[test]
fn both_ways_of_writing_a_list_are_read() {
    let short = "layers = [{ type = \"dropout\", rate = 0.5 }]";
    let long = "[[layers]]\ntype = \"dropout\"\nrate = 0.5\n";
    assert_eq!(Description::from_toml(short).unwrap(), Description::from_toml(long).unwrap());
}

#[test]
fn unknown_words_are_refused_with_the_nearest() {
    let (message, hint) = refused("layers = [{ type = \"conv2\", filters = 3 }]");
    assert_eq!(message, "layer 1 (conv2): unknown type `conv2`");
    assert!(hint.starts_with("did you mean `conv2d`?"), "{hint}");
    let (message, hint) = refused("layers = [{ type = \"conv2d\", name = \"stem\", filters = 3, kernal = 3 }]");
    assert_eq!(message, "layer `stem` (conv2d): unknown option `kernal`");
    assert!(hint.starts_with("did you mean `kernel`?"), "{hint}");
    assert!(refused("layers = [{ type = \"linear\", units = 3 }]").1.starts_with("did you mean `dense`?"));
    assert!(refused("layers = [{ type = \"dense\", out_features = 3 }]").1.starts_with("did you mean `units`?"));
    let (message, hint) = refused("layrs = []");
    assert_eq!(message, "unknown key `layrs`");
    assert!(hint.starts_with("did you mean `layers`?"), "{hint}");
    let (message, hint) = refused("layers = [{ type = \"global_avg_pool\", size = 3 }]");
    assert!(message.ends_with("unknown option `size`") && hint == "there is no option", "{message}, {hint}");
}

#[test]
fn errors_inside_a_block_say_where() {
    let text = "layers = [{ type = \"residual\", body = [{ type = \"flatten\" }, { type = \"dense\", unit = 3 }] }]";
    let (message, hint) = refused(text);
    assert_eq!(message, "layer 1 (residual), body, layer 2 (dense): unknown option `unit`");
    assert!(hint.contains("`units`"), "{hint}");
    assert!(refused("layers = [{ type = \"residual\" }]").0.contains("`body` is missing"));
    assert!(refused("layers = [{ type = \"dense\", units = 3, body = [] }]").0.contains("only `residual` has"));
}

#[test]
fn values_of_the_wrong_kind_are_refused_by_name() {
    let conv = |rest: &str| refused(&format!("layers = [{{ type = \"conv2d\", filters = 3, {rest} }}]")).0;
    assert!(conv("kernel = \"3\"").contains("option `kernel`: invalid type: string \"3\", expected a whole number"));
    assert!(conv("kernel = [3, 3, 3]").contains("option `kernel`"));
    assert!(conv("kernel = -3").contains("option `kernel`"));
    assert!(conv("stride = 2").contains("option `kernel` is missing"));
    assert!(conv("kernel = 3, padding = \"smae\"").contains("option `padding`"));
    assert!(conv("kernel = 3, bias = 1").contains("option `bias`"));
    assert!(conv("kernel = 3, activation = \"rleu\"").contains("option `activation`"));
    assert!(refused("layers = [{ type = \"dense\", units = \"class\" }]").0.contains("option `units`"));
    assert!(refused("layers = [{ units = 3 }]").0.contains("has no `type`"));
    assert!(refused("layers = [3]").0.contains("found a number"));
    assert!(refused("layers = {}").0.contains("`layers` is a list"));
    assert!(refused("init = \"best\"\nlayers = []").0.contains("glorot, he"));
    assert!(refused("layers = [\n  { type = }\n]").0.starts_with("line 2: "));
}

#[test]
fn layers_are_named_as_pytorch_users_would() {
    let text = r#"layers = [
        { type = "conv2d", filters = 4, kernel = 3 },
        { type = "conv2d", name = "conv2", filters = 4, kernel = 3 },
        { type = "depthwise_conv2d", kernel = 3 },
        { type = "residual", body = [
            { type = "conv2d", filters = 4, kernel = 1 }, { type = "batch_norm" },
            { type = "residual", body = [{ type = "conv2d", filters = 4, kernel = 1 }] },
        ], shortcut = [{ type = "conv2d", filters = 4, kernel = 1 }, { type = "batch_norm" }] },
        { type = "flatten" },
        { type = "dense", units = "classes" },
    ]"#;
    let named = Description::from_toml(text).unwrap().named().unwrap();
    let names = |layers: &[Layer]| layers.iter().map(|l| l.name.clone().unwrap()).collect::<Vec<_>>();
    assert_eq!(names(&named.layers), ["conv1", "conv2", "conv3", "block1", "flatten", "fc"]);
    let LayerType::Residual(block) = &named.layers[3].kind else { panic!("not a block") };
    assert_eq!(names(&block.body), ["block1.conv1", "block1.bn1", "block1.block1"]);
    assert_eq!(names(&block.shortcut), ["block1.downsample.0", "block1.downsample.1"]);
    assert_eq!(named.named().unwrap(), named, "names once given stay");
}

#[test]
fn names_that_are_none_or_stand_twice_are_refused() {
    let named = |a: &str, b: &str| {
        let text = format!("layers = [{{ type = \"flatten\", name = {a:?} }}, {{ type = \"flatten\", name = {b:?} }}]");
        Description::from_toml(&text).unwrap().named()
    };
    assert!(named("a", "b-2.c_3").is_ok());
    assert!(named("a", "a").unwrap_err().message().contains("two layers are named `a`"));
    for bad in ["", ".", "a.", "a b", "ä", "a/b"] {
        assert!(named("x", bad).is_err(), "{bad:?}");
    }
}

#[test]
fn every_type_is_read_and_written_the_same() {
    for preset in PRESETS {
        let description = preset.description();
        let value = serde_json::to_value(&description).unwrap();
        assert_eq!(Description::from_value(value).unwrap(), description, "{}", preset.name);
    }
    for label in LAYER_TYPES {
        let required = match *label {
            "conv2d" | "conv1d" => "filters = 3, kernel = 2, padding = [1, 2]",
            "depthwise_conv2d" => "kernel = [2, 3], padding = \"same\", activation = \"gelu\"",
            "dense" => "units = \"classes\"",
            "dropout" => "rate = 0.25",
            "activation" => "function = \"hard_swish\"",
            "embedding" => "vocabulary = 9, size = 4",
            "rnn" | "lstm" | "gru" => "hidden = 3, layers = 2, bidirectional = true, dropout = 0.1",
            "residual" => "body = [{ type = \"flatten\", order = \"channels_last\" }], activation = \"relu\"",
            _ => "",
        };
        let comma = if required.is_empty() { "" } else { ", " };
        let description =
            Description::from_toml(&format!("layers = [{{ type = \"{label}\"{comma}{required} }}]")).unwrap();
        assert_eq!(description.layers[0].kind.label(), *label);
        let value = serde_json::to_value(&description).unwrap();
        assert_eq!(Description::from_value(value).unwrap(), description, "{label}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "[a-z0-9_=\\[\\]{}\", .\n-]{0,120}") {
        let _ = Description::from_toml(&text);
    }
}
