//! Checkpoints in memory, and an executor that cuts units into blocks of any size.

use std::path::Path;

use dlopt_checkpoint::{
    Block, Decision, Dtype, Header, Output, Pass, Plan, Result, RowReport, Scope, Step, TensorInfo, TensorReport, Unit,
    order_plan,
};

/// A checkpoint in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) header: Header,
    pub(crate) data: Vec<Vec<u8>>,
}

impl Memory {
    pub(crate) fn add(&mut self, name: &str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) {
        let info = TensorInfo::new(name, dtype, shape);
        assert_eq!(info.bytes() as usize, bytes.len(), "{name}");
        self.header.tensors.push(info);
        self.data.push(bytes);
    }

    pub(crate) fn add_f32(&mut self, name: &str, shape: &[usize], x: &[f32]) {
        self.add(name, Dtype::F32, shape, x.iter().flat_map(|x| x.to_le_bytes()).collect());
    }

    pub(crate) fn with_config(mut self, config: &str) -> Self {
        self.header.metadata.insert("config".into(), config.into());
        self
    }

    pub(crate) fn position(&self, name: &str) -> usize {
        self.header.tensors.iter().position(|t| t.name == name).unwrap_or_else(|| panic!("no tensor `{name}`"))
    }

    pub(crate) fn info(&self, name: &str) -> &TensorInfo {
        &self.header.tensors[self.position(name)]
    }

    pub(crate) fn bytes(&self, name: &str) -> &[u8] {
        &self.data[self.position(name)]
    }

    /// A tensor as f64; floats of any width.
    pub(crate) fn values(&self, name: &str) -> Vec<f64> {
        values(self.info(name).dtype, self.bytes(name))
    }

    pub(crate) fn read(path: &Path) -> Self {
        let file = std::fs::read(path).unwrap();
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let header = Header::from_text(&file[8..8 + length], Some((file.len() - 8 - length) as u64)).unwrap();
        let mut rest = &file[8 + length..];
        let mut data = Vec::new();
        for tensor in &header.tensors {
            let (bytes, after) = rest.split_at(tensor.bytes() as usize);
            data.push(bytes.to_vec());
            rest = after;
        }
        Self { header, data }
    }
}

pub(crate) fn values(dtype: Dtype, bytes: &[u8]) -> Vec<f64> {
    match dtype {
        Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f64()).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f64()).collect(),
        _ => panic!("{dtype:?} is no float"),
    }
}

/// What a run gave.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) plan: Plan,
    pub(crate) output: Memory,
    /// Of each unit that was worked on, by name.
    pub(crate) reports: Vec<TensorReport>,
}

impl Done {
    pub(crate) fn report(&self, name: &str) -> &TensorReport {
        self.reports.iter().find(|r| r.tensor == name).unwrap()
    }

    pub(crate) fn action(&self, name: &str) -> &str {
        &self.plan.notes.iter().find(|n| n.tensor == name).unwrap().action
    }
}

/// Plans, looks and applies, in blocks of about `rows` rows, twice over differently dirty buffers.
pub(crate) fn run(pass: &dyn Pass, input: &Memory, rows: usize) -> Result<Done> {
    let first = run_over(pass, input, rows, 0xaa)?;
    let second = run_over(pass, input, rows, 0x55)?;
    assert_eq!(first.output.data, second.output.data, "some byte was not written");
    Ok(first)
}

pub(crate) fn blocks(unit: &Unit, rows: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let step = rows.next_multiple_of(unit.row_quantum);
    let total = unit.rows;
    (0..total).step_by(step).map(move |begin| begin..(begin + step).min(total))
}

pub(crate) fn block<'a>(unit: &Unit, input: &'a Memory, rows: std::ops::Range<usize>) -> Block<'a> {
    let inputs = unit.reads.iter().map(|read| {
        let data = &input.data[read.tensor];
        let range = read.span.range(&rows, data.len() as u64).unwrap();
        &data[range.start as usize..range.end as usize]
    });
    let inputs = inputs.collect();
    Block { rows, inputs }
}

fn run_over(pass: &dyn Pass, input: &Memory, rows: usize, dirt: u8) -> Result<Done> {
    let plan = pass.plan(&input.header)?;
    let mut parts: Vec<Vec<Vec<u8>>> = Vec::new();
    let mut reports = Vec::new();
    for (position, unit) in plan.units.iter().enumerate() {
        let mut written: Vec<Vec<u8>> = unit.writes.iter().map(|w| vec![dirt; w.info.bytes() as usize]).collect();
        if unit.is_copy {
            written[0].copy_from_slice(&input.data[unit.reads[0].tensor]);
            parts.push(written);
            continue;
        }
        let decision = decide(pass, input, unit, position, rows)?;
        let mut report = TensorReport { tensor: unit.name.clone(), ..TensorReport::default() };
        let mut rows_reported: Vec<RowReport> = Vec::new();
        for rows in blocks(unit, rows) {
            let block = block(unit, input, rows.clone());
            let parts = written.iter_mut().zip(&unit.writes).map(|(bytes, write)| {
                let range = write.span.range(&rows, bytes.len() as u64).unwrap();
                let is_filled_elsewhere = write.span == dlopt_checkpoint::Span::Whole && rows.start > 0;
                &mut bytes[if is_filled_elsewhere { 0..0 } else { range.start as usize..range.end as usize }]
            });
            let mut output = Output { parts: parts.collect(), report: Vec::new() };
            pass.apply(unit, position, &block, decision.as_ref(), &mut output)?;
            rows_reported.extend(output.report);
        }
        rows_reported.iter().for_each(|row| report.add(row));
        report.finish();
        reports.push(report);
        parts.push(written);
    }
    let ordered = order_plan(&plan);
    let data = ordered.parts.iter().map(|&(u, w)| std::mem::take(&mut parts[u][w])).collect();
    Ok(Done { output: Memory { header: ordered.header, data }, plan, reports })
}

fn decide(pass: &dyn Pass, input: &Memory, unit: &Unit, position: usize, rows: usize) -> Result<Option<Decision>> {
    if unit.scope == Scope::Block {
        return Ok(None);
    }
    let mut so_far: Option<Decision> = None;
    loop {
        let mut all = pass.begin(so_far.as_ref());
        // Backwards: partial results merge in any order.
        for rows in blocks(unit, rows).collect::<Vec<_>>().into_iter().rev() {
            let mut partial = pass.begin(so_far.as_ref());
            pass.survey(unit, position, &block(unit, input, rows), so_far.as_ref(), &mut partial)?;
            pass.merge(&mut all, partial);
        }
        match pass.decide(&[(position, unit)], so_far.as_ref(), all)? {
            Step::Again(decision) => so_far = Some(decision),
            Step::Done(decision) => return Ok(Some(decision)),
        }
    }
}

/// Runs a pass and expects it to refuse.
pub(crate) fn refusal(pass: &dyn Pass, input: &Memory) -> dlopt_checkpoint::Error {
    run(pass, input, 7).expect_err("the pass should have refused")
}
