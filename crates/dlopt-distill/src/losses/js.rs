//! Generalised Jensen-Shannon divergence: both distributions against their mixture, which bounds it.
//!
//! `T^2 (beta KL(p || m) + (1 - beta) KL(q || m))` with `m = beta p + (1 - beta) q`, `p = softmax(t / T)` of the teacher,
//! `q = softmax(s / T)` of the student; rows `[classes]`. With respect to `q_c` its slope is
//! `(1 - beta) (ln q_c - ln m_c)`, times `T^2`, but for what is the same in all classes.
//! Over `beta` it nears KL(teacher || student) for `beta` to 0, over `1 - beta` the reverse for `beta` to 1.
//! Source: Agarwal, Vieillard, Zhou, Stanczyk, Ramos, Geist and Bachem, 2023, arXiv:2306.13649, of which `T^2` is no part.

use dlopt_checkpoint::{Error, Result};

use super::distribution::{Distribution, softmax_backward};
use super::{DistillLoss, Kind, On, Pair};
use crate::options::Options;
use crate::ramp::Ramp;

pub(super) const KIND: Kind = Kind {
    name: "js",
    summary: "generalised Jensen-Shannon divergence: both against their mixture, times T^2",
    source: "Agarwal et al., 2023, arXiv:2306.13649",
    on: On::Outputs,
    needs_classes: true,
    needs_labels: false,
    options: &[("beta", "the teacher's part of the mixture, between 0 and 1; 0.5"), ("temperature", "T; 1")],
    make,
};

struct JensenShannon {
    beta: f64,
    temperature: Ramp,
    teacher: Distribution,
    student: Distribution,
    /// `(1 - beta) (ln q - ln m)` of a row, `[classes]`.
    slopes: Vec<f64>,
}

fn make(options: &mut Options) -> Result<Box<dyn DistillLoss>> {
    let beta = options.number("beta", 0.5, 0.0)?;
    if beta <= 0.0 || beta >= 1.0 {
        return Err(Error::usage(format!("beta is {beta}; it must lie between 0 and 1"))
            .hint("the loss is 0 at both ends; kd is KL(teacher || student), reverse-kl the other way"));
    }
    let temperature = options.ramp("temperature", 1.0, 0.0)?;
    let (teacher, student) = (Distribution::default(), Distribution::default());
    Ok(Box::new(JensenShannon { beta, temperature, teacher, student, slopes: Vec::new() }))
}

impl DistillLoss for JensenShannon {
    fn temperature(&self) -> Option<Ramp> {
        Some(self.temperature)
    }

    fn evaluate(&mut self, pair: &Pair<'_>, scale: f32, gradient: &mut [f32]) -> f64 {
        let temperature = self.temperature.at(pair.progress);
        let (of_teacher, of_student) = (self.beta, 1.0 - self.beta);
        let mut sum = 0.0;
        for ((student, teacher), gradient) in pair.outputs().zip(gradient.chunks_exact_mut(pair.student.channels)) {
            self.teacher.set(teacher, temperature);
            self.student.set(student, temperature);
            self.slopes.clear();
            let logs = self.teacher.log.iter().zip(&self.student.log);
            for ((p, q), (ln_p, ln_q)) in self.teacher.p.iter().zip(&self.student.p).zip(logs) {
                let mixed = of_teacher * p + of_student * q;
                // A class too unlikely for both to be told from 0 adds nothing, but its logarithm is not finite.
                let ln_m = if mixed > 0.0 { mixed.ln() } else { *ln_q };
                let slope = of_student * (ln_q - ln_m);
                sum += if mixed > 0.0 { of_teacher * p * (ln_p - ln_m) + q * slope } else { 0.0 };
                self.slopes.push(slope);
            }
            softmax_backward(&self.student.p, &self.slopes, f64::from(scale) * temperature, gradient);
        }
        temperature * temperature * sum
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_gradient, logits, numbers};
    use super::*;

    fn with_beta(beta: &str) -> Box<dyn DistillLoss> {
        make(&mut Options::parse(std::iter::once(format!("beta={beta}").as_str())).unwrap()).unwrap()
    }

    #[test]
    fn two_classes_by_hand() {
        // p = (3/4, 1/4), q = (1/4, 3/4), m = (1/2, 1/2): both are as far from m.
        let ln3 = 3.0_f32.ln();
        let mut gradient = [0.0; 2];
        let sum = with_beta("0.5").evaluate(&logits(&[0.0, ln3], &[ln3, 0.0], 2), 1.0, &mut gradient);
        let wanted = 0.75 * 1.5_f64.ln() + 0.25 * 0.5_f64.ln();
        assert!((sum - wanted).abs() < 1e-7, "{sum}, wanted {wanted}");
        // 1/2 q_0 q_1 (ln(1/2) - ln(3/2)) = -3/32 ln 3.
        assert!((gradient[0] + 3.0 / 32.0 * ln3).abs() < 1e-6, "{gradient:?}");
    }

    #[test]
    fn beta_of_a_half_is_symmetric_and_others_mirror_each_other() {
        let (a, b) = (numbers(21, 0.3), numbers(21, 1.9));
        let value = |beta: &str, student: &[f32], teacher: &[f32]| {
            with_beta(beta).evaluate(&logits(student, teacher, 7), 0.0, &mut [0.0; 21])
        };
        for (beta, mirrored) in [("0.5", "0.5"), ("0.25", "0.75"), ("0.9", "0.1")] {
            let (one, other) = (value(beta, &a, &b), value(mirrored, &b, &a));
            assert!((one - other).abs() < 1e-12 * one && one > 0.01, "{beta}: {one} and {other}");
        }
        // Never more than the entropy of the mixture's parts, ln 2 a row.
        assert!(value("0.5", &a, &b) < 3.0 * 2.0_f64.ln());
    }

    #[test]
    fn near_its_ends_it_is_one_of_the_two_divergences() {
        let (student, teacher) = (numbers(7, 0.3), numbers(7, 1.9));
        let pair = logits(&student, &teacher, 7);
        let mut unused = [0.0; 7];
        let of = |kind: &Kind| (kind.make)(&mut Options::parse(std::iter::once("temperature=1")).unwrap()).unwrap();
        let forward = of(&super::super::kd::KIND).evaluate(&pair, 0.0, &mut unused);
        let reverse = of(&super::super::reverse_kl::KIND).evaluate(&pair, 0.0, &mut unused);
        let low = with_beta("0.00001").evaluate(&pair, 0.0, &mut unused) / 0.00001;
        let high = with_beta("0.99999").evaluate(&pair, 0.0, &mut unused) / 0.00001;
        assert!((low / forward - 1.0).abs() < 1e-3 && (high / reverse - 1.0).abs() < 1e-3, "{low} {high}");
    }

    #[test]
    fn an_end_of_beta_is_refused() {
        for beta in ["beta=0", "beta=1", "beta=2"] {
            let error = make(&mut Options::parse(std::iter::once(beta)).unwrap()).err().unwrap();
            assert!(error.message().contains("between 0 and 1"), "{error}");
        }
    }

    #[test]
    fn classes_that_nobody_holds_possible_cost_nothing() {
        let student = [0.0, 1.0, -5000.0];
        let mut gradient = [0.0; 3];
        let sum = with_beta("0.3").evaluate(&logits(&student, &[1.0, 0.0, -4000.0], 3), 1.0, &mut gradient);
        assert!(sum.is_finite() && gradient.iter().all(|g| g.is_finite()) && gradient[2] == 0.0, "{sum} {gradient:?}");
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        check_gradient(&KIND, &[], ([1, 1], 5), ([1, 1], 5));
        check_gradient(&KIND, &["beta=0.1", "temperature=2"], ([1, 1], 3), ([1, 1], 3));
    }
}
