//! Any bytes as a safetensors file and as a pipe: both say the same, and accept nothing that the reference refuses.
#![no_main]

use dlopt_checkpoint::Checkpoint;
use dlopt_fuzz::{file, piped, read_all};
use dlopt_inspect::{metadata, summary};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let is_foreign = [&b"PK"[..], b"\x93NUMPY", b"\x80"].iter().any(|first| bytes.starts_with(first));
    if is_foreign {
        return;
    }
    let path = file("model.safetensors", bytes);
    let pipe = piped(bytes);
    let Ok(checkpoint) = Checkpoint::open(&path) else { return };
    let reference = safetensors::SafeTensors::deserialize(bytes);
    assert!(reference.is_ok(), "the reference refuses it: {:?}", reference.err());
    assert!(pipe.is_ok_and(|pipe| pipe.header == checkpoint.header), "a pipe says something else");
    summary(&checkpoint);
    metadata(&checkpoint);
    read_all(&checkpoint);
});
