//! `dlopt list`: the tables of schemes, methods, criteria, models, optimizers and more, as the verbs read them.

use std::fmt::Write;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use dlopt_checkpoint::Result;
use dlopt_model::{LayerType, PRESETS};
use dlopt_prune::Plugin as PrunePlugin;
use dlopt_quantize::formats::{DENSE, FORMATS};
use dlopt_quantize::layouts::LAYOUTS;
use dlopt_quantize::methods::METHODS;
use dlopt_quantize::{Plugin as QuantizePlugin, SCHEMES};
use dlopt_train::{LOSSES, OPTIMIZERS, SCHEDULES};

use super::prepare::StandardiseName;
use super::train::Start;
use crate::streams;
use crate::tables::columns;

/// List what flags can name: schemes, methods, criteria, formats of data, models, layers, optimizers, losses and more
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  dlopt list\n  dlopt list --json | jq '.[\"quantize --scheme\"][].name'\n  dlopt list --json | jq '.[\"train --model\"][][0]'"
)]
pub(crate) struct ListArgs {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ListArgs) -> Result<ExitCode> {
    let mut tables: Vec<(&str, Vec<[String; 3]>)> = Vec::new();
    let prune = |plugins: &[PrunePlugin]| plugins.iter().map(|p| row(p.name, p.summary, p.source)).collect();
    let quantize = |plugins: Vec<QuantizePlugin>| plugins.iter().map(|p| row(p.name, p.summary, p.source)).collect();
    tables.push(("quantize --method", quantize(METHODS.iter().map(|m| m.plugin()).collect())));
    let formats = FORMATS.iter().map(|f| f.plugin()).chain([DENSE]).collect();
    tables.push(("quantize: stored formats", quantize(formats)));
    tables.push(("quantize: layouts", quantize(LAYOUTS.to_vec())));
    tables.push(("prune --criterion", prune(dlopt_prune::criteria())));
    tables.push(("prune --criterion of channels and layers", prune(&dlopt_prune::importances())));
    let on_data = dlopt_train::Salience::all().iter().map(|own| row(own.name, own.summary, own.source)).collect();
    tables.push(("prune --criterion of channels and layers, on --data", on_data));
    tables.push(("prune --pattern", prune(dlopt_prune::patterns())));
    tables.push(("prune --store", prune(dlopt_prune::stores())));
    tables.extend(of_prepare());
    tables.push(("augment --op", of_augment()));
    tables.push(("eval --corrupt", of_corrupt()));
    tables.extend(of_train());
    if args.json {
        let mut all: serde_json::Map<String, serde_json::Value> =
            tables.into_iter().map(|(name, rows)| (name.to_owned(), serde_json::json!(rows))).collect();
        all.insert("quantize --scheme".to_owned(), schemes_json());
        streams::print_json(&all)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = schemes();
    for (name, rows) in tables {
        // Many tables have no sources: a column of nothing says nothing.
        let shown = if rows.iter().any(|[_, _, source]| !source.is_empty()) { 3 } else { 2 };
        let rows: Vec<Vec<String>> = rows
            .into_iter()
            .map(|[name, summary, source]| vec![format!("  {name}"), summary, source][..shown].to_vec())
            .collect();
        let _ = write!(text, "\n{name}\n{}", columns(&["  name", "what", "source"][..shown], &rows));
    }
    streams::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// What flags of `prepare` can name.
fn of_prepare() -> [(&'static str, Vec<[String; 3]>); 4] {
    [
        ("prepare --format", dlopt_data::formats().map(|f| row(f.name, f.summary, "")).collect()),
        ("prepare --step", dlopt_data::STEPS.iter().map(|s| row(s.name, s.summary, "")).collect()),
        ("prepare --features", dlopt_data::FEATURES.iter().map(|f| row(f.name, f.summary, "")).collect()),
        ("prepare --standardise", values_of::<StandardiseName>()),
    ]
}

/// The operations of `augment`, and what each works on.
fn of_augment() -> Vec<[String; 3]> {
    dlopt_augment::OPERATIONS.iter().map(|op| row(op.name, op.summary, &op.kinds.in_words())).collect()
}

/// The corruptions of `eval`, with their strengths.
fn of_corrupt() -> Vec<[String; 3]> {
    let strengths = |strengths: &[f64]| strengths.iter().map(f64::to_string).collect::<Vec<_>>().join(", ");
    dlopt_augment::CORRUPTIONS
        .iter()
        .map(|own| row(own.name, &format!("{}: by {} {}", own.summary, strengths(&own.strengths), own.unit), ""))
        .collect()
}

/// What flags of `train`, and descriptions of models, can name.
fn of_train() -> Vec<(&'static str, Vec<[String; 3]>)> {
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, summary)| row(name, summary, "")).collect();
    let presets = PRESETS.iter().map(|preset| {
        let description = preset.description();
        row(preset.name, &description.summary.unwrap_or_default(), &description.source.unwrap_or_default())
    });
    let layers = LayerType::summaries().map(|(name, summary)| row(name, summary, ""));
    vec![
        ("train --model", presets.collect()),
        ("train: layers of a description", layers.collect()),
        ("train --initialization", values_of::<Start>()),
        ("train --optimizer", pairs(&OPTIMIZERS)),
        ("train --schedule", pairs(&SCHEDULES)),
        ("train --loss", pairs(&LOSSES)),
        ("distill --loss", of_distill()),
    ]
}

/// What a student can learn: the labels, and what a teacher says.
fn of_distill() -> Vec<[String; 3]> {
    let labels = row("ce", "cross-entropy of the labels, or the squared error of numbers", "");
    let taught = dlopt_distill::LOSSES.iter().map(|loss| row(loss.name, loss.summary, loss.source));
    let sequences = row(
        "sequence",
        "cross-entropy of the sequences that the teacher puts out",
        "Kim and Rush, 2016, arXiv:1606.07947",
    );
    [labels, sequences].into_iter().chain(taught).collect()
}

/// The values of a flag, as its parser knows them.
fn values_of<T: ValueEnum>() -> Vec<[String; 3]> {
    let values = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    values
        .map(|value| row(value.get_name(), &value.get_help().map(ToString::to_string).unwrap_or_default(), ""))
        .collect()
}

fn row(name: &str, summary: &str, source: &str) -> [String; 3] {
    [name.to_owned(), summary.to_owned(), source.to_owned()]
}

fn schemes() -> String {
    let rows: Vec<Vec<String>> = SCHEMES
        .iter()
        .map(|s| {
            vec![
                format!("  {}", s.name.to_ascii_lowercase()),
                s.aliases.join(", "),
                s.bits.to_string(),
                s.granularity.map_or("-".to_owned(), |g| g.to_string()),
                s.activations.label().to_owned(),
                s.format.to_owned(),
                if s.holds_zero() { "yes" } else { "no" }.to_owned(),
                s.summary.to_owned(),
            ]
        })
        .collect();
    let head = ["  name", "also", "bits", "scales by", "activations", "stored as", "zero stays", "what"];
    format!("quantize --scheme\n{}", columns(&head, &rows))
}

fn schemes_json() -> serde_json::Value {
    SCHEMES
        .iter()
        .map(|s| {
            serde_json::json!({
                "name": s.name, "aliases": s.aliases, "bits": s.bits, "type": s.numbers, "symmetric": s.is_symmetric,
                "granularity": s.granularity.map(|g| g.to_string()), "activations": s.activations.label(),
                "format": s.format, "holds_zero": s.holds_zero(), "summary": s.summary, "source": s.source,
            })
        })
        .collect()
}
