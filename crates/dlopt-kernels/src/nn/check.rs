//! What the tests of kernels share: numbers to work on, and comparisons with references in `f64`.

/// `len` values in -2..2, some of them equal to 0.
pub(crate) fn values(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9).wrapping_add(12_345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    (0..len)
        .map(|_| if next() % 17 == 0 { 0.0 } else { (f64::from(next()) / f64::from(1 << 22) - 2.0) as f32 })
        .collect()
}

/// The same numbers in `f64`.
pub(crate) fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().copied().map(f64::from).collect()
}

/// The bits of each value; every NaN alike, since no payload is promised.
pub(crate) fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }).collect()
}

/// Fails where a value is further from the wanted one than `tolerance` times the larger of that and 1.
#[track_caller]
pub(crate) fn assert_near(found: &[f32], wanted: &[f64], tolerance: f64) {
    assert_eq!(found.len(), wanted.len());
    for (i, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        let off = (f64::from(*found) - wanted).abs();
        assert!(off <= tolerance * wanted.abs().max(1.0), "value {i} is {found}, wanted {wanted}");
    }
}

/// Central differences of `of` at `x`.
pub(crate) fn numeric_gradient(x: &[f64], of: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let step = 1e-5;
    (0..x.len())
        .map(|i| {
            let mut moved = x.to_vec();
            moved[i] = x[i] + step;
            let above = of(&moved);
            moved[i] = x[i] - step;
            (above - of(&moved)) / (2.0 * step)
        })
        .collect()
}

/// The sum of products.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
