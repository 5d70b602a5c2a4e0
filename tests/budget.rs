//! Sensitivity and budgets end to end: what tensors can bear, and a scheme for each that keeps a size or a quality. Every
//! flag of `sensitivity` has its test here.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use support::*;

fn costs(dir: &Path, flags: &str) -> Value {
    json_out(&ok_in(dir, &format!("sensitivity m.safetensors --json {flags}")))
}

/// The damage of a change to a tensor.
fn damage(report: &Value, tensor: &str, change: &str) -> f64 {
    let tensors = report["tensors"].as_array().unwrap();
    let own = tensors.iter().find(|t| t["tensor"] == tensor).unwrap_or_else(|| panic!("no {tensor} in {report}"));
    let cost = own["costs"].as_array().unwrap().iter().find(|c| c["change"] == change);
    cost.unwrap_or_else(|| panic!("no {change} in {own}"))["damage"].as_f64().unwrap()
}

fn size(dir: &Path, file: &str) -> u64 {
    fs::metadata(dir.join(file)).unwrap().len()
}

#[test]
fn more_bits_and_fewer_zeros_cost_less_however_it_is_measured() {
    let ground = digits_ground();
    let dir = ground.path();
    for flags in ["", "--data d.safetensors --measure fisher --samples 100", "--data d.safetensors"] {
        let report = costs(dir, flags);
        for tensor in ["fc1.weight", "conv1.weight"] {
            let of = |change: &str| damage(&report, tensor, change);
            assert!(of("f16") < of("w8a16:channel") && of("w8a16:channel") < of("w4a16:channel"), "{flags} {tensor}");
            assert!(of("w4a16:channel") < of("w2a16:channel") && of("0.5") < of("0.9"), "{flags} {tensor}");
        }
    }
    let text = out(&ok_in(dir, "sensitivity m.safetensors --data d.safetensors --samples 50"));
    assert!(text.contains("divergence of the answers on 50 samples of validation") && text.contains("fc1.weight"));
}

#[test]
fn the_weights_alone_give_the_squared_relative_error_of_the_pass() {
    let ground = digits_ground();
    let dir = ground.path();
    let report = costs(dir, "--change w4a16:channel --include fc1.weight");
    let line = "quantize m.safetensors --scheme w4a16 --group channel --include fc1.weight -o q.safetensors --json";
    let passes = json_out(&ok_in(dir, line));
    let error = passes["passes"][0]["tensors"][0]["relative_error"].as_f64().unwrap();
    assert!((damage(&report, "fc1.weight", "w4a16:channel") - error * error).abs() < 1e-9);
    let bytes = passes["passes"][0]["tensors"][0]["bytes_after"].as_u64();
    assert_eq!(report["tensors"][0]["costs"][0]["bytes"].as_u64(), bytes);
}

#[test]
fn a_size_is_hit_from_below_and_the_recipe_gives_the_same_bytes() {
    let ground = digits_ground();
    let dir = ground.path();
    let whole = size(dir, "m.safetensors");
    for (share, data) in [(0.55, ""), (0.65, ""), (0.8, "--data d.safetensors --samples 100")] {
        let target = (whole as f64 * share) as u64;
        let line = format!("quantize m.safetensors --target-size {target}B {data} --force");
        let output = ok_in(dir, &format!("{line} -o q.safetensors --recipe-out chosen.toml"));
        let own = size(dir, "q.safetensors");
        assert!(own <= target, "{own} of {target}");
        let told = err(&output);
        assert!(
            own as f64 >= 0.99 * target as f64 || told.contains("tensors come in steps"),
            "{own} of {target}\n{told}"
        );
        assert!(told.contains("fc1.weight") && told.contains("less would be"), "{told}");
        ok_in(dir, "run chosen.toml m.safetensors -o again.safetensors --force -q");
        assert_eq!(fs::read(dir.join("again.safetensors")).unwrap(), fs::read(dir.join("q.safetensors")).unwrap());
        ok_in(dir, "verify q.safetensors -q");
    }
    let output = run_in(dir, "quantize m.safetensors --target-size 2kB -o tiny.safetensors");
    assert_code(&output, 1, "a budget below the smallest");
    let told = err(&output);
    let smallest: u64 = told.split("--target-size ").nth(1).unwrap().split('B').next().unwrap().parse().unwrap();
    assert!(told.contains(&format!("below the smallest possible, {smallest}")), "{told}");
    ok_in(dir, &format!("quantize m.safetensors --target-size {smallest}B -o tiny.safetensors -q"));
    assert_eq!(size(dir, "tiny.safetensors"), smallest);
}

#[test]
fn bits_are_kept_and_a_better_choice_than_uniform_is_found() {
    let ground = digits_ground();
    let dir = ground.path();
    let bits = |line: &str| {
        let report = json_out(&ok_in(dir, &format!("{line} --force --json -o q.safetensors")));
        let total = &report["passes"][0]["total"];
        8.0 * total["bytes_after"].as_f64().unwrap() / total["weights"].as_f64().unwrap()
    };
    let found = bits(
        "quantize m.safetensors --target-bits 5 --choice w8a16:channel --choice w2a16:channel --choice w4a16:channel",
    );
    assert!(found <= 5.0 && found > 3.0, "{found}");
    let output = run_in(dir, "quantize m.safetensors --target-bits 1 -o q.safetensors --force");
    assert_code(&output, 1, "bits below the smallest");
    assert!(err(&output).contains("below the smallest possible"), "{}", err(&output));
}

#[test]
fn bits_are_given_back_until_the_quality_holds() {
    let ground = digits_ground();
    let dir = ground.path();
    let accuracy = |file: &str| {
        let report = json_out(&ok_in(dir, &format!("eval {file} --data d.safetensors --split validation --json")));
        report["model"]["metrics"]["classification"]["accuracy"]["value"].as_f64().unwrap()
    };
    let before = accuracy("m.safetensors");
    let mut last = u64::MAX;
    for percent in [0.0, 2.0, 30.0] {
        let line =
            format!("quantize m.safetensors --max-loss {percent}% --data d.safetensors -o q.safetensors --force");
        ok_in(dir, &line);
        assert!(before - accuracy("q.safetensors") <= percent / 100.0 + 1e-9, "{percent}");
        let own = size(dir, "q.safetensors");
        assert!(own <= last, "{own} after {last}");
        last = own;
    }
}

#[test]
fn layers_that_runtimes_merge_get_one_scheme() {
    let dir = temp_dir();
    let dir = dir.path();
    let names = ["q_proj", "k_proj", "v_proj", "o_proj"];
    let tensors: Vec<Tensor> = (0..)
        .zip(names)
        .map(|(i, name)| Tensor::random(&format!("layers.0.{name}.weight"), "F32", &[32 + 16 * i, 64], 7 + i as u64))
        .collect();
    write_file(&dir.join("m.safetensors"), &tensors, &[]);
    ok_in(dir, "quantize m.safetensors --target-bits 3.5 -o q.safetensors --recipe-out r.toml -q");
    let recipe = fs::read_to_string(dir.join("r.toml")).unwrap();
    let scheme = |name: &str| {
        let line = recipe.lines().find(|l| l.contains(name)).unwrap();
        line.split('=').nth(1).unwrap().split('"').next().unwrap().to_owned()
    };
    assert!(scheme("q_proj") == scheme("k_proj") && scheme("k_proj") == scheme("v_proj"), "{recipe}");
}

/// The names in a file and its header's layout.
fn parts(dir: &Path, file: &str) -> BTreeSet<String> {
    read_file(&dir.join(file)).names.into_iter().collect()
}

#[test]
fn zeros_are_chosen_where_they_cost_nothing_and_stand_beside_codes() {
    let ground = digits_ground();
    let dir = ground.path();
    ok_in(dir, "prune m.safetensors --rule fc1.weight=0.9 -o p.safetensors -q");
    let line = "quantize p.safetensors --target-bits 6.2 --choice 0.9 --choice w8a16:channel --choice w4a16:channel";
    for data in ["", "--data d.safetensors --samples 80"] {
        let output = ok_in(dir, &format!("{line} {data} -o q.safetensors --recipe-out chosen.toml --force"));
        let told = err(&output);
        assert!(told.contains("90 % zeros") && told.contains("w8a16:channel"), "{told}");
        let names = parts(dir, "q.safetensors");
        assert!(names.contains("fc1.weight.bitmask") && names.contains("conv1.weight_packed"), "{names:?}");
        ok_in(dir, "verify q.safetensors");
        // Two passes, which do the same by themselves and as a recipe.
        let recipe = fs::read_to_string(dir.join("chosen.toml")).unwrap();
        assert_eq!(recipe.matches("[[pass]]").count(), 2, "{recipe}");
        assert!(recipe.contains("\"fc1.weight=0.9\"") && recipe.contains("\"conv1.weight=w8a16:channel\""), "{recipe}");
        ok_in(dir, "run chosen.toml p.safetensors -o again.safetensors --force -q");
        let own = fs::read(dir.join("q.safetensors")).unwrap();
        assert!(fs::read(dir.join("again.safetensors")).unwrap() == own);
    }
    // Those that were zero are stored no more, and all else is as it was.
    ok_in(dir, "convert q.safetensors --decompress -o dense.safetensors -q");
    let (before, after) = (read_file(&dir.join("p.safetensors")), read_file(&dir.join("dense.safetensors")));
    assert_eq!(before.get("fc1.weight").values(), after.get("fc1.weight").values());
    assert_ne!(before.get("conv1.weight").values(), after.get("conv1.weight").values());
    let answers = |file: &str| {
        let report = json_out(&ok_in(dir, &format!("eval {file} --data d.safetensors --json")));
        report["model"]["metrics"]["classification"]["accuracy"].clone()
    };
    assert_eq!(answers("q.safetensors"), answers("dense.safetensors"));
    let found = json_out(&ok_in(dir, "diff dense.safetensors q.safetensors --json"));
    assert_eq!(found["total"]["relative_error"], 0.0, "{found}");
    // What is stored as a bitmask is quantized no more, and what is quantized is not quantized again.
    ok_in(dir, "prune p.safetensors --rule fc1.weight=0.9 --store bitmask -o b.safetensors -q");
    let named = run_in(dir, "quantize b.safetensors --rule fc1.weight=w8a16:channel -o x.safetensors");
    assert_code(&named, 1, "named");
    assert!(err(&named).contains("`fc1.weight` was named") && err(&named).contains("--decompress"), "{}", err(&named));
    ok_in(dir, "quantize b.safetensors --scheme w8a16 --group channel --exclude fc2.weight -o x.safetensors -q");
    assert!(parts(dir, "x.safetensors").is_superset(&["fc1.weight.bitmask", "fc2.weight"].map(str::to_owned).into()));
    assert_code(&run_in(dir, "quantize x.safetensors --scheme w8a16 -o y.safetensors"), 1, "quantized already");
    // The loss that is allowed counts zeros too.
    let line = "quantize m.safetensors --max-loss 20% --data d.safetensors --choice 0.5 --choice 0.8 -o z.safetensors";
    let told = err(&ok_in(dir, line));
    assert!(told.contains("80 % zeros") && told.contains("at most 20 points less"), "{told}");
    assert!(!fs::read_to_string(dir.join("chosen.toml")).unwrap().is_empty());
}

#[test]
fn three_bits_and_codebooks_are_chosen_among() {
    let ground = digits_ground();
    let dir = ground.path();
    let chosen = |file: &str, flags: &str| {
        let output = ok_in(dir, &format!("quantize {file} --target-bits 3.9 -o q.safetensors --force {flags}"));
        ok_in(dir, "verify q.safetensors -q");
        err(&output)
    };
    // Only dlopt reads networks of its own kind.
    let own = chosen("m.safetensors", "");
    assert!(own.contains("codebook"), "{own}");
    // The error of codebooks is no error of a method that was to be better than rounding.
    assert!(!own.contains("squared error -"), "{own}");
    let integers = chosen("m.safetensors", "--choice w3a16:channel --choice w2a16:channel --choice w4a16:channel");
    assert!(integers.contains("w3a16:channel"), "{integers}");
    ok_in(dir, "eval q.safetensors --data d.safetensors -q");
    // Others are read by runtimes, which know no codebooks.
    let model = fixture("golden/tiny_llama/dense");
    let output = ok_in(dir, &format!("quantize {} --target-bits 3.4 -o llama", model.display()));
    let told = err(&output);
    assert!(told.contains("w3a16") && !told.contains("codebook") && !told.contains("zeros  "), "{told}");
    ok_in(dir, "verify llama");
}

#[test]
fn wrong_usage_says_what_to_do() {
    let ground = digits_ground();
    let dir = ground.path();
    for (line, said) in [
        ("quantize m.safetensors --target-bits 4 --scheme w8a16 -o q.safetensors", "--scheme says how all tensors"),
        ("quantize m.safetensors --target-bits 4 --group 32 -o q.safetensors", "--group says how all tensors"),
        ("quantize --target-bits 4 -o q.safetensors", "reads the model twice"),
        ("quantize m.safetensors --data d.safetensors -o q.safetensors", "choose schemes under a budget"),
        ("quantize m.safetensors --target-bits 4 --target-size 1MB -o q.safetensors", "cannot be used with"),
        ("quantize m.safetensors --max-loss 1% -o q.safetensors", "--data"),
        ("quantize m.safetensors --target-bits 4 --choice w9a16 -o q.safetensors", "`w9a16` is no scheme"),
        ("quantize m.safetensors --target-bits 4 --measure fisher -o q.safetensors", "run the network"),
        ("sensitivity m.safetensors --change 1.5", "not between 0 and 1"),
    ] {
        let output = run_in(dir, line);
        assert_code(&output, 2, line);
        assert!(err(&output).contains(said), "{line}\n{}", err(&output));
    }
    assert!(!dir.join("q.safetensors").exists());
}

#[test]
fn a_recipe_has_a_budget_for_its_last_pass() {
    let ground = digits_ground();
    let dir = ground.path();
    let recipe = "[[pass]]\nverb = \"prune\"\nsparsity = 0.5\n\n[[pass]]\nverb = \"quantize\"\nmethod = \"mse\"\n";
    fs::write(dir.join("both.toml"), recipe).unwrap();
    let ran = |flags: &str| {
        ok_in(dir, &format!("run both.toml m.safetensors -o q.safetensors --force -q {flags}"));
        fs::read(dir.join("q.safetensors")).unwrap()
    };
    let base = ran("--budget 9kB --data d.safetensors --samples 80");
    assert!(base.len() <= 9000);
    // As the two verbs by themselves do it.
    ok_in(dir, "prune m.safetensors --sparsity 0.5 -o p.safetensors -q");
    ok_in(dir, "quantize p.safetensors --target-size 9kB --data d.safetensors --samples 80 -o s.safetensors -q");
    assert_eq!(fs::read(dir.join("s.safetensors")).unwrap(), base);
    let told = |flags: &str| {
        let line = format!("run both.toml m.safetensors -o q.safetensors --force --budget 9kB {flags}");
        let text = err(&ok_in(dir, &line));
        text.lines().find(|line| line.starts_with("chosen: ")).unwrap().to_owned()
    };
    let own = told("--data d.safetensors --samples 80");
    for flags in ["", "--data d.safetensors --samples 300", "--data d.safetensors --samples 80 --split train"] {
        assert_ne!(told(flags), own, "{flags}");
    }
    assert_ne!(told("--data d.safetensors --samples 80 --measure fisher"), own);
    assert_ne!(told("--data d.safetensors --samples 80 --choice w8a16:channel --choice 0.9"), own);
    assert!(names_in(dir).iter().all(|name| !name.starts_with(".dlopt")));
    fs::write(dir.join("one.toml"), "[[pass]]\nverb = \"prune\"\nsparsity = 0.5\n").unwrap();
    let output = run_in(dir, "run one.toml m.safetensors --budget 9kB -o x.safetensors");
    assert_code(&output, 2, "nothing to choose for");
}

#[test]
fn every_flag_of_a_budget_changes_something() {
    let ground = digits_ground();
    let dir = ground.path();
    // What is said of the choice, and what is written.
    let told = |flags: &str| {
        let output = ok_in(dir, &format!("quantize m.safetensors --force -o q.safetensors {flags}"));
        (err(&output), fs::read(dir.join("q.safetensors")).unwrap())
    };
    let base = told("--target-bits 4.2 --data d.safetensors --samples 80");
    for flags in [
        "--target-size 9kB --data d.safetensors --samples 80",
        "--target-bits 5 --data d.safetensors --samples 80",
        "--max-loss 3% --data d.safetensors --samples 80",
        "--target-bits 4.2",
        "--target-bits 4.2 --data d.safetensors --samples 81",
        "--target-bits 4.2 --data d.safetensors --samples 80 --split train",
        "--target-bits 4.2 --data d.safetensors --samples 80 --measure fisher",
        "--target-bits 4.2 --data d.safetensors --samples 80 --choice w2a16:channel --choice w8a16:channel",
        "--target-bits 4.2 --data d.safetensors --samples 80 --method rtn",
    ] {
        assert!(told(flags) != base, "{flags}");
    }
    assert!(!dir.join("r.toml").exists());
    told("--target-bits 4.2 --recipe-out r.toml");
    let recipe = fs::read_to_string(dir.join("r.toml")).unwrap();
    assert!(recipe.contains("\"fc1.weight="), "{recipe}");
    // A recipe is not replaced unasked.
    let line = "quantize m.safetensors --target-bits 4.2 --recipe-out r.toml -o new.safetensors";
    assert_code(&run_in(dir, line), 1, line);
}

#[test]
fn every_flag_of_sensitivity_changes_something() {
    let ground = digits_ground();
    let dir = ground.path();
    let base = costs(dir, "--data d.safetensors --samples 60")["tensors"].clone();
    let mut tested: BTreeSet<String> = ["data", "samples", "json", "help"].map(str::to_owned).into();
    for (flag, line) in [
        ("change", "--data d.safetensors --samples 60 --change w4a16:8"),
        ("method", "--data d.safetensors --samples 60 --method mse"),
        ("measure", "--data d.safetensors --samples 60 --measure weights"),
        ("split", "--data d.safetensors --samples 60 --split train"),
        ("samples", "--data d.safetensors --samples 61"),
        ("data", ""),
        ("include", "--data d.safetensors --samples 60 --include fc1.weight"),
        ("exclude", "--data d.safetensors --samples 60 --exclude fc1.weight"),
    ] {
        tested.insert(flag.to_owned());
        assert_ne!(costs(dir, line)["tensors"], base, "{flag}");
    }
    assert_eq!(
        costs(dir, "--data d.safetensors --samples 60 --threads 1")["tensors"],
        base,
        "threads change no figure"
    );
    let text = |flags: &str| out(&ok_in(dir, &format!("sensitivity m.safetensors {flags}")));
    assert!(text("--quiet").is_empty() && text("--verbose").contains("rel. error") && !text("").contains("rel. error"));
    ok_in(dir, "sensitivity m.safetensors --report r.json -q");
    assert_eq!(read_json(&dir.join("r.json"))["measure"], "weights");

    let mut broken = read_file(&dir.join("m.safetensors"));
    let fc1 = broken.tensors.get_mut("fc1.weight").unwrap();
    fc1.bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let tensors: Vec<Tensor> = broken.tensors.into_values().collect();
    write_file(&dir.join("nan.safetensors"), &tensors, &[]);
    assert_code(&run_in(dir, "sensitivity nan.safetensors"), 1, "NaN");
    let pair = [Tensor::random("lm_head.weight", "F32", &[8, 8], 1), Tensor::random("a.weight", "F32", &[8, 8], 2)];
    let config = ("config", r#"{"model_type":"llama","tie_word_embeddings":true}"#);
    write_file(&dir.join("tied.safetensors"), &pair, &[config]);
    let tensors = |flags: &str| {
        let line = format!("sensitivity tied.safetensors --include * --json {flags}");
        json_out(&ok_in(dir, &line))["tensors"].as_array().unwrap().len()
    };
    assert!(tensors("--tied both") > tensors(""));
    for flag in ["allow-nonfinite", "tied", "threads", "quiet", "verbose", "report"] {
        tested.insert(flag.to_owned());
    }
    let mut shown = shown_flags("sensitivity");
    shown.insert("help".to_owned());
    assert_eq!(shown, tested);
}
