//! Training end to end: data in, a network out, and the same bytes whatever the threads and however often it is killed.

#![allow(clippy::unwrap_used)]

mod support;

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::{DLOPT, Random, assert_code, err, fixture, json_out, names_in, ok_in, run_in, temp_dir};

/// Points around the centres of three classes, as a table with a header.
fn table(rows: usize, seed: u64) -> String {
    let mut random = Random::new(seed);
    let mut text = String::from("a,b,c,d,class\n");
    for row in 0..rows {
        let class = row % 3;
        for feature in 0..4 {
            let centre = if feature % 3 == class { 2.0 } else { -1.0 };
            let _ = write!(text, "{},", centre + random.normal());
        }
        let _ = writeln!(text, "{}", ["red", "green", "blue"][class]);
    }
    text
}

/// A folder with `d.safetensors`: 180 rows to train on, 60 to watch, 60 to test.
fn ground() -> tempfile::TempDir {
    let dir = temp_dir();
    fs::write(dir.path().join("d.csv"), table(300, 1)).unwrap();
    ok_in(dir.path(), "prepare d.csv --split validation=0.2,test=0.2 -o d.safetensors --quiet");
    dir
}

const MLP: &str = "layers = [\n    { type = \"dense\", units = 19, activation = \"relu\" },\n    { type = \"dropout\", rate = 0.1 },\n    { type = \"dense\", units = \"classes\" },\n]\n";

fn report(dir: &Path, line: &str) -> Value {
    json_out(&ok_in(dir, line))
}

fn accuracy(dir: &Path, model: &str, data: &str) -> f64 {
    let report = report(dir, &format!("eval {model} --data {data} --json"));
    report["model"]["metrics"]["classification"]["accuracy"]["value"].as_f64().unwrap()
}

fn assert_same(dir: &Path, a: &str, b: &str) {
    assert!(fs::read(dir.join(a)).unwrap() == fs::read(dir.join(b)).unwrap(), "{a} and {b} differ");
}

#[test]
fn the_seed_network_learns_the_digits_and_lives_through_compression() {
    let dir = temp_dir();
    let dir = dir.path();
    let digits = fixture("digits/digits.csv.gz");
    let prepare = format!(
        "prepare {} --shape 8x8 --resize 28x28 --split-at 1437 -o digits.safetensors --quiet",
        digits.display()
    );
    ok_in(dir, &prepare);
    ok_in(
        dir,
        "train --model cnn --data digits.safetensors --epochs 12 --schedule one-cycle --learning-rate 0.004 --label-smoothing 0.2 -o cnn.safetensors --quiet",
    );
    let dense = accuracy(dir, "cnn.safetensors", "digits.safetensors");
    assert!(dense >= 0.95, "accuracy {dense}");
    ok_in(dir, "prune cnn.safetensors --sparsity 0.5 --scope global -o half.safetensors --quiet");
    ok_in(dir, "quantize cnn.safetensors --scheme w8a16 --group channel -o int8.safetensors --quiet");
    ok_in(dir, "quantize half.safetensors --scheme w4a16 --group 32 -o both.safetensors --quiet");
    ok_in(dir, "verify both.safetensors");
    for (model, most_lost) in [("half.safetensors", 0.05), ("int8.safetensors", 0.01), ("both.safetensors", 0.08)] {
        let compressed = accuracy(dir, model, "digits.safetensors");
        assert!(compressed >= dense - most_lost, "{model}: {compressed}, and {dense} before");
    }
    // A pruned network trains on from where it is.
    ok_in(
        dir,
        "train --init half.safetensors --data digits.safetensors --epochs 1 --learning-rate 1e-4 -o tuned.safetensors --quiet",
    );
    assert!(accuracy(dir, "tuned.safetensors", "digits.safetensors") >= 0.93);
    // Evaluated from a pipe, against the one it came from.
    let paired = report(dir, "eval both.safetensors --against cnn.safetensors --data digits.safetensors --json");
    assert!(paired["paired"]["classification"]["agreement"]["value"].as_f64().unwrap() > 0.9);
}

#[test]
fn threads_change_no_byte() {
    let ground = ground();
    let dir = ground.path();
    fs::write(dir.join("mlp.toml"), MLP).unwrap();
    for (threads, out) in [(1, "one"), (2, "two"), (5, "five")] {
        ok_in(
            dir,
            &format!(
                "train --model mlp.toml --data d.safetensors --epochs 3 --threads {threads} -o {out}.safetensors -q"
            ),
        );
    }
    assert_same(dir, "one.safetensors", "two.safetensors");
    assert_same(dir, "one.safetensors", "five.safetensors");
    ok_in(dir, "train --model mlp.toml --data d.safetensors --epochs 3 --seed 1 -o other.safetensors -q");
    assert!(fs::read(dir.join("one.safetensors")).unwrap() != fs::read(dir.join("other.safetensors")).unwrap());
}

/// Everything that has a state: two moments, an average, a plateau, early stopping, accumulation, clipping.
const STATEFUL: &str = "train --model mlp.toml --data d.safetensors --epochs 6 --batch 16 --accumulate 2 --average 0.9 \
                        --schedule plateau=0.5,1 --patience 9 --clip-norm 1 --optimizer adamw --save-every 1";

#[test]
fn a_run_that_is_killed_ends_in_the_bytes_of_one_that_was_not() {
    let ground = ground();
    let dir = ground.path();
    fs::write(dir.join("mlp.toml"), MLP).unwrap();
    ok_in(dir, &format!("{STATEFUL} -o whole.safetensors --threads 1 -q"));
    let mut kills = 0;
    for attempt in 0_u64.. {
        assert!(attempt < 400, "the run never ends");
        let state = dir.join("killed.safetensors.dlopt-training/state.safetensors");
        let resume = if state.exists() { "--resume" } else { "--force" };
        let line = format!("{STATEFUL} -o killed.safetensors --threads {} -q {resume}", 1 + attempt % 3);
        let mut child =
            Command::new(DLOPT).args(line.split_whitespace()).current_dir(dir).stderr(Stdio::piped()).spawn().unwrap();
        // Later and later, so that it ends however slow the machine is.
        std::thread::sleep(Duration::from_millis(15 + 7 * attempt));
        if let Some(status) = child.try_wait().unwrap() {
            let errors = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
            assert!(status.success(), "{errors}");
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    assert!(kills > 0, "it was never killed");
    assert_same(dir, "whole.safetensors", "killed.safetensors");
    assert!(!dir.join("killed.safetensors.dlopt-training").exists());
}

#[test]
fn a_resume_asked_differently_is_refused_and_names_the_difference() {
    let ground = ground();
    let dir = ground.path();
    fs::write(dir.join("mlp.toml"), MLP).unwrap();
    let line = "train --model mlp.toml --data d.safetensors --epochs 200 --save-every 1 -o m.safetensors -q";
    let mut child = Command::new(DLOPT).args(line.split_whitespace()).current_dir(dir).spawn().unwrap();
    let state = dir.join("m.safetensors.dlopt-training/state.safetensors");
    for _ in 0..600 {
        if state.exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let again = run_in(dir, line);
    assert_code(&again, 1, line);
    assert!(err(&again).contains("--resume goes on"), "{}", err(&again));
    let other = run_in(dir, &format!("{line} --resume --learning-rate 0.5"));
    assert_code(&other, 2, "another rate");
    assert!(err(&other).contains("learning_rate"), "{}", err(&other));
    assert!(!dir.join("m.safetensors").exists());
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_and_names_the_step() {
    let ground = ground();
    let dir = ground.path();
    let line = "train --model mlp --data d.safetensors --optimizer sgd --learning-rate 1e30 --save-every 1 -o m.safetensors -q";
    let output = run_in(dir, line);
    assert_code(&output, 1, line);
    let errors = err(&output);
    assert!(errors.contains("at update ") && errors.contains("last-good.safetensors"), "{errors}");
    assert!(errors.contains("--clip-norm"), "{errors}");
    assert!(!dir.join("m.safetensors").exists());
    // What was good can be trained on.
    ok_in(
        dir,
        "train --init m.safetensors.dlopt-training/last-good.safetensors --data d.safetensors --epochs 1 -o n.safetensors -q",
    );
}

#[test]
fn bad_requests_are_one_clear_error_and_leave_nothing() {
    let ground = ground();
    let dir = ground.path();
    fs::write(dir.join("typo.toml"), "layers = [{ type = \"dense\", units = 3, activaton = \"relu\" }]").unwrap();
    fs::write(dir.join("shrinks.toml"), "layers = [{ type = \"conv2d\", filters = 3, kernel = 9 }]").unwrap();
    ok_in(dir, "train --model mlp --data d.safetensors --epochs 1 -o m.safetensors -q");
    fs::write(dir.join("two.csv"), "a,b,c,d,class\n1,2,3,4,x\n2,1,4,3,y\n3,4,1,2,x\n4,3,2,1,y\n").unwrap();
    ok_in(dir, "prepare two.csv --split-at 2 -o two.safetensors -q");
    let before = names_in(dir);
    for (line, code, said) in [
        ("train --model cn --data d.safetensors -o x.safetensors", 2, "did you mean `cnn`"),
        ("train --model typo.toml --data d.safetensors -o x.safetensors", 1, "activation"),
        ("train --model cnn --data d.safetensors -o x.safetensors", 1, "conv1"),
        ("train --data d.safetensors -o x.safetensors", 2, "--model NAME"),
        ("train --model mlp --data nothing.safetensors -o x.safetensors", 1, "nothing.safetensors"),
        ("train --model mlp --data d.safetensors -o x.safetensors --optimizer adm", 2, "sgd, adam, adamw, rmsprop"),
        ("train --model mlp --data d.safetensors -o x.safetensors --momentum 0.9", 2, "--momentum does not go with"),
        ("train --model mlp --data d.safetensors -o x.safetensors --schedule cosin", 2, "cosine"),
        ("train --model mlp --data d.safetensors -o x.safetensors --loss mse", 2, "needs targets"),
        ("train --model mlp --data d.safetensors -o x.safetensors --batch 0", 2, "--batch"),
        ("train --model mlp --data d.safetensors -o x.safetensors --split trian", 1, "train"),
        ("train --model mlp --data d.safetensors -o x.safetensors --validation none --patience 2", 2, "validation"),
        ("train --model mlp --data d.safetensors -o x.safetensors --freeze nope.*", 2, "nope.*"),
        ("train --model mlp --data d.safetensors -o x.safetensors --class-weights 1,2", 2, "2 numbers for 3 classes"),
        ("train --model mlp --data d.safetensors -o m.safetensors", 1, "--force"),
        ("train --model mlp --data d.safetensors -o x.safetensors --resume", 1, "no state"),
        ("train --init m.safetensors --data two.safetensors -o x.safetensors", 1, "--adopt"),
        ("eval m.safetensors --data two.safetensors", 1, "prepared"),
        ("eval d.safetensors --data d.safetensors", 1, "config"),
        ("eval m.safetensors --data d.safetensors --mistakes x.png", 2, "pictures"),
    ] {
        let output = run_in(dir, line);
        assert_code(&output, code, line);
        let errors = err(&output);
        assert!(errors.contains(said), "{line}\nwanted {said}\n{errors}");
        assert_eq!(errors.lines().filter(|l| l.starts_with("error")).count(), 1, "{line}\n{errors}");
    }
    assert_eq!(names_in(dir), before, "nothing half-written");
}

#[test]
fn weights_that_do_not_fit_their_config_are_refused_with_both_shapes() {
    let ground = ground();
    let dir = ground.path();
    fs::write(dir.join("mlp.toml"), MLP).unwrap();
    ok_in(dir, "train --model mlp.toml --data d.safetensors --epochs 1 -o m.safetensors -q");
    // The same network with other sizes says another config over the same weights.
    let bytes = fs::read(dir.join("m.safetensors")).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains(r#"\"units\":19"#), "the config stands in the header");
    let at = bytes.windows(13).position(|w| w == br#"\"units\":19,"# || w == br#"\"units\":19}"#).unwrap();
    let mut changed = bytes.clone();
    changed[at + 11] = b'8';
    fs::write(dir.join("wrong.safetensors"), changed).unwrap();
    let output = run_in(dir, "eval wrong.safetensors --data d.safetensors");
    assert_code(&output, 1, "eval of weights that do not fit");
    let errors = err(&output);
    assert!(errors.contains("fc1.weight") && errors.contains("[19, 4]") && errors.contains("[18, 4]"), "{errors}");
}

#[test]
fn series_of_different_lengths_train_recurrent_networks() {
    let dir = temp_dir();
    let dir = dir.path();
    let mut random = Random::new(7);
    let mut text = String::from("@problemName waves\n@univariate true\n@classLabel true slow fast\n@data\n");
    for row in 0..120 {
        let (is_fast, length) = (row % 2 == 1, 12 + row % 9);
        let step = if is_fast { 1.4 } else { 0.5 };
        let start = random.normal();
        let values: Vec<String> =
            (0..length).map(|t| format!("{:.4}", (start + step * t as f32).sin() + 0.1 * random.normal())).collect();
        let _ = writeln!(text, "{}:{}", values.join(","), if is_fast { "fast" } else { "slow" });
    }
    fs::write(dir.join("waves.ts"), text).unwrap();
    ok_in(dir, "prepare waves.ts --split test=0.25 -o waves.safetensors -q");
    fs::write(
        dir.join("both.toml"),
        "layers = [{ type = \"gru\", hidden = 9, bidirectional = true }, { type = \"dense\", units = \"classes\" }]",
    )
    .unwrap();
    for model in ["lstm", "gru", "both.toml"] {
        ok_in(
            dir,
            &format!(
                "train --model {model} --data waves.safetensors --epochs 25 --batch 8 --learning-rate 0.005 -o m.safetensors --force -q"
            ),
        );
        let reached = accuracy(dir, "m.safetensors", "waves.safetensors");
        assert!(reached >= 0.9, "{model}: {reached}");
        ok_in(dir, "prune m.safetensors --sparsity 0.3 -o p.safetensors --force -q");
        ok_in(dir, "quantize m.safetensors --scheme w8a16 --group channel -o q.safetensors --force -q");
        assert!(accuracy(dir, "q.safetensors", "waves.safetensors") >= reached - 0.04, "{model}");
    }
}

#[test]
fn what_is_frozen_stays_and_what_is_adopted_is_kept() {
    let ground = ground();
    let dir = ground.path();
    ok_in(dir, "train --model mlp --data d.safetensors --epochs 2 -o m.safetensors -q");
    ok_in(dir, "train --init m.safetensors --data d.safetensors --epochs 1 --freeze fc1.* -o f.safetensors -q");
    let diff = report(dir, "diff m.safetensors f.safetensors --json");
    let changed: Vec<(&str, bool)> = diff["tensors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| (t["name"].as_str().unwrap(), t["differing"].as_u64().unwrap() > 0))
        .collect();
    for (name, is_changed) in changed {
        assert_eq!(is_changed, !name.starts_with("fc1."), "{name}");
    }
}

#[test]
fn regressions_are_trained_and_measured() {
    let dir = temp_dir();
    let dir = dir.path();
    let mut random = Random::new(3);
    let mut text = String::from("a,b,y\n");
    for _ in 0..200 {
        let (a, b) = (random.normal(), random.normal());
        let _ = writeln!(text, "{a},{b},{}", 2.0 * a - b + 0.5);
    }
    fs::write(dir.join("d.csv"), text).unwrap();
    ok_in(dir, "prepare d.csv --targets y --split test=0.2 -o d.safetensors -q");
    for loss in ["mse", "huber=0.5"] {
        ok_in(
            dir,
            &format!(
                "train --model mlp --data d.safetensors --loss {loss} --epochs 60 --learning-rate 0.005 -o m.safetensors --force -q"
            ),
        );
        let report = report(dir, "eval m.safetensors --data d.safetensors --json");
        let r2 = report["model"]["metrics"]["regression"]["r2"]["value"].as_f64().unwrap();
        assert!(r2 > 0.95, "{loss}: R2 {r2}");
    }
}
