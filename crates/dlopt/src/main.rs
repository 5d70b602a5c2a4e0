//! `dlopt`: prune, quantize, inspect and convert model checkpoints as a stream.

mod args;
mod exit;
mod job;
mod messages;
mod progress;
mod signals;
mod streams;
mod tables;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

use crate::verbs::Cli;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version go to standard output with code 0, wrong usage to standard error with code 2.
            let code = if e.use_stderr() { exit::ASKED_WRONGLY } else { 0 };
            // A reader that has gone needs no help text.
            let _ = e.print();
            return ExitCode::from(code);
        }
    };
    if let Some(owner) = cli.works_for {
        signals::end_with(owner);
    }
    let stop = signals::watch();
    match verbs::run(cli, &stop) {
        Ok(code) => code,
        Err(error) => {
            messages::error(&error);
            exit::for_fault(error.fault())
        }
    }
}
