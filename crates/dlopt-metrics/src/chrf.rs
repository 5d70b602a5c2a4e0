//! chrF2 (Popovic, 2015) of texts, as sacrebleu computes it: the F score of character n-grams up to six, white space left
//! out, recall weighing four times as much as precision. Of several references the one that a sample does best against
//! counts.

use std::collections::HashMap;

/// The longest n-grams.
pub(crate) const ORDERS: usize = 6;
/// N-grams of the hypothesis, of the reference, and common ones, of each order.
pub(crate) const COUNTS: usize = 3 * ORDERS;
/// beta squared.
const FACTOR: f64 = 4.0;

/// What one sample adds to the corpus.
pub(crate) fn counts<R: AsRef<str>>(hypothesis: &str, references: &[R]) -> [f64; COUNTS] {
    let own = Grams::of(hypothesis);
    let mut best: Option<(f64, [f64; COUNTS])> = None;
    for reference in references {
        let counts = own.against(&Grams::of(reference.as_ref()));
        let score = score(&counts);
        if best.is_none_or(|(most, _)| score > most) {
            best = Some((score, counts));
        }
    }
    best.map_or([0.0; COUNTS], |(_, counts)| counts)
}

/// chrF2, 0..=100, of the sums of [`counts`].
pub(crate) fn score(counts: &[f64]) -> f64 {
    let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
    for own in counts.chunks_exact(3) {
        if own[0] > 0.0 && own[1] > 0.0 {
            precision += own[2] / own[0];
            recall += own[2] / own[1];
            orders += 1.0;
        }
    }
    if precision + recall == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (precision / orders, recall / orders);
    100.0 * (1.0 + FACTOR) * precision * recall / (FACTOR * precision + recall)
}

/// The n-grams of a text without white space.
struct Grams {
    orders: Vec<HashMap<String, usize>>,
    characters: usize,
}

impl Grams {
    fn of(text: &str) -> Self {
        let characters: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
        let orders = (1..=ORDERS).map(|order| {
            let mut grams = HashMap::new();
            characters.windows(order).for_each(|gram| *grams.entry(gram.iter().collect()).or_default() += 1);
            grams
        });
        Self { orders: orders.collect(), characters: characters.len() }
    }

    fn against(&self, reference: &Self) -> [f64; COUNTS] {
        let mut counts = [0.0; COUNTS];
        for (order, counts) in counts.chunks_exact_mut(3).enumerate() {
            let (own, wanted) = (&self.orders[order], &reference.orders[order]);
            let common: usize =
                own.iter().map(|(gram, &count)| count.min(wanted.get(gram).copied().unwrap_or(0))).sum();
            counts[1] = reference.characters.saturating_sub(order) as f64;
            // An order that the reference is too short for counts nothing.
            counts[0] = if counts[1] > 0.0 { self.characters.saturating_sub(order) as f64 } else { 0.0 };
            counts[2] = common as f64;
        }
        counts
    }
}
