//! Networks that give one answer a sample: classes, yes or no, numbers.

use std::ops::Range;
use std::path::Path;

use dlopt_checkpoint::{Dtype, Header, Result, TensorInfo, write_file};
use dlopt_data::Dataset;
use dlopt_metrics::{Options, binary, classification, paired, paired_regression, regression};
use dlopt_model::ModelConfig;

use super::run::{Opened, Run};
use super::{Job, Measured, Metrics, Paired, draw};

/// What is true of the samples.
pub(super) struct Truth {
    pub(super) labels: Vec<u32>,
    targets: Vec<f32>,
    pub(super) names: Vec<String>,
}

/// A network and what it put out, `[samples, outputs]`.
pub(super) struct Said {
    pub(super) run: Run,
    pub(super) outputs: Vec<f32>,
}

pub(super) fn measured(job: &Job<'_>) -> Result<Measured> {
    let own = said(job, &job.args.model)?;
    let other = job.args.against.as_deref().map(|path| said(job, path)).transpose()?;
    let truth = Truth::of(job.dataset, &job.samples);
    let metrics = metrics(&own, &truth, &job.options)?;
    let model = own.run.report(metrics);
    let against = match &other {
        Some(other) => Some(other.run.report(self::metrics(other, &truth, &job.options)?)),
        None => None,
    };
    let paired = other.as_ref().map(|other| compared(other, &own, &truth, &job.options)).transpose()?;
    draw::draw(job, &own, &model, &truth)?;
    if let Some(path) = &job.args.predictions {
        write_predictions(path, &own, &truth, job.args.force)?;
    }
    Ok(Measured { model, against, paired, runs: std::iter::once(own).chain(other).map(|said| said.run).collect() })
}

/// Loads a network and runs it over the samples.
fn said(job: &Job<'_>, path: &Path) -> Result<Said> {
    let opened = Opened::new(job, path)?;
    let mut engine = opened.engine(job)?;
    let (outputs, run) = opened.repeated(job, |opened| {
        let mut all = Vec::with_capacity(job.samples.len() * opened.loaded.config.outputs);
        opened.each_batch(job, &mut engine, |_, outputs| {
            all.extend_from_slice(outputs);
            Ok(())
        })?;
        Ok(all)
    })?;
    Ok(Said { run, outputs })
}

impl Truth {
    fn of(dataset: &Dataset, samples: &Range<usize>) -> Self {
        match dataset.targets() {
            Some(targets) => {
                let width = dataset.outputs();
                let targets = targets[samples.start * width..samples.end * width].to_vec();
                Self { labels: Vec::new(), targets, names: dataset.info().outputs.clone() }
            }
            None => {
                let labels = dataset.labels()[samples.clone()].to_vec();
                Self { labels, targets: Vec::new(), names: dataset.classes().to_vec() }
            }
        }
    }

    fn is_yes_or_no(&self) -> bool {
        !self.targets.is_empty() && self.targets.iter().all(|t| *t == 0.0 || *t == 1.0)
    }
}

/// Whether a network was trained to say yes or no.
pub(in crate::verbs) fn says_yes_or_no(config: &ModelConfig) -> bool {
    config.training["settings"]["loss"]["name"] == "binary-cross-entropy"
}

fn metrics(said: &Said, truth: &Truth, options: &Options) -> Result<Metrics> {
    let config = &said.run.loaded.config;
    let outputs = config.outputs;
    Ok(if truth.targets.is_empty() {
        Metrics::Classification(Box::new(classification(&said.outputs, outputs, &truth.labels, &truth.names, options)?))
    } else if says_yes_or_no(config) && truth.is_yes_or_no() {
        Metrics::Binary(binary(&said.outputs, outputs, &truth.targets, &truth.names, options)?)
    } else {
        Metrics::Regression(regression(&said.outputs, outputs, &truth.targets, &truth.names, options)?)
    })
}

fn compared(first: &Said, second: &Said, truth: &Truth, options: &Options) -> Result<Paired> {
    let outputs = second.run.loaded.config.outputs;
    Ok(if truth.targets.is_empty() {
        Paired::Classification(Box::new(paired(&first.outputs, &second.outputs, outputs, &truth.labels, options)?))
    } else {
        Paired::Regression(paired_regression(&first.outputs, &second.outputs, outputs, &truth.targets, options)?)
    })
}

/// `outputs` `[samples, outputs]`, and `predicted` and `labels` `[samples]` or `targets` `[samples, outputs]`.
fn write_predictions(path: &Path, said: &Said, truth: &Truth, force: bool) -> Result<()> {
    let width = said.run.loaded.config.outputs;
    let rows = said.outputs.len() / width.max(1);
    let floats = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let numbers = |values: &[u32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let mut header = Header::default();
    header.metadata.insert("format".to_owned(), "pt".to_owned());
    let mut tensors = vec![floats(&said.outputs)];
    header.tensors.push(TensorInfo::new("outputs", Dtype::F32, [rows, width]));
    if truth.targets.is_empty() {
        let mut predicted = vec![0; rows];
        dlopt_kernels::nn::argmax_rows(rows, width, &said.outputs, &mut predicted);
        header.tensors.push(TensorInfo::new("predicted", Dtype::U32, [rows]));
        header.tensors.push(TensorInfo::new("labels", Dtype::U32, [rows]));
        tensors.extend([numbers(&predicted), numbers(&truth.labels)]);
    } else {
        header.tensors.push(TensorInfo::new("targets", Dtype::F32, [rows, width]));
        tensors.push(floats(&truth.targets));
    }
    write_file(path, &header, &tensors, force)
}
