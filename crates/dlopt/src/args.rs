//! Flags that several verbs share.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use dlopt_checkpoint::{NameGlob, Result, Selection};

/// Where a checkpoint comes from and goes to.
#[derive(Args, Debug, Default, Clone)]
pub(crate) struct IoArgs {
    /// Checkpoint: a .safetensors file, a model folder, a .pth/.bin/.npz file, or - for standard input
    #[arg(value_name = "IN")]
    pub(crate) input: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Where a checkpoint goes to, and how the work is done.
#[derive(Args, Debug, Default, Clone)]
pub(crate) struct OutputArgs {
    /// File or folder to write [default: standard output]; FOLDER/ with a slash, or any name when IN is a folder,
    /// means a folder
    #[arg(short, long = "output", value_name = "OUT")]
    pub(crate) output: Option<PathBuf>,

    /// Replace an existing output
    #[arg(long)]
    pub(crate) force: bool,

    /// Go on with a folder that a killed run left behind
    #[arg(long)]
    pub(crate) resume: bool,

    /// Most bytes of tensors in a shard of an output folder, such as 5GB [default: as the input is cut]
    #[arg(long, value_name = "SIZE", value_parser = at_least_one_byte)]
    pub(crate) max_shard_size: Option<ByteSize>,

    /// Leave the small files of the model (tokenizer, licence…) out
    #[arg(long)]
    pub(crate) no_files: bool,

    /// Take the small files of the model and its config.json from this folder
    #[arg(long, value_name = "DIR", conflicts_with = "no_files")]
    pub(crate) files_from: Option<PathBuf>,

    /// Say what would be written, tensor by tensor and to the byte, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Say for every tensor what it is, what is done with it, and why
    #[arg(long)]
    pub(crate) explain: bool,

    #[command(flatten)]
    pub(crate) work: WorkArgs,

    #[command(flatten)]
    pub(crate) report: ReportArgs,
}

/// Threads, memory, temporary space.
#[derive(Args, Debug, Default, Clone)]
pub(crate) struct WorkArgs {
    /// Worker threads [default: all cores]; the output is the same at any number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,

    /// Bytes of weights in flight [default: 128MiB]; the output is the same at any amount
    #[arg(long, value_name = "SIZE", value_parser = at_least_one_byte)]
    pub(crate) memory: Option<ByteSize>,

    /// Where a piped input is spooled when it must be read twice [default: beside the output, else the system's]
    #[arg(long, value_name = "DIR")]
    pub(crate) tmp_dir: Option<PathBuf>,
}

impl WorkArgs {
    /// The number of threads to use.
    pub(crate) fn threads(&self) -> usize {
        self.threads.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from)
    }

    /// The budget for blocks in flight.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory.map_or(128 << 20, |m| m.as_u64())
    }
}

/// How a verb tells what it did.
#[derive(Args, Debug, Default, Clone)]
pub(crate) struct ReportArgs {
    /// Print the report as JSON: on standard output, or on standard error when the checkpoint goes there
    #[arg(long)]
    pub(crate) json: bool,

    /// Write the report to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,

    /// Print nothing but errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Print a line for every tensor
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// Which tensors a pass works on.
#[derive(Args, Debug, Default, Clone)]
pub(crate) struct SelectArgs {
    /// Work only on tensors whose whole name matches this glob (`*` crosses dots); may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) include: Vec<String>,

    /// Leave tensors alone whose whole name matches this glob; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,

    /// Whether to change a tensor that the model uses under two names
    #[arg(long, value_enum, default_value_t = Tied::Skip)]
    pub(crate) tied: Tied,

    /// Go on when a selected weight is NaN or infinite (NaN counts as zero when quantized and as the largest
    /// magnitude when pruned; infinities are clamped)
    #[arg(long)]
    pub(crate) allow_nonfinite: bool,
}

/// What to do with tied tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tied {
    /// Leave them alone
    #[default]
    Skip,
    /// Change them under both names
    Both,
}

impl SelectArgs {
    /// The selection they describe.
    pub(crate) fn selection(&self) -> Result<Selection> {
        let globs = |texts: &[String]| texts.iter().map(|t| NameGlob::new(t)).collect::<Result<Vec<_>>>();
        Ok(Selection {
            include: globs(&self.include)?,
            exclude: globs(&self.exclude)?,
            change_tied: self.tied == Tied::Both,
        })
    }
}

fn at_least_one_byte(text: &str) -> Result<ByteSize, String> {
    match text.parse::<ByteSize>() {
        Ok(size) if size.as_u64() > 0 => Ok(size),
        Ok(_) => Err("must be more than nothing".to_owned()),
        Err(e) => Err(format!("{e}; sizes are written like 128MiB or 5GB")),
    }
}
