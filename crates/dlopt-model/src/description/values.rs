//! Values of options that may be written in more than one way.

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Rows and columns: `3` or `[3, 5]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extents(pub [usize; 2]);

/// Cells of zeros around a picture or series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Padding {
    /// `"valid"`: none.
    Valid,
    /// `"same"`: as many as give `ceil(size / stride)` outputs; the odd one goes to the bottom and right.
    Same,
    /// A number: as many on every side.
    All(usize),
    /// `[top, bottom, left, right]` or `[rows, columns]`, for series `[before, after]`.
    Sides(Vec<usize>),
}

/// Outputs of a layer: a number, or `"classes"`, which the data decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Units {
    /// So many.
    Count(usize),
    /// One for each class or target of the data.
    Classes,
}

impl Default for Extents {
    fn default() -> Self {
        Self([1, 1])
    }
}

impl Serialize for Extents {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let [rows, columns] = self.0;
        if rows == columns { rows.serialize(serializer) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Extents {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Extents;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number or [rows, columns]")
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<Extents, E> {
                let value = whole(value)?;
                Ok(Extents([value, value]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Extents, A::Error> {
                let values = numbers(seq)?;
                let found = values.len();
                <[usize; 2]>::try_from(values).map(Extents).map_err(|_| A::Error::invalid_length(found, &self))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Serialize for Padding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Valid => serializer.serialize_str("valid"),
            Self::Same => serializer.serialize_str("same"),
            Self::All(cells) => cells.serialize(serializer),
            Self::Sides(sides) => sides.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Padding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Padding;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"valid\", \"same\", a whole number, or a list of numbers of cells for each side")
            }
            fn visit_str<E: Error>(self, value: &str) -> Result<Padding, E> {
                match value {
                    "valid" => Ok(Padding::Valid),
                    "same" => Ok(Padding::Same),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<Padding, E> {
                Ok(Padding::All(whole(value)?))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Padding, A::Error> {
                Ok(Padding::Sides(numbers(seq)?))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Serialize for Units {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => count.serialize(serializer),
            Self::Classes => serializer.serialize_str("classes"),
        }
    }
}

impl<'de> Deserialize<'de> for Units {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Units;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number or \"classes\"")
            }
            fn visit_str<E: Error>(self, value: &str) -> Result<Units, E> {
                match value {
                    "classes" => Ok(Units::Classes),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<Units, E> {
                Ok(Units::Count(whole(value)?))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

fn numbers<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<Vec<usize>, A::Error> {
    let mut values = Vec::new();
    while let Some(value) = seq.next_element::<u64>()? {
        values.push(whole(value)?);
    }
    Ok(values)
}

fn whole<E: Error>(value: u64) -> Result<usize, E> {
    usize::try_from(value).map_err(|_| E::custom(format!("{value} is too large")))
}
