//! What a pass did, for people and for programs.

use serde::{Deserialize, Serialize};

use crate::pass::{Note, RowReport};

/// What a pass did to one tensor.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TensorReport {
    /// The tensor.
    pub tensor: String,
    /// Weights in it.
    pub weights: u64,
    /// Its bytes in the input.
    pub bytes_before: u64,
    /// Its bytes in the output, scales and zero points included.
    pub bytes_after: u64,
    /// Share of zeros in the input, 0..=1.
    pub sparsity_before: f64,
    /// Share of zeros in the output, 0..=1.
    pub sparsity_after: f64,
    /// Sum of squares of the weights.
    pub signal: f64,
    /// Sum of squares of the changes.
    pub noise: f64,
    /// Signal over noise in dB; absent when nothing changed.
    pub sqnr_db: Option<f64>,
    /// Frobenius norm of the change over that of the weights.
    pub relative_error: f64,
    /// Largest absolute change.
    pub max_error: f32,
    /// Squared error of the plain method, where a better one was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain_noise: Option<f64>,
    /// Weights that were zero.
    pub zeros_before: u64,
    /// Weights that are zero now.
    pub zeros_after: u64,
}

impl TensorReport {
    /// Adds a row. Rows must come in order, so that the sums are the same at any block size.
    pub fn add(&mut self, row: &RowReport) {
        self.weights += row.weights;
        self.zeros_before += row.zeros_before;
        self.zeros_after += row.zeros_after;
        self.signal += row.signal;
        self.noise += row.noise;
        self.max_error = self.max_error.max(row.max_error);
        if let Some(plain) = row.plain_noise {
            *self.plain_noise.get_or_insert(0.0) += plain;
        }
    }

    /// Works out the derived figures.
    pub fn finish(&mut self) {
        let share = |zeros: u64| if self.weights == 0 { 0.0 } else { zeros as f64 / self.weights as f64 };
        self.sparsity_before = share(self.zeros_before);
        self.sparsity_after = share(self.zeros_after);
        self.sqnr_db = sqnr_db(self.signal, self.noise);
        self.relative_error = relative_error(self.signal, self.noise);
    }

    /// Adds another tensor's sums, for totals.
    pub fn add_tensor(&mut self, other: &Self) {
        self.weights += other.weights;
        self.bytes_before += other.bytes_before;
        self.bytes_after += other.bytes_after;
        self.zeros_before += other.zeros_before;
        self.zeros_after += other.zeros_after;
        self.signal += other.signal;
        self.noise += other.noise;
        self.max_error = self.max_error.max(other.max_error);
        if let Some(plain) = other.plain_noise {
            *self.plain_noise.get_or_insert(0.0) += plain;
        }
    }
}

/// Signal to quantization noise ratio in dB, from sums of squares; absent when there is no noise.
pub fn sqnr_db(signal: f64, noise: f64) -> Option<f64> {
    (noise > 0.0).then(|| 10.0 * (signal / noise).log10())
}

/// Frobenius norm of the change over that of the weights; 0 when nothing changed.
pub fn relative_error(signal: f64, noise: f64) -> f64 {
    if noise == 0.0 { 0.0 } else { (noise / signal).sqrt() }
}

/// What one pass did.
#[derive(Clone, Debug, Serialize)]
pub struct PassReport {
    /// Its verb.
    pub verb: String,
    /// Its resolved options.
    pub options: serde_json::Value,
    /// Bytes of all tensors it read.
    pub bytes_before: u64,
    /// Bytes of all tensors it wrote.
    pub bytes_after: u64,
    /// Sums over the tensors it worked on.
    pub total: TensorReport,
    /// Bits that a weight it worked on takes in the output, scales and zero points included.
    pub bits_per_weight: f64,
    /// Each tensor it worked on.
    pub tensors: Vec<TensorReport>,
    /// Why each tensor was treated as it was.
    pub notes: Vec<Note>,
    /// What people should know before they use the result.
    pub warnings: Vec<String>,
    /// A gate that was not met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
}
