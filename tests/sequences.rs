//! `eval` of networks that put out sequences and of those that say the next token.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::*;

const DECODER: &str =
    "layers = [{ type = \"seq2seq\", embedding = 12, hidden = 24, attention = \"dot\", dropout = 0.0 }]";
const TEXT: &str = "layers = [{ type = \"embedding\", size = 8 }, { type = \"gru\", hidden = 24, return_sequences = true }, { type = \"dense\", units = \"classes\" }]";

fn report(dir: &Path, line: &str) -> Value {
    json_out(&ok_in(dir, &format!("{line} --json")))
}

fn refused(dir: &Path, line: &str, code: i32, said: &str) {
    let done = run_in(dir, line);
    assert_code(&done, code, line);
    assert!(err(&done).contains(said), "{line}\nwanted {said}\n{}", err(&done));
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn spelled_words_are_compared_with_all_right_answers() {
    let dir = temp_dir();
    let dir = dir.path();
    texts::spelled(&dir.join("words.safetensors"), 400, 340);
    fs::write(dir.join("net.toml"), DECODER).unwrap();
    let train = "train --model net.toml --data words.safetensors --batch 16 --learning-rate 0.01 -q";
    ok_in(dir, &format!("{train} --epochs 5 -o few.safetensors"));
    ok_in(dir, &format!("{train} --epochs 25 -o m.safetensors"));
    let eval = "eval m.safetensors --data words.safetensors";
    let all = report(dir, eval);
    let found = &all["model"]["metrics"]["sequences"];
    let (tokens, whole) = (number(&found["token_error_rate"]["value"]), number(&found["sequence_error_rate"]["value"]));
    assert!(tokens < 0.2 && whole < 0.35, "{found}");
    assert!(number(&found["bleu"]["value"]) > 60.0 && number(&found["chrf"]["value"]) > 60.0, "{found}");
    assert!(number(&found["taught"]["accuracy"]["value"]) > 0.8, "{found}");
    assert_eq!((&all["samples"], &found["samples"]), (&60.into(), &60.into()));
    // By hand: what `predict` says, against the answers of the file.
    let stored = read_file(&dir.join("words.safetensors"));
    let inputs = &stored.get("inputs").bytes;
    let mut words = Vec::new();
    for row in inputs.chunks(7).skip(340) {
        words.push(row.iter().filter(|t| **t > 2).map(|t| char::from(b'a' + t - 3)).collect::<String>());
    }
    fs::write(dir.join("list"), words.join("\n")).unwrap();
    let said = out(&ok_in(dir, "predict m.safetensors --lines list"));
    let wrong = words.iter().zip(said.lines()).enumerate().filter(|(at, (word, line))| {
        let answer = line.split('\t').nth(1).unwrap().replace(' ', "").to_lowercase();
        let back: String = word.chars().rev().collect();
        answer != **word && ((340 + at) % 3 != 0 || answer != back)
    });
    assert!((wrong.count() as f64 / 60.0 - whole).abs() < 1e-9);
    // Batches and threads change nothing, a beam and its penalty do.
    let metrics = |more: &str| {
        report(dir, &format!("eval few.safetensors --data words.safetensors {more}"))["model"]["metrics"].clone()
    };
    assert_eq!(metrics(""), metrics("--batch 7 --threads 1"));
    let beam = metrics("--beam 5");
    assert!(
        beam["sequences"]["beam"] == 5
            && beam["sequences"]["token_error_rate"] != metrics("")["sequences"]["token_error_rate"]
    );
    assert_ne!(beam["sequences"]["bleu"], metrics("--beam 5 --length-penalty 30")["sequences"]["bleu"]);
    let text = out(&ok_in(dir, &format!("{eval} --against few.safetensors --beam 2")));
    for said in
        ["token error rate", "sequence error rate", "BLEU", "chrF2", "beam of 2", "difference", "few.safetensors"]
    {
        assert!(text.contains(said), "{said} in\n{text}");
    }
    let paired = &report(dir, &format!("{eval} --against few.safetensors"))["paired"]["sequences"];
    assert!(number(&paired["sequence_error_rate"]["difference"]["value"]) < 0.0, "{paired}");
    assert_code(&run_in(dir, &format!("{eval} --min-accuracy 1.1")), 3, "a share of 1.1 is not reached");
    // Compressed.
    ok_in(dir, "quantize m.safetensors --scheme w8a16 --group channel -o q.safetensors -q");
    let small = report(dir, "eval q.safetensors --data words.safetensors");
    assert!(number(&small["model"]["metrics"]["sequences"]["token_error_rate"]["value"]) < 0.25);
    for flag in ["--predictions p.safetensors", "--confusion c.svg", "--mistakes m.png", "--reliability r.svg"] {
        refused(dir, &format!("{eval} {flag}"), 2, "one answer a sample");
    }
    refused(dir, &format!("{eval} --no-carry"), 2, "--no-carry is for");
    refused(dir, &format!("{eval} --device candle"), 2, "decoded on the CPU alone");
}

#[test]
fn the_next_token_costs_less_where_states_go_on() {
    let dir = temp_dir();
    let dir = dir.path();
    // What comes next follows from more than a window holds.
    let mut random = Random::new(4);
    let text: String = (0..250).map(|_| ["abcdefghij", "jihgfedcba"][(random.bits() % 2) as usize]).collect();
    texts::windows(&dir.join("text.safetensors"), text.as_bytes(), 24, 70);
    fs::write(dir.join("net.toml"), TEXT).unwrap();
    let train = "train --model net.toml --data text.safetensors --batch 8 --learning-rate 0.01 -q";
    ok_in(dir, &format!("{train} --epochs 120 -o m.safetensors"));
    ok_in(dir, &format!("{train} --epochs 1 -o few.safetensors"));
    let eval = "eval m.safetensors --data text.safetensors";
    let metrics = |more: &str| report(dir, &format!("{eval} {more}"))["model"]["metrics"]["tokens"].clone();
    let (carried, alone) = (metrics(""), metrics("--no-carry"));
    let bits = |metrics: &Value| number(&metrics["bits_per_token"]["value"]);
    assert!(bits(&carried) < bits(&alone), "{carried} {alone}");
    assert_eq!((&carried["carried"], &carried["texts"], &alone["carried"]), (&true.into(), &1.into(), &false.into()));
    assert_eq!(number(&carried["bits_per_byte"]), bits(&carried));
    assert!((number(&carried["perplexity"]["value"]).log2() - bits(&carried)).abs() < 1e-9);
    // However the text is cut into passes, the figures are the same.
    let close = |a: &Value, b: &Value| (bits(a) - bits(b)).abs() < 1e-6;
    assert!(close(&carried, &metrics("--batch 1")) && close(&carried, &metrics("--batch 7 --threads 1")));
    // Windows that do not follow each other begin anew.
    let stored = read_file(&dir.join("text.safetensors"));
    let inputs = stored.get("inputs");
    let mut rows: Vec<&[u8]> = inputs.bytes.chunks(25).collect();
    let about: Value = serde_json::from_str(stored.metadata("dlopt.dataset").unwrap()).unwrap();
    rows.retain(|row| row[0] != b'j' || row[24] != b'j');
    rows.dedup_by(|b, a| b[0] == a[24]);
    let mut cut = about;
    cut["splits"] = serde_json::json!({ "train": [0, 1], "test": [1, rows.len()] });
    let apart = Tensor::new("inputs", "U8", &[rows.len(), 25], rows.concat());
    write_file(&dir.join("apart.safetensors"), &[apart], &[("dlopt.dataset", &cut.to_string())]);
    let both = ["", "--no-carry"].map(|more| {
        report(dir, &format!("eval m.safetensors --data apart.safetensors {more}"))["model"]["metrics"]["tokens"]
            .clone()
    });
    assert!(close(&both[0], &both[1]) && both[0]["texts"] == rows.len() - 1, "{both:?}");

    let text = out(&ok_in(dir, &format!("{eval} --against few.safetensors")));
    for said in ["bits per token", "perplexity", "tokens right", "bits per byte", "window to window", "difference"] {
        assert!(text.contains(said), "{said} in\n{text}");
    }
    let paired = &report(dir, &format!("{eval} --against few.safetensors"))["paired"]["tokens"];
    assert!(number(&paired["bits_per_token"]["difference"]["value"]) < 0.0, "{paired}");
    ok_in(dir, &format!("{eval} --min-accuracy 0.5"));
    assert_code(&run_in(dir, &format!("{eval} --min-accuracy 1")), 3, "not all are right");
    refused(dir, &format!("{eval} --beam 2"), 2, "sequences to put out");
    refused(dir, &format!("{eval} --device candle"), 2, "on the CPU alone");
    ok_in(dir, &format!("{eval} --device candle --no-carry --repeat 2"));
    fs::write(dir.join("both.toml"), TEXT.replace("hidden = 24", "hidden = 24, bidirectional = true")).unwrap();
    ok_in(dir, "train --model both.toml --data text.safetensors --epochs 0 -q -o both.safetensors");
    refused(dir, "eval both.safetensors --data text.safetensors", 2, "--no-carry reads every window");
    ok_in(dir, "eval both.safetensors --data text.safetensors --no-carry");
}
