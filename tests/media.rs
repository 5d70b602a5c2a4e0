//! `prepare` on folders of pictures, sounds and texts by class, on CIFAR, and on what is wrong with such files.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::*;

struct Ground(tempfile::TempDir);

impl Ground {
    fn new() -> Self {
        Self(temp_dir())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Prepares, and gives the file and what it says about itself.
    fn ok(&self, line: &str) -> (Stored, Value) {
        ok_in(self.0.path(), &format!("prepare {line} -o data.safetensors --force --quiet"));
        let stored = read_file(&self.path("data.safetensors"));
        let about = serde_json::from_str(stored.metadata("dlopt.dataset").unwrap()).unwrap();
        (stored, about)
    }

    /// What standard error says when `line` is refused. Nothing may be left behind.
    fn refused(&self, line: &str, code: i32) -> String {
        let before = names_in(self.0.path());
        let done = run_in(self.0.path(), &format!("prepare {line} -o refused.safetensors"));
        assert_code(&done, code, line);
        assert_eq!(names_in(self.0.path()), before, "{line} left something behind");
        assert_eq!(err(&done).matches("error:").count(), 1, "{}", err(&done));
        err(&done)
    }
}

/// A WAV file of 16 bits.
fn wav(rate: u32, samples: &[i16]) -> Vec<u8> {
    let data = samples.len() as u32 * 2;
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + data).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    bytes.extend(rate.to_le_bytes());
    bytes.extend((rate * 2).to_le_bytes());
    bytes.extend(b"\x02\0\x10\0data");
    bytes.extend(data.to_le_bytes());
    samples.iter().for_each(|sample| bytes.extend(sample.to_le_bytes()));
    bytes
}

/// A tone of so many samples at 8,000 a second.
fn tone(hertz: f32, samples: usize) -> Vec<u8> {
    let wave = |i: usize| (12_000.0 * (std::f32::consts::TAU * hertz * i as f32 / 8000.0).sin()) as i16;
    wav(8000, &(0..samples).map(wave).collect::<Vec<_>>())
}

/// Two classes of tones by four voices, `CLASS/VOICE_number.wav`.
fn tones(g: &Ground) {
    for (class, hertz) in [("high", 1500.0), ("low", 300.0)] {
        for (voice, factor) in [("ann", 1.0), ("bob", 1.1), ("cid", 0.9), ("dee", 1.2)] {
            for take in 0..3 {
                g.write(&format!("tones/{class}/{voice}_{take}.wav"), &tone(hertz * factor, 1200 + 100 * take));
            }
        }
    }
}

#[test]
fn sounds_are_stored_as_waves_with_their_lengths() {
    let g = Ground::new();
    tones(&g);
    let (stored, about) = g.ok("tones --standardise none");
    assert_eq!(about["elements"], json!({ "kind": "series", "time": 1400, "features": 1 }));
    assert_eq!((&about["classes"], &about["raw"]), (&json!(["high", "low"]), &json!({ "kind": "sound" })));
    assert_eq!(about["sources"][0]["name"], "tones (24 files)");
    let inputs = stored.get("inputs").values();
    let raw = fs::read(g.path("tones/high/ann_0.wav")).unwrap();
    let first = |i: usize| f32::from(i16::from_le_bytes([raw[44 + 2 * i], raw[45 + 2 * i]])) / 32768.0;
    assert!((0..1200).all(|i| inputs[i] == first(i)) && inputs[1200..1400].iter().all(|x| *x == 0.0));
    assert_eq!(stored.get("lengths").bytes[..4], 1200_u32.to_le_bytes());
    let told = run_in(g.0.path(), "prepare tones -o waves.safetensors");
    assert!(err(&told).contains("stored as waves") && err(&told).contains("--step log-mel"), "{}", err(&told));
}

#[test]
fn sounds_of_every_format_are_read_and_learned_from() {
    let g = Ground::new();
    tones(&g);
    for name in ["tone.flac", "tone.ogg", "tone.mp3"] {
        g.write(&format!("tones/low/{name}"), &fs::read(fixture(&format!("sounds/{name}"))).unwrap());
    }
    g.write("tones/low/notes.txt", b"three more");
    let line = "prepare tones --step log-mel=16,frame=256,hop=128 --split test=0.3 -o data.safetensors";
    let done = ok_in(g.0.path(), line);
    assert!(err(&done).contains("tones: 1 other files were passed over"), "{}", err(&done));
    ok_in(g.0.path(), "train --model gru --data data.safetensors --epochs 8 -o model.safetensors --quiet");
    let report = json_out(&ok_in(g.0.path(), "eval model.safetensors --data data.safetensors --json"));
    let accuracy = report["model"]["metrics"]["classification"]["accuracy"]["value"].as_f64().unwrap();
    assert!(accuracy > 0.9, "{accuracy}");
    let predicted = out(&ok_in(g.0.path(), "predict model.safetensors tones/high/ann_0.wav tones/low/tone.flac"));
    assert!(predicted.contains("ann_0.wav\thigh") && predicted.contains("tone.flac\tlow"), "{predicted}");
    let (_, spectra) = g.ok("tones --step duration=0.1 --step log-mel=16,frame=256,hop=128 --step picture");
    assert_eq!(spectra["elements"], json!({ "kind": "image", "height": 7, "width": 16, "channels": 1 }));
    let (_, features) = g.ok("tones --features mfcc");
    assert_eq!(features["elements"]["kind"], "vector");
}

#[test]
fn a_voice_is_in_one_split() {
    let g = Ground::new();
    tones(&g);
    // The pitch tells the voices apart: the same features in two splits would be the same voice.
    let (stored, about) = g.ok("tones --group ^([^_]+)_ --split test=0.25 --seed 3 --standardise none");
    let begin = about["splits"]["test"][0].as_u64().unwrap() as usize;
    assert_eq!(stored.get("inputs").shape[0] - begin, 6);
    let labels = &stored.get("labels").bytes[begin..];
    assert_eq!(labels.iter().filter(|label| **label == 0).count(), 3, "all of one voice: three takes a class");
    assert!(g.refused("tones --group ^(b[a-z]+)_", 1).contains("high/ann_0.wav: its name does not match --group"));
    assert!(g.refused("tones --group [", 2).contains("--group [: no regular expression"));
    assert!(g.refused("tones --group abc", 2).contains("has no brackets"));
    for split in ["train", "test"] {
        g.write(&format!("given/{split}/low/ann_1.wav"), &tone(300.0, 800));
    }
    let said = g.refused("given --group ^([^_]+)_", 1);
    assert!(said.contains("`ann` is in `test` and in `train`"), "{said}");
}

#[test]
fn sounds_that_do_not_fit_are_named() {
    let g = Ground::new();
    tones(&g);
    let whole = tone(300.0, 900);
    g.write("tones/low/zed_0.wav", &whole[..1000]);
    let said = g.refused("tones", 1);
    assert!(said.contains("low/zed_0.wav: a sound that was cut short: it ends after 478 of 900 samples"), "{said}");
    assert!(said.contains("unreadable=drop"), "{said}");
    let done = ok_in(g.0.path(), "prepare tones --clean unreadable=drop -o data.safetensors --force");
    assert!(out(&done).contains("unreadable: 1 (drop)"), "{}", out(&done));
    assert_eq!(read_file(&g.path("data.safetensors")).get("inputs").shape[0], 24);
    g.write("tones/low/zed_0.wav", &wav(16_000, &[0; 900]));
    let said = g.refused("tones", 1);
    assert!(said.contains("zed_0.wav: has 16000 samples a second") && said.contains("--step resample=8000"), "{said}");
    assert_eq!(g.ok("tones --step resample=8000").0.get("inputs").shape[0], 25);
    g.write("tones/low/zed_0.wav", b"no sound at all, but long enough to be looked at");
    assert!(g.refused("tones", 1).contains("zed_0.wav: is no sound that dlopt reads"));
    fs::remove_file(g.path("tones/low/zed_0.wav")).unwrap();
    fs::create_dir(g.path("tones/mid")).unwrap();
    assert!(g.refused("tones", 1).contains("mid: there are no sounds of this class"));
    g.write("tones/mid/a.png", b"");
    g.write("tones/mid/b.png", b"");
    g.write("tones/mid/c.png", b"");
    assert!(g.refused("tones", 1).contains("holds 3 pictures and 24 sounds"));
}

#[test]
fn texts_in_folders_become_tokens() {
    let g = Ground::new();
    for (class, words) in [("cat", "meow purr"), ("dog", "bark growl")] {
        for place in 0..6 {
            g.write(&format!("texts/{class}/{place}.txt"), words.repeat(place + 1).as_bytes());
        }
    }
    let (stored, about) = g.ok("texts");
    assert_eq!((&about["raw"], &about["classes"]), (&json!({ "kind": "text" }), &json!(["cat", "dog"])));
    assert_eq!(stored.get("inputs").bytes[..9], *b"meow purr");
    assert_eq!(g.ok("texts --features bag-of-words").1["elements"]["kind"], "vector");
    g.write("texts/dog/9.txt", b"w\xfcrg");
    assert!(g.refused("texts", 1).contains("dog/9.txt: byte 1 is no UTF-8"));
}

#[test]
fn lists_name_files_and_what_they_are() {
    let g = Ground::new();
    tones(&g);
    g.write("tones/list.csv", b"path,voice,class,pitch\nhigh/ann_0.wav,ann,up,1.5\nlow/bob_0.wav,bob,down,0.3\n");
    let (stored, about) = g.ok("tones/list.csv --label class --drop pitch");
    assert_eq!((&about["classes"], stored.get("inputs").shape[0]), (&json!(["down", "up"]), 2));
    assert_eq!(about["sources"][0]["name"], "list.csv (3 files)");
    let (stored, about) = g.ok("tones/list.csv --targets pitch");
    assert_eq!((stored.get("targets").values(), &about["outputs"]), (vec![1.5, 0.3], &json!(["pitch"])));
    assert!(
        g.refused("tones/list.csv --label kind", 2).contains("no column `kind`; there are `path`, `voice`, `class`")
    );
    g.write("tones/list.csv", b"high/ann_0.wav,up\nhigh/none.wav,up\nlow/bob_0.wav,down\n");
    let said = g.refused("tones/list.csv", 1);
    assert!(said.contains("list.csv: line 2: ") && said.contains("high/none.wav: no such file"), "{said}");
    let done = ok_in(g.0.path(), "prepare tones/list.csv --clean unreadable=drop -o data.safetensors --force");
    assert!(out(&done).contains("unreadable: 1 (drop)"), "{}", out(&done));
}

#[test]
fn cifar_is_read_as_its_authors_give_it() {
    let g = Ground::new();
    let records = |labels: &[&[u8]]| -> Vec<u8> {
        let planes = |seed: u64| {
            let mut random = Random::new(seed);
            (0..3072).map(move |_| random.bits() as u8).collect::<Vec<u8>>()
        };
        labels.iter().enumerate().flat_map(|(seed, label)| [label.to_vec(), planes(seed as u64)].concat()).collect()
    };
    let ten: Vec<Vec<u8>> = (0..10).map(|label| vec![label]).collect();
    let ten: Vec<&[u8]> = ten.iter().map(Vec::as_slice).collect();
    for batch in 1..=2 {
        g.write(&format!("ten/data_batch_{batch}.bin"), &records(&ten));
    }
    g.write("ten/test_batch.bin", &records(&[&[7], &[2]]));
    g.write("ten/readme.html", b"<meta content=\"0; url=elsewhere\">\n");
    let names = "airplane automobile bird cat deer dog frog horse ship truck".replace(' ', "\n");
    g.write("ten/batches.meta.txt", format!("{names}\n\n").as_bytes());
    let (stored, about) = g.ok("ten");
    assert_eq!(about["splits"], json!({ "train": [0, 20], "test": [20, 22] }));
    assert_eq!((&about["classes"][3], stored.get("inputs").dtype.as_str()), (&json!("cat"), "U8"));
    assert_eq!(stored.get("inputs").shape, [22, 32, 32, 3]);
    let raw = records(&ten);
    assert_eq!(stored.get("inputs").bytes[..4], [raw[1], raw[1025], raw[2049], raw[2]]);
    assert_eq!(stored.get("labels").bytes[20..], [7, 2]);

    g.write("hundred/train.bin", &records(&[&[0, 9], &[19, 99]]));
    g.write("hundred/test.bin", &records(&[&[3, 50]]));
    let (fine, about) = g.ok("hundred");
    assert_eq!(about["splits"], json!({ "train": [0, 2], "test": [2, 3] }));
    assert_eq!(fine.get("labels").bytes[..3], [9, 99, 50]);
    assert_eq!(g.ok("hundred --label coarse").0.get("labels").bytes[..3], [0, 19, 3]);
    g.write("hundred/test.bin", &records(&[&[3, 50]])[..700]);
    assert!(g.refused("hundred", 1).contains("test.bin: record 0 has 700 bytes; wanted 3074"));
    g.write("ten/batches.meta.txt", b"one\ntwo\n");
    assert!(g.refused("ten", 1).contains("batches.meta.txt: names 2 classes; wanted 10"));
}

#[test]
fn nothing_is_left_where_a_folder_is_no_data() {
    let g = Ground::new();
    fs::create_dir_all(g.path("empty/inner")).unwrap();
    assert!(g.refused("empty", 1).contains("no raw data of a known format here"));
    assert!(!Path::new("refused.safetensors").exists());
}
