//! `dlopt completions`: completions for a shell.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use dlopt_checkpoint::Result;

use super::Cli;
use crate::streams;

/// Print completions for a shell
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  dlopt completions bash > ~/.local/share/bash-completion/completions/dlopt")]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "dlopt", &mut text);
    streams::print(&String::from_utf8_lossy(&text))?;
    Ok(ExitCode::SUCCESS)
}
