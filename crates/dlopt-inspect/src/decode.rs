//! Any checkpoint as dense tensors.

use dlopt_checkpoint::{Checkpoint, Error, Header, LAYOUT_KEY, Pass, Resources, Result, Tensors, View};
use dlopt_prune::Densify;
use dlopt_quantize::Dequantize;

/// The passes that undo every way of storing weights that dlopt knows, in the order they are undone; none for a header
/// in which nothing looks compressed, since planning takes its time where tensors are many.
fn decoders(header: &Header) -> Vec<Box<dyn Pass>> {
    const PARTS: [&str; 6] = ["_packed", "_scale", "_zero_point", "compressed", "bitmask", "qweight"];
    let is_plain = !header.metadata.contains_key(LAYOUT_KEY)
        && !header.metadata.get("config").is_some_and(|config| config.contains("quantization_config"))
        && !header.tensors.iter().any(|t| PARTS.iter().any(|part| t.name.ends_with(part)));
    if is_plain { Vec::new() } else { vec![Box::new(Densify), Box::new(Dequantize)] }
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
    let passes = decoders(&checkpoint.header);
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
