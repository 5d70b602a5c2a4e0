//! The reliability diagram: accuracy by confidence, and how many samples there are at each confidence.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::{BLUE, GRID, INK, LABEL, NEVER_FAILS, PALE_INK, SMALL, TITLE, VERMILION, compact, svg, text_style};
use crate::calibration::Calibration;

const WIDTH: u32 = 620;
const HEAD: i32 = 92;
const UPPER: i32 = 400;
const LOWER: i32 = 170;
/// More bins than this leave no room for a count over each.
const MAX_COUNTED: usize = 20;

/// Draws a reliability diagram as SVG: above, each bin's accuracy with its interval against perfect calibration;
/// below, the samples of each bin.
pub fn reliability_svg(calibration: &Calibration) -> String {
    svg(WIDTH, (HEAD + UPPER + LOWER) as u32, |root| {
        let (head, body) = root.split_vertically(HEAD);
        let (upper, lower) = body.split_vertically(UPPER);
        head.draw_text("Reliability", &text_style(TITLE, INK, HPos::Left, VPos::Top), (16, 12)).expect(NEVER_FAILS);
        let error = &calibration.expected_error;
        let mut subtitle = format!("expected calibration error {:.2} %", 100.0 * error.value);
        if let Some(i) = error.interval {
            subtitle += &format!(" (95 %: {:.2} to {:.2} %)", 100.0 * i.low, 100.0 * i.high);
        }
        let style = text_style(SMALL, PALE_INK, HPos::Left, VPos::Top);
        head.draw_text(&subtitle, &style, (16, 42)).expect(NEVER_FAILS);
        legend(&head);
        accuracies(&upper, calibration);
        counts(&lower, calibration);
    })
}

fn legend(head: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>) {
    let y = 76;
    let style = text_style(SMALL, INK, HPos::Left, VPos::Center);
    head.draw(&Rectangle::new([(76, y - 6), (96, y + 6)], BLUE.mix(0.55).filled())).expect(NEVER_FAILS);
    head.draw_text("accuracy", &style, (102, y)).expect(NEVER_FAILS);
    head.draw(&PathElement::new([(188, y - 9), (188, y + 9)], INK.stroke_width(2))).expect(NEVER_FAILS);
    head.draw(&Circle::new((188, y), 4, INK.filled())).expect(NEVER_FAILS);
    head.draw_text("at the mean confidence, with 95 % interval", &style, (198, y)).expect(NEVER_FAILS);
    head.draw(&PathElement::new([(462, y), (484, y)], VERMILION.stroke_width(2))).expect(NEVER_FAILS);
    head.draw_text("perfect calibration", &style, (490, y)).expect(NEVER_FAILS);
}

fn accuracies(area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>, calibration: &Calibration) {
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(24)
        .x_label_area_size(6)
        .y_label_area_size(62)
        .build_cartesian_2d(0.0..1.0, 0.0..1.0)
        .expect(NEVER_FAILS);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .axis_style(PALE_INK)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .x_labels(0)
        .y_labels(6)
        .y_label_formatter(&|y| format!("{:.0} %", 100.0 * y))
        .y_desc("accuracy")
        .label_style(text_style(SMALL, INK, HPos::Center, VPos::Center))
        .axis_desc_style(text_style(LABEL, INK, HPos::Center, VPos::Center))
        .draw()
        .expect(NEVER_FAILS);
    let filled = calibration.bins.iter().filter_map(|b| Some((b, b.accuracy?, b.confidence?)));
    let gap = 0.06 / calibration.bins.len() as f64;
    let bars = filled.clone().map(|(b, accuracy, _)| {
        Rectangle::new([(b.low + gap, 0.0), (b.high - gap, accuracy.value)], BLUE.mix(0.55).filled())
    });
    chart.draw_series(bars).expect(NEVER_FAILS);
    chart.draw_series(LineSeries::new([(0.0, 0.0), (1.0, 1.0)], VERMILION.stroke_width(2))).expect(NEVER_FAILS);
    let intervals = filled.clone().filter_map(|(_, accuracy, confidence)| {
        let i = accuracy.interval?;
        Some(PathElement::new([(confidence, i.low), (confidence, i.high)], INK.stroke_width(2)))
    });
    chart.draw_series(intervals).expect(NEVER_FAILS);
    let dots = filled.map(|(_, accuracy, confidence)| Circle::new((confidence, accuracy.value), 4, INK.filled()));
    chart.draw_series(dots).expect(NEVER_FAILS);
}

fn counts(area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>, calibration: &Calibration) {
    let largest = calibration.bins.iter().map(|b| b.samples).max().unwrap_or(0).max(1) as f64;
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(24)
        .x_label_area_size(48)
        .y_label_area_size(62)
        .build_cartesian_2d(0.0..1.0, 0.0..largest * 1.25)
        .expect(NEVER_FAILS);
    chart
        .configure_mesh()
        .disable_mesh()
        .axis_style(PALE_INK)
        .x_labels(6)
        .y_labels(3)
        .x_label_formatter(&|x| format!("{:.0} %", 100.0 * x))
        .y_label_formatter(&|y| compact(*y as u64))
        .x_desc("confidence")
        .y_desc("samples")
        .label_style(text_style(SMALL, INK, HPos::Center, VPos::Center))
        .axis_desc_style(text_style(LABEL, INK, HPos::Center, VPos::Center))
        .draw()
        .expect(NEVER_FAILS);
    let gap = 0.06 / calibration.bins.len() as f64;
    let filled = calibration.bins.iter().filter(|b| b.samples > 0);
    let bars = filled.clone().map(|b| {
        Rectangle::new([(b.low + gap, 0.0), (b.high - gap, b.samples as f64)], RGBColor(150, 150, 150).filled())
    });
    chart.draw_series(bars).expect(NEVER_FAILS);
    if calibration.bins.len() <= MAX_COUNTED {
        let style = text_style(12, INK, HPos::Center, VPos::Bottom);
        let texts = filled.map(|b| {
            let at = (f64::midpoint(b.low, b.high), b.samples as f64 + largest * 0.03);
            Text::new(compact(b.samples), at, style.clone())
        });
        chart.draw_series(texts).expect(NEVER_FAILS);
    }
}
