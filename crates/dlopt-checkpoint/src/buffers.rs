//! Buffers that are used again: blocks come and go, their memory stays.

use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

/// A pool of byte buffers, shared by all threads of a job.
#[derive(Default)]
pub(crate) struct Pool {
    free: Mutex<Vec<Vec<u8>>>,
}

/// A buffer on loan; it goes back when dropped.
pub(crate) struct Buffer<'p> {
    bytes: Vec<u8>,
    length: usize,
    pool: &'p Pool,
}

impl Pool {
    /// A buffer of `length` bytes with any content.
    pub(crate) fn take(&self, length: usize) -> Buffer<'_> {
        let mut free = self.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // The smallest that is large enough, else the largest, which grows.
        let fit = free.iter().enumerate().filter(|(_, b)| b.len() >= length).min_by_key(|(_, b)| b.len());
        let chosen = fit.or_else(|| free.iter().enumerate().max_by_key(|(_, b)| b.len())).map(|(i, _)| i);
        let mut bytes = chosen.map(|i| free.swap_remove(i)).unwrap_or_default();
        drop(free);
        if bytes.len() < length {
            bytes.resize(length, 0);
        }
        Buffer { bytes, length, pool: self }
    }
}

impl Deref for Buffer<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl DerefMut for Buffer<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length]
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.pool.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(bytes);
    }
}

/// Bytes that are lent from a window's cache, or own a buffer.
pub(crate) enum Bytes<'a> {
    /// A part of the cache.
    Borrowed(&'a [u8]),
    /// A buffer.
    Owned(Buffer<'a>),
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(buffer) => buffer,
        }
    }
}
