//! Answers from a cache, sample by sample.

use dlopt_checkpoint::{Checkpoint, Error, Result, Tensors};
use dlopt_data::{Batch, available_memory_bytes};
use half::f16;
use half::slice::HalfFloatSliceExt;

use super::facts::{Facts, KEY};
use super::top;
use crate::teacher::Said;

/// A cache that is open.
pub struct Cache {
    name: String,
    facts: Facts,
    checkpoint: Checkpoint,
    /// The bytes of every tensor, if all of them fit into memory.
    memory: Option<Vec<Vec<u8>>>,
    /// The layers wanted, as places among the facts' layers.
    layers: Vec<usize>,
    bytes: Vec<u8>,
    values: Vec<f32>,
}

impl Cache {
    /// Opens a cache.
    ///
    /// # Errors
    /// When it is none, or its tensors are not those that its facts say.
    pub fn open(checkpoint: Checkpoint) -> Result<Self> {
        let name = checkpoint.name.clone();
        let within = |e: Error| e.within(&name);
        let facts = Facts::read(checkpoint.header.metadata.get(KEY)).map_err(within)?;
        check(&facts, &checkpoint).map_err(within)?;
        let bytes = checkpoint.header.data_bytes();
        let mut memory = None;
        if bytes <= available_memory_bytes() / 4 {
            let mut all = Vec::new();
            for (at, tensor) in checkpoint.header.tensors.iter().enumerate() {
                let mut own = vec![0; tensor.bytes() as usize];
                checkpoint.read(at, 0, &mut own)?;
                all.push(own);
            }
            memory = Some(all);
        }
        Ok(Self { name, facts, checkpoint, memory, layers: Vec::new(), bytes: Vec::new(), values: Vec::new() })
    }

    /// What it is of.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Takes it for what is wanted: answers are to have the layers of `wanted`, in its order.
    ///
    /// # Errors
    /// When it is of another teacher, other data or other views; all differences are named.
    pub fn expect(&mut self, wanted: &Facts) -> Result<()> {
        self.facts.check(wanted).map_err(|e| e.within(&self.name))?;
        let place = |layer| self.facts.layers.iter().position(|own| own == layer);
        self.layers = wanted.layers.iter().filter_map(place).collect();
        Ok(())
    }

    /// What the teacher said of a batch in a view.
    ///
    /// # Errors
    /// When a sample or view is not in the cache, or the file fails.
    pub fn say(&mut self, view: u64, batch: &Batch, said: &mut Said) -> Result<()> {
        let rows = batch.indices.iter().map(|&sample| {
            self.facts.row(view, sample).ok_or_else(|| {
                Error::input(format!("{}: has no answer for sample {sample} in view {view}", self.name))
                    .hint("make the cache again, for these data and views")
            })
        });
        let rows = rows.collect::<Result<Vec<usize>>>()?;
        said.outputs.clear();
        let first_feature = match self.facts.keeping.top {
            None => {
                for &row in &rows {
                    self.floats(0, row, self.facts.outputs)?;
                    said.outputs.extend_from_slice(&self.values);
                }
                1
            }
            Some(top) => {
                for &row in &rows {
                    self.joined(row, top.count, &mut said.outputs)?;
                }
                3
            }
        };
        said.features.resize(self.layers.len(), Vec::new());
        for (own, features) in said.features.iter_mut().enumerate() {
            features.clear();
            let layer = self.layers[own];
            let len = self.facts.layers[layer].1.iter().product();
            for &row in &rows {
                self.floats(first_feature + layer, row, len)?;
                features.extend_from_slice(&self.values);
            }
        }
        self.refuse_no_numbers(batch, said)
    }

    fn refuse_no_numbers(&self, batch: &Batch, said: &Said) -> Result<()> {
        let Some(at) = said.outputs.iter().position(|value| !value.is_finite()) else { return Ok(()) };
        let sample = batch.indices[at / self.facts.outputs.max(1)];
        Err(Error::input(format!("{}: the teacher said {} of sample {sample}", self.name, said.outputs[at])))
    }

    /// Adds the answer of a row whose largest logits alone are kept.
    fn joined(&mut self, row: usize, count: usize, outputs: &mut Vec<f32>) -> Result<()> {
        let width = self.facts.width;
        let (steps, count) = (self.facts.outputs / width.max(1), count.min(width));
        self.fill(0, row, 4 * steps * count)?;
        let classes: Vec<u32> = self.bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
        self.fill(1, row, 4 * steps)?;
        let rest: Vec<f32> = self.bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        self.floats(2, row, steps * count)?;
        let first = outputs.len();
        outputs.resize(first + self.facts.outputs, 0.0);
        for (step, out) in outputs[first..].chunks_exact_mut(width.max(1)).enumerate() {
            let own = step * count..(step + 1) * count;
            top::join(&self.values[own.clone()], &classes[own], rest[step], out);
        }
        Ok(())
    }

    /// Reads a row of a tensor of floats into `values`.
    fn floats(&mut self, tensor: usize, row: usize, len: usize) -> Result<()> {
        let is_half = self.facts.keeping.is_half;
        self.fill(tensor, row, len * if is_half { 2 } else { 4 })?;
        self.values.clear();
        if is_half {
            let halves: Vec<f16> = self.bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b)).collect();
            self.values.resize(len, 0.0);
            halves.convert_to_f32_slice(&mut self.values);
        } else {
            self.values.extend(self.bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)));
        }
        Ok(())
    }

    /// Reads a row of `len` bytes.
    fn fill(&mut self, tensor: usize, row: usize, len: usize) -> Result<()> {
        self.bytes.clear();
        match &self.memory {
            Some(all) => self.bytes.extend_from_slice(&all[tensor][row * len..][..len]),
            None => {
                self.bytes.resize(len, 0);
                self.checkpoint.read(tensor, (row * len) as u64, &mut self.bytes)?;
            }
        }
        Ok(())
    }
}

/// Refuses tensors that are not what the facts say.
fn check(facts: &Facts, checkpoint: &Checkpoint) -> Result<()> {
    let wrong = |what: String| Error::input(format!("{what}; the file is damaged")).hint("make the cache again");
    let steps = facts.outputs.checked_div(facts.width).unwrap_or_default();
    if steps * facts.width != facts.outputs || facts.outputs == 0 {
        return Err(wrong(format!("{} outputs in rows of {}", facts.outputs, facts.width)));
    }
    let found = &checkpoint.header.tensors;
    for (at, wanted) in facts.tensors().iter().enumerate() {
        if found.get(at) != Some(wanted) {
            return Err(wrong(format!("tensor {at} should be `{}` {:?}", wanted.name, wanted.shape)));
        }
    }
    Ok(())
}
