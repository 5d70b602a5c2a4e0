//! Checkpoints of dlopt: what lies on disk, how it moves, and the contract of a pass.

mod buffers;
mod carry;
mod chain;
mod cleanup;
mod companions;
mod dtype;
mod error;
mod execute;
mod header;
mod history;
mod import;
mod job;
mod layers;
mod layout;
mod new_file;
mod order;
mod pass;
mod place;
mod report;
mod select;
mod sink;
mod source;
mod stream;
mod tensors;
mod view;

pub use carry::Carry;
pub use cleanup::remove_temporary_paths;
pub use companions::{Companions, Content, FILES_KEY, MAX_EMBEDDED_BYTES, check_relative};
pub use dtype::{DTYPES, Dtype, alignment_bytes, dtype_name, dtype_named, is_weight_float, tensor_bytes};
pub use error::{Context, Error, Fault, Result};
pub use execute::{NoProgress, Progress, Resources};
pub use header::{Header, MAX_HEADER_BYTES, TensorInfo, header_text_bytes};
pub use history::{HISTORY_KEY, HistoryEntry, extend_history, header_digest, hex, read_history};
pub use import::{Imported, open_import, open_import_folder};
pub use job::{Job, JobPlan, Outcome, PlannedFile, PlannedPass, PlannedTensor, Target};
pub use layers::{Layer, LayerKind, Model};
pub use layout::{LAYOUT_KEY, StoredTensor, layout_text, read_layout};
pub use new_file::{NewFile, NewFolder, make_folder, write_bytes, write_file};
pub use order::{Ordered, align, order_plan};
pub use pass::{
    Block, COPY_ROW_BYTES, Decision, Note, Output, Partial, Pass, Plan, Read, RowReport, Scope, Span, Step, Unit, Write,
};
pub use report::{PassReport, TensorReport, relative_error, sqnr_db};
pub use select::{Choice, NameGlob, Selection, must_match};
pub use source::Checkpoint;
pub use stream::Stream;
pub use tensors::Tensors;
pub use view::View;
