//! Layers that runtimes merge into one, and so have to be stored alike.

use std::collections::{BTreeMap, HashMap};

use dlopt_checkpoint::{Choice, Error, Header, LayerKind, Model, Result, TensorInfo};

use crate::fates::Fate;
use crate::{Quantize, Scheme};

/// A module and its scheme; `None` when dense.
type Member<'a> = (&'a str, Option<Scheme>);

/// Modules that runtimes merge into one, by the last component of their names.
const FUSED: [&[&str]; 4] =
    [&["q_proj", "k_proj", "v_proj"], &["query", "key", "value"], &["gate_proj", "up_proj"], &["w1", "w3"]];

/// Whether runtimes build this weight as a linear layer.
pub(crate) fn is_linear_module(choice: &Choice, tensor: &TensorInfo) -> bool {
    tensor.name.ends_with(".weight")
        && tensor.shape.len() == 2
        && matches!(choice.layer.kind, LayerKind::Linear | LayerKind::Head)
}

pub(crate) fn module(tensor: &TensorInfo) -> &str {
    tensor.name.strip_suffix(".weight").unwrap_or(&tensor.name)
}

/// Linear layers that runtimes merge into one and that therefore have to be stored alike: positions in the header, two or
/// more of each.
///
/// # Errors
/// When the config is broken.
pub fn fused_layers(header: &Header) -> Result<Vec<Vec<usize>>> {
    let model = Model::of(header)?;
    let mut families: BTreeMap<(&str, usize), Vec<usize>> = BTreeMap::new();
    for (at, tensor) in header.tensors.iter().enumerate() {
        let choice = Choice { layer: model.layer(tensor), skipped: None, is_named: false };
        if let Some(key) = family(tensor).filter(|_| is_linear_module(&choice, tensor)) {
            families.entry(key).or_default().push(at);
        }
    }
    Ok(families.into_values().filter(|members| members.len() > 1).collect())
}

/// The module above a tensor's and the row of [`FUSED`] that its own is of.
fn family(tensor: &TensorInfo) -> Option<(&str, usize)> {
    let path = module(tensor);
    let (parent, leaf) = path.rsplit_once('.').unwrap_or(("", path));
    FUSED.iter().position(|family| family.contains(&leaf)).map(|family| (parent, family))
}

impl Quantize {
    /// Refuses different schemes for layers that runtimes merge into one.
    pub(crate) fn check_fused(&self, input: &Header, fates: &[(Choice, Fate)]) -> Result<()> {
        let mut families: HashMap<(usize, &str), Vec<Member<'_>>> = HashMap::new();
        let mut order = Vec::new();
        for (tensor, (choice, fate)) in input.tensors.iter().zip(fates) {
            let path = module(tensor);
            let Some((parent, family)) = family(tensor) else { continue };
            if !is_linear_module(choice, tensor) {
                continue;
            }
            let scheme = match fate {
                Fate::Taken(key) => Some(self.resolved(*key)).filter(|s| s.format().is_some()),
                _ => None,
            };
            let members = families.entry((family, parent)).or_default();
            if members.is_empty() {
                order.push((family, parent));
            }
            members.push((path, scheme));
        }
        for members in order.iter().map(|key| &families[key]) {
            let (first, rest) = members.split_first().expect("families have members");
            let is_alike = |other: &Option<Scheme>| match (&first.1, other) {
                (None, None) => true,
                (Some(a), Some(b)) => a.is_like(b),
                _ => false,
            };
            if let Some(other) = rest.iter().find(|(_, scheme)| !is_alike(scheme)) {
                let say = |s: &Option<Scheme>| s.as_ref().map_or("dense".to_owned(), Scheme::label);
                return Err(Error::input(format!(
                    "runtimes merge `{}` and `{}` into one layer, but one would be {} and the other {}",
                    first.0,
                    other.0,
                    say(&first.1),
                    say(&other.1)
                ))
                .hint("let rules, --include and --exclude match all of them or none"));
            }
        }
        Ok(())
    }
}
