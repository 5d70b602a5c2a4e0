//! What stays: how many channels of each layer, and which; or which layers.

use std::collections::BTreeMap;

use dlopt_checkpoint::{Error, Result};
use dlopt_prune::{Cut, Group, Maker, Part, PruneScope, Structure, Widths, closest_prefix};

use super::network::{Costs, Prunable};
use super::pass::{PruneStructure, Target, Weigh};
use super::report::identity;
use super::survey::Scores;

/// Share of each layer that stays where layers compete with each other.
const FLOOR: f64 = 0.1;

/// What stays of a network.
pub(super) enum Stays {
    /// The channels of each group.
    Channels(Vec<Vec<usize>>),
    /// The layers of these numbers, as [`crate::Derivation::layers`] counts them.
    Layers(Vec<usize>),
}

impl PruneStructure {
    /// The share of each layer that stays.
    pub(super) fn floor(&self) -> f64 {
        let competes = self.options.scope == Some(PruneScope::Global);
        self.options.floor.unwrap_or(if competes { FLOOR } else { 0.0 })
    }

    /// Whether channels of a group were asked for.
    pub(super) fn may(&self, group: &Group) -> bool {
        let Structure::Channels(makers) = &self.options.structure else { return false };
        let mut writers = group.members.iter().filter(|member| member.part == Part::Writes);
        let (include, exclude) = (&self.options.include, &self.options.exclude);
        let is_included = include.is_empty()
            || group.members.iter().any(|m| m.part == Part::Writes && include.iter().any(|g| g.matches(&m.tensor)));
        let is_excluded = writers.any(|member| exclude.iter().any(|glob| glob.matches(&member.tensor)));
        group.is_cuttable() && makers.contains(&group.made_by) && is_included && !is_excluded
    }

    /// As many channels of each group as stay, whichever they are, where that follows from the header alone.
    pub(super) fn first_channels(&self, network: &Prunable) -> Result<Stays> {
        let counts = self.counts(network, None)?;
        Ok(Stays::Channels(first(network, &counts)?))
    }

    /// What stays, by what was seen of the weights.
    pub(super) fn stays(&self, network: &Prunable, seen: &Scores) -> Result<Stays> {
        if self.options.structure == Structure::Layers {
            return self.layers(network, seen).map(Stays::Layers);
        }
        let groups = network.coupling.groups.iter().enumerate();
        let importance: Vec<Vec<f64>> =
            groups.clone().map(|(at, group)| self.importance(at, group, seen)).collect::<Result<_>>()?;
        let counts = self.counts(network, Some(&importance))?;
        let kept = groups.map(|(at, group)| group.strongest(&importance[at], counts[at]));
        kept.collect::<Result<_>>().map(Stays::Channels)
    }

    fn importance(&self, at: usize, group: &Group, seen: &Scores) -> Result<Vec<f64>> {
        if !self.may(group) {
            return Ok(vec![0.0; group.channels]);
        }
        let (found, criterion) = match &self.options.weigh {
            Weigh::Given(given) => (given.groups.get(at).cloned().flatten(), given.criterion.as_str()),
            Weigh::Weights(by) => (seen.importance(at, group), by.plugin().name),
        };
        found.ok_or_else(|| {
            Error::input(format!("criterion `{criterion}` says nothing of the channels of `{}`", group.name()))
                .hint(format!("--exclude '{}', or another criterion: l2", group.name()))
        })
    }

    /// How many channels of each group stay. Without importance, the same share of each.
    fn counts(&self, network: &Prunable, importance: Option<&[Vec<f64>]>) -> Result<Vec<usize>> {
        let widths = Widths::new(&network.coupling, self.floor(), self.options.round_to, |group| self.may(group));
        if widths.is_empty() && self.options.sparsity != Some(0.0) {
            return Err(self.nothing_to_cut(network));
        }
        let Some(sparsity) = self.options.sparsity else {
            let counts = widths.that_matter(importance.unwrap_or_default());
            if counts == widths.counts(&[]) {
                let what = &self.options.structure;
                let why = "none has nothing but zeros that write and read it";
                return Err(Error::input(format!("all {what} matter: {why}"))
                    .hint("--sparsity 0.5 takes the least important ones out"));
            }
            return Ok(counts);
        };
        let order = match importance.filter(|_| self.options.scope == Some(PruneScope::Global)) {
            Some(importance) => widths.by_importance(importance),
            None => widths.evenly(),
        };
        let cost = |taken: usize| {
            let counts = widths.counts(&order[..taken]);
            if self.options.target == Target::Width {
                let own = network.coupling.groups.iter().zip(&counts).filter(|(group, _)| self.may(group));
                return Ok(own.map(|(_, count)| *count as f64).sum());
            }
            let pruned = network.narrowed(&Cut::new(&network.coupling, first(network, &counts)?))?;
            Ok(self.cost(&network.costs(&pruned.nodes, &pruned.sources)))
        };
        let taken = self.search(sparsity, order.len(), cost, "every layer keeps a channel, and its --floor")?;
        Ok(widths.counts(&order[..taken]))
    }

    /// How many of `len` steps to take, so that the target is met as nearly as may be.
    fn search(&self, sparsity: f64, len: usize, cost: impl Fn(usize) -> Result<f64>, why: &str) -> Result<usize> {
        let (whole, least) = (cost(0)?, cost(len)?);
        let wanted = (1.0 - sparsity) * whole;
        if least > wanted {
            let (what, most) = (self.options.target.what(), 1.0 - least / whole.max(1.0));
            let (asked, most) = (100.0 * sparsity, (1e4 * most).floor() / 1e4);
            return Err(Error::input(format!("{asked}% of the {what} cannot leave, {:.2}% can: {why}", 100.0 * most))
                .hint(format!("--sparsity {most}")));
        }
        closest_prefix(len, wanted, cost)
    }

    /// What the target counts.
    fn cost(&self, costs: &Costs) -> f64 {
        let own = match self.options.target {
            Target::MultiplyAdds => costs.multiply_adds,
            Target::Bytes => costs.bytes,
            Target::Parameters | Target::Width => costs.parameters,
        };
        own as f64
    }

    /// Why no channel can go, group by group.
    fn nothing_to_cut(&self, network: &Prunable) -> Error {
        let Structure::Channels(makers) = &self.options.structure else { return Error::input("no layer can go") };
        let asked = network.coupling.groups.iter().filter(|group| makers.contains(&group.made_by));
        let why = |group: &Group| match &group.fixed {
            Some(why) => format!("`{}` stays: {why}", group.name()),
            None if !self.may(group) => format!("`{}` is left out by name", group.name()),
            None if group.runs == group.channels => {
                format!("`{}` has one channel in each of {} groups of a convolution", group.name(), group.runs)
            }
            None => format!("`{}` has {} channels and keeps at least --floor of them", group.name(), group.channels),
        };
        let reasons: Vec<String> = asked.map(why).collect();
        let others: Vec<&str> =
            [("channels", Maker::Convolution), ("neurons", Maker::Dense), ("hidden", Maker::Recurrent)]
                .into_iter()
                .filter(|(_, maker)| network.coupling.groups.iter().any(|g| g.made_by == *maker && g.is_cuttable()))
                .map(|(name, _)| name)
                .collect();
        let what = if reasons.is_empty() { "the network has no such layers".to_owned() } else { reasons.join("; ") };
        let error = Error::input(format!("no {} can leave: {what}", self.options.structure));
        if others.is_empty() { error } else { error.hint(format!("--pattern {}", others.join(","))) }
    }

    /// The layers that stay.
    fn layers(&self, network: &Prunable, seen: &Scores) -> Result<Vec<usize>> {
        let can_go = network.layers();
        let all: Vec<usize> = (0..can_go.len()).collect();
        let without = |gone: &[usize]| all.iter().copied().filter(|at| !gone.contains(at)).collect::<Vec<_>>();
        let mut order: Vec<usize> = all.iter().copied().filter(|at| can_go[*at]).collect();
        let sparsity = self.options.sparsity.unwrap_or_default();
        if order.is_empty() && sparsity > 0.0 {
            return Err(Error::input(
                "no layers can leave: only residual blocks without layers in their shortcut can, and layers of recurrent stacks but the first",
            )
            .hint("--pattern channels makes layers narrower"));
        }
        let mut scores = BTreeMap::new();
        for &at in &order {
            scores.insert(at, self.score_of_layer(network, &without(&[at]), seen)?);
        }
        order.sort_by(|a, b| scores[a].total_cmp(&scores[b]));
        let stays = (self.floor() * order.len() as f64).ceil() as usize;
        let most = order.len() - stays.min(order.len());
        let cost = |taken: usize| {
            if self.options.target == Target::Width {
                return Ok((order.len() - taken) as f64);
            }
            let pruned = network.shortened(&without(&order[..taken]))?;
            Ok(self.cost(&network.costs(&pruned.nodes, &pruned.sources)))
        };
        let taken =
            self.search(sparsity, most, cost, "layers outside of residual blocks stay, and those that --floor keeps")?;
        Ok(without(&order[..taken]))
    }

    /// The mean score of the values that would leave with a layer.
    fn score_of_layer(&self, network: &Prunable, without: &[usize], seen: &Scores) -> Result<f64> {
        let left = network.shortened(without)?.sources;
        let (mut total, mut values) = (0.0, 0);
        for name in identity(network).keys().filter(|name| !left.values().any(|source| source == *name)) {
            let own = match &self.options.weigh {
                Weigh::Weights(_) => seen.tensor(name),
                Weigh::Given(given) => {
                    let own = given.tensors.as_ref().and_then(|tensors| tensors.get(name));
                    own.map(|sum| (*sum, network.shape(name).iter().product()))
                }
            };
            let (sum, count) = own.unwrap_or_default();
            total += sum;
            values += count;
        }
        if values == 0 {
            return Err(Error::input("the criterion says nothing of layers").hint("take another: l2"));
        }
        Ok(total / values as f64)
    }
}

/// The first channels of every group, as many of each run.
fn first(network: &Prunable, counts: &[usize]) -> Result<Vec<Vec<usize>>> {
    let own = |(group, &count): (&Group, &usize)| group.strongest(&vec![0.0; group.channels], count);
    network.coupling.groups.iter().zip(counts).map(own).collect()
}
