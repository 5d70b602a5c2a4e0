//! The metrics against scikit-learn, scipy and statsmodels, on odd inputs, and as pictures.

mod edges;
mod golden;
mod pictures;
mod properties;
