//! What the three cells compute beside their products: gates and their gradients, sixteen units at a time.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `simd`")]
#![allow(clippy::needless_range_loop, reason = "tiles are indexed by row and register alike")]

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
    /// Gates that a packed block holds.
    const GATES: usize;
    /// Columns of a packed block from which the state's sum is kept apart from the inputs'.
    const APART: usize;
    /// The bias of column `column` of a block, as [`sum`] counts them.
    unsafe fn bias<T: V>(s: &Step, unit: usize, column: usize) -> T;
    /// The new state of one row from the sums of a block (`width` columns).
    unsafe fn finish<T: V>(s: &Step, unit: usize, row: usize, sums: *const f32, width: usize);
    /// `T::N` units of all `rows`: gradients of the gates from those of the state.
    unsafe fn backward<T: V>(s: &StepBack, unit: usize, rows: usize);
}

pub(super) struct Lstm;
pub(super) struct Gru;
pub(super) struct Rnn;

/// `MR` rows of one block of `width` columns, `NR` registers at a time: the sums that [`CellMath::finish`] takes.
#[inline(always)]
pub(super) unsafe fn sum<T: V, C: CellMath, const MR: usize, const NR: usize>(
    s: &Step,
    unit: usize,
    row: usize,
    width: usize,
    sums: *mut f32,
) {
    let mut inputs = [s.x; MR];
    let mut state = [s.h; MR];
    for m in 0..MR {
        inputs[m] = s.x.add(*s.x_at.add(row + m));
        state[m] = s.h.add((row + m) * s.h_row);
    }
    let w = s.weight.add((s.inputs + s.hidden) * unit * C::GATES);
    for column in (0..width).step_by(NR * T::N) {
        let mut acc = [[T::splat(0.0); NR]; MR];
        for n in 0..NR {
            let bias = C::bias::<T>(s, unit, column + n * T::N);
            for acc in &mut acc {
                acc[n] = bias;
            }
        }
        let w = w.add(column);
        accumulate::<T, MR, NR>(&mut acc, &inputs, s.inputs, w, width);
        for n in 0..NR {
            let column = column + n * T::N;
            if column >= C::APART {
                let bias = C::bias::<T>(s, unit, column + GROUP);
                for m in 0..MR {
                    acc[m][n].store(sums.add(m * BLOCK + column));
                    acc[m][n] = bias;
                }
            }
        }
        accumulate::<T, MR, NR>(&mut acc, &state, s.h_len, w.add(s.inputs * width), width);
        for n in 0..NR {
            let column = column + n * T::N;
            let to = if column >= C::APART { column + GROUP } else { column };
            for m in 0..MR {
                acc[m][n].store(sums.add(m * BLOCK + to));
            }
        }
    }
}

/// How many of the lanes from `unit` on exist.
#[inline(always)]
fn lanes<T: V>(hidden: usize, unit: usize) -> usize {
    hidden.saturating_sub(unit).min(T::N)
}

/// The bias of a gate, sixteen columns each.
#[inline(always)]
unsafe fn gate_bias<T: V>(s: &Step, unit: usize, column: usize) -> T {
    let unit = unit + column % GROUP;
    T::load_part(s.bias.wrapping_add(column / GROUP * s.hidden + unit), lanes::<T>(s.hidden, unit))
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
    const GATES: usize = 4;
    const APART: usize = BLOCK;

    #[inline(always)]
    unsafe fn bias<T: V>(s: &Step, unit: usize, column: usize) -> T {
        gate_bias(s, unit, column)
    }

    #[inline(always)]
    unsafe fn finish<T: V>(s: &Step, unit: usize, row: usize, sums: *const f32, _: usize) {
        for lane in (0..GROUP).step_by(T::N) {
            let cell = unit * s.panel + row * GROUP + lane;
            let at = |n: usize| T::load(sums.add(n * GROUP + lane));
            let (i, f, g, o) = (sigmoid(at(0)), sigmoid(at(1)), tanh(at(2)), sigmoid(at(3)));
            let c = f.mul(T::load(s.c.add(cell))).fma(i, g);
            c.store(s.c_next.add(cell));
            o.mul(tanh(c)).store(s.h_next.add(row * s.h_row + unit + lane));
            if !s.gates.is_null() {
                let to = s.gates.add((unit / GROUP * s.panel + row) * BLOCK + lane);
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
    const GATES: usize = 3;
    const APART: usize = 2 * GROUP;

    #[inline(always)]
    unsafe fn bias<T: V>(s: &Step, unit: usize, column: usize) -> T {
        gate_bias(s, unit, column)
    }

    #[inline(always)]
    unsafe fn finish<T: V>(s: &Step, unit: usize, row: usize, sums: *const f32, _: usize) {
        let one = T::splat(1.0);
        for lane in (0..GROUP).step_by(T::N) {
            let at = |n: usize| T::load(sums.add(n * GROUP + lane));
            let (r, z, q) = (sigmoid(at(0)), sigmoid(at(1)), at(3));
            let n = tanh(at(2).fma(r, q));
            let state = row * s.h_row + unit + lane;
            one.sub(z).mul(n).fma(z, T::load(s.h.add(state))).store(s.h_next.add(state));
            if !s.gates.is_null() {
                let to = s.gates.add((unit / GROUP * s.panel + row) * BLOCK + lane);
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
    const GATES: usize = 1;
    const APART: usize = BLOCK;

    #[inline(always)]
    unsafe fn bias<T: V>(s: &Step, unit: usize, column: usize) -> T {
        let unit = unit + column;
        T::load_part(s.bias.wrapping_add(unit), lanes::<T>(s.hidden, unit))
    }

    #[inline(always)]
    unsafe fn finish<T: V>(s: &Step, unit: usize, row: usize, sums: *const f32, width: usize) {
        for column in (0..width).step_by(T::N) {
            tanh(T::load(sums.add(column))).store(s.h_next.add(row * s.h_row + unit + column));
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
