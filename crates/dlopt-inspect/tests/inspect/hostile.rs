//! Nothing that a file says makes these verbs panic.

use std::path::Path;

use dlopt_checkpoint::{Checkpoint, DTYPES, tensor_bytes};
use dlopt_inspect::{DiffOptions, VerifyOptions, diff, metadata, stats, summary, verify_path};

use crate::fixture::{Model, fixture, usual};

fn look(path: &Path) {
    verify_path(path, VerifyOptions::default(), &usual()).unwrap();
    let Ok(checkpoint) = Checkpoint::open(path) else { return };
    summary(&checkpoint);
    metadata(&checkpoint);
    let _ = stats(&checkpoint, &usual());
    let _ = diff(&checkpoint, &checkpoint, DiffOptions::default(), &usual());
}

#[test]
fn every_golden_file_is_looked_at() {
    for folder in ["compressed-tensors", "safetensors", "number_formats"] {
        for entry in fixture(&format!("golden/{folder}")).read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "safetensors") {
                look(&path);
            }
        }
    }
}

/// Numbers from a fixed sequence.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

#[test]
fn changed_shapes_dtypes_bytes_and_configs_are_findings() {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice(7);
    for name in ["w4a16_g32", "w4a16_g32_asym", "w8a8_int8", "nvfp4a16"] {
        for _ in 0..60 {
            let mut model = Model::read(&fixture(&format!("golden/tiny_llama/{name}")));
            for _ in 0..1 + dice.below(3) {
                change(&mut model, &mut dice);
            }
            look(&model.write(dir.path()));
        }
    }
}

fn change(model: &mut Model, dice: &mut Dice) {
    let at = dice.below(model.data.len());
    let info = &mut model.header.tensors[at];
    match dice.below(5) {
        0 => info.dtype = DTYPES[dice.below(DTYPES.len())].0,
        1 => info.shape = (0..dice.below(4)).map(|_| [0, 1, 2, 3, 8, 32, 64, 96][dice.below(8)]).collect(),
        2 => {
            for _ in 0..4 {
                let byte = dice.below(model.data[at].len());
                if let Some(byte) = model.data[at].get_mut(byte) {
                    *byte = dice.below(256) as u8;
                }
            }
        }
        3 => {
            model.header.tensors.remove(at);
            model.data.remove(at);
            return;
        }
        _ => {
            let numbers = ["0", "-1", "1", "3", "1e300", "18446744073709551615", "null", "\"x\"", "[]"];
            let keys = ["\"group_size\": 32", "\"num_bits\": 4", "\"num_bits\": 8", "\"hidden_size\": 64"];
            let key = keys[dice.below(keys.len())];
            let (key_name, _) = key.split_once(' ').unwrap();
            let text = &model.header.metadata["config"];
            let text = text.replace(key, &format!("{key_name} {}", numbers[dice.below(numbers.len())]));
            model.header.metadata.insert("config".to_owned(), text);
        }
    }
    // Codes below a byte must fill bytes.
    let info = &mut model.header.tensors[at];
    if tensor_bytes(info.dtype, &info.shape).is_err() {
        info.shape.push(4);
    }
    model.data[at].resize(info.bytes() as usize, 1);
}
