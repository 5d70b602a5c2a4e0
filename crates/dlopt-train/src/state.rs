//! All that a training knows at an instant, as one file: what a killed run goes on from.
//!
//! Floats are kept as their bits. The file is a safetensors file like any other, with what is no vector in its metadata
//! under `dlopt.training`.

use std::path::Path;

use dlopt_checkpoint::{Checkpoint, Dtype, Error, Header, Result, TensorInfo, Tensors};
use dlopt_metrics::EpochRecord;
use serde::{Deserialize, Serialize};

use crate::schedule::PlateauState;

const KEY: &str = "dlopt.training";

/// A float as its bits: JSON may round, this may not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Exact(u64);

impl From<f64> for Exact {
    fn from(value: f64) -> Self {
        Self(value.to_bits())
    }
}

impl From<Exact> for f64 {
    fn from(exact: Exact) -> Self {
        Self::from_bits(exact.0)
    }
}

/// Sums over the batches of the epoch so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sums {
    pub(crate) loss: Exact,
    pub(crate) weight: Exact,
    /// Samples or tokens that were right, and of how many.
    pub(crate) right: u64,
    pub(crate) of: u64,
    pub(crate) milliseconds: u64,
}

/// What is no vector.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// What the run was asked: settings, model, data, first weights, as JSON text. Another text refuses to go on.
    pub(crate) run: String,
    /// Whole epochs done.
    pub(crate) epoch: usize,
    /// Updates done in this epoch.
    pub(crate) epoch_step: u64,
    /// Updates done in all.
    pub(crate) step: u64,
    pub(crate) sums: Sums,
    pub(crate) plateau: PlateauState,
    /// The lowest validation loss, and the epoch (from 1) that had it.
    pub(crate) best: Option<(Exact, usize)>,
    /// Epochs since the best one.
    pub(crate) waited: usize,
    /// Whether early stopping ended the run.
    pub(crate) is_finished: bool,
    pub(crate) history: Vec<EpochRecord>,
}

/// The state of a training.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) facts: Facts,
    pub(crate) weights: Vec<f32>,
    pub(crate) buffers: Vec<f32>,
    pub(crate) moments: Vec<Vec<f32>>,
    /// The running average of the weights.
    pub(crate) average: Option<Vec<f32>>,
    /// Weights and statistics of the best epoch.
    pub(crate) best: Option<(Vec<f32>, Vec<f32>)>,
    /// What extensions keep: number of the extension, name, values.
    pub(crate) extensions: Vec<(usize, String, Vec<f32>)>,
}

impl State {
    /// Writes the state and the folder for it; the file appears whole or not at all.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            dlopt_checkpoint::make_folder(folder)?;
        }
        let mut named: Vec<(String, &[f32])> =
            vec![("weights".to_owned(), &self.weights), ("buffers".to_owned(), &self.buffers)];
        for (index, moment) in self.moments.iter().enumerate() {
            named.push((format!("moment.{index}"), moment));
        }
        if let Some(average) = &self.average {
            named.push(("average".to_owned(), average));
        }
        if let Some((weights, buffers)) = &self.best {
            named.push(("best.weights".to_owned(), weights));
            named.push(("best.buffers".to_owned(), buffers));
        }
        for (index, name, values) in &self.extensions {
            named.push((format!("extension.{index}.{name}"), values));
        }
        let mut header = Header::default();
        let facts = serde_json::to_string(&self.facts).expect("facts are strings, numbers and lists of them");
        header.metadata.insert(KEY.to_owned(), facts);
        let mut bytes = Vec::with_capacity(named.len());
        for (name, values) in named {
            header.tensors.push(TensorInfo::new(name, Dtype::F32, [values.len()]));
            bytes.push(values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
        }
        dlopt_checkpoint::write_file(path, &header, &bytes, true)
    }

    /// Reads a state back.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let wrong = |what: &str| {
            Error::input(format!("{name}: {what}")).hint("remove the folder to begin again, or name the right OUT")
        };
        let checkpoint = Checkpoint::open(path)?;
        let text = checkpoint.header.metadata.get(KEY).ok_or_else(|| wrong("not the state of a training"))?;
        let facts: Facts = serde_json::from_str(text).map_err(|e| wrong(&format!("the state cannot be read: {e}")))?;
        let mut state = Self { facts, ..Self::default() };
        let (mut best_weights, mut best_buffers) = (None, None);
        for (index, tensor) in checkpoint.header.tensors.iter().enumerate() {
            if tensor.dtype != Dtype::F32 {
                return Err(wrong(&format!("tensor `{}` is not F32", tensor.name)));
            }
            let mut bytes = vec![0; tensor.elements() * 4];
            checkpoint.read(index, 0, &mut bytes)?;
            let values: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            match tensor.name.as_str() {
                "weights" => state.weights = values,
                "buffers" => state.buffers = values,
                "average" => state.average = Some(values),
                "best.weights" => best_weights = Some(values),
                "best.buffers" => best_buffers = Some(values),
                name => {
                    if name.starts_with("moment.") {
                        state.moments.push(values);
                    } else if let Some((index, name)) =
                        name.strip_prefix("extension.").and_then(|rest| rest.split_once('.'))
                        && let Ok(index) = index.parse()
                    {
                        state.extensions.push((index, name.to_owned(), values));
                    } else {
                        return Err(wrong(&format!("tensor `{name}` is no part of a state")));
                    }
                }
            }
        }
        state.best = best_weights.zip(best_buffers);
        Ok(state)
    }
}
