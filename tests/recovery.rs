//! Training on from a compressed checkpoint end to end: zeros that stay, weights that are quantized while they are
//! trained, and a file that is what validation spoke of.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use support::{digits_ground, err, json_out, names_in, ok_in, read_file, run_in};

const TRAIN: &str = support::TRAIN_DIGITS;

/// The weights of a checkpoint, as they decode.
fn weights(dir: &Path, file: &str) -> BTreeMap<String, Vec<f32>> {
    ok_in(dir, &format!("convert {file} --decompress -o dense.safetensors --force -q"));
    let stored = read_file(&dir.join("dense.safetensors"));
    stored.tensors.values().filter(|t| t.name.ends_with("weight")).map(|t| (t.name.clone(), t.values())).collect()
}

fn zeros(dir: &Path, file: &str) -> Vec<bool> {
    weights(dir, file).into_values().flatten().map(|w| w == 0.0).collect()
}

/// Accuracy and loss on the validation split.
fn eval(dir: &Path, file: &str) -> (f64, f64) {
    let report = json_out(&ok_in(dir, &format!("eval {file} --data d.safetensors --split validation --json")));
    let metrics = &report["model"]["metrics"]["classification"];
    (metrics["accuracy"]["value"].as_f64().unwrap(), metrics["loss"]["value"].as_f64().unwrap())
}

fn verbs(dir: &Path, file: &str) -> Vec<String> {
    let stored = read_file(&dir.join(file));
    let history: Value = serde_json::from_str(stored.metadata("dlopt.history").unwrap()).unwrap();
    history["passes"].as_array().unwrap().iter().map(|p| p["verb"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_pruned_network_recovers_and_keeps_its_sparsity_exactly() {
    let ground = digits_ground();
    let dir = ground.path();
    ok_in(dir, "prune m.safetensors --sparsity 0.9 -o pruned.safetensors -q");
    ok_in(dir, "prune m.safetensors --sparsity 0.9 --store bitmask -o mask.safetensors -q");
    let pruned = zeros(dir, "pruned.safetensors");
    let share = pruned.iter().filter(|zero| **zero).count() as f64 / pruned.len() as f64;
    assert!((share - 0.9).abs() < 0.01, "{share}");
    let more = "--epochs 3 --optimizer adamw --weight-decay 0.1 --average 0.9";
    let told = ok_in(dir, &format!("{TRAIN} --init pruned.safetensors {more} -o kept.safetensors"));
    assert!(err(&told).contains("zeros stay, 90.0% of the weights"), "{}", err(&told));
    assert_eq!(zeros(dir, "kept.safetensors"), pruned);
    ok_in(dir, "verify kept.safetensors");
    let (before, after) = (eval(dir, "pruned.safetensors").0, eval(dir, "kept.safetensors").0);
    assert!(after > before + 0.1, "{after}, and {before} before");
    // The same from what is stored as bitmasks, and from what it became.
    ok_in(dir, &format!("{TRAIN} --init mask.safetensors {more} -o again.safetensors -q"));
    assert_eq!(weights(dir, "again.safetensors"), weights(dir, "kept.safetensors"));
    ok_in(dir, &format!("{TRAIN} --init kept.safetensors --epochs 1 -o twice.safetensors -q"));
    assert_eq!(zeros(dir, "twice.safetensors"), pruned);
    let told = ok_in(dir, &format!("{TRAIN} --init pruned.safetensors --zeros free --epochs 1 -o free.safetensors"));
    assert!(!err(&told).contains("zeros stay"), "{}", err(&told));
    assert!(zeros(dir, "free.safetensors").iter().filter(|zero| **zero).count() < pruned.len() / 2);
}

#[test]
fn weights_leave_while_training_and_what_is_kept_is_as_sparse_as_asked() {
    let ground = digits_ground();
    let dir = ground.path();
    let share = |file: &str| {
        let zeros = zeros(dir, file);
        zeros.iter().filter(|zero| **zero).count() as f64 / zeros.len() as f64
    };
    let line = format!("{TRAIN} --model net.toml --epochs 6");
    // The best epoch and the average are of the time when the schedule was done.
    let told = ok_in(dir, &format!("{line} --prune 0.9 --keep-best --average 0.9 -o p.safetensors"));
    assert!(err(&told).contains("90.0% of them in the end"), "{}", err(&told));
    assert!((share("p.safetensors") - 0.9).abs() < 1e-3, "{}", share("p.safetensors"));
    assert!(eval(dir, "p.safetensors").0 > 0.7);
    // Training on keeps what left, and a file says the same as terms.
    ok_in(dir, &format!("{TRAIN} --init p.safetensors --epochs 1 -o on.safetensors -q"));
    assert_eq!(zeros(dir, "on.safetensors"), zeros(dir, "p.safetensors"));
    fs::write(dir.join("s.toml"), "sparsity = 0.5\ncurve = \"linear\"\nscope = \"tensor\"\nbegin = 1\nend = 4\n")
        .unwrap();
    ok_in(dir, &format!("{line} --prune s.toml -o file.safetensors -q"));
    ok_in(dir, &format!("{line} --prune 0.5,linear,tensor,1..4 -o terms.safetensors -q"));
    assert_eq!(weights(dir, "file.safetensors"), weights(dir, "terms.safetensors"));
    for (schedule, part) in
        [("0.5,4..2", "ends before it begins"), ("0.5,1..7", "after epoch 7"), ("2", "between 0 and 1")]
    {
        let failed = run_in(dir, &format!("{line} --prune {schedule} -o no.safetensors"));
        assert_eq!(failed.status.code(), Some(2), "{schedule}");
        assert!(err(&failed).contains(part), "{schedule}: {}", err(&failed));
    }
    assert!(!dir.join("no.safetensors").exists());
}

#[test]
fn what_validation_says_of_quantized_weights_is_what_the_file_is_worth() {
    let ground = digits_ground();
    let dir = ground.path();
    let line = format!("{TRAIN} --init m.safetensors --fake-quantize int4 --group 8 --fallback channel");
    for (more, file) in [("--epochs 2", "q.safetensors"), ("--epochs 3 --average 0.8 --keep-best", "best.safetensors")]
    {
        let report = json_out(&ok_in(dir, &format!("{line} {more} --checkpoints kept --json -o {file}")));
        let epoch = report["epoch"].as_u64().unwrap() as usize;
        let said = &report["epochs"][epoch - 1];
        let (accuracy, loss) = eval(dir, file);
        assert_eq!(Some(accuracy), said["validation_accuracy"].as_f64(), "{said}");
        assert!((loss - said["validation_loss"].as_f64().unwrap()).abs() < 1e-9, "{loss}, {said}");
        ok_in(dir, &format!("verify {file}"));
        assert_eq!(verbs(dir, file), ["train", "train", "quantize"]);
        // What was kept on the way is the same as what comes out.
        let kept = format!("kept/epoch-{epoch:04}.safetensors");
        assert_eq!(weights(dir, &kept), weights(dir, file), "{:?}", names_in(&dir.join("kept")));
        fs::remove_dir_all(dir.join("kept")).unwrap();
        assert_eq!(report["passes"][0]["verb"], "quantize");
    }
    // The same codes at any number of threads.
    ok_in(dir, &format!("{line} --epochs 2 --threads 3 -o three.safetensors -q"));
    assert!(fs::read(dir.join("three.safetensors")).unwrap() == fs::read(dir.join("q.safetensors")).unwrap());
    // Quantizing what is quantized in training changes nothing: the network learned to be what is stored.
    ok_in(dir, "quantize m.safetensors --scheme w2a16 --group 8 --fallback channel -o alone.safetensors -q");
    ok_in(
        dir,
        &format!(
            "{TRAIN} --init m.safetensors --fake-quantize w2a16 --group 8 --fallback channel --epochs 3 -o two.safetensors -q"
        ),
    );
    let (alone, trained) = (eval(dir, "alone.safetensors").0, eval(dir, "two.safetensors").0);
    assert!(trained > alone, "{trained} after training with two bits, {alone} after rounding to them");
}

#[test]
fn zeros_stay_under_quantized_weights_with_zero_points_too() {
    let ground = digits_ground();
    let dir = ground.path();
    ok_in(dir, "prune m.safetensors --sparsity 0.7 -o pruned.safetensors -q");
    let pruned = zeros(dir, "pruned.safetensors");
    for scheme in ["w4a16:9", "w4a16_asym:9", "fp8"] {
        ok_in(
            dir,
            &format!(
                "{TRAIN} --init pruned.safetensors --fake-quantize {scheme} --epochs 1 -o q.safetensors --force -q"
            ),
        );
        let after = zeros(dir, "q.safetensors");
        assert!(pruned.iter().zip(&after).all(|(before, after)| !before || *after), "{scheme}");
        ok_in(dir, "verify q.safetensors");
        assert_eq!(verbs(dir, "q.safetensors"), ["train", "prune", "train", "quantize"]);
    }
    // Trained on without a scheme, the weights are dense, and that is said.
    let told = ok_in(dir, &format!("{TRAIN} --init q.safetensors --epochs 1 -o dense-again.safetensors"));
    assert!(err(&told).contains("the output will be dense; --fake-quantize"), "{}", err(&told));
    assert!(read_file(&dir.join("dense-again.safetensors")).tensors.values().all(|t| t.dtype == "F32"));
}

#[test]
fn a_compressed_student_that_learns_from_a_teacher_stays_compressed() {
    let ground = digits_ground();
    let dir = ground.path();
    ok_in(dir, "prune m.safetensors --sparsity 0.8 -o pruned.safetensors -q");
    let pruned = zeros(dir, "pruned.safetensors");
    let line = "distill --teacher m.safetensors --student pruned.safetensors --data d.safetensors --epochs 2";
    ok_in(dir, &format!("{line} --loss kd=0.5,temperature=4 --loss ce=0.5 -o student.safetensors -q"));
    assert_eq!(zeros(dir, "student.safetensors"), pruned);
    assert!(eval(dir, "student.safetensors").0 > eval(dir, "pruned.safetensors").0);
    ok_in(dir, &format!("{line} --zeros free -o free.safetensors -q"));
    assert!(zeros(dir, "free.safetensors") != pruned);
    ok_in(dir, &format!("{line} --fake-quantize w4a16:9 -o four.safetensors -q"));
    let after = zeros(dir, "four.safetensors");
    assert!(pruned.iter().zip(&after).all(|(before, after)| !before || *after));
    assert_eq!(verbs(dir, "four.safetensors"), ["train", "prune", "distill", "quantize"]);
    ok_in(dir, "verify four.safetensors");
}
