//! `augment`, and `train --augment`: what is written, that it depends on nothing but the seed, and what is refused.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use serde_json::Value;
use support::*;

/// Pictures of 7x5 of three classes, 60 to train on and 21 to test on; the third class is rarer.
fn ground() -> tempfile::TempDir {
    let dir = temp_dir();
    let write = |name: &str, kind: &[u8], shape: &[u32], data: &[u8]| {
        let mut bytes = kind.to_vec();
        shape.iter().for_each(|extent| bytes.extend(extent.to_be_bytes()));
        bytes.extend(data);
        fs::write(dir.path().join("raw").join(name), bytes).unwrap();
    };
    fs::create_dir(dir.path().join("raw")).unwrap();
    for (name, samples, seed) in [("train", 60_u32, 1), ("t10k", 21, 2)] {
        let mut random = Random::new(seed);
        let pixels: Vec<u8> = (0..samples * 35).map(|_| random.bits() as u8).collect();
        let labels: Vec<u8> = (0..samples).map(|i| if i % 10 == 9 { 2 } else { (i % 2) as u8 }).collect();
        write(&format!("{name}-images-idx3-ubyte"), &[0, 0, 8, 3], &[samples, 7, 5], &pixels);
        write(&format!("{name}-labels-idx1-ubyte"), &[0, 0, 8, 1], &[samples], &labels);
    }
    ok_in(dir.path(), "prepare raw -o d.safetensors --quiet");
    dir
}

const OPS: &str = "--op rotate=±15 --op random-resized-crop=0.7..1 --op noise=0.05";

/// A tensor's shape and bytes.
fn tensor(path: &Path, name: &str) -> (Vec<usize>, Vec<u8>) {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let own = file.tensor(name).unwrap();
    (own.shape().to_vec(), own.data().to_vec())
}

fn info(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    serde_json::from_str(&header.metadata().as_ref().unwrap()["dlopt.dataset"]).unwrap()
}

#[test]
fn the_training_split_is_changed_and_the_rest_is_carried_over() {
    let dir = ground();
    let path = |name: &str| dir.path().join(name);
    ok_in(dir.path(), &format!("augment d.safetensors {OPS} --copies 2 --keep-original -o a.safetensors"));
    let (before, own) = (tensor(&path("d.safetensors"), "inputs"), tensor(&path("a.safetensors"), "inputs"));
    assert_eq!(own.0, [60 * 3 + 21, 7, 5, 1]);
    for sample in 0..60 {
        let original = &before.1[sample * 35..][..35];
        let copies = |copy: usize| &own.1[(sample * 3 + copy) * 35..][..35];
        assert_eq!(copies(0), original);
        assert!(copies(1) != original && copies(2) != original && copies(1) != copies(2));
    }
    assert_eq!(own.1[180 * 35..], before.1[60 * 35..]);
    let labels = |name: &str| tensor(&path(name), "labels").1;
    let expected: Vec<u8> = labels("d.safetensors")[..60].iter().flat_map(|&label| [label; 3]).collect();
    assert_eq!(labels("a.safetensors")[..180], expected);
    let info = info(&path("a.safetensors"));
    assert_eq!(info["splits"], serde_json::json!({"test": [180, 201], "train": [0, 180]}));
    assert_eq!(info["options"]["augment"][0]["recipe"][0]["degrees"], "±15");
    // What comes out is a dataset again, and can be augmented again.
    ok_in(dir.path(), "augment a.safetensors --op invert -o b.safetensors");
    assert_eq!(self::info(&path("b.safetensors"))["options"]["augment"].as_array().unwrap().len(), 2);
}

#[test]
fn threads_and_pipes_change_no_byte_and_the_seed_does() {
    let dir = ground();
    let bytes = |name: &str| fs::read(dir.path().join(name)).unwrap();
    let make = |name: &str, more: &str| {
        ok_in(dir.path(), &format!("augment d.safetensors {OPS} --copies 3 {more} -o {name}"));
        bytes(name)
    };
    let one = make("a.safetensors", "--threads 1 --seed 4");
    assert!(one == make("b.safetensors", "--threads 3 --seed 4"));
    assert!(one != make("c.safetensors", "--threads 3 --seed 5"));
    let piped = dlopt()
        .current_dir(dir.path())
        .args(["augment", "-"])
        .args(OPS.split(' '))
        .args(["--copies", "3", "--seed", "4"])
        .write_stdin(bytes("d.safetensors"))
        .output()
        .unwrap();
    assert_code(&piped, 0, "piped");
    assert!(piped.stdout == one);
    // A recipe that says the same does the same.
    let recipe = "[[ops]]\nop = \"rotate\"\ndegrees = [-15, 15]\n[[ops]]\nop = \"random-resized-crop=0.7..1\"\n\
                  [[ops]]\nop = \"noise\"\nsigma = 0.05\n";
    fs::write(dir.path().join("r.toml"), recipe).unwrap();
    ok_in(dir.path(), "augment d.safetensors --recipe r.toml --copies 3 --seed 4 -o d2.safetensors");
    assert!(one == bytes("d2.safetensors"));
}

#[test]
fn classes_are_chosen_and_balanced() {
    let dir = ground();
    let count = |name: &str| {
        let mut counts = [0; 3];
        let end = info(&dir.path().join(name))["splits"]["train"][1].as_u64().unwrap() as usize;
        tensor(&dir.path().join(name), "labels").1[..end].iter().for_each(|&label| counts[usize::from(label)] += 1);
        counts
    };
    assert_eq!(count("d.safetensors"), [30, 24, 6]);
    ok_in(dir.path(), "augment d.safetensors --op noise --balance --keep-original --copies 0 -o a.safetensors");
    assert_eq!(count("a.safetensors"), [30, 30, 30]);
    ok_in(dir.path(), "augment d.safetensors --op noise --balance --copies 2 -o b.safetensors");
    assert_eq!(count("b.safetensors"), [60, 60, 60]);
    ok_in(dir.path(), "augment d.safetensors --op noise --only-class 2 --keep-original --copies 4 -o c.safetensors");
    assert_eq!(count("c.safetensors"), [30, 24, 30]);
    ok_in(dir.path(), "augment d.safetensors --op noise --split test -o e.safetensors");
    let training = |name: &str| tensor(&dir.path().join(name), "inputs").1[..2100].to_vec();
    assert_eq!(training("e.safetensors"), training("d.safetensors"));
}

#[test]
fn sizes_are_said_before_and_previews_are_drawn() {
    let dir = ground();
    let line = format!("augment d.safetensors {OPS} --copies 5 --json");
    let dry: Value =
        serde_json::from_str(&out(&ok_in(dir.path(), &format!("{line} --dry-run -o a.safetensors")))).unwrap();
    assert!(!dir.path().join("a.safetensors").exists());
    ok_in(dir.path(), &format!("{line} -o a.safetensors --report r.json --preview p.png"));
    assert_eq!(dry["bytes"], fs::metadata(dir.path().join("a.safetensors")).unwrap().len());
    assert_eq!((&dry["samples"], &dry["changed"]), (&321.into(), &300.into()));
    let report: Value = serde_json::from_slice(&fs::read(dir.path().join("r.json")).unwrap()).unwrap();
    assert_eq!(report, dry);
    assert!(fs::read(dir.path().join("p.png")).unwrap().starts_with(b"\x89PNG"));
    // What no disk holds is known without being made.
    let line = line.replace("--copies 5", "--copies 70000000");
    let dry: Value =
        serde_json::from_str(&out(&ok_in(dir.path(), &format!("{line} --dry-run -o b.safetensors")))).unwrap();
    assert_eq!(dry["samples"], 4_200_000_021_u64);
    assert!(dry["bytes"].as_u64().unwrap() > 35 * 4_200_000_021);
    let quiet = ok_in(dir.path(), &format!("augment d.safetensors {OPS} --quiet --preview q.png"));
    assert_eq!((out(&quiet), err(&quiet)), (String::new(), String::new()));
    assert!(dir.path().join("q.png").exists());
}

/// Flags that the tests of this file turn.
const FLAGS: [&str; 17] = [
    "balance",
    "copies",
    "dry-run",
    "force",
    "json",
    "keep-original",
    "only-class",
    "op",
    "output",
    "preview",
    "quiet",
    "recipe",
    "report",
    "seed",
    "split",
    "threads",
    "verbose",
];

#[test]
fn no_flag_of_augment_is_without_a_test() {
    assert_eq!(shown_flags("augment"), FLAGS.iter().map(|flag| (*flag).to_owned()).collect());
}

#[test]
fn classes_are_told_to_whoever_wants_to_know() {
    let dir = ground();
    let lines = |more: &str| {
        let told = out(&ok_in(dir.path(), &format!("augment d.safetensors --op noise --dry-run {more}")));
        told.lines().count()
    };
    assert_eq!(lines("--verbose"), lines("") + 3);
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let dir = ground();
    fs::write(dir.path().join("empty.toml"), "").unwrap();
    fs::write(dir.path().join("words.tsv"), "text\tkind\na b c\tx\nb c\ty\nc a b\tx\n").unwrap();
    ok_in(dir.path(), "prepare words.tsv --text text --label kind --step tokenise=words -o w.safetensors --quiet");
    fs::write(dir.path().join("numbers.csv"), "a,b,y\n1,2,3\n4,5,6\n7,9,8\n").unwrap();
    ok_in(dir.path(), "prepare numbers.csv --targets y -o n.safetensors --quiet");
    let refused = |line: &str, code: i32, words: &[&str]| {
        let output = run_in(dir.path(), &format!("augment {line} -o x.safetensors"));
        assert_code(&output, code, line);
        for word in words {
            assert!(err(&output).contains(word), "{line}: {word}\n{}", err(&output));
        }
        assert!(!dir.path().join("x.safetensors").exists());
    };
    refused("d.safetensors", 2, &["no operation", "--op"]);
    refused("d.safetensors --op rotat=15", 2, &["`rotat`", "did you mean `rotate`"]);
    refused("d.safetensors --op rotate=1000", 2, &["1000", "-360 to 360"]);
    refused("d.safetensors --op rotate,angle=3", 2, &["angle"]);
    refused("d.safetensors --op saturation", 2, &["`saturation`", "red, green and blue", "7x5x1"]);
    refused("w.safetensors --op rotate", 2, &["`rotate` is for pictures", "tokens"]);
    refused("d.safetensors --recipe empty.toml", 1, &["[[ops]]"]);
    refused("d.safetensors --op noise --only-class 7", 2, &["no class `7`", "0, 1, 2"]);
    refused("d.safetensors --op noise --split tst", 1, &["did you mean `test`"]);
    refused("d.safetensors --op noise --copies 80000000", 2, &["4,294,967,295", "fewer --copies"]);
    refused("d.safetensors --op mixup --op cutmix", 2, &["two operations of the recipe", "one-of"]);
    refused("d.safetensors --op mixup=-1", 2, &["alpha is -1", "0.001 to 1000"]);
    refused("w.safetensors --op mixup", 2, &["`mixup` is for pictures, series and rows of numbers", "tokens"]);
    refused("n.safetensors --op mixup", 2, &["there are no classes"]);
    refused("d.safetensors --op rand-augment=31", 2, &["magnitude is 31", "0 to 30"]);
    refused("d.safetensors --op noise,p=1.5", 2, &["0 to 1"]);
    let exists = run_in(dir.path(), "augment d.safetensors --op noise -o w.safetensors");
    assert_code(&exists, 1, "exists");
    ok_in(dir.path(), "augment d.safetensors --op noise -o w.safetensors --force");
    let same = run_in(dir.path(), "augment d.safetensors --op noise -o d.safetensors --force");
    assert_code(&same, 2, "same");
}

#[test]
fn training_changes_every_epoch_and_neither_threads_nor_a_stop_change_a_byte() {
    let dir = ground();
    let bytes = |name: &str| fs::read(dir.path().join(name)).unwrap();
    let train = "train --model mlp --data d.safetensors --epochs 3 --batch 8 --quiet --augment-op rotate=±15 \
                 --augment-op noise=0.1";
    ok_in(dir.path(), &format!("{train} --threads 1 -o a.safetensors"));
    ok_in(dir.path(), &format!("{train} --threads 3 -o b.safetensors"));
    assert!(bytes("a.safetensors") == bytes("b.safetensors"));
    ok_in(dir.path(), "train --model mlp --data d.safetensors --epochs 3 --batch 8 --quiet -o plain.safetensors");
    assert!(bytes("a.safetensors") != bytes("plain.safetensors"));
    // One epoch on the fly is one epoch on copies that were made before: the first round of the same seed.
    ok_in(dir.path(), "augment d.safetensors --op rotate=±15 --op noise=0.1 -o copies.safetensors");
    let short = "train --model mlp --epochs 1 --batch 8 --quiet";
    ok_in(dir.path(), &format!("{short} --data copies.safetensors -o offline.safetensors"));
    ok_in(
        dir.path(),
        &format!("{short} --data d.safetensors --augment-op rotate=±15 --augment-op noise=0.1 -o fly.safetensors"),
    );
    let weights = |name: &str| weights(&dir.path().join(name));
    assert!(weights("offline.safetensors") == weights("fly.safetensors"));
    // A run that is killed goes on to the same bytes, and only with the same recipe.
    let train = train.replace("--epochs 3", "--epochs 400");
    start_and_kill(dir.path(), &train);
    let other = run_in(dir.path(), &format!("{} -o c.safetensors --resume", train.replace("noise=0.1", "noise=0.2")));
    assert_code(&other, 2, "another recipe");
    assert!(err(&other).contains("sigma") || err(&other).contains("augment"), "{}", err(&other));
    ok_in(dir.path(), &format!("{train} -o c.safetensors --resume"));
    ok_in(dir.path(), &format!("{train} -o whole.safetensors"));
    assert!(bytes("c.safetensors") == bytes("whole.safetensors"));
}

/// The weights of a checkpoint, by name.
fn weights(path: &Path) -> Vec<(String, Vec<u8>)> {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut all: Vec<(String, Vec<u8>)> =
        file.tensors().into_iter().map(|(name, tensor)| (name, tensor.data().to_vec())).collect();
    all.sort();
    all
}

/// Trains to `c.safetensors`, and ends the run when its first state is saved.
fn start_and_kill(dir: &Path, train: &str) {
    let mut run = std::process::Command::new(DLOPT)
        .args(train.split_whitespace())
        .args(["--save-every", "1", "-o", "c.safetensors"])
        .current_dir(dir)
        .spawn()
        .unwrap();
    let state = dir.join("c.safetensors.dlopt-training/state.safetensors");
    while !state.exists() {
        assert!(run.try_wait().unwrap().is_none(), "ended before its state was saved");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    run.kill().unwrap();
    run.wait().unwrap();
}

#[test]
fn mixed_samples_train_to_the_same_bytes_at_any_thread_count_and_after_a_stop() {
    let dir = ground();
    let bytes = |name: &str| fs::read(dir.path().join(name)).unwrap();
    let recipe = "[[ops]]\nop = \"rotate\"\n[[ops]]\none-of = [{ op = \"mixup=0.4\" }, { op = \"cutmix\" }]\np = 0.8\n";
    fs::write(dir.path().join("mix.toml"), recipe).unwrap();
    let train = "train --model mlp --data d.safetensors --epochs 3 --batch 8 --quiet --augment mix.toml";
    ok_in(dir.path(), &format!("{train} --threads 1 -o a.safetensors"));
    ok_in(dir.path(), &format!("{train} --threads 3 -o b.safetensors"));
    assert!(bytes("a.safetensors") == bytes("b.safetensors"));
    ok_in(dir.path(), &format!("{train} --seed 5 -o other.safetensors"));
    assert!(bytes("a.safetensors") != bytes("other.safetensors"));
    let train = train.replace("--epochs 3", "--epochs 400");
    start_and_kill(dir.path(), &train);
    ok_in(dir.path(), &format!("{train} -o c.safetensors --resume"));
    ok_in(dir.path(), &format!("{train} -o whole.safetensors"));
    assert!(bytes("c.safetensors") == bytes("whole.safetensors"));
}

#[test]
fn mixed_copies_hold_shares_of_classes_and_train_as_on_the_fly() {
    let dir = ground();
    let path = |name: &str| dir.path().join(name);
    let mix = "--op rotate --op mixup=1 --op noise=0.02";
    ok_in(dir.path(), &format!("augment d.safetensors {mix} --threads 1 -o m.safetensors --preview m.png"));
    ok_in(dir.path(), &format!("augment d.safetensors {mix} --threads 3 -o n.safetensors"));
    assert!(fs::read(path("m.safetensors")).unwrap() == fs::read(path("n.safetensors")).unwrap());
    assert!(path("m.png").exists());
    let rows = |name: &str| {
        let (shape, bytes) = tensor(&path(name), "shares");
        let shares: Vec<f32> = bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
        assert_eq!(shape, [81, 3]);
        shares.chunks(3).map(<[f32]>::to_vec).collect::<Vec<_>>()
    };
    let (own, before) = (tensor(&path("m.safetensors"), "labels").1, tensor(&path("d.safetensors"), "labels").1);
    let (mut mixed, mut moved) = (0, 0);
    for (sample, shares) in rows("m.safetensors").iter().enumerate() {
        assert!((shares.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{shares:?}");
        let largest = shares.iter().fold(0.0, |most: f32, share| most.max(*share));
        assert_eq!(shares[usize::from(own[sample])], largest);
        assert!(sample < 60 || largest == 1.0, "only the training split is mixed");
        mixed += usize::from(largest < 1.0);
        moved += usize::from(own[sample] != before[sample]);
    }
    assert!(mixed > 20 && moved > 5, "{mixed} {moved}");
    let train = "train --model mlp --epochs 1 --batch 8 --quiet";
    ok_in(dir.path(), &format!("{train} --data m.safetensors -o offline.safetensors"));
    let ops = mix.replace("--op", "--augment-op");
    ok_in(dir.path(), &format!("{train} --data d.safetensors {ops} -o fly.safetensors"));
    assert!(weights(&path("offline.safetensors")) == weights(&path("fly.safetensors")));
    ok_in(dir.path(), &format!("{train} --data d.safetensors -o plain.safetensors"));
    assert!(weights(&path("plain.safetensors")) != weights(&path("fly.safetensors")));
    ok_in(dir.path(), "eval offline.safetensors --data m.safetensors --quiet");
    // Shares go with their samples, and mix further.
    ok_in(dir.path(), "augment m.safetensors --op invert,p=1 -o i.safetensors");
    assert!(rows("i.safetensors") == rows("m.safetensors"));
    ok_in(dir.path(), "augment m.safetensors --op cutmix --seed 3 -o c.safetensors");
    let again = rows("c.safetensors");
    assert!(again.iter().all(|shares| (shares.iter().sum::<f32>() - 1.0).abs() < 1e-6));
    assert!(again.iter().any(|shares| shares.iter().all(|share| *share > 0.0)), "three classes in one sample");
}
