//! `dlopt predict`: what a network says of new raw inputs.

mod answers;
mod inputs;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use dlopt_checkpoint::{Error, Result};
use dlopt_data::{Intake, Preprocessing, Raw};
use dlopt_kernels::nn::Team;
use dlopt_model::Decoding;
use serde::Serialize;

use self::answers::{Answer, Oracle};
use super::kernels::KernelArgs;
use super::training::threads;
use crate::job;
use crate::messages;
use crate::streams;

const EXAMPLES: &str = "\
Examples:
  dlopt predict cnn.safetensors photos/ cat.jpg --top 5
  dlopt predict iris.safetensors new.csv                 columns told by their names, others ignored
  cut -d, -f1-4 new.csv | dlopt predict iris.safetensors - --json
  dlopt predict g2p.npz hello world --beam 4 --length-penalty 1 --best 2
  dlopt predict spam.safetensors --lines messages.txt

What INPUT is follows from what the network was trained on. Pictures and sounds: files, or folders, of which all files
below are taken. Rows of a table: a .csv or .tsv file, or - for standard input. Series and arrays: .npy, .npz,
.safetensors, .ts, .csv. Texts: INPUT is the text itself, unless it ends in .txt or is a folder: then every such file is one
text.";

/// Say what a network makes of new inputs: classes, numbers, sequences; one line for each
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PredictArgs {
    /// Checkpoint of a network, dense or compressed: a file, a folder, or - for standard input
    #[arg(value_name = "MODEL")]
    model: PathBuf,

    /// Raw inputs, as they were before `dlopt prepare`: files, folders, texts, or - for rows on standard input
    #[arg(value_name = "INPUT", required_unless_present = "lines")]
    inputs: Vec<String>,

    /// Texts, one a line, from this file, or - for standard input
    #[arg(long, value_name = "FILE")]
    lines: Option<PathBuf>,

    /// Likeliest classes to name
    #[arg(long, default_value_t = 3, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,

    /// Inputs that are in memory together; changes the speed, not the answers
    #[arg(long, default_value_t = 64, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,

    #[command(flatten)]
    search: SearchArgs,

    /// Sequences to give for each input, likeliest first; at most --beam
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    best: u16,

    /// Leave inputs out that cannot be read, and go on
    #[arg(long)]
    skip_unreadable: bool,

    /// Print a JSON object a line, with all the network put out
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    kernels: KernelArgs,

    /// Threads [default: all cores]; the answers are the same at any number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// No warnings
    #[arg(short, long)]
    quiet: bool,
}

/// How sequences are searched for.
#[derive(Args, Debug, Clone, Copy)]
pub(super) struct SearchArgs {
    /// Beginnings of a sequence to keep while searching for the likeliest; 1 is greedy
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    beam: u16,

    /// Divide the logarithm of the probability by ((5 + tokens) / 6)^A: more prefers longer sequences
    #[arg(long, default_value_t = 0.0, value_name = "A")]
    length_penalty: f64,
}

impl SearchArgs {
    /// The search for the `best` likeliest.
    pub(super) fn decoding(self, best: usize) -> Result<Decoding> {
        if !(0.0..=100.0).contains(&self.length_penalty) {
            return Err(Error::usage(format!("--length-penalty is {}; wanted 0 to 100", self.length_penalty)));
        }
        Ok(Decoding { beam: usize::from(self.beam), length_penalty: self.length_penalty, most_steps: None, best })
    }

    /// Whether something else than greedy search is asked for.
    pub(super) fn is_asked(self) -> bool {
        self.beam != 1 || self.length_penalty != 0.0
    }
}

/// What is said of one input.
#[derive(Serialize)]
struct Line<'a> {
    input: &'a str,
    #[serde(flatten)]
    answer: &'a Answer,
}

pub(super) fn run(args: &PredictArgs, stop: &Arc<AtomicBool>) -> Result<ExitCode> {
    if args.best > args.search.beam {
        return Err(Error::usage(format!("--best {} is more than --beam {} keeps", args.best, args.search.beam))
            .hint(format!("--beam {}", args.best)));
    }
    inputs::check(args)?;
    let checkpoint = job::open_whole(&args.model)?;
    let threads = threads(args.threads);
    let team = Arc::new(Team::new(threads));
    let prepared = args.kernels.prepare(&checkpoint, 1, "cpu", &team)?;
    let loaded = &prepared.loaded;
    let within = |e: Error| e.within(&checkpoint.name);
    let intake = intake_of(&loaded.config.preprocessing).map_err(within)?;
    let decoding = args.search.decoding(usize::from(args.best))?;
    let mut oracle = Oracle::new(prepared, &intake, decoding, args.top as usize, team).map_err(within)?;
    if args.search.is_asked() && !oracle.searches() {
        return Err(Error::usage("--beam and --length-penalty are for networks that put out sequences"));
    }
    let mut work = Work {
        args,
        oracle: &mut oracle,
        intake: &intake,
        stop,
        waiting: Vec::new(),
        done: 0,
        left_out: 0,
        is_unread: false,
    };
    let read = inputs::read(args, &intake, threads, &mut |name, raw| work.take(name, raw));
    // What could be read before an error is answered.
    let answered = work.answer();
    if work.is_unread {
        return Ok(ExitCode::SUCCESS);
    }
    read?;
    answered?;
    if work.done == 0 {
        return Err(Error::input(match work.left_out {
            0 => "there are no inputs".to_owned(),
            left_out => format!("none of the {left_out} inputs can be read"),
        }));
    }
    if work.left_out > 0 && !args.quiet {
        messages::warning(&format!("{} inputs that cannot be read are left out", work.left_out));
    }
    Ok(ExitCode::SUCCESS)
}

/// How raw inputs become what a network reads, as its checkpoint keeps it.
pub(super) fn intake_of(preprocessing: &serde_json::Value) -> Result<Intake> {
    if preprocessing.is_null() {
        return Err(Error::input("does not say how its inputs were prepared, so nothing can be made of raw ones")
            .hint("networks that `dlopt train` makes say it; `dlopt eval` takes prepared data"));
    }
    Intake::new(Preprocessing::of(preprocessing)?)
}

/// Inputs on their way to answers.
struct Work<'a> {
    args: &'a PredictArgs,
    oracle: &'a mut Oracle,
    intake: &'a Intake,
    stop: &'a AtomicBool,
    waiting: Vec<(String, answers::Ready)>,
    done: usize,
    left_out: usize,
    /// Whether nobody reads the answers any more.
    is_unread: bool,
}

impl Work<'_> {
    fn take(&mut self, name: String, raw: Result<Raw>) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::interrupted("stopped by a signal"));
        }
        let ready = raw.and_then(|raw| self.oracle.ready(self.intake, raw).map_err(|e| e.within(&name)));
        match ready {
            Ok(ready) => {
                if let (Some((had, takes)), false) = (ready.too_long(self.intake), self.args.quiet) {
                    messages::warning(&format!(
                        "{name}: is {had} steps long; the network takes {takes}, the rest is cut off"
                    ));
                }
                self.waiting.push((name, ready));
            }
            Err(e) if self.args.skip_unreadable => {
                self.left_out += 1;
                if !self.args.quiet {
                    messages::warning(&format!("{}; left out", e.message()));
                }
            }
            Err(e) if e.what_to_try().is_some() => return Err(e),
            Err(e) => return Err(e.hint("--skip-unreadable leaves such inputs out and goes on")),
        }
        if self.waiting.len() == self.args.batch as usize { self.answer() } else { Ok(()) }
    }

    /// Answers what waits, in order.
    fn answer(&mut self) -> Result<()> {
        let (names, ready): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting).into_iter().unzip();
        if names.is_empty() {
            return Ok(());
        }
        let mut text = String::new();
        for (name, answer) in names.iter().zip(self.oracle.answers(self.intake, ready)?) {
            text.push_str(&match self.args.json {
                true => streams::json_line(&Line { input: name, answer: &answer }),
                false => format!("{}\t{}\n", messages::one_line(name), answer.text()),
            });
        }
        self.done += names.len();
        if streams::print_on(&text)? {
            return Ok(());
        }
        self.is_unread = true;
        Err(Error::interrupted("nobody reads the answers"))
    }
}
