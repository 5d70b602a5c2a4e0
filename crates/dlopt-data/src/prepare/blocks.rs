//! Raw samples to samples in the form that a dataset stores, spread over all cores.

use std::sync::atomic::{AtomicBool, Ordering};

use dlopt_checkpoint::{Dtype, Error, Result};

use crate::info::Elements;
use crate::ordered::ordered;
use crate::pipeline::Pipeline;
use crate::raw::{Image, Raw, Series, Values};
use crate::readers::{Fixed, Item, Samples, Source};

/// Samples of a source that are loaded together.
const SAMPLES_PER_JOB: usize = 8;

/// What a reading thread gives the others.
enum Job {
    /// Samples of a stream, the first of which has this number in its source.
    Chunk { source: usize, first: usize, values: Values },
    /// Samples of any size, the first of which has this number in its source.
    Items { source: usize, first: usize, items: Vec<Item> },
    /// Samples to load.
    Range { source: usize, samples: std::ops::Range<usize> },
}

/// A sample that has been read and changed, or the reason why not.
pub(super) struct Ready<T> {
    /// Its number among those of all sources.
    pub(super) sample: usize,
    pub(super) item: Result<T>,
}

/// Reads all samples of all sources, applies `work` to each on `threads` threads, and hands the results to `take` in
/// order.
///
/// # Errors
/// When a source cannot be read on, `take` fails, or `stop` is set.
pub(super) fn each_sample<T: Send>(
    sources: &[Source],
    threads: usize,
    stop: &AtomicBool,
    work: impl Fn(Item) -> Result<T> + Sync,
    mut take: impl FnMut(Ready<T>) -> Result<()>,
) -> Result<()> {
    let firsts: Vec<usize> = sources
        .iter()
        .scan(0, |next, source| {
            *next += source.about.samples;
            Some(*next - source.about.samples)
        })
        .collect();
    let feed = |give: &mut dyn FnMut(Job) -> Result<()>| {
        for (number, source) in sources.iter().enumerate() {
            match &source.samples {
                Samples::Stream(inputs) => {
                    let elements = source.about.fixed.as_ref().map_or(1, |fixed| fixed.elements.elements());
                    let mut first = 0;
                    inputs.read(&mut |values| {
                        let count = values.len() / elements.max(1);
                        first += count;
                        if first > source.about.samples {
                            return Err(changed(source));
                        }
                        give(Job::Chunk { source: number, first: first - count, values })
                    })?;
                    if first != source.about.samples {
                        return Err(changed(source));
                    }
                }
                Samples::Items(items) => {
                    let (mut first, mut waiting) = (0, Vec::with_capacity(SAMPLES_PER_JOB));
                    items.read(&mut |item| {
                        waiting.push(item);
                        if waiting.len() < SAMPLES_PER_JOB {
                            return Ok(());
                        }
                        let items = std::mem::replace(&mut waiting, Vec::with_capacity(SAMPLES_PER_JOB));
                        first += items.len();
                        if first > source.about.samples {
                            return Err(changed(source));
                        }
                        give(Job::Items { source: number, first: first - items.len(), items })
                    })?;
                    if first + waiting.len() != source.about.samples {
                        return Err(changed(source));
                    }
                    if !waiting.is_empty() {
                        give(Job::Items { source: number, first, items: waiting })?;
                    }
                }
                Samples::Each(_) => {
                    for begin in (0..source.about.samples).step_by(SAMPLES_PER_JOB) {
                        let end = (begin + SAMPLES_PER_JOB).min(source.about.samples);
                        give(Job::Range { source: number, samples: begin..end })?;
                    }
                }
            }
        }
        Ok(())
    };
    let work = |job: Job| {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::interrupted("stopped by a signal"));
        }
        let named = |item: Result<T>, name: &dyn Fn() -> String| item.map_err(|e| e.within(name()));
        Ok(match job {
            Job::Chunk { source: number, first, values } => {
                let source = &sources[number];
                let Some(fixed) = &source.about.fixed else { return Err(changed(source)) };
                let items = cut(fixed, first, values).into_iter().enumerate();
                items
                    .map(|(place, raw)| Ready {
                        sample: firsts[number] + first + place,
                        item: named(work(Item::new(raw)), &|| {
                            format!("{}: sample {}", source.about.name, first + place)
                        }),
                    })
                    .collect::<Vec<_>>()
            }
            Job::Items { source: number, first, items } => {
                let source = &sources[number];
                let Samples::Items(own) = &source.samples else { return Err(changed(source)) };
                let items = items.into_iter().enumerate();
                items
                    .map(|(place, item)| Ready {
                        sample: firsts[number] + first + place,
                        item: named(work(item), &|| own.name(first + place)),
                    })
                    .collect()
            }
            Job::Range { source: number, samples } => {
                let source = &sources[number];
                let Samples::Each(load) = &source.samples else { return Err(changed(source)) };
                samples
                    .map(|place| Ready {
                        sample: firsts[number] + place,
                        item: load.load(place).and_then(|item| named(work(item), &|| load.name(place))),
                    })
                    .collect()
            }
        })
    };
    ordered(threads, feed, work, |all: Vec<Ready<T>>| all.into_iter().try_for_each(&mut take))
}

fn changed(source: &Source) -> Error {
    Error::input(format!("{}: changed while it was read", source.about.name))
}

/// Cuts a chunk of a stream into samples, of the element type that the dataset will have, series at their own ends.
pub(crate) fn cut(fixed: &Fixed, first: usize, values: Values) -> Vec<Raw> {
    let elements = fixed.elements.elements();
    let own = |place: usize, values: Values| match fixed.elements {
        Elements::Image { height, width, channels } => Raw::Image(Image { height, width, channels, pixels: values }),
        Elements::Series { time, features } => {
            let time = fixed.lengths.as_ref().map_or(time, |lengths| lengths[first + place] as usize);
            let values = match values {
                Values::U8(values) => Values::U8(values[..time * features].to_vec()),
                Values::F32(values) => Values::F32(values[..time * features].to_vec()),
            };
            Raw::Series(Series { time, features, rate: None, values })
        }
        _ => Raw::Row(values),
    };
    let cast = |values: Values| match (values, fixed.dtype) {
        // Whole numbers from 0 to 255, or the source would not say so.
        (Values::F32(values), Dtype::U8) => Values::U8(values.into_iter().map(|x| x as u8).collect()),
        (Values::U8(values), Dtype::F32) => Values::F32(values.into_iter().map(f32::from).collect()),
        (values, _) => values,
    };
    match values {
        Values::U8(values) => values
            .chunks_exact(elements)
            .enumerate()
            .map(|(place, sample)| own(place, cast(Values::U8(sample.to_vec()))))
            .collect(),
        Values::F32(values) => values
            .chunks_exact(elements)
            .enumerate()
            .map(|(place, sample)| own(place, cast(Values::F32(sample.to_vec()))))
            .collect(),
    }
}

/// What a sample is once the steps are done.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Form {
    pub(super) elements: Elements,
    pub(super) dtype: Dtype,
}

/// The form of one sample. `vocabulary` is that of tokens.
pub(super) fn form_of(raw: &Raw, vocabulary: usize) -> Result<Form> {
    let dtype = |values: &Values| match values {
        Values::U8(_) => Dtype::U8,
        Values::F32(_) => Dtype::F32,
    };
    Ok(match raw {
        Raw::Image(Image { height, width, channels, pixels }) => Form {
            elements: Elements::Image { height: *height, width: *width, channels: *channels },
            dtype: dtype(pixels),
        },
        Raw::Series(Series { time, features, values, .. }) => {
            Form { elements: Elements::Series { time: *time, features: *features }, dtype: dtype(values) }
        }
        Raw::Row(values) => {
            Form { elements: Elements::Vector { features: values.len(), names: Vec::new() }, dtype: dtype(values) }
        }
        Raw::Tokens(tokens) => {
            Form { elements: Elements::Tokens { time: tokens.len(), vocabulary }, dtype: token_dtype(vocabulary) }
        }
        Raw::Text(_) => {
            return Err(Error::input("is a text after all steps; `tokenise` or features make numbers of it"));
        }
    })
}

/// The smallest type that holds tokens below `vocabulary`.
pub(super) fn token_dtype(vocabulary: usize) -> Dtype {
    match vocabulary {
        0..=256 => Dtype::U8,
        257..=65_536 => Dtype::U16,
        _ => Dtype::U32,
    }
}

/// Runs the steps on a sample of zeros, to know what they make of samples that are all alike.
pub(super) fn probed(fixed: &Fixed, pipeline: &Pipeline) -> Result<Form> {
    let zeros = match fixed.dtype {
        Dtype::U8 => Values::U8(vec![0; fixed.elements.elements()]),
        _ => Values::F32(vec![0.0; fixed.elements.elements()]),
    };
    let all = Fixed { lengths: None, ..fixed.clone() };
    let sample = cut(&all, 0, zeros).pop().ok_or_else(|| Error::input("samples of no numbers"))?;
    form_of(&pipeline.apply(sample)?, 0)
}
