//! Criteria: the key of a weight. The smallest keys are pruned first, zeros before all.

mod magnitude;
mod random;

use dlopt_checkpoint::{Error, Result};

use crate::{Plugin, names};

pub(crate) use random::key as draw;

/// One line for each criterion.
static TABLE: [Criterion; 2] = [magnitude::CRITERION, random::CRITERION];
static PLUGINS: [Plugin; TABLE.len()] = {
    let mut plugins = [TABLE[0].plugin; TABLE.len()];
    let mut i = 0;
    while i < TABLE.len() {
        plugins[i] = TABLE[i].plugin;
        i += 1;
    }
    plugins
};

/// How a criterion makes keys.
#[derive(Clone, Copy, Debug)]
pub enum Rank {
    /// The key is |w|, exactly: the bits without the sign.
    Magnitude,
    /// The key is drawn from a stream (one for each seed and tensor) and the index in the tensor; 0 for weights that
    /// are zero, never 0 for others.
    Drawn(fn(stream: u64, index: u64) -> u32),
}

/// What to prune first.
#[derive(Clone, Copy, Debug)]
pub struct Criterion {
    /// Its line in the table.
    pub plugin: Plugin,
    /// How it makes keys.
    pub rank: Rank,
}

/// The criteria there are.
pub fn criteria() -> &'static [Plugin] {
    &PLUGINS
}

impl Criterion {
    /// The criterion of a name.
    ///
    /// # Errors
    /// When the table has none.
    pub fn named(name: &str) -> Result<Self> {
        TABLE.iter().find(|c| c.plugin.name == name).copied().ok_or_else(|| {
            Error::usage(format!("no criterion is named `{name}`")).hint(format!("one of {}", names(criteria())))
        })
    }

    /// Whether the seed matters.
    pub fn is_seeded(&self) -> bool {
        matches!(self.rank, Rank::Drawn(_))
    }
}

/// The stream of a seed and a tensor: FNV-1a of the name, mixed with the seed.
pub(crate) fn stream(seed: u64, tensor: &str) -> u64 {
    let name = tensor
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    random::mix(random::mix(seed).wrapping_add(name))
}
