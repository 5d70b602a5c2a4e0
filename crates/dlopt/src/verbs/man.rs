//! `dlopt man`: manual pages.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use dlopt_checkpoint::{Context, Result};

use super::Cli;
use crate::streams;

/// Print the manual page, or write one for every verb
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  dlopt man --dir ~/.local/share/man/man1")]
pub(crate) struct ManArgs {
    /// Write dlopt.1, dlopt-prune.1 and so on into this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn run(args: &ManArgs) -> Result<ExitCode> {
    let mut command = Cli::command();
    command.build();
    match &args.dir {
        Some(dir) => {
            std::fs::create_dir_all(dir).at(dir.display())?;
            clap_mangen::generate_to(command, dir).at(dir.display())?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page).at("the manual page")?;
            streams::print(&String::from_utf8_lossy(&page))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
