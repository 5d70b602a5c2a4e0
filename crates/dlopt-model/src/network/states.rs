//! What recurrent layers carry from pass to pass, so that a long series can be read piece by piece.

use dlopt_checkpoint::{Error, Result};

use crate::plan::{Direction, Node, Op, RecurrentKind, Shape};

/// The states of all recurrent layers after the last pass, for [`Network::forward_with`](super::Network::forward_with).
///
/// There are two ways to cut a series:
/// - [`Network::states`](super::Network::states), *rows*: each sample of a pass is a piece of a series of its own, and goes on
///   in the same row of the next pass. A piece may have any number of steps, one too: a language model generates like this,
///   and reads texts longer than those it learned from.
/// - [`Network::stream`](super::Network::stream), a *stream*: the samples of a pass are windows of one series, one after the
///   other. The layers before a recurrent one work on each window by itself; what they make of it is one step of the
///   recurrent layer, which reads the samples of the pass as its time.
///
/// Either way, cutting elsewhere changes nothing. They begin at zero.
#[derive(Clone, Debug, PartialEq)]
pub struct States {
    rows: usize,
    is_stream: bool,
    /// Of each recurrent layer in the order they run, `[rows, state_len]`.
    layers: Vec<Vec<f32>>,
}

/// States on their way through the layers.
pub(crate) struct Carried<'a> {
    pub(crate) states: &'a mut States,
    /// The recurrent layer to come.
    next: usize,
}

impl States {
    /// Zeros for the recurrent layers of a plan.
    pub(super) fn of(nodes: &[Node], rows: usize, is_stream: bool) -> Result<Self> {
        let mut lens = Vec::new();
        collect(nodes, is_stream, &mut lens)?;
        if !is_stream && let Some(Node { input: input @ Shape::Vector { .. }, .. }) = nodes.first() {
            return Err(Error::usage(format!(
                "the network reads {}, and no series that could go on",
                input.describe()
            )));
        }
        let layers = lens.into_iter().map(|len| vec![0.0; rows * len]).collect();
        Ok(Self { rows, is_stream, layers })
    }

    /// How many series are read side by side.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Whether samples are windows of one series.
    pub fn is_stream(&self) -> bool {
        self.is_stream
    }

    /// Back to zero: other series begin.
    pub fn clear(&mut self) {
        self.layers.iter_mut().for_each(|layer| layer.fill(0.0));
    }

    /// The samples of a pass over `values` values with these `lengths`.
    pub(super) fn samples(&self, input: &Shape, values: usize, lengths: Option<&[u32]>) -> Result<usize> {
        if self.is_stream {
            if lengths.is_some() {
                return Err(Error::usage("windows of a stream are whole, so they have no lengths"));
            }
            return match values.checked_rem(input.len()) {
                Some(0) => Ok(values / input.len()),
                _ => Err(Error::input(format!("{values} values are no whole windows of {}", input.describe()))),
            };
        }
        let step = input.len() / steps(input).max(1);
        let row = self.rows * step;
        if values == 0 || !values.is_multiple_of(row) {
            return Err(Error::input(format!(
                "{values} values are no steps of {step} for each of {} series",
                self.rows
            )));
        }
        let time = values / row;
        match lengths {
            Some(lengths) if lengths.len() != self.rows => {
                Err(Error::input(format!("{} lengths for {} series", lengths.len(), self.rows)))
            }
            Some(lengths) if !lengths.iter().all(|length| (1..=time).contains(&(*length as usize))) => {
                Err(Error::input(format!("lengths {lengths:?} of pieces of {time} steps")))
            }
            _ => Ok(self.rows),
        }
    }
}

impl<'a> Carried<'a> {
    pub(super) fn new(states: &'a mut States) -> Self {
        Self { states, next: 0 }
    }

    /// The state of the next recurrent layer, to be changed in place.
    pub(super) fn take(&mut self) -> &mut Vec<f32> {
        self.next += 1;
        &mut self.states.layers[self.next - 1]
    }
}

/// Steps of a sample: of a picture its rows.
fn steps(shape: &Shape) -> usize {
    match *shape {
        Shape::Image { height, .. } => height,
        Shape::Series { time, .. } | Shape::Tokens { time } => time,
        Shape::Vector { .. } => 1,
    }
}

/// The lengths of the states of recurrent layers in the order they run, if all layers can do with pieces of a series.
fn collect(nodes: &[Node], is_stream: bool, lens: &mut Vec<usize>) -> Result<()> {
    for node in nodes {
        let refuse = |why: &str, hint: &str| Err(Error::usage(format!("layer `{}` {why}", node.name)).hint(hint));
        match &node.op {
            Op::Recurrent { direction: Direction::Both, .. } => {
                return refuse(
                    "reads from the end too, so it needs the whole series at once",
                    "a network without bidirectional = true can read piece by piece",
                );
            }
            Op::Recurrent { kind, hidden, .. } => {
                if is_stream && steps(&node.input) != 1 {
                    let why = format!("reads {} steps of each window; in a stream a window is one", steps(&node.input));
                    return refuse(&why, "put layers before it that make one step of a window");
                }
                lens.push(hidden * if *kind == RecurrentKind::Lstm { 2 } else { 1 });
            }
            Op::Seq2seq(_) => {
                return refuse("is an encoder and decoder, which reads its inputs whole", "give it all tokens");
            }
            Op::Residual { body, shortcut } => {
                collect(body, is_stream, lens)?;
                collect(shortcut, is_stream, lens)?;
            }
            Op::Convolution { .. } | Op::Pool { .. } | Op::Pad { .. } if !is_stream => {
                return refuse("looks at several steps at once, which a piece may not have", "read the series whole");
            }
            Op::Flatten { .. } if !is_stream && !matches!(node.input, Shape::Vector { .. }) => {
                return refuse("joins all steps of a series, which a piece does not have", "read the series whole");
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
