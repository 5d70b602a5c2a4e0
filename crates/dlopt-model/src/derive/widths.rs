//! Narrower layers: every size times the same share, so that what is added up stays equal.
//!
//! `size' = max(1, round(share * size))`. Where convolutions have groups, sizes that are multiples of all their group counts
//! stay multiples; a convolution with a group for each channel follows what goes into it, as depthwise ones do. Sizes that
//! decide what comes out of the network stay, and so do those whose features are real and imaginary parts, in pairs.

use std::collections::BTreeSet;

use dlopt_checkpoint::{Error, Result};

use crate::description::{Layer, LayerType, RecurrentStack, Units};

/// Sizes of a student.
struct Narrowing {
    share: f64,
    hidden: Option<usize>,
    /// What sizes stay multiples of.
    multiple: usize,
    /// Names of layers that stay as they are.
    stay: BTreeSet<String>,
}

/// Makes named layers narrower: all by a share, or recurrent ones to so many units, or both.
pub(super) fn narrow(layers: &mut [Layer], share: Option<f64>, hidden: Option<usize>) -> Result<()> {
    if let Some(hidden) = hidden {
        check_hidden(layers, hidden)?;
    }
    let mut stay = BTreeSet::new();
    sources(layers, &mut stay);
    pairs(layers, &mut stay);
    let mut multiple = 1;
    groups(layers, None, &mut multiple);
    let own = Narrowing { share: share.unwrap_or(1.0), hidden, multiple, stay };
    own.all(layers, None);
    Ok(())
}

fn check_hidden(layers: &[Layer], hidden: usize) -> Result<()> {
    let found = recurrent(layers);
    if found.is_empty() {
        return Err(Error::usage("`hidden` sets the units of recurrent layers, and the teacher has none")
            .hint("width=0.5 makes all layers narrower"));
    }
    match found.iter().find(|(_, own)| *own < hidden) {
        None => Ok(()),
        Some((name, own)) => {
            Err(Error::usage(format!("`hidden` is {hidden}, and layer `{name}` of the teacher has {own} units"))
                .hint("a derived student is no wider than its teacher; describe a wider one in TOML"))
        }
    }
}

/// Names and units of recurrent layers.
fn recurrent(layers: &[Layer]) -> Vec<(String, usize)> {
    let own = |layer: &Layer| {
        let name = layer.name.clone().unwrap_or_default();
        match &layer.kind {
            LayerType::Rnn(stack) | LayerType::Lstm(stack) | LayerType::Gru(stack) => vec![(name, stack.hidden)],
            LayerType::Seq2seq(own) => vec![(name, own.hidden)],
            LayerType::Residual(block) => [recurrent(&block.body), recurrent(&block.shortcut)].concat(),
            _ => Vec::new(),
        }
    };
    layers.iter().flat_map(own).collect()
}

/// Notes the layers whose sizes are those of what comes out; says whether what goes in does not come out too.
fn sources(layers: &[Layer], found: &mut BTreeSet<String>) -> bool {
    for layer in layers.iter().rev() {
        match &layer.kind {
            // All sizes of a `seq2seq` but its outputs are within.
            LayerType::Seq2seq(_) => return true,
            LayerType::Conv2d(_)
            | LayerType::Conv1d(_)
            | LayerType::Dense(_)
            | LayerType::Embedding(_)
            | LayerType::Rnn(_)
            | LayerType::Lstm(_)
            | LayerType::Gru(_) => {
                found.extend(layer.name.clone());
                return true;
            }
            LayerType::Residual(block) => {
                let long = sources(&block.body, found);
                let short = sources(&block.shortcut, found);
                if long && short {
                    return true;
                }
            }
            _ => {}
        }
    }
    false
}

/// Notes the layers in front of every `magnitude`.
fn pairs(layers: &[Layer], found: &mut BTreeSet<String>) {
    for (at, layer) in layers.iter().enumerate() {
        match &layer.kind {
            LayerType::Magnitude(_) => {
                sources(&layers[..at], found);
            }
            LayerType::Residual(block) => {
                pairs(&block.body, found);
                pairs(&block.shortcut, found);
            }
            _ => {}
        }
    }
}

/// The channels that come out of a layer, where the description alone says so.
fn channels(layer: &Layer, inputs: Option<usize>) -> Option<usize> {
    let count = |units| match units {
        Units::Count(count) => Some(count),
        Units::Classes => None,
    };
    match &layer.kind {
        LayerType::Conv2d(own) => count(own.filters),
        LayerType::Conv1d(own) => count(own.filters),
        LayerType::Dense(own) => count(own.units),
        LayerType::DepthwiseConv2d(own) => inputs.map(|inputs| inputs.saturating_mul(own.multiplier)),
        LayerType::Embedding(own) => Some(own.size),
        LayerType::Rnn(own) | LayerType::Lstm(own) | LayerType::Gru(own) => {
            Some(own.hidden.saturating_mul(if own.bidirectional { 2 } else { 1 }))
        }
        LayerType::Residual(own) => own.body.iter().fold(inputs, |inputs, layer| channels(layer, inputs)),
        LayerType::Flatten(_) | LayerType::Magnitude(_) | LayerType::Seq2seq(_) => None,
        _ => inputs,
    }
}

/// The least common multiple of the groups of all convolutions that do not have one for each channel.
fn groups(layers: &[Layer], mut inputs: Option<usize>, multiple: &mut usize) {
    for layer in layers {
        match &layer.kind {
            LayerType::Conv2d(own) if inputs != Some(own.groups) => raise(multiple, own.groups),
            LayerType::Conv1d(own) if inputs != Some(own.groups) => raise(multiple, own.groups),
            LayerType::Residual(own) => {
                groups(&own.body, inputs, multiple);
                groups(&own.shortcut, inputs, multiple);
            }
            _ => {}
        }
        inputs = channels(layer, inputs);
    }
}

/// A multiple too large to count is one that no size is of.
fn raise(multiple: &mut usize, groups: usize) {
    let (mut larger, mut smaller) = (*multiple, groups);
    while smaller > 0 {
        (larger, smaller) = (smaller, larger % smaller);
    }
    *multiple = (*multiple / larger.max(1)).saturating_mul(groups.max(1));
}

impl Narrowing {
    /// Narrows a list of layers; `inputs` are the channels that went in and those that now do, where that is known.
    fn all(&self, layers: &mut [Layer], mut inputs: Option<[usize; 2]>) {
        for layer in layers {
            let before = channels(layer, inputs.map(|[before, _]| before));
            self.one(layer, inputs);
            let after = channels(layer, inputs.map(|[_, after]| after));
            inputs = before.zip(after).map(|(before, after)| [before, after]);
        }
    }

    fn one(&self, layer: &mut Layer, inputs: Option<[usize; 2]>) {
        let stays = layer.name.as_ref().is_some_and(|name| self.stay.contains(name));
        match &mut layer.kind {
            LayerType::Residual(block) => {
                self.all(&mut block.body, inputs);
                self.all(&mut block.shortcut, inputs);
            }
            LayerType::Seq2seq(own) => {
                own.embedding = self.size(own.embedding);
                own.hidden = self.hidden.unwrap_or_else(|| self.size(own.hidden));
            }
            _ if stays => {}
            LayerType::Conv2d(own) => self.filters(&mut own.filters, &mut own.groups, inputs),
            LayerType::Conv1d(own) => self.filters(&mut own.filters, &mut own.groups, inputs),
            LayerType::Dense(own) => self.units(&mut own.units),
            LayerType::Embedding(own) => own.size = self.size(own.size),
            LayerType::Rnn(own) | LayerType::Lstm(own) | LayerType::Gru(own) => self.stack(own),
            _ => {}
        }
    }

    fn filters(&self, filters: &mut Units, groups: &mut usize, inputs: Option<[usize; 2]>) {
        match (filters, inputs) {
            (Units::Count(filters), Some([before, after])) if *groups > 1 && *groups == before => {
                *filters = *filters / *groups * after;
                *groups = after;
            }
            (filters, _) => self.units(filters),
        }
    }

    fn units(&self, units: &mut Units) {
        if let Units::Count(count) = units {
            *count = self.size(*count);
        }
    }

    fn stack(&self, own: &mut RecurrentStack) {
        own.hidden = self.hidden.unwrap_or_else(|| self.size(own.hidden));
    }

    fn size(&self, size: usize) -> usize {
        let multiple = if size.is_multiple_of(self.multiple) { self.multiple } else { 1 };
        let rounded = (self.share * (size / multiple) as f64).round() as usize;
        rounded.max(1) * multiple
    }
}
