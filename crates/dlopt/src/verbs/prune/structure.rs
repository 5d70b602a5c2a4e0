//! Flags and tables of patterns in which whole channels or layers leave.

use std::path::Path;

use clap::{Args, ValueEnum};
use dlopt_checkpoint::{Context, Error, Outcome, Result};
use dlopt_metrics::{CoupledChannels, Stop, coupling_svg};
use dlopt_model::{GivenImportance, MemberChange, PruneStructure, StructureOptions, StructureReport, Target, Weigh};
use dlopt_prune::{PruneScope, Structure, importance_named};
use dlopt_train::Salience;
use serde_json::{Map, Value};

use super::PrunePass;
use super::afterwards::Afterwards;
use crate::args::Tied;
use crate::job::Telling;
use crate::tables;

/// How channels or layers leave.
#[derive(Args, Debug, Default)]
pub(super) struct StructureArgs {
    /// What --sparsity is a share of, where channels or layers leave: parameters, multiply-adds, bytes, or the channels
    /// themselves [default: params]
    #[arg(long, value_enum)]
    target: Option<TargetName>,

    /// Share of the channels of each layer that stays at least, 0..=1 [default: 0.1 with --scope global, else one channel]
    #[arg(long, value_name = "SHARE")]
    floor: Option<f64>,

    /// Keep widths that are multiples of N multiples of it: 8 or 16 fill the vectors of a CPU [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    round_to: Option<u16>,
}

/// What a sparsity is a share of.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum TargetName {
    /// Trained values
    Params,
    /// Multiply-adds of a sample
    Flops,
    /// Bytes of the tensors
    Size,
    /// Channels, units or layers themselves
    Width,
}

impl StructureArgs {
    /// Refuses flags that mean nothing where weights become zero.
    pub(super) fn refuse(&self) -> Result<()> {
        let given = [
            ("--target", self.target.is_some()),
            ("--floor", self.floor.is_some()),
            ("--round-to", self.round_to.is_some()),
        ];
        match given.into_iter().find(|(_, is_given)| *is_given) {
            Some((flag, _)) => Err(Error::usage(format!("{flag} is about channels or layers that leave, and none do"))
                .hint("--pattern channels, neurons, hidden or layers")),
            None => Ok(()),
        }
    }
}

impl PrunePass {
    /// The pass that takes channels or layers out, if the pattern is one of theirs; by what was found out on data, if it was.
    pub(super) fn structure(&self, given: Option<GivenImportance>) -> Result<Option<PruneStructure>> {
        let Some(structure) = Structure::parse(&self.pattern)? else { return Ok(None) };
        let refuse = |flag: &str| {
            Error::usage(format!("{flag} is about weights that become zero; with --pattern {structure} they leave"))
                .hint(format!("leave {flag} out"))
        };
        if self.store.is_some() {
            return Err(refuse("--store"));
        }
        if !self.rule.is_empty() {
            return Err(refuse("--rule"));
        }
        if self.select.tied == Tied::Both {
            return Err(refuse("--tied"));
        }
        if structure == Structure::Layers && self.structure.round_to.is_some() {
            return Err(
                Error::usage("--round-to is about widths, and --pattern layers leaves them").hint("leave it out")
            );
        }
        if self.sparsity.is_none() {
            let only_dead = "without --sparsity, channels leave that nothing but zeros write and read";
            for (flag, is_given) in [
                ("--pattern layers", structure == Structure::Layers),
                ("--criterion", self.criterion.is_some()),
                ("--target", self.structure.target.is_some()),
                ("--scope", self.scope.is_some()),
            ] {
                if is_given {
                    return Err(Error::usage(format!("{flag} needs a sparsity: {only_dead}")).hint("--sparsity 0.5"));
                }
            }
        }
        let criterion = self.criterion.as_deref().unwrap_or("l2");
        let weigh = match given {
            Some(given) => Weigh::Given(given),
            None if Salience::named(criterion).is_some() => {
                return Err(Error::usage(format!("criterion `{criterion}` looks at data, and there are none"))
                    .hint("--data D.safetensors; recipes go by weights alone"));
            }
            None => Weigh::Weights(importance_named(criterion)?),
        };
        let is_seeded = matches!(&weigh, Weigh::Weights(by) if by.is_seeded());
        self.refuse_seed(criterion, is_seeded)?;
        let selection = self.select.selection()?;
        PruneStructure::new(StructureOptions {
            structure,
            sparsity: self.sparsity,
            target: match self.structure.target.unwrap_or(TargetName::Params) {
                TargetName::Params => Target::Parameters,
                TargetName::Flops => Target::MultiplyAdds,
                TargetName::Size => Target::Bytes,
                TargetName::Width => Target::Width,
            },
            scope: self.scope.map(PruneScope::from),
            floor: self.structure.floor,
            round_to: self.structure.round_to.map_or(1, usize::from),
            weigh,
            include: selection.include,
            exclude: selection.exclude,
            allow_nonfinite: self.select.allow_nonfinite,
            seed: self.seed.unwrap_or(0),
        })
        .map(Some)
    }
}

/// The coupling graph as SVG.
fn drawn(report: &StructureReport) -> String {
    let module = |tensor: &str| tensor.rsplit_once('.').map_or(tensor, |(module, _)| module).to_owned();
    let mut layers: Vec<String> = report.layers.iter().map(|own| own.layer.clone()).collect();
    let members = || report.groups.iter().flat_map(|group| &group.members);
    // Layers of a stack share a module, and a layer may hold several.
    layers.retain(|layer| members().any(|member| module(&member.tensor) == *layer));
    for member in members() {
        if !layers.contains(&module(&member.tensor)) {
            layers.push(module(&member.tensor));
        }
    }
    let groups = report.groups.iter().map(|group| {
        let stop = |member: &MemberChange| {
            let stop = match member.part {
                "writes" => Stop::Writes,
                "reads" => Stop::Reads,
                _ => Stop::Follows,
            };
            Some((layers.iter().position(|layer| *layer == module(&member.tensor))?, stop))
        };
        let mut stops: Vec<(usize, Stop)> = group.members.iter().filter_map(stop).collect();
        stops.sort_unstable();
        stops.dedup();
        // A bias goes with the weight that writes.
        let writers: Vec<usize> = stops.iter().filter(|(_, stop)| *stop == Stop::Writes).map(|(row, _)| *row).collect();
        stops.retain(|(row, stop)| *stop != Stop::Follows || !writers.contains(row));
        CoupledChannels {
            channels: [group.channels_before, group.channels_after],
            is_fixed: group.fixed.is_some(),
            stops,
        }
    });
    coupling_svg(&layers, &groups.collect::<Vec<_>>())
}

/// Tells what left, and what that cost.
pub(super) struct Leaving<'a> {
    pub(super) pass: &'a PruneStructure,
    pub(super) graph: Option<&'a Path>,
    pub(super) afterwards: Afterwards<'a>,
}

impl Telling for Leaving<'_> {
    fn explain(&self) -> String {
        self.pass.report().map(|report| report.explain()).unwrap_or_default()
    }

    fn finish(&self, _outcome: &Outcome) -> Result<()> {
        self.afterwards.run(self.pass.report())
    }

    fn table(&self) -> String {
        let own = self.pass.report().map(|report| tables::structure(&report)).unwrap_or_default();
        own + &self.afterwards.table()
    }

    fn report(&self) -> Map<String, Value> {
        let report = self.pass.report().and_then(|report: StructureReport| serde_json::to_value(report).ok());
        let own = report.into_iter().map(|report| ("structure".to_owned(), report));
        own.chain(self.afterwards.report()).collect()
    }

    fn write(&self) -> Result<()> {
        match (self.graph, self.pass.report()) {
            (Some(path), Some(report)) => std::fs::write(path, drawn(&report)).at(path.display()),
            _ => Ok(()),
        }
    }
}
