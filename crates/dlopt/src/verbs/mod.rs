//! The verbs, one file each, and flags that some share: parse, call, print; no arithmetic.

mod augment;
mod bench;
mod budget;
mod codes;
mod completions;
mod convert;
mod diff;
mod distill;
mod eval;
mod generate;
mod inspect;
mod kernels;
mod list;
mod logits;
mod man;
mod measure;
mod pack;
mod predict;
mod prepare;
mod prune;
mod quantize;
mod recovery;
mod run;
mod sensitivity;
mod teaching;
mod train;
mod training;
mod unpack;
mod verify;
mod watcher;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Parser, Subcommand};
use dlopt_checkpoint::{Pass, Result};

/// Prune, quantize, inspect and convert model checkpoints as a stream.
///
/// Reads and writes safetensors files, model folders and pipes in memory that does not grow with the model, and says
/// what every step cost. Exit codes: 0 done; 1 could not; 2 asked wrongly; 3 a gate was not met.
#[derive(Parser, Debug)]
#[command(name = "dlopt", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// The process that this one works for and ends with
    #[arg(long, hide = true, value_name = "PID")]
    pub(crate) works_for: Option<u32>,

    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  dlopt prune model/ --pattern 2:4 | dlopt quantize --scheme w4a16 -o small/
  dlopt inspect model.safetensors --stats
  dlopt diff model/ small/ --tolerance 0.2
  dlopt VERB --help shows more for each verb";

#[derive(Subcommand, Debug)]
enum Verb {
    Inspect(inspect::InspectArgs),
    Diff(diff::DiffArgs),
    Verify(verify::VerifyArgs),
    Convert(convert::ConvertArgs),
    Prune(prune::PruneArgs),
    Quantize(Box<quantize::QuantizeArgs>),
    Run(run::RunArgs),
    Pack(pack::PackArgs),
    Unpack(unpack::UnpackArgs),
    Sensitivity(sensitivity::SensitivityArgs),
    Bench(bench::BenchArgs),
    #[command(hide = true)]
    Measure(measure::MeasureArgs),
    Prepare(Box<prepare::PrepareArgs>),
    Augment(augment::AugmentArgs),
    Train(Box<train::TrainArgs>),
    Distill(Box<distill::DistillArgs>),
    Logits(logits::LogitsArgs),
    Eval(eval::EvalArgs),
    Predict(predict::PredictArgs),
    Generate(generate::GenerateArgs),
    List(list::ListArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

/// Runs the verb.
pub(crate) fn run(cli: Cli, stop: &Arc<AtomicBool>) -> Result<ExitCode> {
    match cli.verb {
        Verb::Inspect(args) => inspect::run(&args, stop),
        Verb::Diff(args) => diff::run(&args, stop),
        Verb::Verify(args) => verify::run(&args, stop),
        Verb::Convert(args) => convert::run(&args, stop),
        Verb::Prune(args) => prune::run(&args, stop),
        Verb::Quantize(args) => quantize::run(&args, stop),
        Verb::Run(args) => run::run(&args, stop),
        Verb::Pack(args) => pack::run(&args, stop),
        Verb::Unpack(args) => unpack::run(&args, stop),
        Verb::Sensitivity(args) => sensitivity::run(&args, stop),
        Verb::Bench(args) => bench::run(&args, stop),
        Verb::Measure(args) => measure::run(&args),
        Verb::Prepare(args) => prepare::run(&args, stop),
        Verb::Augment(args) => augment::run(&args, stop),
        Verb::Train(args) => train::run(&args, stop),
        Verb::Distill(args) => distill::run(&args, stop),
        Verb::Logits(args) => logits::run(&args, stop),
        Verb::Eval(args) => eval::run(&args, stop),
        Verb::Predict(args) => predict::run(&args, stop),
        Verb::Generate(args) => generate::run(&args, stop),
        Verb::List(args) => list::run(&args),
        Verb::Completions(args) => completions::run(&args),
        Verb::Man(args) => man::run(&args),
    }
}

/// The verbs that are passes over weights; recipes are made of them.
#[derive(Subcommand, Debug)]
pub(crate) enum PassVerb {
    Convert(convert::ConvertPass),
    Prune(prune::PrunePass),
    Quantize(quantize::QuantizePass),
}

impl PassVerb {
    /// The passes that the verb runs.
    pub(crate) fn passes(&self) -> Result<Vec<Box<dyn Pass>>> {
        match self {
            Self::Convert(pass) => pass.passes(),
            Self::Prune(pass) => pass.passes(),
            Self::Quantize(pass) => pass.passes(),
        }
    }
}
