//! Which layers can be dropped, and the description without them.
//!
//! A residual block without a shortcut of its own gives what it takes, so that the network fits together without it. So does
//! a layer of a recurrent stack, but for the first, which takes the inputs. Blocks within blocks go with them.

use std::collections::BTreeMap;

use dlopt_checkpoint::{Error, Result};

use crate::description::{Layer, LayerType, RecurrentStack};

/// A layer that `layers` counts.
struct Unit {
    /// Its name, for people.
    name: String,
    /// Why it cannot be dropped, if so.
    must_stay: Option<&'static str>,
}

/// Keeps the layers of these numbers.
pub(super) fn keep(layers: &mut Vec<Layer>, stays: &[usize]) -> Result<()> {
    let units = units(layers);
    if units.iter().all(|unit| unit.must_stay.is_some()) {
        let found = match units.is_empty() {
            true => "none".to_owned(),
            false => format!("only {}: none can be dropped", list(&units)),
        };
        return Err(Error::usage(format!(
            "`layers` chooses among residual blocks and the layers of recurrent stacks, and the teacher has {found}"
        ))
        .hint("make the student narrower: width=0.5"));
    }
    if let Some(stranger) = stays.iter().find(|stay| **stay >= units.len()) {
        return Err(Error::usage(format!("`layers` names {stranger}, and the teacher has {}", list(&units)))
            .hint(format!("numbers are below {}", units.len())));
    }
    let lacking: Vec<usize> =
        (0..units.len()).filter(|at| units[*at].must_stay.is_some() && !stays.contains(at)).collect();
    if let Some(&first) = lacking.first() {
        let mut all: Vec<usize> = stays.iter().copied().chain(lacking).collect();
        all.sort_unstable();
        let all: Vec<String> = all.iter().map(usize::to_string).collect();
        return Err(Error::usage(format!(
            "`layers` leaves out {first} (`{}`), which must stay: {}; the teacher has {}",
            units[first].name,
            units[first].must_stay.unwrap_or_default(),
            list(&units)
        ))
        .hint(format!("layers={}", all.join(","))));
    }
    let mut at = 0;
    layers.retain_mut(|layer| match layer.kind {
        LayerType::Residual(_) => {
            at += 1;
            stays.contains(&(at - 1))
        }
        _ => {
            if let Some(stack) = stack_mut(layer) {
                let first = at;
                at += stack.layers;
                stack.layers = (first..at).filter(|level| stays.contains(level)).count();
            }
            true
        }
    });
    Ok(())
}

/// For each stack, the teacher's layers that became the student's.
pub(super) fn levels(layers: &[Layer], stays: &[usize]) -> BTreeMap<String, Vec<usize>> {
    let mut all = BTreeMap::new();
    let mut at = 0;
    for layer in layers {
        if let LayerType::Residual(_) = layer.kind {
            at += 1;
        } else if let Some(stack) = stack(layer) {
            let own = (0..stack.layers).filter(|level| stays.contains(&(at + level))).collect();
            all.insert(layer.name.clone().unwrap_or_default(), own);
            at += stack.layers;
        }
    }
    all
}

/// Whether each of the layers that `layers` counts can be dropped.
pub(crate) fn droppable(layers: &[Layer]) -> Vec<bool> {
    units(layers).iter().map(|unit| unit.must_stay.is_none()).collect()
}

fn units(layers: &[Layer]) -> Vec<Unit> {
    let mut all = Vec::new();
    for layer in layers {
        let name = layer.name.clone().unwrap_or_default();
        if let LayerType::Residual(block) = &layer.kind {
            let must_stay =
                (!block.shortcut.is_empty()).then_some("its shortcut has layers, as where the shape changes");
            all.push(Unit { name, must_stay });
        } else if let Some(stack) = stack(layer) {
            for level in 0..stack.layers {
                let must_stay = (level == 0).then_some("it is the first of its stack and takes the inputs");
                all.push(Unit { name: format!("{name}.l{level}"), must_stay });
            }
        }
    }
    all
}

/// The recurrent layers of which one may be dropped.
fn stack(layer: &Layer) -> Option<&RecurrentStack> {
    match &layer.kind {
        LayerType::Rnn(stack) | LayerType::Lstm(stack) | LayerType::Gru(stack) if stack.layers > 1 => Some(stack),
        _ => None,
    }
}

fn stack_mut(layer: &mut Layer) -> Option<&mut RecurrentStack> {
    match &mut layer.kind {
        LayerType::Rnn(stack) | LayerType::Lstm(stack) | LayerType::Gru(stack) if stack.layers > 1 => Some(stack),
        _ => None,
    }
}

fn list(units: &[Unit]) -> String {
    let text = |(at, unit): (usize, &Unit)| {
        let note = if unit.must_stay.is_some() { ", must stay" } else { "" };
        format!("{at} (`{}`{note})", unit.name)
    };
    units.iter().enumerate().map(text).collect::<Vec<_>>().join(", ")
}
