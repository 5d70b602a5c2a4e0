//! Every number by a factor.

use dlopt_checkpoint::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::raw::{Image, Raw, Series, Values, wrong};
use crate::step::Step;

/// Options of `multiply`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Multiply {
    /// The factor.
    by: f64,
}

impl Step for Multiply {
    fn name(&self) -> &'static str {
        "multiply"
    }

    fn options(&self) -> Map<String, Value> {
        Map::from_iter([("by".to_owned(), self.by.into())])
    }

    fn apply(&self, raw: Raw) -> Result<Raw> {
        Ok(match raw {
            Raw::Image(image) => Raw::Image(Image { pixels: self.times(image.pixels), ..image }),
            Raw::Series(series) => Raw::Series(Series { values: self.times(series.values), ..series }),
            Raw::Row(values) => Raw::Row(self.times(values)),
            other => return Err(wrong("multiply", "numbers", &other)),
        })
    }
}

impl Multiply {
    fn times(&self, values: Values) -> Values {
        match values {
            Values::U8(values) => {
                let by = self.by as f32;
                Values::U8(values.into_iter().map(|x| (f32::from(x) * by + 0.5).clamp(0.0, 255.0) as u8).collect())
            }
            Values::F32(values) => Values::F32(values.into_iter().map(|x| (f64::from(x) * self.by) as f32).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_bytes() {
        let step = Multiply { by: 15.0 };
        assert_eq!(
            step.apply(Raw::Row(Values::U8(vec![0, 1, 16, 20]))).unwrap(),
            Raw::Row(Values::U8(vec![0, 15, 240, 255]))
        );
        assert_eq!(step.apply(Raw::Row(Values::F32(vec![-0.5]))).unwrap(), Raw::Row(Values::F32(vec![-7.5])));
    }
}
