use std::io::Cursor;

use dlopt_checkpoint::{Checkpoint, Dtype, NameGlob, Selection, View};

use super::*;
use crate::{Dequantize, Fallback, Quantize, Scheme};

/// A linear layer and a convolution, of uneven sizes.
fn checkpoint() -> Checkpoint {
    let mut header = Header::default();
    header.metadata.insert("config".to_owned(), r#"{"model_type": "dlopt"}"#.to_owned());
    let mut bytes = Vec::new();
    for (name, shape) in [("fc1.weight", vec![13, 64]), ("conv.weight", vec![5, 3, 3, 3]), ("fc1.bias", vec![13])] {
        let info = TensorInfo::new(name, Dtype::F32, shape);
        let value = |i: usize| if i.is_multiple_of(5) { 0.0 } else { ((i * 7919 % 1009) as f32 - 504.0) / 311.0 };
        (0..info.elements()).for_each(|i| bytes.extend_from_slice(&value(i).to_le_bytes()));
        header.tensors.push(info);
    }
    let mut file = header.to_bytes().unwrap();
    file.extend_from_slice(&bytes);
    let checkpoint = Checkpoint::from_stream(Box::new(Cursor::new(file)), "memory".to_owned()).unwrap();
    let stream = checkpoint.stream().unwrap();
    stream.spool_all(&std::env::temp_dir()).and_then(|()| stream.finish()).unwrap();
    checkpoint
}

fn quantize(scheme: &str) -> Quantize {
    Quantize { fallback: Fallback::Channel, ..Quantize::new(Scheme::parse(scheme).unwrap()) }
}

#[test]
fn codes_and_scales_are_those_that_the_decoder_multiplies() {
    let source = checkpoint();
    for scheme in ["w4a16:16", "w4a16_asym:32", "w3a16_asym:16", "w8a16:64", "w2a16:16", "w8a8"] {
        let quantize = quantize(scheme);
        let view = View::new(&source, &[&quantize]).unwrap();
        let dense = View::new(&source, &[&quantize, &Dequantize]).unwrap();
        let weights = StoredWeight::all(view.header()).unwrap();
        assert_eq!(weights.len(), 2, "{scheme}");
        for weight in weights {
            assert!(weight.is_integer());
            let coded = weight.read(&view).unwrap();
            let [outputs, inputs] = weight.extents();
            let groups = inputs.div_ceil(weight.group());
            assert_eq!((coded.codes.len(), coded.scale.len()), (outputs * inputs, outputs * groups));
            let at = dense.header().tensors.iter().position(|t| t.name == weight.info().name).unwrap();
            let mut bytes = vec![0; outputs * inputs * 4];
            dense.read(at, 0, &mut bytes).unwrap();
            for (i, wanted) in bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).enumerate() {
                let g = i / inputs * groups + i % inputs / weight.group();
                let zero = coded.zero.get(g).map_or(0.0, |zero| f32::from(*zero));
                assert_eq!((f32::from(coded.codes[i]) - zero) * coded.scale[g], wanted, "{scheme} {i}");
            }
        }
    }
}

#[test]
fn rows_in_blocks_are_those_of_the_whole() {
    let source = checkpoint();
    for scheme in ["w4a16:16", "w4a16_asym:32", "w2a16_asym:16", "w8a8", "fp8_block"] {
        let quantize = quantize(scheme);
        let view = View::new(&source, &[&quantize]).unwrap();
        for weight in StoredWeight::all(view.header()).unwrap() {
            let whole = weight.read(&view).unwrap();
            let rows = weight.extents()[0];
            let mut blocks = weight.blocks();
            assert_eq!((blocks.next(), blocks.next()), (Some(0..rows), None));
            let mut joined = Coded { codes: Vec::new(), scale: Vec::new(), zero: Vec::new() };
            let quantum = weight.unit.row_quantum;
            for first in (0..rows).step_by(quantum) {
                let part = weight.read_rows(&view, first..rows.min(first + quantum)).unwrap();
                joined.codes.extend(part.codes);
                joined.scale.extend(part.scale);
                joined.zero.extend(part.zero);
            }
            assert_eq!(joined, whole, "{scheme}, {quantum} rows at a time");
        }
    }
}

#[test]
fn the_config_says_what_becomes_of_activations() {
    let source = checkpoint();
    for (scheme, wanted) in [
        ("w8a8", Activations::Int8Token),
        ("w4a16:16", Activations::Dense),
        ("fp8", Activations::Fp8Token),
        ("fp8_block", Activations::Fp8Group128),
    ] {
        let quantize = quantize(scheme);
        let view = View::new(&source, &[&quantize]).unwrap();
        let weights = StoredWeight::all(view.header()).unwrap();
        let linear = weights.iter().find(|w| w.info().name == "fc1.weight").unwrap();
        assert_eq!(linear.activations(), wanted, "{scheme}");
    }
    // Without a linear layer there is no config to ask.
    let mut quantize = quantize("w8a8");
    quantize.selection = Selection { include: vec![NameGlob::new("conv.weight").unwrap()], ..Selection::default() };
    let view = View::new(&source, &[&quantize]).unwrap();
    assert_eq!(StoredWeight::all(view.header()).unwrap()[0].activations(), Activations::Int8Token);
}

#[test]
fn a_scale_that_is_no_number_is_refused_with_its_row() {
    let source = checkpoint();
    let quantize = quantize("w8a8");
    let view = View::new(&source, &[&quantize]).unwrap();
    let weights = StoredWeight::all(view.header()).unwrap();
    let linear = weights.iter().find(|w| w.info().name == "fc1.weight").unwrap();
    let broken = Broken { inner: &view, tensor: linear.reads[1].0 };
    let error = linear.read(&broken).unwrap_err();
    assert!(error.message().contains("`fc1.weight` has a scale that is not positive, in row 0"), "{error}");
}

/// A source in which every byte of one tensor is set.
struct Broken<'a> {
    inner: &'a dyn Tensors,
    tensor: usize,
}

impl Tensors for Broken<'_> {
    fn header(&self) -> &Header {
        self.inner.header()
    }

    fn read(&self, tensor: usize, offset: u64, into: &mut [u8]) -> Result<()> {
        self.inner.read(tensor, offset, into)?;
        if tensor == self.tensor {
            into.fill(0xff);
        }
        Ok(())
    }
}
