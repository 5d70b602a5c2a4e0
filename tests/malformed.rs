//! Bad input: one clear error that names the file and the tensor, the right exit code, nothing left behind, no panic.
//!
//! Every case runs the binary in a folder of its own and compares the whole folder before and after, so that an output,
//! a temporary file or a changed input is found. A table goes through all of its rows before it fails.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use support::{
    DLOPT, Tensor, assert_same_tensors, dlopt, err, files_below, fixture, read_file, read_json, safetensors, temp_dir,
    with_header_text, write_file, write_folder,
};

/// Long enough for a busy machine; a run that takes it hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// What went wrong with the rows of a table.
#[derive(Default)]
struct Failures(Vec<String>);

impl Failures {
    /// Runs the binary in `dir` and demands a refusal with this code whose message holds all of `needles`.
    fn refused(&mut self, dir: &Path, arguments: &[&str], stdin: Option<&[u8]>, code: i32, needles: &[&str]) {
        let before = files_below(dir);
        let output = run(dir, arguments, stdin);
        let mut complaints = message_complaints(&output, code);
        let message = err(&output);
        for needle in needles.iter().filter(|n| !message.contains(**n)) {
            complaints.push(format!("the message lacks {needle:?}"));
        }
        let after = files_below(dir);
        for name in after.keys().filter(|n| !before.contains_key(*n)) {
            complaints.push(format!("left behind: {name}"));
        }
        for (name, bytes) in &before {
            if after.get(name) != Some(bytes) {
                complaints.push(format!("changed: {name}"));
            }
        }
        self.note(&format!("dlopt {}", arguments.join(" ")), complaints, &message);
    }

    /// Runs the binary in `dir`; it must end with one of these codes, and an error must be one clear error.
    fn survives(&mut self, dir: &Path, arguments: &[&str], codes: &[i32], what: &str) {
        let output = run(dir, arguments, None);
        let message = err(&output);
        let code = output.status.code();
        let mut complaints = Vec::new();
        if !codes.iter().any(|c| Some(*c) == code) {
            complaints.push(format!("exit code {code:?}, not one of {codes:?}"));
        }
        if code == Some(1) {
            complaints.extend(message_complaints(&output, 1));
        }
        if message.contains("panicked") {
            complaints.push("a panic".to_owned());
        }
        self.note(&format!("{what}: dlopt {}", arguments.join(" ")), complaints, &message);
    }

    fn note(&mut self, what: &str, complaints: Vec<String>, message: &str) {
        if !complaints.is_empty() {
            self.0.push(format!("{what}\n    {}\n    it said: {}", complaints.join("\n    "), message.trim_end()));
        }
    }
}

impl Drop for Failures {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.0.is_empty(), "{} rows failed:\n{}", self.0.len(), self.0.join("\n"));
        }
    }
}

fn run(dir: &Path, arguments: &[&str], stdin: Option<&[u8]>) -> Output {
    let mut command = dlopt();
    command.current_dir(dir).args(arguments).timeout(LIMIT);
    if let Some(bytes) = stdin {
        command.write_stdin(bytes);
    }
    command.output().unwrap()
}

/// What is wrong with the shape of an error: `error: …` on one line, perhaps `  try: …` on another, and a code.
fn message_complaints(output: &Output, code: i32) -> Vec<String> {
    let mut complaints = Vec::new();
    if output.status.code() != Some(code) {
        complaints.push(format!("exit code {:?}, not {code}", output.status.code()));
    }
    let text = err(output);
    if text.contains("panicked") {
        complaints.push("a panic".to_owned());
    }
    let lines: Vec<&str> = text.lines().collect();
    // The parser of the command line has a form of its own: the error, then where help is.
    let is_parsers = text.contains("try '--help'") || text.contains("Usage:");
    let errors = lines.iter().filter(|l| l.starts_with("error: ")).count();
    if errors != 1 || !lines.first().is_some_and(|l| l.starts_with("error: ")) {
        complaints.push(format!("{errors} lines begin with `error: `, of {}", lines.len()));
    }
    let has_try = lines.get(1).is_none_or(|l| l.starts_with("  try: "));
    if !is_parsers && (lines.len() > 2 || !has_try) {
        complaints.push(format!("{} lines; an error and what to try are two", lines.len()));
    }
    if text.chars().any(|c| c.is_control() && c != '\n') {
        complaints.push("control characters in the message".to_owned());
    }
    complaints
}

/// Two linear layers and a bias: something to prune and to quantize.
fn layers() -> Vec<Tensor> {
    vec![
        Tensor::random("a.weight", "F32", &[24, 128], 1),
        Tensor::random("a.bias", "F32", &[24], 2),
        Tensor::random("b.weight", "F32", &[40, 128], 3),
    ]
}

/// The same with a number put into `a.weight`.
fn layers_with(index: usize, value: f32) -> Vec<Tensor> {
    let mut tensors = layers();
    tensors[0].bytes[4 * index..4 * index + 4].copy_from_slice(&value.to_le_bytes());
    tensors
}

/// A dataset of five rows of three numbers, two classes.
fn dataset() -> Vec<Tensor> {
    vec![Tensor::random("inputs", "F32", &[5, 3], 4), Tensor::new("labels", "U8", &[5], vec![0, 1, 1, 0, 1])]
}

fn golden_names(kind: &str) -> Vec<String> {
    let expected = read_json(&fixture("golden/safetensors/expected.json"));
    expected[kind].as_object().unwrap().keys().cloned().collect()
}

/// Files that the reference takes and dlopt does not: duplicate names (two readers may disagree about them), an entry
/// in array form, a dimension over 2^63 - 1.
const STRICTER_THAN_THE_REFERENCE: [&str; 4] = [
    "accepted_duplicate_tensor_key_last_wins.safetensors",
    "accepted_duplicate_tensor_key_same.safetensors",
    "tensor_is_array_form.safetensors",
    "zero_dim_then_overflow.safetensors",
];

/// Malformed files whose fault is that of one tensor.
const FAULT_OF_A_TENSOR: [&str; 26] = [
    "accepted_duplicate_tensor_key_last_wins",
    "accepted_duplicate_tensor_key_same",
    "dim_over_u64",
    "duplicate_field_in_info",
    "f4_half_byte",
    "f6_partial_byte",
    "float_dim",
    "hole_at_start",
    "hole_between",
    "lowercase_dtype",
    "missing_dtype",
    "missing_offsets",
    "missing_shape",
    "negative_dim",
    "negative_offset",
    "offsets_reversed",
    "overflow_then_zero_dim",
    "overlap",
    "shape_offset_mismatch",
    "shape_overflow",
    "shared_range",
    "size_overflow",
    "tensor_is_array_form",
    "tensor_is_null",
    "three_offsets",
    "unknown_dtype",
];

#[test]
fn malformed_golden_files_are_refused_by_every_verb_and_through_a_pipe() {
    let mut failures = Failures::default();
    let refused = golden_names("malformed").into_iter().chain(STRICTER_THAN_THE_REFERENCE.map(str::to_owned));
    for name in refused {
        let dir = temp_dir();
        let dir = dir.path();
        let bytes = fs::read(fixture("golden/safetensors").join(&name)).unwrap();
        fs::write(dir.join(&name), &bytes).unwrap();
        write_file(&dir.join("d.safetensors"), &dataset(), &[]);
        let name = name.as_str();
        let tensor = FAULT_OF_A_TENSOR.iter().any(|t| name == format!("{t}.safetensors"));
        let tensor = if tensor { "tensor `" } else { "" };
        failures.refused(dir, &["inspect", name], None, 1, &[name, tensor]);
        failures.refused(dir, &["inspect", "--stats", name], None, 1, &[name, tensor]);
        failures.refused(dir, &["diff", name, name], None, 1, &[name, tensor]);
        let prune = ["prune", "--sparsity", "0.5"];
        failures.refused(dir, &[&prune[..], &[name, "-o", "out.safetensors"]].concat(), None, 1, &[name, tensor]);
        failures.refused(dir, &["quantize", name, "-o", "out/"], None, 1, &[name, tensor]);
        failures.refused(dir, &["convert", name, "-o", "out/"], None, 1, &[name, tensor]);
        failures.refused(dir, &["convert", name, "--dry-run"], None, 1, &[name, tensor]);
        failures.refused(dir, &["eval", name, "--data", "d.safetensors"], None, 1, &[name, tensor]);
        let train = ["train", "--model", "mlp", "-q", "-o", "out.safetensors", "--data"];
        failures.refused(dir, &[&train[..], &[name]].concat(), None, 1, &[name, tensor]);
        failures.refused(dir, &[&train[..], &["d.safetensors", "--init", name]].concat(), None, 1, &[name, tensor]);
        let stdin = "standard input";
        // A header alone does not show that the data behind it are too long or too short.
        if !["data_too_long", "data_too_short", "empty_object_with_data"].iter().any(|n| name.starts_with(n)) {
            failures.refused(dir, &["inspect"], Some(&bytes), 1, &[stdin, tensor]);
        }
        let piped = [&prune[..], &["-o", "out.safetensors"]].concat();
        failures.refused(dir, &piped, Some(&bytes), 1, &[stdin, tensor]);
        failures.refused(dir, &["convert", "-o", "out/"], Some(&bytes), 1, &[stdin, tensor]);
    }
}

#[test]
fn strange_golden_files_that_are_right_are_taken() {
    for name in golden_names("accepted").into_iter().chain(golden_names("valid")) {
        if STRICTER_THAN_THE_REFERENCE.contains(&name.as_str()) {
            continue;
        }
        let dir = temp_dir();
        let path = fixture("golden/safetensors").join(&name);
        let from = path.to_str().unwrap();
        let inspected = run(dir.path(), &["inspect", "--tensors", from], None);
        assert_eq!(inspected.status.code(), Some(0), "{name}: {}", err(&inspected));
        let converted = run(dir.path(), &["convert", from, "-o", "out.safetensors"], None);
        assert_eq!(converted.status.code(), Some(0), "{name}: {}", err(&converted));
        assert_same_tensors(&read_file(&path), &read_file(&dir.path().join("out.safetensors")));
        let piped = run(dir.path(), &["convert"], Some(&fs::read(&path).unwrap()));
        assert_eq!(piped.status.code(), Some(0), "{name}: {}", err(&piped));
        assert_eq!(piped.stdout, fs::read(dir.path().join("out.safetensors")).unwrap(), "{name}");
    }
}

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    let mut failures = Failures::default();
    let bytes = safetensors(&layers(), &[("format", "pt")]);
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let ends: Vec<usize> = layers()
        .iter()
        .scan(data, |at, t| {
            *at += t.bytes.len();
            Some(*at)
        })
        .collect();
    let mut cuts = vec![0, 1, 7, 8, 9, data / 2, data - 1, data, data + 1];
    cuts.extend(ends.iter().flat_map(|&end| [end - 1, end, end + 1]));
    cuts.retain(|&cut| cut < bytes.len());
    for cut in cuts {
        let dir = temp_dir();
        let dir = dir.path();
        fs::write(dir.join("cut.safetensors"), &bytes[..cut]).unwrap();
        let prune = ["prune", "--sparsity", "0.5", "-o", "out.safetensors"];
        let name = "cut.safetensors";
        failures.refused(dir, &["inspect", name], None, 1, &[name]);
        failures.refused(dir, &[&prune[..], &[name]].concat(), None, 1, &[name]);
        failures.refused(dir, &["quantize", name, "-o", "out/"], None, 1, &[name]);
        failures.refused(dir, &["convert", name, "-o", "out/"], None, 1, &[name]);
        let tensor = if cut >= data { "tensor `" } else { "" };
        failures.refused(dir, &prune, Some(&bytes[..cut]), 1, &["standard input", tensor]);
        let global = [&prune[..], &["--scope", "global"]].concat();
        failures.refused(dir, &global, Some(&bytes[..cut]), 1, &["standard input", tensor]);
        failures.refused(dir, &["convert", "-o", "out/"], Some(&bytes[..cut]), 1, &["standard input", tensor]);
        let long = [&bytes[..], &[0; 5]].concat();
        failures.refused(dir, &["convert", "-o", "out/"], Some(&long), 1, &["standard input"]);
    }
}

#[test]
fn headers_that_lie_are_refused() {
    let mut failures = Failures::default();
    let entry = |dtype: &str, shape: &str, offsets: &str| {
        format!("{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":{offsets}}}")
    };
    let one = entry("F32", "[2]", "[0,8]");
    let rows: &[(&str, String, usize)] = &[
        ("duplicate names", format!("{{\"x\":{one},\"x\":{one}}}"), 8),
        ("duplicate names by escapes", format!("{{\"x\":{one},\"\\u0078\":{}}}", entry("F32", "[2]", "[8,16]")), 16),
        ("overlap", format!("{{\"x\":{one},\"y\":{}}}", entry("F32", "[2]", "[4,12]")), 12),
        ("hole", format!("{{\"x\":{one},\"y\":{}}}", entry("F32", "[2]", "[9,17]")), 17),
        ("unknown dtype", format!("{{\"x\":{}}}", entry("F128", "[2]", "[0,32]")), 32),
        ("shape against bytes", format!("{{\"x\":{}}}", entry("F32", "[3]", "[0,8]")), 8),
        ("product overflow", format!("{{\"x\":{}}}", entry("U8", "[4294967296,4294967296]", "[0,0]")), 0),
        ("bits overflow", format!("{{\"x\":{}}}", entry("F64", "[2305843009213693952]", "[0,0]")), 0),
        (
            "offsets overflow",
            format!("{{\"x\":{}}}", entry("U8", "[18446744073709551615]", "[0,18446744073709551615]")),
            0,
        ),
    ];
    for (what, text, data) in rows {
        let dir = temp_dir();
        let bytes = with_header_text(text.as_bytes(), &vec![0; *data]);
        fs::write(dir.path().join("bad.safetensors"), &bytes).unwrap();
        let before = failures.0.len();
        failures.refused(dir.path(), &["inspect", "bad.safetensors"], None, 1, &["bad.safetensors", "tensor `"]);
        failures.refused(dir.path(), &["convert", "-o", "out/"], Some(&bytes), 1, &["standard input", "tensor `"]);
        failures.0[before..].iter_mut().for_each(|f| *f = format!("{what}: {f}"));
    }
    for (what, text) in [
        ("deep nesting", format!("{{\"x\":{}", "[".repeat(1 << 20))),
        ("deep nesting in an ignored field", format!("{{\"x\":{{\"y\":{}", "[".repeat(1 << 20))),
        ("a long name cut", format!("{{\"{}", "x".repeat(1 << 20))),
    ] {
        let dir = temp_dir();
        fs::write(dir.path().join("bad.safetensors"), with_header_text(text.as_bytes(), &[])).unwrap();
        let before = failures.0.len();
        failures.refused(dir.path(), &["inspect", "bad.safetensors"], None, 1, &["bad.safetensors"]);
        failures.0[before..]
            .iter_mut()
            .for_each(|f| *f = format!("{what}: {}", f.chars().take(500).collect::<String>()));
    }
}

/// A folder of two shards; `change` may break it.
fn folder(dir: &Path, change: impl FnOnce(&Path)) {
    let mut tensors = layers();
    let last = tensors.pop().unwrap();
    let config = json!({ "model_type": "bert" });
    write_folder(&dir.join("model"), &[tensors, vec![last]], Some(&config), &[("tokenizer.json", b"{}")]);
    change(&dir.join("model"));
}

fn edit_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = read_json(path);
    change(&mut value);
    fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
}

const INDEX: &str = "model.safetensors.index.json";
const SECOND: &str = "model-00002-of-00002.safetensors";

#[test]
fn broken_folders_are_refused() {
    type Change = Box<dyn Fn(&Path)>;
    let map = |name: &'static str, to: &'static str| -> Change {
        Box::new(move |m: &Path| {
            edit_json(&m.join(INDEX), |v| {
                v["weight_map"].as_object_mut().unwrap().insert(name.to_owned(), json!(to));
            });
        })
    };
    let index = |text: &'static str| -> Change { Box::new(move |m: &Path| fs::write(m.join(INDEX), text).unwrap()) };
    let config =
        |text: &'static str| -> Change { Box::new(move |m: &Path| fs::write(m.join("config.json"), text).unwrap()) };
    let rows: Vec<(&str, Change, Vec<&str>)> = vec![
        ("a missing shard", Box::new(|m: &Path| fs::remove_file(m.join(SECOND)).unwrap()), vec![INDEX, SECOND]),
        (
            "a shard tensor missing from the index",
            Box::new(|m: &Path| {
                edit_json(&m.join(INDEX), |v| {
                    v["weight_map"].as_object_mut().unwrap().remove("a.bias");
                });
            }),
            vec![INDEX, "`a.bias`"],
        ),
        ("an index tensor missing in its shard", map("c.weight", SECOND), vec![INDEX, "`c.weight`"]),
        ("a tensor in another shard than the index says", map("a.bias", SECOND), vec![INDEX, "`a.bias`"]),
        ("a shard name with ..", map("a.bias", "../x.safetensors"), vec![INDEX, "../x.safetensors"]),
        ("an absolute shard name", map("a.bias", "/etc/passwd"), vec![INDEX, "/etc/passwd"]),
        ("a shard name in a folder", map("a.bias", "sub/x.safetensors"), vec![INDEX, "sub/x.safetensors"]),
        ("an empty shard name", map("a.bias", ""), vec![INDEX]),
        ("a shard named .", map("a.bias", "."), vec![INDEX]),
        ("a shard name with NUL", map("a.bias", "x\0.safetensors"), vec![INDEX]),
        ("a shard name with a newline", map("a.bias", "x\ny.safetensors"), vec![INDEX]),
        ("a shard that is the index", map("a.bias", INDEX), vec![INDEX]),
        ("a broken index", index("{\"weight_map\":"), vec![INDEX]),
        ("an index of nothing", index("{\"weight_map\":{}}"), vec![INDEX]),
        ("an index without a map", index("{}"), vec![INDEX]),
        ("an index of numbers", index("{\"weight_map\":{\"a\":1}}"), vec![INDEX]),
        ("an empty index", index(""), vec![INDEX]),
        ("a broken config", config("{\"model_type\": "), vec!["config.json"]),
        ("a config that is no object", config("[1]"), vec!["config.json"]),
        ("an empty config", config(""), vec!["config.json"]),
        (
            "a config that is no text",
            Box::new(|m: &Path| fs::write(m.join("config.json"), b"{\"a\":\"\xff\"}").unwrap()),
            vec!["config.json"],
        ),
        ("a malformed shard", Box::new(|m: &Path| fs::write(m.join(SECOND), b"short").unwrap()), vec![SECOND]),
        (
            "a shard that is a folder",
            Box::new(|m: &Path| {
                fs::remove_file(m.join(SECOND)).unwrap();
                fs::create_dir(m.join(SECOND)).unwrap();
            }),
            vec![SECOND],
        ),
        (
            "several files and no index",
            Box::new(|m: &Path| fs::remove_file(m.join(INDEX)).unwrap()),
            vec!["model", "2 safetensors"],
        ),
        (
            "no weights",
            Box::new(|m: &Path| {
                for entry in fs::read_dir(m).unwrap() {
                    let path = entry.unwrap().path();
                    if path.to_string_lossy().contains(".safetensors") {
                        fs::remove_file(path).unwrap();
                    }
                }
            }),
            vec!["model", "no weights"],
        ),
        (
            "the same tensor in two shards",
            Box::new(|m: &Path| {
                let mut tensors = vec![layers().pop().unwrap()];
                tensors.push(layers().remove(0));
                write_file(&m.join(SECOND), &tensors, &[]);
            }),
            vec!["`a.weight`"],
        ),
    ];
    let mut failures = Failures::default();
    for (what, change, needles) in rows {
        let dir = temp_dir();
        folder(dir.path(), |m| change(m));
        let before = failures.0.len();
        failures.refused(dir.path(), &["inspect", "model"], None, 1, &needles);
        failures.refused(dir.path(), &["prune", "--sparsity", "0.5", "model", "-o", "out"], None, 1, &needles);
        failures.refused(dir.path(), &["convert", "model", "-o", "out.safetensors"], None, 1, &needles);
        failures.0[before..].iter_mut().for_each(|f| *f = format!("{what}: {f}"));
    }
}

#[test]
fn weights_that_are_not_finite_are_named_unless_they_are_allowed() {
    let mut failures = Failures::default();
    for (value, word) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "inf")] {
        let dir = temp_dir();
        let tensors = layers_with(300, value);
        write_file(&dir.path().join("in.safetensors"), &tensors, &[]);
        let bytes = safetensors(&tensors, &[]);
        let wanted = ["in.safetensors", "`a.weight`", "index 300", word];
        for line in [
            "prune --sparsity 0.5 in.safetensors -o out.safetensors",
            "prune --sparsity 0.5 --scope global in.safetensors -o out.safetensors",
            "prune --pattern 2:4 in.safetensors -o out/",
            "prune --sparsity 0.5 --criterion random --store bitmask in.safetensors -o out.safetensors",
            "quantize in.safetensors -o out.safetensors",
            "quantize --scheme w8a8 in.safetensors -o out/",
            "quantize --scheme fp8_dynamic in.safetensors -o out/",
            "quantize --scheme w4a16_asym --method mse in.safetensors -o out/",
        ] {
            let arguments: Vec<_> = line.split(' ').collect();
            failures.refused(dir.path(), &arguments, None, 1, &wanted);
        }
        let wanted = ["standard input", "`a.weight`", "index 300", word];
        failures.refused(dir.path(), &["prune", "--pattern", "2:4", "-o", "o.safetensors"], Some(&bytes), 1, &wanted);
        failures.refused(dir.path(), &["quantize", "-o", "o.safetensors"], Some(&bytes), 1, &wanted);
        let folder_input = dir.path().join("m");
        write_folder(&folder_input, &[vec![layers().pop().unwrap()], tensors[..1].to_vec()], None, &[]);
        failures.refused(dir.path(), &["quantize", "m", "-o", "out"], None, 1, &["m", "`a.weight`", "index 300"]);
    }
}

#[test]
fn allowed_nonfinite_weights_have_defined_results() {
    let dir = temp_dir();
    let dir = dir.path();
    let mut tensors = layers_with(300, f32::NAN);
    tensors[0].bytes[4 * 700..4 * 701].copy_from_slice(&f32::INFINITY.to_le_bytes());
    tensors[0].bytes[4 * 900..4 * 901].copy_from_slice(&f32::NEG_INFINITY.to_le_bytes());
    write_file(&dir.join("in.safetensors"), &tensors, &[]);
    for line in [
        "prune --sparsity 0.9 --allow-nonfinite in.safetensors -o p.safetensors",
        "prune --pattern 1:4 --allow-nonfinite in.safetensors -o nm.safetensors",
    ] {
        support::ok_in(dir, line);
    }
    for file in ["p.safetensors", "nm.safetensors"] {
        let values = read_file(&dir.join(file)).get("a.weight").values();
        assert!(values[300].is_nan(), "{file}: the largest magnitude is kept");
        assert_eq!((values[700], values[900]), (f32::INFINITY, f32::NEG_INFINITY), "{file}");
    }
    assert_eq!(read_file(&dir.join("p.safetensors")).get("a.weight").zeros(), 2765, "0.9 of 3072 is 2764.8");
    assert_eq!(read_file(&dir.join("nm.safetensors")).get("a.weight").zeros(), 2304);

    // NaN counts as zero: the same bytes as if it were one. Infinities are clamped: everything stays finite.
    let zero = layers_with(300, 0.0);
    write_file(&dir.join("zero.safetensors"), &zero, &[]);
    write_file(&dir.join("nan.safetensors"), &layers_with(300, f32::NAN), &[]);
    for scheme in ["w4a16", "w4a16_asym", "w8a16", "w8a8", "fp8_dynamic", "fp8a16"] {
        support::ok_in(dir, &format!("quantize --scheme {scheme} --allow-nonfinite nan.safetensors -o q.safetensors"));
        support::ok_in(dir, &format!("quantize --scheme {scheme} --allow-nonfinite zero.safetensors -o z.safetensors"));
        let (nan, zero) = (read_file(&dir.join("q.safetensors")), read_file(&dir.join("z.safetensors")));
        assert_same_tensors(&nan, &zero);
        support::ok_in(dir, &format!("quantize --scheme {scheme} --allow-nonfinite in.safetensors -o i.safetensors"));
        support::ok_in(dir, "convert --decompress i.safetensors -o d.safetensors");
        let values = read_file(&dir.join("d.safetensors")).get("a.weight").values();
        assert!(values.iter().all(|v| v.is_finite()), "{scheme}");
        assert_eq!(values[300], 0.0, "{scheme}");
        assert!(values[700] > 0.0 && values[900] < 0.0, "{scheme}: {} {}", values[700], values[900]);
        for file in ["q", "z", "i", "d"] {
            fs::remove_file(dir.join(file).with_extension("safetensors")).unwrap();
        }
    }
}

#[test]
fn options_that_mean_nothing_are_wrong_usage() {
    let mut failures = Failures::default();
    let dir = temp_dir();
    write_file(&dir.path().join("in.safetensors"), &layers(), &[]);
    fs::create_dir(dir.path().join("empty")).unwrap();
    let mut lines: Vec<(String, i32, Vec<&str>)> = Vec::new();
    let to = "in.safetensors -o out.safetensors";
    for sparsity in ["-0.1", "1.0001", "NaN", "inf", "-inf", "text", "", "0.5x"] {
        lines.push((format!("prune --sparsity={sparsity} {to}"), 2, vec!["sparsity"]));
    }
    for pattern in [
        "3:2",
        "0:4",
        "2:0",
        "0:0",
        "4:4",
        "a:b",
        ":",
        "2:",
        ":4",
        "2:4:8",
        "-1:4",
        "2.0:4",
        "2:99999999999999999999",
        "none",
    ] {
        lines.push((format!("prune --pattern={pattern} {to}"), 2, vec![pattern]));
    }
    for (line, needle) in [
        ("prune --pattern 2:4 --sparsity 0.4", "2:4"),
        ("prune --pattern 1:4 --sparsity 0.5", "1:4"),
        ("prune --pattern 2:4 --scope global", "2:4"),
        ("prune", "sparsity"),
        ("prune --sparsity 0.5 --scope row", "row"),
        ("prune --sparsity 0.5 --criterion loudness", "loudness"),
        ("prune --sparsity 0.5 --store zip", "zip"),
        ("prune --sparsity 0.5 --seed 1", "seed"),
        ("prune --sparsity 0.5 --seed -1 --criterion random", "-1"),
        ("prune --sparsity 0.5 --threads 0", "0"),
        ("prune --sparsity 0.5 --threads many", "many"),
        ("prune --sparsity 0.5 --memory 0", "memory"),
        ("prune --sparsity 0.5 --memory lots", "lots"),
        ("prune --sparsity 0.5 --resume", "--resume"),
        ("prune --sparsity 0.5 --max-shard-size 1MB", "--max-shard-size"),
        ("prune --sparsity 0.5 --quiet --verbose", "--verbose"),
        ("prune --sparsity 0.5 --no-files --files-from empty", "--no-files"),
        ("prune --sparsity 0.5 --sparsity 0.6", "--sparsity"),
        ("prune --sparsity 0.5 --include [", "["),
        ("prune --sparsity 0.5 --nonsense", "--nonsense"),
        ("prune --sparsity 0.5 --tied maybe", "maybe"),
        ("quantize --scheme w9a16", "w9a16"),
        ("quantize --scheme=", ""),
        ("quantize --method magic", "magic"),
        ("quantize --bits 9", "9"),
        ("quantize --bits -4", "-4"),
        ("quantize --group 0", "0"),
        ("quantize --group -1", "-1"),
        ("quantize --group 99999999999999999999", "99999999999999999999"),
        ("quantize --group row", "row"),
        ("quantize --symmetric --asymmetric", "symmetric"),
        ("quantize --scheme fp8_dynamic --asymmetric", "FP8_DYNAMIC"),
        ("quantize --scheme bf16 --group 32", "BF16"),
        ("quantize --fallback none", "none"),
        ("quantize --rule a.weight", "a.weight"),
        ("quantize --rule a.weight=w9", "w9"),
        ("quantize --rule [=w8a16", "["),
        ("quantize --rule a.weight=w4a16:0", "0"),
        ("convert --dtype f8", "f8"),
        ("convert --include a.*", "--dtype"),
        ("convert --allow-nonfinite", "--dtype"),
        ("diff --tolerance=-1 in.safetensors", "tolerance"),
        ("diff --tolerance NaN in.safetensors", "tolerance"),
    ] {
        let to = if line.starts_with("diff") { "in.safetensors" } else { to };
        lines.push((format!("{line} {to}"), 2, vec![needle]));
    }
    for (line, needle) in [("shrink in.safetensors", "shrink"), ("inspect a b", "b"), ("diff in.safetensors", "<B>")] {
        lines.push((line.to_owned(), 2, vec![needle]));
    }
    for (line, code, needles) in &lines {
        let arguments: Vec<_> = line.split(' ').collect();
        let needles: Vec<_> = needles.iter().map(|n| &**n).collect();
        let before = failures.0.len();
        failures.refused(dir.path(), &arguments, None, *code, &[]);
        // The name may stand in another case.
        let message = err(&run(dir.path(), &arguments, None)).to_lowercase();
        if failures.0.len() == before && needles.iter().any(|n| !message.contains(&n.to_lowercase())) {
            failures.note(line, vec![format!("the message lacks {needles:?}")], &message);
        }
    }
}

#[test]
fn globs_that_match_nothing_are_refused_with_names_that_are_there() {
    let mut failures = Failures::default();
    let dir = temp_dir();
    write_file(&dir.path().join("in.safetensors"), &layers(), &[]);
    for line in [
        "prune --sparsity 0.5 --include x.*",
        "prune --sparsity 0.5 --exclude x.*",
        "prune --pattern 2:4 --include a.weight --include x.*",
        "quantize --include x.*",
        "quantize --exclude x.*",
        "quantize --rule x.*=w8a16",
        "quantize --rule x.*=skip",
        "convert --dtype bf16 --include x.*",
        "convert --dtype bf16 --exclude x.*",
    ] {
        let mut arguments: Vec<_> = line.split(' ').collect();
        arguments.extend(["in.safetensors", "-o", "out.safetensors"]);
        failures.refused(dir.path(), &arguments, None, 1, &["in.safetensors", "`x.*`", "`a.weight`"]);
        arguments.truncate(arguments.len() - 2);
        arguments.push("--dry-run");
        failures.refused(dir.path(), &arguments, None, 1, &["in.safetensors", "`x.*`"]);
    }
    // Everything excluded, or nothing there to take.
    for line in ["prune --sparsity 0.5 --exclude *", "quantize --exclude *", "prune --sparsity 0.5 --include a.bias"] {
        let mut arguments: Vec<_> = line.split(' ').collect();
        arguments.extend(["in.safetensors", "-o", "out.safetensors"]);
        let output = run(dir.path(), &arguments, None);
        if line.contains("a.bias") {
            // A vector that is named may be taken or refused; it must not be a surprise.
            assert!([0, 1].contains(&output.status.code().unwrap()), "{line}: {}", err(&output));
            let _ = fs::remove_file(dir.path().join("out.safetensors"));
        } else {
            failures.refused(dir.path(), &arguments, None, 1, &["in.safetensors"]);
        }
    }
}

#[test]
fn a_group_size_that_fits_nothing_is_refused_with_sizes_that_would() {
    let dir = temp_dir();
    let dir = dir.path();
    let tensors = [Tensor::random("a.weight", "F32", &[8, 60], 1), Tensor::random("b.weight", "F32", &[8, 90], 2)];
    write_file(&dir.join("in.safetensors"), &tensors, &[]);
    let arguments = ["quantize", "in.safetensors", "--group", "128", "-o", "out.safetensors"];
    let mut failures = Failures::default();
    failures.refused(dir, &arguments, None, 1, &["in.safetensors", "128", "--group "]);
    let message = err(&run(dir, &arguments, None));
    let hint = message.lines().find(|l| l.starts_with("  try:")).unwrap_or_default();
    let sizes: Vec<usize> = hint.split(|c: char| !c.is_ascii_digit()).filter_map(|w| w.parse().ok()).collect();
    assert!(!sizes.is_empty(), "{message}");
    for size in sizes {
        assert!(60 % size == 0 && 90 % size == 0, "{size} does not fit: {message}");
        let dir = temp_dir();
        write_file(&dir.path().join("in.safetensors"), &tensors, &[]);
        support::ok_in(dir.path(), &format!("quantize in.safetensors --group {size} -o out.safetensors"));
    }
    // A rule that names a tensor means it.
    fs::remove_file(dir.join("in.safetensors")).unwrap();
    write_file(&dir.join("m.safetensors"), &[tensors[1].clone(), Tensor::random("c.weight", "F32", &[8, 256], 1)], &[]);
    failures.refused(
        dir,
        &["quantize", "m.safetensors", "--rule", "b.weight=w4a16:128", "-o", "out.safetensors"],
        None,
        1,
        &["m.safetensors", "`b.weight`", "128"],
    );
}

#[test]
fn too_little_memory_names_the_least() {
    let dir = temp_dir();
    let dir = dir.path();
    write_file(&dir.join("in.safetensors"), &layers(), &[]);
    let arguments = ["prune", "--sparsity", "0.5", "in.safetensors", "-o", "out.safetensors", "--threads", "1"];
    let too_little = [&arguments[..], &["--memory", "1"]].concat();
    Failures::default().refused(dir, &too_little, None, 1, &["--memory 1"]);
    let message = err(&run(dir, &too_little, None));
    let least = message.split_once("try: --memory ").unwrap().1.trim().to_owned();
    let less = (least.parse::<u64>().unwrap() - 1).to_string();
    Failures::default().refused(dir, &[&arguments[..], &["--memory", &less]].concat(), None, 1, &[&least]);
    let enough = run(dir, &[&arguments[..], &["--memory", &least]].concat(), None);
    assert_eq!(enough.status.code(), Some(0), "{}", err(&enough));
}

#[test]
fn a_terminal_neither_gives_nor_takes_a_checkpoint() {
    if std::process::Command::new("script").arg("--version").output().is_err() {
        eprintln!("skipped: there is no `script` to make a terminal with");
        return;
    }
    let dir = temp_dir();
    write_file(&dir.path().join("in.safetensors"), &layers(), &[]);
    let before = files_below(dir.path());
    for (line, wanted) in [
        ("prune --sparsity 0.5 in.safetensors", "standard output is a terminal"),
        ("quantize in.safetensors -o -", "standard output is a terminal"),
        ("convert in.safetensors", "standard output is a terminal"),
        ("prune --sparsity 0.5 -o out.safetensors", "standard input is a terminal"),
        ("quantize - -o out/", "standard input is a terminal"),
        ("inspect", "standard input is a terminal"),
    ] {
        let output = std::process::Command::new("timeout")
            .args(["60", "script", "-qec", &format!("'{DLOPT}' {line}"), "/dev/null"])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = support::out(&output);
        assert_eq!(output.status.code(), Some(2), "{line}: {text}");
        assert!(text.contains(wanted) && !text.contains("panicked"), "{line}: {text}");
        assert_eq!(files_below(dir.path()), before, "{line}");
    }
}

#[test]
fn pickles_with_code_and_damaged_imports_are_refused() {
    let mut failures = Failures::default();
    let mut rows: Vec<(String, Vec<u8>, &str)> = Vec::new();
    let import = fixture("import");
    for (name, needle) in [
        ("evil_eval.pth", "eval"),
        ("evil_global.pth", "system"),
        ("evil_legacy.pth", "system"),
        ("evil_stack_global.pth", ""),
        ("bad_bomb.pth", ""),
        ("bad_bounds.pth", ""),
        ("bad_conjugated.pth", ""),
        ("bad_negative.pth", ""),
        ("bad_offset.pth", ""),
        ("bad_shape.pth", ""),
        ("bad_strides.pth", ""),
        ("longdouble.npz", ""),
        ("objects.npz", ""),
    ] {
        rows.push((name.to_owned(), fs::read(import.join(name)).unwrap(), needle));
    }
    for name in ["plain.pth", "legacy.pth", "stored.npz", "deflated.npz", "deflated.pth", "one.npy"] {
        let bytes = fs::read(import.join(name)).unwrap();
        for share in [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99] {
            let cut = (bytes.len() as f64 * share) as usize;
            rows.push((format!("cut{cut}_{name}"), bytes[..cut].to_vec(), ""));
        }
        rows.push((format!("cut_last_{name}"), bytes[..bytes.len() - 1].to_vec(), ""));
    }
    for (name, bytes, needle) in &rows {
        let dir = temp_dir();
        fs::write(dir.path().join(name), bytes).unwrap();
        failures.refused(dir.path(), &["convert", name, "-o", "out.safetensors"], None, 1, &[name, needle]);
        failures.refused(dir.path(), &["prune", "--sparsity", "0.5", name, "-o", "out/"], None, 1, &[name]);
    }
    // Nothing of the hostile ones ran: the fixtures' generator says what they would leave in the working folder.
    for name in ["evil_eval.pth", "evil_global.pth", "evil_legacy.pth", "evil_stack_global.pth"] {
        let dir = temp_dir();
        let path = import.join(name);
        failures.refused(dir.path(), &["inspect", path.to_str().unwrap()], None, 1, &[name]);
    }
    // A pickle does not come through a pipe: it needs to be sought in.
    let dir = temp_dir();
    let bytes = fs::read(import.join("plain.pth")).unwrap();
    failures.refused(dir.path(), &["convert", "-o", "out.safetensors"], Some(&bytes), 1, &["standard input"]);
}

#[test]
fn outputs_that_cannot_be_are_refused() {
    let mut failures = Failures::default();
    let dir = temp_dir();
    let dir = dir.path();
    write_file(&dir.join("in.safetensors"), &layers(), &[]);
    write_file(&dir.join("there.safetensors"), &layers(), &[]);
    folder(dir, |_| ());
    fs::create_dir(dir.join("full")).unwrap();
    fs::write(dir.join("full/keep.txt"), "keep").unwrap();
    let prune = ["prune", "--sparsity", "0.5"];
    let mut refuse = |rest: &[&str], code: i32, needles: &[&str]| {
        failures.refused(dir, &[&prune[..], rest].concat(), None, code, needles);
    };
    refuse(&["in.safetensors", "-o", "there.safetensors"], 1, &["there.safetensors", "exists", "--force"]);
    refuse(&["in.safetensors", "-o", "full/"], 1, &["full", "exists", "--force"]);
    refuse(&["in.safetensors", "-o", "full"], 1, &["full", "exists", "--force"]);
    refuse(&["model", "-o", "full"], 1, &["full", "exists", "--force"]);
    for force in [&[][..], &["--force"]] {
        refuse(&[&["in.safetensors", "-o", "in.safetensors"], force].concat(), 2, &["in.safetensors", "input"]);
        refuse(&[&["in.safetensors", "-o", "./model/../in.safetensors"], force].concat(), 2, &["input"]);
        refuse(&[&["model", "-o", "model"], force].concat(), 2, &["model", "input"]);
        refuse(&[&["model", "-o", "model/"], force].concat(), 2, &["model", "input"]);
        refuse(&[&["model", "-o", "."], force].concat(), 2, &["input"]);
        refuse(&[&["model", "-o", "model/model-00001-of-00002.safetensors"], force].concat(), 2, &["input"]);
        refuse(&[&["in.safetensors", "-o", "no/such/out.safetensors"], force].concat(), 1, &["no/such"]);
        refuse(&[&["in.safetensors", "-o", "no/such/folder/"], force].concat(), 1, &["no/such"]);
        refuse(&[&["in.safetensors", "-o", "there.safetensors/out.safetensors"], force].concat(), 1, &["there"]);
        refuse(&[&["model", "-o", "there.safetensors/"], force].concat(), 1, &["there.safetensors"]);
        refuse(&[&["in.safetensors", "-o", ".."], force].concat(), 2, &[]);
        refuse(&[&["in.safetensors", "-o", ""], force].concat(), 2, &[]);
    }
    refuse(&["nothing.safetensors", "-o", "out.safetensors"], 1, &["nothing.safetensors"]);
    refuse(&["", "-o", "out.safetensors"], 2, &[]);
    refuse(&["in.safetensors/", "-o", "out.safetensors"], 1, &["in.safetensors"]);
    refuse(&["in.safetensors", "--files-from", "nowhere", "-o", "out.safetensors"], 1, &["nowhere"]);
}

#[test]
fn a_report_replaces_nothing_and_its_place_is_known_before_the_work() {
    let mut failures = Failures::default();
    for (report, code, needle) in [
        ("in.safetensors", 2, "in.safetensors"),
        ("./in.safetensors", 2, "in.safetensors"),
        ("out.safetensors", 2, "out.safetensors"),
        ("no/such/r.json", 1, "no/such/r.json"),
        ("full", 1, "full"),
    ] {
        let dir = temp_dir();
        write_file(&dir.path().join("in.safetensors"), &layers(), &[]);
        fs::create_dir(dir.path().join("full")).unwrap();
        let prune = ["prune", "--sparsity", "0.5", "in.safetensors", "-o", "out.safetensors", "--report", report];
        failures.refused(dir.path(), &prune, None, code, &[needle]);
    }
}

#[test]
fn an_output_that_is_a_pipe_or_device_is_not_replaced() {
    let dir = temp_dir();
    let dir = dir.path();
    write_file(&dir.join("in.safetensors"), &layers(), &[]);
    let made = std::process::Command::new("mkfifo").arg(dir.join("out.safetensors")).status();
    if !made.is_ok_and(|s| s.success()) {
        eprintln!("skipped: there is no `mkfifo`");
        return;
    }
    for force in ["", " --force"] {
        let line = format!("prune --sparsity 0.5 in.safetensors -o out.safetensors{force}");
        let output = std::process::Command::new("timeout")
            .arg("2")
            .arg(DLOPT)
            .args(line.split(' '))
            .current_dir(dir)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        use std::os::unix::fs::FileTypeExt;
        let kind = fs::symlink_metadata(dir.join("out.safetensors")).unwrap().file_type();
        assert!(kind.is_fifo(), "{line}: the named pipe was replaced by a file\n{}", err(&output));
        assert_ne!(output.status.code(), Some(0), "{line}");
    }
}

#[test]
fn input_that_is_no_checkpoint_is_refused() {
    let mut failures = Failures::default();
    let dir = temp_dir();
    let dir = dir.path();
    fs::write(dir.join("text.txt"), "not a checkpoint at all, but a text of some length").unwrap();
    fs::write(dir.join("GGUF.gguf"), b"GGUF\x03\0\0\0aaaaaaaaaaaaaaaaaaaaaaa").unwrap();
    fs::write(dir.join("zeros.bin"), vec![0; 4096]).unwrap();
    fs::create_dir(dir.join("empty")).unwrap();
    for name in ["text.txt", "GGUF.gguf", "zeros.bin", "empty"] {
        failures.refused(dir, &["inspect", name], None, 1, &[name]);
        failures.refused(dir, &["prune", "--sparsity", "0.5", name, "-o", "out.safetensors"], None, 1, &[name]);
        failures.refused(dir, &["convert", name, "-o", "out.safetensors"], None, 1, &[name]);
    }
    for bytes in [&b""[..], b"x", b"1234567", b"12345678", b"hello, this is some text and no checkpoint"] {
        failures.refused(
            dir,
            &["prune", "--sparsity", "0.5", "-o", "o.safetensors"],
            Some(bytes),
            1,
            &["standard input"],
        );
        failures.refused(dir, &["quantize", "-o", "out/"], Some(bytes), 1, &["standard input"]);
        failures.refused(dir, &["inspect"], Some(bytes), 1, &["standard input"]);
    }
    // What the first verb of a pipe did not give is the error of the second, and neither writes anything.
    let piped = support::pipe_in(dir, None, &["prune --sparsity 0.5 nothing.safetensors", "quantize -o out/"]);
    assert_eq!(piped.codes, [Some(1), Some(1)], "{piped:?}");
    assert!(!dir.join("out").exists());
}

#[test]
fn what_is_compressed_already_is_refused_with_the_way_back() {
    let mut failures = Failures::default();
    let dir = temp_dir();
    let dir = dir.path();
    let silero = fixture("silero/silero_vad_16k.safetensors");
    let silero = silero.to_str().unwrap();
    support::assert_code(
        &support::run(&[
            "quantize",
            silero,
            "--group",
            "32",
            "--fallback",
            "channel",
            "-o",
            dir.join("layout.safetensors").to_str().unwrap(),
        ]),
        0,
        "quantize",
    );
    support::assert_code(
        &support::run(&[
            "prune",
            silero,
            "--sparsity",
            "0.7",
            "--store",
            "bitmask",
            "-o",
            dir.join("bitmask.safetensors").to_str().unwrap(),
        ]),
        0,
        "prune",
    );
    let folder = fixture("golden/tiny_llama/w4a16_g32");
    for (input, name) in [
        ("layout.safetensors", "layout.safetensors"),
        ("bitmask.safetensors", "bitmask.safetensors"),
        (folder.to_str().unwrap(), "w4a16_g32"),
    ] {
        for verb in [
            &["prune", "--sparsity", "0.5"][..],
            &["prune", "--pattern", "2:4"],
            &["prune", "--sparsity", "0.5", "--store", "bitmask"],
            &["quantize"],
            &["quantize", "--scheme", "fp8_dynamic"],
        ] {
            let arguments = [verb, &[input, "-o", "out.safetensors"]].concat();
            failures.refused(dir, &arguments, None, 1, &[name, "convert --decompress"]);
        }
    }
}

#[test]
fn recipes_that_cannot_be_run_are_wrong_usage() {
    let mut failures = Failures::default();
    let rows: &[(&str, &str)] = &[
        ("", "pass"),
        ("[[pass]]\n", "verb"),
        ("[[pass]]\nverb = 3\n", "verb"),
        ("[[pass]]\nverb = \"train\"\n", "train"),
        ("[[pass]]\nverb = \"inspect\"\n", "inspect"),
        ("[[pass]]\nverb = \"run\"\n", "run"),
        ("[[pass]]\nverb = \"prune\"\nsparsty = 0.5\n", "sparsty"),
        ("[[pass]]\nverb = \"prune\"\nsparsity = 1.5\n", "1.5"),
        ("[[pass]]\nverb = \"prune\"\nsparsity = \"half\"\n", "half"),
        ("[[pass]]\nverb = \"prune\"\npattern = \"4:2\"\n", "4:2"),
        ("[[pass]]\nverb = \"prune\"\noutput = \"x\"\npattern = \"2:4\"\n", "output"),
        ("[[pass]]\nverb = \"prune\"\npattern = { n = 2 }\n", "pattern"),
        ("[[pass]]\nverb = \"prune\"\nhelp = true\n", "help"),
        ("[[pass]]\nverb = \"quantize\"\nscheme = \"w9\"\n", "w9"),
        ("[[pass]]\nverb = \"quantize\"\ngroup = -1\n", "-1"),
        ("[[pass]]\nverb = \"prune\"\npattern = \"2:4\"\n[[pass]]\nverb = \"quantize\"\nbits = 9\n", "pass 2"),
        ("unknown = 1\n[[pass]]\nverb = \"convert\"\n", "unknown"),
        ("[[pass]\nverb = \"convert\"\n", "recipe.toml"),
        ("pass = 3\n", "pass"),
        ("verb = \"prune\"\n", "recipe.toml"),
        ("[[pass]]\nverb = \"prune\"\n\0", "recipe.toml"),
    ];
    for (text, needle) in rows {
        let dir = temp_dir();
        write_file(&dir.path().join("in.safetensors"), &layers(), &[]);
        fs::write(dir.path().join("recipe.toml"), text).unwrap();
        let arguments = ["run", "recipe.toml", "in.safetensors", "-o", "out.safetensors"];
        let before = failures.0.len();
        failures.refused(dir.path(), &arguments, None, 2, &["recipe.toml", needle]);
        failures.0[before..].iter_mut().for_each(|f| *f = format!("{text:?}: {f}"));
    }
    let dir = temp_dir();
    write_file(&dir.path().join("in.safetensors"), &layers(), &[]);
    failures.refused(
        dir.path(),
        &["run", "none.toml", "in.safetensors", "-o", "o.safetensors"],
        None,
        1,
        &["none.toml"],
    );
    fs::write(dir.path().join("latin.toml"), b"# \xff\n[[pass]]\nverb = \"convert\"\n").unwrap();
    failures.refused(
        dir.path(),
        &["run", "latin.toml", "in.safetensors", "-o", "o.safetensors"],
        None,
        1,
        &["latin.toml"],
    );
    // A pass that meets what the one before it made.
    fs::write(
        dir.path().join("twice.toml"),
        "[[pass]]\nverb = \"quantize\"\n[[pass]]\nverb = \"prune\"\nsparsity = 0.5\n",
    )
    .unwrap();
    failures.refused(
        dir.path(),
        &["run", "twice.toml", "in.safetensors", "-o", "o.safetensors"],
        None,
        1,
        &["convert --decompress"],
    );
}

#[test]
fn files_that_may_not_be_read_or_written_are_named() {
    let dir = temp_dir();
    let dir = dir.path();
    write_file(&dir.join("secret.safetensors"), &layers(), &[]);
    write_file(&dir.join("open.safetensors"), &layers(), &[]);
    let mode = |path: &Path, bits| fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap();
    mode(&dir.join("secret.safetensors"), 0);
    mode(&dir.join("open.safetensors"), 0o644);
    mode(dir, 0o755);
    // Root may read anything, so that somebody else must be asked.
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", DLOPT, "--version"];
    let works = std::process::Command::new("setpriv").args(nobody).output().is_ok_and(|o| o.status.success());
    if !works {
        eprintln!("skipped: `setpriv` cannot run the binary as another user");
        return;
    }
    for (line, wanted) in [
        ("inspect secret.safetensors", "secret.safetensors"),
        ("prune --sparsity 0.5 secret.safetensors -o /tmp/dlopt-test-never.safetensors", "secret.safetensors"),
        ("prune --sparsity 0.5 open.safetensors -o out.safetensors", "out.safetensors"),
        ("prune --sparsity 0.5 open.safetensors -o out/", "out"),
    ] {
        let output = std::process::Command::new("setpriv")
            .args(&nobody[..4])
            .args(line.split(' '))
            .current_dir(dir)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let complaints = message_complaints(&output, 1);
        assert!(complaints.is_empty() && err(&output).contains(wanted), "{line}: {complaints:?} {}", err(&output));
    }
    assert_eq!(support::names_in(dir), ["open.safetensors", "secret.safetensors"]);
}

#[test]
fn small_files_of_a_stream_cannot_leave_their_folder_or_stand_for_weights() {
    let mut failures = Failures::default();
    for name in [
        "../evil",
        "../../evil",
        "a/../../evil",
        "/tmp/dlopt-test-evil",
        "",
        ".",
        "..",
        "a\0b",
        "a\\..\\b",
        "model.safetensors",
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
        "config.json",
        "dlopt-journal.json",
        "./model.safetensors",
        "a//b",
    ] {
        let dir = temp_dir();
        let dir = dir.path();
        let inner = dir.join("inner");
        fs::create_dir(&inner).unwrap();
        let mut files = BTreeMap::new();
        files.insert(name, json!({ "text": "evil" }));
        let metadata = json!({ "schema": 1, "files": files }).to_string();
        let bytes = safetensors(&layers(), &[("dlopt.files", &metadata)]);
        fs::write(dir.join("in.safetensors"), &bytes).unwrap();
        let before = failures.0.len();
        let leads_out = !name.contains("model") && !name.contains("json") && !name.contains("//");
        if leads_out {
            let from = ["convert", "../in.safetensors", "-o", "out/"];
            failures.refused(&inner, &from, None, 1, &["in.safetensors"]);
            failures.refused(&inner, &["convert", "-o", "out/"], Some(&bytes), 1, &["standard input"]);
            failures.refused(&inner, &["inspect", "../in.safetensors"], None, 1, &["in.safetensors"]);
        } else {
            // Refused or left out: what is written must be what was read.
            let output = run(&inner, &["convert", "../in.safetensors", "-o", "out/"], None);
            if output.status.code() == Some(0) {
                let out = inner.join("out");
                let wrong = files_below(&out).iter().filter(|(n, b)| n.contains("model") && **b == b"evil").count();
                let index = out.join("model.safetensors.index.json").exists();
                let inspected = run(&inner, &["inspect", "out"], None).status.code();
                if wrong > 0 || index || inspected != Some(0) {
                    let what = format!("{wrong} files replaced, an index: {index}, inspect gives {inspected:?}");
                    failures.note("convert", vec![what], &err(&output));
                }
            } else {
                let complaints = message_complaints(&output, 1);
                failures.note("convert", complaints, &err(&output));
            }
        }
        if files_below(dir).keys().any(|n| n.ends_with("evil")) || Path::new("/tmp/dlopt-test-evil").exists() {
            failures.note("convert", vec!["a file outside of the folder".to_owned()], "");
        }
        failures.0[before..].iter_mut().for_each(|f| *f = format!("{name:?}: {f}"));
    }
    for text in [
        "",
        "null",
        "[]",
        "{\"schema\":2,\"files\":{}}",
        "{\"schema\":1}",
        "{\"schema\":1,\"files\":{\"a\":{\"base64\":\"!\"}}}",
        "{\"schema\":1,\"files\":{\"a\":1}}",
    ] {
        let dir = temp_dir();
        write_file(&dir.path().join("in.safetensors"), &layers(), &[("dlopt.files", text)]);
        let before = failures.0.len();
        failures.refused(
            dir.path(),
            &["convert", "in.safetensors", "-o", "out/"],
            None,
            1,
            &["in.safetensors", "dlopt.files"],
        );
        failures.0[before..].iter_mut().for_each(|f| *f = format!("{text:?}: {f}"));
    }
}

#[test]
fn names_of_tensors_cannot_break_a_message() {
    let mut failures = Failures::default();
    for name in ["a\nerror: b", "a\r\x1b[31mb\x07", "a\u{9b}b\u{0}", &"x".repeat(100_000)] {
        let dir = temp_dir();
        let mut tensors = layers_with(5, f32::NAN);
        tensors[0].name = format!("{name}.weight");
        write_file(&dir.path().join("in.safetensors"), &tensors, &[]);
        let prune = ["prune", "--sparsity", "0.5", "in.safetensors", "-o", "out.safetensors"];
        failures.refused(dir.path(), &prune, None, 1, &["index 5"]);
        failures.refused(dir.path(), &["quantize", "in.safetensors", "-o", "o.safetensors"], None, 1, &["index 5"]);
    }
    failures.0.iter_mut().for_each(|f| *f = f.chars().take(600).collect());
}

/// A dataset with its description; a tensor that `change` renames to nothing is left out.
fn write_dataset(path: &Path, change: impl FnOnce(&mut Vec<Tensor>, &mut Value)) {
    let mut tensors = dataset();
    let mut about = json!({
        "schema": 1, "elements": { "kind": "vector", "features": 3 }, "classes": ["yes", "no"],
        "splits": { "train": [0, 3], "test": [3, 5] }, "scale": 1.0, "standardise": "feature",
        "mean": [0.5, 0.25, 1.0], "deviation": [1.0, 2.0, 0.5],
    });
    change(&mut tensors, &mut about);
    tensors.retain(|t| !t.name.is_empty());
    write_file(path, &tensors, &[("dlopt.dataset", &about.to_string())]);
}

#[test]
fn a_dataset_cut_short_anywhere_is_refused() {
    let mut failures = Failures::default();
    let dir = temp_dir();
    let dir = dir.path();
    write_dataset(&dir.join("d.safetensors"), |_, _| ());
    ok(dir, &["train", "--model", "mlp", "--data", "d.safetensors", "--epochs", "1", "-q", "-o", "m.safetensors"]);
    let bytes = fs::read(dir.join("d.safetensors")).unwrap();
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for cut in [0, 7, 8, data / 2, data - 1, data, data + 1, data + 59, data + 60, bytes.len() - 1] {
        fs::write(dir.join("cut.safetensors"), &bytes[..cut]).unwrap();
        let train = ["train", "--model", "mlp", "--data", "cut.safetensors", "-q", "-o", "out.safetensors"];
        failures.refused(dir, &train, None, 1, &["cut.safetensors"]);
        failures.refused(dir, &["eval", "m.safetensors", "--data", "cut.safetensors"], None, 1, &["cut.safetensors"]);
    }
    let model = fs::read(dir.join("m.safetensors")).unwrap();
    for cut in [0, 9, 500, model.len() - 1] {
        fs::write(dir.join("cut.safetensors"), &model[..cut]).unwrap();
        failures.refused(dir, &["eval", "cut.safetensors", "--data", "d.safetensors"], None, 1, &["cut.safetensors"]);
        let piped = ["eval", "-", "--data", "d.safetensors"];
        failures.refused(dir, &piped, Some(&model[..cut]), 1, &["standard input"]);
        let against = ["eval", "m.safetensors", "--against", "cut.safetensors", "--data", "d.safetensors"];
        failures.refused(dir, &against, None, 1, &["cut.safetensors"]);
    }
}

fn ok(dir: &Path, arguments: &[&str]) {
    let output = run(dir, arguments, None);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
}

/// What is wrong, where to make it so, and what the message must say.
type Lie = (&'static str, fn(&mut Vec<Tensor>, &mut Value), &'static [&'static str]);

#[test]
fn datasets_that_lie_are_refused() {
    const LIES: [Lie; 22] = [
        ("no inputs", |t, _| t[0].name.clear(), &["inputs"]),
        ("no labels", |t, _| t[1].name.clear(), &["labels", "targets"]),
        ("fewer labels", |t, _| t[1] = Tensor::new("labels", "U8", &[4], vec![0; 4]), &["4 labels", "5 samples"]),
        ("a label outside", |t, _| t[1].bytes[2] = 7, &["label 7", "2 classes"]),
        ("a label below 0", |t, _| t[1] = Tensor::new("labels", "I8", &[5], vec![0, 255, 0, 1, 1]), &["-1"]),
        ("labels that are no numbers", |t, _| t[1] = Tensor::random("labels", "F32", &[5], 1), &["labels"]),
        ("a NaN", |t, _| t[0].bytes[4..8].copy_from_slice(&f32::NAN.to_le_bytes()), &["sample 0", "NaN"]),
        ("bits for inputs", |t, _| t[0] = Tensor::new("inputs", "F8_E4M3", &[5, 3], vec![0; 15]), &["F8_E4M3"]),
        ("targets too", |t, _| t.push(Tensor::random("targets", "F32", &[5], 1)), &["labels", "targets"]),
        ("lengths of rows", |t, _| t.push(Tensor::new("lengths", "U8", &[5], vec![1; 5])), &["lengths"]),
        (
            "no samples",
            |t, about| {
                *t = vec![Tensor::new("inputs", "F32", &[0, 3], vec![]), t.remove(1)];
                about["splits"] = json!({});
            },
            &["inputs"],
        ),
        ("a number alone", |t, _| t[0] = Tensor::new("inputs", "F32", &[], vec![0; 4]), &["inputs"]),
        ("another schema", |_, about| about["schema"] = json!(9), &["schema 9"]),
        ("another size", |_, about| about["elements"]["features"] = json!(4), &["4"]),
        ("a size without end", |_, about| about["elements"]["features"] = json!(u64::MAX), &["inputs"]),
        (
            "extents without end",
            |_, about| {
                about["elements"] = json!({ "kind": "image", "height": 1u64 << 40, "width": 1u64 << 40, "channels": 3 })
            },
            &["inputs"],
        ),
        ("a split behind the end", |_, about| about["splits"]["test"] = json!([3, 6]), &["3..6"]),
        ("a split backwards", |_, about| about["splits"]["test"] = json!([4, 3]), &["test"]),
        ("a deviation of 0", |_, about| about["deviation"][1] = json!(0.0), &["deviation 0"]),
        ("a scale without end", |_, about| about["scale"] = json!(1e300), &["scale"]),
        ("fewer means", |_, about| about["mean"] = json!([1.0]), &["1 means"]),
        ("no description", |_, about| *about = json!([1, 2]), &["dlopt.dataset"]),
    ];
    let mut failures = Failures::default();
    for (what, change, needles) in LIES {
        let dir = temp_dir();
        let dir = dir.path();
        write_dataset(&dir.join("good.safetensors"), |_, _| ());
        ok(
            dir,
            &["train", "--model", "mlp", "--data", "good.safetensors", "--epochs", "0", "-q", "-o", "m.safetensors"],
        );
        write_dataset(&dir.join("bad.safetensors"), change);
        let needles = [&["bad.safetensors"], needles].concat();
        let before = failures.0.len();
        let train = ["train", "--model", "mlp", "--data", "bad.safetensors", "-q", "-o", "out.safetensors"];
        failures.refused(dir, &train, None, 1, &needles);
        let all = ["eval", "m.safetensors", "--data", "bad.safetensors", "--split", "all"];
        failures.refused(dir, &all, None, 1, &needles);
        failures.0[before..].iter_mut().for_each(|f| *f = format!("{what}: {f}"));
    }
}

#[test]
fn names_in_datasets_and_networks_cannot_break_a_message_or_leave_a_folder() {
    let mut failures = Failures::default();
    let dir = temp_dir();
    let dir = dir.path();
    for (i, name) in ["a\nerror: b", "a\r\x1b[31mb\x07", "../../x", "a\u{9b}b\u{0}", ""].into_iter().enumerate() {
        write_dataset(&dir.join("d.safetensors"), |_, about| {
            about["classes"] = json!([name, "no"]);
            about["splits"] = json!({ name: [0, 3], "test": [3, 5] });
            about["elements"]["names"] = json!([name, "b", "c"]);
        });
        let train = ["train", "--model", "mlp", "--data", "d.safetensors", "-q", "-o", "m.safetensors", "--force"];
        failures.refused(dir, &train, None, 1, &["split"]);
        let model = format!("m{i}.safetensors");
        ok(dir, &[&train[..6], &["--split", "test", "-o", &model]].concat());
        // What is told of it has no control character but the ends of lines, and pictures no markup of others.
        let shown = run(dir, &["eval", &model, "--data", "d.safetensors", "--confusion", "c.svg", "--force"], None);
        assert_eq!(shown.status.code(), Some(0), "{}", err(&shown));
        let picture = fs::read_to_string(dir.join("c.svg")).unwrap();
        for text in [String::from_utf8(shown.stdout).unwrap(), picture] {
            let is_bare = text.chars().all(|c| c == '\n' || !c.is_control());
            failures.note(name, if is_bare { Vec::new() } else { vec!["control characters".to_owned()] }, &text);
        }
        write_dataset(&dir.join("other.safetensors"), |_, about| about["classes"] = json!(["yes", name]));
        let other = ["train", "--init", &model, "--data", "other.safetensors", "-q", "-o", "out.safetensors"];
        failures.refused(dir, &other, None, 1, &["other.safetensors"]);
    }
    for name in ["../x", "a\nb", "", "a.b", "/", "weight"] {
        let text = format!("layers = [{{ type = \"dense\", units = \"classes\", name = {} }}]", json!(name));
        fs::write(dir.join("named.toml"), text).unwrap();
        let line = [
            "train",
            "--model",
            "named.toml",
            "--data",
            "good.safetensors",
            "-q",
            "-o",
            "named.safetensors",
            "--force",
        ];
        write_dataset(&dir.join("good.safetensors"), |_, _| ());
        failures.survives(dir, &line, &[0, 1], name);
    }
}

#[test]
fn networks_larger_than_memory_are_refused_before_they_are_made() {
    let mut failures = Failures::default();
    let dir = temp_dir();
    let dir = dir.path();
    write_dataset(&dir.join("d.safetensors"), |_, _| ());
    for units in ["900000000000", "9000000000000000000", "4294967296"] {
        let layers = format!("{{ type = \"dense\", units = {units} }}, {{ type = \"dense\", units = {units} }}");
        fs::write(dir.join("huge.toml"), format!("layers = [{layers}, {{ type = \"dense\", units = \"classes\" }}]"))
            .unwrap();
        let train = ["train", "--model", "huge.toml", "--data", "d.safetensors", "-q", "-o", "out.safetensors"];
        failures.refused(dir, &train, None, 1, &["fc"]);
    }
}

/// One change to a JSON value: where, and what to put there; `null` takes it away.
type Edit = (&'static str, Value);

fn edited(mut value: Value, (pointer, new): &Edit) -> Value {
    if new.is_null() {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        value.pointer_mut(parent).unwrap().as_object_mut().unwrap().shift_remove(key);
    } else if pointer.is_empty() {
        value = new.clone();
    } else {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        value.pointer_mut(parent).unwrap()[key] = new.clone();
    }
    value
}

#[test]
fn hostile_layouts_are_refused_by_every_reader() {
    let mut failures = Failures::default();
    let made = temp_dir();
    let silero = fixture("silero/silero_vad_16k.safetensors");
    let dense = silero.to_str().unwrap();
    let path = made.path().join("q.safetensors");
    let quantize = ["quantize", dense, "--group", "32", "--fallback", "channel", "-o", path.to_str().unwrap()];
    support::assert_code(&support::run(&quantize), 0, "quantize");
    let bytes = fs::read(&path).unwrap();
    let stored = read_file(&path);
    let layout: Value = serde_json::from_str(stored.metadata("dlopt.layout").unwrap()).unwrap();
    let huge = 1u64 << 62;
    let edits: Vec<(&'static str, Value, Then)> = vec![
        ("", json!([]), Unreadable),
        ("", json!("text"), Unreadable),
        ("/schema", json!(2), Unreadable),
        ("/schema", json!("1"), Unreadable),
        ("/schema", Value::Null, Unreadable),
        ("/tensors", json!([]), Unreadable),
        ("/tensors/conv2.weight", json!(3), Unreadable),
        ("/tensors/conv2.weight/format", json!("nonsense"), Unreadable),
        ("/tensors/conv2.weight/format", json!("int-quantized"), Odd),
        ("/tensors/conv2.weight/format", json!("sparse-bitmask"), Unreadable),
        ("/tensors/conv2.weight/dtype", json!("F99"), Unreadable),
        ("/tensors/conv2.weight/dtype", json!("I32"), Unreadable),
        ("/tensors/conv2.weight/dtype", json!("F4"), Unreadable),
        ("/tensors/conv2.weight/shape", json!([]), Unreadable),
        ("/tensors/conv2.weight/shape", json!([0]), Unreadable),
        ("/tensors/conv2.weight/shape", json!([64, 128, 4]), Unreadable),
        ("/tensors/conv2.weight/shape", json!([1, 128, 3]), Unreadable),
        ("/tensors/conv2.weight/shape", json!([-1, 128, 3]), Unreadable),
        ("/tensors/conv2.weight/shape", json!([huge, huge]), Unreadable),
        ("/tensors/conv2.weight/shape", json!([1u64 << 40, 1u64 << 22]), Unreadable),
        ("/tensors/conv2.weight/shape", json!([64, 128, 3, 1, 1, 1, 0]), Unreadable),
        ("/tensors/conv2.weight/parts", json!({}), Unreadable),
        ("/tensors/conv2.weight/parts/packed", Value::Null, Unreadable),
        ("/tensors/conv2.weight/parts/scale", Value::Null, Unreadable),
        ("/tensors/conv2.weight/parts/packed", json!("nowhere"), Unreadable),
        ("/tensors/conv2.weight/parts/packed", json!("conv2.weight_scale"), Unreadable),
        ("/tensors/conv2.weight/parts/packed", json!("conv3.weight_packed"), Unreadable),
        ("/tensors/conv2.weight/parts/packed", json!("stft_conv.weight"), Unreadable),
        ("/tensors/conv2.weight/parts/scale", json!("conv2.weight_packed"), Unreadable),
        ("/tensors/conv2.weight/parts/scale", json!("conv2.bias"), Unreadable),
        ("/tensors/conv2.weight/options", Value::Null, Unreadable),
        ("/tensors/conv2.weight/options", json!([]), Unreadable),
        ("/tensors/conv2.weight/options/num_bits", json!(-4), Unreadable),
        ("/tensors/conv2.weight/options/num_bits", json!(0), Unreadable),
        ("/tensors/conv2.weight/options/num_bits", json!(3), Unreadable),
        ("/tensors/conv2.weight/options/num_bits", json!(64), Unreadable),
        ("/tensors/conv2.weight/options/num_bits", json!(u64::MAX), Unreadable),
        ("/tensors/conv2.weight/options/num_bits", json!("4"), Unreadable),
        ("/tensors/conv2.weight/options/group_size", json!(0), Unreadable),
        ("/tensors/conv2.weight/options/group_size", json!(-32), Unreadable),
        ("/tensors/conv2.weight/options/group_size", json!(31), Unreadable),
        ("/tensors/conv2.weight/options/group_size", json!(huge), Unreadable),
        ("/tensors/conv2.weight/options/group_size", json!(u64::MAX), Unreadable),
        ("/tensors/conv2.weight/options/group_size", json!("32"), Unreadable),
        ("/tensors/conv2.weight/options/strategy", json!("nonsense"), Unreadable),
        ("/tensors/conv2.weight/options/strategy", json!("block"), Unreadable),
        ("/tensors/conv2.weight/options/type", json!("float"), Unreadable),
        ("/tensors/conv2.weight/options/type", json!("complex"), Odd),
        ("/tensors/conv2.weight/options/symmetric", json!(false), Odd),
        // A name that is there already, and one weight under two names.
        ("/tensors/stft_conv.weight", layout["tensors"]["conv2.weight"].clone(), Unreadable),
        ("/tensors/conv2.bias", layout["tensors"]["conv2.weight"].clone(), Odd),
    ];
    for (pointer, new, then) in edits {
        let dir = temp_dir();
        let dir = dir.path();
        let text = edited(layout.clone(), &(pointer, new.clone())).to_string();
        fs::write(dir.join("bad.safetensors"), with_metadata(&bytes, "dlopt.layout", &text)).unwrap();
        let what = format!("{pointer} = {new}");
        meet_readers(&mut failures, dir, "bad.safetensors", dense, &what, then);
    }
    for text in ["", "null", "{", &format!("{}1", "[".repeat(100_000))] {
        let dir = temp_dir();
        let dir = dir.path();
        fs::write(dir.join("bad.safetensors"), with_metadata(&bytes, "dlopt.layout", text)).unwrap();
        let what: String = format!("dlopt.layout is {}", text.chars().take(10).collect::<String>());
        meet_readers(&mut failures, dir, "bad.safetensors", dense, &what, Unreadable);
    }
}

/// What a change must do to the readers.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    /// Decoding fails; looking may succeed, since a header can be shown whatever it claims.
    Unreadable,
    /// What the bytes mean is clear enough to decode them, though no writer that is right would say it so.
    Odd,
}
use Then::{Odd, Unreadable};

fn meet_readers(failures: &mut Failures, dir: &Path, bad: &str, dense: &str, what: &str, then: Then) {
    let before = failures.0.len();
    let decompress = ["convert", "--decompress", bad, "-o", "out.safetensors"];
    // Tensors of other shapes are not within any tolerance.
    let diff = ["diff", dense, bad, "--tolerance", "0.4"];
    if then == Unreadable {
        failures.refused(dir, &decompress, None, 1, &["bad"]);
        failures.survives(dir, &["inspect", "--stats", bad], &[1], what);
        failures.survives(dir, &diff, &[1, 3], what);
    } else {
        failures.survives(dir, &decompress, &[0, 1], what);
        failures.survives(dir, &["inspect", "--stats", bad], &[0, 1], what);
        failures.survives(dir, &diff, &[0, 1, 3], what);
    }
    failures.survives(dir, &["inspect", bad], &[0, 1], what);
    failures.survives(dir, &["verify", bad], &[1, 3], what);
    failures.0[before..].iter_mut().filter(|f| !f.starts_with(what)).for_each(|f| *f = format!("{what}: {f}"));
}

/// The same file with another metadata value.
fn with_metadata(bytes: &[u8], key: &str, value: &str) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    header["__metadata__"][key] = json!(value);
    with_header_text(&serde_json::to_vec(&header).unwrap(), &bytes[8 + length..])
}

#[test]
fn hostile_quantization_configs_are_refused_by_every_reader() {
    let mut failures = Failures::default();
    let dense = fixture("golden/tiny_llama/dense");
    let dense = dense.to_str().unwrap();
    let group = "/quantization_config/config_groups/group_0";
    let weights = |key: &str| -> &'static str { Box::leak(format!("{group}/weights/{key}").into_boxed_str()) };
    let huge = 1u64 << 62;
    let edits: Vec<(&'static str, Value, Then)> = vec![
        ("/quantization_config", json!(3), Unreadable),
        ("/quantization_config/config_groups", json!([]), Unreadable),
        ("/quantization_config/config_groups/group_0", json!("x"), Unreadable),
        ("/quantization_config/config_groups/group_0/weights", json!(4), Unreadable),
        ("/quantization_config/config_groups/group_0/weights", Value::Null, Unreadable),
        ("/quantization_config/config_groups/group_0/targets", json!([]), Odd),
        ("/quantization_config/config_groups/group_0/targets", json!("Linear"), Odd),
        ("/quantization_config/config_groups/group_0/targets", json!(["Conv2d"]), Odd),
        ("/quantization_config/config_groups/group_0/targets", json!(["re:("]), Odd),
        ("/quantization_config/config_groups/group_0/format", json!("nonsense"), Odd),
        ("/quantization_config/quant_method", json!("gptq"), Unreadable),
        ("/quantization_config/quant_method", json!(3), Odd),
        (weights("num_bits"), json!(-4), Unreadable),
        (weights("num_bits"), json!(0), Unreadable),
        (weights("num_bits"), json!(5), Unreadable),
        (weights("num_bits"), json!(8), Unreadable),
        (weights("num_bits"), json!(1u64 << 40), Unreadable),
        (weights("num_bits"), json!("4"), Unreadable),
        (weights("group_size"), json!(0), Unreadable),
        (weights("group_size"), json!(-7), Unreadable),
        (weights("group_size"), json!(31), Unreadable),
        (weights("group_size"), json!(huge), Unreadable),
        (weights("group_size"), json!(u64::MAX), Unreadable),
        (weights("group_size"), json!("32"), Unreadable),
        (weights("strategy"), json!("nonsense"), Unreadable),
        (weights("type"), json!("float"), Unreadable),
        (weights("type"), json!(3), Odd),
    ];
    let source = fixture("golden/tiny_llama/w4a16_g32");
    let bytes = fs::read(source.join("model.safetensors")).unwrap();
    let config = read_json(&source.join("config.json"));
    let put = |dir: &Path, config: &Value, bytes: &[u8]| {
        fs::create_dir(dir.join("bad")).unwrap();
        fs::write(dir.join("bad/config.json"), config.to_string()).unwrap();
        fs::write(dir.join("bad/model.safetensors"), bytes).unwrap();
    };
    for (pointer, new, then) in edits {
        let dir = temp_dir();
        put(dir.path(), &edited(config.clone(), &(pointer, new.clone())), &bytes);
        meet_readers(&mut failures, dir.path(), "bad", dense, &format!("{pointer} = {new}"), then);
    }
    // Parts that are gone, of another shape, or that hold nonsense.
    let stored = read_file(&source.join("model.safetensors"));
    let tensors: Vec<Tensor> = stored.names.iter().map(|n| stored.get(n).clone()).collect();
    let module = "model.layers.0.mlp.down_proj";
    type Change = Box<dyn Fn(&mut Vec<Tensor>)>;
    let on = |part: &str, change: fn(&mut Tensor)| -> Change {
        let name = format!("{module}.{part}");
        Box::new(move |all: &mut Vec<Tensor>| change(all.iter_mut().find(|t| t.name == name).unwrap()))
    };
    let without = |part: &str| -> Change {
        let name = format!("{module}.{part}");
        Box::new(move |all: &mut Vec<Tensor>| all.retain(|t| t.name != name))
    };
    let rows: Vec<(&str, Change, Then)> = vec![
        ("no scale", without("weight_scale"), Unreadable),
        ("no shape", without("weight_shape"), Odd),
        ("no codes", without("weight_packed"), Odd),
        ("a flat scale", on("weight_scale", |t| t.shape = vec![t.elements()]), Unreadable),
        ("a scale of other columns", on("weight_scale", |t| t.shape = vec![t.shape[1], t.shape[0]]), Unreadable),
        ("a scale of codes", on("weight_scale", |t| t.dtype = "I16".to_owned()), Unreadable),
        ("codes that are floats", on("weight_packed", |t| t.dtype = "F32".to_owned()), Unreadable),
        ("codes of other rows", on("weight_packed", |t| t.shape = vec![t.shape[1], t.shape[0]]), Unreadable),
        ("flat codes", on("weight_packed", |t| t.shape = vec![t.elements()]), Unreadable),
        ("a negative shape", on("weight_shape", |t| t.bytes.fill(0xff)), Unreadable),
        (
            "a huge shape",
            on("weight_shape", |t| {
                t.bytes.fill(0xff);
                let n = t.bytes.len();
                t.bytes[n - 1] = 0x7f;
            }),
            Unreadable,
        ),
        ("a shape of zeros", on("weight_shape", |t| t.bytes.fill(0)), Unreadable),
        ("a NaN scale", on("weight_scale", |t| t.bytes[..2].copy_from_slice(&[0xc0, 0x7f])), Odd),
        ("an infinite scale", on("weight_scale", |t| t.bytes[..2].copy_from_slice(&[0x80, 0x7f])), Odd),
        ("a negative scale", on("weight_scale", |t| t.bytes[1] |= 0x80), Odd),
        (
            "a dense weight beside the codes",
            Box::new(move |all: &mut Vec<Tensor>| {
                all.push(Tensor::random(&format!("{module}.weight"), "BF16", &[64, 96], 1));
            }),
            Unreadable,
        ),
    ];
    for (what, change, then) in rows {
        let dir = temp_dir();
        let mut tensors = tensors.clone();
        change(&mut tensors);
        put(dir.path(), &config, &safetensors(&tensors, &[("format", "pt")]));
        meet_readers(&mut failures, dir.path(), "bad", dense, what, then);
    }
}
