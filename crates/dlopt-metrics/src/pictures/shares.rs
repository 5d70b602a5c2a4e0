//! A share of every layer as a bar: zeros of its weights, say.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::{BLUE, GRID, INK, NEVER_FAILS, PALE_INK, SMALL, TITLE, compact, short, svg, text_style};

/// Pixels between two bars, of a bar's thickness, and of a whole bar.
const ROW: i32 = 24;
const THICK: i32 = 14;
const WHOLE: i32 = 360;
/// Characters of a name that are shown.
const NAME: usize = 40;

/// A part of something.
#[derive(Clone, Debug, PartialEq)]
pub struct ShareBar {
    /// What it is a part of.
    pub name: String,
    /// How large, 0..=1.
    pub share: f64,
    /// How many there are in all.
    pub of: u64,
}

/// Draws a bar for every share as SVG, with its percentage and the count it is a share of.
pub fn shares_svg(title: &str, bars: &[ShareBar]) -> String {
    let names: Vec<String> = bars.iter().map(|own| short(&own.name, NAME)).collect();
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0) as i32;
    let (left, top) = (longest * 8 + 32, 56);
    let height = top + ROW * bars.len() as i32 + 20;
    svg((left + WHOLE + 150) as u32, height as u32, |root| {
        let write = |text: &str, size: i32, color, h, at: (i32, i32)| {
            root.draw_text(text, &text_style(size, color, h, VPos::Center), at).expect(NEVER_FAILS);
        };
        write(title, TITLE, INK, HPos::Left, (16, 26));
        for (row, (own, name)) in (0..).zip(bars.iter().zip(&names)) {
            let y = top + ROW * row + ROW / 2;
            let bar = |from: i32, to: i32, color: RGBColor| {
                let ends = [(left + from, y - THICK / 2), (left + to, y + THICK / 2)];
                root.draw(&Rectangle::new(ends, color.filled())).expect(NEVER_FAILS);
            };
            let share = own.share.clamp(0.0, 1.0);
            bar(0, WHOLE, GRID);
            bar(0, (f64::from(WHOLE) * share).round() as i32, BLUE);
            write(name, SMALL, INK, HPos::Right, (left - 10, y));
            let of = format!("{:.1} % of {}", 100.0 * share, compact(own.of));
            write(&of, SMALL, PALE_INK, HPos::Left, (left + WHOLE + 10, y));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_is_drawn_beside_its_name() {
        let own = |name: &str, share, of| ShareBar { name: name.to_owned(), share, of };
        let svg = shares_svg("Zeros", &[own("conv1", 0.25, 288), own("a & b", 1.0, 2_000_000)]);
        for text in ["conv1", "25.0 % of 288", "a &amp; b", "100.0 % of 2.0M", "width=\"90\"", "width=\"360\""] {
            assert!(svg.contains(text), "{text} in {svg}");
        }
        assert!(shares_svg("none", &[]).ends_with("</svg>\n"));
    }
}
