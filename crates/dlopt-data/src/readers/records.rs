//! Texts with what is to be learned about them, record by record.

use std::path::PathBuf;

use dlopt_checkpoint::{Error, Result};

use super::labels::{LabelNames, MOST_CLASSES};
use super::{About, Item, Items, Labels, Samples, Source};
use crate::pipeline::StepSpec;
use crate::raw::Raw;

/// A text with what is to be learned about it.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Where it stands, from 1 on.
    pub(super) line: u64,
    pub(super) text: String,
    /// Texts of which each is right.
    pub(super) answers: Vec<String>,
    /// The class.
    pub(super) label: Option<String>,
    /// Numbers to predict.
    pub(super) targets: Vec<f32>,
    pub(super) group: Option<String>,
}

/// Records that can be read as often as wanted.
pub(super) trait Records: Send + Sync {
    fn read(&self, each: &mut dyn FnMut(Record) -> Result<()>) -> Result<()>;

    /// What the numbers to predict are called.
    fn target_names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A source of texts.
struct Texts {
    name: String,
    records: Box<dyn Records>,
    /// Where each begins.
    lines: Vec<u64>,
}

impl Items for Texts {
    fn read(&self, each: &mut dyn FnMut(Item) -> Result<()>) -> Result<()> {
        self.records.read(&mut |record| {
            each(Item { raw: Raw::Text(record.text), targets: record.answers.into_iter().map(Raw::Text).collect() })
        })
    }

    fn name(&self, index: usize) -> String {
        format!("{}: line {}", self.name, self.lines.get(index).copied().unwrap_or_default())
    }
}

/// Looks at all records of some files and makes a source of them. `steps` are those to suggest.
pub(super) fn source(files: &[PathBuf], records: Box<dyn Records>, steps: [Vec<StepSpec>; 2]) -> Result<Vec<Source>> {
    let name = files.first().map(|path| path.display().to_string()).unwrap_or_default();
    let (mut names, mut lines, mut values, mut groups) = (LabelNames::default(), Vec::new(), Vec::new(), Vec::new());
    let (mut has_labels, mut has_answers, mut outputs) = (false, false, 0);
    records.read(&mut |record| {
        lines.push(record.line);
        if let Some(label) = &record.label {
            has_labels = true;
            if !names.see(label, record.line) {
                return Err(Error::input(format!(
                    "{name}: line {}: more than {MOST_CLASSES} different classes",
                    record.line
                ))
                .hint("--label names another column, --targets numbers to predict"));
            }
        }
        has_answers |= !record.answers.is_empty();
        outputs = record.targets.len();
        values.extend(record.targets);
        groups.extend(record.group);
        Ok(())
    })?;
    let labels = if has_labels {
        names.into_labels()
    } else if outputs > 0 {
        Labels::Targets { values, names: records.target_names(), outputs }
    } else if has_answers {
        Labels::Sequences
    } else {
        return Err(Error::input(format!("{name}: there are no texts, or nothing to be learned about them")));
    };
    let about = About {
        name: name.clone(),
        files: files.to_vec(),
        samples: lines.len(),
        labels,
        groups: (groups.len() == lines.len()).then_some(groups),
        steps,
        ..About::default()
    };
    Ok(vec![Source { split: None, about, samples: Samples::Items(Box::new(Texts { name, records, lines })) }])
}
