//! Batch norms folded into the convolution or dense layer before them.
//!
//! `gamma (W x + b - mean) / sqrt(variance + epsilon) + beta = (f W) x + (f b + shift)` with `f = gamma / sqrt(variance +
//! epsilon)` and `shift = beta - f mean` for each output, so a network for inference has one pass less and no statistics
//! (Jacob et al., 2018, arXiv 1712.05877, section 3.2).

use std::collections::HashMap;

use dlopt_checkpoint::Result;
use dlopt_kernels::nn::batch_norm_fold;

use crate::layout::FlatTensor;
use crate::plan::{Init, Node, Op, Parameter, Role};

/// A batch norm that went into the layer before it.
#[derive(Clone, Debug)]
struct Norm {
    epsilon: f32,
    /// Scale, shift, running mean, running variance.
    parameters: Vec<Parameter>,
    /// The layer's own bias, before.
    bias: Option<Parameter>,
}

/// What folding makes of the nodes of a plan.
#[derive(Clone, Debug, Default)]
pub(super) struct Folded {
    /// The nodes that are left.
    pub(super) nodes: Vec<Node>,
    /// By the name of the layer's weight.
    norms: HashMap<String, Norm>,
    /// By the name of a bias that takes in a norm, the layer's weight.
    biases: HashMap<String, String>,
}

/// What the outputs of a layer are multiplied by, and what is added to them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Factors {
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
}

impl Folded {
    /// Folds every batch norm that stands right behind a convolution or a dense layer, in chains and in residual blocks.
    pub(super) fn of(nodes: &[Node]) -> Self {
        let mut folded = Self::default();
        folded.nodes = folded.chain(nodes);
        folded
    }

    /// Folds nothing.
    pub(super) fn nothing(nodes: &[Node]) -> Self {
        Self { nodes: nodes.to_vec(), ..Self::default() }
    }

    /// How many norms went away.
    pub(super) fn norms(&self) -> usize {
        self.norms.len()
    }

    fn chain(&mut self, nodes: &[Node]) -> Vec<Node> {
        let mut kept = Vec::with_capacity(nodes.len());
        let mut rest = nodes;
        while let Some((node, behind)) = rest.split_first() {
            rest = behind;
            let mut node = node.clone();
            if let Op::Residual { body, shortcut } = &mut node.op {
                *body = self.chain(body);
                *shortcut = self.chain(shortcut);
            }
            if let (Op::Convolution { .. } | Op::Dense, Some(norm)) = (&node.op, behind.first())
                && let Op::BatchNorm { epsilon, .. } = norm.op
            {
                self.take(&mut node, norm, epsilon);
                rest = &behind[1..];
            }
            kept.push(node);
        }
        kept
    }

    fn take(&mut self, node: &mut Node, norm: &Node, epsilon: f32) {
        let weight = node.parameters[0].name.clone();
        let bias = node.parameters.get(1).cloned();
        let name = bias.as_ref().map_or_else(|| format!("{}.bias", node.name), |bias| bias.name.clone());
        if bias.is_none() {
            let shape = norm.parameters[0].shape.clone();
            let role = Role::Bias;
            node.parameters.push(Parameter { name: name.clone(), shape, role, init: Init::Zeros, is_trained: true });
        }
        self.biases.insert(name, weight.clone());
        self.norms.insert(weight, Norm { epsilon, parameters: norm.parameters.clone(), bias });
    }

    /// The factors of the layer of this weight, if a norm went into it; `read` gives the values of a tensor as the
    /// checkpoint has them.
    pub(super) fn factors(
        &self,
        weight: &str,
        read: &dyn Fn(&FlatTensor) -> Result<Vec<f32>>,
    ) -> Result<Option<Factors>> {
        let Some(norm) = self.norms.get(weight) else { return Ok(None) };
        let mut values = norm.parameters.iter().map(|parameter| read(&tensor(parameter)));
        let mut next = || values.next().expect("a batch norm has four tensors");
        let (gamma, beta, mean, variance) = (next()?, next()?, next()?, next()?);
        let mut factors = Factors { scale: vec![0.0; gamma.len()], shift: vec![0.0; gamma.len()] };
        batch_norm_fold(&mean, &variance, &gamma, &beta, norm.epsilon, &mut factors.scale, &mut factors.shift);
        Ok(Some(factors))
    }

    /// The values of a tensor of the nodes that are left.
    ///
    /// # Errors
    /// Those of `read`.
    pub(super) fn read(&self, wanted: &FlatTensor, read: &dyn Fn(&FlatTensor) -> Result<Vec<f32>>) -> Result<Vec<f32>> {
        if let Some(factors) = self.factors(&wanted.name, read)? {
            let mut values = read(wanted)?;
            factors.scale_rows(&mut values);
            return Ok(values);
        }
        let Some(weight) = self.biases.get(&wanted.name) else { return read(wanted) };
        let factors = self.factors(weight, read)?.expect("the bias is that of a norm");
        let own = self.norms.get(weight).and_then(|norm| norm.bias.as_ref());
        let bias = own.map(|bias| read(&tensor(bias))).transpose()?;
        let values = factors.shift.iter().zip(&factors.scale).enumerate();
        Ok(values
            .map(|(o, (shift, scale))| bias.as_ref().map_or(*shift, |bias| bias[o].mul_add(*scale, *shift)))
            .collect())
    }
}

impl Factors {
    /// Multiplies each output's row of values, `[outputs, …]`.
    pub(super) fn scale_rows(&self, values: &mut [f32]) {
        let row = values.len() / self.scale.len().max(1);
        for (row, scale) in values.chunks_exact_mut(row.max(1)).zip(&self.scale) {
            row.iter_mut().for_each(|value| *value *= scale);
        }
    }
}

/// A parameter as readers of tensors know it; where it lies in memory does not matter to them.
pub(super) fn tensor(parameter: &Parameter) -> FlatTensor {
    FlatTensor {
        name: parameter.name.clone(),
        shape: parameter.shape.clone(),
        role: parameter.role,
        is_trained: parameter.is_trained,
        range: 0..0,
        node: 0,
    }
}
