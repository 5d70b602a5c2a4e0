//! Checkpoints with a header that parses, through all that decodes, verifies and describes them: `TEXT \0 DATA`.
#![no_main]

use std::sync::atomic::AtomicBool;

use dlopt_checkpoint::{Checkpoint, Pass, View};
use dlopt_fuzz::{file, read_all, resources, safetensors_of};
use dlopt_inspect::{VerifyOptions, metadata, stats, summary, verify_path};
use dlopt_prune::Densify;
use dlopt_quantize::Dequantize;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(bytes) = safetensors_of(input) else { return };
    let path = file("model.safetensors", &bytes);
    let stop = AtomicBool::new(false);
    let _ = verify_path(&path, VerifyOptions::default(), &resources(&stop));
    let Ok(checkpoint) = Checkpoint::open(&path) else { return };
    summary(&checkpoint);
    metadata(&checkpoint);
    let _ = stats(&checkpoint, &resources(&stop));
    for passes in [&[&Dequantize as &dyn Pass][..], &[&Densify], &[&Densify, &Dequantize], &[&Dequantize, &Densify]] {
        if let Ok(view) = View::new(&checkpoint, passes) {
            read_all(&view);
        }
    }
});
