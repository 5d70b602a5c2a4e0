//! The figures of a sweep as rows of text: what the terminal, CSV and Markdown share.

use dlopt_checkpoint::{Error, Result};

use crate::quality::Quality;
use crate::results::{Results, VariantResult};

/// The heads of [`rows`].
pub const COLUMNS: [&str; 13] = [
    "variant",
    "bytes",
    "bits",
    "memory",
    "peak",
    "load ms",
    "median µs",
    "p95",
    "p99",
    "× original",
    "quality",
    "95 %",
    "against original",
];

/// A row for each variant, cells as people read them; `-` where there is no figure.
pub fn rows(results: &Results) -> Vec<Vec<String>> {
    results.variants.iter().map(row).collect()
}

fn row(variant: &VariantResult) -> Vec<String> {
    let own = variant.measurement.as_ref();
    let cell = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let quality = variant.quality.as_ref();
    let mut row = vec![
        variant.name.clone(),
        cell(variant.bytes().map(grouped)),
        cell(own.map(|m| format!("{:.2}", m.bits_per_weight))),
        cell(own.map(|m| grouped(m.weight_bytes))),
        cell(own.and_then(|m| m.peak_bytes).map(grouped)),
        cell(own.map(|m| format!("{:.1}", 1e3 * m.load_seconds))),
        cell(own.map(|m| format!("{:.1}", m.latency.median))),
        cell(own.map(|m| format!("{:.1}", m.latency.p95))),
        cell(own.map(|m| format!("{:.1}", m.latency.p99))),
        cell(own.and_then(|m| m.latency_ratio).map(|ratio| format!("{:.2}", ratio.median))),
        cell(quality.map(Quality::text)),
        cell(quality.and_then(interval)),
        cell(quality.and_then(against)),
    ];
    if let Some(failure) = &variant.failure {
        row[10] = "failed".to_owned();
        row[12] = failure.clone();
    }
    row
}

fn interval(quality: &Quality) -> Option<String> {
    let [low, high] = quality.interval?;
    Some(match quality.is_share {
        true => format!("{:.2} to {:.2}", 100.0 * low, 100.0 * high),
        false => format!("{low:.5} to {high:.5}"),
    })
}

fn against(quality: &Quality) -> Option<String> {
    let paired = quality.paired.as_ref()?;
    let scale = if quality.is_share { 100.0 } else { 1.0 };
    let agreement = paired.agreement.map_or(String::new(), |share| format!(", {:.1}% agree", 100.0 * share));
    let p = if paired.p_value < 0.01 { "p < 0.01".to_owned() } else { format!("p {:.2}", paired.p_value) };
    Some(format!("{:+.2} ({p}){agreement}", scale * paired.difference))
}

/// Bytes with thousands separated.
fn grouped(number: u64) -> String {
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

/// A table for pull requests, with the verdict above it and what to know below.
pub fn markdown(results: &Results) -> String {
    let escaped = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    let line = |cells: &[String]| format!("| {} |\n", cells.iter().map(|c| escaped(c)).collect::<Vec<_>>().join(" | "));
    let mut text = format!("## {}\n\n", results.title);
    for verdict in &results.verdicts {
        text.push_str(&format!("**{verdict}**\n\n"));
    }
    text.push_str(&line(&COLUMNS.map(str::to_owned)));
    text.push_str(&format!("|---|{}\n", "---:|".repeat(COLUMNS.len() - 1)));
    rows(results).iter().for_each(|row| text.push_str(&line(row)));
    let machine = &results.machine;
    text.push_str(&format!(
        "\n{} of {}; {}, {} cores, {}, {}; dlopt {}. Intervals are of 95 %, p-values of a paired test against the original.\n",
        results.split,
        results.data,
        machine.processor,
        machine.cores,
        machine.level,
        machine.pinning(),
        results.dlopt
    ));
    for warning in &results.warnings {
        text.push_str(&format!("\n* {warning}\n"));
    }
    text
}

/// All figures, one line a variant, numbers as they are.
///
/// # Errors
/// When a field cannot be written, which does not happen in memory.
pub fn csv(results: &Results) -> Result<String> {
    let head = [
        "variant",
        "model",
        "baseline",
        "failure",
        "disk_bytes",
        "bits_per_weight",
        "weight_bytes",
        "peak_bytes",
        "load_seconds",
        "multiply_adds",
        "latency_median_us",
        "latency_p95_us",
        "latency_p99_us",
        "latency_noise",
        "latency_over_original",
        "metric",
        "quality",
        "quality_low",
        "quality_high",
        "difference",
        "difference_low",
        "difference_high",
        "p_value",
        "agreement",
        "calibration_error",
        "validation_quality",
        "threads",
    ];
    let batches: Vec<usize> = results
        .variants
        .iter()
        .find_map(|v| v.measurement.as_ref())
        .map_or(Vec::new(), |m| m.throughput.iter().map(|t| t.batch).collect());
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |e: csv::Error| Error::input(format!("the CSV: {e}"));
    let of_batches = batches.iter().map(|batch| format!("per_second_at_{batch}"));
    writer.write_record(head.into_iter().map(str::to_owned).chain(of_batches)).map_err(failed)?;
    for variant in &results.variants {
        let own = variant.measurement.as_ref();
        let quality = variant.quality.as_ref();
        let paired = quality.and_then(|q| q.paired.as_ref());
        let number = |value: Option<f64>| value.map_or(String::new(), |v| v.to_string());
        let count = |value: Option<u64>| value.map_or(String::new(), |v| v.to_string());
        let mut record = vec![
            variant.name.clone(),
            variant.model.clone(),
            variant.is_baseline.to_string(),
            variant.failure.clone().unwrap_or_default(),
            count(variant.bytes()),
            number(own.map(|m| m.bits_per_weight)),
            count(own.map(|m| m.weight_bytes)),
            count(own.and_then(|m| m.peak_bytes)),
            number(own.map(|m| m.load_seconds)),
            count(own.map(|m| m.multiply_adds)),
            number(own.map(|m| m.latency.median)),
            number(own.map(|m| m.latency.p95)),
            number(own.map(|m| m.latency.p99)),
            number(own.map(|m| m.latency.noise())),
            number(own.and_then(|m| m.latency_ratio).map(|r| r.median)),
            quality.map_or(String::new(), |q| q.metric.clone()),
            number(quality.map(|q| q.value)),
            number(quality.and_then(|q| q.interval).map(|i| i[0])),
            number(quality.and_then(|q| q.interval).map(|i| i[1])),
            number(paired.map(|p| p.difference)),
            number(paired.and_then(|p| p.interval).map(|i| i[0])),
            number(paired.and_then(|p| p.interval).map(|i| i[1])),
            number(paired.map(|p| p.p_value)),
            number(paired.and_then(|p| p.agreement)),
            number(quality.and_then(|q| q.calibration_error)),
            number(variant.validation.as_ref().map(|q| q.value)),
            count(own.map(|m| m.threads as u64)),
        ];
        let rates = own.map_or(&[][..], |m| &m.throughput[..]);
        record.extend((0..batches.len()).map(|at| number(rates.get(at).map(|t| t.per_second))));
        writer.write_record(record).map_err(failed)?;
    }
    let bytes = writer.into_inner().map_err(|e| Error::input(format!("the CSV: {e}")))?;
    String::from_utf8(bytes).map_err(|e| Error::input(format!("the CSV: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::{results, variant};

    #[test]
    fn a_failure_keeps_its_row_and_reason() {
        let mut broken = variant("a | b", 1, 1.0, 0.5);
        (broken.measurement, broken.quality) = (None, None);
        broken.failure = Some("no, such thing".to_owned());
        let results = results(vec![variant("original", 4000, 100.0, 0.92), broken]);
        let text = markdown(&results);
        assert!(text.contains("| original | 4,000 | 8.00 |") && text.contains("| a \\| b | - |"), "{text}");
        let text = csv(&results).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with("variant,model,") && lines[2].starts_with("a | b,cnn.safetensors,false,\"no, such")
        );
        assert!(lines.iter().all(|line| line.matches(',').count() >= 26));
    }
}
