//! A checkpoint one can read from: a header, and any bytes of any tensor.

use crate::error::Result;
use crate::header::Header;

/// Something that has tensors: files, a spooled stream, or what a chain of passes would write.
pub trait Tensors: Send + Sync {
    /// Names, dtypes, shapes, metadata.
    fn header(&self) -> &Header;

    /// Fills `into` with the bytes of tensor `tensor` from byte `offset` on. Callable from many threads.
    ///
    /// # Errors
    /// When the bytes cannot be had; the message names file and tensor.
    fn read(&self, tensor: usize, offset: u64, into: &mut [u8]) -> Result<()>;
}
