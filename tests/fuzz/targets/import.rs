//! Any bytes as a checkpoint of PyTorch (zip and pickle, or the pickle of old) or NumPy (`.npz`, `.npy`).
#![no_main]

use dlopt_checkpoint::{Checkpoint, open_import};
use dlopt_fuzz::{file, folder, read_all};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = file("model.pth", bytes);
    if let Ok(imported) = open_import(&path) {
        let imported = imported.spool_in(folder());
        for (at, info) in imported.header.tensors.iter().enumerate() {
            let _ = imported.read(at, 0, &mut vec![0; info.bytes().min(1 << 20) as usize]);
        }
        let _ = imported.read(imported.header.tensors.len(), 0, &mut [0]);
    }
    if let Ok(checkpoint) = Checkpoint::open_spooling_in(&path, folder()) {
        read_all(&checkpoint);
    }
});
