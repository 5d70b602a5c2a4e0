//! Any checkpoint as dense tensors.

use dlopt_checkpoint::{Checkpoint, Error, Header, Pass, Resources, Result, Tensors, View};
use dlopt_prune::Densify;
use dlopt_quantize::Dequantize;

/// The passes that undo every way of storing weights that dlopt knows, in the order they are undone.
fn decoders() -> Vec<Box<dyn Pass>> {
    vec![Box::new(Densify), Box::new(Dequantize)]
}

/// A checkpoint as dense tensors; its errors name the file.
pub(crate) struct Decoded<'a> {
    view: View<'a>,
    name: &'a str,
}

impl Tensors for Decoded<'_> {
    fn header(&self) -> &Header {
        self.view.header()
    }

    fn read(&self, tensor: usize, offset: u64, into: &mut [u8]) -> Result<()> {
        self.view.read(tensor, offset, into).map_err(|e| named(e, self.name))
    }
}

/// Calls `work` with the checkpoint as dense tensors; no weight is read before `work` asks for it.
///
/// # Errors
/// When the checkpoint says it is compressed and cannot be decoded, and those of `work`.
pub(crate) fn decoded<R>(checkpoint: &Checkpoint, work: impl FnOnce(&Decoded<'_>) -> Result<R>) -> Result<R> {
    let view = |e| named(e, &checkpoint.name);
    let passes = decoders();
    let passes: Vec<&dyn Pass> = passes.iter().map(|p| &**p).collect();
    let view = View::new(checkpoint, &passes).map_err(view)?;
    work(&Decoded { view, name: &checkpoint.name })
}

/// Calls `work` with what is quantized still in codes, and everything else dense.
///
/// # Errors
/// As [`decoded`].
pub(crate) fn densified<R>(checkpoint: &Checkpoint, work: impl FnOnce(&Decoded<'_>) -> Result<R>) -> Result<R> {
    let view = View::new(checkpoint, &[&Densify]).map_err(|e| named(e, &checkpoint.name))?;
    work(&Decoded { view, name: &checkpoint.name })
}

/// Puts the file in front, unless the message names it already.
fn named(error: Error, name: &str) -> Error {
    if error.message().contains(name) { error } else { error.within(name) }
}

/// Makes a checkpoint readable in any order: a stream is taken into a temporary file.
///
/// # Errors
/// When the stream ends early, goes on after its tensors, or the disk is full.
pub(crate) fn make_readable(checkpoint: &Checkpoint, resources: &Resources<'_>) -> Result<()> {
    if let Some(stream) = checkpoint.stream() {
        stream.spool_all(&resources.tmp_dir)?;
        stream.finish()?;
    }
    Ok(())
}
