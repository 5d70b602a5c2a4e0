//! Brings elements to the type that the dataset stores.

use dlopt_checkpoint::{Dtype, Result};

use super::{Sample, Step, Wanted};
use crate::readers::Values;

/// A cast, also when the types agree already: tables give floats that are known to be bytes.
struct Cast(Sample);

pub(super) fn make(wanted: &Wanted, sample: &Sample) -> Result<Option<Box<dyn Step>>> {
    Ok(Some(Box::new(Cast(Sample { elements: sample.elements.clone(), dtype: wanted.dtype }))))
}

impl Step for Cast {
    fn sample(&self) -> Sample {
        self.0.clone()
    }

    fn apply(&self, values: Values) -> Values {
        match (values, self.0.dtype) {
            (Values::U8(values), Dtype::F32) => Values::F32(values.into_iter().map(f32::from).collect()),
            // Whole numbers from 0 to 255, or the dataset would not store bytes.
            (Values::F32(values), Dtype::U8) => Values::U8(values.into_iter().map(|x| x as u8).collect()),
            (values, _) => values,
        }
    }
}
