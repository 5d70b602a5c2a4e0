//! `dlopt quantize`: weights as codes of few bits with scales.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, ValueEnum};
use dlopt_checkpoint::{Pass, Result};
use dlopt_quantize::{Fallback, Granularity, Overrides, Quantize, Rule, Scheme};

use crate::args::{IoArgs, SelectArgs};
use crate::job;

const EXAMPLES: &str = "\
Examples:
  dlopt quantize model/ --scheme w4a16 -o small/                   4 bits in groups of 128
  dlopt quantize model/ --scheme w4a16 --group 32 --method mse -o small/
  dlopt quantize model/ --scheme w8a8 -o small/                    int8 weights and activations
  dlopt quantize model/ --scheme w4a16 --rule '*.down_proj.weight=w8a16' --rule '*.0.*=skip' -o small/
  dlopt quantize model/ --dry-run --explain                        what would be done, and why
  dlopt prune model/ --pattern 2:4 | dlopt quantize -o small/      zeros stay zeros

Layers selected by default: linear, convolution and recurrent weights; not embeddings, norms, biases, the output head.
`dlopt list` shows all schemes; the README says which runtime reads what.";

/// Quantize weights to integers or FP8
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct QuantizeArgs {
    #[command(flatten)]
    io: IoArgs,

    #[command(flatten)]
    pass: QuantizePass,
}

/// Quantize weights to integers or FP8
#[derive(Args, Debug)]
pub(crate) struct QuantizePass {
    /// How weights are stored: w4a16, w8a16, w2a16, w4a16_asym, w8a8, fp8_dynamic, fp8_block, fp8a16, bf16, f16
    #[arg(long, default_value = "w4a16")]
    scheme: String,

    /// Which weights share a scale: tensor, channel, or so many consecutive ones of a row [default: the scheme's]
    #[arg(long, value_name = "SIZE")]
    group: Option<String>,

    /// Bits of a code in weight-only integer schemes: 2, 4 or 8 [default: the scheme's]
    #[arg(long)]
    bits: Option<u32>,

    /// Store a zero point beside each scale: a smaller error, fewer runtimes
    #[arg(long, conflicts_with = "symmetric")]
    asymmetric: bool,

    /// Store no zero points, whatever the scheme says
    #[arg(long)]
    symmetric: bool,

    /// How scales are chosen: rtn (from the extremes), absmax (the same, nothing clipped) or mse (the clip with the least
    /// squared error)
    #[arg(long, default_value = "rtn")]
    method: String,

    /// GLOB=SCHEME for tensors whose whole name matches, SCHEME:SIZE for another group, GLOB=skip for none; the first
    /// that matches wins; may be repeated
    #[arg(long, value_name = "GLOB=SCHEME")]
    rule: Vec<String>,

    /// What to do with a tensor whose columns the group size does not divide
    #[arg(long, value_enum, default_value_t = Unfit::Skip)]
    fallback: Unfit,

    #[command(flatten)]
    select: SelectArgs,
}

/// What to do with a tensor whose columns the group size does not divide.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Unfit {
    /// Leave it dense and say so
    Skip,
    /// One scale for each output
    Channel,
}

impl QuantizePass {
    /// The pass.
    pub(super) fn passes(&self) -> Result<Vec<Box<dyn Pass>>> {
        let overrides = Overrides {
            bits: self.bits,
            is_symmetric: if self.asymmetric { Some(false) } else { self.symmetric.then_some(true) },
            granularity: self.group.as_deref().map(Granularity::parse).transpose()?,
        };
        let mut quantize = Quantize::new(Scheme::new(&self.scheme, overrides)?);
        quantize.method = dlopt_quantize::methods::method_named(&self.method).ok_or_else(|| {
            let names: Vec<_> = dlopt_quantize::methods::METHODS.iter().map(|m| m.plugin().name).collect();
            dlopt_checkpoint::Error::usage(format!("no method is named `{}`", self.method)).hint(names.join(" or "))
        })?;
        quantize.rules = self.rule.iter().map(|text| Rule::parse(text)).collect::<Result<Vec<_>>>()?;
        quantize.selection = self.select.selection()?;
        quantize.allow_nonfinite = self.select.allow_nonfinite;
        quantize.fallback = match self.fallback {
            Unfit::Skip => Fallback::Skip,
            Unfit::Channel => Fallback::Channel,
        };
        Ok(vec![Box::new(quantize)])
    }
}

pub(super) fn run(args: &QuantizeArgs, stop: &Arc<AtomicBool>) -> Result<ExitCode> {
    job::run(args.io.input.as_deref(), &args.io.output, &args.pass.passes()?, stop)
}
