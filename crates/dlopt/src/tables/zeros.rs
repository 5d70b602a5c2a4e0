//! Shares of zeros as bars of text.

use dlopt_metrics::ShareBar;

use super::{columns, grouped};

/// Cells of a whole bar.
const CELLS: f64 = 30.0;
/// Tensors that are shown; of more, these in the order of the file, and how many are not.
const SHOWN: usize = 40;

/// A bar for every tensor.
pub(crate) fn zeros(bars: &[ShareBar]) -> String {
    if bars.is_empty() {
        return String::new();
    }
    let row = |own: &ShareBar| {
        let filled = (CELLS * own.share).round() as usize;
        let bar = "█".repeat(filled) + &"░".repeat(CELLS as usize - filled);
        vec![format!("  {}", own.name), grouped(own.of), format!("{:.1}%", 100.0 * own.share), bar]
    };
    let rows: Vec<_> = bars.iter().take(SHOWN).map(row).collect();
    let more = bars.len().saturating_sub(SHOWN);
    let rest = if more > 0 { format!("  and {more} more; --verbose shows all\n") } else { String::new() };
    columns(&["  tensor", "weights", "zeros", ""], &rows) + &rest
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
        assert!(zeros(&bars(43)).ends_with("and 3 more; --verbose shows all\n"));
        assert_eq!(zeros(&[]), "");
    }
}
