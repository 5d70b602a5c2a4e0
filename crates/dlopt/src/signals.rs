//! SIGINT and SIGTERM: the work stops at the next block, cleans up, and says so. Whoever works for another process ends
//! with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// How long the work may take to stop by itself; it may be waiting for a pipe that never moves.
const GRACE: Duration = Duration::from_millis(700);

/// Whether the caller had a signal ignored (`nohup`), as Linux tells.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal - 1)) != 0
}

/// Watches for signals. The flag is set when one comes.
pub(crate) fn watch() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    // Without signals (a platform that has none) the work just cannot be stopped gently.
    let mut watched = vec![SIGINT, SIGTERM];
    if !is_ignored(SIGHUP) {
        watched.push(SIGHUP);
    }
    if let Ok(mut signals) = Signals::new(watched) {
        std::thread::spawn(move || {
            if signals.forever().next().is_some() {
                flag.store(true, Ordering::Relaxed);
                std::thread::sleep(GRACE);
                dlopt_checkpoint::remove_temporary_paths();
                crate::messages::tell("error: stopped by a signal; nothing was left behind\n");
                std::process::exit(1);
            }
        });
    }
    stop
}

/// Ends this process when the one that it works for ends, killed or not, as Linux can: a sweep that goes on after a kill
/// must not meet a training of its former self.
#[cfg(target_os = "linux")]
pub(crate) fn end_with(owner: u32) {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    let is_set = set_parent_process_death_signal(Some(Signal::KILL)).is_ok();
    // It may have gone before that.
    let parent = getppid().and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok());
    if is_set && parent != Some(owner) {
        std::process::exit(1);
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn end_with(_owner: u32) {}
