//! What steps and features of sounds stand on: short-time spectra and mel bands.

mod mel;
mod mfcc;
mod spectra;

use std::borrow::Cow;

use dlopt_checkpoint::{Error, Result};

use crate::raw::{Raw, Series, wrong};

pub(crate) use mel::{Level, MelOptions, MelSpectrum};
pub(crate) use mfcc::Mfcc;
pub(crate) use spectra::Spectra;

/// The mean of a sound's channels, for `who` (a step or feature), and its rate.
pub(crate) fn mono<'a>(raw: &'a Raw, who: &str) -> Result<(Cow<'a, [f32]>, u32)> {
    let Raw::Series(Series { features, rate: Some(rate), values, .. }) = raw else {
        return Err(wrong(who, "sounds", raw));
    };
    if values.is_empty() || *features == 0 {
        return Err(Error::input(format!("`{who}`: a sound of no length")));
    }
    let values = values.floats();
    if *features == 1 {
        return Ok((values, *rate));
    }
    let mean = |step: &[f32]| step.iter().sum::<f32>() / *features as f32;
    Ok((Cow::Owned(values.chunks_exact(*features).map(mean).collect()), *rate))
}

/// Means and deviations (of the whole, not of a sample) of the columns of `[rows, columns]`: first all means.
pub(crate) fn means_and_deviations(values: &[f64], columns: usize) -> Vec<f32> {
    let rows = (values.len() / columns).max(1) as f64;
    let column = |at: usize| values.iter().skip(at).step_by(columns);
    let means: Vec<f64> = (0..columns).map(|at| column(at).sum::<f64>() / rows).collect();
    let deviation = |at: usize| (column(at).map(|x| (x - means[at]).powi(2)).sum::<f64>() / rows).sqrt();
    let deviations: Vec<f64> = (0..columns).map(deviation).collect();
    means.into_iter().chain(deviations).map(|x| x as f32).collect()
}
