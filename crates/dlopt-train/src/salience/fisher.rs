//! Fisher: channels whose removal changes the loss least go first, to second order, with the diagonal of the Fisher
//! information in the place of the Hessian.
//!
//! `s(w) = 1/2 w^2 mean over samples of g^2`, with `g` the gradient of one sample's loss. Source: LeCun et al., 1990 (Optimal
//! Brain Damage); Theis et al., 2018, arXiv:1801.05787, equation 6.

use super::{Looks, Salience};

pub(super) const FISHER: Salience = Salience {
    name: "fisher",
    summary: "channels whose removal changes the loss least go first, to second order",
    source: "LeCun et al. 1990; Theis et al. 2018, arXiv 1801.05787",
    looks: Looks::Gradients { of_samples: true, score: |gradient, weight| 0.5 * (gradient * weight).powi(2) },
};
