//! How the rows of a batch lie to each other: their inner products, from which distances and angles follow, so that a
//! loss on relations costs as much as its relations, whatever the length of a row.

/// Rows, `[rows, len]`, in double precision, with their products; keeps its memory from batch to batch.
#[derive(Default)]
pub(super) struct Rows {
    /// How many there are.
    pub(super) rows: usize,
    len: usize,
    values: Vec<f64>,
    /// Inner products, `[rows, rows]`.
    pub(super) products: Vec<f64>,
}

impl Rows {
    /// Takes `values`, `[rows, len]`, as they are.
    pub(super) fn set(&mut self, values: &[f32], len: usize) {
        self.take(values, len);
        self.multiply();
    }

    /// Takes `values`, `[rows, len]`, less their mean: distances and angles stay, and lose less to rounding.
    pub(super) fn set_centered(&mut self, values: &[f32], len: usize) {
        self.take(values, len);
        let mut mean = vec![0.0; len];
        for row in self.values.chunks_exact(len) {
            mean.iter_mut().zip(row).for_each(|(mean, v)| *mean += v);
        }
        mean.iter_mut().for_each(|mean| *mean /= self.rows as f64);
        for row in self.values.chunks_exact_mut(len) {
            row.iter_mut().zip(&mean).for_each(|(v, mean)| *v -= mean);
        }
        self.multiply();
    }

    fn take(&mut self, values: &[f32], len: usize) {
        self.values.clear();
        self.values.extend(values.iter().map(|v| f64::from(*v)));
        self.len = len;
        self.rows = values.len() / len;
    }

    fn multiply(&mut self) {
        self.products.clear();
        self.products.resize(self.rows * self.rows, 0.0);
        for (i, row) in self.values.chunks_exact(self.len).enumerate() {
            for (j, other) in self.values.chunks_exact(self.len).enumerate().take(i + 1) {
                let product = dot(row, other);
                self.products[i * self.rows + j] = product;
                self.products[j * self.rows + i] = product;
            }
        }
    }

    /// The square of the distance between two rows; 0 where it is no more than the rounding of 32-bit rows.
    pub(super) fn squared_distance(&self, i: usize, j: usize) -> f64 {
        let at = |i: usize, j: usize| self.products[i * self.rows + j];
        let square = at(i, i) + at(j, j) - 2.0 * at(i, j);
        if square > 1e-13 * (at(i, i) + at(j, j)) { square } else { 0.0 }
    }

    /// From `slopes`, `[rows, rows]`, a loss's gradient with respect to each product: adds `scale` times that with
    /// respect to the rows to `gradient`, `[rows, len]`.
    pub(super) fn add_gradient(&self, slopes: &[f64], scale: f64, gradient: &mut [f32]) {
        let mut sums = vec![0.0; self.len];
        for (i, gradient) in gradient.chunks_exact_mut(self.len).enumerate() {
            sums.fill(0.0);
            for (j, row) in self.values.chunks_exact(self.len).enumerate() {
                let slope = slopes[i * self.rows + j] + slopes[j * self.rows + i];
                sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += slope * v);
            }
            gradient.iter_mut().zip(&sums).for_each(|(gradient, sum)| *gradient += (scale * sum) as f32);
        }
    }
}

/// The rows of a batch in both networks, and what a loss asks of the student's; keeps its memory from batch to batch.
#[derive(Default)]
pub(super) struct Compared {
    pub(super) student: Rows,
    pub(super) teacher: Rows,
    /// The loss's gradient with respect to products of the student's rows, `[rows, rows]`.
    pub(super) slopes: Vec<f64>,
}

impl Compared {
    /// Takes rows of both, `[rows, len]` with a `len` of each network's own, by [`Rows::set`] or [`Rows::set_centered`];
    /// nothing is asked of them yet. Gives how many there are.
    pub(super) fn set(
        &mut self,
        take: fn(&mut Rows, &[f32], usize),
        (student, student_len): (&[f32], usize),
        (teacher, teacher_len): (&[f32], usize),
    ) -> usize {
        take(&mut self.student, student, student_len);
        take(&mut self.teacher, teacher, teacher_len);
        let rows = self.student.rows;
        self.slopes.clear();
        self.slopes.resize(rows * rows, 0.0);
        rows
    }

    /// Adds `scale` times the gradient with respect to the student's rows to `gradient`, `[rows, len]`.
    pub(super) fn add_gradient(&self, scale: f64, gradient: &mut [f32]) {
        self.student.add_gradient(&self.slopes, scale, gradient);
    }
}

/// A sum over eight lanes in a fixed order.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; 8];
    let (a, b) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.0.iter().zip(b.0) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a * b;
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(a.1.iter().zip(b.1)) {
        *lane += a * b;
    }
    lanes.iter().sum()
}

/// Huber's loss of a difference, and its slope: half the square up to 1, then a line.
pub(super) fn huber(difference: f64) -> (f64, f64) {
    let slope = difference.clamp(-1.0, 1.0);
    (slope * (difference - 0.5 * slope), slope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_do_not_care_where_rows_lie() {
        let values = [0.0, 0.0, 3.0, 4.0, 3.0, 4.0];
        let (mut plain, mut centered) = (Rows::default(), Rows::default());
        plain.set(&values, 2);
        centered.set_centered(&values.map(|v| v + 1000.0), 2);
        assert_eq!((plain.rows, plain.squared_distance(0, 1)), (3, 25.0));
        assert!((centered.squared_distance(0, 2) - 25.0).abs() < 1e-9);
        assert_eq!(centered.squared_distance(1, 2), 0.0);
        // One rounding apart, as seen from ten thousand away.
        centered.set_centered(&[0.0, 1e4, 1e4_f32.next_up()], 1);
        assert_eq!(centered.squared_distance(1, 2), 0.0);
        assert!(centered.squared_distance(0, 1) > 9e7);
    }

    #[test]
    fn the_gradient_of_a_product_is_the_other_row() {
        let mut rows = Rows::default();
        rows.set(&[1.0, 2.0, 3.0, 5.0, 7.0, 11.0], 3);
        assert_eq!(rows.products, [14.0, 5.0 + 14.0 + 33.0, 52.0, 195.0]);
        let mut gradient = [1.0; 6];
        rows.add_gradient(&[0.0, 1.0, 0.0, 0.5], 2.0, &mut gradient);
        // 2 x_1 for row 0; 2 x_0 + 2 x_1 for row 1.
        assert_eq!(gradient, [11.0, 15.0, 23.0, 13.0, 19.0, 29.0]);
    }

    #[test]
    fn huber_is_half_a_square_and_then_a_line() {
        assert_eq!([0.5, -1.0, 3.0, -3.0].map(huber), [(0.125, 0.5), (0.5, -1.0), (2.5, 1.0), (2.5, -1.0)]);
    }
}
