//! Against files that compressed-tensors 0.20 wrote (`fixtures/golden/gen_compressed_tensors.py`).

use std::path::{Path, PathBuf};

use dlopt_checkpoint::{Dtype, Pass};
use dlopt_quantize::{Dequantize, Granularity, Overrides, Quantize, Scheme, Values};
use serde_json::{Value, json};

use crate::executor::{Memory, block, blocks, run, values};

fn golden(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden").join(folder)
}

/// A golden file: its dense weight, how it was quantized, what the library stored and decoded.
struct Golden {
    name: String,
    info: Value,
    file: Memory,
}

impl Golden {
    fn all(prefixes: &[&str]) -> Vec<Self> {
        let mut paths: Vec<_> =
            std::fs::read_dir(golden("compressed-tensors")).unwrap().map(|e| e.unwrap().path()).collect();
        paths.sort();
        let mut found = Vec::new();
        for path in paths {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            if path.extension().is_some_and(|e| e == "safetensors") && prefixes.iter().any(|p| name.starts_with(p)) {
                let file = Memory::read(&path);
                let info = serde_json::from_str(&file.header.metadata["golden"]).unwrap();
                found.push(Self { name, info, file });
            }
        }
        assert!(!found.is_empty());
        found
    }

    fn args(&self) -> &Value {
        &self.info["scheme"]["weights"]
    }

    fn format(&self) -> &str {
        self.info["format"].as_str().unwrap()
    }

    /// The config that a model with such a layer has.
    fn config(&self) -> String {
        let mut scheme = self.info["scheme"].clone();
        scheme["format"] = json!(self.format());
        json!({"quantization_config": {
            "config_groups": {"group_0": scheme},
            "format": self.format(),
            "quant_method": "compressed-tensors",
            "quantization_status": "compressed",
        }})
        .to_string()
    }

    /// The dense layer as a model.
    fn dense(&self) -> Memory {
        let mut model = Memory::default();
        let info = self.file.info("input.weight");
        model.add("m.weight", info.dtype, &info.shape, self.file.bytes("input.weight").to_vec());
        model.with_config("{\"model_type\": \"x\"}")
    }

    /// What the library stored, as a model.
    fn stored(&self) -> Memory {
        let mut model = Memory::default();
        for tensor in &self.file.header.tensors {
            if let Some(name) = tensor.name.strip_prefix("stored.") {
                let bytes = self.file.bytes(&tensor.name).to_vec();
                model.add(&format!("m.{name}"), tensor.dtype, &tensor.shape, bytes);
            }
        }
        let shape = &self.file.info("input.weight").shape;
        let shapes = json!({"schema": 1, "tensors": {"m.weight": shape}}).to_string();
        let mut model = model.with_config(&self.config());
        model.header.metadata.insert("dlopt.shapes".into(), shapes);
        model
    }

    /// Our scheme for it, where there is one.
    fn scheme(&self) -> Option<Scheme> {
        let args = self.args();
        let preset = match self.format() {
            "pack-quantized" => "w4a16",
            "int-quantized" => "w8a8",
            "float-quantized" if args["strategy"] == "block" => "fp8_block",
            "float-quantized" => "fp8",
            _ => return None,
        };
        let granularity = match args["strategy"].as_str().unwrap() {
            "tensor" => Some(Granularity::Tensor),
            "channel" => Some(Granularity::Channel),
            "group" => Some(Granularity::Group(args["group_size"].as_u64().unwrap() as usize)),
            _ => None,
        };
        let overrides = Overrides {
            bits: args["num_bits"].as_u64().map(|b| b as u32),
            is_symmetric: args["symmetric"].as_bool(),
            granularity,
        };
        Scheme::new(preset, overrides).ok()
    }
}

fn squared_error(x: &[f64], y: &[f64]) -> f64 {
    assert_eq!(x.len(), y.len());
    x.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum()
}

/// The weight that stored tensors stand for, as exact products: through a copy whose scales are F32.
fn exact(model: &Memory) -> Vec<f64> {
    let mut wide = model.clone();
    let at = wide.position("m.weight_scale");
    let scale: Vec<u8> = wide.values("m.weight_scale").iter().flat_map(|s| (*s as f32).to_le_bytes()).collect();
    wide.header.tensors[at].dtype = Dtype::F32;
    wide.data[at] = scale;
    run(&Dequantize, &wide, 5).unwrap().output.values("m.weight")
}

#[test]
fn f32_weights_give_the_librarys_bytes() {
    let mut compared = 0;
    for golden in Golden::all(&["int", "fp8"]) {
        let (Some(scheme), true) = (golden.scheme(), golden.file.info("input.weight").dtype == Dtype::F32) else {
            continue;
        };
        let ours = run(&Quantize::new(scheme), &golden.dense(), 6).unwrap().output;
        let theirs = golden.stored();
        for tensor in &theirs.header.tensors {
            assert_eq!(ours.info(&tensor.name), tensor, "{}", golden.name);
            assert!(ours.bytes(&tensor.name) == theirs.bytes(&tensor.name), "{} {}", golden.name, tensor.name);
        }
        assert_eq!(ours.header.tensors.len(), theirs.header.tensors.len(), "{}", golden.name);
        compared += 1;
    }
    assert!(compared >= 9, "{compared}");
}

#[test]
fn sixteen_bit_weights_have_no_more_error_than_the_librarys() {
    let mut compared = 0;
    for golden in Golden::all(&["int", "fp8"]) {
        let (Some(scheme), true) = (golden.scheme(), golden.file.info("input.weight").dtype != Dtype::F32) else {
            continue;
        };
        let done = run(&Quantize::new(scheme), &golden.dense(), 6).unwrap();
        let ours = done.output;
        let theirs = golden.stored();
        for tensor in &theirs.header.tensors {
            assert_eq!(ours.info(&tensor.name), tensor, "{}", golden.name);
        }
        let dense = golden.file.values("input.weight");
        let (our_exact, their_exact) = (squared_error(&dense, &exact(&ours)), squared_error(&dense, &exact(&theirs)));
        assert!(our_exact <= their_exact, "{}: {our_exact} > {their_exact}", golden.name);
        let noise = done.reports[0].noise;
        assert!((noise - our_exact).abs() <= 1e-5 * our_exact, "{}: {noise} reported, {our_exact}", golden.name);
        let rounded = |m: &Memory| squared_error(&dense, &run(&Dequantize, m, 5).unwrap().output.values("m.weight"));
        let (our_rounded, their_rounded) = (rounded(&ours), rounded(&theirs));
        assert!(our_rounded <= their_rounded, "{}: {our_rounded} > {their_rounded}", golden.name);
        println!("{}: exact {:.4} rounded {:.4}", golden.name, our_exact / their_exact, our_rounded / their_rounded);
        compared += 1;
    }
    assert!(compared >= 9, "{compared}");
}

#[test]
fn what_the_library_stored_decodes_to_what_it_decoded() {
    let mut compared = 0;
    for golden in Golden::all(&["int", "fp8", "nvfp4", "mxfp"]) {
        for rows in [1, 5, 64] {
            let done = run(&Dequantize, &golden.stored(), rows).unwrap();
            let (ours, theirs) = (done.output.info("m.weight"), golden.file.info("decompressed.weight"));
            assert_eq!((ours.dtype, &ours.shape), (theirs.dtype, &theirs.shape), "{}", golden.name);
            let (ours, theirs) = (done.output.bytes("m.weight"), golden.file.bytes("decompressed.weight"));
            assert!(ours == theirs, "{}", golden.name);
            assert_eq!(done.output.header.tensors.len(), 1);
            assert!(!done.output.header.metadata["config"].contains("quantization_config"));
        }
        compared += 1;
    }
    assert!(compared >= 32, "{compared}");
}

fn check(model: &Memory) -> Result<Values, dlopt_checkpoint::Error> {
    let plan = Dequantize.plan(&model.header)?;
    let mut found = Values::default();
    for unit in plan.units.iter().filter(|u| !u.is_copy) {
        for rows in blocks(unit, 5) {
            let values = Values::check(unit, &block(unit, model, rows))?;
            found.codes += values.codes;
            found.scales += values.scales;
        }
    }
    Ok(found)
}

#[test]
fn what_the_library_stored_passes_the_checks_and_damage_does_not() {
    for golden in Golden::all(&["int", "fp8", "nvfp4", "mxfp"]) {
        let stored = golden.stored();
        let found = check(&stored).unwrap();
        let shape = &golden.file.info("input.weight").shape;
        assert_eq!(found.codes as usize, shape[0] * shape[1]);
        if golden.name.contains("13x37") {
            let mut padded = stored.clone();
            let at = padded.position("m.weight_packed");
            *padded.data[at].last_mut().unwrap() |= 0x80;
            assert!(check(&padded).unwrap_err().message().contains("padding"), "{}", golden.name);
        }
        if !golden.name.starts_with("mx") && !golden.name.starts_with("nv") {
            let mut broken = stored.clone();
            let at = broken.position("m.weight_scale");
            broken.data[at].fill(0);
            assert!(check(&broken).unwrap_err().message().contains("scale"), "{}", golden.name);
        }
    }
}

#[test]
fn packed_rows_with_padding_need_a_recorded_shape() {
    let golden = &Golden::all(&["int4_channel_sym__13x37"])[0];
    let mut stored = golden.stored();
    stored.header.metadata.remove("dlopt.shapes");
    let error = run(&Dequantize, &stored, 5).unwrap_err();
    assert!(error.message().contains("[13, 37]"), "{error}");
}

fn folder(name: &str) -> Memory {
    let folder = golden("tiny_llama").join(name);
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    Memory::read(&folder.join("model.safetensors")).with_config(&config)
}

#[test]
fn whole_models_decode_close_to_the_dense_one() {
    let dense = folder("dense");
    for (name, tolerance) in [("w8a8_int8", 0.01), ("w4a16_g32", 0.12), ("w4a16_g32_asym", 0.12), ("nvfp4a16", 0.13)] {
        let done = run(&Dequantize, &folder(name), 11).unwrap();
        assert_eq!(done.output.header.tensors.len(), dense.header.tensors.len());
        let decoded: Vec<&str> = done.plan.notes.iter().map(|n| n.tensor.as_str()).collect();
        assert_eq!(decoded.len(), 7, "{name}");
        for tensor in &dense.header.tensors {
            assert_eq!(done.output.info(&tensor.name), tensor);
            let (x, y) = (dense.values(&tensor.name), done.output.values(&tensor.name));
            let distance = (squared_error(&x, &y) / squared_error(&x, &vec![0.0; x.len()])).sqrt();
            let is_decoded = decoded.contains(&tensor.name.as_str());
            assert!(distance <= if is_decoded { tolerance } else { 0.0 }, "{name} {}: {distance}", tensor.name);
        }
    }
}

#[test]
fn a_whole_model_is_quantized_as_the_library_does() {
    for (name, scheme) in [("w4a16_g32", "w4a16:32"), ("w4a16_g32_asym", "w4a16_asym:32"), ("w8a8_int8", "w8a8")] {
        let (theirs, ours) = (folder(name), run(&Quantize::new(Scheme::parse(scheme).unwrap()), &folder("dense"), 9));
        let ours = ours.unwrap().output;
        for tensor in &theirs.header.tensors {
            assert_eq!(ours.info(&tensor.name), tensor, "{name}");
        }
        assert_eq!(ours.header.tensors.len(), theirs.header.tensors.len());
        let config = |m: &Memory| m.header.config().unwrap().unwrap();
        let (our_config, their_config) = (config(&ours), config(&theirs));
        assert_eq!(our_config["quantization_config"], their_config["quantization_config"], "{name}");
        let quantization = |m: &Memory| serde_json::to_string(&config(m)["quantization_config"]).unwrap();
        assert_eq!(quantization(&ours), quantization(&theirs), "{name}: keys in another order");
        check(&ours).unwrap();
    }
}

#[test]
fn decoded_dtype_and_values_are_read_back() {
    assert_eq!(values(Dtype::F16, &half::f16::from_f32(0.5).to_le_bytes()), [0.5]);
}
