//! What lies beside the inputs: labels, targets, sequences. Every row goes to all that comes of its sample.

use dlopt_checkpoint::{Checkpoint, Error, Result, TensorInfo, Tensors};

/// A tensor beside the inputs.
pub(super) struct Side {
    pub(super) name: String,
    info: TensorInfo,
    /// The sample of each row, where a sample has any number of rows.
    samples: Option<Vec<u32>>,
}

/// All of a dataset.
pub(super) struct SideTensors {
    /// The extents of one sample.
    pub(super) inputs: Vec<usize>,
    pub(super) sides: Vec<(Side, Vec<u8>)>,
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
        all.sides.push((Side { name: info.name.clone(), info: info.clone(), samples: None }, bytes));
    }
    for (side, _) in &mut all.sides {
        if side.name.starts_with("reference") {
            side.samples.clone_from(&references);
        }
    }
    Ok(all)
}

impl Side {
    /// Its rows for all samples of the output.
    pub(super) fn of(&self, bytes: &[u8], source_of: &[u32], begins: &[usize]) -> Result<(TensorInfo, Vec<u8>)> {
        let rows = self.info.shape.first().copied().unwrap_or(0);
        let width = bytes.len() / rows.max(1);
        let row = |row: usize| &bytes[row * width..][..width];
        let mut shape = self.info.shape.clone();
        let mut out = Vec::new();
        match &self.samples {
            // Rows stand in the order of their samples; so they do afterwards.
            Some(samples) => {
                let mut begin = 0;
                while begin < samples.len() {
                    let sample = samples[begin] as usize;
                    let end = begin + samples[begin..].iter().take_while(|own| **own as usize == sample).count();
                    if sample + 1 >= begins.len() {
                        return Err(Error::input(format!("`{}` names sample {sample}", self.name)));
                    }
                    for place in begins[sample]..begins[sample + 1] {
                        for own in begin..end {
                            match self.name.as_str() {
                                "reference_samples" => out.extend_from_slice(&(place as u32).to_le_bytes()),
                                _ => out.extend_from_slice(row(own)),
                            }
                        }
                    }
                    begin = end;
                }
                shape[0] = out.len() / width.max(1);
            }
            None if rows + 1 == begins.len() => {
                out.reserve(source_of.len() * width);
                source_of.iter().for_each(|&source| out.extend_from_slice(row(source as usize)));
                shape[0] = source_of.len();
            }
            None => {
                return Err(Error::input(format!(
                    "tensor `{}` has {rows} rows for {} samples",
                    self.name,
                    begins.len() - 1
                )));
            }
        }
        Ok((TensorInfo::new(self.name.as_str(), self.info.dtype, shape), out))
    }
}
