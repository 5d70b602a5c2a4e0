//! The table of layer kinds: from name patterns, rank and the config's `model_type` to what a tensor is.
//!
//! What the table does not know is [`LayerKind::Unknown`]: skipped and reported, never guessed.

use std::collections::HashSet;

use crate::dtype::is_weight_float;
use crate::error::Result;
use crate::header::{Header, TensorInfo};

/// What a tensor is to its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LayerKind {
    /// A linear layer's weight, `[out, in]`.
    Linear,
    /// A linear layer stored `[in, out]` (GPT-2's `Conv1D`).
    TransposedLinear,
    /// A convolution's weight, `[out, in, k…]`.
    Convolution,
    /// A transposed convolution's weight, `[in, out, k…]`.
    TransposedConvolution,
    /// Weights of an RNN, LSTM or GRU, `[gates * hidden, in]`.
    Recurrent,
    /// The matrices of all experts of a layer in one tensor, `[experts, in, out]`.
    Expert,
    /// A table of embeddings.
    Embedding,
    /// The last layer: vocabulary, classes, pooler.
    Head,
    /// A norm's scale, or any other vector that is no bias.
    Norm,
    /// A bias.
    Bias,
    /// A transform that was never trained (Fourier, mel, rotary).
    FixedTransform,
    /// Integers, bits, 8-bit floats: not weights to prune or quantize.
    Buffer,
    /// Nothing the table knows.
    Unknown,
}

impl LayerKind {
    /// Its name in reports.
    pub fn label(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::TransposedLinear => "linear (transposed)",
            Self::Convolution => "convolution",
            Self::TransposedConvolution => "convolution (transposed)",
            Self::Recurrent => "recurrent",
            Self::Expert => "experts",
            Self::Embedding => "embedding",
            Self::Head => "head",
            Self::Norm => "norm",
            Self::Bias => "bias",
            Self::FixedTransform => "fixed transform",
            Self::Buffer => "buffer",
            Self::Unknown => "unknown",
        }
    }

    /// Why a tensor of this kind is left alone unless it is asked for.
    pub fn reason_to_skip(self) -> &'static str {
        match self {
            Self::Embedding => "embeddings are left alone unless included",
            Self::Head => "the output head is left alone unless included",
            Self::Norm => "norms and vectors are left alone",
            Self::Bias => "biases are left alone",
            Self::FixedTransform => "a fixed transform, never trained",
            Self::Buffer => "not a floating-point weight",
            Self::Unknown => "no known layer is named like this; --include takes it",
            Self::TransposedLinear => "stored [in, out], which no layout of the runtimes holds",
            Self::TransposedConvolution => "stored [in, out, …], which no layout of the runtimes holds",
            Self::Expert => "experts stored in one tensor, which no layout of the runtimes holds",
            Self::Linear | Self::Convolution | Self::Recurrent => "left alone",
        }
    }
}

/// A tensor seen as a matrix: rows are outputs, columns are inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// What it is.
    pub kind: LayerKind,
    /// Its leading extent, 1 for scalars: the rows of the matrix as stored.
    pub rows: usize,
    /// All other extents multiplied: the columns of the matrix as stored.
    pub columns: usize,
}

/// What the table needs to know of the model.
#[derive(Clone, Debug, Default)]
pub struct Model {
    model_type: String,
    tied: HashSet<String>,
}

impl Model {
    /// Reads what the table needs from a header.
    ///
    /// # Errors
    /// When the config is no JSON object.
    pub fn of(header: &Header) -> Result<Self> {
        let config = header.config()?.unwrap_or_default();
        let model_type = config.get("model_type").and_then(|v| v.as_str()).unwrap_or_default().to_owned();
        let ties_embeddings = config.get("tie_word_embeddings").and_then(serde_json::Value::as_bool).unwrap_or(false);
        let names: HashSet<&str> = header.tensors.iter().map(|t| t.name.as_str()).collect();
        let mut tied = HashSet::new();
        for tensor in &header.tensors {
            let kind = kind_of(tensor, &model_type);
            let is_input_embedding = kind == LayerKind::Embedding
                && ["embed_tokens", "wte", "word_embeddings", "tok_embeddings", "shared", "embed_in"]
                    .iter()
                    .any(|part| tensor.name.split('.').any(|c| c == *part));
            let is_output_embedding =
                kind == LayerKind::Head && ["lm_head", "embed_out", "output"].contains(&module_leaf(&tensor.name));
            if ties_embeddings && (is_input_embedding || is_output_embedding) {
                tied.insert(tensor.name.clone());
            }
        }
        // `save_model` drops one of two tensors that share storage and records `dropped -> kept`.
        for (dropped, kept) in &header.metadata {
            if names.contains(kept.as_str()) && !names.contains(dropped.as_str()) && dropped.contains('.') {
                tied.insert(kept.clone());
            }
        }
        Ok(Self { model_type, tied })
    }

    /// What a tensor is, and its matrix.
    pub fn layer(&self, tensor: &TensorInfo) -> Layer {
        let rows = tensor.shape.first().copied().unwrap_or(1);
        // A tensor of no rows may claim any columns.
        let columns = tensor.shape.iter().skip(1).fold(1, |all: usize, &dim| all.saturating_mul(dim));
        Layer { kind: kind_of(tensor, &self.model_type), rows, columns }
    }

    /// Whether another tensor of the model is this one under another name.
    pub fn is_tied(&self, name: &str) -> bool {
        self.tied.contains(name)
    }
}

/// The last component of the module's path (`fc1` of `net.fc1.weight`).
fn module_leaf(name: &str) -> &str {
    let mut parts = name.rsplit('.');
    parts.next();
    parts.next().unwrap_or("")
}

/// Components that make any tensor below them a fixed transform.
const FIXED: [&str; 10] =
    ["stft", "dft", "mel_basis", "mel_filter", "mel_scale", "filterbank", "inv_freq", "rotary", "sinusoid", "dct"];
/// Parts of a component that make a matrix below it an embedding…
const EMBEDDING: [&str; 5] = ["embed", "wte", "wpe", "relative_attention_bias", "relative_position_bias_table"];
/// …unless the component also says one of these.
const NO_EMBEDDING: [&str; 4] = ["proj", "mapping", "dense", "out"];
/// Module names of output heads at any depth.
const HEADS: [&str; 7] = ["lm_head", "embed_out", "pooler", "qa_outputs", "score", "cls", "classifier"];
/// Module names of output heads when nothing else stands in the path (`head.weight`, `heads.head.weight`).
const TOP_HEADS: [&str; 6] = ["fc", "_fc", "head", "heads", "output", "logits"];
/// Architectures whose linear layers are stored `[in, out]`, and the modules concerned.
const TRANSPOSED_MODELS: [&str; 3] = ["gpt2", "openai-gpt", "imagegpt"];
const TRANSPOSED_MODULES: [&str; 4] = ["c_attn", "c_proj", "c_fc", "q_attn"];

fn kind_of(tensor: &TensorInfo, model_type: &str) -> LayerKind {
    if !is_weight_float(tensor.dtype) {
        return LayerKind::Buffer;
    }
    let name = tensor.name.to_ascii_lowercase();
    let components: Vec<&str> = name.split('.').collect();
    let parameter = components.last().copied().unwrap_or("");
    let leaf = module_leaf(&name);
    let rank = tensor.shape.len();
    if components.iter().any(|c| FIXED.iter().any(|f| c.contains(f))) {
        return LayerKind::FixedTransform;
    }
    if rank < 2 {
        let is_bias = parameter == "bias" || parameter.starts_with("bias_") || parameter.ends_with("_bias");
        return if is_bias { LayerKind::Bias } else { LayerKind::Norm };
    }
    if components.iter().rev().take(2).any(|c| c.contains("norm") || *c == "bn" || c.starts_with("ln_")) {
        return LayerKind::Norm;
    }
    let is_recurrent = ["weight_ih", "weight_hh", "w_ih", "w_hh", "weight_hr"]
        .iter()
        .any(|p| parameter.starts_with(p) || parameter.ends_with(&format!("_{p}")));
    if is_recurrent && rank == 2 {
        return LayerKind::Recurrent;
    }
    if rank == 2 && is_embedding(parameter, leaf) {
        return LayerKind::Embedding;
    }
    if rank == 3 && (components.contains(&"experts") || leaf.contains("experts") || parameter.contains("experts")) {
        return LayerKind::Expert;
    }
    if parameter != "weight" {
        return LayerKind::Unknown;
    }
    let modules = &components[..components.len() - 1];
    let is_top_head = !modules.is_empty() && modules.iter().all(|c| TOP_HEADS.contains(c));
    if is_top_head || components.iter().any(|c| HEADS.contains(c)) {
        return LayerKind::Head;
    }
    match rank {
        2 if TRANSPOSED_MODELS.contains(&model_type) && TRANSPOSED_MODULES.contains(&leaf) => {
            LayerKind::TransposedLinear
        }
        2 => LayerKind::Linear,
        3..=5 if components.iter().any(|c| is_transposed_convolution(c)) => LayerKind::TransposedConvolution,
        3..=5 => LayerKind::Convolution,
        _ => LayerKind::Unknown,
    }
}

fn is_embedding(parameter: &str, leaf: &str) -> bool {
    let component = if parameter == "weight" { leaf } else { parameter };
    let says = |words: &[&str]| words.iter().any(|w| component.contains(w));
    (says(&EMBEDDING) && !says(&NO_EMBEDDING))
        || component == "shared"
        || component == "emb"
        || component.ends_with("_emb")
}

fn is_transposed_convolution(component: &str) -> bool {
    ["deconv", "conv_transpose", "convtranspose", "conv_t", "upconv"].iter().any(|p| component.starts_with(p))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;

    fn kind(name: &str, shape: &[usize]) -> LayerKind {
        kind_of(&TensorInfo::new(name, Dtype::F32, shape), "")
    }

    #[test]
    fn bert_layers_are_told_apart() {
        assert_eq!(kind("encoder.layer.0.attention.self.query.weight", &[4, 4]), LayerKind::Linear);
        assert_eq!(kind("encoder.layer.0.attention.output.dense.weight", &[4, 4]), LayerKind::Linear);
        assert_eq!(kind("encoder.layer.0.output.LayerNorm.weight", &[4]), LayerKind::Norm);
        assert_eq!(kind("encoder.layer.0.output.dense.bias", &[4]), LayerKind::Bias);
        assert_eq!(kind("embeddings.word_embeddings.weight", &[9, 4]), LayerKind::Embedding);
        assert_eq!(kind("pooler.dense.weight", &[4, 4]), LayerKind::Head);
    }

    #[test]
    fn llama_layers_are_told_apart() {
        assert_eq!(kind("model.embed_tokens.weight", &[9, 4]), LayerKind::Embedding);
        assert_eq!(kind("model.layers.0.mlp.gate_proj.weight", &[8, 4]), LayerKind::Linear);
        assert_eq!(kind("lm_head.weight", &[9, 4]), LayerKind::Head);
        assert_eq!(kind("fc.weight", &[9, 4]), LayerKind::Head);
        assert_eq!(kind("fc.up.weight", &[9, 4]), LayerKind::Linear);
    }

    #[test]
    fn silero_layers_are_told_apart() {
        assert_eq!(kind("stft_conv.weight", &[258, 1, 256]), LayerKind::FixedTransform);
        assert_eq!(kind("conv1.weight", &[128, 129, 3]), LayerKind::Convolution);
        assert_eq!(kind("lstm_cell.weight_ih", &[512, 128]), LayerKind::Recurrent);
        assert_eq!(kind("lstm_cell.bias_ih", &[512]), LayerKind::Bias);
    }

    #[test]
    fn names_outside_the_table_are_unknown() {
        assert_eq!(kind("something", &[3, 5]), LayerKind::Unknown);
        assert_eq!(kind("enc_w_ih", &[6, 5]), LayerKind::Recurrent);
        assert_eq!(kind("enc_emb", &[29, 256]), LayerKind::Embedding);
    }

    #[test]
    fn gpt2_stores_its_linear_layers_transposed() {
        let tensor = TensorInfo::new("h.0.attn.c_attn.weight", Dtype::F32, [4, 12]);
        assert_eq!(kind_of(&tensor, "gpt2"), LayerKind::TransposedLinear);
        assert_eq!(kind_of(&tensor, "llama"), LayerKind::Linear);
    }
}
