//! `dlopt generate`: text that a network goes on with, token by token.

use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use dlopt_checkpoint::{Error, Result};
use dlopt_data::{Learns, Vocabulary};
use dlopt_kernels::nn::Team;
use dlopt_model::{Sampler, Sampling};
use serde::Serialize;

use super::kernels::{KernelArgs, engine};
use super::predict::intake_of;
use super::training::threads;
use crate::job;
use crate::streams;

const EXAMPLES: &str = "\
Examples:
  dlopt generate austen.safetensors --prompt 'It is a truth' --length 400 --temperature 0.8
  dlopt generate austen.safetensors --prompt 'She ' --top-k 20 --top-p 0.95 --seed 3
  dlopt generate austen.safetensors --prompt 'Mr. ' --temperature 0 --json";

/// Tokens of a prompt that are read together.
const PIECE: usize = 256;

/// Go on with a text, token by token, by a network that says the next one
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct GenerateArgs {
    /// Checkpoint of a network, dense or compressed: a file, a folder, or - for standard input
    #[arg(value_name = "MODEL")]
    model: PathBuf,

    /// What the network reads first, and the text begins with
    #[arg(long, value_name = "TEXT")]
    prompt: String,

    /// Tokens to put out at most; a network that knows the end of a text may stop before
    #[arg(long, default_value_t = 200, value_name = "TOKENS")]
    length: usize,

    /// Divides the scores before one is drawn: less than 1 keeps to likely tokens, 0 takes the likeliest
    #[arg(long, default_value_t = 1.0, value_name = "T")]
    temperature: f64,

    /// Draw from so many of the likeliest tokens [default: all]
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,

    /// Draw from the likeliest tokens that together have this probability, over 0 to 1
    #[arg(long, default_value_t = 1.0, value_name = "P")]
    top_p: f64,

    /// Decides the draws; the same text on any machine, at any number of threads
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Print a JSON object with the text and its tokens, at the end
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    kernels: KernelArgs,

    /// Threads [default: all cores]; the text is the same at any number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

#[derive(Serialize)]
struct Report<'a> {
    prompt: &'a str,
    /// What came after the prompt.
    text: String,
    tokens: Vec<u32>,
    /// Whether the network said that the text ends.
    ended: bool,
    seed: u64,
}

pub(super) fn run(args: &GenerateArgs, stop: &Arc<AtomicBool>) -> Result<ExitCode> {
    let how = Sampling { temperature: args.temperature, top_k: args.top_k, top_p: args.top_p };
    let mut sampler = Sampler::new(how, args.seed)?;
    let checkpoint = job::open_whole(&args.model)?;
    let team = Arc::new(Team::new(threads(args.threads)));
    let prepared = args.kernels.prepare(&checkpoint, 1, "cpu", &team)?;
    let loaded = &prepared.loaded;
    let within = |e: Error| e.within(&checkpoint.name);
    let intake = intake_of(&loaded.config.preprocessing).map_err(within)?;
    if intake.preprocessing().learns != Learns::NextToken {
        return Err(within(
            Error::usage("does not say which token comes next").hint("dlopt predict MODEL INPUT, for what it does say"),
        ));
    }
    let vocabulary = intake
        .tokens()
        .ok_or_else(|| within(Error::input("does not say what its tokens mean").hint("prepare the text with dlopt")))?;
    let prompt = intake.prompt(&args.prompt)?;
    let mut engine = engine(&prepared, "cpu", &team)?;
    let mut states = engine.states(1).map_err(within)?;
    let (outputs, mut buffers) = (loaded.config.outputs, loaded.buffers.clone());
    let mut text = Text::new(vocabulary, &prompt);
    if !args.json {
        streams::print(&args.prompt)?;
    }
    let (mut next, mut last, mut ended) = (prompt, Vec::new(), false);
    while text.new_tokens().len() < args.length {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::interrupted("stopped by a signal"));
        }
        for piece in next.chunks(PIECE) {
            let read: Vec<f32> = piece.iter().map(|&token| token as f32).collect();
            let scores = engine.forward_with(&loaded.params, &mut buffers, &read, None, &mut states)?;
            last.clear();
            last.extend_from_slice(&scores[scores.len() - outputs..]);
            engine.recycle(scores);
        }
        let token = sampler.next(&last).map_err(within)?;
        ended = vocabulary.end() == Some(token);
        if ended {
            break;
        }
        let new = text.push(token);
        if !args.json && !new.is_empty() && !streams::print_on(&new)? {
            return Ok(ExitCode::SUCCESS);
        }
        next = vec![token];
    }
    if args.json {
        let report = Report {
            prompt: &args.prompt,
            text: text.said.clone() + &text.untold(),
            tokens: text.new_tokens().to_vec(),
            ended,
            seed: args.seed,
        };
        streams::print_json(&report)?;
    } else {
        streams::print(&(text.untold() + "\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Tokens that become text as they come: what a token adds to those before it is known once the text of all of them does
/// not end in the midst of a character.
struct Text<'a> {
    vocabulary: &'a dyn Vocabulary,
    /// Those of the prompt, and the new ones.
    tokens: Vec<u32>,
    /// How many the prompt has.
    prompt: usize,
    /// What follows these has not been said, and is said after them.
    told: Range<usize>,
    /// The text of the new tokens.
    said: String,
}

impl<'a> Text<'a> {
    fn new(vocabulary: &'a dyn Vocabulary, prompt: &[u32]) -> Self {
        Self { vocabulary, tokens: prompt.to_vec(), prompt: prompt.len(), told: 0..prompt.len(), said: String::new() }
    }

    fn new_tokens(&self) -> &[u32] {
        &self.tokens[self.prompt..]
    }

    /// Takes a token, and gives the text that is certain now.
    fn push(&mut self, token: u32) -> String {
        self.tokens.push(token);
        let new = self.untold();
        if new.ends_with(char::REPLACEMENT_CHARACTER) {
            return String::new();
        }
        self.told = self.told.end..self.tokens.len();
        self.said.push_str(&new);
        new
    }

    /// What has not been said.
    fn untold(&self) -> String {
        let before = self.vocabulary.decode(&self.tokens[self.told.clone()]);
        let all = self.vocabulary.decode(&self.tokens[self.told.start..]);
        all.get(before.len()..).unwrap_or_default().to_owned()
    }
}
