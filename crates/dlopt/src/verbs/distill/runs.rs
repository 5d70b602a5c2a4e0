//! The trainings: a student, and perhaps a control, for each seed; each is kept as it is finished.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dlopt_checkpoint::{Checkpoint, Context, Error, Header, Result, Target, Tensors, make_folder};
use dlopt_distill::Distillation;
use dlopt_metrics::EpochRecord;
use dlopt_model::{save_through, taps};
use dlopt_train::{
    Engine, Model, Settings, Trainer, difference, frozen_nodes, frozen_slots, run_facts, training_samples,
};

use super::{Work, plan};
use crate::verbs::training::{LAST_GOOD, augmenter};
use crate::verbs::watcher::Watcher;

/// A training that is finished.
pub(super) struct Run {
    /// Its checkpoint.
    pub(super) path: PathBuf,
    pub(super) seed: u64,
    pub(super) history: Vec<EpochRecord>,
    /// Its settings, for the report.
    pub(super) settings: Settings,
}

/// All trainings of a distillation.
pub(super) struct Finished {
    pub(super) students: Vec<Run>,
    pub(super) controls: Vec<Run>,
}

/// Trains students and controls; what an earlier run finished is used.
pub(super) fn all(work: &Work<'_>, students: &[Model]) -> Result<Finished> {
    make_folder(&work.folder)?;
    let mut finished = Finished { students: Vec::new(), controls: Vec::new() };
    for (number, model) in (0..).zip(students) {
        let seed = work.args.training.seed + number;
        let settings = Settings { seed, ..work.settings.clone() };
        finished.students.push(one(work, model, "student", &settings)?);
        if work.args.control {
            finished.controls.push(one(work, model, "control", &control(work, &settings)?)?);
        }
    }
    Ok(finished)
}

/// The settings of a control: labels alone, for about as many updates.
fn control(work: &Work<'_>, settings: &Settings) -> Result<Settings> {
    let dataset = &work.dataset;
    let mut own = Settings {
        distillation: None,
        training_split: work.args.training.split.clone(),
        augment_seed: settings.augment.as_ref().and(settings.augment_seed),
        ..settings.clone()
    };
    let per_epoch = |settings: &Settings| -> Result<u64> {
        Ok(settings.steps_per_epoch(training_samples(settings, dataset)?.len()))
    };
    let updates = per_epoch(settings)? * settings.epochs as u64;
    let each = per_epoch(&own)?.max(1);
    own.epochs = (updates as f64 / each as f64).round().max(1.0) as usize;
    Ok(own)
}

/// Trains one, or takes what an earlier run finished.
fn one(work: &Work<'_>, model: &Model, role: &'static str, settings: &Settings) -> Result<Run> {
    let seed = settings.seed;
    let path = work.folder.join(format!("{role}-{seed}.safetensors"));
    let history_path = work.folder.join(format!("{role}-{seed}.jsonl"));
    let facts_path = work.folder.join(format!("{role}-{seed}.run.json"));
    let state = work.folder.join(format!("{role}-{seed}.state.safetensors"));
    let is_taught = settings.distillation.is_some();
    let dataset = if is_taught { &work.taught } else { &work.dataset };
    let run = run_facts(settings, model, dataset);
    if path.exists() && history_path.exists() && facts_path.exists() {
        let found = std::fs::read_to_string(&facts_path).at(facts_path.display())?;
        if let Some(what) = difference(&found, &run.to_string()) {
            return Err(Error::usage(format!("{}: the run that was stopped had another {what}", path.display()))
                .hint("resume with the same command, or --force begins again"));
        }
        let text = std::fs::read_to_string(&history_path).at(history_path.display())?;
        let history = EpochRecord::read_lines(&text)?;
        return Ok(Run { path, seed, history, settings: settings.clone() });
    }
    let plan = plan::plan(work.args, &work.dataset)?;
    let own = if is_taught { taps(&model.nodes, &plan.layers()[0])? } else { Vec::new() };
    let frozen = frozen_nodes(&model.layout, &frozen_slots(&model.layout, &settings.freeze)?);
    let team = Arc::clone(&work.team);
    let engine =
        Engine::with_taps(&work.args.training.device, &model.nodes, &model.layout, &frozen, Arc::clone(&team), &own)?;
    let recovery = work.args.recovery.recovery(model)?;
    let mut extensions = recovery.extensions(model, settings, &team)?;
    if is_taught {
        let source = Arc::clone(&work.source);
        let taps = (own.as_slice(), work.taps.as_slice());
        extensions.push(Box::new(Distillation::new(plan, source, taps, model.config.outputs, settings, &team)?));
    }
    let many = work.args.seeds > 1 || work.args.control;
    let title = if many { format!("{role} {seed}:") } else { String::new() };
    let mut watcher = Watcher::new("distill", (settings, model, dataset), work.args.report.quiet, work.started);
    if many {
        watcher = watcher.titled(&title);
    }
    watcher.last_good = Some(work.folder.join(format!("{LAST_GOOD}-{role}-{seed}.safetensors")));
    let trainer = Trainer {
        settings,
        dataset: Arc::clone(dataset),
        nodes: &model.nodes,
        layout: &model.layout,
        engine,
        extensions,
        augmenter: augmenter(settings, dataset)?,
        save_every: work.args.training.save_every,
        state_path: Some(state.clone()),
        run: run.clone(),
        stop: work.stop,
    };
    let resumes = state.exists();
    let trained = trainer.train(model.weights.clone(), model.buffers.clone(), resumes, &mut watcher);
    watcher.clear();
    let trained = trained?;
    let verb = if is_taught { "distill" } else { "train" };
    let (header, tensors) = model.checkpoint(verb, settings, dataset, &trained)?;
    let lines: String = trained.history.iter().map(EpochRecord::to_line).collect();
    dlopt_checkpoint::write_bytes(&history_path, lines.as_bytes(), true)?;
    dlopt_checkpoint::write_bytes(&facts_path, run.to_string().as_bytes(), true)?;
    save_through(Target::File(path.clone()), &header, &tensors, &recovery.passes(), true)?;
    if state.exists() {
        std::fs::remove_file(&state).at(state.display())?;
    }
    Ok(Run { path, seed, history: trained.history, settings: settings.clone() })
}

/// The header of a checkpoint and the bytes of its tensors.
pub(super) fn tensors(path: &Path) -> Result<(Header, Vec<Vec<u8>>)> {
    let checkpoint = Checkpoint::open(path)?;
    let mut tensors = Vec::new();
    for (at, tensor) in checkpoint.header.tensors.iter().enumerate() {
        let mut bytes = vec![0; tensor.bytes() as usize];
        checkpoint.read(at, 0, &mut bytes)?;
        tensors.push(bytes);
    }
    Ok((checkpoint.header.clone(), tensors))
}
