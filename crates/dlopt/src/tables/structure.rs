//! What left a network, layer by layer.

use dlopt_model::{Costs, StructureReport};

use super::{columns, grouped, percent};

/// Widths and costs of every layer that changed, then the sums.
pub(crate) fn structure(report: &StructureReport) -> String {
    let changed = |before: u64, after: u64| match before == after {
        true => grouped(before),
        false => format!("{} -> {}", grouped(before), grouped(after)),
    };
    let row = |name: &str, width: [usize; 2], before: &Costs, after: &Costs| {
        vec![
            format!("  {name}"),
            if width == [0, 0] { String::new() } else { changed(width[0] as u64, width[1] as u64) },
            changed(before.parameters, after.parameters),
            changed(before.multiply_adds, after.multiply_adds),
            changed(before.bytes, after.bytes),
            changed(before.activation_bytes, after.activation_bytes),
        ]
    };
    let mut rows: Vec<Vec<String>> = Vec::new();
    for own in report.layers.iter().filter(|own| own.before != own.after) {
        rows.push(row(&own.layer, [own.width_before, own.width_after], &own.before, &own.after));
    }
    rows.push(row("all", [0, 0], &report.before, &report.after));
    let (before, after) = (&report.before, &report.after);
    let left = [
        ("parameters", before.parameters, after.parameters),
        ("multiply-adds", before.multiply_adds, after.multiply_adds),
        ("bytes", before.bytes, after.bytes),
        ("bytes of activations", before.activation_bytes, after.activation_bytes),
    ];
    let left = left.map(|(what, before, after)| format!("{} of the {what}", percent(after, before)));
    let head = ["  layer", "width", "parameters", "multiply-adds", "bytes", "activation bytes"];
    format!("{}  left: {}\n", columns(&head, &rows), left.join(", "))
}
