//! Kernels of pictures: resampling, noise and sharpness, on one picture `[y, x, channel]` of bytes or floats at a time.
//!
//! Everything is a fixed sequence of operations on every pixel by itself, so all instruction sets give the same bytes.

mod border;
mod noise;
mod sharpen;
mod warp;

pub use noise::{add_noise_f32, add_noise_u8};
pub use sharpen::{sharpen_f32, sharpen_u8};
pub use warp::{Fill, Filter, Map, Room, warp_f32, warp_u8};

/// Added to a number from 0 to 255, it leaves the nearest whole number in the last bits.
const WHOLE: f32 = 8_388_608.0;

/// The nearest byte, ties to even; what is no number is 0.
#[inline(always)]
fn byte(value: f32) -> u8 {
    let held = if value > 0.0 { value } else { 0.0 };
    let held = if held < 255.0 { held } else { 255.0 };
    (held + WHOLE).to_bits() as u8
}
