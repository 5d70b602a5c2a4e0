//! Kernels of pictures: resampling and noise, on one picture `[y, x, channel]` of bytes or floats at a time.
//!
//! Everything is a fixed sequence of operations on every pixel by itself, so all instruction sets give the same bytes.

mod border;
mod noise;
mod warp;

pub use noise::{add_noise_f32, add_noise_u8};
pub use warp::{Fill, Filter, Map, Room, warp_f32, warp_u8};
