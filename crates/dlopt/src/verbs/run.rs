//! `dlopt run`: a recipe of several passes as one stream, or of steps that train.

mod steps;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytesize::ByteSize;
use clap::{Args, Parser};
use dlopt_bench::sweep::words;
use dlopt_checkpoint::{Context, Error, Pass, Result};
use serde::Deserialize;

use super::PassVerb;
use super::budget::{self, BudgetArgs, Goal};
use super::sensitivity::JudgingArgs;
use crate::args::{IoArgs, OutputArgs, ReportArgs};
use crate::job;
use steps::Steps;

const EXAMPLES: &str = r#"A recipe:
  input = "model/"          # IN and -o on the command line win
  output = "small/"

  [[pass]]
  verb = "prune"            # then the verb's flags, without the dashes
  pattern = "2:4"

  [[pass]]
  verb = "quantize"
  scheme = "w4a16"
  group = 128
  rule = ["*.mlp.*=w8a16"]  # a list repeats the flag, true sets it

Steps instead of passes may train, and are measured where there are data; each is a command of its own, and a run that was
stopped goes on:
  data = "d.safetensors"
  output = "small.dlpk"

  [[step]]
  verb = "train"            # train, distill, prune, quantize, convert, pack; without an input the first one trains
  anew = false              # true: trains a network of its own, and takes nothing from the step before
  model = "lenet300"
  prune = "0.92 cubic 0..8"
  epochs = 20

  [[step]]
  name = "entropy-coded"    # in the table
  verb = "pack"

Examples:
  dlopt run compress.toml
  dlopt run compress.toml other-model/ -o other-small/
  dlopt run prune-and-quantize.toml model/ --budget 150MB -o small/    a last pass without a scheme gets one for each tensor"#;

/// Run a recipe of passes as one stream, with nothing stored in between, or of steps that train
///
/// The output of passes has the same bytes as a shell pipe of the same verbs.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// The recipe
    #[arg(value_name = "RECIPE.toml")]
    recipe: PathBuf,

    /// Choose a scheme or a share of zeros for each tensor in the last pass, a `quantize` without a scheme, so that the whole
    /// output takes at most this, such as 12MB, with the least damage
    #[arg(long, value_name = "SIZE")]
    budget: Option<ByteSize>,

    /// What to choose among under a budget, as in `quantize`; may be repeated
    #[arg(long, value_name = "CHANGE", requires = "budget")]
    choice: Vec<String>,

    #[command(flatten)]
    judging: JudgingArgs,

    #[command(flatten)]
    io: IoArgs,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recipe {
    input: Option<PathBuf>,
    output: Option<PathBuf>,
    data: Option<PathBuf>,
    split: Option<String>,
    #[serde(default)]
    pass: Vec<toml::Table>,
    #[serde(default)]
    step: Vec<toml::Table>,
}

/// One pass of a recipe, parsed by the same code as the command line.
#[derive(Parser, Debug)]
#[command(name = "pass", disable_help_flag = true)]
struct RecipePass {
    #[command(subcommand)]
    verb: PassVerb,
}

pub(super) fn run(args: &RunArgs, stop: &Arc<AtomicBool>) -> Result<ExitCode> {
    let name = args.recipe.display();
    let text = std::fs::read_to_string(&args.recipe).at(name.to_string())?;
    let recipe: Recipe = toml::from_str(&text).map_err(|e| {
        let line = e.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let found = text.lines().nth(line - 1).unwrap_or_default().trim();
        Error::usage(format!("{name}: line {line}, `{found}`: {}", e.message().replace('\n', ", ")))
            .hint("dlopt run --help shows a recipe")
    })?;
    let place = name.to_string();
    let wrong = match (recipe.pass.is_empty(), recipe.step.is_empty()) {
        (true, true) => Some("no [[pass]] and no [[step]]"),
        (false, false) => Some("[[pass]] and [[step]]: passes are one stream, steps are not"),
        (false, true) if recipe.data.is_some() || recipe.split.is_some() => {
            Some("`data` and `split` are what steps train and are measured on, and these are passes")
        }
        _ => None,
    };
    if let Some(wrong) = wrong {
        return Err(Error::usage(format!("{place}: {wrong}")).hint("dlopt run --help shows recipes"));
    }
    let mut verbs = Vec::with_capacity(recipe.pass.len());
    for (i, table) in recipe.pass.iter().enumerate() {
        let place = format!("{name}: pass {}", i + 1);
        let (verb, flags) = words(table).map_err(|e| e.within(&place))?;
        let line = ["pass".to_owned(), verb].into_iter().chain(flags);
        let parsed = RecipePass::try_parse_from(line).map_err(|e| {
            let text = e.to_string();
            let first = text.lines().next().unwrap_or_default();
            Error::usage(format!("{place}: {}", first.trim_start_matches("error: ")))
        })?;
        let passes = parsed.verb.passes().map_err(|e| e.within(&place))?;
        verbs.push((parsed.verb, passes));
    }
    let mut output = args.io.output.clone();
    output.output = output.output.or(recipe.output);
    let input = args.io.input.clone().or(recipe.input);
    let budget = BudgetArgs::of_recipe(args.budget, &args.choice, &args.judging);
    let goal = budget.goal()?;
    if !recipe.step.is_empty() {
        if goal.is_some() {
            return Err(Error::usage(format!("{place}: --budget chooses for a last pass, and these are steps"))
                .hint("give target-size to a last step that quantizes"));
        }
        let (data, split) = (recipe.data, recipe.split);
        return steps::run(Steps { place, tables: recipe.step, input, data, split }, &output, stop);
    }
    let io = IoArgs { input, output };
    if let Some(goal) = goal {
        return run_under(&budget, goal, verbs, &io, &name.to_string(), stop);
    }
    let passes: Vec<Box<dyn Pass>> = verbs.into_iter().flat_map(|(_, passes)| passes).collect();
    job::run(io.input.as_deref(), &io.output, &passes, stop)
}

/// Runs all passes but the last into a file of its own, as schemes are chosen by weights, and then the last as chosen.
fn run_under(
    budget: &BudgetArgs,
    goal: Goal,
    mut verbs: Vec<(PassVerb, Vec<Box<dyn Pass>>)>,
    io: &IoArgs,
    name: &str,
    stop: &Arc<AtomicBool>,
) -> Result<ExitCode> {
    let Some((PassVerb::Quantize(last), _)) = verbs.pop() else {
        return Err(Error::usage(format!("{name}: --budget chooses the schemes of a last pass that quantizes"))
            .hint("end the recipe with [[pass]] verb = \"quantize\", without scheme, group and rule"));
    };
    let before: Vec<Box<dyn Pass>> = verbs.into_iter().flat_map(|(_, passes)| passes).collect();
    let dir = job::tmp_dir(&io.output.work, io.output.output.as_deref())?;
    let folder = tempfile::Builder::new().prefix(".dlopt-budget-").tempdir_in(&dir).at(dir.display())?;
    let mut own = io.clone();
    if !before.is_empty() {
        let path = folder.path().join("before.safetensors");
        let output = OutputArgs {
            output: Some(path.clone()),
            work: io.output.work.clone(),
            files_from: io.output.files_from.clone(),
            report: ReportArgs { quiet: io.output.report.quiet, ..ReportArgs::default() },
            ..OutputArgs::default()
        };
        job::run(io.input.as_deref(), &output, &before, stop)?;
        (own.input, own.output.files_from) = (Some(path), None);
    }
    let passes = budget::choose(budget, goal, &last, &own, stop)?;
    job::run(own.input.as_deref(), &own.output, &passes, stop)
}
