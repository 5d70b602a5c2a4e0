//! Threads that stay on one core each while they are timed.
//!
//! A thread that moves from core to core loses its caches, and two on one core take turns: both look like noise of the
//! network. Each thread gets a core of its own among those that the process may use, whole cores before the second threads
//! of any. Where there are too few, or the system has no such call (it is Linux's), threads stay free and the report says so.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dlopt_kernels::nn::Team;

/// How long threads may take to come to their cores.
const PATIENCE: Duration = Duration::from_secs(5);

/// A team whose threads stay where they are while they are timed.
pub struct PinnedTeam {
    /// The team.
    pub team: Arc<Team>,
    /// A processor for each thread; empty where there are too few.
    cores: Vec<usize>,
    /// Cleared where a thread could not be pinned.
    is_pinned: AtomicBool,
}

impl PinnedTeam {
    /// A team of so many threads, which are free until they are held.
    pub fn new(threads: usize) -> Self {
        let team = Arc::new(Team::new(threads));
        let cores = chosen(&allowed(), team.threads(), siblings);
        Self { team, is_pinned: AtomicBool::new(!cores.is_empty()), cores }
    }

    /// Pins every thread, the calling one until the guard goes. Threads that it starts meanwhile would stay with it.
    pub fn hold(&self) -> Held {
        let before = allowed();
        let began = Instant::now();
        let arrived = AtomicUsize::new(0);
        // Who has a core waits for the others, so that each takes one.
        self.team.run(self.cores.len(), |at| {
            if !stay(&[self.cores[at]]) {
                self.is_pinned.store(false, Ordering::Relaxed);
            }
            arrived.fetch_add(1, Ordering::Relaxed);
            while arrived.load(Ordering::Relaxed) < self.cores.len() {
                if began.elapsed() > PATIENCE {
                    self.is_pinned.store(false, Ordering::Relaxed);
                    return;
                }
                std::thread::yield_now();
            }
        });
        Held { before }
    }

    /// The processors that threads stay on while they are held; empty where they are free.
    pub fn cores(&self) -> &[usize] {
        if self.is_pinned.load(Ordering::Relaxed) { &self.cores } else { &[] }
    }
}

/// The calling thread stays on its core while this lives.
pub struct Held {
    before: Vec<usize>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.before.is_empty() {
            stay(&self.before);
        }
    }
}

/// A processor for each thread, first threads of cores first; nothing where there are fewer than threads. `siblings` says
/// which processors are one core with another.
fn chosen(allowed: &[usize], threads: usize, siblings: impl Fn(usize) -> Vec<usize>) -> Vec<usize> {
    let rank = |cpu: usize| siblings(cpu).iter().filter(|other| **other < cpu && allowed.contains(other)).count();
    let mut order: Vec<(usize, usize)> = allowed.iter().map(|cpu| (rank(*cpu), *cpu)).collect();
    order.sort_unstable();
    if order.len() < threads { Vec::new() } else { order.into_iter().take(threads).map(|(_, cpu)| cpu).collect() }
}

/// The processors that are one core with this one, itself included, where the system says it.
fn siblings(cpu: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    std::fs::read_to_string(Path::new(&path)).map_or(vec![cpu], |text| listed(&text))
}

/// Reads `0-2,5`.
fn listed(text: &str) -> Vec<usize> {
    let ranges = text.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<usize>().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

/// The processors that the calling thread may use; none where the system does not say.
#[cfg(target_os = "linux")]
fn allowed() -> Vec<usize> {
    use rustix::thread::{CpuSet, sched_getaffinity};
    sched_getaffinity(None).map_or(Vec::new(), |set| (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Lets the calling thread run on these alone; whether it worked.
#[cfg(target_os = "linux")]
fn stay(cpus: &[usize]) -> bool {
    let mut set = rustix::thread::CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    rustix::thread::sched_setaffinity(None, &set).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn allowed() -> Vec<usize> {
    Vec::new()
}

#[cfg(not(target_os = "linux"))]
fn stay(_cpus: &[usize]) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_cores_come_first() {
        // Neighbours are one core.
        let pairs = |cpu: usize| vec![cpu & !1, cpu | 1];
        assert_eq!(chosen(&[0, 1, 2, 3], 3, pairs), [0, 2, 1]);
        assert_eq!(chosen(&[1, 2, 3], 2, pairs), [1, 2]);
        assert!(chosen(&[0, 1], 3, pairs).is_empty());
        assert!(chosen(&[], 1, pairs).is_empty());
        assert_eq!(chosen(&[4, 6], 2, |cpu| vec![cpu]), [4, 6]);
    }

    #[test]
    fn lists_of_processors_are_read() {
        assert_eq!(listed("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(listed("7"), [7]);
        assert!(listed("x").is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn threads_stay_where_they_are_put_and_the_caller_is_freed_again() {
        let before = allowed();
        let pinned = PinnedTeam::new(before.len());
        {
            let _held = pinned.hold();
            assert!(pinned.cores().len() == before.len() && allowed().len() == 1);
            // Every thread that takes part is on a core of its own.
            let seen = std::sync::Mutex::new(std::collections::BTreeMap::new());
            pinned.team.run(1000, |_| {
                std::thread::sleep(std::time::Duration::from_micros(20));
                seen.lock().unwrap().insert(std::thread::current().name().map(str::to_owned), allowed());
            });
            let seen = seen.into_inner().unwrap();
            assert!(seen.values().all(|cpus| cpus.len() == 1 && pinned.cores().contains(&cpus[0])), "{seen:?}");
        }
        assert_eq!(allowed(), before);
        // More threads than cores stay free.
        let free = PinnedTeam::new(before.len() + 1);
        drop(free.hold());
        assert!(free.cores().is_empty() && allowed() == before);
    }
}
