//! Names of layers where the user gives none.
//!
//! `dlopt prune` and `dlopt quantize` tell layers apart by names (`dlopt-checkpoint/src/layers.rs`): these names keep
//! convolutions, dense, recurrent layers and embeddings what they are, and a lone last dense layer, `fc`, a head.

use std::collections::{HashMap, HashSet};

use dlopt_checkpoint::{Error, Result};

use super::{Layer, LayerType};

/// Names every layer of a network.
pub(super) fn fill(layers: &mut [Layer]) -> Result<()> {
    let mut taken = HashSet::new();
    take_given(layers, "", &mut taken)?;
    fill_level(layers, "", &mut taken)
}

/// Notes the names that were given: whole names, within residual blocks too.
fn take_given(layers: &[Layer], place: &str, taken: &mut HashSet<String>) -> Result<()> {
    for layer in layers {
        if let Some(name) = &layer.name {
            let is_plain = |part: &str| {
                !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
            };
            if !name.split('.').all(is_plain) {
                return Err(Error::input(format!("layer name `{}` {place}", name.escape_debug()))
                    .hint("a name holds letters, digits, `_` and `-`, with `.` between levels: `layer1.0.conv1`"));
            }
            if !taken.insert(name.clone()) {
                return Err(Error::input(format!("two layers are named `{name}`")).hint("give each another name"));
            }
        }
        if let LayerType::Residual(residual) = &layer.kind {
            take_given(&residual.body, "in a residual block", taken)?;
            take_given(&residual.shortcut, "in a residual block", taken)?;
        }
    }
    Ok(())
}

/// Names the layers of one list; `prefix` is empty or ends in a dot.
fn fill_level(layers: &mut [Layer], prefix: &str, taken: &mut HashSet<String>) -> Result<()> {
    let mut totals: HashMap<&str, usize> = HashMap::new();
    for layer in layers.iter() {
        *totals.entry(word(&layer.kind).0).or_default() += 1;
    }
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for layer in layers.iter_mut() {
        let (word, is_counted) = word(&layer.kind);
        let name = match &layer.name {
            Some(name) => name.clone(),
            None if !is_counted && totals[word] == 1 && taken.insert(format!("{prefix}{word}")) => {
                format!("{prefix}{word}")
            }
            None => loop {
                let count = counts.entry(word).or_default();
                *count += 1;
                let name = format!("{prefix}{word}{count}");
                if taken.insert(name.clone()) {
                    break name;
                }
            },
        };
        if let LayerType::Residual(residual) = &mut layer.kind {
            fill_level(&mut residual.body, &format!("{name}."), taken)?;
            for (place, layer) in residual.shortcut.iter_mut().enumerate() {
                let own = layer.name.get_or_insert_with(|| format!("{name}.downsample.{place}")).clone();
                if let LayerType::Residual(inner) = &mut layer.kind {
                    fill_level(&mut inner.body, &format!("{own}."), taken)?;
                    fill_level(&mut inner.shortcut, &format!("{own}.downsample."), taken)?;
                }
            }
        }
        layer.name = Some(name);
    }
    Ok(())
}

/// The word that a layer's name begins with, and whether it is counted where it stands alone.
fn word(kind: &LayerType) -> (&'static str, bool) {
    match kind {
        LayerType::Conv2d(_) | LayerType::DepthwiseConv2d(_) | LayerType::Conv1d(_) => ("conv", true),
        LayerType::MaxPool2d(_)
        | LayerType::AvgPool2d(_)
        | LayerType::MaxPool1d(_)
        | LayerType::AvgPool1d(_)
        | LayerType::GlobalAvgPool(_)
        | LayerType::GlobalMaxPool(_) => ("pool", true),
        LayerType::BatchNorm(_) => ("bn", true),
        LayerType::LayerNorm(_) => ("norm", true),
        LayerType::Dense(_) => ("fc", false),
        LayerType::Flatten(_) => ("flatten", false),
        LayerType::Dropout(_) => ("dropout", true),
        LayerType::Activation(layer) => (layer.function.name(), true),
        LayerType::Embedding(_) => ("embedding", false),
        LayerType::Rnn(_) => ("rnn", false),
        LayerType::Lstm(_) => ("lstm", false),
        LayerType::Gru(_) => ("gru", false),
        LayerType::Pad1d(_) => ("pad", true),
        LayerType::Magnitude(_) => ("magnitude", true),
        LayerType::Residual(_) => ("block", true),
        LayerType::Seq2seq(_) => ("seq2seq", false),
    }
}
