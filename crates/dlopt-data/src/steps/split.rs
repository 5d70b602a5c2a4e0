//! Which split each sample belongs to.
//!
//! Files that say it keep their split. Otherwise rows are cut at given places, or everything is for training; then
//! shares of the training samples are drawn for other splits, class by class, so that each split has the classes in the
//! same proportions (stratified). The draws depend on the seed, the classes and the number of samples alone.

use std::collections::BTreeMap;

use dlopt_checkpoint::{Error, Result};

use crate::order::Draws;

/// The split that statistics are taken of.
pub(crate) const TRAIN: &str = "train";

/// The order in which splits are stored.
const ORDER: [&str; 3] = [TRAIN, "validation", "test"];

/// How samples are split.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SplitOptions {
    /// Shares of the training samples that are drawn for other splits, 0 to 1.
    pub shares: Vec<(String, f64)>,
    /// Rows at which unshuffled samples are cut: training before the first, test after the last, validation between.
    pub at: Vec<usize>,
    /// Decides the draws.
    pub seed: u64,
}

/// The splits, and the one of each sample.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Splits {
    /// Names, in the order they are stored.
    pub(crate) names: Vec<String>,
    /// The place in `names` for every sample.
    pub(crate) of_sample: Vec<u8>,
}

impl Splits {
    /// The place of a name, which is added when it is new.
    fn place(&mut self, name: &str) -> Result<u8> {
        let place = match self.names.iter().position(|own| own == name) {
            Some(place) => place,
            None => {
                self.names.push(name.to_owned());
                self.names.len() - 1
            }
        };
        u8::try_from(place).map_err(|_| Error::usage("more than 256 splits"))
    }

    /// Puts the splits into the order they are stored in.
    fn sort(&mut self) {
        let mut order: Vec<usize> = (0..self.names.len()).collect();
        order.sort_by_key(|&split| ORDER.iter().position(|known| *known == self.names[split]).unwrap_or(ORDER.len()));
        let mut place = vec![0; order.len()];
        order.iter().enumerate().for_each(|(new, &old)| place[old] = new as u8);
        self.of_sample.iter_mut().for_each(|split| *split = place[usize::from(*split)]);
        self.names = order.iter().map(|&split| self.names[split].clone()).collect();
    }

    /// How many samples each split has.
    pub(crate) fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.names.len()];
        self.of_sample.iter().for_each(|&split| counts[usize::from(split)] += 1);
        counts
    }
}

/// Splits samples. `runs` are the samples as their files give them: how many, and the split that the file is. `strata`
/// holds the class of every sample, or nothing when there are no classes.
///
/// # Errors
/// When shares or places make no sense, or a split would have no samples.
pub(crate) fn assign(
    runs: &[(Option<&'static str>, usize)],
    strata: Option<&[u32]>,
    options: &SplitOptions,
) -> Result<Splits> {
    let samples: usize = runs.iter().map(|(_, samples)| samples).sum();
    let mut splits = Splits { names: vec![TRAIN.to_owned()], of_sample: Vec::with_capacity(samples) };
    if options.at.is_empty() {
        for &(split, samples) in runs {
            let split = splits.place(split.unwrap_or(TRAIN))?;
            splits.of_sample.extend(std::iter::repeat_n(split, samples));
        }
    } else {
        if let Some(split) = runs.iter().find_map(|(split, _)| *split) {
            return Err(Error::usage(format!(
                "--split-at, but the files themselves say which samples are for `{split}`"
            ))
            .hint("leave --split-at out"));
        }
        cut(&mut splits, samples, &options.at)?;
    }
    draw(&mut splits, strata, options)?;
    splits.sort();
    if let Some(empty) = splits.counts().iter().position(|count| *count == 0) {
        return Err(Error::input(format!("split `{}` would have none of the {samples} samples", splits.names[empty]))
            .hint("give it a larger share, or leave it out"));
    }
    Ok(splits)
}

fn cut(splits: &mut Splits, samples: usize, at: &[usize]) -> Result<()> {
    let (first, last) = match *at {
        [first] => (first, first),
        [first, last] if last > first => (first, last),
        _ => (0, 0),
    };
    if first == 0 || last >= samples {
        let places = at.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        return Err(Error::usage(format!(
            "--split-at {places}: wanted one row or two, growing, from 1 to {}, the samples less one",
            samples.saturating_sub(1)
        ))
        .hint("--split-at 1437 trains on the first 1437 rows and tests on the others"));
    }
    for (name, count) in [(TRAIN, first), ("validation", last - first), ("test", samples - last)] {
        if count > 0 {
            let split = splits.place(name)?;
            splits.of_sample.extend(std::iter::repeat_n(split, count));
        }
    }
    Ok(())
}

/// Draws shares of the training samples for other splits.
fn draw(splits: &mut Splits, strata: Option<&[u32]>, options: &SplitOptions) -> Result<()> {
    for (place, (name, share)) in options.shares.iter().enumerate() {
        if !(*share > 0.0 && *share < 1.0) {
            return Err(Error::usage(format!("--split {name}={share}: a share is above 0 and below 1")));
        }
        if name == TRAIN {
            return Err(Error::usage("--split train=…: training gets what the other splits leave")
                .hint("--split test=0.2,validation=0.1"));
        }
        if options.shares[..place].iter().any(|(other, _)| other == name) {
            return Err(Error::usage(format!("--split names `{name}` twice")));
        }
        if splits.names.contains(name) {
            return Err(Error::usage(format!(
                "--split {name}={share}, but the files or --split-at say what is for `{name}`"
            ))
            .hint("leave it out, or draw for another split"));
        }
    }
    let together: f64 = options.shares.iter().map(|(_, share)| share).sum();
    if together >= 1.0 {
        return Err(Error::usage(format!("--split gives away {together} of the samples; training would get none")));
    }
    let train = splits.place(TRAIN)?;
    let drawn =
        options.shares.iter().map(|(name, share)| Ok((splits.place(name)?, *share))).collect::<Result<Vec<_>>>()?;
    let mut classes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (sample, _) in splits.of_sample.iter().enumerate().filter(|(_, split)| **split == train && !drawn.is_empty()) {
        classes.entry(strata.map_or(0, |strata| strata[sample])).or_default().push(sample);
    }
    // What rounding gave a split too much or too little in one class is settled in the next.
    let mut owed = vec![0.0; drawn.len()];
    for (class, mut samples) in classes {
        Draws::new(*b"stratified split", options.seed, u64::from(class)).shuffle(&mut samples);
        // One sample of each class stays for training.
        let mut left = samples.len().saturating_sub(1);
        let mut taken = 0;
        for (&(split, share), owed) in drawn.iter().zip(&mut owed) {
            let wanted = samples.len() as f64 * share + *owed;
            let count = (wanted.round().max(0.0) as usize).min(left);
            *owed = wanted - count as f64;
            left -= count;
            samples[taken..taken + count].iter().for_each(|&sample| splits.of_sample[sample] = split);
            taken += count;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(text: &[(&str, f64)], seed: u64) -> SplitOptions {
        let shares = text.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect();
        SplitOptions { shares, at: Vec::new(), seed }
    }

    #[test]
    fn shares_hold_in_every_class() {
        let strata: Vec<u32> = (0..1000).map(|i| if i % 10 == 0 { 1 } else { 0 }).collect();
        let options = shares(&[("test", 0.2), ("validation", 0.1)], 3);
        let splits = assign(&[(None, 1000)], Some(&strata), &options).unwrap();
        assert_eq!(splits.names, ["train", "validation", "test"]);
        assert_eq!(splits.counts(), [700, 100, 200]);
        let rare = |split: u8| strata.iter().zip(&splits.of_sample).filter(|(c, s)| **c == 1 && **s == split).count();
        assert_eq!([rare(0), rare(1), rare(2)], [70, 10, 20]);
    }

    #[test]
    fn totals_are_right_when_classes_are_small() {
        let strata: Vec<u32> = (0..150).map(|i| i % 50).collect();
        let splits = assign(&[(None, 150)], Some(&strata), &shares(&[("test", 0.1)], 1)).unwrap();
        assert!((14..=15).contains(&splits.counts()[1]), "{:?}", splits.counts());
    }

    #[test]
    fn the_seed_decides_who_is_drawn() {
        let strata: Vec<u32> = (0..300).map(|i| i % 3).collect();
        let draw = |seed| assign(&[(None, 300)], Some(&strata), &shares(&[("test", 0.3)], seed)).unwrap();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let plain = assign(&[(None, 300)], None, &shares(&[("test", 0.3)], 1)).unwrap();
        assert_eq!(plain.counts(), [210, 90]);
    }

    #[test]
    fn rows_are_cut_without_a_shuffle() {
        let cut = |at: &[usize]| assign(&[(None, 10)], None, &SplitOptions { at: at.to_vec(), ..Default::default() });
        assert_eq!(cut(&[7]).unwrap().of_sample, [0, 0, 0, 0, 0, 0, 0, 1, 1, 1]);
        let three = cut(&[5, 8]).unwrap();
        assert_eq!(three.names, ["train", "validation", "test"]);
        assert_eq!(three.of_sample, [0, 0, 0, 0, 0, 1, 1, 1, 2, 2]);
        for bad in [&[0][..], &[10], &[5, 5], &[5, 3], &[1, 2, 3]] {
            assert!(cut(bad).unwrap_err().message().contains("wanted one row or two"), "{bad:?}");
        }
    }

    #[test]
    fn files_keep_their_split_and_validation_is_drawn_from_training() {
        let runs = [(Some("train"), 100), (Some("test"), 30)];
        let splits = assign(&runs, None, &shares(&[("validation", 0.1)], 1)).unwrap();
        assert_eq!(splits.counts(), [90, 10, 30]);
        assert!(splits.of_sample[100..].iter().all(|split| *split == 2));
        let twice = assign(&runs, None, &shares(&[("test", 0.1)], 1)).unwrap_err();
        assert!(twice.message().contains("the files or --split-at say what is for `test`"), "{twice}");
        let at = SplitOptions { at: vec![3], ..Default::default() };
        assert!(assign(&runs, None, &at).unwrap_err().message().contains("the files themselves say"));
    }

    #[test]
    fn splits_without_samples_are_refused() {
        let error = assign(&[(None, 4)], None, &shares(&[("test", 0.1)], 1)).unwrap_err();
        assert!(error.message().contains("split `test` would have none of the 4 samples"), "{error}");
        let error = assign(&[(Some("test"), 4)], None, &SplitOptions::default()).unwrap_err();
        assert!(error.message().contains("split `train` would have none"), "{error}");
    }

    #[test]
    fn shares_that_make_no_sense_are_refused() {
        let message =
            |list: &[(&str, f64)]| assign(&[(None, 9)], None, &shares(list, 1)).unwrap_err().message().to_owned();
        assert!(message(&[("test", 0.0)]).contains("above 0 and below 1"));
        assert!(message(&[("test", f64::NAN)]).contains("above 0 and below 1"));
        assert!(message(&[("train", 0.5)]).contains("what the other splits leave"));
        assert!(message(&[("a", 0.5), ("b", 0.5)]).contains("training would get none"));
        assert!(message(&[("a", 0.1), ("a", 0.1)]).contains("`a` twice"));
    }
}
