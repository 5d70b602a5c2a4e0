//! Datasets of texts, made as `prepare` writes them.

use std::path::Path;

use serde_json::{Value, json};

use super::{Tensor, write_file};

fn write(path: &Path, about: &Value, tensors: &[Tensor]) {
    write_file(path, tensors, &[("dlopt.dataset", &about.to_string())]);
}

fn numbers(name: &str, values: &[u32]) -> Tensor {
    Tensor::new(name, "U32", &[values.len()], values.iter().flat_map(|v| v.to_le_bytes()).collect())
}

/// Windows of `time` bytes of a text and the byte after each, in the order of the text; the first `train` are for training.
pub(crate) fn windows(path: &Path, text: &[u8], time: usize, train: usize) {
    let samples = (text.len() - 1) / time;
    let about = json!({
        "schema": 1,
        "elements": { "kind": "tokens", "time": time, "vocabulary": 256 },
        "splits": { "train": [0, train], "test": [train, samples] },
        "raw": { "kind": "text" },
        "steps": [{ "step": "tokenise", "how": "bytes", "lowercase": false, "bounds": false, "end": false }],
        "learns": { "kind": "next-token" },
    });
    let bytes = (0..samples).flat_map(|window| text[window * time..=(window + 1) * time].to_vec()).collect();
    write(path, &about, &[Tensor::new("inputs", "U8", &[samples, time + 1], bytes)]);
}

/// Pairs of a word of the letters `a` to `e` and its names of letters, such as `ab` and `A B`, all right answers of a word;
/// the first `train` are for training.
pub(crate) fn pairs(path: &Path, pairs: &[(String, Vec<String>)], train: usize) {
    let letters = ["<pad>", "<unk>", "</s>", "a", "b", "c", "d", "e"];
    let names = ["<pad>", "<unk>", "<s>", "</s>", "A", "B", "C", "D", "E"];
    let number = |all: &[&str], symbol: &str| all.iter().position(|own| *own == symbol).unwrap() as u8;
    let row = |mut tokens: Vec<u8>, end: u8, time: usize| {
        tokens.push(end);
        let length = tokens.len() as u32;
        tokens.resize(time, 0);
        (tokens, length)
    };
    let samples = pairs.len();
    let (read, said) = (7, 8);
    let (mut inputs, mut lengths) = (Vec::new(), Vec::new());
    let (mut sequences, mut sequence_lengths) = (Vec::new(), Vec::new());
    let (mut references, mut reference_lengths, mut of) = (Vec::new(), Vec::new(), Vec::new());
    for (sample, (word, answers)) in pairs.iter().enumerate() {
        let (tokens, length) = row(word.chars().map(|c| number(&letters, &c.to_string())).collect(), 2, read);
        inputs.extend(tokens);
        lengths.push(length);
        for (place, answer) in answers.iter().enumerate() {
            let (tokens, length) = row(answer.split(' ').map(|name| number(&names, name)).collect(), 3, said);
            if place == 0 {
                sequences.extend(tokens);
                sequence_lengths.push(length);
            } else {
                references.extend(tokens);
                reference_lengths.push(length);
                of.push(sample as u32);
            }
        }
    }
    let about = json!({
        "schema": 1,
        "elements": { "kind": "tokens", "time": read, "vocabulary": letters.len() },
        "splits": { "train": [0, train], "test": [train, samples] },
        "raw": { "kind": "text" },
        "steps": [{ "step": "tokenise", "how": "chars", "lowercase": true, "bounds": false, "end": true, "symbols": letters }],
        "sequence_steps": [
            { "step": "tokenise", "how": "symbols", "lowercase": false, "bounds": true, "end": false, "symbols": names },
        ],
        "learns": { "kind": "sequence", "time": said, "vocabulary": names.len(), "start": 2, "end": 3 },
    });
    let mut tensors = vec![
        Tensor::new("inputs", "U8", &[samples, read], inputs),
        numbers("lengths", &lengths),
        Tensor::new("sequences", "U8", &[samples, said], sequences),
        numbers("sequence_lengths", &sequence_lengths),
    ];
    if !of.is_empty() {
        tensors.push(Tensor::new("references", "U8", &[of.len(), said], references));
        tensors.extend([numbers("reference_lengths", &reference_lengths), numbers("reference_samples", &of)]);
    }
    write(path, &about, &tensors);
}

/// Words of one to six letters and the names of their letters; every third word may also be said from the back.
pub(crate) fn spelled(path: &Path, count: usize, train: usize) {
    let mut random = super::Random::new(11);
    let all: Vec<(String, Vec<String>)> = (0..count)
        .map(|at| {
            let length = 1 + random.bits() % 6;
            let word: String = (0..length).map(|_| char::from(b'a' + (random.bits() % 5) as u8)).collect();
            let spell = |word: &str| word.to_uppercase().chars().map(String::from).collect::<Vec<_>>();
            let mut answers = vec![spell(&word).join(" ")];
            if at % 3 == 0 {
                let mut back = spell(&word);
                back.reverse();
                answers.push(back.join(" "));
            }
            (word, answers)
        })
        .collect();
    pairs(path, &all, train);
}
