//! What quantization does to each tensor, and why.

use dlopt_checkpoint::{Choice, Error, Header, LayerKind, Result, TensorInfo, must_match};
use dlopt_kernels::Float;

use crate::formats::float;
use crate::held::Held;
use crate::{Fallback, Granularity, Quantize, RuleTarget, Scheme, Storage};

/// Kinds that are quantized without being asked for.
const DEFAULT_KINDS: [LayerKind; 3] = [LayerKind::Linear, LayerKind::Convolution, LayerKind::Recurrent];

/// Kinds that a rule with wildcards may select.
const MATRIX_KINDS: [LayerKind; 9] = [
    LayerKind::Linear,
    LayerKind::TransposedLinear,
    LayerKind::Convolution,
    LayerKind::TransposedConvolution,
    LayerKind::Recurrent,
    LayerKind::Expert,
    LayerKind::Embedding,
    LayerKind::Head,
    LayerKind::Unknown,
];

/// Kinds that only a full name selects.
const OTHER_KINDS: [LayerKind; 3] = [LayerKind::Norm, LayerKind::Bias, LayerKind::FixedTransform];

/// How a unit is encoded, as a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Key {
    pub(crate) rule: Option<usize>,
    pub(crate) is_fallback: bool,
    pub(crate) from: Float,
}

const FLOATS: [Float; 4] = [Float::F32, Float::F16, Float::BF16, Float::F64];

impl Key {
    pub(crate) fn pack(self) -> usize {
        let from = FLOATS.iter().position(|f| *f == self.from).unwrap_or(0);
        self.rule.map_or(0, |r| r + 1) << 3 | usize::from(self.is_fallback) << 2 | from
    }

    pub(crate) fn unpack(key: usize) -> Self {
        Self { rule: (key >> 3).checked_sub(1), is_fallback: key & 4 != 0, from: FLOATS[key & 3] }
    }
}

/// What is done to one tensor.
pub(crate) enum Fate {
    Skipped(String),
    /// The user wants it quantized and it cannot be.
    Unfit(String),
    Taken(Key),
}

impl Quantize {
    /// Decides what is done to each tensor, in order.
    pub(crate) fn fates(&self, header: &Header) -> Result<Vec<(Choice, Fate)>> {
        let held = Held::of(header)?;
        let header = &*held.in_place(header);
        for rule in &self.rules {
            must_match(&rule.glob, header)?;
        }
        let by_default = self.selection.choose(header, &DEFAULT_KINDS)?;
        let any_kind = [&MATRIX_KINDS[..], &OTHER_KINDS].concat();
        let by_rule = self.selection.choose(header, &any_kind)?;
        let choices = by_default.into_iter().zip(by_rule).zip(&header.tensors);
        let fates = choices.enumerate().map(|(at, ((choice, asked), tensor))| match held.whole(at) {
            Some(whole) => self.fate_of_part(choice, whole),
            None => self.fate(choice, asked, tensor),
        });
        fates.collect()
    }

    /// A part of a tensor that is stored otherwise stays, unless a rule asks for a scheme of just this tensor.
    fn fate_of_part(&self, choice: Choice, whole: &TensorInfo) -> Result<(Choice, Fate)> {
        let rule = self.rules.iter().find(|rule| rule.glob.matches(&whole.name));
        if rule.is_some_and(|r| r.glob.is_exact(&whole.name) && matches!(r.target, RuleTarget::Scheme(_))) {
            let what = format!("tensor `{}` was named, but cannot be taken: it is stored in parts already", whole.name);
            return Err(Error::input(what).hint("dlopt convert --decompress makes it dense again"));
        }
        Ok((choice, Fate::Skipped(format!("part of `{}`, which is stored otherwise", whole.name))))
    }

    fn fate(&self, mut choice: Choice, asked: Choice, tensor: &TensorInfo) -> Result<(Choice, Fate)> {
        let rule = self.rules.iter().position(|r| r.glob.matches(&tensor.name));
        if let Some(rule) = rule {
            let is_named = self.rules[rule].glob.is_exact(&tensor.name);
            if matches!(self.rules[rule].target, RuleTarget::Skip) {
                let reason = choice.skipped.take().unwrap_or_else(|| "left out by a rule".to_owned());
                return Ok((choice, Fate::Skipped(reason)));
            }
            if is_named || MATRIX_KINDS.contains(&choice.layer.kind) {
                choice = Choice { is_named: is_named || choice.is_named, ..asked };
            }
        }
        if let Some(reason) = choice.skipped.clone() {
            let is_excluded = self.selection.exclude.iter().any(|g| g.matches(&tensor.name));
            if choice.is_named && !is_excluded {
                return Err(Error::input(format!("tensor `{}` was named, but cannot be taken: {reason}", tensor.name)));
            }
            return Ok((choice, Fate::Skipped(reason)));
        }
        let from = float(tensor.dtype).expect("only weight floats are selected");
        let scheme = self.scheme_of(rule);
        let key = |is_fallback| Fate::Taken(Key { rule, is_fallback, from });
        let Storage::Codes(_) = scheme.storage else { return Ok((choice, key(false))) };
        let fate = match obstacle(&choice, tensor) {
            Some(reason) => Fate::Unfit(reason),
            None => match scheme.granularity {
                Granularity::Group(size) if !choice.layer.columns.is_multiple_of(size) => match self.fallback {
                    Fallback::Channel => key(true),
                    Fallback::Skip => {
                        Fate::Unfit(format!("groups of {size} do not divide its {} columns", choice.layer.columns))
                    }
                },
                _ => key(false),
            },
        };
        if let (Fate::Unfit(reason), true) = (&fate, choice.is_named) {
            return Err(Error::input(format!(
                "tensor `{}` has shape {:?} and cannot become {}: {reason}",
                tensor.name,
                tensor.shape,
                scheme.label()
            ))
            .hint(unfit_hint(&choice)));
        }
        Ok((choice, fate))
    }
}

/// Why no scheme with scales can hold a tensor.
fn obstacle(choice: &Choice, tensor: &TensorInfo) -> Option<String> {
    let kind = choice.layer.kind;
    if tensor.elements() == 0 {
        return Some("it is empty".to_owned());
    }
    if tensor.shape.len() < 2 {
        return Some("it is a vector, not a matrix".to_owned());
    }
    let is_transposed =
        matches!(kind, LayerKind::TransposedLinear | LayerKind::TransposedConvolution | LayerKind::Expert);
    is_transposed.then(|| kind.reason_to_skip().to_owned())
}

fn unfit_hint(choice: &Choice) -> String {
    match common_groups(std::iter::once(choice.layer.columns)).first() {
        Some(size) => format!("--group {size}, --fallback channel, or do not name it"),
        None => "--group channel, or do not name it".to_owned(),
    }
}

/// Group sizes that divide every one of `columns`, the customary first.
fn common_groups(columns: impl Iterator<Item = usize> + Clone) -> Vec<usize> {
    let fits = |size: &usize| columns.clone().all(|c| c > 0 && c.is_multiple_of(*size));
    let usual: Vec<usize> = [128, 64, 32, 256, 16, 512, 8].into_iter().filter(fits).collect();
    // Where no usual size fits, the largest that does, if it is worth its scales.
    let largest = (9..=512).rev().find(fits);
    if usual.is_empty() { largest.into_iter().collect() } else { usual }
}

/// Weights that were to be quantized.
#[derive(Default)]
pub(crate) struct Tally {
    wanted: usize,
    taken: usize,
    /// Columns of those a group size did not fit.
    unfit_columns: Vec<usize>,
}

impl Tally {
    pub(crate) fn hit(&mut self, tensor: &TensorInfo) {
        self.wanted += tensor.elements();
        self.taken += tensor.elements();
    }

    pub(crate) fn miss(&mut self, tensor: &TensorInfo, choice: &Choice) {
        self.wanted += tensor.elements();
        if obstacle(choice, tensor).is_none() {
            self.unfit_columns.push(choice.layer.columns);
        }
    }

    /// Refuses to do nothing, naming what would help.
    pub(crate) fn check(&self, scheme: &Scheme, held: &Held) -> Result<()> {
        if self.taken > 0 {
            return Ok(());
        }
        if let (0, Some(tensor)) = (self.wanted, held.first()) {
            return Err(Error::input(format!(
                "the checkpoint is compressed already: `{tensor}` is stored in parts, and nothing else can be quantized"
            ))
            .hint("dlopt convert --decompress makes it dense again"));
        }
        if let (Granularity::Group(size), false) = (scheme.granularity, self.unfit_columns.is_empty()) {
            let common = common_groups(self.unfit_columns.iter().copied());
            let sizes: Vec<_> = common.iter().map(usize::to_string).collect();
            let hint = match sizes.as_slice() {
                [] => "--group channel, or --fallback channel".to_owned(),
                sizes => format!("--group {} fits them all, or --group channel", sizes.join(" or ")),
            };
            return Err(Error::input(format!("groups of {size} fit none of the selected tensors")).hint(hint));
        }
        Err(Error::input("no tensor is selected that can be quantized")
            .hint("--explain says why for each; --include or --rule takes tensors of other kinds"))
    }

    /// What to say when less than half could be done.
    pub(crate) fn gate(&self) -> Option<String> {
        (self.taken * 2 < self.wanted).then(|| {
            let percent = self.taken as f64 / self.wanted as f64 * 100.0;
            format!("only {percent:.0} % of the selected weights could be quantized")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_packs_and_unpacks() {
        for rule in [None, Some(0), Some(7)] {
            for from in FLOATS {
                for is_fallback in [false, true] {
                    let key = Key { rule, is_fallback, from };
                    assert_eq!(Key::unpack(key.pack()), key);
                }
            }
        }
    }

    #[test]
    fn group_sizes_that_fit_all_are_found() {
        assert_eq!(common_groups([96, 160].into_iter()), [32, 16, 8]);
        assert_eq!(common_groups([60, 90].into_iter()), [30]);
        assert!(common_groups([37, 41].into_iter()).is_empty());
    }
}
