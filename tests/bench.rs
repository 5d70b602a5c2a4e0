//! Sweeps end to end on small data: every variant is made, measured and compared, what fails is told, and nothing is done
//! twice. Every flag of `bench` has its test here.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;
use support::*;

const SWEEP: &str = r#"title = "Digits <b>"
model = "m.safetensors"
data = "d.safetensors"
goal = "smallest within 2"
batches = [16]
seconds = 0.01

[[variant]]
name = "recipe"
steps = [{ verb = "run", recipe = "compress.toml" }]

[[grid]]
steps = [
  { verb = "prune", vary = { sparsity = [0.3, 0.6] } },
  { verb = "train", epochs = 1, batch = 64 },
  { verb = "quantize", vary = { scheme = ["w8a16", "w4a16"], group = ["channel"] } },
]
"#;

/// A folder with digits (`d.safetensors`), a network (`m.safetensors`), a recipe and a sweep.
fn ground() -> tempfile::TempDir {
    let dir = temp_dir();
    let digits = fixture("digits/digits.csv.gz");
    let net = "layers = [{ type = \"flatten\" }, { type = \"dense\", units = 24, activation = \"relu\" }, { type = \"dense\", units = \"classes\" }]";
    fs::write(dir.path().join("net.toml"), net).unwrap();
    fs::write(dir.path().join("sweep.toml"), SWEEP).unwrap();
    let recipe = "[[pass]]\nverb = \"quantize\"\nscheme = \"w8a8\"\n";
    fs::write(dir.path().join("compress.toml"), recipe).unwrap();
    let prepare =
        format!("prepare {} --shape 8x8 --split validation=0.2,test=0.2 -o d.safetensors -q", digits.display());
    ok_in(dir.path(), &prepare);
    let train = "train --data d.safetensors --batch 32 --learning-rate 0.004 --model net.toml --epochs 4";
    ok_in(dir.path(), &format!("{train} -o m.safetensors -q"));
    dir
}

fn results(dir: &Path) -> Value {
    read_json(&dir.join("report/results.json"))
}

fn variant<'a>(results: &'a Value, name: &str) -> &'a Value {
    let all = results["variants"].as_array().unwrap();
    all.iter().find(|v| v["name"] == name).unwrap_or_else(|| panic!("no {name} in {results}"))
}

#[test]
fn a_sweep_makes_measures_and_compares_every_variant() {
    let ground = ground();
    let dir = ground.path();
    let output = ok_in(dir, "bench sweep.toml -o report");
    let results = results(dir);
    let names: Vec<&str> =
        results["variants"].as_array().unwrap().iter().map(|v| v["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 9, "{names:?}");
    assert_eq!(names[..4], ["original", "original under zstd", "RTN int8", "RTN int4"]);

    // Figures are those that the verbs by themselves give.
    let pruned = variant(&results, "prune 0.6, train, quantize channel w4a16");
    let files = fs::metadata(dir.join("m.safetensors")).unwrap().len();
    assert_eq!(variant(&results, "original")["measurement"]["disk_bytes"].as_u64(), Some(files));
    for name in ["original", "RTN int4", "recipe"] {
        let own = variant(&results, name);
        let command = own["commands"].as_array().unwrap().last().unwrap().as_str().unwrap();
        let line = format!("{} --json", command.strip_prefix("dlopt ").unwrap());
        let report = json_out(&ok_in(dir, &line));
        let accuracy = &report["model"]["metrics"]["classification"]["accuracy"];
        assert_eq!(own["quality"]["value"], accuracy["value"], "{name}");
        assert_eq!(own["quality"]["interval"][0], accuracy["interval"]["low"], "{name}");
        if name != "original" {
            let paired = &report["paired"]["classification"];
            assert_eq!(own["quality"]["paired"]["p_value"], paired["accuracy"]["p_value"], "{name}");
            assert_eq!(own["quality"]["paired"]["agreement"], paired["agreement"]["value"], "{name}");
        }
    }
    assert!(pruned["measurement"]["latency"]["p99"].as_f64() >= pruned["measurement"]["latency"]["median"].as_f64());
    assert_eq!(pruned["measurement"]["throughput"][0]["batch"], 16);
    assert!(results["verdicts"][0].as_str().unwrap().starts_with("smallest within 2 points on validation: "));
    assert_eq!(results["sensitivity"]["measure"], "measured");
    let zstd = variant(&results, "original under zstd")["disk_bytes"].as_u64().unwrap();
    assert!(zstd < files && zstd > files / 4);

    // The commands make the same bytes.
    let commands: Vec<&str> = pruned["commands"].as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
    assert_eq!(commands.len(), 5, "{commands:?}");
    let made = commands[2].rsplit(' ').next().unwrap();
    let before = fs::read(dir.join(made)).unwrap();
    for command in &commands[..3] {
        ok_in(dir, &format!("{} --force -q", command.strip_prefix("dlopt ").unwrap()));
    }
    assert_eq!(fs::read(dir.join(made)).unwrap(), before);

    let text = out(&output);
    assert!(names.iter().all(|name| text.contains(name)) && text.contains("report/index.html"), "{text}");
    let page = fs::read_to_string(dir.join("report/index.html")).unwrap();
    assert!(page.contains("<title>Digits &lt;b></title>") && page.contains("prune 0.6, train, quantize channel w4a16"));
    let csv = fs::read_to_string(dir.join("report/results.csv")).unwrap();
    assert_eq!(csv.lines().count(), 10);
    let markdown = fs::read_to_string(dir.join("report/results.md")).unwrap();
    assert!(markdown.contains("| RTN int8 |") && markdown.contains("**smallest within 2 points"));
}

#[test]
fn nothing_is_done_twice_and_a_sweep_goes_on_where_it_was_stopped() {
    let ground = ground();
    let dir = ground.path();
    ok_in(dir, "bench sweep.toml -o report -q");
    let first = results(dir);
    let kept = files_below(&dir.join("report/cache"));
    // Two prunings are shared by four variants.
    let checkpoints = kept.keys().filter(|name| name.ends_with("safetensors")).count();
    assert_eq!(checkpoints, 3 + 2 + 2 + 4);
    ok_in(dir, "bench sweep.toml -o report -q");
    assert_eq!(results(dir), first);
    assert_eq!(files_below(&dir.join("report/cache")), kept);
    // What a kill leaves: some of the files.
    let lost: Vec<&String> = kept.keys().filter(|name| name.ends_with("safetensors")).take(4).collect();
    lost.iter().for_each(|name| fs::remove_file(dir.join("report/cache").join(name)).unwrap());
    ok_in(dir, "bench sweep.toml -o report -q");
    assert_eq!(files_below(&dir.join("report/cache")), kept);
    // Another network is another matter.
    ok_in(dir, "prune m.safetensors --sparsity 0.1 -o other.safetensors -q");
    fs::rename(dir.join("other.safetensors"), dir.join("m.safetensors")).unwrap();
    ok_in(dir, "bench sweep.toml -o report -q");
    assert!(files_below(&dir.join("report/cache")).len() > kept.len() + 10);
    ok_in(dir, "bench sweep.toml -o report -q --fresh");
    assert_eq!(files_below(&dir.join("report/cache")).len(), kept.len());
}

/// What a sweep found, without what the clock says.
fn without_times(results: &Value) -> Value {
    let mut results = results.clone();
    for variant in results["variants"].as_array_mut().unwrap() {
        let bytes = variant["measurement"]["disk_bytes"].take();
        variant["measurement"] = bytes;
        variant["fronts"].take();
        variant["commands"].take();
    }
    for key in ["warnings", "verdicts", "command", "machine"] {
        results[key].take();
    }
    results["sensitivity"]["seconds"].take();
    results
}

#[test]
fn a_sweep_killed_inside_a_training_step_goes_on_to_the_same_results() {
    let ground = ground();
    let dir = ground.path();
    let sweep = "model = \"m.safetensors\"\ndata = \"d.safetensors\"\nbatches = [16]\nseconds = 0.01\n\n[[variant]]\n\
        name = \"long\"\nsteps = [{ verb = \"prune\", sparsity = 0.6 }, { verb = \"train\", epochs = 200, batch = 64, \
        save_every = 100 }, { verb = \"quantize\", group = \"channel\" }]\n";
    fs::write(dir.join("sweep.toml"), sweep).unwrap();
    ok_in(dir, "bench sweep.toml -o report -q");
    let (whole, kept) = (results(dir), files_below(&dir.join("report/cache")));
    fs::rename(dir.join("report"), dir.join("whole")).unwrap();

    let state = |folder: &Path| {
        let cache = fs::read_dir(folder.join("cache")).into_iter().flatten().filter_map(Result::ok);
        cache.map(|entry| entry.path().join("state.safetensors")).find(|path| path.exists())
    };
    // The sweep alone, whose training then has nobody to answer to, and all of its processes.
    for kills_all in [false, true] {
        let mut bench = Command::new(DLOPT);
        bench.args(["bench", "sweep.toml", "-o", "report", "-q"]).current_dir(dir).process_group(0);
        let mut bench = bench.spawn().unwrap();
        let began = Instant::now();
        while state(&dir.join("report")).is_none() {
            assert!(bench.try_wait().unwrap().is_none(), "it ended without a state");
            assert!(began.elapsed() < Duration::from_secs(120), "no state of a training");
            std::thread::sleep(Duration::from_millis(1));
        }
        let pid = Pid::from_child(&bench);
        match kills_all {
            true => kill_process_group(pid, Signal::KILL).unwrap(),
            false => kill_process(pid, Signal::KILL).unwrap(),
        }
        bench.wait().unwrap();
        // Nobody goes on with it.
        let saved = || fs::metadata(state(&dir.join("report")).unwrap()).unwrap().modified().unwrap();
        let before = saved();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(saved(), before);
        let made = files_below(&dir.join("report/cache"));
        let checkpoints = |files: &BTreeMap<String, Vec<u8>>| {
            files.keys().filter(|name| name.ends_with(".safetensors") && !name.contains('/')).count()
        };
        assert!(checkpoints(&made) < checkpoints(&kept), "it was killed before its end");
        assert!(state(&dir.join("report")).is_some());
        ok_in(dir, "bench sweep.toml -o report -q");
        let (again, files) = (results(dir), files_below(&dir.join("report/cache")));
        assert_eq!(without_times(&again), without_times(&whole));
        for (name, bytes) in kept.iter().filter(|(name, _)| name.ends_with(".safetensors")) {
            assert!(files.get(name) == Some(bytes), "{name}");
        }
        assert!(files.keys().eq(kept.keys()), "nothing is left of the training");
        fs::remove_dir_all(dir.join("report")).unwrap();
    }
}

#[test]
fn a_variant_that_fails_stops_no_other_and_is_told() {
    let ground = ground();
    let dir = ground.path();
    let more = "[[variant]]\nname = \"broken\"\nsteps = [{ verb = \"quantize\", group = \"7\" }, { verb = \"prune\", sparsity = 0.5 }]\n";
    fs::write(dir.join("sweep.toml"), format!("{SWEEP}\n{more}")).unwrap();
    let output = run_in(dir, "bench sweep.toml -o report");
    assert_code(&output, 1, "a variant failed");
    let results = results(dir);
    let broken = variant(&results, "broken");
    let reason = broken["failure"].as_str().unwrap();
    assert!(reason.starts_with("quantize: ") && reason.contains("groups of 7"), "{reason}");
    assert!(broken["measurement"].is_null() && variant(&results, "recipe")["failure"].is_null());
    assert!(out(&output).contains("groups of 7"));
}

#[test]
fn regressions_have_an_exit_code() {
    let ground = ground();
    let dir = ground.path();
    ok_in(dir, "bench sweep.toml -o report -q");
    fs::copy(dir.join("report/results.json"), dir.join("old.json")).unwrap();
    let output = ok_in(dir, "bench sweep.toml -o report --compare old.json");
    assert!(err(&output).contains("nothing changed beyond chance"), "{}", err(&output));
    let mut old = read_json(&dir.join("old.json"));
    for variant in old["variants"].as_array_mut().unwrap() {
        if variant["name"] == "RTN int8" {
            variant["measurement"]["disk_bytes"] = 1000.into();
        }
    }
    fs::write(dir.join("old.json"), old.to_string()).unwrap();
    let output = run_in(dir, "bench sweep.toml -o report --compare old.json");
    assert_code(&output, 3, "a regression");
    assert!(err(&output).contains("regression: RTN int8: bytes 1000 -> "), "{}", err(&output));
    fs::write(dir.join("old.json"), "{}").unwrap();
    let output = run_in(dir, "bench sweep.toml -o report --compare old.json");
    assert_code(&output, 1, "no results");
    assert!(err(&output).contains("old.json: line 1"), "{}", err(&output));
}

/// The page in a browser, as wide as a phone and as a desk: what the script draws is there. Skipped without a browser.
#[test]
fn the_page_draws_itself_in_a_browser() {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let has =
        |name: &&str| std::process::Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success());
    let Some(browser) = names.iter().find(|name| has(name)) else {
        eprintln!("skipped: no chromium");
        return;
    };
    let ground = ground();
    let dir = ground.path();
    ok_in(dir, "bench sweep.toml -o report -q");
    let page = format!("file://{}", dir.join("report/index.html").canonicalize().unwrap().display());
    let shown = |width: u32, how: &str| {
        std::process::Command::new(browser)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", how])
            .arg(format!("--user-data-dir={}", dir.join("profile").display()))
            .arg(format!("--window-size={width},900"))
            .arg(&page)
            .output()
            .unwrap()
    };
    for width in [390, 1280] {
        let output = shown(width, "--dump-dom");
        let (dom, told) = (out(&output), err(&output));
        assert!(!told.contains("CONSOLE"), "{told}");
        assert!(dom.matches("<circle").count() >= 3, "points at {width}");
        assert_eq!(dom.matches("<tr class=\"variant").count(), 9);
        assert!(dom.contains("Digits &lt;b&gt;") && dom.contains("whisker") && dom.contains("class=\"cell\""));
        let picture = dir.join(format!("{width}.png"));
        shown(width, &format!("--screenshot={}", picture.display()));
        assert!(fs::metadata(&picture).unwrap().len() > 5000);
    }
}

#[test]
fn what_is_wrong_is_told_before_any_work() {
    let ground = ground();
    let dir = ground.path();
    for (from, to, said) in [
        ("verb = \"prune\"", "verb = \"prnue\"", "line 14: `prnue` is no step\n  try: did you mean `prune`?"),
        ("epochs = 1", "epoch = 1", "line 15: unexpected argument '--epoch'"),
        ("\"w4a16\"", "\"w9a16\"", "line 16: `w9a16` is no scheme"),
        ("goal", "gaol", "line 4, `gaol = \"smallest within 2\"`"),
        ("[0.3, 0.6]", "[0.3, 1.6]", "line 14: sparsity 1.6 is not in 0..=1"),
    ] {
        fs::write(dir.join("wrong.toml"), SWEEP.replace(from, to)).unwrap();
        let output = run_in(dir, "bench wrong.toml -o wrong");
        assert_code(&output, 2, to);
        assert!(err(&output).contains(said), "{to}\n{}", err(&output));
    }
    fs::write(dir.join("wrong.toml"), format!("split = \"tset\"\n{SWEEP}")).unwrap();
    let output = run_in(dir, "bench wrong.toml -o wrong");
    assert_code(&output, 1, "no such split");
    assert!(err(&output).contains("did you mean `test`?"), "{}", err(&output));
    assert!(!dir.join("wrong").exists());
}

#[test]
fn every_flag_of_bench_changes_something() {
    let ground = ground();
    let dir = ground.path();
    let line = "bench sweep.toml -o report";
    let told = ok_in(dir, line);
    assert!(err(&told).contains("1 of ") && out(&told).contains("RTN int4"));
    let quiet = ok_in(dir, &format!("{line} --quiet"));
    assert!(quiet.stdout.is_empty() && quiet.stderr.is_empty());
    assert_eq!(json_out(&ok_in(dir, &format!("{line} --json")))["variants"], results(dir)["variants"]);
    // Those of `--compare` and `--fresh` are above.
    let tested = ["output", "compare", "fresh", "json", "quiet"].map(str::to_owned);
    assert_eq!(shown_flags("bench"), BTreeSet::from(tested));
}
