//! The loop: epochs of batches, each forward, loss, backward, update; then a look at the validation split.
//!
//! What the loop knows lies in one [`State`], saved every few seconds and at the end of a run that was stopped. All that
//! happens between two saves is a function of the state, the settings and the data, so a run that was killed ends in the
//! bytes of one that was not.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dlopt_augment::Augmenter;
use dlopt_checkpoint::{Error, Result};
use dlopt_data::{Batch, Dataset, Learns, Loader, epoch_order};
use dlopt_kernels::nn;
use dlopt_metrics::EpochRecord;
use dlopt_model::{FlatLayout, Mode, Node, Role};

use crate::engine::Engine;
use crate::evaluate::{Outcome, look};
use crate::extension::{Extension, Moment, Passed};
use crate::loss::LossOptions;
use crate::optimizer::{Group, Step, update};
use crate::right::Right;
use crate::schedule::Position;
use crate::selection::training_samples;
use crate::sequences;
use crate::settings::Settings;
use crate::state::{Facts, State};

/// Seconds between two saves of the state.
const SECONDS_BETWEEN_SAVES: u64 = 15;
/// Batches that are gathered ahead of the step.
pub(crate) const BATCHES_AHEAD: usize = 4;
/// Samples of a batch of the validation split.
pub const EVALUATION_BATCH: usize = 256;

/// What somebody who watches a training is told.
pub trait Observer {
    /// An epoch (from 1) begins, or goes on, at `done` of `samples`.
    fn epoch_begins(&mut self, _epoch: usize, _done: usize, _samples: usize) {}
    /// An update was made; sums are over the epoch so far.
    fn updated(&mut self, _samples: usize, _mean_loss: f64) {}
    /// An epoch ended.
    fn epoch_ended(&mut self, _record: &EpochRecord, _samples_per_second: f64) -> Result<()> {
        Ok(())
    }
    /// All epochs so far, when one ended or a run goes on.
    fn history(&mut self, _history: &[EpochRecord]) -> Result<()> {
        Ok(())
    }
    /// Whether [`Observer::checkpoint`] is to be called: what it gets must be copied.
    fn wants_checkpoints(&self) -> bool {
        false
    }
    /// The loss became no number; gets the weights of the last whole epoch (the first ones before it), and says where it
    /// put them.
    fn diverged(&mut self, _last_good: &Trained) -> Result<Option<PathBuf>> {
        Ok(None)
    }
    /// After an epoch, with what the model would be if training ended here.
    fn checkpoint(&mut self, _so_far: &Trained, _is_best: bool) -> Result<()> {
        Ok(())
    }
}

/// A training that is ready to run.
pub struct Trainer<'a> {
    /// What was asked.
    pub settings: &'a Settings,
    /// The data.
    pub dataset: Arc<Dataset>,
    /// The layers.
    pub nodes: &'a [Node],
    /// Where their values lie.
    pub layout: &'a FlatLayout,
    /// What runs them.
    pub engine: Engine,
    /// Who takes part in every step.
    pub extensions: Vec<Box<dyn Extension>>,
    /// What is done to every sample of the training split, anew in every epoch.
    pub augmenter: Option<Augmenter>,
    /// Updates between two saves of the state, instead of a time.
    pub save_every: Option<u64>,
    /// Where the state is kept while it runs; without one, a run that is stopped is lost.
    pub state_path: Option<PathBuf>,
    /// What a resumed run must agree on: settings, model, data, first weights.
    pub run: serde_json::Value,
    /// Set from outside to end the run; its state is saved first.
    pub stop: &'a AtomicBool,
}

/// What a training came to.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The weights to keep: the average if there is one, the best if asked for. Where the network ran with others (see
    /// [`Extension::weights`]), those that were trained.
    pub weights: Vec<f32>,
    /// Their running statistics.
    pub buffers: Vec<f32>,
    /// A record for each epoch.
    pub history: Vec<EpochRecord>,
    /// The epoch (from 1) that the weights are of.
    pub epoch: usize,
    /// Updates made.
    pub steps: u64,
    /// Whether early stopping ended it.
    pub stopped_early: bool,
}

impl Trainer<'_> {
    /// Trains from `weights` and `buffers`, or from the state that an earlier run left if `resume` is set.
    ///
    /// # Errors
    /// When the data or the disk fail, the loss is no number, the state is of another run, or the run was stopped.
    pub fn train(
        mut self,
        weights: Vec<f32>,
        buffers: Vec<f32>,
        resume: bool,
        observer: &mut dyn Observer,
    ) -> Result<Trained> {
        let settings = self.settings;
        settings.check()?;
        let training = training_samples(settings, &self.dataset)?;
        let validation = settings.validation_split.as_deref().map(|name| self.split(name)).transpose()?;
        let groups = groups(self.layout, settings)?;
        let mut state = if resume { self.resumed()? } else { self.begun(weights, buffers) };
        for extension in &mut self.extensions {
            extension.begin(self.layout, &mut state.weights)?;
        }
        let mut saved = Instant::now();
        while state.facts.epoch < settings.epochs && !state.facts.is_finished {
            let began = Instant::now();
            let last_good = trained_so_far(&state);
            let learning_rate = match self.epoch(&mut state, &training, &groups, &mut saved, observer)? {
                Ended::Whole { learning_rate } => learning_rate,
                Ended::Diverged(what) => return Err(diverged(&what, &last_good, observer)?),
            };
            let seconds = state.facts.sums.milliseconds as f64 / 1e3;
            let at = self.moment(&state, settings.steps_per_epoch(training.len()));
            let outcome = match &validation {
                Some(range) => Some(self.look_at(at, &mut state, range.clone())?),
                None => None,
            };
            let may_end = self.extensions.iter().all(|extension| extension.may_end(at));
            let record = self.end_epoch(&mut state, outcome, may_end, learning_rate, began, seconds);
            observer.epoch_ended(&record, training.len() as f64 / seconds.max(1e-9))?;
            observer.history(&state.facts.history)?;
            if observer.wants_checkpoints() {
                let is_best = state.facts.best.is_some_and(|(_, epoch)| epoch == state.facts.epoch);
                observer.checkpoint(&trained_so_far(&state), is_best)?;
            }
        }
        Ok(self.result(state))
    }

    fn split(&self, name: &str) -> Result<Range<usize>> {
        let range = self.dataset.split(name)?;
        if range.is_empty() {
            return Err(Error::input(format!("{}: the split `{name}` has no samples", self.dataset.name())));
        }
        Ok(range)
    }

    fn begun(&self, weights: Vec<f32>, buffers: Vec<f32>) -> State {
        State {
            facts: Facts { run: self.run.to_string(), ..Facts::default() },
            moments: vec![vec![0.0; weights.len()]; self.settings.optimizer.moments()],
            average: self.settings.average.map(|_| weights.clone()),
            weights,
            buffers,
            ..State::default()
        }
    }

    fn resumed(&mut self) -> Result<State> {
        let path =
            self.state_path.as_deref().ok_or_else(|| Error::usage("--resume needs -o: a stream keeps no state"))?;
        let state = State::load(path)?;
        if let Some(what) = difference(&state.facts.run, &self.run.to_string()) {
            return Err(Error::usage(format!("{}: the run that was stopped had another {what}", path.display()))
                .hint("resume with the same command, or remove the folder to begin again"));
        }
        let fits = state.weights.len() == self.layout.params_len
            && state.buffers.len() == self.layout.buffers_len
            && state.moments.len() == self.settings.optimizer.moments();
        if !fits {
            return Err(Error::input(format!("{}: the state does not fit the model", path.display())));
        }
        for (index, extension) in self.extensions.iter_mut().enumerate() {
            let own: Vec<(String, Vec<f32>)> =
                state.extensions.iter().filter(|e| e.0 == index).map(|e| (e.1.clone(), e.2.clone())).collect();
            extension.restore(&own)?;
        }
        Ok(state)
    }

    /// Runs what is left of an epoch.
    fn epoch(
        &mut self,
        state: &mut State,
        training: &[usize],
        groups: &[Group],
        saved: &mut Instant,
        observer: &mut dyn Observer,
    ) -> Result<Ended> {
        let settings = self.settings;
        let steps_per_epoch = settings.steps_per_epoch(training.len());
        let order = self.order(training, state.facts.epoch as u64);
        let first = state.facts.epoch_step as usize * settings.samples_per_step();
        observer.epoch_begins(state.facts.epoch + 1, first, training.len());
        let passes: Vec<Vec<usize>> = order[first.min(order.len())..]
            .chunks(settings.samples_per_step())
            .flat_map(|step| step.chunks(settings.batch).map(<[usize]>::to_vec))
            .collect();
        let mut loader = match &self.augmenter {
            None => Loader::new(Arc::clone(&self.dataset), passes, BATCHES_AHEAD),
            Some(augmenter) => {
                let augmenter = augmenter.in_round(settings.round(state.facts.epoch));
                let threads = self.engine.team().threads();
                Loader::changing(&self.dataset, passes, BATCHES_AHEAD.max(2 * threads), &augmenter, threads)
            }
        };
        let mut gradients = vec![0.0; state.weights.len()];
        let mut used = Vec::new();
        let mut learning_rate = settings.learning_rate;
        let mut clock = Instant::now();
        while state.facts.epoch_step < steps_per_epoch {
            let start = state.facts.epoch_step as usize * settings.samples_per_step();
            let samples = &order[start..(start + settings.samples_per_step()).min(order.len())];
            let at = self.moment(state, steps_per_epoch);
            learning_rate = at.learning_rate;
            gradients.fill(0.0);
            let used = self.weights_to_use(at, &state.weights, &mut used)?;
            self.engine.load(used, true)?;
            let total = self.weight_of(samples);
            let mut step = StepSums::default();
            for (pass, _) in samples.chunks(settings.batch).enumerate() {
                let batch = loader.next().ok_or_else(|| Error::input("the data ended before the epoch"))??;
                let mut batch = self.changed(at, batch)?;
                self.pass(at, pass, used, &mut state.buffers, &mut batch, total, &mut gradients, &mut step)?;
                loader.give_back(batch);
            }
            self.update(at, state, groups, &mut gradients)?;
            if let Some(what) = count(state, &step, total, learning_rate) {
                return Ok(Ended::Diverged(what));
            }
            let passed = clock.elapsed();
            if passed > Duration::from_millis(50) || state.facts.epoch_step == steps_per_epoch {
                state.facts.sums.milliseconds += passed.as_millis() as u64;
                clock = Instant::now();
            }
            let sums = &state.facts.sums;
            observer.updated(samples.len(), f64::from(sums.loss) / f64::from(sums.weight));
            let is_stopped = self.stop.load(Ordering::Relaxed);
            let is_due = match self.save_every {
                Some(updates) => state.facts.step.is_multiple_of(updates.max(1)),
                None => saved.elapsed().as_secs() >= SECONDS_BETWEEN_SAVES,
            };
            if is_stopped || is_due {
                self.save(state)?;
                *saved = Instant::now();
            }
            if is_stopped {
                return Err(Error::interrupted(format!("stopped after update {}", state.facts.step))
                    .hint("the same command with --resume goes on from there"));
            }
        }
        Ok(Ended::Whole { learning_rate })
    }

    /// The order of samples in an epoch.
    fn order(&self, training: &[usize], epoch: u64) -> Vec<usize> {
        let (settings, dataset) = (self.settings, &self.dataset);
        let order = epoch_order(0..training.len(), settings.seed, epoch);
        let order: Vec<usize> = order.into_iter().map(|place| training[place]).collect();
        if !matches!(dataset.info().learns, Learns::Sequence { .. }) {
            return order;
        }
        let read = |sample: usize| dataset.lengths().map_or(0, |lengths| lengths[sample] as usize);
        let length = |sample: usize| read(sample) + dataset.sequence_length(sample);
        sequences::bucketed(order, settings.samples_per_step(), mixed(settings.seed, !epoch), length)
    }

    fn moment(&self, state: &State, steps_per_epoch: u64) -> Moment {
        let (settings, facts) = (self.settings, &state.facts);
        let (epoch, step, steps) = (facts.epoch, facts.step, steps_per_epoch * settings.epochs as u64);
        let position = Position { step, steps, warmup: settings.warmup_steps, epoch };
        let learning_rate = settings.learning_rate * settings.schedule.factor(position, facts.plateau.factor);
        Moment { epoch, step, steps, key: mixed(settings.seed, step), learning_rate }
    }

    /// The weights that the network runs with in this step.
    fn weights_to_use<'w>(&mut self, at: Moment, weights: &'w [f32], used: &'w mut Vec<f32>) -> Result<&'w [f32]> {
        if self.extensions.is_empty() {
            return Ok(weights);
        }
        used.clear();
        used.extend_from_slice(weights);
        let mut differ = false;
        for extension in &mut self.extensions {
            differ |= extension.weights(at, weights, used)?;
        }
        Ok(if differ { used } else { weights })
    }

    fn changed(&mut self, at: Moment, mut batch: Batch) -> Result<Batch> {
        for extension in &mut self.extensions {
            extension.batch(at, &mut batch)?;
        }
        Ok(batch)
    }

    /// What the loss of samples is divided by: how many there are, or tokens in their sequences, or the weights of their
    /// classes.
    fn weight_of(&self, samples: &[usize]) -> f64 {
        if self.dataset.info().learns != Learns::Sample {
            return samples.iter().map(|&s| self.dataset.sequence_length(s) as f64).sum::<f64>().max(1.0);
        }
        let weights = &self.settings.class_weights;
        let labels = self.dataset.labels();
        if weights.is_empty() || labels.is_empty() {
            return samples.len() as f64;
        }
        samples.iter().map(|&s| f64::from(weights[labels[s] as usize])).sum::<f64>().max(f64::MIN_POSITIVE)
    }

    /// Forward, loss, backward of one batch.
    #[allow(clippy::too_many_arguments, reason = "the parts of a step")]
    fn pass(
        &mut self,
        at: Moment,
        number: usize,
        weights: &[f32],
        buffers: &mut [f32],
        batch: &mut Batch,
        total: f64,
        gradients: &mut [f32],
        step: &mut StepSums,
    ) -> Result<()> {
        let key = mixed(at.key, number as u64);
        let outputs = match self.engine.start() {
            Some(start) => {
                let mut tokens = sequences::before(batch, start);
                let share = self.settings.sampling.at(at.step, at.steps);
                if share > 0.0 {
                    let said = self.engine.forward_reading(weights, buffers, batch, &tokens, Mode::Inference)?;
                    sequences::replace_some(&mut tokens, &said, batch, share, mixed(key, 0));
                    self.engine.recycle(said);
                }
                self.engine.forward_reading(weights, buffers, batch, &tokens, Mode::Training { key })?
            }
            None => self.engine.forward(weights, buffers, batch, Mode::Training { key })?,
        };
        let scale = (1.0 / total) as f32;
        let options = LossOptions {
            class_weights: &self.settings.class_weights,
            label_smoothing: self.settings.label_smoothing,
            scale,
        };
        let mut gradient = vec![0.0; outputs.len()];
        let weight: f64 = self.extensions.iter().map(|extension| extension.main_weight(at)).product();
        if weight > 0.0 {
            let options = LossOptions { scale: (weight / total) as f32, ..options };
            step.loss += weight * self.settings.loss.evaluate(&options, &outputs, batch, &mut gradient);
        }
        let mut gradients_of_taps: Vec<Vec<f32>> = Vec::new();
        if !self.extensions.is_empty() {
            let passed = Passed { outputs: &outputs, taps: &self.engine.tapped(), scale };
            for extension in &mut self.extensions {
                let Some(extra) = extension.loss(at, batch, &passed)? else { continue };
                step.loss += extra.sum;
                nn::add_into(&extra.gradient, &mut gradient);
                if gradients_of_taps.is_empty() {
                    gradients_of_taps = extra.taps;
                } else {
                    for (own, all) in extra.taps.iter().zip(&mut gradients_of_taps) {
                        nn::add_into(own, all);
                    }
                }
            }
        }
        if self.settings.loss.is_classification() {
            step.right += Right::of(&outputs, batch);
        }
        self.engine.backward(weights, gradient, gradients_of_taps, gradients)?;
        self.engine.recycle(outputs);
        Ok(())
    }

    fn update(&mut self, at: Moment, state: &mut State, groups: &[Group], gradients: &mut [f32]) -> Result<()> {
        for extension in &mut self.extensions {
            extension.gradients(at, &state.weights, gradients)?;
        }
        if let Some(most) = self.settings.clip_value {
            gradients.iter_mut().for_each(|g| *g = g.clamp(-most, most));
        }
        let gradient_scale = match self.settings.clip_norm {
            None => 1.0,
            Some(most) => {
                let squares: f64 = groups.iter().map(|g| nn::sum_of_squares(&gradients[g.range.clone()])).sum();
                // PyTorch's `clip_grad_norm_`, its 1e-6 included.
                (most / (squares.sqrt() + 1e-6)).min(1.0) as f32
            }
        };
        let step = Step {
            number: state.facts.step + 1,
            learning_rate: at.learning_rate,
            weight_decay: self.settings.weight_decay,
            gradient_scale,
        };
        let (optimizer, team) = (&self.settings.optimizer, self.engine.team());
        update(optimizer, team, groups, step, &mut state.weights, gradients, &mut state.moments);
        for extension in &mut self.extensions {
            extension.updated(at, &mut state.weights)?;
        }
        if let (Some(average), Some(decay)) = (&mut state.average, self.settings.average) {
            nn::ema(average, &state.weights, decay);
            for extension in &mut self.extensions {
                extension.averaged(at, average)?;
            }
        }
        Ok(())
    }

    /// What validation says of the weights that the network would run with if training ended now.
    fn look_at(&mut self, at: Moment, state: &mut State, range: Range<usize>) -> Result<Outcome> {
        let mut used = Vec::new();
        let weights = self.weights_to_use(at, state.average.as_ref().unwrap_or(&state.weights), &mut used)?;
        look(&mut self.engine, self.settings, &self.dataset, range, weights, &mut state.buffers, self.stop)
    }

    /// Closes an epoch: record, plateau, and, where training `may_end`, best and early stopping.
    fn end_epoch(
        &self,
        state: &mut State,
        outcome: Option<Outcome>,
        may_end: bool,
        learning_rate: f64,
        began: Instant,
        seconds: f64,
    ) -> EpochRecord {
        let is_classification = self.settings.loss.is_classification();
        let facts = &mut state.facts;
        facts.epoch += 1;
        facts.epoch_step = 0;
        let sums = std::mem::take(&mut facts.sums);
        let record = EpochRecord {
            epoch: facts.epoch as u64,
            step: facts.step,
            train_loss: f64::from(sums.loss) / f64::from(sums.weight),
            train_accuracy: is_classification.then(|| sums.right as f64 / sums.of.max(1) as f64),
            validation_loss: outcome.map(|o| o.loss),
            validation_accuracy: outcome.and_then(|o| o.accuracy),
            learning_rate,
            seconds: seconds.max(began.elapsed().as_secs_f64()),
        };
        if let Some(outcome) = outcome {
            facts.plateau.observe(&self.settings.schedule, outcome.loss);
        }
        if let (Some(outcome), true) = (outcome, may_end) {
            if facts.best.is_none_or(|(best, _)| outcome.loss < f64::from(best)) {
                facts.best = Some((outcome.loss.into(), facts.epoch));
                facts.waited = 0;
                if self.settings.keeps_best || self.settings.patience.is_some() {
                    let weights = state.average.as_ref().unwrap_or(&state.weights);
                    state.best = Some((weights.clone(), state.buffers.clone()));
                }
            } else {
                facts.waited += 1;
                facts.is_finished = self.settings.patience.is_some_and(|patience| facts.waited >= patience.max(1));
            }
        }
        facts.history.push(record.clone());
        record
    }

    fn save(&self, state: &mut State) -> Result<()> {
        state.extensions.clear();
        for (index, extension) in self.extensions.iter().enumerate() {
            state.extensions.extend(extension.save().into_iter().map(|(name, values)| (index, name, values)));
        }
        self.state_path.as_deref().map_or(Ok(()), |path| state.save(path))
    }

    fn result(&self, state: State) -> Trained {
        let State { facts, weights, buffers, average, best, .. } = state;
        let last = (average.unwrap_or(weights), buffers);
        let wants_best = self.settings.keeps_best || self.settings.patience.is_some();
        let ((weights, buffers), epoch) = match (best, facts.best) {
            (Some(best), Some((_, epoch))) if wants_best => (best, epoch),
            _ => (last, facts.epoch),
        };
        let (history, steps, stopped_early) = (facts.history, facts.step, facts.is_finished);
        Trained { weights, buffers, history, epoch, steps, stopped_early }
    }
}

/// How an epoch ended.
enum Ended {
    Whole {
        learning_rate: f64,
    },
    /// The loss became no number; says where.
    Diverged(String),
}

/// What a training would come to if it ended now.
fn trained_so_far(state: &State) -> Trained {
    Trained {
        weights: state.average.as_ref().unwrap_or(&state.weights).clone(),
        buffers: state.buffers.clone(),
        history: state.facts.history.clone(),
        epoch: state.facts.epoch,
        steps: state.facts.step,
        stopped_early: state.facts.is_finished,
    }
}

/// The error of a loss that is no number.
fn diverged(what: &str, last_good: &Trained, observer: &mut dyn Observer) -> Result<Error> {
    let kept = match observer.diverged(last_good)? {
        Some(path) => format!("; the weights of epoch {} are kept in {}", last_good.epoch, path.display()),
        None => String::new(),
    };
    Ok(Error::input(format!("{what}{kept}")).hint("a smaller --learning-rate, --warmup, or --clip-norm 1"))
}

/// Takes a step into the sums; says so when its loss is no number.
fn count(state: &mut State, step: &StepSums, total: f64, rate: f64) -> Option<String> {
    state.facts.step += 1;
    state.facts.epoch_step += 1;
    if !step.loss.is_finite() {
        let (loss, update, epoch) = (step.loss, state.facts.step, state.facts.epoch + 1);
        return Some(format!("the loss is {loss} at update {update} (epoch {epoch}, learning rate {rate:.3e})"));
    }
    let sums = &mut state.facts.sums;
    sums.loss = (f64::from(sums.loss) + step.loss).into();
    sums.weight = (f64::from(sums.weight) + total).into();
    sums.right += step.right.right;
    sums.of += step.right.of;
    None
}

#[derive(Default)]
struct StepSums {
    loss: f64,
    right: Right,
}

/// Weights that make every class count the same: `samples / (classes * samples of the class)`, 0 for one without samples.
///
/// # Errors
/// When the data have no classes, or no such split.
pub fn balanced_weights(dataset: &Dataset, split: &str) -> Result<Vec<f32>> {
    let range = dataset.split(split)?;
    let mut counts = vec![0_u64; dataset.classes().len()];
    if dataset.labels().is_empty() {
        return Err(Error::usage(format!("{}: has no classes to balance", dataset.name())));
    }
    dataset.labels()[range.clone()].iter().for_each(|&label| counts[label as usize] += 1);
    let fair = range.len() as f64 / counts.len() as f64;
    Ok(counts.iter().map(|&count| if count == 0 { 0.0 } else { (fair / count as f64) as f32 }).collect())
}

/// The ranges that are trained: everything that is not frozen, with decay where it is meant.
pub fn groups(layout: &FlatLayout, settings: &Settings) -> Result<Vec<Group>> {
    let frozen = frozen_slots(layout, &settings.freeze)?;
    let mut groups: Vec<Group> = Vec::new();
    for tensor in layout.tensors().iter().filter(|t| t.is_trained) {
        let is_known = groups.last().is_some_and(|g| g.range.end > tensor.range.start);
        if is_known || frozen.contains(&tensor.range) {
            continue;
        }
        let decays = settings.decays_all || is_weight(tensor.role);
        match groups.last_mut() {
            Some(last) if last.decays == decays && last.range.end == tensor.range.start => {
                last.range.end = tensor.range.end;
            }
            _ => groups.push(Group { range: tensor.range.clone(), decays }),
        }
    }
    Ok(groups)
}

/// Whether a tensor is what weight decay is for: a weight, not a bias or a norm's scale.
pub(crate) fn is_weight(role: Role) -> bool {
    use Role::{ConvolutionWeight, DenseWeight, RecurrentHidden, RecurrentInput, Table};
    matches!(role, ConvolutionWeight | DenseWeight { .. } | RecurrentInput | RecurrentHidden | Table)
}

/// The slots that patterns name.
pub fn frozen_slots(layout: &FlatLayout, patterns: &[String]) -> Result<Vec<Range<usize>>> {
    let globs = patterns.iter().map(|p| dlopt_checkpoint::NameGlob::new(p)).collect::<Result<Vec<_>>>()?;
    for (glob, pattern) in globs.iter().zip(patterns) {
        if !layout.tensors().iter().any(|t| t.is_trained && glob.matches(&t.name)) {
            let names: Vec<&str> = layout.tensors().iter().take(8).map(|t| t.name.as_str()).collect();
            return Err(Error::usage(format!("--freeze {pattern}: no trained tensor has such a name"))
                .hint(format!("the model has {}…", names.join(", "))));
        }
    }
    layout.slots(|t| globs.iter().any(|g| g.matches(&t.name)))
}

/// For every node of the layout, whether all its trained slots are frozen.
pub fn frozen_nodes(layout: &FlatLayout, frozen: &[Range<usize>]) -> Vec<bool> {
    layout
        .nodes
        .iter()
        .map(|node| !node.trained.is_empty() && node.trained.iter().all(|slot| frozen.contains(slot)))
        .collect()
}

/// The first thing that two runs were asked differently, by their [`run_facts`](crate::run_facts); nothing if there is none.
pub fn difference(old: &str, new: &str) -> Option<String> {
    if old == new {
        return None;
    }
    let read = |text: &str| serde_json::from_str(text).unwrap_or(serde_json::Value::Null);
    Some(first_difference("run", &read(old), &read(new)))
}

fn first_difference(key: &str, old: &serde_json::Value, new: &serde_json::Value) -> String {
    if let (Some(a), Some(b)) = (old.as_object(), new.as_object())
        && let Some(inner) = a.keys().chain(b.keys()).find(|key| a.get(*key) != b.get(*key))
    {
        // What nobody asked for is not written down.
        let none = serde_json::Value::Null;
        return first_difference(inner, a.get(inner).unwrap_or(&none), b.get(inner).unwrap_or(&none));
    }
    let short = |value: &serde_json::Value| value.to_string().chars().take(60).collect::<String>();
    format!("`{key}`: {}, now {}", short(old), short(new))
}

/// A well-mixed number from two (SplitMix64; Steele, Lea and Flood, 2014).
pub(crate) fn mixed(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Where the state of a run that writes `out` is kept.
pub fn state_folder(out: &Path) -> PathBuf {
    // Path components drop a slash at the end.
    let mut name = out.components().collect::<PathBuf>().into_os_string();
    name.push(".dlopt-training");
    PathBuf::from(name)
}
