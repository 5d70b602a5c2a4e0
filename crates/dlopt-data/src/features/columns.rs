//! The features of a series, one by one.

use dlopt_checkpoint::{Error, Result};

use crate::raw::{Raw, Series, wrong};

/// Each feature of a series (or channel of a sound) for `who`, and its steps a second (1 when nobody says).
pub(super) fn columns(raw: &Raw, who: &str) -> Result<(Vec<Vec<f64>>, f64)> {
    let Raw::Series(Series { time, features, rate, values }) = raw else {
        return Err(wrong(who, "series and sounds", raw));
    };
    if *time == 0 || *features == 0 {
        return Err(Error::input(format!("`{who}`: a series of no steps")));
    }
    let values = values.floats();
    let column = |at: usize| values.iter().skip(at).step_by(*features).map(|&x| f64::from(x)).collect();
    Ok(((0..*features).map(column).collect(), rate.map_or(1.0, f64::from)))
}
