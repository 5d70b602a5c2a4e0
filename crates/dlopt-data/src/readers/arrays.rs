//! Arrays by name: NumPy's `.npz` as Keras's `mnist.npz`, and safetensors files.
//!
//! A split is a pair of arrays such as `x_train` and `y_train`; without splits it is `inputs` and `labels` (or
//! `targets`), `x` and `y`, `data` and `target`, `images` and `labels`. Inputs are `[samples, …]`.

use std::path::PathBuf;
use std::sync::Arc;

use dlopt_checkpoint::{Checkpoint, Dtype, Error, Result, Tensors, alignment_bytes, dtype_name};

use super::{
    About, Fixed, Format, Inputs, Labels, MOST_ELEMENTS, ReadOptions, Samples, Source, Values, channels_of, reshaped,
    samples_per_chunk,
};
use crate::convert::{Affine, STORABLE};
use crate::dataset::quoted;
use crate::info::Elements;

pub(super) const FORMAT: Format = Format {
    name: "npz",
    summary: "arrays by name, such as x_train and y_train: NumPy's .npz, or safetensors",
    extensions: &[".npz", ".safetensors"],
    sniff: |first| first.starts_with(b"PK\x03\x04"),
    group: |files| Ok(files.into_iter().map(|file| vec![file]).collect()),
    open,
};

/// Pairs of arrays: the split they are, inputs, and what is learned about them.
const PAIRS: [(Option<&str>, &str, &str); 18] = [
    (Some("train"), "x_train", "y_train"),
    (Some("train"), "X_train", "y_train"),
    (Some("train"), "train_images", "train_labels"),
    (Some("train"), "train_x", "train_y"),
    (Some("validation"), "x_val", "y_val"),
    (Some("validation"), "x_valid", "y_valid"),
    (Some("validation"), "x_validation", "y_validation"),
    (Some("validation"), "val_images", "val_labels"),
    (Some("test"), "x_test", "y_test"),
    (Some("test"), "X_test", "y_test"),
    (Some("test"), "test_images", "test_labels"),
    (Some("test"), "test_x", "test_y"),
    (None, "inputs", "labels"),
    (None, "inputs", "targets"),
    (None, "images", "labels"),
    (None, "data", "target"),
    (None, "x", "y"),
    (None, "X", "y"),
];

/// Channels of a picture whose arrays give them first.
const CHANNELS: [usize; 3] = [1, 3, 4];

fn open(files: &[PathBuf], options: &ReadOptions) -> Result<Vec<Source>> {
    let [path] = files else { return Err(Error::usage("arrays come in one file")) };
    let within =
        |e: Error| if e.message().starts_with(&*path.to_string_lossy()) { e } else { e.within(path.display()) };
    let checkpoint = Arc::new(Checkpoint::open_spooling_in(path, &options.tmp_dir)?);
    if checkpoint.stream().is_some() {
        return Err(within(
            Error::input("arrays are read here and there, and this is a pipe").hint("save it to a file first"),
        ));
    }
    let place = |name: &str| checkpoint.header.tensors.iter().position(|t| t.name == name);
    let mut sources: Vec<Source> = Vec::new();
    for (split, inputs, labels) in PAIRS {
        let is_there = sources.iter().any(|s| s.split == split || (split.is_none() && s.split.is_some()));
        if let (false, Some(inputs), Some(labels)) = (is_there, place(inputs), place(labels)) {
            let mut source = open_pair(&checkpoint, inputs, labels, options).map_err(within)?;
            source.split = split;
            source.about.files = if sources.is_empty() { files.to_vec() } else { Vec::new() };
            sources.push(source);
        }
    }
    if sources.is_empty() {
        let names: Vec<&str> = checkpoint.header.tensors.iter().map(|t| t.name.as_str()).take(8).collect();
        return Err(within(
            Error::input(format!("no pair of arrays such as `x_train` and `y_train` among {}", quoted(&names)))
                .hint("name them x_train, y_train, x_test, y_test, or inputs and labels"),
        ));
    }
    Ok(sources)
}

fn open_pair(checkpoint: &Arc<Checkpoint>, inputs: usize, labels: usize, options: &ReadOptions) -> Result<Source> {
    let (about, label) = (&checkpoint.header.tensors[inputs], &checkpoint.header.tensors[labels]);
    let within = |e: Error| e.within(format!("array `{}`", about.name));
    if !STORABLE.contains(&about.dtype) {
        return Err(within(Error::input(format!("is {}; wanted whole numbers or floats", dtype_name(about.dtype)))));
    }
    let Some((&samples, shape)) = about.shape.split_first() else {
        return Err(within(Error::input("is a single number; wanted one row for each sample")));
    };
    if label.shape.first() != Some(&samples) {
        return Err(Error::input(format!(
            "array `{}` has shape {:?}, `{}` has {:?}: not as many samples",
            about.name, about.shape, label.name, label.shape
        )));
    }
    if shape.iter().product::<usize>() > MOST_ELEMENTS {
        return Err(within(Error::input(format!(
            "has shape {:?}; a sample has at most {MOST_ELEMENTS} numbers",
            about.shape
        ))));
    }
    let (own, is_channels_first) = elements_of(about.dtype, shape).map_err(within)?;
    let elements = reshaped(own.clone(), options).map_err(within)?;
    let fixed = Fixed {
        channels: channels_of(&own, &elements),
        elements,
        dtype: if about.dtype == Dtype::U8 { Dtype::U8 } else { Dtype::F32 },
        lengths: None,
        largest: None,
    };
    let about = About {
        name: format!("{}: array `{}`", checkpoint.name, about.name),
        files: Vec::new(),
        samples,
        labels: labels_of(checkpoint, labels)?,
        classes: None,
        fixed: Some(fixed),
        ..About::default()
    };
    let inputs = ArrayInputs { checkpoint: Arc::clone(checkpoint), tensor: inputs, is_channels_first };
    Ok(Source { split: None, about, samples: Samples::Stream(Box::new(inputs)) })
}

/// What samples of this dtype and shape are, and whether their channels come first.
fn elements_of(dtype: Dtype, shape: &[usize]) -> Result<(Elements, bool)> {
    Ok(match *shape {
        [] => (Elements::Vector { features: 1, names: Vec::new() }, false),
        [features] => (Elements::Vector { features, names: Vec::new() }, false),
        [height, width] if dtype == Dtype::U8 => (Elements::Image { height, width, channels: 1 }, false),
        [time, features] => (Elements::Series { time, features }, false),
        [channels, height, width] if CHANNELS.contains(&channels) && !CHANNELS.contains(&width) => {
            (Elements::Image { height, width, channels }, true)
        }
        [height, width, channels] => (Elements::Image { height, width, channels }, false),
        _ => {
            return Err(Error::input(format!("has samples of shape {shape:?}; wanted at most three extents")));
        }
    })
}

fn labels_of(checkpoint: &Checkpoint, tensor: usize) -> Result<Labels> {
    let info = &checkpoint.header.tensors[tensor];
    let within = |e: Error| e.within(format!("array `{}`", info.name));
    let outputs: usize = info.shape[1..].iter().product();
    let is_float = matches!(info.dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64);
    if !STORABLE.contains(&info.dtype) || outputs == 0 {
        return Err(within(Error::input(format!(
            "is {} {:?}; wanted a number for each sample",
            dtype_name(info.dtype),
            info.shape
        ))));
    }
    if !is_float && outputs != 1 {
        return Err(within(
            Error::input(format!("has shape {:?}; wanted one class number for each sample", info.shape))
                .hint("class numbers, not one column a class: array.argmax(axis=1)"),
        ));
    }
    let mut bytes = vec![0; info.bytes() as usize];
    checkpoint.read(tensor, 0, &mut bytes)?;
    let mut values = vec![0.0; info.elements()];
    let is_finite = Affine::plain().apply(info.dtype, &bytes, &mut values);
    if is_float {
        if !is_finite {
            let at = values.iter().position(|x| !x.is_finite()).unwrap_or(0);
            return Err(within(Error::input(format!("is {} for sample {}", values[at], at / outputs))));
        }
        return Ok(Labels::Targets { values, names: Vec::new(), outputs });
    }
    let numbers = values.iter().enumerate().map(|(sample, &x)| {
        // Class numbers end long before floats stop being exact.
        if (0.0..=16_777_216.0).contains(&x) {
            Ok(x as u32)
        } else {
            Err(within(Error::input(format!("label {x} of sample {sample} is outside the classes"))))
        }
    });
    Ok(Labels::Numbers(numbers.collect::<Result<_>>()?))
}

struct ArrayInputs {
    checkpoint: Arc<Checkpoint>,
    tensor: usize,
    is_channels_first: bool,
}

impl Inputs for ArrayInputs {
    fn read(&self, each: &mut dyn FnMut(Values) -> Result<()>) -> Result<()> {
        let info = &self.checkpoint.header.tensors[self.tensor];
        let elements: usize = info.shape[1..].iter().product();
        let element_bytes = alignment_bytes(info.dtype);
        let chunk = samples_per_chunk(elements, element_bytes.max(4));
        let (mut done, plain) = (0, Affine::plain());
        while done < info.shape[0] {
            let samples = chunk.min(info.shape[0] - done);
            let mut bytes = vec![0; samples * elements * element_bytes];
            self.checkpoint.read(self.tensor, (done * elements * element_bytes) as u64, &mut bytes)?;
            let values = if info.dtype == Dtype::U8 {
                Values::U8(bytes)
            } else {
                let mut values = vec![0.0; samples * elements];
                // What is not finite is refused, with its sample, where it is written.
                plain.apply(info.dtype, &bytes, &mut values);
                Values::F32(values)
            };
            each(if self.is_channels_first { channels_last(values, &info.shape[1..]) } else { values })?;
            done += samples;
        }
        Ok(())
    }
}

/// `[channels, height, width]` to `[height, width, channels]`, sample by sample.
fn channels_last(values: Values, shape: &[usize]) -> Values {
    fn turned<T: Copy>(values: &[T], channels: usize, pixels: usize) -> Vec<T> {
        let mut out = Vec::with_capacity(values.len());
        for sample in values.chunks_exact((channels * pixels).max(1)) {
            for pixel in 0..pixels {
                out.extend((0..channels).map(|channel| sample[channel * pixels + pixel]));
            }
        }
        out
    }
    let (channels, pixels) = (shape[0], shape[1] * shape[2]);
    match values {
        Values::U8(values) => Values::U8(turned(&values, channels, pixels)),
        Values::F32(values) => Values::F32(turned(&values, channels, pixels)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::tests::{Tensor, file_of};
    use proptest::prelude::*;

    fn opened(tensors: &[Tensor<'_>]) -> Result<Vec<(Option<&'static str>, About, Values)>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("arrays.safetensors");
        std::fs::write(&path, file_of(tensors, None)).unwrap();
        let options = ReadOptions { tmp_dir: dir.path().to_owned(), ..Default::default() };
        open(&[path], &options)?
            .into_iter()
            .map(|source| {
                let mut all = None;
                source.samples.stream().read(&mut |chunk| {
                    all = Some(chunk);
                    Ok(())
                })?;
                Ok((source.split, source.about, all.unwrap_or(Values::U8(vec![]))))
            })
            .collect()
    }

    #[test]
    fn splits_come_as_pairs_of_names() {
        let found = opened(&[
            ("y_test", Dtype::U8, &[1], vec![3]),
            ("x_test", Dtype::U8, &[1, 2, 3], (0..6).collect()),
            ("y_train", Dtype::I16, &[2, 1], vec![1, 0, 2, 0]),
            ("x_train", Dtype::U8, &[2, 2, 3], (0..12).collect()),
        ])
        .unwrap();
        let splits: Vec<_> = found.iter().map(|(split, ..)| *split).collect();
        assert_eq!(splits, [Some("train"), Some("test")]);
        assert_eq!(found[0].1.labels, Labels::Numbers(vec![1, 2]));
        assert_eq!(found[0].1.fixed().elements, Elements::Image { height: 2, width: 3, channels: 1 });
        assert_eq!(found[1].2, Values::U8((0..6).collect()));
        assert_eq!(found.iter().map(|(_, about, _)| about.files.len()).sum::<usize>(), 1, "a file counts once");
    }

    #[test]
    fn floats_are_series_and_float_labels_are_targets() {
        let floats = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let found = opened(&[
            ("x", Dtype::F32, &[1, 2, 2], floats(&[1.0, 2.0, 3.0, 4.0])),
            ("y", Dtype::F32, &[1, 2], floats(&[0.5, -0.5])),
        ])
        .unwrap();
        assert_eq!(found[0].1.fixed().elements, Elements::Series { time: 2, features: 2 });
        assert_eq!(found[0].1.labels, Labels::Targets { values: vec![0.5, -0.5], names: vec![], outputs: 2 });
        assert_eq!(found[0].2, Values::F32(vec![1.0, 2.0, 3.0, 4.0]));
    }

    #[test]
    fn channels_that_come_first_are_put_last() {
        let found = opened(&[
            ("inputs", Dtype::U8, &[1, 3, 1, 2], vec![1, 2, 3, 4, 5, 6]),
            ("labels", Dtype::U8, &[1], vec![0]),
        ])
        .unwrap();
        assert_eq!(found[0].1.fixed().elements, Elements::Image { height: 1, width: 2, channels: 3 });
        assert_eq!(found[0].2, Values::U8(vec![1, 3, 5, 2, 4, 6]));
    }

    #[test]
    fn arrays_that_do_not_fit_are_refused() {
        let message = |tensors: &[Tensor<'_>]| opened(tensors).unwrap_err().message().to_owned();
        let x: Tensor<'_> = ("x", Dtype::U8, &[2, 3], vec![0; 6]);
        assert!(
            message(std::slice::from_ref(&x)).contains("no pair of arrays such as `x_train` and `y_train` among `x`")
        );
        assert!(message(&[x.clone(), ("y", Dtype::U8, &[3], vec![0; 3])]).contains("not as many samples"));
        assert!(message(&[x.clone(), ("y", Dtype::U8, &[2, 4], vec![0; 8])]).contains("wanted one class number"));
        assert!(message(&[x.clone(), ("y", Dtype::I8, &[2], vec![0, 255])]).contains("label -1 of sample 1"));
        assert!(message(&[x, ("y", Dtype::BOOL, &[2], vec![0, 1])]).contains("BOOL"));
        let single = ("x", Dtype::U8, &[][..], vec![0]);
        assert!(message(&[single, ("y", Dtype::U8, &[1], vec![0])]).contains("single number"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..120), is_zip: bool) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("arrays.npz");
            let bytes = if is_zip { [b"PK\x03\x04", &bytes[..]].concat() } else { bytes };
            std::fs::write(&path, bytes).unwrap();
            let _ = open(&[path], &ReadOptions { tmp_dir: dir.path().to_owned(), ..Default::default() });
        }
    }
}
