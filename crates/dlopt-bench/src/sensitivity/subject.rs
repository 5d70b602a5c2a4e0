//! A network and the samples that it is watched on.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use dlopt_checkpoint::{Checkpoint, Error, Result};
use dlopt_data::{Dataset, Learns};
use dlopt_kernels::nn::Team;
use dlopt_model::{Loaded, load, stored_names};
use dlopt_train::{Engine, check_learns, check_preprocessing, check_shape, check_vocabulary};

/// A network, whose tensors are changed one at a time, and samples.
pub(super) struct Subject {
    pub(super) loaded: Loaded,
    pub(super) engine: Engine,
    pub(super) dataset: Arc<Dataset>,
    pub(super) samples: Range<usize>,
    /// For each tensor of the checkpoint, where each of its values lies among the weights.
    places: HashMap<String, Vec<Option<u32>>>,
}

impl Subject {
    /// Opens a network for the first `most` samples of a split.
    pub(super) fn open(
        checkpoint: &Checkpoint,
        dataset: Dataset,
        split: &str,
        most: usize,
        team: &Arc<Team>,
    ) -> Result<Self> {
        let loaded = load(checkpoint)?;
        check_shape(&loaded.config, &checkpoint.name, &dataset)?;
        check_vocabulary(&loaded.nodes, &dataset)?;
        check_preprocessing(&loaded.config, &checkpoint.name, &dataset)?;
        check_learns(&loaded.nodes, &dataset)?;
        let is_per_step = dataset.info().learns != Learns::Sample;
        if loaded.config.outputs != dataset.outputs() || loaded.config.is_per_step != is_per_step {
            return Err(Error::input(format!(
                "{}: has {} outputs{}, and {} asks for {}{}",
                checkpoint.name,
                loaded.config.outputs,
                if loaded.config.is_per_step { " at every step" } else { "" },
                dataset.name(),
                dataset.outputs(),
                if is_per_step { " at every step" } else { "" },
            )));
        }
        let whole = dataset.split(split)?;
        let samples = whole.start..whole.end.min(whole.start.saturating_add(most));
        let engine = Engine::new("cpu", &loaded.nodes, &loaded.layout, &[], Arc::clone(team))?;
        let names = stored_names(checkpoint, &loaded.layout)?;
        let trained = loaded.layout.tensors().iter().zip(names).filter(|(tensor, _)| tensor.is_trained);
        let places = trained.zip(loaded.layout.places()).filter_map(|((_, name), places)| Some((name?, places)));
        let places = places.collect();
        Ok(Self { loaded, engine, dataset: Arc::new(dataset), samples, places })
    }

    /// The weights with the values of some tensors replaced, by name.
    pub(super) fn with(&self, changed: &[(&str, &[f32])]) -> Result<Vec<f32>> {
        let mut params = self.loaded.params.clone();
        for (name, values) in changed {
            let places = self.places.get(*name).filter(|places| places.len() == values.len()).ok_or_else(|| {
                Error::input(format!("tensor `{name}` is none of the network's trained ones"))
                    .hint("--exclude leaves it out")
            })?;
            for (place, value) in places.iter().zip(*values) {
                if let Some(place) = place {
                    params[*place as usize] = *value;
                }
            }
        }
        Ok(params)
    }
}
