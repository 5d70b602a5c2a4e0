//! `dlopt prune`: set weights to zero.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, ValueEnum};
use dlopt_checkpoint::{Error, Pass, Result};
use dlopt_prune::{Criterion, Prune, PruneOptions, PruneScope};

use crate::args::{IoArgs, SelectArgs};
use crate::job;

const EXAMPLES: &str = "\
Examples:
  dlopt prune model/ --sparsity 0.5 -o half/                 half of each weight tensor, the smallest first
  dlopt prune model/ --sparsity 0.5 --scope global -o half/  half of all weights together
  dlopt prune model/ --pattern 2:4 -o sparse/                two of each four along the inputs
  dlopt prune model.safetensors --sparsity 0.7 --store bitmask -o small.safetensors
  dlopt prune model/ --pattern 2:4 | dlopt quantize --scheme w4a16 -o small/

Layers selected by default: linear, convolution and recurrent weights. `dlopt list` shows criteria, patterns, stores.";

/// Set weights to zero: a share of them, or N of M
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PruneArgs {
    #[command(flatten)]
    io: IoArgs,

    #[command(flatten)]
    pass: PrunePass,
}

/// Set weights to zero: a share of them, or N of M
#[derive(Args, Debug)]
pub(crate) struct PrunePass {
    /// Share of zeros, 0..=1; N:M patterns imply it
    #[arg(long, value_name = "SHARE")]
    sparsity: Option<f64>,

    /// Which weights go first: magnitude or random
    #[arg(long, default_value = "magnitude")]
    criterion: String,

    /// unstructured, or N:M such as 2:4: N of each M weights along the inputs are kept
    #[arg(long, default_value = "unstructured")]
    pattern: String,

    /// Among which weights an unstructured pattern compares [default: tensor]
    #[arg(long, value_enum)]
    scope: Option<Scope>,

    /// How the rest is stored: dense (every runtime reads it) or bitmask (smaller; only dlopt reads it)
    #[arg(long, default_value = "dense")]
    store: String,

    /// Seed of the random criterion [default: 0]
    #[arg(long)]
    seed: Option<u64>,

    #[command(flatten)]
    select: SelectArgs,
}

/// Among which weights an unstructured pattern compares.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Scope {
    /// Those of each tensor
    Tensor,
    /// Those of all selected tensors together
    Global,
}

impl PrunePass {
    /// The pass.
    pub(super) fn passes(&self) -> Result<Vec<Box<dyn Pass>>> {
        if self.seed.is_some() && !Criterion::named(&self.criterion)?.is_seeded() {
            return Err(Error::usage(format!("criterion `{}` draws nothing, so --seed means nothing", self.criterion))
                .hint("leave --seed out, or take --criterion random"));
        }
        let prune = Prune::new(PruneOptions {
            criterion: self.criterion.clone(),
            pattern: self.pattern.clone(),
            scope: self.scope.map(|scope| match scope {
                Scope::Tensor => PruneScope::Tensor,
                Scope::Global => PruneScope::Global,
            }),
            sparsity: self.sparsity,
            store: self.store.clone(),
            selection: self.select.selection()?,
            allow_nonfinite: self.select.allow_nonfinite,
            seed: self.seed.unwrap_or(0),
        })?;
        Ok(vec![Box::new(prune)])
    }
}

impl PruneArgs {
    /// Says what is wrong with the flags, before there is an input.
    pub(super) fn check(&self) -> Result<()> {
        self.pass.passes().map(|_| ())
    }
}

pub(super) fn run(args: &PruneArgs, stop: &Arc<AtomicBool>) -> Result<ExitCode> {
    job::run(args.io.input.as_deref(), &args.io.output, &args.pass.passes()?, stop)
}
