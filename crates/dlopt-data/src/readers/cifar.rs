//! CIFAR-10 and CIFAR-100 as their authors give them: binary files of records, one or two labels and a picture each.
//!
//! A record of CIFAR-10 is a class (0 to 9) and 3 planes of 32 x 32 bytes, red, green and blue; one of CIFAR-100 begins
//! with a coarse class (0 to 19) and a fine one (0 to 99). Names of the classes lie beside them in text files. Planes
//! become pixels, `[32, 32, 3]`.
//!
//! Source: Krizhevsky (2009), "Learning Multiple Layers of Features from Tiny Images".

use std::path::{Path, PathBuf};

use dlopt_checkpoint::{Context, Dtype, Error, Result};

use super::raw_bytes::{broken, fill, open_bytes};
use super::{
    About, Fixed, Format, Inputs, Labels, ReadOptions, Samples, Source, Values, channels_of, reshaped,
    samples_per_chunk,
};
use crate::info::Elements;

pub(super) const FORMAT: Format = Format {
    name: "cifar",
    summary: "binary files of CIFAR-10 and CIFAR-100; --label coarse for the coarse classes of CIFAR-100",
    extensions: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
        "test_batch.bin",
        "train.bin",
        "test.bin",
    ],
    sniff: |_| false,
    group: |files| Ok(files.into_iter().map(|file| vec![file]).collect()),
    open,
};

const EXTENT: usize = 32;
const PLANE: usize = EXTENT * EXTENT;
const PIXELS: usize = 3 * PLANE;

/// What the records of a file are, and which label is wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Records {
    /// Bytes of labels.
    labels: usize,
    /// The wanted one.
    label: usize,
    classes: usize,
    /// The file that names the classes.
    names: &'static str,
}

const TEN: Records = Records { labels: 1, label: 0, classes: 10, names: "batches.meta.txt" };
const COARSE: Records = Records { labels: 2, label: 0, classes: 20, names: "coarse_label_names.txt" };
const FINE: Records = Records { labels: 2, label: 1, classes: 100, names: "fine_label_names.txt" };

impl Records {
    fn bytes(self) -> usize {
        self.labels + PIXELS
    }
}

fn open(files: &[PathBuf], options: &ReadOptions) -> Result<Vec<Source>> {
    let [path] = files else { return Err(Error::usage("a part of CIFAR is one file")) };
    let records = records_of(path, options)?;
    let mut labels = Vec::new();
    each_record(path, records, |record| {
        let label = record[records.label];
        if usize::from(label) >= records.classes {
            return Err(Error::input(format!(
                "{}: record {} has the label {label}; wanted 0 to {}",
                path.display(),
                labels.len(),
                records.classes - 1
            ))
            .hint("the file is damaged: fetch it again"));
        }
        labels.push(u32::from(label));
        Ok(())
    })?;
    let own = Elements::Image { height: EXTENT, width: EXTENT, channels: 3 };
    let elements = reshaped(own.clone(), options).map_err(|e| e.within(path.display()))?;
    let fixed =
        Fixed { channels: channels_of(&own, &elements), elements, dtype: Dtype::U8, lengths: None, largest: None };
    let about = About {
        name: path.display().to_string(),
        files: files.to_vec(),
        samples: labels.len(),
        labels: Labels::Numbers(labels),
        classes: class_names(path, records)?,
        fixed: Some(fixed),
        ..About::default()
    };
    Ok(vec![Source {
        split: None,
        about,
        samples: Samples::Stream(Box::new(Pictures { path: path.clone(), records })),
    }])
}

/// Which of the two it is: by its name, else by its size.
fn records_of(path: &Path, options: &ReadOptions) -> Result<Records> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let is_ten = name.contains("batch")
        || !name.contains("train") && !name.contains("test") && {
            let bytes = path.metadata().at(path.display())?.len();
            bytes % TEN.bytes() as u64 == 0
        };
    match (is_ten, options.label.as_deref()) {
        (true, None) => Ok(TEN),
        (false, None | Some("fine")) => Ok(FINE),
        (false, Some("coarse")) => Ok(COARSE),
        (true, Some(label)) => Err(Error::usage(format!("--label {label}: CIFAR-10 has one label"))),
        (false, Some(label)) => {
            Err(Error::usage(format!("no label `{label}`; the labels of CIFAR-100 are `fine` and `coarse`")))
        }
    }
}

/// The names of the classes from the file beside, when it is there.
fn class_names(path: &Path, records: Records) -> Result<Option<Vec<String>>> {
    let beside = path.with_file_name(records.names);
    if !beside.is_file() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&beside).at(beside.display())?;
    let names: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if names.len() != records.classes {
        return Err(Error::input(format!(
            "{}: names {} classes; wanted {}",
            beside.display(),
            names.len(),
            records.classes
        )));
    }
    Ok(Some(names))
}

/// Gives every record of a file.
fn each_record(path: &Path, records: Records, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut reader = open_bytes(path)?;
    let mut record = vec![0; records.bytes()];
    let mut done = 0;
    loop {
        let found = fill(&mut reader, &mut record).map_err(|e| broken(path, &e))?;
        if found == 0 {
            return Ok(());
        }
        if found < record.len() {
            return Err(Error::input(format!(
                "{}: record {done} has {found} bytes; wanted {}",
                path.display(),
                record.len()
            ))
            .hint("the file was cut short or is no binary file of CIFAR: fetch it again, or say --format"));
        }
        each(&record)?;
        done += 1;
    }
}

struct Pictures {
    path: PathBuf,
    records: Records,
}

impl Inputs for Pictures {
    fn read(&self, each: &mut dyn FnMut(Values) -> Result<()>) -> Result<()> {
        let chunk = samples_per_chunk(PIXELS, 1) * PIXELS;
        let mut pixels = Vec::with_capacity(chunk);
        each_record(&self.path, self.records, |record| {
            let planes = &record[self.records.labels..];
            pixels.extend((0..PIXELS).map(|at| planes[at % 3 * PLANE + at / 3]));
            if pixels.len() < chunk {
                return Ok(());
            }
            each(Values::U8(std::mem::replace(&mut pixels, Vec::with_capacity(chunk))))
        })?;
        if pixels.is_empty() { Ok(()) } else { each(Values::U8(pixels)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(labels: &[u8], first: [u8; 3]) -> Vec<u8> {
        let mut bytes = labels.to_vec();
        first.iter().for_each(|&value| {
            bytes.push(value);
            bytes.extend([value + 1; PLANE - 1]);
        });
        bytes
    }

    fn opened(name: &str, bytes: &[u8], options: &ReadOptions) -> Result<(About, Vec<u8>)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let source = open(&[path], options)?.remove(0);
        let mut all = Vec::new();
        source.samples.stream().read(&mut |chunk| {
            match chunk {
                Values::U8(values) => all.extend(values),
                Values::F32(_) => panic!("CIFAR gives bytes"),
            }
            Ok(())
        })?;
        Ok((source.about, all))
    }

    #[test]
    fn planes_become_pixels() {
        let bytes = [record(&[3], [10, 20, 30]), record(&[9], [40, 50, 60])].concat();
        let (about, pixels) = opened("data_batch_1.bin", &bytes, &ReadOptions::default()).unwrap();
        assert_eq!(about.labels, Labels::Numbers(vec![3, 9]));
        assert_eq!(pixels.len(), 2 * PIXELS);
        assert_eq!(pixels[..6], [10, 20, 30, 11, 21, 31]);
        assert_eq!(pixels[PIXELS..PIXELS + 3], [40, 50, 60]);
        assert_eq!(about.fixed().elements, Elements::Image { height: 32, width: 32, channels: 3 });
    }

    #[test]
    fn the_wanted_label_of_two_is_read() {
        let bytes = record(&[19, 99], [1, 2, 3]);
        let with = |label: Option<&str>| {
            let options = ReadOptions { label: label.map(str::to_owned), ..Default::default() };
            opened("train.bin", &bytes, &options).map(|(about, _)| about.labels)
        };
        assert_eq!(with(None).unwrap(), Labels::Numbers(vec![99]));
        assert_eq!(with(Some("coarse")).unwrap(), Labels::Numbers(vec![19]));
        assert!(with(Some("rough")).unwrap_err().message().contains("`fine` and `coarse`"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_record() {
        let message =
            |name: &str, bytes: &[u8]| opened(name, bytes, &ReadOptions::default()).unwrap_err().message().to_owned();
        let good = record(&[3], [1, 2, 3]);
        let said = message("data_batch_1.bin", &[&good[..], &good[..100]].concat());
        assert!(said.ends_with("data_batch_1.bin: record 1 has 100 bytes; wanted 3073"), "{said}");
        let said = message("test_batch.bin", &[good, record(&[10], [1, 2, 3])].concat());
        assert!(said.ends_with("test_batch.bin: record 1 has the label 10; wanted 0 to 9"), "{said}");
        let said = message("test.bin", &record(&[3, 100], [1, 2, 3]));
        assert!(said.contains("record 0 has the label 100; wanted 0 to 99"), "{said}");
    }
}
