//! Learning step by step: the loss of tokens, and how many of them are right.
//!
//! Outputs are `[samples * steps, vocabulary]`. Of each sample the first `sequence_lengths` steps count; the others have no
//! loss and a gradient of zero.

use dlopt_data::Batch;
use dlopt_kernels::nn;
use dlopt_metrics::SampleTokens;

use crate::loss::LossOptions;
use crate::right::Right;
use crate::trainer::mixed;

/// The tokens of one sample that count, and where their outputs lie.
struct Sequence<'a> {
    tokens: &'a [u32],
    /// Where the outputs of the first step begin.
    first: usize,
    /// Where those of the next sample begin.
    end: usize,
}

/// The sequences of a batch, with the number of outputs of a step.
fn walk<'a>(outputs: &[f32], batch: &'a Batch) -> (usize, impl Iterator<Item = Sequence<'a>>) {
    let steps = batch.sequences.len() / batch.sequence_lengths.len().max(1);
    let vocabulary = outputs.len() / batch.sequences.len().max(1);
    assert_eq!(outputs.len(), batch.sequences.len() * vocabulary, "outputs are [samples * steps, vocabulary]");
    let each = batch.sequences.chunks_exact(steps.max(1)).zip(&batch.sequence_lengths).enumerate();
    let sequences = each.map(move |(sample, (tokens, &length))| Sequence {
        tokens: &tokens[..length as usize],
        first: sample * steps * vocabulary,
        end: (sample + 1) * steps * vocabulary,
    });
    (vocabulary, sequences)
}

/// The sum of the losses of all tokens, and the gradient of that sum times the scale in `gradient`.
pub(crate) fn cross_entropy(with: &LossOptions<'_>, outputs: &[f32], batch: &Batch, gradient: &mut [f32]) -> f64 {
    let weights = (!with.class_weights.is_empty()).then_some(with.class_weights);
    let (vocabulary, sequences) = walk(outputs, batch);
    let mut sum = 0.0;
    for Sequence { tokens, first, end } in sequences {
        let last = first + tokens.len() * vocabulary;
        let (logits, own) = (&outputs[first..last], &mut gradient[first..last]);
        let (rows, smoothing) = (tokens.len(), with.label_smoothing);
        sum += nn::softmax_cross_entropy(rows, vocabulary, logits, tokens, weights, smoothing, with.scale, own).loss;
        gradient[last..end].fill(0.0);
    }
    sum
}

/// What the outputs say of each sample's tokens: the sum of `-ln p`, how many there are, how many are right.
pub fn sample_tokens(outputs: &[f32], batch: &Batch) -> Vec<SampleTokens> {
    let (vocabulary, sequences) = walk(outputs, batch);
    let (mut unused, mut places) = (Vec::new(), Vec::new());
    let mut all = Vec::with_capacity(batch.indices.len());
    for Sequence { tokens, first, .. } in sequences {
        let (rows, logits) = (tokens.len(), &outputs[first..][..tokens.len() * vocabulary]);
        unused.resize(logits.len(), 0.0);
        places.resize(rows, 0);
        let nats = nn::softmax_cross_entropy(rows, vocabulary, logits, tokens, None, 0.0, 1.0, &mut unused).loss;
        nn::argmax_rows(rows, vocabulary, logits, &mut places);
        let right = places.iter().zip(tokens).filter(|(place, token)| place == token).count() as u64;
        all.push(SampleTokens { nats, tokens: rows as u64, right });
    }
    all
}

/// How many tokens have the largest output of their step.
pub(crate) fn right(outputs: &[f32], batch: &Batch) -> Right {
    let (vocabulary, sequences) = walk(outputs, batch);
    let mut all = Right::default();
    let mut places = Vec::new();
    for Sequence { tokens, first, .. } in sequences {
        places.resize(tokens.len(), 0);
        nn::argmax_rows(tokens.len(), vocabulary, &outputs[first..][..tokens.len() * vocabulary], &mut places);
        let right = places.iter().zip(tokens).filter(|(place, token)| place == token).count();
        all += Right { right: right as u64, of: tokens.len() as u64 };
    }
    all
}

/// What a decoder reads while it is taught, `[samples, steps]`: the token before each that should come out, `start` before
/// the first.
pub(crate) fn before(batch: &Batch, start: u32) -> Vec<u32> {
    let steps = batch.sequences.len() / batch.sequence_lengths.len().max(1);
    let mut tokens = batch.sequences.clone();
    for row in tokens.chunks_exact_mut(steps.max(1)) {
        row.rotate_right(1);
        row[0] = start;
    }
    tokens
}

/// Puts what a network said at a step in the place of the token it reads next, for a share of the steps that `key` alone
/// chooses (scheduled sampling, Bengio et al., 2015, arXiv:1506.03099, in two passes: Duckworth et al., 2019,
/// arXiv:1906.04331; Mihaylova and Martins, 2019, arXiv:1906.07651).
pub(crate) fn replace_some(tokens: &mut [u32], outputs: &[f32], batch: &Batch, share: f64, key: u64) {
    let steps = batch.sequences.len() / batch.sequence_lengths.len().max(1);
    let (vocabulary, sequences) = walk(outputs, batch);
    let mut said = Vec::new();
    for (Sequence { tokens: own, first, .. }, tokens) in sequences.zip(tokens.chunks_exact_mut(steps.max(1))) {
        said.resize(own.len(), 0);
        nn::argmax_rows(own.len(), vocabulary, &outputs[first..][..own.len() * vocabulary], &mut said);
        for step in 1..own.len() {
            let draw = mixed(key, (first / vocabulary + step) as u64) as f64 / 2.0_f64.powi(64);
            if draw < share {
                tokens[step] = said[step - 1];
            }
        }
    }
}

/// An order of samples in which each update's have about the same lengths, so that little is padded: windows of
/// `WINDOW` updates are sorted by length, and the updates of the epoch shuffled. A function of the order and `key`; the last
/// update, which may be smaller, stays the last.
pub(crate) fn bucketed(
    mut order: Vec<usize>,
    per_update: usize,
    key: u64,
    length: impl Fn(usize) -> usize,
) -> Vec<usize> {
    const WINDOW: usize = 64;
    for window in order.chunks_mut(per_update * WINDOW) {
        window.sort_by_key(|&sample| length(sample));
    }
    let mut updates: Vec<(u64, &[usize])> = order
        .chunks_exact(per_update)
        .enumerate()
        .map(|(number, update)| (mixed(key, number as u64), update))
        .collect();
    updates.sort_by_key(|(draw, _)| *draw);
    let rest = order.chunks_exact(per_update).remainder();
    updates.iter().flat_map(|(_, update)| update.iter()).chain(rest).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::Loss;

    /// Two samples of up to three tokens of four; the first ends after two.
    fn batch() -> Batch {
        Batch {
            indices: vec![0, 1],
            sequences: vec![2, 3, 0, 1, 0, 3],
            sequence_lengths: vec![2, 3],
            ..Batch::default()
        }
    }

    fn outputs() -> Vec<f32> {
        (0..24).map(|i| (i as f32 * 1.7).sin() * 2.0).collect()
    }

    #[test]
    fn tokens_after_the_end_count_nothing() {
        let options = LossOptions { class_weights: &[], label_smoothing: 0.0, scale: 0.5 };
        let (batch, mut outputs) = (batch(), outputs());
        let mut gradient = vec![9.0; 24];
        let loss = Loss::CrossEntropy.evaluate(&options, &outputs, &batch, &mut gradient);
        // By hand: minus the logarithm of softmax at each of the five tokens.
        let own = |row: usize, token: usize| {
            let logits: Vec<f64> = outputs[row * 4..][..4].iter().map(|v| f64::from(*v)).collect();
            logits.iter().map(|v| v.exp()).sum::<f64>().ln() - logits[token]
        };
        let wanted = own(0, 2) + own(1, 3) + own(3, 1) + own(4, 0) + own(5, 3);
        assert!((loss - wanted).abs() < 1e-5, "{loss}, wanted {wanted}");
        assert_eq!(gradient[8..12], [0.0; 4]);
        assert!((gradient[12..].iter().sum::<f32>()).abs() < 1e-6 && gradient[13] < 0.0);
        let before = (loss, gradient.clone());
        outputs[8..12].copy_from_slice(&[50.0, -3.0, f32::MAX, 1.0]);
        let loss = Loss::CrossEntropy.evaluate(&options, &outputs, &batch, &mut gradient);
        assert_eq!((loss, gradient), before);
    }

    #[test]
    fn a_decoder_reads_the_token_before_each() {
        assert_eq!(before(&batch(), 9), [9, 2, 3, 9, 1, 0]);
    }

    #[test]
    fn a_share_of_what_is_read_is_what_the_network_said() {
        // Says token 0 everywhere.
        let outputs: Vec<f32> = (0..24).map(|i| if i % 4 == 0 { 1.0 } else { 0.0 }).collect();
        let read = |share: f64, key: u64| {
            let mut tokens = before(&batch(), 9);
            replace_some(&mut tokens, &outputs, &batch(), share, key);
            tokens
        };
        assert_eq!(read(0.0, 1), before(&batch(), 9));
        // The token after the end of the first one is left alone.
        assert_eq!(read(1.0, 1), [9, 0, 3, 9, 0, 0]);
        assert_eq!(read(0.5, 3), read(0.5, 3));
        let replaced = (0..200).filter(|&key| read(0.25, key)[1] == 0).count();
        assert!((30..70).contains(&replaced), "{replaced}");
    }

    #[test]
    fn updates_hold_samples_of_about_one_length() {
        let order: Vec<usize> = (0..1003).map(|i| i * 500 % 1003).collect();
        let length = |sample: usize| sample * 7919 % 30;
        let found = bucketed(order.clone(), 10, 5, length);
        assert_eq!(found, bucketed(order.clone(), 10, 5, length));
        assert_ne!(found, bucketed(order, 10, 6, length));
        let mut sorted = found.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..1003));
        let spread = |update: &[usize]| {
            let lengths = update.iter().map(|&s| length(s));
            lengths.clone().max().unwrap() - lengths.min().unwrap()
        };
        assert!(found.chunks_exact(10).all(|update| spread(update) <= 3));
        let firsts: Vec<usize> = found.chunks_exact(10).map(|update| length(update[0])).collect();
        assert!(!firsts.is_sorted());
    }

    #[test]
    fn smoothing_moves_the_gradient_to_all_tokens() {
        let (batch, outputs) = (batch(), outputs());
        let mut gradients = [vec![0.0; 24], vec![0.0; 24]];
        for (smoothing, gradient) in [0.0, 0.1].into_iter().zip(&mut gradients) {
            let options = LossOptions { class_weights: &[], label_smoothing: smoothing, scale: 1.0 };
            Loss::CrossEntropy.evaluate(&options, &outputs, &batch, gradient);
        }
        // The first token is 2: three quarters of the smoothing leave it, a quarter of it reaches each other one.
        let moved: Vec<f32> = gradients[1].iter().zip(&gradients[0]).take(4).map(|(a, b)| a - b).collect();
        for (found, wanted) in moved.iter().zip([-0.025, -0.025, 0.075, -0.025]) {
            assert!((found - wanted).abs() < 1e-6, "{moved:?}");
        }
    }

    #[test]
    fn right_tokens_are_counted_up_to_the_end() {
        let mut outputs = vec![0.0; 24];
        // Steps of sample 0: right, wrong; the one after its end would be right. Of sample 1: right, right, wrong.
        for (row, token) in [(0, 2), (1, 1), (2, 0), (3, 1), (4, 0), (5, 2)] {
            outputs[row * 4 + token] = 1.0;
        }
        assert_eq!(right(&outputs, &batch()), Right { right: 3, of: 5 });
        let samples = sample_tokens(&outputs, &batch());
        assert_eq!(samples.iter().map(|s| (s.tokens, s.right)).collect::<Vec<_>>(), [(2, 1), (3, 2)]);
        // ln(e + 3) of each token, less 1 where it is right.
        let cost = (1.0_f64.exp() + 3.0).ln();
        assert!((samples[0].nats - (2.0 * cost - 1.0)).abs() < 1e-5);
        assert_eq!(Right::of(&outputs, &batch()).share(), 0.6);
    }
}
