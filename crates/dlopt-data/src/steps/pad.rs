//! Pads series with zeros at their end, so that all are as long as the longest.

use dlopt_checkpoint::Result;

use super::{Sample, Step, Wanted};
use crate::info::Elements;
use crate::readers::Values;

struct Pad {
    sample: Sample,
    /// Numbers of a series before and after.
    before: usize,
    after: usize,
}

pub(super) fn make(wanted: &Wanted, sample: &Sample) -> Result<Option<Box<dyn Step>>> {
    let (Some(longest), Elements::Series { time, features }) = (wanted.time, &sample.elements) else { return Ok(None) };
    if longest <= *time {
        return Ok(None);
    }
    let elements = Elements::Series { time: longest, features: *features };
    let (before, after) = (time * features, longest * features);
    Ok(Some(Box::new(Pad { sample: Sample { elements, dtype: sample.dtype }, before, after })))
}

impl Step for Pad {
    fn sample(&self) -> Sample {
        self.sample.clone()
    }

    fn apply(&self, values: Values) -> Values {
        match values {
            Values::U8(values) => Values::U8(self.padded(&values)),
            Values::F32(values) => Values::F32(self.padded(&values)),
        }
    }
}

impl Pad {
    fn padded<T: Copy + Default>(&self, values: &[T]) -> Vec<T> {
        let mut out = Vec::with_capacity(values.len() / self.before.max(1) * self.after);
        for series in values.chunks_exact(self.before) {
            let begin = out.len();
            out.extend_from_slice(series);
            out.resize(begin + self.after, T::default());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlopt_checkpoint::Dtype;

    #[test]
    fn short_series_end_in_zeros() {
        let sample = Sample { elements: Elements::Series { time: 2, features: 3 }, dtype: Dtype::F32 };
        let wanted = |time| Wanted { dtype: Dtype::F32, time, resize: None, filter: Default::default(), gain: 1 };
        let step = make(&wanted(Some(3)), &sample).unwrap().unwrap();
        assert_eq!(step.sample().elements, Elements::Series { time: 3, features: 3 });
        let values: Vec<f32> = (1..13).map(|x| x as f32).collect();
        let Values::F32(out) = step.apply(Values::F32(values)) else { panic!("stays f32") };
        assert_eq!(out[..9], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0, 0.0, 0.0]);
        assert_eq!(out[9..], [7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 0.0, 0.0, 0.0]);
        assert!(make(&wanted(Some(2)), &sample).unwrap().is_none());
    }
}
