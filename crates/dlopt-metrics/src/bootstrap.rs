//! The bootstrap: the same statistic on samples drawn with replacement.
//!
//! A resample is how often each sample was drawn, `[samples]`; statistics are weighted sums. Resample r draws from
//! stream r of a ChaCha8 generator, so that threads change nothing. Quantiles are interpolated between order
//! statistics as NumPy does by default. Source: B. Efron, Better bootstrap confidence intervals, 1987 (BCa, with the
//! acceleration from leaving each sample out once).

use std::num::NonZero;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::estimate::{Estimate, LEVEL, Method, Options};
use crate::intervals::{normal_cdf, normal_quantile};

/// The values of `statistics` statistics on every resample, `[statistics][resamples]`.
///
/// `make` makes a function, with its own scratch memory for one thread, from the draws `[samples]` to the values
/// `[statistics]`.
pub(crate) fn resample<F, E>(samples: usize, statistics: usize, options: &Options, make: F) -> Vec<Vec<f64>>
where
    F: Fn() -> E + Sync,
    E: FnMut(&[u32], &mut [f64]),
{
    let mut values = vec![0.0f64; options.resamples * statistics];
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, NonZero::get),
        threads => threads,
    };
    // A thread costs more than few draws do.
    let threads = threads.min(1 + samples * options.resamples / 200_000).min(options.resamples);
    let share = options.resamples.div_ceil(threads);
    let work = |first: usize, rows: &mut [f64]| {
        let mut evaluate = make();
        let mut draws = vec![0u32; samples];
        for (r, row) in rows.chunks_exact_mut(statistics).enumerate() {
            draw(options.seed, (first + r) as u64, &mut draws);
            evaluate(&draws, row);
        }
    };
    std::thread::scope(|scope| {
        let mut shares = values.chunks_mut(share * statistics).enumerate();
        let own = shares.next();
        for (t, rows) in shares {
            let work = &work;
            scope.spawn(move || work(t * share, rows));
        }
        if let Some((_, rows)) = own {
            work(0, rows);
        }
    });
    (0..statistics).map(|s| values.iter().skip(s).step_by(statistics).copied().collect()).collect()
}

/// Draws as many samples as there are, with replacement, and counts them.
fn draw(seed: u64, resample: u64, draws: &mut [u32]) {
    draws.fill(0);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(resample);
    let samples = draws.len() as u64;
    let rejected = (1u64 << 32) % samples;
    let mut left = draws.len();
    while left > 0 {
        // The high half of a product is uniform once the few low halves that would favour some samples are passed over.
        let product = u64::from(rng.next_u32()) * samples;
        if product & 0xffff_ffff >= rejected {
            draws[(product >> 32) as usize] += 1;
            left -= 1;
        }
    }
}

/// Σ draws · values, in eight fixed lanes.
pub(crate) fn weighted_sum(draws: &[u32], values: &[f64]) -> f64 {
    let mut lanes = [0.0f64; 8];
    let (draws_of_8, draws_left) = draws.as_chunks::<8>();
    let (values_of_8, values_left) = values.as_chunks::<8>();
    for (d, v) in draws_of_8.iter().zip(values_of_8) {
        for l in 0..8 {
            lanes[l] += f64::from(d[l]) * v[l];
        }
    }
    let rest: f64 = draws_left.iter().zip(values_left).map(|(d, v)| f64::from(*d) * v).sum();
    lanes.iter().sum::<f64>() + rest
}

/// The acceleration of a mean: the skewness of its terms, over six.
pub(crate) fn acceleration(influences: impl Iterator<Item = f64> + Clone) -> f64 {
    let square: f64 = influences.clone().map(|d| d * d).sum();
    let cube: f64 = influences.map(|d| d * d * d).sum();
    if square == 0.0 { 0.0 } else { cube / (6.0 * square.powf(1.5)) }
}

/// The mean of `values` `[samples]`.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The BCa interval of a mean from the means of resamples.
pub(crate) fn bca_of_mean(values: &[f64], resampled: Vec<f64>) -> Estimate {
    let value = mean(values);
    bca(value, values.len(), resampled, acceleration(values.iter().map(|v| v - value)))
}

/// The BCa interval; none of fewer than two samples, or where resamples do not vary.
pub(crate) fn bca(value: f64, samples: usize, resampled: Vec<f64>, acceleration: f64) -> Estimate {
    let Some(sorted) = spread(samples, resampled) else { return Estimate { value, interval: None } };
    let below = sorted.partition_point(|v| *v < value);
    let not_above = sorted.partition_point(|v| *v <= value);
    let rank = (below + not_above) as f64 / (2.0 * sorted.len() as f64);
    if rank == 0.0 || rank == 1.0 {
        return holding(value, quantile(&sorted, tail()), quantile(&sorted, 1.0 - tail()), Method::BootstrapPercentile);
    }
    let bias = normal_quantile(rank);
    let end = |p: f64| {
        let z = bias + normal_quantile(p);
        quantile(&sorted, normal_cdf(bias + z / (1.0 - acceleration * z)))
    };
    Estimate::new(value, end(tail()), end(1.0 - tail()), Method::BootstrapBca)
}

/// The percentile interval; none as for [`bca`].
pub(crate) fn percentile(value: f64, samples: usize, resampled: Vec<f64>) -> Estimate {
    let Some(sorted) = spread(samples, resampled) else { return Estimate { value, interval: None } };
    holding(value, quantile(&sorted, tail()), quantile(&sorted, 1.0 - tail()), Method::BootstrapPercentile)
}

/// The basic interval of a metric that is never negative; none as for [`bca`].
pub(crate) fn basic(value: f64, samples: usize, resampled: Vec<f64>) -> Estimate {
    let Some(sorted) = spread(samples, resampled) else { return Estimate { value, interval: None } };
    let low = (2.0 * value - quantile(&sorted, 1.0 - tail())).max(0.0);
    holding(value, low, 2.0 * value - quantile(&sorted, tail()), Method::BootstrapBasic)
}

/// The two-sided p-value that a statistic is zero, from its resamples: twice the smaller share on either side, with
/// the statistic itself counted as one of them.
pub(crate) fn p_value(resampled: &[f64]) -> f64 {
    let not_above = resampled.iter().filter(|v| **v <= 0.0).count();
    let not_below = resampled.iter().filter(|v| **v >= 0.0).count();
    let share = (1 + not_above.min(not_below)) as f64 / (1 + resampled.len()) as f64;
    (2.0 * share).min(1.0)
}

fn tail() -> f64 {
    (1.0 - LEVEL) / 2.0
}

fn holding(value: f64, low: f64, high: f64, method: Method) -> Estimate {
    Estimate::new(value, low.min(value), high.max(value), method)
}

/// The resamples in order, without those on which the statistic is undefined.
fn spread(samples: usize, mut resampled: Vec<f64>) -> Option<Vec<f64>> {
    resampled.retain(|v| v.is_finite());
    resampled.sort_unstable_by(f64::total_cmp);
    let (first, last) = (resampled.first()?, resampled.last()?);
    (samples > 1 && first < last).then_some(resampled)
}

/// The quantile at `p` in 0..=1 of sorted values, between order statistics.
fn quantile(sorted: &[f64], p: f64) -> f64 {
    let place = p.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let below = place as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}
