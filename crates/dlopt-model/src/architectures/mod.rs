//! Networks that others made and trained, told by the names and shapes of their tensors: each becomes a config and a plan
//! of this crate, so that whatever runs and compresses dlopt's own networks runs and compresses them.

mod efficientnet_lite;
mod g2p;
mod silero;

use dlopt_checkpoint::Header;

use crate::config::ModelConfig;

/// A network of others.
#[derive(Clone, Copy, Debug)]
pub struct Architecture {
    /// What it is called.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// The config of the network that the tensors of a checkpoint make, if they are this one's; all of them are dense.
    recognize: fn(&Header) -> Option<ModelConfig>,
    /// Each tensor of the plan, and what the checkpoint calls it.
    names: &'static [(&'static str, &'static str)],
}

/// All of them.
pub const ARCHITECTURES: &[Architecture] = &[g2p::ARCHITECTURE, silero::ARCHITECTURE, efficientnet_lite::ARCHITECTURE];

impl Architecture {
    /// The one whose tensors a checkpoint holds, and its config.
    pub(crate) fn of(header: &Header) -> Option<(Self, ModelConfig)> {
        ARCHITECTURES.iter().find_map(|own| (own.recognize)(header).map(|config| (*own, config)))
    }

    /// What the plan calls a tensor of the checkpoint; names that it does not know stay as they are.
    pub(crate) fn name_of<'n>(&self, stored: &'n str) -> &'n str {
        self.names.iter().find(|(_, own)| *own == stored).map_or(stored, |(name, _)| name)
    }
}

/// The shape of a tensor, if the checkpoint has it.
fn shape<'h>(header: &'h Header, name: &str) -> Option<&'h [usize]> {
    header.tensors.iter().find(|tensor| tensor.name == name).map(|tensor| tensor.shape.as_slice())
}
