//! Nothing is lost: killed, stopped, cut off or out of space, what was there stays, nothing half done gets a name, and
//! the next run says what it finds.
//!
//! Runs are held at a known point by a pipe: one that is fed only so far, or one that nobody reads.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::{
    DLOPT, Random, Tensor, assert_code, assert_same_folders, err, files_below, fixture, names_in, ok_in, run_in,
    safetensors, temp_dir, write_file, write_folder,
};

/// Long enough for a busy machine; what takes it hangs.
const LIMIT: Duration = Duration::from_secs(60);

const LAYERS: usize = 8;

/// Linear layers of 1 MiB each.
fn layers() -> &'static [Tensor] {
    static MADE: OnceLock<Vec<Tensor>> = OnceLock::new();
    MADE.get_or_init(|| {
        (0..LAYERS).map(|i| Tensor::random(&format!("layers.{i}.weight"), "F32", &[256, 1024], i as u64)).collect()
    })
}

/// A file of them.
fn bytes() -> &'static [u8] {
    static MADE: OnceLock<Vec<u8>> = OnceLock::new();
    MADE.get_or_init(|| safetensors(layers(), &[("format", "pt")]))
}

/// A run that is under way.
struct Running {
    child: Child,
    line: String,
}

impl Running {
    /// Starts the binary in a folder.
    fn start(dir: &Path, line: &str, stdin: Stdio, stdout: Stdio) -> Self {
        let mut command = Command::new(DLOPT);
        command.args(line.split(' ')).current_dir(dir).stdin(stdin).stdout(stdout).stderr(Stdio::piped());
        Self { child: command.spawn().unwrap(), line: line.to_owned() }
    }

    /// Starts it with standard input open, and feeds it so many bytes.
    fn fed(dir: &Path, line: &str, bytes: &[u8]) -> (Self, ChildStdin) {
        let mut running = Self::start(dir, line, Stdio::piped(), Stdio::null());
        let mut stdin = running.child.stdin.take().unwrap();
        stdin.write_all(bytes).unwrap();
        (running, stdin)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Kills it as nothing can be done about.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end, and fails when it hangs.
    fn end(mut self) -> Output {
        let begin = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            if begin.elapsed() > LIMIT {
                self.child.kill().unwrap();
                panic!("`dlopt {}` hangs: {}", self.line, err(&self.child.wait_with_output().unwrap()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.child.wait_with_output().unwrap()
    }
}

/// Waits until something is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < LIMIT, "waited for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// An error of one line, perhaps with a line of what to try, and code 1.
fn assert_one_error(output: &Output, what: &str) {
    assert_code(output, 1, what);
    let text = err(output);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines.first().is_some_and(|l| l.starts_with("error: ")), "{what}: {text}");
    assert!(lines.len() == 1 || (lines.len() == 2 && lines[1].starts_with("  try: ")), "{what}: {text}");
}

/// The passes that are interrupted: one that writes block by block, one that looks at each tensor first, one that looks
/// at the whole model first.
const PASSES: [&str; 4] = [
    "quantize --group 128",
    "prune --sparsity 0.5",
    "prune --sparsity 0.5 --scope global",
    "prune --sparsity 0.5 --store bitmask",
];

#[test]
fn a_file_killed_while_its_input_is_awaited_leaves_the_target_as_it_was() {
    for pass in PASSES {
        let dir = temp_dir();
        let dir = dir.path();
        fs::write(dir.join("in.safetensors"), bytes()).unwrap();
        fs::write(dir.join("out.safetensors"), "what was there").unwrap();
        ok_in(dir, &format!("{pass} in.safetensors -o whole.safetensors"));
        let leftover = dir.join(".out.safetensors.dlopt-tmp");
        let line = format!("{pass} - -o out.safetensors --force");
        let (running, stdin) = Running::fed(dir, &line, &bytes()[..bytes().len() / 2]);
        until("the temporary file", || leftover.exists());
        running.kill();
        drop(stdin);
        assert_eq!(fs::read(dir.join("out.safetensors")).unwrap(), b"what was there", "{pass}");

        let next = ok_in(dir, &format!("{pass} in.safetensors -o out.safetensors --force"));
        assert!(err(&next).contains(".out.safetensors.dlopt-tmp"), "{pass}: the next run names it: {}", err(&next));
        let same = fs::read(dir.join("out.safetensors")).unwrap() == fs::read(dir.join("whole.safetensors")).unwrap();
        assert!(same, "{pass}");
        assert_eq!(names_in(dir), ["in.safetensors", "out.safetensors", "whole.safetensors"], "{pass}");
    }
}

#[test]
fn a_file_killed_at_any_moment_is_the_old_one_or_the_new_one() {
    let dir = temp_dir();
    let dir = dir.path();
    fs::write(dir.join("in.safetensors"), bytes()).unwrap();
    let pass = "prune --sparsity 0.5";
    let begin = Instant::now();
    ok_in(dir, &format!("{pass} in.safetensors -o whole.safetensors"));
    let whole = fs::read(dir.join("whole.safetensors")).unwrap();
    let usual = begin.elapsed();
    let mut random = Random::new(7);
    let mut outcomes = [0; 2];
    for i in 0..24u32 {
        fs::write(dir.join("out.safetensors"), "what was there").unwrap();
        let line = format!("{pass} in.safetensors -o out.safetensors --force");
        let running = Running::start(dir, &line, Stdio::null(), Stdio::null());
        std::thread::sleep(usual.mul_f64(f64::from(i) / 20.0 + (random.bits() % 1000) as f64 / 20_000.0));
        running.kill();
        let found = fs::read(dir.join("out.safetensors")).unwrap();
        let is_new = found == whole;
        assert!(is_new || found == b"what was there", "kill {i}: {} bytes", found.len());
        outcomes[usize::from(is_new)] += 1;
        let leftover = dir.join(".out.safetensors.dlopt-tmp");
        let left = leftover.exists();
        let next = ok_in(dir, &line);
        assert_eq!(err(&next).contains("dlopt-tmp"), left, "kill {i}: {}", err(&next));
        assert!(fs::read(dir.join("out.safetensors")).unwrap() == whole && !leftover.exists(), "kill {i}");
    }
    assert!(outcomes[0] > 0, "no kill came in time");
    assert!(fs::read(dir.join("in.safetensors")).unwrap() == bytes());
}

#[test]
fn a_folder_killed_at_any_moment_is_the_old_one_or_the_new_one() {
    let dir = temp_dir();
    let dir = dir.path();
    fs::write(dir.join("in.safetensors"), bytes()).unwrap();
    let line = "prune --sparsity 0.5 --max-shard-size 1MiB in.safetensors --force -o";
    let begin = Instant::now();
    ok_in(dir, &format!("{line} whole/"));
    let usual = begin.elapsed();
    let whole = files_below(&dir.join("whole"));
    ok_in(dir, "quantize in.safetensors -o old/");
    let old = files_below(&dir.join("old"));
    for i in 0..16u32 {
        for (name, bytes) in &old {
            fs::create_dir_all(dir.join("out")).unwrap();
            fs::write(dir.join("out").join(name), bytes).unwrap();
        }
        let running = Running::start(dir, &format!("{line} out/"), Stdio::null(), Stdio::null());
        std::thread::sleep(usual.mul_f64(f64::from(i) / 14.0));
        running.kill();
        let found = files_below(&dir.join("out"));
        assert!(found == old || found == whole, "kill {i}: {:?}", found.keys());
        let partial = dir.join("out.dlopt-partial");
        let left = partial.exists();
        let next = ok_in(dir, &format!("{line} out/"));
        assert_eq!(err(&next).contains("out.dlopt-partial"), left, "kill {i}: {}", err(&next));
        assert!(files_below(&dir.join("out")) == whole && !partial.exists(), "kill {i}");
        fs::remove_dir_all(dir.join("out")).unwrap();
    }
}

/// How many shards the journal of a partial folder says are done.
fn finished(partial: &Path) -> usize {
    let Ok(text) = fs::read(partial.join("dlopt-journal.json")) else { return 0 };
    let Ok(journal) = serde_json::from_slice::<serde_json::Value>(&text) else { return 0 };
    journal["finished"].as_object().map_or(0, serde_json::Map::len)
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for (name, bytes) in files_below(from) {
        fs::write(to.join(name), bytes).unwrap();
    }
}

const SHARDED: &str = "prune --sparsity 0.5 --max-shard-size 1MiB";

/// A folder with an input, `whole/`, and `out.dlopt-partial` of a run from `line` that was killed with some shards done.
fn killed_folder(dir: &Path, input: &str) -> usize {
    ok_in(dir, &format!("{SHARDED} {input} -o whole/"));
    let partial = dir.join("out.dlopt-partial");
    for _ in 0..20 {
        let running = Running::start(dir, &format!("{SHARDED} {input} -o out"), Stdio::null(), Stdio::null());
        let begin = Instant::now();
        while finished(&partial) < 2 && !dir.join("out").exists() && begin.elapsed() < LIMIT {
            std::thread::yield_now();
        }
        running.kill();
        let done = finished(&partial);
        if (1..LAYERS).contains(&done) {
            return done;
        }
        let _ = fs::remove_dir_all(&partial);
        let _ = fs::remove_dir_all(dir.join("out"));
    }
    panic!("no kill came between the first shard and the last");
}

/// A folder of shards as input, so that the output folder needs no slash.
fn sharded_input(dir: &Path) {
    let shards: Vec<_> = layers().iter().map(|t| vec![t.clone()]).collect();
    write_folder(&dir.join("model"), &shards, None, &[("tokenizer.json", b"{}")]);
}

#[test]
fn a_folder_job_goes_on_where_it_was_killed_and_ends_with_the_same_bytes() {
    let dir = temp_dir();
    let dir = dir.path();
    sharded_input(dir);
    let done = killed_folder(dir, "model");
    let partial = dir.join("out.dlopt-partial");
    let before = files_below(&partial);

    // Without a word about it: an error that names both ways.
    let refused = run_in(dir, &format!("{SHARDED} model -o out"));
    assert_one_error(&refused, "neither --resume nor --force");
    for word in ["out.dlopt-partial", "killed", "--resume", "--force", &format!("{done} of {LAYERS}")] {
        assert!(err(&refused).contains(word), "{word}: {}", err(&refused));
    }
    assert_eq!(files_below(&partial), before);

    // With other options, another input, another cut: not the same job.
    for line in [
        "prune --sparsity 0.6 --max-shard-size 1MiB model",
        "prune --pattern 2:4 --max-shard-size 1MiB model",
        "prune --sparsity 0.5 --max-shard-size 3MiB model",
        "quantize --max-shard-size 1MiB model",
        "prune --sparsity 0.5 --max-shard-size 1MiB whole",
    ] {
        let refused = run_in(dir, &format!("{line} -o out --resume"));
        assert_one_error(&refused, line);
        assert!(err(&refused).contains("out.dlopt-partial"), "{line}: {}", err(&refused));
        assert_eq!(files_below(&partial), before, "{line}");
    }

    // Finished shards are kept: the same files, not new ones.
    let kept: BTreeMap<String, u64> = names_in(&partial)
        .into_iter()
        .filter(|n| n.ends_with(".safetensors"))
        .map(|n| (n.clone(), partial.join(&n).metadata().unwrap().mtime_nsec() as u64))
        .collect();
    let aside = dir.join("aside");
    copy_folder(&partial, &aside);
    let resumed = ok_in(dir, &format!("{SHARDED} model -o out --resume --threads 1"));
    assert!(err(&resumed).contains(&format!("{done} of {LAYERS} shards are done already")), "{}", err(&resumed));
    assert_same_folders(&dir.join("out"), &dir.join("whole"));
    assert!(!partial.exists());
    let untouched =
        kept.iter().filter(|(n, at)| dir.join("out").join(n).metadata().unwrap().mtime_nsec() as u64 == **at).count();
    assert!(untouched >= done, "{untouched} of {done} finished shards were kept as they were");
    // The figures cover kept shards too.
    let unbroken = ok_in(dir, &format!("{SHARDED} model -o again"));
    let figures = |o: &Output| err(o).lines().find(|l| l.starts_with("prune: ")).unwrap().to_owned();
    assert_eq!(figures(&resumed), figures(&unbroken));

    // Damaged in any way: redone.
    let first = names_in(&aside).into_iter().find(|n| n.ends_with(".safetensors")).unwrap();
    type Damage = fn(&Path);
    let damages: [(&str, usize, Damage); 5] = [
        ("one bit", done - 1, |path| {
            let mut bytes = fs::read(path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("cut", done - 1, |path| File::options().write(true).open(path).unwrap().set_len(1000).unwrap()),
        ("longer", done - 1, |path| File::options().append(true).open(path).unwrap().write_all(b"x").unwrap()),
        ("gone", done - 1, |path| fs::remove_file(path).unwrap()),
        ("journal is no journal", 0, |path| fs::write(path.with_file_name("dlopt-journal.json"), "{").unwrap()),
    ];
    for (what, kept, damage) in damages {
        fs::remove_dir_all(dir.join("out")).unwrap();
        copy_folder(&aside, &partial);
        damage(&partial.join(&first));
        let resumed = ok_in(dir, &format!("{SHARDED} model -o out --resume"));
        assert!(err(&resumed).contains(&format!("{kept} of {LAYERS} shards are done")), "{what}: {}", err(&resumed));
        assert_same_folders(&dir.join("out"), &dir.join("whole"));
        assert!(!partial.exists(), "{what}");
    }

    // --force starts over and says so.
    fs::remove_dir_all(dir.join("out")).unwrap();
    copy_folder(&aside, &partial);
    let forced = ok_in(dir, &format!("{SHARDED} model -o out --force"));
    assert!(err(&forced).contains("out.dlopt-partial"), "{}", err(&forced));
    assert_same_folders(&dir.join("out"), &dir.join("whole"));
    assert!(!partial.exists());

    // An output that is there needs --force, also when a job for it goes on.
    copy_folder(&aside, &partial);
    let refused = run_in(dir, &format!("{SHARDED} model -o out --resume"));
    assert_one_error(&refused, "--resume without --force");
    assert!(err(&refused).contains("--force"), "{}", err(&refused));
    let both = ok_in(dir, &format!("{SHARDED} model -o out --resume --force"));
    assert!(err(&both).contains(&format!("{done} of {LAYERS} shards are done already")), "{}", err(&both));
    assert_same_folders(&dir.join("out"), &dir.join("whole"));

    // Nothing to go on with: a fresh start.
    fs::remove_dir_all(dir.join("out")).unwrap();
    ok_in(dir, &format!("{SHARDED} model -o out --resume"));
    assert_same_folders(&dir.join("out"), &dir.join("whole"));
}

#[test]
fn a_folder_job_is_not_resumed_on_an_input_that_changed() {
    let dir = temp_dir();
    let dir = dir.path();
    sharded_input(dir);
    killed_folder(dir, "model");
    let shard = dir.join("model").join(names_in(&dir.join("model")).into_iter().find(|n| n.contains("-of-")).unwrap());
    let mut changed = fs::read(&shard).unwrap();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(&shard, changed).unwrap();
    let refused = run_in(dir, &format!("{SHARDED} model -o out --resume"));
    assert_one_error(&refused, "the input changed");
    assert!(dir.join("out.dlopt-partial").exists() && !dir.join("out").exists());
}

#[test]
fn a_folder_job_from_a_pipe_goes_on_too() {
    let dir = temp_dir();
    let dir = dir.path();
    fs::write(dir.join("in.safetensors"), bytes()).unwrap();
    ok_in(dir, &format!("{SHARDED} in.safetensors -o whole/"));
    let (running, stdin) = Running::fed(dir, &format!("{SHARDED} - -o out/"), &bytes()[..5 << 20]);
    let partial = dir.join("out.dlopt-partial");
    until("two shards", || finished(&partial) >= 2);
    running.kill();
    drop(stdin);
    assert!(!dir.join("out").exists());
    let done = finished(&partial);
    let (running, stdin) = Running::fed(dir, &format!("{SHARDED} - -o out/ --resume"), bytes());
    drop(stdin);
    let resumed = running.end();
    assert_code(&resumed, 0, "--resume from a pipe");
    assert!(err(&resumed).contains(&format!("{done} of {LAYERS} shards are done already")), "{}", err(&resumed));
    assert_same_folders(&dir.join("out"), &dir.join("whole"));
}

#[test]
fn a_signal_ends_a_run_with_one_line_and_nothing_left_behind() {
    let half = &bytes()[..bytes().len() / 2];
    let mut header_only = 8 + u64::from_le_bytes(bytes()[..8].try_into().unwrap()) as usize;
    header_only += 100;
    for signal in [Signal::INT, Signal::TERM] {
        for (line, fed, sign) in [
            // Blocked before the first byte, in the header, behind it, in the middle.
            ("prune --sparsity 0.5 -o out.safetensors", &bytes()[..0], ""),
            ("quantize -o out/", &bytes()[..20], ""),
            ("quantize -o out.safetensors", &bytes()[..header_only], ".out.safetensors.dlopt-tmp"),
            ("prune --sparsity 0.5 -o out.safetensors", half, ".out.safetensors.dlopt-tmp"),
            ("prune --sparsity 0.5 --scope global --tmp-dir . -o out.safetensors", half, ".out.safetensors.dlopt-tmp"),
            ("quantize -o out/", half, "out.dlopt-partial"),
            ("prune --sparsity 0.5 --max-shard-size 1MiB -o out/", half, "out.dlopt-partial"),
            ("inspect --stats -", half, ""),
            ("diff there.safetensors -", half, ""),
            ("verify -", half, ""),
        ] {
            let dir = temp_dir();
            let dir = dir.path();
            fs::write(dir.join("there.safetensors"), bytes()).unwrap();
            let (running, stdin) = Running::fed(dir, line, fed);
            if sign.is_empty() {
                // The handler is in place before the first read.
                std::thread::sleep(Duration::from_millis(150));
            } else {
                until(sign, || dir.join(sign).exists());
            }
            running.signal(signal);
            let begin = Instant::now();
            let output = running.end();
            let what = format!("{signal:?}: {line}, {} bytes in", fed.len());
            assert!(begin.elapsed() < Duration::from_secs(10), "{what}: took {:?}", begin.elapsed());
            assert_one_error(&output, &what);
            assert_eq!(err(&output).lines().count(), 1, "{what}: {}", err(&output));
            assert_eq!(names_in(dir), ["there.safetensors"], "{what}");
            drop(stdin);
        }
    }
}

#[test]
fn a_signal_ends_a_run_whose_output_nobody_reads() {
    for signal in [Signal::INT, Signal::TERM] {
        for line in
            ["prune --sparsity 0.5 in.safetensors", "convert in.safetensors", "quantize --scheme w8a8 in.safetensors"]
        {
            let dir = temp_dir();
            let dir = dir.path();
            fs::write(dir.join("in.safetensors"), bytes()).unwrap();
            let mut running = Running::start(dir, line, Stdio::null(), Stdio::piped());
            let mut stdout = running.child.stdout.take().unwrap();
            let mut first = [0; 8];
            stdout.read_exact(&mut first).unwrap();
            std::thread::sleep(Duration::from_millis(200));
            running.signal(signal);
            let output = running.end();
            assert_one_error(&output, line);
            assert_eq!(err(&output).lines().count(), 1, "{line}: {}", err(&output));
            assert_eq!(names_in(dir), ["in.safetensors"], "{line}");
        }
    }
}

#[test]
fn a_signal_ends_a_run_that_is_busy() {
    for (line, out) in [
        ("quantize --method mse in.safetensors -o out.safetensors", ".out.safetensors.dlopt-tmp"),
        ("quantize --method mse in.safetensors -o out/", "out.dlopt-partial"),
    ] {
        for old in [false, true] {
            let dir = temp_dir();
            let dir = dir.path();
            fs::write(dir.join("in.safetensors"), bytes()).unwrap();
            let target = dir.join(if line.ends_with('/') { "out" } else { "out.safetensors" });
            if old && line.ends_with('/') {
                fs::create_dir(&target).unwrap();
                fs::write(target.join("model.safetensors"), "old").unwrap();
            } else if old {
                fs::write(&target, "old").unwrap();
            }
            let before = files_below(dir);
            let line = if old { format!("{line} --force") } else { line.to_owned() };
            let running = Running::start(dir, &line, Stdio::null(), Stdio::null());
            until(out, || dir.join(out).exists());
            std::thread::sleep(Duration::from_millis(10));
            running.signal(Signal::TERM);
            let output = running.end();
            if output.status.code() == Some(0) {
                eprintln!("skipped: {line} was done before the signal came");
                continue;
            }
            assert_one_error(&output, &line);
            assert_eq!(err(&output).lines().count(), 1, "{line}: {}", err(&output));
            assert_eq!(files_below(dir), before, "{line}");
        }
    }
}

#[test]
fn a_hangup_that_the_caller_ignores_is_ignored() {
    // `nohup dlopt … &` must survive the end of its terminal.
    let dir = temp_dir();
    let dir = dir.path();
    let script = format!("trap '' HUP; exec '{DLOPT}' prune --sparsity 0.5 -o out.safetensors");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut running = Running { child: command.spawn().unwrap(), line: script };
    let mut stdin = running.child.stdin.take().unwrap();
    stdin.write_all(&bytes()[..1 << 20]).unwrap();
    until("the temporary file", || dir.join(".out.safetensors.dlopt-tmp").exists());
    running.signal(Signal::HUP);
    std::thread::sleep(Duration::from_millis(1000));
    // When it has gone, the pipe is closed.
    let _ = stdin.write_all(&bytes()[1 << 20..]);
    drop(stdin);
    let output = running.end();
    assert_code(&output, 0, "a hangup that is ignored");
    assert!(dir.join("out.safetensors").exists());
}

#[test]
fn a_reader_that_closes_the_pipe_ends_a_checkpoint_with_one_line() {
    let dir = temp_dir();
    let dir = dir.path();
    fs::write(dir.join("in.safetensors"), bytes()).unwrap();
    for pass in PASSES.into_iter().chain(["convert", "convert --dtype bf16"]) {
        for piped in [false, true] {
            let line = format!("{pass} {}", if piped { "-" } else { "in.safetensors" });
            let stdin =
                if piped { Stdio::from(File::open(dir.join("in.safetensors")).unwrap()) } else { Stdio::null() };
            let mut running = Running::start(dir, &line, stdin, Stdio::piped());
            let mut first = [0; 1000];
            running.child.stdout.take().unwrap().read_exact(&mut first).unwrap();
            let output = running.end();
            assert_one_error(&output, &line);
            assert_eq!(err(&output).lines().count(), 1, "{line}: {}", err(&output));
        }
    }
    assert_eq!(names_in(dir), ["in.safetensors"]);
}

#[test]
fn a_reader_that_closes_the_pipe_has_seen_enough_of_a_text() {
    let dir = temp_dir();
    let dir = dir.path();
    // Longer than a pipe holds.
    let many: Vec<_> = (0..4000).map(|i| Tensor::random(&format!("layers.{i}.weight"), "F32", &[2, 4], i)).collect();
    write_file(&dir.join("many.safetensors"), &many, &[("format", "pt")]);
    for line in [
        "inspect --tensors many.safetensors",
        "inspect --json many.safetensors",
        "inspect --stats many.safetensors",
        "diff -v many.safetensors many.safetensors",
        "diff --json many.safetensors many.safetensors",
        "verify many.safetensors",
        "convert --dry-run many.safetensors",
        "convert --dry-run --explain many.safetensors",
        "convert --dry-run --json many.safetensors",
        "list",
        "list --json",
        "completions bash",
        "--help",
        "prune --help",
        "--version",
    ] {
        let mut running = Running::start(dir, line, Stdio::null(), Stdio::piped());
        let mut first = [0; 1];
        running.child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let output = running.end();
        assert_code(&output, 0, line);
        assert!(!err(&output).contains("error"), "{line}: {}", err(&output));
        // A reader that was never there.
        let mut running = Running::start(dir, line, Stdio::null(), Stdio::piped());
        drop(running.child.stdout.take());
        assert_code(&running.end(), 0, line);
    }
}

#[test]
fn a_full_disk_at_standard_output_is_one_line() {
    if !Path::new("/dev/full").exists() {
        eprintln!("skipped: there is no /dev/full");
        return;
    }
    let dir = temp_dir();
    let dir = dir.path();
    fs::write(dir.join("in.safetensors"), bytes()).unwrap();
    for line in [
        "prune --sparsity 0.5 in.safetensors",
        "quantize in.safetensors",
        "convert in.safetensors",
        "inspect in.safetensors",
        "convert --dry-run in.safetensors",
        "diff in.safetensors in.safetensors",
        "list",
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = Running::start(dir, line, Stdio::null(), full.into()).end();
        assert_one_error(&output, line);
        assert!(err(&output).contains("standard output"), "{line}: {}", err(&output));
        assert!(err(&output).contains("no space left"), "{line}: {}", err(&output));
    }
    assert_eq!(names_in(dir), ["in.safetensors"]);
}

#[test]
fn errors_and_reports_that_cannot_be_told_do_not_change_the_code() {
    if !Path::new("/dev/full").exists() {
        eprintln!("skipped: there is no /dev/full");
        return;
    }
    let dir = temp_dir();
    let dir = dir.path();
    write_file(&dir.join("in.safetensors"), &layers()[..1], &[("format", "pt")]);
    let mut wrong = Vec::new();
    for (line, code) in [
        ("prune --sparsity 0.5 nothing.safetensors -o out.safetensors", 1),
        ("prune --sparsity 5 in.safetensors -o out.safetensors", 2),
        ("prune --nonsense", 2),
        ("prune --sparsity 0.5 in.safetensors -o out.safetensors", 0),
        ("quantize --dry-run --explain in.safetensors", 0),
        ("quantize in.safetensors -v -o q.safetensors", 0),
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(DLOPT);
        command.args(line.split(' ')).current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(full);
        let status = command.status().unwrap();
        if status.code() != Some(code) {
            wrong.push(format!("{line}: {:?}, not {code}", status.code()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(names_in(dir), ["in.safetensors", "out.safetensors", "q.safetensors"]);
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    let dir = temp_dir();
    let dir = dir.path();
    fs::write(dir.join("in.safetensors"), bytes()).unwrap();
    fs::write(dir.join("old.safetensors"), "old").unwrap();
    let before = files_below(dir);
    for line in [
        "prune --sparsity 0.5 in.safetensors -o out.safetensors",
        "prune --sparsity 0.5 in.safetensors -o old.safetensors --force",
        "quantize in.safetensors -o out/",
        "quantize in.safetensors -o out/ --max-shard-size 1MiB",
        "convert in.safetensors -o out.safetensors",
        "prune --sparsity 0.5 --scope global --tmp-dir . < in.safetensors",
        "prune --sparsity 0.5 --scope global -o out.safetensors < in.safetensors",
        "prune --sparsity 0.5 -o out.safetensors < in.safetensors",
    ] {
        // A limit on the size of files stands for a disk that fills up: 64 blocks of 1 KiB.
        let script = format!("ulimit -f 64; trap '' XFSZ; exec '{DLOPT}' {line}");
        let mut command = Command::new("bash");
        command
            .args(["-c", &script])
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let output = Running { child: command.spawn().unwrap(), line: script }.end();
        assert_one_error(&output, line);
        assert_eq!(files_below(dir).keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>(), "{line}");
        assert_eq!(files_below(dir), before, "{line}");
    }
}

#[test]
fn an_output_that_no_disk_holds_is_refused_before_work() {
    let dir = temp_dir();
    let dir = dir.path();
    // 8 TiB of zeros that take no space.
    let text = format!(
        "{{\"a.weight\":{{\"dtype\":\"F32\",\"shape\":[{},1024],\"data_offsets\":[0,{}]}}}}",
        1u64 << 31,
        1u64 << 43
    );
    let file = File::create(dir.join("huge.safetensors")).unwrap();
    (&file).write_all(&support::with_header_text(text.as_bytes(), &[])).unwrap();
    if file.set_len(8 + text.len() as u64 + (1 << 43)).is_err() {
        eprintln!("skipped: this disk takes no file of 8 TiB");
        return;
    }
    drop(file);
    for line in ["prune --sparsity 0.5 huge.safetensors -o out.safetensors", "convert huge.safetensors -o out/"] {
        let begin = Instant::now();
        let output = Running::start(dir, line, Stdio::null(), Stdio::null()).end();
        assert_one_error(&output, line);
        assert!(err(&output).contains("free"), "{line}: {}", err(&output));
        assert!(begin.elapsed() < Duration::from_secs(10), "{line}");
        assert_eq!(names_in(dir), ["huge.safetensors"], "{line}");
    }
}

#[test]
fn an_input_that_shrinks_while_it_is_read_is_named() {
    for pass in ["prune --sparsity 0.5", "prune --sparsity 0.5 --scope global", "convert"] {
        let dir = temp_dir();
        let dir = dir.path();
        fs::write(dir.join("in.safetensors"), bytes()).unwrap();
        // A pipe that nobody reads holds the run in its first tensors.
        let line = format!("{pass} in.safetensors --threads 1 --memory 4MiB");
        let mut running = Running::start(dir, &line, Stdio::null(), Stdio::piped());
        let mut stdout = running.child.stdout.take().unwrap();
        let mut first = [0; 8];
        stdout.read_exact(&mut first).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        File::options().write(true).open(dir.join("in.safetensors")).unwrap().set_len((7 << 20) + 5).unwrap();
        let mut rest = Vec::new();
        stdout.read_to_end(&mut rest).unwrap();
        let output = running.end();
        assert_one_error(&output, &line);
        for word in ["in.safetensors", "layers.", "shrank"] {
            assert!(err(&output).contains(word), "{line}: {word} in {}", err(&output));
        }
        assert!(rest.len() + 8 < bytes().len(), "{line}: the stream is cut short");
    }
    // A shard of a folder.
    let dir = temp_dir();
    let dir = dir.path();
    sharded_input(dir);
    let shards: Vec<PathBuf> =
        names_in(&dir.join("model")).iter().filter(|n| n.contains("-of-")).map(|n| dir.join("model").join(n)).collect();
    let mut running =
        Running::start(dir, "prune --sparsity 0.5 model --threads 1 --memory 4MiB", Stdio::null(), Stdio::piped());
    let mut stdout = running.child.stdout.take().unwrap();
    let mut first = [0; 8];
    stdout.read_exact(&mut first).unwrap();
    File::options().write(true).open(shards.last().unwrap()).unwrap().set_len(1000).unwrap();
    std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
    let output = running.end();
    assert_one_error(&output, "a shard that shrinks");
    let name = shards.last().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    assert!(err(&output).contains(&name), "{}", err(&output));
}

#[test]
fn inputs_are_never_modified() {
    let dir = temp_dir();
    let dir = dir.path();
    write_file(&dir.join("in.safetensors"), &layers()[..2], &[("format", "pt")]);
    write_folder(&dir.join("model"), &[layers()[..1].to_vec(), layers()[1..2].to_vec()], None, &[("a.txt", b"a")]);
    fs::copy(fixture("import/plain.pth"), dir.join("plain.pth")).unwrap();
    fs::copy(fixture("import/deflated.npz"), dir.join("deflated.npz")).unwrap();
    let state = || {
        let times: Vec<_> = ["in.safetensors", "model", "plain.pth", "deflated.npz"]
            .iter()
            .map(|n| {
                let meta = dir.join(n).metadata().unwrap();
                (meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.mode())
            })
            .collect();
        (files_below(dir), times)
    };
    let before = state();
    for line in [
        "inspect --stats in.safetensors",
        "inspect --stats model",
        "diff in.safetensors model",
        "verify model",
        "prune --sparsity 0.5 in.safetensors",
        "prune --sparsity 0.5 --scope global model",
        "quantize in.safetensors",
        "quantize model --dry-run --explain",
        "convert plain.pth",
        "convert deflated.npz",
    ] {
        ok_in(dir, line);
        assert!(state() == before, "{line}");
    }
}

#[test]
fn two_runs_for_one_file_do_not_meet() {
    let dir = temp_dir();
    let dir = dir.path();
    fs::write(dir.join("in.safetensors"), bytes()).unwrap();
    ok_in(dir, "prune --sparsity 0.5 in.safetensors -o whole.safetensors");
    let (first, mut stdin) =
        Running::fed(dir, "prune --sparsity 0.5 - -o out.safetensors", &bytes()[..bytes().len() / 2]);
    until("the temporary file", || dir.join(".out.safetensors.dlopt-tmp").exists());
    for force in ["", " --force"] {
        let second = run_in(dir, &format!("quantize in.safetensors -o out.safetensors{force}"));
        assert_one_error(&second, "the second run");
        assert!(err(&second).contains("another dlopt"), "{}", err(&second));
        assert!(dir.join(".out.safetensors.dlopt-tmp").exists(), "the second run took the first one's file away");
    }
    stdin.write_all(&bytes()[bytes().len() / 2..]).unwrap();
    drop(stdin);
    assert_code(&first.end(), 0, "the first run");
    assert!(fs::read(dir.join("out.safetensors")).unwrap() == fs::read(dir.join("whole.safetensors")).unwrap());
    assert_eq!(names_in(dir), ["in.safetensors", "out.safetensors", "whole.safetensors"]);
}

#[test]
fn two_runs_for_one_folder_do_not_meet() {
    let mut wrong = Vec::new();
    for flags in ["", " --force", " --resume", " --resume --force"] {
        let dir = temp_dir();
        let dir = dir.path();
        fs::write(dir.join("in.safetensors"), bytes()).unwrap();
        ok_in(dir, &format!("{SHARDED} in.safetensors -o whole/"));
        let (first, mut stdin) = Running::fed(dir, &format!("{SHARDED} - -o out/"), &bytes()[..5 << 20]);
        let partial = dir.join("out.dlopt-partial");
        until("a shard", || finished(&partial) >= 2);
        let again = Stdio::from(File::open(dir.join("in.safetensors")).unwrap());
        let second = Running::start(dir, &format!("{SHARDED} - -o out/{flags}"), again, Stdio::null()).end();
        let is_there = partial.exists() && !dir.join("out").exists();
        // When its folder has gone, so has the first run.
        let _ = stdin.write_all(&bytes()[5 << 20..]);
        drop(stdin);
        let first = first.end();
        let is_whole = first.status.code() == Some(0)
            && dir.join("out").exists()
            && files_below(&dir.join("out")) == files_below(&dir.join("whole"));
        if second.status.code() != Some(1) || !err(&second).contains("another dlopt") || !is_there || !is_whole {
            wrong.push(format!(
                "second run with{flags}: code {:?}, the first run's folder is there: {is_there}, its output whole: \
                 {is_whole}\n  the first said: {}\n  the second said: {}",
                second.status.code(),
                err(&first).trim_end(),
                err(&second).trim_end()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn many_runs_for_one_file_leave_a_whole_one() {
    // Whoever is refused leaves the others alone, also when they end while it looks.
    let dir = temp_dir();
    let dir = dir.path();
    write_file(&dir.join("in.safetensors"), &layers()[..1], &[("format", "pt")]);
    ok_in(dir, "prune --sparsity 0.5 in.safetensors -o whole.safetensors");
    let whole = fs::read(dir.join("whole.safetensors")).unwrap();
    for round in 0..10 {
        let line = "prune --sparsity 0.5 in.safetensors -o out.safetensors --force";
        let runs: Vec<_> = (0..8).map(|_| Running::start(dir, line, Stdio::null(), Stdio::null())).collect();
        let mut done = 0;
        for run in runs {
            let output = run.end();
            if output.status.code() == Some(0) {
                done += 1;
            } else {
                assert_one_error(&output, line);
                assert!(err(&output).contains("another dlopt"), "round {round}: {}", err(&output));
            }
        }
        assert!(done > 0, "round {round}");
        assert!(fs::read(dir.join("out.safetensors")).unwrap() == whole, "round {round}");
        assert_eq!(names_in(dir), ["in.safetensors", "out.safetensors", "whole.safetensors"], "round {round}");
    }
}

#[test]
fn a_verb_that_fails_in_the_middle_of_a_pipe_ends_the_others() {
    let dir = temp_dir();
    let dir = dir.path();
    let mut tensors = layers().to_vec();
    let last = tensors.last_mut().unwrap();
    let end = last.bytes.len();
    last.bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    write_file(&dir.join("in.safetensors"), &tensors, &[("format", "pt")]);
    let piped = support::pipe_in(dir, None, &["convert in.safetensors", "prune --sparsity 0.5", "quantize -o out/"]);
    assert_eq!(piped.codes[1..], [Some(1), Some(1)], "{piped:?}");
    assert!(piped.errors[1].contains("NaN"), "{}", piped.errors[1]);
    assert!(piped.errors[2].contains("standard input"), "{}", piped.errors[2]);
    assert_eq!(names_in(dir), ["in.safetensors"]);
}
