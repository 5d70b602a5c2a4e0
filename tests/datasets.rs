//! `inspect` on datasets: what it counts, measures and warns about.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::*;

/// Prepares what is written into `name`, and gives the folder.
fn prepared(name: &str, bytes: &[u8], options: &str) -> tempfile::TempDir {
    let dir = temp_dir();
    fs::write(dir.path().join(name), bytes).unwrap();
    ok_in(dir.path(), &format!("prepare {name} {options} -o data.safetensors --quiet"));
    dir
}

fn survey(dir: &Path, line: &str) -> Value {
    json_out(&ok_in(dir, &format!("inspect {line} --json")))["dataset"].clone()
}

const TABLE: &[u8] = b"a,b,kind\n1,10,x\n2,20,x\n3,60,y\n4,30,y\n";

#[test]
fn splits_classes_and_statistics_are_shown() {
    let dir = prepared("table.csv", TABLE, "--split-at 3");
    let text = out(&ok_in(dir.path(), "inspect data.safetensors"));
    for part in [
        "data.safetensors: a dataset of 4 rows of 2 features, F32",
        "inputs [4, 2]",
        "learns 2 classes",
        "  class  train  test",
        "  y          1     1",
        "standardised by feature",
        "feature `b`  30.0000",
        "table.csv",
    ] {
        assert!(text.contains(part), "wanted {part}\n{text}");
    }
    assert!(!text.contains("stored"), "{text}");
    let survey = survey(dir.path(), "data.safetensors");
    assert_eq!((&survey["samples"], &survey["shape"], &survey["dtype"]), (&json!(4), &json!([4, 2]), &json!("F32")));
    assert_eq!(survey["splits"][1], json!({ "name": "test", "samples": 1, "classes": [0, 1] }));
    assert_eq!(survey["info"]["mean"], json!([2.0, 30.0]));
    assert_eq!(survey["warnings"], json!(["split `test` has no sample of 1 classes: `x`"]));
    assert!(survey.get("channels").is_none());
}

#[test]
fn ranges_are_those_of_the_stored_numbers() {
    let dir = prepared("table.csv", TABLE, "");
    let stats = &survey(dir.path(), "data.safetensors --stats")["channels"];
    assert_eq!(
        (&stats[1]["name"], &stats[1]["min"], &stats[1]["max"]),
        (&json!("feature `b`"), &json!(10.0), &json!(60.0))
    );
    assert_eq!(stats[1]["mean"], json!(30.0));
    let deviation = stats[1]["deviation"].as_f64().unwrap();
    assert!((deviation - 350_f64.sqrt()).abs() < 1e-9, "{deviation}");
    let text = out(&ok_in(dir.path(), "inspect data.safetensors --stats"));
    assert!(text.contains("  stored") && text.contains("10.0000  60.0000  30.0000"), "{text}");
}

#[test]
fn padding_counts_in_no_range_and_lengths_are_spread() {
    let head = "@problemName Set\n@timeStamps false\n@dimensions 1\n@equalLength false\n@classLabel true a b\n@data\n";
    let dir = prepared("set.ts", format!("{head}5,6,7,9:a\n8:b\n6,6:b\n").as_bytes(), "");
    let survey = survey(dir.path(), "data.safetensors --stats");
    assert_eq!(survey["channels"][0]["min"], 5.0);
    let lengths = &survey["lengths"];
    assert_eq!((&lengths["shortest"], &lengths["median"], &lengths["longest"]), (&json!(1), &json!(2), &json!(4)));
    let text = out(&ok_in(dir.path(), "inspect data.safetensors"));
    assert!(text.contains("steps of a sample: 1 to 4, median 2"), "{text}");
}

#[test]
fn unbalanced_classes_are_a_warning() {
    let rows: String = (0..40).map(|row| format!("{row},{}\n", if row < 3 { "rare" } else { "common" })).collect();
    let dir = prepared("table.csv", rows.as_bytes(), "");
    let done = ok_in(dir.path(), "inspect data.safetensors");
    assert!(err(&done).contains("split `train` is unbalanced: 37 samples of `common`, 3 of `rare`"), "{}", err(&done));
    assert!(err(&ok_in(dir.path(), "inspect data.safetensors --quiet")).is_empty());
}

#[test]
fn steps_and_tokens_are_told() {
    let dir = temp_dir();
    for (class, text) in [("cat", "meow"), ("dog", "bark loudly")] {
        fs::create_dir_all(dir.path().join("texts").join(class)).unwrap();
        fs::write(dir.path().join("texts").join(class).join("1.txt"), text).unwrap();
    }
    ok_in(dir.path(), "prepare texts -o data.safetensors --quiet");
    let text = out(&ok_in(dir.path(), "inspect data.safetensors --stats --tensors --metadata"));
    for part in ["up to 11 tokens of", "steps of a sample: 4 to 11", "steps:\n  tokenise", "texts (2 files)", "lengths"]
    {
        assert!(text.contains(part), "wanted {part}\n{text}");
    }
    assert!(text.contains("dlopt.dataset: {"), "{text}");
}

#[test]
fn a_folder_of_shards_is_a_dataset_too() {
    let dir = prepared("table.csv", TABLE, "--split-at 3");
    let whole = read_file(&dir.path().join("data.safetensors"));
    let about = whole.metadata("dlopt.dataset").unwrap().to_owned();
    let folder = dir.path().join("shards");
    fs::create_dir(&folder).unwrap();
    let mut map = serde_json::Map::new();
    for (place, name) in ["inputs", "labels"].into_iter().enumerate() {
        let file = format!("data-{:05}-of-00002.safetensors", place + 1);
        write_file(&folder.join(&file), &[whole.get(name).clone()], &[("dlopt.dataset", &about)]);
        map.insert(name.to_owned(), json!(file));
    }
    let index = json!({ "metadata": { "total_size": 36 }, "weight_map": map });
    fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
    assert_eq!(
        survey(dir.path(), "shards --stats")["channels"],
        survey(dir.path(), "data.safetensors --stats")["channels"]
    );
}

#[test]
fn a_dataset_that_does_not_fit_itself_is_named() {
    let dir = prepared("table.csv", TABLE, "");
    let whole = read_file(&dir.path().join("data.safetensors"));
    let about = whole.metadata("dlopt.dataset").unwrap().to_owned();
    let short = Tensor::new("labels", "U8", &[3], vec![0, 1, 0]);
    write_file(
        &dir.path().join("odd.safetensors"),
        &[whole.get("inputs").clone(), short],
        &[("dlopt.dataset", &about)],
    );
    let done = run_in(dir.path(), "inspect odd.safetensors");
    assert_code(&done, 1, "labels are missing");
    assert!(err(&done).contains("odd.safetensors") && err(&done).matches("error:").count() == 1, "{}", err(&done));
}
