//! Soft targets: how far the student's distribution is from the teacher's, both at a temperature.
//!
//! `T^2 sum_c p_c (ln p_c - ln q_c)` with `p = softmax(t / T)`, `q = softmax(s / T)`; rows `[classes]`. The gradient is
//! `T (q - p)`: the square keeps its size when the temperature changes.
//! Source: Hinton, Vinyals and Dean, 2015, arXiv:1503.02531, section 2.

use dlopt_checkpoint::Result;

use super::{DistillLoss, Kind, On, Pair};
use crate::options::Options;
use crate::ramp::Ramp;

pub(super) const KIND: Kind = Kind {
    name: "kd",
    summary: "soft targets: T^2 KL(teacher || student) at temperature T",
    source: "Hinton et al., 2015, arXiv:1503.02531",
    on: On::Outputs,
    needs_classes: true,
    needs_labels: false,
    options: &[("temperature", "T; 4")],
    make,
};

struct SoftTargets {
    temperature: Ramp,
}

fn make(options: &mut Options) -> Result<Box<dyn DistillLoss>> {
    Ok(Box::new(SoftTargets { temperature: options.ramp("temperature", 4.0, 0.0)? }))
}

impl DistillLoss for SoftTargets {
    fn temperature(&self) -> Option<Ramp> {
        Some(self.temperature)
    }

    fn evaluate(&mut self, pair: &Pair<'_>, scale: f32, gradient: &mut [f32]) -> f64 {
        let temperature = self.temperature.at(pair.progress);
        let classes = pair.student.channels;
        let (mut p, mut q) = (vec![0.0; classes], vec![0.0; classes]);
        let mut sum = 0.0;
        let rows = pair.student.values.chunks_exact(classes).zip(pair.teacher.values.chunks_exact(classes));
        for ((student, teacher), gradient) in rows.zip(gradient.chunks_exact_mut(classes)) {
            super::log_softmax(teacher, temperature, &mut p);
            super::log_softmax(student, temperature, &mut q);
            for ((p, q), gradient) in p.iter().zip(&q).zip(gradient) {
                sum += p.exp() * (p - q);
                *gradient += scale * (temperature * (q.exp() - p.exp())) as f32;
            }
        }
        temperature * temperature * sum
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_gradient, logits};
    use super::*;

    #[test]
    fn equal_logits_cost_nothing_and_a_shift_is_no_difference() {
        let mut loss = (KIND.make)(&mut Options::default()).unwrap();
        let student = [0.5, -1.0, 2.0, 3.0, 0.0, 1.0];
        let teacher = student.map(|v| v + 7.0);
        let mut gradient = [0.0; 6];
        let sum = loss.evaluate(&logits(&student, &teacher, 3), 1.0, &mut gradient);
        assert!(sum.abs() < 1e-9 && gradient.iter().all(|g| g.abs() < 1e-6), "{sum} {gradient:?}");
    }

    #[test]
    fn two_classes_by_hand() {
        // T = 1: p = (3/4, 1/4), q = (1/2, 1/2).
        let mut options = Options::parse(std::iter::once("temperature=1")).unwrap();
        let mut loss = make(&mut options).unwrap();
        let mut gradient = [0.0; 2];
        let sum = loss.evaluate(&logits(&[0.0, 0.0], &[3.0_f32.ln(), 0.0], 2), 2.0, &mut gradient);
        let wanted = 0.75 * 1.5_f64.ln() + 0.25 * 0.5_f64.ln();
        assert!((sum - wanted).abs() < 1e-7, "{sum}, wanted {wanted}");
        assert!((gradient[0] + 0.5).abs() < 1e-6 && (gradient[1] - 0.5).abs() < 1e-6, "{gradient:?}");
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        check_gradient(&KIND, &[], ([1, 1], 5), ([1, 1], 5));
        check_gradient(&KIND, &["temperature=2..0.5"], ([1, 1], 3), ([1, 1], 3));
    }
}
