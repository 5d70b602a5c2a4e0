//! What people read about a dataset, just prepared or inspected later.

use std::fmt::Write;

use dlopt_data::{DatasetInfo, SplitReport, Standardise};

use super::{columns, grouped};

/// Most classes whose balance is printed.
const SHOWN_CLASSES: usize = 30;

/// Most statistics that are printed.
const SHOWN_STATISTICS: usize = 20;

/// How many samples of each class each split has: of all classes, or of the first, and `more` is the flag that shows all.
pub(crate) fn balance(info: &DatasetInfo, splits: &[SplitReport], more: Option<&str>) -> String {
    let mut head = vec!["  class"];
    head.extend(splits.iter().map(|split| split.name.as_str()));
    let shown = more.map_or(usize::MAX, |_| SHOWN_CLASSES);
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (class, name) in info.classes.iter().enumerate().take(shown) {
        let mut row = vec![format!("  {name}")];
        row.extend(splits.iter().map(|split| grouped(split.classes[class])));
        rows.push(row);
    }
    let mut total = vec!["  all".to_owned()];
    total.extend(splits.iter().map(|split| grouped(split.samples as u64)));
    rows.push(total);
    let mut text = columns(&head, &rows);
    if let (Some(more), Some(left)) = (more, info.classes.len().checked_sub(shown).filter(|left| *left > 0)) {
        let _ = writeln!(text, "  and {left} more classes; {more} shows them");
    }
    text
}

/// Scale, and the statistics that are taken off and divided by; `more` as above.
pub(crate) fn statistics(info: &DatasetInfo, more: Option<&str>) -> String {
    let mut text = format!("scale {}, standardised by {}\n", info.scale, info.standardise.name());
    let shown = more.map_or(usize::MAX, |_| SHOWN_STATISTICS);
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
    if let (Some(more), Some(left)) = (more, info.mean.len().checked_sub(shown).filter(|left| *left > 0)) {
        let _ = writeln!(text, "  and {left} more; {more} shows them");
    }
    text
}

/// The files that a dataset was made from.
pub(crate) fn sources(info: &DatasetInfo) -> String {
    let rows: Vec<_> =
        info.sources.iter().map(|s| vec![format!("  {}", s.name), grouped(s.bytes), s.sha256.clone()]).collect();
    columns(&["  source", "bytes", "SHA-256"], &rows)
}
