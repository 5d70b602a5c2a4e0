//! Which kernels a network runs on: flags of the verbs that run one, and what was chosen.

use std::sync::Arc;

use clap::{Args, ValueEnum};
use dlopt_checkpoint::{Checkpoint, Error, Result};
use dlopt_kernels::nn::Team;
use dlopt_kernels::{Level, highest_level, limit_level};
use dlopt_model::{Arithmetic, Execution, Kernels, Prepared, prepare};
use dlopt_train::Engine;

use crate::messages;
use crate::tables::{columns, grouped};

/// How the network runs.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct KernelArgs {
    /// Kernels of the layers: the fastest here (auto), the same and say for each layer which and why (explain), those of f32
    /// on decoded weights (dense), or those that take the least memory (compressed)
    #[arg(long, value_enum, default_value_t = KernelChoice::Auto, hide_possible_values = false)]
    kernels: KernelChoice,

    /// Activations in products with weights that are stored as integers: as the scheme says (stored: int8 for W8A8), f32
    /// (float), or int8 with a scale a row: a little less exact; faster where the machine multiplies integers faster
    #[arg(long, value_enum, default_value_t = ActivationChoice::Stored)]
    activations: ActivationChoice,

    /// Instruction set of the kernels: portable, avx2, avx512 or amx; no result depends on it [default: the widest here]
    #[arg(long, value_parser = instructions, value_name = "SET")]
    instructions: Option<Level>,
}

/// The instruction set of a name.
fn instructions(name: &str) -> std::result::Result<Level, String> {
    let found = Level::ALL.into_iter().find(|level| level.name() == name);
    found.ok_or_else(|| format!("there are {}", Level::ALL.map(Level::name).join(", ")))
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum KernelChoice {
    Auto,
    Explain,
    Dense,
    Compressed,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum ActivationChoice {
    Stored,
    Float,
    Int8,
}

impl KernelArgs {
    /// Reads a checkpoint to be run on `device` with so many samples at a time, and says what was chosen where that is
    /// asked for.
    pub(crate) fn prepare(
        self,
        checkpoint: &Checkpoint,
        batch: usize,
        device: &str,
        team: &Arc<Team>,
    ) -> Result<Prepared> {
        if let Some(asked) = self.instructions {
            refuse_missing(asked, highest_level())?;
            limit_level(Some(asked));
        }
        let is_default = self.kernels == KernelChoice::Auto && self.activations == ActivationChoice::Stored;
        if device != "cpu" && !is_default {
            return Err(Error::usage("--kernels and --activations are for the CPU").hint("--device cpu"));
        }
        let execution = Execution {
            kernels: match self.kernels {
                _ if device != "cpu" => Kernels::Dense,
                KernelChoice::Auto | KernelChoice::Explain => Kernels::Auto,
                KernelChoice::Dense => Kernels::Dense,
                KernelChoice::Compressed => Kernels::Compressed,
            },
            arithmetic: match self.activations {
                ActivationChoice::Stored => Arithmetic::Stored,
                ActivationChoice::Float => Arithmetic::Float,
                ActivationChoice::Int8 => Arithmetic::Int8,
            },
            batch,
            folds: device == "cpu",
        };
        let prepared = prepare(checkpoint, &execution, team)?;
        if self.kernels == KernelChoice::Explain {
            messages::tell(&explain(&prepared, &checkpoint.name, batch, team.threads()));
        }
        Ok(prepared)
    }
}

/// Refuses an instruction set beyond the widest of the machine.
fn refuse_missing(asked: Level, highest: Level) -> Result<()> {
    if asked <= highest {
        return Ok(());
    }
    let (asked, highest) = (asked.name(), highest.name());
    Err(Error::usage(format!("--instructions {asked}: this CPU lacks it; the widest here is {highest}"))
        .hint(format!("--instructions {highest}, or leave the flag out")))
}

/// An engine for it.
pub(crate) fn engine(prepared: &Prepared, device: &str, team: &Arc<Team>) -> Result<Engine> {
    let loaded = &prepared.loaded;
    let mut engine = match device {
        "cpu" => Engine::holding(prepared, Arc::clone(team), &[]),
        other => {
            let is_frozen = vec![false; loaded.layout.nodes.len()];
            Engine::new(other, &loaded.nodes, &loaded.layout, &is_frozen, Arc::clone(team))?
        }
    };
    engine.load(&loaded.params, false)?;
    Ok(engine)
}

/// What each layer got and why, and what it takes in memory.
fn explain(prepared: &Prepared, name: &str, batch: usize, threads: usize) -> String {
    let level = dlopt_kernels::level().name();
    let rows: Vec<Vec<String>> = prepared
        .choices
        .iter()
        .map(|choice| {
            let time = |microseconds: f64| match microseconds {
                0.0 => "-".to_owned(),
                some => format!("{some:.1}"),
            };
            let size = |bytes: usize| if bytes == 0 { "-".to_owned() } else { grouped(bytes as u64) };
            let gain = match choice.microseconds {
                0.0 => "-".to_owned(),
                own => format!("{:.2}x", choice.dense_microseconds / own),
            };
            vec![
                choice.layer.clone(),
                choice.stored.clone(),
                choice.kernel.clone(),
                time(choice.microseconds),
                time(choice.dense_microseconds),
                gain,
                size(choice.bytes),
                size(choice.dense_bytes),
                choice.reason.clone(),
            ]
        })
        .collect();
    let mut text = format!("{name}: kernels for batches of {batch} on {threads} threads, {level}\n");
    text.push_str(&columns(&["layer", "stored", "kernel", "µs", "f32 µs", "gain", "bytes", "f32 bytes", "why"], &rows));
    if prepared.folded > 0 {
        text.push_str(&format!("{} batch norms went into the layers before them\n", prepared.folded));
    }
    text.push_str(&format!(
        "weights in memory: {} bytes; as f32 {}\n",
        grouped(prepared.bytes() as u64),
        grouped(prepared.dense_bytes as u64)
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_set_beyond_the_machine_is_refused_with_what_it_has() {
        assert!(refuse_missing(Level::Portable, Level::Portable).is_ok());
        assert!(refuse_missing(Level::Avx2, Level::Avx512).is_ok());
        let error = refuse_missing(Level::Amx, Level::Avx2).expect_err("AMX is beyond AVX2");
        assert_eq!(error.message(), "--instructions amx: this CPU lacks it; the widest here is avx2");
    }
}
