//! The metrics against scikit-learn, scipy and statsmodels, on odd inputs, and as pictures.
#![allow(clippy::unwrap_used)]

mod edges;
mod golden;
mod pictures;
mod properties;
mod sequences;
