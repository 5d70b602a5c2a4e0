use super::*;
use crate::level::at_every_level;
use crate::nn::Team;
use crate::nn::simd::{A, V, sigmoid, tanh};

const CELLS: [Cell; 3] = [Cell::Rnn, Cell::Lstm, Cell::Gru];

/// `[time, inputs, hidden, rows]`: one and several blocks, whole and partial groups, more steps than share a product.
const EXTENTS: [[usize; 4]; 6] =
    [[1, 1, 1, 1], [3, 5, 16, 7], [9, 2, 21, 4], [6, 19, 8, 13], [5, 70, 37, 3], [2, 64, 83, 5]];

struct Case {
    layer: Recurrent,
    rows: usize,
    x: Vec<f32>,
    lengths: Option<Vec<u32>>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    gradient: Vec<f32>,
}

fn values(len: usize, seed: u64, scale: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * scale
        })
        .collect()
}

fn case(shape: RecurrentShape, rows: usize, is_reversed: bool, returns_sequence: bool, is_ragged: bool) -> Case {
    let layer = Recurrent::new(shape, is_reversed, returns_sequence);
    let lengths = is_ragged.then(|| (0..rows).map(|row| (row * 5 % shape.time + 1) as u32).collect());
    let scale = 1.5 / ((shape.inputs + shape.hidden) as f32).sqrt();
    Case {
        layer,
        rows,
        x: values(rows * shape.time * shape.inputs, 1, 1.0),
        lengths,
        weight: values(layer.weight_len(), 2, scale),
        bias: values(layer.bias_len(), 3, 0.5),
        gradient: values(rows * shape.hidden * if returns_sequence { shape.time } else { 1 }, 4, 1.0),
    }
}

/// Every cell, extent, direction, output and kind of lengths.
fn cases(extents: &[[usize; 4]]) -> Vec<Case> {
    let mut cases = Vec::new();
    for cell in CELLS {
        for &[time, inputs, hidden, rows] in extents {
            for bits in 0..8 {
                let shape = RecurrentShape { cell, time, inputs, hidden };
                cases.push(case(shape, rows, bits & 1 != 0, bits & 2 != 0, bits & 4 != 0));
            }
        }
    }
    cases
}

impl Case {
    fn forward(&self, saved: Option<&mut RecurrentSaved>) -> Vec<f32> {
        let mut packed = Vec::new();
        self.layer.pack_forward(&Team::new(1), &self.weight, &mut packed);
        let mut out = vec![f32::NAN; self.gradient.len()];
        self.layer.forward(self.rows, &self.x, self.lengths.as_deref(), &packed, &self.bias, saved, &mut out);
        out
    }

    /// dw, db, dx
    fn backward(&self, saved: &mut RecurrentSaved) -> [Vec<f32>; 3] {
        let mut packed = Vec::new();
        self.layer.pack_backward(&Team::new(1), &self.weight, &mut packed);
        let (mut dw, mut db) = (vec![0.0; self.weight.len()], vec![0.0; self.bias.len()]);
        let mut dx = vec![f32::NAN; self.x.len()];
        let lengths = self.lengths.as_deref();
        self.layer.backward(
            self.rows,
            &self.x,
            lengths,
            saved,
            &self.gradient,
            &packed,
            &mut dw,
            &mut db,
            Some(&mut dx),
        );
        [dw, db, dx]
    }

    fn label(&self) -> String {
        format!("{:?}, lengths {:?}", self.layer, self.lengths)
    }
}

/// The formulas in f64, one row and one unit at a time.
fn reference(case: &Case, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let Recurrent { shape: RecurrentShape { cell, time, inputs, hidden }, .. } = case.layer;
    let columns = cell.gates() * hidden;
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let mut out = vec![0.0; case.gradient.len()];
    for row in 0..case.rows {
        let len = case.lengths.as_ref().map_or(time, |lengths| lengths[row] as usize);
        let (mut h, mut c) = (vec![0.0; hidden], vec![0.0; hidden]);
        for step in 0..len {
            let at = if case.layer.is_reversed { len - 1 - step } else { step };
            let x = &x[(row * time + at) * inputs..][..inputs];
            let from_x = |gate: usize, unit: usize| {
                x.iter().enumerate().map(|(k, x)| x * weight[k * columns + gate * hidden + unit]).sum::<f64>()
                    + bias[gate * hidden + unit]
            };
            let old = h.clone();
            let from_h = |gate: usize, unit: usize| {
                let w = |k: usize| weight[(inputs + k) * columns + gate * hidden + unit];
                old.iter().enumerate().map(|(k, h)| h * w(k)).sum::<f64>()
            };
            let sum = |gate, unit| from_x(gate, unit) + from_h(gate, unit);
            for unit in 0..hidden {
                h[unit] = match cell {
                    Cell::Rnn => sum(0, unit).tanh(),
                    Cell::Lstm => {
                        c[unit] = sigmoid(sum(1, unit)) * c[unit] + sigmoid(sum(0, unit)) * sum(2, unit).tanh();
                        sigmoid(sum(3, unit)) * c[unit].tanh()
                    }
                    Cell::Gru => {
                        let (r, z) = (sigmoid(sum(0, unit)), sigmoid(sum(1, unit)));
                        let n = (from_x(2, unit) + r * (from_h(2, unit) + bias[3 * hidden + unit])).tanh();
                        (1.0 - z) * n + z * old[unit]
                    }
                };
            }
            if case.layer.returns_sequence {
                out[(row * time + at) * hidden..][..hidden].copy_from_slice(&h);
            }
        }
        if !case.layer.returns_sequence {
            out[row * hidden..][..hidden].copy_from_slice(&h);
        }
    }
    out
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| x.into()).collect()
}

fn assert_near(found: &[f32], wanted: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), wanted.len());
    let scale = wanted.iter().fold(1.0, |most: f64, x| most.max(x.abs()));
    for (at, (&found, wanted)) in found.iter().zip(wanted).enumerate() {
        let found = f64::from(found);
        assert!((found - wanted).abs() <= tolerance * scale, "{what} at {at}: {found}, wanted {wanted}");
    }
}

#[test]
fn forward_is_the_formula_with_and_without_saving() {
    for case in cases(&EXTENTS) {
        let wanted = reference(&case, &wide(&case.x), &wide(&case.weight), &wide(&case.bias));
        let found = case.forward(None);
        assert_near(&found, &wanted, 4e-6, &case.label());
        assert_eq!(case.forward(Some(&mut RecurrentSaved::default())), found, "{}", case.label());
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for case in cases(&[[3, 2, 5, 3], [6, 3, 4, 2], [2, 1, 17, 2]]) {
        let mut saved = RecurrentSaved::default();
        case.forward(Some(&mut saved));
        let found = case.backward(&mut saved);
        let operands = [wide(&case.weight), wide(&case.bias), wide(&case.x)];
        for (which, found) in found.iter().enumerate() {
            let wanted: Vec<f64> = (0..found.len())
                .map(|at| {
                    let loss = |by: f64| {
                        let mut moved = operands.clone();
                        moved[which][at] += by;
                        let out = reference(&case, &moved[2], &moved[0], &moved[1]);
                        out.iter().zip(&case.gradient).map(|(y, g)| y * f64::from(*g)).sum::<f64>()
                    };
                    (loss(1e-5) - loss(-1e-5)) / 2e-5
                })
                .collect();
            assert_near(found, &wanted, 5e-6, &format!("{}: {}", ["dw", "db", "dx"][which], case.label()));
        }
    }
}

#[test]
fn every_level_gives_the_same_bytes() {
    let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    for case in cases(&EXTENTS) {
        at_every_level(|| {
            let mut saved = RecurrentSaved::default();
            let out = case.forward(Some(&mut saved));
            let [dw, db, dx] = case.backward(&mut saved);
            [bits(&out), bits(&case.forward(None)), bits(&dw), bits(&db), bits(&dx)]
        });
    }
}

#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    for case in cases(&[[5, 3, 21, 9]]) {
        let all = case.forward(None);
        let features = case.x.len() / case.rows;
        let outputs = all.len() / case.rows;
        for row in 0..case.rows {
            let alone = Case {
                rows: 1,
                x: case.x[row * features..][..features].to_vec(),
                lengths: case.lengths.as_ref().map(|lengths| vec![lengths[row]]),
                weight: case.weight.clone(),
                bias: case.bias.clone(),
                gradient: vec![0.0; outputs],
                layer: case.layer,
            };
            assert_eq!(alone.forward(None), all[row * outputs..][..outputs], "{}", case.label());
        }
    }
}

#[test]
fn what_lies_after_the_end_of_a_row_is_not_read() {
    for mut case in cases(&[[5, 3, 10, 6]]).into_iter().filter(|case| case.lengths.is_some()) {
        let run = |case: &Case| {
            let mut saved = RecurrentSaved::default();
            (case.forward(Some(&mut saved)), case.backward(&mut saved))
        };
        let clean = run(&case);
        let RecurrentShape { time, inputs, hidden, .. } = case.layer.shape;
        for (row, &len) in case.lengths.clone().unwrap().iter().enumerate() {
            case.x[(row * time + len as usize) * inputs..(row + 1) * time * inputs].fill(f32::NAN);
            if case.layer.returns_sequence {
                case.gradient[(row * time + len as usize) * hidden..(row + 1) * time * hidden].fill(f32::NAN);
            }
        }
        assert_eq!(run(&case), clean, "{}", case.label());
    }
}

#[test]
fn gradients_add_to_what_the_slices_hold_and_saved_memory_is_used_again() {
    let mut saved = RecurrentSaved::default();
    for case in cases(&[[6, 4, 40, 9], [3, 4, 7, 2]]) {
        case.forward(Some(&mut saved));
        let [dw, db, _] = case.backward(&mut saved);
        let mut packed = Vec::new();
        case.layer.pack_backward(&Team::new(2), &case.weight, &mut packed);
        case.forward(Some(&mut saved));
        let (mut twice, mut twice_b) = (dw.clone(), db.clone());
        let (lengths, g) = (case.lengths.as_deref(), &case.gradient);
        case.layer.backward(case.rows, &case.x, lengths, &mut saved, g, &packed, &mut twice, &mut twice_b, None);
        let doubled = |once: &[f32]| once.iter().map(|&x| 2.0 * f64::from(x)).collect::<Vec<_>>();
        assert_near(&twice, &doubled(&dw), 1e-6, &case.label());
        assert_near(&twice_b, &doubled(&db), 1e-6, &case.label());
    }
}

#[test]
fn a_length_of_all_steps_is_no_length() {
    for mut case in cases(&[[4, 3, 18, 5]]).into_iter().filter(|case| case.lengths.is_none()) {
        let free = case.forward(None);
        case.lengths = Some(vec![4; 5]);
        assert_eq!(case.forward(None), free);
    }
}

#[test]
fn pytorch_layout_comes_back() {
    for cell in CELLS {
        let layer = Recurrent::new(RecurrentShape { cell, time: 1, inputs: 3, hidden: 5 }, false, false);
        let n = cell.gates() * 5;
        let [w_ih, w_hh] = [values(n * 3, 1, 1.0), values(n * 5, 2, 1.0)];
        let [b_ih, b_hh] = [values(n, 3, 1.0), values(n, 4, 1.0)];
        let (mut weight, mut bias) = (vec![0.0; layer.weight_len()], vec![0.0; layer.bias_len()]);
        layer.from_pytorch(&w_ih, &w_hh, &b_ih, &b_hh, &mut weight, &mut bias);
        assert_eq!(weight[2 * n + 4], w_ih[4 * 3 + 2], "[input, column] holds [column, input]");
        assert_eq!(weight[(3 + 1) * n + 4], w_hh[4 * 5 + 1], "the state's rows follow the inputs'");
        let [mut w_ih2, mut w_hh2] = [vec![0.0; n * 3], vec![0.0; n * 5]];
        let [mut b_ih2, mut b_hh2] = [vec![1.0; n], vec![1.0; n]];
        layer.to_pytorch(&weight, &bias, &mut w_ih2, &mut w_hh2, &mut b_ih2, &mut b_hh2);
        assert_eq!((w_ih2, w_hh2), (w_ih, w_hh));
        let apart = if cell == Cell::Gru { 10 } else { n };
        for at in 0..n {
            let wanted = if at < apart { (b_ih[at] + b_hh[at], 0.0) } else { (b_ih[at], b_hh[at]) };
            assert_eq!((b_ih2[at], b_hh2[at]), wanted);
        }
    }
}

#[test]
fn no_rows_are_no_work() {
    for case in cases(&[[3, 2, 5, 0]]) {
        let mut saved = RecurrentSaved::default();
        assert!(case.forward(Some(&mut saved)).is_empty());
        assert!(case.backward(&mut saved).iter().all(|values| values.iter().all(|&x| x == 0.0)));
    }
}

#[test]
#[should_panic(expected = "a forward pass with `saved` before each backward")]
fn a_second_backward_is_refused() {
    let case = &cases(&[[2, 2, 3, 2]])[0];
    let mut saved = RecurrentSaved::default();
    case.forward(Some(&mut saved));
    case.backward(&mut saved);
    case.backward(&mut saved);
}

#[test]
#[should_panic(expected = "`saved` comes from another layer")]
fn what_another_layer_saved_is_refused() {
    let cases = cases(&[[2, 2, 3, 2]]);
    let mut saved = RecurrentSaved::default();
    cases[0].forward(Some(&mut saved));
    cases[1].backward(&mut saved);
}

#[test]
fn tanh_and_sigmoid_are_near_and_bounded_and_keep_nan() {
    let lane = |f: unsafe fn(A) -> A, x: f32| {
        let mut out = [0.0; 8];
        // SAFETY: the portable register needs no instruction set, and has eight lanes.
        unsafe { f(A::splat(x)).store(out.as_mut_ptr()) };
        out[0]
    };
    for magnitude in (0..0x4200_0000_u32).step_by(9973).map(f32::from_bits).chain([f32::INFINITY]) {
        for x in [magnitude, -magnitude] {
            let (t, s) = (lane(tanh::<A>, x), lane(sigmoid::<A>, x));
            let (exact_t, exact_s) = (f64::from(x).tanh(), 1.0 / (1.0 + (-f64::from(x)).exp()));
            assert!((f64::from(t) - exact_t).abs() <= 3.2e-7 * exact_t.abs(), "tanh({x}) = {t}, wanted {exact_t}");
            assert!((f64::from(s) - exact_s).abs() <= 1.8e-7, "sigmoid({x}) = {s}, wanted {exact_s}");
            assert!((-1.0..=1.0).contains(&t) && (0.0..=1.0).contains(&s), "at {x}: {t}, {s}");
        }
    }
    assert_eq!((lane(tanh::<A>, 0.0), lane(sigmoid::<A>, 0.0)), (0.0, 0.5));
    assert!(lane(tanh::<A>, f32::NAN).is_nan() && lane(sigmoid::<A>, f32::NAN).is_nan());
}

/// Columns `steps` of `[rows, time, features]`.
fn cut(values: &[f32], time: usize, features: usize, steps: std::ops::Range<usize>) -> Vec<f32> {
    values
        .chunks_exact(time * features)
        .flat_map(|row| row[steps.start * features..steps.end * features].to_vec())
        .collect()
}

#[test]
fn a_pass_in_two_parts_with_the_state_between_them_is_the_whole_one() {
    for cell in CELLS {
        for [time, inputs, hidden, rows] in [[7, 5, 16, 7], [9, 2, 21, 4], [6, 19, 37, 13]] {
            let shape = RecurrentShape { cell, time, inputs, hidden };
            let first_steps = time / 2;
            let mut whole = case(shape, rows, false, true, false);
            let rest: Vec<u32> = (0..rows).map(|row| (row * 5 % (time - first_steps) + 1) as u32).collect();
            whole.lengths = Some(rest.iter().map(|len| len + first_steps as u32).collect());
            let layer = whole.layer;
            let (mut packed, mut packed_back) = (Vec::new(), Vec::new());
            layer.pack_forward(&Team::new(1), &whole.weight, &mut packed);
            layer.pack_backward(&Team::new(1), &whole.weight, &mut packed_back);
            let part = |time| Recurrent::new(RecurrentShape { time, ..shape }, false, true);
            let (a, b) = (part(first_steps), part(time - first_steps));
            let (x_a, x_b) =
                (cut(&whole.x, time, inputs, 0..first_steps), cut(&whole.x, time, inputs, first_steps..time));
            let computed = at_every_level(|| {
                let mut saved: [RecurrentSaved; 3] = Default::default();
                let out = whole.forward(Some(&mut saved[0]));
                let [dw, db, dx] = whole.backward(&mut saved[0]);
                let mut between = vec![f32::NAN; rows * layer.state_len()];
                let mut last = between.clone();
                let mut out_a = vec![f32::NAN; rows * first_steps * hidden];
                let mut out_b = vec![f32::NAN; rows * (time - first_steps) * hidden];
                let ends = Ends { given: None, wanted: Some(&mut between) };
                a.forward_between(rows, &x_a, None, &packed, &whole.bias, ends, Some(&mut saved[1]), &mut out_a);
                let ends = Ends { given: Some(&between), wanted: Some(&mut last) };
                let bias = &whole.bias;
                b.forward_between(rows, &x_b, Some(&rest), &packed, bias, ends, Some(&mut saved[2]), &mut out_b);
                assert_eq!(out_a, cut(&out, time, hidden, 0..first_steps), "{layer:?}");
                assert_eq!(out_b, cut(&out, time, hidden, first_steps..time), "{layer:?}");
                for (row, state) in last.chunks_exact(layer.state_len()).enumerate() {
                    let end = (row * time + first_steps + rest[row] as usize) * hidden;
                    assert_eq!(state[..hidden], out[end - hidden..end], "the last state is the last output");
                }
                // Without what backward needs the states are the same.
                let mut again = vec![f32::NAN; last.len()];
                let ends = Ends { given: Some(&between), wanted: Some(&mut again) };
                b.forward_between(rows, &x_b, Some(&rest), &packed, bias, ends, None, &mut out_b);
                assert_eq!(again, last);
                // Half of the last outputs' gradient comes through the last state.
                let mut gradient = cut(&whole.gradient, time, hidden, first_steps..time);
                let mut of_last = vec![0.0; last.len()];
                for (row, of_last) in of_last.chunks_exact_mut(layer.state_len()).enumerate() {
                    let end = (row * (time - first_steps) + rest[row] as usize) * hidden;
                    for (own, of_last) in gradient[end - hidden..end].iter_mut().zip(of_last) {
                        *own *= 0.5;
                        *of_last = *own;
                    }
                }
                let (mut dw_two, mut db_two) = (vec![0.0; dw.len()], vec![0.0; db.len()]);
                let (mut dx_a, mut dx_b) = (vec![f32::NAN; x_a.len()], vec![f32::NAN; x_b.len()]);
                let mut of_between = vec![f32::NAN; between.len()];
                let ends = Ends { given: Some(&of_last), wanted: Some(&mut of_between) };
                let (saved, dw_of, db_of) = (&mut saved, &mut dw_two, &mut db_two);
                let packed = &packed_back;
                b.backward_between(
                    rows,
                    &x_b,
                    Some(&rest),
                    &mut saved[2],
                    &gradient,
                    packed,
                    ends,
                    dw_of,
                    db_of,
                    Some(&mut dx_b),
                );
                let gradient = cut(&whole.gradient, time, hidden, 0..first_steps);
                let ends = Ends { given: Some(&of_between), wanted: None };
                a.backward_between(
                    rows,
                    &x_a,
                    None,
                    &mut saved[1],
                    &gradient,
                    packed,
                    ends,
                    dw_of,
                    db_of,
                    Some(&mut dx_a),
                );
                let near = |found: &[f32], wanted: &[f32], what: &str| {
                    let largest = wanted.iter().fold(1e-3_f32, |m, v| m.max(v.abs()));
                    for (f, w) in found.iter().zip(wanted) {
                        assert!((f - w).abs() <= 1e-5 * largest, "{layer:?}: {what} {f}, wanted {w}");
                    }
                };
                near(&dx_a, &cut(&dx, time, inputs, 0..first_steps), "dx");
                near(&dx_b, &cut(&dx, time, inputs, first_steps..time), "dx");
                near(&dw_two, &dw, "dw");
                near(&db_two, &db, "db");
                [last, of_between, dw_two, db_two, dx_a, dx_b]
            });
            assert!(computed.iter().flatten().all(|v| v.is_finite()));
        }
    }
}
