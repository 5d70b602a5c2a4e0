//! `dlopt augment`: a dataset to a larger one, with changed copies of its samples.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use dlopt_augment::{AugmentPass, Form, Output, PassOptions, PassReport, Recipe};
use dlopt_checkpoint::{Context, Error, Result, write_bytes};
use dlopt_data::Dataset;
use dlopt_metrics::{Picture, Pixels, picture_table_png};

use crate::args::ReportArgs;
use crate::job::{self, Out};
use crate::messages;
use crate::progress::Bar;
use crate::streams;
use crate::tables::{columns, grouped};

const EXAMPLES: &str = "\
Examples:
  dlopt augment digits.safetensors --op rotate=±15 --op scale=0.9..1.1 --op noise=0.05 --copies 4 -o more.safetensors
  dlopt augment photos.safetensors --recipe recipe.toml --preview sheet.png     a look at it, and nothing written
  dlopt augment photos.safetensors --op horizontal-flip --keep-original --balance -o even.safetensors
  dlopt augment photos.safetensors --op brightness,p=0.5 --copies 20 --dry-run  how large it becomes

An operation is NAME, NAME=VALUE or NAME=VALUE,key=value…; `dlopt list` says which there are. A value is a number, or a
range that is drawn from: 15, ±15 (or +-15), 0.8..1.2. p is the probability of each. Neighbouring operations that move
pixels are put together and resample once. A recipe is TOML:
  [[ops]]
  op = \"rotate\"
  degrees = \"±15\"
  [[ops]]
  one-of = [{ op = \"noise=0.05\" }, { op = \"brightness\", factor = \"0.7..1.3\" }]
  p = 0.5
  [[ops]]
  some-of = [{ op = \"contrast\" }, { op = \"gamma\" }, { op = \"invert\" }]
  count = 2

`dlopt train --augment` does the same to every sample in every epoch, and stores nothing.";

/// Samples of a preview, and variants of each.
const SHOWN: [usize; 2] = [6, 5];

/// Make changed copies of samples: turned, moved, noisier, of other colours
///
/// Reads a dataset and writes one, from file or pipe, in memory that does not grow with the data. Only the training split
/// is changed. What is drawn depends on the seed, the copy and the sample alone: the bytes are the same at any number of
/// threads.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AugmentArgs {
    /// Dataset made by `dlopt prepare`, or - for standard input
    #[arg(value_name = "DATA")]
    data: Option<PathBuf>,

    /// Dataset file to write [default: standard output; nothing with --preview alone]
    #[arg(short, long = "output", value_name = "OUT")]
    output: Option<PathBuf>,

    /// Replace an existing output
    #[arg(long)]
    force: bool,

    /// An operation, in the order they are applied: NAME, NAME=VALUE, NAME=VALUE,key=value…
    #[arg(long, value_name = "OP", allow_hyphen_values = true)]
    op: Vec<String>,

    /// A recipe (TOML) instead of --op
    #[arg(long, value_name = "FILE", conflicts_with = "op")]
    recipe: Option<PathBuf>,

    /// Changed copies of every sample
    #[arg(long, default_value_t = 1, value_name = "N")]
    copies: usize,

    /// Keep every original beside its copies
    #[arg(long)]
    keep_original: bool,

    /// Augment only samples of this class, by name; may be repeated
    #[arg(long, value_name = "CLASS")]
    only_class: Vec<String>,

    /// More copies of rare classes, until each is as large as the largest
    #[arg(long)]
    balance: bool,

    /// The split that is augmented; the others are carried over as they are
    #[arg(long, default_value = "train", value_name = "SPLIT")]
    split: String,

    /// Decides all draws
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Say what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,

    /// Put a picture of originals and of what becomes of them into this PNG file
    #[arg(long, value_name = "FILE")]
    preview: Option<PathBuf>,

    /// Threads [default: all cores]; the bytes are the same at any number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    #[command(flatten)]
    report: ReportArgs,
}

/// The recipe of a file, or of operations.
pub(super) fn recipe(file: Option<&Path>, ops: &[String]) -> Result<Recipe> {
    match file {
        Some(path) => {
            let text = std::fs::read_to_string(path).at(path.display())?;
            Recipe::of_toml(&text).map_err(|e| e.within(path.display()))
        }
        None if ops.is_empty() => {
            Err(Error::usage("no operation").hint("--op rotate=±15, or --recipe FILE.toml; `dlopt list` names them"))
        }
        None => Recipe::of_ops(ops),
    }
}

pub(super) fn run(args: &AugmentArgs, stop: &Arc<AtomicBool>) -> Result<ExitCode> {
    let recipe = recipe(args.recipe.as_deref(), &args.op)?;
    let writes = !args.dry_run && (args.output.is_some() || args.preview.is_none());
    let out = Out::named(args.output.as_deref(), false);
    if matches!(out, Out::Folder(_)) {
        return Err(Error::usage("a dataset is written as one file, and the output is a folder").hint("-o FILE"));
    }
    let goes_to_stdout = writes && matches!(out, Out::Stdout);
    let stdout = goes_to_stdout.then(streams::stdout_for_checkpoint).transpose()?;
    let written = [
        ("--output", args.output.as_deref()),
        ("--report", args.report.report.as_deref()),
        ("--preview", args.preview.as_deref()),
    ];
    job::check_files(&written, &[args.data.as_deref(), args.recipe.as_deref()])?;
    if let (Out::File(path), false, true) = (&out, args.force, writes)
        && path.exists()
    {
        return Err(Error::input(format!("{}: exists", path.display())).hint("--force replaces it"));
    }
    let checkpoint = job::open_whole(args.data.as_deref().unwrap_or(Path::new("-")))?;
    let options = PassOptions {
        seed: args.seed,
        copies: args.copies,
        keeps_original: args.keep_original,
        only_classes: args.only_class.clone(),
        balances: args.balance,
        split: args.split.clone(),
        threads: super::training::threads(args.threads),
        force: args.force,
    };
    let pass = AugmentPass::plan(checkpoint, recipe, options)?;
    if let Some(path) = &args.preview {
        write_bytes(path, &preview(&pass)?, args.force)?;
    }
    if writes {
        let output = match out {
            Out::File(path) => Output::File(path),
            Out::Device(path) => {
                let device = std::fs::OpenOptions::new().write(true).open(&path).at(path.display())?;
                Output::Stream(Box::new(device))
            }
            Out::Stdout | Out::Folder(_) => {
                Output::Stream(Box::new(stdout.map_or_else(streams::stdout_for_checkpoint, Ok)?))
            }
        };
        let bar = Bar::of_samples(args.report.quiet);
        let done = pass.run(output, &bar, stop);
        bar.clear();
        done?;
    }
    tell(args, pass.report(), goes_to_stdout, writes)?;
    Ok(ExitCode::SUCCESS)
}

fn tell(args: &AugmentArgs, report: &PassReport, goes_to_stdout: bool, writes: bool) -> Result<()> {
    job::write_report(args.report.report.as_deref(), report)?;
    let print = |text: &str| {
        if goes_to_stdout {
            messages::tell(text);
            return Ok(());
        }
        streams::print(text)
    };
    if args.report.json {
        return print(&streams::json(report));
    }
    if args.report.quiet {
        return Ok(());
    }
    let place = match args.output.as_deref() {
        _ if !writes => "would be written".to_owned(),
        Some(path) => path.display().to_string(),
        None => "standard output".to_owned(),
    };
    let mut text = format!(
        "{place}: {} {}, {} of them changed, {} bytes\n",
        grouped(report.samples as u64),
        report.elements,
        grouped(report.changed as u64),
        grouped(report.bytes)
    );
    let counts = |counts: &[usize; 2]| counts.map(|count| grouped(count as u64));
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (name, own) in &report.splits {
        let [before, after] = counts(own);
        rows.push(vec![format!("  {name}"), before, after]);
    }
    if args.balance || args.report.verbose {
        for (name, own) in &report.classes {
            let [before, after] = counts(own);
            rows.push(vec![format!("    {name}"), before, after]);
        }
    }
    let _ = write!(text, "{}", columns(&["  split", "before", "after"], &rows));
    print(&text)
}

/// Originals on the left, each with its variants and what was drawn.
fn preview(pass: &AugmentPass) -> Result<Vec<u8>> {
    let dataset: &Dataset = pass.dataset();
    let (height, width, channels, white) = match pass.augmenter().form() {
        Form::Image { height, width, channels, white } => (height, width, channels, white),
        Form::Series { time, features } if features > 1 => (time, features, 1, 1.0),
        _ => return Err(Error::usage("--preview draws pictures and spectra, and the samples are neither")),
    };
    let split = dataset.split(pass.split())?;
    let stride = split.len().div_ceil(SHOWN[0]).max(1);
    let mut worker = pass.augmenter().worker();
    let is_bytes = dataset.dtype() == dlopt_checkpoint::Dtype::U8;
    let mut cells: Vec<(Vec<u8>, String, String)> = Vec::new();
    for sample in split.step_by(stride) {
        let mut bytes = Vec::new();
        dataset.stored(sample..sample + 1, &mut bytes)?;
        let class = dataset.labels().get(sample).and_then(|&label| dataset.classes().get(label as usize));
        cells.push((bytes.clone(), class.cloned().unwrap_or_default(), String::new()));
        let steps = dataset.lengths().map_or(dataset.info().elements.steps(), |all| all[sample] as usize);
        for copy in 0..SHOWN[1] {
            let mut own = bytes.clone();
            let notes = worker.augment_telling(copy as u64, sample, &mut own, steps)?;
            cells.push((own, format!("copy {}", copy + 1), notes.replace(", ", "\n")));
        }
    }
    let floats: Vec<Vec<f32>> = match is_bytes {
        true => Vec::new(),
        false => {
            let floats = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|&x| f32::from_le_bytes(x) / white).collect();
            cells.iter().map(|(bytes, ..)| floats(bytes)).collect()
        }
    };
    let pictures: Vec<Picture<'_>> = cells
        .iter()
        .enumerate()
        .map(|(place, (bytes, label, notes))| Picture {
            pixels: if is_bytes { Pixels::U8(bytes) } else { Pixels::F32(&floats[place]) },
            height,
            width,
            channels,
            label: label.clone(),
            predicted: notes.clone(),
            confidence: f64::NAN,
        })
        .collect();
    let title = format!("{}: originals, and {} copies of each", dataset.name(), SHOWN[1]);
    picture_table_png(&title, SHOWN[1] as u32 + 1, &pictures)
}
