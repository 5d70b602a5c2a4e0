//! A row of logits as probabilities and their logarithms, at a temperature; double precision, so that sums over classes
//! add no error of their own.

/// `softmax(x / temperature)` of one row, `[classes]`; keeps its memory from row to row.
#[derive(Clone, Debug, Default)]
pub(super) struct Distribution {
    /// Logarithms of the probabilities; finite where the logits are, even where a probability is too small to be told from 0.
    pub(super) log: Vec<f64>,
    /// The probabilities.
    pub(super) p: Vec<f64>,
}

impl Distribution {
    /// Takes the row `logits`.
    pub(super) fn set(&mut self, logits: &[f32], temperature: f64) {
        let most = f64::from(logits.iter().fold(f32::NEG_INFINITY, |most, &x| most.max(x)));
        self.log.clear();
        self.log.extend(logits.iter().map(|&x| (f64::from(x) - most) / temperature));
        self.p.clear();
        self.p.extend(self.log.iter().map(|x| x.exp()));
        let sum: f64 = self.p.iter().sum();
        let log = sum.ln();
        self.log.iter_mut().for_each(|x| *x -= log);
        self.p.iter_mut().for_each(|p| *p /= sum);
    }
}

/// From `upstream`, a gradient with respect to the probabilities `p`, `[classes]`: adds `scale` times that with respect to
/// the softmax's inputs to `gradient`.
pub(super) fn softmax_backward(p: &[f64], upstream: &[f64], scale: f64, gradient: &mut [f32]) {
    let mean: f64 = p.iter().zip(upstream).map(|(p, u)| p * u).sum();
    for ((p, u), gradient) in p.iter().zip(upstream).zip(gradient) {
        *gradient += (scale * p * (u - mean)) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_sum_to_one_and_logarithms_stay_finite() {
        let mut row = Distribution::default();
        row.set(&[3.0_f32.ln(), 0.0, f32::MIN / 4.0], 1.0);
        assert!((row.p[0] - 0.75).abs() < 1e-7 && (row.p[1] - 0.25).abs() < 1e-7, "{row:?}");
        assert!(row.p[2] == 0.0 && row.log[2].is_finite(), "{row:?}");
        row.set(&[5.0], 0.1);
        assert_eq!((&row.p[..], &row.log[..]), (&[1.0][..], &[0.0][..]));
    }

    #[test]
    fn a_constant_upstream_moves_nothing() {
        let mut gradient = [1.0; 3];
        softmax_backward(&[0.5, 0.3, 0.2], &[4.0; 3], 2.0, &mut gradient);
        assert_eq!(gradient, [1.0; 3]);
    }
}
