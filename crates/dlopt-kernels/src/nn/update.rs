//! Optimizers: one pass over a range of parameters, in place.
//!
//! The formulas are PyTorch's (`torch.optim`), with `g` the gradient times [`Sgd::gradient_scale`] and its like (1, or
//! the factor that clips the norm). State starts at 0.

use super::bits::Bits;
use super::map::{Map, map};

/// Stochastic gradient descent, with momentum (Polyak 1964) or Nesterov's (Sutskever et al. 2013, as PyTorch writes it).
///
/// `d = g + weight_decay p`; with momentum `b = momentum b + d` and then `d = b`, or `d + momentum b` with Nesterov's;
/// `p = p - rate d`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// The learning rate.
    pub rate: f32,
    /// How much of the last step is kept, in 0..1.
    pub momentum: f32,
    /// Whether the step looks ahead along the momentum.
    pub nesterov: bool,
    /// The factor of the penalty's gradient.
    pub weight_decay: f32,
    /// What the gradient is multiplied by first.
    pub gradient_scale: f32,
}

/// Adam (Kingma and Ba 2015), or AdamW (Loshchilov and Hutter 2019) where the decay is decoupled.
///
/// Coupled decay: `g = g + weight_decay p`; decoupled: `p = p (1 - rate weight_decay)`. Then
/// `m = m + (1 - beta1) (g - m)`, `v = beta2 v + (1 - beta2) g^2` and
/// `p = p - rate / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)`.
///
/// Keras divides by `sqrt(v) + epsilon` after multiplying the rate by `sqrt(1 - beta2^t)` (the remark before section 2.1 of
/// the paper): the same with `epsilon / sqrt(1 - beta2^t)` here, 32 times larger at the first step with beta2 0.999. Its
/// default is 1e-7, PyTorch's 1e-8.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// The learning rate, without the corrections.
    pub rate: f32,
    /// The decay of the mean of gradients.
    pub beta1: f32,
    /// The decay of the mean of squares.
    pub beta2: f32,
    /// Added to the corrected root.
    pub epsilon: f32,
    /// The factor of the penalty's gradient, or of the decay.
    pub weight_decay: f32,
    /// Whether weights decay by themselves (AdamW) and not through the gradient.
    pub decoupled: bool,
    /// `t`: 1 for the first step.
    pub step: u64,
    /// What the gradient is multiplied by first.
    pub gradient_scale: f32,
}

/// RMSprop (Hinton 2012), with or without momentum.
///
/// `g = g + weight_decay p`, `v = alpha v + (1 - alpha) g^2`, `d = g / (sqrt(v) + epsilon)`; with momentum
/// `b = momentum b + d` and `d = b`; `p = p - rate d`. Keras divides by `sqrt(v + epsilon)` instead and keeps the rate
/// inside the momentum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsProp {
    /// The learning rate.
    pub rate: f32,
    /// The decay of the mean of squares; PyTorch's default is 0.99.
    pub alpha: f32,
    /// Added to the root.
    pub epsilon: f32,
    /// The factor of the penalty's gradient.
    pub weight_decay: f32,
    /// How much of the last step is kept, in 0..1.
    pub momentum: f32,
    /// What the gradient is multiplied by first.
    pub gradient_scale: f32,
}

/// One step of [`Sgd`]; `buffer` is the momentum's, and may be absent where the momentum is 0.
///
/// # Panics
/// When the lengths differ, or momentum has no buffer.
pub fn sgd(options: Sgd, p: &mut [f32], gradient: &[f32], buffer: Option<&mut [f32]>) {
    let len = p.len();
    match buffer {
        Some(buffer) if options.momentum != 0.0 => map(WithMomentum(options), [gradient], [p, buffer], len),
        _ => {
            assert!(options.momentum == 0.0, "momentum needs a buffer");
            map(Plain(options), [gradient], [p], len);
        }
    }
}

#[derive(Clone, Copy)]
struct Plain(Sgd);
impl Map<1, 1> for Plain {
    #[inline(always)]
    unsafe fn apply<T: Bits>(self, _: usize, [g]: [T; 1], [p]: [T; 1]) -> [T; 1] {
        // SAFETY: the caller's.
        unsafe {
            let d = g.mul(T::splat(self.0.gradient_scale)).fma(p, T::splat(self.0.weight_decay));
            [p.fma(d, T::splat(-self.0.rate))]
        }
    }
}

#[derive(Clone, Copy)]
struct WithMomentum(Sgd);
impl Map<1, 2> for WithMomentum {
    #[inline(always)]
    unsafe fn apply<T: Bits>(self, _: usize, [g]: [T; 1], [p, b]: [T; 2]) -> [T; 2] {
        // SAFETY: the caller's.
        unsafe {
            let momentum = T::splat(self.0.momentum);
            let d = g.mul(T::splat(self.0.gradient_scale)).fma(p, T::splat(self.0.weight_decay));
            let b = d.fma(momentum, b);
            let d = if self.0.nesterov { d.fma(momentum, b) } else { b };
            [p.fma(d, T::splat(-self.0.rate)), b]
        }
    }
}

/// One step of [`Adam`] with the means `m` of gradients and `v` of their squares.
///
/// # Panics
/// When the lengths differ, or the step is 0.
pub fn adam(options: Adam, p: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32]) {
    assert!(options.step > 0, "the first step is 1");
    let Adam { rate, beta1, beta2, epsilon, weight_decay, decoupled, step, gradient_scale } = options;
    // Powers by multiplication alone: the same on every machine.
    let power = |beta: f32| integer_power(f64::from(beta), step);
    let coupled = if decoupled { 0.0 } else { weight_decay };
    let keep = if decoupled { (1.0 - f64::from(rate) * f64::from(weight_decay)) as f32 } else { 1.0 };
    let corrected = AdamStep {
        gradient_scale,
        coupled,
        keep,
        toward: (1.0 - f64::from(beta1)) as f32,
        beta2,
        square: (1.0 - f64::from(beta2)) as f32,
        root: (1.0 / (1.0 - power(beta2)).sqrt()) as f32,
        epsilon,
        rate: (f64::from(rate) / (1.0 - power(beta1))) as f32,
    };
    let len = p.len();
    map(corrected, [gradient], [p, m, v], len);
}

/// `base^exponent` by squaring.
fn integer_power(mut base: f64, mut exponent: u64) -> f64 {
    let mut power = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            power *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    power
}

#[derive(Clone, Copy)]
struct AdamStep {
    gradient_scale: f32,
    coupled: f32,
    keep: f32,
    toward: f32,
    beta2: f32,
    square: f32,
    root: f32,
    epsilon: f32,
    rate: f32,
}
impl Map<1, 3> for AdamStep {
    #[inline(always)]
    unsafe fn apply<T: Bits>(self, _: usize, [g]: [T; 1], [p, m, v]: [T; 3]) -> [T; 3] {
        // SAFETY: the caller's.
        unsafe {
            let g = g.mul(T::splat(self.gradient_scale)).fma(p, T::splat(self.coupled));
            let m = m.fma(T::splat(self.toward), g.sub(m));
            let v = v.mul(T::splat(self.beta2)).fma(g.mul(T::splat(self.square)), g);
            let root = T::splat(self.epsilon).fma(v.sqrt(), T::splat(self.root));
            let p = p.mul(T::splat(self.keep)).sub(m.mul(T::splat(self.rate)).div(root));
            [p, m, v]
        }
    }
}

/// One step of [`RmsProp`] with the mean `v` of squares; `buffer` is the momentum's, and may be absent where it is 0.
///
/// # Panics
/// When the lengths differ, or momentum has no buffer.
pub fn rmsprop(options: RmsProp, p: &mut [f32], gradient: &[f32], v: &mut [f32], buffer: Option<&mut [f32]>) {
    let len = p.len();
    match buffer {
        Some(buffer) if options.momentum != 0.0 => map(RmsMomentum(options), [gradient], [p, v, buffer], len),
        _ => {
            assert!(options.momentum == 0.0, "momentum needs a buffer");
            map(RmsPlain(options), [gradient], [p, v], len);
        }
    }
}

impl RmsProp {
    /// The new mean of squares and the step before the rate.
    #[inline(always)]
    unsafe fn step<T: Bits>(self, g: T, p: T, v: T) -> (T, T) {
        // SAFETY: the caller's.
        unsafe {
            let g = g.mul(T::splat(self.gradient_scale)).fma(p, T::splat(self.weight_decay));
            let square = T::splat((1.0 - f64::from(self.alpha)) as f32);
            let v = v.mul(T::splat(self.alpha)).fma(g.mul(square), g);
            (v, g.div(v.sqrt().add(T::splat(self.epsilon))))
        }
    }
}

#[derive(Clone, Copy)]
struct RmsPlain(RmsProp);
impl Map<1, 2> for RmsPlain {
    #[inline(always)]
    unsafe fn apply<T: Bits>(self, _: usize, [g]: [T; 1], [p, v]: [T; 2]) -> [T; 2] {
        // SAFETY: the caller's.
        unsafe {
            let (v, d) = self.0.step(g, p, v);
            [p.fma(d, T::splat(-self.0.rate)), v]
        }
    }
}

#[derive(Clone, Copy)]
struct RmsMomentum(RmsProp);
impl Map<1, 3> for RmsMomentum {
    #[inline(always)]
    unsafe fn apply<T: Bits>(self, _: usize, [g]: [T; 1], [p, v, b]: [T; 3]) -> [T; 3] {
        // SAFETY: the caller's.
        unsafe {
            let (v, d) = self.0.step(g, p, v);
            let b = d.fma(T::splat(self.0.momentum), b);
            [p.fma(b, T::splat(-self.0.rate)), v, b]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::at_every_level;
    use crate::nn::check::{assert_near, bits, values, wide};

    const STEPS: u64 = 5;

    fn gradients(len: usize) -> Vec<Vec<f32>> {
        (0..STEPS as u32).map(|step| values(len, 10 + step)).collect()
    }

    /// Parameters after some steps of `update(step, p, g, states)` in `f32`, and of `reference` value by value in `f64`.
    fn compare<const S: usize>(
        update: impl Fn(u64, &mut [f32], &[f32], [&mut [f32]; S]),
        reference: impl Fn(i32, f64, f64, &mut [f64; S]) -> f64,
    ) {
        for len in [0, 1, 7, 16, 37] {
            let start = values(len, 1);
            let mut wanted = wide(&start);
            let mut states = vec![[0.0; S]; len];
            for (step, g) in gradients(len).iter().enumerate() {
                for i in 0..len {
                    wanted[i] = reference(step as i32 + 1, wanted[i], f64::from(g[i]), &mut states[i]);
                }
            }
            let found = at_every_level(|| {
                let mut p = start.clone();
                let mut states = [(); S].map(|()| vec![0.0; len]);
                for (step, g) in gradients(len).iter().enumerate() {
                    update(step as u64 + 1, &mut p, g, states.each_mut().map(|state| &mut state[..]));
                }
                bits(&p)
            });
            let found: Vec<f32> = found.into_iter().map(f32::from_bits).collect();
            assert_near(&found, &wanted, 2e-6);
        }
    }

    #[test]
    fn sgd_follows_the_formula_with_every_option() {
        for (momentum, nesterov) in [(0.0, false), (0.75, false), (0.75, true)] {
            let options = Sgd { rate: 0.125, momentum, nesterov, weight_decay: 0.0625, gradient_scale: 0.5 };
            let mu = f64::from(momentum);
            compare::<1>(
                |_, p, g, [buffer]| sgd(options, p, g, (momentum > 0.0).then_some(buffer)),
                |_, p, g, [b]| {
                    let d = 0.5 * g + 0.0625 * p;
                    *b = mu * *b + d;
                    p - 0.125 * if nesterov { d + mu * *b } else { *b }
                },
            );
        }
    }

    #[test]
    fn adam_follows_the_formula_with_coupled_and_decoupled_decay() {
        for decoupled in [false, true] {
            let (beta1, beta2, epsilon) = (0.875_f32, 0.96875_f32, 1e-3_f32);
            let [b1, b2, eps] = [beta1, beta2, epsilon].map(f64::from);
            compare::<2>(
                |step, p, g, [m, v]| {
                    let (rate, weight_decay, gradient_scale) = (0.0625, 0.125, 0.5);
                    adam(
                        Adam { rate, beta1, beta2, epsilon, weight_decay, decoupled, step, gradient_scale },
                        p,
                        g,
                        m,
                        v,
                    );
                },
                |t, p, g, [m, v]| {
                    let g = 0.5 * g + if decoupled { 0.0 } else { 0.125 * p };
                    let p = if decoupled { p * (1.0 - 0.0625 * 0.125) } else { p };
                    *m = b1 * *m + (1.0 - b1) * g;
                    *v = b2 * *v + (1.0 - b2) * g * g;
                    let corrected = *m / (1.0 - b1.powi(t));
                    p - 0.0625 * corrected / ((*v / (1.0 - b2.powi(t))).sqrt() + eps)
                },
            );
        }
    }

    #[test]
    fn the_first_step_of_adam_is_the_rate_in_the_gradients_direction() {
        // By hand: m / (1 - beta1) is g and the root of v / (1 - beta2) is |g|.
        let options = Adam {
            rate: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 0.0,
            weight_decay: 0.0,
            decoupled: false,
            step: 1,
            gradient_scale: 1.0,
        };
        let (mut p, mut m, mut v) = ([1.0, 1.0, 1.0], [0.0; 3], [0.0; 3]);
        adam(options, &mut p, &[250.0, -1e-3, 1e-9], &mut m, &mut v);
        assert_near(&p, &[0.99, 1.01, 0.99], 1e-6);
    }

    #[test]
    fn rmsprop_follows_the_formula_with_and_without_momentum() {
        for momentum in [0.0_f32, 0.75] {
            let (alpha, epsilon, weight_decay) = (0.875, 0.015625, 0.125);
            let options = RmsProp { rate: 0.0625, alpha, epsilon, weight_decay, momentum, gradient_scale: 0.5 };
            let mu = f64::from(momentum);
            compare::<2>(
                |_, p, g, [v, b]| rmsprop(options, p, g, v, (momentum > 0.0).then_some(b)),
                |_, p, g, [v, b]| {
                    let g = 0.5 * g + 0.125 * p;
                    *v = 0.875 * *v + 0.125 * g * g;
                    *b = mu * *b + g / (v.sqrt() + 0.015625);
                    p - 0.0625 * *b
                },
            );
        }
    }

    #[test]
    #[should_panic(expected = "momentum needs a buffer")]
    fn momentum_without_a_buffer_is_refused() {
        let options = Sgd { rate: 0.1, momentum: 0.9, nesterov: false, weight_decay: 0.0, gradient_scale: 1.0 };
        sgd(options, &mut [1.0], &[1.0], None);
    }
}
