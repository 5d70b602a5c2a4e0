//! Raw data to a dataset file.
//!
//! First all sources are opened, which says everything but their inputs. Where all samples are of one shape, so are those
//! that the steps make of them: classes, splits and the size of every tensor are known before a byte is written, and
//! inputs stream through the steps to their place in the file. Samples of any size, and steps that must learn something
//! first, go through a temporary file ([`stages`]). The statistics of the training split are taken on the way, and the
//! header, whose room was reserved, comes last. All cores work, a bounded number of samples is under way, and the same
//! data and options give the same bytes.

mod blocks;
mod digests;
mod fixed;
mod learned;
mod plan;
mod stages;
mod thumbnails;
mod write;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use dlopt_checkpoint::{Context, Error, NewFile, Progress, Result};
use serde::Serialize;

use crate::clean::{CleanOptions, Finding};
use crate::info::{DATASET_KEY, DatasetInfo, Elements, Preprocessing, RawInput, SourceFile, Standardise};
use crate::pipeline::{Pipeline, StepSpec};
use crate::readers::{About, Fixed, ReadOptions, Source, Unit, open_sources};
use crate::spool::Item;
use crate::steps::split::{SplitOptions, TRAIN};
use crate::steps::standardise::{Constant, statistics};
pub(crate) use blocks::cut;
use blocks::{Form, Ready, each_sample, probed};
use digests::{hashed, source_names};
use fixed::{lengths, same_elements};
use learned::{Learned, learned};
use plan::{Known, Plan};
use stages::{Names, splits_of, staged};
pub use thumbnails::Thumbnail;
use thumbnails::Thumbnails;
use write::Writing;

/// Most bytes that a number takes in the header: `-1.2345678e-38,`, rounded up.
const NUMBER_BYTES: usize = 16;

/// What is to be prepared, and how.
#[derive(Clone, Debug)]
pub struct PrepareOptions {
    /// Files and folders of raw data, each with the split it is for when somebody says.
    pub inputs: Vec<(Option<&'static str>, PathBuf)>,
    /// How they are read.
    pub read: ReadOptions,
    /// Names of the classes, by number; from the data when nobody says.
    pub classes: Vec<String>,
    /// What is looked for in raw samples.
    pub clean: CleanOptions,
    /// How samples are split.
    pub split: SplitOptions,
    /// What is done to what goes in, step by step; what the reader suggests when nobody says.
    pub steps: Vec<StepSpec>,
    /// What is done to sequences that are learned.
    pub sequence_steps: Vec<StepSpec>,
    /// Steps, statistics and classes of a model, which replace all of those above.
    pub like: Option<(Preprocessing, Vec<String>)>,
    /// Factor on the elements; when nobody says, 1/255 for bytes, the largest becomes 1 for pictures of other numbers,
    /// and 1 for all else.
    pub scale: Option<Scale>,
    /// Which statistics are taken off and divided by; when nobody says, those of channels of pictures, else of features.
    pub standardise: Option<Standardise>,
    /// Mean and deviation to take off and divide by, instead of those of the training split.
    pub given: Option<(Vec<f32>, Vec<f32>)>,
    /// What is done about constant features.
    pub constant: Constant,
    /// Thumbnails that are made of samples that something was found about, at most.
    pub thumbnails: usize,
    /// Threads that read, change and write; the bytes do not depend on it.
    pub threads: usize,
    /// Whether an existing dataset is replaced.
    pub force: bool,
}

impl Default for PrepareOptions {
    fn default() -> Self {
        Self {
            inputs: Vec::new(),
            read: ReadOptions::default(),
            classes: Vec::new(),
            clean: CleanOptions::default(),
            split: SplitOptions::default(),
            steps: Vec::new(),
            sequence_steps: Vec::new(),
            like: None,
            scale: None,
            standardise: None,
            given: None,
            constant: Constant::default(),
            thumbnails: 0,
            threads: 1,
            force: false,
        }
    }
}

/// A factor on the elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// This one.
    By(f32),
    /// One over the largest magnitude in the training split.
    Largest,
}

/// What was prepared.
#[derive(Clone, Debug, Serialize)]
pub struct PrepareReport {
    /// The dataset file.
    pub output: String,
    /// Its size.
    pub bytes: u64,
    /// How many samples it holds.
    pub samples: usize,
    /// What a sample is, in words.
    pub elements: String,
    /// Element type of the inputs.
    pub dtype: String,
    /// The splits, in the order they are stored.
    pub splits: Vec<SplitReport>,
    /// What it says about itself.
    pub info: DatasetInfo,
    /// Steps of the shortest and the longest series, when they differ.
    pub lengths: Option<[u32; 2]>,
    /// What cleaning found, sample by sample.
    pub findings: Vec<Finding>,
    /// Pictures of samples that something was found about.
    #[serde(skip)]
    pub rejected: Vec<Thumbnail>,
    /// What a reader should know.
    pub warnings: Vec<String>,
}

/// What is in a split.
#[derive(Clone, Debug, Serialize)]
pub struct SplitReport {
    /// Its name.
    pub name: String,
    /// How many samples it has.
    pub samples: usize,
    /// How many of each class, by class number.
    pub classes: Vec<u64>,
}

/// Prepares raw data and writes them to `output`, whole or not at all.
///
/// # Errors
/// When raw data are unreadable or do not fit together, a split would be empty, an input is NaN or infinite, a feature
/// cannot be standardised, `output` exists, the disk is full, or `stop` is set.
pub fn prepare(
    options: &PrepareOptions,
    output: &Path,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<PrepareReport> {
    check_output(options, output)?;
    let read = ReadOptions { unit: unit_of(options), ..options.read.clone() };
    let sources = open_sources(&options.inputs, &read)?;
    let abouts: Vec<&About> = sources.iter().map(|source| &source.about).collect();
    for about in &abouts {
        if about.samples == 0 || about.fixed.as_ref().is_some_and(|fixed| fixed.elements.elements() == 0) {
            let numbers = about.fixed.as_ref().map_or(0, |fixed| fixed.elements.elements());
            return Err(Error::input(format!("{}: holds {} samples of {numbers} numbers", about.name, about.samples))
                .hint("a dataset needs at least one sample for training"));
        }
    }
    let classes = options.like.as_ref().map_or(&options.classes, |(_, classes)| classes);
    let learned = learned(&abouts, classes)?;
    let pipelines = pipelines(options, &sources)?;
    let job = Job { options, output, progress, stop, sources: &sources };
    match all_fixed(&sources) {
        Some(fixed) if is_direct(&fixed, &pipelines, options) => {
            job.direct(&fixed, learned, &pipelines[0], pipelines[0].specs())
        }
        _ => job.staged(learned, pipelines),
    }
}

/// What windows of text are counted in: what the steps make tokens of.
fn unit_of(options: &PrepareOptions) -> Unit {
    let steps = options.like.as_ref().map_or(&options.steps, |(like, _)| &like.steps);
    let Some(tokenise) = steps.iter().find(|step| step.step == "tokenise") else { return Unit::Bytes };
    match tokenise.options.get("how").and_then(|how| how.as_str()) {
        Some("chars") => Unit::Chars,
        Some("words") => Unit::Words,
        Some("symbols") => Unit::Symbols,
        _ => Unit::Bytes,
    }
}

/// The steps that are wanted: those of a model, those asked for, or those that the readers suggest.
fn pipelines(options: &PrepareOptions, sources: &[Source]) -> Result<[Pipeline; 2]> {
    if let Some((like, _)) = &options.like {
        return Ok([Pipeline::of(&like.steps)?, Pipeline::of(&like.sequence_steps)?]);
    }
    let suggested = &sources[0].about.steps;
    let own =
        |asked: &[StepSpec], suggested: &[StepSpec]| Pipeline::of(if asked.is_empty() { suggested } else { asked });
    let mut steps = options.steps.clone();
    spread(&mut steps, sources);
    Ok([own(&steps, &suggested[0])?, own(&options.sequence_steps, &suggested[1])?])
}

/// Puts a whole factor before a scaling that interpolates bytes of a small range, so that rounding loses less.
fn spread(steps: &mut Vec<StepSpec>, sources: &[Source]) {
    let interpolates = |spec: &StepSpec| {
        spec.step == "resize" && spec.options.get("filter").and_then(|filter| filter.as_str()) != Some("nearest")
    };
    let Some(place) = steps.iter().position(interpolates) else { return };
    let fixed = sources.iter().map(|source| source.about.fixed.as_ref());
    let largest = fixed
        .clone()
        .map(|fixed| fixed.filter(|fixed| fixed.dtype == dlopt_checkpoint::Dtype::U8)?.largest)
        .reduce(|a, b| Some(a?.max(b?)))
        .flatten();
    let factor = largest.filter(|largest| *largest >= 1.0).map_or(1, |largest| (255.0 / largest) as u8);
    if factor > 1 {
        let options = serde_json::Map::from_iter([("by".to_owned(), factor.into())]);
        steps.insert(place, StepSpec { step: "multiply".to_owned(), options });
    }
}

/// The sources with the shape of their samples, when all of them know it.
fn all_fixed(sources: &[Source]) -> Option<Vec<(&About, &Fixed)>> {
    sources.iter().map(|source| Some((&source.about, source.about.fixed.as_ref()?))).collect()
}

/// Whether the form of all samples is known before they are read.
fn is_direct(fixed: &[(&About, &Fixed)], pipelines: &[Pipeline; 2], options: &PrepareOptions) -> bool {
    let is_plain = pipelines[0].is_empty();
    options.clean.is_empty()
        && !pipelines[0].needs_fitting()
        && fixed.iter().all(|(_, fixed)| is_plain || fixed.lengths.is_none())
}

/// One run of `prepare`.
struct Job<'a> {
    options: &'a PrepareOptions,
    output: &'a Path,
    progress: &'a dyn Progress,
    stop: &'a AtomicBool,
    sources: &'a [Source],
}

impl Job<'_> {
    /// Samples that are all of one shape, straight to their places.
    fn direct(
        &self,
        fixed: &[(&About, &Fixed)],
        learned: Learned,
        pipeline: &Pipeline,
        specs: Vec<StepSpec>,
    ) -> Result<PrepareReport> {
        let time = same_elements(fixed)?;
        let dtype = if fixed.iter().all(|(_, own)| own.dtype == dlopt_checkpoint::Dtype::U8) {
            dlopt_checkpoint::Dtype::U8
        } else {
            dlopt_checkpoint::Dtype::F32
        };
        let mut first = fixed[0].1.clone();
        first.dtype = dtype;
        if let Elements::Series { time: own, .. } = &mut first.elements {
            *own = time;
        }
        let form = if pipeline.is_empty() {
            Form { elements: first.elements.clone(), dtype }
        } else {
            let mut form = probed(&first, pipeline).map_err(|e| e.within(&fixed[0].0.name))?;
            let columns = pipeline.column_names();
            if let Elements::Vector { features, names } = &mut form.elements
                && columns.len() == *features
            {
                *names = columns;
            }
            form
        };
        let lengths = lengths(fixed, &first.elements);
        let samples: Vec<u32> = (0..learned_samples(fixed)).map(|sample| sample as u32).collect();
        let splits = splits_of(self.sources, &learned, &samples, self.options)?;
        let channels = match form.elements {
            Elements::Image { channels, .. } => Some(channels),
            _ => first.channels.filter(|_| pipeline.is_empty()),
        };
        let largest = fixed.iter().map(|(_, own)| own.largest).reduce(|a, b| Some(a?.max(b?))).flatten();
        let known = Known {
            form,
            lengths,
            sequences: None,
            largest: largest.filter(|_| channels.is_some()),
            channels,
            raw: RawInput::of(&first.elements),
            steps: [specs, Vec::new()],
        };
        let plan = Plan::new(known, splits, learned, self.options);
        let names = Names::new(self.sources);
        self.write(&plan, Vec::new(), Vec::new(), |writing| {
            let work = |item: Item| pipeline.apply(item.raw);
            each_sample(self.sources, self.options.threads, self.stop, work, |Ready { sample, item }| {
                let raw = item?;
                self.progress.advance(1);
                writing.take(&raw, &[], &|| names.of(self.sources, sample))
            })
        })
    }

    /// Samples that must all be seen first.
    fn staged(&self, learned: Learned, pipelines: [Pipeline; 2]) -> Result<PrepareReport> {
        if let Some(fixed) = all_fixed(self.sources) {
            same_elements(&fixed)?;
        }
        let mut thumbnails = Thumbnails::new(self.options.thumbnails);
        let all = staged(self.sources, learned, pipelines, self.options, &mut thumbnails, self.progress, self.stop)?;
        let plan = Plan::new(all.known, all.splits, all.learned, self.options);
        let names = Names::new(self.sources);
        let (mut spool, kept) = (all.spool, all.kept);
        self.write(&plan, all.findings, thumbnails.rejected, |writing| {
            spool.read(|item| {
                if self.stop.load(Ordering::Relaxed) {
                    return Err(Error::interrupted("stopped by a signal"));
                }
                let number = kept[writing.done] as usize;
                self.progress.advance(1);
                writing.take(&item.raw, &item.targets, &|| names.of(self.sources, number))
            })
        })
    }

    /// Writes a dataset whose samples `give` hands over in order.
    fn write(
        &self,
        plan: &Plan,
        findings: Vec<Finding>,
        rejected: Vec<Thumbnail>,
        give: impl FnOnce(&mut Writing<'_>) -> Result<()>,
    ) -> Result<PrepareReport> {
        let options = self.options;
        let mut header = plan.header();
        let placeholder = |name: String| SourceFile { name, bytes: u64::MAX, sha256: "0".repeat(64) };
        let sources: Vec<SourceFile> = self.sources.iter().flat_map(source_names).map(placeholder).collect();
        // Room for a header whose digests, sizes and statistics are not known yet.
        header.metadata.insert(DATASET_KEY.to_owned(), text_of(&plan.info(options, sources)?));
        let room = (header.to_bytes()?.len() + NUMBER_BYTES * (2 * plan.groups + 1)).next_multiple_of(8);
        let bytes = room as u64 + header.data_bytes();
        let file = NewFile::create(self.output, bytes, options.force)?;
        self.progress.phase("writing", plan.splits.of_sample.len() as u64);
        let begin_of: HashMap<String, u64> =
            header.tensors.iter().zip(header.offsets()).map(|(t, at)| (t.name.clone(), room as u64 + at)).collect();
        let is_stopped = &AtomicBool::new(false);
        let (fit, hashed) = std::thread::scope(|scope| {
            let hashing = scope.spawn(move || {
                let all: Result<Vec<Vec<SourceFile>>> =
                    self.sources.iter().map(|source| hashed(source, is_stopped)).collect();
                Ok::<_, Error>(all?.concat())
            });
            let mut writing = Writing::new(plan, &file, &begin_of);
            let fit = give(&mut writing).and_then(|()| writing.finish());
            if fit.is_err() {
                is_stopped.store(true, Ordering::Relaxed);
            }
            let hashed = hashing.join().unwrap_or_else(|_| Err(Error::input("the thread that takes digests died")));
            Ok::<_, Error>((fit?, hashed?))
        })?;
        for tensor in &header.tensors {
            if let Some(bytes) = plan.side(tensor) {
                file.write_at(begin_of[&tensor.name], &bytes)?;
            }
        }
        let mut info = plan.info(options, hashed)?;
        self.standardise(plan, &fit.moments(), &mut info)?;
        header.metadata.insert(DATASET_KEY.to_owned(), text_of(&info));
        let mut head = header.to_bytes()?;
        head.resize(room, b' ');
        head[..8].copy_from_slice(&(room as u64 - 8).to_le_bytes());
        file.write_at(0, &head)?;
        file.finish()?;
        Ok(report(plan, info, self.output, bytes, findings, rejected, self.sources))
    }

    /// Scale and statistics: those of a model, those given, or those of the training split.
    fn standardise(
        &self,
        plan: &Plan,
        moments: &[crate::steps::standardise::Moments],
        info: &mut DatasetInfo,
    ) -> Result<()> {
        let options = self.options;
        let first = |e: Error| {
            let names = self.sources.iter().filter(|s| s.split.is_none_or(|s| s == TRAIN));
            e.within(names.map(|s| &*s.about.name).next().unwrap_or_default())
        };
        if let Some((like, _)) = &options.like {
            (info.scale, info.standardise) = (like.scale, like.standardise);
            (info.mean, info.deviation) = (like.mean.clone(), like.deviation.clone());
            return Ok(());
        }
        info.scale = match plan.scale {
            Scale::By(scale) => scale,
            Scale::Largest => {
                let largest = moments.iter().fold(0.0_f64, |most, m| most.max(m.min.abs()).max(m.max.abs()));
                if largest == 0.0 {
                    return Err(Error::input("all training samples are 0, so nothing can be scaled to 1")
                        .hint("--scale 1 takes data as they are"));
                }
                (1.0 / largest) as f32
            }
        };
        if let Some((mean, deviation)) = &options.given {
            (info.mean, info.deviation) = (mean.clone(), deviation.clone());
            info.standardise = Standardise::Given;
            return info.preprocessing(plan.form.dtype).check().map_err(|e| {
                Error::usage(format!("--mean and --deviation: {}", e.message()))
                    .hint("one number for all, one a channel or feature, or one an element")
            });
        }
        let elements = &plan.form.elements;
        (info.mean, info.deviation) =
            statistics(plan.standardise, moments, info.scale, options.constant, elements).map_err(first)?;
        Ok(())
    }
}

fn learned_samples(fixed: &[(&About, &Fixed)]) -> usize {
    fixed.iter().map(|(about, _)| about.samples).sum()
}

fn check_output(options: &PrepareOptions, output: &Path) -> Result<()> {
    if output.as_os_str().to_string_lossy().ends_with('/') || output.is_dir() {
        return Err(Error::usage(format!("{}: a folder; a dataset is written as one file", output.display()))
            .hint("-o data.safetensors"));
    }
    if !output.exists() {
        return Ok(());
    }
    let own = output.canonicalize().at(output.display())?;
    for (_, input) in &options.inputs {
        if input.canonicalize().is_ok_and(|input| input == own) {
            return Err(Error::usage(format!("{}: is an input, and would be replaced", output.display()))
                .hint("write to another file with -o"));
        }
    }
    if options.force {
        return Ok(());
    }
    Err(Error::input(format!("{}: exists", output.display())).hint("--force replaces it"))
}

fn report(
    plan: &Plan,
    info: DatasetInfo,
    output: &Path,
    bytes: u64,
    findings: Vec<Finding>,
    rejected: Vec<Thumbnail>,
    sources: &[Source],
) -> PrepareReport {
    let passed_over =
        sources.iter().filter_map(|source| Some((&source.about.name, source.about.passed_over.as_ref()?)));
    let mut warnings = plan.warnings.clone();
    warnings.extend(passed_over.map(|(name, (count, first))| {
        format!("{name}: {count} other files were passed over, such as {}", first.display())
    }));
    if info.raw == Some(RawInput::Sound) && info.steps.is_empty() {
        warnings.push(
            "sounds are stored as waves, which few models take: --step log-mel or --step mfcc makes spectra".to_owned(),
        );
    }
    let counts = plan.splits.counts();
    let splits = plan.splits.names.iter().zip(counts).zip(plan.class_counts());
    let steps = plan.lengths.as_ref().and_then(|lengths| Some([*lengths.iter().min()?, *lengths.iter().max()?]));
    PrepareReport {
        output: output.display().to_string(),
        bytes,
        samples: plan.splits.of_sample.len(),
        elements: plan.form.elements.in_words(),
        dtype: dlopt_checkpoint::dtype_name(plan.form.dtype).to_owned(),
        splits: splits.map(|((name, samples), classes)| SplitReport { name: name.clone(), samples, classes }).collect(),
        info,
        lengths: steps,
        findings,
        rejected,
        warnings,
    }
}

fn text_of(info: &DatasetInfo) -> String {
    serde_json::to_string(info).expect("strings, numbers and lists of them always serialise")
}
