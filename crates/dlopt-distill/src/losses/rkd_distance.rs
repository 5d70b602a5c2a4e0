//! Relational distillation, distances: rows that the teacher holds far apart are to be far apart.
//!
//! `mean_(i, j) huber(|s_i - s_j| / mu_s - |t_i - t_j| / mu_t)` over all pairs of rows, a row with itself among them;
//! features `[rows, height * width * channels]`, of any places and channels, as each network is compared with itself alone.
//! `mu` is the mean distance of two rows. It compares rows with each other, so `evaluate` gives it times the rows; distances
//! are the rows squared in number. Rows that are equal have no gradient between them, nor has a batch of one.
//! Source: Park, Kim, Lu and Cho, 2019, arXiv:1904.05068, equations 4 to 7. There it is a sum over pairs; the mean, with
//! rows against themselves, is that of the authors' code, whose weights can therefore be used.

use dlopt_checkpoint::Result;

use super::relations::{Compared, Rows, huber};
use super::{DistillLoss, Kind, On, Pair};
use crate::options::Options;

pub(super) const KIND: Kind = Kind {
    name: "rkd-distance",
    summary: "relational distillation: distances between the samples of a batch",
    source: "Park et al., 2019, arXiv:1904.05068",
    on: On::Features,
    needs_classes: false,
    needs_labels: false,
    options: &[],
    make,
};

#[derive(Default)]
struct Distances {
    compared: Compared,
    /// Distances over their mean, `[rows, rows]`.
    of_student: Vec<f64>,
    of_teacher: Vec<f64>,
}

fn make(_options: &mut Options) -> Result<Box<dyn DistillLoss>> {
    Ok(Box::new(Distances::default()))
}

impl DistillLoss for Distances {
    fn evaluate(&mut self, pair: &Pair<'_>, scale: f32, gradient: &mut [f32]) -> f64 {
        let rows = self.compared.set(Rows::set_centered, pair.student.flat(), pair.teacher.flat());
        let mean = distances(&self.compared.student, &mut self.of_student);
        distances(&self.compared.teacher, &mut self.of_teacher);
        let mut sum = 0.0;
        // Slopes times distances over their mean: what moving the mean costs.
        let mut along = 0.0;
        for (own, wanted) in self.of_student.iter().zip(&self.of_teacher) {
            let (loss, slope) = huber(own - wanted);
            sum += loss;
            along += slope * own;
        }
        let pairs = (rows * rows) as f64;
        let others = (rows * rows.saturating_sub(1)) as f64;
        let slopes = &mut self.compared.slopes;
        for i in 0..rows {
            for j in (0..rows).filter(|j| *j != i) {
                let (own, wanted) = (self.of_student[i * rows + j], self.of_teacher[i * rows + j]);
                if own == 0.0 {
                    continue;
                }
                let by_distance = (huber(own - wanted).1 - along / others) / (pairs * mean);
                let by_square = by_distance / (2.0 * own * mean);
                slopes[i * rows + i] += by_square;
                slopes[j * rows + j] += by_square;
                slopes[i * rows + j] -= 2.0 * by_square;
            }
        }
        self.compared.add_gradient(f64::from(scale) * rows as f64, gradient);
        sum / pairs.max(1.0) * rows as f64
    }
}

/// Distances over their mean, `[rows, rows]`, zeros where all rows are equal; gives the mean.
fn distances(rows: &Rows, out: &mut Vec<f64>) -> f64 {
    let count = rows.rows;
    out.clear();
    out.extend((0..count * count).map(|at| rows.squared_distance(at / count, at % count).sqrt()));
    let mean = out.iter().sum::<f64>() / (count * count.saturating_sub(1)).max(1) as f64;
    if mean > 0.0 {
        out.iter_mut().for_each(|distance| *distance /= mean);
    }
    mean
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_gradient, features, numbers};
    use super::*;

    #[test]
    fn three_points_on_a_line_by_hand() {
        // Distances 1, 1, 2 over 4/3, and 1, 3, 4 over 8/3: differences 3/8, -3/8, 0.
        let pair = features((&[0.0, 1.0, 2.0], 1), (&[0.0, 0.0, 1.0, 0.0, 4.0, 0.0], 2));
        let found = make(&mut Options::default()).unwrap().evaluate(&pair, 0.0, &mut [0.0; 3]);
        let wanted = 3.0 * (4.0 * 0.5 * (3.0_f64 / 8.0).powi(2)) / 9.0;
        assert!((found - wanted).abs() < 1e-12, "{found}, wanted {wanted}");
    }

    #[test]
    fn a_turned_and_scaled_copy_elsewhere_costs_nothing() {
        let own = numbers(10, 0.4);
        let other: Vec<f32> = own.chunks_exact(2).flat_map(|p| [3.0 - 2.0 * p[1], 2.0 * p[0] - 5.0]).collect();
        let mut gradient = [0.0; 10];
        let pair = features((&own, 2), (&other, 2));
        let found = make(&mut Options::default()).unwrap().evaluate(&pair, 1.0, &mut gradient);
        assert!(found < 1e-9 && gradient.iter().all(|g| g.abs() < 1e-5), "{found} {gradient:?}");
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        check_gradient(&KIND, &[], ([1, 1], 6), ([1, 1], 4));
        check_gradient(&KIND, &[], ([2, 3], 2), ([1, 4], 3));
    }
}
