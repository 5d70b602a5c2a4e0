//! The report as text.

use dlopt_checkpoint::{TensorInfo, dtype_name};

use super::Report;
use super::tta::Tta;
use crate::tables::{columns, grouped};

/// The report for people.
pub(super) fn text(report: &Report) -> String {
    let mut text = format!("{}: split {}, {} samples\n", report.data, report.split, report.samples);
    for model in std::iter::once(&report.model).chain(&report.against) {
        let copies = model.tta.as_ref().map(Tta::head).unwrap_or_default();
        text.push_str(&format!(
            "\n{}: {} parameters in {} bytes, {} in memory; {:.0} samples/s{} in batches of {}, {} threads\n{copies}{}",
            model.name,
            grouped(model.parameters as u64),
            grouped(model.bytes),
            grouped(model.memory_bytes as u64),
            model.samples_per_second,
            spread(&model.samples_per_second_of_runs),
            report.batch,
            report.threads,
            model.metrics.text()
        ));
        if let Some(tta) = &model.tta {
            text.push_str(&tta.text());
        }
        if let Some(corruption) = &model.corruption {
            text.push_str(&format!("\n{} under corruption: {}", model.name, corruption.text()));
        }
    }
    if let (Some(paired), Some(against)) = (&report.paired, &report.against) {
        text.push('\n');
        text.push_str(&paired.text(&against.name, &report.model.name));
    }
    if let (Some(paired), Some(against)) = (&report.paired_corruption, &report.against) {
        text.push_str("\nunder corruption\n");
        text.push_str(&paired.text(&against.name, &report.model.name));
    }
    text
}

/// How far the speeds of several runs lie apart.
fn spread(rates: &[f64]) -> String {
    if rates.len() < 2 {
        return String::new();
    }
    let low = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let high = rates.iter().copied().fold(0.0, f64::max);
    format!(" ({low:.0} to {high:.0} in {} runs)", rates.len())
}

/// A line for each tensor, as the checkpoint stores it.
pub(super) fn tensors(tensors: &[TensorInfo]) -> String {
    let rows: Vec<_> = tensors
        .iter()
        .map(|t| {
            let (dtype, shape) = (dtype_name(t.dtype), format!("{:?}", t.shape));
            vec![format!("  {}", t.name), dtype.to_owned(), shape, grouped(t.bytes())]
        })
        .collect();
    columns(&["  tensor", "dtype", "shape", "bytes"], &rows)
}
