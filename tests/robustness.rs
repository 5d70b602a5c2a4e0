//! `eval --tta` and `eval --corrupt`: what is averaged and measured, that it depends on nothing but the seed, and what is
//! refused.

#![allow(clippy::unwrap_used)]

mod support;

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::Value;
use support::*;

/// A network for pictures of any size.
const NET: &str = "layers = [\n    { type = \"flatten\" },\n    { type = \"dense\", units = 16, activation = \"relu\" },\n    { type = \"dense\", units = \"classes\" },\n]\n";

/// Pictures of 11x9 of a bar that stands, lies, or is none, in noise: 90 to train on and 41 to test on, as bytes. `m` is
/// trained on them as they are, `a` with turned and noisy ones.
fn ground() -> tempfile::TempDir {
    let dir = temp_dir();
    fs::create_dir(dir.path().join("raw")).unwrap();
    for (name, samples, seed) in [("train", 90_u32, 1), ("t10k", 41, 2)] {
        let mut random = Random::new(seed);
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for sample in 0..samples {
            let class = sample % 3;
            let at = 3 + (random.bits() % 4) as u32;
            for (y, x) in (0..11).flat_map(|y| (0..9).map(move |x| (y, x))) {
                let is_bar = class == 0 && x == at || class == 1 && y == at;
                let inside = (1..10).contains(&y) && (1..8).contains(&x);
                pixels.push((random.bits() % 120) as u8 + if is_bar && inside { 90 } else { 0 });
            }
            labels.push(class as u8);
        }
        let write = |kind: &str, magic: &[u8], shape: &[u32], data: &[u8]| {
            let mut bytes = magic.to_vec();
            shape.iter().for_each(|extent| bytes.extend(extent.to_be_bytes()));
            bytes.extend(data);
            fs::write(dir.path().join("raw").join(format!("{name}-{kind}")), bytes).unwrap();
        };
        write("images-idx3-ubyte", &[0, 0, 8, 3], &[samples, 11, 9], &pixels);
        write("labels-idx1-ubyte", &[0, 0, 8, 1], &[samples], &labels);
    }
    fs::write(dir.path().join("net.toml"), NET).unwrap();
    ok_in(dir.path(), "prepare raw -o d.safetensors --quiet");
    let train = "train --model net.toml --data d.safetensors --batch 8 --threads 1 --learning-rate 0.003 --quiet";
    ok_in(dir.path(), &format!("{train} --epochs 15 -o m.safetensors"));
    ok_in(dir.path(), &format!("{train} --epochs 25 --augment-op rotate=±10 --augment-op noise=0.1 -o a.safetensors"));
    dir
}

const EVAL: &str = "eval m.safetensors --data d.safetensors";

fn eval(dir: &Path, line: &str) -> Value {
    json_out(&ok_in(dir, &format!("{line} --json")))
}

/// The outputs of a split, as `--predictions` writes them.
fn outputs(dir: &Path, line: &str) -> Vec<f32> {
    ok_in(dir, &format!("{line} --predictions p.safetensors --force -q"));
    read_file(&dir.join("p.safetensors")).get("outputs").values()
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let powers: Vec<f64> = logits.iter().map(|&x| f64::from(x).exp()).collect();
    powers.iter().map(|power| power / powers.iter().sum::<f64>()).collect()
}

#[test]
fn the_mean_is_that_of_the_samples_and_of_copies_that_augment_makes() {
    let dir = ground();
    let ops = "rotate=±20 noise=0.2";
    let flags = |name: &str| ops.split(' ').fold(String::new(), |all, op| all + &format!(" --{name} {op}"));
    let mut views = vec![outputs(dir.path(), EVAL)];
    // Copies follow each other, sample by sample.
    ok_in(
        dir.path(),
        &format!("augment d.safetensors --split test --seed 7 --copies 3 -o c.safetensors{}", flags("op")),
    );
    let copies = outputs(dir.path(), "eval m.safetensors --data c.safetensors");
    for copy in 0..3 {
        views.push(copies.chunks_exact(9).flat_map(|sample| &sample[copy * 3..][..3]).copied().collect());
    }
    let found = outputs(dir.path(), &format!("{EVAL} --tta 3 --seed 7{}", flags("augment-op")));
    assert_eq!(found.len(), 41 * 3);
    for sample in 0..41 {
        let of = |view: &[f32]| softmax(&view[sample * 3..][..3]);
        let all: Vec<Vec<f64>> = views.iter().map(|view| of(view)).collect();
        for (class, found) in of(&found).into_iter().enumerate() {
            let wanted = all.iter().map(|view| view[class]).sum::<f64>() / 4.0;
            assert!((found - wanted).abs() < 1e-5, "sample {sample}, class {class}: {found} {wanted}");
        }
    }
    assert!(found != views[0]);
}

#[test]
fn a_recipe_that_changes_nothing_gives_the_figures_of_the_plain_samples() {
    let dir = ground();
    let report = eval(dir.path(), &format!("{EVAL} --tta 4 --augment-op rotate=0 --augment-op noise=0"));
    assert_eq!(report["model"]["metrics"], report["model"]["tta"]["plain"]);
    assert_eq!(report["model"]["metrics"], eval(dir.path(), EVAL)["model"]["metrics"]);
    assert_eq!(report["model"]["tta"]["paired"]["classification"]["accuracy"]["difference"]["value"], 0.0);
    let other = eval(dir.path(), &format!("{EVAL} --tta 4 --augment-op rotate=±90"));
    assert_eq!(other["model"]["tta"]["plain"], report["model"]["metrics"]);
    assert_ne!(other["model"]["metrics"], report["model"]["metrics"]);
    // So it is with numbers and with yes or no.
    let mut text = String::from("a,b,both,one\n");
    let mut random = Random::new(9);
    for _ in 0..60 {
        let (a, b) = (random.normal(), random.normal());
        let _ = writeln!(text, "{a},{b},{},{}", u8::from(a > 0.0 && b > 0.0), u8::from(a > 0.0));
    }
    fs::write(dir.path().join("yes.csv"), text).unwrap();
    ok_in(dir.path(), "prepare yes.csv --targets both,one --split-at 40 -q -o yes.safetensors");
    for (loss, kind) in [("binary-cross-entropy", "binary"), ("mse", "regression")] {
        let train = "train --model net.toml --data yes.safetensors --epochs 3 -q --force -o n.safetensors";
        ok_in(dir.path(), &format!("{train} --loss {loss}"));
        let line = "eval n.safetensors --data yes.safetensors --tta 3 --augment-op";
        let same = eval(dir.path(), &format!("{line} noise=0"));
        assert!(same["model"]["metrics"][kind].is_object(), "{same}");
        assert_eq!(same["model"]["metrics"], same["model"]["tta"]["plain"]);
        let other = eval(dir.path(), &format!("{line} noise=1"));
        assert_ne!(other["model"]["metrics"], other["model"]["tta"]["plain"]);
    }
}

#[test]
fn copies_depend_on_the_seed_alone_and_the_recipe_is_that_of_the_training() {
    let dir = ground();
    let ops = "--augment-op rotate=±10 --augment-op noise=0.1";
    let line = "eval a.safetensors --data d.safetensors --tta 5";
    let model = |more: &str| {
        let report = eval(dir.path(), &format!("{line} {more}"));
        (report["model"]["metrics"].clone(), report["model"]["tta"].clone())
    };
    let one = model("--threads 1");
    assert_eq!(one, model("--threads 3 --batch 7"));
    assert_eq!(one, model(ops));
    fs::write(dir.path().join("r.toml"), "[[ops]]\nop = \"rotate=±10\"\n[[ops]]\nop = \"noise=0.1\"\n").unwrap();
    assert_eq!(one, model("--augment r.toml"));
    assert_eq!(one.1["recipe"][0]["degrees"], "±10");
    let seeded = |seed: u32| model(&format!("--seed {seed}")).0["classification"]["loss"]["value"].clone();
    assert_ne!(seeded(1), seeded(2));
    // Two networks, each by its own recipe or both by the one that is named; and what people read.
    let against = run_in(dir.path(), &format!("{line} --against m.safetensors"));
    assert_code(&against, 2, "no recipe");
    assert!(err(&against).contains("m.safetensors"), "{}", err(&against));
    let both = eval(dir.path(), &format!("{line} --against m.safetensors {ops}"));
    assert_eq!(both["against"]["tta"]["copies"], 5);
    assert_eq!(
        both["paired"]["classification"]["accuracy"]["second"],
        both["model"]["metrics"]["classification"]["accuracy"]["value"]
    );
    let told = out(&ok_in(dir.path(), line));
    assert!(told.contains("5 changed copies") && told.contains("mean of 6"), "{told}");
}

#[test]
fn tokens_are_averaged_too() {
    let dir = temp_dir();
    let mut text = String::from("text\tkind\n");
    let mut random = Random::new(4);
    for row in 0..60 {
        let word = || ["sun", "rain"][row % 2];
        let others: Vec<&str> = (0..6).map(|_| ["a", "the", "of", "it"][(random.bits() % 4) as usize]).collect();
        let _ = writeln!(text, "{} {} {}\t{}", others[..3].join(" "), word(), others[3..].join(" "), word());
    }
    fs::write(dir.path().join("words.tsv"), text).unwrap();
    let prepare = "prepare words.tsv --text text --label kind --step tokenise=words --split-at 40 -o w.safetensors -q";
    ok_in(dir.path(), prepare);
    ok_in(dir.path(), "train --model textcnn --data w.safetensors --epochs 2 --batch 8 -q -o w-m.safetensors");
    let line = "eval w-m.safetensors --data w.safetensors --tta 3 --augment-op";
    let plain = eval(dir.path(), &format!("{line} token-swap=0"));
    assert_eq!(plain["model"]["metrics"], plain["model"]["tta"]["plain"]);
    let changed = eval(dir.path(), &format!("{line} token-deletion=0.5"));
    assert_ne!(changed["model"]["metrics"], changed["model"]["tta"]["plain"]);
    let refused = run_in(dir.path(), "eval w-m.safetensors --data w.safetensors --corrupt");
    assert_code(&refused, 2, "tokens");
    assert!(err(&refused).contains("corruptions are for pictures"), "{}", err(&refused));
}

#[test]
fn every_strength_of_every_corruption_is_measured() {
    let dir = ground();
    let report = eval(dir.path(), &format!("{EVAL} --corrupt --seed 3"));
    let own = &report["model"]["corruption"];
    assert_eq!(own["clean"], report["model"]["metrics"]["classification"]["accuracy"]);
    let corruptions = own["corruptions"].as_array().unwrap();
    let names: Vec<&str> = corruptions.iter().map(|own| own["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["rotate", "noise", "blur", "scale", "contrast"]);
    let mut sum = 0.0;
    for corruption in corruptions {
        let strengths = corruption["strengths"].as_array().unwrap();
        let all: Vec<f64> = strengths.iter().map(|own| own["accuracy"]["value"].as_f64().unwrap()).collect();
        assert_eq!(all.len(), 5);
        let mean = all.iter().sum::<f64>() / 5.0;
        assert!((corruption["mean"]["value"].as_f64().unwrap() - mean).abs() < 1e-12, "{corruption}");
        sum += mean;
    }
    let (clean, corrupted) = (own["clean"]["value"].as_f64().unwrap(), own["corrupted"]["value"].as_f64().unwrap());
    assert!((corrupted - sum / 5.0).abs() < 1e-12 && clean > corrupted, "{own}");
    // The same accuracy on data that `augment` has corrupted.
    let accuracy =
        |corruption: usize, strength: usize| corruptions[corruption]["strengths"][strength]["accuracy"].clone();
    let on_copies = |recipe: &str| {
        fs::write(dir.path().join("r.toml"), recipe).unwrap();
        ok_in(dir.path(), "augment d.safetensors --split test --recipe r.toml --seed 3 --force -q -o c.safetensors");
        let line = "eval m.safetensors --data c.safetensors";
        eval(dir.path(), line)["model"]["metrics"]["classification"]["accuracy"].clone()
    };
    for (strength, degrees) in [(1, 12), (4, 30)] {
        let recipe = format!("[[ops]]\none-of = [{{ op = \"rotate={degrees}\" }}, {{ op = \"rotate=-{degrees}\" }}]\n");
        assert_eq!(accuracy(0, strength), on_copies(&recipe));
    }
    assert_eq!(accuracy(2, 4), on_copies("[[ops]]\nop = \"blur\"\nsigma = 1\n"));
    assert_eq!(accuracy(4, 3), on_copies("[[ops]]\nop = \"contrast\"\nfactor = 0.3\n"));
}

#[test]
fn corruption_depends_on_the_seed_alone_and_two_networks_meet_the_same() {
    let dir = ground();
    let own = |more: &str| eval(dir.path(), &format!("{EVAL} --corrupt {more}"))["model"]["corruption"].clone();
    let one = own("--threads 1");
    assert_eq!(one, own("--threads 3 --batch 7"));
    let accuracies = |report: &Value| report["corruptions"].to_string();
    assert_ne!(accuracies(&one), accuracies(&own("--seed 1")));
    let both =
        eval(dir.path(), "eval a.safetensors --against m.safetensors --data d.safetensors --corrupt --plot r.svg");
    assert_eq!(both["against"]["corruption"], one);
    let paired = &both["paired_corruption"];
    assert_eq!(paired["corrupted"]["first"], one["corrupted"]["value"]);
    assert_eq!(paired["corrupted"]["second"], both["model"]["corruption"]["corrupted"]["value"]);
    let ratio = paired["corruption_error"].as_f64().unwrap();
    assert!(ratio < 1.0, "trained on turned and noisy pictures, it errs more under corruption: {paired}");
    let plot = fs::read_to_string(dir.path().join("r.svg")).unwrap();
    for word in ["<svg", "a.safetensors", "m.safetensors", "rotate", "contrast", "mean of all", "pixels of 32", "clean"]
    {
        assert!(plot.contains(word), "{word}");
    }
    let told = out(&ok_in(dir.path(), "eval a.safetensors --against m.safetensors --data d.safetensors --corrupt"));
    for word in
        ["corrupted accuracy", "by 6, 12, 18, 24, 30 degrees", "mean corruption error (mCE) against m.safetensors"]
    {
        assert!(told.contains(word), "{word}\n{told}");
    }
    assert!(out(&ok_in(dir.path(), "list")).contains("by 6, 12, 18, 24, 30 degrees"));
}

#[test]
fn pictures_of_floats_are_corrupted_like_those_of_bytes() {
    let dir = temp_dir();
    let mut csv = String::new();
    let mut random = Random::new(5);
    for row in 0..40 {
        for at in 0..36 {
            let _ = write!(
                csv,
                "{},",
                (random.bits() % 100) as f32 / 250.0 + f32::from(u8::from(at % 6 < 3) ^ (row % 2) as u8) / 2.0
            );
        }
        let _ = writeln!(csv, "{}", row % 2);
    }
    fs::write(dir.path().join("d.csv"), csv).unwrap();
    fs::write(dir.path().join("net.toml"), NET).unwrap();
    ok_in(dir.path(), "prepare d.csv --shape 6x6 --split-at 20 -q -o d.safetensors");
    ok_in(dir.path(), "train --model net.toml --data d.safetensors --epochs 20 --batch 4 -q -o m.safetensors");
    let own = &eval(dir.path(), &format!("{EVAL} --corrupt"))["model"]["corruption"];
    let weakest = own["corruptions"][0]["strengths"][0]["accuracy"]["value"].as_f64().unwrap();
    assert!(own["clean"]["value"].as_f64().unwrap() > 0.9 && weakest > 0.7, "{own}");
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let dir = ground();
    fs::write(dir.path().join("empty.toml"), "").unwrap();
    fs::write(dir.path().join("rows.csv"), "a,b,k\n1,2,x\n2,1,y\n3,4,x\n4,3,y\n").unwrap();
    ok_in(dir.path(), "prepare rows.csv --split-at 2 -q -o rows.safetensors");
    ok_in(dir.path(), "train --model net.toml --data rows.safetensors --epochs 1 -q -o rows-m.safetensors");
    ok_in(dir.path(), "prepare rows.csv --drop k --targets b --split-at 2 -q -o numbers.safetensors");
    ok_in(dir.path(), "train --model net.toml --data numbers.safetensors --epochs 1 -q -o numbers-m.safetensors");
    texts::windows(&dir.path().join("text.safetensors"), &b"so it goes, and so it went. ".repeat(9), 6, 20);
    ok_in(dir.path(), "train --model charlstm --data text.safetensors --epochs 1 -q -o text-m.safetensors");
    let refused = |line: &str, code: i32, words: &[&str]| {
        let output = run_in(dir.path(), line);
        assert_code(&output, code, line);
        for word in words {
            assert!(err(&output).contains(word), "{line}: {word}\n{}", err(&output));
        }
        assert!(out(&output).is_empty(), "{line}");
    };
    let more = |more: &str| format!("{EVAL} {more}");
    refused(&more("--tta 0"), 2, &["--tta", "1..=1000"]);
    refused(&more("--tta 3"), 2, &["m.safetensors", "trained without augmentation", "--augment-op"]);
    refused(&more("--augment-op noise"), 2, &["--tta"]);
    refused(&more("--tta 3 --augment-op noise --augment empty.toml"), 2, &["cannot be used"]);
    refused(&more("--tta 3 --augment empty.toml"), 1, &["empty.toml", "[[ops]]"]);
    refused(&more("--tta 3 --augment nothing.toml"), 1, &["nothing.toml"]);
    refused(&more("--tta 3 --augment-op rotat=3"), 2, &["did you mean `rotate`"]);
    refused(&more("--tta 3 --augment-op saturation"), 2, &["`saturation`", "11x9x1"]);
    refused(&more("--tta 3 --augment-op token-swap"), 2, &["`token-swap` is for tokens", "pictures of 11x9x1"]);
    refused(&more("--tta 3 --augment-op mixup"), 2, &["the recipe mixes samples", "--augment-op"]);
    ok_in(
        dir.path(),
        "train --model net.toml --data d.safetensors --epochs 1 -q --augment-op cutmix -o mixed.safetensors",
    );
    refused("eval mixed.safetensors --data d.safetensors --tta 3", 2, &["the recipe mixes samples", "--augment-op"]);
    refused(&more("--tta 3 --augment-op noise --corrupt"), 2, &["cannot be used"]);
    refused(&more("--plot r.svg"), 2, &["--corrupt"]);
    refused(&more("--corrupt --plot d.safetensors --force"), 2, &["d.safetensors"]);
    let rows = "eval rows-m.safetensors --data rows.safetensors";
    refused(
        &format!("{rows} --corrupt"),
        2,
        &["rows.safetensors", "corruptions are for pictures", "rows of 2 features"],
    );
    refused(&format!("{rows} --tta 2 --augment-op rotate"), 2, &["`rotate` is for pictures", "rows of 2"]);
    let numbers = "eval numbers-m.safetensors --data numbers.safetensors --corrupt";
    refused(numbers, 2, &["--corrupt", "needs classes"]);
    let text = "eval text-m.safetensors --data text.safetensors";
    refused(&format!("{text} --tta 2 --augment-op token-swap"), 2, &["--tta is for data with one answer a sample"]);
    refused(&format!("{text} --corrupt"), 2, &["--corrupt is for data with one answer a sample"]);
    fs::write(dir.path().join("r.svg"), "mine").unwrap();
    refused(&more("--corrupt --plot r.svg"), 1, &["r.svg", "--force"]);
    ok_in(dir.path(), &more("--corrupt --plot r.svg --force -q"));
    assert!(fs::read(dir.path().join("r.svg")).unwrap().starts_with(b"<svg"));
}
