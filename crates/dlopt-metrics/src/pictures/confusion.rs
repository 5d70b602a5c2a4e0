//! The confusion matrix as a heat map: a row for each true class, coloured by the share of the row.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::{INK, LABEL, NEVER_FAILS, PALE_INK, SMALL, TITLE, compact, short, svg, text_style};
use crate::classification::ClassificationReport;

/// Up to so many classes, cells show their counts and every class its name.
const MAX_NAMED: usize = 30;
/// Characters of a class's name that are shown.
const NAME: usize = 18;

/// Draws the report's confusion matrix as SVG. Colours are shares of a row (of the samples of one class); counts are
/// written into the cells of up to 30 classes, zeros left empty.
pub fn confusion_matrix_svg(report: &ClassificationReport) -> String {
    let classes = report.classes.len().max(1);
    let is_named = classes <= MAX_NAMED;
    let cell = match classes {
        0..=12 => 46,
        13..=MAX_NAMED => 38,
        _ => (900 / classes as i32).max(1),
    };
    let names: Vec<String> = report.classes.iter().map(|c| short(&c.name, NAME)).collect();
    // Without a font the width of text is a guess: a character is about half as wide as the font is high.
    let longest = names.iter().map(|n| n.chars().count()).max().unwrap_or(0) as i32;
    let room = if is_named { (longest * 7 + 12).max(30) } else { 44 };
    let side = cell * classes as i32;
    let (left, top) = (44 + room, 92);
    let right = 96;
    let foot = room + 36;
    let width = (left + side + right).max(430);

    svg(width as u32, (top + side + foot) as u32, |root| {
        let write = |text: &str, size: i32, color, h, v, at: (i32, i32)| {
            root.draw_text(text, &text_style(size, color, h, v), at).expect(NEVER_FAILS);
        };
        write("Confusion matrix", TITLE, INK, HPos::Left, VPos::Top, (16, 12));
        let wrong: u64 = report.samples - (0..report.confusion.len()).map(|c| report.confusion[c][c]).sum::<u64>();
        let subtitle = format!("{wrong} of {} samples are off the diagonal", report.samples);
        write(&subtitle, SMALL, PALE_INK, HPos::Left, VPos::Top, (16, 42));

        for (row, counts) in report.confusion.iter().enumerate() {
            let support: u64 = counts.iter().sum();
            for (column, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                let share = *count as f64 / support as f64;
                let (x, y) = (left + cell * column as i32, top + cell * row as i32);
                let area = Rectangle::new([(x, y), (x + cell, y + cell)], shade(share).filled());
                root.draw(&area).expect(NEVER_FAILS);
                if is_named {
                    let ink = if share > 0.3 { WHITE } else { INK };
                    let middle = (x + cell / 2, y + cell / 2);
                    write(&compact(*count), SMALL, ink, HPos::Center, VPos::Center, middle);
                }
            }
        }
        let line = RGBColor(208, 208, 208);
        let step = if is_named { 1 } else { classes as i32 };
        for k in (0..=classes as i32).step_by(step as usize) {
            let along = cell * k;
            for ends in
                [[(left + along, top), (left + along, top + side)], [(left, top + along), (left + side, top + along)]]
            {
                root.draw(&PathElement::new(ends, line)).expect(NEVER_FAILS);
            }
        }
        label_classes(root, &names, is_named, cell, (left, top));
        write("predicted class", LABEL, INK, HPos::Center, VPos::Bottom, (left + side / 2, top + side + foot - 8));
        let turned = text_style(LABEL, INK, HPos::Center, VPos::Center).transform(FontTransform::Rotate270);
        root.draw_text("true class", &turned, (22, top + side / 2)).expect(NEVER_FAILS);
        scale(root, left + side + 24, top, side.clamp(60, 260));
    })
}

fn label_classes(
    root: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    names: &[String],
    is_named: bool,
    cell: i32,
    (left, top): (i32, i32),
) {
    // Beyond what can be named, every so many classes get their number.
    let step = if is_named { 1 } else { names.len().div_ceil(10).next_multiple_of(10) };
    let bottom = top + cell * names.len() as i32;
    for (c, name) in names.iter().enumerate().step_by(step) {
        let middle = cell * c as i32 + cell / 2;
        let text = if is_named { name.clone() } else { c.to_string() };
        let style = text_style(SMALL, INK, HPos::Right, VPos::Center);
        root.draw_text(&text, &style, (left - 8, top + middle)).expect(NEVER_FAILS);
        let turned = style.transform(FontTransform::Rotate270);
        root.draw_text(&text, &turned, (left + middle, bottom + 8)).expect(NEVER_FAILS);
    }
}

/// What the colours mean, from the top down.
fn scale(root: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>, x: i32, top: i32, height: i32) {
    let steps = 50;
    for s in 0..steps {
        let (from, to) = (top + height * s / steps, top + height * (s + 1) / steps);
        let share = 1.0 - (f64::from(s) + 0.5) / f64::from(steps);
        root.draw(&Rectangle::new([(x, from), (x + 14, to)], shade(share).filled())).expect(NEVER_FAILS);
    }
    root.draw(&Rectangle::new([(x, top), (x + 14, top + height)], PALE_INK)).expect(NEVER_FAILS);
    let style = text_style(SMALL, INK, HPos::Left, VPos::Center);
    for (share, y) in [("100 %", top), ("50 %", top + height / 2), ("0 %", top + height)] {
        root.draw_text(share, &style, (x + 20, y)).expect(NEVER_FAILS);
    }
    let style = text_style(SMALL, PALE_INK, HPos::Left, VPos::Bottom);
    root.draw_text("of the row", &style, (x, top - 12)).expect(NEVER_FAILS);
}

/// From white over light blue to dark blue; small shares are spread out, so that single mistakes show.
fn shade(share: f64) -> RGBColor {
    let stops = [(255.0, 255.0, 255.0), (158.0, 202.0, 225.0), (33.0, 113.0, 181.0), (8.0, 48.0, 107.0)];
    let at = share.clamp(0.0, 1.0).sqrt() * (stops.len() - 1) as f64;
    let k = (at as usize).min(stops.len() - 2);
    let mix = |a: f64, b: f64| (a + (b - a) * (at - k as f64)).round() as u8;
    let (a, b) = (stops[k], stops[k + 1]);
    RGBColor(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
}
