//! Fisher: channels whose removal changes the loss least go first, to second order, with the diagonal of the Fisher
//! information in the place of the Hessian.
//!
//! `s(k) = 1/2 mean over samples of (sum over w of g w)^2`, with `w` the weights that take channel `k` in and `g` the gradient
//! of one sample's loss. Source: LeCun et al., 1990 (Optimal Brain Damage); Theis et al., 2018, arXiv:1801.05787.

use super::{Looks, Salience};

pub(super) const FISHER: Salience = Salience {
    name: "fisher",
    summary: "channels whose removal changes the loss least go first, to second order",
    source: "LeCun et al. 1990; Theis et al. 2018, arXiv 1801.05787",
    looks: Looks::Gradients { of_samples: true, factor: 0.5 },
};
