//! What the three cells compute beside their products: gates and their gradients, sixteen units at a time.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `simd`")]

use super::product::{BLOCK, GROUP, accumulate, add_part};
use crate::nn::simd::{V, sigmoid, tanh};

/// The operands of one time step forward.
pub(super) struct Step {
    pub(super) x: *const f32,
    /// Where each row's inputs begin.
    pub(super) x_at: *const usize,
    pub(super) inputs: usize,
    pub(super) hidden: usize,
    /// The state before the step, `h_row` apart, of which `h_len` values are not known to be zero.
    pub(super) h: *const f32,
    pub(super) h_row: usize,
    pub(super) h_len: usize,
    pub(super) h_next: *mut f32,
    /// The cells before and after, `[block][row][16]` (LSTM).
    pub(super) c: *const f32,
    pub(super) c_next: *mut f32,
    /// What backward needs, `[block][row][64]`, or null.
    pub(super) gates: *mut f32,
    /// Rows of a panel.
    pub(super) panel: usize,
    pub(super) weight: *const f32,
    pub(super) bias: *const f32,
}

/// The operands of one time step backward.
pub(super) struct StepBack {
    pub(super) hidden: usize,
    pub(super) h: *const f32,
    pub(super) h_next: *const f32,
    pub(super) h_row: usize,
    pub(super) c: *const f32,
    pub(super) c_next: *const f32,
    /// Gates, overwritten by their gradients.
    pub(super) gates: *mut f32,
    pub(super) panel: usize,
    /// Gradients of the state and of the cells after the step; then those of before, short of the state's product.
    pub(super) dh: *mut f32,
    pub(super) dh_row: usize,
    pub(super) dc: *mut f32,
    /// The output's own gradient of this step or null, and where each row's begins.
    pub(super) gradient: *const f32,
    pub(super) gradient_at: *const usize,
    pub(super) db: *mut f32,
}

/// One cell's arithmetic.
pub(super) trait CellMath {
    /// Units in a block.
    const UNITS: usize;
    /// `MR` rows of `T::N` units (four times as many for [`Rnn`]): products, gates and the new state.
    unsafe fn forward<T: V, const MR: usize>(s: &Step, unit: usize, lane: usize, row: usize);
    /// `T::N` units of all `rows`: gradients of the gates from those of the state.
    unsafe fn backward<T: V>(s: &StepBack, unit: usize, rows: usize);
}

pub(super) struct Lstm;
pub(super) struct Gru;
pub(super) struct Rnn;

/// How many of the lanes from `unit` on exist.
#[inline(always)]
fn lanes<T: V>(hidden: usize, unit: usize) -> usize {
    hidden.saturating_sub(unit).min(T::N)
}

#[inline(always)]
unsafe fn bias<T: V>(s: &Step, gate: usize, unit: usize) -> T {
    T::load_part(s.bias.wrapping_add(gate * s.hidden + unit), lanes::<T>(s.hidden, unit))
}

#[inline(always)]
unsafe fn input_rows<const MR: usize>(s: &Step, row: usize) -> [*const f32; MR] {
    let mut at = [s.x; MR];
    for (m, at) in at.iter_mut().enumerate() {
        *at = s.x.add(*s.x_at.add(row + m));
    }
    at
}

#[inline(always)]
unsafe fn state_rows<const MR: usize>(s: &Step, row: usize) -> [*const f32; MR] {
    let mut at = [s.h; MR];
    for (m, at) in at.iter_mut().enumerate() {
        *at = s.h.add((row + m) * s.h_row);
    }
    at
}

#[inline(always)]
unsafe fn state_gradient<T: V>(s: &StepBack, row: usize, unit: usize) -> T {
    let dh = T::load(s.dh.add(row * s.dh_row + unit));
    if s.gradient.is_null() {
        return dh;
    }
    let own = s.gradient.wrapping_add(*s.gradient_at.add(row) + unit);
    dh.add(T::load_part(own, lanes::<T>(s.hidden, unit)))
}

impl CellMath for Lstm {
    const UNITS: usize = GROUP;

    #[inline(always)]
    unsafe fn forward<T: V, const MR: usize>(s: &Step, unit: usize, lane: usize, row: usize) {
        let mut acc =
            [[bias(s, 0, unit + lane), bias(s, 1, unit + lane), bias(s, 2, unit + lane), bias(s, 3, unit + lane)]; MR];
        let w = s.weight.add((s.inputs + s.hidden) * unit * 4 + lane);
        accumulate::<T, MR, 4>(&mut acc, &input_rows(s, row), s.inputs, w, BLOCK, GROUP);
        let w = w.add(s.inputs * BLOCK);
        accumulate::<T, MR, 4>(&mut acc, &state_rows(s, row), s.h_len, w, BLOCK, GROUP);
        for m in 0..MR {
            let cell = unit * s.panel + (row + m) * GROUP + lane;
            let [i, f, g, o] = [sigmoid(acc[m][0]), sigmoid(acc[m][1]), tanh(acc[m][2]), sigmoid(acc[m][3])];
            let c = f.mul(T::load(s.c.add(cell))).fma(i, g);
            c.store(s.c_next.add(cell));
            o.mul(tanh(c)).store(s.h_next.add((row + m) * s.h_row + unit + lane));
            if !s.gates.is_null() {
                let to = s.gates.add(unit / GROUP * s.panel * BLOCK + (row + m) * BLOCK + lane);
                i.store(to);
                f.store(to.add(GROUP));
                g.store(to.add(2 * GROUP));
                o.store(to.add(3 * GROUP));
            }
        }
    }

    #[inline(always)]
    unsafe fn backward<T: V>(s: &StepBack, unit: usize, rows: usize) {
        let one = T::splat(1.0);
        let (group, lane) = (unit / GROUP, unit % GROUP);
        let mut sums = [T::splat(0.0); 4];
        for row in 0..rows {
            let q = s.gates.add((group * s.panel + row) * BLOCK + lane);
            let cell = (group * s.panel + row) * GROUP + lane;
            let [i, f, g, o] =
                [T::load(q), T::load(q.add(GROUP)), T::load(q.add(2 * GROUP)), T::load(q.add(3 * GROUP))];
            let tanh_c = tanh(T::load(s.c_next.add(cell)));
            let dh = state_gradient::<T>(s, row, unit);
            let dc = T::load(s.dc.add(cell)).fma(dh.mul(o), one.sub(tanh_c.mul(tanh_c)));
            let gradients = [
                dc.mul(g).mul(i.mul(one.sub(i))),
                dc.mul(T::load(s.c.add(cell))).mul(f.mul(one.sub(f))),
                dc.mul(i).mul(one.sub(g.mul(g))),
                dh.mul(tanh_c).mul(o.mul(one.sub(o))),
            ];
            dc.mul(f).store(s.dc.add(cell));
            for n in 0..4 {
                gradients[n].store(q.add(n * GROUP));
                sums[n] = sums[n].add(gradients[n]);
            }
        }
        for n in 0..4 {
            add_part(s.db.wrapping_add(n * s.hidden + unit), sums[n], lanes::<T>(s.hidden, unit));
        }
    }
}

/// The panel keeps `[n, r, z, q]` with `q = W_hn h + b_hn`; their gradients `[n, r, z, q]` are two runs of three: the
/// inputs' columns first, the state's last.
impl CellMath for Gru {
    const UNITS: usize = GROUP;

    #[inline(always)]
    unsafe fn forward<T: V, const MR: usize>(s: &Step, unit: usize, lane: usize, row: usize) {
        const WIDTH: usize = 3 * GROUP;
        let one = T::splat(1.0);
        let mut acc = [[bias(s, 0, unit + lane), bias(s, 1, unit + lane), bias(s, 2, unit + lane)]; MR];
        let w = s.weight.add((s.inputs + s.hidden) * unit * 3 + lane);
        accumulate::<T, MR, 3>(&mut acc, &input_rows(s, row), s.inputs, w, WIDTH, GROUP);
        let mut from_inputs = [T::splat(0.0); MR];
        for m in 0..MR {
            from_inputs[m] = acc[m][2];
            acc[m][2] = bias(s, 3, unit + lane);
        }
        let w = w.add(s.inputs * WIDTH);
        accumulate::<T, MR, 3>(&mut acc, &state_rows(s, row), s.h_len, w, WIDTH, GROUP);
        for m in 0..MR {
            let (r, z, q) = (sigmoid(acc[m][0]), sigmoid(acc[m][1]), acc[m][2]);
            let n = tanh(from_inputs[m].fma(r, q));
            let at = (row + m) * s.h_row + unit + lane;
            let h = one.sub(z).mul(n).fma(z, T::load(s.h.add(at)));
            h.store(s.h_next.add(at));
            if !s.gates.is_null() {
                let to = s.gates.add(unit / GROUP * s.panel * BLOCK + (row + m) * BLOCK + lane);
                n.store(to);
                r.store(to.add(GROUP));
                z.store(to.add(2 * GROUP));
                q.store(to.add(3 * GROUP));
            }
        }
    }

    #[inline(always)]
    unsafe fn backward<T: V>(s: &StepBack, unit: usize, rows: usize) {
        let one = T::splat(1.0);
        let (group, lane) = (unit / GROUP, unit % GROUP);
        let mut sums = [T::splat(0.0); 4];
        for row in 0..rows {
            let to = s.gates.add((group * s.panel + row) * BLOCK + lane);
            let [n, r, z, q] =
                [T::load(to), T::load(to.add(GROUP)), T::load(to.add(2 * GROUP)), T::load(to.add(3 * GROUP))];
            let dh = state_gradient::<T>(s, row, unit);
            let h = T::load(s.h.add(row * s.h_row + unit));
            let dn = dh.mul(one.sub(z)).mul(one.sub(n.mul(n)));
            let dr = dn.mul(q).mul(r.mul(one.sub(r)));
            let dz = dh.mul(h.sub(n)).mul(z.mul(one.sub(z)));
            let gradients = [dn, dr, dz, dn.mul(r)];
            dh.mul(z).store(s.dh.add(row * s.dh_row + unit));
            for n in 0..4 {
                gradients[n].store(to.add(n * GROUP));
                sums[n] = sums[n].add(gradients[n]);
            }
        }
        // The bias lies as r, z, n of the inputs, n of the state.
        for (n, gate) in [2, 0, 1, 3].into_iter().enumerate() {
            add_part(s.db.wrapping_add(gate * s.hidden + unit), sums[n], lanes::<T>(s.hidden, unit));
        }
    }
}

impl CellMath for Rnn {
    const UNITS: usize = BLOCK;

    #[inline(always)]
    unsafe fn forward<T: V, const MR: usize>(s: &Step, unit: usize, lane: usize, row: usize) {
        match (s.hidden - unit).div_ceil(GROUP) {
            1 => rnn_tile::<T, MR, 1>(s, unit, lane, row),
            2 => rnn_tile::<T, MR, 2>(s, unit, lane, row),
            3 => rnn_tile::<T, MR, 3>(s, unit, lane, row),
            _ => rnn_tile::<T, MR, 4>(s, unit, lane, row),
        }
    }

    #[inline(always)]
    unsafe fn backward<T: V>(s: &StepBack, unit: usize, rows: usize) {
        let one = T::splat(1.0);
        let (block, lane) = (unit / BLOCK, unit % BLOCK);
        let mut sum = T::splat(0.0);
        for row in 0..rows {
            let h = T::load(s.h_next.add(row * s.h_row + unit));
            let gradient = state_gradient::<T>(s, row, unit).mul(one.sub(h.mul(h)));
            gradient.store(s.gates.add((block * s.panel + row) * BLOCK + lane));
            sum = sum.add(gradient);
        }
        add_part(s.db.wrapping_add(unit), sum, lanes::<T>(s.hidden, unit));
    }
}

#[inline(always)]
unsafe fn rnn_tile<T: V, const MR: usize, const NR: usize>(s: &Step, unit: usize, lane: usize, row: usize) {
    let mut acc = [[T::splat(0.0); NR]; MR];
    for n in 0..NR {
        let b = bias(s, 0, unit + n * GROUP + lane);
        for acc in &mut acc {
            acc[n] = b;
        }
    }
    let w = s.weight.add((s.inputs + s.hidden) * unit + lane);
    accumulate::<T, MR, NR>(&mut acc, &input_rows(s, row), s.inputs, w, NR * GROUP, GROUP);
    let w = w.add(s.inputs * NR * GROUP);
    accumulate::<T, MR, NR>(&mut acc, &state_rows(s, row), s.h_len, w, NR * GROUP, GROUP);
    for m in 0..MR {
        for n in 0..NR {
            tanh(acc[m][n]).store(s.h_next.add((row + m) * s.h_row + unit + n * GROUP + lane));
        }
    }
}
