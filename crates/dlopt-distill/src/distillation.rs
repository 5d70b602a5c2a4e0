//! What a teacher adds to every step of a training: an [`Extension`] of the loop.
//!
//! The loss of an update is `w_0 L(labels) + sum_i w_i L_i(student, teacher)`, each `L` a mean over the samples, or over the
//! tokens of sequences, and each weight a number that may move. Samples of splits whose labels are not to be used have no
//! part in `L(labels)`, which then is the mean over the others of the batch.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use dlopt_checkpoint::{Error, Result};
use dlopt_data::{Batch, Dataset, Learns};
use dlopt_kernels::nn::Team;
use dlopt_model::{Shape, Tap};
use dlopt_train::{Extension, ExtraLoss, Group, Moment, Optimizer, Passed, Settings, Step, update};

use crate::cache::Cache;
use crate::losses::{Learned, Pair, Values};
use crate::ramp::Ramp;
use crate::rows::Rows;
use crate::teacher::{Said, Teacher};
use crate::term::Term;

/// Where a teacher's answers come from.
pub enum Source {
    /// From networks that are asked.
    Live(Box<Teacher>),
    /// From a file.
    Cached(Box<Cache>),
}

/// What a student learns, from whom.
pub struct Plan {
    /// The terms beside the labels.
    pub terms: Vec<Term>,
    /// How much the labels count.
    pub labels: Ramp,
    /// Samples whose labels are not to be used.
    pub unlabelled: Vec<Range<usize>>,
    /// The beam with which the teacher puts out the sequences that take the place of the labels.
    pub sequences: Option<usize>,
}

/// The part of a teacher in a training.
pub struct Distillation {
    source: Arc<Mutex<Source>>,
    terms: Vec<Active>,
    labels: Ramp,
    unlabelled: Vec<Range<usize>>,
    /// Outputs of a sample or token.
    classes: usize,
    is_changed: bool,
    settings: Settings,
    team: Arc<Team>,
    said: Said,
}

/// A term that is at work.
struct Active {
    term: Term,
    /// The places of its layers among the taps of both networks, with their extents.
    taps: Option<[Place; 2]>,
    moments: Vec<Vec<f32>>,
}

#[derive(Clone, Copy)]
struct Place {
    tap: usize,
    places: [usize; 2],
    channels: usize,
}

impl Plan {
    /// The layers that terms compare, each once: those of the student and those of the teacher.
    pub fn layers(&self) -> [Vec<String>; 2] {
        let mut all = [Vec::new(), Vec::new()];
        for (student, teacher) in self.terms.iter().filter_map(|term| term.layers.clone()) {
            for (list, name) in all.iter_mut().zip([student, teacher]) {
                if !list.contains(&name) {
                    list.push(name);
                }
            }
        }
        all
    }

    /// Refuses a plan that these data cannot mean.
    ///
    /// # Errors
    /// When nothing has a weight, or a term needs classes or labels that are not there.
    pub fn check(&self, dataset: &Dataset) -> Result<()> {
        if self.labels.most() <= 0.0 && self.terms.iter().all(|term| term.weight.most() <= 0.0) {
            return Err(Error::usage("the weights of all losses are 0: there is nothing to learn")
                .hint("--loss kd=0.9,temperature=4 --loss ce=0.1"));
        }
        for term in &self.terms {
            if dataset.targets().is_some() && term.kind.needs_classes {
                return Err(Error::usage(format!(
                    "--loss {}: compares distributions over classes, and {} has numbers to learn",
                    term.text,
                    dataset.name()
                ))
                .hint("--loss logit-mse=1 compares outputs as they are"));
            }
            if term.kind.needs_labels && !self.unlabelled.is_empty() {
                return Err(Error::usage(format!("--loss {}: needs labels, and some are not to be used", term.text))
                    .hint("--loss kd=1 needs none"));
            }
        }
        if !self.unlabelled.is_empty() && (dataset.labels().is_empty() || dataset.info().learns != Learns::Sample) {
            return Err(Error::usage(format!("{}: labels are left out of data with classes alone", dataset.name())));
        }
        Ok(())
    }
}

impl Plan {
    /// Starts every loss for what it compares: `student` are the taps of the student's engine and `teacher` those of the
    /// teacher's answers, in the order of [`Plan::layers`]; `classes` are the outputs of a sample or token.
    ///
    /// # Errors
    /// When layers cannot be compared; both are named.
    pub fn begin(&mut self, (student, teacher): (&[Tap], &[Tap]), classes: usize, seed: u64) -> Result<()> {
        for (number, term) in self.terms.iter_mut().enumerate() {
            let places = compared(term, student, teacher)?;
            let [own, others] = places.map_or([([1, 1], classes); 2], |both| both.map(|at| (at.places, at.channels)));
            let seed = seed ^ ((number as u64) << 32);
            let began = term.kind.begin(&mut *term.loss, own, others, seed);
            began.map_err(|e| e.within(format!("--loss {}", term.text)))?;
        }
        Ok(())
    }
}

/// The layers that a term compares, of the student and of the teacher.
fn compared(term: &Term, student: &[Tap], teacher: &[Tap]) -> Result<Option<[Place; 2]>> {
    let Some((own, others)) = &term.layers else { return Ok(None) };
    let find = |taps: &[Tap], name: &str| {
        taps.iter().position(|tap| tap.name == name).map(|tap| {
            let (places, channels) = extents(&taps[tap].shape);
            Place { tap, places, channels }
        })
    };
    match (find(student, own), find(teacher, others)) {
        (Some(own), Some(others)) => Ok(Some([own, others])),
        _ => Err(Error::usage(format!("--loss {}: its layers are not looked into", term.text))),
    }
}

/// Height, width and channels of what a layer puts out for a sample.
pub(crate) fn extents(shape: &Shape) -> ([usize; 2], usize) {
    match *shape {
        Shape::Image { height, width, channels } => ([height, width], channels),
        Shape::Series { time, features } => ([1, time], features),
        Shape::Vector { features } => ([1, 1], features),
        Shape::Tokens { time } => ([1, time], 1),
    }
}

impl Distillation {
    /// Puts a plan to work, which it begins as [`Plan::begin`] does. The source is shared by students that are trained one
    /// after the other.
    ///
    /// # Errors
    /// When layers cannot be compared; both are named.
    pub fn new(
        mut plan: Plan,
        source: Arc<Mutex<Source>>,
        (student, teacher): (&[Tap], &[Tap]),
        classes: usize,
        settings: &Settings,
        team: &Arc<Team>,
    ) -> Result<Self> {
        plan.begin((student, teacher), classes, settings.seed)?;
        let Plan { terms, labels, unlabelled, .. } = plan;
        let mut active = Vec::with_capacity(terms.len());
        for mut term in terms {
            let taps = compared(&term, student, teacher)?;
            let len = term.loss.learned().map_or(0, |learned| learned.values.len());
            let moments = vec![vec![0.0; len]; if len == 0 { 0 } else { settings.optimizer.moments() }];
            active.push(Active { term, taps, moments });
        }
        Ok(Self {
            source,
            terms: active,
            labels,
            unlabelled,
            classes,
            is_changed: settings.augment.is_some(),
            settings: settings.clone(),
            team: Arc::clone(team),
            said: Said::default(),
        })
    }

    fn ask(&mut self, at: Moment, batch: &Batch) -> Result<()> {
        match &mut *self.source.lock().unwrap_or_else(PoisonError::into_inner) {
            Source::Live(teacher) => teacher.say(batch, &mut self.said),
            Source::Cached(cache) => {
                let view = if self.is_changed { self.settings.round(at.epoch) } else { 0 };
                cache.say(view, batch, &mut self.said)
            }
        }
    }
}

impl Extension for Distillation {
    fn batch(&mut self, _at: Moment, batch: &mut Batch) -> Result<()> {
        if self.unlabelled.is_empty() {
            return Ok(());
        }
        let rows = batch.indices.len();
        let is_known = |sample: usize| !self.unlabelled.iter().any(|range| range.contains(&sample));
        let known = batch.indices.iter().filter(|&&sample| is_known(sample)).count();
        let classes = self.classes;
        if batch.targets.is_empty() {
            batch.targets = vec![0.0; rows * classes];
            for (row, label) in batch.labels.iter().enumerate() {
                batch.targets[row * classes + *label as usize] = 1.0;
            }
        }
        // The mean over the samples with a label, as a sum over all of them.
        let factor = rows as f32 / known.max(1) as f32;
        for (sample, targets) in batch.indices.iter().zip(batch.targets.chunks_exact_mut(classes)) {
            let factor = if is_known(*sample) { factor } else { 0.0 };
            targets.iter_mut().for_each(|target| *target *= factor);
        }
        Ok(())
    }

    fn main_weight(&self, at: Moment) -> f64 {
        self.labels.at(at.progress())
    }

    fn loss(&mut self, at: Moment, batch: &Batch, passed: &Passed<'_>) -> Result<Option<ExtraLoss>> {
        self.ask(at, batch)?;
        let progress = at.progress();
        let rows = Rows::of(batch, passed.outputs.len());
        let said = rows.gathered(&self.said.outputs)?;
        let own = rows.gathered(passed.outputs)?;
        let labels = rows.labels(batch);
        let mut on_outputs = vec![0.0; own.len()];
        let mut extra =
            ExtraLoss { taps: passed.taps.iter().map(|tap| vec![0.0; tap.len()]).collect(), ..ExtraLoss::default() };
        for Active { term, taps, .. } in &mut self.terms {
            let weight = term.weight.at(progress);
            if weight == 0.0 {
                continue;
            }
            let scale = passed.scale * weight as f32;
            let (student, teacher, gradient) = match taps {
                None => {
                    let values = |values| Values { values, places: [1, 1], channels: rows.width };
                    (values(own.as_ref()), values(said.as_ref()), &mut on_outputs)
                }
                Some([own, others]) => {
                    let values = |values, at: &Place| Values { values, places: at.places, channels: at.channels };
                    let teacher = values(self.said.features[others.tap].as_slice(), others);
                    (values(passed.taps[own.tap], own), teacher, &mut extra.taps[own.tap])
                }
            };
            let pair = Pair { student, teacher, labels: &labels, progress };
            extra.sum += weight * term.loss.evaluate(&pair, scale, gradient);
        }
        extra.gradient = rows.scattered(on_outputs, passed.outputs.len());
        Ok(Some(extra))
    }

    fn updated(&mut self, at: Moment, _weights: &mut [f32]) -> Result<()> {
        let optimizer: Optimizer = self.settings.optimizer;
        let step = Step {
            number: at.step + 1,
            learning_rate: at.learning_rate,
            weight_decay: self.settings.weight_decay,
            gradient_scale: 1.0,
        };
        for Active { term, moments, .. } in &mut self.terms {
            let Some(Learned { values, gradients }) = term.loss.learned() else { continue };
            let groups = [Group { range: 0..values.len(), decays: true }];
            update(&optimizer, &self.team, &groups, step, values, gradients, moments);
            gradients.fill(0.0);
        }
        Ok(())
    }

    fn save(&self) -> Vec<(String, Vec<f32>)> {
        let mut saved = Vec::new();
        for (number, Active { term, moments, .. }) in self.terms.iter().enumerate() {
            if let Some(learned) = term.loss.kept() {
                saved.push((format!("learned.{number}"), learned.values.clone()));
            }
            for (place, moment) in moments.iter().enumerate() {
                saved.push((format!("moment.{number}.{place}"), moment.clone()));
            }
        }
        saved
    }

    fn restore(&mut self, saved: &[(String, Vec<f32>)]) -> Result<()> {
        let find = |name: String| saved.iter().find(|(known, _)| *known == name).map(|(_, values)| values);
        for (number, Active { term, moments, .. }) in self.terms.iter_mut().enumerate() {
            let Some(learned) = term.loss.learned() else { continue };
            let targets = std::iter::once((format!("learned.{number}"), &mut learned.values)).chain(
                moments.iter_mut().enumerate().map(|(place, moment)| (format!("moment.{number}.{place}"), moment)),
            );
            for (name, values) in targets {
                match find(name) {
                    Some(found) if found.len() == values.len() => values.copy_from_slice(found),
                    _ => return Err(Error::input("the state lacks what a loss had learned")),
                }
            }
        }
        Ok(())
    }
}
