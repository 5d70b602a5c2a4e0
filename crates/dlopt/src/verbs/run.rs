//! `dlopt run`: a recipe of several passes as one stream.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, Parser};
use dlopt_bench::sweep::words;
use dlopt_checkpoint::{Context, Error, Pass, Result};
use serde::Deserialize;

use super::PassVerb;
use crate::args::IoArgs;
use crate::job;

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

Examples:
  dlopt run compress.toml
  dlopt run compress.toml other-model/ -o other-small/"#;

/// Run a recipe of passes as one stream, with nothing stored in between
///
/// The output has the same bytes as a shell pipe of the same verbs.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// The recipe
    #[arg(value_name = "RECIPE.toml")]
    recipe: PathBuf,

    #[command(flatten)]
    io: IoArgs,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recipe {
    input: Option<PathBuf>,
    output: Option<PathBuf>,
    #[serde(default)]
    pass: Vec<toml::Table>,
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
    if recipe.pass.is_empty() {
        return Err(Error::usage(format!("{name}: no [[pass]]")).hint("dlopt run --help shows a recipe"));
    }
    let mut passes: Vec<Box<dyn Pass>> = Vec::new();
    for (i, table) in recipe.pass.iter().enumerate() {
        let place = format!("{name}: pass {}", i + 1);
        let (verb, flags) = words(table).map_err(|e| e.within(&place))?;
        let line = ["pass".to_owned(), verb].into_iter().chain(flags);
        let parsed = RecipePass::try_parse_from(line).map_err(|e| {
            let text = e.to_string();
            let first = text.lines().next().unwrap_or_default();
            Error::usage(format!("{place}: {}", first.trim_start_matches("error: ")))
        })?;
        passes.extend(parsed.verb.passes().map_err(|e| e.within(&place))?);
    }
    let mut output = args.io.output.clone();
    output.output = output.output.or(recipe.output);
    let input = args.io.input.clone().or(recipe.input);
    job::run(input.as_deref(), &output, &passes, stop)
}
