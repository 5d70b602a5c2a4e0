//! Similarity preservation: samples that the teacher's layer answers alike are to be answered alike.
//!
//! `|G_s - G_t|_F^2 / rows^2` with `G = X X^T`, `[rows, rows]`, each row divided by its length, for features `X`,
//! `[rows, height * width * channels]`, of any places and channels, as each network is compared with itself alone. It
//! compares rows with each other, so `evaluate` gives it times the rows. A row of zeros stays zero and has no gradient.
//! Source: Tung and Mori, 2019, arXiv:1907.09682.

use dlopt_checkpoint::Result;

use super::relations::{Compared, Rows};
use super::{DistillLoss, Kind, On, Pair};
use crate::options::Options;

/// A length below which a row of products is zero.
const NOTHING: f64 = 1e-12;

pub(super) const KIND: Kind = Kind {
    name: "similarity",
    summary: "similarity preservation: which samples of a batch a layer answers alike",
    source: "Tung and Mori, 2019, arXiv:1907.09682",
    on: On::Features,
    needs_classes: false,
    needs_labels: false,
    options: &[],
    make,
};

#[derive(Default)]
struct Similarity(Compared);

fn make(_options: &mut Options) -> Result<Box<dyn DistillLoss>> {
    Ok(Box::new(Similarity::default()))
}

impl DistillLoss for Similarity {
    fn evaluate(&mut self, pair: &Pair<'_>, scale: f32, gradient: &mut [f32]) -> f64 {
        let rows = self.0.set(Rows::set, pair.student.flat(), pair.teacher.flat());
        let Compared { student, teacher, slopes } = &mut self.0;
        let mut sum = 0.0;
        for at in 0..rows {
            let row = at * rows..(at + 1) * rows;
            let (own, wanted) = (&student.products[row.clone()], &teacher.products[row.clone()]);
            let (length, length_of_teacher) = (length(own), length(wanted));
            let (own_share, share) = (1.0 / length.max(NOTHING), 1.0 / length_of_teacher.max(NOTHING));
            let both =
                || own.iter().zip(wanted).map(|(own, wanted)| (own * own_share, own * own_share - wanted * share));
            sum += both().map(|(_, difference)| difference * difference).sum::<f64>();
            let along: f64 = both().map(|(own, difference)| own * difference).sum();
            let slope = if length > NOTHING { 2.0 * own_share } else { 0.0 };
            for (found, (own, difference)) in slopes[row].iter_mut().zip(both()) {
                *found = slope * (difference - along * own);
            }
        }
        // Over the rows squared, times the rows.
        let share = 1.0 / rows.max(1) as f64;
        self.0.add_gradient(f64::from(scale) * share, gradient);
        sum * share
    }
}

fn length(row: &[f64]) -> f64 {
    row.iter().map(|v| v * v).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_gradient, features, numbers};
    use super::*;

    #[test]
    fn two_rows_by_hand() {
        // Products [[1, 0], [0, 4]] become [[1, 0], [0, 1]]; [[1, 1], [1, 1]] become all 1/sqrt(2).
        let pair = features((&[1.0, 0.0, 0.0, 2.0], 2), (&[1.0, 1.0], 1));
        let found = make(&mut Options::default()).unwrap().evaluate(&pair, 0.0, &mut [0.0; 4]);
        let half = 0.5_f64.sqrt();
        let wanted = 2.0 * (2.0 * (1.0 - half).powi(2) + 2.0 * 0.5) / 4.0;
        assert!((found - wanted).abs() < 1e-12, "{found}, wanted {wanted}");
    }

    #[test]
    fn a_turned_and_scaled_copy_costs_nothing() {
        let own = numbers(10, 0.4);
        let other: Vec<f32> = own.chunks_exact(2).flat_map(|p| [-2.0 * p[1], 2.0 * p[0]]).collect();
        let mut gradient = [0.0; 10];
        let pair = features((&own, 2), (&other, 2));
        let found = make(&mut Options::default()).unwrap().evaluate(&pair, 1.0, &mut gradient);
        assert!(found < 1e-12 && gradient.iter().all(|g| g.abs() < 1e-6), "{found} {gradient:?}");
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        check_gradient(&KIND, &[], ([1, 1], 6), ([1, 1], 4));
        check_gradient(&KIND, &[], ([2, 3], 2), ([1, 4], 3));
    }
}
