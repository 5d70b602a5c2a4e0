//! Windows: runs of blocks whose source bytes fit the budget.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Executor;
use crate::chain::Need;
use crate::pass::Decision;

/// Input bytes of a window that is not held in memory; bounds its row reports.
const OPEN_WINDOW_BYTES: u64 = 32 << 20;
/// Input bytes that a held window aims at: looked at and written while they are still in the last-level cache.
const HELD_WINDOW_BYTES: u64 = 16 << 20;
/// Input bytes of a window of units that workers do alone; bounds its row reports.
const SOLO_WINDOW_BYTES: u64 = 1 << 30;

/// One block of a unit of the stage at work.
#[derive(Clone)]
pub(super) struct Task {
    pub(super) unit: usize,
    pub(super) rows: Range<usize>,
    pub(super) bytes: u64,
}

/// A run of tasks, and the source ranges that are held in memory for them.
#[derive(Default)]
pub(super) struct Window {
    pub(super) tasks: Vec<Task>,
    pub(super) held: BTreeMap<usize, Range<u64>>,
    /// A unit too large to be held that must be looked at first: from a stream it is spooled.
    pub(super) is_oversized: bool,
    /// Every worker takes whole units, or blocks of a stream, for itself, with a cache of its own.
    pub(super) is_solo: bool,
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

    /// Adds a task that one worker does alone.
    fn add_solo(&mut self, task: Task, most: u64) {
        if !self.open.is_solo || self.filled > most {
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

impl Executor<'_> {
    /// Bytes that a block of a unit reads and writes.
    pub(super) fn block_cost(&self, s: usize, unit: usize, rows: &Range<usize>) -> u64 {
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
    pub(super) fn blocks(&self, s: usize, unit: usize) -> Vec<Task> {
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
    pub(super) fn needs_a_look(&self, s: usize, unit: usize) -> bool {
        let mut found = false;
        let rows = 0..self.chain.stages[s].plan.units[unit].rows;
        self.chain.needs(s, unit, &rows, &mut |need| {
            if let Need::Unit { stage, unit } = need {
                found |= !self.chain.stages[stage].is_decided(unit);
            }
        });
        found
    }

    /// The source ranges that tasks of stage `s` need, one for each tensor.
    pub(super) fn source_ranges(&self, s: usize, tasks: &[Task]) -> BTreeMap<usize, Range<u64>> {
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

    /// Whether blocks need some source bytes that the block before them needed too: the stages below cut rows
    /// elsewhere. A stream has passed those bytes by then.
    fn blocks_overlap(&self, s: usize, blocks: &[Task]) -> bool {
        let mut ends: BTreeMap<usize, u64> = BTreeMap::new();
        blocks.iter().any(|task| {
            let ranges = self.source_ranges(s, std::slice::from_ref(task));
            ranges
                .into_iter()
                .any(|(tensor, range)| ends.insert(tensor, range.end).is_some_and(|end| range.start < end))
        })
    }

    /// Cuts units of stage `s` into windows. With `may_be_solo` whole units may be left to single workers.
    pub(super) fn windows(&self, s: usize, units: &[usize], may_be_solo: bool) -> Vec<Window> {
        let is_stream = self.checkpoint.stream().is_some() && !self.spool_whole;
        let solo_most = if is_stream || !may_be_solo { 0 } else { self.held_bytes / self.worker_limit as u64 };
        let mut windows = Windows { done: Vec::new(), open: Window::default(), filled: 0 };
        for &unit in units {
            let blocks = self.blocks(s, unit);
            let is_whole = self.needs_a_look(s, unit) || (is_stream && self.blocks_overlap(s, &blocks));
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
                    windows.add_solo(Task { unit, rows, bytes }, SOLO_WINDOW_BYTES);
                } else if bytes > self.held_bytes {
                    windows.close();
                    windows.done.push(Window { tasks: blocks, held, is_oversized: true, is_solo: false });
                } else {
                    windows.add(blocks, held, bytes, HELD_WINDOW_BYTES.min(self.held_bytes));
                }
                continue;
            }
            for task in blocks {
                windows.add_solo(task, OPEN_WINDOW_BYTES);
            }
        }
        windows.close();
        windows.done
    }

    pub(super) fn windows_for_survey(&self, s: usize, units: &[usize], so_far: Option<&Decision>) -> Vec<Window> {
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
}
