//! The magnitude of complex values whose real parts are the first half of the features and imaginary parts the second:
//! `m = sqrt(a² + b²)`, as spectra come out of a convolution with cosines and sines.

/// `out` `[rows, features / 2]` from `x` `[rows, features]`.
///
/// # Panics
/// When `features` is odd, or a length disagrees.
pub fn magnitude(features: usize, x: &[f32], out: &mut [f32]) {
    let half = halves(features, x.len(), out.len());
    for (x, out) in x.chunks_exact(features).zip(out.chunks_exact_mut(half)) {
        let (a, b) = x.split_at(half);
        for ((a, b), out) in a.iter().zip(b).zip(out) {
            *out = (a * a + b * b).sqrt();
        }
    }
}

/// The gradient of the inputs, `dx` `[rows, features]`, for that of the outputs: `g a / m` and `g b / m`, 0 where `m` is.
///
/// # Panics
/// As [`magnitude`].
pub fn magnitude_gradient(features: usize, x: &[f32], gradient: &[f32], dx: &mut [f32]) {
    let half = halves(features, x.len(), gradient.len());
    assert_eq!(dx.len(), x.len(), "a gradient for each input");
    let rows = x.chunks_exact(features).zip(gradient.chunks_exact(half));
    for ((x, gradient), dx) in rows.zip(dx.chunks_exact_mut(features)) {
        let ((a, b), (da, db)) = (x.split_at(half), dx.split_at_mut(half));
        let parts = a.iter().zip(b).zip(gradient);
        for (((a, b), gradient), (da, db)) in parts.zip(da.iter_mut().zip(db)) {
            let m = (a * a + b * b).sqrt();
            let scale = if m == 0.0 { 0.0 } else { gradient / m };
            (*da, *db) = (a * scale, b * scale);
        }
    }
}

fn halves(features: usize, x: usize, out: usize) -> usize {
    assert!(features > 0 && features.is_multiple_of(2), "two halves of features");
    assert_eq!((x % features, x), (0, 2 * out), "x is [rows, features], the magnitudes are [rows, features / 2]");
    features / 2
}

#[cfg(test)]
mod tests {
    use super::super::check::{assert_near, numeric_gradient, values, wide};
    use super::*;

    #[test]
    fn three_and_four_make_five() {
        let mut out = [f32::NAN; 3];
        magnitude(6, &[3.0, 0.0, -5.0, 4.0, 0.0, 12.0], &mut out);
        assert_eq!(out, [5.0, 0.0, 13.0]);
        let mut dx = [f32::NAN; 6];
        magnitude_gradient(6, &[3.0, 0.0, -5.0, 4.0, 0.0, 12.0], &[10.0, 7.0, 13.0], &mut dx);
        // Where both are 0 the slope is taken as 0, as PyTorch's `abs` of a complex 0 has it.
        assert_eq!(dx, [6.0, 0.0, -5.0, 8.0, 0.0, 12.0]);
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let (features, rows) = (10, 7);
        let mut x = values(features * rows, 3);
        // Near (0, 0) the function has a kink.
        x.iter_mut().for_each(|x| *x += x.signum() * 0.5);
        let gradient = values(features * rows / 2, 4);
        let mut dx = vec![f32::NAN; x.len()];
        magnitude_gradient(features, &x, &gradient, &mut dx);
        let wanted = numeric_gradient(&wide(&x), |x| {
            let rows = x.chunks_exact(features).zip(gradient.chunks_exact(features / 2));
            rows.map(|(x, g)| {
                let (a, b) = x.split_at(features / 2);
                a.iter().zip(b).zip(g).map(|((a, b), g)| a.hypot(*b) * f64::from(*g)).sum::<f64>()
            })
            .sum()
        });
        assert_near(&dx, &wanted, 1e-6);
    }

    #[test]
    fn nothing_gives_nothing() {
        magnitude(4, &[], &mut []);
        magnitude_gradient(4, &[], &[], &mut []);
    }
}
