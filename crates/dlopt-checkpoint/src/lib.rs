//! Checkpoints of dlopt: what lies on disk, how it moves, and the contract of a pass.

mod dtype;
mod error;
mod header;
mod history;
mod layers;
mod layout;
mod order;
mod pass;
mod report;
mod select;

pub use dtype::{DTYPES, Dtype, alignment_bytes, dtype_name, dtype_named, is_weight_float, tensor_bytes};
pub use error::{Context, Error, Fault, Result};
pub use header::{Header, MAX_HEADER_BYTES, TensorInfo, header_text_bytes};
pub use history::{HISTORY_KEY, HistoryEntry, extend_history, header_digest, hex, read_history};
pub use layers::{Layer, LayerKind, Model};
pub use layout::{LAYOUT_KEY, StoredTensor, layout_text, read_layout};
pub use order::{Ordered, align, order_plan};
pub use pass::{
    Block, COPY_ROW_BYTES, Decision, Note, Output, Partial, Pass, Plan, Read, RowReport, Scope, Span, Step, Unit, Write,
};
pub use report::{PassReport, TensorReport, relative_error, sqnr_db};
pub use select::{Choice, NameGlob, Selection, must_match};
