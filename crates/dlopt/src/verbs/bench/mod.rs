//! `dlopt bench`: many variants of a model, measured, compared and drawn.

pub(super) mod commands;
mod machine;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, Parser};
use dlopt_bench::sweep::{Step, Sweep};
use dlopt_bench::{Cache, Results, Runner, compare, report, words_of};
use dlopt_checkpoint::{Context, Error, Result, make_folder, write_bytes};
use dlopt_data::Dataset;

use self::commands::Processes;
use super::{Cli, Verb};
use crate::exit;
use crate::messages;
use crate::streams;
use crate::tables::columns;

const EXAMPLES: &str = r#"A sweep:
  model = "cnn.safetensors"            # or models = [...]
  data = "fashion.safetensors"         # figures on its test split, choices on validation
  goal = "smallest within 0.5"         # points of quality; or fastest, least-memory
  batches = [32, 250]                  # latency is of one sample; these are for throughput
  seconds = 0.5                        # of each timing

  [[grid]]                             # a variant for every combination of what varies
  steps = [
    { verb = "prune", scope = "global", vary = { sparsity = [0.5, 0.8] } },
    { verb = "train", epochs = 1 },    # a verb's flags without the dashes; prune, quantize, convert, train, distill, pack
    { verb = "quantize", group = "channel", vary = { scheme = ["w8a16", "w4a16"] } },
  ]

  [[variant]]
  name = "as the recipe says"
  steps = [{ verb = "run", recipe = "compress.toml" }]

Always in: the original, the original under zstd, and plain RTN in 8 and 4 bits.
The report: index.html, results.json, results.csv, results.md. What was done is kept in OUT/cache, and a sweep that was
stopped goes on from there; `--fresh` forgets it. Exit codes: 1 when a variant failed, 3 when --compare shows regressions.

Examples:
  dlopt bench sweep.toml -o report/
  dlopt bench sweep.toml -o report/ --compare old/results.json"#;

/// Make many variants of a model, and say what each takes and is worth
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    /// The sweep
    #[arg(value_name = "SWEEP.toml")]
    sweep: PathBuf,

    /// Folder of the report
    #[arg(short, long = "output", value_name = "DIR")]
    output: PathBuf,

    /// The results.json of an earlier sweep: say what got worse, and exit with code 3 if anything did
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,

    /// Forget what was done and measured before
    #[arg(long)]
    fresh: bool,

    /// Print the results as JSON
    #[arg(long)]
    json: bool,

    /// Print nothing but errors
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn run(args: &BenchArgs, stop: &Arc<AtomicBool>) -> Result<ExitCode> {
    let name = args.sweep.display().to_string();
    let text = std::fs::read_to_string(&args.sweep).at(&name)?;
    let sweep = Sweep::parse(&text, &name, |step| check(step, true))?;
    let old = args.compare.as_deref().map(read_results).transpose()?;
    let chosen_on = chosen_on(&sweep)?;
    if !args.output.is_dir() {
        make_folder(&args.output)?;
    }
    let folder = args.output.join("cache");
    if args.fresh && folder.is_dir() {
        std::fs::remove_dir_all(&folder).at(folder.display())?;
    }
    let cache = Cache::in_folder(&folder)?;
    let processes = Processes::new(stop, args.quiet)?;
    let runner = Runner {
        sweep: &sweep,
        cache: &cache,
        commands: &processes,
        machine: machine::this(),
        command: format!("dlopt bench {name} -o {}", args.output.display()),
        chosen_on,
    };
    let ran = runner.run();
    processes.clear();
    let results = ran?;
    write(&args.output, &results)?;
    if args.json {
        streams::print_json(&results)?;
    } else if !args.quiet {
        streams::print(&table(&results, &args.output))?;
    }
    let worse = match old {
        Some(old) => {
            let comparison = compare(&old, &results);
            messages::tell(&comparison.text());
            comparison.is_worse()
        }
        None => false,
    };
    Ok(if results.variants.iter().any(|v| v.failure.is_some()) {
        ExitCode::from(exit::COULD_NOT)
    } else if worse {
        ExitCode::from(exit::GATE_NOT_MET)
    } else {
        ExitCode::SUCCESS
    })
}

/// Says what is wrong with a step before any work: a verb or flag that is unknown, a scheme that there is not. What has no
/// input trains a network of its own.
pub(super) fn check(step: &Step, has_input: bool) -> Result<()> {
    const VERBS: [&str; 7] = ["prune", "quantize", "convert", "run", "train", "distill", "pack"];
    if !VERBS.contains(&step.verb.as_str()) {
        let likeness = |verb: &&&str| (1000.0 * strsim::jaro(verb, &step.verb)) as u32;
        let nearest = VERBS.iter().max_by_key(likeness).expect("there are verbs");
        return Err(Error::usage(format!("`{}` is no step", step.verb)).hint(format!("did you mean `{nearest}`?")));
    }
    let (input, output) = (Path::new("IN.safetensors"), Path::new("OUT.safetensors"));
    if !has_input && step.verb != "train" {
        return Err(Error::usage(format!("`{}` has nothing to begin with", step.verb))
            .hint("input = \"model.safetensors\", or a first step that trains: verb = \"train\", model = \"cnn\""));
    }
    let input = has_input.then_some(input);
    let words = words_of(step, input, output, input, Some(Path::new("DATA.safetensors")));
    let parsed = Cli::try_parse_from(std::iter::once("dlopt".to_owned()).chain(words)).map_err(|e| {
        let text = e.to_string();
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let first = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let error = Error::usage(first);
        match lines.find_map(|line| line.strip_prefix("tip: ")) {
            Some(tip) => error.hint(tip),
            None => error.hint(format!("dlopt {} --help shows its flags", step.verb)),
        }
    })?;
    match parsed.verb {
        Verb::Prune(args) => args.check(),
        Verb::Quantize(args) => args.check(),
        Verb::Convert(args) => args.check(),
        _ => Ok(()),
    }
}

/// The split that variants are chosen on.
fn chosen_on(sweep: &Sweep) -> Result<Option<String>> {
    let dataset = Dataset::open_within(&sweep.data, 0)?;
    dataset.split(&sweep.split)?;
    match &sweep.validation {
        Some(split) => dataset.split(split).map(|_| Some(split.clone())),
        None => Ok(dataset.info().splits.contains_key("validation").then(|| "validation".to_owned())),
    }
}

fn read_results(path: &Path) -> Result<Results> {
    let text = std::fs::read_to_string(path).at(path.display())?;
    serde_json::from_str(&text).map_err(|e| {
        Error::input(format!("{}: line {}: no results of a sweep: {e}", path.display(), e.line()))
            .hint("results.json of an earlier `dlopt bench`")
    })
}

fn write(folder: &Path, results: &Results) -> Result<()> {
    let files = [
        ("results.json", streams::json(results)),
        ("results.csv", report::csv(results)?),
        ("results.md", report::markdown(results)),
        ("index.html", report::html(results)),
    ];
    files.iter().try_for_each(|(name, text)| write_bytes(&folder.join(name), text.as_bytes(), true))
}

fn table(results: &Results, folder: &Path) -> String {
    let mut text = columns(&report::COLUMNS, &report::rows(results));
    for verdict in &results.verdicts {
        text.push_str(&format!("{verdict}\n"));
    }
    for warning in &results.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text.push_str(&format!("{}\n", folder.join("index.html").display()));
    text
}
