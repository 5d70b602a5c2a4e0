//! Samples whose form is not known before all of them were seen: they wait in a temporary file between stages, a stage
//! ending where a step must learn from the training samples.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use dlopt_checkpoint::{Error, Progress, Result};

use super::PrepareOptions;
use super::blocks::{Form, Ready, each_sample, form_of, token_dtype};
use super::learned::Learned;
use super::plan::{Known, Sequences};
use super::thumbnails::Thumbnails;
use crate::clean::{Cleaner, Facts, Finding, examine};
use crate::info::{Elements, RawInput};
use crate::ordered::ordered;
use crate::pipeline::{Pipeline, StepSpec};
use crate::raw::{Raw, Series};
use crate::readers::{Item, Samples, Source};
use crate::spool::Spool;
use crate::steps::split::{Splits, TRAIN, assign};

/// What makes tokens of texts, and of texts that are learned, where no other step makes numbers of them.
const DEFAULT_TOKENS: [&str; 2] = ["tokenise=bytes", "tokenise=bytes,bounds=true"];

/// Samples that are changed together between two stages.
const SAMPLES_PER_JOB: usize = 32;

/// All samples after all steps.
pub(super) struct Staged {
    pub(super) spool: Spool,
    pub(super) known: Known,
    pub(super) splits: Splits,
    pub(super) learned: Learned,
    pub(super) findings: Vec<Finding>,
    /// The number that each sample had in its sources.
    pub(super) kept: Vec<u32>,
}

/// Reads, cleans, splits, and takes all steps.
pub(super) fn staged(
    sources: &[Source],
    mut learned: Learned,
    wanted: [Pipeline; 2],
    options: &PrepareOptions,
    thumbnails: &mut Thumbnails,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Staged> {
    let names = Names::new(sources);
    let mut done = [Pipeline::default(), Pipeline::default()];
    let [inputs, sequences] = wanted;
    let (first_inputs, inputs) = inputs.split_at_fitting();
    let (first_sequences, sequences) = sequences.split_at_fitting();
    let first = [first_inputs, first_sequences];
    let mut cleaner = Cleaner::new(&options.clean);
    let mut kept: Vec<u32> = Vec::with_capacity(names.samples);
    let mut raw_kind: Option<RawInput> = None;
    let mut rates = Rates::default();
    // A step that brings sounds to one rate comes first, or their rates must agree.
    let is_resampled = first[0].specs().first().is_some_and(|spec| spec.step == "resample");
    let mut texts = [false; 2];
    let mut spool = Spool::create(&options.read.tmp_dir)?;
    progress.phase("reading", names.samples as u64);
    let work = |item: Item| -> Result<(Item, Facts, Seen)> {
        let (raw, facts) = examine(item.raw, &options.clean)?;
        let seen = Seen::of(&raw, options.thumbnails > 0);
        let raw = first[0].apply(raw)?;
        let targets = item.targets.into_iter().map(|target| first[1].apply(target)).collect::<Result<_>>()?;
        Ok((Item { raw, targets }, facts, seen))
    };
    each_sample(sources, options.threads, stop, work, |Ready { sample, item }| {
        progress.advance(1);
        let name = names.of(sources, sample);
        let (item, facts, seen) = match item {
            Ok(ready) => ready,
            Err(why) => return cleaner.unreadable(&name, why),
        };
        let before = cleaner.findings.len();
        let stays = cleaner.stays(&name, &facts)?;
        if let (Some(finding), Some(thumbnail)) = (cleaner.findings.get(before), &seen.thumbnail) {
            thumbnails.reject(thumbnail, finding);
        }
        if !stays {
            return Ok(());
        }
        if let Some(rate) = seen.rate.filter(|_| !is_resampled) {
            rates.see(&name, rate)?;
        }
        texts = [matches!(item.raw, Raw::Text(_)), matches!(item.targets.first(), Some(Raw::Text(_)))];
        raw_kind.get_or_insert(seen.kind);
        kept.push(sample as u32);
        spool.push(&item)
    })?;
    let [first_inputs, first_sequences] = first;
    done[0].extend(first_inputs);
    done[1].extend(first_sequences);
    let outliers = cleaner.outliers(|place| names.of(sources, kept[place] as usize))?;
    if !outliers.is_empty() {
        (spool, kept) = without(spool, &kept, &outliers, options)?;
    }
    if kept.is_empty() {
        return Err(Error::input("no sample is left after cleaning").hint("--json lists what was found about each"));
    }
    learned.keep(&kept);
    let splits = splits_of(sources, &learned, &kept, options)?;

    let mut left = [inputs, sequences];
    // Text that nobody makes numbers of is read byte by byte.
    for ((is_text, left), default) in texts.into_iter().zip(&mut left).zip(DEFAULT_TOKENS) {
        if is_text && left.is_empty() {
            *left = Pipeline::of(&[Pipeline::spec(default)?])?;
        }
    }
    let mut state = Stage { spool, names: &names, sources, kept: &kept, splits: &splits, options, stop };
    while !left.iter().all(Pipeline::is_empty) {
        left = state.fit(left)?;
        let [mut own, targets] = left;
        let mut now = [Pipeline::default(), Pipeline::default()];
        let mut rest = [Pipeline::default(), Pipeline::default()];
        (now[0], rest[0]) = std::mem::take(&mut own).split_at_fitting();
        (now[1], rest[1]) = targets.split_at_fitting();
        state.apply(&now, progress)?;
        let [inputs, sequences] = now;
        done[0].extend(inputs);
        done[1].extend(sequences);
        left = rest;
    }
    let known = state.known(&done, &learned, raw_kind)?;
    let spool = state.spool;
    Ok(Staged { spool, known, splits, learned, findings: cleaner.findings, kept })
}

/// What is kept of a raw sample until it is decided over.
struct Seen {
    kind: RawInput,
    /// Of a sound.
    rate: Option<u32>,
    thumbnail: Option<crate::raw::Image>,
}

impl Seen {
    fn of(raw: &Raw, wants_thumbnail: bool) -> Self {
        let kind = match raw {
            Raw::Image(_) => RawInput::Image,
            Raw::Series(Series { rate: Some(_), .. }) => RawInput::Sound,
            Raw::Series(Series { features, .. }) => RawInput::Series { features: *features },
            Raw::Row(values) => RawInput::Row { columns: (0..values.len()).map(|at| at.to_string()).collect() },
            Raw::Text(_) | Raw::Tokens(_) => RawInput::Text,
        };
        let thumbnail = if wants_thumbnail { super::thumbnails::small(raw) } else { None };
        let rate = if let Raw::Series(series) = raw { series.rate } else { None };
        Self { kind, rate, thumbnail }
    }
}

/// The names of samples, by their number among those of all sources.
pub(super) struct Names {
    firsts: Vec<usize>,
    samples: usize,
}

impl Names {
    pub(super) fn new(sources: &[Source]) -> Self {
        let mut samples = 0;
        let mut first = |source: &Source| {
            samples += source.about.samples;
            samples - source.about.samples
        };
        let firsts = sources.iter().map(&mut first).collect();
        Self { firsts, samples }
    }

    pub(super) fn of(&self, sources: &[Source], sample: usize) -> String {
        let source = self.firsts.partition_point(|&first| first <= sample) - 1;
        let place = sample - self.firsts[source];
        match &sources[source].samples {
            Samples::Each(load) => load.name(place),
            Samples::Items(items) => items.name(place),
            Samples::Stream(_) => format!("{}: sample {place}", sources[source].about.name),
        }
    }
}

/// Refuses sounds of several rates, which would mean that steps of one length last different times.
#[derive(Default)]
struct Rates {
    first: Option<(u32, String)>,
}

impl Rates {
    fn see(&mut self, name: &str, rate: u32) -> Result<()> {
        match &self.first {
            None => self.first = Some((rate, name.to_owned())),
            Some((first, of)) if *first != rate => {
                return Err(Error::input(format!("{name}: has {rate} samples a second, and {of} has {first}"))
                    .hint(format!("--step resample={first} brings all to one rate")));
            }
            Some(_) => {}
        }
        Ok(())
    }
}

/// Splits the samples that stayed.
pub(super) fn splits_of(
    sources: &[Source],
    learned: &Learned,
    kept: &[u32],
    options: &PrepareOptions,
) -> Result<Splits> {
    let mut given: Vec<Option<&'static str>> = Vec::new();
    let mut groups: Vec<&str> = Vec::new();
    let mut has_groups = false;
    for source in sources {
        match &source.about.splits {
            Some(splits) => given.extend(splits.iter().map(|split| Some(*split))),
            None => given.extend(std::iter::repeat_n(source.split, source.about.samples)),
        }
        match &source.about.groups {
            Some(own) => {
                has_groups = true;
                groups.extend(own.iter().map(String::as_str));
            }
            None => groups.extend(std::iter::repeat_n("", source.about.samples)),
        }
    }
    let given: Vec<_> = kept.iter().map(|&sample| given[sample as usize]).collect();
    let groups: Vec<_> = kept.iter().map(|&sample| groups[sample as usize]).collect();
    let strata = (!learned.labels.is_empty()).then_some(&learned.labels[..]);
    let splits = assign(&given, strata, has_groups.then_some(&groups[..]), learned.is_next, &options.split)?;
    if has_groups && options.read.group.is_some() {
        check_groups(&groups, &splits)?;
    }
    Ok(splits)
}

/// Refuses groups that somebody asked for and that the raw data themselves, or a cut, put into two splits.
fn check_groups(groups: &[&str], splits: &Splits) -> Result<()> {
    let mut first: HashMap<&str, u8> = HashMap::new();
    for (group, split) in groups.iter().zip(&splits.of_sample) {
        let own = *first.entry(group).or_insert(*split);
        if own != *split {
            let [a, b] = [own, *split].map(|split| &splits.names[usize::from(split)]);
            return Err(Error::input(format!("`{group}` is in `{a}` and in `{b}`, and --group keeps it in one"))
                .hint("the raw data or --split-at say so: leave that, or --group, out"));
        }
    }
    Ok(())
}

/// A spool without the samples at these places.
fn without(mut spool: Spool, kept: &[u32], dropped: &[usize], options: &PrepareOptions) -> Result<(Spool, Vec<u32>)> {
    let mut smaller = Spool::create(&options.read.tmp_dir)?;
    let mut left = Vec::with_capacity(kept.len() - dropped.len());
    let (mut place, mut next) = (0, 0);
    spool.read(|item| {
        if dropped.get(next) == Some(&place) {
            next += 1;
        } else {
            left.push(kept[place]);
            smaller.push(&item)?;
        }
        place += 1;
        Ok(())
    })?;
    Ok((smaller, left))
}

/// Samples between two stages.
struct Stage<'a> {
    spool: Spool,
    names: &'a Names,
    sources: &'a [Source],
    kept: &'a [u32],
    splits: &'a Splits,
    options: &'a PrepareOptions,
    stop: &'a AtomicBool,
}

impl Stage<'_> {
    fn name(&self, place: usize) -> String {
        self.names.of(self.sources, self.kept[place] as usize)
    }

    /// Lets the first step of each pipeline learn from the training samples, when it must.
    fn fit(&mut self, mut left: [Pipeline; 2]) -> Result<[Pipeline; 2]> {
        let mut fits = [left[0].fitting(), left[1].fitting()];
        if fits.iter().all(Option::is_none) {
            return Ok(left);
        }
        let train = self.splits.names.iter().position(|name| name == TRAIN).unwrap_or(0);
        let mut place = 0;
        let of_sample = &self.splits.of_sample;
        self.spool.read(|item| {
            if usize::from(of_sample[place]) == train {
                if let Some(fit) = &mut fits[0] {
                    fit.see(&item.raw)?;
                }
                if let Some(fit) = &mut fits[1] {
                    item.targets.iter().try_for_each(|target| fit.see(target))?;
                }
            }
            place += 1;
            Ok(())
        })?;
        for (left, fit) in left.iter_mut().zip(fits) {
            if let Some(fit) = fit {
                left.replace_first(fit.fitted()?);
            }
        }
        Ok(left)
    }

    /// Takes steps that have learned what they must.
    fn apply(&mut self, now: &[Pipeline; 2], progress: &dyn Progress) -> Result<()> {
        let mut next = Spool::create(&self.options.read.tmp_dir)?;
        progress.phase("changing", self.kept.len() as u64);
        let mut spool = std::mem::replace(&mut self.spool, Spool::create(&self.options.read.tmp_dir)?);
        let feed = |give: &mut dyn FnMut((usize, Vec<Item>)) -> Result<()>| {
            let (mut place, mut waiting) = (0, Vec::with_capacity(SAMPLES_PER_JOB));
            spool.read(|item| {
                waiting.push(item);
                place += 1;
                if waiting.len() == SAMPLES_PER_JOB {
                    give((place - waiting.len(), std::mem::take(&mut waiting)))?;
                }
                Ok(())
            })?;
            if waiting.is_empty() { Ok(()) } else { give((place - waiting.len(), waiting)) }
        };
        let stop = self.stop;
        let this = &*self;
        let work = |(first, items): (usize, Vec<Item>)| {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::interrupted("stopped by a signal"));
            }
            let one = |(place, item): (usize, Item)| {
                let raw = now[0].apply(item.raw)?;
                let targets = item.targets.into_iter().map(|target| now[1].apply(target)).collect::<Result<_>>();
                targets.map(|targets| Item { raw, targets }).map_err(|e: Error| e.within(this.name(first + place)))
            };
            items.into_iter().enumerate().map(one).collect::<Result<Vec<_>>>()
        };
        ordered(self.options.threads, feed, work, |items| {
            progress.advance(items.len() as u64);
            items.iter().try_for_each(|item| next.push(item))
        })?;
        self.spool = next;
        Ok(())
    }

    /// Looks at all samples: what they are, how long, and that they are alike.
    fn known(&mut self, done: &[Pipeline; 2], learned: &Learned, raw: Option<RawInput>) -> Result<Known> {
        let vocabulary = done[0].tokens().map_or(256, |tokens| tokens.size());
        let mut forms = Forms::default();
        let mut spool = std::mem::replace(&mut self.spool, Spool::create(&self.options.read.tmp_dir)?);
        let mut sequences = learned.has_sequences.then(|| Sequences::of(done[1].tokens())).transpose()?;
        let mut place = 0;
        spool.read(|item| {
            forms.see(&item.raw, vocabulary, &|| self.name(place))?;
            if let Some(sequences) = &mut sequences {
                sequences.see(place, &item, &|| self.name(place))?;
            }
            place += 1;
            Ok(())
        })?;
        self.spool = spool;
        let (mut form, lengths) = forms.known(learned.is_next)?;
        let fixed = self.sources.iter().find_map(|source| source.about.fixed.as_ref());
        let names = done[0].column_names();
        if let Elements::Vector { features, names: own } = &mut form.elements {
            let raw_names = match fixed.map(|fixed| &fixed.elements) {
                Some(Elements::Vector { names, .. }) if done[0].is_empty() => names.clone(),
                _ => names,
            };
            if raw_names.len() == *features {
                *own = raw_names;
            }
        }
        let raw = fixed.map_or_else(|| raw.unwrap_or(RawInput::Text), |fixed| RawInput::of(&fixed.elements));
        let specs: [Vec<StepSpec>; 2] = [done[0].specs(), done[1].specs()];
        let channels = match form.elements {
            Elements::Image { channels, .. } => Some(channels),
            _ => fixed.and_then(|fixed| fixed.channels).filter(|_| done[0].is_empty()),
        };
        let largest = fixed.and_then(|fixed| fixed.largest).filter(|_| channels.is_some());
        Ok(Known { form, lengths, sequences, channels, largest, raw, steps: specs })
    }
}

/// The forms of samples so far.
#[derive(Default)]
struct Forms {
    first: Option<(Form, String)>,
    longest: usize,
    lengths: Vec<u32>,
}

impl Forms {
    fn see(&mut self, raw: &Raw, vocabulary: usize, name: &dyn Fn() -> String) -> Result<()> {
        let own = form_of(raw, vocabulary).map_err(|e| e.within(name()))?;
        let time = match own.elements {
            Elements::Series { time, .. } | Elements::Tokens { time, .. } => time,
            _ => 1,
        };
        if own.elements.elements() == 0 {
            return Err(Error::input(format!("{}: there is nothing in it after all steps", name()))
                .hint("--clean blank=drop or small=drop:1 leaves such samples out"));
        }
        self.longest = self.longest.max(time);
        self.lengths.push(time as u32);
        let Some((first, first_name)) = &mut self.first else {
            self.first = Some((own, name()));
            return Ok(());
        };
        let is_alike = match (&first.elements, &own.elements) {
            (Elements::Series { features: a, .. }, Elements::Series { features: b, .. }) => a == b,
            (Elements::Tokens { .. }, Elements::Tokens { .. }) => true,
            (a, b) => a == b,
        };
        if !is_alike {
            let error = Error::input(format!(
                "{}: is {}, and {first_name} is {}",
                name(),
                one(&own.elements),
                one(&first.elements)
            ));
            return Err(match (&first.elements, &own.elements) {
                (Elements::Image { channels: a, .. }, Elements::Image { channels: b, .. }) if a != b => {
                    error.hint("--clean channels=fix:3 (or 1) makes all alike, channels=drop leaves the others out")
                }
                (Elements::Image { .. }, Elements::Image { .. }) => {
                    error.hint("--resize HxW scales all pictures to one size")
                }
                _ => error.hint("all samples of one dataset must have one shape"),
            });
        }
        // A few pictures or series of floats among bytes make all of them floats.
        if own.dtype != first.dtype {
            first.dtype = dlopt_checkpoint::Dtype::F32;
        }
        Ok(())
    }

    /// The form of all, and the lengths when they differ.
    fn known(self, is_next: bool) -> Result<(Form, Option<Vec<u32>>)> {
        let (mut form, _) = self.first.ok_or_else(|| Error::input("there are no samples"))?;
        let longest = self.longest;
        let differ = self.lengths.iter().any(|&length| length as usize != longest);
        match &mut form.elements {
            Elements::Series { time, .. } => *time = longest,
            Elements::Tokens { time, .. } if is_next => {
                if differ || longest < 2 {
                    return Err(Error::input("windows of text of different lengths, or of a single token"));
                }
                *time = longest - 1;
                return Ok((form, None));
            }
            Elements::Tokens { time, .. } => *time = longest,
            _ => return Ok((form, None)),
        }
        Ok((form, differ.then_some(self.lengths)))
    }
}

/// A single sample, in words.
fn one(elements: &Elements) -> String {
    match elements {
        Elements::Image { height, width, channels } => format!("a picture of {height}x{width}x{channels}"),
        Elements::Series { features, .. } => format!("a series of {features} features"),
        Elements::Vector { features, .. } => format!("a row of {features} numbers"),
        Elements::Tokens { time, .. } => format!("{time} tokens"),
    }
}

impl Sequences {
    fn of(tokens: Option<&dyn crate::step::Vocabulary>) -> Result<Self> {
        let tokens = tokens.ok_or_else(|| {
            Error::usage("sequences to learn must be tokens").hint("--target-step tokenise=words,bounds=true")
        })?;
        let (start, end) = tokens.bounds().ok_or_else(|| {
            Error::usage("the tokens of sequences to learn have no marks of their beginning and end")
                .hint("--target-step tokenise=…,bounds=true")
        })?;
        let vocabulary = tokens.size();
        let dtype = token_dtype(vocabulary);
        Ok(Self { time: 0, vocabulary, dtype, start, end, lengths: Vec::new(), references: Vec::new() })
    }

    fn see(&mut self, place: usize, item: &Item, name: &dyn Fn() -> String) -> Result<()> {
        for (number, target) in item.targets.iter().enumerate() {
            let Raw::Tokens(tokens) = target else {
                return Err(Error::input(format!("{}: what is to be learned is no tokens", name())));
            };
            self.time = self.time.max(tokens.len());
            match number {
                0 => self.lengths.push(tokens.len() as u32),
                _ => self.references.push((place as u32, tokens.len() as u32)),
            }
        }
        if self.lengths.len() != place + 1 {
            return Err(Error::input(format!("{}: has nothing to be learned", name())));
        }
        Ok(())
    }
}
