//! What the command line and the documentation say of an algorithm.

/// Name, summary and source of an algorithm or format: one row of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plugin {
    /// Its name, as options and files spell it.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// Where it comes from.
    pub source: &'static str,
}
