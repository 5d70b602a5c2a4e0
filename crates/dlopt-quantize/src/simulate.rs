//! Simulated quantization: what weights become when they are quantized and read back, in memory, as often as asked.
//!
//! ```text
//! y = (q(x) - zero) * scale
//! ```
//! with the scales, zero points and codes `q` that [`Quantize`] would store for the same weights, and the products that
//! [`Dequantize`](crate::Dequantize) would read: the same methods and formats do the arithmetic, so `y` is theirs bit for
//! bit. A weight of exactly 0 stays 0, with zero points too: those are codes, and the code of 0 is the zero point.
//! For training with quantized weights (Jacob et al., 2018, arXiv:1712.05877).

use dlopt_checkpoint::{Dtype, Header, Pass, Result};
use dlopt_kernels::{Float, narrow, widen};

use crate::encode::{Chosen, Job, Seen};
use crate::fates::Fate;
use crate::formats::{Format, Row, Steps, float};
use crate::methods::{Scales, Tile};
use crate::{Granularity, Quantize, Storage};

/// A weight that a [`Quantize`] takes, and what it does to it. Weights are F32 `[rows, columns]`.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// Its position in the header.
    pub tensor: usize,
    /// Rows; any number of whole [`Simulated::quantum`]s can be worked on alone.
    pub rows: usize,
    /// Weights of a row.
    pub columns: usize,
    job: Job,
}

/// Room that is kept between calls.
#[derive(Debug, Default)]
pub struct Room {
    scales: Scales,
    codes: Vec<u8>,
    numbers: Vec<i8>,
}

impl Quantize {
    /// The weights that this pass would change in a checkpoint of F32 tensors.
    ///
    /// # Errors
    /// When the pass does not apply to the checkpoint.
    pub fn simulate(&self, header: &Header) -> Result<Vec<Simulated>> {
        // Refuses what the pass would refuse.
        self.plan(header)?;
        let mut taken = Vec::new();
        for (at, (tensor, (choice, fate))) in header.tensors.iter().zip(self.fates(header)?).enumerate() {
            let Fate::Taken(key) = fate else { continue };
            let job = self.job(key);
            let [rows, columns] = match job.scheme.storage {
                Storage::Dense(Dtype::F32) => continue,
                Storage::Dense(_) => [tensor.elements(), 1],
                Storage::Codes(_) => [choice.layer.rows, choice.layer.columns],
            };
            taken.push(Simulated { tensor: at, rows, columns, job });
        }
        Ok(taken)
    }
}

impl Simulated {
    /// Rows that have to be worked on together.
    pub fn quantum(&self) -> usize {
        match self.job.scheme.granularity {
            Granularity::Tensor if self.job.scheme.format().is_some() => self.rows,
            _ => self.job.height(),
        }
    }

    /// Rows and columns of the weights that share a codebook, if it stores codebooks.
    pub fn sharing(&self) -> Option<[usize; 2]> {
        self.job.scheme.format()?.entries(self.job.scheme.bits)?;
        Some([self.quantum(), self.job.group(self.columns)])
    }

    /// Quantizes rows and reads them back, in place. Rows that share scales with a number that is not finite stay as they
    /// are, unless the pass allows those.
    pub fn apply(&self, x: &mut [f32], room: &mut Room) {
        match self.job.scheme.storage {
            Storage::Dense(to) => cast(float(to).unwrap_or(Float::F32), x, &mut room.codes),
            Storage::Codes(format) => self.encode_and_decode(format, x, room),
        }
    }

    fn encode_and_decode(&self, format: &'static dyn Format, x: &mut [f32], room: &mut Room) {
        let (job, columns) = (&self.job, self.columns);
        let (encoding, group, bits) = (job.encoding(format), job.group(columns), job.scheme.bits);
        let is_fit = |x: &[f32]| job.allow_nonfinite || x.iter().all(|x| x.is_finite());
        let chosen = match job.scheme.granularity {
            Granularity::Tensor if is_fit(x) => Some(self.choose_for_all(format, x)),
            Granularity::Tensor => return,
            _ => None,
        };
        let Room { scales, codes, numbers } = room;
        codes.resize(format.row_bytes(columns, bits), 0);
        for tile in x.chunks_mut(columns * job.height()).filter(|tile| is_fit(tile)) {
            match &chosen {
                Some(chosen) => chosen.fill(encoding.is_symmetric, scales),
                None => job.choose(&Tile { x: tile, columns, group, encoding: &encoding }, scales),
            }
            let (scale, zero) = (scales.scale.as_slice(), scales.zero.as_slice());
            for x in tile.chunks_exact_mut(columns) {
                format.encode(&Row { x, group, scale, zero, bits }, numbers, codes);
                format.decode(codes, &Steps { group, scale, zero, bits }, numbers, x);
            }
        }
    }

    /// The one scale of a whole weight, chosen in the rounds that the executor runs.
    fn choose_for_all(&self, format: &'static dyn Format, x: &[f32]) -> Chosen {
        let encoding = self.job.encoding(format);
        let mut chosen = None;
        loop {
            let mut seen = Seen::default();
            x.chunks(self.columns).enumerate().for_each(|(row, x)| seen.look(row, x, &encoding, chosen.as_ref()));
            match self.job.conclude(chosen.as_ref(), seen) {
                (next, true) => chosen = Some(next),
                (last, false) => return last,
            }
        }
    }
}

fn cast(to: Float, x: &mut [f32], bytes: &mut Vec<u8>) {
    bytes.resize(x.len() * to.bytes(), 0);
    narrow(to, x, bytes);
    widen(to, bytes, x);
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::sync::atomic::AtomicBool;

    use dlopt_checkpoint::{Checkpoint, Job, NoProgress, Resources, Target, TensorInfo, Tensors, View, read_history};

    use super::*;
    use crate::methods::METHODS;
    use crate::{Dequantize, Fallback, Scheme, is_quantized};

    /// A dense layer, a convolution and a bias, with zeros and uneven sizes.
    fn checkpoint() -> (Header, Vec<Vec<f32>>) {
        let shapes = [("fc1.weight", vec![45, 64]), ("conv.weight", vec![5, 3, 3, 3]), ("fc1.bias", vec![45])];
        let mut header = Header::default();
        header.metadata.insert("config".to_owned(), r#"{"model_type": "dlopt"}"#.to_owned());
        let mut values = Vec::new();
        for (name, shape) in shapes {
            let info = TensorInfo::new(name, Dtype::F32, shape);
            let value = |i: usize| if i.is_multiple_of(5) { 0.0 } else { ((i * 7919 % 1009) as f32 - 504.0) / 311.0 };
            values.push((0..info.elements()).map(value).collect());
            header.tensors.push(info);
        }
        (header, values)
    }

    /// What the passes make of it, through a file.
    fn quantized(quantize: &Quantize, header: &Header, values: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let mut file = header.to_bytes().unwrap();
        values.iter().flatten().for_each(|v| file.extend_from_slice(&v.to_le_bytes()));
        let source = Checkpoint::from_stream(Box::new(Cursor::new(file)), "memory".to_owned()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.safetensors");
        let job = Job {
            checkpoint: &source,
            passes: vec![quantize],
            is_folder: false,
            max_shard_bytes: None,
            keep_files: true,
            force: false,
            resume: false,
            resources: Resources {
                threads: 2,
                memory_bytes: 64 << 20,
                tmp_dir: dir.path().to_owned(),
                progress: &NoProgress,
                stop: &AtomicBool::new(false),
            },
        };
        job.run(Target::File(path.clone())).unwrap();
        let stored = Checkpoint::open(&path).unwrap();
        let has_codes = quantize.scheme.format().is_some();
        assert!(!is_quantized(&source.header).unwrap() && is_quantized(&stored.header).unwrap() == has_codes);
        assert_eq!(read_history(&stored.header).unwrap().len(), 1);
        let view = View::new(&stored, &[&Dequantize]).unwrap();
        let read = |info: &TensorInfo| {
            let at = view.header().tensors.iter().position(|t| t.name == info.name).unwrap();
            let dtype = float(view.header().tensors[at].dtype).unwrap();
            let mut bytes = vec![0; info.elements() * dtype.bytes()];
            view.read(at, 0, &mut bytes).unwrap();
            let mut x = vec![0.0; info.elements()];
            widen(dtype, &bytes, &mut x);
            x
        };
        header.tensors.iter().map(read).collect()
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    #[test]
    fn a_simulated_weight_is_what_the_passes_store_bit_for_bit() {
        let (header, values) = checkpoint();
        for scheme in
            ["w4a16:32", "w4a16:tensor", "w2a16_asym:16", "w8a16_asym:channel", "w8a8:tensor", "w8a8_asym:tensor"]
                .into_iter()
                .chain([
                    "w3a16_asym:16",
                    "w5a16_asym:channel",
                    "w6a16:16",
                    "w7a16_asym:32",
                    "codebook",
                    "codebook3:channel",
                    "codebook2:16",
                    "codebook8",
                    "fp8_dynamic",
                    "fp8_dynamic:tensor",
                    "fp8_block",
                    "fp8a16",
                    "bf16",
                    "f16",
                ])
        {
            for method in METHODS {
                let mut quantize = Quantize::new(Scheme::parse(scheme).unwrap());
                (quantize.method, quantize.fallback) = (*method, Fallback::Channel);
                let expected = quantized(&quantize, &header, &values);
                let mut found = values.clone();
                let mut room = Room::default();
                for weight in quantize.simulate(&header).unwrap() {
                    let piece = weight.columns * weight.quantum();
                    found[weight.tensor].chunks_mut(piece).for_each(|x| weight.apply(x, &mut room));
                }
                for ((found, expected), info) in found.iter().zip(&expected).zip(&header.tensors) {
                    assert!(bits(found) == bits(expected), "{scheme} {} {}", method.plugin().name, info.name);
                }
                let zeros = |x: &[f32]| x.iter().step_by(5).all(|x| *x == 0.0);
                assert!(zeros(&found[0]) && zeros(&found[1]), "zeros stay zeros: {scheme}");
                assert!(found[0] != values[0], "{scheme}");
            }
        }
    }

    #[test]
    fn a_row_that_is_no_number_stays_one() {
        let (header, mut values) = checkpoint();
        values[0][70] = f32::NAN;
        for scheme in ["w4a16:32", "w8a8:tensor"] {
            let weight = &Quantize::new(Scheme::parse(scheme).unwrap()).simulate(&header).unwrap()[0];
            let mut x = values[0].clone();
            weight.apply(&mut x, &mut Room::default());
            assert!(x[70].is_nan());
            assert_eq!(bits(&x[64..128]), bits(&values[0][64..128]));
        }
    }

    #[test]
    fn what_the_pass_refuses_is_refused() {
        let (header, _) = checkpoint();
        let quantize = Quantize::new(Scheme::parse("w4a16:60").unwrap());
        assert!(quantize.simulate(&header).unwrap_err().message().contains("fit none"));
    }
}
