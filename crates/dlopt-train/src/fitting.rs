//! Data for a network that is there.

use std::path::Path;

use dlopt_checkpoint::{Error, Result};
use dlopt_data::{Dataset, Learns};
use dlopt_model::Loaded;

use crate::setup::{check_learns, check_preprocessing, check_shape, check_vocabulary, use_own_preprocessing};

/// Opens a dataset for the network of the checkpoint `name`. With `uses_own`, the scale and statistics of the checkpoint take
/// the place of those of the data.
///
/// # Errors
/// When it cannot be read, or the network takes or puts out something else; both are named.
pub fn open_fitting(loaded: &Loaded, name: &str, path: &Path, uses_own: bool) -> Result<Dataset> {
    let mut dataset = Dataset::open(path)?;
    check_shape(&loaded.config, name, &dataset)?;
    check_vocabulary(&loaded.nodes, &dataset)?;
    if uses_own {
        use_own_preprocessing(&loaded.config, name, &mut dataset)?;
    }
    check_preprocessing(&loaded.config, name, &dataset)?;
    check_learns(&loaded.nodes, &dataset)?;
    if loaded.config.outputs != dataset.outputs() {
        return Err(Error::input(format!(
            "{name}: has {} outputs, and {} asks for {}",
            loaded.config.outputs,
            dataset.name(),
            dataset.outputs()
        )));
    }
    let learns_steps = dataset.info().learns != Learns::Sample;
    if loaded.config.is_per_step != learns_steps {
        return Err(Error::input(format!(
            "{name}: {} at every step, and {} {} tokens to learn",
            if learns_steps { "scores no tokens" } else { "scores tokens" },
            dataset.name(),
            if learns_steps { "has" } else { "has no" }
        )));
    }
    Ok(dataset)
}
