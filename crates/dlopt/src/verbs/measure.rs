//! `dlopt measure`: what one network takes and how fast it runs; `bench` asks it of every variant, in a process of its own.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use dlopt_bench::{PinnedTeam, Request, measure};
use dlopt_checkpoint::{Error, Result};

use super::training::threads;
use crate::args::ReportArgs;
use crate::job;
use crate::streams;
use crate::tables::grouped;

/// Measure what a network takes and how fast it runs here
#[derive(Args, Debug)]
pub(crate) struct MeasureArgs {
    /// Checkpoint of a network
    #[arg(value_name = "MODEL")]
    model: PathBuf,

    /// Dataset that samples come from
    #[arg(long, value_name = "DATA")]
    data: PathBuf,

    /// Split of it
    #[arg(long, default_value = "test")]
    split: String,

    /// Another checkpoint that runs in turns with it
    #[arg(long, value_name = "MODEL")]
    against: Option<PathBuf>,

    /// Samples that run together, for throughput; latency is always of one
    #[arg(long, value_delimiter = ',', default_values_t = [32, 250])]
    batches: Vec<usize>,

    /// Seconds of each timing
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,

    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    #[command(flatten)]
    report: ReportArgs,
}

pub(super) fn run(args: &MeasureArgs) -> Result<ExitCode> {
    if args.batches.contains(&0) || !(args.seconds > 0.0 && args.seconds <= 3600.0) {
        return Err(Error::usage("--batches must be 1 or more, --seconds between 0 and 3600"));
    }
    job::check_files(&[("--report", args.report.report.as_deref())], &[Some(&*args.model), Some(&*args.data)])?;
    let team = PinnedTeam::new(threads(args.threads));
    let request = Request {
        model: &args.model,
        against: args.against.as_deref(),
        data: &args.data,
        split: &args.split,
        batches: &args.batches,
        seconds: args.seconds,
    };
    let found = measure(&request, &team)?;
    job::write_report(args.report.report.as_deref(), &found)?;
    if args.report.json {
        streams::print_json(&found)?;
    } else if !args.report.quiet {
        let (latency, noise) = (&found.latency, 100.0 * found.latency.noise());
        let mut text = format!(
            "{}: {} bytes, {:.2} bits a weight, {} bytes of weights in memory\n\
             one sample, {} threads{}: {:.1} µs (p95 {:.1}, p99 {:.1}; {} calls, rounds within {noise:.1} %)\n",
            args.model.display(),
            grouped(found.disk_bytes),
            found.bits_per_weight,
            grouped(found.weight_bytes),
            found.threads,
            if found.pinned.is_empty() { ", not pinned" } else { " pinned" },
            latency.median,
            latency.p95,
            latency.p99,
            latency.calls,
        );
        if let Some(ratio) = found.latency_ratio {
            let (median, low, high) = (ratio.median, ratio.low, ratio.high);
            text.push_str(&format!("{median:.2} of the other's time ({low:.2} to {high:.2})\n"));
        }
        for batch in &found.throughput {
            text.push_str(&format!("batches of {}: {:.0} samples a second\n", batch.batch, batch.per_second));
        }
        streams::print(&text)?;
    }
    Ok(ExitCode::SUCCESS)
}
