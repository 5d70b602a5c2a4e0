//! Random: every weight is as likely to go as any other; the baseline that a criterion must beat.
//!
//! `key = mix(stream + (index + 1) * 0x9e3779b97f4a7c15) >> 32`, at least 1, where `stream` depends on the seed and the
//! tensor's name and `mix` is the finaliser of SplitMix64 (Steele et al. 2014, doi 10.1145/2660193.2660195). A counter
//! in place of a state: the key of a weight is the same on any machine and in any order.

use super::{Criterion, Rank};
use crate::Plugin;

pub(super) const CRITERION: Criterion = Criterion {
    plugin: Plugin {
        name: "random",
        summary: "drawn by --seed; the baseline that other criteria must beat",
        source: "keys by SplitMix64, Steele et al. 2014",
    },
    rank: Rank::Drawn(key),
};

/// The key of a weight, or the draw for a channel.
pub(crate) fn key(stream: u64, index: u64) -> u32 {
    let state = stream.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    ((mix(state) >> 32) as u32).max(1)
}

/// The finaliser of SplitMix64.
pub(super) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_reference_generator() {
        // The first outputs of SplitMix64 seeded with 1234567, as published with the reference code.
        let first = [6_457_827_717_110_365_317u64, 3_203_168_211_198_807_973];
        assert_eq!(first.map(|x| (x >> 32) as u32), [key(1_234_567, 0), key(1_234_567, 1)]);
    }
}
