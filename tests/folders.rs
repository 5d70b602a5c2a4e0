//! Folders as they are found: shards, ties, small files, odd sizes and names; what becomes of them, and what the
//! runtimes read in the result.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::*;

const LONG: usize = 4000;

/// Names that somebody has given a tensor.
fn odd_names() -> Vec<String> {
    vec![
        "ünïcode.層.weight".to_owned(),
        "with spaces . and tabs?.weight".to_owned(),
        "\"quoted\" 'name'.weight".to_owned(),
        "back\\slash.weight".to_owned(),
        "a..b...weight".to_owned(),
        "../../escape.weight".to_owned(),
        "/absolute.weight".to_owned(),
        "[brackets] {braces} *.weight".to_owned(),
        "👩‍🔬.weight".to_owned(),
        "\u{7f}\u{1}.weight".to_owned(),
        format!("{}.weight", "long.".repeat(LONG / 5)),
        ".weight".to_owned(),
        "weight".to_owned(),
    ]
}

/// A folder of three shards with everything odd at once.
fn odd_folder(dir: &Path) -> Vec<Tensor> {
    let mut tensors = llama(SMALL, "BF16", 3);
    // The head is the embedding under another name.
    let embedding = tensors[0].bytes.clone();
    tensors.last_mut().unwrap().bytes = embedding;
    let random = |name: &str, dtype: &str, shape: &[usize]| Tensor::random(name, dtype, shape, 3);
    for (i, columns) in [100, 37, 1, 127, 129].into_iter().enumerate() {
        tensors.push(random(&format!("odd.{i}.fc.weight"), "F32", &[5, columns]));
    }
    tensors.push(random("scalar", "F32", &[]));
    tensors.push(random("scalar.int", "I64", &[]));
    tensors.push(random("one.weight", "BF16", &[1, 1]));
    tensors.push(random("empty.fc.weight", "F32", &[0, 128]));
    tensors.push(random("empty.too.weight", "F32", &[128, 0]));
    tensors.push(random("empty", "U8", &[0]));
    tensors.push(random("mask", "BOOL", &[3]));
    tensors.push(random("half", "F4", &[2, 3]));
    tensors.push(random("table", "U8", &[7]));
    for name in odd_names() {
        tensors.push(random(&name, "F32", &[4, 128]));
    }
    let mut config = llama_config(SMALL);
    config["tie_word_embeddings"] = json!(true);
    let shards = [tensors[..9].to_vec(), tensors[9..30].to_vec(), tensors[30..].to_vec()];
    write_folder(dir, &shards, Some(&config), &COMPANIONS);
    tensors
}

/// Writes `model/`: a Llama of one or three shards.
fn llama_folder(dir: &Path, dtype: &str, shards: usize) -> Vec<Tensor> {
    let tensors = llama(SMALL, dtype, 1);
    let cut = match shards {
        1 => vec![tensors.clone()],
        _ => vec![tensors[..6].to_vec(), tensors[6..13].to_vec(), tensors[13..].to_vec()],
    };
    write_folder(&dir.join("model"), &cut, Some(&llama_config(SMALL)), &COMPANIONS);
    tensors
}

/// What a pass writes always verifies.
fn verifies(dir: &Path, name: &str) {
    let found = run_in(dir, &format!("verify {name}"));
    assert_code(&found, 0, &format!("{name}\n{}", out(&found)));
}

#[test]
fn an_odd_folder_survives_every_verb() {
    let dir = temp_dir();
    let dir = dir.path();
    let given = odd_folder(&dir.join("model"));
    let before = files_below(&dir.join("model"));
    for (i, verb) in [
        "convert",
        "convert --dtype f32",
        "prune --sparsity 0.5",
        "prune --sparsity 0.5 --scope global",
        "prune --pattern 2:4",
        "prune --sparsity 0.5 --store bitmask",
        "quantize",
        "quantize --fallback channel",
        "quantize --scheme w8a8",
        "quantize --scheme fp8_block",
        "quantize --scheme w8a16 --group tensor",
    ]
    .into_iter()
    .enumerate()
    {
        for (target, more) in [(format!("out{i}"), ""), (format!("out{i}.safetensors"), "")] {
            ok_in(dir, &format!("{verb} model -o {target} {more}"));
            verifies(dir, &target);
            ok_in(dir, &format!("convert --decompress {target} -o dense --force"));
            let dense = read(&dir.join("dense"));
            let names: Vec<_> = given.iter().map(|t| t.name.as_str()).collect();
            for name in &names {
                assert!(dense.tensors.contains_key(*name), "{verb} loses {name}");
            }
            assert_eq!(dense.names.len(), names.len(), "{verb}");
            for tensor in &given {
                let after = dense.get(&tensor.name);
                assert_eq!(tensor.shape, after.shape, "{verb}: {}", tensor.name);
                let is_weight = tensor.shape.len() >= 2 && tensor.name.ends_with("weight");
                if !is_weight && !verb.contains("--dtype") {
                    assert_eq!(tensor, after, "{verb} touches what is no weight");
                }
            }
        }
    }
    assert!(files_below(&dir.join("model")) == before, "the input is never modified");
}

#[test]
fn quantized_values_lie_within_half_a_step_whatever_the_name() {
    let dir = temp_dir();
    let dir = dir.path();
    let given = odd_folder(&dir.join("model"));
    ok_in(dir, "quantize model --scheme w8a16 --group tensor -o q");
    ok_in(dir, "convert --decompress q -o dense");
    let dense = read(&dir.join("dense"));
    let mut checked = 0;
    for tensor in given.iter().filter(|t| t.name.ends_with(".weight") && t.shape.len() == 2 && t.elements() > 1) {
        if tensor.name.contains("embed") || tensor.name.contains("lm_head") {
            assert_eq!(tensor, dense.get(&tensor.name));
            continue;
        }
        let values = tensor.values();
        let largest = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        // Half a step of 2 * largest / 255, and a last place of the stored scale and value.
        let limit = largest / 255.0 * 1.02 + largest / 128.0 * f32::from(u8::from(tensor.dtype == "BF16"));
        for (a, b) in values.iter().zip(dense.get(&tensor.name).values()) {
            assert!((a - b).abs() <= limit, "{}: {a} became {b}", tensor.name);
        }
        checked += 1;
    }
    assert!(checked > 20, "{checked}");
}

#[test]
fn columns_that_no_group_divides_are_skipped_with_the_reason() {
    let dir = temp_dir();
    let dir = dir.path();
    odd_folder(&dir.join("model"));
    let report = json_out(&ok_in(dir, "quantize model -o q --json"));
    let note = |report: &Value, name: &str| {
        let notes = report["passes"][0]["notes"].as_array().unwrap().clone();
        notes.into_iter().find(|n| n["tensor"] == name).unwrap_or_else(|| panic!("no note on {name}"))
    };
    let skipped = note(&report, "odd.0.fc.weight");
    assert_eq!(skipped["action"], "skipped");
    assert!(skipped["reason"].as_str().unwrap().contains("100 columns"), "{skipped}");
    assert!(note(&report, "empty.fc.weight")["reason"].as_str().unwrap().contains("empty"));
    let stored = read(&dir.join("q"));
    assert!(stored.tensors.contains_key("odd.0.fc.weight"));
    let ignore = read_json(&dir.join("q/config.json"))["quantization_config"]["ignore"].clone();
    for module in ["odd.0.fc", "odd.1.fc", "lm_head"] {
        assert!(ignore.as_array().unwrap().contains(&json!(module)), "{module} in {ignore}");
    }

    let report = json_out(&ok_in(dir, "quantize model -o all --fallback channel --json"));
    assert!(note(&report, "odd.0.fc.weight")["reason"].as_str().unwrap().contains("does not divide"));
    let stored = read(&dir.join("all"));
    for i in 0..5 {
        assert_eq!(stored.get(&format!("odd.{i}.fc.weight_scale")).shape, [5, 1]);
    }
    verifies(dir, "all");

    // What is named must be done, or it is an error that says what would do.
    let refused = run_in(dir, "quantize model -o named --rule odd.0.fc.weight=w4a16");
    assert_code(&refused, 1, "a rule names it");
    assert!(err(&refused).contains("odd.0.fc.weight") && err(&refused).contains("--group"), "{}", err(&refused));
}

#[test]
fn a_group_that_fits_nothing_is_an_error_that_names_those_that_do() {
    let dir = temp_dir();
    let dir = dir.path();
    let tensors =
        [Tensor::random("a.fc.weight", "F32", &[8, 96], 1), Tensor::random("b.fc.weight", "F32", &[8, 160], 1)];
    write_file(&dir.join("a.safetensors"), &tensors, &[]);
    let refused = run_in(dir, "quantize a.safetensors -o b.safetensors");
    assert_code(&refused, 1, "128 divides neither");
    assert!(err(&refused).contains("32"), "{}", err(&refused));
    assert_eq!(names_in(dir), ["a.safetensors"]);
    ok_in(dir, "quantize a.safetensors -o b.safetensors --group 32");
}

#[test]
fn less_than_half_is_a_warning_and_code_3() {
    let dir = temp_dir();
    let dir = dir.path();
    let tensors =
        [Tensor::random("a.fc.weight", "F32", &[8, 128], 1), Tensor::random("b.fc.weight", "F32", &[80, 100], 1)];
    write_folder(&dir.join("model"), &[tensors.to_vec()], Some(&llama_config(SMALL)), &[]);
    let done = run_in(dir, "quantize model -o out");
    assert_code(&done, 3, "an eighth");
    assert!(err(&done).contains("warning") && err(&done).contains("11 %"), "{}", err(&done));
    verifies(dir, "out");
    assert_code(&run_in(dir, "quantize model -o plan --dry-run"), 3, "the plan says so too");
    assert_code(&run_in(dir, "quantize model -o all --fallback channel"), 0, "all of it");
    assert_code(&run_in(dir, "quantize model -o less --exclude b.*"), 0, "what was not asked for does not count");
}

#[test]
fn tied_tensors_are_touched_only_when_asked() {
    let dir = temp_dir();
    let dir = dir.path();
    let given = odd_folder(&dir.join("model"));
    let (embedding, head) = ("model.embed_tokens.weight", "lm_head.weight");
    let given = |name: &str| given.iter().find(|t| t.name == name).unwrap();
    for verb in ["prune --sparsity 0.5", "quantize"] {
        let report = json_out(&ok_in(dir, &format!("{verb} model --include *.weight -o skip --force --json")));
        let stored = read(&dir.join("skip"));
        for name in [embedding, head] {
            assert_eq!(stored.get(name), given(name), "{verb}");
            let notes = report["passes"][0]["notes"].as_array().unwrap();
            let note = notes.iter().find(|n| n["tensor"] == name).unwrap();
            assert!(note["reason"].as_str().unwrap().contains("tied"), "{note}");
        }
        ok_in(dir, &format!("{verb} model --include *.weight --tied both -o both --force"));
        verifies(dir, "both");
        ok_in(dir, "convert --decompress both -o dense --force");
        let dense = read(&dir.join("dense"));
        assert_eq!(dense.get(embedding).bytes, dense.get(head).bytes, "{verb}: both names hold the same");
        assert_ne!(dense.get(head).bytes, given(head).bytes, "{verb}");
    }
    let refused = run_in(dir, "quantize model --rule lm_head.weight=w8a16 -o named");
    assert_code(&refused, 1, "a rule names a tied tensor");
    assert!(err(&refused).contains("--tied both"), "{}", err(&refused));
}

#[test]
fn ten_thousand_tiny_tensors_take_no_time() {
    let dir = temp_dir();
    let dir = dir.path();
    let tensors: Vec<_> = (0..10_000)
        .map(|i| match i % 4 {
            0 => Tensor::random(&format!("layers.{i}.fc.weight"), "BF16", &[2, 8], 1),
            1 => Tensor::random(&format!("layers.{i}.norm.weight"), "F32", &[3], 1),
            2 => Tensor::random(&format!("layers.{i}.fc.bias"), "F16", &[1], 1),
            _ => Tensor::random(&format!("layers.{i}.steps"), "I64", &[], 1),
        })
        .collect();
    write_file(&dir.join("many.safetensors"), &tensors, &[("format", "pt")]);
    for (i, verb) in [
        "convert",
        "convert --dtype f32",
        "prune --sparsity 0.5",
        "prune --sparsity 0.5 --scope global",
        "prune --sparsity 0.5 --store bitmask",
        "quantize --group 8",
        "quantize --scheme w8a8",
    ]
    .into_iter()
    .enumerate()
    {
        let begin = Instant::now();
        ok_in(dir, &format!("{verb} many.safetensors -o out{i}.safetensors"));
        ok_in(dir, &format!("{verb} many.safetensors -o out{i}/ --max-shard-size 20KB"));
        // Far above what it takes, far below what work in the square of the tensors would.
        assert!(begin.elapsed() < Duration::from_secs(15), "{verb} took {:?}", begin.elapsed());
        assert_same_tensors(&read(&dir.join(format!("out{i}"))), &read(&dir.join(format!("out{i}.safetensors"))));
    }
    let begin = Instant::now();
    ok_in(dir, "inspect many.safetensors --stats");
    ok_in(dir, "verify out5");
    ok_in(dir, "diff many.safetensors out5");
    assert!(begin.elapsed() < Duration::from_secs(15), "reading took {:?}", begin.elapsed());
}

#[test]
fn small_files_travel_through_pipes() {
    let dir = temp_dir();
    let dir = dir.path();
    llama_folder(dir, "BF16", 3);
    let config = fs::read(dir.join("model/config.json")).unwrap();
    pipe_in(dir, None, &["prune model --sparsity 0.5", "convert --dtype f16", "quantize -o small/"]).ok();
    for (name, bytes) in COMPANIONS {
        assert_eq!(fs::read(dir.join("small").join(name)).unwrap(), bytes, "{name}");
    }
    pipe_in(dir, None, &["convert model", "convert -o same/"]).ok();
    assert_eq!(fs::read(dir.join("same/config.json")).unwrap(), config, "the config's bytes stay");
    ok_in(dir, "convert model -o one.safetensors");
    ok_in(dir, "convert one.safetensors -o from-file/");
    assert_same_folders(&dir.join("same"), &dir.join("from-file"));
    let expected: Vec<_> = COMPANIONS.iter().map(|(n, _)| *n).chain(["config.json", "model.safetensors"]).collect();
    let mut expected: Vec<_> = expected.into_iter().map(str::to_owned).collect();
    expected.sort();
    assert_eq!(files_below(&dir.join("same")).keys().cloned().collect::<Vec<_>>(), expected, "and nothing else");
    // What a folder says in files it does not say again in the header of its weights.
    let header = read_file(&dir.join("same/model.safetensors"));
    assert_eq!((header.metadata("dlopt.files"), header.metadata("config")), (None, None));
}

#[test]
fn small_files_come_from_elsewhere_or_not_at_all() {
    let dir = temp_dir();
    let dir = dir.path();
    llama_folder(dir, "BF16", 1);
    fs::create_dir_all(dir.join("tokenizer/deep")).unwrap();
    fs::write(dir.join("tokenizer/vocab.txt"), "x").unwrap();
    fs::write(dir.join("tokenizer/deep/merges.txt"), "y").unwrap();
    ok_in(dir, "quantize model -o bare --no-files");
    assert_eq!(names_in(&dir.join("bare")), ["config.json", "model.safetensors"]);
    ok_in(dir, "quantize model -o theirs --files-from tokenizer");
    assert_eq!(
        files_below(&dir.join("theirs")).into_keys().collect::<Vec<_>>(),
        ["config.json", "deep/merges.txt", "model.safetensors", "vocab.txt"]
    );
    assert_code(&run_in(dir, "quantize model -o nowhere --files-from missing"), 1, "no such folder");
    assert!(!dir.join("nowhere").exists());
}

#[test]
fn the_index_is_as_runtimes_read_it() {
    let dir = temp_dir();
    let dir = dir.path();
    odd_folder(&dir.join("model"));
    for (verb, folder) in [("convert", "same"), ("quantize", "small"), ("convert --max-shard-size 50KB", "cut")] {
        ok_in(dir, &format!("{verb} model -o {folder}"));
        let text = fs::read_to_string(dir.join(folder).join("model.safetensors.index.json")).unwrap();
        let index: Value = serde_json::from_str(&text).unwrap();
        let keys: Vec<_> = index.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["metadata", "weight_map"]);
        let map = index["weight_map"].as_object().unwrap();
        assert!(map.keys().is_sorted(), "{folder}");
        let stored = read(&dir.join(folder));
        let total: usize = stored.tensors.values().map(|t| t.bytes.len()).sum();
        assert_eq!(index["metadata"]["total_size"], total, "{folder}");
        let mut files: Vec<_> = map.values().map(|v| v.as_str().unwrap().to_owned()).collect();
        files.sort();
        files.dedup();
        let shards = names_in(&dir.join(folder)).into_iter().filter(|n| n.ends_with(".safetensors"));
        assert_eq!(files, shards.collect::<Vec<_>>(), "{folder}: every shard holds something");
        for (i, file) in files.iter().enumerate() {
            assert_eq!(*file, format!("model-{:05}-of-{:05}.safetensors", i + 1, files.len()));
            let header = read_file(&dir.join(folder).join(file));
            assert_eq!(header.metadata("format"), Some("pt"), "transformers asks for it");
        }
    }
}

#[test]
fn shards_are_cut_between_layers_at_most_so_large() {
    let dir = temp_dir();
    let dir = dir.path();
    let tensors = llama_folder(dir, "BF16", 1);
    let largest = tensors.iter().map(|t| t.bytes.len()).max().unwrap();
    for limit in [1, 40_000, 100_000, 250_000, 10_000_000] {
        ok_in(dir, &format!("convert model -o out --max-shard-size {limit}B --force"));
        let files = files_below(&dir.join("out"));
        let shards: Vec<_> = files.iter().filter(|(n, _)| n.ends_with(".safetensors")).map(|(_, b)| parse(b)).collect();
        let bytes = |s: &Stored| s.tensors.values().map(|t| t.bytes.len()).sum::<usize>();
        for shard in &shards {
            assert!(bytes(shard) <= limit.max(largest) && (bytes(shard) <= limit || shard.names.len() == 1), "{limit}");
        }
        // No shard could have held the first tensor of the next as well.
        for pair in shards.windows(2) {
            let next = pair[1].get(&pair[1].names[0]).bytes.len();
            assert!(bytes(&pair[0]) + next > limit, "{limit}");
        }
    }
    // Codes and scales of a layer stay together.
    ok_in(dir, "quantize model -o small --max-shard-size 10KB");
    let map = read_json(&dir.join("small/model.safetensors.index.json"))["weight_map"].clone();
    for (name, file) in map.as_object().unwrap() {
        if let Some(module) = name.strip_suffix("_packed") {
            assert_eq!(map[format!("{module}_scale")], *file, "{name}");
            assert_eq!(map[format!("{module}_shape")], *file, "{name}");
        }
    }
}

#[test]
fn a_llama_gets_the_config_that_runtimes_load() {
    let dir = temp_dir();
    let dir = dir.path();
    llama_folder(dir, "BF16", 3);
    let quantization = |verb: &str| {
        ok_in(dir, &format!("quantize model -o small --force {verb}"));
        verifies(dir, "small");
        let config = read_json(&dir.join("small/config.json"));
        assert_eq!(config["model_type"], "llama", "the rest of the config stays");
        assert_eq!(config["hidden_size"], 128);
        config["quantization_config"].clone()
    };
    let q = quantization("");
    assert_eq!(q["quant_method"], "compressed-tensors");
    assert_eq!(q["quantization_status"], "compressed");
    assert_eq!(q["format"], "pack-quantized");
    assert_eq!(q["ignore"], json!(["lm_head"]));
    let group = &q["config_groups"]["group_0"];
    assert_eq!(group["targets"], json!(["Linear"]));
    assert_eq!(group["input_activations"], Value::Null);
    for (key, value) in [
        ("num_bits", json!(4)),
        ("type", json!("int")),
        ("symmetric", json!(true)),
        ("strategy", json!("group")),
        ("group_size", json!(128)),
    ] {
        assert_eq!(group["weights"][key], value, "{key}");
    }
    assert_eq!(q["config_groups"].as_object().unwrap().len(), 1);

    let q = quantization("--scheme w8a8");
    assert_eq!(q["format"], "int-quantized");
    let group = &q["config_groups"]["group_0"];
    assert_eq!(group["weights"]["strategy"], "channel");
    assert_eq!(group["input_activations"]["dynamic"], true);
    assert_eq!(group["input_activations"]["strategy"], "token");

    let q = quantization("--scheme fp8_block");
    assert_eq!(q["format"], "float-quantized");
    assert_eq!(q["config_groups"]["group_0"]["weights"]["block_structure"], json!([128, 128]));

    // The head when it is asked for is no longer ignored.
    let q = quantization("--rule lm_head.weight=w4a16");
    assert_eq!(q["ignore"], json!([]));

    // Two formats: the larger group is of all linear layers, the other lists its modules.
    let q = quantization("--rule *.down_proj.weight=fp8 --exclude *.1.self_attn.o_proj.weight");
    assert_eq!(q["format"], "mixed-precision");
    let groups = q["config_groups"].as_object().unwrap();
    assert_eq!(groups.len(), 2);
    assert_eq!(groups["group_0"]["targets"], json!(["Linear"]));
    assert_eq!(groups["group_0"]["format"], "pack-quantized");
    assert_eq!(groups["group_1"]["format"], "float-quantized");
    let modules = json!(["model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"]);
    assert_eq!(groups["group_1"]["targets"], modules);
    let mut ignore: Vec<_> = q["ignore"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    ignore.sort_unstable();
    assert_eq!(ignore, ["lm_head", "model.layers.1.self_attn.o_proj"]);

    // Dense again there is nothing of it left, and the config is the one that came.
    ok_in(dir, "convert --decompress small -o dense");
    assert_eq!(read_json(&dir.join("dense/config.json")), read_json(&dir.join("model/config.json")));
}

#[test]
fn parts_that_runtimes_merge_get_one_scheme() {
    let dir = temp_dir();
    let dir = dir.path();
    llama_folder(dir, "BF16", 1);
    for rule in [
        "--rule *.q_proj.weight=w8a16",
        "--rule *.0.self_attn.v_proj.weight=skip",
        "--rule *.gate_proj.weight=w4a16:64",
        "--exclude *.up_proj.weight",
        "--include *.k_proj.weight",
    ] {
        let refused = run_in(dir, &format!("quantize model -o out {rule}"));
        assert_code(&refused, 1, rule);
        assert!(err(&refused).contains("merge"), "{rule}: {}", err(&refused));
        assert_eq!(names_in(dir), ["model"], "{rule}");
    }
    ok_in(dir, "quantize model -o out --rule *.self_attn.[qkv]_proj.weight=w8a16");
    verifies(dir, "out");
    // The same for BERT's names.
    write_folder(&dir.join("bert"), &[bert(SMALL, "F32", 1)], Some(&bert_config(SMALL)), &[]);
    assert_code(&run_in(dir, "quantize bert -o bert-out --rule *.query.weight=w8a16"), 1, "query alone");
    ok_in(dir, "quantize bert -o bert-out");
    verifies(dir, "bert-out");
    let q = read_json(&dir.join("bert-out/config.json"))["quantization_config"].clone();
    assert_eq!(q["ignore"], json!(["pooler.dense"]));
}

#[test]
fn what_is_compressed_is_not_compressed_again() {
    let dir = temp_dir();
    let dir = dir.path();
    llama_folder(dir, "BF16", 1);
    write_file(&dir.join("bare.safetensors"), &llama(SMALL, "F32", 1), &[]);
    for (i, (verb, input)) in [
        ("quantize", "model"),
        ("quantize --scheme w8a8", "model"),
        ("quantize --scheme fp8_block", "model"),
        ("quantize", "bare.safetensors"),
        ("prune --sparsity 0.5 --store bitmask", "model"),
    ]
    .into_iter()
    .enumerate()
    {
        for made in [format!("made{i}.safetensors"), format!("made{i}/")] {
            ok_in(dir, &format!("{verb} {input} -o {made}"));
            for again in ["quantize", "prune --sparsity 0.5", "prune --pattern 2:4", "quantize --scheme w8a8"] {
                let refused = run_in(dir, &format!("{again} {made} -o again"));
                assert_code(&refused, 1, &format!("{again} after {verb}"));
                assert!(err(&refused).contains("convert --decompress"), "{again}: {}", err(&refused));
                assert!(!dir.join("again").exists());
            }
            // As a pipe the input is refused before it is read to its end.
            let piped = pipe_in(dir, Some(&fs::read(dir.join(format!("made{i}.safetensors"))).unwrap()), &["quantize"]);
            assert_eq!((piped.codes[0], piped.stdout.len()), (Some(1), 0));
            let dense = pipe_in(dir, None, &[&format!("convert --decompress {made}"), "quantize --scheme w8a16"]).ok();
            parse(&dense);
        }
    }
    // Floats of 16 bits are dense: they may be pruned and quantized.
    pipe_in(dir, None, &["quantize --scheme f16 model", "prune --sparsity 0.5", "quantize"]).ok();
}

#[test]
fn outputs_replace_nothing_unasked_and_inputs_never() {
    let dir = temp_dir();
    let dir = dir.path();
    llama_folder(dir, "BF16", 3);
    ok_in(dir, "convert model -o model.safetensors");
    let before = files_below(dir);
    for line in [
        "convert model -o model",
        "convert model -o model --force",
        "convert model -o model/model-00001-of-00003.safetensors --force",
        "convert model.safetensors -o model.safetensors --force",
        "prune --sparsity 0.5 model.safetensors -o ./model.safetensors --force",
        "convert model -o model.safetensors",
        "convert model.safetensors -o model",
    ] {
        let refused = run_in(dir, line);
        assert!([Some(1), Some(2)].contains(&refused.status.code()), "{line}: {:?}", refused.status);
        assert!(files_below(dir) == before, "{line}");
    }
    ok_in(dir, "convert model.safetensors -o model --force");
    assert_eq!(read(&dir.join("model")).names.len(), llama(SMALL, "BF16", 1).len());
}

#[test]
fn zeros_stay_zeros_in_every_scheme_that_holds_zero() {
    let dir = temp_dir();
    let dir = dir.path();
    let schemes = json_out(&ok_in(dir, "list --json"))["quantize --scheme"].clone();
    let mut lines: Vec<String> = Vec::new();
    for scheme in schemes.as_array().unwrap() {
        assert_eq!(scheme["holds_zero"], true, "{scheme}: every grid of today holds zero");
        let name = scheme["name"].as_str().unwrap().to_lowercase();
        lines.push(format!("--scheme {name}"));
        for alias in scheme["aliases"].as_array().unwrap() {
            lines.push(format!("--scheme {}", alias.as_str().unwrap()));
        }
        if scheme["granularity"].is_string() && name != "fp8_block" {
            if scheme["symmetric"] == true {
                lines.push(format!("--scheme {name} --group tensor"));
            }
            lines.push(format!("--scheme {name} --group channel --method mse"));
            if scheme["format"] == "pack-quantized" {
                lines.push(format!("--scheme {name} --group 32 --method mse"));
            }
        }
        if name.ends_with("a16") && name.starts_with('w') {
            lines.push(format!("--scheme {name} --asymmetric --group 32"));
            lines.push(format!("--scheme {name} --asymmetric --method mse"));
            lines.push(format!("--scheme {name} --asymmetric --group channel"));
        }
    }
    for dtype in ["F32", "BF16", "F16"] {
        let mut tensors = llama(Sizes { layers: 1, vocabulary: 10, ..SMALL }, dtype, 1);
        // Weights all above zero: the grid must be stretched to hold it.
        let mut random = Random::new(9);
        let above: Vec<f32> = (0..40 * 128).map(|_| 1.0 + 0.05 * random.normal()).collect();
        tensors.push(Tensor::of("shifted.fc.weight", dtype, &[40, 128], &above));
        tensors.push(Tensor::random("conv.weight", dtype, &[6, 32, 4], 1));
        tensors.push(Tensor::random("rnn.weight_hh_l0", dtype, &[24, 128], 1));
        write_folder(&dir.join("model"), &[tensors], Some(&llama_config(SMALL)), &[]);
        for prune in ["prune model --pattern 2:4", "prune model --sparsity 0.6 --scope global"] {
            let pruned = parse(&pipe_in(dir, None, &[prune]).ok());
            for line in &lines {
                let quantize = format!("quantize {line}");
                let piped = pipe_in(dir, None, &[prune, &quantize, "convert --decompress"]);
                // Groups of 128 leave the convolution's 128 columns; a tensor is never too small here.
                let dense = parse(&piped.ok());
                for (name, tensor) in &pruned.tensors {
                    let after = dense.get(name).values();
                    let kept =
                        tensor.values().iter().zip(&after).all(|(before, after)| *before != 0.0 || *after == 0.0);
                    assert!(kept, "{dtype} {prune} | {quantize}: a zero of {name} is lost");
                    assert!(after.iter().all(|v| v.is_finite()), "{name}");
                }
            }
        }
    }
}

#[test]
fn the_report_of_a_pipe_says_that_the_zeros_stayed() {
    let dir = temp_dir();
    let dir = dir.path();
    llama_folder(dir, "BF16", 1);
    pipe_in(dir, None, &["prune model --pattern 2:4", "quantize -o small/ --report report.json --quiet"]).ok();
    let total = read_json(&dir.join("report.json"))["passes"][0]["total"].clone();
    assert_eq!(total["sparsity_before"], 0.5);
    assert!(total["sparsity_after"].as_f64().unwrap() >= 0.5);
    verifies(dir, "small");
    let history = json_out(&ok_in(dir, "inspect small --json"))["history"].clone();
    let verbs: Vec<_> = history.as_array().unwrap().iter().map(|h| h["verb"].as_str().unwrap()).collect();
    assert_eq!(verbs, ["prune", "quantize"]);
}

#[test]
fn counts_of_zeros_are_exact() {
    let dir = temp_dir();
    let dir = dir.path();
    let shapes = [[1, 1], [1, 3], [3, 5], [5, 5], [7, 9], [13, 11], [64, 33], [300, 257]];
    for dtype in ["F32", "BF16", "F16", "F64"] {
        let tensors: Vec<_> =
            (0..shapes.len()).map(|i| Tensor::random(&format!("n{i}.fc.weight"), dtype, &shapes[i], 1)).collect();
        write_file(&dir.join("m.safetensors"), &tensors, &[]);
        let all: usize = tensors.iter().map(Tensor::elements).sum();
        // Shares of two's powers, so that the product is exact in the test as well.
        for share in [0.0, 0.125, 0.25, 0.5, 0.75, 0.8125, 1.0] {
            let wanted = |n: usize| (share * n as f64).round_ties_even() as usize;
            for criterion in ["magnitude", "random"] {
                for store in ["dense", "bitmask"] {
                    let line =
                        format!("prune m.safetensors --sparsity {share} --criterion {criterion} --store {store}");
                    let stored = parse(&pipe_in(dir, None, &[&line, "convert --decompress"]).ok());
                    for tensor in &tensors {
                        let before = tensor.zeros();
                        let zeros = stored.get(&tensor.name).zeros();
                        assert_eq!(zeros, wanted(tensor.elements()).max(before), "{dtype} {line}: {}", tensor.name);
                    }
                    let line = format!("{line} --scope global");
                    let stored = parse(&pipe_in(dir, None, &[&line, "convert --decompress"]).ok());
                    let zeros: usize = stored.tensors.values().map(Tensor::zeros).sum();
                    let before: usize = tensors.iter().map(Tensor::zeros).sum();
                    assert_eq!(zeros, wanted(all).max(before), "{dtype} {line}");
                }
            }
        }
    }
}

#[test]
fn halves_go_to_even_and_zeros_that_are_there_count() {
    let dir = temp_dir();
    let dir = dir.path();
    let ones = |name: &str, n: usize, zeros: usize| {
        let values: Vec<f32> = (0..n).map(|i| if i < n - zeros { 1.0 + i as f32 } else { 0.0 }).collect();
        Tensor::of(name, "F32", &[1, n], &values)
    };
    // 2.5 becomes 2, 3.5 becomes 4; four zeros of five stay although half would be two.
    let tensors = [ones("a.fc.weight", 5, 0), ones("b.fc.weight", 7, 0), ones("c.fc.weight", 5, 4)];
    write_file(&dir.join("m.safetensors"), &tensors, &[]);
    let stored = parse(&ok_in(dir, "prune m.safetensors --sparsity 0.5").stdout);
    assert_eq!(stored.get("a.fc.weight").values(), [0.0, 0.0, 3.0, 4.0, 5.0]);
    assert_eq!(stored.get("b.fc.weight").values(), [0.0, 0.0, 0.0, 0.0, 5.0, 6.0, 7.0]);
    assert_eq!(stored.get("c.fc.weight").values(), [1.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn ties_go_by_tensor_then_index() {
    let dir = temp_dir();
    let dir = dir.path();
    let same = |name: &str, dtype: &str| Tensor::of(name, dtype, &[2, 5], &[0.5; 10]);
    let tensors = [same("b.fc.weight", "F32"), same("a.fc.weight", "BF16"), same("c.fc.weight", "F64")];
    write_file(&dir.join("m.safetensors"), &tensors, &[]);
    let stored = parse(&ok_in(dir, "prune m.safetensors --sparsity 0.3").stdout);
    for tensor in stored.tensors.values() {
        let zero: Vec<bool> = tensor.values().iter().map(|v| *v == 0.0).collect();
        assert_eq!(zero, (0..10).map(|i| i < 3).collect::<Vec<_>>(), "{}", tensor.name);
    }
    // Over all of them, of mixed dtypes, in the order of the file: 15 of 30.
    let stored = parse(&ok_in(dir, "prune m.safetensors --sparsity 0.5 --scope global").stdout);
    let zeros = |name: &str| stored.get(name).zeros();
    assert_eq!((zeros("b.fc.weight"), zeros("a.fc.weight"), zeros("c.fc.weight")), (10, 5, 0));
    assert_eq!(stored.get("a.fc.weight").values()[5..], [0.5; 5]);
}

#[test]
fn a_tail_of_a_pattern_keeps_its_share_rounded_up() {
    let dir = temp_dir();
    let dir = dir.path();
    let values: Vec<f32> = (0..3 * 7).map(|i| 1.0 + (i % 7) as f32).collect();
    write_file(&dir.join("m.safetensors"), &[Tensor::of("a.fc.weight", "F32", &[3, 7], &values)], &[]);
    // A tail of three keeps two of 2:4 (1.5 up) and one of 1:4 (0.75 up).
    for (pattern, row) in [("2:4", [0.0, 0.0, 3.0, 4.0, 0.0, 6.0, 7.0]), ("1:4", [0.0, 0.0, 0.0, 4.0, 0.0, 0.0, 7.0])] {
        let stored = parse(&ok_in(dir, &format!("prune m.safetensors --pattern {pattern}")).stdout);
        assert_eq!(stored.get("a.fc.weight").values(), [row, row, row].concat(), "{pattern}");
    }
}

#[test]
fn globs_that_match_nothing_are_errors() {
    let dir = temp_dir();
    let dir = dir.path();
    llama_folder(dir, "BF16", 1);
    for line in [
        "prune model --sparsity 0.5 -o out --include nothing*",
        "prune model --sparsity 0.5 -o out --exclude nothing*",
        "quantize model -o out --rule nothing*=w8a16",
        "convert model -o out --dtype f32 --include nothing*",
    ] {
        let refused = run_in(dir, line);
        assert!([Some(1), Some(2)].contains(&refused.status.code()), "{line}");
        assert!(err(&refused).contains("nothing*"), "{line}: {}", err(&refused));
        assert_eq!(names_in(dir), ["model"]);
    }
}
