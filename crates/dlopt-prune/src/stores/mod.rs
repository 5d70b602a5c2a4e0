//! Stores: how what is left lies on disk.

pub(crate) mod bitmask;
pub(crate) mod dense;

use dlopt_checkpoint::{Error, Result};

use crate::{Plugin, names};

/// One line for each store.
static TABLE: [Plugin; 2] = [dense::PLUGIN, bitmask::PLUGIN];

/// The stores there are.
pub fn stores() -> &'static [Plugin] {
    &TABLE
}

/// How what is left lies on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Store {
    /// Zeros are written out.
    #[default]
    Dense,
    /// One bit for each weight, and the weights that are kept.
    Bitmask,
}

impl Store {
    /// The store of a name.
    ///
    /// # Errors
    /// When the table has none.
    pub fn named(name: &str) -> Result<Self> {
        [Self::Dense, Self::Bitmask].into_iter().find(|s| s.name() == name).ok_or_else(|| {
            Error::usage(format!("no store is named `{name}`")).hint(format!("one of {}", names(stores())))
        })
    }

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dense => dense::PLUGIN.name,
            Self::Bitmask => bitmask::PLUGIN.name,
        }
    }
}
