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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::at_every_level;
    use crate::nn::check::{assert_near, bits, numeric_gradient, values, wide};

    /// The losses of rows in `f64` with targets that are probabilities.
    fn reference(classes: usize, x: &[f64], targets: &[f64], weights: &[f64]) -> f64 {
        let row = |(x, t): (&[f64], &[f64])| {
            let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let log_sum = largest + x.iter().map(|x| (x - largest).exp()).sum::<f64>().ln();
            (0..classes).map(|k| weights[k] * t[k] * (log_sum - x[k])).sum::<f64>()
        };
        x.chunks_exact(classes).zip(targets.chunks_exact(classes)).map(row).sum()
    }

    /// `(1 - s) t + s / K`; for PyTorch's labels the first part has the weight of the label, as here.
    fn smoothed(classes: usize, targets: &[f64], s: f64) -> Vec<f64> {
        targets.iter().map(|t| (1.0 - s) * t + s / classes as f64).collect()
    }

    const CASES: [(usize, usize, f32, bool); 6] = [
        (1, 1, 0.0, false),
        (5, 3, 0.0, false),
        (4, 10, 0.0, true),
        (3, 10, 0.1, false),
        (3, 37, 0.25, true),
        (2, 16, 1.0, true),
    ];

    fn positive(len: usize) -> Vec<f32> {
        values(len, 6).iter().map(|w| w.abs() + 0.25).collect()
    }

    #[test]
    fn labels_give_pytorchs_losses_and_their_gradients() {
        for (rows, classes, smoothing, weighted) in CASES {
            let x: Vec<f32> = values(rows * classes, 1).iter().map(|x| 4.0 * x).collect();
            let labels: Vec<u32> = (0..rows).map(|r| (r * 7 % classes) as u32).collect();
            let weights = positive(classes);
            let used = if weighted { wide(&weights) } else { vec![1.0; classes] };
            let mut hot = vec![0.0; x.len()];
            (0..rows).for_each(|r| hot[r * classes + labels[r] as usize] = 1.0);
            let targets = smoothed(classes, &hot, f64::from(smoothing));
            let mut dx = vec![f32::NAN; x.len()];
            let given = weighted.then_some(&weights[..]);
            let sum = softmax_cross_entropy(rows, classes, &x, &labels, given, smoothing, 0.5, &mut dx);
            let wanted = reference(classes, &wide(&x), &targets, &used);
            assert!((sum.loss - wanted).abs() <= 1e-6 * wanted.max(1.0), "{} for {wanted}", sum.loss);
            let weight: f64 = labels.iter().map(|label| used[*label as usize]).sum();
            assert_eq!(sum.weight, weight);
            let slopes = numeric_gradient(&wide(&x), |x| 0.5 * reference(classes, x, &targets, &used));
            assert_near(&dx, &slopes, 1e-6);
        }
    }

    #[test]
    fn probabilities_give_pytorchs_losses_and_their_gradients() {
        for (rows, classes, smoothing, weighted) in CASES {
            let x: Vec<f32> = values(rows * classes, 1).iter().map(|x| 4.0 * x).collect();
            let mut targets = positive(x.len());
            for row in targets.chunks_exact_mut(classes) {
                let sum: f32 = row.iter().sum();
                row.iter_mut().for_each(|t| *t /= sum);
            }
            let weights = positive(classes);
            let used = if weighted { wide(&weights) } else { vec![1.0; classes] };
            let smooth = smoothed(classes, &wide(&targets), f64::from(smoothing));
            let mut dx = vec![f32::NAN; x.len()];
            let given = weighted.then_some(&weights[..]);
            let sum = soft_cross_entropy(rows, classes, &x, &targets, given, smoothing, 0.5, &mut dx);
            let wanted = reference(classes, &wide(&x), &smooth, &used);
            assert!((sum - wanted).abs() <= 1e-6 * wanted.max(1.0), "{sum} for {wanted}");
            let slopes = numeric_gradient(&wide(&x), |x| 0.5 * reference(classes, x, &smooth, &used));
            assert_near(&dx, &slopes, 2e-6);
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bytes() {
        for (rows, classes) in [(0, 3), (3, 1), (5, 10), (2, 33), (3, 130)] {
            let x = values(rows * classes, 1);
            let (targets, weights) = (positive(x.len()), positive(classes));
            let labels: Vec<u32> = (0..rows).map(|r| (r * 5 % classes) as u32).collect();
            at_every_level(|| {
                let (mut hard, mut soft) = (x.clone(), x.clone());
                let sum = softmax_cross_entropy(rows, classes, &x, &labels, Some(&weights), 0.1, 0.3, &mut hard);
                let loss = soft_cross_entropy(rows, classes, &x, &targets, Some(&weights), 0.1, 0.3, &mut soft);
                (sum.loss.to_bits(), loss.to_bits(), bits(&hard), bits(&soft))
            });
        }
    }

    #[test]
    fn a_sure_and_wrong_row_has_a_finite_loss_and_a_nan_row_is_nan() {
        let mut dx = [0.0; 4];
        let sum = softmax_cross_entropy(1, 2, &[1000.0, -1000.0], &[1], None, 0.0, 1.0, &mut dx[..2]);
        assert_eq!((sum.loss, &dx[..2]), (2000.0, &[1.0, -1.0][..]));
        let sum = softmax_cross_entropy(2, 2, &[f32::NAN, 0.0, 1.0, 1.0], &[1, 0], None, 0.0, 1.0, &mut dx);
        assert!(sum.loss.is_nan() && dx[0].is_nan() && dx[1].is_nan());
        assert_eq!(dx[2..], [-0.5, 0.5]);
    }

    #[test]
    #[should_panic(expected = "below the number of classes")]
    fn a_label_past_the_classes_is_refused() {
        softmax_cross_entropy(1, 3, &[0.0; 3], &[3], None, 0.0, 1.0, &mut [0.0; 3]);
    }
}
