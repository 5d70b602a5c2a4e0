//! Derivations read, refused, and turned into descriptions.

use super::*;
use crate::description::{Layer, LayerType, Units};
use crate::plan::{Node, Shape, parameters};
use crate::presets::Preset;
use crate::resolve::resolve;

fn read(text: &str) -> Derivation {
    Derivation::parse(text).unwrap().unwrap()
}

fn refused(text: &str) -> (String, String) {
    let error = Derivation::parse(text).unwrap_err();
    (error.message().to_owned(), error.what_to_try().unwrap_or_default().to_owned())
}

fn described(layers: &str) -> Description {
    Description::from_toml(&format!("layers = [{layers}]")).unwrap()
}

fn preset(name: &str) -> Description {
    Preset::named(name).unwrap().description()
}

fn picture(channels: usize) -> Shape {
    Shape::Image { height: 28, width: 28, channels }
}

/// The student of a preset.
fn student(name: &str, derivation: &str, input: &Shape) -> Vec<Node> {
    resolve(&read(derivation).description(&preset(name)).unwrap(), input, 10).unwrap()
}

fn shapes(nodes: &[Node]) -> Vec<(String, Vec<usize>)> {
    parameters(nodes).into_iter().map(|own| (own.name.clone(), own.shape.clone())).collect()
}

fn shape(nodes: &[Node], name: &str) -> Vec<usize> {
    parameters(nodes).into_iter().find(|own| own.name == name).unwrap().shape.clone()
}

#[test]
fn keys_stand_between_semicolons_or_commas() {
    let all = Derivation { width: Some(0.5), hidden: Some(64), layers: Some(vec![0, 2, 4]) };
    for text in [
        "width=0.5;hidden=64;layers=0,2,4",
        "width=0.5,layers=0,2,4,hidden=64",
        " layers = 0, 2 ,4; width = 0.5, hidden = 64",
    ] {
        assert_eq!(read(text), all, "{text}");
    }
    assert_eq!(all.to_string(), "width=0.5;hidden=64;layers=0,2,4");
    assert_eq!(read(&all.to_string()), all);
    assert_eq!(read("width=1"), Derivation { width: Some(1.0), ..Derivation::default() });
    assert_eq!(read("layers=3"), Derivation { layers: Some(vec![3]), ..Derivation::default() });
    assert_eq!(Derivation::default().to_string(), "");
}

#[test]
fn names_and_paths_are_no_derivations() {
    for text in ["cnn", "student.toml", "runs/width=0.5/model.safetensors", "../a=b", "=0.5", "-"] {
        assert_eq!(Derivation::parse(text).unwrap(), None, "{text}");
    }
}

#[test]
fn what_no_student_can_be_is_refused() {
    for width in ["0", "-0.5", "1.5", "nan", "inf"] {
        let (message, hint) = refused(&format!("width={width}"));
        assert!(message.ends_with("it is more than 0 and at most 1"), "{message}");
        assert!(hint.contains("no wider than its teacher"), "{hint}");
    }
    let (message, hint) = refused("widht=0.5");
    assert_eq!(message, "a derivation has no `widht`");
    assert!(hint.starts_with("did you mean `width`? known: width, hidden, layers"), "{hint}");
    assert!(refused("width=0.5,num_layers=2").1.starts_with("did you mean `layers`?"));
    assert!(refused("xyz=1").1.starts_with("known: width"));
    for empty in ["", "  "] {
        assert_eq!(refused(empty).0, "the derivation is empty");
    }
    assert_eq!(refused("width=").0, "`width` has no value");
    assert_eq!(refused("width=0.5;").0, "a derivation has no ``");
    assert_eq!(refused("width=half").0, "`width` is `half`; it takes a share such as 0.5");
    assert_eq!(refused("hidden=6.5").0, "`hidden` is `6.5`; it takes a number of units");
    assert_eq!(refused("layers=0,x").0, "`layers` is `x`; it takes numbers of layers such as 0,2,4");
    assert_eq!(refused("layers=0,,2").0, "`layers` is ``; it takes numbers of layers such as 0,2,4");
    assert_eq!(refused("hidden=0").0, "`hidden` is 0; it is at least 1");
    assert_eq!(refused("layers=2,0,2").0, "`layers` names 2 twice");
    assert_eq!(refused("width=0.5,width=0.25").0, "`width` is given twice");
    // Whoever fills the fields is told the same.
    let own = Derivation { width: Some(2.0), ..Derivation::default() };
    assert!(own.description(&preset("cnn")).unwrap_err().message().starts_with("`width` is 2;"));
}

#[test]
fn nothing_set_is_the_teacher_itself() {
    for preset in crate::presets::PRESETS {
        let teacher = preset.description().named().unwrap();
        assert_eq!(Derivation::default().description(&teacher).unwrap(), teacher, "{}", preset.name);
        let own = read("width=1").description(&teacher).unwrap();
        assert_eq!(own.layers, teacher.layers, "{}", preset.name);
        assert_eq!((own.summary, own.source), (None, None));
    }
}

#[test]
fn half_the_width_halves_all_but_the_outputs() {
    let cnn = student("cnn", "width=0.5", &picture(1));
    assert_eq!(shape(&cnn, "conv1.weight"), [16, 1, 3, 3]);
    assert_eq!(shape(&cnn, "conv2.weight"), [32, 16, 3, 3]);
    assert_eq!(shape(&cnn, "fc1.weight"), [32, 800]);
    assert_eq!(shape(&cnn, "fc2.weight"), [10, 32]);
    let residual = student("resnet20", "width=0.5", &picture(3));
    assert_eq!(shape(&residual, "layer2.0.downsample.0.weight"), [16, 8, 1, 1]);
    assert_eq!(shape(&residual, "fc.weight"), [10, 32]);
    let mobile = student("mobilenet", "width=0.3", &picture(3));
    // 32 and 64 times 0.3, rounded.
    assert_eq!(shape(&mobile, "conv2.weight"), [10, 1, 3, 3]);
    assert_eq!(shape(&mobile, "conv3.weight"), [19, 10, 1, 1]);
    let text = read("width=0.5").description(&described(
        "{ type = \"embedding\", size = 7, vocabulary = 9 }, { type = \"gru\", hidden = 5, bidirectional = true }, \
         { type = \"dense\", units = \"classes\" }",
    ));
    let nodes = resolve(&text.unwrap(), &Shape::Tokens { time: 4 }, 3).unwrap();
    // Halves are rounded up.
    assert_eq!(shape(&nodes, "embedding.weight"), [9, 4]);
    assert_eq!(shape(&nodes, "gru.weight_ih_l0_reverse"), [9, 4]);
    assert_eq!(shape(&nodes, "fc.weight"), [3, 6]);
    let tiny = student("lenet5", "width=0.01", &picture(1));
    assert_eq!(shape(&tiny, "conv1.weight"), [1, 1, 5, 5]);
}

#[test]
fn outputs_of_a_fixed_size_stay_too() {
    let sizes = |layers: &str| -> Vec<usize> {
        let own = read("width=0.5").description(&described(layers)).unwrap();
        fn of(layers: &[Layer]) -> Vec<usize> {
            let own = |layer: &Layer| match &layer.kind {
                LayerType::Dense(own) => match own.units {
                    Units::Count(count) => vec![count],
                    Units::Classes => vec![],
                },
                LayerType::Conv1d(own) => match own.filters {
                    Units::Count(count) => vec![count],
                    Units::Classes => vec![],
                },
                LayerType::Lstm(own) => vec![own.hidden],
                LayerType::Residual(block) => [of(&block.body), of(&block.shortcut)].concat(),
                _ => vec![],
            };
            layers.iter().flat_map(own).collect()
        }
        of(&own.layers)
    };
    let (dense, lstm) = ("{ type = \"dense\", units = 8 }", "{ type = \"lstm\", hidden = 8 }");
    assert_eq!(sizes(&format!("{dense}, {dense}, {{ type = \"activation\", function = \"tanh\" }}")), [4, 8]);
    assert_eq!(sizes(&format!("{dense}, {lstm}, {{ type = \"batch_norm\" }}")), [4, 8]);
    let block = format!("{{ type = \"residual\", body = [{dense}, {dense}] }}");
    assert_eq!(sizes(&format!("{dense}, {dense}, {block}")), [4, 8, 4, 8]);
    let other = format!("{{ type = \"residual\", body = [{dense}, {dense}], shortcut = [{dense}] }}");
    assert_eq!(sizes(&format!("{dense}, {dense}, {other}")), [4, 4, 4, 8, 8]);
    let conv = "{ type = \"conv1d\", filters = 8, kernel = 1 }";
    assert_eq!(sizes(&format!("{conv}, {conv}, {{ type = \"magnitude\" }}, {conv}, {dense}")), [4, 8, 4, 8]);
    let within = format!("{{ type = \"residual\", body = [{conv}, {{ type = \"magnitude\" }}, {conv}] }}");
    assert_eq!(sizes(&format!("{within}, {dense}")), [8, 4, 8]);
}

#[test]
fn groups_still_divide_the_channels() {
    let layers = "{ type = \"conv2d\", filters = 24, kernel = 1 }, \
                  { type = \"conv2d\", filters = 36, kernel = 1, groups = 4 }, \
                  { type = \"conv2d\", filters = 12, kernel = 1, groups = 6 }, \
                  { type = \"conv2d\", filters = 24, kernel = 3, groups = 12 }, { type = \"global_avg_pool\" }, \
                  { type = \"dense\", units = 7 }, { type = \"dense\", units = \"classes\" }";
    let own = read("width=0.4").description(&described(layers)).unwrap();
    let nodes = resolve(&own, &picture(3), 10).unwrap();
    // Multiples of 4 and 6: 24 * 0.4 is nearest to 12, 36 * 0.4 too, 12 * 0.4 is at least one of them.
    let wanted = [("conv1", [12, 3]), ("conv2", [12, 3]), ("conv3", [12, 2]), ("conv4", [24, 1])];
    for (name, [out, inputs]) in wanted {
        assert_eq!(shape(&nodes, &format!("{name}.weight"))[..2], [out, inputs], "{name}");
    }
    // Seven is no multiple, so it is rounded to the next whole number.
    assert_eq!(shape(&nodes, "fc1.weight"), [3, 24]);
    // A group for each channel is depthwise under another name.
    let layers = "{ type = \"conv1d\", filters = 8, kernel = 1 }, { type = \"batch_norm\" }, \
                  { type = \"conv1d\", filters = 16, kernel = 1, groups = 8 }, { type = \"global_avg_pool\" }, \
                  { type = \"dense\", units = \"classes\" }";
    let own = read("width=0.3").description(&described(layers)).unwrap();
    let nodes = resolve(&own, &Shape::Series { time: 5, features: 3 }, 10).unwrap();
    assert_eq!(shape(&nodes, "conv2.weight"), [4, 1, 1]);
}

#[test]
fn hidden_sets_recurrent_units_alone() {
    let series = Shape::Series { time: 5, features: 3 };
    assert_eq!(shape(&student("lstm", "hidden=6", &series), "lstm.weight_hh_l0"), [24, 6]);
    let both = student("gru", "hidden=6,width=0.25", &series);
    assert_eq!(shape(&both, "gru.weight_hh_l0"), [18, 6]);
    let of_pair = |derivation: &str| match &read(derivation).description(&preset("seq2seq")).unwrap().layers[0].kind {
        LayerType::Seq2seq(own) => [own.embedding, own.hidden],
        other => panic!("{other:?}"),
    };
    assert_eq!(of_pair("hidden=48"), [256, 48]);
    assert_eq!(of_pair("width=0.5"), [128, 128]);
    assert_eq!(of_pair("width=0.5;hidden=48"), [128, 48]);
    let refused = |name: &str, text: &str| read(text).description(&preset(name)).unwrap_err().message().to_owned();
    assert_eq!(refused("cnn", "hidden=6"), "`hidden` sets the units of recurrent layers, and the teacher has none");
    assert_eq!(refused("lstm", "hidden=129"), "`hidden` is 129, and layer `lstm` of the teacher has 128 units");
    assert_eq!(refused("seq2seq", "hidden=257"), "`hidden` is 257, and layer `seq2seq` of the teacher has 256 units");
}

#[test]
fn blocks_are_dropped_and_the_others_keep_their_names() {
    let all = shapes(&resolve(&preset("resnet20"), &picture(3), 10).unwrap());
    let own = student("resnet20", "layers=0,3,5,6", &picture(3));
    let gone = ["layer1.1.", "layer1.2.", "layer2.1.", "layer3.1.", "layer3.2."];
    let wanted: Vec<_> = all.into_iter().filter(|(name, _)| !gone.iter().any(|gone| name.starts_with(gone))).collect();
    assert_eq!(shapes(&own), wanted);
    assert_eq!(shapes(&student("resnet20", "layers=6,5,3,0", &picture(3))), wanted);
    let narrow = student("resnet20", "layers=3,6;width=0.5", &picture(3));
    assert_eq!(shape(&narrow, "layer3.0.conv1.weight"), [32, 16, 3, 3]);
}

#[test]
fn layers_of_a_stack_are_dropped() {
    let stack = "{ type = \"lstm\", hidden = 5, layers = 4 }, { type = \"dense\", units = \"classes\" }";
    let series = Shape::Series { time: 5, features: 3 };
    let own = |derivation: &str| resolve(&read(derivation).description(&described(stack))?, &series, 10);
    let nodes = own("layers=0,3,2").unwrap();
    assert_eq!(shape(&nodes, "lstm.weight_ih_l2"), [20, 5]);
    assert_eq!(nodes.iter().filter(|node| node.name.starts_with("lstm")).count(), 3);
    assert_eq!(own("layers=0").unwrap()[0].name, "lstm");
    let error = own("layers=1,3").unwrap_err();
    assert_eq!(
        error.message(),
        "`layers` leaves out 0 (`lstm.l0`), which must stay: it is the first of its stack and takes the inputs; the \
         teacher has 0 (`lstm.l0`, must stay), 1 (`lstm.l1`), 2 (`lstm.l2`), 3 (`lstm.l3`)"
    );
    assert_eq!(error.what_to_try(), Some("layers=0,1,3"));
}

#[test]
fn layers_that_cannot_go_are_named() {
    let refused = |description: &Description, text: &str| {
        let error = read(text).description(description).unwrap_err();
        (error.message().to_owned(), error.what_to_try().unwrap_or_default().to_owned())
    };
    let (message, hint) = refused(&preset("resnet20"), "layers=0,1,6");
    assert!(message.starts_with("`layers` leaves out 3 (`layer2.0`), which must stay: its shortcut"), "{message}");
    assert!(message.contains("0 (`layer1.0`), 1 (`layer1.1`), 2 (`layer1.2`), 3 (`layer2.0`, must stay)"), "{message}");
    assert_eq!(hint, "layers=0,1,3,6");
    let (message, hint) = refused(&preset("resnet20"), "layers=3,6,9");
    assert!(message.starts_with("`layers` names 9, and the teacher has 0 (`layer1.0`)"), "{message}");
    assert_eq!(hint, "numbers are below 9");
    for name in ["cnn", "lstm", "seq2seq"] {
        let (message, hint) = refused(&preset(name), "layers=0");
        assert!(message.ends_with("layers of recurrent stacks, and the teacher has none"), "{message}");
        assert_eq!(hint, "make the student narrower: width=0.5");
    }
    let block = "{ type = \"residual\", body = [{ type = \"dense\", units = 5 }], \
                 shortcut = [{ type = \"dense\", units = 5 }] }, { type = \"dense\", units = \"classes\" }";
    let (message, _) = refused(&described(block), "layers=0");
    assert!(message.ends_with("the teacher has only 0 (`block1`, must stay): none can be dropped"), "{message}");
}
