//! `dlopt unpack`: what was packed, bit for bit.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::Args;
use dlopt_checkpoint::{Context, Error, NewFile, NewFolder, Progress, Result};
use dlopt_pack::{PackedFile, Unpacker};
use serde::Serialize;

use super::pack::ContainerArgs;
use crate::job::check_files;
use crate::progress::Bar;
use crate::streams;
use crate::tables;

/// Standard output is written in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;

const EXAMPLES: &str = "\
Examples:
  dlopt unpack model.dlpk -o model/               a folder that was packed
  dlopt unpack small.dlpk -o small.safetensors    a file
  dlopt unpack small.dlpk | dlopt eval - --data d.safetensors";

/// Give back what `dlopt pack` packed, bit for bit
///
/// Checksums of all blocks are checked; nothing appears under the output's name before all of it is right.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UnpackArgs {
    /// A packed file, or - for standard input
    #[arg(value_name = "IN")]
    input: Option<PathBuf>,

    #[command(flatten)]
    container: ContainerArgs,
}

/// What was unpacked.
#[derive(Serialize)]
struct Unpacked {
    files: u64,
    bytes: u64,
    seconds: f64,
}

pub(super) fn run(args: &UnpackArgs, stop: &Arc<AtomicBool>) -> Result<ExitCode> {
    let container = &args.container;
    let replaced = container.path().filter(|path| path.exists());
    check_files(&[("-o", replaced)], &[args.input.as_deref()])?;
    let (reader, name): (Box<dyn Read>, String) = match args.input.as_deref().filter(|path| *path != Path::new("-")) {
        Some(path) => (Box::new(File::open(path).at(path.display())?), path.display().to_string()),
        None => (Box::new(streams::stdin_for_checkpoint()?), "standard input".to_owned()),
    };
    let mut unpacker = Unpacker::open(reader, &name, container.threads())?;
    let bar = Bar::new(container.quiet);
    let mut work =
        Work { unpacker: &mut unpacker, bar: &bar, stop, done: Unpacked { files: 0, bytes: 0, seconds: 0.0 } };
    let began = Instant::now();
    match container.path() {
        Some(path) if work.unpacker.is_folder() => work.folder(path, container.force)?,
        Some(path) => work.file(path, container.force)?,
        None if work.unpacker.is_folder() => {
            return Err(Error::usage(format!("{name}: holds a folder, which has no place on standard output"))
                .hint("-o FOLDER writes it"));
        }
        None => work.stream()?,
    }
    bar.clear();
    let done = Unpacked { seconds: began.elapsed().as_secs_f64(), ..work.done };
    container.tell(&done, &tables::unpacked(done.files, done.bytes, done.seconds))?;
    Ok(ExitCode::SUCCESS)
}

struct Work<'a, R> {
    unpacker: &'a mut Unpacker<R>,
    bar: &'a Bar,
    stop: &'a AtomicBool,
    done: Unpacked,
}

impl<R: Read> Work<'_, R> {
    fn folder(&mut self, path: &Path, force: bool) -> Result<()> {
        let mut folder = NewFolder::create(path, force)?;
        while let Some(PackedFile { name, bytes }) = self.unpacker.next_file()? {
            let name = name.unwrap_or_default();
            folder.file(&name, bytes, |file| self.bytes(bytes, file, &path.join(&name).display().to_string()))?;
        }
        folder.finish()
    }

    fn file(&mut self, path: &Path, force: bool) -> Result<()> {
        let bytes = self.unpacker.next_file()?.map_or(0, |file| file.bytes);
        let mut file = NewFile::create(path, bytes, force)?;
        self.bytes(bytes, &mut file, &path.display().to_string())?;
        self.unpacker.next_file()?;
        file.finish()
    }

    fn stream(&mut self) -> Result<()> {
        let mut stdout = BufWriter::with_capacity(PIECE_BYTES, streams::stdout_for_checkpoint()?);
        let bytes = self.unpacker.next_file()?.map_or(0, |file| file.bytes);
        self.bytes(bytes, &mut stdout, "standard output")?;
        self.unpacker.next_file()?;
        stdout.flush().at("standard output")
    }

    /// The bytes of the file that was begun.
    fn bytes(&mut self, bytes: u64, to: &mut dyn Write, place: &str) -> Result<()> {
        self.bar.phase("unpacking", bytes);
        while let Some(pieces) = self.unpacker.next_bytes()? {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::interrupted("stopped"));
            }
            for piece in pieces {
                to.write_all(&piece).at(place)?;
                self.bar.advance(piece.len() as u64);
            }
        }
        (self.done.files, self.done.bytes) = (self.done.files + 1, self.done.bytes + bytes);
        Ok(())
    }
}
