//! Loops that compute each value from the values at the same place, and sums over such values.

use super::bits::{Bits, Kernel, run};

/// The lanes that a sum over values is kept in, whatever the width of a register.
pub(super) const LANES: usize = 16;

/// New values of `O` slices from `I` slices and what they held before.
pub(super) trait Map<const I: usize, const O: usize>: Copy {
    /// One register; `at` is the index of its first value. Outputs whose old values are not used are not read.
    ///
    /// # Safety
    /// The instruction set of `T` is there.
    unsafe fn apply<T: Bits>(self, at: usize, x: [T; I], y: [T; O]) -> [T; O];
}

/// As [`Map`], with two more values of each element, whose product is summed.
pub(super) trait MapSum<const I: usize, const O: usize>: Copy {
    /// One register; see [`Map::apply`].
    ///
    /// # Safety
    /// The instruction set of `T` is there.
    unsafe fn apply<T: Bits>(self, x: [T; I], y: [T; O]) -> ([T; O], [T; 2]);
}

struct Values<M, const I: usize, const O: usize> {
    map: M,
    inputs: [*const f32; I],
    outputs: [*mut f32; O],
    len: usize,
}

fn values<M, const I: usize, const O: usize>(
    map: M,
    inputs: [&[f32]; I],
    mut outputs: [&mut [f32]; O],
    len: usize,
) -> Values<M, I, O> {
    for input in inputs {
        assert_eq!(input.len(), len, "inputs as long as the others");
    }
    for output in &outputs {
        assert_eq!(output.len(), len, "outputs as long as the inputs");
    }
    let outputs = std::array::from_fn(|o| outputs[o].as_mut_ptr());
    Values { map, inputs: inputs.map(<[f32]>::as_ptr), outputs, len }
}

/// Applies `map` to every place of slices that are all of length `len`.
pub(super) fn map<const I: usize, const O: usize, M: Map<I, O>>(
    map: M,
    inputs: [&[f32]; I],
    outputs: [&mut [f32]; O],
    len: usize,
) {
    // SAFETY: every slice has `len` values.
    unsafe { run(values(map, inputs, outputs, len)) }
}

/// Applies `map` to every place of slices that are all of length `len`, and adds up the products: exactly multiplied,
/// summed in `f64` over [`LANES`] lanes that are folded in order.
pub(super) fn map_sum<const I: usize, const O: usize, M: MapSum<I, O>>(
    map: M,
    inputs: [&[f32]; I],
    outputs: [&mut [f32]; O],
    len: usize,
) -> f64 {
    // SAFETY: every slice has `len` values.
    unsafe { run(Summed(values(map, inputs, outputs, len))) }
}

/// Registers of the first `n` lanes at `at` of each pointer.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "closures that are not inlined lose the instruction set")]
pub(super) unsafe fn read<T: Bits, const C: usize>(pointers: [*const f32; C], at: usize, n: usize) -> [T; C] {
    // SAFETY: the caller's.
    unsafe {
        let mut registers = [T::splat(0.0); C];
        for c in 0..C {
            registers[c] = T::load_up_to(pointers[c].add(at), n);
        }
        registers
    }
}

#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "closures that are not inlined lose the instruction set")]
unsafe fn read_mut<T: Bits, const C: usize>(pointers: [*mut f32; C], at: usize, n: usize) -> [T; C] {
    // SAFETY: the caller's.
    unsafe {
        let mut registers = [T::splat(0.0); C];
        for c in 0..C {
            registers[c] = T::load_up_to(pointers[c].add(at), n);
        }
        registers
    }
}

#[inline(always)]
unsafe fn write<T: Bits, const C: usize>(registers: [T; C], pointers: [*mut f32; C], at: usize, n: usize) {
    // SAFETY: the caller's.
    unsafe {
        for c in 0..C {
            registers[c].store_up_to(pointers[c].add(at), n);
        }
    }
}

impl<M: Map<I, O>, const I: usize, const O: usize> Kernel for Values<M, I, O> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<T: Bits>(self) {
        let Values { map, inputs, outputs, len } = self;
        let mut at = 0;
        // SAFETY: registers end before `len`, the last in part; see `Kernel::run`.
        unsafe {
            while at + T::N <= len {
                let new = map.apply::<T>(at, read(inputs, at, T::N), read_mut(outputs, at, T::N));
                write(new, outputs, at, T::N);
                at += T::N;
            }
            if at < len {
                let new = map.apply::<T>(at, read(inputs, at, len - at), read_mut(outputs, at, len - at));
                write(new, outputs, at, len - at);
            }
        }
    }
}

struct Summed<M, const I: usize, const O: usize>(Values<M, I, O>);

impl<M: MapSum<I, O>, const I: usize, const O: usize> Kernel for Summed<M, I, O> {
    type Out = f64;
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "halves are places of several things")]
    unsafe fn run<T: Bits>(self) -> f64 {
        let Values { map, inputs, outputs, len } = self.0;
        let mut lanes = [0.0_f64; LANES];
        // SAFETY: registers end before `len`, the last in part; a register's sums lie in its part of `LANES`.
        unsafe {
            // One register of sixteen lanes, or two of eight.
            let mut sums = [T::wide_load(lanes.as_ptr()); 2];
            let mut at = 0;
            while at < len {
                for half in 0..LANES / T::N {
                    let n = (len - at).min(T::N);
                    let (new, [a, b]) = map.apply::<T>(read(inputs, at, n), read_mut(outputs, at, n));
                    write(new, outputs, at, n);
                    let (a, b) = if n < T::N { (a.first(n), b.first(n)) } else { (a, b) };
                    sums[half] = T::wide_add_product(sums[half], a.widen(), b.widen());
                    at += n;
                }
            }
            for half in 0..LANES / T::N {
                T::wide_store(sums[half], lanes.as_mut_ptr().add(half * T::N));
            }
        }
        fold(&lanes)
    }
}

/// The sum of sixteen lanes, as a tree of halves.
#[inline(always)]
pub(super) fn fold(lanes: &[f64; LANES]) -> f64 {
    let mut lanes = *lanes;
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}
