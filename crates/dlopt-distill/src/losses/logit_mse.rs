//! Logit matching: the student's logits against the teacher's, before any softmax.
//!
//! `mean_c (s_c - t_c)^2`; rows `[classes]`. With `center=yes`, the mean over classes is taken off both first, so that a
//! shift, which no softmax sees, costs nothing.
//! Source: Ba and Caruana, 2013, arXiv:1312.6184. There it is half of the sum over classes: a mean does not
//! grow with their number.

use dlopt_checkpoint::{Error, Result};

use super::{DistillLoss, Kind, On, Pair};
use crate::options::Options;

pub(super) const KIND: Kind = Kind {
    name: "logit-mse",
    summary: "mean squared difference of logits",
    source: "Ba and Caruana, 2013, arXiv:1312.6184",
    on: On::Outputs,
    needs_classes: false,
    needs_labels: false,
    options: &[("center", "whether each row's mean is taken off first, yes or no; no")],
    make,
};

struct LogitMse {
    is_centered: bool,
}

fn make(options: &mut Options) -> Result<Box<dyn DistillLoss>> {
    let is_centered = match options.text("center").as_deref() {
        None | Some("no") => false,
        Some("yes") => true,
        Some(text) => return Err(Error::usage(format!("center is {text}; it must be yes or no"))),
    };
    Ok(Box::new(LogitMse { is_centered }))
}

impl DistillLoss for LogitMse {
    fn evaluate(&mut self, pair: &Pair<'_>, scale: f32, gradient: &mut [f32]) -> f64 {
        let classes = pair.student.channels as f64;
        let slope = 2.0 * f64::from(scale) / classes;
        let mut sum = 0.0;
        for ((student, teacher), gradient) in pair.outputs().zip(gradient.chunks_exact_mut(pair.student.channels)) {
            let differences = || student.iter().zip(teacher).map(|(s, t)| f64::from(*s) - f64::from(*t));
            let shift = if self.is_centered { differences().sum::<f64>() / classes } else { 0.0 };
            for (difference, gradient) in differences().zip(gradient) {
                let difference = difference - shift;
                sum += difference * difference;
                *gradient += (slope * difference) as f32;
            }
        }
        sum / classes
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_gradient, logits};
    use super::*;

    #[test]
    fn two_rows_by_hand_with_and_without_their_means() {
        let pair = logits(&[1.0, 2.0, 5.0, 0.0], &[0.0, 4.0, 5.0, 0.0], 2);
        for (center, wanted, slopes) in [("no", 2.5, [1.0, -2.0, 0.0, 0.0]), ("yes", 2.25, [1.5, -1.5, 0.0, 0.0])] {
            let option = format!("center={center}");
            let mut loss = make(&mut Options::parse(std::iter::once(option.as_str())).unwrap()).unwrap();
            let mut gradient = [0.0; 4];
            assert_eq!(loss.evaluate(&pair, 1.0, &mut gradient), wanted);
            assert_eq!(gradient, slopes);
        }
    }

    #[test]
    fn an_answer_that_is_neither_yes_nor_no_is_refused() {
        let error = make(&mut Options::parse(std::iter::once("center=maybe")).unwrap()).err().unwrap();
        assert!(error.message().contains("yes or no"), "{error}");
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        check_gradient(&KIND, &[], ([1, 1], 5), ([1, 1], 5));
        check_gradient(&KIND, &["center=yes"], ([1, 1], 3), ([1, 1], 3));
    }
}
