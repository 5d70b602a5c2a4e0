//! What a sweep is to find: the best of its variants in one respect that loses little in quality.

use dlopt_checkpoint::{Error, Result};
use serde::{Deserialize, Serialize};

/// What is wanted least of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// Bytes on disk.
    Smallest,
    /// Latency of one sample.
    Fastest,
    /// Weights in memory.
    LeastMemory,
}

impl Wanted {
    const ALL: [(&'static str, Self); 3] =
        [("smallest", Self::Smallest), ("fastest", Self::Fastest), ("least-memory", Self::LeastMemory)];

    /// Its name in a sweep.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, wanted)| *wanted == self).map_or("", |(name, _)| name)
    }
}

/// A wish: `smallest within 0.5`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Goal {
    /// What is wanted least of.
    pub wanted: Wanted,
    /// Points of quality that it may lose: percent of accuracy, or percent of the value of other metrics.
    pub within: f64,
}

impl Goal {
    /// Reads `smallest within 0.5`, `fastest within 1 points`.
    ///
    /// # Errors
    /// When the text says something else.
    pub fn parse(text: &str) -> Result<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (wanted, within) = match words[..] {
            [wanted, "within", within] | [wanted, "within", within, "points"] => (wanted, within),
            _ => ("", ""),
        };
        let within = within.trim_end_matches('%').parse::<f64>().ok().filter(|w| *w >= 0.0 && w.is_finite());
        match (Wanted::ALL.iter().find(|(name, _)| *name == wanted), within) {
            (Some((_, wanted)), Some(within)) => Ok(Self { wanted: *wanted, within }),
            _ => Err(Error::usage(format!("`{text}` is no goal"))
                .hint("`smallest within 0.5`, or fastest or least-memory, and points of quality")),
        }
    }

    /// As it is read.
    pub fn text(&self) -> String {
        format!("{} within {} points", self.wanted.name(), self.within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_a_wish_and_points() {
        let goal = Goal::parse("smallest within 0.5").unwrap();
        assert_eq!((goal.wanted, goal.within), (Wanted::Smallest, 0.5));
        assert_eq!(Goal::parse(&goal.text()).unwrap(), goal);
        for wrong in ["", "smallest", "tiniest within 1", "fastest within -1", "fastest within x"] {
            assert!(Goal::parse(wrong).is_err(), "{wrong}");
        }
    }
}
