//! Which kernel a layer gets.
//!
//! Candidates give the same bytes, so the clock decides between them: each runs a few times on made-up activations at the
//! batch that was asked for, beside its decompressed twin. Where memory is asked to rule there is no clock, and no twin in
//! memory beside what is small.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dlopt_checkpoint::Result;
use dlopt_kernels::compressed::{DenseConvolution, DenseMatrix, Maps, Product, RecurrentProduct};
use dlopt_kernels::nn::{Convolution, Ends, Recurrent, RecurrentShape, Team};
use dlopt_quantize::Activations;

use super::source::Source;
use super::{Arithmetic, Execution, Kernels, kinds};
use crate::network::build::{behind_convolution, conv_shape, recurrent};
use crate::plan::Node;

/// How long a candidate runs at least, and how often at most.
const MEASURED: (Duration, usize) = (Duration::from_millis(4), 30);
/// Rows, images and steps that are measured at most.
const MOST_ROWS: usize = 256;
const MOST_IMAGES: usize = 16;
const MOST_STEPS: usize = 32;
/// The share of zeros from which a recurrent layer runs on sparse products; above what every kernel needs to be tried.
const SPARSE_RECURRENT: f64 = 0.7;

/// What a layer runs on, and why.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The layer's name.
    pub layer: String,
    /// How the checkpoint holds its weight.
    pub stored: String,
    /// The kernel that it got.
    pub kernel: String,
    /// Why that one.
    pub reason: String,
    /// Microseconds of a run at the batch that was asked for; 0 where no clock decides.
    pub microseconds: f64,
    /// The same on decoded f32 weights.
    pub dense_microseconds: f64,
    /// Bytes of the weight in memory.
    pub bytes: usize,
    /// The same decoded.
    pub dense_bytes: usize,
}

/// A kernel that a layer may get.
pub(super) struct Candidate<T> {
    pub(super) name: &'static str,
    pub(super) kernel: T,
    pub(super) bytes: usize,
}

/// A candidate, and what a run of it takes.
struct Timed<T> {
    candidate: Candidate<T>,
    microseconds: f64,
}

/// Chooses layer by layer, and remembers what and why.
pub(super) struct Chooser<'a> {
    execution: Execution,
    team: &'a Team,
    pub(super) choices: Vec<Choice>,
}

impl<'a> Chooser<'a> {
    pub(super) fn new(execution: Execution, team: &'a Team) -> Self {
        Self { execution, team, choices: Vec::new() }
    }

    /// The matrix of a dense layer, if there is a choice.
    ///
    /// # Errors
    /// When codes cannot be had any more, here and below.
    pub(super) fn dense(&mut self, node: &Node, source: &Source<'_>) -> Result<Option<Arc<dyn Product>>> {
        let per_sample = node.input.len() / node.input.features().max(1);
        let rows = self.execution.batch.saturating_mul(per_sample).clamp(1, MOST_ROWS);
        // The flat vector and the plain layer hold a weight each.
        let takes_floats = self.execution.kernels == Kernels::Compressed;
        let candidates = kinds::matrices(source, rows, self.wants_int8(source), takes_floats)?;
        let mut buffers = None;
        let team = self.team;
        let run = |matrix: &Arc<dyn Product>| {
            let make = || (activations(rows * source.inputs), vec![0.0; rows * source.outputs]);
            let (x, out) = buffers.get_or_insert_with(make);
            matrix.multiply(team, rows, x, None, false, out);
        };
        let layer = Layer {
            node,
            stored: source.describe(),
            is_int8: self.wants_int8(source),
            dense_bytes: dense_bytes(source),
        };
        self.pick(layer, candidates, || dense_matrix(source), run)
    }

    /// The matrices of a recurrent layer, `weight_ih` and `weight_hh` of each direction, if there is a choice. It then runs on
    /// two products, whose sums are in another order than those of the plain layer, and which are slower than it on dense
    /// weights. So whether there is a choice is decided by what is stored and asked for, never by the batch or the clock.
    pub(super) fn recurrent(&mut self, node: &Node, ways: &[[Source<'_>; 2]]) -> Result<Option<Vec<Pair>>> {
        let (shape, _) = recurrent(node);
        let Some([of_inputs, of_state]) = ways.first() else { return Ok(None) };
        let rows = self.execution.batch.clamp(1, 32);
        let time = shape.time.clamp(1, MOST_STEPS);
        let pairs = |chooser: &Self, [of_inputs, of_state]: &[Source<'_>; 2]| -> Result<Vec<Candidate<Pair>>> {
            let is_int8 = chooser.wants_int8(of_state);
            let mut second = kinds::matrices(of_state, rows, is_int8, false)?;
            if is_int8 && !kinds::takes_int8(of_inputs.outputs, of_inputs.inputs) {
                let beside_f32 = |two: Candidate<Arc<dyn Product>>| {
                    let one = dense_matrix(of_inputs)?;
                    Ok(Candidate { name: two.name, bytes: one.bytes + two.bytes, kernel: [one.kernel, two.kernel] })
                };
                return second.into_iter().map(beside_f32).collect();
            }
            let first = kinds::matrices(of_inputs, rows * time, is_int8, false)?;
            let pair = |one: Candidate<Arc<dyn Product>>| {
                let at = second.iter().position(|two| two.name == one.name)?;
                let two = second.swap_remove(at);
                Some(Candidate { name: one.name, bytes: one.bytes + two.bytes, kernel: [one.kernel, two.kernel] })
            };
            let mut found: Vec<_> = first.into_iter().filter_map(pair).collect();
            // Few inputs are soonest multiplied with their zeros.
            if let Some(sparse) = found.iter().find(|pair| pair.name == kinds::SPARSE) {
                let (one, state) = (dense_matrix(of_inputs)?, Arc::clone(&sparse.kernel[1]));
                let bytes = one.bytes + state.bytes();
                found.push(Candidate { name: SPARSE_STATE, bytes, kernel: [one.kernel, state] });
            }
            Ok(found)
        };
        let is_asked = self.wants_int8(of_state) || self.execution.kernels == Kernels::Compressed;
        let is_sparse = ways.iter().flatten().all(|source| source.zero_share() >= SPARSE_RECURRENT);
        let mut candidates = if is_asked || is_sparse { pairs(self, &ways[0])? } else { Vec::new() };
        // Which kernels floats have depends on the batch: there is a choice for many zeros alone.
        candidates.retain(|pair| pair.name != kinds::BY_OUTPUTS);
        let leaves_zeros_out = |pair: &Candidate<Pair>| [kinds::SPARSE, SPARSE_STATE].contains(&pair.name);
        if !is_asked {
            candidates.retain(leaves_zeros_out);
        } else if !is_sparse && candidates.iter().all(leaves_zeros_out) {
            candidates.clear();
        }
        let dense_bytes = dense_bytes(of_inputs) + dense_bytes(of_state);
        if candidates.is_empty() {
            let layer = Layer { node, stored: of_state.describe(), is_int8: false, dense_bytes };
            let pair = self.pick(layer, Vec::new(), || dense_pair(&ways[0]), |_| {})?;
            return Ok(pair.map(|pair| vec![pair]));
        }
        let shape = RecurrentShape { time, ..shape };
        let mut buffers = None;
        let team = self.team;
        let run = |[input, state]: &Pair| {
            let make = || {
                let bias = activations(Recurrent::new(shape, false, false).bias_len());
                (activations(rows * time * shape.inputs), bias, vec![0.0; rows * shape.hidden])
            };
            let (x, bias, out) = buffers.get_or_insert_with(make);
            let layer = RecurrentProduct::new(shape, false, false, Arc::clone(input), Arc::clone(state));
            layer.forward(team, rows, x, None, bias, Ends::default(), out);
        };
        let stored = format!("{} and {}", of_inputs.describe(), of_state.describe());
        let is_int8 = self.wants_int8(of_state);
        let layer = Layer { node, stored, is_int8, dense_bytes };
        let Some(first) = self.pick(layer, candidates, || dense_pair(&ways[0]), run)? else { return Ok(None) };
        let name = self.choices.last().map(|choice| choice.kernel.clone());
        let mut all = vec![first];
        for way in &ways[1..] {
            let mut own = pairs(self, way)?;
            let same = own.iter().position(|pair| Some(pair.name) == name.as_deref());
            // Of integers the first is the dense one, which gives what the sparse one gives.
            let other = (is_int8 && !own.is_empty()).then_some(0);
            all.push(same.or(other).map_or_else(|| dense_pair(way), |at| Ok(own.swap_remove(at)))?.kernel);
        }
        Ok(Some(all))
    }

    /// The weight of a convolution, if there is a choice.
    /// `source` has its inputs in the order tap, channel, and was `stored` like that.
    pub(super) fn convolution(
        &mut self,
        node: &Node,
        behind: &[Node],
        source: &Source<'_>,
        stored: String,
    ) -> Result<Option<Arc<dyn Maps>>> {
        let (relu, pools) = behind_convolution(behind);
        let shape = conv_shape(node);
        let images = self.execution.batch.div_ceil(self.team.threads()).clamp(1, MOST_IMAGES);
        let candidates = kinds::maps(shape, (relu, pools), images, source, self.wants_int8(source))?;
        let plan = Convolution::new(shape, relu, pools);
        let dense_bytes = size_of::<f32>() * plan.packed_len();
        let mut buffers = None;
        let dense = || dense_maps(plan, source);
        let run = |maps: &Arc<dyn Maps>| {
            let make = || (activations(images * shape.input_len()), vec![0.0; images * maps.output_len()]);
            let (x, out) = buffers.get_or_insert_with(make);
            maps.forward(images, x, None, out);
        };
        let is_int8 = self.wants_int8(source);
        let layer = Layer { node, stored, is_int8, dense_bytes };
        self.pick(layer, candidates, dense, run)
    }

    /// Whether activations become integers on their way into this weight.
    fn wants_int8(&self, source: &Source<'_>) -> bool {
        source.is_integer()
            && kinds::takes_int8(source.outputs, source.inputs)
            && match self.execution.arithmetic {
                Arithmetic::Stored => source.activations() == Activations::Int8Token,
                Arithmetic::Float => false,
                Arithmetic::Int8 => true,
            }
    }

    /// Takes the best of the candidates and of the decoded weight. Nothing where there is no candidate: the weight then stays
    /// in the flat vector.
    fn pick<T>(
        &mut self,
        layer: Layer<'_>,
        candidates: Vec<Candidate<T>>,
        dense: impl FnOnce() -> Result<Candidate<T>>,
        run: impl FnMut(&T),
    ) -> Result<Option<T>> {
        let mut choice = Choice {
            layer: layer.node.name.clone(),
            stored: layer.stored,
            kernel: DENSE.to_owned(),
            reason: "no kernel multiplies it as it is stored".to_owned(),
            microseconds: 0.0,
            dense_microseconds: 0.0,
            bytes: 0,
            dense_bytes: 0,
        };
        if candidates.is_empty() {
            if layer.is_int8 {
                choice.reason = "no kernel of int8 activations takes its groups or scales".to_owned();
            }
            self.choices.push(choice);
            return Ok(None);
        }
        let taken = match self.execution.kernels {
            Kernels::Compressed => smallest(&mut choice, layer.is_int8, layer.dense_bytes, candidates, dense)?,
            _ => fastest(&mut choice, layer.is_int8, candidates, dense()?, run),
        };
        (choice.kernel, choice.bytes) = (taken.name.to_owned(), taken.bytes);
        self.choices.push(choice);
        Ok(Some(taken.kernel))
    }
}

/// The candidate that takes the least memory, or the decoded weight where that takes less; it is made only then.
fn smallest<T>(
    choice: &mut Choice,
    is_int8: bool,
    dense_bytes: usize,
    candidates: Vec<Candidate<T>>,
    dense: impl FnOnce() -> Result<Candidate<T>>,
) -> Result<Candidate<T>> {
    let best = candidates.into_iter().min_by_key(|candidate| candidate.bytes).expect("there is a candidate");
    choice.dense_bytes = dense_bytes;
    if is_int8 || best.bytes <= choice.dense_bytes {
        choice.reason = if is_int8 { ASKED } else { "the smallest" }.to_owned();
        return Ok(best);
    }
    choice.reason = format!("{} takes {} bytes", best.name, best.bytes);
    dense()
}

/// The candidate that is fastest, or the decoded weight where that is faster.
fn fastest<T>(
    choice: &mut Choice,
    is_int8: bool,
    candidates: Vec<Candidate<T>>,
    dense: Candidate<T>,
    mut run: impl FnMut(&T),
) -> Candidate<T> {
    let mut timed = |candidate: Candidate<T>| {
        let microseconds = measure(|| run(&candidate.kernel));
        Timed { candidate, microseconds }
    };
    let dense = timed(dense);
    let candidates = candidates.into_iter().map(&mut timed);
    let best = candidates.min_by(|a, b| a.microseconds.total_cmp(&b.microseconds)).expect("there is a candidate");
    (choice.dense_microseconds, choice.dense_bytes) = (dense.microseconds, dense.candidate.bytes);
    let is_faster = best.microseconds <= dense.microseconds;
    choice.reason = match (is_int8, is_faster) {
        (true, true) => ASKED.to_owned(),
        (true, false) => format!("{ASKED}, though f32 is faster here"),
        (false, true) => "the fastest here".to_owned(),
        (false, false) => format!("{} is slower here: {:.1} µs", best.candidate.name, best.microseconds),
    };
    let taken = if is_int8 || is_faster { best } else { dense };
    choice.microseconds = taken.microseconds;
    taken.candidate
}

/// What is chosen for.
struct Layer<'a> {
    node: &'a Node,
    stored: String,
    /// Whether activations become integers: then floats are no candidate.
    is_int8: bool,
    /// What the decoded weight takes, as its kernel reads it.
    dense_bytes: usize,
}

/// The matrices of a direction of a recurrent layer.
type Pair = [Arc<dyn Product>; 2];

fn dense_bytes(source: &Source<'_>) -> usize {
    DenseMatrix::bytes_of(source.outputs, source.inputs)
}

/// Why a layer runs on integers that would not have to.
const ASKED: &str = "int8 activations, as asked";

/// What a recurrent layer's sparse product of the state beside a plain one of the inputs is called.
const SPARSE_STATE: &str = "sparse, inputs f32";

/// What the kernels of f32 are called.
const DENSE: &str = "f32";

fn dense_matrix(source: &Source<'_>) -> Result<Candidate<Arc<dyn Product>>> {
    let matrix = DenseMatrix::pack(source.outputs, source.inputs, &source.decode()?);
    Ok(Candidate { name: DENSE, bytes: matrix.bytes(), kernel: Arc::new(matrix) })
}

fn dense_maps(plan: Convolution, source: &Source<'_>) -> Result<Candidate<Arc<dyn Maps>>> {
    let values = source.decode()?;
    let mut weight = vec![0.0; values.len()];
    for (o, row) in values.chunks_exact(source.inputs).enumerate() {
        weight[o..].iter_mut().step_by(source.outputs).zip(row).for_each(|(to, from)| *to = *from);
    }
    let maps = DenseConvolution::pack(plan, &weight);
    Ok(Candidate { name: DENSE, bytes: maps.bytes(), kernel: Arc::new(maps) })
}

fn dense_pair([of_inputs, of_state]: &[Source<'_>; 2]) -> Result<Candidate<Pair>> {
    let (one, two) = (dense_matrix(of_inputs)?, dense_matrix(of_state)?);
    Ok(Candidate { name: DENSE, bytes: one.bytes + two.bytes, kernel: [one.kernel, two.kernel] })
}

/// The median of some runs, in microseconds.
fn measure(mut run: impl FnMut()) -> f64 {
    run();
    let (least, most) = MEASURED;
    let (began, mut times) = (Instant::now(), Vec::with_capacity(most));
    while times.len() < 3 || (times.len() < most && began.elapsed() < least) {
        let start = Instant::now();
        run();
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Made-up activations: some of them 0, as behind a ReLU.
fn activations(len: usize) -> Vec<f32> {
    let value = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 16) as f32 / 32_768.0 - 1.0;
    (0..len).map(|i| value(i).max(0.0)).collect()
}
