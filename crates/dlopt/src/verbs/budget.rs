//! A scheme or a share of zeros for each tensor under a budget: flags of `quantize`, and what follows from them.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytesize::ByteSize;
use clap::Args;
use dlopt_bench::budget::Solution;
use dlopt_bench::sensitivity::{Change, Options, Quality, Watched};
use dlopt_bench::{HIT, Menu, Picked};
use dlopt_checkpoint::{Checkpoint, Error, Pass, Result, write_bytes};
use dlopt_kernels::nn::Team;
use dlopt_model::config_of;
use dlopt_quantize::{Quantize, Scheme};

use super::quantize::{QuantizePass, SCHEME};
use super::sensitivity::{JudgingArgs, Measure, measured_costs, method};
use crate::args::{IoArgs, SelectArgs};
use crate::job;
use crate::messages;
use crate::tables::{columns, grouped};

/// What is chosen among unless asked otherwise: what runtimes may read. Each tensor may also stay as it is.
const CHOICES: [&str; 19] = [
    "f16",
    "w8a16:32",
    "w8a16:channel",
    "w4a16_asym:16",
    "w4a16_asym:32",
    "w4a16:32",
    "w4a16:64",
    "w4a16:128",
    "w4a16:channel",
    "w3a16_asym:32",
    "w3a16:32",
    "w3a16:64",
    "w3a16_asym:channel",
    "w3a16:channel",
    "w2a16_asym:16",
    "w2a16_asym:32",
    "w2a16_asym:64",
    "w2a16_asym:channel",
    "w2a16:channel",
];
/// The same where dlopt alone reads the model anyway.
const OWN_CHOICES: [&str; 10] = [
    "codebook2",
    "codebook3",
    "codebook4",
    "codebook5",
    "codebook6",
    "codebook3:channel",
    "codebook4:channel",
    "0.8",
    "0.9",
    "0.95",
];
/// How scales are chosen unless asked otherwise: few bits need the better method.
const METHOD: &str = "mse";

/// A scheme or a share of zeros for each tensor.
#[derive(Args, Debug, Default, Clone)]
pub(crate) struct BudgetArgs {
    /// Choose a scheme or a share of zeros for each tensor so that the whole output takes at most this, such as 12MB, with the least damage
    #[arg(long, value_name = "SIZE", group = "goal")]
    target_size: Option<ByteSize>,

    /// The same for so many bits a weight, scales included, over the selected tensors
    #[arg(long, value_name = "BITS", group = "goal")]
    target_bits: Option<f64>,

    /// Choose the smallest that loses at most so many points of accuracy on the data, such as 0.5%; of the loss where
    /// outputs are numbers
    #[arg(long, value_name = "PERCENT", value_parser = percent, group = "goal", requires = "data")]
    max_loss: Option<f64>,

    /// What to choose among: a scheme such as w4a16:32, or a share of zeros such as 0.8, stored as a bitmask; may be
    /// repeated [default: integers of 2 to 8 bits and f16; where dlopt alone reads the model, codebooks and zeros too]
    #[arg(long, value_name = "CHANGE", requires = "goal")]
    choice: Vec<String>,

    /// Write what was chosen to this file, as a recipe for `dlopt run` to be edited and run again
    #[arg(long, value_name = "FILE", requires = "goal")]
    recipe_out: Option<PathBuf>,

    #[command(flatten)]
    judging: JudgingArgs,
}

fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse::<f64>() {
        Ok(percent) if percent >= 0.0 && percent.is_finite() => Ok(percent),
        _ => Err("wanted percent, 0 or more, such as 0.5%".to_owned()),
    }
}

/// What is to be reached.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    Size(u64),
    Bits(f64),
    /// Percent.
    Loss(f64),
}

impl BudgetArgs {
    /// Those of a recipe, which has one goal.
    pub(super) fn of_recipe(target_size: Option<ByteSize>, choice: &[String], judging: &JudgingArgs) -> Self {
        Self { target_size, choice: choice.to_vec(), judging: judging.clone(), ..Self::default() }
    }

    /// What is to be reached, if anything.
    pub(super) fn goal(&self) -> Result<Option<Goal>> {
        let goal = match (self.target_size, self.target_bits, self.max_loss) {
            (Some(size), _, _) => Some(Goal::Size(size.as_u64())),
            (_, Some(bits), _) if bits.is_finite() && bits > 0.0 => Some(Goal::Bits(bits)),
            (_, Some(bits), _) => return Err(Error::usage(format!("--target-bits {bits}: wanted more than 0"))),
            (_, _, Some(loss)) => Some(Goal::Loss(loss)),
            _ => None,
        };
        let judging = &self.judging;
        if goal.is_none()
            && (judging.data.is_some()
                || judging.split.is_some()
                || judging.samples.is_some()
                || judging.measure.is_some())
        {
            return Err(Error::usage("--data, --split, --samples and --measure choose schemes under a budget")
                .hint("quantize --target-size, --target-bits or --max-loss; run --budget"));
        }
        Ok(goal)
    }
}

/// What was chosen and why.
struct Chosen {
    menu: Menu,
    solution: Solution,
    measure: Measure,
    /// What it reaches, in words.
    reached: String,
}

/// Chooses a scheme for each tensor, says what and why, and writes it as a recipe where that is asked for.
pub(super) fn choose(
    args: &BudgetArgs,
    goal: Goal,
    pass: &QuantizePass,
    io: &IoArgs,
    stop: &Arc<AtomicBool>,
) -> Result<Vec<Box<dyn Pass>>> {
    if let Some(flag) = pass.given() {
        return Err(Error::usage(format!("{flag} says how all tensors are stored, and a budget chooses for each"))
            .hint("--choice SCHEME says what is chosen among"));
    }
    let Some(input) = io.input.as_deref().filter(|path| *path != Path::new("-")) else {
        return Err(Error::usage("a choice under a budget reads the model twice, and standard input comes once")
            .hint("save it to a file first"));
    };
    job::check_files(
        &[("--output", io.output.output.as_deref()), ("--recipe-out", args.recipe_out.as_deref())],
        &[Some(input), args.judging.data.as_deref()],
    )?;
    if let Some(path) = args.recipe_out.as_deref().filter(|path| path.exists() && !io.output.force) {
        return Err(Error::input(format!("{}: exists", path.display())).hint("--force replaces it"));
    }
    let checkpoint = job::open_for(input, &io.output)?;
    let team = Arc::new(Team::new(io.output.work.threads()));
    let base = base(pass)?;
    let options = options(args, &base, &checkpoint)?;
    let (measure, mut judges, _) = args.judging.judges(&checkpoint, &team, stop)?;
    let costs = measured_costs(&checkpoint, &options, &mut judges, &team, io.output.report.quiet)?;
    drop(judges);
    let menu = Menu::of(&checkpoint.header, &costs)?;
    let (solution, reached) = match goal {
        Goal::Size(bytes) => sized(&menu, &base, &checkpoint, io, bytes)?,
        Goal::Bits(bits) => (menu.fit_bits(bits)?, String::new()),
        Goal::Loss(percent) => held(args, &menu, &base, &checkpoint, &team, percent, stop)?,
    };
    let picked = menu.picked(&base, &solution.picks)?;
    if picked.is_nothing() {
        return Err(Error::input(format!("{}: every tensor may stay as it is", checkpoint.name))
            .hint("nothing is to be quantized: take it as it is, or ask for less"));
    }
    let chosen = Chosen { menu, solution, measure, reached };
    if !io.output.report.quiet {
        messages::tell(&chosen.text());
    }
    if let Some(path) = &args.recipe_out {
        let recipe = chosen.recipe(goal, &picked, pass.select(), base.method.plugin().name);
        write_bytes(path, recipe.as_bytes(), io.output.force)?;
    }
    picked.passes()
}

/// The pass, but for its rules.
fn base(pass: &QuantizePass) -> Result<Quantize> {
    let mut quantize = Quantize::new(Scheme::parse(SCHEME)?);
    quantize.method = method(pass.method().unwrap_or(METHOD))?;
    quantize.selection = pass.select().selection()?;
    quantize.allow_nonfinite = pass.select().allow_nonfinite;
    Ok(quantize)
}

fn options(args: &BudgetArgs, base: &Quantize, checkpoint: &Checkpoint) -> Result<Options> {
    // Networks of dlopt's own kind and those that it knows by their tensors, and what no config describes.
    let is_own = || Ok(checkpoint.header.config()?.is_none() || config_of(checkpoint).is_ok());
    let texts: Vec<&str> = match args.choice.is_empty() {
        true if is_own()? => CHOICES.into_iter().chain(OWN_CHOICES).collect(),
        true => CHOICES.to_vec(),
        false => args.choice.iter().map(String::as_str).collect(),
    };
    let changes: Vec<Change> = texts.iter().map(|text| Change::parse(text)).collect::<Result<_>>()?;
    Ok(Options {
        changes,
        method: base.method,
        selection: base.selection.clone(),
        allow_nonfinite: base.allow_nonfinite,
    })
}

/// The best choice whose output takes at most `bytes`.
fn sized(menu: &Menu, base: &Quantize, checkpoint: &Checkpoint, io: &IoArgs, bytes: u64) -> Result<(Solution, String)> {
    let fitted =
        menu.fit_file(bytes, |picks| job::planned_bytes(checkpoint, &io.output, &menu.picked(base, picks)?.passes()?))?;
    let share = fitted.file_bytes as f64 / bytes as f64;
    let mut reached = format!("{} of {} bytes ({:.2}%)", grouped(fitted.file_bytes), grouped(bytes), 100.0 * share);
    if share < HIT {
        reached.push_str(": the largest below it that costs less than smaller ones; tensors come in steps");
    }
    Ok((fitted.solution, reached))
}

/// The smallest choice along the solver's path that keeps the quality on the whole split.
fn held(
    args: &BudgetArgs,
    menu: &Menu,
    base: &Quantize,
    checkpoint: &Checkpoint,
    team: &Arc<Team>,
    percent: f64,
    stop: &Arc<AtomicBool>,
) -> Result<(Solution, String)> {
    let Some((dataset, split)) = args.judging.data()? else { return Err(Error::usage("--max-loss needs --data DATA")) };
    let most = args.judging.samples.map_or(usize::MAX, |samples| samples as usize);
    let mut watched = Watched::open(checkpoint, dataset, &split, most, team, Arc::clone(stop))?;
    let before = watched.baseline();
    let mut quality = |picks: &[usize]| -> Result<Quality> {
        let picked = menu.picked(base, picks)?;
        if picked.is_nothing() {
            return Ok(before);
        }
        let weights = picked.changed_weights(checkpoint)?;
        let changed: Vec<(&str, &[f32])> = weights.iter().map(|(name, values)| (name.as_str(), &values[..])).collect();
        watched.quality(&changed)
    };
    let holds = |now: &Quality| match (before.accuracy, now.accuracy) {
        (Some(before), Some(now)) => before - now <= percent / 100.0 + 1e-12,
        _ => now.loss <= before.loss * (1.0 + percent / 100.0),
    };
    let picks = menu.give_back_until(|picks| Ok(holds(&quality(picks)?)))?;
    let now = quality(&picks)?;
    let choices = || menu.items.iter().zip(&picks).map(|(item, pick)| item.choices[*pick]);
    let bytes = choices().map(|c| c.bytes).sum();
    let damage = choices().map(|c| c.damage).sum();
    let reached = match (before.accuracy, now.accuracy) {
        (Some(before), Some(now)) => {
            format!(
                "accuracy on {split} {:.2}%, before {:.2}% (at most {percent} points less)",
                100.0 * now,
                100.0 * before
            )
        }
        _ => format!("loss on {split} {:.5}, before {:.5} (at most {percent} % more)", now.loss, before.loss),
    };
    // Along the path a choice is the linear program's own: nothing of its size costs less.
    Ok((Solution { picks, bytes, damage, bound: damage, is_optimal: true }, reached))
}

impl Chosen {
    /// What was chosen for each tensor, what that costs, and what less would.
    fn text(&self) -> String {
        let rows: Vec<Vec<String>> = (0..self.menu.items.len())
            .map(|at| {
                let (item, pick) = (&self.menu.items[at], self.solution.picks[at]);
                let choice = item.choices[pick];
                let bits = 8.0 * choice.bytes as f64 / self.menu.weights[at].max(1) as f64;
                let smaller = (0..item.choices.len())
                    .filter(|c| item.choices[*c].bytes < choice.bytes)
                    .min_by(|a, b| item.choices[*a].damage.total_cmp(&item.choices[*b].damage));
                let (less, cost) = smaller.map_or(("-".to_owned(), "-".to_owned()), |c| {
                    (self.label(at, c), format!("{:.2e}", item.choices[c].damage))
                });
                vec![
                    format!("  {}", item.name),
                    self.label(at, pick),
                    format!("{bits:.2}"),
                    grouped(choice.bytes),
                    format!("{:.2e}", choice.damage),
                    less,
                    cost,
                ]
            })
            .collect();
        let mut text = columns(&["  tensor", "becomes", "bits", "bytes", "damage", "less would be", "costing"], &rows);
        let _ = writeln!(text, "chosen: {}", self.summary());
        text
    }

    fn label(&self, item: usize, pick: usize) -> String {
        match self.menu.change(item, pick) {
            None => "as it is".to_owned(),
            Some(Change::Sparsity(share)) => format!("{} % zeros", 100.0 * share),
            Some(change) => change.text(),
        }
    }

    fn summary(&self) -> String {
        let bits = 8.0 * self.solution.bytes as f64 / self.menu.weights.iter().sum::<u64>().max(1) as f64;
        let gap = match (self.solution.is_optimal, self.solution.gap()) {
            (true, _) => "no other choice predicts less".to_owned(),
            (false, gap) => format!("at most {:.3} % from the least possible", 100.0 * gap),
        };
        let reached = if self.reached.is_empty() { String::new() } else { format!("{}; ", self.reached) };
        format!("{reached}{bits:.3} bits a weight, {} {:.3e}; {gap}", self.measure.unit(), self.solution.damage)
    }

    /// The choice as `dlopt run` reads it: a pass that sets zeros, a pass that quantizes, or both.
    fn recipe(&self, goal: Goal, picked: &Picked, select: &SelectArgs, method: &str) -> String {
        let goal = match goal {
            Goal::Size(bytes) => format!("--target-size {bytes}B"),
            Goal::Bits(bits) => format!("--target-bits {bits}"),
            Goal::Loss(percent) => format!("--max-loss {percent}%"),
        };
        let mut text = format!(
            "# Chosen by `dlopt quantize {goal}`; edit the rules and run it again:\n\
             #   dlopt run THIS.toml MODEL -o OUT\n# {}\n",
            self.summary(),
        );
        let costs = self.costs();
        if !picked.shares.is_empty() {
            text.push_str("\n[[pass]]\nverb = \"prune\"\nstore = \"bitmask\"\n");
            let rules = picked.shares.iter().map(|rule| (rule.glob.text(), rule.text()));
            text.push_str(&pass_text(select, rules, &costs));
        }
        if picked.quantizes() {
            let _ = writeln!(text, "\n[[pass]]\nverb = \"quantize\"\nmethod = {}", quoted(method));
            let rules = picked.schemes.iter().map(|rule| (rule.glob.text(), rule.text()));
            text.push_str(&pass_text(select, rules, &costs));
        }
        text
    }

    /// What the choice costs each tensor, by name.
    fn costs(&self) -> HashMap<&str, String> {
        let each = self.menu.tensors.iter().zip(&self.menu.items).zip(&self.solution.picks);
        each.flat_map(|((names, item), pick)| {
            let choice = item.choices[*pick];
            names
                .iter()
                .map(move |name| (name.as_str(), format!("{} bytes, damage {:.2e}", choice.bytes, choice.damage)))
        })
        .collect()
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// What the passes of a recipe have in common, and their rules, with what each costs its tensor.
fn pass_text<'a>(
    select: &SelectArgs,
    rules: impl Iterator<Item = (&'a str, String)>,
    costs: &HashMap<&str, String>,
) -> String {
    let mut text = String::new();
    for (key, texts) in [("include", &select.include), ("exclude", &select.exclude)] {
        if !texts.is_empty() {
            let list = texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ");
            let _ = writeln!(text, "{key} = [{list}]");
        }
    }
    if select.tied == crate::args::Tied::Both {
        text.push_str("tied = \"both\"\n");
    }
    if select.allow_nonfinite {
        text.push_str("allow_nonfinite = true\n");
    }
    text.push_str("rule = [\n");
    for (name, rule) in rules {
        let cost = costs.get(name).map_or("", String::as_str);
        let _ = writeln!(text, "  {},  # {cost}", quoted(&rule));
    }
    text.push_str("]\n");
    text
}
