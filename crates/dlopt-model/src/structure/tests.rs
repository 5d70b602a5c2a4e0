//! Pruned networks compute what the whole ones do, once what goes is zero in them; and what cannot be had is refused.

mod golden;
mod random;

use std::collections::{BTreeMap, HashMap};

use dlopt_checkpoint::{Checkpoint, Job, NameGlob, NoProgress, Resources, Target as Output};
use dlopt_prune::{PruneScope, Structure, importance_named};

use super::*;
use crate::coupling::coupling;
use crate::layout::NamedTensor;
use crate::plan::Shape;
use crate::testing::{assert_close, clear, described, outputs, preset};
use crate::weights::{Loaded, load, to_tensors};

pub(crate) fn options(pattern: &str, sparsity: f64) -> StructureOptions {
    StructureOptions {
        structure: Structure::parse(pattern).unwrap().unwrap(),
        sparsity: Some(sparsity),
        target: Target::Parameters,
        scope: None,
        floor: None,
        round_to: 1,
        weigh: Weigh::Weights(importance_named("l2").unwrap()),
        include: Vec::new(),
        exclude: Vec::new(),
        allow_nonfinite: false,
        seed: 0,
    }
}

/// The checkpoint that is left, as bytes, and what left.
fn bytes(
    own: &Loaded,
    options: &StructureOptions,
    threads: usize,
) -> dlopt_checkpoint::Result<(Vec<u8>, StructureReport)> {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.safetensors"), dir.path().join("out.safetensors"));
    let (header, tensors) = to_tensors(&own.config, &own.layout, &own.params, &own.buffers, &BTreeMap::new());
    dlopt_checkpoint::write_file(&input, &header, &tensors, false).unwrap();
    let pass = PruneStructure::new(options.clone())?;
    let checkpoint = Checkpoint::open(&input).unwrap();
    let job = Job {
        checkpoint: &checkpoint,
        passes: vec![&pass],
        is_folder: false,
        max_shard_bytes: None,
        keep_files: true,
        force: false,
        resume: false,
        resources: Resources {
            threads,
            memory_bytes: 64 << 20,
            tmp_dir: dir.path().to_owned(),
            progress: &NoProgress,
            stop: &false.into(),
        },
    };
    job.run(Output::File(output.clone()))?;
    Ok((std::fs::read(output).unwrap(), pass.report().unwrap()))
}

/// What is left of a network, and what left.
pub(crate) fn pruned(own: &Loaded, options: &StructureOptions) -> dlopt_checkpoint::Result<(Loaded, StructureReport)> {
    let (bytes, report) = bytes(own, options, 2)?;
    let checkpoint = Checkpoint::from_stream(Box::new(std::io::Cursor::new(bytes)), "it".to_owned()).unwrap();
    Ok((load(&checkpoint).unwrap(), report))
}

fn tensors(own: &Loaded) -> HashMap<String, NamedTensor> {
    let all = own.layout.to_checkpoint(&own.params, &own.buffers);
    all.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect()
}

fn with_tensors(own: &Loaded, tensors: &HashMap<String, NamedTensor>) -> Loaded {
    let (params, buffers) = own.layout.from_checkpoint(|tensor| Ok(tensors[&tensor.name].values.clone())).unwrap();
    Loaded { params, buffers, ..own.clone() }
}

/// The network with zeros wherever the channels that left lie.
pub(crate) fn masked(own: &Loaded, report: &StructureReport) -> Loaded {
    let mut tensors = tensors(own);
    for (group, change) in coupling(&own.nodes).groups.iter().zip(&report.groups) {
        let Some(kept) = &change.kept else { continue };
        for channel in (0..group.channels).filter(|channel| !kept.contains(channel)) {
            for member in &group.members {
                clear(tensors.get_mut(&member.tensor).unwrap(), member, group, channel);
            }
        }
    }
    with_tensors(own, &tensors)
}

/// Checks that what is left computes what the whole does without what left, and costs what the report says.
fn check(own: &Loaded, options: &StructureOptions, place: &str) -> StructureReport {
    let (left, report) = pruned(own, options).unwrap();
    assert_close(&outputs(&left), &outputs(&masked(own, &report)), place);
    let stored = left.params.len() as u64;
    assert_eq!(
        report.after.bytes,
        4 * left.layout.tensors().iter().map(|t| t.shape.iter().product::<usize>() as u64).sum::<u64>(),
        "{place}"
    );
    // A recurrent layer's two biases are counted apart and kept as one.
    assert!(stored <= report.after.parameters && report.after.parameters < report.before.parameters, "{place}");
    report
}

#[test]
fn every_preset_computes_what_it_does_without_what_left() {
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
        let own = preset(name);
        let groups = coupling(&own.nodes).groups;
        for scope in [PruneScope::Tensor, PruneScope::Global] {
            let options = StructureOptions { scope: Some(scope), ..options("channels,neurons,hidden", 0.4) };
            let report = check(&own, &options, &format!("{name}, {}", scope.name()));
            assert_eq!(report.groups.len(), groups.len());
        }
    }
}

#[test]
fn odd_layers_are_cut_right() {
    let picture = Shape::Image { height: 5, width: 6, channels: 2 };
    let classes = "{ type = \"dense\", units = \"classes\" }";
    for layers in [
        "{ type = \"conv2d\", filters = 12, kernel = 1 }, { type = \"conv2d\", filters = 24, kernel = 3, groups = 3, activation = \"relu\" }, { type = \"depthwise_conv2d\", kernel = 2, multiplier = 2 }, { type = \"flatten\" }",
        "{ type = \"conv2d\", filters = 8, kernel = 1 }, { type = \"conv2d\", filters = 16, kernel = 3, groups = 8 }, { type = \"batch_norm\", activation = \"relu\" }, { type = \"global_avg_pool\" }",
        "{ type = \"conv2d\", filters = 12, kernel = 2, activation = \"relu\" }, { type = \"flatten\", order = \"channels_last\" }, { type = \"batch_norm\" }, { type = \"dense\", units = 10, activation = \"tanh\" }",
        "{ type = \"conv2d\", filters = 6, kernel = 2, padding = \"same\" }, { type = \"batch_norm\" }, { type = \"rnn\", hidden = 7, layers = 2, bidirectional = true }",
        "{ type = \"gru\", hidden = 8, return_sequences = true }, { type = \"residual\", activation = \"relu\", body = [{ type = \"conv1d\", filters = 10, kernel = 3, padding = \"same\", activation = \"relu\" }, { type = \"conv1d\", filters = 8, kernel = 1 }, { type = \"batch_norm\" }] }, { type = \"global_max_pool\" }",
        "{ type = \"conv2d\", filters = 6, kernel = 2 }, { type = \"lstm\", hidden = 6, return_sequences = true }, { type = \"conv1d\", filters = 8, kernel = 1 }, { type = \"magnitude\" }, { type = \"global_avg_pool\" }",
    ] {
        let own = described(&format!("{layers}, {classes}"), picture.clone());
        check(&own, &options("channels,neurons,hidden", 0.5), layers);
    }
}

#[test]
fn patterns_cut_the_layers_that_they_name() {
    let own = preset("cnn");
    let widths = |pattern: &str| {
        let report = check(&own, &StructureOptions { target: Target::Width, ..options(pattern, 0.5) }, pattern);
        report.groups.iter().map(|group| group.channels_after).collect::<Vec<_>>()
    };
    assert_eq!(widths("channels"), [3, 16, 32, 64, 9]);
    assert_eq!(widths("neurons"), [3, 32, 64, 32, 9]);
    assert_eq!(widths("channels,neurons"), [3, 16, 32, 32, 9]);
    let glob = |text: &str| vec![NameGlob::new(text).unwrap()];
    let half = || StructureOptions { target: Target::Width, ..options("channels", 0.5) };
    let of = |options: StructureOptions| {
        check(&own, &options, "by name").groups.iter().map(|group| group.channels_after).collect::<Vec<_>>()
    };
    assert_eq!(of(StructureOptions { exclude: glob("conv1.*"), ..half() }), [3, 32, 32, 64, 9]);
    assert_eq!(of(StructureOptions { include: glob("conv1.weight"), ..half() }), [3, 16, 64, 64, 9]);
    let rounded = StructureOptions { round_to: 16, target: Target::MultiplyAdds, ..options("channels", 0.5) };
    assert_eq!(of(rounded), [3, 16, 48, 64, 9]);
    // Both directions of both layers keep as many units, though not the same.
    let layers =
        "{ type = \"gru\", hidden = 9, layers = 2, bidirectional = true }, { type = \"dense\", units = \"classes\" }";
    let own = described(layers, Shape::Series { time: 6, features: 2 });
    let options =
        StructureOptions { target: Target::Width, scope: Some(PruneScope::Global), ..options("hidden", 0.34) };
    let report = check(&own, &options, "stack");
    assert_eq!(report.groups.iter().map(|group| group.channels_after).collect::<Vec<_>>(), [2, 6, 6, 6, 6, 4]);
    assert_ne!(report.groups[1].kept, report.groups[2].kept);
}

#[test]
fn targets_are_met_within_a_channel() {
    let own = preset("mobilenet");
    for (target, of) in [
        (Target::Parameters, (|costs| costs.parameters) as fn(&Costs) -> u64),
        (Target::MultiplyAdds, |costs| costs.multiply_adds),
        (Target::Bytes, |costs| costs.bytes),
    ] {
        for scope in [PruneScope::Tensor, PruneScope::Global] {
            for sparsity in [0.1, 0.5, 0.8] {
                let options = StructureOptions { target, scope: Some(scope), ..options("channels", sparsity) };
                let report = pruned(&own, &options).unwrap().1;
                let left = of(&report.after) as f64 / of(&report.before) as f64;
                assert!((left - (1.0 - sparsity)).abs() < 0.005, "{}: {left}, {sparsity}", target.name());
            }
        }
    }
    // Nothing is asked for, so nothing changes.
    let (left, report) = pruned(&own, &options("channels", 0.0)).unwrap();
    assert_eq!((left.params, report.before), (own.params, report.after));
}

#[test]
fn no_layer_falls_below_the_floor() {
    let own = preset("cnn");
    let least = |floor: Option<f64>| {
        let options = StructureOptions {
            scope: Some(PruneScope::Global),
            floor,
            target: Target::MultiplyAdds,
            weigh: Weigh::Weights(importance_named("l1").unwrap()),
            ..options("channels", 0.7)
        };
        let report = check(&own, &options, "floor");
        report.groups.iter().map(|group| group.channels_after as f64 / group.channels_before as f64).fold(1.0, f64::min)
    };
    assert!(least(None) >= 0.1 && least(Some(0.4)) >= 0.4 && least(Some(0.4)) < 0.55);
}

#[test]
fn the_same_bytes_come_out_at_any_number_of_threads() {
    let own = preset("resnet20");
    for scope in [PruneScope::Tensor, PruneScope::Global] {
        let options = StructureOptions { scope: Some(scope), ..options("channels", 0.3) };
        let (one, report) = bytes(&own, &options, 1).unwrap();
        let (many, other) = bytes(&own, &options, 7).unwrap();
        assert_eq!((one, report), (many, other));
    }
}

#[test]
fn blocks_leave_by_their_weights_and_compute_what_silent_ones_do() {
    let mut own = preset("resnet20");
    let mut all = tensors(&own);
    // Two blocks that add nothing, whose weights are the smallest.
    for name in ["layer1.1.", "layer2.2."] {
        all.values_mut()
            .filter(|t| t.name.starts_with(name) && !t.name.contains("running"))
            .for_each(|t| t.values.fill(0.0));
    }
    own = with_tensors(&own, &all);
    let two = StructureOptions { target: Target::Width, ..options("layers", 2.0 / 7.0) };
    let (left, report) = pruned(&own, &two).unwrap();
    let gone: Vec<&str> =
        report.layers.iter().filter(|own| own.width_after == 0).map(|own| own.layer.as_str()).collect();
    assert_eq!(gone.len(), 8);
    assert!(gone.iter().all(|name| name.starts_with("layer1.1.") || name.starts_with("layer2.2.")), "{gone:?}");
    assert_close(&outputs(&left), &outputs(&own), "blocks");
    // And once more, of what is left.
    let (less, _) = pruned(&left, &StructureOptions { target: Target::Width, ..options("layers", 0.2) }).unwrap();
    assert_eq!(less.config.description.layers.len(), left.config.description.layers.len() - 1);
    // Layers of a stack move up.
    let layers = "{ type = \"gru\", hidden = 6, layers = 3 }, { type = \"dense\", units = \"classes\" }";
    let own = described(layers, Shape::Series { time: 6, features: 3 });
    let (left, report) = pruned(&own, &StructureOptions { target: Target::Width, ..options("layers", 1.0) }).unwrap();
    assert_eq!(left.nodes[0].name, "gru");
    assert_eq!(report.layers.iter().map(|own| own.width_after).collect::<Vec<_>>(), [6, 0, 0, 4]);
    assert_eq!(tensors(&left)["gru.weight_ih_l0"], tensors(&own)["gru.weight_ih_l0"]);
}

#[test]
fn what_cannot_be_had_is_refused() {
    let refused = |own: &Loaded, options: StructureOptions| {
        let error = pruned(own, &options).err().unwrap();
        let message = error.message().trim_start_matches(|c| c != ':').trim_start_matches(": ").to_owned();
        (message, error.what_to_try().unwrap_or_default().to_owned())
    };
    let cnn = preset("cnn");
    let (message, hint) = refused(&cnn, options("channels", 1.0));
    assert!(
        message.starts_with("100% of the parameters cannot leave, ") && message.contains("every layer keeps a channel"),
        "{message}"
    );
    assert!(hint.starts_with("--sparsity 0."), "{hint}");
    let most = hint.trim_start_matches("--sparsity ").parse().unwrap();
    check(&cnn, &options("channels", most), "the most");
    let (message, hint) = refused(&cnn, options("hidden", 0.5));
    assert_eq!(
        (message.as_str(), hint.as_str()),
        ("no hidden can leave: the network has no such layers", "--pattern channels,neurons")
    );
    let (message, _) = refused(&preset("lstm"), options("layers", 0.5));
    assert!(message.starts_with("no layers can leave: only residual blocks"), "{message}");
    let linear = described("{ type = \"dense\", units = \"classes\" }", Shape::Vector { features: 3 });
    let (message, _) = refused(&linear, options("neurons", 0.5));
    assert_eq!(message, "no neurons can leave: `fc.weight` stays: it is what comes out of the network");
    let grouped = "{ type = \"conv2d\", filters = 6, kernel = 1, groups = 2 }, { type = \"conv2d\", filters = 9, kernel = 1, groups = 3 }, { type = \"global_avg_pool\" }, { type = \"dense\", units = \"classes\" }";
    let own = described(grouped, Shape::Image { height: 3, width: 3, channels: 4 });
    let excluded = StructureOptions { exclude: vec![NameGlob::new("conv2.*").unwrap()], ..options("channels", 0.2) };
    let (message, _) = refused(&own, excluded);
    assert_eq!(
        message,
        "no channels can leave: `conv1.weight` has one channel in each of 6 groups of a convolution; `conv2.weight` is left out by name"
    );
    let scale =
        StructureOptions { weigh: Weigh::Weights(importance_named("scale").unwrap()), ..options("channels", 0.2) };
    let (message, hint) = refused(&cnn, scale);
    assert!(message.starts_with("criterion `scale` says nothing of the channels of `conv1.weight`"), "{message}");
    assert!(hint.contains("--exclude 'conv1.weight'"), "{hint}");
    let unknown = StructureOptions { exclude: vec![NameGlob::new("conv9.*").unwrap()], ..options("channels", 0.2) };
    assert!(refused(&cnn, unknown).0.contains("`conv9.*` matches no tensor"));
    let mut broken = cnn.clone();
    broken.params[7] = f32::NAN;
    let (message, _) = refused(&broken, options("channels", 0.2));
    assert!(message.starts_with("tensor `conv1.weight` holds NaN at index"), "{message}");
    assert!(pruned(&broken, &StructureOptions { allow_nonfinite: true, ..options("channels", 0.2) }).is_ok());
    for wrong in [
        StructureOptions { floor: Some(1.5), ..options("channels", 0.2) },
        StructureOptions { scope: Some(PruneScope::Global), ..options("layers", 0.2) },
        StructureOptions { exclude: vec![NameGlob::new("*").unwrap()], ..options("layers", 0.2) },
        options("channels", -0.1),
    ] {
        assert!(PruneStructure::new(wrong).is_err());
    }
}
