//! Statistics of the training split, and what is taken off and divided by because of them.
//!
//! Mean `m = sum x / n` and deviation `sqrt(sum (x - m)^2 / n)` of each group: the elements whose position in the sample
//! is the same modulo the number of groups. Bytes are summed exactly. Floats are summed in 64 bits after their group's
//! first value is taken off, in the order of the samples, so the result does not depend on blocks or threads.

use dlopt_checkpoint::{Error, Result};

use crate::info::{Elements, Standardise};

/// Most values that medians and quartiles are taken of, in all groups together.
const MOST_SAMPLED: usize = 1 << 22;

/// Bytes whose squares fit a 32-bit sum.
const RUN: usize = 1 << 16;

/// What is done about a channel or feature that is the same in all training samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Constant {
    /// It is an error: it teaches nothing, and dividing by its deviation is impossible.
    #[default]
    Refuse,
    /// It becomes 0.
    Keep,
}

/// What one group of elements looks like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Moments {
    pub(crate) mean: f64,
    pub(crate) deviation: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// The quartiles, when they were asked for: a quarter, half and three quarters of the values are below.
    pub(crate) quartiles: Option<[f64; 3]>,
}

/// Sums over the samples that were added.
pub(crate) struct Fit {
    bytes: Vec<ByteSums>,
    floats: Vec<FloatSums>,
    sampled: Option<Sampled>,
}

/// Values of every so many samples, for quartiles.
struct Sampled {
    stride: usize,
    seen: usize,
    groups: Vec<Vec<f32>>,
}

impl Sampled {
    fn add(&mut self, sample: impl Iterator<Item = f32>) {
        if self.seen.is_multiple_of(self.stride) {
            let groups = self.groups.len();
            sample.enumerate().for_each(|(place, x)| self.groups[place % groups].push(x));
        }
        self.seen += 1;
    }
}

#[derive(Clone, Copy)]
struct ByteSums {
    count: u64,
    sum: u64,
    squares: u64,
    min: u8,
    max: u8,
}

#[derive(Clone, Copy)]
struct FloatSums {
    count: u64,
    first: f64,
    sum: f64,
    squares: f64,
    min: f32,
    max: f32,
}

impl Fit {
    /// Nothing seen yet, of so many groups.
    pub(crate) fn new(groups: usize) -> Self {
        let bytes = ByteSums { count: 0, sum: 0, squares: 0, min: u8::MAX, max: 0 };
        let floats =
            FloatSums { count: 0, first: 0.0, sum: 0.0, squares: 0.0, min: f32::INFINITY, max: f32::NEG_INFINITY };
        Self { bytes: vec![bytes; groups], floats: vec![floats; groups], sampled: None }
    }

    /// The same, for quartiles too, of `samples` samples of `elements` numbers at most.
    pub(crate) fn with_quartiles(groups: usize, samples: usize, elements: usize) -> Self {
        let stride = (samples.saturating_mul(elements) / MOST_SAMPLED).max(1);
        let sampled = Sampled { stride, seen: 0, groups: vec![Vec::new(); groups] };
        Self { sampled: Some(sampled), ..Self::new(groups) }
    }

    /// Adds a sample of bytes.
    pub(crate) fn add_bytes(&mut self, sample: &[u8]) {
        if let Some(sampled) = &mut self.sampled {
            sampled.add(sample.iter().map(|&x| f32::from(x)));
        }
        if let [sums] = &mut self.bytes[..] {
            for run in sample.chunks(RUN) {
                sums.count += run.len() as u64;
                sums.sum += u64::from(run.iter().map(|&x| u32::from(x)).sum::<u32>());
                sums.squares += u64::from(run.iter().map(|&x| u32::from(x) * u32::from(x)).sum::<u32>());
                sums.min = run.iter().fold(sums.min, |least, &x| least.min(x));
                sums.max = run.iter().fold(sums.max, |most, &x| most.max(x));
            }
            return;
        }
        for step in sample.chunks(self.bytes.len()) {
            for (&x, sums) in step.iter().zip(&mut self.bytes) {
                sums.count += 1;
                sums.sum += u64::from(x);
                sums.squares += u64::from(x) * u64::from(x);
                sums.min = sums.min.min(x);
                sums.max = sums.max.max(x);
            }
        }
    }

    /// Adds a sample of floats.
    pub(crate) fn add_floats(&mut self, sample: &[f32]) {
        if let Some(sampled) = &mut self.sampled {
            sampled.add(sample.iter().copied());
        }
        for step in sample.chunks(self.floats.len()) {
            for (&x, sums) in step.iter().zip(&mut self.floats) {
                if sums.count == 0 {
                    sums.first = f64::from(x);
                }
                let from_first = f64::from(x) - sums.first;
                sums.count += 1;
                sums.sum += from_first;
                sums.squares += from_first * from_first;
                sums.min = sums.min.min(x);
                sums.max = sums.max.max(x);
            }
        }
    }

    /// What the groups look like; a group that nothing was added to is all zero.
    pub(crate) fn moments(&self) -> Vec<Moments> {
        let sums = self.bytes.iter().zip(&self.floats);
        let mut all: Vec<Moments> = sums.map(|(b, f)| if b.count > 0 { b.moments() } else { f.moments() }).collect();
        if let Some(sampled) = &self.sampled {
            all.iter_mut().zip(&sampled.groups).for_each(|(own, values)| own.quartiles = Some(quartiles(values)));
        }
        all
    }
}

/// Linear between the two nearest values, as NumPy's default has it.
fn quartiles(values: &[f32]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return [0.0; 3] };
    [0.25, 0.5, 0.75].map(|share| {
        let place = share * last as f64;
        let (low, high) = (f64::from(sorted[place as usize]), f64::from(sorted[(place as usize + 1).min(last)]));
        low + (high - low) * place.fract()
    })
}

impl ByteSums {
    fn moments(&self) -> Moments {
        let (count, sum) = (u128::from(self.count), u128::from(self.sum));
        let spread = count * u128::from(self.squares) - sum * sum;
        Moments {
            mean: self.sum as f64 / self.count as f64,
            deviation: (spread as f64).sqrt() / self.count as f64,
            min: f64::from(self.min),
            max: f64::from(self.max),
            quartiles: None,
        }
    }
}

impl FloatSums {
    fn moments(&self) -> Moments {
        if self.count == 0 {
            return Moments { mean: 0.0, deviation: 0.0, min: 0.0, max: 0.0, quartiles: None };
        }
        let count = self.count as f64;
        let shift = self.sum / count;
        Moments {
            mean: self.first + shift,
            deviation: (self.squares / count - shift * shift).max(0.0).sqrt(),
            min: f64::from(self.min),
            max: f64::from(self.max),
            quartiles: None,
        }
    }
}

/// How many groups a way of standardising has. `channels` are those of the raw pictures, if they are pictures.
pub(crate) fn groups(standardise: Standardise, elements: &Elements, channels: Option<usize>) -> usize {
    match (standardise, elements) {
        (Standardise::Feature, Elements::Image { .. }) => elements.elements(),
        (Standardise::Feature, _) => elements.channels(),
        _ => channels.unwrap_or_else(|| elements.channels()),
    }
}

/// What is taken off and divided by, group by group, after scaling.
///
/// # Errors
/// When a group is constant and that is refused.
pub(crate) fn statistics(
    standardise: Standardise,
    moments: &[Moments],
    scale: f32,
    constant: Constant,
    elements: &Elements,
) -> Result<(Vec<f32>, Vec<f32>)> {
    if matches!(standardise, Standardise::None | Standardise::Given) {
        return Ok((Vec::new(), Vec::new()));
    }
    let scale = f64::from(scale);
    let (mut mean, mut deviation) = (Vec::with_capacity(moments.len()), Vec::with_capacity(moments.len()));
    let mut constants = Vec::new();
    for (group, moments) in moments.iter().enumerate() {
        let (off, by) = match standardise {
            Standardise::MinMax => {
                ((moments.min * scale).min(moments.max * scale), (moments.max - moments.min) * scale.abs())
            }
            Standardise::Robust => {
                let [low, middle, high] = moments.quartiles.unwrap_or_default();
                (middle * scale, (high - low) * scale.abs())
            }
            _ => (moments.mean * scale, moments.deviation * scale.abs()),
        };
        let is_constant = moments.min == moments.max || by as f32 == 0.0;
        if is_constant {
            constants.push(group);
        }
        mean.push(off as f32);
        deviation.push(if is_constant { 1.0 } else { by as f32 });
    }
    match constants.first() {
        Some(&first) if constant == Constant::Refuse => {
            let name = match elements {
                Elements::Image { .. } if moments.len() == elements.elements() => format!("pixel {first}"),
                _ => elements.channel_name(first),
            };
            let more = match constants.len() {
                1 => String::new(),
                more => format!(", and {} more are constant too", more - 1),
            };
            Err(Error::input(format!(
                "{name} is {} in every training sample, so its deviation is 0 and nothing can be divided by it{more}",
                moments[first].min
            ))
            .hint("--constant keep makes it 0, --drop NAME leaves a column out, --standardise none takes data as they are"))
        }
        _ => Ok((mean, deviation)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROWS: Elements = Elements::Vector { features: 2, names: Vec::new() };

    #[test]
    fn bytes_are_summed_exactly() {
        let mut fit = Fit::new(1);
        fit.add_bytes(&[0, 255, 255]);
        fit.add_bytes(&[10]);
        let m = fit.moments()[0];
        assert_eq!((m.mean, m.min, m.max), (130.0, 0.0, 255.0));
        // ((130^2 + 125^2 + 125^2 + 120^2) / 4)^(1/2)
        assert_eq!(m.deviation, (62550.0_f64 / 4.0).sqrt());
    }

    #[test]
    fn groups_take_turns() {
        let mut fit = Fit::new(2);
        fit.add_floats(&[1.0, 10.0, 3.0, 10.5]);
        let m = fit.moments();
        assert_eq!((m[0].mean, m[0].deviation), (2.0, 1.0));
        assert_eq!((m[1].mean, m[1].deviation), (10.25, 0.25));
        let mut fit = Fit::new(2);
        fit.add_bytes(&[1, 7, 3, 9]);
        assert_eq!(fit.moments().iter().map(|m| m.mean).collect::<Vec<_>>(), [2.0, 8.0]);
    }

    #[test]
    fn a_small_spread_around_a_large_mean_is_seen() {
        let mut fit = Fit::new(1);
        fit.add_floats(&[1e7, 1e7 + 1.0, 1e7 + 2.0]);
        let m = fit.moments()[0];
        assert_eq!(m.mean, 1e7 + 1.0);
        assert!((m.deviation - (2.0_f64 / 3.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn min_max_brings_training_values_to_0_to_1() {
        let mut fit = Fit::new(2);
        fit.add_floats(&[2.0, -4.0, 6.0, 4.0]);
        let (mean, deviation) = statistics(Standardise::MinMax, &fit.moments(), 0.5, Constant::Refuse, &ROWS).unwrap();
        assert_eq!((mean, deviation), (vec![1.0, -2.0], vec![2.0, 4.0]));
    }

    #[test]
    fn a_constant_feature_is_named_or_kept() {
        let mut fit = Fit::new(2);
        fit.add_floats(&[2.0, 7.0, 6.0, 7.0]);
        let named = Elements::Vector { features: 2, names: vec!["a".into(), "b".into()] };
        let run = |constant| statistics(Standardise::Feature, &fit.moments(), 1.0, constant, &named);
        let error = run(Constant::Refuse).unwrap_err();
        assert!(error.message().starts_with("feature `b` is 7 in every training sample"), "{error}");
        assert_eq!(run(Constant::Keep).unwrap(), (vec![4.0, 7.0], vec![2.0, 1.0]));
    }

    proptest! {
        #[test]
        fn bytes_and_floats_agree(samples in prop::collection::vec(prop::collection::vec(any::<u8>(), 6), 1..20), groups in 1..4usize) {
            prop_assume!(6 % groups == 0);
            let (mut bytes, mut floats) = (Fit::new(groups), Fit::new(groups));
            for sample in &samples {
                bytes.add_bytes(sample);
                floats.add_floats(&sample.iter().map(|&x| f32::from(x)).collect::<Vec<_>>());
            }
            for (a, b) in bytes.moments().iter().zip(floats.moments()) {
                prop_assert!((a.mean - b.mean).abs() < 1e-9 && (a.deviation - b.deviation).abs() < 1e-6, "{a:?} {b:?}");
                prop_assert_eq!((a.min, a.max), (b.min, b.max));
            }
        }
    }
}
