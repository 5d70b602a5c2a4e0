//! `dlopt inspect`: what a checkpoint or a dataset holds.

mod dataset;

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use dlopt_checkpoint::{Checkpoint, Resources, Result};
use dlopt_inspect::{Summary, TensorStats, metadata, stats, summary};

use crate::args::WorkArgs;
use crate::job;
use crate::progress::Bar;
use crate::streams;
use crate::tables::{columns, grouped};

const EXAMPLES: &str = "\
Examples:
  dlopt inspect model/                       sizes by dtype and module, history, compression
  dlopt inspect model.safetensors --tensors  every tensor
  dlopt inspect small/ --stats               range, mean, zeros, N:M patterns, NaN, from the weights
  dlopt inspect model/ --json | jq .dtypes
  dlopt inspect digits.safetensors           a dataset: shapes, splits, classes and their balance, steps, statistics
  dlopt inspect digits.safetensors --stats   range, mean and deviation of each channel, from all samples";

/// Show what a checkpoint or a dataset holds
///
/// Reads headers only, and labels of a dataset, unless --stats asks for the weights, or the samples.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InspectArgs {
    /// Checkpoint or dataset: a .safetensors file, a model folder, a .pth/.bin/.npz file, or - for standard input
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,

    /// Read the weights, decoded, or the samples: range, mean, deviation, zeros, patterns, NaN and infinities
    #[arg(long)]
    stats: bool,

    /// Show every tensor
    #[arg(long)]
    tensors: bool,

    /// Show the metadata in full
    #[arg(long)]
    metadata: bool,

    /// Print as JSON
    #[arg(long)]
    json: bool,

    /// Print nothing but the tables: no progress
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    work: WorkArgs,
}

pub(super) fn run(args: &InspectArgs, stop: &Arc<AtomicBool>) -> Result<ExitCode> {
    let tmp_dir = job::tmp_dir(&args.work, None)?;
    let checkpoint = job::open(args.model.as_deref(), &tmp_dir)?;
    if let Some(path) = args.model.as_deref().filter(|_| dataset::is_one(&checkpoint)) {
        return dataset::show(args, path, &checkpoint, stop);
    }
    let summary = summary(&checkpoint);
    let bar = Bar::new(args.quiet);
    let stats = if args.stats {
        let resources = Resources {
            threads: args.work.threads(),
            memory_bytes: args.work.memory_bytes(),
            tmp_dir,
            progress: &bar,
            stop,
        };
        let stats = stats(&checkpoint, &resources);
        bar.clear();
        Some(stats?)
    } else {
        None
    };
    if args.json {
        let mut value = serde_json::to_value(&summary).expect("summaries hold only strings, numbers and lists of them");
        if let Some(stats) = &stats {
            value["stats"] = serde_json::to_value(stats).expect("statistics hold only strings and numbers");
        }
        if args.metadata {
            value["metadata_values"] = serde_json::json!(metadata(&checkpoint));
        }
        streams::print_json(&value)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = overview(&summary);
    if args.tensors {
        text.push_str(&tensors(&summary));
    }
    if let Some(stats) = &stats {
        text.push_str(&statistics(stats));
    }
    if args.metadata {
        text.push_str(&metadata_in_full(&checkpoint));
    }
    streams::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn metadata_in_full(checkpoint: &Checkpoint) -> String {
    let mut text = String::new();
    for (key, value) in metadata(checkpoint) {
        let shown = serde_json::to_string_pretty(&value).expect("it was JSON or text");
        let _ = writeln!(text, "\n{key}: {shown}");
    }
    text
}

fn overview(summary: &Summary) -> String {
    let mut text = format!(
        "{}: {} tensors, {} parameters, {} bytes ({:.2} bits a parameter)\n",
        summary.name,
        grouped(summary.tensor_count as u64),
        grouped(summary.parameters),
        grouped(summary.bytes),
        summary.bits_per_parameter
    );
    if let Some(model_type) = &summary.model_type {
        let _ = writeln!(text, "model type {model_type}");
    }
    let percent = |share: f64| format!("{:.1}%", 100.0 * share);
    let rows: Vec<_> = summary
        .dtypes
        .iter()
        .map(|d| vec![format!("  {}", d.dtype), grouped(d.tensors as u64), grouped(d.bytes), percent(d.share)])
        .collect();
    text.push('\n');
    text.push_str(&columns(&["  dtype", "tensors", "bytes", "share"], &rows));
    let rows: Vec<_> = summary
        .modules
        .iter()
        .map(|m| {
            let module = if m.module.is_empty() { "(top)" } else { &m.module };
            vec![
                format!("  {module}"),
                grouped(m.tensors as u64),
                grouped(m.parameters),
                grouped(m.bytes),
                percent(m.share),
            ]
        })
        .collect();
    text.push('\n');
    text.push_str(&columns(&["  module", "tensors", "parameters", "bytes", "share"], &rows));
    if summary.shards.len() > 1 {
        let rows: Vec<_> = summary
            .shards
            .iter()
            .map(|s| vec![format!("  {}", s.name), grouped(s.tensors as u64), grouped(s.bytes)])
            .collect();
        text.push('\n');
        text.push_str(&columns(&["  shard", "tensors", "bytes"], &rows));
    }
    if let Some(quantization) = &summary.quantization {
        let method = quantization.method.as_deref().unwrap_or("dlopt.layout");
        let _ = writeln!(text, "\ncompressed: {} tensors, {method}", quantization.compressed_tensors);
        for group in &quantization.groups {
            let activations = group.activations.as_deref().unwrap_or("as they are");
            let targets = match group.targets.len() {
                0..=3 => group.targets.join(", "),
                more => format!("{} modules", more),
            };
            let _ = writeln!(
                text,
                "  {}: {}, weights {}, activations {activations}, for {targets}",
                group.name, group.format, group.weights
            );
        }
        for (format, count) in &quantization.layout {
            let _ = writeln!(text, "  dlopt.layout: {count} tensors as {format}");
        }
    }
    if !summary.history.is_empty() {
        text.push_str("\nhistory:\n");
        for entry in &summary.history {
            let _ = writeln!(text, "  {} (dlopt {}) {}", entry.verb, entry.version, entry.options);
        }
    }
    if !summary.companions.is_empty() {
        let names: Vec<_> = summary.companions.iter().map(|c| c.name.as_str()).collect();
        let _ = writeln!(text, "\nfiles: {}", names.join(", "));
    }
    for entry in &summary.left_out {
        let _ = writeln!(text, "left out: {entry}");
    }
    for warning in &summary.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

fn tensors(summary: &Summary) -> String {
    let rows: Vec<_> = summary
        .tensors
        .iter()
        .map(|t| {
            vec![
                format!("  {}", t.name),
                t.dtype.to_owned(),
                format!("{:?}", t.shape),
                grouped(t.bytes),
                t.kind.to_owned(),
            ]
        })
        .collect();
    format!("\n{}", columns(&["  tensor", "dtype", "shape", "bytes", "kind"], &rows))
}

fn statistics(stats: &[TensorStats]) -> String {
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.4e}"));
    let rows: Vec<_> = stats
        .iter()
        .map(|t| {
            vec![
                format!("  {}", t.name),
                t.dtype.to_owned(),
                number(t.min),
                number(t.max),
                number(t.mean),
                number(t.standard_deviation),
                format!("{:.2}%", 100.0 * t.sparsity),
                if t.patterns.is_empty() { "-".to_owned() } else { t.patterns.join(" ") },
                t.nans.to_string(),
                t.infinities.to_string(),
            ]
        })
        .collect();
    let head = ["  tensor", "dtype", "min", "max", "mean", "deviation", "zeros", "patterns", "NaN", "inf"];
    format!("\n{}", columns(&head, &rows))
}
