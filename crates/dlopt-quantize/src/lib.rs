//! Number formats, how scales are chosen, and the layouts that hold them.
//!
//! Three axes that vary on their own, each a table that `--help` and `dlopt list` read:
//! a [`formats`] row says what codes are and how their bytes lie, a [`methods`] row how scales are
//! chosen, a [`layouts`] row where a reader finds out about it. A [`Scheme`] is a named combination.
//!
//! [`Quantize`], [`Dequantize`] and [`Cast`] are the passes over them; [`Simulated`] is what the first two make of a weight
//! in memory.

mod cast;
mod codebook;
mod dequantize;
mod draft;
mod encode;
mod fates;
pub mod formats;
mod fused;
mod held;
pub mod layouts;
pub mod methods;
mod plugin;
mod quantize;
mod rules;
mod schemes;
mod simulate;
mod stored;
mod values;
mod zeros;

pub use cast::Cast;
pub use dequantize::{Dequantize, is_quantized};
pub use fused::fused_layers;
pub use plugin::Plugin;
pub use quantize::{Fallback, Quantize};
pub use rules::{Rule, RuleTarget};
pub use schemes::{Activations, Granularity, Overrides, Preset, SCHEMES, Scheme, Storage};
pub use simulate::{Room, Simulated};
pub use stored::{Coded, StoredWeight, packed_codes};
pub use values::{Values, check_scales, check_shape};
