//! `dlopt prepare`: raw data to a dataset file.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, ValueEnum};
use dlopt_checkpoint::{Error, Result};
use dlopt_data::{
    Constant, Filter, Kind, PrepareOptions, PrepareReport, ReadOptions, Scale, SplitOptions, Standardise, prepare,
};

use crate::args::ReportArgs;
use crate::job;
use crate::messages;
use crate::progress::Bar;
use crate::streams;
use crate::tables::{columns, grouped};

const EXAMPLES: &str = "\
Examples:
  dlopt prepare fashion-mnist/ -o fashion.safetensors        a folder of IDX files, train and t10k
  dlopt prepare mnist.npz --split validation=0.1 -o mnist.safetensors
  dlopt prepare digits.csv.gz --shape 8x8 --split-at 1437 --resize 28x28 -o digits.safetensors
  dlopt prepare iris.csv --split test=0.2 --seed 1 -o iris.safetensors
  dlopt prepare houses.csv --targets price --drop id --split test=0.2 -o houses.safetensors
  dlopt prepare --train JapaneseVowels_TRAIN.ts --test JapaneseVowels_TEST.ts -o vowels.safetensors

Raw elements are stored as they are; scale, mean and deviation stand beside them and are applied to each batch.";

/// Most classes whose balance is printed.
const SHOWN_CLASSES: usize = 30;

/// Most statistics that are printed.
const SHOWN_STATISTICS: usize = 20;

/// Make a dataset of raw data: read, shape, scale, split, standardise
///
/// Reads IDX pairs, tables (CSV), arrays (.npz, .safetensors) and series (.ts), plain or gzipped, in memory that does not
/// grow with the data. Statistics are those of the training split. The same raw data, options and seed give the same
/// bytes.
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

    /// Format of the raw data: idx, npz, ts or csv [default: by name and content]
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

    /// Decides what is drawn
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Scale pictures to this height and width, in pixels
    #[arg(long, value_name = "HxW", value_parser = extents)]
    resize: Option<Extents>,

    /// How pictures are scaled [default: bilinear]
    #[arg(long, value_enum, requires = "resize")]
    filter: Option<FilterName>,

    /// Factor on the elements: a number, 1/255, or `max` to make the largest of training 1 [default: 1/255 for bytes, max
    /// for pictures in tables, else 1]
    #[arg(long, value_name = "FACTOR", value_parser = scale)]
    scale: Option<Scale>,

    /// Statistics of the training split to take off and divide by [default: channel for pictures, else feature]
    #[arg(long, visible_alias = "standardize", value_enum, value_name = "WHICH")]
    standardise: Option<StandardiseName>,

    /// What to do about a channel or feature that never changes: refuse it, or keep it as 0
    #[arg(long, value_enum, default_value_t = ConstantName::Refuse)]
    constant: ConstantName,

    /// Where compressed arrays are unpacked [default: beside the output]
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
pub(super) enum FilterName {
    /// Between the nearest pixels, or their average when pictures shrink
    Bilinear,
    /// The nearest pixel
    Nearest,
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
        let resize = match self.resize.as_ref().map(|extents| &extents.0[..]) {
            None => None,
            Some(&[height, width]) => Some([height, width]),
            Some(_) => return Err(Error::usage("--resize wants height and width, such as 28x28")),
        };
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
                shape: self.shape.as_ref().map(|extents| extents.0.clone()).unwrap_or_default(),
                kind: self.kind.map(|kind| match kind {
                    KindName::Image => Kind::Image,
                    KindName::Series => Kind::Series,
                    KindName::Vector => Kind::Vector,
                }),
                tmp_dir,
            },
            classes: self.classes.clone(),
            split: SplitOptions { shares: self.split.clone(), at: self.split_at.clone(), seed: self.seed },
            resize,
            filter: match self.filter {
                Some(FilterName::Nearest) => Filter::Nearest,
                Some(FilterName::Bilinear) | None => Filter::Bilinear,
            },
            scale: self.scale,
            standardise: self.standardise.map(|which| match which {
                StandardiseName::None => Standardise::None,
                StandardiseName::Channel => Standardise::Channel,
                StandardiseName::Feature => Standardise::Feature,
                StandardiseName::MinMax => Standardise::MinMax,
            }),
            constant: match self.constant {
                ConstantName::Refuse => Constant::Refuse,
                ConstantName::Keep => Constant::Keep,
            },
            force: self.force,
        })
    }
}

pub(super) fn run(args: &PrepareArgs, stop: &Arc<AtomicBool>) -> Result<ExitCode> {
    let options = args.options()?;
    if let Some(path) = args.report.report.as_deref()
        && (path == args.output || options.inputs.iter().any(|(_, input)| input == path))
    {
        return Err(Error::usage(format!("{}: the report would replace it", path.display())).hint("name another file"));
    }
    let bar = Bar::new(args.report.quiet);
    let report = prepare(&options, &args.output, &bar, stop);
    bar.clear();
    let report = report?;
    if !args.report.quiet {
        report.warnings.iter().for_each(|warning| messages::warning(warning));
    }
    job::write_report(args.report.report.as_deref(), &report)?;
    if args.report.json {
        streams::print_json(&report)?;
    } else if !args.report.quiet {
        streams::print(&text(&report, args.report.verbose))?;
    }
    Ok(ExitCode::SUCCESS)
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
    text.push('\n');
    text.push_str(&balance(report, is_verbose));
    text.push('\n');
    text.push_str(&statistics(report, is_verbose));
    if is_verbose {
        text.push('\n');
        let rows: Vec<_> = report
            .info
            .sources
            .iter()
            .map(|s| vec![format!("  {}", s.name), grouped(s.bytes), s.sha256.clone()])
            .collect();
        text.push_str(&columns(&["  source", "bytes", "SHA-256"], &rows));
    }
    text
}

/// How many samples of each class each split has.
fn balance(report: &PrepareReport, is_verbose: bool) -> String {
    let mut head = vec!["  class"];
    head.extend(report.splits.iter().map(|split| split.name.as_str()));
    let shown = if is_verbose { usize::MAX } else { SHOWN_CLASSES };
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (class, name) in report.info.classes.iter().enumerate().take(shown) {
        let mut row = vec![format!("  {name}")];
        row.extend(report.splits.iter().map(|split| grouped(split.classes[class])));
        rows.push(row);
    }
    let mut total = vec!["  all".to_owned()];
    total.extend(report.splits.iter().map(|split| grouped(split.samples as u64)));
    rows.push(total);
    let mut text = columns(&head, &rows);
    if let Some(more) = report.info.classes.len().checked_sub(shown).filter(|more| *more > 0) {
        let _ = writeln!(text, "  and {more} more classes; --verbose shows them");
    }
    text
}

fn statistics(report: &PrepareReport, is_verbose: bool) -> String {
    let info = &report.info;
    let mut text = format!("scale {}, standardised by {}\n", info.scale, info.standardise.name());
    let shown = if is_verbose { usize::MAX } else { SHOWN_STATISTICS };
    let names = |at: usize| match info.mean.len() == info.elements.channels() {
        true => info.elements.channel_name(at),
        false => format!("element {at}"),
    };
    let rows: Vec<_> = info
        .mean
        .iter()
        .zip(&info.deviation)
        .enumerate()
        .take(shown)
        .map(|(at, (mean, deviation))| {
            vec![format!("  {}", names(at)), format!("{mean:.4}"), format!("{deviation:.4}")]
        })
        .collect();
    if rows.is_empty() {
        return text;
    }
    let head = match info.standardise {
        Standardise::MinMax => ["  training", "smallest", "range"],
        _ => ["  training", "mean", "deviation"],
    };
    text.push_str(&columns(&head, &rows));
    if let Some(more) = info.mean.len().checked_sub(shown).filter(|more| *more > 0) {
        let _ = writeln!(text, "  and {more} more; --verbose shows them");
    }
    text
}
