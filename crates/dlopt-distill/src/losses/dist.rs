//! DIST: a student need not say the teacher's probabilities, only rank classes and samples as it does.
//!
//! `T^2 (beta (1 - mean_r cor(q_r, p_r)) + gamma (1 - mean_c cor(q_c, p_c)))` with `p = softmax(t / T)`,
//! `q = softmax(s / T)`, `[rows, classes]`: the mean of Pearson's correlation over rows, between classes, and over classes,
//! between rows. It compares rows with each other, so `evaluate` gives it times the rows.
//! `cor(a, b) = a.b / (|a| |b| + 1e-8)` of centred `a` and `b`. Where either has no spread the correlation is 0 and has no
//! gradient; the authors' code would divide rounding errors by 1e-8 there.
//! Source: Huang, You, Wang, Qian and Xu, 2022, arXiv:2205.10536; `T^2` and 1e-8 as in the authors' code.

use dlopt_checkpoint::Result;

use super::distribution::{Distribution, softmax_backward};
use super::{DistillLoss, Kind, On, Pair};
use crate::options::Options;
use crate::ramp::Ramp;

/// Kept from dividing by 0, as in the authors' code.
const EPSILON: f64 = 1e-8;
/// A length of centred probabilities that is rounding alone.
const NO_SPREAD: f64 = 1e-12;

pub(super) const KIND: Kind = Kind {
    name: "dist",
    summary: "one minus the correlation of probabilities, between classes and between samples, times T^2",
    source: "Huang et al., 2022, arXiv:2205.10536",
    on: On::Outputs,
    needs_classes: true,
    needs_labels: false,
    options: &[
        ("beta", "weight of the correlation between classes, row by row; 1"),
        ("gamma", "weight of the correlation between samples, class by class; 1"),
        ("temperature", "T; 1"),
    ],
    make,
};

struct Dist {
    beta: f64,
    gamma: f64,
    temperature: Ramp,
    row: Distribution,
    /// Probabilities, `[rows, classes]`.
    teacher: Vec<f64>,
    student: Vec<f64>,
    /// The loss's gradient with respect to the student's.
    slopes: Vec<f64>,
    /// Of each class over the rows.
    classes: Vec<Correlation>,
}

fn make(options: &mut Options) -> Result<Box<dyn DistillLoss>> {
    Ok(Box::new(Dist {
        beta: options.number("beta", 1.0, 0.0)?,
        gamma: options.number("gamma", 1.0, 0.0)?,
        temperature: options.ramp("temperature", 1.0, 0.0)?,
        row: Distribution::default(),
        teacher: Vec::new(),
        student: Vec::new(),
        slopes: Vec::new(),
        classes: Vec::new(),
    }))
}

impl DistillLoss for Dist {
    fn temperature(&self) -> Option<Ramp> {
        Some(self.temperature)
    }

    fn evaluate(&mut self, pair: &Pair<'_>, scale: f32, gradient: &mut [f32]) -> f64 {
        let temperature = self.temperature.at(pair.progress);
        let classes = pair.student.channels;
        let rows = pair.student.values.len() / classes;
        self.teacher.clear();
        self.student.clear();
        for (student, teacher) in pair.outputs() {
            self.row.set(teacher, temperature);
            self.teacher.extend_from_slice(&self.row.p);
            self.row.set(student, temperature);
            self.student.extend_from_slice(&self.row.p);
        }
        self.slopes.clear();
        self.slopes.resize(rows * classes, 0.0);
        let sum = self.beta * self.between_classes(classes) + self.gamma * self.between_rows(rows, classes);
        let slope = f64::from(scale) * temperature;
        let slopes = self.slopes.chunks_exact(classes).zip(gradient.chunks_exact_mut(classes));
        for (p, (slopes, gradient)) in self.student.chunks_exact(classes).zip(slopes) {
            softmax_backward(p, slopes, slope, gradient);
        }
        temperature * temperature * sum
    }
}

impl Dist {
    /// One minus the correlation of each row, summed; the gradient goes to `slopes`.
    fn between_classes(&mut self, classes: usize) -> f64 {
        let rows = self.student.chunks_exact(classes).zip(self.teacher.chunks_exact(classes));
        let mut sum = 0.0;
        for ((student, teacher), slopes) in rows.zip(self.slopes.chunks_exact_mut(classes)) {
            let mut of_row = Correlation::default();
            student.iter().zip(teacher).for_each(|(a, b)| of_row.add_to_means(*a, *b));
            of_row.close_means(classes);
            student.iter().zip(teacher).for_each(|(a, b)| of_row.add_to_products(*a, *b));
            sum += 1.0 - of_row.close(self.beta);
            for ((a, b), slope) in student.iter().zip(teacher).zip(slopes) {
                *slope += of_row.slope(*a, *b);
            }
        }
        sum
    }

    /// One minus the correlation of each class over rows, the mean of them times the rows; the gradient is added to `slopes`.
    fn between_rows(&mut self, rows: usize, classes: usize) -> f64 {
        self.classes.clear();
        self.classes.resize(classes, Correlation::default());
        let both = || self.student.chunks_exact(classes).zip(self.teacher.chunks_exact(classes));
        let each =
            |students: &[f64], teachers: &[f64], columns: &mut [Correlation], add: fn(&mut Correlation, f64, f64)| {
                for ((a, b), column) in students.iter().zip(teachers).zip(columns) {
                    add(column, *a, *b);
                }
            };
        both().for_each(|(student, teacher)| each(student, teacher, &mut self.classes, Correlation::add_to_means));
        self.classes.iter_mut().for_each(|column| column.close_means(rows));
        both().for_each(|(student, teacher)| each(student, teacher, &mut self.classes, Correlation::add_to_products));
        let share = rows as f64 / classes as f64;
        let sum: f64 = self.classes.iter_mut().map(|column| 1.0 - column.close(self.gamma * share)).sum();
        for ((student, teacher), slopes) in both().zip(self.slopes.chunks_exact_mut(classes)) {
            for (((a, b), slope), column) in student.iter().zip(teacher).zip(slopes).zip(&self.classes) {
                *slope += column.slope(*a, *b);
            }
        }
        sum * share
    }
}

/// Pearson's correlation of `a`, the student's, and `b`, in two passes: means, then products.
#[derive(Clone, Copy, Debug, Default)]
struct Correlation {
    mean_a: f64,
    mean_b: f64,
    aa: f64,
    bb: f64,
    ab: f64,
    /// What the gradient with respect to `a` has of centred `b` and of centred `a`.
    of_b: f64,
    of_a: f64,
}

impl Correlation {
    fn add_to_means(&mut self, a: f64, b: f64) {
        self.mean_a += a;
        self.mean_b += b;
    }

    fn close_means(&mut self, count: usize) {
        self.mean_a /= count as f64;
        self.mean_b /= count as f64;
    }

    fn add_to_products(&mut self, a: f64, b: f64) {
        let (a, b) = (a - self.mean_a, b - self.mean_b);
        self.aa += a * a;
        self.bb += b * b;
        self.ab += a * b;
    }

    /// The correlation; from here on [`Self::slope`] gives the gradient of `-weight` times it.
    fn close(&mut self, weight: f64) -> f64 {
        let (a, b) = (self.aa.sqrt(), self.bb.sqrt());
        if a <= NO_SPREAD || b <= NO_SPREAD {
            return 0.0;
        }
        let below = a * b + EPSILON;
        self.of_b = -weight / below;
        self.of_a = weight * self.ab * b / (a * below * below);
        self.ab / below
    }

    fn slope(&self, a: f64, b: f64) -> f64 {
        self.of_b * (b - self.mean_b) + self.of_a * (a - self.mean_a)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_gradient, logits, numbers};
    use super::*;

    fn with(options: &[&str]) -> Box<dyn DistillLoss> {
        make(&mut Options::parse(options.iter().copied()).unwrap()).unwrap()
    }

    #[test]
    fn two_classes_either_agree_or_disagree() {
        // Of two classes a row's correlation is 1 or -1, and so is that of a class over two rows.
        let ln = |odds: f32| odds.ln();
        let (student, teacher) = ([ln(3.0), 0.0, 0.0, ln(2.0)], [ln(2.0), 0.0, ln(1.5), 0.0]);
        let pair = logits(&student, &teacher, 2);
        let value = |options: &[&str]| with(options).evaluate(&pair, 0.0, &mut [0.0; 4]);
        // Rows: 1 and -1, so (0 + 2) / 2 times 2 rows; classes: both 1, as both rank the first row higher.
        assert!((value(&["gamma=0"]) - 2.0).abs() < 1e-5);
        assert!(value(&["beta=0"]).abs() < 1e-5);
        let student = [0.0, ln(2.0), ln(3.0), 0.0];
        let flipped = logits(&student, &teacher, 2);
        let found = with(&["beta=0", "gamma=3"]).evaluate(&flipped, 0.0, &mut [0.0; 4]);
        assert!((found - 12.0).abs() < 1e-5, "{found}");
    }

    #[test]
    fn what_is_the_teachers_times_and_plus_something_costs_nothing_between_classes() {
        // q = 1/2 p + 1/2 u, u uniform: a line of p.
        let p = [0.5_f32, 0.25, 0.15, 0.1];
        let teacher = p.map(f32::ln);
        let student = p.map(|p| (0.5 * p + 0.125).ln());
        let found = with(&["gamma=0"]).evaluate(&logits(&student, &teacher, 4), 0.0, &mut [0.0; 4]);
        assert!(found.abs() < 1e-6, "{found}");
    }

    #[test]
    fn an_even_student_has_no_correlation_and_no_gradient() {
        let teacher = numbers(12, 0.7);
        let mut gradient = [0.0; 12];
        let found = with(&[]).evaluate(&logits(&[0.3; 12], &teacher, 4), 1.0, &mut gradient);
        assert!((found - 6.0).abs() < 1e-9 && gradient == [0.0; 12], "{found} {gradient:?}");
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        check_gradient(&KIND, &[], ([1, 1], 5), ([1, 1], 5));
        check_gradient(&KIND, &["beta=0.5", "gamma=2", "temperature=4..1"], ([1, 1], 3), ([1, 1], 3));
    }
}
