//! Caches of teachers' answers that say what they like: `TEXT \0 DATA`.
#![no_main]

use dlopt_checkpoint::Checkpoint;
use dlopt_data::Batch;
use dlopt_distill::{Cache, Said};
use dlopt_fuzz::{file, safetensors_of};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(bytes) = safetensors_of(input) else { return };
    let Ok(checkpoint) = Checkpoint::open(&file("answers.safetensors", &bytes)) else { return };
    let Ok(mut cache) = Cache::open(checkpoint) else { return };
    let facts = cache.facts().clone();
    let _ = (facts.rows(), facts.bytes());
    // Not all that a file says comes back the same: fractions may not.
    let _ = cache.expect(&facts);
    let samples: Vec<usize> = facts.samples.iter().flatten().copied().take(4).collect();
    for indices in [vec![0], samples] {
        let batch = Batch { indices, ..Batch::default() };
        for view in [0, facts.views.wrapping_sub(1), u64::MAX] {
            let _ = cache.say(view, &batch, &mut Said::default());
        }
    }
});
