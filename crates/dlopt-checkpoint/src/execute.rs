//! The executor: owns threads, buffers, order, spooling, temporary files and progress, so that no pass ever does.
//!
//! Work goes through **windows**: runs of blocks whose source bytes fit the memory budget. A window is loaded once when
//! its weights must be looked at before they are written (or when they come from a stream), then each round of looking
//! and the writing itself run over its blocks on all threads. Decisions are independent of windows and blocks, so the
//! same bytes come out at any budget and any number of threads.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::buffers::Pool;
use crate::chain::{Cache, Chain, Context, Need, Reports, Stage};
use crate::error::{Error, Result};
use crate::pass::{Block, Decision, Partial, Pass, Scope, Step};
use crate::report::{PassReport, TensorReport};
use crate::sink::Sink;
use crate::source::Checkpoint;
use crate::tensors::Tensors;

/// Blocks aim at this many bytes: small enough for the caches, large enough for the disk.
const BLOCK_BYTES: usize = 1 << 20;
/// Least bytes of a block when memory is scarce.
const LEAST_BLOCK_BYTES: usize = 64 << 10;
/// Input bytes of a window that is not held in memory; bounds its row reports.
const OPEN_WINDOW_BYTES: u64 = 32 << 20;
/// Input bytes that a held window aims at: looked at and written while they are still in the last-level cache.
const HELD_WINDOW_BYTES: u64 = 16 << 20;
/// Input bytes of a window of units that workers do alone; bounds its row reports.
const SOLO_WINDOW_BYTES: u64 = 1 << 30;

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

/// One block of a unit of the stage at work.
#[derive(Clone)]
struct Task {
    unit: usize,
    rows: Range<usize>,
    bytes: u64,
}

/// A run of tasks, and the source ranges that are held in memory for them.
#[derive(Default)]
struct Window {
    tasks: Vec<Task>,
    held: BTreeMap<usize, Range<u64>>,
    /// A unit too large to be held that must be looked at first: from a stream it is spooled.
    is_oversized: bool,
    /// Every worker takes whole units for itself, with a cache of its own, and waits for nobody.
    is_solo: bool,
}

/// Who fills a cache.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loading {
    /// One thread in the order of the source, for a stream.
    InOrder,
    /// All threads together.
    Together,
    /// The thread that asks.
    Alone,
}

/// Windows in the making.
struct Windows {
    done: Vec<Window>,
    open: Window,
    filled: u64,
}

impl Windows {
    /// Adds tasks to the open window, or to a new one when it would hold more than `most`.
    fn add(&mut self, tasks: Vec<Task>, held: BTreeMap<usize, Range<u64>>, bytes: u64, most: u64) {
        if self.open.is_solo || self.filled > 0 && self.filled + bytes > most {
            self.close();
        }
        self.filled += bytes;
        self.open.tasks.extend(tasks);
        for (tensor, range) in held {
            let own = self.open.held.entry(tensor).or_insert(range.clone());
            *own = own.start.min(range.start)..own.end.max(range.end);
        }
    }

    /// Adds a unit that one worker does alone.
    fn add_solo(&mut self, task: Task) {
        if !self.open.is_solo || self.filled > SOLO_WINDOW_BYTES {
            self.close();
            self.open.is_solo = true;
        }
        self.filled += task.bytes;
        self.open.tasks.push(task);
    }

    fn close(&mut self) {
        let window = std::mem::take(&mut self.open);
        if !window.tasks.is_empty() {
            self.done.push(window);
        }
        self.filled = 0;
    }
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
            chain: Chain { source: checkpoint, stages: Vec::new() },
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
            let stage = Stage::new(*pass, executor.chain.header(level).clone())?;
            executor.chain.stages.push(stage);
            if pass.sizes_need_a_look() && !executor.last().units_of(Scope::Model).is_empty() {
                executor.prepare_stream()?;
                executor.survey_model(level)?;
                executor.chain.stages[level].replan()?;
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

    /// Bytes that a block of a unit reads and writes.
    fn block_cost(&self, s: usize, unit: usize, rows: &Range<usize>) -> u64 {
        let u = &self.chain.stages[s].plan.units[unit];
        let header = self.chain.header(s);
        let share = |total: u64| if u.rows == 0 { 0 } else { total * rows.len() as u64 / u.rows as u64 };
        let reads: u64 = u
            .reads
            .iter()
            .map(|r| {
                let total = header.tensors[r.tensor].bytes();
                r.span.range(rows, total).map_or_else(|| share(total), |range| range.end - range.start)
            })
            .sum();
        let writes: u64 = u
            .writes
            .iter()
            .map(|w| {
                w.span
                    .range(rows, w.info.bytes())
                    .map_or_else(|| share(w.info.bytes()), |range| range.end - range.start)
            })
            .sum();
        reads.max(writes)
    }

    /// Cuts a unit into blocks.
    fn blocks(&self, s: usize, unit: usize) -> Vec<Task> {
        let u = &self.chain.stages[s].plan.units[unit];
        if u.rows == 0 {
            return vec![Task { unit, rows: 0..0, bytes: 0 }];
        }
        let quantum = u.row_quantum.max(1);
        let total = self.block_cost(s, unit, &(0..u.rows)).max(1);
        let row_bytes = total.div_ceil(u.rows as u64).max(1);
        let rows = ((self.block_bytes as u64 / row_bytes) as usize / quantum * quantum).max(quantum);
        let input: u64 = u.reads.iter().map(|r| self.chain.header(s).tensors[r.tensor].bytes()).sum();
        (0..u.rows)
            .step_by(rows)
            .map(|begin| {
                let end = (begin + rows).min(u.rows);
                let bytes = (u128::from(input) * (end - begin) as u128 / u.rows as u128) as u64;
                Task { unit, rows: begin..end, bytes }
            })
            .collect()
    }

    /// Whether some unit that these rows need must be looked at as a whole first.
    fn needs_a_look(&self, s: usize, unit: usize) -> bool {
        let mut found = false;
        let rows = 0..self.chain.stages[s].plan.units[unit].rows;
        self.chain.needs(s, unit, &rows, &mut |need| {
            if let Need::Unit { stage, unit } = need {
                found |= !self.chain.stages[stage].is_decided(unit);
            }
        });
        found
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

    /// Cuts units of stage `s` into windows. With `may_be_solo` whole units may be left to single workers.
    fn windows(&self, s: usize, units: &[usize], may_be_solo: bool) -> Vec<Window> {
        let is_stream = self.checkpoint.stream().is_some() && !self.spool_whole;
        let solo_most = if is_stream || !may_be_solo { 0 } else { self.held_bytes / self.worker_limit as u64 };
        let mut windows = Windows { done: Vec::new(), open: Window::default(), filled: 0 };
        for &unit in units {
            let is_whole = self.needs_a_look(s, unit);
            let blocks = self.blocks(s, unit);
            if !is_whole && !is_stream {
                for task in blocks {
                    let bytes = task.bytes;
                    windows.add(vec![task], BTreeMap::new(), bytes, OPEN_WINDOW_BYTES.min(self.held_bytes));
                }
                continue;
            }
            if is_whole {
                let held = self.source_ranges(s, &blocks);
                let bytes: u64 = held.values().map(|r| r.end - r.start).sum();
                if bytes <= solo_most {
                    let rows = 0..self.chain.stages[s].plan.units[unit].rows;
                    windows.add_solo(Task { unit, rows, bytes });
                } else if bytes > self.held_bytes {
                    windows.close();
                    windows.done.push(Window { tasks: blocks, held, is_oversized: true, is_solo: false });
                } else {
                    windows.add(blocks, held, bytes, HELD_WINDOW_BYTES.min(self.held_bytes));
                }
                continue;
            }
            for task in blocks {
                let held = self.source_ranges(s, std::slice::from_ref(&task));
                let bytes = held.values().map(|r| r.end - r.start).sum();
                windows.add(vec![task], held, bytes, HELD_WINDOW_BYTES.min(self.held_bytes));
            }
        }
        windows.close();
        windows.done
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
            let loading = if stream.is_some() { Loading::InOrder } else { Loading::Together };
            let loaded = self.load(&mut cache, &window.held, loading);
            self.cache = cache;
            loaded?;
        }
        self.decide_needed(&self.cache, s, &window.tasks, includes_own, false)
    }

    /// Makes the decisions that tasks of stage `s` need, those of the stages below first: the ones above look at what
    /// they write.
    fn decide_needed(&self, cache: &Cache, s: usize, tasks: &[Task], includes_own: bool, is_alone: bool) -> Result<()> {
        let mut wanted: Vec<Vec<usize>> = vec![Vec::new(); s + 1];
        for task in tasks {
            self.chain.needs(s, task.unit, &task.rows, &mut |need| {
                if let Need::Unit { stage, unit } = need {
                    let own = &self.chain.stages[stage];
                    if own.plan.units[unit].scope == Scope::Unit && !own.is_decided(unit) {
                        wanted[stage].push(unit);
                    }
                }
            });
        }
        for (stage, mut units) in wanted.into_iter().enumerate() {
            if stage == s && !includes_own {
                continue;
            }
            units.sort_unstable();
            units.dedup();
            self.survey_units(cache, stage, &units, is_alone)?;
        }
        Ok(())
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
        let next = AtomicUsize::new(0);
        let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
        let has_failed = AtomicBool::new(false);
        let worker = || {
            let mut local = begin();
            while !has_failed.load(Ordering::Relaxed) {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(task) = tasks.get(i) else { break };
                if let Err(error) = self.check_stop().and_then(|()| work(&mut local, task)) {
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

    /// Rounds of looking at units that are decided one by one. Their source bytes are in the cache.
    fn survey_units(&self, cache: &Cache, s: usize, units: &[usize], is_alone: bool) -> Result<()> {
        let stage = &self.chain.stages[s];
        let mut open: Vec<(usize, Option<Decision>)> = units.iter().map(|&u| (u, None)).collect();
        while !open.is_empty() {
            let mut tasks = Vec::new();
            for (i, (unit, so_far)) in open.iter().enumerate() {
                let u = &stage.plan.units[*unit];
                tasks.extend(
                    self.blocks(s, *unit)
                        .into_iter()
                        .filter(|t| !t.rows.is_empty() && stage.pass.looks_at(u, &t.rows, so_far.as_ref()))
                        .map(|t| (i, t)),
                );
            }
            let partials: Vec<Mutex<Option<Partial>>> = open.iter().map(|_| Mutex::new(None)).collect();
            let see = |(): &mut (), (i, task): &(usize, Task)| {
                let so_far = open[*i].1.as_ref();
                let mut partial = stage.pass.begin(so_far);
                self.look(cache, s, task, so_far, &mut partial)?;
                let mut slot = partials[*i].lock().unwrap_or_else(PoisonError::into_inner);
                match slot.as_mut() {
                    Some(all) => stage.pass.merge(all, partial),
                    None => *slot = Some(partial),
                }
                Ok(())
            };
            if is_alone {
                tasks.iter().try_for_each(|task| see(&mut (), task))?;
            } else {
                self.run(&tasks, || (), see, |()| ())?;
            }
            let mut again = Vec::new();
            for ((unit, so_far), partial) in open.into_iter().zip(partials) {
                let partial = partial.into_inner().unwrap_or_else(PoisonError::into_inner);
                let partial = partial.unwrap_or_else(|| stage.pass.begin(so_far.as_ref()));
                match stage.pass.decide(&[(unit, &stage.plan.units[unit])], so_far.as_ref(), partial)? {
                    Step::Again(decision) => again.push((unit, Some(decision))),
                    Step::Done(decision) => stage.decide_unit(unit, decision),
                }
            }
            open = again;
        }
        Ok(())
    }

    fn look(
        &self,
        cache: &Cache,
        s: usize,
        task: &Task,
        so_far: Option<&Decision>,
        partial: &mut Partial,
    ) -> Result<()> {
        let stage = &self.chain.stages[s];
        let context = Context { cache, pool: &self.pool, reports: None };
        let inputs = self.chain.inputs(context, s, task.unit, &task.rows)?;
        let block = Block { rows: task.rows.clone(), inputs: inputs.iter().map(|b| &**b).collect() };
        stage.pass.survey(&stage.plan.units[task.unit], task.unit, &block, so_far, partial)
    }

    /// Rounds of looking at all units that are decided together.
    fn survey_model(&mut self, s: usize) -> Result<()> {
        let units = self.chain.stages[s].units_of(Scope::Model);
        if units.is_empty() || self.chain.stages[s].is_decided(units[0]) {
            return Ok(());
        }
        let mut so_far: Option<Decision> = None;
        loop {
            let windows = self.windows_for_survey(s, &units, so_far.as_ref());
            let bytes = windows.iter().flat_map(|w| &w.tasks).map(|t| t.bytes).sum();
            self.resources.progress.phase("looking", bytes);
            let mut all: Option<Partial> = None;
            for window in windows {
                self.open_window(s, &window, false)?;
                let pass = self.chain.stages[s].pass;
                let merged = Mutex::new(all.take());
                self.run(
                    &window.tasks,
                    || None,
                    |local: &mut Option<Partial>, task| {
                        let partial = local.get_or_insert_with(|| pass.begin(so_far.as_ref()));
                        self.look(&self.cache, s, task, so_far.as_ref(), partial)?;
                        self.resources.progress.advance(task.bytes);
                        Ok(())
                    },
                    |local| {
                        let Some(local) = local else { return };
                        let mut slot = merged.lock().unwrap_or_else(PoisonError::into_inner);
                        match slot.as_mut() {
                            Some(all) => pass.merge(all, local),
                            None => *slot = Some(local),
                        }
                    },
                )?;
                all = merged.into_inner().unwrap_or_else(PoisonError::into_inner);
            }
            let stage = &self.chain.stages[s];
            let named: Vec<_> = units.iter().map(|&u| (u, &stage.plan.units[u])).collect();
            let all = all.unwrap_or_else(|| stage.pass.begin(so_far.as_ref()));
            match stage.pass.decide(&named, so_far.as_ref(), all)? {
                Step::Again(decision) => so_far = Some(decision),
                Step::Done(decision) => {
                    stage.decide_model(decision);
                    return Ok(());
                }
            }
        }
    }

    fn windows_for_survey(&self, s: usize, units: &[usize], so_far: Option<&Decision>) -> Vec<Window> {
        let stage = &self.chain.stages[s];
        let below_needs_a_look = |unit: usize| {
            let mut found = false;
            let rows = 0..stage.plan.units[unit].rows;
            self.chain.needs(s, unit, &rows, &mut |need| {
                if let Need::Unit { stage: below, unit } = need {
                    found |= below < s && !self.chain.stages[below].is_decided(unit);
                }
            });
            found
        };
        if units.iter().any(|&u| below_needs_a_look(u)) {
            return self.windows(s, units, false);
        }
        // Nothing is held: blocks are read, looked at, and let go.
        let mut windows = Vec::new();
        let mut window = Window::default();
        for &unit in units {
            let u = &stage.plan.units[unit];
            let blocks = self.blocks(s, unit);
            window
                .tasks
                .extend(blocks.into_iter().filter(|t| !t.rows.is_empty() && stage.pass.looks_at(u, &t.rows, so_far)));
        }
        windows.push(window);
        windows
    }

    /// Looks at everything that must be seen as a whole before the first byte is written.
    pub(crate) fn survey(&mut self) -> Result<()> {
        self.prepare_stream()?;
        for s in 0..self.chain.stages.len() {
            self.survey_model(s)?;
        }
        Ok(())
    }

    /// Works out units of the last stage and hands their bytes to the sink. Returns what each pass did to each tensor.
    pub(crate) fn write(
        &mut self,
        units: &[usize],
        parts: &[Vec<(usize, u64)>],
        sink: &dyn Sink,
    ) -> Result<Vec<Vec<TensorReport>>> {
        let s = self.chain.stages.len() - 1;
        let mut folded = Folded::new(self.chain.stages.len());
        let windows = self.windows(s, units, !sink.is_ordered());
        self.resources.progress.phase("writing", windows.iter().flat_map(|w| &w.tasks).map(|t| t.bytes).sum());
        for window in windows {
            self.open_window(s, &window, true)?;
            let reports = Reports::default();
            self.run(
                &window.tasks,
                Cache::default,
                |own, task| {
                    if window.is_solo {
                        return self.write_unit(own, s, task, parts, sink, &reports);
                    }
                    self.write_block(&self.cache, s, task, parts, sink, &reports)?;
                    self.resources.progress.advance(task.bytes);
                    Ok(())
                },
                drop,
            )?;
            folded.add(reports, &self.chain);
        }
        if let Some(stream) = self.checkpoint.stream().filter(|_| !self.spool_whole) {
            stream.drop_spool()?;
        }
        Ok(folded.finish())
    }

    /// Loads, looks at, decides and writes one unit on this thread alone.
    fn write_unit(
        &self,
        cache: &mut Cache,
        s: usize,
        task: &Task,
        parts: &[Vec<(usize, u64)>],
        sink: &dyn Sink,
        reports: &Reports,
    ) -> Result<()> {
        self.load(cache, &self.source_ranges(s, std::slice::from_ref(task)), Loading::Alone)?;
        self.decide_needed(cache, s, std::slice::from_ref(task), true, true)?;
        for block in self.blocks(s, task.unit) {
            self.check_stop()?;
            self.write_block(cache, s, &block, parts, sink, reports)?;
            self.resources.progress.advance(block.bytes);
        }
        Ok(())
    }

    /// The source ranges that tasks of stage `s` need, one for each tensor.
    fn source_ranges(&self, s: usize, tasks: &[Task]) -> BTreeMap<usize, Range<u64>> {
        let mut ranges: BTreeMap<usize, Range<u64>> = BTreeMap::new();
        for task in tasks {
            self.chain.needs(s, task.unit, &task.rows, &mut |need| {
                if let Need::Source { tensor, range } = need
                    && !range.is_empty()
                {
                    let own = ranges.entry(tensor).or_insert(range.clone());
                    *own = own.start.min(range.start)..own.end.max(range.end);
                }
            });
        }
        ranges
    }

    fn write_block(
        &self,
        cache: &Cache,
        s: usize,
        task: &Task,
        parts: &[Vec<(usize, u64)>],
        sink: &dyn Sink,
        reports: &Reports,
    ) -> Result<()> {
        let stage = &self.chain.stages[s];
        let unit = &stage.plan.units[task.unit];
        let context = Context { cache, pool: &self.pool, reports: Some(reports) };
        if unit.is_copy {
            let total = unit.writes[0].info.bytes();
            let range = unit.reads[0].span.range(&task.rows, total).expect("copies are never ragged");
            let (shard, begin) = parts[task.unit][0];
            let bytes = self.chain.fetch(context, s, unit.reads[0].tensor, range.clone())?;
            return sink.write(shard, begin + range.start, &bytes);
        }
        let produced = self.chain.produce(context, s, task.unit, task.rows.clone())?;
        for (w, bytes) in produced.iter().enumerate() {
            let (shard, begin) = parts[task.unit][w];
            let range = stage.part_range(task.unit, w, &task.rows);
            sink.write(shard, begin + range.start, bytes)?;
        }
        Ok(())
    }

    /// The report of each pass, from what was done to its tensors.
    pub(crate) fn pass_reports(&self, tensors: Vec<Vec<TensorReport>>) -> Vec<PassReport> {
        let mut reports = Vec::new();
        for ((s, stage), mut tensors) in self.chain.stages.iter().enumerate().zip(tensors) {
            let mut total = TensorReport { tensor: "total".to_owned(), ..TensorReport::default() };
            for tensor in &mut tensors {
                tensor.finish();
                total.add_tensor(tensor);
            }
            total.finish();
            let bits = if total.weights == 0 { 0.0 } else { 8.0 * total.bytes_after as f64 / total.weights as f64 };
            reports.push(PassReport {
                verb: stage.pass.verb().to_owned(),
                options: stage.pass.options(),
                bytes_before: self.chain.header(s).data_bytes(),
                bytes_after: stage.ordered.header.data_bytes(),
                total,
                bits_per_weight: bits,
                tensors,
                notes: stage.plan.notes.clone(),
                warnings: stage.plan.warnings.clone(),
                gate: stage.plan.gate.clone(),
            });
        }
        reports
    }
}

/// Row reports folded in the order of rows, so that sums are the same at any block size.
struct Folded {
    tensors: Vec<HashMap<usize, (TensorReport, usize)>>,
}

impl Folded {
    fn new(stages: usize) -> Self {
        Self { tensors: (0..stages).map(|_| HashMap::new()).collect() }
    }

    fn add(&mut self, reports: Reports, chain: &Chain<'_>) {
        let mut reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
        reports.sort_by_key(|(stage, unit, row, _)| (*stage, *unit, *row));
        for (s, unit, row, entries) in reports {
            let (report, next_row) = self.tensors[s].entry(unit).or_insert_with(|| {
                let u = &chain.stages[s].plan.units[unit];
                let header = chain.header(s);
                let report = TensorReport {
                    tensor: u.name.clone(),
                    bytes_before: u.reads.iter().map(|r| header.tensors[r.tensor].bytes()).sum(),
                    bytes_after: u.writes.iter().map(|w| w.info.bytes()).sum(),
                    ..TensorReport::default()
                };
                (report, 0)
            });
            // A stage in the middle may be worked out twice for the same rows; they count once.
            for (i, entry) in entries.iter().enumerate() {
                if row + i >= *next_row {
                    report.add(entry);
                    *next_row = row + i + 1;
                }
            }
        }
    }

    fn finish(self) -> Vec<Vec<TensorReport>> {
        self.tensors
            .into_iter()
            .map(|units| {
                let mut units: Vec<_> = units.into_iter().collect();
                units.sort_by_key(|(unit, _)| *unit);
                units.into_iter().map(|(_, (report, _))| report).collect()
            })
            .collect()
    }
}
