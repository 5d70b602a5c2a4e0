//! What a teacher says of every sample, kept in a safetensors file: asked once, used by many students.
//!
//! Rows are views times samples, view after view: a view is every sample changed once by the augmentation, with what the
//! seed draws for it. `facts` say which teacher, data and views a cache is of, and one that does not belong is refused.
//!
//! | tensor | shape | |
//! |---|---|---|
//! | `logits` | `[rows, steps, classes]` | F16, or F32 |
//! | `top.logits` | `[rows, steps, k]` | with top-k: the largest, largest first |
//! | `top.classes` | `[rows, steps, k]` | U32, whose they are |
//! | `top.rest` | `[rows, steps]` | F32, the logit that each other class is given, so that their mass is right |
//! | `feature.NAME` | `[rows, height, width, channels]` | F16, or F32 |
//!
//! The mass of the other classes is exact at one temperature, which the facts tell.

mod facts;
mod make;
mod read;
#[cfg(test)]
mod tests;
mod top;

pub use facts::{Facts, Keeping, Top};
pub use make::{Making, make};
pub use read::Cache;
