//! Reverse KL: the student keeps to what the teacher holds likely, and may leave out some of it.
//!
//! `T^2 sum_c q_c (ln q_c - ln p_c)` with `p = softmax(t / T)`, `q = softmax(s / T)`; rows `[classes]`. The gradient is
//! `T q_c (ln q_c - ln p_c - KL)`.
//! Source: Gu, Dong, Wei and Huang, 2023, arXiv:2306.08543, for one token. There the student's own samples
//! estimate the sum over whole texts; here it is the exact sum over classes, on the tokens of the data.

use dlopt_checkpoint::Result;

use super::distribution::{Distribution, softmax_backward};
use super::{DistillLoss, Kind, On, Pair};
use crate::options::Options;
use crate::ramp::Ramp;

pub(super) const KIND: Kind = Kind {
    name: "reverse-kl",
    summary: "T^2 KL(student || teacher) at temperature T: seeks the teacher's modes",
    source: "Gu et al., 2023, arXiv:2306.08543",
    on: On::Outputs,
    needs_classes: true,
    needs_labels: false,
    options: &[("temperature", "T; 1")],
    make,
};

struct ReverseKl {
    temperature: Ramp,
    teacher: Distribution,
    student: Distribution,
    /// `ln q - ln p` of a row, `[classes]`.
    excess: Vec<f64>,
}

fn make(options: &mut Options) -> Result<Box<dyn DistillLoss>> {
    let temperature = options.ramp("temperature", 1.0, 0.0)?;
    let (teacher, student) = (Distribution::default(), Distribution::default());
    Ok(Box::new(ReverseKl { temperature, teacher, student, excess: Vec::new() }))
}

impl DistillLoss for ReverseKl {
    fn temperature(&self) -> Option<Ramp> {
        Some(self.temperature)
    }

    fn evaluate(&mut self, pair: &Pair<'_>, scale: f32, gradient: &mut [f32]) -> f64 {
        let temperature = self.temperature.at(pair.progress);
        let mut sum = 0.0;
        for ((student, teacher), gradient) in pair.outputs().zip(gradient.chunks_exact_mut(pair.student.channels)) {
            self.teacher.set(teacher, temperature);
            self.student.set(student, temperature);
            self.excess.clear();
            self.excess.extend(self.student.log.iter().zip(&self.teacher.log).map(|(q, p)| q - p));
            sum += self.student.p.iter().zip(&self.excess).map(|(q, excess)| q * excess).sum::<f64>();
            softmax_backward(&self.student.p, &self.excess, f64::from(scale) * temperature, gradient);
        }
        temperature * temperature * sum
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_gradient, logits};
    use super::*;

    #[test]
    fn two_classes_by_hand() {
        // T = 1: p = (3/4, 1/4), q = (1/2, 1/2); KL = -1/2 ln(3/4), and the gradient is 1/4 (ln(2/3) - ln 2).
        let mut loss = make(&mut Options::default()).unwrap();
        let mut gradient = [0.0; 2];
        let sum = loss.evaluate(&logits(&[0.0, 0.0], &[3.0_f32.ln(), 0.0], 2), 1.0, &mut gradient);
        assert!((sum + 0.5 * 0.75_f64.ln()).abs() < 1e-7, "{sum}");
        let wanted = -0.25 * 3.0_f32.ln();
        assert!((gradient[0] - wanted).abs() < 1e-6 && (gradient[1] + wanted).abs() < 1e-6, "{gradient:?}");
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        check_gradient(&KIND, &[], ([1, 1], 5), ([1, 1], 5));
        check_gradient(&KIND, &["temperature=4"], ([1, 1], 3), ([1, 1], 3));
    }
}
