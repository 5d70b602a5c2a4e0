//! Samples that are all of one shape: that those of all sources are, and how long.

use dlopt_checkpoint::{Error, Result};

use crate::info::Elements;
use crate::readers::{About, Fixed};

/// Checks that all sources hold the same kind of samples; series may differ in length, and the longest is returned.
pub(super) fn same_elements(all: &[(&About, &Fixed)]) -> Result<usize> {
    let (first_about, first) = all[0];
    let mut longest = 0;
    for &(about, own) in all {
        let is_alike = match (&first.elements, &own.elements) {
            (Elements::Series { time: a, features: x }, Elements::Series { time: b, features: y }) => {
                longest = longest.max(*a).max(*b);
                // Lengths may only differ where they are kept.
                x == y && (a == b || (first.lengths.is_some() && own.lengths.is_some()))
            }
            (Elements::Vector { names: a, features: x }, Elements::Vector { names: b, features: y }) => {
                if let Some(at) = a.iter().zip(b).position(|(a, b)| a != b) {
                    return Err(Error::input(format!(
                        "{}: column `{}` stands where {} has `{}`",
                        about.name, b[at], first_about.name, a[at]
                    ))
                    .hint("put the columns of all files into one order"));
                }
                x == y
            }
            (a, b) => a == b,
        };
        if !is_alike || first.channels != own.channels {
            return Err(Error::input(format!(
                "{}: holds {}, but {} holds {}",
                about.name,
                own.elements.in_words(),
                first_about.name,
                first.elements.in_words()
            ))
            .hint("all raw data of one dataset must have samples of one shape"));
        }
    }
    Ok(longest)
}

/// Steps of every series, when they differ.
pub(super) fn lengths(all: &[(&About, &Fixed)], elements: &Elements) -> Option<Vec<u32>> {
    let Elements::Series { time, .. } = *elements else { return None };
    let of = |&(about, own): &(&About, &Fixed)| match &own.lengths {
        Some(lengths) => lengths.clone(),
        None => vec![time as u32; about.samples],
    };
    let all: Vec<u32> = all.iter().flat_map(of).collect();
    all.iter().any(|&length| length as usize != time).then_some(all)
}
