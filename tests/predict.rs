//! `predict` on raw inputs: the numbers of `prepare` and `eval`, every kind of input, every flag, and what it refuses.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::Value;
use support::*;

/// Points around the centres of three classes, and two numbers that depend on them, the columns in another order.
fn table(rows: usize) -> String {
    let mut random = Random::new(5);
    let mut text = String::from("a,b,c,d,y,class\n");
    for row in 0..rows {
        let class = row % 3;
        let values: Vec<f32> = (0..4).map(|f| if f % 3 == class { 1.1 } else { -0.3 } + random.normal()).collect();
        let cells: Vec<String> = values.iter().map(f32::to_string).collect();
        let _ = writeln!(text, "{},{},{}", cells.join(","), values[0] - values[2], ["red", "green", "blue"][class]);
    }
    text
}

const NET: &str = "layers = [{ type = \"flatten\" }, { type = \"dense\", units = 70, activation = \"relu\" }, { type = \"dense\", units = \"classes\" }]";

/// `d.csv` of 66 rows, `d.safetensors` and `numbers.safetensors` of which the last 16 are for tests, `net.toml`, and the
/// networks `m.safetensors` and `n.safetensors`.
fn ground() -> tempfile::TempDir {
    let dir = temp_dir();
    let at = dir.path();
    fs::write(at.join("d.csv"), table(66)).unwrap();
    fs::write(at.join("net.toml"), NET).unwrap();
    ok_in(at, "prepare d.csv --split-at 50 --drop y -q -o d.safetensors");
    ok_in(at, "prepare d.csv --split-at 50 --drop class --targets y -q -o numbers.safetensors");
    ok_in(at, &train("d", "m"));
    ok_in(at, &train("numbers", "n"));
    dir
}

fn train(data: &str, model: &str) -> String {
    format!("train --model net.toml --data {data}.safetensors --epochs 4 --batch 8 -q -o {model}.safetensors")
}

/// The JSON objects that are printed, one a line.
fn lines(dir: &Path, line: &str) -> Vec<Value> {
    out(&ok_in(dir, line)).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the network put out for all inputs, one after the other.
fn outputs(lines: &[Value]) -> Vec<f32> {
    let of = |line: &Value| line["outputs"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
    lines.iter().flat_map(|line| -> Vec<f32> { of(line) }).collect()
}

/// What `eval` writes for a split.
fn evaluated(dir: &Path, model: &str, data: &str, split: &str) -> Vec<f32> {
    ok_in(dir, &format!("eval {model} --data {data} --split {split} --predictions p.safetensors --force -q"));
    read_file(&dir.join("p.safetensors")).get("outputs").values()
}

fn refused(dir: &Path, line: &str, code: i32, said: &str) {
    let done = run_in(dir, line);
    assert_code(&done, code, line);
    assert!(err(&done).contains(said), "{line}\nwanted {said}\n{}", err(&done));
}

#[test]
fn rows_give_the_numbers_of_eval_whatever_the_order_of_their_columns() {
    let dir = ground();
    let dir = dir.path();
    let all = lines(dir, "predict m.safetensors d.csv --json");
    let wanted = evaluated(dir, "m.safetensors", "d.safetensors", "all");
    assert_eq!(outputs(&all), wanted);
    assert_eq!((all.len(), &all[0]["input"], &all[65]["input"]), (66, &"d.csv:2".into(), &"d.csv:67".into()));
    // Other columns beside them, in another order, by tabs.
    let turned: String = table(66)
        .lines()
        .map(|line| {
            let c: Vec<&str> = line.split(',').collect();
            format!("{}\t{}\tmore\t{}\t{}\n", c[3], c[0], c[2], c[1])
        })
        .collect();
    fs::write(dir.join("turned.tsv"), &turned).unwrap();
    assert_eq!(outputs(&lines(dir, "predict m.safetensors turned.tsv --json --batch 7")), wanted);
    // By their places, on standard input.
    let plain: String = table(66)
        .lines()
        .skip(1)
        .map(|line| line.splitn(5, ',').take(4).collect::<Vec<_>>().join(",") + "\n")
        .collect();
    let piped = pipe_in(dir, Some(plain.as_bytes()), &["predict m.safetensors - --json"]).ok();
    let piped: Vec<Value> =
        String::from_utf8(piped).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(outputs(&piped), wanted);
    // Numbers to predict.
    let numbers = lines(dir, "predict n.safetensors d.csv --json");
    assert_eq!(outputs(&numbers), evaluated(dir, "n.safetensors", "numbers.safetensors", "all"));
    let text = out(&ok_in(dir, "predict n.safetensors d.csv"));
    assert!(text.starts_with("d.csv:2\t") && text.lines().count() == 66, "{text}");
}

#[test]
fn compressed_networks_say_what_eval_says_of_them() {
    let dir = ground();
    let dir = dir.path();
    ok_in(dir, "prune m.safetensors --sparsity 0.5 --store bitmask -o p1.safetensors -q");
    ok_in(dir, "quantize m.safetensors --scheme w8a16 --group channel --include *.weight -o q.safetensors -q");
    let dense = outputs(&lines(dir, "predict m.safetensors d.csv --json"));
    for model in ["p1.safetensors", "q.safetensors"] {
        let found = outputs(&lines(dir, &format!("predict {model} d.csv --json")));
        assert!(found == evaluated(dir, model, "d.safetensors", "all") && found != dense, "{model}");
    }
    let piped = pipe_in(dir, None, &["prune m.safetensors --sparsity 0.5", "predict - d.csv --json"]).ok();
    assert_eq!(String::from_utf8(piped).unwrap(), out(&ok_in(dir, "predict p1.safetensors d.csv --json")));
}

/// A picture of two tones, the darker one on the left or at the top.
fn picture(side: usize, is_left: bool, random: &mut Random) -> Vec<u8> {
    let mut bytes = format!("P6 {side} {side} 255\n").into_bytes();
    for y in 0..side {
        for x in 0..side {
            let is_dark = if is_left { x < side / 2 } else { y < side / 2 };
            let tone = if is_dark { 40.0 } else { 190.0 } + 12.0 * random.normal();
            bytes.extend([tone as u8, tone as u8, (tone / 2.0) as u8]);
        }
    }
    bytes
}

#[test]
fn pictures_take_the_steps_of_the_data() {
    let dir = temp_dir();
    let dir = dir.path();
    let mut random = Random::new(3);
    for (class, is_left) in [("left", true), ("top", false)] {
        fs::create_dir_all(dir.join("photos").join(class)).unwrap();
        for number in 0..9 {
            let path = dir.join(format!("photos/{class}/{number}.ppm"));
            fs::write(path, picture(10 + number, is_left, &mut random)).unwrap();
        }
    }
    fs::write(dir.join("net.toml"), NET).unwrap();
    ok_in(dir, "prepare photos --step grey --resize 7x6 -q -o photos.safetensors");
    ok_in(dir, &train("photos", "m"));
    let all = lines(dir, "predict m.safetensors photos --json");
    assert_eq!(outputs(&all), evaluated(dir, "m.safetensors", "photos.safetensors", "all"));
    assert_eq!((all.len(), &all[0]["input"]), (18, &"photos/left/0.ppm".into()));
    let text = out(&ok_in(dir, "predict m.safetensors photos/top/4.ppm photos/left/3.ppm --top 1"));
    let words: Vec<&str> = text.lines().collect();
    assert!(
        words[0].starts_with("photos/top/4.ppm\ttop 0.") && words[1].starts_with("photos/left/3.ppm\tleft"),
        "{text}"
    );
    // A damaged one stops, or is left out.
    fs::write(dir.join("photos/left/2.ppm"), b"P6 12 12 255\nshort").unwrap();
    refused(dir, "predict m.safetensors photos", 1, "photos/left/2.ppm: a damaged picture");
    assert_eq!(out(&run_in(dir, "predict m.safetensors photos")).lines().count(), 2, "those before it are answered");
    let done = ok_in(dir, "predict m.safetensors photos --skip-unreadable");
    assert_eq!(out(&done).lines().count(), 17);
    assert!(err(&done).contains("2.ppm") && err(&done).contains("1 inputs"), "{}", err(&done));
    assert!(ok_in(dir, "predict m.safetensors photos --skip-unreadable -q").stderr.is_empty());
    refused(dir, "predict m.safetensors photos/left/2.ppm --skip-unreadable", 1, "none of the 1 inputs");
    refused(dir, "predict m.safetensors nothing.png", 1, "nothing.png: no such file");
    refused(dir, "predict m.safetensors -", 2, "takes pictures");
    refused(dir, "predict m.safetensors --lines net.toml", 2, "the network takes pictures");
}

#[test]
fn arrays_and_tables_of_pixels_are_pictures_too() {
    let dir = temp_dir();
    let dir = dir.path();
    fs::copy(fixture("digits/digits.csv.gz"), dir.join("digits.csv.gz")).unwrap();
    fs::write(dir.join("net.toml"), NET).unwrap();
    ok_in(dir, "prepare digits.csv.gz --shape 8x8 --resize 9x9 --split-at 1437 -q -o digits.safetensors");
    ok_in(dir, &train("digits", "m").replace("--epochs 4", "--epochs 1"));
    let mut text = String::new();
    use std::io::Read;
    flate2::read::GzDecoder::new(fs::File::open(dir.join("digits.csv.gz")).unwrap()).read_to_string(&mut text).unwrap();
    let rows: Vec<&str> = text.lines().skip(1437).map(|line| line.rsplit_once(',').unwrap().0).collect();
    fs::write(dir.join("new.csv"), rows.join("\n")).unwrap();
    let wanted = evaluated(dir, "m.safetensors", "digits.safetensors", "test");
    assert!(outputs(&lines(dir, "predict m.safetensors new.csv --json")) == wanted);
    let pixels: Vec<u8> = rows.iter().flat_map(|r| r.split(',').map(|x| x.parse::<f32>().unwrap() as u8)).collect();
    write_file(&dir.join("new.safetensors"), &[Tensor::new("any", "U8", &[360, 8, 8], pixels.clone())], &[]);
    assert!(outputs(&lines(dir, "predict m.safetensors new.safetensors --json")) == wanted);
    write_file(&dir.join("one.safetensors"), &[Tensor::new("any", "U8", &[8, 8], pixels[..64].to_vec())], &[]);
    assert_eq!(outputs(&lines(dir, "predict m.safetensors one.safetensors --json")), wanted[..10]);
    write_file(&dir.join("bad.safetensors"), &[Tensor::new("any", "U8", &[2, 3, 3], vec![0; 18])], &[]);
    refused(dir, "predict m.safetensors bad.safetensors", 1, "[2, 3, 3]; the network takes [samples, 8, 8, 1]");
    refused(dir, "predict m.safetensors digits.csv.gz", 1, "has 65 columns; the network takes 64");
}

#[test]
fn series_are_padded_and_cut_as_the_network_needs() {
    let dir = temp_dir();
    let dir = dir.path();
    let mut random = Random::new(7);
    let head = "@problemName waves\n@univariate true\n@classLabel true slow fast\n@data\n";
    let mut text = String::from(head);
    for row in 0..40 {
        let step = if row % 2 == 1 { 1.4 } else { 0.5 };
        let start = random.normal();
        let values: Vec<String> = (0..8 + row % 5).map(|t| format!("{:.4}", (start + step * t as f32).sin())).collect();
        let _ = writeln!(text, "{}:{}", values.join(","), if row % 2 == 1 { "fast" } else { "slow" });
    }
    fs::write(dir.join("waves.ts"), text).unwrap();
    ok_in(dir, "prepare waves.ts -q -o waves.safetensors");
    ok_in(dir, "train --model gru --data waves.safetensors --epochs 1 -q -o m.safetensors");
    let all = outputs(&lines(dir, "predict m.safetensors waves.ts --json"));
    assert_eq!(all, evaluated(dir, "m.safetensors", "waves.safetensors", "all"));
    // Of one length, shorter than the network takes: batches of them alone are padded too.
    let short = "0.5,0.25,-1,0.125\n1,2,3,4\n";
    fs::write(dir.join("short.csv"), short).unwrap();
    assert_eq!(lines(dir, "predict m.safetensors short.csv --json").len(), 2);
    // Longer: cut, and said so.
    let values = |count: usize| (0..count).map(|t| format!("{}", t as f32 / 4.0)).collect::<Vec<_>>().join(",");
    fs::write(dir.join("long.csv"), values(15)).unwrap();
    fs::write(dir.join("fits.csv"), values(12)).unwrap();
    let cut = ok_in(dir, "predict m.safetensors long.csv --json");
    assert!(err(&cut).contains("is 15 steps long; the network takes 12"), "{}", err(&cut));
    assert!(ok_in(dir, "predict m.safetensors long.csv --quiet").stderr.is_empty());
    let of = |done: &std::process::Output| outputs(&[serde_json::from_str(&out(done)).unwrap()]);
    assert_eq!(of(&cut), of(&ok_in(dir, "predict m.safetensors fits.csv --json")));
}

#[test]
fn texts_are_spelled_by_a_network_that_learned_it() {
    let dir = temp_dir();
    let dir = dir.path();
    texts::spelled(&dir.join("words.safetensors"), 400, 360);
    fs::write(
        dir.join("net.toml"),
        "layers = [{ type = \"seq2seq\", embedding = 12, hidden = 32, attention = \"dot\", dropout = 0.0 }]",
    )
    .unwrap();
    ok_in(
        dir,
        "train --model net.toml --data words.safetensors --epochs 30 --batch 16 --learning-rate 0.01 -q -o m.safetensors",
    );
    assert_eq!(out(&ok_in(dir, "predict m.safetensors abe D")), "abe\tA B E\nD\tD\n");
    fs::write(dir.join("list"), "cab\r\nbed\n").unwrap();
    assert_eq!(out(&ok_in(dir, "predict m.safetensors ace --lines list")), "ace\tA C E\ncab\tC A B\nbed\tB E D\n");
    let piped = pipe_in(dir, Some(b"cab\nbed"), &["predict m.safetensors --lines -"]).ok();
    assert_eq!(String::from_utf8(piped).unwrap(), "cab\tC A B\nbed\tB E D\n");
    fs::write(dir.join("word.txt"), "bead").unwrap();
    assert_eq!(out(&ok_in(dir, "predict m.safetensors word.txt")), "word.txt\tB E A D\n");
    fs::create_dir(dir.join("words")).unwrap();
    fs::write(dir.join("words/1.txt"), "dab").unwrap();
    assert_eq!(out(&ok_in(dir, "predict m.safetensors words")), "words/1.txt\tD A B\n");
    refused(dir, "predict m.safetensors none.txt", 1, "none.txt: no such file");
    refused(dir, "predict m.safetensors - ", 2, "--lines -");
    // The likeliest few, the penalty that orders them, and the threads, which change nothing.
    let best = lines(dir, "predict m.safetensors bad --json --beam 4 --best 3");
    let best = best[0]["best"].as_array().unwrap().clone();
    assert_eq!((best.len(), &best[0]["text"], &best[0]["tokens"]), (3, &"B A D".into(), &serde_json::json!([5, 4, 7])));
    let score = |more: &str| {
        lines(dir, &format!("predict m.safetensors bad --json --beam 4 {more}"))[0]["best"][0]["score"].as_f64()
    };
    assert!(score("--length-penalty 1") > score(""));
    let text =
        |threads: u8| out(&ok_in(dir, &format!("predict m.safetensors abe bad --json --beam 3 --threads {threads}")));
    assert_eq!(text(1), text(3));
    refused(dir, "predict m.safetensors bad --best 2", 2, "--beam 2");
    refused(dir, "predict m.safetensors bad --length-penalty=-1", 2, "--length-penalty");
    // A word that is too long keeps the mark of its end.
    let cut = ok_in(dir, "predict m.safetensors abcabcabc");
    assert!(err(&cut).contains("is 10 steps long; the network takes 7"), "{}", err(&cut));
}

#[test]
fn texts_give_the_numbers_of_eval() {
    let dir = temp_dir();
    let dir = dir.path();
    let words = ["good", "fine", "bad", "poor", "day", "night", "so", "very"];
    let mut random = Random::new(8);
    let (mut table, mut texts) = (String::new(), String::new());
    for row in 0..40 {
        let count = 1 + random.bits() % 6;
        let text: Vec<&str> = (0..count).map(|_| words[(random.bits() % 8) as usize]).collect();
        let _ = writeln!(table, "{}\t{}", ["pos", "neg"][row % 2], text.join(" "));
        let _ = writeln!(texts, "{}", text.join(" "));
    }
    fs::write(dir.join("t.tsv"), table).unwrap();
    fs::write(dir.join("texts"), texts).unwrap();
    fs::write(
        dir.join("gru.toml"),
        "layers = [{ type = \"embedding\", size = 5 }, { type = \"gru\", hidden = 7 }, { type = \"dense\", units = \"classes\" }]",
    )
    .unwrap();
    for (how, model) in [("--step tokenise=words", "gru.toml"), ("--features tf-idf", "linear")] {
        ok_in(dir, &format!("prepare t.tsv --text 2 {how} -q -o t.safetensors --force"));
        ok_in(dir, &format!("train --model {model} --data t.safetensors --epochs 1 -q -o m.safetensors --force"));
        let found = lines(dir, "predict m.safetensors --lines texts --json --batch 9");
        assert_eq!(outputs(&found), evaluated(dir, "m.safetensors", "t.safetensors", "all"), "{how}");
    }
}

#[test]
fn sounds_take_the_steps_of_the_data() {
    let dir = temp_dir();
    let dir = dir.path();
    for (class, file) in [("one", "tone.flac"), ("one", "tone.ogg"), ("two", "stereo.flac"), ("two", "tone.mp3")] {
        fs::create_dir_all(dir.join("sounds").join(class)).unwrap();
        fs::copy(fixture(&format!("sounds/{file}")), dir.join("sounds").join(class).join(file)).unwrap();
    }
    ok_in(dir, "prepare sounds --step mono --step resample=6000 --step mfcc -q -o sounds.safetensors");
    ok_in(dir, "train --model gru --data sounds.safetensors --epochs 1 -q -o m.safetensors");
    let found = lines(dir, "predict m.safetensors sounds --json");
    assert_eq!(outputs(&found), evaluated(dir, "m.safetensors", "sounds.safetensors", "all"));
    assert_eq!((found.len(), &found[3]["input"]), (4, &"sounds/two/tone.mp3".into()));
    fs::write(dir.join("bad.wav"), b"RIFF").unwrap();
    refused(dir, "predict m.safetensors bad.wav", 1, "bad.wav");
}

/// A network of others, of which only names and shapes are right.
#[test]
fn letters_become_phonemes_by_the_lists_of_the_network() {
    let dir = temp_dir();
    let dir = dir.path();
    let mut tensors =
        vec![Tensor::random("enc_emb", "F32", &[29, 6], 1), Tensor::random("dec_emb", "F32", &[74, 6], 1)];
    for side in ["enc", "dec"] {
        for (name, shape) in [("w_ih", &[15, 6][..]), ("w_hh", &[15, 5]), ("b_ih", &[15]), ("b_hh", &[15])] {
            tensors.push(Tensor::random(&format!("{side}_{name}"), "F32", shape, 1));
        }
    }
    // The largest bias is that of the last phoneme.
    let mut bias = vec![0.0; 74];
    bias[73] = 1.0;
    tensors.extend([Tensor::random("fc_w", "F32", &[74, 5], 1), Tensor::of("fc_b", "F32", &[74], &bias)]);
    write_file(&dir.join("g2p.safetensors"), &tensors, &[]);
    let all = lines(dir, "predict g2p.safetensors Hello x1 --json");
    for line in &all {
        assert_eq!(line["best"][0]["tokens"], serde_json::json!(vec![73; 20]), "{line}");
        assert_eq!(line["best"][0]["text"], ["ZH"; 20].join(" "));
    }
    let long = ok_in(dir, &format!("predict g2p.safetensors {}", "ab".repeat(20)));
    assert!(err(&long).contains("is 41 steps long; the network takes 29"), "{}", err(&long));
}

#[test]
fn bad_requests_are_one_clear_error() {
    let dir = ground();
    let dir = dir.path();
    refused(dir, "predict m.safetensors", 2, "INPUT");
    refused(dir, "predict m.safetensors none.csv", 1, "none.csv: no such file");
    fs::write(dir.join("less.csv"), "a,b,d\n1,2,3\n").unwrap();
    refused(dir, "predict m.safetensors less.csv", 1, "no column `c` among `a`, `b`, `d`");
    fs::write(dir.join("five.csv"), "1,2,3,4,5\n").unwrap();
    refused(dir, "predict m.safetensors five.csv", 1, "has 5 columns; the network takes 4");
    fs::write(dir.join("words.csv"), "a,b,c,d\n1,2,3,4\n1,many,3,4\n5,6,7,8\n").unwrap();
    refused(dir, "predict m.safetensors words.csv", 1, "words.csv: line 3: column `b`: `many` is not a finite number");
    assert_eq!(out(&ok_in(dir, "predict m.safetensors words.csv --skip-unreadable")).lines().count(), 2);
    fs::write(dir.join("empty.csv"), "").unwrap();
    refused(dir, "predict m.safetensors empty.csv", 1, "empty.csv: is empty");
    fs::write(dir.join("names.csv"), "a,b,c,d\n").unwrap();
    refused(dir, "predict m.safetensors names.csv", 1, "no rows after its first line");
    refused(dir, "predict m.safetensors net.toml", 1, "net.toml");
    refused(dir, "predict - -", 2, "can be read once");
    refused(dir, "predict m.safetensors d.csv --beam 2", 2, "put out sequences");
    refused(dir, "predict m.safetensors d.csv --top 0", 2, "--top");
    refused(dir, "predict m.safetensors d.csv --batch 0", 2, "--batch");
    // A network that does not say how its data were prepared.
    let stored = read_file(&dir.join("m.safetensors"));
    let mut config: Value = serde_json::from_str(stored.metadata("config").unwrap()).unwrap();
    config.as_object_mut().unwrap().remove("preprocessing");
    let tensors: Vec<Tensor> = stored.names.iter().map(|name| stored.get(name).clone()).collect();
    write_file(&dir.join("bare.safetensors"), &tensors, &[("config", &config.to_string())]);
    refused(dir, "predict bare.safetensors d.csv", 1, "bare.safetensors: does not say how its inputs were prepared");
    // A network that says the next token.
    texts::windows(&dir.join("text.safetensors"), &b"so it goes. ".repeat(20), 8, 20);
    ok_in(dir, "train --model charlstm --data text.safetensors --epochs 0 -q -o text-m.safetensors");
    refused(dir, "predict text-m.safetensors so", 2, "dlopt generate");
}

#[test]
fn a_reader_that_has_gone_ends_the_work_quietly() {
    let dir = ground();
    let line = format!("{DLOPT} predict m.safetensors --batch 1 {} | head -n 1", "d.csv ".repeat(50));
    let script = format!("set -o pipefail; {line}; echo ${{PIPESTATUS[0]}}");
    let done = std::process::Command::new("bash").args(["-c", &script]).current_dir(dir.path()).output().unwrap();
    let text = out(&done);
    assert!(text.starts_with("d.csv:2\t") && text.ends_with("\n0\n") && done.stderr.is_empty(), "{text}{}", err(&done));
}

#[test]
fn every_flag_of_predict_changes_something() {
    let dir = ground();
    let dir = dir.path();
    let line = |more: &str| out(&ok_in(dir, &format!("predict m.safetensors d.csv {more}")));
    let plain = line("");
    let classes = |text: &str| text.lines().next().unwrap().split(", ").count();
    assert_eq!((classes(&plain), classes(&line("--top 2")), classes(&line("--top 9"))), (3, 2, 3));
    assert!(plain == line("--batch 5") && plain == line("--threads 1") && plain == line("--threads 3"));
    assert!(plain == line("-q") && serde_json::from_str::<Value>(line("--json").lines().next().unwrap()).is_ok());
    ok_in(dir, "quantize m.safetensors --scheme w8a16 --group channel --include fc*.weight -o q.safetensors -q");
    let compressed = |more: &str| ok_in(dir, &format!("predict q.safetensors d.csv --json {more}"));
    assert_eq!(out(&compressed("--kernels dense")), out(&compressed("--kernels compressed")));
    assert!(err(&compressed("--kernels explain")).contains("weights in memory"));
    assert!(err(&compressed("--kernels explain --instructions portable")).contains("threads, portable"));
    let layers = "{ type = \"flatten\" }, { type = \"dense\", units = 24 }, { type = \"dense\", units = 16 }, { type = \"dense\", units = \"classes\" }";
    std::fs::write(dir.join("wide.toml"), format!("layers = [{layers}]\n")).unwrap();
    ok_in(dir, "train --model wide.toml --data d.safetensors --epochs 2 -q -o wide.safetensors");
    ok_in(dir, "quantize wide.safetensors --scheme w8a16 --group channel --include fc*.weight -o wide8.safetensors -q");
    let wide = |more: &str| out(&ok_in(dir, &format!("predict wide8.safetensors d.csv --json {more}")));
    assert_ne!(wide(""), wide("--activations int8"));
    // --lines, --beam, --length-penalty, --best, --skip-unreadable and --quiet are turned by the tests above.
    let turned = [
        "lines",
        "top",
        "batch",
        "beam",
        "length-penalty",
        "best",
        "skip-unreadable",
        "json",
        "kernels",
        "activations",
        "instructions",
        "threads",
        "quiet",
    ];
    assert_eq!(shown_flags("predict"), turned.map(str::to_owned).into_iter().collect::<BTreeSet<_>>());
}
