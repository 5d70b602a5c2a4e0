//! Taylor: channels whose removal changes the loss least go first, to first order.
//!
//! `s(w) = mean over batches of (g w)^2`, with `g` the gradient of the batch's mean loss. Source: Molchanov et al., 2019,
//! arXiv:1906.10771, equation 8.

use super::{Looks, Salience};

pub(super) const TAYLOR: Salience = Salience {
    name: "taylor",
    summary: "channels whose removal changes the loss least go first, to first order",
    source: "Molchanov et al. 2019, arXiv 1906.10771",
    looks: Looks::Gradients { of_samples: false, score: |gradient, weight| (gradient * weight).powi(2) },
};
