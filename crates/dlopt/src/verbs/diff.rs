//! `dlopt diff`: what differs between two checkpoints, decoding what is compressed.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use dlopt_checkpoint::{Error, Resources, Result};
use dlopt_inspect::{Diff, DiffOptions, TensorDiff, diff};

use crate::args::{ReportArgs, WorkArgs};
use crate::exit;
use crate::job;
use crate::progress::Bar;
use crate::streams;
use crate::tables::{columns, grouped};

/// Tensors that are shown unless --verbose asks for all.
const WORST_SHOWN: usize = 20;

const EXAMPLES: &str = "\
Examples:
  dlopt diff model/ small/                        error per tensor, the worst first
  dlopt diff model/ small/ --tolerance 0.15       exit code 3 if any tensor is further off
  dlopt diff model/ small/ --json | jq .total";

/// Compare two checkpoints tensor by tensor, decoding what is compressed
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DiffArgs {
    /// One checkpoint; errors are relative to it
    #[arg(value_name = "A")]
    a: PathBuf,

    /// The other; - for standard input
    #[arg(value_name = "B")]
    b: PathBuf,

    /// Largest relative error (Frobenius norm of the difference over that of A) a tensor may have; also refuses
    /// tensors on one side only; exit code 3 when not met
    #[arg(long, value_name = "ERROR")]
    tolerance: Option<f64>,

    #[command(flatten)]
    work: WorkArgs,

    #[command(flatten)]
    report: ReportArgs,
}

pub(super) fn run(args: &DiffArgs, stop: &Arc<AtomicBool>) -> Result<ExitCode> {
    if args.tolerance.is_some_and(|t| t.is_nan() || t < 0.0) {
        return Err(Error::usage("--tolerance must be 0 or more"));
    }
    let tmp_dir = job::tmp_dir(&args.work, None)?;
    let a = job::open(Some(&args.a), &tmp_dir)?;
    let b = job::open(Some(&args.b), &tmp_dir)?;
    let bar = Bar::new(args.report.quiet);
    let resources = Resources {
        threads: args.work.threads(),
        memory_bytes: args.work.memory_bytes(),
        tmp_dir,
        progress: &bar,
        stop,
    };
    let found = diff(&a, &b, DiffOptions { tolerance: args.tolerance }, &resources);
    bar.clear();
    let found = found?;
    job::write_report(args.report.report.as_deref(), &found)?;
    if args.report.json {
        streams::print_json(&found)?;
    } else if !args.report.quiet {
        streams::print(&text(&found, args.report.verbose))?;
    }
    Ok(exit::for_gates((found.is_within == Some(false)).then_some("tolerance").into_iter()))
}

fn text(diff: &Diff, is_verbose: bool) -> String {
    let mut text = String::new();
    let differing: Vec<&TensorDiff> = diff.tensors.iter().filter(|t| is_verbose || t.differing > 0).collect();
    let shown = if is_verbose { differing.len() } else { differing.len().min(WORST_SHOWN) };
    let db = |db: Option<f64>| db.map_or("-".to_owned(), |db| format!("{db:.2}"));
    let rows: Vec<_> = differing[..shown]
        .iter()
        .map(|t| {
            vec![
                t.name.clone(),
                format!("{:.3}%", 100.0 * t.relative_error),
                db(t.sqnr_db),
                t.cosine.map_or("-".to_owned(), |c| format!("{c:.6}")),
                format!("{:.3e}", t.max_error),
                format!("{:.2}%", 100.0 * t.sparsity_a),
                format!("{:.2}%", 100.0 * t.sparsity_b),
                format!("{}/{}", t.dtype_a, t.dtype_b),
            ]
        })
        .collect();
    if !rows.is_empty() {
        let head = ["tensor", "rel. error", "SQNR dB", "cosine", "max error", "zeros A", "zeros B", "dtypes"];
        text.push_str(&columns(&head, &rows));
    }
    if differing.len() > shown {
        let _ = writeln!(text, "… {} more with smaller errors; -v shows all", differing.len() - shown);
    }
    for (side, names) in [("A", &diff.only_in_a), ("B", &diff.only_in_b)] {
        for name in names {
            let _ = writeln!(text, "only in {side}: {name}");
        }
    }
    for mismatch in &diff.shape_mismatches {
        let _ = writeln!(text, "shapes differ: {} is {:?} in A and {:?} in B", mismatch.name, mismatch.a, mismatch.b);
    }
    let total = &diff.total;
    let _ = writeln!(
        text,
        "{}: {} of {} tensors differ, {} of {} values; relative error {:.3}%, SQNR {} dB, zeros {:.2}% and {:.2}%",
        if diff.is_equal { "equal" } else { "total" },
        diff.tensors.iter().filter(|t| t.differing > 0).count(),
        diff.tensors.len(),
        grouped(total.differing),
        grouped(total.values),
        100.0 * total.relative_error,
        db(total.sqnr_db),
        100.0 * total.sparsity_a,
        100.0 * total.sparsity_b
    );
    let _ = writeln!(
        text,
        "bytes: {} in A, {} in B ({:.1}%)",
        grouped(diff.a.bytes),
        grouped(diff.b.bytes),
        100.0 * diff.b.bytes as f64 / diff.a.bytes.max(1) as f64
    );
    if diff.is_within == Some(false) {
        let _ = writeln!(text, "outside the tolerance: {}", diff.outside.join(", "));
    }
    text
}
