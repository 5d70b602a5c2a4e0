//! What a dataset holds, for people and as JSON.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dlopt_checkpoint::{Checkpoint, Result};
use dlopt_data::{ChannelReport, DATASET_KEY, Dataset, DatasetSurvey, Elements, Learns, LengthReport, StepSpec};
use dlopt_inspect::{metadata, summary};

use super::{InspectArgs, metadata_in_full, tensors};
use crate::messages;
use crate::progress::Bar;
use crate::streams;
use crate::tables::{balance, columns, grouped, sources, statistics};

/// Most channels whose range is printed without --tensors.
const SHOWN_CHANNELS: usize = 30;

/// Whether a file says that it is a dataset. What comes through a pipe is shown as tensors.
pub(super) fn is_one(checkpoint: &Checkpoint) -> bool {
    checkpoint.header.metadata.contains_key(DATASET_KEY) && checkpoint.stream().is_none()
}

/// Shows a dataset.
pub(super) fn show(
    args: &InspectArgs,
    path: &Path,
    checkpoint: &Checkpoint,
    stop: &Arc<AtomicBool>,
) -> Result<ExitCode> {
    // Inputs stay on disk: they are read once, if at all.
    let mut dataset = Dataset::open_within(path, 0)?;
    let mut survey = DatasetSurvey::of(&dataset);
    if args.stats {
        let bar = Bar::new(args.quiet);
        let measured = survey.measure(&mut dataset, &bar, stop);
        bar.clear();
        measured?;
    }
    let summary = summary(checkpoint);
    if args.json {
        let mut value = serde_json::to_value(&summary).expect("summaries hold only strings, numbers and lists of them");
        value["dataset"] = serde_json::to_value(&survey).expect("surveys hold only strings, numbers and lists of them");
        if args.metadata {
            value["metadata_values"] = serde_json::json!(metadata(checkpoint));
        }
        streams::print_json(&value)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = overview(&survey, dataset.name(), summary.bytes, args.tensors);
    if args.tensors {
        text.push_str(&tensors(&summary));
    }
    if args.metadata {
        text.push_str(&metadata_in_full(checkpoint));
    }
    streams::print(&text)?;
    if !args.quiet {
        survey.warnings.iter().for_each(|warning| messages::warning(warning));
    }
    Ok(ExitCode::SUCCESS)
}

fn overview(survey: &DatasetSurvey, name: &str, bytes: u64, is_verbose: bool) -> String {
    let info = &survey.info;
    let more = (!is_verbose).then_some("--tensors");
    let mut text = format!(
        "{name}: a dataset of {} {}, {}, {} bytes\ninputs {:?}\n",
        grouped(survey.samples as u64),
        survey.elements,
        survey.dtype,
        grouped(bytes),
        survey.shape
    );
    let _ = writeln!(text, "{}", learns(survey));
    for (what, lengths) in [("steps of a sample", survey.lengths), ("tokens to put out", survey.sequences)] {
        if let Some(lengths) = lengths {
            let _ = writeln!(text, "{what}: {}", in_words(&lengths));
        }
    }
    text.push('\n');
    text.push_str(&balance(info, &survey.splits, more));
    for (what, steps) in [("steps", &info.steps), ("steps of what is put out", &info.sequence_steps)] {
        if !steps.is_empty() {
            let _ = writeln!(text, "\n{what}:");
            text.extend(steps.iter().map(|step| format!("  {}\n", step_in_words(step))));
        }
    }
    text.push('\n');
    text.push_str(&statistics(info, more));
    if let Some(channels) = &survey.channels {
        text.push('\n');
        text.push_str(&ranges(channels, more));
    }
    if !info.sources.is_empty() {
        text.push('\n');
        text.push_str(&sources(info));
    }
    text
}

/// What a network learns from it.
fn learns(survey: &DatasetSurvey) -> String {
    let info = &survey.info;
    match (&info.learns, &info.elements) {
        (Learns::NextToken, Elements::Tokens { vocabulary, .. }) => {
            format!("learns the next token, of {}", grouped(*vocabulary as u64))
        }
        (Learns::Sequence { time, vocabulary, .. }, _) => {
            format!("learns sequences of up to {time} tokens, of {}", grouped(*vocabulary as u64))
        }
        _ if !info.classes.is_empty() => format!("learns {} classes", info.classes.len()),
        _ if !info.outputs.is_empty() => format!("learns numbers: {}", info.outputs.join(", ")),
        _ => "learns numbers".to_owned(),
    }
}

fn in_words(lengths: &LengthReport) -> String {
    let LengthReport { shortest, lower_quartile, median, upper_quartile, longest, mean } = lengths;
    format!(
        "{shortest} to {longest}, median {median}, half of them {lower_quartile} to {upper_quartile}, mean {mean:.1}"
    )
}

/// A step as a command line writes it, with options that are short.
fn step_in_words(step: &StepSpec) -> String {
    let mut text = step.step.clone();
    for (name, value) in &step.options {
        let shown = match value {
            serde_json::Value::String(value) => value.clone(),
            serde_json::Value::Array(values) if values.len() > 4 => format!("({} values)", values.len()),
            serde_json::Value::Object(values) => format!("({} values)", values.len()),
            serde_json::Value::Null => continue,
            value => value.to_string(),
        };
        let shown = if shown.chars().count() > 60 { format!("({} characters)", shown.chars().count()) } else { shown };
        let _ = write!(text, " {name}={shown}");
    }
    text
}

fn ranges(channels: &[ChannelReport], more: Option<&str>) -> String {
    let shown = more.map_or(usize::MAX, |_| SHOWN_CHANNELS);
    let number = |value: f64| format!("{value:.4}");
    let rows: Vec<_> = channels
        .iter()
        .take(shown)
        .map(|own| {
            let numbers = [f64::from(own.min), f64::from(own.max), own.mean, own.deviation];
            [format!("  {}", own.name)].into_iter().chain(numbers.map(number)).collect()
        })
        .collect();
    let mut text = columns(&["  stored", "min", "max", "mean", "deviation"], &rows);
    if let (Some(more), Some(left)) = (more, channels.len().checked_sub(shown).filter(|left| *left > 0)) {
        let _ = writeln!(text, "  and {left} more; {more} or --json shows them");
    }
    text
}
