//! What people read: plans, outcomes and explanations as text.

mod datasets;
mod packing;
mod structure;
mod zeros;

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

use dlopt_checkpoint::{JobPlan, Note, Outcome, PassReport, TensorReport};

use crate::messages::one_line;

pub(crate) use datasets::{balance, sources, statistics};
pub(crate) use packing::{packed, unpacked};
pub(crate) use structure::structure;
pub(crate) use zeros::zeros;

/// Bytes with thousands separated.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A table with columns as wide as their widest cell; numbers, which begin with a digit or a sign, go to the right.
pub(crate) fn columns(head: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| one_line(cell)).collect()).collect();
    let mut width: Vec<usize> = head.iter().map(|h| h.chars().count()).collect();
    for row in &rows {
        for (w, cell) in width.iter_mut().zip(row) {
            *w = (*w).max(cell.chars().count());
        }
    }
    let is_number: Vec<bool> = (0..head.len())
        .map(|c| {
            let mut cells = rows.iter().map(|r| r[c].as_str()).filter(|c| !c.is_empty() && *c != "-").peekable();
            cells.peek().is_some() && cells.all(|c| c.starts_with(|x: char| x.is_ascii_digit() || x == '-' || x == '+'))
        })
        .collect();
    let mut text = String::new();
    let mut line = |cells: Vec<&str>| {
        let mut out = String::new();
        for (c, cell) in cells.into_iter().enumerate() {
            let pad = " ".repeat(width[c].saturating_sub(cell.chars().count()));
            let gap = if c == 0 { "" } else { "  " };
            if is_number[c] {
                let _ = write!(out, "{gap}{pad}{cell}");
            } else {
                let _ = write!(out, "{gap}{cell}{pad}");
            }
        }
        text.push_str(out.trim_end());
        text.push('\n');
    };
    line(head.to_vec());
    for row in &rows {
        line(row.iter().map(String::as_str).collect());
    }
    text
}

/// What a job would write.
pub(crate) fn plan(plan: &JobPlan) -> String {
    let mut text = String::new();
    for file in &plan.files {
        let _ = writeln!(text, "{}: {} bytes", file.file, grouped(file.bytes));
        let rows: Vec<_> = file
            .tensors
            .iter()
            .map(|t| vec![format!("  {}", t.name), t.dtype.clone(), format!("{:?}", t.shape), grouped(t.bytes)])
            .collect();
        text.push_str(&columns(&["  tensor", "dtype", "shape", "bytes"], &rows));
    }
    for pass in &plan.passes {
        for warning in pass.warnings.iter().chain(&pass.gate) {
            let _ = writeln!(text, "{}: {warning}", pass.verb);
        }
    }
    let _ = writeln!(
        text,
        "{} -> {} bytes ({}); least memory {} bytes",
        grouped(plan.bytes_before),
        grouped(plan.bytes_after),
        percent(plan.bytes_after, plan.bytes_before),
        grouped(plan.least_memory_bytes)
    );
    text
}

/// Why every tensor is treated as it is.
pub(crate) fn explain(plan: &JobPlan) -> String {
    let mut text = String::new();
    for pass in &plan.passes {
        let _ = writeln!(text, "{} {}", pass.verb, pass.options);
        let rows: Vec<_> = pass
            .notes
            .iter()
            .map(|n| vec![format!("  {}", n.tensor), n.kind.clone(), n.action.clone(), n.reason.clone()])
            .collect();
        text.push_str(&columns(&["  tensor", "kind", "action", "reason"], &rows));
    }
    text
}

/// What a job did.
pub(crate) fn outcome(input: &str, outcome: &Outcome, is_short: bool, is_verbose: bool) -> String {
    let mut text = String::new();
    for pass in &outcome.passes {
        let what = if pass.total.weights == 0 { String::new() } else { format!("; {}", figures(&pass.total, pass)) };
        let _ = writeln!(
            text,
            "{}: {} -> {} bytes ({}){what}",
            pass.verb,
            grouped(pass.bytes_before),
            grouped(pass.bytes_after),
            percent(pass.bytes_after, pass.bytes_before),
        );
        if is_short {
            continue;
        }
        if is_verbose {
            if !pass.tensors.is_empty() {
                text.push_str(&tensors(&pass.tensors));
            }
            text.push_str(&others(pass));
            continue;
        }
        for (reason, count) in skipped(&pass.notes) {
            let tensors = if count == 1 { "tensor" } else { "tensors" };
            let _ = writeln!(text, "  left alone: {count} {tensors}, {reason}");
        }
    }
    if !is_short {
        let _ = writeln!(
            text,
            "{input}: {} -> {} bytes with headers ({})",
            grouped(outcome.bytes_before),
            grouped(outcome.bytes_after),
            percent(outcome.bytes_after, outcome.bytes_before)
        );
    }
    text
}

fn figures(total: &TensorReport, pass: &PassReport) -> String {
    let mut text = format!(
        "{} weights in {} tensors at {:.2} bits, {:.1}% zeros (were {:.1}%)",
        grouped(total.weights),
        pass.tensors.len(),
        pass.bits_per_weight,
        100.0 * total.sparsity_after,
        100.0 * total.sparsity_before
    );
    if let Some(db) = total.sqnr_db {
        let _ = write!(text, ", SQNR {db:.1} dB, relative error {:.2}%", 100.0 * total.relative_error);
    }
    // Of those tensors alone for which both are known.
    let searched = pass.tensors.iter().filter_map(|own| Some((own.noise, own.plain_noise?)));
    let (noise, plain) = searched.fold((0.0, 0.0), |(noise, plain), own| (noise + own.0, plain + own.1));
    if plain > 0.0 {
        let _ = write!(text, ", squared error {:.1}% below rtn's", 100.0 * (1.0 - noise / plain));
    }
    text
}

fn tensors(reports: &[TensorReport]) -> String {
    let has_bars = reports.iter().any(|own| own.sparsity_after != own.sparsity_before);
    let rows: Vec<_> = reports
        .iter()
        .map(|t| {
            vec![
                format!("  {}", t.tensor),
                grouped(t.weights),
                format!("{:.2}", 8.0 * t.bytes_after as f64 / t.weights.max(1) as f64),
                format!("{:.2}%", 100.0 * t.sparsity_before),
                format!("{:.2}%", 100.0 * t.sparsity_after),
                t.sqnr_db.map_or("-".to_owned(), |db| format!("{db:.2}")),
                format!("{:.3}%", 100.0 * t.relative_error),
                format!("{:.3e}", t.max_error),
                if has_bars { zeros::bar(t.sparsity_after) } else { String::new() },
            ]
        })
        .collect();
    columns(
        &["  tensor", "weights", "bits", "zeros before", "zeros after", "SQNR dB", "rel. error", "max error", ""],
        &rows,
    )
}

/// What was done with the tensors that no figures were taken of.
fn others(pass: &PassReport) -> String {
    let told: HashSet<&str> = pass.tensors.iter().map(|t| t.tensor.as_str()).collect();
    let rows: Vec<_> = pass
        .notes
        .iter()
        .filter(|n| !told.contains(n.tensor.as_str()))
        .map(|n| vec![format!("  {}", n.tensor), n.action.clone(), n.reason.clone()])
        .collect();
    if rows.is_empty() { String::new() } else { columns(&["  tensor", "action", "reason"], &rows) }
}

/// How many tensors were left alone for each reason.
fn skipped(notes: &[Note]) -> BTreeMap<&str, usize> {
    let mut reasons = BTreeMap::new();
    for note in notes.iter().filter(|n| n.action == "skipped") {
        *reasons.entry(note.reason.as_str()).or_insert(0) += 1;
    }
    reasons
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.1}%", 100.0 * part as f64 / whole as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }

    #[test]
    fn numbers_stand_to_the_right() {
        let rows = vec![vec!["a".to_owned(), "1".to_owned()], vec!["bb".to_owned(), "10".to_owned()]];
        assert_eq!(columns(&["x", "y"], &rows), "x    y\na    1\nbb  10\n");
    }
}
