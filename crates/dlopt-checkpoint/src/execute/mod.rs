//! The executor: owns threads, buffers, order, spooling, temporary files and progress, so that no pass ever does.
//!
//! Work goes through **windows**: runs of blocks whose source bytes fit the memory budget. A window is loaded once when
//! its weights must be looked at before they are written (or when they come from a stream), then each round of looking
//! and the writing itself run over its blocks on all threads. Decisions are independent of windows and blocks, so the
//! same bytes come out at any budget and any number of threads.

mod survey;
mod windows;
mod write;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use self::windows::Window;
use crate::buffers::Pool;
use crate::chain::{Cache, Chain, Need, Stage};
use crate::error::{Error, Result};
use crate::pass::{Pass, Scope};
use crate::source::Checkpoint;
use crate::tensors::Tensors;

/// Blocks aim at this many bytes: small enough for the caches, large enough for the disk.
const BLOCK_BYTES: usize = 1 << 20;
/// Least bytes of a block when memory is scarce.
const LEAST_BLOCK_BYTES: usize = 64 << 10;

/// Told how the work goes.
pub trait Progress: Sync {
    /// A new phase begins, over so many bytes of input.
    fn phase(&self, name: &str, bytes: u64);
    /// So many more bytes are done.
    fn advance(&self, bytes: u64);
}

/// Tells nobody.
pub struct NoProgress;

impl Progress for NoProgress {
    fn phase(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
}

/// How to work, apart from what to do.
pub struct Resources<'a> {
    /// Worker threads.
    pub threads: usize,
    /// Budget for blocks in flight, in bytes.
    pub memory_bytes: u64,
    /// Where streams are spooled.
    pub tmp_dir: PathBuf,
    /// Told how the work goes.
    pub progress: &'a dyn Progress,
    /// Set from outside to stop the work.
    pub stop: &'a AtomicBool,
}

/// Who fills a cache.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loading {
    /// All threads together.
    Together,
    /// The thread that asks; from a stream in the stream's order.
    Alone,
}

/// Runs chains over one checkpoint.
pub(crate) struct Executor<'a> {
    pub(crate) chain: Chain<'a>,
    checkpoint: &'a Checkpoint,
    resources: &'a Resources<'a>,
    pool: Pool,
    threads: rayon::ThreadPool,
    cache: Cache,
    block_bytes: usize,
    held_bytes: u64,
    /// A stream that must be read more than once, or not in order, is spooled whole.
    spool_whole: bool,
    worker_limit: usize,
}

impl<'a> Executor<'a> {
    /// Plans the chain. Passes whose sizes depend on the weights look at them here.
    pub(crate) fn new(
        checkpoint: &'a Checkpoint,
        passes: &[&'a dyn Pass],
        resources: &'a Resources<'a>,
    ) -> Result<Self> {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(resources.threads.max(1))
            .thread_name(|i| format!("dlopt-{i}"))
            .build()
            .map_err(|e| Error::input(format!("cannot start {} threads: {e}", resources.threads)))?;
        // Half of the budget holds a window; the rest is for blocks in flight and for what a pipe holds back.
        let in_flight = resources.memory_bytes / 4;
        let share = in_flight / (resources.threads.max(1) as u64 * (2 + passes.len() as u64));
        let mut executor = Self {
            chain: Chain { name: &checkpoint.name, source: checkpoint, stages: Vec::new() },
            checkpoint,
            resources,
            pool: Pool::default(),
            threads,
            cache: Cache::default(),
            block_bytes: (share as usize).clamp(LEAST_BLOCK_BYTES, BLOCK_BYTES),
            held_bytes: resources.memory_bytes / 2,
            spool_whole: false,
            worker_limit: resources.threads.max(1),
        };
        for pass in passes {
            let level = executor.chain.stages.len();
            let stage = Stage::new(*pass, executor.chain.header(level).clone()).map_err(|e| executor.chain.named(e))?;
            executor.chain.stages.push(stage);
            if pass.sizes_need_a_look() && !executor.last().units_of(Scope::Model).is_empty() {
                executor.prepare_stream()?;
                executor.survey_model(level)?;
                let replanned = executor.chain.stages[level].replan();
                replanned.map_err(|e| executor.chain.named(e))?;
            }
        }
        executor.worker_limit = executor.workers();
        Ok(executor)
    }

    /// The last stage.
    pub(crate) fn last(&self) -> &Stage<'a> {
        self.chain.stages.last().expect("a job has at least one pass")
    }

    /// Least budget that the largest row quantum allows.
    pub(crate) fn least_memory_bytes(&self) -> u64 {
        let mut least = LEAST_BLOCK_BYTES as u64;
        for s in 0..self.chain.stages.len() {
            for unit in 0..self.chain.stages[s].plan.units.len() {
                let u = &self.chain.stages[s].plan.units[unit];
                let rows = 0..u.row_quantum.max(1).min(u.rows);
                least = least.max(self.block_cost(s, unit, &rows));
            }
        }
        4 * least * (2 + self.chain.stages.len() as u64)
    }

    /// Threads whose blocks fit the budget together.
    fn workers(&self) -> usize {
        let fit = self.resources.memory_bytes / self.least_memory_bytes().max(1);
        self.resources.threads.max(1).min((fit as usize).max(1))
    }

    /// Spools a stream whole when it must be read more than once or out of order.
    fn prepare_stream(&mut self) -> Result<()> {
        let Some(stream) = self.checkpoint.stream() else { return Ok(()) };
        if self.spool_whole {
            return Ok(());
        }
        let looks_at_all = self.chain.stages.iter().any(|s| s.plan.units.iter().any(|u| u.scope == Scope::Model));
        if looks_at_all || !self.reads_in_order() {
            self.resources.progress.phase("spooling", self.checkpoint.header.data_bytes());
            stream.spool_all(&self.resources.tmp_dir)?;
            self.spool_whole = true;
        }
        Ok(())
    }

    /// Whether each unit of the last stage needs just one source tensor, each a later one than the unit before.
    fn reads_in_order(&self) -> bool {
        let s = self.chain.stages.len() - 1;
        let mut next = 0;
        for (unit, u) in self.last().plan.units.iter().enumerate() {
            let mut own = Vec::new();
            self.chain.needs(s, unit, &(0..u.rows), &mut |need| {
                if let Need::Source { tensor, .. } = need {
                    own.push(tensor);
                }
            });
            own.sort_unstable();
            own.dedup();
            match own[..] {
                [] => {}
                [tensor] if tensor >= next => next = tensor + 1,
                _ => return false,
            }
        }
        true
    }

    /// The first source tensor that a unit of stage `s` needs.
    pub(crate) fn first_source(&self, s: usize, unit: usize) -> usize {
        let mut first = usize::MAX;
        let rows = 0..self.chain.stages[s].plan.units[unit].rows;
        self.chain.needs(s, unit, &rows, &mut |need| {
            if let Need::Source { tensor, .. } = need
                && first == usize::MAX
            {
                first = tensor;
            }
        });
        if first == usize::MAX { 0 } else { first }
    }

    /// Loads what a window holds, and makes the decisions that its tasks need.
    fn open_window(&mut self, s: usize, window: &Window, includes_own: bool) -> Result<()> {
        if window.is_solo {
            return Ok(());
        }
        self.cache.ranges.clear();
        let stream = self.checkpoint.stream().filter(|_| !self.spool_whole);
        if window.is_oversized {
            if let Some(stream) = stream {
                let offsets = self.checkpoint.header.offsets();
                stream.drop_spool()?;
                for (&tensor, range) in &window.held {
                    let begin = offsets[tensor];
                    stream.spool(begin + range.start..begin + range.end, &self.resources.tmp_dir)?;
                }
            }
        } else {
            let mut cache = std::mem::take(&mut self.cache);
            let loading = if stream.is_some() { Loading::Alone } else { Loading::Together };
            let loaded = self.load(&mut cache, &window.held, loading);
            self.cache = cache;
            loaded?;
        }
        self.decide_needed(&self.cache, s, &window.tasks, includes_own, false)
    }

    /// Reads source ranges into a cache.
    fn load(&self, cache: &mut Cache, held: &BTreeMap<usize, Range<u64>>, loading: Loading) -> Result<()> {
        let total: u64 = held.values().map(|r| r.end - r.start).sum();
        cache.ranges.clear();
        let arena = &mut cache.arena;
        if arena.len() < total as usize {
            arena.resize(total as usize, 0);
        }
        let mut at = 0;
        let mut pieces = Vec::new();
        let mut rest: &mut [u8] = arena;
        for (&tensor, range) in held {
            let length = (range.end - range.start) as usize;
            cache.ranges.insert(tensor, (range.start, at, length));
            at += length;
            let (own, others) = rest.split_at_mut(length);
            rest = others;
            for (i, chunk) in own.chunks_mut(BLOCK_BYTES).enumerate() {
                pieces.push((tensor, range.start + (i * BLOCK_BYTES) as u64, chunk));
            }
        }
        if loading != Loading::Together {
            return pieces.into_iter().try_for_each(|(tensor, offset, chunk)| {
                self.check_stop()?;
                self.checkpoint.read(tensor, offset, chunk)
            });
        }
        let pieces: Vec<_> = pieces.into_iter().map(|p| Mutex::new(Some(p))).collect();
        let read = |(): &mut (), piece: &Mutex<Option<(usize, u64, &mut [u8])>>| {
            let taken = piece.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some((tensor, offset, chunk)) = taken else { return Ok(()) };
            self.checkpoint.read(tensor, offset, chunk)
        };
        self.run(&pieces, || (), read, |()| ())
    }

    fn check_stop(&self) -> Result<()> {
        if self.resources.stop.load(Ordering::Relaxed) {
            return Err(Error::interrupted("stopped by a signal"));
        }
        Ok(())
    }

    /// Runs tasks on all threads, claimed in order. The error of the earliest failing task wins.
    fn run<T: Sync, L>(
        &self,
        tasks: &[T],
        begin: impl Fn() -> L + Sync,
        work: impl Fn(&mut L, &T) -> Result<()> + Sync,
        end: impl Fn(L) + Sync,
    ) -> Result<()> {
        self.run_claiming(tasks, begin, |_, _| Ok(()), work, end)
    }

    /// The same, with something that is done for one task after the other, in order: reading from a stream.
    fn run_claiming<T: Sync, L>(
        &self,
        tasks: &[T],
        begin: impl Fn() -> L + Sync,
        claim: impl Fn(&mut L, &T) -> Result<()> + Sync,
        work: impl Fn(&mut L, &T) -> Result<()> + Sync,
        end: impl Fn(L) + Sync,
    ) -> Result<()> {
        let next = Mutex::new(0);
        let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
        let has_failed = AtomicBool::new(false);
        let worker = || {
            let mut local = begin();
            while !has_failed.load(Ordering::Relaxed) {
                let mut turn = next.lock().unwrap_or_else(PoisonError::into_inner);
                let i = *turn;
                let Some(task) = tasks.get(i) else { break };
                *turn += 1;
                let claimed = self.check_stop().and_then(|()| claim(&mut local, task));
                drop(turn);
                if let Err(error) = claimed.and_then(|()| work(&mut local, task)) {
                    has_failed.store(true, Ordering::Relaxed);
                    let mut first = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    if first.as_ref().is_none_or(|(at, _)| i < *at) {
                        *first = Some((i, error));
                    }
                }
            }
            end(local);
        };
        let workers = self.worker_limit.min(tasks.len());
        if workers <= 1 {
            worker();
        } else {
            self.threads.scope(|scope| {
                for _ in 0..workers {
                    scope.spawn(|_| worker());
                }
            });
        }
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }
}
