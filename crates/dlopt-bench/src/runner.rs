//! Runs a sweep: makes each variant, measures it, and asks what it is worth.
//!
//! All work is done by commands ([`Commands`]), one at a time: each in a process of its own, so that peak memory is a
//! variant's own, a crash is one variant's, and nothing else runs while a network is timed. The commands of a variant are
//! also what its reader may run.

use std::path::Path;

use dlopt_checkpoint::{Error, Result};
use serde_json::Value;

use crate::cache::{Cache, bytes_under_zstd, digest, digest_of_files};
use crate::measure::Measurement;
use crate::quality::Quality;
use crate::results::{Machine, Results, SCHEMA, VariantResult};
use crate::steps::{Doer, asked, shown};
use crate::sweep::{Sweep, Variant};

/// Resamples where only the value counts.
const FEW_RESAMPLES: &str = "--resamples=100";

/// Runs commands of dlopt.
pub trait Commands {
    /// Runs one to its end.
    ///
    /// # Errors
    /// What it said, when it ended otherwise than well; whether it was stopped from outside is told by the fault.
    fn run(&self, words: &[String]) -> Result<()>;

    /// Is told what is being done, and how much of all is done.
    fn tell(&self, what: &str, done: usize, all: usize);
}

/// A sweep that is being run.
pub struct Runner<'a> {
    /// What to do.
    pub sweep: &'a Sweep,
    /// What was done before.
    pub cache: &'a Cache,
    /// Who does it.
    pub commands: &'a dyn Commands,
    /// Where.
    pub machine: Machine,
    /// The command that runs the sweep.
    pub command: String,
    /// The split that variants are chosen on, if the data have one.
    pub chosen_on: Option<String>,
}

/// Digests of what goes in.
struct Sources {
    models: Vec<String>,
    data: String,
}

impl Runner<'_> {
    /// Runs all of it. A variant that fails does not stop the others.
    ///
    /// # Errors
    /// When models or data cannot be read, or somebody stops the work.
    pub fn run(&self) -> Result<Results> {
        let models = self.sweep.models.iter().map(|path| digest_of_files(path)).collect::<Result<_>>()?;
        let sources = Sources { models, data: digest_of_files(&self.sweep.data)? };
        let mut variants = Vec::new();
        let all = self.sweep.variants.len() + 1;
        for (done, variant) in self.sweep.variants.iter().enumerate() {
            self.commands.tell(&variant.name, done, all);
            variants.push(self.variant(variant, &sources)?);
            if variant.steps.is_empty() {
                variants.push(self.under_zstd(variant, &variants[variants.len() - 1], &sources)?);
            }
        }
        let sensitivity = match self.sweep.has_sensitivity {
            true => {
                self.commands.tell("sensitivity", all - 1, all);
                self.sensitivity(&sources)?
            }
            false => Ok(None),
        };
        let mut results = Results {
            schema: SCHEMA,
            title: self.sweep.title.clone(),
            dlopt: env!("CARGO_PKG_VERSION").to_owned(),
            machine: Machine { pinned: pinned(&variants), ..self.machine.clone() },
            data: self.sweep.data.display().to_string(),
            split: self.sweep.split.clone(),
            chosen_on: self.chosen_on.clone(),
            command: self.command.clone(),
            goal: self.sweep.goal,
            verdicts: Vec::new(),
            warnings: Vec::new(),
            variants,
            sensitivity: None,
        };
        match sensitivity {
            Ok(found) => results.sensitivity = found,
            Err(error) => results.warnings.push(format!("no sensitivity: {}", error.message())),
        }
        if self.chosen_on.is_none() && self.sweep.goal.is_some() {
            results.warnings.push(format!(
                "the data have no validation split: the verdict was chosen on {}, and is flattered",
                self.sweep.split
            ));
        }
        results.conclude();
        self.commands.tell("done", all, all);
        Ok(results)
    }

    fn variant(&self, variant: &Variant, sources: &Sources) -> Result<VariantResult> {
        let original = &self.sweep.variants[self.sweep.original_of(variant)];
        let mut result = VariantResult {
            name: variant.name.clone(),
            model: self.sweep.models[variant.model].display().to_string(),
            original: original.name.clone(),
            is_baseline: variant.is_baseline,
            commands: Vec::new(),
            failure: None,
            measurement: None,
            quality: None,
            validation: None,
            fronts: Vec::new(),
            disk_bytes: None,
        };
        let ended = self.fill(variant, sources, &mut result);
        match ended {
            Ok(()) => Ok(result),
            Err(error) if error.fault() == dlopt_checkpoint::Fault::Interrupted => Err(error),
            Err(error) => {
                result.failure = Some(error.message().to_owned());
                Ok(result)
            }
        }
    }

    fn fill(&self, variant: &Variant, sources: &Sources, result: &mut VariantResult) -> Result<()> {
        let model = &self.sweep.models[variant.model];
        let mut own = (model.clone(), sources.models[variant.model].clone());
        let doer = Doer {
            cache: self.cache,
            commands: self.commands,
            threads: self.sweep.threads,
            model: Some((model, &sources.models[variant.model])),
            data: Some((&self.sweep.data, &sources.data)),
        };
        for step in &variant.steps {
            own = doer.step(step, Some((&own.0, &own.1)), &mut result.commands)?;
        }
        let original = (!variant.steps.is_empty()).then_some(model.as_path());
        let keys = [own.1.as_str(), &sources.models[variant.model], &sources.data];
        result.measurement = Some(self.measurement(&own.0, model, &keys, &mut result.commands)?);
        result.quality = Some(self.quality(&own.0, original, &self.sweep.split, &keys, &mut result.commands)?);
        if let Some(split) = &self.chosen_on {
            result.validation = Some(self.quality(&own.0, original, split, &keys, &mut Vec::new())?);
        }
        Ok(())
    }

    fn measurement(&self, own: &Path, model: &Path, keys: &[&str], commands: &mut Vec<String>) -> Result<Measurement> {
        let batches: Vec<String> = self.sweep.batches.iter().map(usize::to_string).collect();
        let threads = self.machine.cores.to_string();
        let mut words = vec![
            "measure".to_owned(),
            own.display().to_string(),
            format!("--data={}", self.sweep.data.display()),
            format!("--split={}", self.sweep.split),
            format!("--against={}", model.display()),
            format!("--batches={}", batches.join(",")),
            format!("--seconds={}", self.sweep.seconds),
        ];
        if let Some(threads) = self.sweep.threads {
            words.push(format!("--threads={threads}"));
        }
        commands.push(shown(&words));
        // Microseconds of another machine are not this one's.
        let mut all = keys.to_vec();
        all.extend(words[3..].iter().map(String::as_str));
        all.extend(["measure pinned", &self.machine.processor, &self.machine.level, &threads]);
        asked(self.cache, self.commands, &digest(&all), words)
    }

    fn quality(
        &self,
        own: &Path,
        original: Option<&Path>,
        split: &str,
        keys: &[&str],
        commands: &mut Vec<String>,
    ) -> Result<Quality> {
        let mut words = vec![
            "eval".to_owned(),
            own.display().to_string(),
            format!("--data={}", self.sweep.data.display()),
            format!("--split={split}"),
        ];
        if let Some(original) = original {
            words.push(format!("--against={}", original.display()));
        }
        if split != self.sweep.split {
            words.push(FEW_RESAMPLES.to_owned());
        }
        if let Some(threads) = self.sweep.threads {
            words.push(format!("--threads={threads}"));
        }
        commands.push(shown(&words));
        words.push("--quiet".to_owned());
        let mut all = keys.to_vec();
        all.extend(["eval", split]);
        let report: Value = asked(self.cache, self.commands, &digest(&all), words)?;
        Quality::of(&report).ok_or_else(|| Error::input("eval gave no metric that a sweep can compare"))
    }

    /// The sensitivity of the first model; what went wrong with it is no end of the sweep.
    fn sensitivity(&self, sources: &Sources) -> Result<Result<Option<Value>>> {
        let mut words = vec!["sensitivity".to_owned(), self.sweep.models[0].display().to_string()];
        if let Some(split) = &self.chosen_on {
            words.extend([format!("--data={}", self.sweep.data.display()), format!("--split={split}")]);
        }
        words.push("--quiet".to_owned());
        let keys = ["sensitivity", &sources.models[0], &sources.data, self.chosen_on.as_deref().unwrap_or("")];
        match asked(self.cache, self.commands, &digest(&keys), words) {
            Ok(found) => Ok(Ok(Some(found))),
            Err(error) if error.fault() == dlopt_checkpoint::Fault::Interrupted => Err(error),
            Err(error) => Ok(Err(error)),
        }
    }

    /// The original as zstd packs it: fewer bytes on disk, and nothing else.
    fn under_zstd(&self, variant: &Variant, original: &VariantResult, sources: &Sources) -> Result<VariantResult> {
        let key = digest(&["zstd", "19", &sources.models[variant.model]]);
        let bytes = match self.cache.read(&key) {
            Some(known) => known,
            None => {
                let bytes = bytes_under_zstd(&self.sweep.models[variant.model])?;
                self.cache.keep(&key, &bytes)?;
                bytes
            }
        };
        let name = format!("{} under zstd", variant.name);
        let commands = vec![format!("zstd -19 {}", self.sweep.models[variant.model].display())];
        let quality = original.quality.clone();
        Ok(VariantResult { name, commands, disk_bytes: Some(bytes), measurement: None, quality, ..original.clone() })
    }
}

/// The processors that threads stayed on while variants were timed.
fn pinned(variants: &[VariantResult]) -> Vec<usize> {
    let mut each = variants.iter().filter_map(|variant| variant.measurement.as_ref());
    each.next().map_or(Vec::new(), |measurement| measurement.pinned.clone())
}
