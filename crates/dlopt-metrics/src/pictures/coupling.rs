//! Which channels of a network go together: layers from top to bottom, a line for each group of channels through all layers
//! that have a slice of them.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::{BLUE, GREEN, GRID, INK, LABEL, NEVER_FAILS, PALE_INK, SMALL, TITLE, VERMILION, short, svg, text_style};

/// Pixels between two layers, and between two groups.
const ROW: i32 = 22;
const COLUMN: i32 = 58;
/// Characters of a layer's name that are shown.
const NAME: usize = 34;

/// What a layer does with channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// It works them out.
    Writes,
    /// It takes them in.
    Reads,
    /// It scales, shifts or adds to them.
    Follows,
}

impl Stop {
    fn color(self) -> RGBColor {
        match self {
            Self::Writes => BLUE,
            Self::Reads => VERMILION,
            Self::Follows => GREEN,
        }
    }
}

/// Channels that go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoupledChannels {
    /// How many there are, and how many stay.
    pub channels: [usize; 2],
    /// Whether none can go.
    pub is_fixed: bool,
    /// The layers that have a slice of them, by their places in the list of layers.
    pub stops: Vec<(usize, Stop)>,
}

/// Draws groups of channels through the layers of a network as SVG. A layer that does two things with the channels of a
/// group shows both, side by side.
pub fn coupling_svg(layers: &[String], groups: &[CoupledChannels]) -> String {
    let names: Vec<String> = layers.iter().map(|name| short(name, NAME)).collect();
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0) as i32;
    let (left, top) = (longest * 7 + 32, 104);
    let width = (left + COLUMN * groups.len() as i32 + 24).max(460);
    let height = top + ROW * layers.len() as i32 + 20;
    svg(width as u32, height as u32, |root| {
        let write = |text: &str, size: i32, color, h, v, at: (i32, i32)| {
            root.draw_text(text, &text_style(size, color, h, v), at).expect(NEVER_FAILS);
        };
        write("Channels that go together", TITLE, INK, HPos::Left, VPos::Top, (16, 12));
        let legend = [("writes", Stop::Writes), ("reads", Stop::Reads), ("follows", Stop::Follows)];
        for (at, (word, stop)) in (0..).zip(legend) {
            let x = 22 + 84 * at;
            root.draw(&Circle::new((x, 52), 4, stop.color().filled())).expect(NEVER_FAILS);
            write(word, SMALL, PALE_INK, HPos::Left, VPos::Center, (x + 9, 52));
        }
        write("grey: cannot go", SMALL, PALE_INK, HPos::Left, VPos::Center, (22 + 84 * 3, 52));
        let y = |row: usize| top + ROW * row as i32 + ROW / 2;
        for (row, name) in names.iter().enumerate() {
            root.draw(&PathElement::new([(left - 6, y(row)), (width - 18, y(row))], GRID)).expect(NEVER_FAILS);
            write(name, SMALL, INK, HPos::Right, VPos::Center, (left - 12, y(row)));
        }
        for (at, group) in (0..).zip(groups) {
            let x = left + COLUMN * at + COLUMN / 2;
            let rows = || group.stops.iter().map(|(row, _)| *row);
            let (Some(first), Some(last)) = (rows().min(), rows().max()) else { continue };
            let ink = if group.is_fixed { PALE_INK } else { INK };
            let line = PathElement::new([(x, y(first)), (x, y(last))], ink.stroke_width(2));
            root.draw(&line).expect(NEVER_FAILS);
            let [before, after] = group.channels;
            write(&before.to_string(), LABEL, ink, HPos::Center, VPos::Center, (x, top - 28));
            if after != before {
                write(&format!("to {after}"), SMALL, VERMILION, HPos::Center, VPos::Center, (x, top - 10));
            }
            for (row, stop) in &group.stops {
                let does_more = group.stops.iter().any(|(own, other)| own == row && other != stop);
                let aside = match (does_more, stop) {
                    (true, Stop::Reads) => -5,
                    (true, _) => 5,
                    (false, _) => 0,
                };
                root.draw(&Circle::new((x + aside, y(*row)), 5, stop.color().filled())).expect(NEVER_FAILS);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_group_and_stop_is_drawn() {
        let layers = ["conv1", "lstm & <more>", "fc"].map(str::to_owned);
        let group =
            |channels, is_fixed, stops: &[(usize, Stop)]| CoupledChannels { channels, is_fixed, stops: stops.to_vec() };
        let groups = [
            group([32, 17], false, &[(0, Stop::Writes), (1, Stop::Reads)]),
            group([128, 64], false, &[(1, Stop::Writes), (1, Stop::Reads), (1, Stop::Follows), (2, Stop::Reads)]),
            group([10, 10], true, &[(2, Stop::Writes)]),
        ];
        let svg = coupling_svg(&layers, &groups);
        for text in ["conv1", "lstm &amp; &lt;more&gt;", ">\n32", "to 17", "to 64"] {
            assert!(svg.contains(text), "{text} in {svg}");
        }
        assert!(!svg.contains("to 10"));
        // Three of the legend, seven stops.
        assert_eq!(svg.matches("<circle").count(), 3 + 7);
        assert!(coupling_svg(&[], &[]).ends_with("</svg>\n"));
    }
}
