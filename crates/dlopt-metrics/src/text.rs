//! Reports as text for people.

use std::fmt::Write;

use crate::binary::BinaryReport;
use crate::classification::{AverageScores, ClassificationReport};
use crate::estimate::{Estimate, LEVEL};
use crate::paired::{PairedDifference, PairedRegressionReport, PairedReport};
use crate::paired_tokens::{PairedSequenceReport, PairedTokenReport};
use crate::regression::RegressionReport;
use crate::robustness::{PairedRobustnessReport, RobustnessReport};
use crate::sequences::SequenceReport;
use crate::tokens::TokenReport;

/// A confusion matrix of more classes does not fit a terminal; its largest confusions are listed instead.
const MAX_TABLE_CLASSES: usize = 12;
/// So many confusions are listed.
const MAX_CONFUSIONS: usize = 10;

type Unit = fn(f64) -> String;

fn percent(value: f64) -> String {
    format!("{:.2}%", 100.0 * value)
}

fn number(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e6).contains(&size) { format!("{value:.3e}") } else { format!("{value:.4}") }
}

impl ClassificationReport {
    /// The report as tables: metrics, classes, confusions.
    pub fn text(&self) -> String {
        let mut rows = vec![
            row("loss", Some(self.loss), number),
            row("accuracy", Some(self.accuracy), percent),
            row(&format!("top-{} accuracy", self.top), self.top_accuracy, percent),
            row("AUROC, mean of classes", self.auroc, number),
            row("Brier score", Some(self.brier), number),
            row("entropy", Some(self.entropy), number),
            row("expected calibration error", Some(self.calibration.expected_error), percent),
        ];
        let averages = |name: &str, scores: &AverageScores| {
            [("precision", scores.precision), ("recall", scores.recall), ("F1", scores.f1)]
                .map(|(score, estimate)| row(&format!("{name} {score}"), Some(estimate), percent))
        };
        rows.extend(averages("macro", &self.macro_average));
        rows.extend(averages("weighted", &self.weighted_average));
        rows.retain(|r| r[1] != "-");
        let mut text = metrics(self.samples, rows);

        let classes: Vec<_> = self
            .classes
            .iter()
            .map(|c| {
                vec![
                    c.name.clone(),
                    with_ends(c.precision, percent),
                    with_ends(c.recall, percent),
                    with_ends(c.f1, percent),
                    with_ends(c.auroc, number),
                    c.support.to_string(),
                ]
            })
            .collect();
        text.push('\n');
        text.push_str(&columns(&["class", "precision", "recall", "F1", "AUROC", "samples"], &classes));
        text.push('\n');
        text.push_str(&self.confusion_text());
        text
    }

    /// The confusion matrix as a table, or its largest confusions where there are many classes.
    fn confusion_text(&self) -> String {
        if self.classes.len() <= MAX_TABLE_CLASSES {
            let head: Vec<String> = std::iter::once("true \\ predicted".to_owned())
                .chain((0..self.classes.len()).map(|c| self.classes[c].name.chars().take(8).collect()))
                .collect();
            let rows: Vec<_> = self
                .classes
                .iter()
                .zip(&self.confusion)
                .map(|(c, counts)| std::iter::once(c.name.clone()).chain(counts.iter().map(u64::to_string)).collect())
                .collect();
            return columns(&head.iter().map(String::as_str).collect::<Vec<_>>(), &rows);
        }
        let mut confusions: Vec<_> = (0..self.classes.len())
            .flat_map(|t| (0..self.classes.len()).map(move |p| (t, p)))
            .filter(|(t, p)| t != p && self.confusion[*t][*p] > 0)
            .collect();
        confusions.sort_by_key(|(t, p)| std::cmp::Reverse(self.confusion[*t][*p]));
        confusions.truncate(MAX_CONFUSIONS);
        let rows: Vec<_> = confusions
            .into_iter()
            .map(|(t, p)| {
                let count = self.confusion[t][p];
                let share = percent(count as f64 / self.classes[t].support as f64);
                vec![self.classes[t].name.clone(), self.classes[p].name.clone(), count.to_string(), share]
            })
            .collect();
        columns(&["true class", "taken for", "samples", "of the class"], &rows)
    }
}

impl BinaryReport {
    /// The report as tables: metrics, outputs.
    pub fn text(&self) -> String {
        let mut rows = vec![
            row("loss", Some(self.loss), number),
            row("accuracy", Some(self.accuracy), percent),
            row("AUROC", self.auroc, number),
        ];
        if self.outputs.len() > 1 {
            rows.insert(2, row("all outputs right", Some(self.exact_match), percent));
        }
        rows.retain(|r| r[1] != "-");
        let outputs: Vec<_> = self
            .outputs
            .iter()
            .map(|o| {
                vec![
                    o.name.clone(),
                    with_ends(Some(o.loss), number),
                    with_ends(Some(o.accuracy), percent),
                    with_ends(o.precision, percent),
                    with_ends(o.recall, percent),
                    with_ends(o.f1, percent),
                    with_ends(o.auroc, number),
                    o.support.to_string(),
                ]
            })
            .collect();
        let head = ["output", "loss", "accuracy", "precision", "recall", "F1", "AUROC", "positives"];
        metrics(self.samples, rows) + "\n" + &columns(&head, &outputs)
    }
}

impl RegressionReport {
    /// The report as tables: metrics, outputs.
    pub fn text(&self) -> String {
        let mut rows = vec![
            row("MSE", Some(self.mse), number),
            row("RMSE", Some(self.rmse), number),
            row("MAE", Some(self.mae), number),
            row("R²", self.r2, number),
        ];
        rows.retain(|r| r[1] != "-");
        let mut text = metrics(self.samples, rows);
        if self.outputs.len() > 1 {
            let outputs: Vec<_> = self
                .outputs
                .iter()
                .map(|o| {
                    let cells = [Some(o.mse), Some(o.rmse), Some(o.mae), o.r2].map(|e| with_ends(e, number));
                    std::iter::once(o.name.clone()).chain(cells).collect()
                })
                .collect();
            text.push('\n');
            text.push_str(&columns(&["output", "MSE", "RMSE", "MAE", "R²"], &outputs));
        }
        text
    }
}

impl SequenceReport {
    /// The report as a table of metrics.
    pub fn text(&self) -> String {
        let mut rows = vec![
            row("token error rate", Some(self.token_error_rate), percent),
            row("sequence error rate", Some(self.sequence_error_rate), percent),
            row("BLEU", Some(self.bleu), number),
            row("chrF2", self.chrf, number),
        ];
        rows.retain(|r| r[1] != "-");
        metrics(self.samples, rows)
    }
}

impl TokenReport {
    /// The report as a table of metrics.
    pub fn text(&self) -> String {
        let rows = vec![
            row("loss", Some(self.loss), number),
            row("perplexity", Some(self.perplexity), number),
            row("bits per token", Some(self.bits_per_token), number),
            row("tokens right", Some(self.accuracy), percent),
        ];
        metrics(self.samples, rows)
    }
}

impl PairedReport {
    /// The report as tables, the models called by their names.
    pub fn text(&self, first: &str, second: &str) -> String {
        let mut text = differences(
            first,
            second,
            &[
                ("loss", &self.loss, number),
                ("accuracy", &self.accuracy, percent),
                ("macro F1", &self.macro_f1, percent),
                ("Brier score", &self.brier, number),
                ("expected calibration error", &self.calibration_error, percent),
            ],
        );
        let _ = writeln!(
            text,
            "\nright on both {}, only {first} {}, only {second} {}, neither {}",
            self.both_right, self.only_first, self.only_second, self.both_wrong
        );
        let _ = writeln!(text, "same prediction: {}", with_ends(Some(self.agreement), percent));
        let _ = writeln!(
            text,
            "equal accuracy: p = {} (McNemar, exact), {} (mid-p)",
            p_value(self.mcnemar.exact),
            p_value(self.mcnemar.mid)
        );
        text
    }
}

impl PairedRegressionReport {
    /// The report as a table, the models called by their names.
    pub fn text(&self, first: &str, second: &str) -> String {
        differences(first, second, &[("MSE", &self.mse, number), ("MAE", &self.mae, number)])
    }
}

impl RobustnessReport {
    /// The report as a table: a row for each corruption, a column for each strength.
    pub fn text(&self) -> String {
        let mut metrics = vec![
            row("clean accuracy", Some(self.clean), percent),
            row("corrupted accuracy", Some(self.corrupted), percent),
        ];
        if let Some(retained) = self.retained {
            metrics.push(row("share of the clean one", Some(Estimate { value: retained, interval: None }), percent));
        }
        let numbers: Vec<String> = (1..=self.by_strength.len()).map(|strength| strength.to_string()).collect();
        let mut head = vec!["corruption", "strengths"];
        head.extend(numbers.iter().map(String::as_str));
        head.push("mean");
        let mut rows: Vec<Vec<String>> = self
            .corruptions
            .iter()
            .map(|own| {
                let strengths: Vec<String> = own.strengths.iter().map(|s| s.strength.to_string()).collect();
                let mut cells = vec![own.name.clone(), format!("by {} {}", strengths.join(", "), own.unit)];
                cells.extend(own.strengths.iter().map(|s| percent(s.accuracy.value)));
                cells.push(percent(own.mean.value));
                cells
            })
            .collect();
        let mut last = vec!["mean".to_owned(), String::new()];
        last.extend(self.by_strength.iter().chain([&self.corrupted.value]).map(|&accuracy| percent(accuracy)));
        rows.push(last);
        self::metrics(self.samples, metrics) + "\n" + &columns(&head, &rows)
    }
}

impl PairedRobustnessReport {
    /// The report as tables, the models called by their names.
    pub fn text(&self, first: &str, second: &str) -> String {
        let mut metrics =
            vec![("clean accuracy", &self.clean, percent as Unit), ("corrupted accuracy", &self.corrupted, percent)];
        metrics.extend(self.corruptions.iter().map(|own| (own.name.as_str(), &own.accuracy, percent as Unit)));
        let mut text = differences(first, second, &metrics);
        if let Some(error) = self.corruption_error {
            let _ = writeln!(text, "\nmean corruption error (mCE) against {first}: {}", percent(error));
        }
        text
    }
}

impl PairedTokenReport {
    /// The report as a table, the models called by their names.
    pub fn text(&self, first: &str, second: &str) -> String {
        let metrics =
            [("bits per token", &self.bits_per_token, number as Unit), ("tokens right", &self.accuracy, percent)];
        differences(first, second, &metrics)
    }
}

impl PairedSequenceReport {
    /// The report as a table, the models called by their names.
    pub fn text(&self, first: &str, second: &str) -> String {
        let metrics = [
            ("token error rate", &self.token_error_rate, percent as Unit),
            ("sequence error rate", &self.sequence_error_rate, percent),
        ];
        let mut text = differences(first, second, &metrics);
        let _ = writeln!(text, "\nthe same for {} of {} samples", self.same, self.samples);
        text
    }
}

fn differences(first: &str, second: &str, metrics: &[(&str, &PairedDifference, Unit)]) -> String {
    let rows: Vec<_> = metrics
        .iter()
        .map(|(name, d, unit)| {
            let ends = d.difference.interval;
            vec![
                (*name).to_owned(),
                unit(d.first),
                unit(d.second),
                signed(d.difference.value, *unit),
                ends.map_or("-".into(), |i| format!("{} to {}", signed(i.low, *unit), signed(i.high, *unit))),
                p_value(d.p_value),
                ends.map_or("-".into(), |i| i.method.to_string()),
            ]
        })
        .collect();
    let interval = format!("{:.0}% interval", 100.0 * LEVEL);
    columns(&["metric", first, second, "difference", &interval, "p", "interval by"], &rows)
}

fn signed(value: f64, unit: Unit) -> String {
    let text = unit(value);
    if text.starts_with('-') { text } else { format!("+{text}") }
}

fn p_value(p: f64) -> String {
    if p < 1e-4 { "<0.0001".into() } else { format!("{p:.4}") }
}

fn metrics(samples: u64, rows: Vec<Vec<String>>) -> String {
    let interval = format!("{:.0}% interval", 100.0 * LEVEL);
    let mut text = format!("{samples} {}\n\n", if samples == 1 { "sample" } else { "samples" });
    text.push_str(&columns(&["metric", "value", &interval, "by"], &rows));
    text
}

fn row(name: &str, estimate: Option<Estimate>, unit: Unit) -> Vec<String> {
    let interval = estimate.and_then(|e| e.interval);
    vec![
        name.to_owned(),
        estimate.map_or("-".into(), |e| unit(e.value)),
        interval.map_or("-".into(), |i| format!("{} to {}", unit(i.low), unit(i.high))),
        interval.map_or("-".into(), |i| i.method.to_string()),
    ]
}

fn with_ends(estimate: Option<Estimate>, unit: Unit) -> String {
    let Some(estimate) = estimate else { return "-".into() };
    let value = unit(estimate.value);
    let Some(i) = estimate.interval else { return value };
    let (low, high) = (unit(i.low), unit(i.high));
    format!("{value} ({} to {})", low.trim_end_matches('%'), high.trim_end_matches('%'))
}

/// Columns as wide as their widest cell; those of numbers go to the right. Control characters in names become spaces.
fn columns(head: &[&str], rows: &[Vec<String>]) -> String {
    let one_line = |cell: &str| -> String { cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect() };
    let head: Vec<String> = head.iter().map(|cell| one_line(cell)).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| one_line(cell)).collect()).collect();
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let begins_as_number = |cell: &str| cell.starts_with(|c: char| c.is_ascii_digit() || "+-<".contains(c));
    // The first column holds names, which may be numbers.
    let is_number: Vec<bool> =
        (0..head.len()).map(|c| c > 0 && rows.iter().all(|row| begins_as_number(&row[c]))).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(&rows) {
        let cells = row.iter().enumerate().map(|(c, cell)| {
            let pad = " ".repeat(widths[c] - cell.chars().count());
            if is_number[c] { pad + cell } else { cell.clone() + &pad }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
