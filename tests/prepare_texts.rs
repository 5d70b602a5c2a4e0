//! `prepare` of texts: labelled, parallel, dictionaries, JSON Lines, and plain text to go on with.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::*;

/// Prepares in a folder, and gives the file and what it says about itself.
fn prepared(dir: &Path, line: &str) -> (Stored, Value) {
    ok_in(dir, &format!("prepare {line} -o data.safetensors --force --quiet"));
    let stored = read_file(&dir.join("data.safetensors"));
    let about = serde_json::from_str(stored.metadata("dlopt.dataset").unwrap()).unwrap();
    (stored, about)
}

fn refused(dir: &Path, line: &str, code: i32) -> String {
    let before = names_in(dir);
    let done = run_in(dir, &format!("prepare {line} -o refused.safetensors"));
    assert_code(&done, code, line);
    assert_eq!(names_in(dir), before, "{line} left something behind");
    err(&done)
}

fn rows(stored: &Stored, name: &str) -> Vec<Vec<u8>> {
    let tensor = stored.get(name);
    tensor.bytes.chunks(tensor.bytes.len() / tensor.shape[0]).map(<[u8]>::to_vec).collect()
}

fn with(files: &[(&str, &[u8])]) -> (tempfile::TempDir, PathBuf) {
    let dir = temp_dir();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    let path = dir.path().to_owned();
    (dir, path)
}

#[test]
fn a_dictionary_keeps_all_pronunciations_of_a_word_together() {
    let (_dir, path) =
        with(&[("small.dict", b"live L AY1 V\nlive(2) L IH1 V\nto T UW1\nto(2) T AH0\nto(3) T IH0\nvote V OW1 T\n")]);
    let (stored, about) = prepared(&path, "small.dict");
    let symbols = json!(["<pad>", "<unk>", "<s>", "</s>", "T", "V", "L", "AH0", "AY1", "IH0", "IH1", "OW1", "UW1"]);
    assert_eq!(about["sequence_steps"][0]["symbols"], symbols);
    assert_eq!(about["learns"], json!({ "kind": "sequence", "time": 4, "vocabulary": 13, "start": 2, "end": 3 }));
    assert_eq!(rows(&stored, "sequences"), [[6, 8, 5, 3], [4, 12, 3, 0], [5, 11, 4, 3]]);
    assert_eq!(rows(&stored, "references"), [[6, 10, 5, 3], [4, 7, 3, 0], [4, 9, 3, 0]]);
    assert_eq!(stored.get("reference_samples").bytes, [0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
    let (half, about) = prepared(&path, "small.dict --split test=0.34 --seed 2");
    assert_eq!(about["splits"]["test"], json!([2, 3]));
    assert_eq!(half.get("inputs").shape, [3, 4]);
}

#[test]
fn parallel_files_are_paired_line_by_line_in_each_split() {
    let (_dir, path) = with(&[
        ("train.en", b"one\ntwo\n"),
        ("train.de", "eins\nzwei\n".as_bytes()),
        ("test.en", b"five\n"),
        ("test.de", "fünf\n".as_bytes()),
        ("short.de", b"eins\n"),
    ]);
    let line = "--format parallel --train train.en train.de --test test.en test.de --step tokenise=chars \
                --target-step tokenise=chars,bounds=true";
    let (stored, about) = prepared(&path, line);
    assert_eq!(about["splits"], json!({ "train": [0, 2], "test": [2, 3] }));
    // What training texts lack is unknown: f and v going in, f, ü and u coming out.
    assert_eq!(rows(&stored, "inputs")[2], [1, 1, 1, 3]);
    let sequences = rows(&stored, "sequences");
    assert_eq!(sequences[2].iter().filter(|token| **token == 1).count(), 3);
    let said = refused(&path, "--format parallel --train train.en short.de", 1);
    assert!(said.contains("short.de ends after 1 lines, and train.en goes on"), "{said}");
    assert!(refused(&path, "--format parallel train.en", 2).contains("wanted two"));
}

#[test]
fn json_lines_hold_texts_or_numbers() {
    let texts = b"{\"text\": \"good one\", \"label\": \"pos\"}\n{\"text\": \"bad\", \"label\": \"neg\"}\n";
    let numbers = b"{\"x\": [1, 2], \"y\": 3, \"label\": 0}\n{\"x\": [4, 5], \"y\": 6, \"label\": 1}\n";
    let (_dir, path) = with(&[("texts.jsonl", texts), ("numbers.jsonl", numbers), ("packed", &gzip(numbers))]);
    let (stored, about) = prepared(&path, "texts.jsonl --step tokenise=words,limit=2,lowercase=true");
    assert_eq!(about["classes"], json!(["neg", "pos"]));
    assert_eq!(rows(&stored, "inputs"), [[3, 1], [2, 0]]);
    let (stored, about) = prepared(&path, "numbers.jsonl --standardise none");
    assert_eq!(about["elements"]["names"], json!(["x.0", "x.1", "y"]));
    assert_eq!(stored.get("inputs").values(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let (again, _) = prepared(&path, "packed --standardise none");
    assert_eq!(again.get("inputs").bytes, stored.get("inputs").bytes);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

#[test]
fn plain_text_is_split_in_its_order() {
    let text: Vec<u8> = (0..1000_u32).map(|i| b'a' + (i % 26) as u8).collect();
    let (_dir, path) = with(&[("a.txt", &text)]);
    let (stored, about) = prepared(&path, "a.txt --window 10 --split test=0.2,validation=0.1");
    assert_eq!(about["splits"], json!({ "train": [0, 69], "validation": [69, 79], "test": [79, 99] }));
    let all = rows(&stored, "inputs");
    assert!(all.windows(2).all(|pair| pair[0][10] == pair[1][0]));
    assert_eq!(all[98], text[980..991]);
    for how in ["chars", "words", "symbols"] {
        fs::write(path.join("b.txt"), "Où est-il ?\nLà, là-bas.\n".repeat(30)).unwrap();
        let (stored, about) = prepared(&path, &format!("b.txt --window 7 --step tokenise={how}"));
        assert_eq!((&about["learns"]["kind"], stored.get("inputs").shape[1]), (&json!("next-token"), 8), "{how}");
        let all = rows(&stored, "inputs");
        assert!(all.iter().all(|row| row.iter().all(|token| *token >= 2)), "{how}: nothing is unknown");
        assert!(all.windows(2).all(|pair| pair[0][7] == pair[1][0]), "{how}");
    }
}

#[test]
fn texts_are_described_by_features() {
    let (_dir, path) = with(&[("t.tsv", b"pos\tgood good day\nneg\tbad day\npos\tgood\nneg\tbad bad\n")]);
    let (stored, about) = prepared(&path, "t.tsv --text 2 --features bag-of-words --standardise none");
    assert_eq!(about["elements"]["names"], json!(["bag-of-words_bad", "bag-of-words_day", "bag-of-words_good"]));
    assert_eq!(stored.get("inputs").values()[..6], [0.0, 1.0, 2.0, 1.0, 1.0, 0.0]);
}

#[test]
fn the_bytes_are_the_same_on_any_number_of_threads() {
    let rows: String = (0..300).map(|i| format!("{}\tsome words {} and {}\n", i % 4, i * 7 % 50, i % 9)).collect();
    let (_dir, path) = with(&[("t.tsv", rows.as_bytes())]);
    let bytes = |threads: usize| {
        prepared(&path, &format!("t.tsv --text 2 --step tokenise=words --split test=0.2 --threads {threads}"));
        fs::read(path.join("data.safetensors")).unwrap()
    };
    assert!(bytes(1) == bytes(3));
}
