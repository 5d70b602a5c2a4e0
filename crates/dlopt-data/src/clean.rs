//! What is looked for in raw samples before anything is done to them, and what happens to those that have it.

use std::collections::{BTreeMap, HashMap};

use dlopt_checkpoint::{Error, Fault, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::raw::{Image, Raw, Values};

/// What can be wrong with a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Problem {
    /// It cannot be decoded.
    Unreadable,
    /// Another sample before it has the same content, once decoded.
    Duplicate,
    /// There is nothing in it: one colour (to 1 % of the range), silence (below -80 dB of full scale), only white space.
    Blank,
    /// It has another number of channels than wanted (pictures: 1 for grey, 3 for RGB; sounds: 1 for mono).
    Channels,
    /// It is smaller than wanted: the shorter side of a picture, the steps of a series, the characters of a text.
    Small,
    /// Its mean, its deviation or its size is far from those of the others: `0.6745 |x - median| / MAD` is above a
    /// limit (Iglewicz and Hoaglin 1993, the modified z-score).
    Outlier,
}

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It is an error.
    Fail,
    /// The sample is left out.
    Drop,
    /// The sample is kept, and reported.
    Flag,
    /// The sample is repaired: channels are converted.
    Fix,
}

/// What is looked for and what is done about it, with a number where one is needed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rule {
    /// What is done.
    pub action: Action,
    /// Channels wanted (3), smallest extent (16), or the limit of the modified z-score (6).
    pub value: f64,
}

/// Rules by what they look for; what is not named is not looked for, but unreadable samples are errors.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CleanOptions {
    /// The rules.
    pub rules: BTreeMap<Problem, Rule>,
}

/// The names of problems, with what is done about them when nobody says, and the number that belongs to them.
const PROBLEMS: [(&str, Problem, Option<f64>); 6] = [
    ("unreadable", Problem::Unreadable, None),
    ("duplicate", Problem::Duplicate, None),
    ("blank", Problem::Blank, None),
    ("channels", Problem::Channels, Some(3.0)),
    ("small", Problem::Small, Some(16.0)),
    ("outlier", Problem::Outlier, Some(6.0)),
];

impl Problem {
    /// As the command line and reports write it.
    pub fn name(self) -> &'static str {
        PROBLEMS.iter().find(|(_, own, _)| *own == self).map_or("", |(name, ..)| name)
    }
}

impl CleanOptions {
    /// Reads `PROBLEM=ACTION` or `PROBLEM=ACTION:NUMBER` and adds the rule.
    ///
    /// # Errors
    /// When problem, action or number make no sense together.
    pub fn add(&mut self, text: &str) -> Result<()> {
        let usage = |what: String| {
            Error::usage(format!("--clean {text}: {what}")).hint(
                "such as unreadable=drop, duplicate=drop, blank=flag, channels=fix:3, small=drop:32, outlier=flag:6",
            )
        };
        let (name, rest) = text.split_once('=').ok_or_else(|| usage("wanted PROBLEM=ACTION".to_owned()))?;
        let &(_, problem, number) = PROBLEMS
            .iter()
            .find(|(own, ..)| *own == name.trim())
            .ok_or_else(|| usage(format!("there are {}", PROBLEMS.map(|(name, ..)| name).join(", "))))?;
        let (action, own) = match rest.split_once(':') {
            Some((action, own)) => (action.trim(), Some(own.trim())),
            None => (rest.trim(), None),
        };
        let action = match action {
            "fail" => Action::Fail,
            "drop" => Action::Drop,
            "flag" if problem != Problem::Unreadable => Action::Flag,
            "fix" if problem == Problem::Channels => Action::Fix,
            _ => return Err(usage(format!("`{action}` is not what can be done about it"))),
        };
        let value = match (own, number) {
            (None, number) => number.unwrap_or_default(),
            (Some(own), Some(_)) => own
                .parse()
                .ok()
                .filter(|value: &f64| value.is_finite() && *value > 0.0)
                .ok_or_else(|| usage(format!("`{own}` is no number above 0")))?,
            (Some(_), None) => return Err(usage(format!("`{name}` has no number"))),
        };
        self.rules.insert(problem, Rule { action, value });
        Ok(())
    }

    /// The rule for a problem.
    pub(crate) fn rule(&self, problem: Problem) -> Option<Rule> {
        self.rules.get(&problem).copied()
    }

    /// Whether anything is looked for beside what cannot be read.
    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

/// What was found out about a sample while it was loaded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    digest: Option<[u8; 16]>,
    is_blank: bool,
    /// The channels that it has, when they are not the wanted ones.
    channels: Option<usize>,
    /// The extent that is too small.
    small: Option<usize>,
    /// Mean, deviation and size, for outliers.
    measures: Option<[f32; 3]>,
}

/// Looks at a sample for what the rules ask, and repairs its channels if they say so.
pub(crate) fn examine(raw: Raw, options: &CleanOptions) -> Result<(Raw, Facts)> {
    let wants = |problem| options.rule(problem);
    let mut facts = Facts::default();
    if options.is_empty() {
        return Ok((raw, facts));
    }
    if wants(Problem::Duplicate).is_some() {
        facts.digest = Some(digest(&raw));
    }
    if wants(Problem::Blank).is_some() {
        facts.is_blank = is_blank(&raw);
    }
    if let Some(rule) = wants(Problem::Small) {
        let extent = extent(&raw);
        facts.small = ((extent as f64) < rule.value).then_some(extent);
    }
    if wants(Problem::Outlier).is_some() {
        facts.measures = Some(measures(&raw));
    }
    let mut raw = raw;
    if let Some(rule) = wants(Problem::Channels) {
        let own = match &raw {
            Raw::Image(image) => Some(image.channels),
            Raw::Series(series) if series.rate.is_some() => Some(series.features),
            _ => None,
        };
        let wanted = rule.value as usize;
        if let Some(own) = own.filter(|own| *own != wanted) {
            facts.channels = Some(own);
            if rule.action == Action::Fix {
                raw = crate::steps::with_channels(raw, wanted)?;
            }
        }
    }
    Ok((raw, facts))
}

/// A sample that something was found about.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Which sample.
    pub sample: String,
    /// What was found.
    pub problem: Problem,
    /// What was done.
    pub action: Action,
    /// More about it.
    pub detail: String,
}

/// Decides over samples in their order.
pub(crate) struct Cleaner<'a> {
    options: &'a CleanOptions,
    seen: HashMap<[u8; 16], String>,
    /// Of the samples that stay, in order.
    measures: Vec<[f32; 3]>,
    pub(crate) findings: Vec<Finding>,
}

impl<'a> Cleaner<'a> {
    pub(crate) fn new(options: &'a CleanOptions) -> Self {
        Self { options, seen: HashMap::new(), measures: Vec::new(), findings: Vec::new() }
    }

    /// Whether a sample that cannot be read is left out.
    ///
    /// # Errors
    /// The reason why it cannot be read, when that is an error.
    pub(crate) fn unreadable(&mut self, name: &str, why: Error) -> Result<()> {
        if why.fault() != Fault::Input {
            return Err(why);
        }
        match self.options.rule(Problem::Unreadable).map(|rule| rule.action) {
            Some(Action::Drop) => {
                self.findings.push(Finding {
                    sample: name.to_owned(),
                    problem: Problem::Unreadable,
                    action: Action::Drop,
                    detail: why.message().to_owned(),
                });
                Ok(())
            }
            _ => Err(why.hint("--clean unreadable=drop leaves such samples out and lists them")),
        }
    }

    /// Whether a sample stays.
    ///
    /// # Errors
    /// When what was found is an error.
    pub(crate) fn stays(&mut self, name: &str, facts: &Facts) -> Result<bool> {
        let mut found = Vec::new();
        if let Some(digest) = facts.digest {
            match self.seen.get(&digest) {
                Some(first) => found.push((Problem::Duplicate, format!("the same as {first}"))),
                None => drop(self.seen.insert(digest, name.to_owned())),
            }
        }
        if facts.is_blank {
            found.push((Problem::Blank, "there is nothing in it".to_owned()));
        }
        if let Some(channels) = facts.channels {
            found.push((Problem::Channels, format!("{channels} channels")));
        }
        if let Some(extent) = facts.small {
            found.push((Problem::Small, format!("{extent}")));
        }
        let mut stays = true;
        for (problem, detail) in found {
            stays = self.found(name, problem, detail)?;
            if !stays {
                break;
            }
        }
        if stays && let Some(measures) = facts.measures {
            self.measures.push(measures);
        }
        Ok(stays)
    }

    /// Which of the samples that stayed are outliers and left out. `names` gives the name of each.
    ///
    /// # Errors
    /// When outliers are errors.
    pub(crate) fn outliers(&mut self, name: impl Fn(usize) -> String) -> Result<Vec<usize>> {
        let Some(rule) = self.options.rule(Problem::Outlier) else { return Ok(Vec::new()) };
        let measures = std::mem::take(&mut self.measures);
        let mut dropped = Vec::new();
        let scores: [Vec<f32>; 3] = std::array::from_fn(|m| modified_scores(measures.iter().map(|all| all[m])));
        for place in 0..measures.len() {
            let (what, score) = ["mean", "deviation", "size"]
                .into_iter()
                .zip(scores.iter().map(|scores| scores[place]))
                .fold(("", 0.0), |worst, own| if own.1 > worst.1 { own } else { worst });
            if f64::from(score) > rule.value {
                let detail = format!("{what} {:.4}, score {score:.1}", {
                    let index = ["mean", "deviation", "size"].iter().position(|own| *own == what).unwrap_or(0);
                    measures[place][index]
                });
                if !self.found(&name(place), Problem::Outlier, detail)? {
                    dropped.push(place);
                }
            }
        }
        Ok(dropped)
    }

    fn found(&mut self, name: &str, problem: Problem, detail: String) -> Result<bool> {
        let action = self.options.rule(problem).map_or(Action::Flag, |rule| rule.action);
        if action == Action::Fail {
            return Err(Error::input(format!("{name}: {}: {detail}", problem.name()))
                .hint(format!("--clean {}=drop leaves such samples out and lists them", problem.name())));
        }
        self.findings.push(Finding { sample: name.to_owned(), problem, action, detail });
        Ok(action != Action::Drop)
    }
}

fn digest(raw: &Raw) -> [u8; 16] {
    let mut hash = Sha256::new();
    let values = |hash: &mut Sha256, values: &Values| match values {
        Values::U8(values) => hash.update(values),
        Values::F32(values) => values.iter().for_each(|value| hash.update(value.to_le_bytes())),
    };
    match raw {
        Raw::Image(image) => {
            hash.update(format!("image {} {} {}", image.height, image.width, image.channels));
            values(&mut hash, &image.pixels);
        }
        Raw::Series(series) => {
            hash.update(format!("series {} {} {:?}", series.time, series.features, series.rate));
            values(&mut hash, &series.values);
        }
        Raw::Row(row) => values(&mut hash, row),
        Raw::Text(text) => hash.update(text),
        Raw::Tokens(tokens) => tokens.iter().for_each(|token| hash.update(token.to_le_bytes())),
    }
    let mut short = [0; 16];
    short.copy_from_slice(&hash.finalize()[..16]);
    short
}

fn is_blank(raw: &Raw) -> bool {
    let range = |values: &Values| {
        let values = values.floats();
        values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &x| (low.min(x), high.max(x)))
    };
    match raw {
        Raw::Image(Image { pixels, .. }) => {
            let (low, high) = range(pixels);
            let full = if matches!(pixels, Values::U8(_)) { 255.0 } else { high.abs().max(low.abs()) };
            high - low <= 0.01 * full
        }
        Raw::Series(series) => {
            let (low, high) = range(&series.values);
            if series.rate.is_some() { low.abs().max(high.abs()) < 1e-4 } else { low == high }
        }
        Raw::Row(values) => {
            let (low, high) = range(values);
            low == high
        }
        Raw::Text(text) => text.trim().is_empty(),
        Raw::Tokens(tokens) => tokens.is_empty(),
    }
}

fn extent(raw: &Raw) -> usize {
    match raw {
        Raw::Image(image) => image.height.min(image.width),
        Raw::Series(series) => series.time,
        Raw::Row(values) => values.len(),
        Raw::Text(text) => text.chars().count(),
        Raw::Tokens(tokens) => tokens.len(),
    }
}

fn measures(raw: &Raw) -> [f32; 3] {
    let of = |values: &Values, size: usize| {
        let values = values.floats();
        let count = values.len().max(1) as f64;
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
        let spread = values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count;
        [mean as f32, spread.sqrt() as f32, size as f32]
    };
    match raw {
        Raw::Image(image) => of(&image.pixels, image.height * image.width),
        Raw::Series(series) => of(&series.values, series.time),
        Raw::Row(values) => of(values, values.len()),
        other => [0.0, 0.0, extent(other) as f32],
    }
}

/// `0.6745 |x - median| / MAD`; where more than half of all are the same, the mean of the distances over 0.7979 stands for
/// the MAD; 0 where all are the same.
fn modified_scores(values: impl Iterator<Item = f32> + Clone) -> Vec<f32> {
    let median = |mut all: Vec<f32>| {
        all.sort_by(f32::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or_default()
    };
    let middle = median(values.clone().collect());
    let distances: Vec<f32> = values.map(|x| (x - middle).abs()).collect();
    let mad = median(distances.clone());
    let mean = distances.iter().map(|&x| f64::from(x)).sum::<f64>() / distances.len().max(1) as f64;
    let unit = if mad > 0.0 { mad / 0.6745 } else { (mean * 1.253_314) as f32 };
    distances.into_iter().map(|distance| if unit > 0.0 { distance / unit } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(rules: &[&str]) -> CleanOptions {
        let mut options = CleanOptions::default();
        rules.iter().for_each(|rule| options.add(rule).unwrap());
        options
    }

    fn row(values: &[f32]) -> Raw {
        Raw::Row(Values::F32(values.to_vec()))
    }

    #[test]
    fn rules_are_read() {
        let own = options(&["unreadable=drop", "small=drop:32", "channels=fix", "outlier=flag"]);
        assert_eq!(own.rule(Problem::Small), Some(Rule { action: Action::Drop, value: 32.0 }));
        assert_eq!(own.rule(Problem::Channels), Some(Rule { action: Action::Fix, value: 3.0 }));
        for wrong in ["blank", "dust=drop", "blank=fix", "unreadable=flag", "small=drop:-1", "blank=drop:3"] {
            assert!(CleanOptions::default().add(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn duplicates_and_blanks_are_found() {
        let options = options(&["duplicate=drop", "blank=flag"]);
        let mut cleaner = Cleaner::new(&options);
        let stays: Vec<bool> = [row(&[1.0, 2.0]), row(&[3.0, 3.0]), row(&[1.0, 2.0])]
            .into_iter()
            .enumerate()
            .map(|(place, raw)| cleaner.stays(&format!("s{place}"), &examine(raw, &options).unwrap().1).unwrap())
            .collect();
        assert_eq!(stays, [true, true, false]);
        let found: Vec<_> = cleaner.findings.iter().map(|f| (f.sample.as_str(), f.problem, f.action)).collect();
        assert_eq!(found, [("s1", Problem::Blank, Action::Flag), ("s2", Problem::Duplicate, Action::Drop)]);
        assert_eq!(cleaner.findings[1].detail, "the same as s0");
    }

    #[test]
    fn outliers_are_far_from_the_others() {
        let options = options(&["outlier=drop:5"]);
        let mut cleaner = Cleaner::new(&options);
        for place in 0..20 {
            let value = if place == 7 { 90.0 } else { 1.0 + (place % 5) as f32 * 0.1 };
            let facts = examine(row(&[value, value + 1.0]), &options).unwrap().1;
            assert!(cleaner.stays("s", &facts).unwrap());
        }
        assert_eq!(cleaner.outliers(|place| format!("s{place}")).unwrap(), [7]);
        assert!(cleaner.findings[0].detail.starts_with("mean 90.5"), "{:?}", cleaner.findings);
    }

    #[test]
    fn what_cannot_be_read_is_an_error_unless_dropped() {
        let strict = CleanOptions::default();
        let error = Cleaner::new(&strict).unreadable("a.png", Error::input("a.png: cut short")).unwrap_err();
        assert_eq!(error.message(), "a.png: cut short");
        let lenient = options(&["unreadable=drop"]);
        let mut cleaner = Cleaner::new(&lenient);
        cleaner.unreadable("a.png", Error::input("a.png: cut short")).unwrap();
        assert_eq!(cleaner.findings.len(), 1);
        assert!(cleaner.unreadable("b.png", Error::interrupted("stopped by a signal")).is_err());
    }
}
