//! Quantization: dense weights to codes and scales.

use dlopt_checkpoint::{
    Block, Decision, Error, HISTORY_KEY, Header, NameGlob, Output, Partial, Pass, Plan, Result, Selection, Step, Unit,
    extend_history, read_layout,
};
use serde_json::{Value, json};

use crate::draft::Draft;
use crate::encode::{Chosen, Job, Seen};
use crate::fates::{Fate, Key};
use crate::held::Held;
use crate::layouts::{compressed_tensors, dlopt};
use crate::methods::{Method, method_named};
use crate::{Granularity, Rule, RuleTarget, Scheme};

/// What is done to a weight whose columns the group size does not divide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// It stays as it is.
    #[default]
    Skip,
    /// It gets one scale per output.
    Channel,
}

/// The pass that quantizes.
#[derive(Clone, Debug)]
pub struct Quantize {
    /// How weights are stored.
    pub scheme: Scheme,
    /// How scales are chosen.
    pub method: &'static dyn Method,
    /// Which tensors.
    pub selection: Selection,
    /// Schemes for some of them; the first that matches wins.
    pub rules: Vec<Rule>,
    /// What is done where the group size does not fit.
    pub fallback: Fallback,
    /// NaN becomes 0 and infinities the largest code, instead of an error.
    pub allow_nonfinite: bool,
}

impl Quantize {
    /// Round to nearest of all linear, convolution and recurrent weights.
    pub fn new(scheme: Scheme) -> Self {
        let method = method_named("rtn").expect("the table holds round to nearest");
        Self {
            scheme,
            method,
            selection: Selection::default(),
            rules: Vec::new(),
            fallback: Fallback::Skip,
            allow_nonfinite: false,
        }
    }

    pub(crate) fn job(&self, key: Key) -> Job {
        Job { scheme: self.resolved(key), method: self.method, from: key.from, allow_nonfinite: self.allow_nonfinite }
    }

    /// The scheme of a tensor, with the granularity it really gets.
    pub(crate) fn resolved(&self, key: Key) -> Scheme {
        let scheme = self.scheme_of(key.rule);
        scheme.with_granularity(if key.is_fallback { Granularity::Channel } else { scheme.granularity })
    }

    pub(crate) fn scheme_of(&self, rule: Option<usize>) -> &Scheme {
        match rule.map(|r| &self.rules[r].target) {
            Some(RuleTarget::Scheme(scheme)) => scheme,
            Some(RuleTarget::Skip) | None => &self.scheme,
        }
    }
}

impl Pass for Quantize {
    fn verb(&self) -> &'static str {
        "quantize"
    }

    fn options(&self) -> Value {
        let globs = |globs: &[NameGlob]| globs.iter().map(|g| g.text().to_owned()).collect::<Vec<_>>();
        let mut options = self.scheme.facts();
        let more = json!({
            "method": match self.scheme.format().and_then(|format| format.entries(self.scheme.bits)) {
                Some(_) => "k-means",
                None => self.method.plugin().name,
            },
            "include": globs(&self.selection.include),
            "exclude": globs(&self.selection.exclude),
            "rules": self.rules.iter().map(Rule::text).collect::<Vec<_>>(),
            "fallback": match self.fallback { Fallback::Skip => "skip", Fallback::Channel => "channel" },
            "tied": if self.selection.change_tied { "both" } else { "skip" },
            "allow_nonfinite": self.allow_nonfinite,
        });
        if let (Some(options), Value::Object(more)) = (options.as_object_mut(), more) {
            options.extend(more);
        }
        options
    }

    fn plan(&self, input: &Header) -> Result<Plan> {
        refuse_quantized(input)?;
        let config = input.config()?;
        let fates = self.fates(input)?;
        self.check_fused(input, &fates)?;
        let held = Held::of(input)?;
        let mut draft = Draft::new(input, config.is_some());
        for (at, (tensor, (choice, fate))) in input.tensors.iter().zip(&fates).enumerate() {
            match fate {
                Fate::Taken(key) => draft.take(at, tensor, choice, *key, &self.job(*key)),
                Fate::Skipped(reason) => {
                    draft.skip(at, tensor, choice, reason);
                    held.begun(at).into_iter().for_each(|whole| draft.leave_dense(choice, whole));
                }
                Fate::Unfit(reason) => {
                    draft.tally.miss(tensor, choice);
                    draft.skip(at, tensor, choice, reason);
                }
            }
        }
        draft.tally.check(&self.scheme, &held)?;
        let mut plan = draft.finish(input, config)?;
        plan.metadata.insert(HISTORY_KEY.to_owned(), extend_history(input, self.verb(), self.options())?);
        crate::cast::update_dtype(&mut plan, input)?;
        plan.check_names()?;
        Ok(plan)
    }

    fn begin(&self, _so_far: Option<&Decision>) -> Partial {
        Box::new(Seen::default())
    }

    fn survey(
        &self,
        unit: &Unit,
        _position: usize,
        block: &Block<'_>,
        so_far: Option<&Decision>,
        partial: &mut Partial,
    ) -> Result<()> {
        let Some(seen) = partial.downcast_mut::<Seen>() else { return Ok(()) };
        self.job(Key::unpack(unit.key)).survey(unit, block, chosen(so_far), seen)
    }

    fn merge(&self, into: &mut Partial, from: Partial) {
        if let (Some(into), Ok(from)) = (into.downcast_mut::<Seen>(), from.downcast::<Seen>()) {
            into.merge(*from);
        }
    }

    fn decide(&self, units: &[(usize, &Unit)], so_far: Option<&Decision>, all: Partial) -> Result<Step> {
        let lost = || Error::input("a survey came back without what it saw");
        let seen = all.downcast::<Seen>().map_err(|_| lost())?;
        let (_, unit) = units.first().ok_or_else(lost)?;
        Ok(self.job(Key::unpack(unit.key)).decide(chosen(so_far), *seen))
    }

    fn apply(
        &self,
        unit: &Unit,
        _position: usize,
        block: &Block<'_>,
        decision: Option<&Decision>,
        output: &mut Output<'_>,
    ) -> Result<()> {
        self.job(Key::unpack(unit.key)).apply(unit, block, chosen(decision), output)
    }
}

fn chosen(decision: Option<&Decision>) -> Option<&Chosen> {
    decision.and_then(|d| d.downcast_ref::<Chosen>())
}

/// Refuses a checkpoint that is quantized already; tensors that are stored as bitmasks may stand beside codes.
fn refuse_quantized(input: &Header) -> Result<()> {
    let config = input.config()?.unwrap_or_default();
    let layout = read_layout(input)?;
    let endings = [".weight_packed", ".weight_scale", ".qweight", ".weight_scale_inv", ".bitmask", "_bitmask"];
    let held = Held::of(input)?;
    let unknown =
        input.tensors.iter().enumerate().filter(|(at, _)| held.whole(*at).is_none()).map(|(_, tensor)| tensor);
    let by_name = || unknown.clone().find(|t| endings.iter().any(|e| t.name.ends_with(e)));
    let why = if compressed_tensors::quantization(&config).is_some() {
        "its config holds a `quantization_config`".to_owned()
    } else if let Some((name, stored)) = layout.iter().find(|(_, stored)| dlopt::is_quantized(stored)) {
        format!("`{name}` is stored as `{}`", stored.format)
    } else if let Some(tensor) = by_name() {
        format!("it holds `{}`", tensor.name)
    } else {
        return Ok(());
    };
    Err(Error::input(format!("the checkpoint is compressed already: {why}"))
        .hint("dlopt convert --decompress makes it dense again"))
}
