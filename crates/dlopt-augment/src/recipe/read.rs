//! Recipes out of what TOML and the command line write.

use std::collections::HashSet;

use dlopt_checkpoint::{Error, Result};
use dlopt_data::options;
use serde_json::{Map, Value};

use super::{Node, What};
use crate::operation::OperationKind;
use crate::operations::OPERATIONS;

/// Deepest nesting.
const DEEPEST: usize = 16;
/// Most operations of a recipe.
const MOST: u64 = 1000;

/// What a recipe looks like, for messages.
pub(super) const EXAMPLE: &str =
    "[[ops]] with op = \"rotate\", degrees = \"±15\", p = 0.5; one-of or some-of instead of op take a list";

/// The nodes of a list; `place` counts all that were read.
pub(super) fn nodes_of(nodes: &Value, place: &mut u64, depth: usize) -> Result<Vec<Node>> {
    let Value::Array(nodes) = nodes else {
        return Err(Error::input(format!("operations are a list, and this is {nodes}")).hint(EXAMPLE));
    };
    if depth > DEEPEST {
        return Err(Error::input(format!("the recipe is nested deeper than {DEEPEST}")));
    }
    nodes.iter().map(|node| node_of(node, place, depth)).collect()
}

fn node_of(node: &Value, place: &mut u64, depth: usize) -> Result<Node> {
    let Value::Object(table) = node else {
        return Err(Error::input(format!("{node} is no operation")).hint(EXAMPLE));
    };
    let own = *place;
    *place += 1;
    if own >= MOST {
        return Err(Error::input(format!("the recipe has more than {MOST} operations")));
    }
    let mut table = table.clone();
    let kinds: HashSet<&str> =
        ["op", "one-of", "some-of", "sequence"].into_iter().filter(|key| table.contains_key(*key)).collect();
    let (key, 1) = (kinds.iter().next().copied().unwrap_or_default(), kinds.len()) else {
        return Err(Error::input(format!("{node} is not one of op, one-of, some-of and sequence")).hint(EXAMPLE));
    };
    let value = table.remove(key).unwrap_or_default();
    if key == "op" {
        return operation_of(&value, table, own);
    }
    let probability = probability(&mut table, 1.0)?;
    let count = table.remove("count");
    if let Some(other) = table.keys().next() {
        return Err(Error::input(format!("`{other}` is not known beside `{key}`")).hint(EXAMPLE));
    }
    let nodes = nodes_of(&value, place, depth + 1)?;
    if nodes.is_empty() {
        return Err(Error::input(format!("`{key}` is empty")).hint(EXAMPLE));
    }
    let what = match (key, count) {
        ("sequence", None) => What::All(nodes),
        ("one-of", None) => What::Some { nodes, count: [1, 1] },
        ("some-of", Some(count)) => What::Some { count: count_of(&count, nodes.len())?, nodes },
        ("some-of", None) => return Err(Error::input("`some-of` needs a count, such as count = 2").hint(EXAMPLE)),
        _ => return Err(Error::input(format!("`{key}` has no count")).hint(EXAMPLE)),
    };
    Ok(Node { place: own, probability, what })
}

fn operation_of(value: &Value, mut table: Map<String, Value>, place: u64) -> Result<Node> {
    let Value::String(text) = value else {
        return Err(Error::input(format!("op = {value} is no name")).hint(EXAMPLE));
    };
    let (name, options) = options::parse(text, |name| Ok(kind_named(name)?.main))?;
    for (key, value) in options {
        if table.insert(key.clone(), value).is_some() {
            return Err(Error::usage(format!("`{text}` says `{key}` twice")));
        }
    }
    let kind = kind_named(&name)?;
    let probability = probability(&mut table, kind.probability).map_err(|e| e.within(format_args!("`{name}`")))?;
    let (operation, options) = kind.make(table)?;
    Ok(Node { place, probability, what: What::Operation { kind, operation, options } })
}

fn probability(table: &mut Map<String, Value>, usual: f32) -> Result<f32> {
    match table.remove("p") {
        None => Ok(usual),
        Some(value) => match value.as_f64().filter(|p| (0.0..=1.0).contains(p)) {
            Some(p) => Ok(p as f32),
            None => Err(Error::usage(format!("p is {value}; wanted a probability, 0 to 1"))),
        },
    }
}

fn count_of(value: &Value, nodes: usize) -> Result<[usize; 2]> {
    let number = |value: &Value| value.as_u64().map(|number| number as usize);
    let count = match value {
        Value::Array(both) if both.len() == 2 => number(&both[0]).zip(number(&both[1])),
        Value::String(text) => {
            text.split_once("..").and_then(|(low, high)| Some((low.trim().parse().ok()?, high.trim().parse().ok()?)))
        }
        one => number(one).map(|count| (count, count)),
    };
    match count.filter(|(low, high)| low <= high && *high <= nodes) {
        Some((low, high)) => Ok([low, high]),
        None => {
            Err(Error::usage(format!("count is {value}; wanted a number from 0 to {nodes}, or two such as \"1..2\"")))
        }
    }
}

/// The operation of this name.
fn kind_named(name: &str) -> Result<&'static OperationKind> {
    OPERATIONS.iter().find(|kind| kind.name == name).ok_or_else(|| {
        let near = OPERATIONS.iter().map(|kind| kind.name);
        let near = near.max_by(|a, b| strsim::jaro(a, name).total_cmp(&strsim::jaro(b, name)));
        let error = Error::usage(format!("no operation `{name}`"));
        match near {
            Some(near) if strsim::jaro(near, name) > 0.7 => error.hint(format!("did you mean `{near}`?")),
            _ => error.hint("`dlopt list` says which there are and what they do"),
        }
    })
}
