//! Networks that give one answer a sample: classes, yes or no, numbers.

use std::ops::Range;
use std::path::Path;

use dlopt_checkpoint::{Dtype, Header, Result, TensorInfo, write_file};
use dlopt_data::Dataset;
use dlopt_metrics::{
    Options, OutputKind, binary, classification, paired, paired_regression, paired_robustness, regression, robustness,
};
use dlopt_model::ModelConfig;

use super::corrupt::{self, Under};
use super::run::{Opened, Run};
use super::tta::{Averaged, Copies};
use super::{Job, Measured, Metrics, ModelReport, Paired, draw};

/// What is true of the samples.
pub(super) struct Truth {
    pub(super) labels: Vec<u32>,
    targets: Vec<f32>,
    pub(super) names: Vec<String>,
}

/// A network and what it put out, `[samples, outputs]`.
pub(super) struct Said {
    pub(super) run: Run,
    /// Of the samples as they are, or the mean over their copies too.
    pub(super) outputs: Vec<f32>,
    averaged: Option<Averaged>,
    under: Option<Under>,
}

pub(super) fn measured(job: &Job<'_>) -> Result<Measured> {
    let truth = Truth::of(job.dataset, &job.samples);
    let own = said(job, &job.args.model, &truth)?;
    let other = job.args.against.as_deref().map(|path| said(job, path, &truth)).transpose()?;
    let model = report(&own, &truth, &job.options)?;
    let against = other.as_ref().map(|other| report(other, &truth, &job.options)).transpose()?;
    let paired = other
        .as_ref()
        .map(|other| compared(&other.outputs, &own.outputs, own.outputs_each(), &truth, &job.options))
        .transpose()?;
    let paired_corruption = match (other.as_ref().and_then(|other| other.under.as_ref()), &own.under) {
        (Some(first), Some(second)) => Some(paired_robustness(first.parts(), second.parts(), &job.options)?),
        _ => None,
    };
    draw::draw(job, &own, &model, against.as_ref(), &truth)?;
    if let Some(path) = &job.args.predictions {
        write_predictions(path, &own, &truth, job.args.force)?;
    }
    let runs = std::iter::once(own).chain(other).map(|said| said.run).collect();
    Ok(Measured { model, against, paired, paired_corruption, runs })
}

/// Loads a network and runs it over the samples.
fn said(job: &Job<'_>, path: &Path, truth: &Truth) -> Result<Said> {
    let opened = Opened::new(job, path)?;
    let copies = job.args.tta.map(|count| Copies::new(job, &opened, count)).transpose()?;
    let changes = if job.args.corrupt { corrupt::changes(job, &opened, truth)? } else { Vec::new() };
    let mut engine = opened.engine(job)?;
    let (mut outputs, rates) = opened.repeated(job, |opened| {
        let mut all = Vec::with_capacity(job.samples.len() * opened.loaded().config.outputs);
        opened.each_batch(job, &mut engine, |_, outputs| {
            all.extend_from_slice(outputs);
            Ok(())
        })?;
        Ok(all)
    })?;
    let averaged = match copies {
        Some(copies) => {
            let mean = copies.mean(job, &opened, &mut engine, truth.kind(&opened.loaded().config), &outputs)?;
            Some(Averaged { copies, plain: std::mem::replace(&mut outputs, mean) })
        }
        None => None,
    };
    let under = match job.args.corrupt {
        true => Some(corrupt::run(job, &opened, &mut engine, changes, (&outputs, &truth.labels))?),
        false => None,
    };
    Ok(Said { run: opened.into_run(rates), outputs, averaged, under })
}

/// What the network is worth, and what copies and corruptions change of it.
fn report(said: &Said, truth: &Truth, options: &Options) -> Result<ModelReport> {
    let config = &said.run.loaded().config;
    let mut report = said.run.report(metrics(&said.outputs, config, truth, options)?);
    if let Some(averaged) = &said.averaged {
        let plain = metrics(&averaged.plain, config, truth, options)?;
        let paired = compared(&averaged.plain, &said.outputs, said.outputs_each(), truth, options)?;
        report.tta = Some(averaged.copies.report(options.seed, plain, paired));
    }
    if let Some(under) = &said.under {
        let (clean, corrupted) = under.parts();
        report.corruption = Some(robustness(clean, corrupted, options)?);
    }
    Ok(report)
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

    /// What the outputs of a network are.
    pub(super) fn kind(&self, config: &ModelConfig) -> OutputKind {
        if self.targets.is_empty() {
            OutputKind::Classes
        } else if says_yes_or_no(config) && self.targets.iter().all(|t| *t == 0.0 || *t == 1.0) {
            OutputKind::YesOrNo
        } else {
            OutputKind::Numbers
        }
    }
}

impl Said {
    /// Outputs of each sample.
    fn outputs_each(&self) -> usize {
        self.run.loaded().config.outputs
    }
}

/// Whether a network was trained to say yes or no.
pub(in crate::verbs) fn says_yes_or_no(config: &ModelConfig) -> bool {
    config.training["settings"]["loss"]["name"] == "binary-cross-entropy"
}

fn metrics(outputs: &[f32], config: &ModelConfig, truth: &Truth, options: &Options) -> Result<Metrics> {
    let width = config.outputs;
    Ok(match truth.kind(config) {
        OutputKind::Classes => {
            Metrics::Classification(Box::new(classification(outputs, width, &truth.labels, &truth.names, options)?))
        }
        OutputKind::YesOrNo => Metrics::Binary(binary(outputs, width, &truth.targets, &truth.names, options)?),
        OutputKind::Numbers => Metrics::Regression(regression(outputs, width, &truth.targets, &truth.names, options)?),
    })
}

/// Two networks on the same samples, `width` outputs each.
fn compared(first: &[f32], second: &[f32], width: usize, truth: &Truth, options: &Options) -> Result<Paired> {
    Ok(if truth.targets.is_empty() {
        Paired::Classification(Box::new(paired(first, second, width, &truth.labels, options)?))
    } else {
        Paired::Regression(paired_regression(first, second, width, &truth.targets, options)?)
    })
}

/// `outputs` `[samples, outputs]`, and `predicted` and `labels` `[samples]` or `targets` `[samples, outputs]`.
fn write_predictions(path: &Path, said: &Said, truth: &Truth, force: bool) -> Result<()> {
    let width = said.run.loaded().config.outputs;
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
