//! The hot loops of dlopt on plain slices.
