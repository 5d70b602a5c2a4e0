//! The mean answer of a model to several views of each sample: test-time augmentation.
//!
//! With `p_v` what the model gives for view `v` of `V`, `p = (1 / V) sum_v p_v`: of the probabilities of classes (softmax),
//! of the probabilities of a yes (sigmoid), or of numbers. Of probabilities the result is logits again, so that every
//! metric takes it: those of the first view plus `ln p - ln p_1`, and minus `ln (1 - p) - ln (1 - p_1)` for a yes; their
//! softmax or sigmoid is `p`. Sums are of logarithms, so that nothing vanishes, and views that all say the same give the
//! logits of the first to the last bit. Shapes: `[samples, outputs]`.
//! Source: Krizhevsky, Sutskever and Hinton, ImageNet classification with deep convolutional neural networks, 2012,
//! section 4.1 (the mean softmax of ten crops).

use dlopt_checkpoint::{Error, Result};

use crate::softmax::argmax;

/// What the outputs of a model are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// Logits of classes that exclude each other.
    Classes,
    /// Logits of answers that are each yes or no.
    YesOrNo,
    /// Numbers.
    Numbers,
}

/// Takes the mean over views.
#[derive(Clone, Debug)]
pub struct MeanOfViews {
    kind: OutputKind,
    /// Outputs of a sample.
    width: usize,
    views: usize,
    /// What the first view gave, `[samples, outputs]`.
    first: Vec<f32>,
    /// Of every output, or of its yes and of its no.
    sums: Vec<LogSum>,
    /// Means of numbers so far.
    means: Vec<f64>,
}

/// `ln sum_v exp(l_v)` as `largest + ln sum`.
#[derive(Clone, Copy, Debug)]
struct LogSum {
    largest: f64,
    sum: f64,
}

impl MeanOfViews {
    /// Begins with the first view: what the model gives for every sample, `[samples, outputs]`, `width` > 0 outputs each.
    pub fn new(kind: OutputKind, width: usize, first: Vec<f32>) -> Self {
        let logs = logarithms(kind, width, &first);
        let sums = logs.map(|log| LogSum { largest: log, sum: 1.0 }).collect();
        let means = match kind {
            OutputKind::Numbers => first.iter().map(|&x| f64::from(x)).collect(),
            _ => Vec::new(),
        };
        Self { kind, width, views: 1, first, sums, means }
    }

    /// Adds what the model gives for another view of every sample, in the same order.
    ///
    /// # Errors
    /// When it is not as many numbers as for the first view.
    pub fn add(&mut self, outputs: &[f32]) -> Result<()> {
        if outputs.len() != self.first.len() {
            return Err(Error::input(format!(
                "a view has {} outputs, and the first has {}",
                outputs.len(),
                self.first.len()
            )));
        }
        self.views += 1;
        for (sum, log) in self.sums.iter_mut().zip(logarithms(self.kind, self.width, outputs)) {
            sum.add(log);
        }
        for (mean, &x) in self.means.iter_mut().zip(outputs) {
            *mean += (f64::from(x) - *mean) / self.views as f64;
        }
        Ok(())
    }

    /// The mean as the model's own outputs: logits or numbers, `[samples, outputs]`.
    pub fn outputs(&self) -> Vec<f32> {
        let views = self.views as f64;
        let grown = |sum: &LogSum, first: f64| sum.largest + (sum.sum / views).ln() - first;
        let firsts = logarithms(self.kind, self.width, &self.first);
        match self.kind {
            OutputKind::Numbers => self.means.iter().map(|&mean| mean as f32).collect(),
            OutputKind::Classes => {
                let all = self.first.iter().zip(&self.sums).zip(firsts);
                all.map(|((&x, sum), first)| (f64::from(x) + grown(sum, first)) as f32).collect()
            }
            OutputKind::YesOrNo => {
                let firsts: Vec<f64> = firsts.collect();
                let pairs = self.sums.as_chunks::<2>().0.iter().zip(firsts.as_chunks::<2>().0);
                let all = self.first.iter().zip(pairs);
                all.map(|(&x, ([yes, no], [first_yes, first_no]))| {
                    (f64::from(x) + grown(yes, *first_yes) - grown(no, *first_no)) as f32
                })
                .collect()
            }
        }
    }
}

impl LogSum {
    fn add(&mut self, log: f64) {
        if log > self.largest {
            self.sum = self.sum * (self.largest - log).exp() + 1.0;
            self.largest = log;
        } else {
            self.sum += (log - self.largest).exp();
        }
    }
}

/// The logarithm of every probability: of each class, or of each yes and its no; none of numbers.
fn logarithms(kind: OutputKind, width: usize, outputs: &[f32]) -> Box<dyn Iterator<Item = f64> + '_> {
    match kind {
        OutputKind::Numbers => Box::new(std::iter::empty()),
        OutputKind::Classes => Box::new(outputs.chunks_exact(width).flat_map(|row| {
            let best = argmax(row);
            let largest = f64::from(row[best]);
            // The largest term is 1, so that the rest keeps its digits when it is added up alone.
            let others = row.iter().enumerate().filter(|(class, _)| *class != best);
            let rest: f64 = others.map(|(_, &x)| (f64::from(x) - largest).exp()).sum();
            let log_sum = rest.ln_1p();
            row.iter().map(move |&x| f64::from(x) - largest - log_sum)
        })),
        OutputKind::YesOrNo => Box::new(outputs.iter().flat_map(|&x| {
            let x = f64::from(x);
            let log_sigmoid = |x: f64| x.min(0.0) - (-x.abs()).exp().ln_1p();
            [log_sigmoid(x), log_sigmoid(-x)]
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::softmax::probabilities;

    fn mean(kind: OutputKind, width: usize, views: &[&[f32]]) -> Vec<f32> {
        let mut all = MeanOfViews::new(kind, width, views[0].to_vec());
        views[1..].iter().for_each(|view| all.add(view).unwrap());
        all.outputs()
    }

    #[test]
    fn probabilities_of_classes_are_averaged() {
        // Logits ln p: of the first view 0.5, 0.25, 0.25, of the second 0.2, 0.2, 0.6, of the third 0.8, 0.1, 0.1.
        let logs = |all: [f64; 3]| all.map(|p| p.ln() as f32);
        let views = [logs([0.5, 0.25, 0.25]), logs([0.2, 0.2, 0.6]), logs([0.8, 0.1, 0.1])];
        let found = probabilities(&mean(OutputKind::Classes, 3, &views.each_ref().map(|view| &view[..])));
        for (found, wanted) in found.iter().zip([0.5, 0.55 / 3.0, 0.95 / 3.0]) {
            assert!((found - wanted).abs() < 1e-6, "{found} {wanted}");
        }
    }

    #[test]
    fn what_is_surer_counts_for_more_than_how_many_say_so() {
        let found = mean(OutputKind::Classes, 2, &[&[0.1, 0.0], &[0.2, 0.0], &[0.0, 9.0]]);
        assert!(found[1] > found[0], "{found:?}");
    }

    #[test]
    fn probabilities_of_a_yes_are_averaged() {
        let logit = |p: f64| (p / (1.0 - p)).ln() as f32;
        let found = mean(OutputKind::YesOrNo, 2, &[&[logit(0.9), logit(0.2)], &[logit(0.4), logit(0.1)]]);
        for (found, wanted) in found.iter().zip([0.65, 0.15]) {
            let found = 1.0 / (1.0 + (-f64::from(*found)).exp());
            assert!((found - wanted).abs() < 1e-6, "{found} {wanted}");
        }
    }

    #[test]
    fn numbers_are_averaged() {
        assert_eq!(mean(OutputKind::Numbers, 1, &[&[1.0, -2.0], &[2.0, 0.0], &[6.0, -4.0]]), [3.0, -2.0]);
    }

    #[test]
    fn equal_views_give_the_first_to_the_last_bit() {
        let view: Vec<f32> = (0..77).map(|at| ((at * 7919 % 1013) as f32 - 500.0) * 0.0371).collect();
        for kind in [OutputKind::Classes, OutputKind::YesOrNo, OutputKind::Numbers] {
            for views in [2, 3, 10] {
                assert_eq!(mean(kind, 7, &vec![&view[..]; views]), view, "{kind:?} {views}");
            }
        }
    }

    #[test]
    fn logits_of_any_size_stay_finite() {
        for kind in [OutputKind::Classes, OutputKind::YesOrNo] {
            let found = mean(kind, 2, &[&[3000.0, -3000.0], &[-3000.0, 3000.0]]);
            assert!(found.iter().all(|x| x.is_finite()), "{kind:?} {found:?}");
            // Each was given all of the probability once.
            assert!((f64::from(found[0]) - f64::from(found[1])).abs() < 1e-3, "{kind:?} {found:?}");
        }
        assert!(mean(OutputKind::Classes, 2, &[&[0.0, 1.0], &[f32::NAN, 0.0]]).iter().any(|x| x.is_nan()));
    }

    #[test]
    fn a_view_of_other_samples_is_refused() {
        assert!(MeanOfViews::new(OutputKind::Numbers, 2, vec![0.0; 4]).add(&[0.0; 2]).is_err());
    }
}
