//! Steps done by commands: what was done before is found by its digest, and a training that was killed goes on.

use std::path::{Path, PathBuf};

use dlopt_checkpoint::{Error, Result};
use serde::de::DeserializeOwned;

use crate::cache::{Cache, digest, digest_of_files};
use crate::runner::Commands;
use crate::sweep::Step;

/// A file or folder and the digest of its bytes.
pub(crate) type Known<'a> = (&'a Path, &'a str);

/// Does steps, one after the other.
pub(crate) struct Doer<'a> {
    /// What was done before.
    pub(crate) cache: &'a Cache,
    /// Who does it.
    pub(crate) commands: &'a dyn Commands,
    /// Threads of every command; nothing for all.
    pub(crate) threads: Option<u16>,
    /// What all begins with: the teacher of those that distill.
    pub(crate) model: Option<Known<'a>>,
    /// What is trained and measured on.
    pub(crate) data: Option<Known<'a>>,
}

impl Doer<'_> {
    /// Does a step, unless it was done before: where its result is, and its digest. Its command is added to `told`.
    ///
    /// # Errors
    /// What the command said, or when a file that it names cannot be read.
    pub(crate) fn step(
        &self,
        step: &Step,
        input: Option<Known<'_>>,
        told: &mut Vec<String>,
    ) -> Result<(PathBuf, String)> {
        let mut keys = vec![input.map_or("", |(_, digest)| digest), &step.verb];
        keys.extend(step.flags.iter().map(String::as_str));
        let trains = matches!(step.verb.as_str(), "train" | "distill");
        // Recipes, schedules, descriptions: what they say counts, not what they are called.
        let values = step.flags.iter().filter_map(|flag| flag.split_once('=')).map(|(_, value)| Path::new(value));
        let named: Vec<String> = values.filter(|path| path.is_file()).map(digest_of_files).collect::<Result<_>>()?;
        keys.extend(named.iter().map(String::as_str));
        if trains || step.flags.iter().any(|flag| flag.starts_with("--data")) {
            keys.extend(self.data.map(|(_, digest)| digest));
        }
        if step.verb == "distill" {
            keys.extend(self.model.map(|(_, digest)| digest));
        }
        let digest = digest(&keys);
        let output = self.cache.checkpoint(&digest);
        let [input, model, data] = [input, self.model, self.data].map(|known| known.map(|(path, _)| path));
        let mut words = words_of(step, input, &output, model, data);
        if let Some(threads) = self.threads {
            words.push(format!("--threads={threads}"));
        }
        told.push(shown(&words));
        if !output.exists() {
            words.push("--quiet".to_owned());
            if trains && dlopt_train::state_folder(&output).exists() {
                words.push("--resume".to_owned());
            }
            self.commands.run(&words)?;
        }
        Ok((output, digest))
    }
}

/// The report of a command, asked for unless it is known.
pub(crate) fn asked<T: DeserializeOwned>(
    cache: &Cache,
    commands: &dyn Commands,
    digest: &str,
    mut words: Vec<String>,
) -> Result<T> {
    if let Some(known) = cache.read(digest) {
        return Ok(known);
    }
    words.push(format!("--report={}", cache.report(digest).display()));
    commands.run(&words)?;
    cache.read(digest).ok_or_else(|| Error::input(format!("`{}` left no report", shown(&words))))
}

/// The recipe that a step names.
fn recipe(step: &Step) -> Option<&str> {
    (step.verb == "run").then(|| step.flags.iter().find_map(|flag| flag.strip_prefix("--recipe="))).flatten()
}

/// The command line of a step. Only `train` may begin without an input.
pub fn words_of(
    step: &Step,
    input: Option<&Path>,
    output: &Path,
    model: Option<&Path>,
    data: Option<&Path>,
) -> Vec<String> {
    let text = |path: &Path| path.display().to_string();
    let has = |flag: &str| step.flags.iter().any(|own| own == flag || own.starts_with(&format!("{flag}=")));
    let flag =
        |name: &str, path: Option<&Path>| path.filter(|_| !has(name)).map(|path| format!("{name}={}", text(path)));
    let mut words = vec![step.verb.clone()];
    match step.verb.as_str() {
        "train" => words.extend(flag("--init", input)),
        "distill" => words.extend(flag("--teacher", model).into_iter().chain(flag("--student", input))),
        "run" => words.extend(recipe(step).map(str::to_owned).into_iter().chain(input.map(text))),
        _ => words.extend(input.map(text)),
    }
    if matches!(step.verb.as_str(), "train" | "distill") {
        words.extend(flag("--data", data));
    }
    words.extend(step.flags.iter().filter(|flag| step.verb != "run" || !flag.starts_with("--recipe=")).cloned());
    words.extend(["-o".to_owned(), text(output)]);
    words
}

/// A command as a shell takes it.
pub(crate) fn shown(words: &[String]) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=./,:+%".contains(c);
    let quoted = |word: &String| match !word.is_empty() && word.chars().all(is_plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    std::iter::once("dlopt".to_owned()).chain(words.iter().map(quoted)).collect::<Vec<_>>().join(" ")
}
