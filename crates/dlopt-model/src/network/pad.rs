//! More steps before and after each series, which may be of different lengths: a series is padded where it ends, as if
//! it were alone.

use std::sync::Arc;

use super::layer::{Backward, Forward, Layer};
use super::values::{Memory, Values};
use crate::plan::PadKind;

pub(crate) struct PadLayer {
    pub(crate) kind: PadKind,
    pub(crate) before: usize,
    pub(crate) after: usize,
    /// Steps of the longest series that goes in.
    pub(crate) time: usize,
    pub(crate) features: usize,
    /// The lengths of the last training pass.
    pub(crate) kept: Option<Option<Vec<u32>>>,
}

impl PadLayer {
    fn padded(&self) -> usize {
        self.before + self.time + self.after
    }

    /// For every step that comes out of a series of `length` steps, the one that went in; nothing for a zero.
    fn steps(&self, length: usize) -> impl Iterator<Item = Option<usize>> {
        let steps = (0..self.before + length + self.after).map(|step| step as isize - self.before as isize);
        steps.map(move |at| self.kind.step(at, length))
    }

    fn length(&self, lengths: Option<&[u32]>, sample: usize) -> usize {
        lengths.map_or(self.time, |lengths| lengths[sample] as usize)
    }
}

impl Layer for PadLayer {
    fn forward(&mut self, run: &mut Forward<'_>, x: Values) -> Values {
        let features = self.features;
        let (sample_in, sample_out) = (self.time * features, self.padded() * features);
        let mut out = run.memory.take(run.samples * sample_out);
        let (own, lengths) = (&*self, run.lengths.as_deref());
        run.team.chunks(&mut out, sample_out, |sample, out| {
            let x = &x[sample * sample_in..][..sample_in];
            let mut places = out.chunks_exact_mut(features);
            for (step, place) in own.steps(own.length(lengths, sample)).zip(&mut places) {
                match step {
                    Some(step) => place.copy_from_slice(&x[step * features..][..features]),
                    None => place.fill(0.0),
                }
            }
            places.for_each(|behind| behind.fill(0.0));
        });
        if run.trains() {
            self.kept = Some(run.lengths.clone());
        }
        let more = (self.before + self.after) as u32;
        run.lengths.iter_mut().flatten().for_each(|length| *length += more);
        run.memory.release(x);
        Arc::new(out)
    }

    fn backward(&mut self, run: &mut Backward<'_>, gradient: Vec<f32>, wants_input: bool) -> Option<Vec<f32>> {
        let lengths = self.kept.take().expect("a training pass came before");
        let features = self.features;
        let (sample_in, sample_out) = (self.time * features, self.padded() * features);
        let dx = wants_input.then(|| {
            let mut dx = run.memory.zeros(run.samples * sample_in);
            let (own, lengths) = (&*self, lengths.as_deref());
            run.team.chunks(&mut dx, sample_in, |sample, dx| {
                let gradient = gradient[sample * sample_out..][..sample_out].chunks_exact(features);
                for (step, gradient) in own.steps(own.length(lengths, sample)).zip(gradient) {
                    let Some(step) = step else { continue };
                    let sums = &mut dx[step * features..][..features];
                    sums.iter_mut().zip(gradient).for_each(|(sum, value)| *sum += value);
                }
            });
            dx
        });
        run.memory.give(gradient);
        dx
    }

    fn forget(&mut self, _memory: &mut Memory) {
        self.kept = None;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Mode, Network};
    use super::*;
    use crate::description::Description;
    use crate::layout::FlatLayout;
    use crate::plan::Shape;
    use crate::resolve::resolve_open;
    use dlopt_kernels::nn::Team;

    fn network(mode: &str, left: usize, right: usize) -> Network {
        let text = format!("layers = [{{ type = \"pad1d\", left = {left}, right = {right}, mode = \"{mode}\" }}]");
        let description = Description::from_toml(&text).unwrap();
        let nodes = resolve_open(&description, &Shape::Series { time: 5, features: 2 }, 1).unwrap();
        Network::new(&nodes, &FlatLayout::of(&nodes), &[], Arc::new(Team::new(2)))
    }

    /// Step `t` of sample `s` is `10 s + t`, and minus that.
    fn samples() -> Vec<f32> {
        (0..3).flat_map(|s| (0..5).flat_map(move |t| [(10 * s + t) as f32, -((10 * s + t) as f32)])).collect()
    }

    fn firsts(values: &[f32]) -> Vec<f32> {
        values.iter().step_by(2).copied().collect()
    }

    #[test]
    fn a_series_is_padded_where_it_ends() {
        let lengths = [5, 3, 1];
        let cases = [
            (
                "zeros",
                [
                    [0., 0., 0., 1., 2., 3., 4., 0.],
                    [0., 0., 10., 11., 12., 0., 0., 0.],
                    [0., 0., 20., 0., 0., 0., 0., 0.],
                ],
            ),
            (
                "reflect",
                [
                    [2., 1., 0., 1., 2., 3., 4., 3.],
                    [12., 11., 10., 11., 12., 11., 0., 0.],
                    [20., 20., 20., 20., 0., 0., 0., 0.],
                ],
            ),
            (
                "edge",
                [
                    [0., 0., 0., 1., 2., 3., 4., 4.],
                    [10., 10., 10., 11., 12., 12., 0., 0.],
                    [20., 20., 20., 20., 0., 0., 0., 0.],
                ],
            ),
        ];
        for (mode, wanted) in cases {
            let out = network(mode, 2, 1).forward(&[], &mut [], &samples(), Some(&lengths), Mode::Inference);
            assert_eq!(firsts(&out), wanted.concat(), "{mode}");
        }
    }

    #[test]
    fn a_reflection_goes_on_as_often_as_it_takes() {
        let out = network("reflect", 4, 4).forward(&[], &mut [], &samples(), Some(&[2, 3, 1]), Mode::Inference);
        let wanted = [
            [0., 1., 0., 1., 0., 1., 0., 1., 0., 1., 0., 0., 0.],
            [10., 11., 12., 11., 10., 11., 12., 11., 10., 11., 12., 0., 0.],
            [20., 20., 20., 20., 20., 20., 20., 20., 20., 0., 0., 0., 0.],
        ];
        assert_eq!(firsts(&out), wanted.concat());
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        for mode in ["zeros", "reflect", "edge"] {
            for lengths in [None, Some([5, 3, 2])] {
                let mut network = network(mode, 3, 2);
                let lengths = lengths.as_ref().map(|l| &l[..]);
                let mut x = samples();
                let out = network.forward(&[], &mut [], &x, lengths, Mode::Training { key: 0 });
                let upstream: Vec<f32> = (0..out.len()).map(|i| ((i * 7 % 13) as f32) - 6.0).collect();
                let dx = network.backward(&[], upstream.clone(), &mut [], true).unwrap();
                let mut loss = |x: &[f32]| -> f32 {
                    let out = network.forward(&[], &mut [], x, lengths, Mode::Inference);
                    out.iter().zip(&upstream).map(|(a, b)| a * b).sum()
                };
                let before = loss(&x);
                for place in 0..x.len() {
                    x[place] += 1.0;
                    // Whole numbers throughout: exact.
                    assert_eq!(loss(&x) - before, dx[place], "{mode}, {lengths:?}, {place}");
                    x[place] -= 1.0;
                }
            }
        }
    }
}
