//! Whether distillation helped: teacher, students and their controls on samples that none of them learned from.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dlopt_checkpoint::{Checkpoint, Error, Result};
use dlopt_data::{Batch, Dataset, Loader, batches};
use dlopt_kernels::nn::Team;
use dlopt_metrics::{likeness, point_scores};
use dlopt_train::EVALUATION_BATCH;
use serde::Serialize;

use crate::network::{Cost, Network};
use crate::rows::Rows;
use crate::teacher::{Said, Teacher};

/// What is said of every sample of a split, or of every token of its sequences.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers {
    /// `[rows, outputs]`.
    pub outputs: Vec<f32>,
    /// Outputs of a row.
    pub width: usize,
    /// `[rows]`, or empty where numbers are to be said.
    pub labels: Vec<u32>,
    /// `[rows, outputs]`, or empty where classes are.
    pub targets: Vec<f32>,
}

/// What a network is worth on a split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// The fraction of samples, or tokens, that is right; of classes alone.
    pub accuracy: Option<f64>,
    /// Mean cross-entropy in nats, or mean squared error.
    pub loss: f64,
    /// Expected calibration error; of classes alone.
    pub calibration_error: Option<f64>,
    /// The fraction of samples for which it predicts what the teacher does.
    pub agreement: Option<f64>,
    /// Mean of KL(teacher || network), in nats.
    pub divergence: Option<f64>,
}

/// Runs that differ in their seed alone.
#[derive(Clone, Debug, Serialize)]
pub struct Role {
    /// Every run, in the order of seeds.
    pub runs: Vec<Figures>,
    /// Their means.
    pub mean: Figures,
    /// Their standard deviations; nothing of one run.
    pub deviation: Option<Figures>,
}

/// What distillation changed: students less controls.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Gain {
    /// Mean difference of accuracy, or of the loss (control less student) where there are no classes.
    pub difference: f64,
    /// Its standard error, from the pairs of equal seeds; nothing of one pair.
    pub standard_error: Option<f64>,
    /// The part of the distance between control and teacher that the student is ahead.
    pub gap_closed: Option<f64>,
}

impl Answers {
    fn add(&mut self, batch: &Batch, outputs: &[f32], width: usize) -> Result<()> {
        let rows = Rows::of(batch, outputs.len());
        self.width = width;
        self.outputs.extend_from_slice(&rows.gathered(outputs)?);
        if batch.targets.is_empty() || !batch.labels.is_empty() {
            self.labels.extend(rows.labels(batch));
        } else {
            self.targets.extend_from_slice(&batch.targets);
        }
        Ok(())
    }

    /// What they are worth, beside what a teacher says of the same samples.
    ///
    /// # Errors
    /// When an answer is no number.
    pub fn figures(&self, teacher: Option<&Self>) -> Result<Figures> {
        if self.labels.is_empty() {
            let squares = self.outputs.iter().zip(&self.targets).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
            let loss = squares.sum::<f64>() / self.outputs.len().max(1) as f64;
            return Ok(Figures { loss, ..Figures::default() });
        }
        let scores = point_scores(&self.outputs, self.width, &self.labels)?;
        let alike = teacher.and_then(|teacher| likeness(&teacher.outputs, &self.outputs, self.width));
        Ok(Figures {
            accuracy: Some(scores.accuracy),
            loss: scores.loss,
            calibration_error: Some(scores.calibration_error),
            agreement: alike.map(|alike| alike.agreement),
            divergence: alike.map(|alike| alike.divergence),
        })
    }
}

/// What a teacher says of `samples`, and what each of its networks costs.
///
/// # Errors
/// When data fail, an answer is no number, or `stop` was set.
pub fn measure_teacher(
    teacher: &mut Teacher,
    dataset: &Arc<Dataset>,
    samples: Range<usize>,
    stop: &AtomicBool,
) -> Result<(Answers, Vec<Cost>)> {
    let mut said = Said::default();
    let answers = answers(dataset, samples.clone(), stop, |batch, answers| {
        teacher.say(batch, &mut said)?;
        answers.add(batch, &said.outputs, dataset.outputs())
    })?;
    Ok((answers, teacher.costs(dataset, samples)?))
}

/// What a checkpoint says of `samples`, and what it costs.
///
/// # Errors
/// When it does not fit the data, data or disk fail, or `stop` was set.
pub fn measure(
    checkpoint: &Checkpoint,
    dataset: &Arc<Dataset>,
    samples: Range<usize>,
    device: &str,
    team: &Arc<Team>,
    stop: &AtomicBool,
) -> Result<(Answers, Cost)> {
    let mut network = Network::new(checkpoint, device, team, &[])?;
    let width = network.prepared.loaded.config.outputs;
    let answers = answers(dataset, samples.clone(), stop, |batch, answers| {
        network.answer(batch, |outputs, _| answers.add(batch, outputs, width))
    })?;
    Ok((answers, network.cost(dataset, samples)?))
}

/// Goes over `samples` in batches; `add` asks about each.
fn answers(
    dataset: &Arc<Dataset>,
    samples: Range<usize>,
    stop: &AtomicBool,
    mut add: impl FnMut(&Batch, &mut Answers) -> Result<()>,
) -> Result<Answers> {
    let mut answers = Answers::default();
    let mut loader = Loader::new(Arc::clone(dataset), batches(samples.collect(), EVALUATION_BATCH), 2);
    while let Some(batch) = loader.next() {
        let batch = batch?;
        add(&batch, &mut answers)?;
        loader.give_back(batch);
        if stop.load(Ordering::Relaxed) {
            return Err(Error::interrupted("stopped while evaluating"));
        }
    }
    Ok(answers)
}

impl Role {
    /// The mean and spread of runs; there is at least one.
    pub fn of(runs: Vec<Figures>) -> Self {
        let each = |of: &dyn Fn(&Figures) -> Option<f64>| -> Option<Vec<f64>> { runs.iter().map(of).collect() };
        let figures = |fold: &dyn Fn(Vec<f64>) -> f64| Figures {
            accuracy: each(&|run| run.accuracy).map(fold),
            loss: each(&|run| Some(run.loss)).map(fold).unwrap_or_default(),
            calibration_error: each(&|run| run.calibration_error).map(fold),
            agreement: each(&|run| run.agreement).map(fold),
            divergence: each(&|run| run.divergence).map(fold),
        };
        let mean = figures(&|values| mean(&values));
        let deviation = (runs.len() > 1).then(|| figures(&|values| deviation(&values)));
        Self { mean, deviation, runs }
    }
}

impl Gain {
    /// What students are ahead of their controls, seed by seed.
    pub fn of(student: &Role, control: &Role, teacher: Option<&Figures>) -> Self {
        let worth = |figures: &Figures| figures.accuracy.unwrap_or(-figures.loss);
        let pairs: Vec<f64> = student.runs.iter().zip(&control.runs).map(|(a, b)| worth(a) - worth(b)).collect();
        let difference = mean(&pairs);
        let gap = teacher.map(|teacher| worth(teacher) - worth(&control.mean)).filter(|gap| *gap > 0.0);
        Self {
            difference,
            standard_error: (pairs.len() > 1).then(|| deviation(&pairs) / (pairs.len() as f64).sqrt()),
            gap_closed: gap.map(|gap| difference / gap),
        }
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The standard deviation of a sample, which divides by one less than there are.
fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / values.len().saturating_sub(1).max(1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(accuracies: &[f64]) -> Role {
        Role::of(accuracies.iter().map(|&a| Figures { accuracy: Some(a), ..Figures::default() }).collect())
    }

    #[test]
    fn a_gain_is_paired_by_seed() {
        let (student, control) = (role(&[0.90, 0.92, 0.94]), role(&[0.89, 0.90, 0.91]));
        let teacher = Figures { accuracy: Some(0.95), ..Figures::default() };
        let gain = Gain::of(&student, &control, Some(&teacher));
        assert!((gain.difference - 0.02).abs() < 1e-12);
        // The differences 0.01, 0.02, 0.03 deviate by 0.01.
        assert!((gain.standard_error.unwrap() - 0.01 / 3.0_f64.sqrt()).abs() < 1e-12);
        assert!((gain.gap_closed.unwrap() - 0.4).abs() < 1e-9);
        assert!((student.deviation.unwrap().accuracy.unwrap() - 0.02).abs() < 1e-12);
        let one = Gain::of(&role(&[0.9]), &role(&[0.8]), None);
        assert!(one.standard_error.is_none() && one.gap_closed.is_none() && role(&[0.5]).deviation.is_none());
    }

    #[test]
    fn numbers_have_a_mean_squared_error_alone() {
        let answers = Answers { outputs: vec![1.0, 2.0], width: 1, targets: vec![0.0, 4.0], ..Answers::default() };
        let figures = answers.figures(None).unwrap();
        assert_eq!((figures.loss, figures.accuracy), (2.5, None));
    }
}
