//! Series to pictures of one channel, `[time, features]` to `[time, features, 1]`: what two-dimensional convolutions take of
//! a spectrogram. Pictures of one dataset have one size: sounds are brought to one `duration` before.

use dlopt_checkpoint::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::options;
use crate::raw::{Image, Raw};
use crate::step::{Step, StepKind};

/// The step.
pub(super) const KIND: StepKind =
    StepKind::of::<Picture>("picture", "", "series of one length to pictures of one channel, such as spectrograms");

/// Series to pictures.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Picture {}

impl Step for Picture {
    fn name(&self) -> &'static str {
        KIND.name
    }

    fn options(&self) -> Map<String, Value> {
        options::written(self)
    }

    fn apply(&self, raw: Raw) -> Result<Raw> {
        let series = raw.series(KIND.name)?;
        Ok(Raw::Image(Image { height: series.time, width: series.features, channels: 1, pixels: series.values }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::{Series, Values};

    #[test]
    fn time_runs_downwards() {
        let values = Values::F32(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let series = Raw::Series(Series { time: 2, features: 3, rate: Some(8000), values: values.clone() });
        let wanted = Raw::Image(Image { height: 2, width: 3, channels: 1, pixels: values });
        assert_eq!(Picture {}.apply(series).unwrap(), wanted);
        let row = Raw::Row(Values::F32(vec![1.0]));
        assert!(Picture {}.apply(row).unwrap_err().message().contains("`picture` is for series"));
    }
}
