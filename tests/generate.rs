//! `generate`: the same text for the same seed, every flag, and what it refuses.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use support::*;

const NET: &str = "layers = [{ type = \"embedding\", size = 8 }, { type = \"lstm\", hidden = 24, return_sequences = true }, { type = \"dense\", units = \"classes\" }]";

/// `m.safetensors`, a small network that learned a text of bytes.
fn ground() -> tempfile::TempDir {
    let dir = temp_dir();
    let at = dir.path();
    let text = "so it goes on. ".repeat(200);
    texts::windows(&at.join("text.safetensors"), text.as_bytes(), 40, 60);
    fs::write(at.join("net.toml"), NET).unwrap();
    let line =
        "train --model net.toml --data text.safetensors --epochs 60 --batch 8 --learning-rate 0.01 -q -o m.safetensors";
    ok_in(at, line);
    dir
}

fn json(dir: &Path, more: &str) -> Value {
    let args = ["generate", "m.safetensors", "--prompt", "so it ", "--json"];
    let output = std::process::Command::new(DLOPT).args(args).args(more.split_whitespace()).current_dir(dir).output();
    let output = output.unwrap();
    assert_code(&output, 0, more);
    json_out(&output)
}

fn refused(dir: &Path, args: &[&str], code: i32, said: &str) {
    let done = std::process::Command::new(DLOPT).args(args).current_dir(dir).output().unwrap();
    assert_code(&done, code, said);
    assert!(err(&done).contains(said), "wanted {said}\n{}", err(&done));
}

#[test]
fn a_network_goes_on_with_what_it_learned() {
    let dir = ground();
    let dir = dir.path();
    let greedy = json(dir, "--temperature 0 --length 40");
    assert_eq!(greedy["tokens"].as_array().unwrap().len(), 40);
    let said = greedy["text"].as_str().unwrap();
    assert_eq!(said, "goes on. so it goes on. so it goes on. s");
    assert_eq!((&greedy["prompt"], &greedy["ended"]), (&"so it ".into(), &false.into()));
    // What streams by is the prompt and the same text.
    let args = ["generate", "m.safetensors", "--prompt", "so it ", "--temperature", "0", "--length", "40"];
    let streamed = std::process::Command::new(DLOPT).args(args).current_dir(dir).output().unwrap();
    assert_eq!(out(&streamed), format!("so it {said}\n"));
    // A prompt that is read in several pieces.
    let prompt = "so it goes on. ".repeat(40);
    let args = ["generate", "m.safetensors", "--prompt", &prompt, "--temperature", "0", "--length", "15"];
    let long = std::process::Command::new(DLOPT).args(args).current_dir(dir).output().unwrap();
    assert_eq!(out(&long), prompt + "so it goes on. \n");
    // Compressed networks generate too.
    ok_in(dir, "quantize m.safetensors --scheme w8a16 --group channel -o q.safetensors -q");
    let quantized = ok_in(dir, "generate q.safetensors --prompt goes --temperature 0 --length 10");
    assert_eq!(out(&quantized), "goes on. so it\n");
}

#[test]
fn every_flag_of_generate_changes_something() {
    let dir = ground();
    let dir = dir.path();
    let text = |more: &str| json(dir, more)["text"].as_str().unwrap().to_owned();
    let plain = text("--temperature 2");
    assert_eq!(plain, text("--temperature 2"));
    assert_eq!(plain, text("--temperature 2 --seed 0 --threads 1"));
    assert_eq!(plain, text("--temperature 2 --threads 3"));
    for more in ["--seed 1", "--top-k 2", "--top-p 0.3", "--length 20"] {
        assert_ne!(plain, text(&format!("--temperature 2 {more}")), "{more}");
    }
    assert_ne!(plain, text("--temperature 0.5"));
    assert_eq!(text("--top-k 1"), text("--temperature 0"));
    assert_eq!(json(dir, "--length 0")["tokens"].as_array().unwrap().len(), 0);
    ok_in(dir, "quantize m.safetensors --scheme w8a16 --group channel -o q.safetensors -q");
    let told =
        |more: &str| ok_in(dir, &format!("generate q.safetensors --prompt so --temperature 2 --length 60 {more}"));
    assert!(err(&told("--kernels explain")).contains("weights in memory") && err(&told("")).is_empty());
    // Rounded states change what is drawn sooner or later.
    let long = |more: &str| {
        out(&ok_in(dir, &format!("generate q.safetensors --prompt so --temperature 2 --length 2000 {more}")))
    };
    assert_ne!(long(""), long("--activations int8"));
    let portable = told("--kernels explain --instructions portable");
    assert!(err(&portable).contains("threads, portable") && out(&portable) == out(&told("")), "{}", err(&portable));
    let flags = [
        "prompt",
        "length",
        "temperature",
        "top-k",
        "top-p",
        "seed",
        "json",
        "kernels",
        "activations",
        "instructions",
        "threads",
    ];
    assert_eq!(shown_flags("generate"), flags.map(str::to_owned).into_iter().collect::<BTreeSet<_>>());
}

#[test]
fn bytes_of_a_character_are_told_together() {
    let dir = temp_dir();
    let dir = dir.path();
    texts::windows(&dir.join("text.safetensors"), "äöü€𝄞".repeat(240).as_bytes(), 40, 60);
    fs::write(dir.join("net.toml"), NET).unwrap();
    ok_in(
        dir,
        "train --model net.toml --data text.safetensors --epochs 200 --batch 8 --learning-rate 0.01 -q -o m.safetensors",
    );
    let run = |length: &str| {
        let args = ["generate", "m.safetensors", "--prompt", "äö", "--temperature", "0", "--length", length];
        out(&std::process::Command::new(DLOPT).args(args).current_dir(dir).output().unwrap())
    };
    assert_eq!(run("9"), "äöü€𝄞\n");
    // Cut in the midst of the last one.
    assert_eq!(run("7"), "äöü€\u{fffd}\n");
}

#[test]
fn texts_of_words_are_read_evaluated_and_gone_on_with() {
    let dir = temp_dir();
    let dir = dir.path();
    fs::write(dir.join("corpus.txt"), "the cat sat on a mat, and a dog ran. ".repeat(60)).unwrap();
    fs::write(dir.join("net.toml"), NET).unwrap();
    ok_in(dir, "prepare corpus.txt --window 23 --step tokenise=words --split test=0.2 -q -o text.safetensors");
    ok_in(
        dir,
        "train --model net.toml --data text.safetensors --epochs 80 --batch 4 --learning-rate 0.02 -q -o m.safetensors",
    );
    let eval = json_out(&ok_in(dir, "eval m.safetensors --data text.safetensors --json"));
    let found = &eval["model"]["metrics"]["tokens"];
    assert!(found["accuracy"]["value"].as_f64().unwrap() > 0.9 && found["texts"] == 1, "{found}");
    assert!(found.get("bits_per_byte").is_none());
    let said = out(&ok_in(dir, "generate m.safetensors --prompt cat --temperature 0 --length 5"));
    assert_eq!(said, "cat sat on a mat ,\n");
}

#[test]
fn bad_requests_are_one_clear_error() {
    let dir = ground();
    let dir = dir.path();
    let with = |more: &[&'static str]| [&["generate", "m.safetensors"], more].concat();
    refused(dir, &with(&[]), 2, "--prompt");
    refused(dir, &with(&["--prompt", ""]), 2, "the prompt is empty");
    refused(dir, &with(&["--prompt", "a", "--temperature=-1"]), 2, "the temperature is -1");
    refused(dir, &with(&["--prompt", "a", "--top-p", "0"]), 2, "top-p is 0");
    refused(dir, &with(&["--prompt", "a", "--top-k", "0"]), 2, "top-k is 0");
    texts::spelled(&dir.join("words.safetensors"), 60, 50);
    ok_in(dir, "train --model seq2seq --data words.safetensors --epochs 0 -q -o words-m.safetensors");
    refused(dir, &["generate", "words-m.safetensors", "--prompt", "a"], 2, "does not say which token comes next");
    // Reads from the end too.
    fs::write(dir.join("both.toml"), NET.replace("hidden = 24", "hidden = 24, bidirectional = true")).unwrap();
    ok_in(dir, "train --model both.toml --data text.safetensors --epochs 0 -q -o both.safetensors");
    refused(dir, &["generate", "both.safetensors", "--prompt", "a"], 2, "reads from the end too");
}
