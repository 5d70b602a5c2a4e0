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
    /// Which of how many folds is for testing: the first of five is `[1, 5]`. Every sample is in one fold.
    pub fold: Option<[usize; 2]>,
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

/// Splits samples. `given` is the split that the data say for each; `strata` holds the class of every sample, or nothing
/// when there are no classes; `groups` what must not be in two splits. Samples that are `in_order` (windows of one text)
/// are not drawn: other splits are cut off the end.
///
/// # Errors
/// When shares or places make no sense, or a split would have no samples.
pub(crate) fn assign(
    given: &[Option<&'static str>],
    strata: Option<&[u32]>,
    groups: Option<&[&str]>,
    in_order: bool,
    options: &SplitOptions,
) -> Result<Splits> {
    let samples = given.len();
    let mut splits = Splits { names: vec![TRAIN.to_owned()], of_sample: Vec::with_capacity(samples) };
    if options.at.is_empty() {
        for split in given {
            let split = splits.place(split.unwrap_or(TRAIN))?;
            splits.of_sample.push(split);
        }
    } else {
        if let Some(split) = given.iter().find_map(|split| *split) {
            return Err(Error::usage(format!(
                "--split-at, but the files themselves say which samples are for `{split}`"
            ))
            .hint("leave --split-at out"));
        }
        cut(&mut splits, samples, &options.at)?;
    }
    check_shares(&splits, options)?;
    // What stays together, each with its class: single samples, or groups of them.
    let train = splits.place(TRAIN)?;
    let units = units(&splits, train, strata, groups);
    if let Some([fold, folds]) = options.fold {
        draw_fold(&mut splits, &units, fold, folds, options.seed)?;
    }
    if in_order {
        cut_shares(&mut splits, train, options)?;
    } else {
        draw(&mut splits, &units, options)?;
    }
    splits.sort();
    if let Some(empty) = splits.counts().iter().position(|count| *count == 0) {
        return Err(Error::input(format!("split `{}` would have none of the {samples} samples", splits.names[empty]))
            .hint("give it a larger share, or leave it out"));
    }
    Ok(splits)
}

/// Samples that stay together, by class.
type Units = BTreeMap<u32, Vec<Vec<usize>>>;

fn units(splits: &Splits, train: u8, strata: Option<&[u32]>, groups: Option<&[&str]>) -> Units {
    let mut units = Units::new();
    let class = |sample: usize| strata.map_or(0, |strata| strata[sample]);
    let training = splits.of_sample.iter().enumerate().filter(|(_, split)| **split == train).map(|(sample, _)| sample);
    let Some(groups) = groups else {
        training.for_each(|sample| units.entry(class(sample)).or_default().push(vec![sample]));
        return units;
    };
    let mut together: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    training.for_each(|sample| together.entry(groups[sample]).or_default().push(sample));
    for samples in together.into_values() {
        // A group of one class is drawn with its class, a mixed one with those of its first sample's.
        let is_pure = samples.iter().all(|&sample| class(sample) == class(samples[0]));
        units.entry(if is_pure { class(samples[0]) } else { u32::MAX }).or_default().push(samples);
    }
    units
}

/// Puts one of `folds` equal parts of the training samples, class by class, into the test split.
fn draw_fold(splits: &mut Splits, units: &Units, fold: usize, folds: usize, seed: u64) -> Result<()> {
    if folds < 2 || fold == 0 || fold > folds {
        return Err(Error::usage(format!("--fold {fold}/{folds}: wanted the number of a fold, such as 1/5")));
    }
    if splits.names.iter().any(|name| name == "test") {
        return Err(Error::usage("--fold makes the test split, but the files or --split-at say what is for testing"));
    }
    let test = splits.place("test")?;
    let mut next = 0;
    for (&class, units) in units {
        let mut units = units.clone();
        Draws::new(*b"stratified folds", seed, u64::from(class)).shuffle(&mut units);
        for unit in units {
            if next % folds == fold - 1 {
                unit.iter().for_each(|&sample| splits.of_sample[sample] = test);
            }
            next += 1;
        }
    }
    Ok(())
}

/// Cuts shares of the training samples off the end, the last share last.
fn cut_shares(splits: &mut Splits, train: u8, options: &SplitOptions) -> Result<()> {
    let training: Vec<usize> = (0..splits.of_sample.len()).filter(|&s| splits.of_sample[s] == train).collect();
    let mut end = training.len();
    let mut shares = options.shares.clone();
    shares.sort_by_key(|(name, _)| ORDER.iter().position(|known| known == name).unwrap_or(ORDER.len()));
    for (name, share) in shares.iter().rev() {
        let split = splits.place(name)?;
        let begin = end - ((training.len() as f64 * share).round() as usize).min(end);
        training[begin..end].iter().for_each(|&sample| splits.of_sample[sample] = split);
        end = begin;
    }
    Ok(())
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

fn check_shares(splits: &Splits, options: &SplitOptions) -> Result<()> {
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
    Ok(())
}

/// Draws shares of the training samples for other splits.
fn draw(splits: &mut Splits, units: &Units, options: &SplitOptions) -> Result<()> {
    let drawn =
        options.shares.iter().map(|(name, share)| Ok((splits.place(name)?, *share))).collect::<Result<Vec<_>>>()?;
    if drawn.is_empty() {
        return Ok(());
    }
    // What rounding gave a split too much or too little in one class is settled in the next.
    let mut owed = vec![0.0; drawn.len()];
    for (&class, units) in units {
        let train = splits.names.iter().position(|name| name == TRAIN).unwrap_or(0) as u8;
        let mut units: Vec<_> = units.iter().filter(|unit| splits.of_sample[unit[0]] == train).cloned().collect();
        Draws::new(*b"stratified split", options.seed, u64::from(class)).shuffle(&mut units);
        let samples: usize = units.iter().map(Vec::len).sum();
        // One sample, or group, of each class stays for training.
        let mut left = units.len().saturating_sub(1);
        let mut units = units.into_iter();
        for (&(split, share), owed) in drawn.iter().zip(&mut owed) {
            let wanted = samples as f64 * share + *owed;
            let mut count = 0;
            while left > 0
                && let Some(unit) = units.as_slice().first()
            {
                // The last unit is taken when that comes nearer to what is wanted.
                if (count as f64 + unit.len() as f64 / 2.0) > wanted {
                    break;
                }
                unit.iter().for_each(|&sample| splits.of_sample[sample] = split);
                count += unit.len();
                left -= 1;
                units.next();
            }
            *owed = wanted - count as f64;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(text: &[(&str, f64)], seed: u64) -> SplitOptions {
        let shares = text.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect();
        SplitOptions { shares, seed, ..SplitOptions::default() }
    }

    #[test]
    fn shares_hold_in_every_class() {
        let strata: Vec<u32> = (0..1000).map(|i| if i % 10 == 0 { 1 } else { 0 }).collect();
        let options = shares(&[("test", 0.2), ("validation", 0.1)], 3);
        let splits = assign(&[None; 1000], Some(&strata), None, false, &options).unwrap();
        assert_eq!(splits.names, ["train", "validation", "test"]);
        assert_eq!(splits.counts(), [700, 100, 200]);
        let rare = |split: u8| strata.iter().zip(&splits.of_sample).filter(|(c, s)| **c == 1 && **s == split).count();
        assert_eq!([rare(0), rare(1), rare(2)], [70, 10, 20]);
    }

    #[test]
    fn groups_stay_together() {
        let names: Vec<String> = (0..200).map(|sample| format!("speaker {}", sample % 23)).collect();
        let groups: Vec<&str> = names.iter().map(String::as_str).collect();
        let strata: Vec<u32> = (0..200).map(|sample| sample % 10).collect();
        for options in [shares(&[("test", 0.2)], 5), SplitOptions { fold: Some([2, 4]), seed: 1, ..Default::default() }]
        {
            let splits = assign(&[None; 200], Some(&strata), Some(&groups), false, &options).unwrap();
            let of = |name: &str| {
                let own = groups.iter().zip(&splits.of_sample).filter(|(group, _)| **group == name);
                own.map(|(_, split)| *split).collect::<std::collections::BTreeSet<_>>()
            };
            assert!(groups.iter().all(|name| of(name).len() == 1), "a group is in one split");
            assert!((30..=60).contains(&splits.counts()[1]), "{:?}", splits.counts());
        }
    }

    #[test]
    fn every_sample_is_in_one_fold() {
        let strata: Vec<u32> = (0..103).map(|sample| sample % 3).collect();
        let fold = |fold: usize| {
            let options = SplitOptions { fold: Some([fold, 5]), seed: 7, ..Default::default() };
            assign(&[None; 103], Some(&strata), None, false, &options).unwrap().of_sample
        };
        let all: Vec<_> = (1..=5).map(fold).collect();
        assert!((0..103).all(|sample| all.iter().filter(|own| own[sample] == 1).count() == 1));
        let sixth = SplitOptions { fold: Some([6, 5]), ..Default::default() };
        assert!(assign(&[None; 9], None, None, false, &sixth).unwrap_err().message().contains("--fold 6/5"));
    }

    #[test]
    fn samples_in_order_are_cut_off_the_end() {
        let options = shares(&[("validation", 0.1), ("test", 0.2)], 1);
        let splits = assign(&[None; 10], None, None, true, &options).unwrap();
        assert_eq!(splits.of_sample, [0, 0, 0, 0, 0, 0, 0, 1, 2, 2]);
    }

    #[test]
    fn totals_are_right_when_classes_are_small() {
        let strata: Vec<u32> = (0..150).map(|i| i % 50).collect();
        let splits = assign(&[None; 150], Some(&strata), None, false, &shares(&[("test", 0.1)], 1)).unwrap();
        assert!((14..=15).contains(&splits.counts()[1]), "{:?}", splits.counts());
    }

    #[test]
    fn the_seed_decides_who_is_drawn() {
        let strata: Vec<u32> = (0..300).map(|i| i % 3).collect();
        let draw = |seed| assign(&[None; 300], Some(&strata), None, false, &shares(&[("test", 0.3)], seed)).unwrap();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let plain = assign(&[None; 300], None, None, false, &shares(&[("test", 0.3)], 1)).unwrap();
        assert_eq!(plain.counts(), [210, 90]);
    }

    #[test]
    fn rows_are_cut_without_a_shuffle() {
        let cut = |at: &[usize]| {
            assign(&[None; 10], None, None, false, &SplitOptions { at: at.to_vec(), ..Default::default() })
        };
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
        let runs = [vec![Some("train"); 100], vec![Some("test"); 30]].concat();
        let splits = assign(&runs, None, None, false, &shares(&[("validation", 0.1)], 1)).unwrap();
        assert_eq!(splits.counts(), [90, 10, 30]);
        assert!(splits.of_sample[100..].iter().all(|split| *split == 2));
        let twice = assign(&runs, None, None, false, &shares(&[("test", 0.1)], 1)).unwrap_err();
        assert!(twice.message().contains("the files or --split-at say what is for `test`"), "{twice}");
        let at = SplitOptions { at: vec![3], ..Default::default() };
        assert!(assign(&runs, None, None, false, &at).unwrap_err().message().contains("the files themselves say"));
    }

    #[test]
    fn splits_without_samples_are_refused() {
        let error = assign(&[None; 4], None, None, false, &shares(&[("test", 0.1)], 1)).unwrap_err();
        assert!(error.message().contains("split `test` would have none of the 4 samples"), "{error}");
        let error = assign(&[Some("test"); 4], None, None, false, &SplitOptions::default()).unwrap_err();
        assert!(error.message().contains("split `train` would have none"), "{error}");
    }

    #[test]
    fn shares_that_make_no_sense_are_refused() {
        let message = |list: &[(&str, f64)]| {
            assign(&[None; 9], None, None, false, &shares(list, 1)).unwrap_err().message().to_owned()
        };
        assert!(message(&[("test", 0.0)]).contains("above 0 and below 1"));
        assert!(message(&[("test", f64::NAN)]).contains("above 0 and below 1"));
        assert!(message(&[("train", 0.5)]).contains("what the other splits leave"));
        assert!(message(&[("a", 0.5), ("b", 0.5)]).contains("training would get none"));
        assert!(message(&[("a", 0.1), ("a", 0.1)]).contains("`a` twice"));
    }
}
