//! Runs a chain of passes from the flags of a verb: opens, plans, writes, reports.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dlopt_checkpoint::{
    Checkpoint, Companions, Context, Error, Job, JobPlan, NoProgress, Outcome, Pass, Resources, Result, Target,
};

use dlopt_pack::is_packed;

use crate::args::{OutputArgs, WorkArgs};
use crate::exit;
use crate::messages;
use crate::progress::Bar;
use crate::streams;
use crate::tables;

/// Opens a checkpoint by name; `-` or nothing is standard input.
pub(crate) fn open(input: Option<&Path>, tmp_dir: &Path) -> Result<Checkpoint> {
    match input {
        Some(path) if path != Path::new("-") => match packed(path) {
            Some(file) => streams::checkpoint_from(file, path.display().to_string()),
            None => Checkpoint::open_spooling_in(path, tmp_dir),
        },
        _ => streams::checkpoint_from_stdin(),
    }
}

/// The file, where it was packed by dlopt. What cannot be read is the business of those who read it next.
fn packed(path: &Path) -> Option<File> {
    let mut file = File::open(path).ok().filter(|file| file.metadata().is_ok_and(|about| about.is_file()))?;
    let mut first = [0; 4];
    file.read_exact(&mut first).ok().filter(|()| is_packed(&first))?;
    file.rewind().ok()?;
    Some(file)
}

/// The checkpoint that a path or standard input names, whole: a stream is spooled.
pub(crate) fn open_whole(input: &Path) -> Result<Checkpoint> {
    let tmp_dir = std::env::temp_dir();
    let checkpoint = open(Some(input), &tmp_dir)?;
    if let Some(stream) = checkpoint.stream() {
        stream.spool_all(&tmp_dir)?;
        stream.finish()?;
    }
    Ok(checkpoint)
}

/// Where the output goes, by its name and by what the input is.
pub(crate) enum Out {
    Stdout,
    /// A named pipe or a device, which is written to and never replaced.
    Device(PathBuf),
    File(PathBuf),
    Folder(PathBuf),
}

impl Out {
    /// What `-o` names.
    pub(crate) fn named(output: Option<&Path>, input_is_folder: bool) -> Self {
        let Some(path) = output.filter(|p| *p != Path::new("-")) else { return Self::Stdout };
        let text = path.to_string_lossy();
        if text.ends_with('/') || path.is_dir() {
            return Self::Folder(path.to_owned());
        }
        if path.exists() && !path.is_file() {
            return Self::Device(path.to_owned());
        }
        let names_a_file = path.extension().is_some_and(|e| e == "safetensors");
        if input_is_folder && !names_a_file { Self::Folder(path.to_owned()) } else { Self::File(path.to_owned()) }
    }

    /// What a job writes to; `stdout` was opened before the work, if it is needed.
    pub(crate) fn target(self, stdout: Option<std::fs::File>) -> Result<Target> {
        Ok(match self {
            Self::Stdout => Target::Stream(Box::new(stdout.map_or_else(streams::stdout_for_checkpoint, Ok)?)),
            Self::Device(path) => {
                let device = std::fs::OpenOptions::new().write(true).open(&path).at(path.display())?;
                Target::Stream(Box::new(device))
            }
            Self::File(path) => Target::File(path),
            Self::Folder(path) => Target::Folder(path),
        })
    }
}

/// Where streams are spooled: beside the output, since `/tmp` may be memory.
///
/// # Errors
/// When `--tmp-dir` is no folder.
pub(crate) fn tmp_dir(work: &WorkArgs, output: Option<&Path>) -> Result<PathBuf> {
    if let Some(dir) = &work.tmp_dir {
        if !dir.is_dir() {
            return Err(Error::input(format!("{}: --tmp-dir is no folder", dir.display())));
        }
        return Ok(dir.clone());
    }
    Ok(match output.and_then(Path::parent) {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        Some(_) => PathBuf::from("."),
        None => std::env::temp_dir(),
    })
}

/// What a verb tells beside what every job does.
pub(crate) trait Telling {
    /// More of what `--explain` says, once the work is planned.
    fn explain(&self) -> String {
        String::new()
    }

    /// Goes on with what was written, before anything is told of it.
    fn finish(&self, _outcome: &Outcome) -> Result<()> {
        Ok(())
    }

    /// A table for people.
    fn table(&self) -> String {
        String::new()
    }

    /// Its part of the report, under its name.
    fn report(&self) -> serde_json::Map<String, serde_json::Value> {
        serde_json::Map::new()
    }

    /// Writes what was asked for beside the output.
    fn write(&self) -> Result<()> {
        Ok(())
    }
}

/// Tells nothing more.
struct NothingMore;

impl Telling for NothingMore {}

/// A report, and what a verb adds to it.
#[derive(serde::Serialize)]
struct Told<'a, T> {
    #[serde(flatten)]
    own: &'a T,
    #[serde(flatten)]
    more: serde_json::Map<String, serde_json::Value>,
}

/// What the files of the output will take, to the byte, without reading a weight.
pub(crate) fn planned_bytes(checkpoint: &Checkpoint, args: &OutputArgs, passes: &[Box<dyn Pass>]) -> Result<u64> {
    let out = Out::named(args.output.as_deref(), checkpoint.is_folder);
    let job = Job {
        checkpoint,
        passes: passes.iter().map(|pass| &**pass).collect(),
        is_folder: matches!(out, Out::Folder(_)),
        max_shard_bytes: args.max_shard_size.map(|s| s.as_u64()),
        keep_files: !args.no_files,
        force: args.force,
        resume: false,
        resources: Resources {
            threads: args.work.threads(),
            memory_bytes: args.work.memory_bytes(),
            tmp_dir: tmp_dir(&args.work, args.output.as_deref())?,
            progress: &NoProgress,
            stop: &AtomicBool::new(false),
        },
    };
    Ok(job.plan()?.bytes_after)
}

/// The checkpoint that a verb reads, with the small files that it is to have.
pub(crate) fn open_for(input: &Path, args: &OutputArgs) -> Result<Checkpoint> {
    let mut checkpoint = open_whole(input)?;
    if let Some(dir) = &args.files_from {
        take_files_from(&mut checkpoint, dir)?;
    }
    Ok(checkpoint)
}

/// Runs passes over the input of a verb.
pub(crate) fn run(
    input: Option<&Path>,
    args: &OutputArgs,
    passes: &[Box<dyn Pass>],
    stop: &Arc<AtomicBool>,
) -> Result<ExitCode> {
    let passes: Vec<&dyn Pass> = passes.iter().map(|p| &**p).collect();
    run_telling(input, args, &passes, &NothingMore, stop)
}

/// The same, with more to tell.
pub(crate) fn run_telling(
    input: Option<&Path>,
    args: &OutputArgs,
    passes: &[&dyn Pass],
    more: &dyn Telling,
    stop: &Arc<AtomicBool>,
) -> Result<ExitCode> {
    // A terminal must be refused before work, and before standard input is waited for.
    let stdout_needed = args.output.as_deref().is_none_or(|p| p == Path::new("-")) && !args.dry_run;
    let stdout = if stdout_needed { Some(streams::stdout_for_checkpoint()?) } else { None };
    let tmp_dir = tmp_dir(&args.work, args.output.as_deref())?;
    let mut checkpoint = open(input, &tmp_dir)?;
    if let Some(dir) = &args.files_from {
        take_files_from(&mut checkpoint, dir)?;
    }
    let out = Out::named(args.output.as_deref(), checkpoint.is_folder);
    if args.resume && !matches!(out, Out::Folder(_)) {
        return Err(Error::usage("--resume goes on with a folder, and the output is none").hint("-o FOLDER/"));
    }
    if args.max_shard_size.is_some() && !matches!(out, Out::Folder(_)) && !args.dry_run {
        return Err(Error::usage("--max-shard-size cuts a folder, and the output is none").hint("-o FOLDER/"));
    }
    check_report(args.report.report.as_deref(), &checkpoint, args.output.as_deref())?;
    let bar = Bar::new(args.report.quiet);
    let is_folder = matches!(out, Out::Folder(_)) || (args.dry_run && args.max_shard_size.is_some());
    let job = Job {
        checkpoint: &checkpoint,
        passes: passes.to_vec(),
        is_folder,
        max_shard_bytes: args.max_shard_size.map(|s| s.as_u64()),
        keep_files: !args.no_files,
        force: args.force,
        resume: args.resume,
        resources: Resources {
            threads: args.work.threads(),
            memory_bytes: args.work.memory_bytes(),
            tmp_dir,
            progress: &bar,
            stop,
        },
    };
    if args.dry_run || args.explain {
        let plan = job.plan()?;
        bar.clear();
        if args.explain {
            let text = tables::explain(&plan) + &more.explain();
            if args.dry_run { streams::print(&text)? } else { messages::tell(&text) }
        }
        if args.dry_run {
            return dry_run(args, &plan, more);
        }
    }
    for entry in &checkpoint.left_out {
        warn(args, &format!("{}: left out {entry}", checkpoint.name));
    }
    let goes_to_stdout = matches!(out, Out::Stdout);
    let target = out.target(stdout)?;
    let done = job.run(target);
    bar.clear();
    let outcome = done?;
    more.finish(&outcome)?;
    tell(args, &checkpoint.name, &outcome, more, goes_to_stdout)?;
    more.write()?;
    Ok(exit::for_gates(outcome.passes.iter().filter_map(|p| p.gate.as_deref())))
}

fn take_files_from(checkpoint: &mut Checkpoint, dir: &Path) -> Result<()> {
    if !dir.is_dir() {
        return Err(Error::input(format!("{}: no folder", dir.display())));
    }
    checkpoint.companions = Companions::of_folder(dir)?;
    let config = dir.join("config.json");
    if config.is_file() {
        let text = std::fs::read_to_string(&config).at(config.display())?;
        checkpoint.header.metadata.insert("config".to_owned(), text);
        checkpoint.header.config().map_err(|e| e.within(config.display()))?;
    }
    Ok(())
}

fn dry_run(args: &OutputArgs, plan: &JobPlan, more: &dyn Telling) -> Result<ExitCode> {
    let told = Told { own: plan, more: more.report() };
    if args.report.json {
        streams::print_json(&told)?;
    } else if !args.report.quiet {
        streams::print(&(tables::plan(plan) + &more.table()))?;
    }
    write_report(args.report.report.as_deref(), &told)?;
    more.write()?;
    Ok(exit::for_gates(plan.passes.iter().filter_map(|p| p.gate.as_deref())))
}

fn tell(args: &OutputArgs, input: &str, outcome: &Outcome, more: &dyn Telling, goes_to_stdout: bool) -> Result<()> {
    let told = Told { own: outcome, more: more.report() };
    write_report(args.report.report.as_deref(), &told)?;
    if args.report.json {
        if goes_to_stdout {
            messages::tell(&streams::json(&told));
        } else {
            streams::print_json(&told)?;
        }
        return Ok(());
    }
    for remark in &outcome.remarks {
        warn(args, remark);
    }
    for pass in &outcome.passes {
        for warning in pass.warnings.iter().chain(&pass.gate) {
            warn(args, warning);
        }
    }
    if args.report.quiet {
        return Ok(());
    }
    // Two verbs of a pipe share the terminal: one line each.
    let is_short = goes_to_stdout && streams::stdout_is_pipe() && !args.report.verbose;
    messages::tell(&tables::outcome(input, outcome, is_short, args.report.verbose));
    if !is_short {
        messages::tell(&more.table());
    }
    Ok(())
}

fn warn(args: &OutputArgs, text: &str) {
    if !args.report.quiet {
        messages::warning(text);
    }
}

/// Refuses a report that could not be written, or that would replace a checkpoint, before any work.
fn check_report(report: Option<&Path>, checkpoint: &Checkpoint, output: Option<&Path>) -> Result<()> {
    let Some(path) = report else { return Ok(()) };
    let Some(own) = place(path).filter(|p| !p.is_dir()) else {
        return Err(Error::input(format!("{}: no report can be written there", path.display())));
    };
    let is_taken = |other: &Path| place(other).is_some_and(|other| own.starts_with(&other));
    if checkpoint.files.iter().any(|f| is_taken(f)) || output.is_some_and(is_taken) {
        return Err(Error::usage(format!("{}: is a checkpoint, which a report would replace", path.display()))
            .hint("write the report to another name"));
    }
    Ok(())
}

/// Refuses files that could not be written, or that would replace what is read or each other, before any work. Each that
/// is written comes with its flag.
pub(crate) fn check_files(written: &[(&str, Option<&Path>)], read: &[Option<&Path>]) -> Result<()> {
    let mut taken: Vec<(PathBuf, String)> = Vec::new();
    for path in read.iter().flatten().filter(|p| **p != Path::new("-")) {
        let place = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        taken.push((place, "is read, and is never modified".to_owned()));
    }
    for (flag, path) in written.iter().filter_map(|(flag, path)| Some((flag, (*path)?))) {
        let is_stream = path == Path::new("-") || (path.exists() && !path.is_file() && !path.is_dir());
        if is_stream {
            continue;
        }
        let Some(place) = place(path) else {
            return Err(Error::input(format!("{}: {flag} cannot write there", path.display()))
                .hint("the folder above it must be there"));
        };
        let own = place.canonicalize().unwrap_or(place);
        if let Some((_, fault)) = taken.iter().find(|(other, _)| own.starts_with(other) || other.starts_with(&own)) {
            return Err(Error::usage(format!("{flag} {}: {fault}", path.display())).hint("write it to another name"));
        }
        taken.push((own, format!("is what {flag} writes")));
    }
    Ok(())
}

/// Where a file is or would be, with links in the folders above it followed.
fn place(path: &Path) -> Option<PathBuf> {
    let parent = path.parent().filter(|d| *d != Path::new("")).unwrap_or(Path::new("."));
    Some(parent.canonicalize().ok()?.join(path.file_name()?))
}

/// Writes a report as JSON.
pub(crate) fn write_report(path: Option<&Path>, report: &impl serde::Serialize) -> Result<()> {
    match path {
        Some(path) => std::fs::write(path, streams::json(report)).at(path.display()),
        None => Ok(()),
    }
}
