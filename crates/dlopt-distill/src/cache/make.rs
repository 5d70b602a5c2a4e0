//! Asking a teacher once for all: in parts that are kept as they come, so that a run that was killed goes on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dlopt_augment::Augmenter;
use dlopt_checkpoint::{
    Checkpoint, Dtype, Error, Header, NewFile, Result, TensorInfo, Tensors, make_folder, write_file,
};
use dlopt_data::{Dataset, Loader, batches};
use half::f16;
use half::slice::HalfFloatSliceExt;

use super::facts::{Facts, KEY};
use super::top;
use crate::teacher::{Said, Teacher};

/// Rows of a part.
const PART_ROWS: usize = 8192;

/// How a cache is made.
pub struct Making<'a> {
    /// The data.
    pub dataset: &'a Arc<Dataset>,
    /// What changes the samples, if something does.
    pub augmenter: Option<&'a Augmenter>,
    /// Samples that the teacher is asked at once.
    pub batch: usize,
    /// Threads that change samples.
    pub threads: usize,
    /// Where parts are kept until all are there.
    pub folder: &'a Path,
    /// Set from outside to end the work; parts stay.
    pub stop: &'a AtomicBool,
    /// Told the rows that are done.
    pub progress: &'a mut dyn FnMut(usize),
}

/// Asks `teacher` about every row of the cache that `facts` describe, and writes it to `path`, which appears whole or not
/// at all. What an earlier run of the same cache left is used.
///
/// # Errors
/// When data or disk fail, an answer is no number or does not fit into 16 bits, or the work was stopped.
pub fn make(path: &Path, facts: &Facts, teacher: &mut Teacher, making: &mut Making<'_>, force: bool) -> Result<()> {
    if path.exists() && !force {
        return Err(Error::input(format!("{}: exists", path.display())).hint("--force replaces it"));
    }
    make_folder(making.folder)?;
    let text = facts.text();
    let samples: Vec<usize> = facts.samples.iter().flat_map(|[begin, end]| *begin..*end).collect();
    let mut parts = Vec::new();
    let mut done = 0;
    for view in 0..facts.views {
        for part in samples.chunks(PART_ROWS) {
            let name = making.folder.join(format!("answers-{:06}.safetensors", parts.len()));
            if !is_of(&name, &text, part.len()) {
                let tensors = answers(facts, teacher, making, view, part)?;
                let header = header(facts, &text, part.len());
                write_file(&name, &header, &tensors, true)?;
            }
            done += part.len();
            (making.progress)(done);
            parts.push(name);
            if making.stop.load(Ordering::Relaxed) {
                return Err(Error::interrupted(format!("stopped after {done} answers of the teacher"))
                    .hint("the same command with --resume goes on from there"));
            }
        }
    }
    join(path, &header(facts, &text, facts.rows()), &parts, force)
}

/// Whether a part of these facts is there.
fn is_of(path: &Path, text: &str, rows: usize) -> bool {
    let Ok(checkpoint) = Checkpoint::open(path) else { return false };
    let header = &checkpoint.header;
    header.metadata.get(KEY).is_some_and(|found| found == text)
        && header.tensors.first().is_some_and(|tensor| tensor.shape.first() == Some(&rows))
}

/// The header of a cache, or of a part of it.
pub(super) fn header(facts: &Facts, text: &str, rows: usize) -> Header {
    let float = if facts.keeping.is_half { Dtype::F16 } else { Dtype::F32 };
    let steps = facts.outputs / facts.width.max(1);
    let mut header = Header::default();
    header.metadata.insert("format".to_owned(), "pt".to_owned());
    header.metadata.insert(KEY.to_owned(), text.to_owned());
    let mut put = |name: String, dtype: Dtype, shape: &[usize]| {
        header.tensors.push(TensorInfo::new(name, dtype, shape));
    };
    // Widest type first, so that every tensor begins at a multiple of its element size.
    match facts.keeping.top {
        None => put("logits".to_owned(), float, &[rows, steps, facts.width]),
        Some(top) => {
            let count = top.count.min(facts.width);
            put("top.classes".to_owned(), Dtype::U32, &[rows, steps, count]);
            put("top.rest".to_owned(), Dtype::F32, &[rows, steps]);
            put("top.logits".to_owned(), float, &[rows, steps, count]);
        }
    }
    for (name, [height, width, channels]) in &facts.layers {
        put(format!("feature.{name}"), float, &[rows, *height, *width, *channels]);
    }
    header
}

/// The tensors of a part.
fn answers(
    facts: &Facts,
    teacher: &mut Teacher,
    making: &Making<'_>,
    view: u64,
    samples: &[usize],
) -> Result<Vec<Vec<u8>>> {
    let passes: Vec<Vec<usize>> = batches(samples.to_vec(), making.batch.max(1)).collect();
    let mut loader = match making.augmenter {
        None => Loader::new(Arc::clone(making.dataset), passes, 2),
        Some(augmenter) => {
            let augmenter = augmenter.in_round(view);
            Loader::changing(making.dataset, passes, 2 * making.threads.max(2), &augmenter, making.threads)
        }
    };
    let mut said = Said::default();
    let (mut logits, mut classes, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    let mut features = vec![Vec::new(); facts.layers.len()];
    while let Some(batch) = loader.next() {
        let batch = batch?;
        teacher.say(&batch, &mut said)?;
        match facts.keeping.top {
            None => logits.extend_from_slice(&said.outputs),
            Some(top) => {
                for row in said.outputs.chunks_exact(facts.width.max(1)) {
                    rest.push(top::split(row, top, &mut logits, &mut classes));
                }
            }
        }
        for (all, own) in features.iter_mut().zip(&said.features) {
            all.extend_from_slice(own);
        }
        loader.give_back(batch);
    }
    let mut tensors = Vec::new();
    if facts.keeping.top.is_some() {
        tensors.push(classes.iter().flat_map(|class: &u32| class.to_le_bytes()).collect());
        tensors.push(rest.iter().flat_map(|value: &f32| value.to_le_bytes()).collect());
    }
    for values in std::iter::once(&logits).chain(&features) {
        tensors.push(bytes(values, facts.keeping.is_half)?);
    }
    Ok(tensors)
}

fn bytes(values: &[f32], is_half: bool) -> Result<Vec<u8>> {
    if !is_half {
        return Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect());
    }
    if let Some(large) = values.iter().find(|value| value.abs() > f32::from(f16::MAX)) {
        return Err(Error::input(format!("the teacher says {large}, and 16 bits hold {} at most", f16::MAX))
            .hint("--cache-dtype f32"));
    }
    let mut halves = vec![f16::ZERO; values.len()];
    halves.convert_from_f32_slice(values);
    Ok(halves.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// One file of all parts, tensor by tensor.
fn join(path: &Path, header: &Header, parts: &[std::path::PathBuf], force: bool) -> Result<()> {
    let head = header.to_bytes()?;
    let file = NewFile::create(path, head.len() as u64 + header.data_bytes(), force)?;
    file.write_at(0, &head)?;
    let mut at: Vec<u64> = header.offsets().into_iter().map(|offset| head.len() as u64 + offset).collect();
    let mut bytes = Vec::new();
    for part in parts {
        let part = Checkpoint::open(part)?;
        for (tensor, at) in at.iter_mut().enumerate() {
            bytes.resize(part.header.tensors[tensor].bytes() as usize, 0);
            part.read(tensor, 0, &mut bytes)?;
            file.write_at(*at, &bytes)?;
            *at += bytes.len() as u64;
        }
    }
    file.finish()?;
    for part in parts {
        // The cache is whole: what is left of its parts is only clutter.
        let _ = std::fs::remove_file(part);
    }
    Ok(())
}
