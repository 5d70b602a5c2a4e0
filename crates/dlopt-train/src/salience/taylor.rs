//! Taylor: channels whose removal changes the loss least go first, to first order.
//!
//! `s(k) = mean over batches of (sum over w of g w)^2`, with `w` the weights that take channel `k` in and `g` the gradient of
//! the batch's mean loss. Source: Molchanov et al., 2019, arXiv:1906.10771, their gate.

use super::{Looks, Salience};

pub(super) const TAYLOR: Salience = Salience {
    name: "taylor",
    summary: "channels whose removal changes the loss least go first, to first order",
    source: "Molchanov et al. 2019, arXiv 1906.10771",
    looks: Looks::Gradients { of_samples: false, factor: 1.0 },
};
