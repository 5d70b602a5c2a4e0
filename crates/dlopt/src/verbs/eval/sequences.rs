//! Networks that put out sequences: decoded, and compared with all right answers.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dlopt_checkpoint::{Error, Result};
use dlopt_data::{Batch, Pipeline};
use dlopt_metrics::{SequenceReport, SequenceSample, TokenReport, paired_sequences, sequences, tokens};
use dlopt_model::{Decoding, Translator};
use dlopt_train::sample_tokens;
use serde::Serialize;

use super::run::{Opened, Run};
use super::{Job, Measured, Metrics, Paired};

/// What decoding reaches, and what the network says of right answers while it is taught.
#[derive(Serialize)]
pub(super) struct Sequences {
    beam: usize,
    length_penalty: f64,
    #[serde(flatten)]
    decoded: SequenceReport,
    /// With the right tokens before each.
    taught: TokenReport,
}

/// A network and what it put out.
struct Said {
    run: Run,
    samples: Vec<SequenceSample>,
    taught: TokenReport,
}

impl Sequences {
    pub(super) fn text(&self) -> String {
        let how = match (self.beam, self.length_penalty) {
            (1, _) => "decoded greedily".to_owned(),
            (beam, penalty) => format!("decoded with a beam of {beam}, length penalty {penalty}"),
        };
        let taught = &self.taught;
        let (loss, right) = (taught.loss.value, 100.0 * taught.accuracy.value);
        format!(
            "{how}; {}\nwith the right tokens before each: loss {loss:.4} a token, {right:.2}% of tokens right\n",
            self.decoded.text()
        )
    }

    /// The share of samples that equal a right answer.
    pub(super) fn accuracy(&self) -> f64 {
        1.0 - self.decoded.sequence_error_rate.value
    }
}

pub(super) fn measured(job: &Job<'_>, end: u32) -> Result<Measured> {
    let how = job.args.search.decoding(1)?;
    let own = said(job, &job.args.model, &how, end)?;
    let other = job.args.against.as_deref().map(|path| said(job, path, &how, end)).transpose()?;
    let paired = match &other {
        Some(other) => Some(Paired::Sequences(paired_sequences(&other.samples, &own.samples, &job.options)?)),
        None => None,
    };
    let report = |said: &Said| -> Result<_> {
        let decoded = sequences(&said.samples, &job.options)?;
        let (beam, length_penalty) = (how.beam, how.length_penalty);
        let all = Sequences { beam, length_penalty, decoded, taught: said.taught.clone() };
        Ok(said.run.report(Metrics::Sequences(Box::new(all))))
    };
    let model = report(&own)?;
    let against = other.as_ref().map(report).transpose()?;
    let runs = std::iter::once(own).chain(other).map(|said| said.run).collect();
    Ok(Measured { model, against, paired, paired_corruption: None, runs })
}

fn said(job: &Job<'_>, path: &Path, how: &Decoding, end: u32) -> Result<Said> {
    let opened = Opened::new(job, path)?;
    let mut engine = opened.engine(job)?;
    let mut taught = Vec::with_capacity(job.samples.len());
    opened.each_batch(job, &mut engine, |batch, outputs| {
        taught.extend(sample_tokens(outputs, batch));
        Ok(())
    })?;
    let taught = tokens(&taught, &job.options)?;
    let loaded = opened.loaded();
    let mut translator = Translator::new(&loaded.nodes, &loaded.layout, &loaded.params, Arc::clone(&job.team))?;
    let (samples, rates) = opened.repeated(job, |opened| decoded(job, opened, &mut translator, how, end))?;
    Ok(Said { run: opened.into_run(rates), samples, taught })
}

/// What comes out for every sample, and what would have been right.
fn decoded(
    job: &Job<'_>,
    opened: &Opened,
    translator: &mut Translator,
    how: &Decoding,
    end: u32,
) -> Result<Vec<SequenceSample>> {
    let dataset = &opened.dataset;
    let steps = Pipeline::of(&dataset.info().sequence_steps)?;
    let text = |tokens: &[u32]| steps.tokens().map(|vocabulary| vocabulary.decode(tokens));
    let mut all = Vec::with_capacity(job.samples.len());
    let mut batch = Batch::default();
    for first in job.samples.clone().step_by(job.args.batch) {
        let indices: Vec<usize> = (first..(first + job.args.batch).min(job.samples.end)).collect();
        dataset.gather(&indices, &mut batch)?;
        let found = translator.translate(indices.len(), &batch.inputs, batch.lengths.as_deref(), how);
        for (&sample, found) in indices.iter().zip(found) {
            let hypothesis = found.into_iter().next().map(|best| best.tokens).unwrap_or_default();
            let answers = dataset.answers(sample);
            let without_end = |tokens: &&[u32]| tokens.strip_suffix(&[end]).unwrap_or(tokens).to_vec();
            let references: Vec<Vec<u32>> = answers.iter().map(without_end).collect();
            let reference_texts = references.iter().filter_map(|tokens| text(tokens)).collect();
            all.push(SequenceSample {
                text: text(&hypothesis).unwrap_or_default(),
                hypothesis,
                references,
                reference_texts,
            });
        }
        if job.stop.load(Ordering::Relaxed) {
            return Err(Error::interrupted("stopped while evaluating"));
        }
    }
    Ok(all)
}
