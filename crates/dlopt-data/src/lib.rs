//! Datasets of dlopt: raw data to dataset files, and batches out of them.
//!
//! A dataset is a safetensors file, or a folder of shards with an index, that holds `inputs` (`[samples, …]`), `labels`
//! (class numbers) or `targets` (`[samples, outputs]`), for mixed samples `shares` of the classes (`[samples, classes]`)
//! beside `labels`, for series of different lengths `lengths`, and in its metadata what the elements mean
//! ([`DatasetInfo`]). Elements are stored raw (`u8` stays `u8`); scale, mean and deviation are applied when a batch is
//! gathered.

mod change;
mod clean;
mod convert;
mod dataset;
mod features;
mod info;
mod intake;
mod loader;
mod memory;
pub mod options;
mod order;
mod ordered;
mod pipeline;
mod prepare;
mod raw;
mod readers;
mod sequences;
mod sound;
mod spool;
mod step;
mod steps;
mod survey;

pub use change::{Change, Changed, Changes};
pub use clean::{Action, CleanOptions, Finding, Problem, Rule};
pub use dataset::{Batch, Dataset, Parts};
pub use features::{FEATURES, Feature, FeatureKind, FitFeature};
pub use info::{DATASET_KEY, DatasetInfo, Elements, Learns, Preprocessing, RawInput, SourceFile, Standardise};
pub use intake::{Each, Intake, Taken};
pub use loader::{Loader, batches};
pub use memory::available_memory_bytes;
pub use order::epoch_order;
pub use ordered::ordered;
pub use pipeline::{Pipeline, StepSpec};
pub use prepare::{PrepareOptions, PrepareReport, Scale, SplitReport, Thumbnail, prepare};
pub use raw::{Image, Raw, Series, Values};
pub use readers::{Format, Kind, ReadOptions, Unit, formats, read_picture, read_sound};
pub use step::{FitStep, Step, StepKind, Vocabulary};
pub use steps::split::SplitOptions;
pub use steps::standardise::Constant;
pub use steps::{STEPS, features_spec};
pub use survey::{ChannelReport, DatasetSurvey, LengthReport};
