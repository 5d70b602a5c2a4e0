//! What lies beside the inputs: labels, targets, sequences. Every row goes to all that comes of its sample.

use dlopt_checkpoint::{Checkpoint, Error, Result, TensorInfo, Tensors};

use super::places::Places;

/// All tensors of a dataset.
pub(super) struct SideTensors {
    /// The extents of one sample.
    pub(super) inputs: Vec<usize>,
    /// Those beside the inputs.
    pub(super) sides: Vec<Side>,
}

/// A tensor beside the inputs.
pub(super) struct Side {
    pub(super) info: TensorInfo,
    bytes: Vec<u8>,
    /// The sample of each row, where a sample has any number of rows.
    samples: Option<Vec<u32>>,
}

/// Reads all tensors but the inputs.
pub(super) fn side_tensors(checkpoint: &Checkpoint) -> Result<SideTensors> {
    let mut all = SideTensors { inputs: Vec::new(), sides: Vec::new() };
    let mut references = None;
    for (number, info) in checkpoint.header.tensors.iter().enumerate() {
        if info.name == "inputs" || info.name.starts_with("inputs.") {
            all.inputs = info.shape.get(1..).unwrap_or_default().to_vec();
            continue;
        }
        if info.name.rsplit('.').next().is_some_and(|end| end.parse::<usize>().is_ok()) {
            return Err(Error::input(format!("{}: tensor `{}` is a part of one", checkpoint.name, info.name))
                .hint("`dlopt convert` makes one file of it"));
        }
        let mut bytes = vec![0; info.bytes() as usize];
        checkpoint.read(number, 0, &mut bytes)?;
        if info.name == "reference_samples" {
            references = Some(bytes.as_chunks().0.iter().map(|&x| u32::from_le_bytes(x)).collect::<Vec<u32>>());
        }
        all.sides.push(Side { info: info.clone(), bytes, samples: None });
    }
    for side in &mut all.sides {
        if side.info.name.starts_with("reference") {
            side.samples.clone_from(&references);
        }
    }
    Ok(all)
}

impl Side {
    /// What it becomes, with rows for all samples of the output, of which `samples` are read.
    pub(super) fn planned(&self, samples: usize, places: &Places) -> Result<TensorInfo> {
        let mut shape = self.info.shape.clone();
        let Some(rows) = shape.first_mut() else {
            return Err(Error::input(format!("tensor `{}` is a single number", self.info.name)));
        };
        *rows = match &self.samples {
            Some(of) => match of.iter().find(|&&sample| sample as usize >= samples) {
                Some(sample) => return Err(Error::input(format!("`{}` names sample {sample}", self.info.name))),
                None => of.iter().map(|&sample| places.of(sample as usize).len()).sum(),
            },
            None if *rows == samples => places.outputs(),
            None => {
                return Err(Error::input(format!("tensor `{}` has {rows} rows for {samples} samples", self.info.name)));
            }
        };
        Ok(TensorInfo::new(self.info.name.as_str(), self.info.dtype, shape))
    }

    /// Gives the bytes of what was planned, piece by piece.
    pub(super) fn write(&self, places: &Places, give: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let rows = self.info.shape.first().copied().unwrap_or(0);
        let width = self.bytes.len() / rows.max(1);
        let row = |row: usize| &self.bytes[row * width..][..width];
        let Some(samples) = &self.samples else {
            return (0..rows).try_for_each(|own| places.of(own).try_for_each(|_| give(row(own))));
        };
        // Rows stand in the order of their samples; so they do afterwards.
        let mut begin = 0;
        for same in samples.chunk_by(|one, next| one == next) {
            for place in places.of(same[0] as usize) {
                for own in begin..begin + same.len() {
                    match self.info.name.as_str() {
                        "reference_samples" => give(&(place as u32).to_le_bytes())?,
                        _ => give(row(own))?,
                    }
                }
            }
            begin += same.len();
        }
        Ok(())
    }
}
