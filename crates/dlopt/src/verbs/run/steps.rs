//! A recipe of steps, training among them: each is a command of its own on what the one before left.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dlopt_bench::sweep::{Step, words};
use dlopt_bench::{Cache, Chain, Link, Quality, Stage};
use dlopt_checkpoint::{Context, Error, NewFile, Result};
use serde::Serialize;

use crate::args::OutputArgs;
use crate::job::{check_files, write_report};
use crate::streams;
use crate::tables::{columns, grouped};
use crate::verbs::bench::{check, commands::Processes};

/// The split that stages are measured on, unless the recipe says.
const SPLIT: &str = "test";

/// What a recipe of steps says.
pub(super) struct Steps {
    /// For messages.
    pub(super) place: String,
    pub(super) tables: Vec<toml::Table>,
    pub(super) input: Option<PathBuf>,
    pub(super) data: Option<PathBuf>,
    pub(super) split: Option<String>,
}

#[derive(Serialize)]
struct Report<'a> {
    stages: &'a [Stage],
    output: String,
}

/// Does the steps and writes what the last one left; what was done is kept beside it until then.
pub(super) fn run(steps: Steps, args: &OutputArgs, stop: &Arc<AtomicBool>) -> Result<ExitCode> {
    let Some(output) = args.output.as_deref().filter(|path| *path != Path::new("-")) else {
        return Err(Error::usage(format!("{}: steps write a file", steps.place)).hint("-o OUT, or output = \"…\""));
    };
    refuse(args, &steps.place)?;
    check_files(
        &[("--output", Some(output)), ("--report", args.report.report.as_deref())],
        &[steps.input.as_deref(), steps.data.as_deref()],
    )?;
    if output.is_dir() {
        return Err(Error::usage(format!("{}: is a folder, and steps write a file", output.display())));
    }
    if output.exists() && !args.force {
        return Err(Error::input(format!("{}: exists", output.display())).hint("--force replaces it"));
    }
    let read: Vec<Link> = steps
        .tables
        .iter()
        .enumerate()
        .map(|(at, table)| {
            let own = read(table, at > 0 || steps.input.is_some());
            own.map_err(|e| e.within(format!("{}: step {}", steps.place, at + 1)))
        })
        .collect::<Result<_>>()?;
    let folder = folder_of(output);
    let cache = Cache::in_folder(&folder)?;
    let processes = Processes::new(stop, args.report.quiet)?;
    let split = steps.split.as_deref().unwrap_or(SPLIT);
    let chain = Chain {
        steps: &read,
        input: steps.input.as_deref(),
        data: steps.data.as_deref().map(|data| (data, split)),
        threads: args.work.threads,
        cache: &cache,
        commands: &processes,
    };
    let ran = chain.run();
    processes.clear();
    let (stages, last) = ran?;
    let mut from = File::open(&last).at(last.display())?;
    let mut file = NewFile::create(output, 0, args.force)?;
    std::io::copy(&mut from, &mut file).at(output.display())?;
    file.finish()?;
    std::fs::remove_dir_all(&folder).at(folder.display())?;
    let report = Report { stages: &stages, output: output.display().to_string() };
    write_report(args.report.report.as_deref(), &report)?;
    if args.report.json {
        streams::print_json(&report)?;
    } else if !args.report.quiet {
        streams::print(&table(&stages))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Where what was done is kept until all is.
fn folder_of(output: &Path) -> PathBuf {
    let mut name = output.file_name().map_or_else(OsString::new, OsString::from);
    name.push(".dlopt-steps");
    output.with_file_name(name)
}

/// Refuses flags of one stream of passes.
fn refuse(args: &OutputArgs, place: &str) -> Result<()> {
    let given = [
        ("--resume", args.resume),
        ("--max-shard-size", args.max_shard_size.is_some()),
        ("--no-files", args.no_files),
        ("--files-from", args.files_from.is_some()),
        ("--dry-run", args.dry_run),
        ("--explain", args.explain),
        ("--memory", args.work.memory.is_some()),
        ("--tmp-dir", args.work.tmp_dir.is_some()),
        ("--verbose", args.report.verbose),
    ];
    match given.iter().find(|(_, is_given)| *is_given) {
        Some(("--resume", _)) => {
            Err(Error::usage(format!("{place}: steps go on by themselves where they were stopped"))
                .hint("leave --resume out"))
        }
        Some((flag, _)) => {
            Err(Error::usage(format!("{place}: {flag} is about one stream of passes, and these are steps"))
                .hint("leave it out, or give it to a step"))
        }
        None => Ok(()),
    }
}

/// A step, what it is called, and whether it begins anew.
fn read(table: &toml::Table, has_input: bool) -> Result<Link> {
    let mut table = table.clone();
    let name = table.remove("name");
    let is_anew = match table.remove("anew") {
        None => false,
        Some(toml::Value::Boolean(is_anew)) => is_anew,
        Some(_) => return Err(Error::usage("`anew` is neither true nor false")),
    };
    let (verb, flags) = words(&table)?;
    let step = Step { verb, flags, line: 0 };
    check(&step, has_input && !is_anew)?;
    let name = match name {
        None => step.verb.clone(),
        Some(toml::Value::String(name)) => name,
        Some(_) => return Err(Error::usage("`name` is no text")),
    };
    Ok(Link { name, step, is_anew })
}

/// A line a stage, against the first.
fn table(stages: &[Stage]) -> String {
    let metric = stages.iter().find_map(|stage| stage.quality.as_ref());
    let mut head = vec!["stage"];
    if let Some(own) = metric {
        head.extend([own.metric.as_str(), if own.is_gain { "lost" } else { "more" }]);
    }
    head.extend(["bytes", "smaller"]);
    let first = &stages[0];
    let number = |own: &Quality, value: f64| match own.is_share {
        true => format!("{:.2}%", 100.0 * value),
        false => format!("{value:.4}"),
    };
    let rows: Vec<Vec<String>> = stages
        .iter()
        .map(|stage| {
            let mut row = vec![stage.name.clone()];
            if metric.is_some() {
                row.extend(match (&stage.quality, &first.quality) {
                    (Some(own), Some(first)) => {
                        let lost = if own.is_gain { first.value - own.value } else { own.value - first.value };
                        [number(own, own.value), number(own, lost)]
                    }
                    _ => ["-".to_owned(), "-".to_owned()],
                });
            }
            row.extend([grouped(stage.bytes), format!("{:.1}x", first.bytes as f64 / stage.bytes.max(1) as f64)]);
            row
        })
        .collect();
    columns(&head, &rows)
}
