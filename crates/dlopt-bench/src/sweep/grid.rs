//! A grid: steps some of whose flags vary, one variant for every combination.

use dlopt_checkpoint::{Error, Result};
use serde::Deserialize;
use toml::{Spanned, Table, Value};

use super::{Place, Step};

/// More variants than anybody waits for: most likely a slip.
const MOST: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Grid {
    name: Option<String>,
    steps: Vec<Spanned<Table>>,
}

/// One step with its values chosen, and what tells it from others.
struct Chosen {
    step: Step,
    label: String,
}

impl Grid {
    /// All combinations, the last step's values changing fastest.
    pub(super) fn variants(&self, place: &Place<'_>) -> Result<Vec<(String, Vec<Step>)>> {
        let mut all: Vec<(Vec<String>, Vec<Step>)> = vec![(self.name.clone().into_iter().collect(), Vec::new())];
        for step in &self.steps {
            let choices = choices(step, place)?;
            if all.len().saturating_mul(choices.len()) > MOST {
                return Err(Error::usage(format!("{}: more than {MOST} variants", place.line(step.span()))));
            }
            let longer = all.iter().flat_map(|(labels, steps)| {
                choices.iter().map(move |choice| {
                    let mut both = (labels.clone(), steps.clone());
                    both.0.push(choice.label.clone());
                    both.1.push(choice.step.clone());
                    both
                })
            });
            all = longer.collect();
        }
        Ok(all.into_iter().map(|(labels, steps)| (labels.join(", "), steps)).collect())
    }
}

fn choices(step: &Spanned<Table>, place: &Place<'_>) -> Result<Vec<Chosen>> {
    let mut table = step.get_ref().clone();
    let here = || place.line(step.span());
    let varied = match table.remove("vary") {
        None => Table::new(),
        Some(Value::Table(varied)) => varied,
        Some(_) => {
            return Err(
                Error::usage(format!("{}: `vary` is no table", here())).hint("vary = { sparsity = [0.5, 0.8] }")
            );
        }
    };
    let mut tables: Vec<(Table, Vec<String>)> = vec![(table, Vec::new())];
    for (key, values) in &varied {
        let Some(values) = values.as_array().filter(|values| !values.is_empty()) else {
            return Err(Error::usage(format!("{}: `vary.{key}` is no list of values", here()))
                .hint(format!("vary = {{ {key} = [first, second] }}")));
        };
        let with = |(table, labels): &(Table, Vec<String>), value: &Value| {
            let (mut table, mut labels) = (table.clone(), labels.clone());
            table.insert(key.clone(), value.clone());
            labels.push(label(key, value));
            (table, labels)
        };
        tables = tables.iter().flat_map(|own| values.iter().map(move |value| with(own, value))).collect();
    }
    let each = tables.into_iter().map(|(table, labels)| {
        let step = place.step(&table, step.span())?;
        let label = match labels.is_empty() {
            true => step.verb.clone(),
            false => format!("{} {}", step.verb, labels.join(" ")),
        };
        Ok(Chosen { step, label })
    });
    each.collect()
}

/// A value by itself where it is text or a share, with its flag otherwise.
fn label(key: &str, value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(is_set) => format!("{key}={is_set}"),
        other => format!("{key}={other}"),
    }
}
