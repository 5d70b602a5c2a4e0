//! `dlopt convert`: another container, another dtype, or dense again.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, ValueEnum};
use dlopt_checkpoint::{Carry, Dtype, NameGlob, Pass, Result, Selection};
use dlopt_prune::Densify;
use dlopt_quantize::{Cast, Dequantize};

use crate::args::IoArgs;
use crate::job;

const EXAMPLES: &str = "\
Examples:
  dlopt convert model.safetensors -o model/ --max-shard-size 5GB   a file into shards
  dlopt convert model/ -o model.safetensors                        and back, the small files inside
  dlopt convert pytorch_model.bin -o model.safetensors             from PyTorch; no code in the pickle is run
  dlopt convert weights.npz -o model.safetensors                   from NumPy
  dlopt convert small/ --decompress -o dense/                      quantized or sparse weights as floats again
  dlopt convert model/ --dtype bf16 -o half/";

/// Change the container or the dtype, or make a compressed checkpoint dense again
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ConvertArgs {
    #[command(flatten)]
    io: IoArgs,

    #[command(flatten)]
    pass: ConvertPass,
}

/// Change the dtype, or make a compressed checkpoint dense again
#[derive(Args, Debug)]
pub(crate) struct ConvertPass {
    /// Cast floating-point tensors to this type
    #[arg(long, value_enum)]
    dtype: Option<To>,

    /// Make quantized and sparse weights dense floats again, under their original names
    #[arg(long)]
    decompress: bool,

    /// Cast only tensors whose whole name matches this glob; may be repeated
    #[arg(long, value_name = "GLOB", requires = "dtype")]
    include: Vec<String>,

    /// Cast no tensor whose whole name matches this glob; may be repeated
    #[arg(long, value_name = "GLOB", requires = "dtype")]
    exclude: Vec<String>,

    /// Let values become infinite that are too large for the new type
    #[arg(long, requires = "dtype")]
    allow_nonfinite: bool,
}

/// A floating-point type to cast to.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum To {
    /// 16 bits with the range of f32
    Bf16,
    /// 16 bits with more precision and less range
    F16,
    /// 32 bits
    F32,
}

impl ConvertPass {
    /// The passes.
    pub(super) fn passes(&self) -> Result<Vec<Box<dyn Pass>>> {
        let mut passes: Vec<Box<dyn Pass>> = Vec::new();
        if self.decompress {
            passes.push(Box::new(Dequantize));
            passes.push(Box::new(Densify));
        }
        if let Some(dtype) = self.dtype {
            let dtype = match dtype {
                To::Bf16 => Dtype::BF16,
                To::F16 => Dtype::F16,
                To::F32 => Dtype::F32,
            };
            let globs = |texts: &[String]| texts.iter().map(|t| NameGlob::new(t)).collect::<Result<Vec<_>>>();
            let selection =
                Selection { include: globs(&self.include)?, exclude: globs(&self.exclude)?, change_tied: true };
            let mut cast = Cast::new(dtype)?;
            cast.selection = selection;
            cast.allow_nonfinite = self.allow_nonfinite;
            passes.push(Box::new(cast));
        }
        if passes.is_empty() {
            passes.push(Box::new(Carry));
        }
        Ok(passes)
    }
}

impl ConvertArgs {
    /// Says what is wrong with the flags, before there is an input.
    pub(super) fn check(&self) -> Result<()> {
        self.pass.passes().map(|_| ())
    }
}

pub(super) fn run(args: &ConvertArgs, stop: &Arc<AtomicBool>) -> Result<ExitCode> {
    job::run(args.io.input.as_deref(), &args.io.output, &args.pass.passes()?, stop)
}
