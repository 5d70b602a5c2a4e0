//! A plain executor: one thread, any block size, partial results merged last to first.

use std::ops::Range;

use dlopt_checkpoint::{
    Block, Decision, Dtype, Header, Output, Partial, Pass, Plan, Result, RowReport, Scope, Span, Step, TensorInfo,
};
use half::{bf16, f16};

/// A checkpoint in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Memory {
    pub(super) header: Header,
    pub(super) data: Vec<Vec<u8>>,
}

impl Memory {
    pub(super) fn with(mut self, name: &str, dtype: Dtype, shape: &[usize], data: Vec<u8>) -> Self {
        self.header.tensors.push(TensorInfo::new(name, dtype, shape));
        assert_eq!(self.header.tensors.last().unwrap().bytes(), data.len() as u64, "{name}");
        self.data.push(data);
        self
    }

    pub(super) fn with_values(self, name: &str, dtype: Dtype, shape: &[usize], values: &[f64]) -> Self {
        self.with(name, dtype, shape, encode(dtype, values))
    }

    pub(super) fn tensor(&self, name: &str) -> (&TensorInfo, &[u8]) {
        let i = self.header.tensors.iter().position(|t| t.name == name).unwrap();
        (&self.header.tensors[i], &self.data[i])
    }

    pub(super) fn values(&self, name: &str) -> Vec<f64> {
        let (info, data) = self.tensor(name);
        decode(info.dtype, data)
    }
}

pub(super) fn encode(dtype: Dtype, values: &[f64]) -> Vec<u8> {
    let one = |x: &f64| match dtype {
        Dtype::F16 => f16::from_f64(*x).to_le_bytes().to_vec(),
        Dtype::BF16 => bf16::from_f64(*x).to_le_bytes().to_vec(),
        Dtype::F32 => (*x as f32).to_le_bytes().to_vec(),
        _ => x.to_le_bytes().to_vec(),
    };
    values.iter().flat_map(one).collect()
}

pub(super) fn decode(dtype: Dtype, data: &[u8]) -> Vec<f64> {
    match dtype {
        Dtype::F16 => data.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f64()).collect(),
        Dtype::BF16 => data.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f64()).collect(),
        Dtype::F32 => data.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
        _ => data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
    }
}

/// Runs a pass in blocks of `quanta` row quanta.
pub(super) fn run(pass: &dyn Pass, input: &Memory, quanta: usize) -> Result<(Memory, Vec<RowReport>)> {
    let mut plan = pass.plan(&input.header)?;
    let model: Vec<usize> = (0..plan.units.len()).filter(|u| plan.units[*u].scope == Scope::Model).collect();
    let mut of_model = None;
    if !model.is_empty() {
        let decision = look(pass, &plan, &model, input, quanta)?;
        if let Some(again) = pass.replan(&input.header, &plan, &decision)? {
            plan = again;
        }
        of_model = Some(decision);
    }
    let mut output = Memory { header: Header { metadata: plan.metadata.clone(), ..Header::default() }, data: vec![] };
    let mut reports = Vec::new();
    for (position, unit) in plan.units.iter().enumerate() {
        if unit.is_copy {
            output.data.push(input.data[unit.reads[0].tensor].clone());
            output.header.tensors.push(unit.writes[0].info.clone());
            continue;
        }
        let decision = match unit.scope {
            Scope::Block => None,
            Scope::Unit => Some(look(pass, &plan, &[position], input, quanta)?),
            Scope::Model => of_model.clone(),
        };
        // Bytes that the pass forgets to set show.
        let mut parts: Vec<Vec<u8>> = unit.writes.iter().map(|w| vec![0xaa; w.info.bytes() as usize]).collect();
        for rows in blocks(&plan, position, quanta) {
            let ranges: Vec<_> = unit
                .writes
                .iter()
                .zip(&parts)
                .enumerate()
                .map(|(w, (write, part))| {
                    let total = part.len() as u64;
                    match write.span {
                        Span::Whole if rows.start > 0 => total..total,
                        Span::Ragged { .. } => pass.ragged(unit, position, w, &rows, decision.as_ref().unwrap()),
                        _ => write.span.range(&rows, total).unwrap(),
                    }
                })
                .collect();
            let inputs = inputs(&plan, position, input, &rows)?;
            let outs = parts.iter_mut().zip(ranges).map(|(part, r)| &mut part[r.start as usize..r.end as usize]);
            let mut out = Output { parts: outs.collect(), report: Vec::new() };
            let block = Block { rows, inputs };
            pass.apply(unit, position, &block, decision.as_ref(), &mut out)?;
            reports.extend(out.report);
        }
        output.header.tensors.extend(unit.writes.iter().map(|w| w.info.clone()));
        output.data.extend(parts);
    }
    Ok((output, reports))
}

fn blocks(plan: &Plan, position: usize, quanta: usize) -> Vec<Range<usize>> {
    let unit = &plan.units[position];
    let step = unit.row_quantum.saturating_mul(quanta);
    (0..unit.rows).step_by(step).map(|begin| begin..begin.saturating_add(step).min(unit.rows)).collect()
}

fn inputs<'a>(plan: &Plan, position: usize, input: &'a Memory, rows: &Range<usize>) -> Result<Vec<&'a [u8]>> {
    let unit = &plan.units[position];
    unit.reads
        .iter()
        .map(|read| {
            let data = &input.data[read.tensor];
            let size = input.header.tensors[read.tensor].dtype.bitsize() / 8;
            let range = match read.span {
                Span::Ragged { offsets } => {
                    let offsets = &input.data[unit.reads[offsets].tensor];
                    let at = |row: usize| match offsets.as_chunks().0.get(row) {
                        Some(b) => i64::from_le_bytes(*b).clamp(0, (data.len() / size) as i64) as usize * size,
                        None => data.len(),
                    };
                    let begin = at(rows.start);
                    begin..at(rows.end).max(begin)
                }
                _ => {
                    let range = read.span.range(rows, data.len() as u64).unwrap();
                    range.start as usize..range.end as usize
                }
            };
            Ok(&data[range])
        })
        .collect()
}

fn look(pass: &dyn Pass, plan: &Plan, units: &[usize], input: &Memory, quanta: usize) -> Result<Decision> {
    let mut so_far: Option<Decision> = None;
    for round in 0.. {
        assert!(round < 12, "the search does not end");
        let mut partials: Vec<Partial> = Vec::new();
        for position in units {
            let unit = &plan.units[*position];
            for rows in blocks(plan, *position, quanta) {
                if !pass.looks_at(unit, &rows, so_far.as_ref()) {
                    continue;
                }
                let inputs = inputs(plan, *position, input, &rows)?;
                let mut partial = pass.begin(so_far.as_ref());
                pass.survey(unit, *position, &Block { rows, inputs }, so_far.as_ref(), &mut partial)?;
                partials.push(partial);
            }
        }
        let mut all = pass.begin(so_far.as_ref());
        for partial in partials.into_iter().rev() {
            pass.merge(&mut all, partial);
        }
        let named: Vec<_> = units.iter().map(|u| (*u, &plan.units[*u])).collect();
        match pass.decide(&named, so_far.as_ref(), all)? {
            Step::Again(decision) => so_far = Some(decision),
            Step::Done(decision) => return Ok(decision),
        }
    }
    unreachable!()
}
