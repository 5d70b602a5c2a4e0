//! APoZ, the average percentage of zeros: channels that are silent most often go first.
//!
//! `s(k) = share of samples and places where a[k] > 0`, behind the layer's activation: 1 - APoZ. Source: Hu et al., 2016,
//! arXiv:1607.03250, equation 1.

use super::{Looks, Salience};

pub(super) const APOZ: Salience = Salience {
    name: "apoz",
    summary: "channels that are zero most often go first",
    source: "Hu et al. 2016, arXiv 1607.03250",
    looks: Looks::Activations { score: |value| f64::from(u8::from(value > 0.0)) },
};
