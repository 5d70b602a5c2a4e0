//! What each tensor of a model can bear: the cost of every scheme and sparsity, one tensor changed at a time.
//!
//! Three ways to say what a change costs:
//! * from the weights alone: `|W - W'|^2 / |W|^2`, the noise that the layer's output gets relative to what it says, when
//!   inputs are alike in all directions;
//! * by the diagonal of the empirical Fisher information ([`Fisher`]): `sum_i F_i (w_i - w'_i)^2 / 2`, in nats a sample;
//! * measured ([`Watched`]): the network is run with the one tensor changed.
//!
//! What the passes would store and read back is what is judged, bit for bit.

mod change;
mod fisher;
mod subject;
mod watched;
mod ways;

use dlopt_checkpoint::{Checkpoint, Error, Header, Pass, Result, Selection, Tensors, relative_error};
use dlopt_kernels::nn::Team;
use dlopt_kernels::widen;
use dlopt_quantize::formats::float;
use dlopt_quantize::methods::Method;
use dlopt_quantize::{Quantize, Scheme};
use serde::{Deserialize, Serialize};

pub use change::Change;
pub use fisher::Fisher;
pub use watched::{Quality, Watched};
use ways::Way;
pub(crate) use ways::prune;

/// What is tried on which tensors.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is tried on each.
    pub changes: Vec<Change>,
    /// How scales are chosen.
    pub method: &'static dyn Method,
    /// Which tensors.
    pub selection: Selection,
    /// Whether NaN and infinity are let through.
    pub allow_nonfinite: bool,
}

/// Says what a changed tensor costs the network.
pub trait Judge {
    /// The name of the measure, for reports.
    fn name(&self) -> &'static str;

    /// What the network loses when the tensor `name` of the checkpoint has `values` instead of its own.
    ///
    /// # Errors
    /// When the network does not have the tensor, or cannot be run.
    fn judge(&mut self, name: &str, values: &[f32]) -> Result<Judgement>;
}

/// What a change costs the network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// 0 or more; adds up over tensors, as a first guess.
    pub damage: f64,
    /// What was measured of the changed network; nothing where it was not run.
    pub quality: Option<Quality>,
}

/// What one change costs one tensor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cost {
    /// As [`Change::parse`] reads it.
    pub change: String,
    /// What the tensor takes then, scales and masks included.
    pub bytes: u64,
    /// The same for each weight.
    pub bits_per_weight: f64,
    /// `|W - W'| / |W|`.
    pub relative_error: f64,
    /// What decides: the square of the relative error, or what the judge says.
    pub damage: f64,
    /// What was measured of the changed network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
}

/// What each change costs a tensor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TensorCosts {
    /// Its name.
    pub tensor: String,
    /// Its extents, outermost first.
    pub shape: Vec<usize>,
    /// Its weights.
    pub weights: u64,
    /// What it takes now.
    pub bytes: u64,
    /// The square root of the sum of its squares.
    pub norm: f64,
    /// Those changes that fit it, in the order asked for.
    pub costs: Vec<Cost>,
}

/// Looks at every selected tensor and tries every change on it. `each` is told of every tensor that is done.
///
/// # Errors
/// When no tensor is selected, weights cannot be read or are not finite, or the judge fails.
pub fn costs(
    checkpoint: &Checkpoint,
    options: &Options,
    mut judge: Option<&mut dyn Judge>,
    team: &Team,
    mut each: impl FnMut(usize, usize),
) -> Result<Vec<TensorCosts>> {
    let header = &checkpoint.header;
    let selected = selected(header, options)?;
    let ways = options.changes.iter().map(|c| Way::of(c, header, options)).collect::<Result<Vec<_>>>()?;
    let mut all = Vec::with_capacity(selected.len());
    for (done, at) in selected.iter().enumerate() {
        let info = &header.tensors[*at];
        let values = read(checkpoint, *at)?;
        if !options.allow_nonfinite && values.iter().any(|v| !v.is_finite()) {
            return Err(Error::input(format!("tensor `{}` holds NaN or infinity", info.name))
                .hint("--exclude leaves it out, --allow-nonfinite goes on"));
        }
        let mut tries: Vec<Try> = ways
            .iter()
            .filter_map(|way| Some((way, way.taken.get(at)?)))
            .map(|(way, taken)| Try { way, taken, values: Vec::new(), noise: 0.0, failed: None })
            .collect();
        let keeps = judge.is_some();
        team.each(&mut tries, |_, own| own.run(&values, keeps));
        let signal: f64 = values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
        let mut costs = Vec::with_capacity(tries.len());
        for own in tries {
            if let Some(error) = own.failed {
                return Err(error.within(format!("tensor `{}`", info.name)));
            }
            let relative_error = relative_error(signal, own.noise);
            let judged = match &mut judge {
                Some(judge) => judge.judge(&info.name, &own.values)?,
                None => Judgement { damage: relative_error * relative_error, quality: None },
            };
            costs.push(Cost {
                change: own.way.change.text(),
                bytes: own.taken.bytes,
                bits_per_weight: 8.0 * own.taken.bytes as f64 / values.len().max(1) as f64,
                relative_error,
                damage: judged.damage,
                quality: judged.quality,
            });
        }
        all.push(TensorCosts {
            tensor: info.name.clone(),
            shape: info.shape.clone(),
            weights: values.len() as u64,
            bytes: info.bytes(),
            norm: signal.sqrt(),
            costs,
        });
        each(done + 1, selected.len());
    }
    Ok(all)
}

/// One change of one tensor.
struct Try<'a> {
    way: &'a Way,
    taken: &'a ways::Taken,
    /// What it became; empty where nobody judges it.
    values: Vec<f32>,
    /// The sum of squares of what changed.
    noise: f64,
    failed: Option<Error>,
}

impl Try<'_> {
    fn run(&mut self, own: &[f32], keeps: bool) {
        let mut changed = own.to_vec();
        self.failed = self.taken.apply(&mut changed).err();
        let difference = |(a, b): (&f32, &f32)| f64::from(*a) - f64::from(*b);
        self.noise = own.iter().zip(&changed).map(difference).map(|d| d * d).sum();
        if keeps {
            self.values = changed;
        }
    }
}

/// The tensors that a pass over floats would take.
fn selected(header: &Header, options: &Options) -> Result<Vec<usize>> {
    let mut narrow = Quantize::new(Scheme::parse("f16")?);
    narrow.selection = options.selection.clone();
    narrow.plan(header)?;
    let changes: Vec<usize> = narrow.simulate(header)?.iter().map(|simulated| simulated.tensor).collect();
    Ok(changes)
}

/// A tensor's weights.
pub(crate) fn read(checkpoint: &Checkpoint, at: usize) -> Result<Vec<f32>> {
    let info = &checkpoint.header.tensors[at];
    let from = float(info.dtype).ok_or_else(|| Error::input(format!("tensor `{}` holds no floats", info.name)))?;
    let mut bytes = vec![0; info.bytes() as usize];
    checkpoint.read(at, 0, &mut bytes)?;
    let mut values = vec![0.0; info.elements()];
    widen(from, &bytes, &mut values);
    Ok(values)
}
