//! `augment` on series and tokens: lengths and padding, and that threads change no byte.

#![allow(clippy::unwrap_used)]

mod support;

use std::fmt::Write;
use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use support::*;

/// Series of 8 to 20 steps of two features, and texts of 3 to 12 words, in two classes.
fn ground() -> tempfile::TempDir {
    let dir = temp_dir();
    let mut random = Random::new(6);
    let mut below = |bound: u64| (random.bits() % bound) as usize;
    let mut series = "@problemName p\n@timestamps false\n@univariate false\n@dimensions 2\n@equalLength false\n\
                      @classLabel true a b\n@data\n"
        .to_owned();
    let mut texts = "text,label\n".to_owned();
    for sample in 0..40 {
        let class = ["a", "b"][sample % 2];
        let steps = 8 + below(13);
        for _ in 0..2 {
            let values: Vec<String> = (0..steps).map(|_| format!("{}", 1 + below(900))).collect();
            write!(series, "{}:", values.join(",")).unwrap();
        }
        writeln!(series, "{class}").unwrap();
        let count = 3 + below(10);
        let words: Vec<&str> = (0..count).map(|_| ["the", "cat", "sat", "on", "a", "mat"][below(6)]).collect();
        writeln!(texts, "{},{class}", words.join(" ")).unwrap();
    }
    fs::write(dir.path().join("p_TRAIN.ts"), series).unwrap();
    fs::write(dir.path().join("t.csv"), texts).unwrap();
    ok_in(dir.path(), "prepare p_TRAIN.ts -o s.safetensors --quiet");
    ok_in(dir.path(), "prepare t.csv --text text --label label --step tokenise=words -o t.safetensors --quiet");
    dir
}

/// Bytes of the inputs, bytes of a step, and the lengths; what lies behind the lengths is checked to be 0.
fn inputs(path: &Path) -> (Vec<u8>, usize, Vec<usize>) {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (own, lengths) = (file.tensor("inputs").unwrap(), file.tensor("lengths").unwrap());
    let lengths: Vec<usize> =
        lengths.data().chunks_exact(4).map(|x| u32::from_le_bytes(x.try_into().unwrap()) as usize).collect();
    let (samples, time) = (own.shape()[0], own.shape()[1]);
    assert_eq!(samples, lengths.len());
    let step = own.data().len() / samples / time;
    for (sample, &length) in own.data().chunks_exact(time * step).zip(&lengths) {
        assert!((1..=time).contains(&length) && sample[length * step..].iter().all(|&byte| byte == 0));
    }
    (own.data().to_vec(), step, lengths)
}

#[test]
fn lengths_follow_what_is_done_and_padding_stays_zero() {
    let dir = ground();
    let (series, tokens) = (inputs(&dir.path().join("s.safetensors")), inputs(&dir.path().join("t.safetensors")));
    // What is done, and whether there are more steps (1), as many (0) or fewer (-1).
    let all = [
        ("s", "time-stretch=1.5", -1),
        ("s", "time-stretch=0.8", 1),
        ("s", "window-slice=0.7,stretch=false", -1),
        ("s", "window-slice=0.7", 0),
        ("s", "noise=0.3", 0),
        ("s", "jitter", 0),
        ("s", "background-noise", 0),
        ("s", "permutation=5", 0),
        ("s", "time-warp", 0),
        ("s", "spec-augment=,frequency=1", 0),
        ("t", "token-deletion=0.5", -1),
        ("t", "span-crop=0.5", -1),
        ("t", "token-insertion=0.5", 1),
        ("t", "token-swap=0.5", 0),
        ("t", "word-dropout=0.5", 0),
        ("t", "token-mask=0.5", 0),
    ];
    for (data, op, more) in all {
        ok_in(dir.path(), &format!("augment {data}.safetensors --op {op} --copies 3 -o o.safetensors --force"));
        let (before, own) = (if data == "s" { &series } else { &tokens }, inputs(&dir.path().join("o.safetensors")));
        assert_eq!((own.1, own.2.len()), (before.1, 3 * before.2.len()), "{op}");
        let sum = |lengths: &[usize]| lengths.iter().sum::<usize>();
        let grown = sum(&own.2).cmp(&(3 * sum(&before.2))) as i32;
        assert_eq!(grown, more, "{op}");
        let first = before.0.len() / before.2.len();
        assert!(
            own.0.chunks(3 * first).zip(before.0.chunks(first)).any(|(own, before)| &own[..first] != before),
            "{op}"
        );
    }
}

#[test]
fn threads_change_no_byte() {
    let dir = ground();
    for (data, ops) in [
        ("s", "--op jitter --op time-stretch=0.7..1.4 --op window-warp --op background-noise --op time-mask"),
        ("t", "--op token-deletion --op token-insertion --op token-swap --op word-dropout --op span-crop"),
    ] {
        let make = |more: &str| {
            ok_in(dir.path(), &format!("augment {data}.safetensors {ops} --copies 5 {more} -o o.safetensors --force"));
            fs::read(dir.path().join("o.safetensors")).unwrap()
        };
        let one = make("--threads 1 --seed 7");
        assert!(one == make("--threads 3 --seed 7"));
        assert!(one != make("--threads 3 --seed 8"));
    }
}

#[test]
fn operations_for_other_data_are_refused() {
    let dir = ground();
    for (command, message) in [
        (
            "augment s.safetensors --op token-swap -o o.safetensors",
            "`token-swap` is for tokens, and the samples are series",
        ),
        ("augment t.safetensors --op jitter -o o.safetensors", "`jitter` is for series, and the samples are up to"),
        ("augment t.safetensors --op word-dropout=0.1,token=99 -o o.safetensors", "token is token 99; wanted 0 to"),
        ("augment s.safetensors --op time-mask=2 -o o.safetensors", "share is 2; wanted 0 to 1 of the steps"),
    ] {
        let output = dlopt().current_dir(dir.path()).args(command.split(' ')).output().unwrap();
        assert_code(&output, 2, command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(message), "{said}");
    }
}
