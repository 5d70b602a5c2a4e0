//! A report of a sweep, for each reader: rows of figures, CSV, Markdown, and one page for a browser.

mod html;
mod rows;

pub use html::html;
pub use rows::{COLUMNS, csv, markdown, rows};
