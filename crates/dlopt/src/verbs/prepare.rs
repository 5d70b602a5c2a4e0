//! `dlopt prepare`: raw data to a dataset file.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, ValueEnum};
use dlopt_checkpoint::{Checkpoint, Error, Result, write_bytes};
use dlopt_data::{
    Batch, CleanOptions, Constant, Dataset, Elements, Kind, Pipeline, PrepareOptions, PrepareReport, Preprocessing,
    ReadOptions, Scale, SplitOptions, Standardise, StepSpec, Unit, Values, features_spec, prepare,
};
use dlopt_metrics::{Picture, Pixels, contact_sheet_png};
use dlopt_model::config_of;

use crate::args::ReportArgs;
use crate::job;
use crate::messages;
use crate::progress::Bar;
use crate::streams;
use crate::tables::{balance, grouped, sources, statistics};

const EXAMPLES: &str = "\
Examples:
  dlopt prepare fashion-mnist/ -o fashion.safetensors        a folder of IDX files, train and t10k
  dlopt prepare mnist.npz --split validation=0.1 -o mnist.safetensors
  dlopt prepare digits.csv.gz --shape 8x8 --split-at 1437 --resize 28x28 -o digits.safetensors
  dlopt prepare iris.csv --split test=0.2 --seed 1 -o iris.safetensors
  dlopt prepare houses.csv --targets price --drop id --split test=0.2 -o houses.safetensors
  dlopt prepare --train JapaneseVowels_TRAIN.ts --test JapaneseVowels_TEST.ts -o vowels.safetensors
  dlopt prepare photos/ --clean unreadable=drop,duplicate=drop,channels=fix:3 --resize 64x64 -o photos.safetensors
  dlopt prepare words/ --group '^([^_]+)_' --split test=0.2 --step resample=16000 --step log-mel -o words.safetensors
  dlopt prepare photos/ --resize 64x64 --features hog,lbp -o features.safetensors
  dlopt prepare mails.tsv --text message --label kind --step tokenise=words,limit=20000 --split test=0.2 -o mails.safetensors
  dlopt prepare pairs.tsv --text en --answer de --split test=0.1 -o pairs.safetensors      two texts: a translation
  dlopt prepare cmudict.dict --split test=0.1 -o cmudict.safetensors                       letters to phonemes
  dlopt prepare novel.txt --window 128 --split test=0.1 -o novel.safetensors               text to go on with
  dlopt prepare new.csv --like model.safetensors -o new.safetensors      as the data that a model was trained on

Steps are taken in this order: --step as often as given, --resize, --features; `dlopt list` says what there is. They are
kept in the dataset and in checkpoints trained on it, so that `predict` takes the same ones.
Raw elements are stored as they are; scale, mean and deviation stand beside them and are applied to each batch.";

/// Most samples that cleaning found something about and that are printed, or shown as pictures.
const SHOWN_FINDINGS: usize = 100;

/// Pictures of a preview.
const SHOWN_SAMPLES: usize = 48;

/// Make a dataset of raw data: read, clean, crop, scale, split, standardise, extract features
///
/// Reads folders of pictures, sounds or texts by class, lists of such files, IDX pairs, CIFAR, tables (CSV), arrays (.npz,
/// .safetensors), series (.ts), JSON Lines, texts in tables, in pairs of files and by themselves, and dictionaries, plain
/// or gzipped, in memory that does not grow with the data. Statistics are those of the training split. The
/// same raw data, options and seed give the same bytes, at any number of threads.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PrepareArgs {
    /// Raw data: files, or a folder whose file names say what is for training and what for testing
    #[arg(value_name = "RAW")]
    raw: Vec<PathBuf>,

    /// Dataset file to write
    #[arg(short, long = "output", value_name = "DATA")]
    output: PathBuf,

    /// Replace an existing dataset
    #[arg(long)]
    force: bool,

    /// Raw data of the training split; an IDX pair is pictures and labels
    #[arg(long, value_name = "FILE", num_args = 1..=2)]
    train: Vec<PathBuf>,

    /// Raw data of the validation split
    #[arg(long, value_name = "FILE", num_args = 1..=2)]
    validation: Vec<PathBuf>,

    /// Raw data of the test split
    #[arg(long, value_name = "FILE", num_args = 1..=2)]
    test: Vec<PathBuf>,

    /// Format of the raw data; `dlopt list` names them [default: by name and content]
    #[arg(long, value_name = "NAME")]
    format: Option<String>,

    /// Whether the first line of a table names the columns [default: found out]
    #[arg(long, value_enum, value_name = "YES|NO")]
    header: Option<YesNo>,

    /// What stands between the columns of a table, one character or `tab` [default: found out]
    #[arg(long, value_name = "CHAR", value_parser = delimiter)]
    delimiter: Option<u8>,

    /// Column of the classes, by name or number from 1 on [default: the last]
    #[arg(long, value_name = "COLUMN")]
    label: Option<String>,

    /// Columns of numbers to predict, instead of classes
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', conflicts_with = "label")]
    targets: Vec<String>,

    /// Columns to leave out
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    drop: Vec<String>,

    /// Column or field that holds the text of a sample
    #[arg(long, value_name = "COLUMN")]
    text: Option<String>,

    /// Column or field that holds the text to put out: a translation, a pronunciation
    #[arg(long, value_name = "COLUMN", conflicts_with_all = ["label", "targets"])]
    answer: Option<String>,

    /// What must not be in two splits, such as a speaker: a column or field, or for folders of files a regular expression whose
    /// first brackets hold it, as in '^([^_]+)_'
    #[arg(long, value_name = "COLUMN|REGEX")]
    group: Option<String>,

    /// Whether quotes hold the fields of a table of texts together [default: yes, but not between tabs]
    #[arg(long, value_enum, value_name = "YES|NO")]
    quotes: Option<YesNo>,

    /// What texts are written in, such as latin1, utf-16le, shift_jis [default: UTF-8]
    #[arg(long, value_name = "NAME")]
    encoding: Option<String>,

    /// Tokens of a window of plain text that a network learns to go on with [default: 128]
    #[arg(long, value_name = "TOKENS")]
    window: Option<usize>,

    /// Extents of a sample, such as 8x8 or 32x32x3 for rows that are pictures
    #[arg(long, value_name = "HxW[xC]", value_parser = extents)]
    shape: Option<Extents>,

    /// What samples are, when the raw data leave it open: such as rows of pixels as series
    #[arg(long = "as", value_enum, value_name = "KIND")]
    kind: Option<KindName>,

    /// Names of the classes, in the order of their numbers [default: from the data]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    classes: Vec<String>,

    /// Shares of the training samples, 0 to 1, drawn for other splits class by class: test=0.2,validation=0.1
    #[arg(long, value_name = "NAME=SHARE", value_delimiter = ',', value_parser = share)]
    split: Vec<(String, f64)>,

    /// Cut rows without shuffling: N rows to train on, the others to test on; N,M leaves N..M for validation
    #[arg(long, value_name = "ROW", value_delimiter = ',')]
    split_at: Vec<usize>,

    /// Test on one of several folds, class by class: 1/5 is the first of five
    #[arg(long, value_name = "FOLD/FOLDS", value_parser = fold, conflicts_with = "split_at")]
    fold: Option<[usize; 2]>,

    /// Decides what is drawn
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// What to look for in raw samples, and what to do: unreadable=drop, duplicate=drop, blank=flag, channels=fix:3,
    /// small=drop:32, outlier=flag:6; fail makes it an error
    #[arg(long, value_name = "PROBLEM=ACTION", value_delimiter = ',')]
    clean: Vec<String>,

    /// A step, in the order they are taken: NAME, NAME=VALUE, NAME=VALUE,key=value…
    #[arg(long, value_name = "STEP")]
    step: Vec<String>,

    /// A step on the texts to put out, as --step: tokenise=words,bounds=true
    #[arg(long, value_name = "STEP")]
    target_step: Vec<String>,

    /// Scale pictures to this height and width, in pixels: short for --step resize=HxW
    #[arg(long, value_name = "HxW", value_parser = extents)]
    resize: Option<Extents>,

    /// How --resize scales pictures [default: bilinear]
    #[arg(long, requires = "resize")]
    filter: Option<String>,

    /// Numbers that describe a sample, instead of the sample: hog,lbp; options as in --features hog=8 once for each
    #[arg(long, value_name = "FEATURES")]
    features: Vec<String>,

    /// Prepare as the data that this model was trained on: its steps, statistics and classes
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["step", "resize", "features", "classes", "scale",
        "standardise", "mean", "deviation", "target_step"])]
    like: Option<PathBuf>,

    /// Factor on the elements: a number, 1/255, or `max` to make the largest of training 1 [default: 1/255 for bytes, max
    /// for pictures in tables, else 1]
    #[arg(long, value_name = "FACTOR", value_parser = scale)]
    scale: Option<Scale>,

    /// Statistics of the training split to take off and divide by [default: channel for pictures, else feature]
    #[arg(long, visible_alias = "standardize", value_enum, value_name = "WHICH")]
    standardise: Option<StandardiseName>,

    /// Numbers to take off, instead of those of the training split: one for all, or one a channel or feature
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', requires = "deviation", conflicts_with = "standardise")]
    mean: Vec<f32>,

    /// Numbers to divide by after that
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', requires = "mean")]
    deviation: Vec<f32>,

    /// What to do about a channel or feature that never changes: refuse it, or keep it as 0
    #[arg(long, value_enum, default_value_t = ConstantName::Refuse)]
    constant: ConstantName,

    /// Put pictures of what cleaning found into this PNG file
    #[arg(long, value_name = "FILE", requires = "clean")]
    found: Option<PathBuf>,

    /// Put pictures of prepared training samples into this PNG file
    #[arg(long, value_name = "FILE")]
    preview: Option<PathBuf>,

    /// Threads [default: all cores]; the bytes are the same at any number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Where samples of any size wait, and compressed arrays are unpacked [default: beside the output]
    #[arg(long, value_name = "DIR")]
    tmp_dir: Option<PathBuf>,

    #[command(flatten)]
    report: ReportArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum YesNo {
    Yes,
    No,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KindName {
    /// Pictures
    Image,
    /// Series: time first
    Series,
    /// Rows of numbers
    Vector,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum StandardiseName {
    /// None
    None,
    /// Mean and deviation of each channel of pictures
    Channel,
    /// Mean and deviation of each feature, or pixel
    Feature,
    /// Smallest value and range
    MinMax,
    /// Median and range between the quartiles
    Robust,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ConstantName {
    /// It is an error
    Refuse,
    /// It becomes 0
    Keep,
}

/// Extents such as 8x8.
#[derive(Clone, Debug)]
struct Extents(Vec<usize>);

fn extents(text: &str) -> Result<Extents, String> {
    let extents: Option<Vec<usize>> = text.split('x').map(|part| part.parse().ok().filter(|&n| n > 0)).collect();
    extents.map(Extents).ok_or_else(|| "wanted whole numbers above 0 with x between, such as 28x28".to_owned())
}

fn fold(text: &str) -> Result<[usize; 2], String> {
    let parsed = text.split_once('/').and_then(|(fold, folds)| Some([fold.parse().ok()?, folds.parse().ok()?]));
    parsed.ok_or_else(|| "wanted FOLD/FOLDS, such as 1/5".to_owned())
}

fn share(text: &str) -> Result<(String, f64), String> {
    let parsed =
        text.split_once('=').and_then(|(name, share)| Some((name.trim().to_owned(), share.trim().parse().ok()?)));
    parsed.filter(|(name, _)| !name.is_empty()).ok_or_else(|| "wanted NAME=SHARE, such as test=0.2".to_owned())
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"tab" | b"\\t" => Ok(b'\t'),
        &[one] if one.is_ascii() && one != b'"' && one != b'\n' && one != b'\r' => Ok(one),
        _ => Err("wanted one character, or tab".to_owned()),
    }
}

fn scale(text: &str) -> Result<Scale, String> {
    if text == "max" {
        return Ok(Scale::Largest);
    }
    let factor = match text.split_once('/') {
        Some((a, b)) => a.trim().parse::<f64>().ok().zip(b.trim().parse::<f64>().ok()).map(|(a, b)| a / b),
        None => text.parse().ok(),
    };
    let factor = factor.map(|factor| factor as f32).filter(|factor| factor.is_finite() && *factor != 0.0);
    factor.map(Scale::By).ok_or_else(|| "wanted a number other than 0, a fraction such as 1/255, or max".to_owned())
}

impl PrepareArgs {
    fn options(&self) -> Result<PrepareOptions> {
        let mut inputs: Vec<(Option<&'static str>, PathBuf)> = Vec::new();
        inputs.extend(self.raw.iter().map(|path| (None, path.clone())));
        for (split, paths) in [("train", &self.train), ("validation", &self.validation), ("test", &self.test)] {
            inputs.extend(paths.iter().map(|path| (Some(split), path.clone())));
        }
        if inputs.is_empty() {
            return Err(Error::usage("no raw data").hint("dlopt prepare RAW -o DATA, or --train FILE --test FILE"));
        }
        if !self.raw.is_empty() && inputs.len() > self.raw.len() {
            return Err(Error::usage("raw data both with and without a split named")
                .hint("--train, --validation and --test name all of them, or none"));
        }
        let mut clean = CleanOptions::default();
        self.clean.iter().try_for_each(|rule| clean.add(rule))?;
        let tmp_dir = match &self.tmp_dir {
            Some(dir) if !dir.is_dir() => {
                return Err(Error::input(format!("{}: --tmp-dir is no folder", dir.display())));
            }
            Some(dir) => dir.clone(),
            None => match self.output.parent() {
                Some(parent) if parent.is_dir() => parent.to_owned(),
                _ => PathBuf::from("."),
            },
        };
        Ok(PrepareOptions {
            inputs,
            read: ReadOptions {
                format: self.format.clone(),
                header: self.header.map(|header| matches!(header, YesNo::Yes)),
                delimiter: self.delimiter,
                label: self.label.clone(),
                targets: self.targets.clone(),
                drop: self.drop.clone(),
                text: self.text.clone(),
                answer: self.answer.clone(),
                group: self.group.clone(),
                quotes: self.quotes.map(|quotes| matches!(quotes, YesNo::Yes)),
                encoding: self.encoding.clone(),
                window: self.window,
                unit: Unit::default(),
                shape: self.shape.as_ref().map(|extents| extents.0.clone()).unwrap_or_default(),
                kind: self.kind.map(|kind| match kind {
                    KindName::Image => Kind::Image,
                    KindName::Series => Kind::Series,
                    KindName::Vector => Kind::Vector,
                }),
                tmp_dir,
            },
            classes: self.classes.clone(),
            clean,
            split: SplitOptions {
                shares: self.split.clone(),
                at: self.split_at.clone(),
                fold: self.fold,
                seed: self.seed,
            },
            steps: self.steps()?,
            sequence_steps: self.target_step.iter().map(|step| Pipeline::spec(step)).collect::<Result<_>>()?,
            like: self.like.as_deref().map(like).transpose()?,
            scale: self.scale,
            standardise: self.standardise.map(|which| match which {
                StandardiseName::None => Standardise::None,
                StandardiseName::Channel => Standardise::Channel,
                StandardiseName::Feature => Standardise::Feature,
                StandardiseName::MinMax => Standardise::MinMax,
                StandardiseName::Robust => Standardise::Robust,
            }),
            constant: match self.constant {
                ConstantName::Refuse => Constant::Refuse,
                ConstantName::Keep => Constant::Keep,
            },
            given: (!self.mean.is_empty()).then(|| (self.mean.clone(), self.deviation.clone())),
            thumbnails: if self.found.is_some() { SHOWN_FINDINGS } else { 0 },
            threads: super::training::threads(self.threads),
            force: self.force,
        })
    }

    /// The steps that are asked for, in their order.
    fn steps(&self) -> Result<Vec<StepSpec>> {
        let mut steps = self.step.iter().map(|step| Pipeline::spec(step)).collect::<Result<Vec<_>>>()?;
        match self.resize.as_ref().map(|extents| &extents.0[..]) {
            None => {}
            Some(&[height, width]) => {
                let filter = self.filter.as_ref().map(|filter| format!(",filter={filter}")).unwrap_or_default();
                steps.push(Pipeline::spec(&format!("resize={height}x{width}{filter}"))?);
            }
            Some(_) => return Err(Error::usage("--resize wants height and width, such as 28x28")),
        }
        let mut features = Vec::new();
        for text in &self.features {
            // A list of names, or one name with its options.
            match text.contains('=') {
                true => features.push(text.clone()),
                false => features.extend(text.split(',').map(str::to_owned)),
            }
        }
        if !features.is_empty() {
            steps.push(features_spec(&features)?);
        }
        Pipeline::of(&steps)?;
        Ok(steps)
    }
}

/// What a model's data went through, and the classes it knows.
fn like(path: &Path) -> Result<(Preprocessing, Vec<String>)> {
    let checkpoint = Checkpoint::open(path)?;
    let config = config_of(&checkpoint)?;
    let preprocessing = Preprocessing::of(&config.preprocessing).map_err(|e| e.within(&checkpoint.name))?;
    Ok((preprocessing, config.classes))
}

pub(super) fn run(args: &PrepareArgs, stop: &Arc<AtomicBool>) -> Result<ExitCode> {
    let options = args.options()?;
    let written = [
        ("--output", Some(args.output.as_path())),
        ("--report", args.report.report.as_deref()),
        ("--found", args.found.as_deref()),
        ("--preview", args.preview.as_deref()),
    ];
    let read: Vec<Option<&Path>> =
        options.inputs.iter().map(|(_, path)| Some(path.as_path())).chain([args.like.as_deref()]).collect();
    job::check_files(&written, &read)?;
    let bar = Bar::of_samples(args.report.quiet);
    let report = prepare(&options, &args.output, &bar, stop);
    bar.clear();
    let report = report?;
    if !args.report.quiet {
        report.warnings.iter().for_each(|warning| messages::warning(warning));
    }
    if let Some(path) = &args.found {
        draw_found(path, &report, args.force)?;
    }
    if let Some(path) = &args.preview {
        draw_preview(path, &args.output, args.force)?;
    }
    job::write_report(args.report.report.as_deref(), &report)?;
    if args.report.json {
        streams::print_json(&report)?;
    } else if !args.report.quiet {
        streams::print(&text(&report, args.report.verbose))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Draws what cleaning found something about.
fn draw_found(path: &Path, report: &PrepareReport, force: bool) -> Result<()> {
    if report.rejected.is_empty() {
        return Err(Error::input(format!("{}: cleaning found nothing that could be drawn", path.display())));
    }
    let pictures: Vec<Picture<'_>> = report
        .rejected
        .iter()
        .map(|own| {
            let image = &own.image;
            Picture {
                pixels: match &image.pixels {
                    Values::U8(pixels) => Pixels::U8(pixels),
                    Values::F32(pixels) => Pixels::F32(pixels),
                },
                height: image.height,
                width: image.width,
                channels: image.channels,
                label: own.caption.clone(),
                predicted: own.note.clone(),
                confidence: f64::NAN,
            }
        })
        .collect();
    write_bytes(path, &contact_sheet_png("What cleaning found", &pictures)?, force)
}

/// Draws prepared training samples, evenly taken.
fn draw_preview(path: &Path, data: &Path, force: bool) -> Result<()> {
    let mut dataset = Dataset::open(data)?;
    let (height, width, channels) = match dataset.info().elements {
        Elements::Image { height, width, channels } => (height, width, channels),
        Elements::Series { time, features } if features > 1 => (time, features, 1),
        _ => return Err(Error::usage("--preview draws pictures and spectra, and the samples are neither")),
    };
    // As they are stored, not standardised.
    let plain = Preprocessing { mean: Vec::new(), deviation: Vec::new(), ..dataset.preprocessing().clone() };
    dataset.set_preprocessing(plain)?;
    let train = dataset.split("train")?;
    let stride = train.len().div_ceil(SHOWN_SAMPLES).max(1);
    let indices: Vec<usize> = train.step_by(stride).collect();
    let mut batch = Batch::default();
    dataset.gather(&indices, &mut batch)?;
    let pictures: Vec<Picture<'_>> = batch
        .inputs
        .chunks_exact(height * width * channels)
        .enumerate()
        .map(|(place, pixels)| {
            let class = batch.labels.get(place).and_then(|&label| dataset.classes().get(label as usize));
            Picture {
                pixels: Pixels::F32(pixels),
                height,
                width,
                channels,
                label: class.cloned().unwrap_or_default(),
                predicted: String::new(),
                confidence: f64::NAN,
            }
        })
        .collect();
    write_bytes(path, &contact_sheet_png(&format!("{} of {}", pictures.len(), data.display()), &pictures)?, force)
}

fn text(report: &PrepareReport, is_verbose: bool) -> String {
    let mut text = format!(
        "{}: {} {}, {}, {} bytes\n",
        report.output,
        grouped(report.samples as u64),
        report.elements,
        report.dtype,
        grouped(report.bytes)
    );
    if let Some([shortest, longest]) = report.lengths {
        let _ = writeln!(text, "{shortest} to {longest} steps; shorter ones end in zeros");
    }
    let more = (!is_verbose).then_some("--verbose");
    text.push_str(&findings(report, is_verbose));
    text.push('\n');
    text.push_str(&balance(&report.info, &report.splits, more));
    text.push('\n');
    text.push_str(&statistics(&report.info, more));
    if is_verbose {
        text.push('\n');
        text.push_str(&sources(&report.info));
    }
    text
}

/// What cleaning found, counted, and the first samples.
fn findings(report: &PrepareReport, is_verbose: bool) -> String {
    let mut counts: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for own in &report.findings {
        *counts.entry((own.problem.name(), format!("{:?}", own.action).to_lowercase())).or_default() += 1;
    }
    let mut text = String::new();
    for ((problem, action), count) in counts {
        let _ = writeln!(text, "{problem}: {} ({action})", grouped(count as u64));
    }
    let shown = if is_verbose { usize::MAX } else { 5 };
    for own in report.findings.iter().take(shown) {
        let _ = writeln!(text, "  {}: {}: {}", own.sample, own.problem.name(), own.detail);
    }
    if let Some(more) = report.findings.len().checked_sub(shown).filter(|more| *more > 0) {
        let _ = writeln!(text, "  and {more} more; --verbose or --json lists them");
    }
    text
}
