//! Every pass against a plain loop in f64, and the bytes of every instruction set against each other.

use proptest::prelude::*;

use super::*;
use crate::level::at_every_level;

/// Values in -1..1 without a pattern.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// What one layer computes, forward and backward.
#[derive(Debug, PartialEq)]
struct Results {
    out: Vec<f32>,
    won: Vec<u8>,
    dw: Vec<f32>,
    db: Vec<f32>,
    dx: Vec<f32>,
}

struct Case {
    shape: ConvShape,
    relu: bool,
    pool: bool,
    images: usize,
}

impl Case {
    fn operands(&self) -> [Vec<f32>; 4] {
        let plan = Convolution::new(self.shape, self.relu, self.pool);
        let x = noise(self.images * self.shape.input_len(), 1);
        let weight = noise(self.shape.weight_len(), 2);
        let bias = noise(self.shape.outputs, 3);
        [x, weight, bias, noise(self.images * plan.output_len(), 4)]
    }

    fn computed(&self) -> Results {
        let [x, weight, bias, gradient] = self.operands();
        let plan = Convolution::new(self.shape, self.relu, self.pool);
        let team = Team::new(1);
        let (mut forward, mut backward) = (vec![], vec![]);
        plan.pack_forward(&team, &weight, &mut forward);
        plan.pack_backward(&team, &weight, &mut backward);
        let mut out = vec![f32::NAN; self.images * plan.output_len()];
        let mut won = if self.pool { vec![9; out.len()] } else { vec![] };
        plan.forward(self.images, &x, &forward, Some(&bias), &mut out, self.pool.then_some(&mut won));
        // Gradients are added to what is there.
        let (mut dw, mut db) = (vec![1.0; weight.len()], vec![-1.0; bias.len()]);
        let mut dx = vec![f32::NAN; x.len()];
        let (db_slot, dx_slot) = (Some(&mut db[..]), Some(&mut dx[..]));
        plan.backward(self.images, &x, &out, &won, &gradient, Some(&backward), &mut dw, db_slot, dx_slot);
        Results { out, won, dw, db, dx }
    }

    /// The definition, one loop a letter; `won` decides where a pooled gradient goes.
    #[allow(clippy::needless_range_loop, reason = "the letters of the definition")]
    fn check(&self, computed: &Results) {
        let [x, weight, bias, gradient] = self.operands();
        let s = self.shape;
        let (rows, columns) = (s.out_height(), s.out_width());
        let [ph, pw] = if self.pool { [rows / 2, columns / 2] } else { [rows, columns] };
        let mut dw = vec![1.0; weight.len()];
        let mut db = vec![-1.0; s.outputs];
        let mut dx = vec![0.0; x.len()];
        let taps = |y: usize, x: usize, o: usize| {
            let (per_in, per_out) = (s.inputs / s.groups, s.outputs / s.groups);
            let all = (0..s.kernel[0]).flat_map(move |ky| (0..s.kernel[1]).map(move |kx| (ky, kx)));
            all.flat_map(move |(ky, kx)| {
                let iy = (y * s.stride[0] + ky * s.dilation[0]).checked_sub(s.padding[0]).filter(|&iy| iy < s.height);
                let ix = (x * s.stride[1] + kx * s.dilation[1]).checked_sub(s.padding[2]).filter(|&ix| ix < s.width);
                let place = iy.zip(ix).map(|(iy, ix)| (iy * s.width + ix) * s.inputs + o / per_out * per_in);
                (0..per_in)
                    .filter_map(move |i| Some((place? + i, ((ky * s.kernel[1] + kx) * per_in + i) * s.outputs + o)))
            })
        };
        for image in 0..self.images {
            let first = image * s.input_len();
            let sum = |y, column, o: usize| -> f64 {
                let products = taps(y, column, o).map(|(i, k)| f64::from(x[first + i]) * f64::from(weight[k]));
                f64::from(bias[o]) + products.sum::<f64>()
            };
            for (y, column) in (0..ph).flat_map(|y| (0..pw).map(move |column| (y, column))) {
                for o in 0..s.outputs {
                    let at = ((image * ph + y) * pw + column) * s.outputs + o;
                    let mut place = Some((y, column));
                    let mut expected = sum(y, column, o);
                    if self.pool {
                        let four = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(r, c)| (2 * y + r, 2 * column + c));
                        let sums = four.map(|(y, x)| sum(y, x, o));
                        expected = sums.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
                        let won = usize::from(computed.won[at]);
                        assert!(won == 4 || (sums[won] - expected).abs() < 1e-5, "place {won} of {sums:?}");
                        assert_eq!(won == 4, computed.out[at] == 0.0, "winner {won}, output {}", computed.out[at]);
                        place = four.get(won).copied();
                    } else if self.relu && computed.out[at] <= 0.0 {
                        place = None;
                    }
                    if self.relu {
                        expected = expected.max(0.0);
                    }
                    assert!(
                        (f64::from(computed.out[at]) - expected).abs() < 1e-4,
                        "out {} {expected}",
                        computed.out[at]
                    );
                    if let Some((y, column)) = place {
                        let g = f64::from(gradient[at]);
                        db[o] += g;
                        for (i, k) in taps(y, column, o) {
                            dw[k] += g * f64::from(x[first + i]);
                            dx[first + i] += g * f64::from(weight[k]);
                        }
                    }
                }
            }
        }
        close("dw", &computed.dw, &dw);
        close("db", &computed.db, &db);
        close("dx", &computed.dx, &dx);
    }
}

pub(crate) fn close(name: &str, found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        // Sums of up to a few thousand products of values below 1.
        assert!((f64::from(found) - expected).abs() < 2e-4, "{name}[{i}]: found {found}, expected {expected}");
    }
}

fn shape(size: [usize; 2], channels: [usize; 2], kernel: [usize; 2]) -> ConvShape {
    ConvShape {
        height: size[0],
        width: size[1],
        inputs: channels[0],
        outputs: channels[1],
        kernel,
        stride: [1, 1],
        dilation: [1, 1],
        padding: [0; 4],
        groups: 1,
    }
}

fn agrees(shape: ConvShape, relu: bool, pool: bool) {
    let case = Case { shape, relu, pool, images: 2 };
    case.check(&at_every_level(|| case.computed()));
}

#[test]
fn a_first_layer_of_one_channel_agrees() {
    agrees(shape([9, 8], [1, 32], [3, 3]), true, true);
    agrees(ConvShape { padding: [1; 4], ..shape([7, 9], [1, 8], [3, 3]) }, true, false);
    agrees(shape([9, 7], [1, 5], [5, 5]), false, false);
}

#[test]
fn a_layer_of_many_channels_agrees() {
    agrees(shape([7, 7], [32, 64], [3, 3]), true, true);
    agrees(ConvShape { padding: [1; 4], ..shape([7, 5], [16, 144], [3, 3]) }, false, false);
    agrees(ConvShape { padding: [1; 4], ..shape([5, 6], [48, 33], [3, 3]) }, true, true);
}

#[test]
fn a_stride_is_undone_in_phases() {
    let padded = ConvShape { padding: [1; 4], stride: [2, 2], ..shape([9, 8], [5, 17], [3, 3]) };
    agrees(padded, false, false);
    agrees(ConvShape { kernel: [1, 1], padding: [0; 4], ..padded }, false, false);
    agrees(ConvShape { stride: [3, 2], dilation: [2, 1], ..padded }, true, false);
    agrees(ConvShape { stride: [2, 4], dilation: [1, 2], kernel: [2, 3], ..padded }, true, true);
}

#[test]
fn a_depthwise_layer_agrees() {
    let padded = ConvShape { groups: 19, padding: [1; 4], ..shape([6, 21], [19, 19], [3, 3]) };
    agrees(padded, false, false);
    agrees(ConvShape { stride: [2, 2], outputs: 38, ..padded }, true, false);
    agrees(ConvShape { padding: [0; 4], outputs: 57, ..padded }, true, true);
    agrees(ConvShape { kernel: [5, 4], dilation: [1, 2], padding: [3, 2, 1, 4], ..padded }, true, true);
}

#[test]
fn groups_do_not_see_each_other() {
    let grouped = ConvShape { groups: 3, padding: [0, 1, 2, 0], ..shape([5, 6], [6, 51], [3, 2]) };
    agrees(grouped, true, false);
    agrees(ConvShape { stride: [2, 1], dilation: [1, 3], ..grouped }, true, true);
}

#[test]
fn a_map_in_one_dimension_agrees() {
    agrees(ConvShape { stride: [1, 2], padding: [0, 0, 3, 3], ..shape([1, 29], [3, 20], [1, 7]) }, true, false);
}

#[test]
fn a_kernel_that_does_not_fit_gives_no_outputs_and_no_gradient() {
    let case = Case { shape: shape([2, 5], [3, 4], [3, 3]), relu: true, pool: true, images: 2 };
    let computed = case.computed();
    assert_eq!(computed.out.len(), 0);
    case.check(&computed);
    agrees(ConvShape { stride: [1, 3], dilation: [1, 2], ..shape([1, 1], [1, 1], [1, 3]) }, false, false);
}

#[test]
fn gradients_agree_with_finite_differences() {
    let case = Case {
        shape: ConvShape { padding: [1, 0, 0, 1], stride: [2, 1], ..shape([5, 6], [3, 7], [3, 2]) },
        relu: false,
        pool: false,
        images: 1,
    };
    let [x, weight, bias, gradient] = case.operands();
    let plan = Convolution::new(case.shape, false, false);
    let loss = |x: &[f32], weight: &[f32]| -> f64 {
        let (mut packed, mut out) = (vec![], vec![0.0; gradient.len()]);
        plan.pack_forward(&Team::new(1), weight, &mut packed);
        plan.forward(1, x, &packed, Some(&bias), &mut out, None);
        out.iter().zip(&gradient).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    let computed = case.computed();
    let change = |values: &[f32], at: usize, by: f32| {
        let mut values = values.to_vec();
        values[at] += by;
        values
    };
    // The loss is linear in each, so a wide step costs nothing and hides rounding.
    for at in (0..x.len()).step_by(7) {
        let slope = (loss(&change(&x, at, 0.5), &weight) - loss(&change(&x, at, -0.5), &weight)) as f32;
        assert!((slope - computed.dx[at]).abs() < 1e-4, "dx[{at}]: {slope} {}", computed.dx[at]);
    }
    for at in (0..weight.len()).step_by(5) {
        let slope = (loss(&x, &change(&weight, at, 0.5)) - loss(&x, &change(&weight, at, -0.5))) as f32;
        assert!((slope + 1.0 - computed.dw[at]).abs() < 1e-4, "dw[{at}]: {slope} {}", computed.dw[at]);
    }
}

#[test]
fn a_team_packs_the_same_bytes() {
    let plan = Convolution::new(shape([5, 5], [48, 130], [3, 3]), false, false);
    let weight = noise(plan.shape().weight_len(), 5);
    let pack = |threads| {
        let (mut forward, mut backward) = (vec![], vec![]);
        plan.pack_forward(&Team::new(threads), &weight, &mut forward);
        plan.pack_backward(&Team::new(threads), &weight, &mut backward);
        (forward, backward)
    };
    assert!(pack(1) == pack(3));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_shape_agrees(
        size in [1_usize..9, 1_usize..9],
        kernel in [1_usize..4, 1_usize..5],
        stride in [1_usize..4, 1_usize..4],
        dilation in [1_usize..3, 1_usize..3],
        padding in [0_usize..4, 0_usize..4, 0_usize..4, 0_usize..4],
        groups in 1_usize..4,
        per_group in [1_usize..4, 1_usize..20],
        last in 0_usize..3,
    ) {
        let shape = ConvShape {
            height: size[0],
            width: size[1],
            inputs: groups * per_group[0],
            outputs: groups * per_group[1],
            kernel,
            stride,
            dilation,
            padding,
            groups,
        };
        agrees(shape, last > 0, last > 1);
    }
}

#[test]
fn windows_pooled_in_registers_are_those_of_the_whole_map() {
    for outputs in [5, 16, 24, 32, 40, 51, 64, 72] {
        for (size, inputs, groups) in [([9, 12], 1, 1), ([6, 8], 3, 3), ([5, 7], 2, 1)] {
            if outputs % groups != 0 {
                continue;
            }
            let shape = ConvShape { groups, ..shape(size, [inputs, outputs], [3, 3]) };
            let team = Team::new(1);
            let wave = |len: usize, by: f32| (0..len).map(|i| (i as f32 * by).sin()).collect::<Vec<f32>>();
            let (mut x, weight, bias) =
                (wave(2 * shape.input_len(), 0.7), wave(shape.weight_len(), 0.3), wave(outputs, 1.1));
            x[7] = f32::NAN;
            let plain = Convolution::new(shape, false, false);
            let pooled = Convolution::new(shape, true, true);
            let ([rows, columns], [height, width]) = (plain.output_size(), pooled.output_size());
            let computed = || {
                let mut packed = Vec::new();
                plain.pack_forward(&team, &weight, &mut packed);
                let mut map = vec![0.0; 2 * plain.output_len()];
                plain.forward(2, &x, &packed, Some(&bias), &mut map, None);
                pooled.pack_forward(&team, &weight, &mut packed);
                let (mut out, mut won) = (vec![0.0; 2 * pooled.output_len()], vec![9; 2 * pooled.output_len()]);
                pooled.forward(2, &x, &packed, Some(&bias), &mut out, Some(&mut won));
                let mut alone = vec![0.0; out.len()];
                pooled.forward(2, &x, &packed, Some(&bias), &mut alone, None);
                assert_eq!(out, alone, "the winner is asked for or not");
                for (at, value) in out.iter().enumerate() {
                    let (o, x, y) = (at % outputs, at / outputs % width, at / outputs / width % height);
                    let image = at / pooled.output_len();
                    let place = |by: usize| ((image * rows + 2 * y + by / 2) * columns + 2 * x + by % 2) * outputs + o;
                    let best = (1..4).fold(0, |best, by| if map[place(by)] > map[place(best)] { by } else { best });
                    let positive = map[place(best)] > 0.0;
                    assert_eq!(*value, if positive { map[place(best)] } else { 0.0 }, "{outputs} {at}");
                    assert_eq!(usize::from(won[at]), if positive { best } else { 4 }, "{outputs} {at}");
                }
                out
            };
            at_every_level(computed);
        }
    }
}
