//! Teacher, students and controls: what each run reached, beside the curves that led there.
//!
//! On the left a dot for each run, a bar at their mean, and a dashed line at the teacher; on the right the validation
//! accuracy of every run by epoch, or its training loss where no split was watched.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::{BLUE, GREEN, GRID, INK, LABEL, NEVER_FAILS, PALE_INK, SMALL, TITLE, VERMILION, figure, svg, text_style};
use crate::history::EpochRecord;

const PANEL_WIDTH: u32 = 460;
const PANEL_HEIGHT: u32 = 360;
const HEAD: i32 = 84;
const COLORS: [RGBColor; 2] = [BLUE, VERMILION];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Runs that differ in their seed alone.
#[derive(Clone, Debug)]
pub struct DistillationRole {
    /// What they are called.
    pub name: &'static str,
    /// What each reached.
    pub runs: Vec<f64>,
    /// The epochs of each.
    pub curves: Vec<Vec<EpochRecord>>,
}

/// Draws a distillation as SVG. What was reached is a share, 0..=1, if `is_share`.
pub fn distillation_svg(teacher: Option<f64>, roles: &[DistillationRole], is_share: bool) -> String {
    svg(2 * PANEL_WIDTH, HEAD as u32 + PANEL_HEIGHT, |root| {
        let (head, body) = root.split_vertically(HEAD);
        legend(&head, teacher, roles, is_share);
        let halves = body.split_evenly((1, 2));
        reached(&halves[0], teacher, roles, is_share);
        curves(&halves[1], roles);
    })
}

fn worded(value: f64, is_share: bool) -> String {
    if is_share { format!("{:.2} %", 100.0 * value) } else { figure(value) }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn legend(head: &Area<'_>, teacher: Option<f64>, roles: &[DistillationRole], is_share: bool) {
    head.draw_text("Distillation", &text_style(TITLE, INK, HPos::Left, VPos::Top), (16, 12)).expect(NEVER_FAILS);
    let style = text_style(SMALL, INK, HPos::Left, VPos::Center);
    let mut lines: Vec<(RGBColor, String)> = Vec::new();
    if let Some(teacher) = teacher {
        lines.push((GREEN, format!("teacher {} (dashed)", worded(teacher, is_share))));
    }
    for (role, color) in roles.iter().zip(COLORS) {
        lines.push((color, format!("{} {}, runs: {}", role.name, worded(mean(&role.runs), is_share), role.runs.len())));
    }
    for (place, (color, text)) in lines.iter().enumerate() {
        let x = 20 + 300 * place as i32;
        head.draw(&PathElement::new([(x, 58), (x + 24, 58)], color.stroke_width(3))).expect(NEVER_FAILS);
        head.draw_text(text, &style, (x + 32, 58)).expect(NEVER_FAILS);
    }
}

/// A range with room around it.
fn around(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let finite = values.filter(|value| value.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if low > high {
        return 0.0..1.0;
    }
    let margin = ((high - low) * 0.1).max(high.abs() * 0.005).max(1e-9);
    low - margin..high + margin
}

fn reached(area: &Area<'_>, teacher: Option<f64>, roles: &[DistillationRole], is_share: bool) {
    let title = if is_share { "Accuracy of every run" } else { "Error of every run" };
    area.draw_text(title, &text_style(LABEL + 2, INK, HPos::Left, VPos::Center), (72, 20)).expect(NEVER_FAILS);
    let range = around(roles.iter().flat_map(|role| role.runs.iter().copied()).chain(teacher));
    let last = roles.len() as f64;
    let mut chart = ChartBuilder::on(area)
        .margin_top(40)
        .margin_right(20)
        .margin_bottom(8)
        .margin_left(8)
        .x_label_area_size(44)
        .y_label_area_size(62)
        .build_cartesian_2d(0.5..last + 0.5, range)
        .expect(NEVER_FAILS);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .axis_style(PALE_INK)
        .x_labels(2 * roles.len() + 1)
        .y_labels(7)
        .x_label_formatter(&|x| {
            let place = (x.fract() == 0.0 && *x >= 1.0).then(|| roles.get(*x as usize - 1));
            place.flatten().map(|role| role.name.to_owned()).unwrap_or_default()
        })
        .y_label_formatter(&|y| worded(*y, is_share))
        .label_style(text_style(SMALL, INK, HPos::Center, VPos::Center))
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .draw()
        .expect(NEVER_FAILS);
    if let Some(teacher) = teacher {
        let dashes = (0..24).map(|dash| {
            let from = 0.5 + last * f64::from(dash) / 24.0;
            PathElement::new([(from, teacher), (from + last / 48.0, teacher)], GREEN.stroke_width(2))
        });
        chart.draw_series(dashes).expect(NEVER_FAILS);
    }
    for (place, (role, color)) in roles.iter().zip(COLORS).enumerate() {
        let (x, mean) = (place as f64 + 1.0, mean(&role.runs));
        let bar = PathElement::new([(x - 0.18, mean), (x + 0.18, mean)], color.stroke_width(3));
        chart.draw_series([bar]).expect(NEVER_FAILS);
        let count = role.runs.len() as f64;
        // Beside each other, so that equal runs do not hide one another.
        let dots = role.runs.iter().enumerate().map(|(run, value)| {
            let beside = if count > 1.0 { 0.24 * (run as f64 / (count - 1.0) - 0.5) } else { 0.0 };
            Circle::new((x + beside, *value), 4, color.mix(0.7).filled())
        });
        chart.draw_series(dots).expect(NEVER_FAILS);
    }
}

fn curves(area: &Area<'_>, roles: &[DistillationRole]) {
    let all = || roles.iter().flat_map(|role| &role.curves).flatten();
    let is_watched = all().any(|record| record.validation_accuracy.is_some());
    let value = |record: &EpochRecord| if is_watched { record.validation_accuracy } else { Some(record.train_loss) };
    let title = if is_watched { "Validation accuracy" } else { "Training loss" };
    area.draw_text(title, &text_style(LABEL + 2, INK, HPos::Left, VPos::Center), (72, 20)).expect(NEVER_FAILS);
    let range = around(all().filter_map(value));
    let last = all().map(|record| record.epoch).max().unwrap_or(1) as f64;
    let mut chart = ChartBuilder::on(area)
        .margin_top(40)
        .margin_right(20)
        .margin_bottom(8)
        .margin_left(8)
        .x_label_area_size(44)
        .y_label_area_size(62)
        .build_cartesian_2d(0.5..last + 0.5, range)
        .expect(NEVER_FAILS);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .axis_style(PALE_INK)
        .x_labels(8)
        .y_labels(7)
        .x_label_formatter(&|e| if e.fract() == 0.0 { format!("{e:.0}") } else { String::new() })
        .y_label_formatter(&|y| worded(*y, is_watched))
        .label_style(text_style(SMALL, INK, HPos::Center, VPos::Center))
        .axis_desc_style(text_style(LABEL, INK, HPos::Center, VPos::Center))
        .x_desc("epoch")
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .draw()
        .expect(NEVER_FAILS);
    for (role, color) in roles.iter().zip(COLORS) {
        for curve in &role.curves {
            let points = curve.iter().filter_map(|record| Some((record.epoch as f64, value(record)?)));
            let points: Vec<(f64, f64)> = points.filter(|point| point.1.is_finite()).collect();
            chart.draw_series(LineSeries::new(points, color.mix(0.8).stroke_width(2))).expect(NEVER_FAILS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_has_a_dot_and_the_teacher_a_line() {
        let role = |name, runs: &[f64]| DistillationRole { name, runs: runs.to_vec(), curves: vec![Vec::new()] };
        let roles = [role("student", &[0.91, 0.92, 0.915]), role("control", &[0.90])];
        let svg = distillation_svg(Some(0.94), &roles, true);
        assert_eq!(svg.matches("<circle").count(), 4);
        assert!(svg.contains("teacher 94.00 % (dashed)") && svg.contains("student 91.50 %, runs: 3"));
        let numbers = distillation_svg(None, &[role("student", &[12.5])], false);
        assert!(!numbers.contains("dashed") && numbers.contains("Error of every run"));
    }
}
