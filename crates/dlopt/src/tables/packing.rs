//! What packing and unpacking did.

use std::fmt::Write;

use dlopt_pack::PackReport;

use super::{columns, grouped};

/// What was packed, plane by plane.
pub(crate) fn packed(report: &PackReport, seconds: f64) -> String {
    let rate = rate(report.bytes_before, seconds);
    let mut text = format!(
        "{} files, {} tensors: {} to {} bytes, {:.2}x smaller ({:.1} %), {rate}\n",
        report.files,
        report.tensors,
        grouped(report.bytes_before),
        grouped(report.bytes_after),
        report.ratio,
        100.0 / report.ratio,
    );
    let rows: Vec<Vec<String>> = report
        .planes
        .iter()
        .map(|plane| {
            let above = 100.0 * (plane.packed_bytes as f64 / plane.entropy_bytes.max(1.0) - 1.0);
            vec![
                plane.kind.label().to_owned(),
                grouped(plane.symbols),
                grouped(plane.entropy_bytes.ceil() as u64),
                grouped(plane.packed_bytes),
                format!("{above:+.1} %"),
            ]
        })
        .collect();
    text += &columns(&["planes", "symbols", "entropy, bytes", "packed, bytes", "above it"], &rows);
    text
}

/// What was unpacked.
pub(crate) fn unpacked(files: u64, bytes: u64, seconds: f64) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{files} files, {} bytes, checksums hold, {}", grouped(bytes), rate(bytes, seconds));
    text
}

fn rate(bytes: u64, seconds: f64) -> String {
    format!("{:.0} MB/s", bytes as f64 / seconds.max(1e-9) / 1e6)
}
