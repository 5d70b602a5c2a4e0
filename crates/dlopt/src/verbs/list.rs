//! `dlopt list`: the tables of schemes, methods, criteria, patterns and stores, as the passes read them.

use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;
use dlopt_checkpoint::Result;
use dlopt_prune::Plugin as PrunePlugin;
use dlopt_quantize::formats::{DENSE, FORMATS};
use dlopt_quantize::layouts::LAYOUTS;
use dlopt_quantize::methods::METHODS;
use dlopt_quantize::{Plugin as QuantizePlugin, SCHEMES};

use crate::streams;
use crate::tables::columns;

/// List schemes, methods, criteria, patterns and stores
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  dlopt list\n  dlopt list --json | jq '.[\"quantize --scheme\"][].name'")]
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
    tables.push(("prune --pattern", prune(dlopt_prune::patterns())));
    tables.push(("prune --store", prune(dlopt_prune::stores())));
    if args.json {
        let mut all: serde_json::Map<String, serde_json::Value> =
            tables.into_iter().map(|(name, rows)| (name.to_owned(), serde_json::json!(rows))).collect();
        all.insert("quantize --scheme".to_owned(), schemes_json());
        streams::print_json(&all)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = schemes();
    for (name, rows) in tables {
        let rows: Vec<Vec<String>> =
            rows.into_iter().map(|[name, summary, source]| vec![format!("  {name}"), summary, source]).collect();
        let _ = write!(text, "\n{name}\n{}", columns(&["  name", "what", "source"], &rows));
    }
    streams::print(&text)?;
    Ok(ExitCode::SUCCESS)
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
