//! Which instruction set the loops run with, found at run time.

use std::sync::atomic::{AtomicU8, Ordering};

/// An instruction set the loops are compiled for, narrowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// What every machine of the target architecture has.
    Portable,
    /// x86-64 with AVX2, FMA, F16C, BMI1 and BMI2: 256-bit vectors.
    Avx2,
    /// x86-64 with AVX-512 F, BW, CD, DQ and VL: 512-bit vectors.
    Avx512,
    /// The same with VNNI and AMX-INT8, on Linux: products of tiles of bytes. All other loops are those of AVX-512.
    Amx,
}

impl Level {
    /// Every level, narrowest first.
    pub const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Amx];

    /// The lower-case name, as printed in reports.
    pub fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
            Level::Amx => "amx",
        }
    }
}

const UNKNOWN: u8 = u8::MAX;

/// The level in use; never above what the machine has.
static CURRENT: AtomicU8 = AtomicU8::new(UNKNOWN);

/// The instruction set the loops use now.
#[inline]
pub fn level() -> Level {
    match CURRENT.load(Ordering::Relaxed) {
        0 => Level::Portable,
        1 => Level::Avx2,
        2 => Level::Avx512,
        3 => Level::Amx,
        _ => {
            limit_level(None);
            detect()
        }
    }
}

/// The widest instruction set of this machine.
pub fn highest_level() -> Level {
    detect()
}

/// Keeps the loops of the whole process at or below `limit`; `None` lifts it.
///
/// For tests and benches: results do not depend on the level.
pub fn limit_level(limit: Option<Level>) {
    let level = limit.map_or(detect(), |limit| limit.min(detect()));
    CURRENT.store(level as u8, Ordering::Relaxed);
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    use std::arch::is_x86_feature_detected as has;
    let avx2 =
        has!("avx2") && has!("fma") && has!("f16c") && has!("bmi1") && has!("bmi2") && has!("lzcnt") && has!("popcnt");
    let avx512 = has!("avx512f") && has!("avx512bw") && has!("avx512cd") && has!("avx512dq") && has!("avx512vl");
    match (avx2, avx512) {
        (true, true) if has!("avx512vnni") && has_tiles() => Level::Amx,
        (true, true) => Level::Avx512,
        (true, false) => Level::Avx2,
        (false, _) => Level::Portable,
    }
}

/// Whether the processor multiplies tiles of bytes, and this process may: Linux gives the tiles' state to those who ask.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn has_tiles() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    // Intel's manual, CPUID leaf 7: AMX-TILE and AMX-INT8.
    const FEATURES: u32 = 1 << 24 | 1 << 25;
    // Linux, Documentation/arch/x86/xstate.rst: the permission, and the number of the state.
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    if __cpuid(0).eax < 7 || __cpuid_count(7, 0).edx & FEATURES != FEATURES {
        return false;
    }
    // SAFETY: the call takes two numbers, and changes nothing but what this process may use.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn has_tiles() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Level {
    Level::Portable
}

/// Calls `$body`, an `#[inline(always)]` function, compiled for [`level`].
///
/// With `<V>` the body has a type parameter for the [`crate::vector::Vector`] of the
/// level. FMA is left out of the AVX2 set and never used in any: Rust does not
/// contract.
macro_rules! dispatch {
    ($body:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)?) => {
        dispatch!(@levels ($body) ($body) ($body) ($body) ($($arg: $ty),*) ($($ret)?))
    };
    (<V> $body:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)?) => {
        dispatch!(@levels
            ($body::<$crate::vector::One512>)
            ($body::<$crate::vector::Two256>)
            ($body::<$crate::vector::Four128>)
            ($body::<$crate::lanes::Lanes>)
            ($($arg: $ty),*) ($($ret)?)
        )
    };
    (@levels
        ($($body512:tt)*) ($($body256:tt)*) ($($body128:tt)*) ($($plain:tt)*)
        ($($arg:ident: $ty:ty),*) ($($ret:ty)?)
    ) => {{
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(
                enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,popcnt"
            )]
            fn avx512($($arg: $ty),*) $(-> $ret)? {
                $($body512)*($($arg),*)
            }
            #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
            fn avx2($($arg: $ty),*) $(-> $ret)? {
                $($body256)*($($arg),*)
            }
            match $crate::level::level() {
                // SAFETY: `level` is `Avx512` or more only where every feature named was detected.
                $crate::level::Level::Avx512 | $crate::level::Level::Amx => unsafe { avx512($($arg),*) },
                // SAFETY: `level` is `Avx2` only where every feature named was detected.
                $crate::level::Level::Avx2 => unsafe { avx2($($arg),*) },
                $crate::level::Level::Portable => $($body128)*($($arg),*),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            $($plain)*($($arg),*)
        }
    }};
}

/// Held by the test that decides about the level.
#[cfg(test)]
static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Runs `f` while no other test changes the level.
#[cfg(test)]
pub(crate) fn at_this_level<T>(f: impl FnOnce() -> T) -> T {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    f()
}

/// Runs `f` at every level of this machine, one test at a time.
#[cfg(test)]
pub(crate) fn at_every_level<T: PartialEq + std::fmt::Debug>(f: impl Fn() -> T) -> T {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    limit_level(Some(Level::Portable));
    let portable = f();
    for limit in [Level::Avx2, Level::Avx512, Level::Amx] {
        limit_level(Some(limit));
        assert_eq!(f(), portable, "{limit:?} differs from portable");
    }
    limit_level(None);
    portable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_lowers_the_level_and_none_lifts_it() {
        let seen = at_every_level(|| level() <= Level::Amx);
        assert!(seen);
    }
}
