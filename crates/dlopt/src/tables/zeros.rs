//! Shares of zeros as bars of text.

use dlopt_metrics::ShareBar;

use super::{columns, grouped};

/// Cells of a whole bar.
const CELLS: f64 = 30.0;
/// Tensors that a screen has room for; the lines of --verbose have a bar each.
const SHOWN: usize = 12;

/// A share, 0..=1, as a bar.
pub(super) fn bar(share: f64) -> String {
    let filled = (CELLS * share).round() as usize;
    "█".repeat(filled) + &"░".repeat(CELLS as usize - filled)
}

/// A bar for every tensor, where they are few.
pub(crate) fn zeros(bars: &[ShareBar]) -> String {
    if bars.is_empty() || bars.len() > SHOWN {
        return String::new();
    }
    let row = |own: &ShareBar| {
        vec![format!("  {}", own.name), grouped(own.of), format!("{:.1}%", 100.0 * own.share), bar(own.share)]
    };
    columns(&["  tensor", "weights", "zeros", ""], &bars.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_the_share() {
        let bars = |count: usize| {
            let own = |at: usize| ShareBar { name: format!("fc{at}"), share: 0.5, of: 1000 };
            (0..count).map(own).collect::<Vec<_>>()
        };
        let text = zeros(&bars(1));
        assert_eq!(
            text.lines().nth(1),
            Some(&*format!("  fc0       1,000  50.0%  {}{}", "█".repeat(15), "░".repeat(15)))
        );
        assert_eq!(zeros(&bars(13)), "");
        assert_eq!(zeros(&[]), "");
    }
}
