use std::path::Path;

use dlopt_checkpoint::Dtype;
use proptest::prelude::*;
use safetensors::SafeTensors;

use super::executor::{Memory, run};
use crate::{Densify, Prune, PruneOptions};

/// The stored tensors of a golden file, and what the library decompresses them to.
fn golden(file: &str) -> (Memory, Vec<usize>, Vec<u8>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/compressed-tensors");
    let bytes = std::fs::read(folder.join(file)).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut stored = Memory::default();
    for name in tensors.names() {
        if let Some(own) = name.strip_prefix("stored.") {
            let tensor = tensors.tensor(name).unwrap();
            stored = stored.with(own, tensor.dtype(), tensor.shape(), tensor.data().to_vec());
        }
    }
    let expected = tensors.tensor("decompressed.weight").unwrap();
    (stored, expected.shape().to_vec(), expected.data().to_vec())
}

#[test]
fn what_the_library_stored_decompresses_to_the_same_bytes() {
    for (file, name) in [
        ("sparse_bitmask__20x200_bf16.safetensors", "weight"),
        ("sparse_bitmask__20x200_fp8.safetensors", "weight"),
        ("sparse_24_bitmask__24x100_bf16.safetensors", "x.weight"),
        ("sparse_24_bitmask__24x100_fp8.safetensors", "x.weight"),
    ] {
        let (stored, shape, expected) = golden(file);
        for quanta in [1, 3, 100] {
            let (dense, _) = run(&Densify, &stored, quanta).unwrap();
            assert_eq!(dense.header.tensors.len(), 1, "{file}");
            let (info, data) = dense.tensor(name);
            assert_eq!(info.shape, shape, "{file}");
            assert!(data == expected, "{file}");
        }
    }
}

#[test]
fn other_tensors_go_through_untouched() {
    let input = Memory::default().with("a.compressed", Dtype::U8, &[2], vec![1, 2]).with(
        "a.shape",
        Dtype::I64,
        &[1],
        vec![0; 8],
    );
    let (output, _) = run(&Densify, &input, 1).unwrap();
    assert_eq!(output, input);
}

fn small() -> Memory {
    let x: Vec<f64> = (0..33).map(|i| f64::from(i * 7 % 13) - 6.0).collect();
    let options = PruneOptions { sparsity: Some(0.5), store: "bitmask".to_owned(), ..PruneOptions::default() };
    let input = Memory::default().with_values("a.weight", Dtype::F32, &[3, 11], &x);
    run(&Prune::new(options).unwrap(), &input, 1).unwrap().0
}

#[test]
fn damage_is_named() {
    let with = |part: &str, byte: usize, value: u8| {
        let mut stored = small();
        let i = stored.header.tensors.iter().position(|t| t.name.ends_with(part)).unwrap();
        stored.data[i][byte] = value;
        run(&Densify, &stored, 8).unwrap_err().to_string()
    };
    assert!(with("bitmask", 1, 0xff).contains("tensor `a.weight`: row 0 has bits past its 11 columns"));
    assert!(with("row_offsets", 8, 77).contains("tensor `a.weight`: row 1 begins at 77"));
    assert!(with("bitmask", 4, 0).contains("tensor `a.weight`: row 2 has"));
}

proptest! {
    #[test]
    fn no_damage_makes_it_panic(
        part in 0usize..4,
        byte in any::<prop::sample::Index>(),
        value in any::<u8>(),
        is_bare in any::<bool>(),
        quanta in 1usize..4,
    ) {
        let mut stored = small();
        if is_bare {
            stored.header.metadata.clear();
        }
        let byte = byte.index(stored.data[part].len());
        stored.data[part][byte] = value;
        let _ = run(&Densify, &stored, quanta);
    }
}
