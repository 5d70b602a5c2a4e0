//! Compressed checkpoints that lie, run as they are stored: each kernel choice refuses them with one clear error, and runs
//! nothing.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::{assert_code, err, ok_in, out, run_in, temp_dir, with_header_text};

/// Inputs of the first layer are no multiple of eight, so that rows of 4-bit codes end in padding.
const NET: &str = "layers = [{ type = 'dense', units = 24 }, { type = 'dense', units = 'classes' }]\n";

/// A folder with a table of 20 columns, a dataset of it and a network that is stored in several ways.
fn ground() -> tempfile::TempDir {
    let dir = temp_dir();
    let path = dir.path();
    let row = |row: usize| {
        let values: Vec<String> = (0..20).map(|column| ((row * 7 + column * column) % 11).to_string()).collect();
        format!("{},{}\n", values.join(","), ["x", "y", "z"][row % 3])
    };
    fs::write(path.join("d.csv"), (0..24).map(row).collect::<String>()).unwrap();
    fs::write(path.join("net.toml"), NET).unwrap();
    ok_in(path, "prepare d.csv --split-at 16,20 --constant keep -q -o d.safetensors");
    ok_in(path, "train --model net.toml --data d.safetensors --epochs 1 -q -o m.safetensors");
    for (scheme, name) in [("w4a16:4", "group"), ("w4a16_asym", "zeros"), ("w4a16", "rows"), ("w8a8", "bytes")] {
        let scheme = scheme.split_once(':').map_or_else(
            || format!("--scheme {scheme} --group channel"),
            |(scheme, group)| format!("--scheme {scheme} --group {group}"),
        );
        ok_in(path, &format!("quantize m.safetensors {scheme} --include fc1.weight -q -o {name}.safetensors"));
    }
    ok_in(path, "prune m.safetensors --sparsity 0.6 --store bitmask --include fc1.weight -q -o mask.safetensors");
    dir
}

/// Changes the bytes of one tensor of a file.
fn change(dir: &Path, from: &str, tensor: &str, edit: impl FnOnce(&mut [u8])) {
    let mut bytes = fs::read(dir.join(format!("{from}.safetensors"))).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let offset = |at: usize| text[tensor]["data_offsets"][at].as_u64().unwrap() as usize;
    edit(&mut bytes[8 + header..][offset(0)..offset(1)]);
    fs::write(dir.join("bad.safetensors"), bytes).unwrap();
}

/// Every way to run it refuses it: the file, `fc1.weight` and what is wrong are named.
#[track_caller]
fn assert_refused(dir: &Path, what: &str, wanted: &str) {
    for kernels in ["auto", "explain", "compressed", "dense"] {
        for line in ["eval bad.safetensors --data d.safetensors", "predict bad.safetensors d.csv"] {
            let line = format!("{line} --kernels {kernels}");
            let output = run_in(dir, &line);
            assert_code(&output, 1, &format!("{what}: {line}"));
            let message = err(&output);
            for needle in ["error: bad.safetensors", "fc1.weight", wanted] {
                assert!(message.contains(needle), "{what}: {line}: lacks {needle:?}: {message}");
            }
            assert_eq!(out(&output), "", "{what}: {line}");
        }
    }
}

#[test]
fn scales_that_are_no_sizes_are_refused() {
    let dir = ground();
    let dir = dir.path();
    for scale in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0, 0.0] {
        for name in ["group", "bytes"] {
            change(dir, name, "fc1.weight_scale", |bytes| bytes[8..12].copy_from_slice(&scale.to_le_bytes()));
            assert_refused(dir, &format!("{name}, scale {scale}"), "scale that is not positive, in row");
        }
    }
}

#[test]
fn codes_out_of_range_are_refused() {
    let dir = ground();
    let dir = dir.path();
    // 20 codes of 4 bits: 10 bytes of each row, and 2 of padding.
    change(dir, "rows", "fc1.weight_packed", |bytes| bytes[12 + 11] = 1);
    assert_refused(dir, "padding", "bits set in the padding of a row, in row 1");
    // Codes of a byte each, which are said to have four bits.
    edit_weights(dir, "bytes", |weights| weights["num_bits"] = json!(4));
    assert_refused(dir, "8 bits for 4", "4 bits");
}

#[test]
fn shapes_that_do_not_divide_are_refused() {
    let dir = ground();
    let dir = dir.path();
    for group in [3, 5, 8, 1_u64 << 40] {
        edit_weights(dir, "group", |weights| weights["group_size"] = json!(group));
        assert_refused(dir, &format!("groups of {group}"), "does not");
    }
    change(dir, "zeros", "fc1.weight_shape", |bytes| bytes[8] = 21);
    assert_refused(dir, "21 columns", "says it has shape [24, 21]");
}

#[test]
fn bitmasks_that_count_wrong_are_refused() {
    let dir = ground();
    let dir = dir.path();
    change(dir, "mask", "fc1.weight.bitmask", |bytes| bytes[0] = !bytes[0]);
    assert_refused(dir, "a bit more or less", "fc1.weight");
}

/// Changes what the config of a file says of its quantized weights.
fn edit_weights(dir: &Path, from: &str, edit: impl FnOnce(&mut Value)) {
    let bytes = fs::read(dir.join(format!("{from}.safetensors"))).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut text: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let metadata = &mut text["__metadata__"]["config"];
    let mut config: Value = serde_json::from_str(metadata.as_str().unwrap()).unwrap();
    edit(config.pointer_mut("/quantization_config/config_groups/group_0/weights").unwrap());
    *metadata = json!(config.to_string());
    fs::write(dir.join("bad.safetensors"), with_header_text(text.to_string().as_bytes(), &bytes[8 + header..]))
        .unwrap();
}

#[test]
fn an_instruction_set_that_the_cpu_lacks_is_refused() {
    let dir = ground();
    let dir = dir.path();
    let has = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    for (name, feature) in [("avx2", " avx2 "), ("avx512", " avx512vl "), ("amx", " amx_int8 ")] {
        let output = run_in(dir, &format!("eval group.safetensors --data d.safetensors --instructions {name}"));
        if has.contains(feature) {
            assert_code(&output, 0, name);
        } else {
            assert_code(&output, 2, name);
            let message = err(&output);
            assert!(message.contains("this CPU lacks it") && message.contains("try: --instructions"), "{message}");
        }
    }
}
