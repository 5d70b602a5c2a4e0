//! Raw data through every reader to a dataset: the first byte is the format, a line of dashes stands between two files.
#![no_main]

use std::sync::atomic::AtomicBool;

use dlopt_checkpoint::NoProgress;
use dlopt_data::{Batch, Dataset, PrepareOptions, ReadOptions, prepare};
use dlopt_fuzz::{file, folder};
use libfuzzer_sys::fuzz_target;

/// Between the bytes of two files.
const NEXT_FILE: &[u8] = b"\n--------\n";

/// The format of an input that begins with `a`, `b` and so on: names of its files, and how they are read.
fn format(letter: u8) -> Option<(&'static [&'static str], ReadOptions)> {
    let plain = ReadOptions { tmp_dir: folder().to_owned(), ..ReadOptions::default() };
    let some = |text: &str| Some(text.to_owned());
    Some(match letter {
        b'a' => (&["rows.csv"], plain),
        b'b' => (&["rows.tsv"], ReadOptions { text: some("1"), label: some("2"), ..plain }),
        b'c' => (&["steps.ts"], plain),
        b'd' => (&["rows.jsonl"], plain),
        b'e' => (&["rows.jsonl"], ReadOptions { text: some("text"), label: some("label"), ..plain }),
        b'f' => (&["words.dict"], plain),
        b'g' => (&["book.txt"], ReadOptions { window: Some(8), ..plain }),
        b'h' => (&["lines.en", "lines.de"], ReadOptions { format: some("parallel"), ..plain }),
        b'i' => (&["train-images-idx3-ubyte", "train-labels-idx1-ubyte"], plain),
        b'j' => (&["data_batch_1.bin"], plain),
        b'k' => (&["arrays.npz"], plain),
        b'l' => (&["arrays.safetensors"], plain),
        b'm' => (&["rows.csv"], ReadOptions { targets: vec!["1".to_owned()], ..plain }),
        b'n' => (&["rows.csv.gz"], plain),
        b'o' => (&["rows.data"], ReadOptions { shape: vec![2, 2], encoding: some("utf-16le"), ..plain }),
        _ => return None,
    })
}

fuzz_target!(|input: &[u8]| {
    let Some((letter, rest)) = input.split_first() else { return };
    let Some((names, read)) = format(*letter) else { return };
    let cut = rest.windows(NEXT_FILE.len()).position(|window| window == NEXT_FILE);
    let parts = match cut {
        Some(at) => [&rest[..at], &rest[at + NEXT_FILE.len()..]],
        None => [rest, &[]],
    };
    let inputs = names.iter().zip(parts).map(|(name, bytes)| (None, file(name, bytes))).collect();
    let options = PrepareOptions { inputs, read, force: true, ..PrepareOptions::default() };
    let output = folder().join("prepared.safetensors");
    if prepare(&options, &output, &NoProgress, &AtomicBool::new(false)).is_ok() {
        let dataset = Dataset::open(&output).expect("what was prepared is a dataset");
        let samples: Vec<usize> = (0..dataset.samples().min(8)).collect();
        dataset.gather(&samples, &mut Batch::default()).expect("what was prepared can be read");
    }
});
