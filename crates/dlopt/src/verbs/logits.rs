//! `dlopt logits`: what a teacher says of every sample, kept for students to come.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use dlopt_checkpoint::{Context, Error, Result, TensorInfo};
use dlopt_data::Dataset;
use dlopt_distill::{Facts, Teacher};
use dlopt_kernels::nn::Team;
use dlopt_train::{Settings, split_ranges, state_folder, use_own_preprocessing};
use serde::Serialize;

use super::teaching::{CacheArgs, TeacherArgs, fill};
use super::training::{remove, threads};
use crate::args::ReportArgs;
use crate::exit;
use crate::job::{self, Out};
use crate::messages;
use crate::streams;
use crate::tables::{columns, grouped};

const EXAMPLES: &str = "\
Examples:
  dlopt logits --teacher big.safetensors --data d.safetensors -o answers.safetensors
  dlopt logits --teacher big.safetensors --data d.safetensors --top 20 --top-temperature 4 -o answers.safetensors
  dlopt logits … --augment-op horizontal-flip --augment-op crop=2 --augment-seed 7 --augment-views 20 -o answers.safetensors
  dlopt distill --teacher big.safetensors --cache-teacher answers.safetensors …";

/// Keep what a teacher says of a dataset, for `distill --cache-teacher`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LogitsArgs {
    #[command(flatten)]
    teacher: TeacherArgs,

    /// Dataset file or folder made by `dlopt prepare`
    #[arg(long, value_name = "DATA")]
    data: PathBuf,

    /// File to write [default: standard output]
    #[arg(short, long = "output", value_name = "OUT")]
    output: Option<PathBuf>,

    /// The split, or several: train+unlabelled
    #[arg(long, default_value = "train", value_name = "SPLIT")]
    split: String,

    /// A layer whose values are kept too; may be repeated
    #[arg(long, value_name = "LAYER")]
    layer: Vec<String>,

    #[command(flatten)]
    cache: CacheArgs,

    /// Change samples by this recipe (TOML), as `dlopt distill --augment` does
    #[arg(long, value_name = "FILE")]
    augment: Option<PathBuf>,

    /// The same by operations, in order; may be repeated
    #[arg(long, value_name = "OP", conflicts_with = "augment")]
    augment_op: Vec<String>,

    /// Decides how samples are changed: the --augment-seed, or --seed, of `dlopt distill`
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    augment_seed: u64,

    /// How often every sample is changed anew: the --augment-views, or --epochs, of `dlopt distill`
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    augment_views: u64,

    /// Go on with a cache that was stopped
    #[arg(long)]
    resume: bool,

    /// Replace an existing output, and forget a run that was stopped
    #[arg(long)]
    force: bool,

    /// Apply the teacher's scale and statistics to the raw elements, though the data were prepared otherwise
    #[arg(long)]
    use_own_preprocessing: bool,

    /// Say how large the cache would be, and ask nothing
    #[arg(long)]
    dry_run: bool,

    /// cpu, or cuda, cuda:1, metal where dlopt was built with that feature
    #[arg(long, default_value = "cpu")]
    device: String,

    /// Threads [default: all cores]; the result is the same at any number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    #[command(flatten)]
    report: ReportArgs,
}

/// What `--json` and `--report` say.
#[derive(Serialize)]
struct Report<'a> {
    facts: &'a Facts,
    rows: usize,
    bytes: u64,
    output: Option<String>,
}

pub(super) fn run(args: &LogitsArgs, stop: &Arc<AtomicBool>) -> Result<ExitCode> {
    let out = Out::named(args.output.as_deref(), false);
    let needs_stdout = matches!(out, Out::Stdout) && !args.dry_run;
    let stdout = needs_stdout.then(streams::stdout_for_checkpoint).transpose()?;
    check_files(args)?;
    let mut dataset = Dataset::open(&args.data)?;
    let teachers = args.teacher.checkpoints()?;
    if args.use_own_preprocessing {
        let (first, _) = &teachers[0];
        use_own_preprocessing(&dlopt_model::config_of(first)?, &first.name, &mut dataset)?;
    }
    let team = Arc::new(Team::new(threads(args.threads)));
    let mut teacher = Teacher::open(teachers, &dataset, &args.layer, &args.device, &team)?;
    let settings = settings(args)?;
    let dataset = Arc::new(dataset);
    let samples = split_ranges(&dataset, &args.split)?;
    let facts = Facts::new(&teacher, &dataset, &samples, &settings, args.cache.keeping(None)?);
    let report = Report {
        facts: &facts,
        rows: facts.rows(),
        bytes: facts.bytes(),
        output: args.output.as_ref().map(|p| p.display().to_string()),
    };
    if args.dry_run {
        streams::print(&text(&report))?;
        return Ok(ExitCode::SUCCESS);
    }
    match (&out, stdout) {
        (Out::File(path), _) => {
            let folder = state_folder(path);
            check_folder(args, path, &folder)?;
            fill(path, &facts, &mut teacher, (&dataset, &settings), how(args, &team, &folder), stop)?;
            remove(&folder)?;
        }
        (Out::Stdout, Some(mut stdout)) => {
            let folder = tempfile::tempdir().at("the temporary folder")?;
            let path = folder.path().join("answers.safetensors");
            fill(&path, &facts, &mut teacher, (&dataset, &settings), how(args, &team, folder.path()), stop)?;
            let mut file = std::fs::File::open(&path).at(path.display())?;
            std::io::copy(&mut file, &mut stdout).and_then(|_| stdout.flush()).at("standard output")?;
        }
        _ => {
            return Err(Error::usage("a cache is one file, and the output is a folder or a device")
                .hint("-o answers.safetensors"));
        }
    }
    job::write_report(args.report.report.as_deref(), &report)?;
    if args.report.json {
        let is_free = args.output.as_deref().is_some_and(|path| path != Path::new("-"));
        if is_free { streams::print_json(&report)? } else { messages::tell(&streams::json(&report)) }
    } else if !args.report.quiet {
        if args.report.verbose {
            messages::tell(&tensors(&facts));
        }
        messages::tell(&text(&report));
    }
    Ok(exit::for_gates(std::iter::empty()))
}

/// Threads, where parts are kept, whether an output is replaced, whether nothing is shown.
fn how<'a>(args: &LogitsArgs, team: &Team, folder: &'a Path) -> (usize, &'a Path, bool, bool) {
    (team.threads(), folder, args.force || args.resume, args.report.quiet)
}

fn check_files(args: &LogitsArgs) -> Result<()> {
    let written = [("--output", args.output.as_deref()), ("--report", args.report.report.as_deref())];
    let teachers = args.teacher.paths();
    let mut read = vec![Some(args.data.as_path()), args.augment.as_deref()];
    read.extend(teachers.iter().map(|path| Some(path.as_path())));
    job::check_files(&written, &read)
}

/// Refuses to go over what another run left, unless told what to do with it.
fn check_folder(args: &LogitsArgs, path: &Path, folder: &Path) -> Result<()> {
    if path.exists() && !args.force && !args.resume {
        return Err(Error::input(format!("{}: exists", path.display())).hint("--force replaces it"));
    }
    if !folder.exists() || args.resume {
        return Ok(());
    }
    if args.force {
        return remove(folder);
    }
    Err(Error::input(format!("{}: a run was stopped here", folder.display()))
        .hint("--resume goes on with it, --force begins again"))
}

/// What of a training's settings decides views.
fn settings(args: &LogitsArgs) -> Result<Settings> {
    let augment = if args.augment.is_none() && args.augment_op.is_empty() {
        None
    } else {
        Some(super::augment::recipe(args.augment.as_deref(), &args.augment_op)?.spec())
    };
    Ok(Settings {
        augment,
        augment_seed: Some(args.augment_seed),
        augment_views: Some(args.augment_views),
        training_split: args.split.clone(),
        ..Settings::default()
    })
}

/// A line for each tensor of the cache.
fn tensors(facts: &Facts) -> String {
    let row = |tensor: &TensorInfo| {
        let shape = format!("{:?}", tensor.shape);
        vec![format!("  {}", tensor.name), format!("{:?}", tensor.dtype), shape, grouped(tensor.bytes())]
    };
    columns(&["  tensor", "type", "shape", "bytes"], &facts.tensors().iter().map(row).collect::<Vec<_>>())
}

fn text(report: &Report<'_>) -> String {
    let (views, samples) = (report.facts.views, grouped(report.facts.samples_per_view() as u64));
    let place = report.output.as_deref().unwrap_or("standard output");
    format!("{views} views of {samples} samples, {} bytes, in {place}\n", grouped(report.bytes))
}
