//! Recipes: operations in order, each with a probability; one of several, or some of several.
//!
//! ```toml
//! [[ops]]
//! op = "rotate"
//! degrees = "±15"
//! p = 0.5
//!
//! [[ops]]
//! one-of = [{ op = "noise", sigma = 0.05 }, { op = "blur", sigma = "0.5..1" }]
//!
//! [[ops]]
//! some-of = [{ op = "brightness" }, { op = "contrast" }, { op = "gamma" }]
//! count = 2
//! ```

mod read;

use dlopt_checkpoint::{Error, Result};
use serde_json::{Map, Value, json};

use crate::draws::{Draws, Key};
use crate::geometry::Geometry;
use crate::operation::{Mixing, Operation, OperationKind};
use crate::sample::{Form, Sample, Scratch};
use read::{EXAMPLE, nodes_of};

/// Operations with their probabilities, ready to be applied.
#[derive(Debug)]
pub struct Recipe {
    nodes: Vec<Node>,
}

/// Where another sample is to be mixed into one.
pub struct Mix<'a> {
    /// What is done.
    pub mixing: &'a dyn Mixing,
    /// Where the operation stands in the recipe.
    pub place: u64,
    /// Its draws.
    pub draws: Draws,
}

#[derive(Debug)]
struct Node {
    /// Counted through the whole recipe: what its draws are keyed by.
    place: u64,
    probability: f32,
    what: What,
}

enum What {
    Operation {
        kind: &'static OperationKind,
        operation: Box<dyn Operation>,
        options: Map<String, Value>,
    },
    All(Vec<Node>),
    /// So many of these, in their order.
    Some {
        nodes: Vec<Node>,
        count: [usize; 2],
    },
}

impl std::fmt::Debug for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Operation { operation, .. } => operation.fmt(f),
            Self::All(nodes) => nodes.fmt(f),
            Self::Some { nodes, count } => write!(f, "{count:?} of {nodes:?}"),
        }
    }
}

impl Recipe {
    /// The operations of a command line, in order, each `NAME`, `NAME=VALUE` or `NAME=VALUE,key=value…`; `p` is the
    /// probability of each.
    ///
    /// # Errors
    /// When there are none, one is unknown or an option is wrong.
    pub fn of_ops<S: AsRef<str>>(ops: &[S]) -> Result<Self> {
        let nodes: Vec<Value> = ops.iter().map(|op| json!({ "op": op.as_ref() })).collect();
        Self::of(&Value::Array(nodes))
    }

    /// The recipe of a TOML text.
    ///
    /// # Errors
    /// When the text is no TOML, or as [`Recipe::of`].
    pub fn of_toml(text: &str) -> Result<Self> {
        let mut table: Map<String, Value> =
            toml::from_str(text).map_err(|e| Error::input(format!("the recipe is no TOML: {e}")))?;
        let nodes = table.remove("ops").unwrap_or(Value::Null);
        if let Some(key) = table.keys().next() {
            return Err(Error::input(format!("`{key}` is not known; a recipe has [[ops]]")).hint(EXAMPLE));
        }
        if nodes.is_null() {
            return Err(Error::input("the recipe has no [[ops]]").hint(EXAMPLE));
        }
        Self::of(&nodes)
    }

    /// A list of nodes, as TOML writes them and [`Recipe::spec`] gives them.
    ///
    /// # Errors
    /// When there are none, an operation is unknown, or an option is wrong or out of range.
    pub fn of(nodes: &Value) -> Result<Self> {
        let mut place = 0;
        let nodes = nodes_of(nodes, &mut place, 0)?;
        if nodes.is_empty() {
            return Err(Error::usage("the recipe is empty").hint("--op rotate=±15, or --recipe FILE.toml"));
        }
        if nodes.iter().map(Node::most_mixings).sum::<usize>() > 1 {
            return Err(Error::usage("two operations of the recipe could mix another sample into the same one")
                .hint("one-of = [{ op = \"mixup\" }, { op = \"cutmix\" }] takes one of them for each sample"));
        }
        Ok(Self { nodes })
    }

    /// The recipe with all options, as datasets and checkpoints keep it.
    pub fn spec(&self) -> Value {
        Value::Array(self.nodes.iter().map(Node::spec).collect())
    }

    /// Refuses samples that an operation is not for.
    ///
    /// # Errors
    /// When one does not apply to them.
    pub fn check(&self, form: &Form) -> Result<()> {
        self.each(&mut |kind, operation| kind.check(operation, form))
    }

    /// Whether an operation mixes samples and their labels.
    pub fn mixes(&self) -> bool {
        let mut mixes = false;
        let _ = self.each(&mut |_, operation| {
            mixes |= operation.mixing().is_some();
            Ok(())
        });
        mixes
    }

    /// Changes a sample.
    pub fn apply(&self, sample: &mut Sample, key: Key, scratch: &mut Scratch) {
        self.apply_before(sample, key, scratch, u64::MAX);
    }

    /// Changes a sample by the operations that stand before a place of the recipe: what is done to a sample that is mixed
    /// in there, since the others are done to the mixture.
    pub fn apply_before(&self, sample: &mut Sample, key: Key, scratch: &mut Scratch, place: u64) {
        let mut pending = None;
        run(&self.nodes, sample, key, scratch, &mut pending, place, &mut |_, _, _| {});
        settle(&mut pending, sample, scratch);
    }

    /// Changes a sample, and calls `mix` where another one is to be mixed in.
    pub fn apply_mixing(
        &self,
        sample: &mut Sample,
        key: Key,
        scratch: &mut Scratch,
        mix: &mut dyn FnMut(Mix<'_>, &mut Sample, &mut Scratch),
    ) {
        let mut pending = None;
        run(&self.nodes, sample, key, scratch, &mut pending, u64::MAX, mix);
        settle(&mut pending, sample, scratch);
    }

    fn each(&self, call: &mut dyn FnMut(&'static OperationKind, &dyn Operation) -> Result<()>) -> Result<()> {
        fn walk(
            nodes: &[Node],
            call: &mut dyn FnMut(&'static OperationKind, &dyn Operation) -> Result<()>,
        ) -> Result<()> {
            nodes.iter().try_for_each(|node| match &node.what {
                What::Operation { kind, operation, .. } => call(kind, &**operation),
                What::All(nodes) | What::Some { nodes, .. } => walk(nodes, call),
            })
        }
        walk(&self.nodes, call)
    }
}

/// Carries out what geometry is pending.
fn settle(pending: &mut Option<Geometry>, sample: &mut Sample, scratch: &mut Scratch) {
    if let Some(geometry) = pending.take() {
        geometry.carry_out(sample, scratch);
    }
}

fn run(
    nodes: &[Node],
    sample: &mut Sample,
    key: Key,
    scratch: &mut Scratch,
    pending: &mut Option<Geometry>,
    end: u64,
    mix: &mut dyn FnMut(Mix<'_>, &mut Sample, &mut Scratch),
) {
    // Places rise from node to node, into lists and out of them.
    for node in nodes.iter().take_while(|node| node.place < end) {
        let mut draws = Draws::new(key, node.place);
        if node.probability < 1.0 && !draws.chance(node.probability) {
            continue;
        }
        match &node.what {
            What::All(nodes) => run(nodes, sample, key, scratch, pending, end, mix),
            What::Some { nodes, count } => {
                let mut wanted = count[0] + draws.below(count[1] - count[0] + 1);
                // Each of the rest is taken with the probability that makes all choices alike (Knuth, algorithm S).
                for (place, node) in nodes.iter().enumerate() {
                    if draws.below(nodes.len() - place) < wanted {
                        wanted -= 1;
                        run(std::slice::from_ref(node), sample, key, scratch, pending, end, mix);
                    }
                }
            }
            What::Operation { operation, .. } => {
                if let Some(geometry) = operation.geometry(&sample.form, &mut draws, scratch) {
                    *pending = match pending.take() {
                        None => Some(geometry),
                        Some(before) => match before.then(geometry) {
                            Some(both) => Some(both),
                            None => {
                                before.carry_out(sample, scratch);
                                Some(geometry)
                            }
                        },
                    };
                    continue;
                }
                settle(pending, sample, scratch);
                match operation.mixing() {
                    Some(mixing) => mix(Mix { mixing, place: node.place, draws }, sample, scratch),
                    None => operation.apply(sample, &mut draws, scratch),
                }
            }
        }
    }
}

impl Node {
    /// How many operations may mix another sample into one.
    fn most_mixings(&self) -> usize {
        match &self.what {
            What::Operation { operation, .. } => usize::from(operation.mixing().is_some()),
            What::All(nodes) => nodes.iter().map(Self::most_mixings).sum(),
            What::Some { nodes, count } => {
                let mut each: Vec<usize> = nodes.iter().map(Self::most_mixings).collect();
                each.sort_unstable_by_key(|&most| std::cmp::Reverse(most));
                each[..count[1]].iter().sum()
            }
        }
    }

    fn spec(&self) -> Value {
        let all = |nodes: &[Self]| Value::Array(nodes.iter().map(Self::spec).collect());
        let mut table = Map::new();
        match &self.what {
            What::Operation { kind, options, .. } => {
                table.insert("op".to_owned(), json!(kind.name));
                table.extend(options.clone());
            }
            What::All(nodes) => drop(table.insert("sequence".to_owned(), all(nodes))),
            What::Some { nodes, count } => {
                table.insert("some-of".to_owned(), all(nodes));
                table.insert("count".to_owned(), json!(count));
            }
        }
        if self.probability < 1.0 || matches!(&self.what, What::Operation { kind, .. } if kind.probability < 1.0) {
            table.insert("p".to_owned(), json!(self.probability));
        }
        Value::Object(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Data;

    fn picture() -> Sample {
        let pixels = (0..5 * 7 * 3_u32).map(|at| (at * 37 % 251) as u8).collect();
        Sample {
            form: Form::Image { height: 5, width: 7, channels: 3, white: 255.0 },
            data: Data::U8(pixels),
            steps: 1,
        }
    }

    fn key(sample: u64) -> Key {
        Key { seed: 1, round: 0, sample }
    }

    fn error(nodes: Value) -> String {
        let error = Recipe::of(&nodes).unwrap_err();
        format!("{error:?}")
    }

    #[test]
    fn a_recipe_comes_back_as_it_was_written() {
        let text = "[[ops]]\nop = \"rotate\"\ndegrees = \"±15\"\np = 0.5\n[[ops]]\none-of = [{ op = \"noise=0.1\" }, \
                    { op = \"horizontal-flip\" }]\n[[ops]]\nsome-of = [{ op = \"noise\" }, { op = \"rotate\" }]\n\
                    count = \"1..2\"";
        let recipe = Recipe::of_toml(text).unwrap();
        let again = Recipe::of(&recipe.spec()).unwrap();
        assert_eq!(recipe.spec(), again.spec());
        for sample in 0..20 {
            let [mut a, mut b] = [picture(), picture()];
            recipe.apply(&mut a, key(sample), &mut Scratch::default());
            again.apply(&mut b, key(sample), &mut Scratch::default());
            assert_eq!(a, b);
        }
    }

    #[test]
    fn probabilities_and_choices_are_kept() {
        let recipe = Recipe::of(
            &json!([{ "one-of": [{ "op": "horizontal-flip,p=1" }, { "op": "vertical-flip,p=1" }], "p": 0.5 }]),
        );
        let recipe = recipe.unwrap();
        let mut counts = [0_i32; 3];
        let flipped = |name: &str| {
            let mut sample = picture();
            let own = Recipe::of_ops(&[format!("{name},p=1")]).unwrap();
            own.apply(&mut sample, key(0), &mut Scratch::default());
            sample
        };
        let all = [picture(), flipped("horizontal-flip"), flipped("vertical-flip")];
        let mut scratch = Scratch::default();
        for sample in 0..4000 {
            let mut own = picture();
            recipe.apply(&mut own, key(sample), &mut scratch);
            counts[all.iter().position(|other| *other == own).unwrap()] += 1;
        }
        assert!((counts[0] - 2000).abs() < 160 && (counts[1] - 1000).abs() < 140, "{counts:?}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(error(json!([])).contains("empty"));
        assert!(error(json!([{ "op": "rotat" }])).contains("did you mean `rotate`?"));
        assert!(error(json!([{ "op": "rotate=400" }])).contains("wanted -360 to 360 degrees"));
        assert!(error(json!([{ "op": "rotate", "p": 2 }])).contains("0 to 1"));
        assert!(error(json!([{ "op": "rotate", "angle": 2 }])).contains("angle"));
        assert!(error(json!([{ "op": "rotate", "one-of": [] }])).contains("is not one of"));
        assert!(error(json!([{ "some-of": [{ "op": "rotate" }], "count": 2 }])).contains("0 to 1"));
        assert!(error(json!([{ "one-of": [] }])).contains("empty"));
        let twice = json!([{ "op": "mixup", "p": 0.5 }, { "sequence": [{ "op": "cutmix" }] }]);
        assert!(error(twice).contains("could mix another sample into the same one"));
        let both = json!([{ "op": "mixup" }, { "op": "cutmix" }, { "op": "noise" }]);
        assert!(error(json!([{ "some-of": both, "count": 2 }])).contains("one-of ="));
        Recipe::of(&json!([{ "one-of": both }])).unwrap();
        assert!(Recipe::of_toml("seed = 1").is_err() && Recipe::of_toml("ops = 3").is_err());
    }

    #[test]
    fn operations_are_refused_where_they_do_not_fit() {
        let recipe = Recipe::of_ops(&["rotate=±15"]).unwrap();
        let error = recipe.check(&Form::Tokens { time: 3, vocabulary: 9 }).unwrap_err();
        assert!(error.message().contains("`rotate` is for pictures"), "{error}");
        recipe.check(&picture().form).unwrap();
    }
}
