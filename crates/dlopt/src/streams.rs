//! Standard input and output as bytes: never to a terminal, in large pieces.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::os::fd::AsFd;

use dlopt_checkpoint::{Checkpoint, Context, Error, Result};
use dlopt_pack::{Unpacker, Whole, is_packed};

/// Pipes are asked to hold this much, so that both ends sleep less.
const PIPE_BYTES: usize = 1 << 20;

/// The checkpoint on standard input.
pub(crate) fn checkpoint_from_stdin() -> Result<Checkpoint> {
    checkpoint_from(stdin_for_checkpoint()?, "standard input".to_owned())
}

/// The checkpoint that a stream carries, packed or not.
pub(crate) fn checkpoint_from(mut stream: File, name: String) -> Result<Checkpoint> {
    let mut first = Vec::new();
    (&mut stream).take(4).read_to_end(&mut first).at(&name)?;
    let is_packed = is_packed(&first);
    let all = std::io::Cursor::new(first).chain(stream);
    if !is_packed {
        return Checkpoint::from_stream(Box::new(all), name);
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let whole = Whole::new(Unpacker::open(all, name.as_str(), threads)?)?;
    Checkpoint::from_stream(Box::new(whole), name)
}

/// Standard input for a checkpoint.
pub(crate) fn stdin_for_checkpoint() -> Result<File> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(Error::usage("no input: standard input is a terminal")
            .hint("name a file or a folder, or pipe a checkpoint in"));
    }
    // A hint: the pipe works at any size, and standard input may be no pipe.
    let _ = rustix::pipe::fcntl_setpipe_size(stdin.as_fd(), PIPE_BYTES);
    Ok(File::from(stdin.as_fd().try_clone_to_owned().at("standard input")?))
}

/// Standard output for a checkpoint.
pub(crate) fn stdout_for_checkpoint() -> Result<File> {
    let stdout = std::io::stdout();
    if stdout.is_terminal() {
        return Err(Error::usage("a checkpoint is binary, and standard output is a terminal")
            .hint("-o FILE or -o FOLDER/ writes it, | pipes it on"));
    }
    let _ = rustix::pipe::fcntl_setpipe_size(stdout.as_fd(), PIPE_BYTES);
    Ok(File::from(stdout.as_fd().try_clone_to_owned().at("standard output")?))
}

/// Whether standard output goes to another command.
pub(crate) fn stdout_is_pipe() -> bool {
    rustix::fs::fstat(std::io::stdout().as_fd())
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo)
}

/// Writes text to standard output. A reader that has gone is not an error.
pub(crate) fn print(text: &str) -> Result<()> {
    print_on(text).map(|_| ())
}

/// The same, and says whether somebody still reads.
pub(crate) fn print_on(text: &str) -> Result<bool> {
    use std::io::Write;
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        written => written.at("standard output").map(|()| true),
    }
}

/// Writes a value as JSON to standard output.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<()> {
    print(&json(value))
}

/// A value as JSON in one line.
pub(crate) fn json_line(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("reports hold only strings, numbers and lists of them") + "\n"
}

/// A value as indented JSON with a final newline.
pub(crate) fn json(value: &impl serde::Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("reports hold only strings, numbers and lists of them");
    text.push('\n');
    text
}
