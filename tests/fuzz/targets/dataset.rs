//! Datasets that say what they like, in memory and on disk alike: `TEXT \0 DATA`.
#![no_main]

use dlopt_data::{Batch, Dataset, Intake};
use dlopt_fuzz::{file, safetensors_of};
use libfuzzer_sys::fuzz_target;

/// What a dataset says of some samples.
fn gathered(dataset: &Dataset) -> Option<Batch> {
    for split in dataset.info().splits.keys() {
        let _ = dataset.split(split);
    }
    let last = dataset.samples().checked_sub(1)?;
    let mut batch = Batch::default();
    dataset.gather(&[last, 0, last / 2, 0], &mut batch).ok()?;
    dataset.answers(last);
    let mut stored = Vec::new();
    let _ = dataset.stored(0..1, &mut stored);
    Some(batch)
}

/// The same of bytes and of values: NaN is what it is.
fn bits(batch: &Option<Batch>) -> Option<Vec<u32>> {
    let batch = batch.as_ref()?;
    Some(batch.inputs.iter().chain(&batch.targets).map(|value| value.to_bits()).collect())
}

fuzz_target!(|input: &[u8]| {
    let Some(bytes) = safetensors_of(input) else { return };
    let path = file("data.safetensors", &bytes);
    let [disk, memory] = [0, u64::MAX].map(|memory| Dataset::open_within(&path, memory).ok());
    if let Some(dataset) = &memory {
        let _ = Intake::new(dataset.preprocessing().clone());
    }
    let [disk, memory] = [disk, memory].map(|dataset| dataset.as_ref().and_then(gathered));
    assert_eq!(bits(&disk), bits(&memory), "disk and memory give different answers");
});
