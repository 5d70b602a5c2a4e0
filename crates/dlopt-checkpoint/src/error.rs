//! The one error of dlopt: whose fault, what was found, what to try.

use std::fmt;

/// A result whose error is dlopt's own.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whose fault an error is; the command line maps it to its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The input, the disk or the machine: exit code 1.
    Input,
    /// The way dlopt was asked: exit code 2.
    Usage,
    /// Somebody stopped the work (a signal, a closed pipe): exit code 1.
    Interrupted,
}

/// What went wrong, in one line, and what to try, in another.
#[derive(Clone, Debug)]
pub struct Error {
    fault: Fault,
    message: String,
    hint: Option<String>,
}

impl Error {
    /// The input or the machine is at fault.
    pub fn input(message: impl Into<String>) -> Self {
        Self { fault: Fault::Input, message: message.into(), hint: None }
    }

    /// The request is at fault.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { fault: Fault::Usage, message: message.into(), hint: None }
    }

    /// The work was stopped from outside.
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self { fault: Fault::Interrupted, message: message.into(), hint: None }
    }

    /// Adds what to try.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts `place` (a file, a tensor) in front of the message.
    #[must_use]
    pub fn within(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// The message without the hint.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to try, if anything is known to help.
    pub fn what_to_try(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Names the place of an I/O error.
pub trait Context<T> {
    /// Turns the error into dlopt's, with `place` in front.
    ///
    /// # Errors
    /// The error it was called on.
    fn at(self, place: impl fmt::Display) -> Result<T>;
}

impl<T> Context<T> for std::io::Result<T> {
    fn at(self, place: impl fmt::Display) -> Result<T> {
        self.map_err(|e| {
            // One of ours that went through a reader or writer knows its place already.
            if let Some(own) = e.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
                return own.clone();
            }
            let error = Error::input(format!("{place}: {}", plain(&e)));
            match e.kind() {
                std::io::ErrorKind::StorageFull => error.hint("free some space, or write to another disk with -o"),
                _ => error,
            }
        })
    }
}

/// The text of an I/O error without the number the standard library adds.
fn plain(e: &std::io::Error) -> String {
    let text = e.to_string();
    match text.find(" (os error ") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}
