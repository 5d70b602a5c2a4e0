//! Rounds of looking and deciding.

use std::sync::{Mutex, PoisonError};

use super::Executor;
use super::windows::Task;
use crate::chain::{Cache, Context, Need};
use crate::error::Result;
use crate::pass::{Block, Decision, Partial, Scope, Step};

impl Executor<'_> {
    /// Looks at everything that must be seen as a whole before the first byte is written.
    pub(crate) fn survey(&mut self) -> Result<()> {
        self.prepare_stream()?;
        for s in 0..self.chain.stages.len() {
            self.survey_model(s)?;
        }
        Ok(())
    }

    /// Rounds of looking at all units that are decided together.
    pub(super) fn survey_model(&mut self, s: usize) -> Result<()> {
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
            match stage.pass.decide(&named, so_far.as_ref(), all).map_err(|e| self.chain.named(e))? {
                Step::Again(decision) => so_far = Some(decision),
                Step::Done(decision) => {
                    stage.decide_model(decision);
                    return Ok(());
                }
            }
        }
    }

    /// Makes the decisions that tasks of stage `s` need, those of the stages below first: the ones above look at what
    /// they write.
    pub(super) fn decide_needed(
        &self,
        cache: &Cache,
        s: usize,
        tasks: &[Task],
        includes_own: bool,
        is_alone: bool,
    ) -> Result<()> {
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

    /// Rounds of looking at units that are decided one by one. Their source bytes are in the cache.
    pub(super) fn survey_units(&self, cache: &Cache, s: usize, units: &[usize], is_alone: bool) -> Result<()> {
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
                let own = [(unit, &stage.plan.units[unit])];
                let step = stage.pass.decide(&own, so_far.as_ref(), partial).map_err(|e| self.chain.named(e))?;
                match step {
                    Step::Again(decision) => again.push((unit, Some(decision))),
                    Step::Done(decision) => stage.decide_unit(unit, decision),
                }
            }
            open = again;
        }
        Ok(())
    }

    pub(super) fn look(
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
        stage
            .pass
            .survey(&stage.plan.units[task.unit], task.unit, &block, so_far, partial)
            .map_err(|e| self.chain.named(e))
    }
}
