//! Corpus BLEU (Papineni et al., 2002) of sequences of tokens, as sacrebleu computes it with tokens given.
//!
//! `100 bp exp(1/4 sum_n ln p_n)` with `p_n` the share of n-grams that a reference has (each counted at most as often as
//! there), `bp = exp(1 - r / h)` where the hypotheses' length `h` is below that of the nearest references, `r`. The k-th
//! order without any match counts as `1 / (2^k total)` (Chen and Cherry, 2014, method 3, as `mteval` has it).

use std::collections::HashMap;

/// The longest n-grams.
pub(crate) const ORDERS: usize = 4;
/// Matches and n-grams of each order, then the two lengths.
pub(crate) const COUNTS: usize = 2 * ORDERS + 2;

/// What one sample adds to the corpus.
pub(crate) fn counts(hypothesis: &[u32], references: &[&[u32]]) -> [f64; COUNTS] {
    let mut counts = [0.0; COUNTS];
    for order in 1..=ORDERS {
        let own = grams(hypothesis, order);
        let known: Vec<_> = references.iter().map(|reference| grams(reference, order)).collect();
        let matches: usize = own
            .iter()
            .map(|(gram, &count)| {
                let most = known.iter().filter_map(|known| known.get(gram)).max().copied().unwrap_or(0);
                count.min(most)
            })
            .sum();
        counts[order - 1] = matches as f64;
        counts[ORDERS + order - 1] = (hypothesis.len() + 1).saturating_sub(order) as f64;
    }
    let nearest = references.iter().map(|r| r.len()).min_by_key(|&len| (len.abs_diff(hypothesis.len()), len));
    counts[2 * ORDERS] = hypothesis.len() as f64;
    counts[2 * ORDERS + 1] = nearest.unwrap_or(0) as f64;
    counts
}

/// BLEU, 0..=100, of the sums of [`counts`].
pub(crate) fn score(counts: &[f64]) -> f64 {
    let (matches, rest) = counts.split_at(ORDERS);
    let (totals, lengths) = rest.split_at(ORDERS);
    if matches.iter().all(|&m| m == 0.0) || totals.contains(&0.0) {
        return 0.0;
    }
    let mut missing = 1.0;
    let logs = matches.iter().zip(totals).map(|(&matched, &total)| {
        if matched > 0.0 {
            return (matched / total).ln();
        }
        missing *= 2.0;
        (1.0_f64 / (missing * total)).ln()
    });
    let mean = logs.sum::<f64>() / ORDERS as f64;
    let (own, wanted) = (lengths[0], lengths[1]);
    let brevity = if own < wanted { (1.0 - wanted / own).exp() } else { 1.0 };
    100.0 * brevity * mean.exp()
}

fn grams(tokens: &[u32], order: usize) -> HashMap<&[u32], usize> {
    let mut grams = HashMap::new();
    tokens.windows(order).for_each(|gram| *grams.entry(gram).or_default() += 1);
    grams
}
