//! Operations on series, sounds and spectra, `[time, features]`.
//!
//! All of them work on the steps that count and never on padding: a step that is drawn lies before the end of its series,
//! and what lies behind it stays 0. Bytes are rounded to nearest and held to 0 and 255. The label stays, unless the file
//! of the operation says when it does not.

mod background_noise;
mod curve;
mod frequency_mask;
mod gain;
#[cfg(test)]
mod golden;
mod jitter;
mod magnitude_warp;
mod permutation;
mod scaling;
mod spec_augment;
#[cfg(test)]
mod tests;
mod time_mask;
mod time_shift;
mod time_stretch;
mod time_warp;
mod window_slice;
mod window_warp;

pub(crate) use background_noise::KIND as BACKGROUND_NOISE;
pub(crate) use frequency_mask::KIND as FREQUENCY_MASK;
pub(crate) use gain::KIND as GAIN;
pub(crate) use jitter::KIND as JITTER;
pub(crate) use magnitude_warp::KIND as MAGNITUDE_WARP;
pub(crate) use permutation::KIND as PERMUTATION;
pub(crate) use scaling::KIND as SCALING;
pub(crate) use spec_augment::KIND as SPEC_AUGMENT;
pub(crate) use time_mask::KIND as TIME_MASK;
pub(crate) use time_shift::KIND as TIME_SHIFT;
pub(crate) use time_stretch::KIND as TIME_STRETCH;
pub(crate) use time_warp::KIND as TIME_WARP;
pub(crate) use window_slice::KIND as WINDOW_SLICE;
pub(crate) use window_warp::KIND as WINDOW_WARP;

use crate::sample::{Data, Element, Form, Sample, Scratch};

/// The steps of a series that count.
pub(super) struct Steps<'a> {
    /// `[steps, features]`.
    pub(super) values: &'a mut Vec<f32>,
    /// Numbers of a step.
    pub(super) features: usize,
    /// Most steps there is room for.
    pub(super) room: usize,
}

impl Steps<'_> {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.values.len() / self.features
    }
}

/// Changes the steps of a series that count: their values, or how many there are (1 to `room`).
pub(super) fn change(sample: &mut Sample, scratch: &mut Scratch, work: impl FnOnce(Steps<'_>)) {
    let Form::Series { time: room, features } = sample.form else { return };
    let mut values = std::mem::take(&mut scratch.more_floats);
    values.clear();
    let count = (sample.steps * features).min(room * features);
    if count > 0 {
        match &sample.data {
            Data::U8(all) => values.extend(all[..count].iter().map(|&x| f32::from(x))),
            Data::F32(all) => values.extend_from_slice(&all[..count]),
            Data::Tokens(_) => return,
        }
        work(Steps { values: &mut values, features, room });
        sample.steps = (values.len() / features).clamp(1, room);
        match &mut sample.data {
            Data::U8(all) => put(all, &values),
            Data::F32(all) => put(all, &values),
            Data::Tokens(_) => {}
        }
    }
    scratch.more_floats = values;
}

/// Writes the steps, and zeros behind them.
fn put<T: Element>(all: &mut [T], values: &[f32]) {
    let (steps, padding) = all.split_at_mut(values.len().min(all.len()));
    steps.iter_mut().zip(values).for_each(|(to, &from)| *to = T::of(from));
    padding.fill(T::default());
}

/// So many of `whole` as a share says, rounded to nearest.
pub(super) fn part_of(share: f32, whole: usize) -> usize {
    ((f64::from(share) * whole as f64 + 0.5) as usize).min(whole)
}

/// Refuses a number outside `low..=high`.
pub(super) fn within(name: &str, value: f32, low: f32, high: f32, unit: &str) -> Result<(), String> {
    crate::range::Range::only(value).within(name, unit, low, high)
}

/// Refuses a count outside `low..=high`.
pub(super) fn counted(name: &str, value: usize, low: usize, high: usize) -> Result<(), String> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(format!("{name} is {value}; wanted {low} to {high}"))
}
