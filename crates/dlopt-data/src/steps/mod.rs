//! What is done to samples on their way into a dataset file, one file a step.
//!
//! Steps that change each sample by itself are tried in the order of [`STEPS`]; to add one: a file here with a function
//! that makes it when it is asked for, and its line in [`STEPS`]. Splits and statistics look at all samples together and
//! have their own places: [`split`] and [`standardise`].

pub(crate) mod cast;
pub(crate) mod grey;
pub(crate) mod pad;
pub(crate) mod resize;
pub(crate) mod split;
pub(crate) mod standardise;

use dlopt_checkpoint::{Dtype, Result};

use crate::info::Elements;
use crate::readers::Values;

/// The steps, in the order they are taken.
const STEPS: [Make; 3] = [cast::make, pad::make, resize::make];

/// Makes a step for samples like these, when it is asked for and changes something.
type Make = fn(&Wanted, &Sample) -> Result<Option<Box<dyn Step>>>;

/// What samples are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    /// What the elements mean.
    pub(crate) elements: Elements,
    /// `U8` or `F32`.
    pub(crate) dtype: Dtype,
}

/// What is asked of the steps.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The element type of the dataset.
    pub(crate) dtype: Dtype,
    /// Steps that series are padded to.
    pub(crate) time: Option<usize>,
    /// Height and width that pictures are scaled to.
    pub(crate) resize: Option<[usize; 2]>,
    /// How pictures are scaled.
    pub(crate) filter: resize::Filter,
    /// Whole factor on the elements of scaled pictures, so that rounding to whole numbers loses less.
    pub(crate) gain: u8,
}

/// Something done to each sample by itself.
pub(crate) trait Step: Send + Sync {
    /// What samples are afterwards.
    fn sample(&self) -> Sample;

    /// Changes whole samples that stand one after the other.
    fn apply(&self, values: Values) -> Values;
}

/// The steps that samples like these need, and what they are afterwards.
pub(crate) fn chain(wanted: &Wanted, sample: Sample) -> Result<(Vec<Box<dyn Step>>, Sample)> {
    let (mut steps, mut sample) = (Vec::new(), sample);
    for make in STEPS {
        if let Some(step) = make(wanted, &sample)? {
            sample = step.sample();
            steps.push(step);
        }
    }
    Ok((steps, sample))
}
