//! No flag is accepted and then ignored: each has a test here in which turning it changes an output byte, a printed
//! figure or an exit code, and a flag that `--help` shows without a test fails.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::*;

/// What a flag is tested on.
struct Ground {
    dir: tempfile::TempDir,
    /// A verb with what it cannot do without, and no input.
    base: &'static str,
    /// A command line that spools, with its input if that is no pipe.
    spooling: &'static str,
}

impl Ground {
    /// A Llama as a folder `model/` of three shards and as `model.safetensors`, and a recipe.
    fn new(base: &'static str, spooling: &'static str) -> Self {
        let ground = Self { dir: temp_dir(), base, spooling };
        let tensors = llama(SMALL, "BF16", 1);
        let shards = [tensors[..6].to_vec(), tensors[6..13].to_vec(), tensors[13..].to_vec()];
        write_folder(&ground.path("model"), &shards, Some(&llama_config(SMALL)), &COMPANIONS);
        ground.ok("convert model -o model.safetensors --quiet");
        fs::write(
            ground.path("recipe.toml"),
            "[[pass]]\nverb = \"prune\"\nsparsity = 0.5\nscope = \"global\"\n[[pass]]\nverb = \"quantize\"\n",
        )
        .unwrap();
        ground
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, line: &str) -> std::process::Output {
        run_in(self.dir.path(), line)
    }

    fn ok(&self, line: &str) -> std::process::Output {
        ok_in(self.dir.path(), line)
    }

    /// The verb with more arguments; code 0.
    fn base(&self, more: &str) -> std::process::Output {
        self.ok(&format!("{} {more}", self.base))
    }

    /// The bytes that the verb writes to standard output for `model.safetensors`.
    fn bytes(&self, more: &str) -> Vec<u8> {
        self.base(&format!("model.safetensors {more}")).stdout
    }

    /// What a verb with these flags writes.
    fn stored(&self, line: &str) -> Stored {
        parse(&self.ok(&format!("{line} model.safetensors")).stdout)
    }
}

/// A flag, and the test that turns it.
type Case = (&'static str, fn(&Ground));

/// The flags of every verb that writes a checkpoint.
const OUTPUT: [Case; 14] = [
    ("output", |g| {
        let bytes = g.bytes("");
        for flag in ["-o", "--output"] {
            let done = g.base(&format!("model.safetensors {flag} out.safetensors --force"));
            assert!(done.stdout.is_empty());
            assert!(fs::read(g.path("out.safetensors")).unwrap() == bytes);
        }
        g.base("model.safetensors -o out/");
        assert_same_tensors(&read(&g.path("out")), &parse(&bytes));
        assert!(g.bytes("-o -") == bytes, "- is standard output");
    }),
    ("force", |g| {
        fs::write(g.path("out.safetensors"), "mine").unwrap();
        fs::create_dir(g.path("out")).unwrap();
        fs::write(g.path("out/mine"), "mine").unwrap();
        for out in ["out.safetensors", "out/"] {
            let refused = g.run(&format!("{} model.safetensors -o {out}", g.base));
            assert_code(&refused, 1, out);
            assert!(err(&refused).contains("--force"), "{}", err(&refused));
        }
        assert_eq!(fs::read(g.path("out.safetensors")).unwrap(), b"mine");
        assert_eq!(names_in(&g.path("out")), ["mine"]);
        for out in ["out.safetensors", "out/"] {
            g.base(&format!("model.safetensors -o {out} --force"));
        }
        assert!(!parse(&fs::read(g.path("out.safetensors")).unwrap()).names.is_empty());
        assert!(!g.path("out/mine").exists());
    }),
    ("resume", |g| {
        fs::create_dir(g.path("out.dlopt-partial")).unwrap();
        let refused = g.run(&format!("{} model -o out", g.base));
        assert_code(&refused, 1, "a folder that was left");
        assert!(err(&refused).contains("--resume"), "{}", err(&refused));
        g.base("model -o out --resume");
        assert!(g.path("out").is_dir() && !g.path("out.dlopt-partial").exists());
        let file = g.run(&format!("{} model -o out.safetensors --resume", g.base));
        assert_code(&file, 2, "--resume with a file");
    }),
    ("max-shard-size", |g| {
        g.base("model -o as-it-was");
        g.base("model -o cut --max-shard-size 80KB");
        let shards = |folder: &str| names_in(&g.path(folder)).iter().filter(|n| n.ends_with(".safetensors")).count();
        assert_eq!(shards("as-it-was"), 3);
        assert!(shards("cut") > 3, "{}", shards("cut"));
        let file = g.run(&format!("{} model -o out.safetensors --max-shard-size 80KB", g.base));
        assert_code(&file, 2, "--max-shard-size with a file");
    }),
    ("no-files", |g| {
        assert!(parse(&g.bytes("")).metadata("dlopt.files").is_some());
        assert!(parse(&g.bytes("--no-files")).metadata("dlopt.files").is_none());
        g.base("model -o with");
        g.base("model -o without --no-files");
        assert!(g.path("with/tokenizer.json").exists());
        assert!(!g.path("without/tokenizer.json").exists() && g.path("without/config.json").exists());
    }),
    ("files-from", |g| {
        let mut config = llama_config(SMALL);
        config["rope_theta"] = json!(31_337);
        write_folder(&g.path("other"), &[Vec::new()], Some(&config), &[("vocab.txt", b"a\nb\n")]);
        let stored = parse(&g.bytes("--files-from other"));
        let files = stored.metadata("dlopt.files").unwrap();
        assert!(files.contains("vocab.txt") && !files.contains("tokenizer.json"), "{files}");
        assert!(stored.metadata("config").unwrap().contains("31337"));
        assert!(!parse(&g.bytes("")).metadata("config").unwrap().contains("31337"));
        g.base("model -o out --files-from other");
        assert!(g.path("out/vocab.txt").exists() && !g.path("out/tokenizer.json").exists());
        assert_eq!(read_json(&g.path("out/config.json"))["rope_theta"], 31_337);
    }),
    ("dry-run", |g| {
        let planned = g.base("model.safetensors -o out.safetensors --dry-run");
        assert!(out(&planned).contains("model.layers.1.mlp.up_proj.weight"), "{}", out(&planned));
        assert!(!g.path("out.safetensors").exists());
        let size = g.bytes("").len().to_string();
        assert!(out(&planned).replace(',', "").contains(&size), "{size} in\n{}", out(&planned));
    }),
    ("explain", |g| {
        let silent = err(&g.base("model.safetensors -o a.safetensors"));
        let told = err(&g.base("model.safetensors -o b.safetensors --explain"));
        assert!(!silent.contains("model.embed_tokens.weight"), "{silent}");
        assert!(told.contains("model.embed_tokens.weight") && told.contains("reason"), "{told}");
        assert!(fs::read(g.path("a.safetensors")).unwrap() == fs::read(g.path("b.safetensors")).unwrap());
    }),
    ("threads", |g| {
        let few = blocked_tasks(g, "--threads 1", 0);
        let many = blocked_tasks(g, "--threads 9", few + 8);
        assert!(many >= few + 8, "{few} threads of the system with --threads 1, {many} with 9");
        assert_code(&g.run(&format!("{} model --threads 0", g.base)), 2, "no threads");
    }),
    ("memory", |g| {
        let refused = g.run(&format!("{} model -o out --memory 1KiB", g.base));
        assert_code(&refused, 1, "too little memory");
        let hint = err(&refused);
        let least = hint.rsplit_once("--memory ").unwrap().1.trim();
        g.base(&format!("model -o out --memory {least}B"));
        let below = least.parse::<u64>().unwrap() - 1;
        assert_code(&g.run(&format!("{} model -o less --memory {below}B", g.base)), 1, "one byte less");
        assert_code(&g.run(&format!("{} model -o less --memory 0", g.base)), 2, "no memory");
    }),
    ("tmp-dir", |g| spools_in_tmp_dir(g, "")),
    ("json", |g| {
        let report = json_out(&g.base("model.safetensors -o out.safetensors --json"));
        for key in ["passes", "bytes_before", "bytes_after", "remarks"] {
            assert!(report.get(key).is_some(), "{key} in {report}");
        }
        assert_eq!(report["bytes_after"].as_u64().unwrap(), fs::metadata(g.path("out.safetensors")).unwrap().len());
        let piped = g.base("model.safetensors --json");
        parse(&piped.stdout);
        assert_eq!(serde_json::from_slice::<Value>(&piped.stderr).unwrap()["passes"], report["passes"]);
    }),
    ("report", |g| {
        let printed = json_out(&g.base("model.safetensors -o out.safetensors --report report.json --json"));
        assert_eq!(read_json(&g.path("report.json")), printed);
        let dry = json_out(&g.base("model.safetensors --dry-run --json --report dry.json"));
        assert_eq!(read_json(&g.path("dry.json")), dry);
    }),
    ("verbose", |g| {
        let short = err(&g.base("model.safetensors -o a.safetensors"));
        let long = err(&g.base("model.safetensors -o b.safetensors -v"));
        assert!(!short.contains("mlp.up_proj.weight"), "{short}");
        assert!(long.contains("model.layers.0.mlp.up_proj.weight"), "{long}");
        assert!(long.contains("model.layers.1.mlp.up_proj.weight"), "{long}");
    }),
];

fn quiet_passes(g: &Ground) {
    let told = g.base("model.safetensors -o a.safetensors");
    assert!(!told.stderr.is_empty());
    let quiet = g.base("model.safetensors -o b.safetensors --quiet");
    assert!(quiet.stderr.is_empty() && quiet.stdout.is_empty(), "{}", err(&quiet));
    assert!(fs::read(g.path("a.safetensors")).unwrap() == fs::read(g.path("b.safetensors")).unwrap());
    assert!(g.base("model.safetensors --dry-run -q").stdout.is_empty());
    let refused = g.run(&format!("{} nothing-there -q -o c.safetensors", g.base));
    assert_code(&refused, 1, "errors are told");
    assert!(err(&refused).contains("nothing-there"));
}

/// With a folder for temporary files that is not there nothing can be spooled; with one that is there it is left empty.
fn spools_in_tmp_dir(g: &Ground, codes: &str) {
    fs::create_dir(g.path("spool")).unwrap();
    fs::copy(fixture("import/deflated.pth"), g.path("deflated.pth")).unwrap();
    let input = fs::read(g.path("model.safetensors")).unwrap();
    let missing = pipe_in(g.dir.path(), Some(&input), &[&format!("{} --tmp-dir missing", g.spooling)]);
    assert_eq!(missing.codes, [Some(1)], "{codes}{:?}", missing.errors);
    assert!(missing.errors[0].contains("missing"), "{:?}", missing.errors);
    let there = pipe_in(g.dir.path(), Some(&input), &[&format!("{} --tmp-dir spool", g.spooling)]).ok();
    assert!(there == pipe_in(g.dir.path(), Some(&input), &[g.spooling]).ok());
    assert!(names_in(&g.path("spool")).is_empty());
}

/// Threads of the system that a verb has while nobody reads its output. Waits until there are `enough`.
fn blocked_tasks(g: &Ground, more: &str, enough: usize) -> usize {
    let tensors: Vec<_> =
        (0..40).map(|i| Tensor::random(&format!("a{i}.up_proj.weight"), "BF16", &[512, 256], 1)).collect();
    write_file(&g.path("large.safetensors"), &tensors, &[]);
    let line = format!("{} large.safetensors {more}", g.base);
    let mut child = Command::new(DLOPT)
        .args(line.split_whitespace())
        .current_dir(g.dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (most, _) = watch(&mut child, enough);
    // It waits for a reader that never comes.
    let _ = child.kill();
    child.wait().unwrap();
    most
}

/// The most threads and the most resident KiB that a running process had: until it ends, or has enough threads, or a
/// second has gone by.
fn watch(child: &mut std::process::Child, enough: usize) -> (usize, usize) {
    let begin = Instant::now();
    let proc = format!("/proc/{}/status", child.id());
    let (mut threads, mut kib) = (0, 0);
    let limit = Duration::from_secs(if enough > 0 { 20 } else { 1 });
    while begin.elapsed() < limit && child.try_wait().unwrap().is_none() {
        let Ok(status) = fs::read_to_string(&proc) else { break };
        let number = |key: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(key))?;
            line.split_whitespace().next()?.parse::<usize>().ok()
        };
        threads = threads.max(number("Threads:").unwrap_or(0));
        kib = kib.max(number("VmHWM:").unwrap_or(0));
        if enough > 0 && threads >= enough {
            break;
        }
    }
    (threads, kib)
}

/// The most threads and KiB that a reading verb has on a larger file.
fn reading(g: &Ground, line: &str) -> (usize, usize) {
    let large = g.path("large.safetensors");
    if !large.exists() {
        let row = Tensor::random("row", "F32", &[1, 2048], 1).bytes;
        let tensor = |i: usize| Tensor::new(&format!("a{i}.up_proj.weight"), "F32", &[2048, 2048], row.repeat(2048));
        write_file(&large, &(0..5).map(tensor).collect::<Vec<_>>(), &[]);
    }
    let mut child = Command::new(DLOPT)
        .args(line.split_whitespace())
        .current_dir(g.dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut all = (0, 0);
    while child.try_wait().unwrap().is_none() {
        let (threads, kib) = watch(&mut child, 0);
        all = (all.0.max(threads), all.1.max(kib));
    }
    assert_eq!(child.wait().unwrap().code(), Some(0), "{line}");
    all
}

/// A verb that reads all weights of the larger file.
fn reading_line(g: &Ground) -> String {
    match g.base {
        "inspect" => "inspect --stats large.safetensors".to_owned(),
        "diff model.safetensors" => "diff large.safetensors large.safetensors".to_owned(),
        base => format!("{base} large.safetensors"),
    }
}

fn threads_of_reading(g: &Ground) {
    let line = reading_line(g);
    let (one, _) = reading(g, &format!("{line} --threads 1"));
    let (nine, _) = reading(g, &format!("{line} --threads 9"));
    assert!(nine >= one + 4, "{one} threads of the system with --threads 1, {nine} with 9");
}

fn memory_of_reading(g: &Ground) {
    let line = format!("{} --threads 8", reading_line(g));
    let (mut little, mut much) = (usize::MAX, 0);
    // How many threads hold a block at once depends on the scheduler: look again before complaining.
    for _ in 0..6 {
        little = little.min(reading(g, &format!("{line} --memory 2MiB")).1);
        much = much.max(reading(g, &format!("{line} --memory 512MiB")).1);
        if much > little + 4096 {
            return;
        }
    }
    panic!("{little} KiB with 2 MiB, {much} KiB with 512 MiB");
}

/// What a terminal sees, or nothing where there is no `script`.
fn on_a_terminal(dir: &Path, line: &str) -> Option<String> {
    let line = format!("{DLOPT} {line}");
    let done = Command::new("script").args(["-qec", &line, "/dev/null"]).current_dir(dir).stdin(Stdio::null()).output();
    done.ok().filter(|d| d.status.success()).map(|d| String::from_utf8_lossy(&d.stdout).into_owned())
}

const INSPECT: [Case; 8] = [
    ("stats", |g| {
        let plain = out(&g.base("model"));
        let stats = out(&g.base("model --stats"));
        assert!(!plain.contains("deviation") && stats.contains("deviation"), "{stats}");
        let values = json_out(&g.base("model --stats --json"));
        assert_eq!(values["stats"].as_array().unwrap().len(), llama(SMALL, "BF16", 1).len());
        assert!(json_out(&g.base("model --json")).get("stats").is_none());
    }),
    ("tensors", |g| {
        let name = "model.layers.1.mlp.up_proj.weight";
        assert!(!out(&g.base("model")).contains(name));
        assert!(out(&g.base("model --tensors")).contains(name));
    }),
    ("metadata", |g| {
        assert!(!out(&g.base("model.safetensors")).contains("num_attention_heads"));
        assert!(out(&g.base("model.safetensors --metadata")).contains("num_attention_heads"));
        assert!(json_out(&g.base("model.safetensors --metadata --json")).get("metadata_values").is_some());
    }),
    ("json", |g| {
        let summary = json_out(&g.base("model --json"));
        for key in ["name", "tensor_count", "parameters", "bytes", "bits_per_parameter", "dtypes", "modules", "tensors"]
        {
            assert!(summary.get(key).is_some(), "{key} in {summary}");
        }
        assert_eq!(summary["tensor_count"], llama(SMALL, "BF16", 1).len());
    }),
    ("quiet", |g| {
        reading(g, "inspect large.safetensors");
        let (Some(told), Some(quiet)) = (
            on_a_terminal(g.dir.path(), "inspect large.safetensors --stats --threads 1"),
            on_a_terminal(g.dir.path(), "inspect large.safetensors --stats --threads 1 --quiet"),
        ) else {
            eprintln!("skipped: there is no `script` to make a terminal");
            return;
        };
        assert!(told.contains("left"), "no progress on a terminal: {told:?}");
        assert!(!quiet.contains("left") && quiet.contains("deviation"), "progress in spite of --quiet: {quiet:?}");
    }),
    ("threads", threads_of_reading),
    ("memory", memory_of_reading),
    ("tmp-dir", |g| spools_in_tmp_dir(g, "")),
];

fn two_models(g: &Ground) {
    g.ok("quantize model --scheme w8a16 -o w8 --quiet");
}

const DIFF: [Case; 8] = [
    ("tolerance", |g| {
        two_models(g);
        g.ok("diff model w8");
        g.ok("diff model w8 --tolerance 0.1");
        let outside = g.run("diff model w8 --tolerance 0.000001");
        assert_code(&outside, 3, "too strict");
        assert!(out(&outside).contains("outside the tolerance"), "{}", out(&outside));
        assert_code(&g.run("diff model w8 --tolerance nan"), 2, "no number");
        assert_code(&g.run("diff model w8 --tolerance -1"), 2, "below nothing");
    }),
    ("json", |g| {
        two_models(g);
        let found = json_out(&g.ok("diff model w8 --json"));
        for key in ["tensors", "only_in_a", "only_in_b", "shape_mismatches", "total", "is_equal"] {
            assert!(found.get(key).is_some(), "{key} in {found}");
        }
    }),
    ("report", |g| {
        two_models(g);
        let found = json_out(&g.ok("diff model w8 --json --report report.json"));
        assert_eq!(read_json(&g.path("report.json")), found);
    }),
    ("quiet", |g| {
        two_models(g);
        assert!(!g.ok("diff model w8").stdout.is_empty());
        let quiet = g.ok("diff model w8 -q");
        assert!(quiet.stdout.is_empty() && quiet.stderr.is_empty());
    }),
    ("verbose", |g| {
        two_models(g);
        let name = "model.norm.weight";
        assert!(!out(&g.ok("diff model w8")).contains(name), "equal tensors are not shown");
        assert!(out(&g.ok("diff model w8 -v")).contains(name));
    }),
    ("threads", threads_of_reading),
    ("memory", memory_of_reading),
    ("tmp-dir", |g| spools_in_tmp_dir(g, "")),
];

const VERIFY: [Case; 8] = [
    ("headers-only", |g| {
        let mut tensor = Tensor::random("a.up_proj.weight", "F32", &[64, 128], 1);
        write_file(&g.path("a.safetensors"), std::slice::from_ref(&tensor), &[]);
        g.ok("quantize a.safetensors -o q.safetensors --quiet");
        let stored = read_file(&g.path("q.safetensors"));
        let scale = stored.names.iter().find(|n| n.contains("scale")).unwrap();
        tensor = stored.get(scale).clone();
        let mut bytes = fs::read(g.path("q.safetensors")).unwrap();
        let at = bytes.windows(tensor.bytes.len()).rposition(|w| w == tensor.bytes).unwrap();
        bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        fs::write(g.path("q.safetensors"), bytes).unwrap();
        g.ok("verify q.safetensors --headers-only");
        let found = g.run("verify q.safetensors");
        assert_code(&found, 3, "a scale that is NaN");
        assert!(out(&found).contains(scale.as_str()) || out(&found).contains("a.up_proj"), "{}", out(&found));
    }),
    ("json", |g| {
        let found = json_out(&g.ok("verify model --json"));
        for key in ["findings", "checks", "is_ok"] {
            assert!(found.get(key).is_some(), "{key} in {found}");
        }
    }),
    ("report", |g| {
        let found = json_out(&g.ok("verify model --json --report report.json"));
        assert_eq!(read_json(&g.path("report.json")), found);
    }),
    ("quiet", |g| {
        assert!(!g.ok("verify model").stdout.is_empty());
        let quiet = g.ok("verify model -q");
        assert!(quiet.stdout.is_empty() && quiet.stderr.is_empty());
    }),
    ("verbose", |g| {
        let (short, long) = (out(&g.ok("verify model")), out(&g.ok("verify model -v")));
        assert!(long.lines().count() > short.lines().count(), "{short}\n{long}");
    }),
    ("threads", threads_of_reading),
    ("memory", memory_of_reading),
    ("tmp-dir", |g| spools_in_tmp_dir(g, "")),
];

const CONVERT: [Case; 5] = [
    ("dtype", |g| {
        for (flag, dtype) in [("bf16", "BF16"), ("f16", "F16"), ("f32", "F32")] {
            assert_eq!(g.stored(&format!("convert --dtype {flag}")).get("model.norm.weight").dtype, dtype);
        }
    }),
    ("decompress", |g| {
        g.ok("quantize model -o w4");
        let kept = parse(&g.ok("convert w4").stdout);
        let dense = parse(&g.ok("convert w4 --decompress").stdout);
        assert!(kept.names.iter().any(|n| n.ends_with("weight_packed")));
        assert_eq!(dense.tensors.keys().collect::<Vec<_>>(), read(&g.path("model")).tensors.keys().collect::<Vec<_>>());
    }),
    ("include", |g| {
        let stored = g.stored("convert --dtype f32 --include *.0.*");
        assert_eq!(stored.get("model.layers.0.mlp.up_proj.weight").dtype, "F32");
        assert_eq!(stored.get("model.layers.1.mlp.up_proj.weight").dtype, "BF16");
    }),
    ("exclude", |g| {
        let stored = g.stored("convert --dtype f32 --exclude *.0.*");
        assert_eq!(stored.get("model.layers.0.mlp.up_proj.weight").dtype, "BF16");
        assert_eq!(stored.get("model.layers.1.mlp.up_proj.weight").dtype, "F32");
    }),
    ("allow-nonfinite", |g| {
        write_file(&g.path("a.safetensors"), &[Tensor::of("a.weight", "F32", &[2], &[1.0, 1e6])], &[]);
        let refused = g.run("convert a.safetensors --dtype f16 -o b.safetensors");
        assert_code(&refused, 1, "1e6 is no f16");
        assert!(err(&refused).contains("a.weight"), "{}", err(&refused));
        g.ok("convert a.safetensors --dtype f16 --allow-nonfinite -o b.safetensors");
        assert_eq!(read_file(&g.path("b.safetensors")).get("a.weight").values(), [1.0, f32::INFINITY]);
    }),
];

const GATE: &str = "model.layers.0.mlp.gate_proj.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

const PRUNE: [Case; 11] = [
    ("sparsity", |g| {
        for (share, zeros) in [("0.5", 16_384), ("0.25", 8192), ("1", 32_768)] {
            assert_eq!(g.stored(&format!("prune --sparsity {share}")).get(GATE).zeros(), zeros);
        }
    }),
    ("criterion", |g| {
        let by_size = g.stored("prune --sparsity 0.5 --criterion magnitude");
        let by_chance = g.stored("prune --sparsity 0.5 --criterion random");
        assert_ne!(by_size.get(GATE), by_chance.get(GATE));
        assert_eq!(by_chance.get(GATE).zeros(), 16_384);
        let kept = |s: &Stored| s.get(GATE).values().iter().map(|v| v.abs()).sum::<f32>();
        assert!(kept(&by_size) > 1.3 * kept(&by_chance));
    }),
    ("pattern", |g| {
        for (pattern, kept, of) in [("2:4", 2, 4), ("1:4", 1, 4), ("4:8", 4, 8), ("3:7", 3, 7)] {
            let stored = g.stored(&format!("prune --pattern {pattern}"));
            for row in stored.get(GATE).values().chunks(128) {
                for group in row.chunks(of) {
                    let most = if group.len() == of { kept } else { (group.len() * kept).div_ceil(of) };
                    assert_eq!(group.iter().filter(|v| **v != 0.0).count(), most, "{pattern} {group:?}");
                }
            }
        }
    }),
    ("scope", |g| {
        let tensor = g.stored("prune --sparsity 0.5 --scope tensor");
        assert!(tensor == g.stored("prune --sparsity 0.5"), "per tensor is the default");
        let global = g.stored("prune --sparsity 0.5 --scope global");
        let selected = |s: &Stored| -> Vec<usize> {
            s.tensors.values().filter(|t| t.name.contains("_proj")).map(Tensor::zeros).collect()
        };
        assert_ne!(selected(&tensor), selected(&global));
        assert_eq!(selected(&tensor).iter().sum::<usize>(), selected(&global).iter().sum::<usize>());
    }),
    ("store", |g| {
        let dense = g.ok("prune --sparsity 0.7 model.safetensors").stdout;
        let sparse = g.ok("prune --sparsity 0.7 --store bitmask model.safetensors").stdout;
        assert!(sparse.len() * 10 < dense.len() * 8, "{} and {}", dense.len(), sparse.len());
        fs::write(g.path("sparse.safetensors"), sparse).unwrap();
        let back = parse(&g.ok("convert --decompress sparse.safetensors").stdout);
        assert_same_tensors(&back, &parse(&dense));
    }),
    ("rule", |g| {
        let alone = g.stored(&format!("prune --rule {GATE}=0.6"));
        let (zeros, weights) = (alone.get(GATE).zeros(), alone.get(GATE).elements());
        assert!(zeros >= weights * 6 / 10 && zeros < weights * 6 / 10 + 100, "{zeros} of {weights}");
        assert!(alone.tensors.values().filter(|t| t.name != GATE).all(|t| t.zeros() < t.elements() / 3));
        let all = g.stored("prune --sparsity 0.5 --rule *.gate_proj.*=skip --rule *_proj.*=0.8");
        assert!(all.get(GATE).zeros() < 100);
        let up = all.get("model.layers.0.mlp.up_proj.weight");
        assert!(up.zeros() * 10 + 10 > up.elements() * 8);
        // Embeddings are matrices, which no rule with wildcards leaves out.
        assert!(g.stored("prune --rule *embed*=0.5").get(EMBEDDING).zeros() > 10_000);
        g.ok(&format!("prune model --rule {GATE}=0.6 --store bitmask -o ruled --force"));
        g.ok("verify ruled");
        for (line, said) in [
            ("prune --rule x=0.5 model -o out", "matches no tensor"),
            ("prune --rule *=1.5 model -o out", "no share of zeros"),
            ("prune --rule *=0.5 --scope global model -o out", "single tensors"),
            ("prune --rule *=0.5 --pattern 2:4 model -o out", "single tensors"),
            ("prune --rule *=0.5 --sparsity 0.5 --pattern channels model -o out", "weights that become zero"),
        ] {
            assert!(err(&g.run(line)).contains(said), "{line}: {}", err(&g.run(line)));
        }
    }),
    ("seed", |g| {
        let with =
            |seed: &str| g.ok(&format!("prune --sparsity 0.5 --criterion random {seed} model.safetensors")).stdout;
        assert!(with("") == with("--seed 0"));
        assert!(with("--seed 1") == with("--seed 1"));
        assert_ne!(parse(&with("--seed 1")).get(GATE), parse(&with("--seed 2")).get(GATE));
        assert_code(&g.run("prune --sparsity 0.5 --seed 1 model.safetensors"), 2, "magnitude draws nothing");
    }),
    ("include", |g| {
        let stored = g.stored(&format!("prune --sparsity 0.5 --include {GATE}"));
        let changed: Vec<_> = stored.tensors.values().filter(|t| t.zeros() * 3 > t.elements()).collect();
        assert_eq!(changed.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), [GATE]);
        assert!(g.stored(&format!("prune --sparsity 0.5 --include {EMBEDDING}")).get(EMBEDDING).zeros() > 10_000);
    }),
    ("exclude", |g| {
        let stored = g.stored("prune --sparsity 0.5 --exclude *.gate_proj.*");
        assert!(stored.get(GATE).zeros() < 100);
        assert!(stored.get("model.layers.0.mlp.up_proj.weight").zeros() > 10_000);
    }),
    ("tied", |g| {
        tie(g);
        let zeros = |tied: &str| g.stored(&format!("prune --sparsity 0.5 --include * {tied}")).get(EMBEDDING).zeros();
        assert!(zeros("") < 100 && zeros("--tied skip") < 100);
        assert!(zeros("--tied both") > 10_000);
    }),
    ("allow-nonfinite", |g| {
        spoil(g);
        let refused = g.run("prune --sparsity 0.5 model.safetensors -o out.safetensors");
        assert_code(&refused, 1, "a NaN");
        assert!(err(&refused).contains(GATE), "{}", err(&refused));
        let stored = g.stored("prune --sparsity 0.5 --allow-nonfinite");
        assert!(stored.get(GATE).values()[5].is_nan(), "it counts as the largest");
    }),
];

/// Flags of patterns in which channels leave.
const STRUCTURE: [Case; 9] = [
    ("target", |g| {
        let of = |target: &str| channels(g, &format!("--sparsity 0.5 {target}"));
        assert!(of("") == of("--target params"), "parameters are the default");
        assert_eq!(of("--target width"), [6, 5]);
        // The second convolution has most of the multiply-adds, the dense layer most of the parameters.
        assert_ne!(of("--target flops"), of(""));
        assert_eq!(of("--target size"), of(""), "all of it is f32");
    }),
    ("floor", |g| {
        assert_eq!(channels(g, "--sparsity 0.5 --target width --floor 0.5"), [6, 5]);
        let refused = g.run("prune net.safetensors --pattern channels --sparsity 0.5 --target width --floor 0.6");
        assert_code(&refused, 1, "less than that stays");
        assert_eq!(channels(g, "--sparsity 0.25 --target width --floor 0.7"), [9, 8]);
    }),
    ("round-to", |g| {
        // Twelve is a multiple of four, ten is none.
        assert_eq!(channels(g, "--sparsity 0.3 --target width"), [8, 7]);
        assert_eq!(channels(g, "--sparsity 0.3 --target width --round-to 6"), [6, 8]);
    }),
    ("graph", |g| {
        channels(g, "--sparsity 0.5 --graph own.svg");
        assert!(fs::read_to_string(g.path("own.svg")).unwrap().contains("conv2"));
    }),
    ("data", |g| {
        let by = |more: &str| {
            let line = format!("prune net.safetensors --pattern channels --sparsity 0.5 --criterion taylor {more}");
            parse(&g.ok(&line).stdout).get("conv2.weight").values()
        };
        channels(g, "--sparsity 0");
        assert_ne!(by("--data d.safetensors"), by("--data other.safetensors"));
    }),
    ("batches", |g| {
        channels(g, "--sparsity 0");
        let samples = |batches: &str| {
            let line =
                "prune net.safetensors --pattern channels --sparsity 0.5 --criterion taylor --data d.safetensors";
            let stored = parse(&g.ok(&format!("{line} {batches}")).stdout);
            let history: Value = serde_json::from_str(stored.metadata("dlopt.history").unwrap()).unwrap();
            history["passes"][1]["options"]["on"]["samples"].clone()
        };
        assert_eq!([samples(""), samples("--batches 1"), samples("--batches 2")], [json!(100), json!(64), json!(100)]);
    }),
    ("recover", |g| {
        channels(g, "--sparsity 0");
        let mean = |more: &str| {
            g.ok(&format!("prune net.safetensors --pattern channels --sparsity 0.5 -o r.safetensors --force {more}"));
            read_file(&g.path("r.safetensors")).get("bn1.running_mean").values()
        };
        assert_ne!(mean("--recover d.safetensors"), mean(""));
    }),
    ("eval", |g| {
        channels(g, "--sparsity 0");
        let told = g.ok("prune net.safetensors --sparsity 0.9 -o e.safetensors --eval d.safetensors");
        assert!(err(&told).contains("before") && err(&told).contains("pruned"), "{}", err(&told));
    }),
    ("split", |g| {
        channels(g, "--sparsity 0");
        let samples = |split: &str| {
            let line = "prune net.safetensors --sparsity 0.5 -o s.safetensors --eval d.safetensors --json --force";
            let told: Value = serde_json::from_slice(&g.ok(&format!("{line} {split}")).stdout).unwrap();
            ["before", "pruned"].map(|when| told["quality"][when]["samples"].as_u64().unwrap())
        };
        assert_eq!([samples(""), samples("--split train")], [[50, 50], [100, 100]]);
    }),
];

/// Prunes channels of a network of two convolutions, of 12 and 10 filters, and says how many stay of each. Leaves the
/// network, `net.safetensors`, and the data, `d.safetensors` and `other.safetensors`, behind.
fn channels(g: &Ground, more: &str) -> [usize; 2] {
    if !g.path("net.safetensors").exists() {
        let layers = "layers = [{ type = \"conv2d\", filters = 12, kernel = 3 }, { type = \"batch_norm\", activation = \"relu\" }, \
                      { type = \"conv2d\", filters = 10, kernel = 3, activation = \"relu\" }, { type = \"flatten\" }, \
                      { type = \"dense\", units = \"classes\" }]";
        fs::write(g.path("net.toml"), layers).unwrap();
        for (name, first) in [("d", 0), ("other", 700)] {
            let rows = fixture("digits/digits.csv.gz");
            let rows = std::io::read_to_string(flate2::read::GzDecoder::new(fs::File::open(rows).unwrap())).unwrap();
            let rows: Vec<&str> = rows.lines().skip(first).take(150).collect();
            fs::write(g.path(&format!("{name}.csv")), rows.join("\n")).unwrap();
            g.ok(&format!("prepare {name}.csv --shape 8x8 --split-at 100 --standardise none -o {name}.safetensors -q"));
        }
        g.ok("train --model net.toml --data d.safetensors --epochs 2 -o net.safetensors -q");
    }
    let stored = parse(&g.ok(&format!("prune net.safetensors --pattern channels {more}")).stdout);
    ["conv1.weight", "conv2.weight"].map(|name| stored.get(name).shape[0])
}

/// Makes the model say that embeddings and head are one.
fn tie(g: &Ground) {
    let mut config = llama_config(SMALL);
    config["tie_word_embeddings"] = json!(true);
    fs::write(g.path("model/config.json"), config.to_string()).unwrap();
    g.ok("convert model -o model.safetensors --force");
}

/// Makes one weight a NaN and another infinite.
fn spoil(g: &Ground) {
    let mut stored = read_file(&g.path("model.safetensors"));
    let gate = stored.tensors.get_mut(GATE).unwrap();
    gate.bytes[10..12].copy_from_slice(&half::bf16::NAN.to_le_bytes());
    gate.bytes[400..402].copy_from_slice(&half::bf16::INFINITY.to_le_bytes());
    let tensors: Vec<_> = stored.names.iter().map(|n| stored.tensors[n].clone()).collect();
    let config = llama_config(SMALL).to_string();
    write_file(&g.path("model.safetensors"), &tensors, &[("config", &config)]);
}

const QUANTIZE: [Case; 12] = [
    ("scheme", |g| {
        let codes = |scheme: &str| {
            let stored = g.stored(&format!("quantize --scheme {scheme}"));
            let mut parts: Vec<_> = stored
                .tensors
                .values()
                .filter(|t| t.name.starts_with("model.layers.0.mlp.gate_proj."))
                .map(|t| (t.name.rsplit('.').next().unwrap().to_owned(), t.dtype.clone(), t.shape.clone()))
                .collect();
            parts.sort();
            parts
        };
        let part = |name: &str, dtype: &str, shape: &[usize]| (name.to_owned(), dtype.to_owned(), shape.to_vec());
        let (scale, shape) = ("weight_scale", part("weight_shape", "I64", &[2]));
        let packed = |columns: usize| part("weight_packed", "I32", &[256, columns]);
        assert_eq!(codes("w4a16"), [packed(16), part(scale, "BF16", &[256, 1]), shape.clone()]);
        assert_eq!(codes("w8a16"), [packed(32), part(scale, "BF16", &[256, 1]), shape.clone()]);
        assert_eq!(codes("w2a16"), [packed(8), part(scale, "BF16", &[256, 1]), shape]);
        assert_eq!(codes("w8a8")[0], part("weight", "I8", &[256, 128]));
        assert_eq!(codes("fp8")[0], part("weight", "F8_E4M3", &[256, 128]));
        assert_eq!(codes("fp8_block")[1], part(scale, "BF16", &[2, 1]));
        let shared = [part("weight_codebook", "BF16", &[32]), packed(20)];
        assert_eq!(codes("codebook"), shared);
        assert_eq!(codes("codebook5:tensor"), shared);
        assert_eq!(codes("codebook3:64")[0], part("weight_codebook", "BF16", &[256, 2, 8]));
        assert_eq!(codes("f16"), [part("weight", "F16", &[256, 128])]);
    }),
    ("group", |g| {
        let scales =
            |group: &str| g.stored(&format!("quantize --group {group}")).get(&part(GATE, "scale")).shape.clone();
        assert_eq!(scales("32"), [256, 4]);
        assert_eq!(scales("64"), [256, 2]);
        assert_eq!(scales("channel"), [256, 1]);
        assert_eq!(scales("tensor"), [1]);
    }),
    ("bits", |g| {
        let words = |bits: &str| g.stored(&format!("quantize --bits {bits}")).get(&part(GATE, "packed")).shape[1];
        assert_eq!((words("2"), words("3"), words("4"), words("8")), (8, 12, 16, 32));
        assert_code(&g.run("quantize model --bits 9 -o out"), 2, "nine bits of integers");
        let values = |bits: &str| {
            g.stored(&format!("quantize --scheme codebook --bits {bits}")).get(&part(GATE, "codebook")).shape[0]
        };
        assert_eq!((values("1"), values("6")), (2, 64));
        assert_code(&g.run("quantize model --scheme codebook --bits 9 -o out"), 2, "nine bits");
    }),
    ("asymmetric", |g| {
        assert!(!g.stored("quantize").tensors.contains_key(&part(GATE, "zero_point")));
        assert!(g.stored("quantize --asymmetric").tensors.contains_key(&part(GATE, "zero_point")));
    }),
    ("symmetric", |g| {
        assert!(g.stored("quantize --scheme w4a16_asym").tensors.contains_key(&part(GATE, "zero_point")));
        assert!(!g.stored("quantize --scheme w4a16_asym --symmetric").tensors.contains_key(&part(GATE, "zero_point")));
    }),
    ("method", |g| {
        let rtn = json_out(&g.ok("quantize model --method rtn --json -o rtn"));
        let mse = g.ok("quantize model --method mse --report mse.json -o mse");
        assert_ne!(read(&g.path("rtn")).get(&part(GATE, "packed")), read(&g.path("mse")).get(&part(GATE, "packed")));
        let noise = |r: &Value| r["passes"][0]["total"]["noise"].as_f64().unwrap();
        assert!(noise(&read_json(&g.path("mse.json"))) < noise(&rtn));
        assert!(err(&mse).contains("below rtn's"), "{}", err(&mse));
    }),
    ("rule", |g| {
        let stored = g.stored("quantize --rule *.down_proj.*=w8a16:64 --rule *.o_proj.*=skip");
        let down = stored.get("model.layers.0.mlp.down_proj.weight_packed");
        assert_eq!(down.shape, [128, 64]);
        assert_eq!(stored.get("model.layers.0.mlp.down_proj.weight_scale").shape, [128, 4]);
        assert_eq!(stored.get("model.layers.0.self_attn.o_proj.weight").dtype, "BF16");
        assert_eq!(stored.get(&part(GATE, "packed")).shape, [256, 16]);
    }),
    ("fallback", |g| {
        let tensors = [
            Tensor::random("a.up_proj.weight", "F32", &[64, 128], 1),
            Tensor::random("b.up_proj.weight", "F32", &[8, 100], 1),
        ];
        write_file(&g.path("a.safetensors"), &tensors, &[("config", "{}")]);
        let names = |more: &str| parse(&g.ok(&format!("quantize a.safetensors {more}")).stdout).names;
        assert!(names("").contains(&"b.up_proj.weight".to_owned()));
        assert!(names("--fallback skip").contains(&"b.up_proj.weight".to_owned()));
        assert!(names("--fallback channel").contains(&"b.up_proj.weight_packed".to_owned()));
    }),
    ("include", |g| {
        let stored = g.stored("quantize --include *.mlp.*");
        assert!(stored.tensors.contains_key(&part(GATE, "packed")));
        assert!(stored.tensors.contains_key("model.layers.0.self_attn.q_proj.weight"));
    }),
    ("exclude", |g| {
        let stored = g.stored("quantize --exclude *.mlp.*");
        assert!(stored.tensors.contains_key(GATE));
        assert!(stored.tensors.contains_key("model.layers.0.self_attn.q_proj.weight_packed"));
    }),
    ("tied", |g| {
        tie(g);
        let kept = |tied: &str| g.stored(&format!("quantize --include * {tied}")).tensors.contains_key(EMBEDDING);
        assert!(kept("") && kept("--tied skip") && !kept("--tied both"));
    }),
    ("allow-nonfinite", |g| {
        spoil(g);
        let refused = g.run("quantize model.safetensors -o out.safetensors");
        assert_code(&refused, 1, "a NaN");
        assert!(err(&refused).contains(GATE), "{}", err(&refused));
        g.ok("quantize model.safetensors --allow-nonfinite -o out.safetensors");
        let dense = parse(&g.ok("convert --decompress out.safetensors").stdout);
        assert_eq!(dense.get(GATE).values()[5], 0.0, "NaN counts as zero");
        assert!(dense.get(GATE).values().iter().all(|v| v.is_finite()));
    }),
];

/// `M.weight_PART` of `M.weight`.
fn part(name: &str, part: &str) -> String {
    format!("{name}_{part}")
}

const LIST: [Case; 1] = [("json", |g| {
    let tables = json_out(&g.ok("list --json"));
    let text = out(&g.ok("list"));
    for (table, rows) in tables.as_object().unwrap() {
        let part = text.split(&format!("{table}\n")).nth(1).unwrap_or_else(|| panic!("no {table} in\n{text}"));
        let part = part.split("\n\n").next().unwrap();
        for row in rows.as_array().unwrap() {
            let name = if row.is_array() { &row[0] } else { &row["name"] }.as_str().unwrap();
            let name = if table == "quantize --scheme" { name.to_lowercase() } else { name.to_owned() };
            assert!(part.lines().any(|l| l.split_whitespace().next() == Some(&name)), "{name} in\n{part}");
        }
    }
})];

const MAN: [Case; 1] = [("dir", |g| {
    assert!(out(&g.ok("man")).contains(".TH"));
    assert!(g.ok("man --dir pages").stdout.is_empty());
    let pages = names_in(&g.path("pages"));
    for page in ["dlopt.1", "dlopt-prune.1", "dlopt-quantize.1", "dlopt-verify.1"] {
        assert!(pages.contains(&page.to_owned()), "{page} among {pages:?}");
        assert!(fs::read_to_string(g.path("pages").join(page)).unwrap().contains(".TH"));
    }
})];

/// A verb: how it is called, how it spools, and its flags.
struct Verb {
    name: &'static str,
    base: &'static str,
    spooling: &'static str,
    cases: Vec<Case>,
}

fn verbs() -> Vec<Verb> {
    let verb = |name, base, spooling, cases: &[Case]| Verb { name, base, spooling, cases: cases.to_vec() };
    let pass = |name, base, spooling, own: &[Case]| Verb {
        name,
        base,
        spooling,
        cases: [&OUTPUT[..], &[("quiet", quiet_passes as fn(&Ground))], own].concat(),
    };
    vec![
        verb("inspect", "inspect", "inspect --stats --json", &INSPECT),
        verb("diff", "diff model.safetensors", "diff model.safetensors - --json", &DIFF),
        verb("verify", "verify", "verify --json", &VERIFY),
        pass("convert", "convert", "convert deflated.pth", &CONVERT),
        pass(
            "prune",
            "prune --sparsity 0.5",
            "prune --sparsity 0.5 --scope global",
            &[&PRUNE[..], &STRUCTURE].concat(),
        ),
        pass("quantize", "quantize", "quantize deflated.pth --group channel --include whole", &QUANTIZE),
        pass("run", "run recipe.toml", "run recipe.toml", &[]),
        verb("list", "list", "", &LIST),
        verb("completions", "completions bash", "", &[]),
        verb("man", "man", "", &MAN),
    ]
}

/// Runs all tests of a verb's flags and tells of every one that fails.
fn turn_every_flag_of(name: &str) {
    let verb = verbs().into_iter().find(|v| v.name == name).unwrap();
    let failed: Vec<_> = verb
        .cases
        .iter()
        .filter(|(flag, case)| {
            let ground = Ground::new(verb.base, verb.spooling);
            eprintln!("dlopt {name} --{flag}");
            catch_unwind(AssertUnwindSafe(|| case(&ground))).is_err()
        })
        .map(|(flag, _)| *flag)
        .collect();
    assert!(failed.is_empty(), "flags of {name} that fail: {failed:?}");
}

#[test]
fn every_flag_of_inspect_changes_something() {
    turn_every_flag_of("inspect");
}

#[test]
fn every_flag_of_diff_changes_something() {
    turn_every_flag_of("diff");
}

#[test]
fn every_flag_of_verify_changes_something() {
    turn_every_flag_of("verify");
}

#[test]
fn every_flag_of_convert_changes_something() {
    turn_every_flag_of("convert");
}

#[test]
fn every_flag_of_prune_changes_something() {
    turn_every_flag_of("prune");
}

#[test]
fn every_flag_of_quantize_changes_something() {
    turn_every_flag_of("quantize");
}

#[test]
fn every_flag_of_run_changes_something() {
    turn_every_flag_of("run");
}

#[test]
fn every_flag_of_list_and_man_changes_something() {
    turn_every_flag_of("list");
    turn_every_flag_of("man");
}

/// Verbs whose flags have their tests, and the test that none is missing, in another file.
const ELSEWHERE: [(&str, &str); 12] = [
    ("pack", "pack.rs"),
    ("unpack", "pack.rs"),
    ("sensitivity", "budget.rs"),
    ("bench", "bench.rs"),
    ("prepare", "prepare.rs"),
    ("augment", "augment.rs"),
    ("train", "flags_learning.rs"),
    ("eval", "flags_learning.rs"),
    ("predict", "predict.rs"),
    ("generate", "generate.rs"),
    ("distill", "flags_distill.rs"),
    ("logits", "flags_distill.rs"),
];

/// Flags of the verbs here whose tests are in another file: those that choose schemes under a budget.
const OF_BUDGETS: [&str; 9] =
    ["target-size", "target-bits", "max-loss", "choice", "recipe-out", "data", "split", "samples", "measure"];

/// The same of recipes.
const OF_BUDGETED_RECIPES: [&str; 6] = ["budget", "choice", "data", "split", "samples", "measure"];

#[test]
fn no_flag_is_without_a_test() {
    let mut tested: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for verb in verbs() {
        tested.insert(verb.name.to_owned(), verb.cases.iter().map(|(flag, _)| (*flag).to_owned()).collect());
    }
    let of_budgets = OF_BUDGETS.map(str::to_owned);
    tested.entry("quantize".to_owned()).or_default().extend(of_budgets);
    tested.entry("run".to_owned()).or_default().extend(OF_BUDGETED_RECIPES.map(str::to_owned));
    let mut shown: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let is_here = |verb: &String| verb != "help" && ELSEWHERE.iter().all(|(name, _)| name != verb);
    for verb in shown_verbs().into_iter().filter(is_here) {
        let flags = shown_flags(&verb);
        shown.insert(verb, flags);
    }
    assert_eq!(shown, tested);
    assert!(shown["prune"].contains("sparsity") && shown["prune"].contains("output"), "the help is read right");
}

#[test]
fn the_list_names_what_flags_take() {
    let tables = json_out(&run(&["list", "--json"]));
    for (table, names) in [
        ("prepare --format", &["idx", "npz", "ts", "csv"][..]),
        ("prepare --step", &["resize", "crop", "grey", "features"]),
        ("prepare --features", &["hog", "lbp"]),
        ("train --model", &["cnn", "lenet5", "lenet300", "resnet20", "mobilenet", "mlp", "lstm", "gru"]),
        ("train: layers of a description", &["conv2d", "dense", "batch_norm", "lstm", "residual"]),
        ("train --initialization", &["glorot", "he"]),
        ("train --optimizer", &["sgd", "adam", "adamw", "rmsprop"]),
        ("train --schedule", &["constant", "one-cycle"]),
        ("train --loss", &["cross-entropy", "binary-cross-entropy", "mse"]),
        ("distill --loss", &["ce", "sequence", "kd", "dkd", "hint", "attention"]),
    ] {
        let rows = tables[table].as_array().unwrap_or_else(|| panic!("no {table} in {tables}"));
        for name in names {
            let row = rows.iter().find(|r| r[0] == *name).unwrap_or_else(|| panic!("no {name} in {table}"));
            assert!(!row[1].as_str().unwrap().is_empty(), "{name} says nothing");
        }
    }
    let sources: Vec<&str> =
        tables["train --model"].as_array().unwrap().iter().map(|r| r[2].as_str().unwrap()).collect();
    assert!(sources.iter().any(|s| s.contains("arXiv:1512.03385")), "{sources:?}");
}

#[test]
fn every_verb_shows_worked_examples() {
    for verb in shown_verbs().into_iter().filter(|v| v != "help") {
        let help = out(&run(&[verb.as_str(), "--help"]));
        let examples = help.split_once("Example").unwrap_or_else(|| panic!("{verb} has no examples:\n{help}")).1;
        assert!(examples.contains(&format!("dlopt {verb}")), "{verb}\n{help}");
    }
}

#[test]
fn the_examples_of_passes_are_no_wrong_usage() {
    let g = Ground::new("", "");
    for verb in ["convert", "prune", "quantize"] {
        let help = out(&Command::new(DLOPT).args([verb, "--help"]).env("COLUMNS", "300").output().unwrap());
        let examples = help.split_once("Examples:\n").unwrap().1;
        let mut tried = 0;
        for line in examples.lines().map(str::trim).filter(|l| l.starts_with("dlopt ")) {
            // Up to the explanation, and each verb of a pipe alone.
            let command = line.split("  ").next().unwrap();
            for command in command.split('|').map(str::trim) {
                let command = command.replace('\'', "");
                let words: Vec<_> = command.split_whitespace().skip(1).collect();
                let input = words.iter().any(|w| w.starts_with("model")) && !command.contains(".npz");
                if !input {
                    continue;
                }
                let more = if words.contains(&"--dry-run") { "" } else { "--dry-run" };
                let line = format!("{} {more}", words.join(" "));
                let done = g.run(&line);
                assert_ne!(done.status.code(), Some(2), "{line}\n{}", err(&done));
                tried += 1;
            }
        }
        assert!(tried > 1, "{help}");
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let g = Ground::new("", "");
    for line in [
        "prune model -o out",
        "prune model --sparsity 1.5 -o out",
        "prune model --sparsity -0.1 -o out",
        "prune model --sparsity half -o out",
        "prune model --pattern 2:4 --sparsity 0.3 -o out",
        "prune model --pattern 2:4 --scope global -o out",
        "prune model --pattern 5:4 -o out",
        "prune model --pattern 0:4 -o out",
        "prune model --sparsity 0.5 --criterion luck -o out",
        "prune model --sparsity 0.5 --store zip -o out",
        "quantize model --scheme w9a16 -o out",
        "quantize model --method best -o out",
        "quantize model --group 0 -o out",
        "quantize model --group many -o out",
        "quantize model --rule nothing -o out",
        "quantize model --asymmetric --symmetric -o out",
        "quantize model --scheme fp8 --bits 4 -o out",
        "quantize model --scheme fp8 --asymmetric -o out",
        "quantize model -q -v -o out",
        "convert model --dtype int8 -o out",
        "convert model --include *mlp* -o out",
        "convert model --no-files --files-from model -o out",
        "convert model --memory lots -o out",
        "convert model --threads none -o out",
        "nothing",
        "convert --nothing",
    ] {
        let refused = g.run(line);
        assert_code(&refused, 2, line);
        assert!(!refused.stderr.is_empty() && refused.stdout.is_empty(), "{line}");
        assert!(!g.path("out").exists() && !g.path("out.dlopt-partial").exists(), "{line}");
    }
    // A sparsity that agrees with the pattern is no contradiction.
    g.ok("prune model --pattern 2:4 --sparsity 0.5 -o agrees");
}

/// The plan must be what is then written: files, sizes, names, dtypes, shapes, in this order.
fn assert_plan_matches(g: &Ground, verb: &str, input: &str, folder: bool, more: &str) {
    let line = format!("{verb} {input} {more}");
    let target = if folder { "real/" } else { "real.safetensors" };
    let plan = g.run(&format!("{line} --dry-run --json -o {target} --force"));
    let done = g.run(&format!("{line} --json -o {target} --force"));
    assert_eq!(plan.status.code(), done.status.code(), "{line}\n{}\n{}", err(&plan), err(&done));
    let (plan, done) = (json_out(&plan), json_out(&done));
    let files = plan["files"].as_array().unwrap();
    let mut sum = 0;
    for file in files {
        let path =
            if folder { g.path("real").join(file["file"].as_str().unwrap()) } else { g.path("real.safetensors") };
        let bytes = fs::read(&path).unwrap();
        assert_eq!(file["bytes"], bytes.len(), "{line}: {}", path.display());
        sum += bytes.len();
        let stored = parse(&bytes);
        let planned = file["tensors"].as_array().unwrap();
        let names: Vec<_> = planned.iter().map(|t| t["name"].as_str().unwrap()).collect();
        assert_eq!(names, stored.names, "{line}");
        for tensor in planned {
            let real = stored.get(tensor["name"].as_str().unwrap());
            assert_eq!(tensor["dtype"], real.dtype.as_str(), "{line}: {}", real.name);
            assert_eq!(tensor["shape"], json!(real.shape), "{line}: {}", real.name);
            assert_eq!(tensor["bytes"], real.bytes.len(), "{line}: {}", real.name);
        }
    }
    let written =
        if folder { names_in(&g.path("real")).iter().filter(|n| n.ends_with(".safetensors")).count() } else { 1 };
    assert_eq!(written, files.len(), "{line}");
    assert_eq!(plan["bytes_after"], sum, "{line}");
    assert_eq!(done["bytes_after"], sum, "{line}");
    assert_eq!(plan["bytes_before"], done["bytes_before"], "{line}");
    for (planned, done) in plan["passes"].as_array().unwrap().iter().zip(done["passes"].as_array().unwrap()) {
        for key in ["verb", "options", "notes", "warnings"] {
            assert_eq!(planned[key], done[key], "{line}: {key}");
        }
    }
}

#[test]
fn the_plan_is_what_is_written_to_the_byte() {
    let g = Ground::new("", "");
    fs::write(
        g.path("bitmask.toml"),
        "[[pass]]\nverb='convert'\ndtype='f32'\n[[pass]]\nverb='prune'\nsparsity=0.3\nstore='bitmask'\n",
    )
    .unwrap();
    g.ok("quantize model -o w4");
    g.ok("prune model --sparsity 0.5 --store bitmask -o sparse");
    for (verb, input) in [
        ("prune --sparsity 0.5", "model"),
        ("prune --sparsity 0.123 --scope global --store bitmask", "model"),
        ("prune --sparsity 0.5 --store bitmask", "model"),
        ("prune --pattern 2:4 --store bitmask", "model"),
        ("quantize --scheme w4a16", "model"),
        ("quantize --scheme w4a16_asym --group 32", "model"),
        ("quantize --scheme w8a8", "model"),
        ("quantize --scheme fp8 --group tensor", "model"),
        ("quantize --scheme fp8_block", "model"),
        ("quantize --scheme w2a16 --method mse", "model"),
        ("quantize --scheme bf16 --rule *.mlp.*=w8a16", "model"),
        ("quantize --include *embed*", "model"),
        ("convert", "model"),
        ("convert --dtype f32 --exclude *norm*", "model"),
        ("convert --decompress", "w4"),
        ("convert --decompress", "sparse"),
        ("run recipe.toml", "model"),
        ("run bitmask.toml", "model"),
    ] {
        for (folder, more) in [
            (false, ""),
            (false, "--no-files"),
            (true, ""),
            (true, "--max-shard-size 70KB"),
            (true, "--max-shard-size 1B --no-files"),
        ] {
            assert_plan_matches(&g, verb, input, folder, more);
        }
        if input == "model" {
            assert_plan_matches(&g, verb, "model.safetensors", false, "");
            assert_plan_matches(&g, verb, "model.safetensors", true, "--max-shard-size 70KB");
        }
    }
}

#[test]
fn the_plan_reads_no_weights() {
    // A sparse file of 4 TiB whose header alone is there.
    let dir = temp_dir();
    let (rows, columns) = (1usize << 20, 1usize << 20);
    let end = rows * columns * 4;
    let text = json!({ "a.up_proj.weight": { "dtype": "F32", "shape": [rows, columns], "data_offsets": [0, end] } });
    let mut text = text.to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let path = dir.path().join("huge.safetensors");
    fs::write(&path, with_header_text(&text, &[])).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    if file.set_len((8 + text.len() + end) as u64).is_err() {
        eprintln!("skipped: this file system takes no sparse file of 4 TiB");
        return;
    }
    let begin = Instant::now();
    let plan = json_out(&ok_in(dir.path(), "quantize huge.safetensors --dry-run --json"));
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(plan["bytes_after"].as_u64().unwrap() > (end / 8) as u64);
    assert!(plan["least_memory_bytes"].as_u64().unwrap() < 256 << 20, "{}", plan["least_memory_bytes"]);
}

#[test]
fn reasons_are_named() {
    let g = Ground::new("", "");
    let text = out(&g.ok("quantize model --dry-run --explain --exclude *.0.mlp.* --rule *.1.mlp.*=skip"));
    let line = |name: &str| text.lines().find(|l| l.contains(name)).unwrap_or_else(|| panic!("{name} in\n{text}"));
    assert!(line("model.embed_tokens.weight").contains("embeddings are left alone"), "{text}");
    assert!(line("lm_head.weight").contains("head"), "{text}");
    assert!(line("model.norm.weight").contains("norm"), "{text}");
    assert!(line("model.layers.0.mlp.up_proj.weight").contains("excluded"), "{text}");
    assert!(line("model.layers.1.mlp.up_proj.weight").contains("rule"), "{text}");
    assert!(line("model.layers.0.self_attn.q_proj.weight").contains("selected"), "{text}");
    let report = json_out(&g.ok("quantize model -o out --json"));
    let notes = report["passes"][0]["notes"].as_array().unwrap();
    assert_eq!(notes.len(), llama(SMALL, "BF16", 1).len(), "every tensor has a note");
    assert!(notes.iter().all(|n| !n["reason"].as_str().unwrap().is_empty()));
}

#[test]
fn a_report_counts_right() {
    let g = Ground::new("", "");
    let report = json_out(&g.ok("prune model --sparsity 0.5 -o pruned --json"));
    let pass = &report["passes"][0];
    let proj: Vec<_> = llama(SMALL, "BF16", 1).into_iter().filter(|t| t.name.contains("_proj")).collect();
    assert_eq!(pass["tensors"].as_array().unwrap().len(), proj.len());
    assert_eq!(pass["total"]["weights"], proj.iter().map(Tensor::elements).sum::<usize>());
    let stored = read(&g.path("pruned"));
    let zeros: usize = proj.iter().map(|t| stored.get(&t.name).zeros()).sum();
    assert_eq!(pass["total"]["zeros_after"], zeros);
    assert_eq!(pass["total"]["zeros_before"], proj.iter().map(Tensor::zeros).sum::<usize>());
    let (mut signal, mut noise) = (0.0, 0.0);
    for tensor in &proj {
        for (before, after) in tensor.values().iter().zip(stored.get(&tensor.name).values()) {
            signal += f64::from(*before).powi(2);
            noise += f64::from(before - after).powi(2);
        }
    }
    let close = |key: &str, value: f64| {
        let told = pass["total"][key].as_f64().unwrap();
        assert!((told - value).abs() <= 1e-6 * value, "{key}: {told}, {value}");
    };
    close("signal", signal);
    close("noise", noise);
    close("sqnr_db", 10.0 * (signal / noise).log10());
    close("relative_error", (noise / signal).sqrt());
}

#[test]
fn completions_and_pages_name_every_verb_and_flag() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let text = out(&run(&["completions", shell]));
        for verb in shown_verbs() {
            assert!(text.contains(&verb), "{verb} in {shell}");
        }
        assert!(
            ["max-shard-size", "allow-nonfinite", "label-smoothing", "mistakes-shown"].iter().all(|f| text.contains(f)),
            "{shell}"
        );
    }
    assert_eq!(run(&["completions", "csh"]).status.code(), Some(2));
    let dir = temp_dir();
    ok_in(dir.path(), "man --dir pages");
    for verb in shown_verbs().into_iter().filter(|v| v != "help") {
        let page = fs::read_to_string(dir.path().join(format!("pages/dlopt-{verb}.1"))).unwrap().replace('\\', "");
        for flag in shown_flags(&verb) {
            assert!(page.contains(&format!("--{flag}")), "--{flag} in the page of {verb}");
        }
    }
}

#[test]
fn the_bash_completion_is_valid_bash() {
    let dir = temp_dir();
    fs::write(dir.path().join("dlopt.bash"), run(&["completions", "bash"]).stdout).unwrap();
    match Command::new("bash").args(["-n", "dlopt.bash"]).current_dir(dir.path()).status() {
        Ok(status) => assert!(status.success()),
        Err(e) => eprintln!("skipped: no bash: {e}"),
    }
}

#[test]
fn two_verbs_of_a_pipe_say_one_line_each() {
    let g = Ground::new("", "");
    let piped = pipe_in(g.dir.path(), None, &["prune model --pattern 2:4", "quantize -o small"]);
    assert_eq!(piped.errors[0].lines().count(), 1, "{}", piped.errors[0]);
    assert!(piped.errors[0].starts_with("prune: ") && piped.errors[0].contains("50.0% zeros"), "{}", piped.errors[0]);
    assert!(piped.errors[1].contains("quantize: "), "{}", piped.errors[1]);
    piped.ok();
}

#[test]
fn colours_come_only_to_terminals() {
    let g = Ground::new("", "");
    let told = err(&g.run("convert nothing-there -o out"));
    assert!(told.starts_with("error: ") && !told.contains('\u{1b}'), "{told:?}");
}

#[test]
fn a_terminal_gets_no_checkpoint() {
    let g = Ground::new("", "");
    let line = format!("{DLOPT} convert model.safetensors; echo code $?");
    match Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .current_dir(g.dir.path())
        .stdin(Stdio::null())
        .output()
    {
        Ok(done) if done.status.success() => {
            let text = String::from_utf8_lossy(&done.stdout);
            assert!(text.contains("code 2") && text.contains("-o"), "{text}");
        }
        _ => eprintln!("skipped: there is no `script` to make a terminal"),
    }
}
