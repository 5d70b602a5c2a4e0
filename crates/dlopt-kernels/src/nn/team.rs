//! A team of threads for work that comes in regions of tens of microseconds, thousands of times a second.
//!
//! A training step is a chain of a dozen short parallel regions. Threads that sleep between two of them cost more than
//! the work, so members of a team spin for a while before they sleep. Work is cut into tasks by its shape, never by the
//! number of threads, and tasks are handed out through one counter: results cannot depend on how many threads there are.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Rounds that a thread waits before it lets others have its core, some ten microseconds: the caller for the last tasks, a member
/// for more work. On a core that both were put on, a member that only spins takes half of the caller's time.
const SPINS_BEFORE_YIELD: u32 = 4_000;
/// Rounds a member waits for more work before it sleeps: some 50 microseconds, as those that yield take half of one each.
const ROUNDS_BEFORE_SLEEP: u32 = SPINS_BEFORE_YIELD + 80;

/// Set in the gate while a region may be entered.
const OPEN: u64 = 1 << 16;
/// Counts the members inside, below [`OPEN`].
const INSIDE: u64 = OPEN - 1;
/// What the gate grows by from region to region.
const REGION: u64 = OPEN << 1;

/// Threads that run one region of work at a time, together with the thread that asks.
///
/// Nobody waits for a member that has not begun: a thread that the machine has no core for takes no part, and the region
/// ends without it.
pub struct Team {
    shared: Arc<Shared>,
    members: Vec<JoinHandle<()>>,
    /// Held while a region runs; a region inside a region runs on its own thread alone.
    entry: Mutex<()>,
}

struct Shared {
    /// The number of the region, whether it may be entered, and how many members are inside.
    gate: AtomicU64,
    work: UnsafeCell<Work>,
    /// The next task nobody has taken.
    next: AtomicUsize,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

#[derive(Clone, Copy)]
struct Work {
    task: *const (dyn Fn(usize) + Sync),
    tasks: usize,
}

// SAFETY: `work` is written only while the gate is closed and nobody is inside, and read only by members that are inside;
// the caller of a region closes the gate and waits until nobody is inside before the pointer in it ends.
unsafe impl Sync for Shared {}
// SAFETY: as above; nothing in it belongs to a thread.
unsafe impl Send for Shared {}

impl Team {
    /// A team of `threads` (at least one) with the calling thread as one of them.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            gate: AtomicU64::new(0),
            work: UnsafeCell::new(Work { task: &|_| {}, tasks: 0 }),
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let members = (1..threads.clamp(1, INSIDE as usize))
            .map_while(|member| {
                let shared = Arc::clone(&shared);
                let name = format!("dlopt-{member}");
                // A machine that gives no more threads gets the same result from fewer.
                std::thread::Builder::new().name(name).spawn(move || serve(&shared)).ok()
            })
            .collect();
        Self { shared, members, entry: Mutex::new(()) }
    }

    /// How many threads work, the caller's included.
    pub fn threads(&self) -> usize {
        self.members.len() + 1
    }

    /// Calls `task` once for every index below `tasks`, on any thread and in any order, and returns when all are done.
    ///
    /// # Panics
    /// When a task does.
    pub fn run(&self, tasks: usize, task: impl Fn(usize) + Sync) {
        let alone = || (0..tasks).for_each(&task);
        if tasks < 2 || self.members.is_empty() {
            return alone();
        }
        let Ok(_entry) = self.entry.try_lock() else { return alone() };
        let wide: *const (dyn Fn(usize) + Sync + '_) = &task;
        // SAFETY: only the lifetime changes; this function does not return before every member is done with it.
        let wide = unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync + 'static)>(wide)
        };
        // SAFETY: the entry is ours, the gate is closed, and nobody is inside.
        unsafe { *self.shared.work.get() = Work { task: wide, tasks } };
        self.shared.next.store(0, Ordering::Relaxed);
        self.shared.gate.fetch_add(REGION + OPEN, Ordering::Release);
        for member in &self.members {
            member.thread().unpark();
        }
        let own = catch_unwind(AssertUnwindSafe(|| claim(&self.shared, &task, tasks)));
        // Who is inside now took the last tasks; who comes later finds the gate closed.
        let mut inside = self.shared.gate.fetch_and(!OPEN, Ordering::AcqRel) & INSIDE;
        let mut spins = 0_u32;
        while inside != 0 {
            spins += 1;
            if spins < SPINS_BEFORE_YIELD {
                std::hint::spin_loop()
            } else {
                std::thread::yield_now()
            }
            inside = self.shared.gate.load(Ordering::Acquire) & INSIDE;
        }
        let theirs = self.shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = own.err().or(theirs) {
            resume_unwind(panic);
        }
    }

    /// Calls `task` once for every item, with its index.
    ///
    /// # Panics
    /// When a task does.
    pub fn each<T: Send>(&self, items: &mut [T], task: impl Fn(usize, &mut T) + Sync) {
        struct Base<T>(*mut T);
        // SAFETY: each index is handed out once, so no two threads touch one item, and items may move between threads.
        unsafe impl<T: Send> Sync for Base<T> {}
        let base = Base(items.as_mut_ptr());
        let base = &base;
        self.run(items.len(), |index| {
            // SAFETY: `run` calls with every index below the length once; see `Base`.
            task(index, unsafe { &mut *base.0.add(index) });
        });
    }

    /// Calls `task` once for every piece of `len` values (the last may be shorter), with its index.
    ///
    /// # Panics
    /// When `len` is 0, or a task panics.
    pub fn chunks<T: Send>(&self, values: &mut [T], len: usize, task: impl Fn(usize, &mut [T]) + Sync) {
        let mut pieces: Vec<&mut [T]> = values.chunks_mut(len).collect();
        self.each(&mut pieces, |index, piece| task(index, piece));
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for member in self.members.drain(..) {
            member.thread().unpark();
            // A member catches the panics of its tasks, so it ends well.
            let _ = member.join();
        }
    }
}

fn serve(shared: &Shared) {
    let mut seen = 0;
    let mut rounds = 0_u32;
    while !shared.stop.load(Ordering::Acquire) {
        let gate = shared.gate.load(Ordering::Relaxed);
        let region = gate / REGION;
        let is_new = gate & OPEN != 0 && region != seen;
        if !is_new || shared.gate.compare_exchange(gate, gate + 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            rounds += 1;
            if rounds < SPINS_BEFORE_YIELD {
                std::hint::spin_loop();
            } else if rounds < ROUNDS_BEFORE_SLEEP {
                std::thread::yield_now();
            } else {
                // A wake-up that comes first is kept, so none is lost.
                std::thread::park();
                rounds = 0;
            }
            continue;
        }
        (seen, rounds) = (region, 0);
        // SAFETY: we are inside; see `Shared`.
        let work = unsafe { *shared.work.get() };
        let done = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: the caller of `run` keeps the closure alive while anybody is inside.
            claim(shared, unsafe { &*work.task }, work.tasks);
        }));
        if let Err(panic) = done {
            shared.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
        }
        shared.gate.fetch_sub(1, Ordering::Release);
    }
}

fn claim(shared: &Shared, task: &(dyn Fn(usize) + Sync), tasks: usize) {
    loop {
        let index = shared.next.fetch_add(1, Ordering::Relaxed);
        if index >= tasks {
            return;
        }
        task(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_is_handed_out_once() {
        let team = Team::new(3);
        for tasks in [0, 1, 2, 7, 1000] {
            let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
            team.run(tasks, |i| {
                counts[i].fetch_add(1, Ordering::Relaxed);
            });
            assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn pieces_cover_all_values() {
        let team = Team::new(2);
        let mut values = vec![0; 103];
        team.chunks(&mut values, 10, |index, piece| piece.fill(index + 1));
        assert_eq!(values.iter().sum::<usize>(), (1..=10).sum::<usize>() * 10 + 11 * 3);
    }

    #[test]
    fn a_region_inside_a_region_runs() {
        let team = Team::new(2);
        let total = AtomicUsize::new(0);
        team.run(5, |_| {
            team.run(4, |_| {
                total.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(total.into_inner(), 20);
    }

    #[test]
    fn thousands_of_short_regions_lose_no_task() {
        let team = Team::new(4);
        for region in 0..5000 {
            let total = AtomicUsize::new(0);
            team.run(2 + region % 9, |i| {
                total.fetch_add(i + 1, Ordering::Relaxed);
            });
            let tasks = 2 + region % 9;
            assert_eq!(total.into_inner(), tasks * (tasks + 1) / 2);
        }
    }

    #[test]
    fn a_panic_of_a_task_comes_back_and_the_team_lives_on() {
        let team = Team::new(2);
        let caught = catch_unwind(AssertUnwindSafe(|| team.run(50, |i| assert!(i != 31, "task 31"))));
        assert!(caught.is_err());
        let total = AtomicUsize::new(0);
        team.run(9, |i| {
            total.fetch_add(i, Ordering::Relaxed);
        });
        assert_eq!(total.into_inner(), 36);
    }
}
