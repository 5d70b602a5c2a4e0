//! Decoupled soft targets: how likely the right class is, and how the others share the rest, weighed apart.
//!
//! `T^2 (alpha TCKD + beta NCKD)` with `p = softmax(t / T)`, `q = softmax(s / T)`, rows `[classes]`, and the label `y`:
//! `TCKD = KL((p_y, 1 - p_y) || (q_y, 1 - q_y))`, and `NCKD = KL(p' || q')`, where `p'_c = p_c / (1 - p_y)` over the
//! classes other than `y`, likewise `q'`. Soft targets as such weigh NCKD with `1 - p_y`: little where the teacher is sure.
//! A row whose label is no class adds nothing, nor does a single class.
//! Source: Zhao, Cui, Song, Qiu and Liang, 2022, arXiv:2203.08679; the square of T as in the authors' code.

use dlopt_checkpoint::Result;

use super::distribution::Distribution;
use super::{DistillLoss, Kind, On, Pair};
use crate::options::Options;
use crate::ramp::Ramp;

pub(super) const KIND: Kind = Kind {
    name: "dkd",
    summary: "decoupled soft targets: the right class and the others apart, times T^2",
    source: "Zhao et al., 2022, arXiv:2203.08679",
    on: On::Outputs,
    needs_classes: true,
    needs_labels: true,
    options: &[
        ("alpha", "weight of the right class against the rest; 1"),
        ("beta", "weight of how the others share the rest; 8"),
        ("temperature", "T; 4"),
    ],
    make,
};

struct Decoupled {
    alpha: f64,
    beta: f64,
    temperature: Ramp,
    teacher: Distribution,
    student: Distribution,
}

fn make(options: &mut Options) -> Result<Box<dyn DistillLoss>> {
    Ok(Box::new(Decoupled {
        alpha: options.number("alpha", 1.0, 0.0)?,
        beta: options.number("beta", 8.0, 0.0)?,
        temperature: options.ramp("temperature", 4.0, 0.0)?,
        teacher: Distribution::default(),
        student: Distribution::default(),
    }))
}

impl DistillLoss for Decoupled {
    fn temperature(&self) -> Option<Ramp> {
        Some(self.temperature)
    }

    fn evaluate(&mut self, pair: &Pair<'_>, scale: f32, gradient: &mut [f32]) -> f64 {
        let temperature = self.temperature.at(pair.progress);
        let slope = f64::from(scale) * temperature;
        let classes = pair.student.channels;
        let mut sum = 0.0;
        let rows = pair.outputs().zip(pair.labels).zip(gradient.chunks_exact_mut(classes));
        for (((student, teacher), &label), gradient) in rows {
            let right = label as usize;
            if right >= classes || classes < 2 {
                continue;
            }
            self.teacher.set(teacher, temperature);
            self.student.set(student, temperature);
            sum += self.row(right, slope, gradient);
        }
        temperature * temperature * sum
    }
}

impl Decoupled {
    /// `alpha TCKD + beta NCKD` of the row that both distributions hold; adds `slope` times its gradient with respect to
    /// `s / T`.
    fn row(&self, right: usize, slope: f64, gradient: &mut [f32]) -> f64 {
        let (teacher, student) = (&self.teacher, &self.student);
        let (p_rest, q_rest) = (log_rest(&teacher.log, right), log_rest(&student.log, right));
        let (p, q) = (teacher.p[right], student.p[right]);
        let of_right = p * (teacher.log[right] - student.log[right]) + p_rest.exp() * (p_rest - q_rest);
        let mut of_others = 0.0;
        let logs = teacher.log.iter().zip(&student.log);
        for (class, ((ln_p, ln_q), gradient)) in logs.zip(gradient).enumerate() {
            if class == right {
                *gradient += (slope * self.alpha * (q - p)) as f32;
                continue;
            }
            let (ln_p, ln_q) = (ln_p - p_rest, ln_q - q_rest);
            let (share_p, share_q) = (ln_p.exp(), ln_q.exp());
            of_others += share_p * (ln_p - ln_q);
            *gradient += (slope * (self.alpha * (p - q) * share_q + self.beta * (share_q - share_p))) as f32;
        }
        self.alpha * of_right + self.beta * of_others
    }
}

/// `ln(1 - p_right)`, as the logarithm of the sum over the others: exact where the right class leaves next to nothing.
fn log_rest(log: &[f64], right: usize) -> f64 {
    let others = || log.iter().enumerate().filter(|(class, _)| *class != right).map(|(_, log)| *log);
    let most = others().fold(f64::NEG_INFINITY, f64::max);
    most + others().map(|log| (log - most).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_gradient, logits, numbers};
    use super::*;

    fn with(options: &[&str]) -> Box<dyn DistillLoss> {
        make(&mut Options::parse(options.iter().copied()).unwrap()).unwrap()
    }

    #[test]
    fn three_classes_by_hand() {
        // p = (1/2, 1/3, 1/6), q = (1/2, 1/4, 1/4), y = 0: TCKD is 0, NCKD = 2/3 ln(4/3) + 1/3 ln(2/3).
        let teacher = [3.0_f32.ln(), 2.0_f32.ln(), 0.0];
        let student = [2.0_f32.ln(), 0.0, 0.0];
        let pair = Pair { labels: &[0], ..logits(&student, &teacher, 3) };
        let mut gradient = [0.0; 3];
        let sum = with(&["alpha=5", "beta=2", "temperature=1"]).evaluate(&pair, 1.0, &mut gradient);
        let wanted = 2.0 * (2.0 / 3.0 * (4.0_f64 / 3.0).ln() + 1.0 / 3.0 * (2.0_f64 / 3.0).ln());
        assert!((sum - wanted).abs() < 1e-6, "{sum}, wanted {wanted}");
        let slopes = [0.0, 2.0 * (0.5 - 2.0 / 3.0), 2.0 * (0.5 - 1.0 / 3.0)];
        assert!(gradient.iter().zip(slopes).all(|(g, wanted)| (g - wanted).abs() < 1e-6), "{gradient:?}");
    }

    #[test]
    fn weighed_as_soft_targets_weigh_it_is_soft_targets() {
        // KD = TCKD + (1 - p_y) NCKD; one row, whose 1 - p_y is beta.
        let (student, teacher) = (numbers(5, 0.3), numbers(5, 1.9));
        let pair = Pair { labels: &[3], ..logits(&student, &teacher, 5) };
        let mut row = Distribution::default();
        row.set(&teacher, 2.0);
        let beta = format!("beta={}", 1.0 - row.p[3]);
        let (mut found, mut wanted) = ([0.0; 5], [0.0; 5]);
        let decoupled = with(&["temperature=2", &beta]).evaluate(&pair, 1.0, &mut found);
        let mut options = Options::parse(std::iter::once("temperature=2")).unwrap();
        let whole = (super::super::kd::KIND.make)(&mut options).unwrap().evaluate(&pair, 1.0, &mut wanted);
        assert!((decoupled - whole).abs() < 1e-12, "{decoupled}, {whole}");
        assert!(found.iter().zip(&wanted).all(|(f, w)| (f - w).abs() < 1e-6), "{found:?} {wanted:?}");
    }

    #[test]
    fn a_row_without_a_class_adds_nothing_and_a_sure_teacher_stays_finite() {
        let (student, teacher) = ([0.5, 1.0, 0.0, 900.0, 0.0, -900.0], [1.0, 0.0, 2.0, -2000.0, 2000.0, 0.0]);
        let pair = |labels| Pair { labels, ..logits(&student, &teacher, 3) };
        let mut gradient = [0.0; 6];
        let both = with(&[]).evaluate(&pair(&[7, 1]), 1.0, &mut gradient);
        assert_eq!(gradient[..3], [0.0; 3]);
        assert!(both.is_finite() && both > 0.0 && gradient.iter().all(|g| g.is_finite()), "{both} {gradient:?}");
        assert_eq!(with(&[]).evaluate(&pair(&[]), 1.0, &mut gradient), 0.0);
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        check_gradient(&KIND, &[], ([1, 1], 5), ([1, 1], 5));
        check_gradient(&KIND, &["alpha=3", "beta=0.5", "temperature=2..0.5"], ([1, 1], 3), ([1, 1], 3));
        check_gradient(&KIND, &[], ([1, 1], 2), ([1, 1], 2));
    }
}
