//! Who teaches, and how answers are kept: flags that `distill` and `logits` share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, ValueEnum};
use dlopt_checkpoint::{Checkpoint, Error, Progress, Result};
use dlopt_data::Dataset;
use dlopt_distill::{Facts, Keeping, Making, Teacher, Top, make};
use dlopt_train::Settings;

use super::training::{augmenter, leave_no_empty};
use crate::job;
use crate::progress::Bar;

/// Samples that a teacher is asked at once for a cache.
const CACHE_BATCH: usize = 256;

/// Who teaches.
#[derive(Args, Debug)]
pub(super) struct TeacherArgs {
    /// A network to learn from: a checkpoint, dense or compressed; of several the answers are averaged, by their weights
    #[arg(long, value_name = "CHECKPOINT[=WEIGHT]", required = true)]
    teacher: Vec<String>,
}

/// How answers are kept in a file.
#[derive(Args, Debug)]
pub(super) struct CacheArgs {
    /// Keep only so many of the largest logits of each row, and the mass of the others
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    top: Option<u32>,

    /// The temperature at which the mass of the others is exact [default: that of the losses, else 1]
    #[arg(long, value_name = "T", requires = "top")]
    top_temperature: Option<f64>,

    /// Type of the kept values [default: f16]
    #[arg(long, value_enum)]
    cache_dtype: Option<CacheDtype>,
}

/// Type of kept values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CacheDtype {
    /// 16 bits
    F16,
    /// 32 bits
    F32,
}

impl TeacherArgs {
    /// The paths of the checkpoints.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.teacher.iter().map(|text| PathBuf::from(named(text).0)).collect()
    }

    /// The checkpoints, each opened once, with how much it counts.
    pub(super) fn checkpoints(&self) -> Result<Vec<(Checkpoint, f64)>> {
        let open = |text: &String| {
            let (path, weight) = named(text);
            Ok((job::open_whole(Path::new(path))?, weight))
        };
        self.teacher.iter().map(open).collect()
    }
}

/// A path, and the weight behind it; a name that holds `=` is a path if it is there.
fn named(text: &str) -> (&str, f64) {
    match text.rsplit_once('=') {
        Some((path, weight)) if !Path::new(text).exists() => match weight.trim().parse() {
            Ok(weight) => (path, weight),
            Err(_) => (text, 1.0),
        },
        _ => (text, 1.0),
    }
}

impl CacheArgs {
    /// How answers are to be kept; `temperature` is that of the losses.
    pub(super) fn keeping(&self, temperature: Option<f64>) -> Result<Keeping> {
        let temperature = self.top_temperature.or(temperature).unwrap_or(1.0);
        if !(temperature.is_finite() && temperature > 0.0) {
            return Err(Error::usage(format!("--top-temperature is {temperature}; it must be more than 0")));
        }
        let top = self.top.map(|count| Top { count: count as usize, temperature });
        Ok(Keeping { is_half: self.cache_dtype != Some(CacheDtype::F32), top })
    }

    /// Refuses to be told how answers are kept where none are.
    pub(super) fn check_unsaid(&self) -> Result<()> {
        if self.top.is_none() && self.cache_dtype.is_none() {
            return Ok(());
        }
        Err(Error::usage("--top and --cache-dtype say how answers are kept, and none are")
            .hint("--cache-teacher FILE keeps them"))
    }

    /// Refuses a cache that is kept otherwise than was said.
    pub(super) fn check(&self, name: &str, found: &Keeping) -> Result<()> {
        let (count, temperature) = (found.top.map(|top| top.count), found.top.map(|top| top.temperature));
        let has_other_type = self.cache_dtype.is_some_and(|own| (own == CacheDtype::F16) != found.is_half);
        let has_other_top = self.top.is_some_and(|own| count != Some(own as usize))
            || self.top_temperature.is_some_and(|own| temperature.is_none_or(|kept| (kept - own).abs() > 1e-9 * own));
        if !has_other_type && !has_other_top {
            return Ok(());
        }
        let kept = match count {
            None => "all logits".to_owned(),
            Some(count) => format!("the {count} largest logits"),
        };
        let bits = if found.is_half { 16 } else { 32 };
        Err(Error::usage(format!(
            "{name}: keeps {kept} of a row in {bits} bits, and --top or --cache-dtype say otherwise"
        ))
        .hint("leave them out, or name another file for --cache-teacher"))
    }
}

/// Asks a teacher for the whole cache.
pub(super) fn fill(
    path: &Path,
    facts: &Facts,
    teacher: &mut Teacher,
    (dataset, settings): (&Arc<Dataset>, &Settings),
    (threads, folder, force, quiet): (usize, &Path, bool, bool),
    stop: &AtomicBool,
) -> Result<()> {
    let bar = Bar::of_samples(quiet);
    bar.phase("teacher", facts.rows() as u64);
    let mut told = 0;
    let mut progress = |done: usize| {
        bar.advance((done - told) as u64);
        told = done;
    };
    let augmenter = augmenter(settings, dataset)?;
    let mut making = Making {
        dataset,
        augmenter: augmenter.as_ref(),
        batch: CACHE_BATCH,
        threads,
        folder,
        stop,
        progress: &mut progress,
    };
    let made = make(path, facts, teacher, &mut making, force);
    bar.clear();
    made.inspect_err(|_| leave_no_empty(folder))
}
