//! Shared values end to end: codebooks out of dense and pruned checkpoints and back, networks that run on them, and values
//! that are trained while assignments stay.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::{digits_ground, err, json_out, ok_in, out, pipe_in, read_file, run_in};

const TRAIN: &str = support::TRAIN_DIGITS;

/// The weights of a checkpoint, as they decode.
fn weights(dir: &Path, file: &str) -> BTreeMap<String, Vec<f32>> {
    ok_in(dir, &format!("convert {file} --decompress -o dense.safetensors --force -q"));
    let stored = read_file(&dir.join("dense.safetensors"));
    stored.tensors.values().filter(|t| t.name.ends_with("weight")).map(|t| (t.name.clone(), t.values())).collect()
}

fn accuracy(dir: &Path, file: &str) -> f64 {
    let report = json_out(&ok_in(dir, &format!("eval {file} --data d.safetensors --split validation --json")));
    report["model"]["metrics"]["classification"]["accuracy"]["value"].as_f64().unwrap()
}

/// Which weights of a tensor are the same: the place of the first that has the same value, for each.
fn assignments(weights: &[f32]) -> Vec<usize> {
    let mut first = HashMap::new();
    weights.iter().enumerate().map(|(at, w)| *first.entry(w.to_bits()).or_insert(at)).collect()
}

fn distinct(weights: &[f32]) -> usize {
    assignments(weights).iter().enumerate().filter(|(at, first)| at == *first).count()
}

#[test]
fn a_pruned_checkpoint_stays_pruned_in_codebooks_and_comes_back() {
    let ground = digits_ground();
    let dir = ground.path();
    ok_in(dir, "prune m.safetensors --sparsity 0.8 -o pruned.safetensors -q");
    let dense = weights(dir, "pruned.safetensors");
    for scheme in ["codebook4", "codebook2:channel", "codebook8"] {
        ok_in(dir, &format!("quantize pruned.safetensors --scheme {scheme} -o shared.safetensors --force -q"));
        ok_in(dir, "verify shared.safetensors");
        let inspected = out(&ok_in(dir, "inspect shared.safetensors"));
        assert!(inspected.contains("codebook"), "{inspected}");
        let shared = weights(dir, "shared.safetensors");
        for (name, before) in &dense {
            let zeros = |w: &[f32]| w.iter().map(|w| *w == 0.0).collect::<Vec<_>>();
            let (before, after) = (zeros(before), zeros(&shared[name]));
            assert!(before.iter().zip(&after).all(|(before, after)| !before || *after), "{scheme} {name}");
        }
        // What came back is its own codebook, byte for byte.
        ok_in(dir, &format!("quantize dense.safetensors --scheme {scheme} -o again.safetensors --force -q"));
        let (one, two) = (read_file(&dir.join("shared.safetensors")), read_file(&dir.join("again.safetensors")));
        for (name, tensor) in &one.tensors {
            assert_eq!(tensor.bytes, two.tensors[name].bytes, "{scheme} {name}");
        }
        let report = json_out(&ok_in(dir, "diff dense.safetensors shared.safetensors --json"));
        assert!(!report.is_null());
    }
    // At any number of threads the same bytes, and by a recipe and through pipes the same tensors.
    ok_in(dir, "quantize pruned.safetensors --scheme codebook8 --threads 1 -o one.safetensors -q");
    assert!(fs::read(dir.join("one.safetensors")).unwrap() == fs::read(dir.join("shared.safetensors")).unwrap());
    let recipe = "[[pass]]\nverb = \"prune\"\nsparsity = 0.8\n[[pass]]\nverb = \"quantize\"\nscheme = \"codebook8\"\n";
    fs::write(dir.join("recipe.toml"), recipe).unwrap();
    ok_in(dir, "run recipe.toml m.safetensors -o run.safetensors -q");
    let piped = ["prune m.safetensors --sparsity 0.8", "quantize --scheme codebook8"];
    fs::write(dir.join("piped.safetensors"), pipe_in(dir, None, &piped).ok()).unwrap();
    for file in ["run.safetensors", "piped.safetensors"] {
        let (one, two) = (read_file(&dir.join(file)), read_file(&dir.join("shared.safetensors")));
        one.tensors
            .iter()
            .for_each(|(name, tensor)| assert_eq!(tensor.bytes, two.tensors[name].bytes, "{file} {name}"));
    }
    // Bitmasks have to be made dense before.
    ok_in(dir, "prune m.safetensors --sparsity 0.8 --store bitmask -o mask.safetensors -q");
    let refused = run_in(dir, "quantize mask.safetensors --scheme codebook -o no.safetensors");
    assert!(!refused.status.success() && err(&refused).contains("--decompress"), "{}", err(&refused));
}

#[test]
fn networks_run_on_codebooks_as_on_what_they_decode_to() {
    let ground = digits_ground();
    let dir = ground.path();
    ok_in(dir, "quantize m.safetensors --scheme codebook --rule conv*=codebook8 -o shared.safetensors -q");
    ok_in(dir, "convert shared.safetensors --decompress -o back.safetensors -q");
    let (shared, back) = (accuracy(dir, "shared.safetensors"), accuracy(dir, "back.safetensors"));
    assert_eq!(shared, back);
    assert!(shared > accuracy(dir, "m.safetensors") - 0.05);
    let row = |r: usize| (0..64).map(|c| ((r * 31 + c * 7) % 17).to_string()).collect::<Vec<_>>().join(",");
    fs::write(dir.join("rows.csv"), (0..9).map(|r| row(r) + "\n").collect::<String>()).unwrap();
    let predicted = |file: &str| out(&ok_in(dir, &format!("predict {file} rows.csv --json")));
    assert_eq!(predicted("shared.safetensors"), predicted("back.safetensors"));
    // A sparse one is decoded for its kernel, and that is said.
    ok_in(dir, "prune m.safetensors --sparsity 0.9 -o pruned.safetensors -q");
    ok_in(dir, "quantize pruned.safetensors --scheme codebook3 -o sparse.safetensors -q");
    let told = ok_in(dir, "eval sparse.safetensors --data d.safetensors --kernels explain");
    assert!(err(&told).contains("codebook3 as f32, 90 % zeros"), "{}", err(&told));
    let few = ["codebook1", "codebook2", "codebook4"].map(|scheme| {
        ok_in(dir, &format!("quantize m.safetensors --scheme {scheme} -o few.safetensors --force -q"));
        let report = json_out(&ok_in(dir, "diff m.safetensors few.safetensors --json"));
        assert!(!report.is_null());
        fs::metadata(dir.join("few.safetensors")).unwrap().len()
    });
    assert!(few[0] < few[1] && few[1] < few[2], "{few:?}");
}

#[test]
fn shared_values_are_trained_and_assignments_and_zeros_stay() {
    let ground = digits_ground();
    let dir = ground.path();
    ok_in(dir, "prune m.safetensors --sparsity 0.7 -o pruned.safetensors -q");
    ok_in(dir, "quantize pruned.safetensors --scheme codebook2 -o shared.safetensors -q");
    let before = weights(dir, "shared.safetensors");
    let line = format!("{TRAIN} --epochs 4 --share-weights codebook2 --keep-best");
    // From the pruned checkpoint or from its codebooks is the same.
    let report = json_out(&ok_in(dir, &format!("{line} --init pruned.safetensors --json -o trained.safetensors")));
    ok_in(dir, &format!("{line} --init shared.safetensors -o other.safetensors -q --threads 2"));
    let after = weights(dir, "trained.safetensors");
    assert_eq!(after, weights(dir, "other.safetensors"));
    for (name, after) in &after {
        assert_eq!(assignments(after), assignments(&before[name]), "{name}");
        assert!(distinct(after) <= 4 && after != &before[name], "{name}");
        assert!(after.iter().zip(&before[name]).all(|(a, b)| (*a == 0.0) == (*b == 0.0)), "{name}");
    }
    ok_in(dir, "verify trained.safetensors");
    assert!(report["kept_sparsity"].as_f64().unwrap() > 0.699, "{report}");
    let (before, after) = (accuracy(dir, "shared.safetensors"), accuracy(dir, "trained.safetensors"));
    assert!(after > before, "{after} after training, {before} before");
    // What validation said of it is what the file is worth.
    let epoch = report["epoch"].as_u64().unwrap() as usize;
    assert_eq!(report["epochs"][epoch - 1]["validation_accuracy"].as_f64(), Some(after));
    // Its values are its codebooks: stored anew, the same codes and values come out.
    ok_in(dir, "convert trained.safetensors --decompress -o plain.safetensors -q");
    ok_in(dir, "quantize plain.safetensors --scheme codebook2 -o again.safetensors -q");
    let (one, two) = (read_file(&dir.join("trained.safetensors")), read_file(&dir.join("again.safetensors")));
    one.tensors.iter().for_each(|(name, tensor)| assert_eq!(tensor.bytes, two.tensors[name].bytes, "{name}"));
    // Trained on without codebooks, the weights are dense, and that is said.
    let told = ok_in(dir, &format!("{TRAIN} --init shared.safetensors --epochs 1 -o free.safetensors"));
    assert!(err(&told).contains("--share-weights SCHEME its codebooks"), "{}", err(&told));
}

#[test]
fn training_shared_values_goes_on_after_a_kill_and_ends_in_the_same_bytes() {
    let ground = digits_ground();
    let dir = ground.path();
    ok_in(dir, "prune m.safetensors --sparsity 0.7 -o pruned.safetensors -q");
    let line = format!(
        "{TRAIN} --init pruned.safetensors --epochs 200 --average 0.9 --share-weights codebook3 --save-every 200 -q"
    );
    ok_in(dir, &format!("{line} -o whole.safetensors"));
    let words = format!("{line} -o killed.safetensors");
    let mut child =
        Command::new(env!("CARGO_BIN_EXE_dlopt")).args(words.split_whitespace()).current_dir(dir).spawn().unwrap();
    // As soon as there is something to go on from, most of the way is left.
    let state = dir.join("killed.safetensors.dlopt-training/state.safetensors");
    while !state.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended without a state");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!dir.join("killed.safetensors").exists(), "it was killed before its end");
    ok_in(dir, &format!("{words} --resume"));
    assert!(fs::read(dir.join("killed.safetensors")).unwrap() == fs::read(dir.join("whole.safetensors")).unwrap());
}
