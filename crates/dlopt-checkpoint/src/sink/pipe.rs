//! An output stream: bytes leave in order; what comes early is held, or spooled when it exceeds the budget.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Mutex;

use super::Sink;
use crate::error::{Context, Error, Result};

/// A sink that writes to a stream.
pub(crate) struct PipeSink {
    state: Mutex<State>,
    held_most: usize,
    tmp_dir: PathBuf,
}

struct State {
    out: Box<dyn Write + Send>,
    next: u64,
    held: BTreeMap<u64, Vec<u8>>,
    held_bytes: usize,
    /// Buffers of pieces that have left, for pieces to come: fresh ones would be zeroed by the kernel each time.
    free: Vec<Vec<u8>>,
    /// Spooled pieces lie at their own offsets: begin → length.
    spooled: BTreeMap<u64, u64>,
    spool: Option<File>,
}

impl PipeSink {
    /// Writes to `out`, holding at most `held_most` bytes in memory.
    pub(crate) fn new(out: Box<dyn Write + Send>, held_most: usize, tmp_dir: PathBuf) -> Self {
        let state = State {
            out,
            next: 0,
            held: BTreeMap::new(),
            held_bytes: 0,
            free: Vec::new(),
            spooled: BTreeMap::new(),
            spool: None,
        };
        Self { state: Mutex::new(state), held_most, tmp_dir }
    }

    /// Hands over what is left. Everything must have come by now.
    pub(crate) fn finish(self, total: u64) -> Result<()> {
        let mut state = self.state.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        assert!(
            state.next == total && state.held.is_empty() && state.spooled.is_empty(),
            "every planned byte is written"
        );
        state.out.flush().map_err(closed)
    }
}

impl Sink for PipeSink {
    fn write(&self, _shard: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if offset != state.next {
            return state.hold(offset, bytes, self);
        }
        state.emit(bytes)?;
        state.drain()
    }

    fn is_ordered(&self) -> bool {
        true
    }
}

impl State {
    fn emit(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(closed)?;
        self.next += bytes.len() as u64;
        Ok(())
    }

    fn hold(&mut self, offset: u64, bytes: &[u8], sink: &PipeSink) -> Result<()> {
        if self.held_bytes + bytes.len() <= sink.held_most {
            self.held_bytes += bytes.len();
            let mut piece = self.free.pop().unwrap_or_default();
            piece.clear();
            piece.extend_from_slice(bytes);
            self.held.insert(offset, piece);
            return Ok(());
        }
        let dir = &sink.tmp_dir;
        if self.spool.is_none() {
            self.spool = Some(tempfile::tempfile_in(dir).at(dir.display())?);
        }
        let spool = self.spool.as_ref().expect("made above");
        spool.write_all_at(bytes, offset).at(format!("spooling in {}", dir.display()))?;
        self.spooled.insert(offset, bytes.len() as u64);
        Ok(())
    }

    /// Writes out everything that now follows.
    fn drain(&mut self) -> Result<()> {
        loop {
            if let Some(bytes) = self.held.remove(&self.next) {
                self.held_bytes -= bytes.len();
                self.emit(&bytes)?;
                self.free.push(bytes);
            } else if let Some(length) = self.spooled.remove(&self.next) {
                let mut buffer = vec![0; (1 << 20).min(length as usize)];
                let end = self.next + length;
                while self.next < end {
                    let wanted = buffer.len().min((end - self.next) as usize);
                    let spool = self.spool.as_ref().expect("spooled pieces have a spool");
                    spool.read_exact_at(&mut buffer[..wanted], self.next).at("reading the spool back")?;
                    self.emit(&buffer[..wanted])?;
                }
            } else {
                return Ok(());
            }
        }
    }
}

fn closed(e: std::io::Error) -> Error {
    if e.kind() == ErrorKind::BrokenPipe {
        return Error::interrupted("the command that was to read the checkpoint closed the pipe; it is cut short");
    }
    let written: std::io::Result<()> = Err(e);
    written.at("standard output").expect_err("made from an error")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Collected(Arc<Mutex<Vec<u8>>>);

    impl Write for Collected {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn pieces_leave_in_order_whether_held_or_spooled() {
        for held_most in [0, 3, 100] {
            let out = Collected::default();
            let sink = PipeSink::new(Box::new(out.clone()), held_most, std::env::temp_dir());
            sink.write(0, 6, b"6789").unwrap();
            sink.write(0, 3, b"345").unwrap();
            sink.write(0, 0, b"012").unwrap();
            sink.finish(10).unwrap();
            assert_eq!(*out.0.lock().unwrap(), b"0123456789");
        }
    }
}
