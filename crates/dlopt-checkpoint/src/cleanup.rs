//! Temporary files and folders that must not survive a failure or a signal.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

static REGISTERED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn registered() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    REGISTERED.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A path that is removed when this is dropped, unless it was kept.
#[derive(Debug)]
pub(crate) struct Temporary {
    path: PathBuf,
}

impl Temporary {
    /// Registers a path that exists, or is about to.
    pub(crate) fn new(path: PathBuf) -> Self {
        registered().push(path.clone());
        Self { path }
    }

    /// Lets the path live.
    pub(crate) fn keep(self) {
        registered().retain(|p| *p != self.path);
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let mut paths = registered();
        if let Some(i) = paths.iter().position(|p| *p == self.path) {
            paths.swap_remove(i);
            drop(paths);
            remove(&self.path);
        }
    }
}

fn remove(path: &Path) {
    // Nothing can be done about a failure here: the path may be gone already.
    let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
}

/// Removes every temporary path of this process; for signal handlers that end it.
pub fn remove_temporary_paths() {
    for path in std::mem::take(&mut *registered()) {
        remove(&path);
    }
}
