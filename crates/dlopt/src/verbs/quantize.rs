//! `dlopt quantize`: weights as codes of few bits with scales.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use dlopt_checkpoint::{Pass, Result};

use super::budget::{self, BudgetArgs};
use super::codes::CodesArgs;
use crate::args::{IoArgs, SelectArgs};
use crate::job;

/// What weights become unless asked otherwise.
pub(super) const SCHEME: &str = "w4a16";

const EXAMPLES: &str = "\
Examples:
  dlopt quantize model/ --scheme w4a16 -o small/                   4 bits in groups of 128
  dlopt quantize model/ --scheme w4a16 --group 32 --method mse -o small/
  dlopt quantize model/ --scheme w8a8 -o small/                    int8 weights and activations
  dlopt quantize model/ --scheme w4a16 --rule '*.down_proj.weight=w8a16' --rule '*.0.*=skip' -o small/
  dlopt quantize m.safetensors --scheme codebook --rule 'conv*=codebook8' -o small.safetensors      32 shared values a tensor
  dlopt quantize model/ --target-size 150MB -o small/              a scheme for each tensor, the least damage in 150 MB
  dlopt quantize m.safetensors --target-bits 3 --data d.safetensors --recipe-out chosen.toml -o small.safetensors
  dlopt quantize m.safetensors --max-loss 0.5% --data d.safetensors -o small.safetensors
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

    #[command(flatten)]
    budget: BudgetArgs,
}

/// Quantize weights to integers or FP8
#[derive(Args, Debug)]
pub(crate) struct QuantizePass {
    /// How weights are stored: w4a16, w8a16, w3a16, w2a16, w4a16_asym, w8a8, fp8_dynamic, fp8_block, fp8a16, codebook, bf16, f16
    /// [default: w4a16]
    #[arg(long)]
    scheme: Option<String>,

    /// Bits of a code: 2 to 8 in weight-only integer schemes, 1 to 8 in codebooks [default: the scheme's]
    #[arg(long)]
    bits: Option<u32>,

    /// Store a zero point beside each scale: a smaller error, fewer runtimes
    #[arg(long, conflicts_with = "symmetric")]
    asymmetric: bool,

    /// Store no zero points, whatever the scheme says
    #[arg(long)]
    symmetric: bool,

    #[command(flatten)]
    codes: CodesArgs,

    #[command(flatten)]
    select: SelectArgs,
}

impl QuantizePass {
    /// Which tensors.
    pub(super) fn select(&self) -> &SelectArgs {
        &self.select
    }

    /// How scales are chosen, if that was asked for.
    pub(super) fn method(&self) -> Option<&str> {
        self.codes.chosen_method()
    }

    /// The first flag that says how all tensors are stored, and so leaves nothing to choose for each.
    pub(super) fn given(&self) -> Option<&'static str> {
        let own = [
            ("--scheme", self.scheme.is_some()),
            ("--bits", self.bits.is_some()),
            ("--asymmetric", self.asymmetric),
            ("--symmetric", self.symmetric),
        ];
        let own = own.into_iter().find(|(_, is_given)| *is_given).map(|(flag, _)| flag);
        own.or(self.codes.given().filter(|flag| *flag != "--method"))
    }

    /// The pass.
    pub(super) fn passes(&self) -> Result<Vec<Box<dyn Pass>>> {
        let is_symmetric = if self.asymmetric { Some(false) } else { self.symmetric.then_some(true) };
        let mut quantize = self.codes.quantize(self.scheme.as_deref().unwrap_or(SCHEME), self.bits, is_symmetric)?;
        quantize.selection = self.select.selection()?;
        quantize.allow_nonfinite = self.select.allow_nonfinite;
        Ok(vec![Box::new(quantize)])
    }
}

impl QuantizeArgs {
    /// Says what is wrong with the flags, before there is an input.
    pub(super) fn check(&self) -> Result<()> {
        self.budget.goal()?;
        self.pass.passes().map(|_| ())
    }
}

pub(super) fn run(args: &QuantizeArgs, stop: &Arc<AtomicBool>) -> Result<ExitCode> {
    if let Some(goal) = args.budget.goal()? {
        let passes = budget::choose(&args.budget, goal, &args.pass, &args.io, stop)?;
        return job::run(args.io.input.as_deref(), &args.io.output, &passes, stop);
    }
    job::run(args.io.input.as_deref(), &args.io.output, &args.pass.passes()?, stop)
}
