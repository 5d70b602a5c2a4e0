//! SIGINT and SIGTERM: the work stops at the next block, cleans up, and says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// How long the work may take to stop by itself; it may be waiting for a pipe that never moves.
const GRACE: Duration = Duration::from_millis(700);

/// Watches for signals. The flag is set when one comes.
pub(crate) fn watch() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    // Without signals (a platform that has none) the work just cannot be stopped gently.
    if let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) {
        std::thread::spawn(move || {
            if signals.forever().next().is_some() {
                flag.store(true, Ordering::Relaxed);
                std::thread::sleep(GRACE);
                dlopt_checkpoint::remove_temporary_paths();
                anstream::eprintln!("error: stopped by a signal; nothing was left behind");
                std::process::exit(1);
            }
        });
    }
    stop
}
