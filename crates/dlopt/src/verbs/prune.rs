//! `dlopt prune`: set weights to zero, or take whole channels and layers out.

mod afterwards;
mod data;
mod structure;
mod worth;
mod zeros;

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, ValueEnum};
use dlopt_checkpoint::{Error, Pass, Result};
use dlopt_prune::{Criterion, Prune, PruneOptions, PruneScope, ShareRule, Structure};

use crate::args::{IoArgs, SelectArgs};
use crate::job;

use afterwards::Afterwards;
use data::DataArgs;
use structure::{Leaving, StructureArgs};
use worth::WorthArgs;
use zeros::Zeroed;

const EXAMPLES: &str = "\
Examples:
  dlopt prune model/ --sparsity 0.5 -o half/                 half of each weight tensor, the smallest first
  dlopt prune model/ --sparsity 0.5 --scope global -o half/  half of all weights together
  dlopt prune model/ --pattern 2:4 -o sparse/                two of each four along the inputs
  dlopt prune model.safetensors --sparsity 0.7 --store bitmask -o small.safetensors
  dlopt prune model/ --rule '*.mlp.*=0.6' --rule '*.0.*=skip' --sparsity 0.4 -o sparse/
  dlopt prune model/ --pattern 2:4 | dlopt quantize --scheme w4a16 -o small/
  dlopt prune cnn.safetensors --pattern channels --sparsity 0.5 --target flops -o narrow.safetensors
                                                           half of the multiply-adds: a smaller dense network
  dlopt prune lstm.safetensors --pattern hidden --sparsity 0.5 --target width -o narrow.safetensors
  dlopt prune cnn.safetensors --sparsity 0.8 --scope global --eval d.safetensors --graph zeros.svg -o sparse.safetensors

Layers selected by default: linear, convolution and recurrent weights. `dlopt list` shows criteria, patterns, stores.";

/// Set weights to zero, or take whole channels, neurons, hidden units or layers out
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PruneArgs {
    #[command(flatten)]
    io: IoArgs,

    #[command(flatten)]
    pass: PrunePass,

    /// Draw the share of zeros in every tensor to this SVG file; where channels leave, which go together and how many stay
    #[arg(long, value_name = "FILE.svg")]
    graph: Option<PathBuf>,

    #[command(flatten)]
    data: DataArgs,

    #[command(flatten)]
    worth: WorthArgs,
}

/// Set weights to zero, or take whole channels, neurons, hidden units or layers out
#[derive(Args, Debug)]
pub(crate) struct PrunePass {
    /// Share of zeros, 0..=1, which N:M patterns imply; where channels or layers leave, the share of --target that leaves
    /// [default there: channels that nothing but zeros write and read, as `train --prune` leaves them]
    #[arg(long, value_name = "SHARE")]
    sparsity: Option<f64>,

    /// A share of zeros for the tensors of a glob, GLOB=SHARE or GLOB=skip; may be repeated, the first that matches wins;
    /// without --sparsity no others are pruned
    #[arg(long, value_name = "GLOB=SHARE")]
    rule: Vec<String>,

    /// Which weights go first: magnitude or random; which channels or layers: l2, l1, scale, geometric-median or random, or
    /// on --data taylor, fisher, mean-activation or apoz [default: magnitude, l2]
    #[arg(long)]
    criterion: Option<String>,

    /// unstructured; N:M such as 2:4: N of each M weights along the inputs are kept; channels (of convolutions), neurons (of
    /// dense layers), hidden (units of recurrent layers), several of these with commas between; or layers
    #[arg(long, default_value = "unstructured")]
    pattern: String,

    /// Among which weights an unstructured pattern compares, or which channels compete [default: tensor]
    #[arg(long, value_enum)]
    scope: Option<Scope>,

    /// How the rest is stored: dense (every runtime reads it) or bitmask (smaller; only dlopt reads it) [default: dense]
    #[arg(long)]
    store: Option<String>,

    /// Seed of the random criterion [default: 0]
    #[arg(long)]
    seed: Option<u64>,

    #[command(flatten)]
    structure: StructureArgs,

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

impl From<Scope> for PruneScope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Tensor => Self::Tensor,
            Scope::Global => Self::Global,
        }
    }
}

impl PrunePass {
    /// The pass.
    pub(super) fn passes(&self) -> Result<Vec<Box<dyn Pass>>> {
        match self.structure(None)? {
            Some(own) => Ok(vec![Box::new(own)]),
            None => Ok(vec![Box::new(self.zeros()?)]),
        }
    }

    /// The pass that sets weights to zero.
    fn zeros(&self) -> Result<Prune> {
        self.structure.refuse()?;
        let criterion = self.criterion.as_deref().unwrap_or("magnitude");
        self.refuse_seed(criterion, Criterion::named(criterion)?.is_seeded())?;
        Prune::new(PruneOptions {
            criterion: criterion.to_owned(),
            pattern: self.pattern.clone(),
            scope: self.scope.map(PruneScope::from),
            sparsity: self.sparsity,
            rules: self.rule.iter().map(|text| ShareRule::parse(text)).collect::<Result<_>>()?,
            store: self.store.clone().unwrap_or_else(|| "dense".to_owned()),
            selection: self.select.selection()?,
            allow_nonfinite: self.select.allow_nonfinite,
            seed: self.seed.unwrap_or(0),
        })
    }

    /// Refuses a seed for a criterion that draws nothing.
    fn refuse_seed(&self, criterion: &str, is_seeded: bool) -> Result<()> {
        match self.seed {
            Some(_) if !is_seeded => {
                Err(Error::usage(format!("criterion `{criterion}` draws nothing, so --seed means nothing"))
                    .hint("leave --seed out, or take --criterion random"))
            }
            _ => Ok(()),
        }
    }
}

impl PruneArgs {
    /// Says what is wrong with the flags, before there is an input.
    pub(super) fn check(&self) -> Result<()> {
        self.pass.passes().map(|_| ())
    }
}

pub(super) fn run(args: &PruneArgs, stop: &Arc<AtomicBool>) -> Result<ExitCode> {
    let (input, output) = (args.io.input.as_deref(), &args.io.output);
    let read = [&[input, output.output.as_deref(), args.worth.data()], &args.data.files()[..]].concat();
    job::check_files(&[("--graph", args.graph.as_deref())], &read)?;
    if Structure::parse(&args.pass.pattern)?.is_none() {
        let own = args.pass.zeros()?;
        args.data.refuse_criterion()?;
        if args.graph.is_some() && output.dry_run {
            return Err(Error::usage("--graph draws the zeros that are found, and --dry-run finds none")
                .hint("leave one of them out"));
        }
        let telling = Zeroed {
            graph: args.graph.as_deref(),
            is_verbose: output.report.verbose,
            afterwards: Afterwards::new(args, stop)?,
            bars: RefCell::default(),
        };
        return job::run_telling(input, telling.afterwards.written(), &[&own], &telling, stop);
    }
    let given = args.data.weigh(args.pass.criterion.as_deref(), input, output.work.threads(), stop)?;
    let Some(own) = args.pass.structure(given)? else { unreachable!("the pattern is one of structure") };
    let telling = Leaving { pass: &own, graph: args.graph.as_deref(), afterwards: Afterwards::new(args, stop)? };
    job::run_telling(input, telling.afterwards.written(), &[&own], &telling, stop)
}
