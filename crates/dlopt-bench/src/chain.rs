//! Steps one after the other, each on what the one before left: what every stage takes and is worth.

use std::path::{Path, PathBuf};

use dlopt_checkpoint::{Error, Result};
use serde::Serialize;
use serde_json::Value;

use crate::cache::{Cache, bytes_of_files, digest, digest_of_files};
use crate::quality::Quality;
use crate::runner::Commands;
use crate::steps::{Doer, asked};
use crate::sweep::Step;

/// Steps to be done.
pub struct Chain<'a> {
    /// In their order.
    pub steps: &'a [Link],
    /// What they begin with; nothing where the first trains a network of its own.
    pub input: Option<&'a Path>,
    /// What is trained on, and the split that every stage is measured on.
    pub data: Option<(&'a Path, &'a str)>,
    /// Threads of every command; nothing for all.
    pub threads: Option<u16>,
    /// What was done before.
    pub cache: &'a Cache,
    /// Who does it.
    pub commands: &'a dyn Commands,
}

/// A step of a chain.
#[derive(Clone, Debug)]
pub struct Link {
    /// What it is called.
    pub name: String,
    /// What it does.
    pub step: Step,
    /// Whether it trains a network of its own, and takes nothing of what the step before left.
    pub is_anew: bool,
}

/// What a step left.
#[derive(Clone, Debug, Serialize)]
pub struct Stage {
    /// What it is called.
    pub name: String,
    /// The command that made it; none for what was there before.
    pub command: Option<String>,
    /// Of its files.
    pub bytes: u64,
    /// On the data, where there are some.
    pub quality: Option<Quality>,
}

impl Chain<'_> {
    /// Does all of it: the stages, and where the last is.
    ///
    /// # Errors
    /// When input or data cannot be read, or a command fails.
    pub fn run(&self) -> Result<(Vec<Stage>, PathBuf)> {
        let data = self.data.map(|(path, _)| digest_of_files(path)).transpose()?;
        let model = self.input.map(digest_of_files).transpose()?;
        let doer = Doer {
            cache: self.cache,
            commands: self.commands,
            threads: self.threads,
            model: self.input.zip(model.as_deref()),
            data: self.data.map(|(path, _)| path).zip(data.as_deref()),
        };
        let mut own: Option<(PathBuf, String)> = self.input.map(Path::to_owned).zip(model.clone());
        let mut stages = Vec::new();
        if let Some((path, digest)) = &own {
            stages.push(self.stage("as it is", None, path, digest, data.as_deref())?);
        }
        for (at, Link { name, step, is_anew }) in self.steps.iter().enumerate() {
            self.commands.tell(name, at, self.steps.len());
            let mut told = Vec::new();
            let input = own.as_ref().filter(|_| !is_anew).map(|(path, digest)| (path.as_path(), digest.as_str()));
            let (path, digest) = doer.step(step, input, &mut told).map_err(|e| e.within(format!("step {}", at + 1)))?;
            stages.push(self.stage(name, told.pop(), &path, &digest, data.as_deref())?);
            own = Some((path, digest));
        }
        self.commands.tell("done", self.steps.len(), self.steps.len());
        let (last, _) = own.ok_or_else(|| Error::usage("no steps"))?;
        Ok((stages, last))
    }

    fn stage(&self, name: &str, command: Option<String>, path: &Path, own: &str, data: Option<&str>) -> Result<Stage> {
        let quality = match (self.data, data) {
            (Some((file, split)), Some(digest_of_data)) => {
                let digest = digest(&[own, digest_of_data, "eval", split]);
                let mut words = vec!["eval".to_owned(), path.display().to_string()];
                words.extend([format!("--data={}", file.display()), format!("--split={split}")]);
                words.extend(self.threads.map(|threads| format!("--threads={threads}")));
                words.push("--quiet".to_owned());
                let report: Value = asked(self.cache, self.commands, &digest, words)?;
                Quality::of(&report)
            }
            _ => None,
        };
        Ok(Stage { name: name.to_owned(), command, bytes: bytes_of_files(path)?, quality })
    }
}
