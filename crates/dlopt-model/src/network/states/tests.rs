//! Series read whole and piece by piece give the same; what cannot be cut is refused.

use std::ops::Range;
use std::sync::Arc;

use dlopt_kernels::nn::Team;

use super::super::{Mode, Network};
use crate::description::Description;
use crate::init::initial_values;
use crate::layout::FlatLayout;
use crate::plan::Shape;
use crate::resolve::resolve_open;

struct Made {
    network: Network,
    weights: Vec<f32>,
    buffers: Vec<f32>,
}

fn made(layers: &str, input: Shape, threads: usize) -> Made {
    let description = Description::from_toml(&format!("layers = [{layers}]")).unwrap();
    let nodes = resolve_open(&description, &input, 3).unwrap();
    let layout = FlatLayout::of(&nodes);
    let (weights, buffers) = initial_values(&nodes, &layout, 5).unwrap();
    let mut network = Network::new(&nodes, &layout, &[], Arc::new(Team::new(threads)));
    network.load(&weights, false);
    Made { network, weights, buffers }
}

fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i as f32 * 0.73).sin()).collect()
}

/// The steps of `[rows, time, features]`.
fn cut(values: &[f32], time: usize, features: usize, steps: Range<usize>) -> Vec<f32> {
    let rows = values.chunks_exact(time * features);
    rows.flat_map(|row| &row[steps.start * features..steps.end * features]).copied().collect()
}

const STACKS: [&str; 4] = [
    r#"{ type = "rnn", hidden = 5, layers = 2, return_sequences = true }, { type = "dense", units = 3 }"#,
    r#"{ type = "gru", hidden = 7, return_sequences = true }, { type = "layer_norm" }, { type = "dense", units = 3 }"#,
    r#"{ type = "lstm", hidden = 17, layers = 2, dropout = 0.3, return_sequences = true }, { type = "batch_norm" }"#,
    r#"{ type = "residual", body = [{ type = "lstm", hidden = 4, return_sequences = true }], shortcut = [{ type = "gru", hidden = 4, return_sequences = true }] }"#,
];

#[test]
fn pieces_of_any_size_give_what_the_whole_gives() {
    const TIME: usize = 11;
    let (rows, features) = (5, 4);
    for layers in STACKS {
        for threads in [1, 3] {
            let mut own = made(layers, Shape::Series { time: TIME, features }, threads);
            let x = values(rows * TIME * features);
            let whole = own.network.forward(&own.weights, &mut own.buffers, &x, None, Mode::Inference);
            let outputs = own.network.output().features();
            for sizes in [vec![6, 5], vec![1; TIME], vec![2, 1, 8]] {
                let mut states = own.network.states(rows).unwrap();
                let mut at = 0;
                for size in sizes {
                    let piece = cut(&x, TIME, features, at..at + size);
                    let found =
                        own.network.forward_with(&own.weights, &mut own.buffers, &piece, None, &mut states).unwrap();
                    assert_eq!(found, cut(&whole, TIME, outputs, at..at + size), "{layers}");
                    at += size;
                }
            }
        }
    }
}

#[test]
fn tokens_go_on_one_by_one_and_past_the_length_of_a_sample() {
    let layers = r#"{ type = "embedding", vocabulary = 9, size = 4 }, { type = "gru", hidden = 6, return_sequences = true },
        { type = "dense", units = 9 }"#;
    let mut long = made(layers, Shape::Tokens { time: 14 }, 2);
    let mut short = made(layers, Shape::Tokens { time: 3 }, 2);
    let tokens: Vec<f32> = (0..14).map(|i| (i * 5 % 9) as f32).collect();
    let whole = long.network.forward(&long.weights, &mut [], &tokens, None, Mode::Inference);
    let mut states = short.network.states(1).unwrap();
    let mut found = Vec::new();
    for piece in [&tokens[..9], &tokens[9..10], &tokens[10..]] {
        found.extend(short.network.forward_with(&short.weights, &mut [], piece, None, &mut states).unwrap());
    }
    assert_eq!(found, whole);
    // From the beginning again.
    states.clear();
    assert_eq!(states, short.network.states(1).unwrap());
}

#[test]
fn a_row_that_ends_early_keeps_its_last_state() {
    let layers = r#"{ type = "lstm", hidden = 5 }"#;
    let mut own = made(layers, Shape::Series { time: 6, features: 2 }, 2);
    let x = values(2 * 6 * 2);
    let mut states = own.network.states(2).unwrap();
    let (first, second) = (cut(&x, 6, 2, 0..4), cut(&x, 6, 2, 4..6));
    let mut go = |x: &[f32], lengths: &[u32]| {
        own.network.forward_with(&own.weights, &mut [], x, Some(lengths), &mut states).unwrap()
    };
    go(&first, &[4, 2]);
    // The second row goes on after its second step: give it its third and fourth now.
    let mut rest = second.clone();
    rest[4..].copy_from_slice(&first[12..16]);
    let found = go(&rest, &[2, 2]);
    let mut joined = x.clone();
    joined[12 + 8..].fill(9.0);
    let whole = own.network.forward(&own.weights, &mut [], &joined, Some(&[6, 4]), Mode::Inference);
    assert_eq!(found, whole);
}

#[test]
fn windows_of_a_stream_are_the_steps_of_one_series() {
    let before = r#"{ type = "conv1d", filters = 6, kernel = 4, stride = 2 }, { type = "magnitude" },
        { type = "max_pool1d", size = 2 }"#;
    let after = r#"{ type = "flatten" }, { type = "dense", units = 2, activation = "sigmoid" }"#;
    for cell in ["rnn", "gru", "lstm"] {
        for returns in [false, true] {
            let recurrent = format!("{{ type = \"{cell}\", hidden = 5, layers = 2, return_sequences = {returns} }}");
            let mut own = made(&format!("{before}, {recurrent}, {after}"), Shape::Series { time: 6, features: 1 }, 2);
            let x = values(9 * 6);
            let mut states = own.network.stream().unwrap();
            assert!(states.is_stream() && states.rows() == 1);
            let whole = own.network.forward_with(&own.weights, &mut [], &x, None, &mut states).unwrap();
            assert_eq!(whole.len(), 9 * 2);
            let mut again = own.network.stream().unwrap();
            let mut found = Vec::new();
            for windows in [0..1, 1..6, 6..6, 6..9] {
                let x = &x[windows.start * 6..windows.end * 6];
                found.extend(own.network.forward_with(&own.weights, &mut [], x, None, &mut again).unwrap());
            }
            assert_eq!(found, whole, "{cell}");
            assert_eq!(again, states);
            // The first window begins at zero, as a sample by itself does; later ones do not.
            let alone = own.network.forward(&own.weights, &mut [], &x, None, Mode::Inference);
            assert_eq!(alone[..2], whole[..2]);
            assert_ne!(alone[2..4], whole[2..4]);
        }
    }
}

#[test]
fn what_needs_its_series_whole_is_named() {
    let series = || Shape::Series { time: 6, features: 2 };
    let refused = |layers: &str, input: Shape, is_stream: bool| {
        let network = made(layers, input, 1).network;
        let states = if is_stream { network.stream() } else { network.states(2) };
        states.unwrap_err().message().to_owned()
    };
    let message = refused(r#"{ type = "gru", hidden = 2, bidirectional = true }"#, series(), false);
    assert_eq!(message, "layer `gru` reads from the end too, so it needs the whole series at once");
    assert!(refused(r#"{ type = "gru", hidden = 2, bidirectional = true }"#, series(), true).contains("from the end"));
    assert!(
        refused(r#"{ type = "conv1d", filters = 2, kernel = 3 }"#, series(), false).contains("layer `conv1` looks")
    );
    assert!(refused(r#"{ type = "pad1d", left = 3 }"#, series(), false).contains("layer `pad1` looks"));
    assert!(refused(r#"{ type = "flatten" }"#, series(), false).contains("layer `flatten` joins all steps"));
    assert!(refused(r#"{ type = "dense", units = 3 }"#, Shape::Vector { features: 4 }, false).contains("no series"));
    let message = refused(r#"{ type = "lstm", hidden = 2 }"#, series(), true);
    assert_eq!(message, "layer `lstm` reads 6 steps of each window; in a stream a window is one");
}

#[test]
fn pieces_that_do_not_fit_are_refused() {
    let mut own = made(r#"{ type = "gru", hidden = 2 }"#, Shape::Series { time: 6, features: 2 }, 1);
    let mut states = own.network.states(2).unwrap();
    let mut refused = |x: &[f32], lengths: Option<&[u32]>| {
        let found = own.network.forward_with(&own.weights, &mut [], x, lengths, &mut states);
        found.unwrap_err().message().to_owned()
    };
    assert_eq!(refused(&[0.0; 6], None), "6 values are no steps of 2 for each of 2 series");
    assert!(refused(&[], None).starts_with("0 values"));
    assert_eq!(refused(&[0.0; 8], Some(&[2])), "1 lengths for 2 series");
    assert_eq!(refused(&[0.0; 8], Some(&[3, 1])), "lengths [3, 1] of pieces of 2 steps");
    assert!(refused(&[0.0; 8], Some(&[0, 1])).starts_with("lengths"));
}
