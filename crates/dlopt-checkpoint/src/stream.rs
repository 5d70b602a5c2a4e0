//! A checkpoint that arrives through a pipe: read once, in order; what must be read again is spooled.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

use crate::error::{Context, Error, Result};
use crate::header::{Header, header_text_bytes};

/// The tensors of a stream, behind its header.
pub struct Stream {
    name: String,
    names: Vec<String>,
    offsets: Vec<u64>,
    total: u64,
    state: Mutex<State>,
}

struct State {
    reader: Box<dyn Read + Send>,
    /// How many data bytes were taken from the stream.
    position: u64,
    /// Spooled bytes lie at their own offsets; everything in `kept` is there.
    spool: Option<File>,
    kept: Vec<(u64, u64)>,
}

impl Stream {
    /// Reads the header.
    pub(crate) fn open(mut reader: Box<dyn Read + Send>, name: String) -> Result<(Header, Self)> {
        let mut first = [0; 8];
        let got = read_up_to(&mut reader, &mut first).at(&name)?;
        if got < 8 {
            return Err(Error::input(format!("{name}: the stream ended after {got} bytes, before any header"))
                .hint("the command before it in the pipe failed, or gave no input: name a file or a folder"));
        }
        let length = header_text_bytes(first, None).map_err(|e| e.within(&name))?;
        // Grows as bytes arrive, so that a wrong length allocates nothing.
        let mut text = Vec::new();
        (&mut reader).take(length as u64).read_to_end(&mut text).at(&name)?;
        if text.len() < length {
            return Err(Error::input(format!(
                "{name}: the stream ended at byte {}, inside its header of {length} bytes",
                8 + text.len()
            )));
        }
        let header = Header::from_text(&text, None).map_err(|e| e.within(&name))?;
        let stream = Self {
            name,
            names: header.tensors.iter().map(|t| t.name.clone()).collect(),
            offsets: header.offsets(),
            total: header.data_bytes(),
            state: Mutex::new(State { reader, position: 0, spool: None, kept: Vec::new() }),
        };
        Ok((header, stream))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes the rest of the stream into a temporary file, so that it can be read in any order.
    ///
    /// # Errors
    /// When the stream ends early or the disk is full.
    pub fn spool_all(&self, dir: &Path) -> Result<()> {
        self.spool(0..self.total, dir)
    }

    /// Takes a byte range of the data into a temporary file. Bytes before it that were not read are dropped.
    ///
    /// # Errors
    /// When the stream ends early or the disk is full.
    pub fn spool(&self, range: std::ops::Range<u64>, dir: &Path) -> Result<()> {
        let mut state = self.state();
        self.skip_to(&mut state, range.start)?;
        if state.spool.is_none() {
            state.spool = Some(tempfile::tempfile_in(dir).at(dir.display())?);
        }
        let mut buffer = vec![0; 1 << 20];
        let begin = state.position;
        while state.position < range.end {
            let wanted = buffer.len().min((range.end - state.position) as usize);
            self.take(&mut state, &mut buffer[..wanted])?;
            let at = state.position - wanted as u64;
            let spool = state.spool.as_ref().expect("made above");
            spool.write_all_at(&buffer[..wanted], at).at(format!("spooling {} in {}", self.name, dir.display()))?;
        }
        let end = state.position;
        state.kept.push((begin, end));
        Ok(())
    }

    /// Forgets what was spooled, keeping the disk small; called between units.
    ///
    /// # Errors
    /// When the temporary file cannot be cut.
    pub fn drop_spool(&self) -> Result<()> {
        let mut state = self.state();
        if let Some(spool) = &state.spool {
            spool.set_len(0).at(&self.name)?;
        }
        state.kept.clear();
        Ok(())
    }

    /// Reads bytes that are spooled, or that the stream has yet to bring.
    pub(crate) fn read(&self, tensor: usize, offset: u64, into: &mut [u8]) -> Result<()> {
        let begin = self.offsets[tensor] + offset;
        let end = begin + into.len() as u64;
        let mut state = self.state();
        if state.kept.iter().any(|&(from, to)| from <= begin && end <= to) {
            let spool = state.spool.as_ref().expect("kept ranges are spooled");
            return spool.read_exact_at(into, begin).at(format!("{}: tensor `{}`", self.name, self.names[tensor]));
        }
        if begin < state.position && !into.is_empty() {
            return Err(Error::input(format!(
                "{}: tensor `{}` was needed again after the stream had passed it",
                self.name, self.names[tensor]
            ))
            .hint("write the input to a file first; this is a fault of dlopt"));
        }
        self.skip_to(&mut state, begin)?;
        self.take(&mut state, into)
    }

    /// Takes what is left and refuses bytes behind the last tensor.
    ///
    /// # Errors
    /// When the stream ends early, or goes on.
    pub fn finish(&self) -> Result<()> {
        let mut state = self.state();
        self.skip_to(&mut state, self.total)?;
        let mut more = [0; 1];
        match read_up_to(&mut state.reader, &mut more).at(&self.name)? {
            0 => Ok(()),
            _ => Err(Error::input(format!(
                "{}: the tensors take {} bytes, the stream goes on after them",
                self.name, self.total
            ))),
        }
    }

    fn skip_to(&self, state: &mut State, position: u64) -> Result<()> {
        let mut buffer = vec![0; (1 << 20).min(position.saturating_sub(state.position) as usize)];
        while state.position < position {
            let wanted = buffer.len().min((position - state.position) as usize);
            self.take(state, &mut buffer[..wanted])?;
        }
        Ok(())
    }

    fn take(&self, state: &mut State, into: &mut [u8]) -> Result<()> {
        let got = read_up_to(&mut state.reader, into).at(&self.name)?;
        state.position += got as u64;
        if got == into.len() {
            return Ok(());
        }
        let tensor = self.offsets.partition_point(|&o| o <= state.position).saturating_sub(1);
        Err(Error::input(format!(
            "{}: the stream ended at byte {} of {} of the data, inside tensor `{}`",
            self.name,
            state.position,
            self.total,
            self.names.get(tensor).map_or("", String::as_str)
        ))
        .hint("the command before it in the pipe failed, or the file was cut short"))
    }
}

fn read_up_to(reader: &mut impl Read, into: &mut [u8]) -> std::io::Result<usize> {
    let mut got = 0;
    while got < into.len() {
        match reader.read(&mut into[got..]) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}
