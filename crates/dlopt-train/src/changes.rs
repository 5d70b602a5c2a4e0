//! What a training did to every tensor.
//!
//! With `a` the values before and `b` after: root mean squares `rms(a)` and `rms(b)`, and how far they moved,
//! `|b - a| / |a|`, nothing when all of `a` are 0.

use dlopt_model::FlatLayout;
use serde::Serialize;

/// A trained tensor before and after.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TensorChange {
    /// Its name in the checkpoint.
    pub name: String,
    /// Its extents in the checkpoint, outermost first.
    pub shape: Vec<usize>,
    /// Root mean square of its first values.
    pub rms_before: f64,
    /// Root mean square of what is written.
    pub rms_after: f64,
    /// Norm of the difference over the norm of the first values.
    pub relative_change: Option<f64>,
}

/// What came of every trained tensor; `before` and `after` are as the layout has them.
pub fn changes(layout: &FlatLayout, before: &[f32], after: &[f32]) -> Vec<TensorChange> {
    let (before, after) = (layout.params_to_checkpoint(before), layout.params_to_checkpoint(after));
    before
        .into_iter()
        .zip(after)
        .map(|(a, b)| {
            let (norm_before, norm_after) = (norm(a.values.iter().copied()), norm(b.values.iter().copied()));
            let moved = norm(a.values.iter().zip(&b.values).map(|(a, b)| b - a));
            let root = (a.values.len().max(1) as f64).sqrt();
            TensorChange {
                name: a.name,
                shape: a.shape,
                rms_before: norm_before / root,
                rms_after: norm_after / root,
                relative_change: (norm_before > 0.0).then(|| moved / norm_before),
            }
        })
        .collect()
}

fn norm(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use dlopt_model::{Description, ModelConfig, Shape};

    use super::*;

    #[test]
    fn a_tensor_that_was_nothing_has_no_relative_change() {
        let text = "layers = [{ type = \"dense\", units = 2 }]";
        let description = Description::from_toml(text).unwrap();
        let config =
            ModelConfig::new(&description, Shape::Vector { features: 3 }, 2, vec!["a".into(), "b".into()]).unwrap();
        let layout = FlatLayout::of(&config.resolve().unwrap());
        // The weight `[3, 2]` in memory, then the bias.
        let before = [3.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0];
        let after = [3.0, 0.0, 0.0, 4.0, 0.0, 5.0, 1.0, 7.0];
        let found = changes(&layout, &before, &after);
        assert_eq!((found[0].shape.as_slice(), found[0].relative_change), (&[2, 3][..], Some(1.0)));
        assert!((found[0].rms_before - (25.0_f64 / 6.0).sqrt()).abs() < 1e-12);
        assert!((found[0].rms_after - (50.0_f64 / 6.0).sqrt()).abs() < 1e-12);
        assert_eq!((found[1].rms_after, found[1].relative_change), (5.0, None));
    }
}
