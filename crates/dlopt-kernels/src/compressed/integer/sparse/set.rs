//! The instruction sets that sparse kernels of bytes have loops of their own for.

use crate::level::{Level, level};

/// Narrowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Set {
    Portable,
    Avx2,
    /// AVX-512 with VNNI: sums of products of bytes.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "no other machine has it"))]
    Vnni,
    /// The same with VBMI and VBMI2: bytes picked from two registers, and spread over the ones of a mask.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "no other machine has it"))]
    Vbmi,
}

impl Set {
    /// That of the level in use.
    pub(super) fn now() -> Self {
        match level() {
            Level::Portable => Self::Portable,
            Level::Avx2 => Self::Avx2,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 | Level::Amx => {
                use std::arch::is_x86_feature_detected as has;
                match (has!("avx512vnni"), has!("avx512vbmi") && has!("avx512vbmi2")) {
                    (true, true) => Self::Vbmi,
                    (true, false) => Self::Vnni,
                    (false, _) => Self::Avx2,
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            Level::Avx512 | Level::Amx => Self::Portable,
        }
    }
}
