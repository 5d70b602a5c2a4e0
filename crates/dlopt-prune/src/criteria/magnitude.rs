//! Magnitude: the weights nearest to zero go first.
//!
//! `key = |w|`, compared exactly, whatever the dtypes. NaN and infinity, where they are allowed, count as the largest.
//! Source: Han et al. 2015, arXiv 1506.02626.

use super::{Criterion, Rank};
use crate::Plugin;

pub(super) const CRITERION: Criterion = Criterion {
    plugin: Plugin {
        name: "magnitude",
        summary: "the weights nearest to zero go first",
        source: "Han et al. 2015, arXiv 1506.02626",
    },
    rank: Rank::Magnitude,
};
