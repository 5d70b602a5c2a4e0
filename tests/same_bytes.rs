//! Same input and options give the same bytes: at any thread count and memory, from a file, a folder or a pipe, to a
//! file, a folder or a pipe, as a recipe or verb by verb.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use serde_json::json;
use support::*;

/// Layers of all kinds in four dtypes, of sizes that nothing divides, and several blocks long at 4 MiB.
fn mixed() -> Vec<Tensor> {
    let random = |name: &str, dtype: &str, shape: &[usize]| Tensor::random(name, dtype, shape, 1);
    let mut tensors = vec![
        random("model.embed_tokens.weight", "BF16", &[301, 512]),
        random("model.layers.0.self_attn.q_proj.weight", "BF16", &[512, 512]),
        random("model.layers.0.self_attn.k_proj.weight", "BF16", &[256, 512]),
        random("model.layers.0.self_attn.v_proj.weight", "BF16", &[256, 512]),
        random("model.layers.0.self_attn.o_proj.weight", "BF16", &[512, 512]),
        random("model.layers.0.mlp.gate_proj.weight", "F32", &[1101, 512]),
        random("model.layers.0.mlp.up_proj.weight", "F32", &[1101, 512]),
        random("model.layers.0.mlp.down_proj.weight", "F32", &[512, 1152]),
        random("model.layers.0.input_layernorm.weight", "F32", &[512]),
        random("conv.weight", "F16", &[130, 64, 4]),
        random("lstm.weight_ih_l0", "F64", &[129, 128]),
        random("lstm.bias_ih_l0", "F64", &[129]),
        random("nothing.weight", "F32", &[0, 5]),
        random("steps", "I64", &[7]),
        random("temperature", "F32", &[]),
    ];
    // Ties at every threshold: a tensor of few magnitudes.
    let mut bits = Random::new(5);
    let few: Vec<f32> = (0..512 * 1024).map(|_| ((bits.bits() % 9) as f32 - 4.0) * 0.015_625).collect();
    tensors.push(Tensor::of("model.layers.1.mlp.down_proj.weight", "BF16", &[512, 1024], &few));
    tensors
}

fn config() -> serde_json::Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 512, "num_hidden_layers": 2,
        "torch_dtype": "bfloat16", "tie_word_embeddings": false,
    })
}

/// A folder `model/` of three shards and the same as one file `model.safetensors`.
fn make_models(dir: &Path) {
    let tensors = mixed();
    let shards = [tensors[..5].to_vec(), tensors[5..9].to_vec(), tensors[9..].to_vec()];
    write_folder(&dir.join("model"), &shards, Some(&config()), &COMPANIONS);
    ok_in(dir, "convert model -o model.safetensors");
}

/// The same with tensors that lie across the boundaries of their elements, which no output may have: the order must
/// change, and the same way everywhere. No config and no small files, so that the file can be made here.
fn make_unaligned_models(dir: &Path) {
    let mut tensors = mixed();
    for at in [0, 6, 10] {
        tensors.insert(at, Tensor::random(&format!("odd{at}"), "U8", &[3, 1], 1));
    }
    let shards = [tensors[..5].to_vec(), tensors[5..9].to_vec(), tensors[9..].to_vec()];
    write_folder(&dir.join("model"), &shards, None, &[]);
    write_file(&dir.join("model.safetensors"), &tensors, &[("format", "pt")]);
}

/// Runs a verb in every way there is and compares with the first.
fn assert_same_every_way(dir: &Path, verb: &str, file: &str, folder: &str) {
    let least = json_out(&ok_in(dir, &format!("{verb} {file} --dry-run --json")))["least_memory_bytes"].clone();
    let least = format!("{}B", least.as_u64().unwrap());
    ok_in(dir, &format!("{verb} {file} -o out.safetensors --force"));
    let expected = fs::read(dir.join("out.safetensors")).unwrap();
    let expected_tensors = parse(&expected);
    let check = |got: Vec<u8>, how: &str| assert!(got == expected, "`{verb}` gives other bytes: {how}");
    for more in [
        "--threads 1",
        "--threads 2",
        "--threads 64",
        "--memory 16MiB --threads 2",
        &format!("--memory {least} --threads 1"),
        &format!("--memory {least} --threads 64"),
    ] {
        ok_in(dir, &format!("{verb} {file} {more} -o other.safetensors --force"));
        check(fs::read(dir.join("other.safetensors")).unwrap(), &format!("file to file {more}"));
    }
    check(ok_in(dir, &format!("{verb} {file}")).stdout, "file to pipe");
    check(ok_in(dir, &format!("{verb} {folder} --memory {least}")).stdout, "folder to pipe with little memory");
    ok_in(dir, &format!("{verb} {folder} -o other.safetensors --force"));
    check(fs::read(dir.join("other.safetensors")).unwrap(), "folder to file");
    let input = fs::read(dir.join(file)).unwrap();
    check(pipe_in(dir, Some(&input), &[verb]).ok(), "pipe to pipe");
    check(pipe_in(dir, Some(&input), &[&format!("{verb} --memory {least} --threads 64")]).ok(), "pipe to pipe, tight");
    pipe_in(dir, Some(&input), &[&format!("{verb} - -o other.safetensors --force")]).ok();
    check(fs::read(dir.join("other.safetensors")).unwrap(), "pipe to file");
    // A file may also be standard input.
    let from_file = std::process::Command::new(DLOPT)
        .args(verb.split_whitespace())
        .current_dir(dir)
        .stdin(fs::File::open(dir.join(file)).unwrap())
        .output()
        .unwrap();
    assert_code(&from_file, 0, verb);
    check(from_file.stdout, "redirected file to pipe");
    // Folders are cut otherwise, but hold the same tensors.
    ok_in(dir, &format!("{verb} {folder} -o out --force"));
    assert_same_tensors(&read(&dir.join("out")), &expected_tensors);
    ok_in(dir, &format!("{verb} {file} -o cut/ --max-shard-size 1MB --force --threads 1"));
    assert_same_tensors(&read(&dir.join("cut")), &expected_tensors);
    ok_in(dir, &format!("{verb} {folder} -o again/ --max-shard-size 1MB --memory {least} --force --threads 64"));
    assert_same_folders(&dir.join("cut"), &dir.join("again"));
    pipe_in(dir, Some(&input), &[&format!("{verb} -o again/ --max-shard-size 1MB --force")]).ok();
    assert_same_folders(&dir.join("cut"), &dir.join("again"));
}

fn each(verbs: &[&str]) {
    let dir = temp_dir();
    make_models(dir.path());
    for verb in verbs {
        assert_same_every_way(dir.path(), verb, "model.safetensors", "model");
    }
}

#[test]
fn prune_gives_the_same_bytes_in_every_way() {
    each(&[
        "prune --sparsity 0.5",
        "prune --pattern 2:4",
        "prune --pattern 3:7",
        "prune --sparsity 0.4 --criterion random --seed 7",
        "prune --sparsity 0.4 --criterion random --seed 7 --scope global",
    ]);
}

#[test]
fn global_prune_gives_the_same_bytes_in_every_way() {
    each(&["prune --sparsity 0.3 --scope global", "prune --sparsity 0.777 --scope global --store bitmask"]);
}

#[test]
fn bitmask_gives_the_same_bytes_in_every_way() {
    each(&["prune --sparsity 0.6 --store bitmask", "prune --pattern 1:4 --store bitmask"]);
}

#[test]
fn integers_give_the_same_bytes_in_every_way() {
    each(&[
        "quantize --scheme w4a16",
        "quantize --scheme w4a16_asym --fallback channel",
        "quantize --scheme w8a8",
        "quantize --scheme w8a16 --group tensor",
        "quantize --scheme w2a16 --group 32 --asymmetric",
        "quantize --scheme w3a16_asym --group 32 --fallback channel",
        "quantize --bits 6 --group channel",
    ]);
}

#[test]
fn the_search_for_a_clip_gives_the_same_bytes_in_every_way() {
    each(&["quantize --scheme w4a16 --method mse", "quantize --scheme w8a16 --group tensor --method mse"]);
}

#[test]
fn floats_give_the_same_bytes_in_every_way() {
    each(&[
        "quantize --scheme fp8",
        "quantize --scheme fp8_block",
        "quantize --scheme fp8a16 --group tensor",
        "quantize --scheme bf16",
        "quantize --scheme w4a16 --rule *.down_proj.*=fp8 --rule lstm*=f16 --rule conv.*=skip",
    ]);
}

#[test]
fn convert_gives_the_same_bytes_in_every_way() {
    each(&["convert", "convert --dtype f16", "convert --dtype bf16", "convert --dtype f32 --exclude *embed*"]);
}

#[test]
fn unaligned_inputs_give_the_same_bytes_in_every_way() {
    let dir = temp_dir();
    make_unaligned_models(dir.path());
    for verb in ["prune --pattern 2:4", "quantize --scheme w8a8", "convert", "convert --dtype bf16"] {
        assert_same_every_way(dir.path(), verb, "model.safetensors", "model");
    }
}

#[test]
fn decompression_gives_the_same_bytes_in_every_way() {
    let dir = temp_dir();
    let dir = dir.path();
    make_models(dir);
    for verb in [
        "quantize --scheme w4a16_asym --fallback channel",
        "quantize --scheme fp8_block",
        "quantize --scheme w8a16 --group tensor",
        "prune --sparsity 0.6 --store bitmask",
    ] {
        ok_in(dir, &format!("{verb} model -o compressed.safetensors --force"));
        // Cut from the file, so that the order is the file's.
        ok_in(dir, "convert compressed.safetensors -o compressed/ --max-shard-size 1MB --force");
        assert_same_every_way(dir, "convert --decompress", "compressed.safetensors", "compressed");
    }
}

#[test]
fn recipe_pipe_and_files_give_the_same_bytes() {
    let chains: [&[&str]; 7] = [
        &["prune --pattern 2:4", "quantize --scheme w4a16"],
        &["prune --sparsity 0.5 --scope global", "quantize --scheme w8a8"],
        &["prune --sparsity 0.4 --criterion random --seed 3", "convert --dtype bf16", "quantize --scheme fp8_block"],
        &["convert --dtype f32", "prune --sparsity 0.25 --scope global --store bitmask"],
        &["quantize --scheme w4a16_asym --group 32", "convert --decompress", "prune --sparsity 0.5 --scope global"],
        &["prune --sparsity 0.2", "prune --sparsity 0.6", "quantize --scheme w8a16 --group tensor --method mse"],
        &["convert --dtype f16 --include *mlp*", "prune --pattern 4:8", "quantize --rule *.down_proj.*=w8a16"],
    ];
    let dir = temp_dir();
    let dir = dir.path();
    make_models(dir);
    for chain in chains {
        eprintln!("{chain:?}");
        fs::write(dir.join("recipe.toml"), recipe(chain)).unwrap();
        let expected = ok_in(dir, "run recipe.toml model").stdout;
        let check = |got: Vec<u8>, how: &str| assert!(got == expected, "{chain:?}: {how} gives other bytes");

        ok_in(dir, "run recipe.toml model -o recipe.safetensors --force --threads 1 --memory 16MiB");
        check(fs::read(dir.join("recipe.safetensors")).unwrap(), "the recipe to a file");
        let input = fs::read(dir.join("model.safetensors")).unwrap();
        check(pipe_in(dir, Some(&input), &["run recipe.toml --threads 64"]).ok(), "the recipe from a pipe");

        let mut verbs: Vec<String> = chain.iter().map(|v| (*v).to_owned()).collect();
        verbs[0].push_str(" model");
        let verbs: Vec<&str> = verbs.iter().map(String::as_str).collect();
        check(pipe_in(dir, None, &verbs).ok(), "the shell pipe");

        ok_in(dir, "run recipe.toml model -o cut/ --max-shard-size 1MB --force");
        let last = format!("{} -o piped/ --max-shard-size 1MB --force", verbs[verbs.len() - 1]);
        let into_folder: Vec<&str> = verbs[..verbs.len() - 1].iter().copied().chain([last.as_str()]).collect();
        pipe_in(dir, None, &into_folder).ok();
        assert_same_folders(&dir.join("cut"), &dir.join("piped"));

        for (as_folders, ending) in [(false, ".safetensors"), (true, "")] {
            let mut input = if as_folders { "model".to_owned() } else { "model.safetensors".to_owned() };
            for (i, verb) in chain.iter().enumerate() {
                let output = format!("step{i}{ending}");
                ok_in(dir, &format!("{verb} {input} -o {output} --force"));
                input = output;
            }
            if as_folders {
                ok_in(dir, "run recipe.toml model -o recipe --force");
                // Shards on the way are aligned one by one, a stream as a whole: the order may differ, the tensors not.
                assert_same_tensors(&read(&dir.join("recipe")), &parse(&expected));
                assert_same_tensors(&read(&dir.join(&input)), &parse(&expected));
            } else {
                check(fs::read(dir.join(&input)).unwrap(), "file by file");
            }
        }
    }
}

/// A recipe that holds these command lines.
fn recipe(chain: &[&str]) -> String {
    let mut text = String::new();
    for line in chain {
        let mut words = line.split_whitespace().peekable();
        text.push_str(&format!("[[pass]]\nverb = \"{}\"\n", words.next().unwrap()));
        while let Some(flag) = words.next() {
            let key = flag.trim_start_matches("--").replace('-', "_");
            match words.next_if(|w| !w.starts_with("--")) {
                Some(value) => text.push_str(&format!("{key} = \"{value}\"\n")),
                None => text.push_str(&format!("{key} = true\n")),
            }
        }
    }
    text
}

#[test]
fn a_file_into_shards_and_back_is_the_same_file() {
    let dir = temp_dir();
    let dir = dir.path();
    make_models(dir);
    ok_in(dir, "quantize model -o w4.safetensors");
    ok_in(dir, "prune model --sparsity 0.5 --store bitmask -o sparse.safetensors");
    for file in ["model.safetensors", "w4.safetensors", "sparse.safetensors"] {
        let expected = fs::read(dir.join(file)).unwrap();
        let mut shards = Vec::new();
        for size in ["1B", "100KB", "1MiB", "3MB", "1GB"] {
            ok_in(dir, &format!("convert {file} -o shards/ --max-shard-size {size} --force"));
            shards.push(names_in(&dir.join("shards")).iter().filter(|n| n.ends_with(".safetensors")).count());
            ok_in(dir, "convert shards -o back.safetensors --force");
            assert!(fs::read(dir.join("back.safetensors")).unwrap() == expected, "{file} through shards of {size}");
        }
        assert!(shards.is_sorted_by(|a, b| a >= b) && shards[0] > 8 && shards[4] == 1, "{shards:?}");
        ok_in(dir, &format!("convert {file} -o whole/ --force"));
        ok_in(dir, "convert whole -o back.safetensors --force");
        assert!(fs::read(dir.join("back.safetensors")).unwrap() == expected, "{file} through a folder of one file");
    }
}

#[test]
fn a_folder_through_a_folder_is_the_same_folder() {
    let dir = temp_dir();
    let dir = dir.path();
    make_models(dir);
    ok_in(dir, "convert model -o once");
    ok_in(dir, "convert once -o twice");
    assert_same_folders(&dir.join("once"), &dir.join("twice"));
    // The three shards stay the three shards.
    let shards = |folder: &str| -> Vec<Vec<String>> {
        (1..=3)
            .map(|i| {
                let mut names = read_file(&dir.join(format!("{folder}/model-{i:05}-of-00003.safetensors"))).names;
                names.sort();
                names
            })
            .collect()
    };
    assert_eq!(shards("model"), shards("once"));
}

#[test]
fn convert_keeps_every_byte_of_every_tensor() {
    let dir = temp_dir();
    let dir = dir.path();
    make_models(dir);
    let given = read(&dir.join("model"));
    assert_same_tensors(&given, &read(&dir.join("model.safetensors")));
    // What does not change with dtype, nor with compression, stays as it is.
    ok_in(dir, "quantize model -o w4");
    let w4 = read(&dir.join("w4"));
    for name in ["model.embed_tokens.weight", "temperature", "nothing.weight", "steps", "lstm.bias_ih_l0"] {
        assert_eq!(given.get(name), w4.get(name));
    }
}

/// A tensor of any dtype with an odd name and few elements.
fn any_tensor() -> impl Strategy<Value = Tensor> {
    let name = prop_oneof!["\\PC{1,12}", "[a-z.\" '\\\\/]{1,20}", "[a-z]{200}", Just(String::new())];
    let shape = prop::collection::vec(0usize..6, 0..4);
    (name, 0..ALL_DTYPES.len(), shape, any::<u64>()).prop_map(|(name, dtype, mut shape, seed)| {
        let dtype = ALL_DTYPES[dtype];
        if bits_of(dtype) < 8 {
            // Elements below a byte must fill whole bytes.
            shape.push(4);
        }
        Tensor::random(&name, dtype, &shape, seed)
    })
}

fn survives(tensors: Vec<Tensor>, metadata: Vec<(String, String)>) -> Result<(), TestCaseError> {
    let dir = temp_dir();
    let dir = dir.path();
    let mut given: Vec<Tensor> = Vec::new();
    for tensor in tensors {
        if tensor.name != "__metadata__" && given.iter().all(|t| t.name != tensor.name) {
            given.push(tensor);
        }
    }
    let mut pairs: Vec<(&str, &str)> = metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    pairs.sort_unstable();
    pairs.dedup_by_key(|(k, _)| *k);
    write_file(&dir.join("in.safetensors"), &given, &pairs);
    let expected = read_file(&dir.join("in.safetensors"));

    ok_in(dir, "convert in.safetensors -o file.safetensors");
    let bytes = fs::read(dir.join("file.safetensors")).unwrap();
    let stored = parse(&bytes);
    assert_same_tensors(&expected, &stored);
    for (key, value) in &expected.metadata {
        prop_assert_eq!(stored.metadata(key), Some(value.as_str()));
    }
    prop_assert!(stored.metadata.is_sorted(), "metadata keys are sorted");

    let piped = pipe_in(dir, None, &["convert in.safetensors", "convert", "convert --threads 1"]).ok();
    prop_assert!(piped == bytes, "three verbs in a pipe give other bytes");
    for more in ["", "--max-shard-size 40B"] {
        ok_in(dir, &format!("convert in.safetensors -o folder/ --force {more}"));
        assert_same_tensors(&expected, &read(&dir.join("folder")));
        ok_in(dir, &format!("convert file.safetensors -o folder/ --force {more}"));
        ok_in(dir, "convert folder -o back.safetensors --force");
        prop_assert!(fs::read(dir.join("back.safetensors")).unwrap() == bytes, "through a folder {}", more);
    }
    Ok(())
}

#[test]
fn any_checkpoint_survives_files_pipes_and_folders() {
    let config = Config { cases: 16, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let tensors = prop::collection::vec(any_tensor(), 0..9);
    let metadata = prop::collection::vec(("\\PC{0,8}", "\\PC{0,20}"), 0..4);
    runner.run(&(tensors, metadata), |(tensors, metadata)| survives(tensors, metadata)).unwrap();
}
