//! Datasets: raw data to dataset files, and batches out of them.
