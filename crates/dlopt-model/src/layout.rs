//! Where every parameter lies in memory, and the way between there and a checkpoint.
//!
//! A network keeps all trained values in one flat vector, and all running statistics in another. A *slot* is the piece of
//! one of them that an operation reads as one operand. In checkpoints tensors have PyTorch's names and layouts; the slots
//! have the kernels':
//!
//! | parameter | checkpoint | slot |
//! |---|---|---|
//! | convolution | `[out, in / groups, kh, kw]`, series `[out, in / groups, k]` | `[kh, kw, in / groups, out]` |
//! | dense | `[out, in]` | `[in, out]`; behind a flattened picture the inputs go row, column, channel, in the checkpoint channel, row, column |
//! | recurrent, each direction | `weight_ih`, `weight_hh`; `bias_ih`, `bias_hh` | one slot for the two weights, one for the two biases |
//! | everything else | | the same |
//!
//! The same conversion serves whatever has a value for each parameter: weights, gradients, an optimiser's moments, masks.
//! Two biases that a recurrent cell adds up share their values: both are summed when read, and written as the first
//! with zeros for the second, so a network computes the same but a foreign file's two biases do not come back apart.

use std::collections::HashSet;
use std::ops::Range;

use dlopt_checkpoint::{Error, Result};
use dlopt_kernels::nn::{Cell, Recurrent, RecurrentShape};

use crate::plan::{Direction, Node, Op, Parameter, RecurrentKind, Role, Translation};

/// Where the parameters of a list of nodes lie.
#[derive(Clone, Debug)]
pub struct FlatLayout {
    /// The slots of each node: a node itself, then, if it is a residual block, its body, then its shortcut.
    pub nodes: Vec<NodeSlots>,
    /// Trained values in all.
    pub params_len: usize,
    /// Running statistics in all.
    pub buffers_len: usize,
    tensors: Vec<FlatTensor>,
    pieces: Vec<Piece>,
    /// Nodes whose weights lie elsewhere.
    held: HashSet<usize>,
}

/// The slots of one node, in the order its operation expects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSlots {
    /// In the vector of trained values: weight, bias; scale, shift; for each direction of a recurrent layer weight, bias.
    pub trained: Vec<Range<usize>>,
    /// In the vector of running statistics: mean, variance.
    pub buffers: Vec<Range<usize>>,
}

/// A checkpoint's tensor and the slot it lies in.
#[derive(Clone, Debug, PartialEq)]
pub struct FlatTensor {
    /// Name in a checkpoint.
    pub name: String,
    /// Shape in a checkpoint.
    pub shape: Vec<usize>,
    /// What it is to its layer.
    pub role: Role,
    /// Whether its slot is one of trained values, or of running statistics.
    pub is_trained: bool,
    /// Its slot; tensors of a recurrent layer share theirs.
    pub range: Range<usize>,
    /// The node it belongs to, counted as in [`FlatLayout::nodes`].
    pub node: usize,
}

/// A tensor as a checkpoint holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Its name.
    pub name: String,
    /// Its extents, outermost first.
    pub shape: Vec<usize>,
    /// Its values.
    pub values: Vec<f32>,
}

/// Tensors that become slots together.
#[derive(Clone, Debug)]
struct Piece {
    /// Indices into the list of tensors.
    tensors: Range<usize>,
    slots: Vec<Range<usize>>,
    is_trained: bool,
    /// Whether its weight lies elsewhere: the slot of the weight is empty.
    is_held: bool,
    form: Form,
}

/// How the slots of a piece hold its tensors.
#[derive(Clone, Debug)]
enum Form {
    Same,
    Convolution { outputs: usize, inputs: usize, taps: usize },
    Dense { outputs: usize, inputs: usize, flattened: Option<[usize; 3]> },
    Recurrent { shape: RecurrentShape, is_reversed: bool, returns_sequence: bool },
}

impl FlatLayout {
    /// Lays out the parameters of a plan.
    pub fn of(nodes: &[Node]) -> Self {
        Self::without_weights(nodes, HashSet::new())
    }

    /// Lays out the parameters of a plan but for the weights of the nodes in `held`, counted as in
    /// [`FlatLayout::nodes`]: dense layers, convolutions and recurrent layers that run on matrices of their own. Their slots
    /// are empty, their biases stay. Such a layout is read into and never written from.
    pub fn without_weights(nodes: &[Node], held: HashSet<usize>) -> Self {
        let mut layout =
            Self { nodes: Vec::new(), params_len: 0, buffers_len: 0, tensors: Vec::new(), pieces: Vec::new(), held };
        layout.add_all(nodes);
        layout
    }

    /// The tensors of the checkpoint, in the order of their nodes.
    pub fn tensors(&self) -> &[FlatTensor] {
        &self.tensors
    }

    /// One value for each trained parameter, as a checkpoint holds them.
    ///
    /// # Panics
    /// When `params` has another length than [`Self::params_len`].
    pub fn params_to_checkpoint(&self, params: &[f32]) -> Vec<NamedTensor> {
        assert_eq!(params.len(), self.params_len, "one value for each trained parameter");
        self.export(params, true)
    }

    /// One value for each running statistic, as a checkpoint holds them.
    ///
    /// # Panics
    /// When `buffers` has another length than [`Self::buffers_len`].
    pub fn buffers_to_checkpoint(&self, buffers: &[f32]) -> Vec<NamedTensor> {
        assert_eq!(buffers.len(), self.buffers_len, "one value for each running statistic");
        self.export(buffers, false)
    }

    /// All tensors of a checkpoint, in the order of [`Self::tensors`].
    ///
    /// # Panics
    /// When a vector has another length than the layout says.
    pub fn to_checkpoint(&self, params: &[f32], buffers: &[f32]) -> Vec<NamedTensor> {
        let mut trained = self.params_to_checkpoint(params).into_iter();
        let mut running = self.buffers_to_checkpoint(buffers).into_iter();
        let own = |tensor: &FlatTensor| if tensor.is_trained { trained.next() } else { running.next() };
        self.tensors.iter().filter_map(own).collect()
    }

    /// One value for each trained parameter, from tensors as a checkpoint holds them; `read` gives the values of one.
    ///
    /// # Errors
    /// Those of `read`, and when it gives another number of values than the tensor has.
    pub fn params_from_checkpoint(&self, mut read: impl FnMut(&FlatTensor) -> Result<Vec<f32>>) -> Result<Vec<f32>> {
        self.import(&mut read, true)
    }

    /// One value for each running statistic, from tensors as a checkpoint holds them.
    ///
    /// # Errors
    /// As [`Self::params_from_checkpoint`].
    pub fn buffers_from_checkpoint(&self, mut read: impl FnMut(&FlatTensor) -> Result<Vec<f32>>) -> Result<Vec<f32>> {
        self.import(&mut read, false)
    }

    /// Trained values and running statistics from a checkpoint's tensors.
    ///
    /// # Errors
    /// As [`Self::params_from_checkpoint`].
    pub fn from_checkpoint(
        &self,
        mut read: impl FnMut(&FlatTensor) -> Result<Vec<f32>>,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        Ok((self.import(&mut read, true)?, self.import(&mut read, false)?))
    }

    /// For each tensor of trained values, in order, where each of its values lies in the vector; nothing for a value that
    /// has no place of its own (of the second of two biases that are added up).
    pub fn places(&self) -> Vec<Vec<Option<u32>>> {
        // Values are copied and never computed with on their way, so a place survives as the bits of a float.
        let marks: Vec<f32> = (1..=self.params_len as u32).map(f32::from_bits).collect();
        let place = |mark: &f32| mark.to_bits().checked_sub(1);
        self.params_to_checkpoint(&marks).iter().map(|t| t.values.iter().map(place).collect()).collect()
    }

    /// The slots whose tensors' names all please `is_chosen`, in order; for freezing and for groups of parameters.
    ///
    /// # Errors
    /// When it chooses one of the tensors that share a slot and not another; both are named.
    pub fn slots(&self, is_chosen: impl Fn(&FlatTensor) -> bool) -> Result<Vec<Range<usize>>> {
        let mut chosen: Vec<Range<usize>> = Vec::new();
        for piece in self.pieces.iter().filter(|piece| piece.is_trained) {
            for slot in &piece.slots {
                let sharing = || self.tensors[piece.tensors.clone()].iter().filter(|t| t.range == *slot);
                let yes = sharing().find(|t| is_chosen(t));
                match (yes, sharing().find(|t| !is_chosen(t))) {
                    (Some(_), None) => chosen.push(slot.clone()),
                    (Some(yes), Some(no)) => {
                        return Err(Error::usage(format!(
                            "`{}` is chosen and `{}` is not, but a recurrent layer keeps them as one",
                            yes.name, no.name
                        ))
                        .hint("choose both: lstm.*"));
                    }
                    (None, _) => {}
                }
            }
        }
        Ok(chosen)
    }

    fn add_all(&mut self, nodes: &[Node]) {
        for node in nodes {
            self.add(node);
            if let Op::Residual { body, shortcut } = &node.op {
                self.add_all(body);
                self.add_all(shortcut);
            }
        }
    }

    fn add(&mut self, node: &Node) {
        let at = self.nodes.len();
        self.nodes.push(NodeSlots::default());
        match node.op {
            Op::Seq2seq(ref plan) => self.add_translation(at, plan, &node.parameters),
            Op::Recurrent { kind, hidden, direction, returns_sequence } => {
                let cell = cell(kind);
                let inputs = node.input.features();
                let shape = RecurrentShape { cell, time: node.input.len() / inputs.max(1), inputs, hidden };
                let reversed: &[bool] = if direction == Direction::Both { &[false, true] } else { &[false] };
                for (&is_reversed, four) in reversed.iter().zip(node.parameters.chunks_exact(4)) {
                    let form = Form::Recurrent { shape, is_reversed, returns_sequence };
                    self.piece(at, four, &[0, 0, 1, 1], form);
                }
            }
            _ => {
                for parameter in &node.parameters {
                    self.piece(at, std::slice::from_ref(parameter), &[0], form(parameter));
                }
            }
        }
    }

    /// Adds the tensors of an encoder and a decoder, the four of a recurrent layer together.
    fn add_translation(&mut self, node: usize, plan: &Translation, parameters: &[Parameter]) {
        let shape = RecurrentShape { cell: cell(plan.kind), time: 1, inputs: plan.embedding, hidden: plan.hidden };
        let mut rest = parameters;
        while let Some(first) = rest.first() {
            let is_recurrent = first.role == Role::RecurrentInput;
            let (own, behind) = rest.split_at(if is_recurrent { 4 } else { 1 });
            if is_recurrent {
                let form = Form::Recurrent { shape, is_reversed: false, returns_sequence: true };
                self.piece(node, own, &[0, 0, 1, 1], form);
            } else {
                self.piece(node, own, &[0], form(first));
            }
            rest = behind;
        }
    }

    /// Adds tensors and their slots; `places` says for each tensor which slot it is in.
    fn piece(&mut self, node: usize, parameters: &[Parameter], places: &[usize], form: Form) {
        let is_trained = parameters.iter().all(|p| p.is_trained);
        let is_held = self.held.contains(&node) && !matches!(form, Form::Same);
        let mut lens = match &form {
            Form::Recurrent { .. } => form.recurrent().map(|r| vec![r.weight_len(), r.bias_len()]).unwrap_or_default(),
            _ => vec![parameters.iter().map(Parameter::len).sum()],
        };
        if let (true, Some(weight)) = (is_held, lens.first_mut()) {
            *weight = 0;
        }
        let end = if is_trained { &mut self.params_len } else { &mut self.buffers_len };
        let mut slots: Vec<Range<usize>> = Vec::with_capacity(lens.len());
        for len in lens {
            slots.push(*end..*end + len);
            *end += len;
        }
        let first = self.tensors.len();
        for (parameter, &place) in parameters.iter().zip(places) {
            self.tensors.push(FlatTensor {
                name: parameter.name.clone(),
                shape: parameter.shape.clone(),
                role: parameter.role,
                is_trained,
                range: slots[place].clone(),
                node,
            });
        }
        let own = &mut self.nodes[node];
        if is_trained { &mut own.trained } else { &mut own.buffers }.extend(slots.iter().cloned());
        self.pieces.push(Piece { tensors: first..self.tensors.len(), slots, is_trained, is_held, form });
    }

    fn export(&self, flat: &[f32], is_trained: bool) -> Vec<NamedTensor> {
        assert!(self.held.is_empty(), "weights that lie elsewhere are not written from here");
        let mut all = Vec::new();
        for piece in self.pieces.iter().filter(|piece| piece.is_trained == is_trained) {
            let tensors = &self.tensors[piece.tensors.clone()];
            let slots: Vec<&[f32]> = piece.slots.iter().map(|slot| &flat[slot.clone()]).collect();
            let values = piece.form.to_checkpoint(&slots);
            all.extend(tensors.iter().zip(values).map(|(tensor, values)| NamedTensor {
                name: tensor.name.clone(),
                shape: tensor.shape.clone(),
                values,
            }));
        }
        all
    }

    fn import(&self, read: &mut dyn FnMut(&FlatTensor) -> Result<Vec<f32>>, is_trained: bool) -> Result<Vec<f32>> {
        let mut flat = vec![0.0; if is_trained { self.params_len } else { self.buffers_len }];
        for piece in self.pieces.iter().filter(|piece| piece.is_trained == is_trained) {
            let mut stored = Vec::with_capacity(piece.tensors.len());
            for tensor in self.tensors[piece.tensors.clone()].iter().filter(|t| !piece.is_held || is_bias(t.role)) {
                let values = read(tensor)?;
                let wanted: usize = tensor.shape.iter().product();
                if values.len() != wanted {
                    return Err(Error::input(format!(
                        "tensor `{}` of shape {:?} has {wanted} values, found {}",
                        tensor.name,
                        tensor.shape,
                        values.len()
                    )));
                }
                stored.push(values);
            }
            // The slots of a piece stand side by side.
            let (Some(first), Some(last)) = (piece.slots.first(), piece.slots.last()) else { continue };
            let slots = &mut flat[first.start..last.end];
            match (piece.form.recurrent(), stored.as_slice()) {
                (_, []) => {}
                (Some(kernel), [b_ih, b_hh]) => kernel.bias_from_pytorch(b_ih, b_hh, slots),
                _ => piece.form.to_memory(&stored, slots, first.len()),
            }
        }
        Ok(flat)
    }
}

fn is_bias(role: Role) -> bool {
    matches!(role, Role::RecurrentInputBias | Role::RecurrentHiddenBias)
}

/// What the kernels call a cell.
pub(crate) fn cell(kind: RecurrentKind) -> Cell {
    match kind {
        RecurrentKind::Rnn => Cell::Rnn,
        RecurrentKind::Lstm => Cell::Lstm,
        RecurrentKind::Gru => Cell::Gru,
    }
}

/// How a parameter that has a slot of its own lies in it.
fn form(parameter: &Parameter) -> Form {
    let shape = &parameter.shape;
    match parameter.role {
        Role::ConvolutionWeight => {
            Form::Convolution { outputs: shape[0], inputs: shape[1], taps: shape[2..].iter().product() }
        }
        Role::DenseWeight { flattened } => Form::Dense { outputs: shape[0], inputs: shape[1], flattened },
        _ => Form::Same,
    }
}

impl Form {
    fn recurrent(&self) -> Option<Recurrent> {
        match *self {
            Self::Recurrent { shape, is_reversed, returns_sequence } => {
                Some(Recurrent::new(shape, is_reversed, returns_sequence))
            }
            _ => None,
        }
    }

    /// Values of the four tensors of a recurrent direction.
    fn checkpoint_lens(&self) -> [usize; 4] {
        match *self {
            Self::Recurrent { shape, .. } => {
                let rows = shape.cell.gates() * shape.hidden;
                [rows * shape.inputs, rows * shape.hidden, rows, rows]
            }
            _ => [0; 4],
        }
    }

    /// The values of a piece's tensors from those of its slots.
    fn to_checkpoint(&self, slots: &[&[f32]]) -> Vec<Vec<f32>> {
        if let (Some(kernel), &[weight, bias]) = (self.recurrent(), slots) {
            let mut stored = self.checkpoint_lens().map(|len| vec![0.0; len]);
            let [w_ih, w_hh, b_ih, b_hh] = &mut stored;
            kernel.to_pytorch(weight, bias, w_ih, w_hh, b_ih, b_hh);
            return stored.into();
        }
        let slot = slots[0];
        let mut stored = vec![0.0; slot.len()];
        self.each(slot.len(), |checkpoint, memory| stored[checkpoint] = slot[memory]);
        vec![stored]
    }

    /// Fills the slots of a piece, which stand side by side and of which the first has `first` values.
    fn to_memory(&self, stored: &[Vec<f32>], slots: &mut [f32], first: usize) {
        if let (Some(kernel), [w_ih, w_hh, b_ih, b_hh]) = (self.recurrent(), stored) {
            let (weight, bias) = slots.split_at_mut(first);
            return kernel.from_pytorch(w_ih, w_hh, b_ih, b_hh, weight, bias);
        }
        let stored = &stored[0];
        self.each(stored.len(), |checkpoint, memory| slots[memory] = stored[checkpoint]);
    }

    /// Calls `pair` with the place of each value in the checkpoint and in memory.
    fn each(&self, len: usize, mut pair: impl FnMut(usize, usize)) {
        match *self {
            Self::Same | Self::Recurrent { .. } => (0..len).for_each(|i| pair(i, i)),
            Self::Convolution { outputs, inputs, taps } => {
                for output in 0..outputs {
                    for input in 0..inputs {
                        for tap in 0..taps {
                            pair((output * inputs + input) * taps + tap, (tap * inputs + input) * outputs + output);
                        }
                    }
                }
            }
            Self::Dense { outputs, inputs, flattened } => {
                for input in 0..inputs {
                    let stored = match flattened {
                        None => input,
                        Some([height, width, channels]) => {
                            let (place, channel) = (input / channels, input % channels);
                            channel * height * width + place
                        }
                    };
                    for output in 0..outputs {
                        pair(output * inputs + stored, input * outputs + output);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::Description;
    use crate::plan::{Shape, parameters};
    use crate::presets::Preset;
    use crate::resolve::resolve;

    fn plan(text: &str, input: Shape, outputs: usize) -> Vec<Node> {
        resolve(&Description::from_toml(&format!("layers = [{text}]")).unwrap(), &input, outputs).unwrap()
    }

    /// Each tensor filled with counting numbers, starting anew.
    fn counting(layout: &FlatLayout) -> (Vec<f32>, Vec<f32>) {
        layout.from_checkpoint(|t| Ok((0..t.shape.iter().product()).map(|i: usize| i as f32).collect())).unwrap()
    }

    #[test]
    fn slots_stand_back_to_back_in_the_order_of_the_walk() {
        let input = Shape::Image { height: 32, width: 32, channels: 3 };
        let nodes = resolve(&Preset::named("resnet20").unwrap().description(), &input, 10).unwrap();
        let layout = FlatLayout::of(&nodes);
        assert_eq!(layout.params_len, 272_474);
        let trained: Vec<_> = layout.nodes.iter().flat_map(|n| n.trained.clone()).collect();
        assert_eq!(trained.first().map(|r| r.start), Some(0));
        assert!(trained.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!(trained.last().map(|r| r.end), Some(layout.params_len));
        let names: Vec<&str> = layout.tensors().iter().map(|t| t.name.as_str()).collect();
        let walked: Vec<&str> = parameters(&nodes).into_iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, walked);
        let at = |name: &str| layout.tensors().iter().find(|t| t.name == name).unwrap().node;
        assert!(at("layer2.0.conv1.weight") < at("layer2.0.downsample.0.weight"));
        assert_eq!(layout.nodes[at("bn1.running_var")].buffers, [0..16, 16..32]);
    }

    #[test]
    fn convolutions_and_dense_weights_are_transposed() {
        let text = "{ type = \"conv2d\", filters = 2, kernel = [1, 2] }, { type = \"flatten\" }, { type = \"dense\", units = 2, bias = false }";
        let nodes = plan(text, Shape::Image { height: 2, width: 2, channels: 3 }, 2);
        let layout = FlatLayout::of(&nodes);
        let (params, buffers) = counting(&layout);
        assert!(buffers.is_empty());
        // [out, in, x] = out * 6 + in * 2 + x, in memory x, in, out.
        assert_eq!(params[..12], [0., 6., 2., 8., 4., 10., 1., 7., 3., 9., 5., 11.]);
        assert_eq!(params[12..14], [0., 1.]);
        // A picture of 2 x 1 x 2: [out, channel * 2 + y], in memory y, channel, out.
        assert_eq!(params[14..], [0., 4., 2., 6., 1., 5., 3., 7.]);
    }

    #[test]
    fn every_value_of_a_tensor_has_its_place_but_a_second_bias() {
        let text = "{ type = \"gru\", hidden = 3 }, { type = \"dense\", units = 2 }";
        let layout = FlatLayout::of(&plan(text, Shape::Series { time: 2, features: 5 }, 2));
        let params: Vec<f32> = (0..layout.params_len).map(|i| 0.5 + i as f32).collect();
        let (mut seen, mut nowhere) = (vec![0; layout.params_len], 0);
        for (tensor, places) in layout.params_to_checkpoint(&params).iter().zip(layout.places()) {
            for (value, place) in tensor.values.iter().zip(places) {
                assert_eq!(*value, place.map_or(0.0, |place| params[place as usize]), "{}", tensor.name);
                place.map_or_else(|| nowhere += 1, |place| seen[place as usize] += 1);
            }
        }
        // The candidate of a GRU has both its biases.
        assert!(seen.iter().all(|count| *count == 1) && nowhere == 2 * 3);
    }

    #[test]
    fn what_is_read_is_written_again() {
        let text = "{ type = \"residual\", body = [{ type = \"conv2d\", filters = 4, kernel = 3, padding = 1, groups = 2 }, \
                    { type = \"batch_norm\" }], shortcut = [{ type = \"depthwise_conv2d\", kernel = [3, 1], padding = [1, 0] }] }, \
                    { type = \"flatten\" }, { type = \"dropout\", rate = 0.5 }, { type = \"dense\", units = 3 }";
        let nodes = plan(text, Shape::Image { height: 3, width: 5, channels: 4 }, 3);
        let layout = FlatLayout::of(&nodes);
        let (params, buffers) = counting(&layout);
        let tensors = layout.to_checkpoint(&params, &buffers);
        assert_eq!(tensors.len(), layout.tensors().len());
        for tensor in tensors {
            let wanted: Vec<f32> = (0..tensor.values.len()).map(|i| i as f32).collect();
            assert_eq!(tensor.values, wanted, "{}", tensor.name);
            assert_eq!(tensor.shape.iter().product::<usize>(), tensor.values.len());
        }
    }

    #[test]
    fn two_biases_of_a_cell_become_one() {
        for (cell, gates) in [("rnn", 1), ("lstm", 4), ("gru", 3)] {
            let text = format!(
                "{{ type = \"{cell}\", hidden = 3, layers = 2, bidirectional = true }}, {{ type = \"dense\", units = 2 }}"
            );
            let nodes = plan(&text, Shape::Series { time: 4, features: 5 }, 2);
            let layout = FlatLayout::of(&nodes);
            let (params, buffers) = counting(&layout);
            let rows = 3 * gates;
            for tensor in layout.to_checkpoint(&params, &buffers) {
                let counts = (0..tensor.values.len()).map(|i| i as f32);
                let wanted: Vec<f32> = if tensor.name.contains(".bias_ih") {
                    // The new state's part of a GRU keeps its two biases: one is inside the reset gate.
                    counts.map(|i| if cell == "gru" && i >= 6.0 { i } else { 2.0 * i }).collect()
                } else if tensor.name.contains(".bias_hh") {
                    counts.map(|i| if cell == "gru" && i >= 6.0 { i } else { 0.0 }).collect()
                } else {
                    counts.collect()
                };
                assert_eq!(tensor.values, wanted, "{}", tensor.name);
            }
            assert_eq!(layout.nodes[0].trained.len(), 4);
            assert_eq!(layout.nodes[0].trained[0], 0..rows * 8);
            // Once merged, nothing changes any more.
            let again = layout.to_checkpoint(&params, &buffers);
            let find = |name: &str| again.iter().find(|t| t.name == name).unwrap().values.clone();
            assert_eq!(layout.from_checkpoint(|t| Ok(find(&t.name))).unwrap(), (params, buffers));
        }
    }

    #[test]
    fn chosen_names_give_their_slots_but_not_half_of_one() {
        let nodes = plan(
            "{ type = \"lstm\", hidden = 2 }, { type = \"dense\", units = 2 }",
            Shape::Series { time: 2, features: 3 },
            2,
        );
        let layout = FlatLayout::of(&nodes);
        let weights = layout.slots(|t| t.name.contains("weight")).unwrap();
        assert_eq!(weights, [0..40, 48..52]);
        assert!(layout.slots(|_| false).unwrap().is_empty());
        let error = layout.slots(|t| t.name == "lstm.weight_hh_l0").unwrap_err();
        assert!(error.message().contains("`lstm.weight_hh_l0` is chosen and `lstm.weight_ih_l0` is not"), "{error}");
    }

    #[test]
    fn a_tensor_of_another_size_is_refused() {
        let nodes = plan("{ type = \"dense\", units = 2 }", Shape::Vector { features: 3 }, 2);
        let error = FlatLayout::of(&nodes).from_checkpoint(|_| Ok(vec![0.0; 5])).unwrap_err();
        assert_eq!(error.message(), "tensor `fc.weight` of shape [2, 3] has 6 values, found 5");
    }
}
