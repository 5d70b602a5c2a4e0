//! `dlopt verify`: the artefact proves itself.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use dlopt_checkpoint::{Resources, Result};
use dlopt_inspect::{Severity, Verification, VerifyOptions, verify, verify_path};

use crate::args::{ReportArgs, WorkArgs};
use crate::exit;
use crate::job;
use crate::progress::Bar;
use crate::streams;

const EXAMPLES: &str = "\
Examples:
  dlopt verify small/                  everything, the weights included
  dlopt verify small/ --headers-only   what headers and configs say, at once for any size
  dlopt quantize model/ | tee small.safetensors | dlopt verify -";

/// Check that a checkpoint is whole, consistent, and what its history claims
///
/// Header rules and offsets; every file of a folder; a config that matches the tensors; finite scales and codes in
/// range; the sparsity and pattern that the history claims. Exit code 3 when something does not hold.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct VerifyArgs {
    /// Checkpoint: a .safetensors file, a model folder, a .pth/.bin/.npz file, or - for standard input
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,

    /// Check headers, files and configs, and read no weights
    #[arg(long)]
    headers_only: bool,

    #[command(flatten)]
    work: WorkArgs,

    #[command(flatten)]
    report: ReportArgs,
}

pub(super) fn run(args: &VerifyArgs, stop: &Arc<AtomicBool>) -> Result<ExitCode> {
    let tmp_dir = job::tmp_dir(&args.work, None)?;
    let bar = Bar::new(args.report.quiet);
    let resources = Resources {
        threads: args.work.threads(),
        memory_bytes: args.work.memory_bytes(),
        tmp_dir: tmp_dir.clone(),
        progress: &bar,
        stop,
    };
    let options = VerifyOptions { is_quick: args.headers_only };
    let found = match args.model.as_deref().filter(|p| *p != Path::new("-")) {
        // A file that is not there is no finding about it.
        Some(path) if path.exists() => verify_path(path, options, &resources),
        other => verify(&job::open(other, &tmp_dir)?, options, &resources),
    };
    bar.clear();
    let found = found?;
    job::write_report(args.report.report.as_deref(), &found)?;
    if args.report.json {
        streams::print_json(&found)?;
    } else if !args.report.quiet || !found.is_ok {
        streams::print(&text(&found, args.report.verbose))?;
    }
    Ok(exit::for_gates((!found.is_ok).then_some("verification").into_iter()))
}

fn text(found: &Verification, is_verbose: bool) -> String {
    let mut text = String::new();
    for finding in &found.findings {
        let severity = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let file = finding.file.as_ref().map(|f| format!("{f}: ")).unwrap_or_default();
        let tensor = finding.tensor.as_ref().map(|t| format!("tensor `{t}`: ")).unwrap_or_default();
        let _ = writeln!(text, "{severity}: {file}{tensor}{} ({})", finding.what, finding.check);
    }
    if is_verbose {
        for check in &found.checks {
            match &check.skipped {
                Some(why) => writeln!(text, "skipped {}: {why}", check.name),
                None => writeln!(text, "checked {}: {}", check.name, check.what),
            }
            .expect("writing to a string cannot fail");
        }
    }
    let errors = found.findings.iter().filter(|f| f.severity == Severity::Error).count();
    let done = found.checks.iter().filter(|c| c.skipped.is_none()).count();
    let _ = match errors {
        0 => writeln!(text, "{}: holds ({done} checks, {} warnings)", found.name, found.findings.len()),
        errors => writeln!(text, "{}: {errors} errors in {done} checks", found.name),
    };
    text
}
