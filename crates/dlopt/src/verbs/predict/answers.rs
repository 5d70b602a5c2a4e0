//! What a network says of inputs: classes, numbers, yes or no, sequences, or window after window of a signal.

use std::sync::Arc;

use dlopt_checkpoint::{Error, Result};
use dlopt_data::{Batch, Elements, Intake, Raw, Taken};
use dlopt_kernels::nn::Team;
use dlopt_metrics::probabilities;
use dlopt_model::{Decoding, Loaded, Mode, Op, Prepared, Stream, Translator};
use dlopt_train::Engine;
use serde::Serialize;

use crate::messages::one_line;
use crate::verbs::eval::says_yes_or_no;
use crate::verbs::kernels::engine;

/// Windows of a signal that go through the network together.
const WINDOWS: usize = 256;

/// A network that is asked.
pub(super) struct Oracle {
    loaded: Loaded,
    runner: Runner,
    kind: Kind,
    top: usize,
}

enum Runner {
    Engine(Box<Engine>),
    Translator(Box<Translator>, Decoding),
}

/// What outputs mean.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Classes,
    /// One output, and the names of no and yes.
    OneOfTwo,
    YesOrNo,
    Numbers,
    Sequences,
    Windows(Stream),
}

/// An input, after all steps.
pub(super) enum Ready {
    Sample(Taken),
    Signal(Vec<f32>),
}

/// What a network says of one input.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Answer {
    /// The likeliest classes.
    Classes { top: Vec<ClassAnswer>, outputs: Vec<f32> },
    /// Probabilities of yes.
    Probabilities { probabilities: Vec<f64>, outputs: Vec<f32> },
    /// Numbers as they come out.
    Numbers { outputs: Vec<f32> },
    /// Sequences, likeliest first.
    Sequences { best: Vec<SequenceAnswer> },
    /// Probabilities of each window of a signal.
    Windows { mean: f64, over_half: f64, seconds_of_window: f64, probabilities: Vec<f32> },
}

/// A class and its probability.
#[derive(Debug, Serialize)]
pub(super) struct ClassAnswer {
    class: String,
    probability: f64,
}

/// A sequence that may be meant.
#[derive(Debug, Serialize)]
pub(super) struct SequenceAnswer {
    text: String,
    tokens: Vec<u32>,
    score: f64,
    log_probability: f64,
    is_complete: bool,
}

impl Ready {
    /// How long it was and what the network takes, when it was longer.
    pub(super) fn too_long(&self, intake: &Intake) -> Option<(usize, usize)> {
        let Self::Sample(taken) = self else { return None };
        let takes = match intake.preprocessing().elements {
            Elements::Series { time, .. } | Elements::Tokens { time, .. } => time,
            _ => return None,
        };
        taken.too_long.map(|had| (had, takes))
    }
}

impl Oracle {
    pub(super) fn new(prepared: Prepared, intake: &Intake, how: Decoding, top: usize, team: Arc<Team>) -> Result<Self> {
        let loaded = &prepared.loaded;
        let config = &loaded.config;
        let decodes = loaded.nodes.iter().any(|node| matches!(node.op, Op::Seq2seq(_)));
        let kind = match config.stream {
            Some(stream) => Kind::Windows(stream),
            None if decodes => Kind::Sequences,
            None if config.is_per_step => {
                return Err(Error::usage("says which token comes next, and nothing of a whole input")
                    .hint("dlopt generate MODEL --prompt TEXT"));
            }
            None if config.classes.len() == 2 && config.outputs == 1 => Kind::OneOfTwo,
            None if !config.classes.is_empty() => Kind::Classes,
            None if says_yes_or_no(config) => Kind::YesOrNo,
            None => Kind::Numbers,
        };
        let runner = if kind == Kind::Sequences {
            if intake.answers().is_none() {
                return Err(Error::input("does not say what the tokens mean that it puts out")
                    .hint("prepare pairs of texts, so that their tokens are known"));
            }
            Runner::Translator(Box::new(Translator::new(&loaded.nodes, &loaded.layout, &loaded.params, team)?), how)
        } else {
            let engine = engine(&prepared, "cpu", &team)?;
            Runner::Engine(Box::new(engine))
        };
        Ok(Self { loaded: prepared.loaded, runner, kind, top })
    }

    /// Whether it searches for sequences.
    pub(super) fn searches(&self) -> bool {
        self.kind == Kind::Sequences
    }

    /// Takes an input in.
    pub(super) fn ready(&self, intake: &Intake, raw: Raw) -> Result<Ready> {
        Ok(match self.kind {
            Kind::Windows(_) => {
                let signal = intake.signal(raw)?;
                if signal.is_empty() {
                    return Err(Error::input("there is nothing in it after all steps"));
                }
                Ready::Signal(signal)
            }
            _ => Ready::Sample(intake.take(raw)?),
        })
    }

    /// The answers to inputs, in order.
    pub(super) fn answers(&mut self, intake: &Intake, ready: Vec<Ready>) -> Result<Vec<Answer>> {
        let (mut samples, mut signals) = (Vec::new(), Vec::new());
        for ready in ready {
            match ready {
                Ready::Sample(taken) => samples.push(taken),
                Ready::Signal(signal) => signals.push(signal),
            }
        }
        if let Kind::Windows(stream) = self.kind {
            return signals.iter().map(|signal| self.windows(stream, signal)).collect();
        }
        let (inputs, lengths) = intake.batch(&samples);
        let params = &self.loaded.params;
        match &mut self.runner {
            Runner::Translator(translator, how) => {
                let found = translator.translate(samples.len(), &inputs, lengths.as_deref(), how);
                let vocabulary = intake.answers();
                let said = |tokens: &[u32]| vocabulary.map(|all| all.decode(tokens)).unwrap_or_default();
                let sequences = found.into_iter().map(|all| {
                    let best = all.into_iter().map(|one| SequenceAnswer {
                        text: said(&one.tokens),
                        tokens: one.tokens,
                        score: one.score,
                        log_probability: one.log_probability,
                        is_complete: one.is_complete,
                    });
                    Answer::Sequences { best: best.collect() }
                });
                Ok(sequences.collect())
            }
            Runner::Engine(engine) => {
                let batch = Batch { indices: (0..samples.len()).collect(), inputs, lengths, ..Batch::default() };
                let outputs = engine.forward(params, &mut self.loaded.buffers, &batch, Mode::Inference)?;
                outputs.chunks_exact(self.loaded.config.outputs.max(1)).map(|row| self.of_outputs(row)).collect()
            }
        }
    }

    fn of_outputs(&self, outputs: &[f32]) -> Result<Answer> {
        if outputs.iter().any(|x| !x.is_finite()) {
            return Err(Error::input("the network puts out NaN or infinity")
                .hint("`dlopt inspect --stats` shows whether weights are NaN"));
        }
        let outputs = outputs.to_vec();
        let sigmoid = |x: f32| 1.0 / (1.0 + (-f64::from(x)).exp());
        let all = match self.kind {
            Kind::Classes => probabilities(&outputs),
            Kind::OneOfTwo => vec![1.0 - sigmoid(outputs[0]), sigmoid(outputs[0])],
            Kind::YesOrNo => {
                return Ok(Answer::Probabilities {
                    probabilities: outputs.iter().map(|x| sigmoid(*x)).collect(),
                    outputs,
                });
            }
            _ => return Ok(Answer::Numbers { outputs }),
        };
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by(|a, b| all[*b].total_cmp(&all[*a]));
        let classes = &self.loaded.config.classes;
        let top = order.into_iter().take(self.top).map(|class| ClassAnswer {
            class: classes.get(class).cloned().unwrap_or_else(|| class.to_string()),
            probability: all[class],
        });
        Ok(Answer::Classes { top: top.collect(), outputs })
    }

    /// Goes through a signal window by window.
    fn windows(&mut self, stream: Stream, signal: &[f32]) -> Result<Answer> {
        let Runner::Engine(engine) = &mut self.runner else {
            return Err(Error::usage("an encoder and decoder reads no windows"));
        };
        let mut states = engine.stream()?;
        let sample = stream.context + stream.window;
        let mut all = Vec::new();
        for windows in stream.windows(signal).chunks(WINDOWS * sample) {
            let (params, buffers) = (&self.loaded.params, &mut self.loaded.buffers);
            all.extend(engine.forward_with(params, buffers, windows, None, &mut states)?);
        }
        let count = all.len().max(1) as f64;
        Ok(Answer::Windows {
            mean: all.iter().map(|p| f64::from(*p)).sum::<f64>() / count,
            over_half: all.iter().filter(|p| **p > 0.5).count() as f64 / count,
            seconds_of_window: stream.window as f64 / f64::from(stream.rate),
            probabilities: all,
        })
    }
}

impl Answer {
    /// In one line.
    pub(super) fn text(&self) -> String {
        let joined = |all: Vec<String>, between: &str| all.join(between);
        match self {
            Self::Classes { top, .. } => {
                joined(top.iter().map(|c| format!("{} {:.4}", one_line(&c.class), c.probability)).collect(), ", ")
            }
            Self::Probabilities { probabilities, .. } => {
                joined(probabilities.iter().map(|p| format!("{p:.4}")).collect(), ", ")
            }
            Self::Numbers { outputs } => joined(outputs.iter().map(f32::to_string).collect(), ", "),
            Self::Sequences { best } => joined(best.iter().map(|s| one_line(&s.text)).collect(), "\t"),
            Self::Windows { mean, over_half, probabilities, .. } => {
                format!(
                    "mean probability {mean:.4}, over 0.5 in {:.1} % of {} windows",
                    100.0 * over_half,
                    probabilities.len()
                )
            }
        }
    }
}
