//! What a sweep describes: models, data, and the variants to make of each model.
//!
//! ```toml
//! model = "cnn.safetensors"         # or models = ["a.safetensors", "b.safetensors"]
//! data = "fashion.safetensors"
//! goal = "smallest within 0.5"      # points of quality below the original; or fastest, least-memory
//!
//! [[grid]]                          # one variant for every combination of what varies
//! steps = [
//!   { verb = "prune", scope = "global", vary = { sparsity = [0.5, 0.8] } },
//!   { verb = "train", epochs = 1 },
//!   { verb = "quantize", group = "channel", vary = { scheme = ["w8a16", "w4a16"] } },
//! ]
//!
//! [[variant]]                       # one variant
//! name = "by recipe"
//! steps = [{ verb = "run", recipe = "compress.toml" }]
//! ```
//! A step is a verb with its flags, as in a recipe.

mod goal;
mod grid;
mod words;

use std::ops::Range;
use std::path::PathBuf;

use dlopt_checkpoint::{Error, Result};
use serde::Deserialize;
use toml::Spanned;

pub use goal::{Goal, Wanted};
pub use words::words;

/// A sweep, every variant spelled out.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// What the report is called.
    pub title: String,
    /// The models that variants are made of.
    pub models: Vec<PathBuf>,
    /// The dataset, made by `dlopt prepare`.
    pub data: PathBuf,
    /// The split that figures are of.
    pub split: String,
    /// The split that variants are chosen on; nothing where the data have none.
    pub validation: Option<String>,
    /// Samples that run together, for throughput; latency is of one.
    pub batches: Vec<usize>,
    /// Seconds that each timing takes.
    pub seconds: f64,
    /// Threads of timings and steps; all cores when nothing is said.
    pub threads: Option<u16>,
    /// What the verdict is about.
    pub goal: Option<Goal>,
    /// Whether the sensitivity of each tensor is measured for the report.
    pub has_sensitivity: bool,
    /// The variants, in the order of the file, for each model in turn.
    pub variants: Vec<Variant>,
}

/// A variant of a model.
#[derive(Clone, Debug)]
pub struct Variant {
    /// Its own name; no two are alike.
    pub name: String,
    /// The position of its model.
    pub model: usize,
    /// What is done to the model, in order; nothing for the original.
    pub steps: Vec<Step>,
    /// Whether it is in every sweep, to compare with.
    pub is_baseline: bool,
}

/// One verb with its flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The verb.
    pub verb: String,
    /// Its flags, `--sparsity=0.5`.
    pub flags: Vec<String>,
    /// Where it stands in the file; 0 for a baseline's.
    pub line: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    title: Option<String>,
    model: Option<PathBuf>,
    #[serde(default)]
    models: Vec<PathBuf>,
    data: PathBuf,
    split: Option<String>,
    validation: Option<String>,
    batches: Option<Vec<usize>>,
    seconds: Option<f64>,
    threads: Option<u16>,
    goal: Option<Spanned<String>>,
    sensitivity: Option<bool>,
    #[serde(default)]
    grid: Vec<grid::Grid>,
    #[serde(default)]
    variant: Vec<One>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    name: String,
    steps: Vec<Spanned<toml::Table>>,
}

impl Sweep {
    /// Reads a description. `check` is given every step once, to say what is wrong with it before any work.
    ///
    /// # Errors
    /// When the text is no sweep: the file's name, the line, and the nearest name where one is unknown.
    pub fn parse(text: &str, name: &str, check: impl Fn(&Step) -> Result<()>) -> Result<Self> {
        let place = Place { text, name };
        let file: File = toml::from_str(text).map_err(|e| place.broken(&e))?;
        let models: Vec<PathBuf> = file.model.into_iter().chain(file.models).collect();
        if models.is_empty() {
            return Err(Error::usage(format!("{name}: no model")).hint("model = \"cnn.safetensors\""));
        }
        let goal = file.goal.map(|goal| Goal::parse(goal.get_ref()).map_err(|e| e.within(place.line(goal.span()))));
        let batches = file.batches.unwrap_or_else(|| vec![32, 250]);
        if batches.contains(&0) {
            return Err(Error::usage(format!("{name}: batches: a batch of 0 samples")));
        }
        let seconds = file.seconds.unwrap_or(0.5);
        if !(seconds > 0.0 && seconds <= 3600.0) {
            return Err(Error::usage(format!("{name}: seconds: {seconds} is not between 0 and 3600")));
        }
        let mut own: Vec<(String, Vec<Step>)> = Vec::new();
        for one in &file.variant {
            let steps = one.steps.iter().map(|step| place.step(step.get_ref(), step.span())).collect::<Result<_>>()?;
            own.push((one.name.clone(), steps));
        }
        for grid in &file.grid {
            own.extend(grid.variants(&place)?);
        }
        let mut seen: Vec<&Step> = Vec::new();
        for step in own.iter().flat_map(|(_, steps)| steps) {
            if !seen.contains(&step) {
                check(step).map_err(|e| e.within(format!("{name}: line {}", step.line)))?;
                seen.push(step);
            }
        }
        let mut sweep = Self {
            title: file.title.unwrap_or_else(|| name.to_owned()),
            models,
            data: file.data,
            split: file.split.unwrap_or_else(|| "test".to_owned()),
            validation: file.validation,
            batches,
            seconds,
            threads: file.threads,
            goal: goal.transpose()?,
            has_sensitivity: file.sensitivity.unwrap_or(true),
            variants: Vec::new(),
        };
        sweep.add_all(&own);
        Ok(sweep)
    }

    /// Baselines and variants of each model, under names that differ.
    fn add_all(&mut self, own: &[(String, Vec<Step>)]) {
        let flags = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let rtn = |scheme: &str| Step {
            verb: "quantize".to_owned(),
            flags: flags(&[scheme, "--group=channel", "--method=rtn"]),
            line: 0,
        };
        let baselines = [
            ("original".to_owned(), Vec::new()),
            ("RTN int8".to_owned(), vec![rtn("--scheme=w8a16")]),
            ("RTN int4".to_owned(), vec![rtn("--scheme=w4a16")]),
        ];
        for model in 0..self.models.len() {
            let all = baselines.iter().map(|v| (v, true)).chain(own.iter().map(|v| (v, false)));
            for ((name, steps), is_baseline) in all {
                let stem = self.models[model].file_stem().unwrap_or_default().to_string_lossy().into_owned();
                let whole = if self.models.len() > 1 { format!("{stem}: {name}") } else { name.clone() };
                let mut name = whole.clone();
                let mut count = 1;
                while self.variants.iter().any(|other| other.name == name) {
                    count += 1;
                    name = format!("{whole} ({count})");
                }
                self.variants.push(Variant { name, model, steps: steps.clone(), is_baseline });
            }
        }
    }

    /// The unchanged model of a variant: its position among the variants.
    pub fn original_of(&self, variant: &Variant) -> usize {
        let is_it = |other: &Variant| other.model == variant.model && other.steps.is_empty();
        self.variants.iter().position(is_it).expect("every model has its original")
    }
}

/// The file's text, for messages.
pub(crate) struct Place<'a> {
    text: &'a str,
    name: &'a str,
}

impl Place<'_> {
    /// `sweep.toml: line 7`.
    fn line(&self, span: Range<usize>) -> String {
        format!("{}: line {}", self.name, self.line_number(span.start))
    }

    fn line_number(&self, at: usize) -> usize {
        self.text[..at.min(self.text.len())].matches('\n').count() + 1
    }

    fn step(&self, table: &toml::Table, span: Range<usize>) -> Result<Step> {
        let (verb, flags) = words(table).map_err(|e| e.within(self.line(span.clone())))?;
        Ok(Step { verb, flags, line: self.line_number(span.start) })
    }

    /// What toml says, with the line and the nearest of the names that it lists.
    fn broken(&self, error: &toml::de::Error) -> Error {
        let span = error.span().unwrap_or_default();
        let line = self.line_number(span.start);
        let found = self.text.lines().nth(line - 1).unwrap_or_default().trim();
        let message = error.message().replace('\n', ", ");
        let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
        let whole = Error::usage(format!("{}: line {line}, `{found}`: {message}", self.name));
        let nearest = match names.split_first() {
            Some((unknown, known)) if message.starts_with("unknown field") => {
                known.iter().max_by(|a, b| strsim::jaro(a, unknown).total_cmp(&strsim::jaro(b, unknown)))
            }
            _ => None,
        };
        match nearest {
            Some(near) => whole.hint(format!("did you mean `{near}`?")),
            None => whole.hint("dlopt bench --help shows a sweep"),
        }
    }
}

#[cfg(test)]
mod tests;
