//! Samples to their places in the dataset file, and the statistics of the training split on the way.

use std::collections::HashMap;

use dlopt_checkpoint::{Dtype, Error, NewFile, Result, alignment_bytes};

use super::plan::Plan;
use crate::info::Standardise;
use crate::raw::{Raw, Values};
use crate::steps::standardise::Fit;

/// Bytes of one split that are written together.
const RUN_BYTES: usize = 1 << 20;

/// A dataset that is being written.
pub(super) struct Writing<'a> {
    plan: &'a Plan,
    file: &'a NewFile,
    begin_of: &'a HashMap<String, u64>,
    /// By split, the next sample, and what waits to be written before it.
    inputs: Vec<Run>,
    sequences: Vec<Run>,
    references: Vec<Run>,
    pub(super) fit: Fit,
    /// Samples that were taken.
    pub(super) done: usize,
}

#[derive(Clone, Default)]
struct Run {
    next: usize,
    waiting: Vec<u8>,
}

impl<'a> Writing<'a> {
    pub(super) fn new(plan: &'a Plan, file: &'a NewFile, begin_of: &'a HashMap<String, u64>) -> Self {
        let runs: Vec<Run> = plan.ranges().iter().map(|range| Run { next: range[0], waiting: Vec::new() }).collect();
        Self {
            plan,
            file,
            begin_of,
            inputs: runs.clone(),
            sequences: runs,
            references: plan.first_references().iter().map(|&next| Run { next, waiting: Vec::new() }).collect(),
            fit: match plan.standardise {
                Standardise::Robust => {
                    let [begin, end] = plan.ranges()[0];
                    Fit::with_quartiles(plan.groups, end - begin, plan.form.elements.elements())
                }
                _ => Fit::new(plan.groups),
            },
            done: 0,
        }
    }

    /// Takes the next sample, after all steps; `name` says which it is.
    pub(super) fn take(&mut self, raw: &Raw, targets: &[Raw], name: &dyn Fn() -> String) -> Result<()> {
        let plan = self.plan;
        let split = usize::from(plan.splits.of_sample[self.done]);
        let is_training = split == 0;
        let form = &plan.form;
        let sample_bytes = plan.stored_elements() * alignment_bytes(form.dtype);
        let run = &mut self.inputs[split];
        let begin = run.waiting.len();
        match raw {
            Raw::Image(image) => take_values(&image.pixels, form.dtype, is_training, &mut self.fit, &mut run.waiting),
            Raw::Series(series) => {
                take_values(&series.values, form.dtype, is_training, &mut self.fit, &mut run.waiting)
            }
            Raw::Row(values) => take_values(values, form.dtype, is_training, &mut self.fit, &mut run.waiting),
            Raw::Tokens(tokens) => {
                put_tokens(tokens, form.dtype, &mut run.waiting);
                Ok(())
            }
            Raw::Text(_) => Err(Error::input("is a text")),
        }
        .map_err(|e| e.within(name()))?;
        // Shorter series and sequences of tokens end in zeros.
        run.waiting.resize(begin + sample_bytes, 0);
        write_run(self.file, self.begin_of["inputs"], sample_bytes, run, RUN_BYTES)?;
        if let Some(sequences) = &plan.sequences {
            let bytes = sequences.time * alignment_bytes(sequences.dtype);
            for (place, target) in targets.iter().enumerate() {
                let Raw::Tokens(tokens) = target else { return Err(Error::input(format!("{}: no tokens", name()))) };
                let (run, tensor) = match place {
                    0 => (&mut self.sequences[split], "sequences"),
                    _ => (&mut self.references[split], "references"),
                };
                let begin = run.waiting.len();
                put_tokens(tokens, sequences.dtype, &mut run.waiting);
                run.waiting.resize(begin + bytes, 0);
                write_run(self.file, self.begin_of[tensor], bytes, run, RUN_BYTES)?;
            }
        }
        self.done += 1;
        Ok(())
    }

    /// Writes what waits.
    pub(super) fn finish(mut self) -> Result<Fit> {
        let bytes = self.plan.stored_elements() * alignment_bytes(self.plan.form.dtype);
        for run in &mut self.inputs {
            write_run(self.file, self.begin_of["inputs"], bytes, run, 0)?;
        }
        if let Some(sequences) = &self.plan.sequences {
            let bytes = sequences.time * alignment_bytes(sequences.dtype);
            for run in &mut self.sequences {
                write_run(self.file, self.begin_of["sequences"], bytes, run, 0)?;
            }
            for run in self.references.iter_mut().filter(|run| !run.waiting.is_empty()) {
                write_run(self.file, self.begin_of["references"], bytes, run, 0)?;
            }
        }
        Ok(self.fit)
    }
}

/// Writes a run of samples of `bytes` each when more than `most` bytes wait.
fn write_run(file: &NewFile, begin: u64, bytes: usize, run: &mut Run, most: usize) -> Result<()> {
    if run.waiting.len() <= most {
        return Ok(());
    }
    file.write_at(begin + (run.next * bytes) as u64, &run.waiting)?;
    run.next += run.waiting.len() / bytes;
    run.waiting.clear();
    Ok(())
}

fn take_values(values: &Values, dtype: Dtype, is_training: bool, fit: &mut Fit, out: &mut Vec<u8>) -> Result<()> {
    match (values, dtype) {
        (Values::U8(values), Dtype::U8) => {
            if is_training {
                fit.add_bytes(values);
            }
            out.extend_from_slice(values);
        }
        (values, _) => {
            let values = values.floats();
            if values.iter().fold(false, |bad, x| bad | !x.is_finite()) {
                let at = values.iter().position(|x| !x.is_finite()).unwrap_or(0);
                return Err(Error::input(format!("element {at} is {}", values[at]))
                    .hint("clean the raw data: a network cannot learn from NaN or infinity"));
            }
            if is_training {
                fit.add_floats(&values);
            }
            out.extend(values.iter().flat_map(|x| x.to_le_bytes()));
        }
    }
    Ok(())
}

fn put_tokens(tokens: &[u32], dtype: Dtype, out: &mut Vec<u8>) {
    match dtype {
        Dtype::U8 => out.extend(tokens.iter().map(|&token| token as u8)),
        Dtype::U16 => out.extend(tokens.iter().flat_map(|&token| (token as u16).to_le_bytes())),
        _ => out.extend(tokens.iter().flat_map(|&token| token.to_le_bytes())),
    }
}
