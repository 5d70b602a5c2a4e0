//! A recurrent layer whose weights stay compressed, for inference: in one direction, or in both with the outputs side by
//! side.

use std::ops::Range;
use std::sync::Arc;

use dlopt_kernels::compressed::RecurrentProduct;
use dlopt_kernels::nn::{Ends, Team};

use super::layer::{Backward, Forward, Layer, forward_chunk};
use super::recurrent::side_by_side;
use super::values::{Memory, Values};

/// Rows that run all their steps together.
const ROWS_PER_TASK: usize = 32;

pub(crate) struct HeldRecurrentLayer {
    pub(crate) ways: Vec<(RecurrentProduct, Range<usize>)>,
    pub(crate) returns_sequence: bool,
    /// What a task works with when tasks are spread over the threads.
    alone: Team,
}

impl HeldRecurrentLayer {
    pub(crate) fn new(ways: Vec<(RecurrentProduct, Range<usize>)>, returns_sequence: bool) -> Self {
        Self { ways, returns_sequence, alone: Team::new(1) }
    }

    /// Runs one direction over all rows of a batch.
    fn run_way(&self, way: &RecurrentProduct, pass: Pass<'_>, out: &mut [f32]) {
        let Pass { team, bias, rows, x, lengths, given, wanted } = pass;
        let (inputs, outputs, state) = (x.len() / rows, out.len() / rows, way.state_len());
        let chunk = forward_chunk(rows, team, ROWS_PER_TASK);
        // One task has all threads to itself.
        let own = if chunk >= rows { team } else { &self.alone };
        let mut states = wanted.map(|wanted| wanted.chunks_mut(chunk * state));
        let ends = std::iter::from_fn(|| Some(states.as_mut().and_then(Iterator::next)));
        let mut tasks: Vec<_> = out.chunks_mut(chunk * outputs).zip(ends).collect();
        let task = |index: usize, (out, wanted): &mut (&mut [f32], Option<&mut [f32]>)| {
            let (first, rows) = (index * chunk, out.len() / outputs);
            let lengths = lengths.map(|lengths| &lengths[first..first + rows]);
            let given = given.map(|given| &given[first * state..][..rows * state]);
            let x = &x[first * inputs..][..rows * inputs];
            way.forward(own, rows, x, lengths, bias, Ends { given, wanted: wanted.as_deref_mut() }, out);
        };
        match tasks.as_mut_slice() {
            [one] => task(0, one),
            several => team.each(several, task),
        }
    }

    /// Reads on from the states that are carried, and moves them on. In a stream the samples are the steps of one row.
    fn go_on(&mut self, run: &mut Forward<'_>, x: Values) -> Values {
        let [(way, bias)] = self.ways.as_slice() else { unreachable!("states are carried in one direction alone") };
        let shape = way.shape();
        let carried = run.carried.as_mut().expect("the caller asked");
        let is_stream = carried.states.is_stream();
        let rows = if is_stream { 1 } else { run.samples };
        let states = carried.take();
        let time = x.len() / rows.max(1) / shape.inputs;
        if time == 0 {
            return x;
        }
        let returns_sequence = self.returns_sequence || is_stream;
        let mut before = run.memory.take(states.len());
        before.copy_from_slice(states);
        let mut out = run.memory.take(rows * shape.hidden * if returns_sequence { time } else { 1 });
        let pass = Pass {
            team: run.team,
            bias: &run.weights[bias.clone()],
            rows,
            x: &x,
            lengths: run.lengths.as_deref(),
            given: Some(&before),
            wanted: Some(states),
        };
        self.run_way(&way.reading(time, returns_sequence), pass, &mut out);
        run.memory.give(before);
        run.memory.release(x);
        Arc::new(out)
    }
}

/// The operands of a pass in one direction.
struct Pass<'a> {
    team: &'a Team,
    bias: &'a [f32],
    rows: usize,
    x: &'a [f32],
    lengths: Option<&'a [u32]>,
    given: Option<&'a [f32]>,
    wanted: Option<&'a mut [f32]>,
}

impl Layer for HeldRecurrentLayer {
    fn forward(&mut self, run: &mut Forward<'_>, x: Values) -> Values {
        assert!(!run.trains(), "a weight that stays compressed is not trained");
        if run.carried.is_some() {
            return self.go_on(run, x);
        }
        let rows = run.samples;
        if rows == 0 {
            return x;
        }
        let mut sides = Vec::with_capacity(self.ways.len());
        for (way, bias) in &self.ways {
            let shape = way.shape();
            let mut out = run.memory.take(rows * shape.hidden * if self.returns_sequence { shape.time } else { 1 });
            let pass = Pass {
                team: run.team,
                bias: &run.weights[bias.clone()],
                rows,
                x: &x,
                lengths: run.lengths.as_deref(),
                given: None,
                wanted: None,
            };
            self.run_way(way, pass, &mut out);
            sides.push(out);
        }
        run.memory.release(x);
        Arc::new(side_by_side(run.memory, sides, self.ways[0].0.shape().hidden))
    }

    fn backward(&mut self, _: &mut Backward<'_>, _: Vec<f32>, _: bool) -> Option<Vec<f32>> {
        unreachable!("the forward pass refuses to train")
    }

    fn forget(&mut self, _: &mut Memory) {}
}
