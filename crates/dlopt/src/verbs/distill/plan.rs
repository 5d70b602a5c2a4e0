//! What is asked: the losses, the student, the settings of its training.

use std::fmt::Write;
use std::path::Path;

use dlopt_checkpoint::{Error, Result};
use dlopt_data::Dataset;
use dlopt_distill::{Facts, Plan, Ramp, Teacher, Term};
use dlopt_model::Derivation;
use dlopt_train::{Loss, Model, Request, Settings, split_ranges};

use super::{DistillArgs, Start};
use crate::tables::grouped;

/// What a student learns when nobody says.
const DEFAULT_LOSSES: [&str; 2] = ["kd=0.9,temperature=4", "ce=0.1"];

/// The losses that were asked for.
pub(super) fn plan(args: &DistillArgs, dataset: &Dataset) -> Result<Plan> {
    let mut plan = Plan { terms: Vec::new(), labels: Ramp::constant(0.0), unlabelled: Vec::new(), sequences: None };
    let default = DEFAULT_LOSSES.map(str::to_owned);
    let asked: &[String] = if args.losses.is_empty() { &default } else { &args.losses };
    let mut has_labels = false;
    for text in asked {
        let Some(Labels { weight, beam }) = Labels::of(text)? else {
            plan.terms.push(Term::parse(text)?);
            continue;
        };
        if has_labels {
            return Err(Error::usage("--loss ce or sequence is said twice: one of them, once"));
        }
        has_labels = true;
        plan.sequences = beam;
        plan.labels = if weight.is_empty() {
            Ramp::constant(1.0)
        } else {
            Ramp::parse(weight).map_err(|e| e.within(format!("--loss {text}")))?
        };
        if plan.labels.least() < 0.0 {
            return Err(Error::usage(format!("--loss {text}: the weight must be 0 or more")));
        }
    }
    if let Some(split) = &args.unlabelled {
        plan.unlabelled = split_ranges(dataset, split)?;
    }
    Ok(plan)
}

/// A loss on labels: `ce[=WEIGHT]`, or `sequence[=WEIGHT][,beam=COUNT]` on the sequences that the teacher puts out.
struct Labels<'a> {
    weight: &'a str,
    beam: Option<usize>,
}

impl<'a> Labels<'a> {
    fn of(text: &'a str) -> Result<Option<Self>> {
        let (head, options) = text.split_once(',').unwrap_or((text, ""));
        let (name, weight) = head.split_once('=').unwrap_or((head, ""));
        let beam = match (name.trim(), options.trim()) {
            ("ce", "") => None,
            ("sequence", "") => Some(4),
            ("sequence", options) => match options.strip_prefix("beam=").map(str::parse) {
                Some(Ok(beam @ 1..=1000)) => Some(beam),
                _ => {
                    return Err(Error::usage(format!("--loss {text}: its option is beam, 1 to 1000"))
                        .hint("--loss sequence=1,beam=4"));
                }
            },
            ("ce", _) => return Err(Error::usage(format!("--loss {text}: `ce` has a weight and no options"))),
            _ => return Ok(None),
        };
        Ok(Some(Self { weight: weight.trim(), beam }))
    }
}

/// The temperature of the first loss that has one.
pub(super) fn temperature(plan: &Plan) -> Option<f64> {
    plan.terms.iter().find_map(|term| term.loss.temperature()).map(|ramp| ramp.at(0.0))
}

/// The student with its first weights for a seed.
pub(super) fn student(args: &DistillArgs, teacher: &Teacher, dataset: &mut Dataset, seed: u64) -> Result<Model> {
    if !Path::new(&args.student).exists()
        && let Some(derivation) = Derivation::parse(&args.student)?
    {
        return derived(args, &derivation, teacher, dataset, seed);
    }
    if args.start.is_some() {
        return Err(Error::usage(format!(
            "--start: `{}` is no change of the teacher and begins as it is",
            args.student
        ))
        .hint("leave it out, or --student width=0.5"));
    }
    let request = Request {
        model: Some(&args.student),
        init: None,
        adopts: false,
        initialization: None,
        seed,
        uses_own_preprocessing: args.use_own_preprocessing,
    };
    Model::make(&request, dataset)
}

/// The student that is a change of the first teacher.
fn derived(
    args: &DistillArgs,
    derivation: &Derivation,
    teacher: &Teacher,
    dataset: &Dataset,
    seed: u64,
) -> Result<Model> {
    let Some((name, loaded, _)) = teacher.networks().next() else {
        return Err(Error::usage("no teacher to change into a student"));
    };
    let description = derivation.description(&loaded.config.description).map_err(|e| e.within(name))?;
    let mut model = Model::of_description(&description, seed, dataset)?;
    if args.start != Some(Start::Fresh) {
        let (weights, buffers) = (&mut model.weights, &mut model.buffers);
        let taken = derivation.take_over(loaded, &model.nodes, &model.layout, weights, buffers)?;
        model.origin = format!("weights of {name}: {}", taken.summary());
    }
    Ok(model)
}

/// The settings of a student's training.
pub(super) fn settings(args: &DistillArgs, dataset: &Dataset, student: &Model, teacher: &Teacher) -> Result<Settings> {
    let loss = if dataset.targets().is_some() { Loss::Mse } else { Loss::CrossEntropy };
    let mut settings = args.training.settings(dataset, student.config.outputs, &student.nodes, loss)?;
    if settings.sampling.share > 0.0 {
        return Err(
            Error::usage("--scheduled-sampling: teacher and student must read the same tokens").hint("leave it out")
        );
    }
    let losses: Vec<&str> =
        if args.losses.is_empty() { DEFAULT_LOSSES.to_vec() } else { args.losses.iter().map(String::as_str).collect() };
    if let Some(split) = &args.unlabelled {
        if settings.label_smoothing > 0.0 {
            return Err(Error::usage("--label-smoothing gives labels to samples that have none")
                .hint("leave it out, or --unlabelled"));
        }
        settings.training_split = format!("{}+{split}", settings.training_split);
    }
    // Students of all seeds see the same changed samples, so that one cache serves them.
    if settings.augment.is_some() {
        settings.augment_seed.get_or_insert(settings.seed);
    }
    settings.distillation = Some(serde_json::json!({
        "losses": losses,
        "teachers": teacher.identities(),
        "unlabelled": args.unlabelled,
        "cached": args.cache_teacher.is_some().then(|| args.cache.keeping(None)).transpose()?,
    }));
    args.recovery.recovery(student)?.settle(&mut settings);
    settings.check()?;
    Ok(settings)
}

/// The losses and teachers, for people; and what a cache takes.
pub(super) fn text(plan: &Plan, teacher: &Teacher, cache: Option<&Facts>) -> String {
    let mut text = String::new();
    for (name, loaded, weight) in teacher.networks() {
        let parameters = grouped(loaded.layout.params_len as u64);
        let share = if weight == 1.0 { String::new() } else { format!(", counts {weight:.3}") };
        let _ = writeln!(text, "teacher {name}: {parameters} parameters{share}");
    }
    for term in &plan.terms {
        let _ = writeln!(text, "loss {}: {}", term.text, term.kind.summary);
    }
    if let Some(beam) = plan.sequences {
        let _ = writeln!(text, "loss sequence={}: the sequences that the teacher puts out, beam {beam}", plan.labels);
    } else if plan.labels.most() > 0.0 {
        let _ = writeln!(text, "loss ce={}: cross-entropy of the labels, or the squared error of numbers", plan.labels);
    }
    if let Some(facts) = cache {
        let (views, samples) = (facts.views, grouped(facts.samples_per_view() as u64));
        let _ = writeln!(text, "cache: {views} views of {samples} samples, {} bytes", grouped(facts.bytes()));
    }
    text
}
