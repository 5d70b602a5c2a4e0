//! The columns of a table.

use dlopt_checkpoint::{Error, Result};

/// The columns of a table.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    /// What they are called; empty when the first line does not say.
    pub(super) names: Vec<String>,
    /// How many there are.
    pub(super) count: usize,
}

impl Columns {
    /// The column of a name, or of a number from 1 on.
    ///
    /// # Errors
    /// When there is none; those there are are listed.
    pub(super) fn find(&self, name: &str) -> Result<usize> {
        if let Some(at) = self.names.iter().position(|own| own == name) {
            return Ok(at);
        }
        if let Ok(number) = name.parse::<usize>()
            && (1..=self.count).contains(&number)
        {
            return Ok(number - 1);
        }
        if self.names.is_empty() {
            let message =
                format!("no column `{name}`: the columns have no names, and are numbered 1 to {}", self.count);
            return Err(Error::usage(message).hint("--header yes, if the first line holds the names"));
        }
        Err(super::no_such("column", name, &self.names))
    }

    /// A column in messages.
    pub(super) fn name(&self, column: usize) -> String {
        match self.names.get(column) {
            Some(name) => format!("column `{name}`"),
            None => format!("column {}", column + 1),
        }
    }
}
