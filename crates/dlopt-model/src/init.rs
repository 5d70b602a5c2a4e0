//! How parameters start: drawn from a generator keyed by the seed and the parameter's name, so that adding a layer or
//! changing the order of layers leaves the others as they were, and any machine draws the same.

use dlopt_checkpoint::Result;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use crate::layout::FlatLayout;
use crate::plan::{Init, Node, Parameter, parameters};

/// Trained values and running statistics of a network that has seen nothing, in the layout's order.
///
/// # Errors
/// When `layout` is another plan's.
pub fn initial_values(nodes: &[Node], layout: &FlatLayout, seed: u64) -> Result<(Vec<f32>, Vec<f32>)> {
    let all = parameters(nodes);
    let find = |name: &str| all.iter().find(|p| p.name == name);
    layout.from_checkpoint(|tensor| Ok(find(&tensor.name).map(|p| initial(p, seed)).unwrap_or_default()))
}

/// The values of one parameter, as a checkpoint holds them.
pub fn initial(parameter: &Parameter, seed: u64) -> Vec<f32> {
    let len = parameter.len();
    let mut draws = ChaCha8Rng::seed_from_u64(seed);
    draws.set_stream(hash(&parameter.name));
    match parameter.init {
        Init::Zeros => vec![0.0; len],
        Init::Ones => vec![1.0; len],
        Init::GlorotUniform { fan_in, fan_out } => uniform(&mut draws, len, (6.0 / (fan_in + fan_out) as f64).sqrt()),
        Init::HeNormal { fan_in } => {
            let deviation = (2.0 / fan_in as f64).sqrt();
            (0..len).map(|_| (deviation * draws.sample::<f64, _>(StandardNormal)) as f32).collect()
        }
        Init::Uniform { bound } => uniform(&mut draws, len, f64::from(bound)),
        Init::Orthogonal => {
            let rows = parameter.shape[0];
            orthonormal_columns(&mut draws, rows, len / rows.max(1))
        }
        Init::ForgetOnes { hidden } => {
            let mut values = vec![0.0; len];
            // Gates i f g o.
            values[hidden..2 * hidden].fill(1.0);
            values
        }
    }
}

fn uniform(draws: &mut ChaCha8Rng, len: usize, bound: f64) -> Vec<f32> {
    (0..len).map(|_| (bound * (2.0 * draws.random::<f64>() - 1.0)) as f32).collect()
}

/// `[rows, columns]` with orthonormal columns, `rows >= columns`: normal draws, made orthogonal one after the other
/// (modified Gram-Schmidt in double precision; draws are far from dependent, so once is enough).
fn orthonormal_columns(draws: &mut ChaCha8Rng, rows: usize, columns: usize) -> Vec<f32> {
    let mut columns: Vec<Vec<f64>> =
        (0..columns).map(|_| (0..rows).map(|_| draws.sample(StandardNormal)).collect()).collect();
    for own in 0..columns.len() {
        let (done, rest) = columns.split_at_mut(own + 1);
        let column = &mut done[own];
        let length = dot(column, column).sqrt();
        column.iter_mut().for_each(|value| *value /= length);
        for other in rest {
            let share = dot(column, other);
            other.iter_mut().zip(column.iter()).for_each(|(value, own)| *value -= share * own);
        }
    }
    (0..rows).flat_map(|row| columns.iter().map(move |column| column[row] as f32)).collect()
}

/// A sum over eight lanes in a fixed order.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; 8];
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a * b;
        }
    }
    lanes.iter().sum()
}

/// FNV-1a of 64 bits (Fowler, Noll and Vo): the stream of a name.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Role;

    fn parameter(name: &str, shape: &[usize], init: Init) -> Parameter {
        Parameter { name: name.into(), shape: shape.into(), role: Role::Bias, init, is_trained: true }
    }

    #[test]
    fn names_and_seeds_draw_apart_and_the_same_again() {
        let glorot = Init::GlorotUniform { fan_in: 3, fan_out: 5 };
        let a = initial(&parameter("a.weight", &[3, 5], glorot), 7);
        assert_eq!(a, initial(&parameter("a.weight", &[3, 5], glorot), 7));
        assert_ne!(a, initial(&parameter("b.weight", &[3, 5], glorot), 7));
        assert_ne!(a, initial(&parameter("a.weight", &[3, 5], glorot), 8));
        // A larger tensor of the same name begins with the same draws.
        assert_eq!(a[..], initial(&parameter("a.weight", &[4, 5], glorot), 7)[..15]);
        // What this version draws, it draws for ever: checkpoints are made again from their seeds.
        assert_eq!(a[..3], GOLDEN);
    }

    const GOLDEN: [f32; 3] = [-0.2605147, 0.44377676, 0.63869697];

    #[test]
    fn glorot_and_he_have_their_deviations() {
        let deviation = |values: &[f32]| {
            let sum: f64 = values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
            (sum / values.len() as f64).sqrt()
        };
        let glorot = initial(&parameter("w", &[301, 401], Init::GlorotUniform { fan_in: 401, fan_out: 301 }), 1);
        let bound = (6.0_f64 / 702.0).sqrt();
        assert!(glorot.iter().all(|v| f64::from(v.abs()) <= bound));
        // The mean square of 120,701 draws lies within a percent.
        assert!((deviation(&glorot) / (bound / 3.0_f64.sqrt()) - 1.0).abs() < 0.01);
        let he = initial(&parameter("w", &[301, 401], Init::HeNormal { fan_in: 401 }), 1);
        assert!((deviation(&he) / (2.0_f64 / 401.0).sqrt() - 1.0).abs() < 0.01);
    }

    #[test]
    fn orthogonal_weights_have_orthonormal_columns() {
        for [rows, columns] in [[1, 1], [12, 3], [7, 7], [52, 13]] {
            let w = initial(&parameter("w", &[rows, columns], Init::Orthogonal), 3);
            for a in 0..columns {
                for b in 0..columns {
                    let dot: f32 = (0..rows).map(|row| w[row * columns + a] * w[row * columns + b]).sum();
                    let wanted = if a == b { 1.0 } else { 0.0 };
                    // Rounding of f32 values, summed over a few dozen.
                    assert!((dot - wanted).abs() < 1e-5, "{rows} x {columns}: {dot}");
                }
            }
        }
    }

    #[test]
    fn the_forget_gate_starts_open() {
        let bias = initial(&parameter("b", &[12], Init::ForgetOnes { hidden: 3 }), 0);
        assert_eq!(bias, [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }
}
