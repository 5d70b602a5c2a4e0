//! Relational distillation, angles: three rows are to make the angles that they make in the teacher.
//!
//! `mean_(i, j, k) huber(cos_s - cos_t)`, where `cos` is that of the angle at `x_j` between `x_i - x_j` and `x_k - x_j`,
//! over all triples; features `[rows, height * width * channels]`, of any places and channels. A difference of equal rows,
//! such as `i = j`, has no direction: its cosine is 0, with no gradient.
//! It compares rows with each other, so `evaluate` gives it times the rows. Triples are the rows cubed in number: a batch
//! of more than 64 rows is taken in groups of 64 in order (the last has what is left), each compared within itself.
//! With the inner products `g` of rows, `(x_i - x_j) . (x_k - x_j) = g_ik - u_i - u_k` with `u_i = g_ij - g_jj / 2`: a triple
//! costs a few operations, whatever the length of a row, and gradients go through `g`.
//! Source: Park, Kim, Lu and Cho, 2019, arXiv:1904.05068, equations 8 and 9. There it is a sum over triples of different
//! rows; the mean over all is that of the authors' code, whose weights can therefore be used.

use dlopt_checkpoint::Result;

use super::relations::{Compared, Rows, huber};
use super::{DistillLoss, Kind, On, Pair};
use crate::options::Options;

/// Rows that are compared with each other.
const GROUP: usize = 64;

pub(super) const KIND: Kind = Kind {
    name: "rkd-angle",
    summary: "relational distillation: angles between the samples of a batch, 64 at a time",
    source: "Park et al., 2019, arXiv:1904.05068",
    on: On::Features,
    needs_classes: false,
    needs_labels: false,
    options: &[],
    make,
};

#[derive(Default)]
struct Angles {
    compared: Compared,
    seen_by_student: Seen,
    seen_by_teacher: Seen,
    sums: Sums,
}

fn make(_options: &mut Options) -> Result<Box<dyn DistillLoss>> {
    Ok(Box::new(Angles::default()))
}

impl DistillLoss for Angles {
    fn evaluate(&mut self, pair: &Pair<'_>, scale: f32, gradient: &mut [f32]) -> f64 {
        let (student, teacher) = (pair.student.row_len(), pair.teacher.row_len());
        let groups = pair.student.values.chunks(GROUP * student).zip(pair.teacher.values.chunks(GROUP * teacher));
        let mut sum = 0.0;
        for ((own, wanted), gradient) in groups.zip(gradient.chunks_mut(GROUP * student)) {
            let rows = self.compared.set(Rows::set_centered, (own, student), (wanted, teacher));
            // The mean over triples times the rows.
            let share = 1.0 / (rows * rows) as f64;
            sum += share * (0..rows).map(|vertex| self.vertex(vertex)).sum::<f64>();
            self.compared.add_gradient(f64::from(scale) * share, gradient);
        }
        sum
    }
}

impl Angles {
    /// The sum over all pairs of directions from one row; its gradient with respect to products is added to the slopes.
    fn vertex(&mut self, vertex: usize) -> f64 {
        let Compared { student, teacher, slopes: all_slopes } = &mut self.compared;
        let rows = student.rows;
        self.seen_by_student.set(student, vertex);
        self.seen_by_teacher.set(teacher, vertex);
        let (own, wanted) = (&self.seen_by_student, &self.seen_by_teacher);
        self.sums.clear(rows);
        for i in 0..rows {
            let (w, w_teacher) = (own.over_length[i], wanted.over_length[i]);
            let (u, u_teacher) = (own.shift[i], wanted.shift[i]);
            let products = student.products[i * rows..][..rows].iter().zip(&teacher.products[i * rows..][..rows]);
            let of_student = own.over_length.iter().zip(&own.shift);
            let of_teacher = wanted.over_length.iter().zip(&wanted.shift);
            let slopes = all_slopes[i * rows..][..rows].iter_mut();
            let sums = self.sums.by_product.iter_mut().zip(&mut self.sums.by_cosine).zip(&mut self.sums.losses);
            for (
                (((g, g_teacher), (w_k, u_k)), (w_teacher_k, u_teacher_k)),
                (slope, ((by_product, by_cosine), losses)),
            ) in products.zip(of_student).zip(of_teacher).zip(slopes.zip(sums))
            {
                let cosine = w * w_k * (g - u - u_k);
                let (loss, by) = huber(cosine - w_teacher * w_teacher_k * (g_teacher - u_teacher - u_teacher_k));
                *losses += loss;
                *slope += by * w * w_k;
                *by_product += by * w * w_k;
                *by_cosine += by * cosine;
            }
        }
        // Each row is seen as i and as k, hence the twos.
        for i in 0..rows {
            let by_shift = -2.0 * self.sums.by_product[i];
            let by_square = -own.over_length[i] * own.over_length[i] * self.sums.by_cosine[i];
            all_slopes[i * rows + vertex] += by_shift - 2.0 * by_square;
            all_slopes[i * rows + i] += by_square;
            all_slopes[vertex * rows + vertex] += by_square - 0.5 * by_shift;
        }
        self.sums.losses.iter().sum()
    }
}

/// All rows as one of them, the vertex `j`, sees them.
#[derive(Default)]
struct Seen {
    /// One over the distance, `[rows]`; 0 for rows equal to it.
    over_length: Vec<f64>,
    /// `g_ij - g_jj / 2`, `[rows]`.
    shift: Vec<f64>,
}

impl Seen {
    fn set(&mut self, rows: &Rows, vertex: usize) {
        let over_length = |square: f64| if square > 0.0 { 1.0 / square.sqrt() } else { 0.0 };
        self.over_length.clear();
        self.over_length.extend((0..rows.rows).map(|i| over_length(rows.squared_distance(i, vertex))));
        let products = &rows.products[vertex * rows.rows..][..rows.rows];
        self.shift.clear();
        self.shift.extend(products.iter().map(|g| g - 0.5 * products[vertex]));
    }
}

/// Sums over one of the two directions, for each of the other, `[rows]`.
#[derive(Default)]
struct Sums {
    losses: Vec<f64>,
    by_product: Vec<f64>,
    by_cosine: Vec<f64>,
}

impl Sums {
    fn clear(&mut self, rows: usize) {
        for sums in [&mut self.losses, &mut self.by_product, &mut self.by_cosine] {
            sums.clear();
            sums.resize(rows, 0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_gradient, features, numbers};
    use super::*;

    fn value(pair: &Pair<'_>) -> f64 {
        let mut gradient = vec![0.0; pair.student.values.len()];
        make(&mut Options::default()).unwrap().evaluate(pair, 0.0, &mut gradient)
    }

    #[test]
    fn three_points_by_hand() {
        // A right angle with equal legs against a line with the first point in the middle. Cosines at the first: 0
        // against -1; at the others 1/sqrt(2) against 1. Each stands for two orders of its ends.
        let pair = features((&[0.0, 0.0, 1.0, 0.0, 0.0, 1.0], 2), (&[0.0, 1.0, -1.0], 1));
        let wanted = 3.0 * 2.0 * (0.5 + 2.0 * 0.5 * (1.0 - 0.5_f64.sqrt()).powi(2)) / 27.0;
        assert!((value(&pair) - wanted).abs() < 1e-12, "{}, wanted {wanted}", value(&pair));
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
    fn a_large_batch_is_the_sum_of_its_groups() {
        let (own, said) = (numbers(67 * 2, 0.4), numbers(67 * 3, 0.9));
        let whole = value(&features((&own, 2), (&said, 3)));
        let (head, tail) =
            (features((&own[..128], 2), (&said[..192], 3)), features((&own[128..], 2), (&said[192..], 3)));
        assert!((whole - value(&head) - value(&tail)).abs() < 1e-12 * whole);
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        check_gradient(&KIND, &[], ([1, 1], 6), ([1, 1], 4));
        check_gradient(&KIND, &[], ([2, 3], 2), ([1, 4], 3));
    }
}
