//! The real network, where it was fetched: what it says, folded or not, whole or with channels taken out.

use std::path::Path;
use std::sync::Arc;

use dlopt_checkpoint::Checkpoint;
use dlopt_kernels::nn::Team;

use super::*;
use crate::inference::{Execution, Kernels, prepare};
use crate::network::{Mode, Network};
use crate::structure::tests::{masked, options, pruned};
use crate::structure::{StructureOptions, Target};
use crate::weights::{Loaded, load};

fn fetched() -> Option<Checkpoint> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = root.join("data/efficientnet-lite0/efficientnet-lite0.pth");
    if !path.is_file() {
        eprintln!("skipped: run bash scripts/fetch-data.sh efficientnet-lite0 data");
        return None;
    }
    Some(Checkpoint::open(&path).unwrap())
}

fn wanted() -> Vec<f32> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/efficientnet/logits.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    file.tensor("logits").unwrap().data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn picture() -> Vec<f32> {
    (0..SIDE * SIDE * 3).map(|at| (0.013 * at as f64).sin() as f32).collect()
}

fn logits(own: &Loaded) -> Vec<f32> {
    let mut network = Network::new(&own.nodes, &own.layout, &[], Arc::new(Team::new(2)));
    network.load(&own.params, false);
    network.forward(&own.params, &mut own.buffers.clone(), &picture(), None, Mode::Inference)
}

fn far(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |far, (a, b)| far.max((a - b).abs()))
}

#[test]
fn the_real_network_says_what_pytorch_says_folded_or_not() {
    let Some(checkpoint) = fetched() else { return };
    let loaded = load(&checkpoint).unwrap();
    assert_eq!(ModelConfig::from_json(&loaded.config.to_json()).unwrap(), loaded.config);
    let (plain, wanted) = (logits(&loaded), wanted());
    assert!(far(&plain, &wanted) < 1e-4, "{}", far(&plain, &wanted));
    let execution = Execution { kernels: Kernels::Dense, ..Execution::default() };
    let folded = prepare(&checkpoint, &execution, &Arc::new(Team::new(2))).unwrap().loaded;
    assert!(folded.buffers.is_empty(), "every norm is folded");
    assert!(far(&logits(&folded), &wanted) < 1e-4, "{}", far(&logits(&folded), &wanted));
}

#[test]
fn channels_leave_through_skips_and_depthwise_chains() {
    let Some(checkpoint) = fetched() else { return };
    let loaded = load(&checkpoint).unwrap();
    let options = StructureOptions { target: Target::MultiplyAdds, ..options("channels", 0.3) };
    let (left, report) = pruned(&loaded, &options).unwrap();
    let share = report.after.multiply_adds as f64 / report.before.multiply_adds as f64;
    assert!((share - 0.7).abs() < 0.001, "{share}");
    let (found, wanted) = (logits(&left), logits(&masked(&loaded, &report)));
    assert!(far(&found, &wanted) < 1e-4, "{}", far(&found, &wanted));
    assert!(far(&found, &[0.0; 1000]) > 0.1);
    let block = report.groups.iter().find(|own| own.group == "_blocks.2._expand_conv.weight").unwrap();
    assert!(block.members.iter().any(|own| own.tensor == "_blocks.2._depthwise_conv.weight"));
    let skip = report.groups.iter().find(|own| own.group == "_blocks.1._project_conv.weight").unwrap();
    assert!(skip.members.iter().any(|own| own.tensor == "_blocks.2._project_conv.weight"));
}
