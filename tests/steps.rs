//! Recipes of steps end to end: a network is trained, pruned, shared and packed by one file, every stage is measured, and a
//! run that was killed goes on.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::*;

const RECIPE: &str = r#"data = "d.safetensors"
output = "small.dlpk"

[[step]]
name = "dense"
verb = "train"
model = "net.toml"
batch = 32
learning-rate = 0.004
epochs = 3
threads = 1

[[step]]
name = "pruned"
verb = "train"
batch = 32
learning-rate = 0.004
epochs = 3
prune = "0.8 cubic 0..2"

[[step]]
verb = "quantize"
scheme = "codebook4"

[[step]]
name = "packed"
verb = "pack"
"#;

#[test]
fn a_recipe_of_steps_is_the_verbs_one_after_the_other_and_says_what_each_is_worth() {
    let ground = digits_ground();
    let dir = ground.path();
    fs::write(dir.join("deep.toml"), RECIPE).unwrap();
    let told = out(&ok_in(dir, "run deep.toml --report r.json"));
    for word in ["stage", "accuracy", "lost", "dense", "pruned", "quantize", "packed", "smaller"] {
        assert!(told.contains(word), "{word} in {told}");
    }
    let report: Value = serde_json::from_slice(&fs::read(dir.join("r.json")).unwrap()).unwrap();
    let stages = report["stages"].as_array().unwrap();
    let bytes: Vec<u64> = stages.iter().map(|stage| stage["bytes"].as_u64().unwrap()).collect();
    assert!(bytes.len() == 4 && 5 * bytes[3] < bytes[0], "{bytes:?}");
    let accuracy = |at: usize| stages[at]["quality"]["value"].as_f64().unwrap();
    assert!(accuracy(0) > 0.8 && accuracy(3) == accuracy(2), "{report}");

    let by_hand = [
        "train --model net.toml --data d.safetensors --batch 32 --learning-rate 0.004 --epochs 3 -o 1.safetensors -q",
        "train --init 1.safetensors --data d.safetensors --batch 32 --learning-rate 0.004 --epochs 3 --prune 0.8,cubic,0..2 -o 2.safetensors -q",
        "quantize 2.safetensors --scheme codebook4 -o 3.safetensors -q",
        "pack 3.safetensors -o 4.dlpk -q",
    ];
    by_hand.iter().for_each(|line| drop(ok_in(dir, line)));
    assert_eq!(bytes[1], fs::metadata(dir.join("2.safetensors")).unwrap().len());
    assert!(fs::read(dir.join("small.dlpk")).unwrap() == fs::read(dir.join("4.dlpk")).unwrap());
    assert!(!dir.join("small.dlpk.dlopt-steps").exists(), "nothing is left beside it");
    // A step that begins anew takes nothing from the one before.
    let line = "train --model net.toml --data d.safetensors --epochs 1 --batch 32 --seed 5 -o other.safetensors -q";
    ok_in(dir, line);
    let anew = "data = \"d.safetensors\"\n[[step]]\nverb = \"train\"\nanew = true\nmodel = \"net.toml\"\nepochs = 1\nbatch = 32\nseed = 5\n";
    fs::write(dir.join("anew.toml"), anew).unwrap();
    ok_in(dir, "run anew.toml m.safetensors -o anew.safetensors -q");
    assert!(fs::read(dir.join("anew.safetensors")).unwrap() == fs::read(dir.join("other.safetensors")).unwrap());
    // From a checkpoint that is there, the table begins with it.
    let rest = "[[step]]\nverb = \"prune\"\nsparsity = 0.5\n[[step]]\nverb = \"pack\"\n";
    fs::write(dir.join("rest.toml"), rest).unwrap();
    let report = json_out(&ok_in(dir, "run rest.toml m.safetensors -o p.dlpk --json"));
    assert_eq!(report["stages"][0]["name"], "as it is");
    assert!(report["stages"][2]["quality"].is_null() && report["stages"].as_array().unwrap().len() == 3);
}

#[test]
fn steps_that_were_killed_go_on_to_the_same_bytes() {
    let ground = digits_ground();
    let dir = ground.path();
    let long = RECIPE
        .replace("epochs = 3\nprune = \"0.8 cubic 0..2\"", "epochs = 40\nprune = \"0.8 cubic 0..20\"\nsave-every = 5");
    assert!(long.contains("epochs = 40"));
    fs::write(dir.join("deep.toml"), &long).unwrap();
    ok_in(dir, "run deep.toml -o whole.dlpk -q");
    let words = "run deep.toml -o killed.dlpk -q";
    let mut child = Command::new(DLOPT).args(words.split(' ')).current_dir(dir).stderr(Stdio::null()).spawn().unwrap();
    // The pruned network is the one with a state while a finished one lies beside it.
    let folder = dir.join("killed.dlpk.dlopt-steps");
    let is_under_way = || {
        let names: Vec<String> = fs::read_dir(&folder)
            .map(|dir| dir.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
            .unwrap_or_default();
        let training = names.iter().find(|name| name.ends_with(".dlopt-training"));
        names.iter().any(|name| name.ends_with(".safetensors"))
            && training.is_some_and(|name| folder.join(name).join("state.safetensors").exists())
    };
    let began = Instant::now();
    while !is_under_way() {
        assert!(began.elapsed() < Duration::from_secs(120) && child.try_wait().unwrap().is_none(), "no state was kept");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!dir.join("killed.dlpk").exists(), "it was killed before its end");
    ok_in(dir, words);
    assert!(fs::read(dir.join("killed.dlpk")).unwrap() == fs::read(dir.join("whole.dlpk")).unwrap());
    assert!(!folder.exists());
}

#[test]
fn what_steps_cannot_do_is_one_clear_error() {
    let ground = digits_ground();
    let dir = ground.path();
    let refused = |recipe: &str, flags: &str, code: i32, part: &str| {
        fs::write(dir.join("r.toml"), recipe).unwrap();
        let told = run_in(dir, &format!("run r.toml {flags}"));
        assert_code(&told, code, recipe);
        assert!(err(&told).contains(part), "{part} in {}", err(&told));
        assert!(!dir.join("x.safetensors").exists());
    };
    let to = "-o x.safetensors";
    refused("output = \"x\"\n", "", 2, "no [[pass]] and no [[step]]");
    refused("[[pass]]\nverb = \"prune\"\n[[step]]\nverb = \"prune\"\n", to, 2, "passes are one stream");
    refused(
        "data = \"d\"\n[[pass]]\nverb = \"prune\"\nsparsity = 0.5\n",
        to,
        2,
        "what steps train and are measured on",
    );
    refused(RECIPE, "--dry-run", 2, "--dry-run is about one stream of passes");
    refused(RECIPE, "--budget 1MB -o x.safetensors", 2, "--budget chooses for a last pass");
    refused(&RECIPE.replace("output = \"small.dlpk\"", ""), "", 2, "steps write a file");
    refused("[[step]]\nverb = \"prune\"\nsparsity = 0.5\n", to, 2, "`prune` has nothing to begin with");
    refused("[[step]]\nverb = \"pruen\"\n", "m.safetensors -o x.safetensors", 2, "did you mean `prune`?");
    refused(
        "[[step]]\nverb = \"prune\"\nshare = 0.5\n",
        "m.safetensors -o x.safetensors",
        2,
        "step 1: unexpected argument",
    );
    refused(&RECIPE.replace("codebook4", "codebook4:7:7"), to, 2, "step 3");
    refused(RECIPE, "-o m.safetensors", 1, "exists");
    refused(
        "[[step]]\nverb = \"prune\"\nanew = true\n",
        "m.safetensors -o x.safetensors",
        2,
        "`prune` has nothing to begin with",
    );
    // What a command says is what is heard.
    let wide = "[[step]]\nverb = \"quantize\"\nscheme = \"w4a16\"\ninclude = [\"nothing\"]\n";
    refused(wide, "m.safetensors -o x.safetensors", 1, "step 1: quantize: m.safetensors: ");
}
