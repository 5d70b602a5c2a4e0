//! Decoding: from tokens that went in to the likeliest ones that come out, step by step for a whole batch.
//!
//! Beam search keeps the `beam` likeliest beginnings of each sample. One that puts out the end leaves the beam; a sample is
//! done when `beam` have, or after `most_steps`. They are ranked by `log p / ((5 + tokens) / 6)^alpha`, the end counted (Wu
//! et al., 2016, arXiv:1609.08144, equation 14, without coverage). A beam of one is greedy search.

use std::cmp::Ordering;
use std::sync::Arc;

use dlopt_checkpoint::{Error, Result};
use dlopt_kernels::nn::Team;

use super::super::Mode;
use super::super::layer::{Forward, Layer};
use super::super::values::Memory;
use super::Seq2seqLayer;
use super::attention::Spans;
use super::side::TokenRows;
use crate::layout::FlatLayout;
use crate::plan::{Node, Op};

/// How tokens are searched for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decoding {
    /// Beginnings that are kept of each sample; 1 is greedy.
    pub beam: usize,
    /// The exponent `alpha`: 0 ranks by probability, more prefers longer ones.
    pub length_penalty: f64,
    /// Tokens that come out at most, the end included; those that the network was made for.
    pub most_steps: Option<usize>,
    /// How many of each sample are wanted, likeliest first; at most `beam`.
    pub best: usize,
}

impl Default for Decoding {
    fn default() -> Self {
        Self { beam: 1, length_penalty: 0.0, most_steps: None, best: 1 }
    }
}

/// Tokens that may be meant.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// Without start and end.
    pub tokens: Vec<u32>,
    /// What they are ranked by: the logarithm of their probability over the length penalty.
    pub score: f64,
    /// The logarithm of their probability, that of the end included.
    pub log_probability: f64,
    /// Whether the end came before the steps ran out.
    pub is_complete: bool,
}

/// An encoder and decoder that runs without being taught.
pub struct Translator {
    layer: Seq2seqLayer,
    team: Arc<Team>,
    memory: Memory,
    weights: Vec<f32>,
}

/// A beginning.
#[derive(Clone)]
struct Live {
    tokens: Vec<u32>,
    log_probability: f64,
}

/// A beginning and the token after it.
struct Next {
    from: usize,
    token: u32,
    log_probability: f64,
}

/// The search of one sample.
struct Search {
    live: Vec<Live>,
    done: Vec<Hypothesis>,
}

impl Translator {
    /// Makes a translator of a plan and its weights, as the layout has them.
    ///
    /// # Errors
    /// When the plan is not one encoder and decoder.
    pub fn new(nodes: &[Node], layout: &FlatLayout, weights: &[f32], team: Arc<Team>) -> Result<Self> {
        let [Node { op: Op::Seq2seq(plan), .. }] = nodes else {
            return Err(Error::usage("the network is no encoder and decoder, so there is nothing to decode")
                .hint("--model seq2seq makes one"));
        };
        let mut layer = Seq2seqLayer::new(plan, &layout.nodes[0].trained, 1, false);
        layer.load(&team, weights, false);
        Ok(Self { layer, team, memory: Memory::default(), weights: weights.to_vec() })
    }

    /// The hypotheses of each sample, best first. `inputs` is `[samples, time]`, `lengths` the tokens of each that count.
    ///
    /// # Panics
    /// When `inputs` are not whole samples or hold tokens that the encoder does not know.
    pub fn translate(
        &mut self,
        samples: usize,
        inputs: &[f32],
        lengths: Option<&[u32]>,
        how: &Decoding,
    ) -> Vec<Vec<Hypothesis>> {
        let source = Seq2seqLayer::source(inputs, samples, lengths);
        let (read, read_time) = (source.lengths.clone(), source.time);
        let (beam, most) = (how.beam.max(1), how.most_steps.unwrap_or(self.layer.plan.steps).max(1));
        let mut run = Forward {
            team: &self.team,
            memory: &mut self.memory,
            weights: &self.weights,
            buffers: &mut [],
            samples,
            lengths: None,
            decoder: None,
            carried: None,
            mode: Mode::Inference,
        };
        let layer = &mut self.layer;
        let encoded = layer.encoder.forward(&mut run, source, None, 0);
        let first = Live { tokens: Vec::new(), log_probability: 0.0 };
        let mut searches: Vec<Search> =
            (0..samples).map(|_| Search { live: vec![first.clone()], done: Vec::new() }).collect();
        let mut states = encoded.last;
        for step in 0..most {
            let steps: Vec<usize> = searches.iter().map(|search| search.live.len()).collect();
            let spans = Spans { hidden: layer.plan.hidden, read_time, read: &read, steps: &steps };
            let Some((scores, after)) = layer.step(&mut run, &spans, &encoded.states, &searches, &states) else {
                break;
            };
            let outputs = layer.plan.outputs;
            let width = after.len() / (scores.len() / outputs);
            let is_last = step + 1 == most;
            states.clear();
            let mut row = 0;
            for search in &mut searches {
                let rows = row..row + search.live.len();
                row = rows.end;
                let scores = &scores[rows.start * outputs..rows.end * outputs];
                for from in search.advance(scores, outputs, layer.plan.end, beam, how, is_last) {
                    states.extend_from_slice(&after[(rows.start + from) * width..][..width]);
                }
            }
            run.memory.give(scores);
            run.memory.give(after);
        }
        searches.into_iter().map(|search| search.finish(how)).collect()
    }
}

impl Seq2seqLayer {
    /// One step of the decoder for every live beginning, in order: scores of tokens, and the states after it. Nothing when
    /// no beginning lives.
    fn step(
        &mut self,
        run: &mut Forward<'_>,
        spans: &Spans<'_>,
        encoder: &[f32],
        searches: &[Search],
        states: &[f32],
    ) -> Option<(Vec<f32>, Vec<f32>)> {
        let start = self.plan.start;
        let live = searches.iter().flat_map(|search| &search.live);
        let tokens: Vec<f32> = live.map(|live| live.tokens.last().copied().unwrap_or(start) as f32).collect();
        if tokens.is_empty() {
            return None;
        }
        let ones = vec![1; tokens.len()];
        let decoded = self.decoder.forward(run, TokenRows::new(tokens.into_iter(), 1, ones), Some(states), 0);
        let (scores, _) = self.scores(run, spans, encoder, decoded.states);
        Some((Arc::unwrap_or_clone(scores), decoded.last))
    }
}

impl Search {
    /// Takes in the scores of the next token, `[live, outputs]`; gives for each beginning that lives now the one that it
    /// came from.
    fn advance(
        &mut self,
        scores: &[f32],
        outputs: usize,
        end: u32,
        beam: usize,
        how: &Decoding,
        is_last: bool,
    ) -> Vec<usize> {
        let mut all: Vec<Next> = Vec::new();
        for (from, (live, scores)) in self.live.iter().zip(scores.chunks_exact(outputs)).enumerate() {
            let log_sum = log_sum_of_exponentials(scores);
            let mut own: Vec<Next> = (0_u32..)
                .zip(scores)
                .map(|(token, score)| Next {
                    from,
                    token,
                    log_probability: live.log_probability + f64::from(*score) - log_sum,
                })
                .collect();
            // One more than the beam, because the end may be among them.
            let most = (beam + 1).min(own.len());
            if most < own.len() {
                own.select_nth_unstable_by(most, likelier);
                own.truncate(most);
            }
            all.append(&mut own);
        }
        all.sort_unstable_by(likelier);
        let mut live = Vec::with_capacity(beam);
        let mut parents = Vec::with_capacity(beam);
        for (rank, next) in all.into_iter().enumerate() {
            if live.len() == beam || self.done.len() >= beam {
                break;
            }
            let before = &self.live[next.from].tokens;
            if next.token == end {
                // An end that is not among the best is no end that the beam holds.
                if rank < beam {
                    self.done.push(Hypothesis::new(before.clone(), next.log_probability, true, how));
                }
                continue;
            }
            let mut tokens = before.clone();
            tokens.push(next.token);
            live.push(Live { tokens, log_probability: next.log_probability });
            parents.push(next.from);
        }
        if is_last || self.done.len() >= beam {
            if self.done.len() < beam {
                let cut = |live: Live| Hypothesis::new(live.tokens, live.log_probability, false, how);
                self.done.extend(live.into_iter().map(cut));
            }
            self.live = Vec::new();
            return Vec::new();
        }
        self.live = live;
        parents
    }

    /// The best ones; those that never ended come after all that did.
    fn finish(mut self, how: &Decoding) -> Vec<Hypothesis> {
        self.done.sort_by(|a, b| {
            b.is_complete.cmp(&a.is_complete).then(b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal))
        });
        self.done.truncate(how.best.clamp(1, how.beam.max(1)));
        self.done
    }
}

impl Hypothesis {
    fn new(tokens: Vec<u32>, log_probability: f64, is_complete: bool, how: &Decoding) -> Self {
        let len = tokens.len() + usize::from(is_complete);
        let score = log_probability / ((5.0 + len as f64) / 6.0).powf(how.length_penalty);
        Self { tokens, score, log_probability, is_complete }
    }
}

/// The likelier first; of equals the earlier beginning, then the smaller token. What is no number comes last.
fn likelier(a: &Next, b: &Next) -> Ordering {
    let worth = |next: &Next| if next.log_probability.is_nan() { f64::NEG_INFINITY } else { next.log_probability };
    worth(b).total_cmp(&worth(a)).then(a.from.cmp(&b.from)).then(a.token.cmp(&b.token))
}

fn log_sum_of_exponentials(scores: &[f32]) -> f64 {
    let largest = f64::from(scores.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    largest + scores.iter().map(|score| (f64::from(*score) - largest).exp()).sum::<f64>().ln()
}
