//! Sequences of tokens that are learned: those of a dataset, and the right answers beside the first.

use dlopt_checkpoint::{Error, Result};

use crate::info::Learns;

/// What should come out for every sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sequences {
    /// Tokens of the longest.
    pub(crate) time: usize,
    /// `[samples, time]`.
    pub(crate) tokens: Vec<u32>,
    /// `[samples]`.
    pub(crate) lengths: Vec<u32>,
    /// Further right answers, `[references, time]`.
    pub(crate) references: Vec<u32>,
    pub(crate) reference_lengths: Vec<u32>,
    /// The sample of each.
    pub(crate) reference_samples: Vec<u32>,
}

impl Sequences {
    /// Checks the parts against each other and against what the dataset says of itself.
    pub(crate) fn check(&self, learns: &Learns, samples: usize) -> Result<()> {
        let Learns::Sequence { time, vocabulary, start, end } = *learns else {
            return Err(Error::input("`sequences`, but the metadata do not say that sequences are learned"));
        };
        let more = self.reference_samples.len();
        let fits = self.time == time
            && time > 0
            && self.tokens.len() == samples * time
            && self.lengths.len() == samples
            && self.references.len() == more * time
            && self.reference_lengths.len() == more;
        if !fits {
            return Err(Error::input(format!(
                "{} tokens and {} lengths of sequences of {time} tokens for {samples} samples, {} tokens of {more} further \
                 answers",
                self.tokens.len(),
                self.lengths.len(),
                self.references.len()
            )));
        }
        if start as usize >= vocabulary || end as usize >= vocabulary {
            return Err(Error::input(format!(
                "sequences begin with {start} and end with {end}, and there are {vocabulary} tokens"
            )));
        }
        for lengths in [&self.lengths, &self.reference_lengths] {
            if let Some(at) = lengths.iter().position(|&length| length == 0 || length as usize > time) {
                return Err(Error::input(format!("sequence {at} has {} tokens; wanted 1 to {time}", lengths[at])));
            }
        }
        if !self.reference_samples.is_sorted() {
            return Err(Error::input("`reference_samples` do not grow"));
        }
        if let Some(at) = self.reference_samples.iter().position(|&sample| sample as usize >= samples) {
            return Err(Error::input(format!("further answer {at} is of sample {}", self.reference_samples[at])));
        }
        for tokens in [&self.tokens, &self.references] {
            if let Some(at) = tokens.iter().position(|&token| token as usize >= vocabulary) {
                return Err(Error::input(format!(
                    "token {} of sequence {} is outside the {vocabulary} tokens",
                    tokens[at],
                    at / time
                )));
            }
        }
        Ok(())
    }

    /// All right answers of a sample, the first one first, each with its end.
    pub(crate) fn answers(&self, sample: usize) -> Vec<&[u32]> {
        let cut = |tokens: &'_ [u32], at: usize, length: u32| {
            at * self.time..at * self.time + (length as usize).min(tokens.len())
        };
        let mut all = vec![&self.tokens[cut(&self.tokens, sample, self.lengths[sample])]];
        let first = self.reference_samples.partition_point(|&own| (own as usize) < sample);
        let own = self.reference_samples[first..].iter().take_while(|own| **own as usize == sample);
        for (at, _) in own.enumerate().map(|(place, own)| (first + place, own)) {
            all.push(&self.references[cut(&self.references, at, self.reference_lengths[at])]);
        }
        all
    }
}
