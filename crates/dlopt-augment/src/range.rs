//! A number that is drawn: one value, or all between two alike.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Written `15`, `±15` (or `+-15`) or `-5..10`; in TOML also `[-5, 10]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// Smallest value.
    pub low: f32,
    /// Largest value.
    pub high: f32,
}

impl Range {
    /// A single value.
    pub const fn only(value: f32) -> Self {
        Self { low: value, high: value }
    }

    /// From `low` to `high`.
    pub const fn new(low: f32, high: f32) -> Self {
        Self { low, high }
    }

    /// Whether there is nothing to draw.
    pub fn is_fixed(&self) -> bool {
        self.low == self.high
    }

    /// Refuses values outside `low..=high`; `name` and `unit` (may be empty) are for the message.
    ///
    /// # Errors
    /// When a value is outside.
    pub fn within(&self, name: &str, unit: &str, low: f32, high: f32) -> Result<(), String> {
        if self.low >= low && self.high <= high {
            return Ok(());
        }
        let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
        Err(format!("{name} is {self}; wanted {low} to {high}{unit}"))
    }

    fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| text.trim().parse::<f32>().ok().filter(|x| x.is_finite());
        if let Some(size) = text.strip_prefix('±').or_else(|| text.strip_prefix("+-")) {
            let size = number(size)?.abs();
            return Some(Self::new(-size, size));
        }
        let (low, high) = match text.split_once("..") {
            Some((low, high)) => (number(low)?, number(high.strip_prefix('=').unwrap_or(high))?),
            None => (number(text)?, number(text)?),
        };
        (low <= high).then_some(Self { low, high })
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self { low, high } if low == high => write!(f, "{low}"),
            Self { low, high } if *low == -high => write!(f, "±{high}"),
            Self { low, high } => write!(f, "{low}..{high}"),
        }
    }
}

impl Serialize for Range {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.is_fixed() { to.serialize_f32(self.low) } else { to.collect_str(self) }
    }
}

impl<'de> Deserialize<'de> for Range {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(from)?;
        let range = match &value {
            Value::String(text) => Self::parse(text),
            Value::Number(_) => Self::parse(&value.to_string()),
            Value::Array(both) if both.len() == 2 => Self::parse(&format!("{}..{}", both[0], both[1])),
            _ => None,
        };
        range.ok_or_else(|| D::Error::custom(format!("{value} is no number or range, such as 15, ±15 or -5..10")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_written() {
        let read = |text: &str| serde_json::from_str::<Range>(text);
        assert_eq!(read("15").unwrap(), Range::only(15.0));
        assert_eq!(read("\"±15\"").unwrap(), Range::new(-15.0, 15.0));
        assert_eq!(read("\"+-1.5\"").unwrap(), Range::new(-1.5, 1.5));
        assert_eq!(read("\"-5..10\"").unwrap(), Range::new(-5.0, 10.0));
        assert_eq!(read("[0.5, 2]").unwrap(), Range::new(0.5, 2.0));
        for text in ["\"a\"", "\"3..1\"", "[1]", "\"..\"", "true", "\"NaN\"", "\"inf\""] {
            assert!(read(text).is_err(), "{text}");
        }
        for range in [Range::only(0.1), Range::new(-3.0, 3.0), Range::new(0.8, 1.2)] {
            assert_eq!(read(&serde_json::to_string(&range).unwrap()).unwrap(), range);
        }
    }

    #[test]
    fn a_message_says_the_range() {
        let error = Range::new(-1.0, 400.0).within("degrees", "degrees", -360.0, 360.0).unwrap_err();
        assert_eq!(error, "degrees is -1..400; wanted -360 to 360 degrees");
    }
}
