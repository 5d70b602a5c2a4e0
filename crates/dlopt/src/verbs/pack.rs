//! `dlopt pack`: the same bytes in fewer.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use clap::Args;
use dlopt_checkpoint::{Context, Error, NewFile, Result};
use dlopt_pack::{PackReport, Packer, Source, is_packed};
use serde::Serialize;

use crate::job::check_files;
use crate::messages;
use crate::progress::Bar;
use crate::streams;
use crate::tables;

/// Standard output is written in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;

const EXAMPLES: &str = "\
Examples:
  dlopt pack model/ -o model.dlpk                        a folder, every file of it
  dlopt prune m.safetensors | dlopt pack -o small.dlpk   what comes through a pipe
  dlopt unpack model.dlpk -o again/                      and back, bit for bit
  dlopt inspect small.dlpk                               verbs read a packed file as they read any other";

/// Make a checkpoint smaller without changing a bit of it
///
/// Exponents, mantissas and codes of weights are entropy-coded apart, in blocks with checksums. `dlopt unpack` gives the same
/// bytes back; verbs that read a model also read a packed file.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PackArgs {
    /// A .safetensors file, any other file, a folder with all that is in it, or - for a checkpoint on standard input
    #[arg(value_name = "IN")]
    input: Option<PathBuf>,

    #[command(flatten)]
    pub(super) container: ContainerArgs,
}

/// What packing and unpacking have in common.
#[derive(Args, Debug)]
pub(crate) struct ContainerArgs {
    /// Where to write [default: standard output]
    #[arg(short, long = "output", value_name = "OUT")]
    pub(super) output: Option<PathBuf>,

    /// Replace an existing output
    #[arg(long)]
    pub(super) force: bool,

    /// Worker threads [default: all cores]; the output is the same at any number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Print the report as JSON: on standard output, or on standard error when the output goes there
    #[arg(long)]
    pub(super) json: bool,

    /// Print nothing but errors
    #[arg(short, long)]
    pub(super) quiet: bool,
}

impl ContainerArgs {
    pub(super) fn threads(&self) -> usize {
        self.threads.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from)
    }

    /// The output, where it is no stream.
    pub(super) fn path(&self) -> Option<&Path> {
        self.output.as_deref().filter(|path| *path != Path::new("-"))
    }

    /// Tells people, or programs, what was done.
    pub(super) fn tell(&self, report: &impl Serialize, text: &str) -> Result<()> {
        match (self.json, self.path()) {
            (true, Some(_)) => streams::print_json(report)?,
            (true, None) => messages::tell(&streams::json(report)),
            // Two verbs of a pipe share the terminal: one line each.
            (false, None) if !self.quiet && streams::stdout_is_pipe() => {
                messages::tell(text.split_inclusive('\n').next().unwrap_or_default());
            }
            (false, _) if !self.quiet => messages::tell(text),
            (false, _) => {}
        }
        Ok(())
    }
}

/// The report, and how long it took.
#[derive(Serialize)]
struct Packed {
    #[serde(flatten)]
    report: PackReport,
    seconds: f64,
}

pub(super) fn run(args: &PackArgs, stop: &Arc<AtomicBool>) -> Result<ExitCode> {
    let container = &args.container;
    // An output in the folder that is packed would become part of it.
    check_files(&[("-o", container.path())], &[args.input.as_deref()])?;
    let stdout = container.path().is_none().then(streams::stdout_for_checkpoint).transpose()?;
    let bar = Bar::new(container.quiet);
    let packer = Packer::new(container.threads(), &bar, stop)?;
    let source = source(args.input.as_deref())?;
    let began = Instant::now();
    let report = match (container.path(), stdout) {
        (Some(path), _) => {
            let mut file = NewFile::create(path, 0, container.force)?;
            let report = packer.pack(source, &mut file, &path.display().to_string())?;
            file.finish()?;
            report
        }
        (None, stdout) => {
            let stdout = stdout.map_or_else(streams::stdout_for_checkpoint, Ok)?;
            let mut stdout = BufWriter::with_capacity(PIECE_BYTES, stdout);
            let report = packer.pack(source, &mut stdout, "standard output")?;
            stdout.flush().at("standard output")?;
            report
        }
    };
    bar.clear();
    let packed = Packed { report, seconds: began.elapsed().as_secs_f64() };
    container.tell(&packed, &tables::packed(&packed.report, packed.seconds))?;
    Ok(ExitCode::SUCCESS)
}

fn source(input: Option<&Path>) -> Result<Source<'static>> {
    let Some(path) = input.filter(|path| *path != Path::new("-")) else {
        let stdin = streams::stdin_for_checkpoint()?;
        return Ok(Source::Stream(Box::new(stdin), None, "standard input".to_owned()));
    };
    if path.is_dir() {
        return Ok(Source::Folder(path.to_owned()));
    }
    let name = path.display().to_string();
    let mut file = File::open(path).at(&name)?;
    let about = file.metadata().at(&name)?;
    if !about.is_file() {
        return Ok(Source::Stream(Box::new(file), None, name));
    }
    let mut first = Vec::new();
    (&mut file).take(4).read_to_end(&mut first).at(&name)?;
    if is_packed(&first) {
        return Err(Error::input(format!("{name}: is packed already")).hint("`dlopt unpack` it first"));
    }
    let all = std::io::Cursor::new(first).chain(file);
    Ok(Source::Stream(Box::new(all), Some(about.len()), name))
}
