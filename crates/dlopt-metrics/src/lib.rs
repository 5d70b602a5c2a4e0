//! What a model is worth: metrics with intervals, paired tests, and their pictures.
