//! The kernels against their definitions, sums in integers, and all levels and teams against each other.

mod convolution;
mod matrix;

use std::cell::Cell;
use std::fmt::Debug;

use crate::level::at_every_level;

thread_local! {
    /// Products that this thread begins go through the portable twin of tiles.
    pub(super) static PLAIN_TILES: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` at every level of this machine, and with the portable twin of tiles.
fn everywhere<T: PartialEq + Debug>(f: impl Fn() -> T) -> T {
    PLAIN_TILES.set(true);
    let tiled = f();
    PLAIN_TILES.set(false);
    let other = at_every_level(f);
    assert_eq!(other, tiled, "tiles differ from portable");
    other
}

/// Uniform 32-bit numbers.
pub(super) fn random(seed: u64) -> impl FnMut() -> u32 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    }
}

/// `len` floats in -2..2.
pub(super) fn floats(seed: u64, len: usize) -> Vec<f32> {
    let mut next = random(seed);
    (0..len).map(|_| next() as f32 / (1_u32 << 30) as f32 - 2.0).collect()
}

/// `len` codes of `bits`.
fn codes(seed: u64, len: usize, bits: u32) -> Vec<i8> {
    let mut next = random(seed);
    (0..len).map(|_| ((next() >> 24) as u8 as i8) >> (8 - bits)).collect()
}

/// The codes that activations become.
fn quantized(x: &[f32], given: Option<f32>) -> (Vec<i32>, f32) {
    let greatest = x.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let factor = if greatest == 0.0 { 0.0 } else { given.map_or(127.0 / greatest, |scale| 1.0 / scale) };
    let code = |x: &f32| ((x * factor).round_ties_even() as i32).clamp(-127, 127);
    (x.iter().map(code).collect(), given.unwrap_or(greatest / 127.0))
}

/// Bits to compare: NaN are alike, and zeros of either sign.
fn bits(x: f32) -> u32 {
    if x.is_nan() { u32::MAX } else { (x + 0.0).to_bits() }
}
