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
const OPEN_WINDOW_BYTES: usize = 32 << 20;

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
struct Window {
    tasks: Vec<Task>,
    held: BTreeMap<usize, Range<u64>>,
    /// A unit too large to be held that must be looked at first: from a stream it is spooled.
    is_oversized: bool,
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

    /// Cuts units of stage `s` into windows.
    fn windows(&self, s: usize, units: &[usize]) -> Vec<Window> {
        let is_stream = self.checkpoint.stream().is_some() && !self.spool_whole;
        let fresh = || Window { tasks: Vec::new(), held: BTreeMap::new(), is_oversized: false };
        let mut windows = Vec::new();
        let (mut window, mut filled) = (fresh(), 0_u64);
        for &unit in units {
            let is_whole = self.needs_a_look(s, unit);
            let is_held = is_whole || is_stream;
            let blocks = self.blocks(s, unit);
            let pieces: Vec<Vec<Task>> =
                if is_whole { vec![blocks] } else { blocks.into_iter().map(|b| vec![b]).collect() };
            for piece in pieces {
                let mut needed: BTreeMap<usize, Range<u64>> = BTreeMap::new();
                if is_held {
                    for task in &piece {
                        self.chain.needs(s, unit, &task.rows, &mut |need| {
                            if let Need::Source { tensor, range } = need
                                && !range.is_empty()
                            {
                                let own = needed.entry(tensor).or_insert(range.clone());
                                *own = own.start.min(range.start)..own.end.max(range.end);
                            }
                        });
                    }
                }
                let bytes: u64 = if is_held {
                    needed.values().map(|r| r.end - r.start).sum()
                } else {
                    piece.iter().map(|t| t.bytes).sum()
                };
                let most = if is_held { self.held_bytes } else { self.held_bytes.min(OPEN_WINDOW_BYTES as u64) };
                if filled > 0 && filled + bytes > most {
                    windows.push(std::mem::replace(&mut window, fresh()));
                    filled = 0;
                }
                filled += bytes;
                window.tasks.extend(piece);
                if is_held && bytes > most {
                    window.is_oversized = true;
                    for (tensor, range) in needed {
                        window.held.insert(tensor, range);
                    }
                    windows.push(std::mem::replace(&mut window, fresh()));
                    filled = 0;
                    continue;
                }
                for (tensor, range) in needed {
                    let own = window.held.entry(tensor).or_insert(range.clone());
                    *own = own.start.min(range.start)..own.end.max(range.end);
                }
            }
        }
        if !window.tasks.is_empty() {
            windows.push(window);
        }
        windows
    }

    /// Loads what a window holds, and makes the decisions that its tasks need.
    fn open_window(&mut self, s: usize, window: &Window, includes_own: bool) -> Result<()> {
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
            self.load(window, stream.is_some())?;
        }
        // Decisions of the stages below first: the ones above look at what they write.
        let mut wanted: Vec<Vec<usize>> = vec![Vec::new(); s + 1];
        for task in &window.tasks {
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
            self.survey_units(stage, &units)?;
        }
        Ok(())
    }

    fn load(&mut self, window: &Window, in_order: bool) -> Result<()> {
        let total: u64 = window.held.values().map(|r| r.end - r.start).sum();
        let mut arena = std::mem::take(&mut self.cache.arena);
        if arena.len() < total as usize {
            arena.resize(total as usize, 0);
        }
        let mut at = 0;
        let mut pieces = Vec::new();
        let mut rest: &mut [u8] = &mut arena;
        for (&tensor, range) in &window.held {
            let length = (range.end - range.start) as usize;
            self.cache.ranges.insert(tensor, (range.start, at, length));
            at += length;
            let (own, others) = rest.split_at_mut(length);
            rest = others;
            for (i, chunk) in own.chunks_mut(BLOCK_BYTES).enumerate() {
                pieces.push((tensor, range.start + (i * BLOCK_BYTES) as u64, chunk));
            }
        }
        let result = if in_order {
            // A stream has one reader; tensors stand in its order.
            pieces.into_iter().try_for_each(|(tensor, offset, chunk)| {
                self.check_stop()?;
                self.checkpoint.read(tensor, offset, chunk)
            })
        } else {
            let pieces: Vec<_> = pieces.into_iter().map(|p| Mutex::new(Some(p))).collect();
            self.run(
                &pieces,
                || (),
                |(), piece| {
                    let taken = piece.lock().unwrap_or_else(PoisonError::into_inner).take();
                    let Some((tensor, offset, chunk)) = taken else { return Ok(()) };
                    self.checkpoint.read(tensor, offset, chunk)
                },
                |()| (),
            )
        };
        self.cache.arena = arena;
        result
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

    /// Rounds of looking at units that are decided one by one. Their source bytes are in the window.
    fn survey_units(&self, s: usize, units: &[usize]) -> Result<()> {
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
            self.run(
                &tasks,
                || (),
                |(), (i, task)| {
                    let so_far = open[*i].1.as_ref();
                    let mut partial = stage.pass.begin(so_far);
                    self.look(s, task, so_far, &mut partial)?;
                    let mut slot = partials[*i].lock().unwrap_or_else(PoisonError::into_inner);
                    match slot.as_mut() {
                        Some(all) => stage.pass.merge(all, partial),
                        None => *slot = Some(partial),
                    }
                    Ok(())
                },
                |()| (),
            )?;
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

    fn look(&self, s: usize, task: &Task, so_far: Option<&Decision>, partial: &mut Partial) -> Result<()> {
        let stage = &self.chain.stages[s];
        let context = Context { cache: &self.cache, pool: &self.pool, reports: None };
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
                        self.look(s, task, so_far.as_ref(), partial)?;
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
            return self.windows(s, units);
        }
        // Nothing is held: blocks are read, looked at, and let go.
        let mut windows = Vec::new();
        let mut window = Window { tasks: Vec::new(), held: BTreeMap::new(), is_oversized: false };
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
        let windows = self.windows(s, units);
        self.resources.progress.phase("writing", windows.iter().flat_map(|w| &w.tasks).map(|t| t.bytes).sum());
        for window in windows {
            self.open_window(s, &window, true)?;
            let reports = Reports::default();
            self.run(
                &window.tasks,
                || (),
                |(), task| {
                    self.write_block(s, task, parts, sink, &reports)?;
                    self.resources.progress.advance(task.bytes);
                    Ok(())
                },
                |()| (),
            )?;
            folded.add(reports, &self.chain);
        }
        if let Some(stream) = self.checkpoint.stream().filter(|_| !self.spool_whole) {
            stream.drop_spool()?;
        }
        Ok(folded.finish())
    }

    fn write_block(
        &self,
        s: usize,
        task: &Task,
        parts: &[Vec<(usize, u64)>],
        sink: &dyn Sink,
        reports: &Reports,
    ) -> Result<()> {
        let stage = &self.chain.stages[s];
        let unit = &stage.plan.units[task.unit];
        let context = Context { cache: &self.cache, pool: &self.pool, reports: Some(reports) };
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
