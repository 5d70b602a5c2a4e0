//! A number that may move in a line while training goes on: `0.9`, `0.9..0.1`, or `0.9..0.1@0.5`, which is there after
//! half of the training and stays.

use dlopt_checkpoint::{Error, Result};

/// A number that moves in a line from one value to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ramp {
    /// The value at the first update.
    pub from: f64,
    /// The value in the end.
    pub to: f64,
    /// Part of the training after which it is reached, more than 0 and at most 1.
    pub until: f64,
}

impl Ramp {
    /// A number that stays.
    pub fn constant(value: f64) -> Self {
        Self { from: value, to: value, until: 1.0 }
    }

    /// Reads `A`, `A..B` or `A..B@PART`.
    ///
    /// # Errors
    /// When a part is no number, or `PART` is outside 0..=1.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::usage(format!("`{text}` is no number and no A..B or A..B@PART"))
                .hint("0.9..0.1@0.5 goes from 0.9 to 0.1 over the first half of the training")
        };
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|value| value.is_finite()).ok_or_else(wrong);
        let Some((from, rest)) = text.split_once("..") else { return number(text).map(Self::constant) };
        let (to, until) = rest.split_once('@').unwrap_or((rest, "1"));
        let ramp = Self { from: number(from)?, to: number(to)?, until: number(until)? };
        if ramp.until > 0.0 && ramp.until <= 1.0 { Ok(ramp) } else { Err(wrong()) }
    }

    /// The value after `progress`, 0..=1, of the training.
    pub fn at(&self, progress: f64) -> f64 {
        self.from + (self.to - self.from) * (progress / self.until).clamp(0.0, 1.0)
    }

    /// The smaller of its two ends.
    pub fn least(&self) -> f64 {
        self.from.min(self.to)
    }

    /// The larger of its two ends.
    pub fn most(&self) -> f64 {
        self.from.max(self.to)
    }
}

impl std::fmt::Display for Ramp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self { from, to, .. } if from == to => write!(f, "{from}"),
            Self { from, to, until } if *until == 1.0 => write!(f, "{from}..{to}"),
            Self { from, to, until } => write!(f, "{from}..{to}@{until}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_reaches_its_end_and_stays() {
        let ramp = Ramp::parse("4..1@0.5").unwrap();
        assert_eq!([0.0, 0.25, 0.5, 0.9].map(|at| ramp.at(at)), [4.0, 2.5, 1.0, 1.0]);
        assert_eq!(Ramp::parse("-2").unwrap().at(0.3), -2.0);
        assert_eq!((ramp.least(), ramp.most()), (1.0, 4.0));
    }

    #[test]
    fn a_ramp_is_written_as_it_is_read() {
        for text in ["0.5", "0.9..0.1", "8..2@0.25"] {
            assert_eq!(Ramp::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "x", "1..", "1..2@0", "1..2@1.5", "inf", "1..2..3"] {
            assert!(Ramp::parse(text).unwrap_err().message().contains("A..B@PART"), "{text}");
        }
    }
}
