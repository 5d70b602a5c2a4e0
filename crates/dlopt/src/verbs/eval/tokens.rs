//! Networks that say the next token: what each token of the split costs.
//!
//! Windows of a text follow each other: one begins with the last token that the one before it should have said. So the
//! states of recurrent layers go on from window to window, as in generating, unless every window shall begin anew.

use std::path::Path;
use std::sync::atomic::Ordering;

use dlopt_checkpoint::{Error, Result};
use dlopt_data::{Batch, Pipeline};
use dlopt_metrics::{SampleTokens, TokenReport, paired_tokens, tokens};
use dlopt_train::{Engine, sample_tokens};
use serde::Serialize;

use super::run::{Opened, Run};
use super::{Job, Measured, Metrics, Paired};

/// What tokens cost.
#[derive(Serialize)]
pub(super) struct Tokens {
    /// Whether states go on from window to window.
    carried: bool,
    /// Stretches of windows that follow each other; each began with states of zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    texts: Option<usize>,
    /// The loss in bits, when tokens are bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    bits_per_byte: Option<f64>,
    #[serde(flatten)]
    report: TokenReport,
}

/// A network and what it said of the tokens of each window.
struct Said {
    run: Run,
    windows: Vec<SampleTokens>,
    texts: usize,
    are_bytes: bool,
}

impl Tokens {
    pub(super) fn text(&self) -> String {
        let how = match self.texts {
            None => "every window read by itself".to_owned(),
            Some(1) => "read on from window to window".to_owned(),
            Some(texts) => format!("read on from window to window, in {texts} stretches"),
        };
        let bytes =
            if self.bits_per_byte.is_some() { "tokens are bytes: bits per token are bits per byte\n" } else { "" };
        format!("{how}; {}{bytes}", self.report.text())
    }

    /// The share of tokens that were thought likeliest.
    pub(super) fn accuracy(&self) -> f64 {
        self.report.accuracy.value
    }
}

pub(super) fn measured(job: &Job<'_>) -> Result<Measured> {
    let own = said(job, &job.args.model)?;
    let other = job.args.against.as_deref().map(|path| said(job, path)).transpose()?;
    let paired = match &other {
        Some(other) => Some(Paired::Tokens(paired_tokens(&other.windows, &own.windows, &job.options)?)),
        None => None,
    };
    let report = |said: &Said| -> Result<_> {
        let report = tokens(&said.windows, &job.options)?;
        let carried = !job.args.no_carry;
        let bits_per_byte = said.are_bytes.then_some(report.bits_per_token.value);
        let all = Tokens { carried, texts: carried.then_some(said.texts), bits_per_byte, report };
        Ok(said.run.report(Metrics::Tokens(Box::new(all))))
    };
    let model = report(&own)?;
    let against = other.as_ref().map(report).transpose()?;
    let runs = std::iter::once(own).chain(other).map(|said| said.run).collect();
    Ok(Measured { model, against, paired, paired_corruption: None, runs })
}

fn said(job: &Job<'_>, path: &Path) -> Result<Said> {
    let opened = Opened::new(job, path)?;
    let mut engine = opened.engine(job)?;
    let steps = Pipeline::of(&opened.dataset.info().steps)?;
    let are_bytes = steps.tokens().is_some_and(|vocabulary| vocabulary.are_bytes());
    let ((windows, texts), rates) = opened.repeated(job, |opened| {
        if !job.args.no_carry {
            return read_on(job, opened, &mut engine);
        }
        let mut all = Vec::with_capacity(job.samples.len());
        opened.each_batch(job, &mut engine, |batch, outputs| {
            all.extend(sample_tokens(outputs, batch));
            Ok(())
        })?;
        Ok((all, job.samples.len()))
    })?;
    Ok(Said { run: opened.into_run(rates), windows, texts, are_bytes })
}

/// Reads all windows as one text, or as several where one does not follow the other; says how many.
fn read_on(job: &Job<'_>, opened: &Opened, engine: &mut Engine) -> Result<(Vec<SampleTokens>, usize)> {
    let mut states = engine.states(1).map_err(|e| match e.what_to_try() {
        Some("--device cpu") => e,
        _ => e.hint("--no-carry reads every window by itself"),
    })?;
    let (params, mut buffers) = (&opened.loaded().params, opened.loaded().buffers.clone());
    let steps = opened.dataset.sequence_steps();
    let (mut all, mut texts, mut last) = (Vec::with_capacity(job.samples.len()), 0, None);
    let (mut batch, mut piece) = (Batch::default(), Batch::default());
    for first in job.samples.clone().step_by(job.args.batch) {
        let indices: Vec<usize> = (first..(first + job.args.batch).min(job.samples.end)).collect();
        opened.dataset.gather(&indices, &mut batch)?;
        let mut from = 0;
        while from < indices.len() {
            if last != Some(batch.inputs[from * steps]) {
                states.clear();
                texts += 1;
            }
            // As many windows as follow each other.
            let ends = |window: usize| batch.sequences[(window + 1) * steps - 1] as f32;
            let follows = |window: &usize| batch.inputs[window * steps] == ends(window - 1);
            let to = from + 1 + (from + 1..indices.len()).take_while(follows).count();
            let inputs = &batch.inputs[from * steps..to * steps];
            let outputs = engine.forward_with(params, &mut buffers, inputs, None, &mut states)?;
            piece.indices = indices[from..to].to_vec();
            piece.sequences = batch.sequences[from * steps..to * steps].to_vec();
            piece.sequence_lengths = batch.sequence_lengths[from..to].to_vec();
            all.extend(sample_tokens(&outputs, &piece));
            last = Some(ends(to - 1));
            engine.recycle(outputs);
            from = to;
        }
        if job.stop.load(Ordering::Relaxed) {
            return Err(Error::interrupted("stopped while evaluating"));
        }
    }
    Ok((all, texts))
}
