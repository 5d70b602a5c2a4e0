//! A teacher in a training: asked or read from a file, in whole runs and in runs that were stopped.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use dlopt_checkpoint::{Checkpoint, Result};
use dlopt_data::Dataset;
use dlopt_kernels::nn::Team;
use dlopt_model::taps;
use dlopt_train::{
    Engine, Extension, Model, Observer, Optimizer, OptimizerOptions, Settings, Trained, Trainer, split_ranges,
};

use crate::cache::{Cache, Facts, Keeping};
use crate::distillation::{Distillation, Plan, Source};
use crate::ramp::Ramp;
use crate::teacher::Teacher;
use crate::term::Term;
use crate::testing::{augmenter, fill, model, net, noise, points, settings, teacher, words};

/// Stops a run after so many updates.
struct Stops<'a> {
    stop: &'a AtomicBool,
    after: Option<usize>,
}

impl Observer for Stops<'_> {
    fn updated(&mut self, _samples: usize, _mean_loss: f64) {
        if let Some(after) = &mut self.after {
            *after -= 1;
            if *after == 0 {
                self.stop.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// A student and what it learns.
struct Run<'a> {
    dataset: &'a Arc<Dataset>,
    model: &'a Model,
    losses: &'a [&'a str],
    labels: &'a str,
    unlabelled: Option<&'a str>,
    settings: &'a Settings,
}

impl Run<'_> {
    fn plan(&self) -> Plan {
        Plan {
            terms: self.losses.iter().map(|text| Term::parse(text).unwrap()).collect(),
            labels: Ramp::parse(self.labels).unwrap(),
            unlabelled: self.unlabelled.map(|split| split_ranges(self.dataset, split).unwrap()).unwrap_or_default(),
            sequences: None,
        }
    }

    /// A teacher for its layers.
    fn teacher(&self, dir: &Path) -> Teacher {
        let layers = &self.plan().layers()[1];
        teacher(dir, 1, self.dataset, &layers.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Trains; with a state it may be stopped, and goes on.
    fn train(&self, source: Source, state: Option<&Path>, after: Option<usize>, resume: bool) -> Result<Trained> {
        let stop = AtomicBool::new(false);
        let team = Arc::new(Team::new(2));
        let plan = self.plan();
        plan.check(self.dataset).unwrap();
        let own = taps(&self.model.nodes, &plan.layers()[0]).unwrap();
        let others = match &source {
            Source::Live(teacher) => teacher.taps().to_vec(),
            Source::Cached(_) => self.teacher(state.unwrap().parent().unwrap()).taps().to_vec(),
        };
        let (nodes, layout) = (&self.model.nodes, &self.model.layout);
        let frozen = vec![false; layout.nodes.len()];
        let source = Arc::new(Mutex::new(source));
        let outputs = self.model.config.outputs;
        let extension = Distillation::new(plan, source, (&own, &others), outputs, self.settings, &team)?;
        let extensions: Vec<Box<dyn Extension>> = vec![Box::new(extension)];
        let trainer = Trainer {
            settings: self.settings,
            dataset: Arc::clone(self.dataset),
            nodes,
            layout,
            engine: Engine::with_taps("cpu", nodes, layout, &frozen, team, &own)?,
            extensions,
            augmenter: augmenter(self.settings, self.dataset),
            save_every: None,
            state_path: state.map(Path::to_owned),
            run: serde_json::Value::Null,
            stop: &stop,
        };
        let mut observer = Stops { stop: &stop, after };
        trainer.train(self.model.weights.clone(), self.model.buffers.clone(), resume, &mut observer)
    }

    fn live(&self, dir: &Path) -> Trained {
        self.train(Source::Live(Box::new(self.teacher(dir))), None, None, false).unwrap()
    }
}

/// Everything at once: logits, a hint through a regressor, labels.
const ALL: [&str; 2] = ["kd=0.7,temperature=3", "hint=fc1:0.4"];

#[test]
fn a_cache_in_32_bits_teaches_the_bytes_that_the_teacher_does() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = Arc::new(points());
    let model = model(&net(4), 5, &dataset);
    for settings in [settings(), noise(settings())] {
        let run = Run {
            dataset: &dataset,
            model: &model,
            losses: &ALL,
            labels: "0.3",
            unlabelled: None,
            settings: &settings,
        };
        let live = run.live(dir.path());
        let path = dir.path().join(format!("answers-{}.safetensors", settings.augment.is_some()));
        let mut teacher = run.teacher(dir.path());
        let samples = split_ranges(&dataset, "train").unwrap();
        let facts = Facts::new(&teacher, &dataset, &samples, &settings, Keeping { is_half: false, top: None });
        fill(&path, &facts, &mut teacher, (&dataset, &settings), None).unwrap();
        let mut cache = Cache::open(Checkpoint::open(&path).unwrap()).unwrap();
        cache.expect(&facts).unwrap();
        let state = dir.path().join("state.safetensors");
        let cached = run.train(Source::Cached(Box::new(cache)), Some(&state), None, false).unwrap();
        assert!(live.weights == cached.weights, "augmented: {}", settings.augment.is_some());
        assert!(live.weights != model.weights);
    }
}

#[test]
fn a_run_that_was_stopped_keeps_what_a_hint_had_learned() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = Arc::new(points());
    let model = model(&net(4), 5, &dataset);
    let settings = settings();
    let losses = ["hint=fc1:0.9", "hint=fc2/fc1:0.2", "kd=0.5..0.1,temperature=4..1@0.5"];
    let run = Run {
        dataset: &dataset,
        model: &model,
        losses: &losses,
        labels: "0.1..0.9",
        unlabelled: None,
        settings: &settings,
    };
    let whole = run.live(dir.path());
    let state = dir.path().join("state.safetensors");
    let live = || Source::Live(Box::new(run.teacher(dir.path())));
    for after in [1, 5, 8, 14] {
        let error = run.train(live(), Some(&state), Some(after), false).unwrap_err();
        assert!(error.message().contains(&format!("stopped after update {after}")), "{error}");
        let resumed = run.train(live(), Some(&state), None, true).unwrap();
        assert!(whole.weights == resumed.weights, "stopped after {after} of 15 updates");
        assert_eq!(whole.history.len(), resumed.history.len());
    }
    // The regressor is trained: with other first values of it the student is another.
    let other = Settings { seed: 6, ..settings.clone() };
    assert!(Run { settings: &other, ..run }.live(dir.path()).weights != whole.weights);
}

#[test]
fn a_state_without_what_a_loss_had_learned_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = Arc::new(points());
    let model = model(&net(4), 5, &dataset);
    let settings = settings();
    let (kd, hint) = (["kd=1"], ["hint=fc1:1"]);
    let run =
        |losses| Run { dataset: &dataset, model: &model, losses, labels: "0", unlabelled: None, settings: &settings };
    let state = dir.path().join("state.safetensors");
    let live = |run: &Run<'_>| Source::Live(Box::new(run.teacher(dir.path())));
    run(&kd).train(live(&run(&kd)), Some(&state), Some(2), false).unwrap_err();
    let error = run(&hint).train(live(&run(&hint)), Some(&state), None, true).unwrap_err();
    assert!(error.message().contains("lacks what a loss had learned"), "{error}");
}

/// The same points, those after the first 29 under other labels.
fn relabelled() -> Dataset {
    let points = points();
    let labels = points.labels().iter().enumerate().map(|(at, label)| if at < 29 { *label } else { (label + 1) % 3 });
    let mut inputs = Vec::new();
    points.stored(0..36, &mut inputs).unwrap();
    let parts = dlopt_data::Parts {
        name: "points".to_owned(),
        info: points.info().clone(),
        dtype: dlopt_checkpoint::Dtype::F32,
        inputs,
        labels: labels.collect(),
        targets: None,
        lengths: None,
    };
    Dataset::from_parts(parts).unwrap()
}

#[test]
fn samples_without_labels_add_nothing_to_the_loss_on_labels() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { training_split: "train+more".to_owned(), ..settings() };
    let weights = |dataset: Dataset, losses: &[&str], unlabelled: Option<&str>| {
        let dataset = Arc::new(dataset);
        let model = model(&net(4), 5, &dataset);
        Run { dataset: &dataset, model: &model, losses, labels: "1", unlabelled, settings: &settings }
            .live(dir.path())
            .weights
    };
    let (kd, none) = (["kd=0.5"], ["kd=0"]);
    for losses in [&kd[..], &none] {
        assert!(weights(points(), losses, Some("more")) == weights(relabelled(), losses, Some("more")));
        assert!(weights(points(), losses, None) != weights(relabelled(), losses, None));
    }
    // All in one batch, the mean over those with a label is the training on them alone.
    let one = |split: &str, unlabelled| {
        let dataset = Arc::new(points());
        let model = model(&net(4), 5, &dataset);
        let sgd = Optimizer::named("sgd", OptimizerOptions::default()).unwrap();
        let settings = Settings {
            training_split: split.to_owned(),
            batch: 36,
            epochs: 1,
            optimizer: sgd,
            learning_rate: 0.5,
            ..settings.clone()
        };
        Run { dataset: &dataset, model: &model, losses: &none, labels: "1", unlabelled, settings: &settings }
            .live(dir.path())
    };
    let (with, without) = (one("train+more", Some("more")), one("train", None));
    assert!(with.weights.iter().zip(&without.weights).all(|(a, b)| (a - b).abs() < 1e-6));
    assert!((with.history[0].train_loss - without.history[0].train_loss).abs() < 1e-6);
}

#[test]
fn weights_that_move_are_those_of_the_moment() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = Arc::new(points());
    let model = model(&net(4), 5, &dataset);
    // One update an epoch, and a rate of 0: only the weights of the losses move. Progress is 0, 1/4, 2/4, 3/4.
    let settings = Settings { batch: 29, epochs: 4, learning_rate: 0.0, ..settings() };
    let losses = |losses: &[&str], labels: &str| -> Vec<f64> {
        let run = Run { dataset: &dataset, model: &model, losses, labels, unlabelled: None, settings: &settings };
        run.live(dir.path()).history.iter().map(|epoch| epoch.train_loss).collect()
    };
    let kd = losses(&["kd=1"], "0")[0];
    let ce = losses(&["kd=0"], "1")[0];
    assert!(kd > 1e-4 && ce > 0.1, "{kd} {ce}");
    let moved = losses(&["kd=1..0@0.5"], "0.2..1");
    for (epoch, found) in moved.iter().enumerate() {
        let progress = epoch as f64 / 4.0;
        let wanted = (1.0 - 2.0 * progress).max(0.0) * kd + (0.2 + 0.8 * progress) * ce;
        assert!((found - wanted).abs() < 1e-5 * wanted, "epoch {epoch}: {found}, wanted {wanted}");
    }
}

#[test]
fn the_gradient_of_all_losses_together_is_that_of_their_sum() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = Arc::new(points());
    let sgd = Optimizer::named("sgd", OptimizerOptions::default()).unwrap();
    let settings = Settings { batch: 29, epochs: 1, optimizer: sgd, learning_rate: 1.0, ..settings() };
    let begun = |weights: Option<Vec<f32>>| {
        let mut model = model(&net(4), 5, &dataset);
        if let Some(weights) = weights {
            model.weights = weights;
        }
        let run = Run {
            dataset: &dataset,
            model: &model,
            losses: &ALL,
            labels: "0.3",
            unlabelled: None,
            settings: &settings,
        };
        let trained = run.live(dir.path());
        (model.weights.clone(), trained.weights, trained.history[0].train_loss)
    };
    let (first, after, _) = begun(None);
    // One step of size 1 is the gradient.
    let gradient: Vec<f64> = first.iter().zip(&after).map(|(a, b)| f64::from(a - b)).collect();
    let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
    let step = 1e-2;
    for direction in 0..6_usize {
        // Along the gradient, and along others.
        let along: Vec<f64> = (0..first.len())
            .map(
                |at| if direction == 0 { gradient[at] / norm } else { ((at * 37 + direction * 11) as f64).sin() / 4.0 },
            )
            .collect();
        let moved = |sign: f64| {
            let weights = first.iter().zip(&along).map(|(w, d)| (f64::from(*w) + sign * step * d) as f32).collect();
            begun(Some(weights)).2
        };
        let found = (moved(1.0) - moved(-1.0)) / (2.0 * step);
        let wanted: f64 = gradient.iter().zip(&along).map(|(g, d)| g * d).sum();
        // Losses are kept in 32 bits: their differences over 2e-2 are exact to about 1e-5.
        assert!((found - wanted).abs() < 2e-4 * norm.max(1.0), "direction {direction}: {found}, wanted {wanted}");
    }
}

#[test]
fn tokens_of_sequences_are_distilled_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = Arc::new(words(dir.path()));
    let text = "layers = [{ type = \"seq2seq\", embedding = 3, hidden = 4 }]";
    let model = model(text, 5, &dataset);
    let settings = Settings { epochs: 30, learning_rate: 0.03, ..settings() };
    let losses = ["kd=1"];
    let run =
        Run { dataset: &dataset, model: &model, losses: &losses, labels: "0", unlabelled: None, settings: &settings };
    let history = run.live(dir.path()).history;
    assert!(
        history[29].train_loss < 0.7 * history[0].train_loss,
        "{} {}",
        history[0].train_loss,
        history[29].train_loss
    );
}

#[test]
fn plans_that_data_cannot_mean_are_refused() {
    let dataset = Arc::new(points());
    let plan = |losses: &[&str], labels: f64| Plan {
        terms: losses.iter().map(|text| Term::parse(text).unwrap()).collect(),
        labels: Ramp::constant(labels),
        unlabelled: Vec::new(),
        sequences: None,
    };
    plan(&["kd=0"], 0.1).check(&dataset).unwrap();
    plan(&["kd=0..1"], 0.0).check(&dataset).unwrap();
    let error = plan(&["kd=0", "logit-mse=0"], 0.0).check(&dataset).unwrap_err();
    assert!(error.message().contains("nothing to learn"), "{error}");
    let mut unlabelled = plan(&["dkd=1"], 1.0);
    unlabelled.unlabelled.push(29..36);
    assert!(unlabelled.check(&dataset).unwrap_err().message().contains("needs labels"));
    let layers = plan(&["hint=a/b:1", "attention=a/c:1", "hint=d:1"], 0.0).layers();
    assert_eq!(layers, [vec!["a".to_owned(), "d".to_owned()], ["b", "c", "d"].map(str::to_owned).to_vec()]);
}
