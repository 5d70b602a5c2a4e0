//! `dlopt distill`: a student learns what a teacher says.

mod plan;
mod report;
mod runs;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use clap::{Args, ValueEnum};
use dlopt_checkpoint::{Checkpoint, Error, Progress, Result, write_bytes};
use dlopt_data::Dataset;
use dlopt_distill::{Cache, Facts, Source, Teacher, take_sequences};
use dlopt_kernels::nn::Team;
use dlopt_model::{Tap, load, save, taps};
use dlopt_train::{Settings, changes, frozen_slots, split_ranges, training_samples, use_own_preprocessing};

use super::recovery::RecoveryArgs;
use super::teaching::{CacheArgs, TeacherArgs, fill};
use super::training::{TrainingArgs, leave_no_empty, remove, threads};
use crate::args::ReportArgs;
use crate::exit;
use crate::job::{self, Out};
use crate::messages;
use crate::progress::Bar;
use crate::streams;

const EXAMPLES: &str = "\
Examples:
  dlopt distill --teacher big.safetensors --student cnn --data d.safetensors --epochs 20 --control -o small.safetensors
  dlopt distill --teacher big.safetensors --student width=0.25 --data d.safetensors -o small.safetensors
  dlopt distill --teacher a.safetensors --teacher b.safetensors --student lstm --data d.safetensors -o s.safetensors
  dlopt distill … --loss kd=0.9,temperature=4 --loss ce=0.1 --loss hint=layer2.1/layer2.2:0.5
  dlopt distill … --augment-op horizontal-flip --augment-op crop=2 --cache-teacher answers.safetensors --seeds 3 --control
  dlopt distill --teacher big.safetensors --student pruned.safetensors --data d.safetensors -o recovered.safetensors

Without --loss: kd=0.9,temperature=4 and ce=0.1. `ce` is the loss on the labels; where it is not named, they are not used.
A weight or temperature may move: kd=0.9..0.5, temperature=8..2@0.5. `dlopt list` names the losses.";

/// Train a small network to say what a large one says
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DistillArgs {
    #[command(flatten)]
    teacher: TeacherArgs,

    /// A model by name, a description (NAME.toml), a checkpoint, or a change of the teacher: width=0.5, hidden=64,
    /// layers=0,2,4
    #[arg(long, value_name = "STUDENT")]
    student: String,

    /// Dataset file or folder made by `dlopt prepare`
    #[arg(long, value_name = "DATA")]
    data: PathBuf,

    /// File to write, or FOLDER/ [default: standard output]
    #[arg(short, long = "output", value_name = "OUT")]
    output: Option<PathBuf>,

    /// What the student learns: NAME=WEIGHT[,key=value…], on layers NAME=LAYER[/TEACHERS]:WEIGHT; may be repeated
    #[arg(long = "loss", value_name = "LOSS")]
    losses: Vec<String>,

    /// A split whose samples take part without their labels
    #[arg(long, value_name = "SPLIT")]
    unlabelled: Option<String>,

    /// How a student that is a change of the teacher begins [default: inherit]
    #[arg(long, value_enum)]
    start: Option<Start>,

    /// Keep the teacher's answers in this file, or use those that are there
    #[arg(long, value_name = "FILE")]
    cache_teacher: Option<PathBuf>,

    #[command(flatten)]
    cache: CacheArgs,

    /// Train the same student without the teacher too, for as many updates
    #[arg(long)]
    control: bool,

    /// Students to train, each from a seed of its own; the first is written
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1000))]
    seeds: u16,

    /// The split that teacher, students and controls are compared on; `none` for none [default: `test`]
    #[arg(long, value_name = "SPLIT")]
    test: Option<String>,

    /// Draw teacher, students and controls into this SVG file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,

    #[command(flatten)]
    training: TrainingArgs,

    #[command(flatten)]
    recovery: RecoveryArgs,

    /// Apply the teacher's scale and statistics to the raw elements, though the data were prepared otherwise
    #[arg(long)]
    use_own_preprocessing: bool,

    /// Show the student, what it learns and what a cache would take, and train nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    report: ReportArgs,
}

/// How a student that is a change of the teacher begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Start {
    /// With the teacher's weights where they fit, the most important channels of each layer
    Inherit,
    /// With weights drawn from the seed
    Fresh,
}

/// What all runs share.
struct Work<'a> {
    args: &'a DistillArgs,
    dataset: Arc<Dataset>,
    /// The same with the sequences that the teacher puts out, where students learn those.
    taught: Arc<Dataset>,
    settings: Settings,
    team: Arc<Team>,
    /// Where answers come from; each run asks in turn.
    source: Arc<Mutex<Source>>,
    /// The layers that are compared, of the teacher.
    taps: Vec<Tap>,
    /// Where states and finished runs lie.
    folder: PathBuf,
    started: Instant,
    stop: &'a AtomicBool,
}

pub(super) fn run(args: &DistillArgs, stop: &Arc<AtomicBool>) -> Result<ExitCode> {
    let started = Instant::now();
    let out = Out::named(args.output.as_deref(), false);
    let needs_stdout = matches!(out, Out::Stdout) && !args.dry_run;
    let stdout = needs_stdout.then(streams::stdout_for_checkpoint).transpose()?;
    check_files(args)?;
    if args.cache_teacher.is_none() {
        args.cache.check_unsaid()?;
    }
    let mut dataset = Dataset::open(&args.data)?;
    let teachers = args.teacher.checkpoints()?;
    if args.use_own_preprocessing {
        let (first, _) = &teachers[0];
        use_own_preprocessing(&dlopt_model::config_of(first)?, &first.name, &mut dataset)?;
    }
    let team = Arc::new(Team::new(threads(args.training.threads)));
    let mut plan = plan::plan(args, &dataset)?;
    plan.check(&dataset)?;
    let layers = plan.layers();
    let mut teacher = Teacher::open(teachers, &dataset, &layers[1], &args.training.device, &team)?;
    let seeds = (0..u64::from(args.seeds)).map(|number| args.training.seed + number);
    let students = seeds.map(|seed| plan::student(args, &teacher, &mut dataset, seed)).collect::<Result<Vec<_>>>()?;
    let student = &students[0];
    let settings = plan::settings(args, &dataset, student, &teacher)?;
    let own = taps(&student.nodes, &layers[0]).map_err(|e| e.within("the student"))?;
    plan.begin((&own, teacher.taps()), student.config.outputs, settings.seed)?;
    frozen_slots(&student.layout, &settings.freeze)?;
    training_samples(&settings, &dataset)?;
    let summary =
        dlopt_model::Summary::of(&student.config, &student.nodes, args.training.batch, settings.optimizer.moments())?;
    let keeping = args.cache.keeping(plan::temperature(&plan))?;
    let dataset = Arc::new(dataset);
    let samples = split_ranges(&dataset, &settings.training_split)?;
    if args.dry_run {
        let facts = Facts::new(&teacher, &dataset, &samples, &settings, keeping);
        let mut text = summary.text();
        text.push_str(&plan::text(&plan, &teacher, args.cache_teacher.is_some().then_some(&facts)));
        streams::print(&text)?;
        return Ok(ExitCode::SUCCESS);
    }
    let test = test_split(args, &dataset)?;
    if !args.report.quiet {
        messages::tell(&summary.text());
        messages::tell(&plan::text(&plan, &teacher, None));
        messages::tell(&format!("{}; {} threads\n", student.origin, team.threads()));
        args.recovery.recovery(student)?.tell();
    }
    let kept = args.training.state_folder(&out)?;
    let temporary = kept.is_none().then(tempfile::tempdir).transpose().map_err(|e| Error::input(e.to_string()))?;
    let folder = kept.clone().or_else(|| temporary.as_ref().map(|dir| dir.path().to_owned())).unwrap_or_default();
    let taps = teacher.taps().to_vec();
    let measured = match &test {
        Some((_, range)) => Some(report::Taught::of(&mut teacher, &dataset, range, stop)?),
        None => None,
    };
    let taught = match plan.sequences {
        Some(beam) => Arc::new(with_sequences(args, &dataset, &teacher, &samples, beam, &team, stop)?),
        None => Arc::clone(&dataset),
    };
    let facts = Facts::new(&teacher, &taught, &samples, &settings, keeping);
    let source = source(args, teacher, (&facts, &taught, &settings), plan::temperature(&plan), &folder, &team, stop)?;
    let work = Work { args, dataset, taught, settings, team, source, taps, folder, started, stop };
    let finished = runs::all(&work, &students).inspect_err(|_| leave_no_empty(&work.folder))?;
    let report = report::Report::of(&work, &finished, measured, test)?;
    let (header, tensors) = runs::tensors(&finished.students[0].path)?;
    if let Some(path) = &args.plot {
        write_bytes(path, report.svg().as_bytes(), true)?;
    }
    save(out.target(stdout)?, &header, &tensors, args.training.force || args.training.resume)?;
    if args.report.verbose && !args.report.json {
        let trained = load(&Checkpoint::open(&finished.students[0].path)?)?;
        let moved = changes(&students[0].layout, &students[0].weights, &trained.params);
        messages::tell(&super::train::tensors(&moved));
    }
    report.tell(args)?;
    if let Some(folder) = kept.as_deref().filter(|folder| folder.exists()) {
        remove(folder)?;
    }
    Ok(exit::for_gates(std::iter::empty()))
}

/// Hours of work must not end in a file that cannot be written, or replace what it began with.
fn check_files(args: &DistillArgs) -> Result<()> {
    let mut written = vec![
        ("--output", args.output.as_deref()),
        ("--plot", args.plot.as_deref()),
        ("--report", args.report.report.as_deref()),
    ];
    let student = Some(Path::new(&args.student)).filter(|path| path.exists());
    let teachers = args.teacher.paths();
    let mut read = vec![Some(args.data.as_path()), student, args.training.augment.as_deref()];
    read.extend(teachers.iter().map(|path| Some(path.as_path())));
    match args.cache_teacher.as_deref() {
        Some(cache) if cache.exists() => read.push(Some(cache)),
        cache => written.push(("--cache-teacher", cache)),
    }
    job::check_files(&written, &read)
}

/// The split that all are compared on, with its samples.
fn test_split(args: &DistillArgs, dataset: &Dataset) -> Result<Option<(String, std::ops::Range<usize>)>> {
    let name = match args.test.as_deref() {
        Some("none") => return Ok(None),
        Some(name) => name,
        None if dataset.info().splits.contains_key("test") => "test",
        None => return Ok(None),
    };
    Ok(Some((name.to_owned(), dataset.split(name)?)))
}

/// The data with the sequences that the teacher puts out in the place of those to learn.
fn with_sequences(
    args: &DistillArgs,
    dataset: &Dataset,
    teacher: &Teacher,
    samples: &[std::ops::Range<usize>],
    beam: usize,
    team: &Arc<Team>,
    stop: &AtomicBool,
) -> Result<Dataset> {
    let mut taught = Dataset::open(&args.data)?;
    if args.use_own_preprocessing {
        taught.set_preprocessing(dataset.preprocessing().clone())?;
    }
    let bar = Bar::of_samples(args.report.quiet);
    let all: usize = samples.iter().map(std::ops::Range::len).sum();
    bar.phase("teacher", all as u64);
    let changed = take_sequences(&mut taught, teacher, samples, beam, team, stop, &|done| bar.advance(done as u64));
    bar.clear();
    let changed = changed?;
    if !args.report.quiet {
        messages::tell(&format!("the teacher puts out {changed} of {all} sequences otherwise than the data\n"));
    }
    Ok(taught)
}

/// Where the students' answers come from.
fn source(
    args: &DistillArgs,
    mut teacher: Teacher,
    (facts, dataset, settings): (&Facts, &Arc<Dataset>, &Settings),
    temperature: Option<f64>,
    folder: &Path,
    team: &Arc<Team>,
    stop: &AtomicBool,
) -> Result<Arc<Mutex<Source>>> {
    let Some(path) = &args.cache_teacher else {
        return Ok(Arc::new(Mutex::new(Source::Live(Box::new(teacher)))));
    };
    if !path.exists() {
        let how = (team.threads(), folder, false, args.report.quiet);
        fill(path, facts, &mut teacher, (dataset, settings), how, stop)?;
    }
    let mut cache = Cache::open(Checkpoint::open(path)?)?;
    cache.expect(facts)?;
    args.cache.check(&path.display().to_string(), &cache.facts().keeping)?;
    if let (Some(top), Some(wanted)) = (cache.facts().keeping.top, temperature)
        && (top.temperature - wanted).abs() > 1e-9 * wanted
    {
        messages::warning(&format!(
            "{}: the mass of the classes that are not kept is exact at temperature {}, and the loss is at {wanted}",
            path.display(),
            top.temperature
        ));
    }
    Ok(Arc::new(Mutex::new(Source::Cached(Box::new(cache)))))
}
