//! Losses of a chunk of rows: the sum of the losses, and the gradient of each value.
//!
//! Sums are in `f64` and not divided; `factor` is what the gradient is multiplied by, `1 / batch` for the mean over a batch.

use super::bits::{Bits, Kernel, run};
use super::math::{exp, ln};
use super::rows::{Term, row_max, row_sum, row_write, row_write_sum, term};
use super::softmax::ExpBelow;

/// What a chunk of rows adds to a weighted mean.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSum {
    /// The sum of the rows' losses.
    pub loss: f64,
    /// The sum of the weights of the rows' labels; the number of rows where there are no weights.
    pub weight: f64,
}

/// The sum of the weights of `labels`, which [`softmax_cross_entropy`] divides by in the mean: `factor` is its inverse.
///
/// # Panics
/// When a label is not below the number of weights.
pub fn label_weights(labels: &[u32], weights: &[f32]) -> f64 {
    labels.iter().map(|label| f64::from(weights[*label as usize])).sum()
}

/// Cross entropy of softmax with the right class, as PyTorch's `cross_entropy`.
///
/// With `p` the softmax of a row, `w` the weights of the classes (1 without), `y` the label, `s` the smoothing in 0..=1
/// and `K` the classes, a row's loss is `-(1 - s) w[y] ln p[y] - s / K sum_k w[k] ln p[k]`; its gradient is
/// `((1 - s) w[y] + s / K sum_k w[k]) p[j] - (1 - s) w[y] [j = y] - s / K w[j]`, times `factor`. PyTorch's mean divides
/// the sum of losses by the sum of `w[y]`.
///
/// # Panics
/// When lengths disagree or a label is not below `classes`.
#[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
pub fn softmax_cross_entropy(
    rows: usize,
    classes: usize,
    logits: &[f32],
    labels: &[u32],
    weights: Option<&[f32]>,
    smoothing: f32,
    factor: f32,
    dlogits: &mut [f32],
) -> LossSum {
    check(rows, classes, logits, weights, dlogits);
    assert_eq!(labels.len(), rows, "one label for each row");
    assert!(labels.iter().all(|label| (*label as usize) < classes), "labels are below the number of classes");
    let (logits, dlogits) = (logits.as_ptr(), dlogits.as_mut_ptr());
    // SAFETY: lengths and labels were checked.
    let loss = unsafe { run(Hard { classes, logits, labels, weights, smoothing, factor, dlogits }) };
    LossSum { loss, weight: weights.map_or(rows as f64, |weights| label_weights(labels, weights)) }
}

/// Cross entropy of softmax with given probabilities `targets` `[rows, classes]`, as PyTorch's `cross_entropy`.
///
/// With `t = (1 - s) targets + s / K`, a row's loss is `-sum_k w[k] t[k] ln p[k]` and its gradient
/// `p[j] sum_k w[k] t[k] - w[j] t[j]`, times `factor`. PyTorch's mean divides by the rows. Returns the sum of losses.
///
/// # Panics
/// When lengths disagree.
#[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
pub fn soft_cross_entropy(
    rows: usize,
    classes: usize,
    logits: &[f32],
    targets: &[f32],
    weights: Option<&[f32]>,
    smoothing: f32,
    factor: f32,
    dlogits: &mut [f32],
) -> f64 {
    check(rows, classes, logits, weights, dlogits);
    assert_eq!(targets.len(), logits.len(), "`targets` is [rows, classes]");
    let (logits, targets, dlogits) = (logits.as_ptr(), targets.as_ptr(), dlogits.as_mut_ptr());
    let ones = if weights.is_none() { vec![1.0; classes] } else { Vec::new() };
    let weights = weights.unwrap_or(&ones).as_ptr();
    let smooth = Smooth { keep: 1.0 - smoothing, share: smoothing / classes as f32 };
    // SAFETY: lengths were checked.
    unsafe { run(Soft { rows, classes, logits, targets, weights, smooth, factor, dlogits }) }
}

fn check(rows: usize, classes: usize, logits: &[f32], weights: Option<&[f32]>, dlogits: &[f32]) {
    assert_eq!(Some(logits.len()), rows.checked_mul(classes), "`logits` is [rows, classes]");
    assert_eq!(dlogits.len(), logits.len(), "`dlogits` is as long as `logits`");
    assert!(weights.is_none_or(|weights| weights.len() == classes), "one weight for each class");
}

/// The natural logarithm of one number.
#[inline(always)]
unsafe fn ln_of<T: Bits>(x: f64) -> f64 {
    let mut lanes = [0.0_f32; 16];
    // SAFETY: the caller's; a register fits.
    unsafe { ln(T::splat(x as f32)).store(lanes.as_mut_ptr()) };
    f64::from(lanes[0])
}

struct Hard<'a> {
    classes: usize,
    logits: *const f32,
    labels: &'a [u32],
    weights: Option<&'a [f32]>,
    smoothing: f32,
    factor: f32,
    dlogits: *mut f32,
}

impl Kernel for Hard<'_> {
    type Out = f64;
    #[inline(always)]
    unsafe fn run<T: Bits>(self) -> f64 {
        let Hard { classes, logits, labels, weights, smoothing, factor, dlogits } = self;
        let share = smoothing / classes as f32;
        let total = weights.map_or(classes as f32, |weights| weights.iter().sum());
        let mut losses = 0.0;
        for (row, label) in labels.iter().enumerate() {
            let label = *label as usize;
            let weight = weights.map_or(1.0, |weights| weights[label]);
            let own = (1.0 - smoothing) * weight;
            // SAFETY: rows lie inside the slices, labels below the classes.
            unsafe {
                let (x, d) = (logits.add(row * classes), dlogits.add(row * classes));
                let largest = row_max::<T>(x, classes);
                let sum = row_write_sum::<T, 1>(ExpBelow { largest }, [x], d, classes);
                let log_sum = ln_of::<T>(sum);
                losses += f64::from(own) * (f64::from(largest - *x.add(label)) + log_sum);
                let by = (f64::from(own + share * total) * f64::from(factor) / sum) as f32;
                if share > 0.0 {
                    let below = match weights {
                        Some(weights) => row_sum::<T, 2>(WeightedBelow { largest }, [x, weights.as_ptr()], classes),
                        None => row_sum::<T, 1>(Below { largest }, [x], classes),
                    };
                    losses += f64::from(share) * (below + f64::from(total) * log_sum);
                    let less = share * factor;
                    match weights {
                        Some(w) => row_write::<T, 2>(WeightedSpread { by, less }, [d, w.as_ptr()], d, classes),
                        None => row_write::<T, 1>(Spread { by, less }, [d], d, classes),
                    }
                } else {
                    row_write::<T, 1>(Spread { by, less: 0.0 }, [d], d, classes);
                }
                *d.add(label) -= own * factor;
            }
        }
        losses
    }
}

term!(Below { largest } [x; 1] largest.sub(x));
term!(WeightedBelow { largest } [x, w; 2] w.mul(largest.sub(x)));
term!(Spread { by, less } [e; 1] e.mul(by).sub(less));
term!(WeightedSpread { by, less } [e, w; 2] e.mul(by).sub(w.mul(less)));

/// The smoothed target `keep * t + share`.
#[derive(Clone, Copy)]
struct Smooth {
    keep: f32,
    share: f32,
}

struct Soft {
    rows: usize,
    classes: usize,
    logits: *const f32,
    targets: *const f32,
    weights: *const f32,
    smooth: Smooth,
    factor: f32,
    dlogits: *mut f32,
}

impl Kernel for Soft {
    type Out = f64;
    #[inline(always)]
    unsafe fn run<T: Bits>(self) -> f64 {
        let Soft { rows, classes, logits, targets, weights: w, smooth: Smooth { keep, share }, factor, dlogits } = self;
        let mut losses = 0.0;
        for row in 0..rows {
            let at = row * classes;
            // SAFETY: rows lie inside the slices.
            unsafe {
                let (x, t, d) = (logits.add(at), targets.add(at), dlogits.add(at));
                let largest = row_max::<T>(x, classes);
                // The smoothed, weighted targets; what they lose by is the distance below the largest.
                let total = row_write_sum::<T, 2>(Target { keep, share }, [t, w], d, classes);
                let below = row_sum::<T, 2>(WeightedBelow { largest }, [x, d], classes);
                let sum = row_sum::<T, 1>(ExpBelow { largest }, [x], classes);
                losses += below + total * ln_of::<T>(sum);
                let by = (total * f64::from(factor) / sum) as f32;
                row_write::<T, 2>(SoftGradient { largest, by, factor }, [x, d], d, classes);
            }
        }
        losses
    }
}

term!(Target { keep, share } [t, w; 2] w.mul(share.fma(keep, t)));
term!(SoftGradient { largest, by, factor } [x, t; 2] exp(x.sub(largest)).mul(by).sub(t.mul(factor)));
