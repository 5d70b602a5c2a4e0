//! Writing: the last stage is worked out block by block and handed to the sink; what was done is added up.

use std::collections::HashMap;
use std::sync::PoisonError;

use super::windows::Task;
use super::{Executor, Loading};
use crate::chain::{Cache, Chain, Context, Reports};
use crate::error::Result;
use crate::report::{PassReport, TensorReport};
use crate::sink::Sink;

impl Executor<'_> {
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
            let is_streamed = window.is_solo && self.checkpoint.stream().is_some() && !self.spool_whole;
            self.run_claiming(
                &window.tasks,
                Cache::default,
                |own, task| match is_streamed {
                    true => self.load(own, &self.source_ranges(s, std::slice::from_ref(task)), Loading::Alone),
                    false => Ok(()),
                },
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

    /// Loads (unless it came from a stream), looks at, decides and writes a whole unit or one block on this thread alone.
    pub(super) fn write_unit(
        &self,
        cache: &mut Cache,
        s: usize,
        task: &Task,
        parts: &[Vec<(usize, u64)>],
        sink: &dyn Sink,
        reports: &Reports,
    ) -> Result<()> {
        if self.checkpoint.stream().is_none() || self.spool_whole {
            self.load(cache, &self.source_ranges(s, std::slice::from_ref(task)), Loading::Alone)?;
        }
        self.decide_needed(cache, s, std::slice::from_ref(task), true, true)?;
        let is_whole = task.rows.len() == self.chain.stages[s].plan.units[task.unit].rows;
        let blocks = if is_whole { self.blocks(s, task.unit) } else { vec![task.clone()] };
        for block in blocks {
            self.check_stop()?;
            self.write_block(cache, s, &block, parts, sink, reports)?;
            self.resources.progress.advance(block.bytes);
        }
        Ok(())
    }

    pub(super) fn write_block(
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
