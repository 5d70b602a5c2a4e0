//! Work spread over threads whose results come back in the order of the jobs, a bounded number of them under way.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use dlopt_checkpoint::{Error, Result};

/// Jobs for each thread that may be under way: enough that one slow job does not idle the others for long.
const JOBS_PER_THREAD: usize = 4;

/// How far the results have been taken, and whether anybody still takes them.
struct Taken {
    jobs: usize,
    is_over: bool,
}

/// Runs `work` on every job that `feed` gives, on `threads` threads, and hands the results to `take` in the order of the
/// jobs. Ends with the first error of any of them, in that order.
///
/// # Errors
/// Those of `feed`, `work` and `take`.
pub fn ordered<J: Send, R: Send>(
    threads: usize,
    feed: impl FnOnce(&mut dyn FnMut(J) -> Result<()>) -> Result<()> + Send,
    work: impl Fn(J) -> Result<R> + Sync,
    mut take: impl FnMut(R) -> Result<()>,
) -> Result<()> {
    let threads = threads.max(1);
    let window = threads * JOBS_PER_THREAD;
    let taken = (Mutex::new(Taken { jobs: 0, is_over: false }), Condvar::new());
    let (jobs_in, jobs_out) = sync_channel::<(usize, J)>(threads);
    let (done_in, done_out) = sync_channel::<(usize, Result<R>)>(window);
    let jobs_out = Mutex::new(jobs_out);
    std::thread::scope(|scope| {
        let (taken, jobs_out, work) = (&taken, &jobs_out, &work);
        let feeding = scope.spawn(move || {
            let mut next = 0;
            feed(&mut |job| {
                let mut seen = lock(&taken.0);
                while !seen.is_over && next >= seen.jobs + window {
                    seen = taken.1.wait(seen).unwrap_or_else(PoisonError::into_inner);
                }
                if seen.is_over {
                    return Err(nobody_takes());
                }
                drop(seen);
                next += 1;
                jobs_in.send((next - 1, job)).map_err(|_| nobody_takes())
            })
        });
        for _ in 0..threads {
            let done_in = done_in.clone();
            scope.spawn(move || {
                while let Some((number, job)) = next_job(jobs_out) {
                    if done_in.send((number, work(job))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(done_in);
        let (mut early, mut next, mut result) = (BTreeMap::new(), 0, Ok(()));
        'all: for (number, own) in &done_out {
            early.insert(number, own);
            while let Some(own) = early.remove(&next) {
                result = own.and_then(&mut take);
                if result.is_err() {
                    break 'all;
                }
                next += 1;
                lock(&taken.0).jobs = next;
                taken.1.notify_all();
            }
        }
        lock(&taken.0).is_over = true;
        taken.1.notify_all();
        drop(done_out);
        drop(early);
        // Unblocks a feeder that waits for room, and workers that wait for jobs end when it has ended.
        while result.is_err() && next_job(jobs_out).is_some() {}
        let fed = feeding.join().unwrap_or_else(|_| Err(Error::input("the thread that reads died")));
        result.and(fed)
    })
}

/// The feeder's error when results are no longer wanted; a worse error is on its way.
fn nobody_takes() -> Error {
    Error::interrupted("nobody takes what is read any more")
}

fn next_job<J>(jobs: &Mutex<Receiver<(usize, J)>>) -> Option<(usize, J)> {
    lock(jobs).recv().ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn run(threads: usize, jobs: usize, fails_at: Option<usize>) -> (Vec<usize>, Result<()>) {
        let mut out = Vec::new();
        let done = ordered(
            threads,
            |give| (0..jobs).try_for_each(give),
            |job| {
                std::thread::sleep(Duration::from_micros(if job % 7 == 0 { 300 } else { 1 }));
                if fails_at == Some(job) { Err(Error::input(format!("job {job}"))) } else { Ok(job * 2) }
            },
            |double| {
                out.push(double);
                Ok(())
            },
        );
        (out, done)
    }

    #[test]
    fn results_come_in_order() {
        for threads in [1, 3] {
            let (out, done) = run(threads, 100, None);
            done.unwrap();
            assert_eq!(out, (0..100).map(|job| job * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_error_ends_it() {
        let (out, done) = run(3, 1000, Some(50));
        assert_eq!(done.unwrap_err().message(), "job 50");
        assert_eq!(out.len(), 50);
    }

    #[test]
    fn errors_of_feeding_and_taking_arrive() {
        let fed: Result<()> =
            ordered(2, |_: &mut dyn FnMut(u8) -> Result<()>| Err(Error::input("no more")), Ok, |_| Ok(()));
        assert_eq!(fed.unwrap_err().message(), "no more");
        let taken = ordered(2, |give| (0..1000).try_for_each(give), Ok::<usize, Error>, |_| Err(Error::input("full")));
        assert_eq!(taken.unwrap_err().message(), "full");
    }
}
