//! Real weights, and files that other libraries made.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;

use half::bf16;
use serde_json::{Value, json};
use support::*;

fn silero() -> String {
    fixture("silero/silero_vad_16k.safetensors").display().to_string()
}

#[test]
fn silero_is_told_apart_layer_by_layer() {
    let dir = temp_dir();
    let report = json_out(&ok_in(dir.path(), &format!("quantize {} --scheme w8a8 -o q.safetensors --json", silero())));
    let total = &report["passes"][0]["total"];
    assert_eq!(total["weights"], 242_176, "all but the transform and the biases");
    let names: Vec<_> =
        report["passes"][0]["tensors"].as_array().unwrap().iter().map(|t| t["tensor"].clone()).collect();
    assert_eq!(
        names,
        [
            "conv1.weight",
            "conv2.weight",
            "conv3.weight",
            "conv4.weight",
            "lstm_cell.weight_ih",
            "lstm_cell.weight_hh",
            "final_conv.weight"
        ]
    );
    let notes = report["passes"][0]["notes"].as_array().unwrap();
    let stft = notes.iter().find(|n| n["tensor"] == "stft_conv.weight").unwrap();
    assert!(stft["reason"].as_str().unwrap().contains("fixed transform"), "{stft}");
    let before = read_file(Path::new(&silero()));
    let after = read_file(&dir.path().join("q.safetensors"));
    for name in before.names.iter().filter(|n| n.contains("bias") || n.contains("stft")) {
        assert_eq!(before.get(name), after.get(name));
    }
    assert!(after.metadata("dlopt.layout").is_some(), "no runtime's layout holds convolutions");
    ok_in(dir.path(), "verify q.safetensors");
}

#[test]
fn silero_loses_what_rounding_must_cost() {
    let dir = temp_dir();
    let dir = dir.path();
    // Relative errors of the recurrent weights: int8 with a scale a row is about 0.0085 for weights of this kind.
    for (scheme, low, high) in [
        ("w8a16 --group channel", 0.006, 0.0100),
        ("w8a8", 0.006, 0.0100),
        ("w4a16 --group 32", 0.09, 0.12),
        ("w4a16 --group channel", 0.10, 0.16),
        ("fp8", 0.02, 0.03),
        ("bf16", 0.0010, 0.0020),
        ("f16", 0.0001, 0.0003),
    ] {
        ok_in(dir, &format!("quantize {} --scheme {scheme} --fallback channel -o q.safetensors --force", silero()));
        let found = json_out(&ok_in(dir, &format!("diff {} q.safetensors --json", silero())));
        let tensors = found["tensors"].as_array().unwrap();
        let errors: Vec<_> = tensors.iter().map(|t| t["relative_error"].as_f64().unwrap()).collect();
        assert!(errors.is_sorted_by(|a, b| a >= b), "sorted by damage");
        for name in ["lstm_cell.weight_ih", "lstm_cell.weight_hh"] {
            let tensor = tensors.iter().find(|t| t["name"] == name).unwrap();
            let error = tensor["relative_error"].as_f64().unwrap();
            assert!((low..high).contains(&error), "{scheme}: {name} has {error}");
            // The figures must agree with each other, and with the weights.
            let db = tensor["sqnr_db"].as_f64().unwrap();
            assert!((db + 20.0 * error.log10()).abs() < 1e-6, "{db} dB, {error}");
            let cosine = tensor["cosine"].as_f64().unwrap();
            // Sums run in lanes of f32, so the cosine has seven digits.
            assert!((1.0 - cosine - error * error / 2.0).abs() < error * error + 3e-7, "{cosine}, {error}");
        }
        assert_eq!(found["only_in_a"], json!([]));
        assert_eq!(found["only_in_b"], json!([]));
    }
}

#[test]
fn diff_says_what_the_weights_say() {
    let dir = temp_dir();
    let dir = dir.path();
    pipe_in(dir, None, &[&format!("prune {} --sparsity 0.5", silero()), "convert -o p.safetensors"]).ok();
    let found = json_out(&ok_in(dir, &format!("diff {} p.safetensors --json", silero())));
    let (before, after) = (read_file(Path::new(&silero())), read_file(&dir.join("p.safetensors")));
    for tensor in found["tensors"].as_array().unwrap() {
        let name = tensor["name"].as_str().unwrap();
        let (a, b) = (before.get(name).values(), after.get(name).values());
        let difference = |x: &f32, y: &f32| f64::from(*x) - f64::from(*y);
        let pairs = || a.iter().zip(&b);
        let noise: f64 = pairs().map(|(x, y)| difference(x, y).powi(2)).sum();
        let signal: f64 = a.iter().map(|x| f64::from(*x).powi(2)).sum();
        let largest = pairs().map(|(x, y)| difference(x, y).abs()).fold(0.0, f64::max);
        let close = |key: &str, value: f64| {
            let told = tensor[key].as_f64().unwrap();
            assert!((told - value).abs() <= 1e-9 + 1e-6 * value, "{name} {key}: {told}, {value}");
        };
        close("relative_error", if noise == 0.0 { 0.0 } else { (noise / signal).sqrt() });
        close("max_error", largest);
        close("sparsity_a", before.get(name).zeros() as f64 / a.len() as f64);
        close("sparsity_b", after.get(name).zeros() as f64 / b.len() as f64);
        assert_eq!(tensor["differing"], pairs().filter(|(x, y)| x != y).count(), "{name}");
    }
    let same = json_out(&ok_in(dir, &format!("diff {0} {0} --json --tolerance 0", silero())));
    assert_eq!(same["is_equal"], true);
}

#[test]
fn silero_pruned_and_quantized_in_one_pipe() {
    let dir = temp_dir();
    let dir = dir.path();
    let prune = format!("prune {} --sparsity 0.5", silero());
    let quantize = "quantize --scheme w8a16 --group 32 --fallback channel -o small.safetensors --report report.json";
    pipe_in(dir, None, &[&prune, quantize]).ok();
    let pass = read_json(&dir.join("report.json"))["passes"][0].clone();
    assert_eq!(pass["total"]["zeros_before"], 121_088, "half of the weights");
    assert!(pass["total"]["zeros_after"].as_u64().unwrap() >= 121_088);
    assert_eq!(pass["gate"], Value::Null);
    let size = fs::metadata(dir.join("small.safetensors")).unwrap().len();
    assert!((500_000..600_000).contains(&size), "{size}");
    ok_in(dir, "verify small.safetensors");
    // The recipe beside the model is the same in one stream.
    let recipe = fixture("silero/compress.toml").display().to_string();
    ok_in(dir, &format!("run {recipe} {} -o recipe.safetensors", silero()));
    assert!(fs::read(dir.join("small.safetensors")).unwrap() == fs::read(dir.join("recipe.safetensors")).unwrap());
    // The masks kept exactly the larger half of each tensor.
    ok_in(dir, "convert --decompress small.safetensors -o dense.safetensors");
    let (before, after) = (read_file(Path::new(&silero())), read_file(&dir.join("dense.safetensors")));
    for name in before.names.iter().filter(|n| n.contains("weight") && !n.contains("stft")) {
        let mut sizes: Vec<f32> = before.get(name).values().iter().map(|v| v.abs()).collect();
        sizes.sort_by(f32::total_cmp);
        let threshold = sizes[sizes.len() / 2 - 1];
        for (x, y) in before.get(name).values().iter().zip(after.get(name).values()) {
            assert!(y == 0.0 || x.abs() >= threshold, "{name}: {x} stayed");
        }
    }
}

#[test]
fn statistics_are_those_of_the_weights() {
    let dir = temp_dir();
    let dir = dir.path();
    ok_in(dir, &format!("prune {} --pattern 2:4 -o p.safetensors", silero()));
    let stats = json_out(&ok_in(dir, "inspect p.safetensors --stats --json"))["stats"].clone();
    let stored = read_file(&dir.join("p.safetensors"));
    assert_eq!(stats.as_array().unwrap().len(), 15);
    for tensor in stats.as_array().unwrap() {
        let name = tensor["name"].as_str().unwrap();
        let values = stored.get(name).values();
        let count = values.len() as f64;
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
        let variance = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / count;
        // Sums run in lanes of f32: seven digits of the largest that is summed.
        let size = values.iter().map(|v| f64::from(v.abs())).sum::<f64>() / count;
        let close = |key: &str, value: f64| {
            let told = tensor[key].as_f64().unwrap();
            assert!((told - value).abs() <= 1e-6 * value.abs().max(size), "{name} {key}: {told}, {value}");
        };
        close("min", f64::from(values.iter().copied().fold(f32::INFINITY, f32::min)));
        close("max", f64::from(values.iter().copied().fold(f32::NEG_INFINITY, f32::max)));
        close("mean", mean);
        close("standard_deviation", variance.sqrt());
        close("sparsity", stored.get(name).zeros() as f64 / count);
        assert_eq!((&tensor["nans"], &tensor["infinities"]), (&json!(0), &json!(0)));
        let is_pruned = name.contains("weight") && !name.contains("stft");
        let says = tensor["patterns"].as_array().unwrap().contains(&json!("2:4"));
        assert_eq!(says, is_pruned, "{name}: {}", tensor["patterns"]);
    }
}

fn nibble(words: &Tensor, row: usize, column: usize) -> i32 {
    let per_row = words.shape[1];
    let at = 4 * (row * per_row + column / 8);
    let word = u32::from_le_bytes(words.bytes[at..at + 4].try_into().unwrap());
    (word >> (4 * (column % 8)) & 15) as i32
}

/// What the library's packed int4 or int8 weights decode to, computed here from the layout's description.
fn decoded(stored: &Stored, module: &str) -> Vec<bf16> {
    let scales = stored.get(&format!("{module}.weight_scale"));
    let scale_values = scales.values();
    let groups = scales.shape[1];
    if let Some(codes) = stored.tensors.get(&format!("{module}.weight")) {
        let columns = codes.shape[1];
        let value = |(i, byte): (usize, &u8)| bf16::from_f32(f32::from(*byte as i8) * scale_values[i / columns]);
        return codes.bytes.iter().enumerate().map(value).collect();
    }
    let packed = stored.get(&format!("{module}.weight_packed"));
    let (rows, columns) = (packed.shape[0], packed.shape[1] * 8);
    let zero_points = stored.tensors.get(&format!("{module}.weight_zero_point"));
    let mut values = Vec::new();
    for row in 0..rows {
        for column in 0..columns {
            let group = column / (columns / groups);
            // Both carry an offset of eight. Zero points are packed along the rows.
            let zero = zero_points.map_or(8, |z| {
                let at = 4 * (row / 8 * groups + group);
                let word = u32::from_le_bytes(z.bytes[at..at + 4].try_into().unwrap());
                (word >> (4 * (row % 8)) & 15) as i32
            });
            let code = nibble(packed, row, column) - zero;
            values.push(bf16::from_f32(code as f32 * scale_values[row * groups + group]));
        }
    }
    values
}

#[test]
fn the_library_s_llamas_become_dense_as_their_layout_says() {
    let dir = temp_dir();
    let dir = dir.path();
    let dense = read(&fixture("golden/tiny_llama/dense"));
    for (model, low, high) in [
        ("w4a16_g32", 0.05, 0.08),
        ("w4a16_g32_asym", 0.04, 0.07),
        ("w8a8_int8", 0.003, 0.006),
        ("nvfp4a16", 0.05, 0.08),
    ] {
        let path = fixture("golden/tiny_llama").join(model);
        let given = read(&path);
        ok_in(dir, &format!("convert --decompress {} -o {model}", path.display()));
        let opened = read(&dir.join(model));
        assert_eq!(opened.tensors.keys().collect::<Vec<_>>(), dense.tensors.keys().collect::<Vec<_>>(), "{model}");
        let mut decoded_modules = 0;
        for (name, tensor) in &opened.tensors {
            assert_eq!((&tensor.dtype, &tensor.shape), (&dense.get(name).dtype, &dense.get(name).shape), "{name}");
            let module = name.trim_end_matches(".weight");
            if !given.tensors.contains_key(&format!("{module}.weight_scale")) {
                assert_eq!(tensor, dense.get(name), "{model}: {name} was never compressed");
                continue;
            }
            decoded_modules += 1;
            if model != "nvfp4a16" {
                let expected: Vec<u8> = decoded(&given, module).iter().flat_map(|v| v.to_le_bytes()).collect();
                assert!(tensor.bytes == expected, "{model}: {name}");
            }
        }
        assert_eq!(decoded_modules, 7, "{model}");
        let config = read_json(&dir.join(model).join("config.json"));
        assert!(config.get("quantization_config").is_none(), "{model}");

        let original = fixture("golden/tiny_llama/dense").display().to_string();
        let found = json_out(&ok_in(dir, &format!("diff {original} {} --json", path.display())));
        let error = found["total"]["relative_error"].as_f64().unwrap();
        assert!((low..high).contains(&error), "{model}: {error}");
        let again = json_out(&ok_in(dir, &format!("diff {} {model} --json --tolerance 0", path.display())));
        assert_eq!(again["is_equal"], true, "diff decodes as convert does");
        ok_in(dir, &format!("verify {}", path.display()));
    }
}

#[test]
fn our_llamas_are_no_worse_than_the_library_s() {
    let dir = temp_dir();
    let dir = dir.path();
    let original = fixture("golden/tiny_llama/dense").display().to_string();
    for (model, options) in [
        ("w4a16_g32", "--scheme w4a16 --group 32"),
        ("w4a16_g32_asym", "--scheme w4a16_asym --group 32"),
        ("w8a8_int8", "--scheme w8a8"),
    ] {
        ok_in(dir, &format!("quantize {original} {options} -o {model}"));
        let theirs_path = fixture("golden/tiny_llama").join(model);
        let errors = |other: &str| {
            let found = json_out(&ok_in(dir, &format!("diff {original} {other} --json")));
            let tensors = found["tensors"].as_array().unwrap().clone();
            let mut errors: Vec<_> =
                tensors.iter().map(|t| (t["name"].to_string(), t["relative_error"].as_f64().unwrap())).collect();
            errors.sort_by(|a, b| a.0.cmp(&b.0));
            errors
        };
        for (ours, theirs) in errors(model).iter().zip(errors(&theirs_path.display().to_string())) {
            assert!(ours.1 <= theirs.1, "{model} {}: {} against {}", ours.0, ours.1, theirs.1);
        }
        // The same tensors with the same types and shapes, and a config that says the same of them.
        let shapes = |stored: &Stored| -> Vec<_> {
            stored.tensors.values().map(|t| (t.name.clone(), t.dtype.clone(), t.shape.clone())).collect()
        };
        assert_eq!(shapes(&read(&dir.join(model))), shapes(&read(&theirs_path)), "{model}");
        let q = |path: &Path| read_json(&path.join("config.json"))["quantization_config"].clone();
        let (ours, theirs) = (q(&dir.join(model)), q(&theirs_path));
        for key in ["quant_method", "format", "quantization_status", "ignore"] {
            assert_eq!(ours[key], theirs[key], "{model} {key}");
        }
        let weights = |q: &Value| q["config_groups"]["group_0"]["weights"].clone();
        for key in ["num_bits", "type", "symmetric", "strategy", "group_size"] {
            assert_eq!(weights(&ours)[key], weights(&theirs)[key], "{model} {key}");
        }
    }
}

/// A matrix that compressed-tensors stored, and how.
struct Golden {
    file: String,
    stored: Stored,
    facts: Value,
}

fn goldens() -> Vec<Golden> {
    let folder = fixture("golden/compressed-tensors");
    let files = names_in(&folder).into_iter().filter(|n| n.ends_with(".safetensors"));
    files
        .map(|file| {
            let stored = read_file(&folder.join(&file));
            let facts = serde_json::from_str(stored.metadata("golden").unwrap()).unwrap();
            Golden { file, stored, facts }
        })
        .collect()
}

impl Golden {
    /// The command line that asks for the same, when there is one.
    fn options(&self) -> Option<String> {
        let weights = &self.facts["scheme"]["weights"];
        let bits = weights["num_bits"].as_u64()?;
        let group = match weights["strategy"].as_str()? {
            "group" => weights["group_size"].to_string(),
            strategy @ ("channel" | "tensor") => strategy.to_owned(),
            "block" => return Some("--scheme fp8_block".to_owned()),
            _ => return None,
        };
        let asymmetric = if weights["symmetric"] == true { "" } else { " --asymmetric" };
        match self.facts["format"].as_str()? {
            "pack-quantized" if (2..=8).contains(&bits) => {
                Some(format!("--scheme w{bits}a16 --group {group}{asymmetric}"))
            }
            "int-quantized" => Some(format!("--scheme w8a8 --group {group}{asymmetric}")),
            "float-quantized" => Some(format!("--scheme fp8 --group {group}")),
            _ => None,
        }
    }

    fn dtype(&self) -> &str {
        &self.stored.get("input.weight").dtype
    }

    /// A tensor of the file under another name.
    fn renamed(&self, from: &str, to: &str) -> Tensor {
        Tensor { name: to.to_owned(), ..self.stored.get(from).clone() }
    }
}

#[test]
fn codes_and_scales_are_the_library_s_bit_for_bit() {
    let dir = temp_dir();
    let dir = dir.path();
    let (mut exact, mut close) = (0, 0);
    for golden in goldens() {
        let Some(options) = golden.options() else { continue };
        // Asymmetric W8A8 is no scheme of dlopt's.
        if options.contains("w8a8") && options.contains("--asymmetric") {
            continue;
        }
        let input = golden.renamed("input.weight", "m.weight");
        write_folder(&dir.join("in"), &[vec![input.clone()]], Some(&llama_config(SMALL)), &[]);
        let what = format!("{} with {options}", golden.file);
        ok_in(dir, &format!("quantize in -o out --force {options}"));
        let ours = read(&dir.join("out"));
        let theirs: Vec<_> = golden.stored.names.iter().filter_map(|n| n.strip_prefix("stored.")).collect();
        assert_eq!(ours.names.len(), theirs.len(), "{what}: {:?} and {theirs:?}", ours.names);
        for name in &theirs {
            let (ours, theirs) = (ours.get(&format!("m.{name}")), golden.stored.get(&format!("stored.{name}")));
            assert_eq!((&ours.dtype, &ours.shape), (&theirs.dtype, &theirs.shape), "{what}: {name}");
            if golden.dtype() == "F32" {
                assert!(ours.bytes == theirs.bytes, "{what}: {name}");
            }
        }
        ok_in(dir, "convert --decompress out -o dense --force");
        let dense = read(&dir.join("dense"));
        let error = |values: Vec<f32>| -> f64 {
            input.values().iter().zip(values).map(|(a, b)| (f64::from(*a) - f64::from(b)).powi(2)).sum()
        };
        if golden.dtype() == "F32" {
            assert!(dense.get("m.weight").bytes == golden.stored.get("decompressed.weight").bytes, "{what}: decoded");
            exact += 1;
        } else {
            let (ours, theirs) =
                (error(dense.get("m.weight").values()), error(golden.stored.get("decompressed.weight").values()));
            assert!(ours <= theirs, "{what}: a squared error of {ours}, the reference has {theirs}");
            close += 1;
        }
        ok_in(dir, "verify out");
    }
    assert!(exact >= 8 && close >= 8, "{exact} and {close}");
}

#[test]
fn what_the_library_stored_decodes_as_it_decodes_it() {
    let dir = temp_dir();
    let dir = dir.path();
    let (mut decoded, mut refused) = (Vec::new(), Vec::new());
    for golden in goldens() {
        if !golden.stored.tensors.contains_key("decompressed.weight") {
            continue;
        }
        let (format, names) = (golden.facts["format"].clone(), golden.stored.names.clone());
        let parts = names.iter().filter_map(|n| n.strip_prefix("stored."));
        let is_sparse = format.as_str().unwrap().starts_with("sparse");
        let name = |part: &str| format!("m.{}", part.trim_start_matches("x."));
        let tensors: Vec<_> = parts.map(|p| golden.renamed(&format!("stored.{p}"), &name(p))).collect();
        let mut config = llama_config(SMALL);
        if is_sparse {
            config["compression_config"] = json!({
                "quant_method": "compressed-tensors", "sparsity_config": { "format": format, "targets": ["Linear"] },
            });
        } else {
            let mut group = golden.facts["scheme"].clone();
            group["targets"] = json!(["Linear"]);
            config["quantization_config"] = json!({
                "quant_method": "compressed-tensors", "format": format, "quantization_status": "compressed",
                "config_groups": { "group_0": group }, "ignore": [],
            });
        }
        if dir.join("in").exists() {
            fs::remove_dir_all(dir.join("in")).unwrap();
        }
        write_folder(&dir.join("in"), &[tensors], Some(&config), &[]);
        let done = run_in(dir, "convert --decompress in -o dense --force");
        if done.status.code() == Some(0) {
            let expected = golden.stored.get("decompressed.weight");
            let dense = read(&dir.join("dense"));
            let got = dense.tensors.get("m.weight").unwrap_or_else(|| panic!("{}: {:?}", golden.file, dense.names));
            assert_eq!((&got.dtype, &got.shape), (&expected.dtype, &expected.shape), "{}", golden.file);
            assert!(got.bytes == expected.bytes, "{} decodes to other values", golden.file);
            decoded.push(golden.file);
        } else {
            assert_code(&done, 1, &golden.file);
            assert!(err(&done).contains("error: "), "{}", err(&done));
            refused.push((golden.file, err(&done)));
        }
    }
    for must in ["int4_g32_sym", "int4_g32_asym", "int8_channel_sym__", "fp8_channel", "fp8_block128", "sparse_bitmask"]
    {
        let is_decoded = decoded.iter().any(|f| f.starts_with(must));
        assert!(is_decoded && !refused.iter().any(|(f, _)| f.starts_with(must)), "{must}: {refused:?}");
    }
    eprintln!("decoded {}, refused {refused:#?}", decoded.len());
}

#[test]
fn minilm_prunes_and_quantizes_with_its_tokenizer() {
    let Some(model) = fetched("minilm") else { return };
    let dir = temp_dir();
    let dir = dir.path();
    let model = model.display().to_string();
    let prune = format!("prune {model} --pattern 2:4");
    pipe_in(dir, None, &[&prune, "quantize --scheme w4a16 --report report.json -o small/"]).ok();
    let total = read_json(&dir.join("report.json"))["passes"][0]["total"].clone();
    assert_eq!(total["sparsity_before"], 0.5);
    ok_in(dir, "verify small");
    let (before, after) = (files_below(Path::new(&model)), files_below(&dir.join("small")));
    for name in before.keys().filter(|n| n.contains("tokenizer") || n.contains("vocab")) {
        assert!(before[name] == after[name], "{name}");
    }
    // Every stage of the pipe costs what the weights say, and no tensor is lost.
    let found = json_out(&ok_in(dir, &format!("diff {model} small --json")));
    assert_eq!((&found["only_in_a"], &found["only_in_b"]), (&json!([]), &json!([])));
    let error = found["total"]["relative_error"].as_f64().unwrap();
    assert!((0.05..0.5).contains(&error), "{error}");
}

#[test]
fn minilm_in_int8_errs_as_int8_does() {
    let Some(model) = fetched("minilm") else { return };
    let dir = temp_dir();
    let dir = dir.path();
    let model = model.display().to_string();
    ok_in(dir, &format!("quantize {model} --scheme w8a8 -o w8 --report w8.json"));
    let error = read_json(&dir.join("w8.json"))["passes"][0]["total"]["relative_error"].as_f64().unwrap();
    assert!((0.005..0.015).contains(&error), "{error}");
    let read_pass = |name: &str| read_json(&dir.join(name))["passes"][0].clone();
    for method in ["rtn", "mse"] {
        ok_in(dir, &format!("quantize {model} --scheme w4a16 --method {method} -o {method} --report {method}.json"));
    }
    let (rtn, mse) = (read_pass("rtn.json"), read_pass("mse.json"));
    for (plain, searched) in rtn["tensors"].as_array().unwrap().iter().zip(mse["tensors"].as_array().unwrap()) {
        assert_eq!(plain["tensor"], searched["tensor"]);
        let noise = |t: &Value| t["noise"].as_f64().unwrap();
        assert!(noise(searched) <= noise(plain), "{}", plain["tensor"]);
    }
    assert!(mse["total"]["noise"].as_f64().unwrap() < rtn["total"]["noise"].as_f64().unwrap());
}
