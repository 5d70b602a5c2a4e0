//! Soft targets: how far the student's distribution is from the teacher's, both at a temperature.
//!
//! `T^2 sum_c p_c (ln p_c - ln q_c)` with `p = softmax(t / T)`, `q = softmax(s / T)`; rows `[classes]`. The gradient is
//! `T (q - p)`: the square keeps its size when the temperature changes.
//! Source: Hinton, Vinyals and Dean, 2015, arXiv:1503.02531, section 2.

use dlopt_checkpoint::Result;

use super::distribution::Distribution;
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
    teacher: Distribution,
    student: Distribution,
}

fn make(options: &mut Options) -> Result<Box<dyn DistillLoss>> {
    let temperature = options.ramp("temperature", 4.0, 0.0)?;
    Ok(Box::new(SoftTargets { temperature, teacher: Distribution::default(), student: Distribution::default() }))
}

impl DistillLoss for SoftTargets {
    fn temperature(&self) -> Option<Ramp> {
        Some(self.temperature)
    }

    fn evaluate(&mut self, pair: &Pair<'_>, scale: f32, gradient: &mut [f32]) -> f64 {
        let temperature = self.temperature.at(pair.progress);
        let slope = f64::from(scale) * temperature;
        let mut sum = 0.0;
        for ((student, teacher), gradient) in pair.outputs().zip(gradient.chunks_exact_mut(pair.student.channels)) {
            self.teacher.set(teacher, temperature);
            self.student.set(student, temperature);
            let logs = self.teacher.log.iter().zip(&self.student.log);
            sum += self.teacher.p.iter().zip(logs).map(|(p, (ln_p, ln_q))| p * (ln_p - ln_q)).sum::<f64>();
            for ((p, q), gradient) in self.teacher.p.iter().zip(&self.student.p).zip(gradient) {
                *gradient += (slope * (q - p)) as f32;
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
