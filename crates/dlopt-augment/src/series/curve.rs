//! Reading a series between its steps, and smooth curves over it.

/// The value of feature `feature` at the place `place`, in steps, on straight lines between neighbours; the ends go on.
/// `values` is `[time, features]` and not empty.
pub(crate) fn at(values: &[f32], features: usize, feature: usize, place: f64) -> f32 {
    let last = values.len() / features - 1;
    let place = place.clamp(0.0, last as f64);
    let step = (place as usize).min(last);
    let here = f64::from(values[step * features + feature]);
    let rest = place - step as f64;
    if rest == 0.0 {
        return here as f32;
    }
    let next = f64::from(values[(step + 1).min(last) * features + feature]);
    (here + (next - here) * rest) as f32
}

/// The series at these places, one row of features for each.
pub(crate) fn read(values: &[f32], features: usize, places: impl Iterator<Item = f64>) -> Vec<f32> {
    places.flat_map(|place| (0..features).map(move |feature| at(values, features, feature, place))).collect()
}

/// The series with another number of steps, its first and last step kept.
pub(crate) fn resize(values: &[f32], features: usize, steps: usize) -> Vec<f32> {
    let last = (values.len() / features - 1) as f64;
    let apart = if steps > 1 { last / (steps - 1) as f64 } else { 0.0 };
    read(
        values,
        features,
        (0..steps).map(|step| if step + 1 == steps && steps > 1 { last } else { step as f64 * apart }),
    )
}

/// A natural cubic spline through knots that are one apart: its second derivative is 0 at both ends.
#[derive(Clone, Debug)]
pub(crate) struct Spline {
    knots: Vec<f64>,
    /// Second derivatives at the knots.
    bends: Vec<f64>,
}

impl Spline {
    /// Through these knots, of which there is at least one.
    pub(crate) fn new(knots: Vec<f64>) -> Self {
        let count = knots.len();
        let mut bends = vec![0.0; count];
        // b[i-1] + 4 b[i] + b[i+1] = 6 (y[i-1] - 2 y[i] + y[i+1]), solved by elimination (Thomas).
        let mut shares = vec![0.0; count];
        for i in 1..count.saturating_sub(1) {
            let right = 6.0 * (knots[i - 1] - 2.0 * knots[i] + knots[i + 1]);
            let pivot = 4.0 - shares[i - 1];
            shares[i] = 1.0 / pivot;
            bends[i] = (right - bends[i - 1]) / pivot;
        }
        for i in (1..count.saturating_sub(1)).rev() {
            bends[i] -= shares[i] * bends[i + 1];
        }
        Self { knots, bends }
    }

    /// The value at `x` of a whole that reaches from 0 to 1.
    pub(crate) fn at(&self, x: f64) -> f64 {
        let pieces = self.knots.len() - 1;
        let x = x.clamp(0.0, 1.0) * pieces as f64;
        let piece = (x as usize).min(pieces.saturating_sub(1));
        if pieces == 0 {
            return self.knots[0];
        }
        let (b, a) = (x - piece as f64, piece as f64 + 1.0 - x);
        let bend = (a * a * a - a) * self.bends[piece] + (b * b * b - b) * self.bends[piece + 1];
        a * self.knots[piece] + b * self.knots[piece + 1] + bend / 6.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_read_between_steps() {
        let series = [0.0, 10.0, 1.0, 20.0, 4.0, 0.0];
        assert_eq!(
            read(&series, 2, [0.0, 0.5, 1.75, 2.0, 9.0, -1.0].into_iter()),
            [0.0, 10.0, 0.5, 15.0, 3.25, 5.0, 4.0, 0.0, 4.0, 0.0, 0.0, 10.0]
        );
        assert_eq!(resize(&series, 2, 3), series);
        assert_eq!(resize(&series, 2, 5), [0.0, 10.0, 0.5, 15.0, 1.0, 20.0, 2.5, 10.0, 4.0, 0.0]);
        assert_eq!(resize(&series, 2, 1), [0.0, 10.0]);
        assert_eq!(resize(&series[..2], 2, 3), [0.0, 10.0, 0.0, 10.0, 0.0, 10.0]);
    }

    #[test]
    fn splines_pass_through_their_knots() {
        let knots = vec![1.0, -2.0, 0.5, 4.0, 4.0];
        let spline = Spline::new(knots.clone());
        for (place, knot) in knots.iter().enumerate() {
            assert!((spline.at(place as f64 / 4.0) - knot).abs() < 1e-12);
        }
        let straight = Spline::new(vec![1.0, 2.0, 3.0]);
        assert!((straight.at(0.3) - 1.6).abs() < 1e-12);
        assert_eq!(Spline::new(vec![7.0]).at(0.4), 7.0);
        assert!((Spline::new(vec![1.0, 3.0]).at(0.25) - 1.5).abs() < 1e-12);
    }
}
