//! Class names of samples, collected as they come.

use std::collections::HashMap;

use super::Labels;

/// Different class names after which a column is taken for something else.
pub(super) const MOST_CLASSES: usize = 1 << 16;

/// The class names so far.
#[derive(Default)]
pub(super) struct LabelNames {
    place_of: HashMap<String, u32>,
    distinct: Vec<(String, String)>,
    of_sample: Vec<u32>,
}

impl LabelNames {
    /// The class of the next sample, which stands in this line; whether there are not too many classes.
    pub(super) fn see(&mut self, name: &str, line: u64) -> bool {
        if let Some(&place) = self.place_of.get(name) {
            self.of_sample.push(place);
            return true;
        }
        if self.distinct.len() == MOST_CLASSES {
            return false;
        }
        let place = self.distinct.len() as u32;
        self.place_of.insert(name.to_owned(), place);
        self.distinct.push((name.to_owned(), format!("line {line}")));
        self.of_sample.push(place);
        true
    }

    /// What is to be learned.
    pub(super) fn into_labels(self) -> Labels {
        Labels::Names { distinct: self.distinct, of_sample: self.of_sample }
    }
}
