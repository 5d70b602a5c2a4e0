//! Pictures of reports: SVG as text, contact sheets as PNG.
//!
//! Text in SVG names a font family and is laid out by the viewer, so no font is needed here. Backgrounds are white;
//! colours are those of Okabe and Ito (2008), which colour-blind people can tell apart.

mod confusion;
mod coupling;
mod curves;
mod distillation;
mod reliability;
mod robustness;
mod shares;
mod sheet;

pub use confusion::confusion_matrix_svg;
pub use coupling::{CoupledChannels, Stop, coupling_svg};
pub use curves::learning_curves_svg;
pub use distillation::{DistillationRole, distillation_svg};
pub use reliability::reliability_svg;
pub use robustness::robustness_svg;
pub use shares::{ShareBar, shares_svg};
pub use sheet::{Picture, Pixels, contact_sheet_png, picture_table_png};

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const BLUE: RGBColor = RGBColor(0, 114, 178);
const VERMILION: RGBColor = RGBColor(213, 94, 0);
const GREEN: RGBColor = RGBColor(0, 158, 115);
const INK: RGBColor = RGBColor(34, 34, 34);
const PALE_INK: RGBColor = RGBColor(102, 102, 102);
const GRID: RGBColor = RGBColor(230, 230, 230);

const TITLE: i32 = 22;
const LABEL: i32 = 16;
const SMALL: i32 = 14;

const NEVER_FAILS: &str = "text is written to memory, and every coordinate is finite";

/// Draws on a white picture of `width` and `height` pixels; its SVG text.
fn svg(width: u32, height: u32, draw: impl FnOnce(&DrawingArea<SVGBackend<'_>, plotters::coord::Shift>)) -> String {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
        root.fill(&WHITE).expect(NEVER_FAILS);
        draw(&root);
        root.present().expect(NEVER_FAILS);
    }
    text
}

/// A style of text, anchored where `h` and `v` say.
fn text_style(size: i32, color: RGBColor, h: HPos, v: VPos) -> TextStyle<'static> {
    let style = TextStyle::from(("sans-serif", size).into_font()).pos(Pos::new(h, v));
    TextStyle { color: color.to_backend_color(), ..style }
}

/// A name that fits: control characters (which XML forbids) become spaces, and what is beyond `limit` characters an
/// ellipsis.
fn short(name: &str, limit: usize) -> String {
    let clean: Vec<char> = name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.len() <= limit {
        return clean.into_iter().collect();
    }
    clean[..limit.saturating_sub(1)].iter().chain(&['…']).collect()
}

/// A count in at most five characters.
fn compact(count: u64) -> String {
    match count {
        0..10_000 => count.to_string(),
        10_000..1_000_000 => format!("{}k", count / 1000),
        _ => format!("{:.1}M", count as f64 / 1e6),
    }
}

/// A number with as many digits as tell its size.
fn figure(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".into()
    } else if !(1e-4..1e6).contains(&size) {
        format!("{value:.1e}")
    } else {
        let decimals = (2 - size.log10().floor() as i32).clamp(0, 6) as usize;
        let text = format!("{value:.decimals$}");
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    }
}
