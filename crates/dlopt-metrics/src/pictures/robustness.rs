//! Accuracy by strength, a panel for each corruption and one for the mean of all; one line for each model, beside a dashed
//! one at its accuracy on samples as they are. Whiskers are 95 % intervals.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::{BLUE, GREEN, GRID, INK, LABEL, NEVER_FAILS, PALE_INK, SMALL, TITLE, VERMILION, short, svg, text_style};
use crate::estimate::Estimate;
use crate::robustness::RobustnessReport;

const PANEL_WIDTH: u32 = 400;
const PANEL_HEIGHT: u32 = 320;
const HEAD: i32 = 56;
/// Height of the line of a model in the legend.
const LINE: i32 = 24;
const COLUMNS: usize = 3;
/// Models that can be told apart; others take the colours again.
const COLORS: [RGBColor; 3] = [BLUE, VERMILION, GREEN];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// What is drawn of one corruption, or of the mean of all.
struct Panel<'a> {
    title: &'a str,
    unit: &'a str,
    /// What stands below each strength.
    marks: Vec<String>,
    /// Of each model, the clean accuracy and that at each strength.
    lines: Vec<(f64, Vec<Estimate>)>,
}

/// Draws what models, with their names, are worth under the same corruptions, as SVG; the corruptions and strengths of
/// the first are those of all.
pub fn robustness_svg(models: &[(&str, &RobustnessReport)]) -> String {
    let panels = panels(models);
    let rows = panels.len().div_ceil(COLUMNS).max(1);
    let head = HEAD + LINE * models.len() as i32;
    svg(PANEL_WIDTH * COLUMNS as u32, head as u32 + PANEL_HEIGHT * rows as u32, |root| {
        let (top, body) = root.split_vertically(head);
        legend(&top, models);
        let low = panels.iter().flat_map(|panel| &panel.lines).flat_map(|(clean, points)| {
            let ends = points.iter().map(|point| point.interval.map_or(point.value, |i| i.low));
            ends.chain([*clean])
        });
        // All panels share one axis, so that they can be compared.
        let low = (low.fold(1.0, f64::min) * 10.0 - 0.2).floor().max(0.0) / 10.0;
        for (panel, area) in panels.iter().zip(body.split_evenly((rows, COLUMNS))) {
            draw(panel, &area, low.min(0.9));
        }
    })
}

fn panels<'a>(models: &[(&'a str, &'a RobustnessReport)]) -> Vec<Panel<'a>> {
    let Some((_, first)) = models.first() else { return Vec::new() };
    let mut panels: Vec<Panel<'a>> = first
        .corruptions
        .iter()
        .enumerate()
        .map(|(place, own)| Panel {
            title: &own.name,
            unit: &own.unit,
            marks: own.strengths.iter().map(|own| own.strength.to_string()).collect(),
            lines: models
                .iter()
                .filter_map(|(_, report)| {
                    let own = report.corruptions.get(place)?;
                    Some((report.clean.value, own.strengths.iter().map(|own| own.accuracy).collect()))
                })
                .collect(),
        })
        .collect();
    panels.push(Panel {
        title: "mean of all",
        unit: "strength",
        marks: (1..=first.by_strength.len()).map(|strength| strength.to_string()).collect(),
        lines: models
            .iter()
            .map(|(_, report)| {
                let points = report.by_strength.iter().map(|&value| Estimate { value, interval: None });
                (report.clean.value, points.collect())
            })
            .collect(),
    });
    panels
}

fn legend(head: &Area<'_>, models: &[(&str, &RobustnessReport)]) {
    let title = "Accuracy under corruption";
    head.draw_text(title, &text_style(TITLE, INK, HPos::Left, VPos::Top), (16, 12)).expect(NEVER_FAILS);
    let style = text_style(SMALL, INK, HPos::Left, VPos::Center);
    for (place, (name, report)) in models.iter().enumerate() {
        let (color, y) = (COLORS[place % COLORS.len()], HEAD + LINE * place as i32);
        head.draw(&PathElement::new([(20, y), (44, y)], color.stroke_width(3))).expect(NEVER_FAILS);
        let (clean, corrupted) = (100.0 * report.clean.value, 100.0 * report.corrupted.value);
        let text = format!("{}: {clean:.2} % clean (dashed), {corrupted:.2} % corrupted", short(name, 60));
        head.draw_text(&text, &style, (52, y)).expect(NEVER_FAILS);
    }
}

fn draw(panel: &Panel<'_>, area: &Area<'_>, low: f64) {
    let title = text_style(LABEL + 2, INK, HPos::Left, VPos::Center);
    area.draw_text(panel.title, &title, (72, 20)).expect(NEVER_FAILS);
    let last = panel.marks.len() as f64;
    let mut chart = ChartBuilder::on(area)
        .margin_top(36)
        .margin_right(20)
        .margin_bottom(8)
        .margin_left(8)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(0.5..last + 0.5, low..1.0)
        .expect(NEVER_FAILS);
    let mark = |x: &f64| {
        let place = (x.fract() == 0.0 && *x >= 1.0).then(|| panel.marks.get(*x as usize - 1));
        place.flatten().cloned().unwrap_or_default()
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .axis_style(PALE_INK)
        .x_labels(panel.marks.len() + 1)
        .y_labels(6)
        .x_label_formatter(&mark)
        .y_label_formatter(&|y| format!("{:.0} %", 100.0 * y))
        .label_style(text_style(SMALL, INK, HPos::Center, VPos::Center))
        .axis_desc_style(text_style(SMALL, INK, HPos::Center, VPos::Center))
        .x_desc(panel.unit)
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .draw()
        .expect(NEVER_FAILS);
    for (place, (clean, points)) in panel.lines.iter().enumerate() {
        let color = COLORS[place % COLORS.len()];
        let ends = [(0.5, *clean), (last + 0.5, *clean)];
        chart.draw_series(DashedLineSeries::new(ends, 6, 4, color.stroke_width(1))).expect(NEVER_FAILS);
        // Beside each other, so that whiskers of two models do not hide each other.
        let at = |strength: usize| strength as f64 + 1.0 + 0.06 * (place as f64 - (panel.lines.len() - 1) as f64 / 2.0);
        let places = || points.iter().enumerate().map(|(strength, point)| (at(strength), point));
        let line = LineSeries::new(places().map(|(x, point)| (x, point.value)), color.stroke_width(2));
        chart.draw_series(line).expect(NEVER_FAILS);
        let whiskers = places().filter_map(|(x, point)| {
            let own = point.interval?;
            Some(PathElement::new([(x, own.low), (x, own.high)], color.stroke_width(1)))
        });
        chart.draw_series(whiskers).expect(NEVER_FAILS);
        let dots = places().map(|(x, point)| Circle::new((x, point.value), 3, color.filled()));
        chart.draw_series(dots).expect(NEVER_FAILS);
    }
}
