//! Mean activation: channels that put out little go first.
//!
//! `s(k) = mean over samples and places of |a[k]|`, behind the layer's activation. Source: Molchanov et al., 2017,
//! arXiv:1611.06440, section 2.2; magnitudes, so that functions with negative values count too.

use super::{Looks, Salience};

pub(super) const MEAN_ACTIVATION: Salience = Salience {
    name: "mean-activation",
    summary: "channels that put out little go first",
    source: "Molchanov et al. 2017, arXiv 1611.06440",
    looks: Looks::Activations { score: f64::abs },
};
