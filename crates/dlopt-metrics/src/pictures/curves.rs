//! Learning curves: loss, accuracy and learning rate by epoch, side by side.
//!
//! A vertical line marks the epoch of lowest validation loss. A loss or learning rate that spans more than a factor of
//! fifty is drawn on a logarithmic scale. Values that are NaN, infinite or beyond
//! ±1e30 leave a gap.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::{BLUE, GREEN, GRID, INK, LABEL, NEVER_FAILS, PALE_INK, SMALL, TITLE, VERMILION, figure, svg, text_style};
use crate::history::EpochRecord;

const PANEL_WIDTH: u32 = 460;
const PANEL_HEIGHT: u32 = 380;
const HEAD: i32 = 48;
/// Beyond this ratio of largest to smallest, equal steps on paper are equal factors.
const LOGARITHMIC_FROM: f64 = 50.0;
/// Larger values overflow when an axis is laid out.
const MAX_DRAWN: f64 = 1e30;
/// So many points can be told apart; more would hide the line.
const MAX_MARKED_POINTS: usize = 40;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

struct Panel {
    title: &'static str,
    series: Vec<Series>,
    is_share: bool,
    /// A panel of one thing only is named by its title.
    has_legend: bool,
}

struct Series {
    name: &'static str,
    color: RGBColor,
    /// (epoch, value); what cannot be drawn is NaN.
    points: Vec<(f64, f64)>,
}

/// Draws the log of a training run as SVG: loss, and accuracy and learning rate where there is something to see.
pub fn learning_curves_svg(records: &[EpochRecord]) -> String {
    let series = |name, color, of: &dyn Fn(&EpochRecord) -> Option<f64>| Series {
        name,
        color,
        points: records
            .iter()
            .filter_map(|r| Some((r.epoch as f64, of(r)?)))
            .map(|(epoch, value)| (epoch, if value.abs() <= MAX_DRAWN { value } else { f64::NAN }))
            .collect(),
    };
    let mut panels = vec![
        Panel {
            title: "Loss",
            series: vec![
                series("training", BLUE, &|r| Some(r.train_loss)),
                series("validation", VERMILION, &|r| r.validation_loss),
            ],
            is_share: false,
            has_legend: true,
        },
        Panel {
            title: "Accuracy",
            series: vec![
                series("training", BLUE, &|r| r.train_accuracy),
                series("validation", VERMILION, &|r| r.validation_accuracy),
            ],
            is_share: true,
            has_legend: true,
        },
    ];
    let rates = series("learning rate", GREEN, &|r| Some(r.learning_rate));
    if rates.points.iter().any(|p| p.1.is_finite() && p.1 != rates.points[0].1) {
        panels.push(Panel { title: "Learning rate", series: vec![rates], is_share: false, has_legend: false });
    }
    panels.iter_mut().for_each(|p| p.series.retain(|s| !s.points.is_empty()));
    panels.retain(|p| p.series.iter().any(|s| s.points.iter().any(|p| p.1.is_finite())));

    let best = records
        .iter()
        .filter_map(|r| Some((r.epoch, r.validation_loss.filter(|l| l.is_finite())?)))
        .reduce(|best, next| if next.1 < best.1 { next } else { best });
    let width = PANEL_WIDTH * panels.len().max(1) as u32;
    svg(width, HEAD as u32 + PANEL_HEIGHT, |root| {
        let (head, body) = root.split_vertically(HEAD);
        let mut heading = "Learning curves".to_owned();
        if let Some((epoch, loss)) = best {
            heading += &format!(" (lowest validation loss {} at epoch {epoch})", figure(loss));
        }
        head.draw_text(&heading, &text_style(TITLE, INK, HPos::Left, VPos::Top), (16, 12)).expect(NEVER_FAILS);
        if panels.is_empty() {
            let style = text_style(LABEL, PALE_INK, HPos::Center, VPos::Center);
            body.draw_text("no epoch has a finite loss yet", &style, (width as i32 / 2, PANEL_HEIGHT as i32 / 2))
                .expect(NEVER_FAILS);
            return;
        }
        for (panel, area) in panels.iter().zip(body.split_evenly((1, panels.len()))) {
            draw(panel, &area, records, best.map(|b| b.0 as f64));
        }
    })
}

fn draw(panel: &Panel, area: &Area<'_>, records: &[EpochRecord], best: Option<f64>) {
    legend(panel, area);
    let finite = panel.series.iter().flat_map(|s| &s.points).map(|p| p.1).filter(|v| v.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    let is_log = !panel.is_share && low > 0.0 && high / low > LOGARITHMIC_FROM;
    let place = |v: f64| if is_log { v.log10() } else { v };
    let margin = ((place(high) - place(low)) * 0.06).max(place(high).abs() * 0.02).max(1e-9);
    let mut range = place(low) - margin..place(high) + margin;
    if panel.is_share {
        range = range.start.max(0.0)..range.end.min(1.0);
    }
    let epochs = records.iter().map(|r| r.epoch as f64);
    let (first, last) = epochs.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), e| (l.min(e), h.max(e)));
    let beside = if first == last { 0.5f64 } else { (last - first) * 0.03 }.max(last * 1e-9);

    let mut chart = ChartBuilder::on(area)
        .margin_top(40)
        .margin_right(20)
        .margin_bottom(8)
        .margin_left(8)
        .x_label_area_size(44)
        .y_label_area_size(62)
        .build_cartesian_2d(first - beside..last + beside, range.clone())
        .expect(NEVER_FAILS);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .axis_style(PALE_INK)
        .x_labels(if last - first < 8.0 { (last - first) as usize + 1 } else { 8 })
        .y_labels(7)
        .x_label_formatter(&|e| if e.fract() == 0.0 { format!("{e:.0}") } else { String::new() })
        .y_label_formatter(&|y| match (panel.is_share, is_log) {
            (true, _) => share(*y, range.end - range.start),
            (false, true) => figure(10f64.powf(*y)),
            (false, false) => figure(*y),
        })
        .label_style(text_style(SMALL, INK, HPos::Center, VPos::Center))
        .axis_desc_style(text_style(LABEL, INK, HPos::Center, VPos::Center))
        .x_desc("epoch")
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .draw()
        .expect(NEVER_FAILS);
    if let Some(best) = best {
        let line = PathElement::new([(best, range.start), (best, range.end)], GRID.stroke_width(2));
        chart.draw_series([line]).expect(NEVER_FAILS);
    }
    for series in &panel.series {
        for run in series.points.split(|p| !p.1.is_finite()) {
            let run: Vec<_> = run.iter().map(|(e, v)| (*e, place(*v))).collect();
            chart.draw_series(LineSeries::new(run.iter().copied(), series.color.stroke_width(2))).expect(NEVER_FAILS);
            if series.points.len() <= MAX_MARKED_POINTS || run.len() == 1 {
                let dots = run.iter().map(|p| Circle::new(*p, 3, series.color.filled()));
                chart.draw_series(dots).expect(NEVER_FAILS);
            }
        }
    }
}

/// The panel's title and the names of its lines, above the chart, where they hide nothing.
fn legend(panel: &Panel, area: &Area<'_>) {
    area.draw_text(panel.title, &text_style(LABEL + 2, INK, HPos::Left, VPos::Center), (72, 20)).expect(NEVER_FAILS);
    if !panel.has_legend {
        return;
    }
    let mut x = PANEL_WIDTH as i32 - 20 - 100 * panel.series.len() as i32;
    for series in &panel.series {
        area.draw(&PathElement::new([(x, 20), (x + 22, 20)], series.color.stroke_width(3))).expect(NEVER_FAILS);
        let style = text_style(SMALL, INK, HPos::Left, VPos::Center);
        area.draw_text(series.name, &style, (x + 28, 20)).expect(NEVER_FAILS);
        x += 100;
    }
}

/// A share in percent, with decimals where the axis is short.
fn share(value: f64, span: f64) -> String {
    let decimals = if span < 0.02 {
        2
    } else if span < 0.1 {
        1
    } else {
        0
    };
    format!("{:.decimals$} %", 100.0 * value)
}
