//! IDX, the format of MNIST: pictures in one file, their class numbers in another, plain or gzipped.
//!
//! Two zero bytes; a byte for the element type (8: u8, 9: i8, 11: i16, 12: i32, 13: f32, 14: f64); a byte for the number
//! of dimensions; each extent as a big-endian u32, samples first; then the elements, big-endian.
//! Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits".

use std::io::Read;
use std::path::{Path, PathBuf};

use dlopt_checkpoint::{Context, Dtype, Error, Result};

use super::raw_bytes::{broken, fill, is_gzip, open_bytes};
use super::{
    About, Fixed, Format, Inputs, Labels, MOST_ELEMENTS, ReadOptions, Samples, Source, Values, channels_of, reshaped,
    samples_per_chunk,
};
use crate::info::Elements;

pub(super) const FORMAT: Format = Format {
    name: "idx",
    summary: "pairs of IDX files, pictures and class numbers, as of MNIST",
    extensions: &["-ubyte", ".ubyte", ".idx", ".idx1", ".idx2", ".idx3", ".idx4"],
    sniff: |first| Head::parse(first).is_ok(),
    group,
    open,
};

/// Most dimensions that are read: samples, height, width, channels.
const MOST_DIMENSIONS: usize = 4;

/// The element types.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Type {
    U8,
    I8,
    I16,
    I32,
    F32,
    F64,
}

impl Type {
    fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::I16 => 2,
            Self::I32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }
}

/// What stands before the elements.
#[derive(Clone, Debug, PartialEq)]
struct Head {
    element: Type,
    /// Samples first.
    shape: Vec<usize>,
    /// Where the elements begin.
    bytes: usize,
}

impl Head {
    fn parse(first: &[u8]) -> Result<Self> {
        let &[a, b, code, dimensions, ref rest @ ..] = first else {
            return Err(Error::input(format!("has {} bytes; an IDX file has at least 4", first.len()))
                .hint("the file is empty or was cut short: fetch it again"));
        };
        let element = match ([a, b], code) {
            ([0, 0], 8) => Type::U8,
            ([0, 0], 9) => Type::I8,
            ([0, 0], 11) => Type::I16,
            ([0, 0], 12) => Type::I32,
            ([0, 0], 13) => Type::F32,
            ([0, 0], 14) => Type::F64,
            _ => {
                return Err(Error::input(format!(
                    "begins with the bytes {a:02x} {b:02x} {code:02x} {dimensions:02x}; an IDX file begins with 00 00, \
                     a type (08, 09, 0b, 0c, 0d or 0e) and the number of dimensions"
                ))
                .hint("this is no IDX file: --format says what it is"));
            }
        };
        let dimensions = usize::from(dimensions);
        if dimensions == 0 || dimensions > MOST_DIMENSIONS {
            return Err(Error::input(format!(
                "has {dimensions} dimensions; wanted 1 to {MOST_DIMENSIONS}, samples first"
            )));
        }
        let (extents, _) = rest.as_chunks::<4>();
        if extents.len() < dimensions {
            return Err(Error::input(format!("ends inside its header, which takes {} bytes", 4 + 4 * dimensions))
                .hint("the file was cut short: fetch it again"));
        }
        let shape: Vec<usize> =
            extents[..dimensions].iter().map(|&extent| u32::from_be_bytes(extent) as usize).collect();
        // Three extents below 2^32 do not overflow 128 bits.
        let elements: u128 = shape[1..].iter().map(|&extent| extent as u128).product();
        if elements > MOST_ELEMENTS as u128 {
            return Err(Error::input(format!("has the shape {shape:?}; a sample has at most {MOST_ELEMENTS} numbers"))
                .hint("the header is damaged: fetch the file again"));
        }
        let head = Self { element, shape, bytes: 4 + 4 * dimensions };
        Ok(head)
    }

    fn samples(&self) -> usize {
        self.shape[0]
    }

    fn elements_per_sample(&self) -> usize {
        self.shape[1..].iter().product()
    }
}

/// Reads the header, and checks the size of a file that is not packed.
fn read_head(path: &Path) -> Result<Head> {
    let mut first = vec![0; 4 + 4 * MOST_DIMENSIONS];
    let length = fill(&mut open_bytes(path)?, &mut first).map_err(|e| broken(path, &e))?;
    let head = Head::parse(&first[..length]).map_err(|e| e.within(path.display()))?;
    if !is_gzip(path)? {
        let found = path.metadata().at(path.display())?.len();
        let data = head.samples() as u64 * (head.elements_per_sample() * head.element.bytes()) as u64;
        check_size(path, &head, head.bytes as u64 + data, found)?;
    }
    Ok(head)
}

fn check_size(path: &Path, head: &Head, wanted: u64, found: u64) -> Result<()> {
    if wanted == found {
        return Ok(());
    }
    let error = Error::input(format!(
        "{}: the shape {:?} takes {wanted} bytes with the header, and there are {found}",
        path.display(),
        head.shape
    ));
    Err(if found < wanted {
        error.hint("the file was cut short: fetch it again")
    } else {
        error.hint("the file has bytes that belong to no sample: fetch it again")
    })
}

/// Pairs pictures with labels: by the names without `images`, `labels` and the like, or one of each.
fn group(files: Vec<PathBuf>) -> Result<Vec<Vec<PathBuf>>> {
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for path in files {
        let head = read_head(&path)?;
        if head.shape.len() == 1 { labels.push(path) } else { images.push(path) }
    }
    if images.len() == 1 && labels.len() == 1 {
        return Ok(vec![vec![images.remove(0), labels.remove(0)]]);
    }
    let mut pairs = Vec::with_capacity(images.len());
    for image in images {
        let key = pair_key(&image);
        let own = match labels.iter().position(|label| pair_key(label) == key) {
            Some(at) => labels.remove(at),
            None => labels_beside(&image)?,
        };
        pairs.push(vec![image, own]);
    }
    if let Some(left) = labels.first() {
        return Err(
            Error::input(format!("{}: labels without pictures", left.display())).hint("name the file of pictures too")
        );
    }
    Ok(pairs)
}

/// What a pair of names has in common.
fn pair_key(path: &Path) -> String {
    let mut name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    name = name.strip_suffix(".gz").unwrap_or(&name).to_owned();
    ["images", "labels", "idx1", "idx2", "idx3", "idx4"].iter().fold(name, |name, part| name.replace(part, ""))
}

/// The file of labels that lies beside a file of pictures.
fn labels_beside(image: &Path) -> Result<PathBuf> {
    let key = pair_key(image);
    let folder = match image.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).at(folder.display())? {
        let path = entry.at(folder.display())?.path();
        let is_other = path.file_name() != image.file_name();
        if is_other && path.is_file() && pair_key(&path) == key && read_head(&path).is_ok_and(|h| h.shape.len() == 1) {
            found.push(path);
        }
    }
    found.sort();
    found.into_iter().next().ok_or_else(|| {
        Error::input(format!("{}: no file of labels beside these pictures", image.display()))
            .hint("name both: dlopt prepare IMAGES LABELS, or --train IMAGES LABELS")
    })
}

fn open(files: &[PathBuf], options: &ReadOptions) -> Result<Vec<Source>> {
    let [images, labels] = files else {
        return Err(Error::usage("an IDX data set has a file of pictures and a file of labels"));
    };
    let (head, label_head) = (read_head(images)?, read_head(labels)?);
    if label_head.shape.len() != 1 {
        return Err(Error::input(format!(
            "{}: has the shape {:?}; labels have one dimension",
            labels.display(),
            label_head.shape
        )));
    }
    if head.samples() != label_head.samples() {
        return Err(Error::input(format!(
            "{} holds {} samples, {} holds {} labels",
            images.display(),
            head.samples(),
            labels.display(),
            label_head.samples()
        ))
        .hint("these files do not belong together, or one of them is damaged"));
    }
    let own = match head.shape[1..] {
        [features] => Elements::Vector { features, names: Vec::new() },
        [height, width] => Elements::Image { height, width, channels: 1 },
        [height, width, channels] => Elements::Image { height, width, channels },
        _ => return Err(Error::input(format!("{}: holds one number a sample; wanted pictures", images.display()))),
    };
    let elements = reshaped(own.clone(), options).map_err(|e| e.within(images.display()))?;
    let fixed = Fixed {
        channels: channels_of(&own, &elements),
        elements,
        dtype: if head.element == Type::U8 { Dtype::U8 } else { Dtype::F32 },
        lengths: None,
        largest: None,
    };
    let about = About {
        name: images.display().to_string(),
        files: files.to_vec(),
        samples: head.samples(),
        labels: read_labels(labels, &label_head)?,
        classes: None,
        fixed: Some(fixed),
        ..About::default()
    };
    Ok(vec![Source {
        split: None,
        about,
        samples: Samples::Stream(Box::new(IdxInputs { path: images.clone(), head })),
    }])
}

fn read_labels(path: &Path, head: &Head) -> Result<Labels> {
    if matches!(head.element, Type::F32 | Type::F64) {
        let mut values = Vec::new();
        stream(path, head, &mut |chunk| {
            match chunk {
                Values::F32(own) => values.extend_from_slice(&own),
                Values::U8(own) => values.extend(own.iter().map(|&x| f32::from(x))),
            }
            Ok(())
        })?;
        return Ok(Labels::Targets { values, names: Vec::new(), outputs: 1 });
    }
    let mut numbers = Vec::new();
    let mut take = |x: i64| match u32::try_from(x) {
        Ok(x) => {
            numbers.push(x);
            Ok(())
        }
        Err(_) => Err(Error::input(format!(
            "{}: label {x} of sample {} is outside the classes",
            path.display(),
            numbers.len()
        ))),
    };
    stream(path, head, &mut |chunk| match chunk {
        Values::U8(own) => own.iter().try_for_each(|&x| take(i64::from(x))),
        // Whole numbers of at most 32 bits that are classes are exact as floats: class numbers end long before 2^24.
        Values::F32(own) => own.iter().try_for_each(|&x| take(x as i64)),
    })?;
    Ok(Labels::Numbers(numbers))
}

struct IdxInputs {
    path: PathBuf,
    head: Head,
}

impl Inputs for IdxInputs {
    fn read(&self, each: &mut dyn FnMut(Values) -> Result<()>) -> Result<()> {
        stream(&self.path, &self.head, each)
    }
}

/// Gives all elements of a file whose header is known, in chunks of whole samples.
fn stream(path: &Path, head: &Head, each: &mut dyn FnMut(Values) -> Result<()>) -> Result<()> {
    let mut reader = open_bytes(path)?;
    let mut skipped = vec![0; head.bytes];
    reader.read_exact(&mut skipped).map_err(|e| broken(path, &e))?;
    if Head::parse(&skipped).as_ref().ok() != Some(head) {
        return Err(Error::input(format!("{}: changed while it was read", path.display())));
    }
    let sample_bytes = head.elements_per_sample() * head.element.bytes();
    let chunk = samples_per_chunk(head.elements_per_sample(), head.element.bytes());
    let mut done = 0;
    while done < head.samples() {
        let samples = chunk.min(head.samples() - done);
        let mut bytes = vec![0; samples * sample_bytes];
        let found = fill(&mut reader, &mut bytes).map_err(|e| broken(path, &e))?;
        if found < bytes.len() {
            let before = (head.bytes + done * sample_bytes) as u64;
            let wanted = (head.bytes + head.samples() * sample_bytes) as u64;
            check_size(path, head, wanted, before + found as u64)?;
        }
        each(numbers(head.element, bytes))?;
        done += samples;
    }
    let mut one = [0];
    if fill(&mut reader, &mut one).map_err(|e| broken(path, &e))? > 0 {
        return Err(Error::input(format!("{}: goes on after its {} samples", path.display(), head.samples()))
            .hint("the file has bytes that belong to no sample: fetch it again"));
    }
    Ok(())
}

fn numbers(element: Type, bytes: Vec<u8>) -> Values {
    fn all<const SIZE: usize>(bytes: &[u8], number: impl Fn([u8; SIZE]) -> f32) -> Values {
        Values::F32(bytes.as_chunks::<SIZE>().0.iter().map(|&x| number(x)).collect())
    }
    match element {
        Type::U8 => Values::U8(bytes),
        Type::I8 => all(&bytes, |x| f32::from(i8::from_be_bytes(x))),
        Type::I16 => all(&bytes, |x| f32::from(i16::from_be_bytes(x))),
        Type::I32 => all(&bytes, |x| i32::from_be_bytes(x) as f32),
        Type::F32 => all(&bytes, f32::from_be_bytes),
        Type::F64 => all(&bytes, |x| f64::from_be_bytes(x) as f32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn idx(code: u8, shape: &[u32], data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, code, shape.len() as u8];
        shape.iter().for_each(|extent| bytes.extend_from_slice(&extent.to_be_bytes()));
        bytes.extend_from_slice(data);
        bytes
    }

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn with(files: &[(&str, Vec<u8>)]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            files.iter().for_each(|(name, bytes)| std::fs::write(dir.path().join(name), bytes).unwrap());
            Self(dir)
        }

        fn open(&self, images: &str, labels: &str) -> Result<Source> {
            let files = [self.0.path().join(images), self.0.path().join(labels)];
            open(&files, &ReadOptions::default()).map(|mut sources| sources.remove(0))
        }
    }

    fn all(source: &Source) -> Result<Values> {
        let mut whole: Option<Values> = None;
        source.samples.stream().read(&mut |chunk| {
            match (&mut whole, chunk) {
                (None, chunk) => whole = Some(chunk),
                (Some(Values::U8(all)), Values::U8(own)) => all.extend(own),
                (Some(Values::F32(all)), Values::F32(own)) => all.extend(own),
                _ => panic!("the type changed"),
            }
            Ok(())
        })?;
        Ok(whole.unwrap())
    }

    #[test]
    fn pictures_and_labels_are_read() {
        let folder =
            Folder::with(&[("i", idx(8, &[3, 2, 5], &(0..30).collect::<Vec<u8>>())), ("l", idx(8, &[3], &[4, 0, 1]))]);
        let source = folder.open("i", "l").unwrap();
        assert_eq!(source.about.fixed().elements, Elements::Image { height: 2, width: 5, channels: 1 });
        assert_eq!(source.about.labels, Labels::Numbers(vec![4, 0, 1]));
        assert_eq!(all(&source).unwrap(), Values::U8((0..30).collect()));
    }

    #[test]
    fn every_element_type_is_big_endian() {
        let value = |code: u8, data: &[u8]| {
            let folder = Folder::with(&[("i", idx(code, &[1, 1], data)), ("l", idx(8, &[1], &[0]))]);
            match all(&folder.open("i", "l").unwrap()).unwrap() {
                Values::F32(values) => values[0],
                Values::U8(values) => f32::from(values[0]),
            }
        };
        assert_eq!(value(8, &[200]), 200.0);
        assert_eq!(value(9, &[0xfe]), -2.0);
        assert_eq!(value(11, &[1, 2]), 258.0);
        assert_eq!(value(12, &(-70000_i32).to_be_bytes()), -70000.0);
        assert_eq!(value(13, &1.5_f32.to_be_bytes()), 1.5);
        assert_eq!(value(14, &0.25_f64.to_be_bytes()), 0.25);
    }

    #[test]
    fn broken_files_say_what_is_wrong() {
        let good = idx(8, &[3, 2, 5], &[7; 30]);
        let folder = Folder::with(&[
            ("good", good.clone()),
            ("short", good[..40].to_vec()),
            ("long", [&good[..], &[0]].concat()),
            ("magic", [&[0, 1], &good[2..]].concat()),
            ("head", good[..9].to_vec()),
            ("empty", vec![]),
            ("many", idx(8, &[1, 1, 1, 1, 1], &[0])),
            ("huge", idx(14, &[u32::MAX, u32::MAX, u32::MAX, u32::MAX], &[])),
            ("labels", idx(8, &[3], &[0, 1, 2])),
            ("two", idx(8, &[2], &[0, 1])),
            ("negative", idx(9, &[3], &[0, 255, 1])),
        ]);
        let message = |images: &str, labels: &str| folder.open(images, labels).err().unwrap().message().to_owned();
        assert!(
            message("short", "labels")
                .contains("short: the shape [3, 2, 5] takes 46 bytes with the header, and there are 40")
        );
        assert!(message("long", "labels").contains("there are 47"));
        assert!(message("magic", "labels").contains("begins with the bytes 00 01 08 03"));
        assert!(message("head", "labels").contains("ends inside its header"));
        assert!(message("empty", "labels").contains("has 0 bytes"));
        assert!(message("many", "labels").contains("5 dimensions"));
        assert!(message("huge", "labels").contains("a sample has at most"));
        let counts = message("good", "two");
        assert!(counts.contains("holds 3 samples") && counts.contains("holds 2 labels"), "{counts}");
        assert!(message("good", "good").contains("labels have one dimension"));
        assert!(message("good", "negative").contains("label -1 of sample 1"));
    }

    #[test]
    fn packed_files_that_are_cut_short_are_refused() {
        use std::io::Write;
        let pack = |bytes: &[u8]| {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packed.write_all(bytes).unwrap();
            packed.finish().unwrap()
        };
        let good = idx(8, &[3, 2, 5], &(0..30_u8).map(|x| x.wrapping_mul(37)).collect::<Vec<u8>>());
        let packed = pack(&good);
        let folder = Folder::with(&[
            ("good.gz", packed.clone()),
            ("cut.gz", packed[..packed.len() - 12].to_vec()),
            ("short.gz", pack(&good[..40])),
            ("long.gz", pack(&[&good[..], &[9]].concat())),
            ("labels.gz", pack(&idx(8, &[3], &[0, 1, 2]))),
        ]);
        let read = |images: &str| folder.open(images, "labels.gz").and_then(|source| all(&source));
        assert_eq!(read("good.gz").unwrap().len(), 30);
        assert!(read("cut.gz").unwrap_err().message().contains("does not unpack"));
        assert!(read("short.gz").unwrap_err().message().contains("there are 40"));
        assert!(read("long.gz").unwrap_err().message().contains("goes on after its 3 samples"));
    }

    #[test]
    fn pictures_find_the_labels_beside_them() {
        let images = idx(8, &[1, 1, 1], &[5]);
        let folder = Folder::with(&[
            ("train-images-idx3-ubyte", images.clone()),
            ("train-labels-idx1-ubyte", idx(8, &[1], &[0])),
            ("t10k-images-idx3-ubyte", images.clone()),
            ("t10k-labels-idx1-ubyte", idx(8, &[1], &[0])),
            ("alone", images),
        ]);
        let at = |name: &str| folder.0.path().join(name);
        let pairs = group(vec![at("train-images-idx3-ubyte")]).unwrap();
        assert_eq!(pairs, [[at("train-images-idx3-ubyte"), at("train-labels-idx1-ubyte")]]);
        let error = group(vec![at("alone")]).unwrap_err();
        assert!(error.message().contains("no file of labels beside"), "{error}");
        let error = group(vec![at("t10k-labels-idx1-ubyte")]).unwrap_err();
        assert!(error.message().contains("labels without pictures"), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80), is_idx: bool) {
            if is_idx && bytes.len() > 4 {
                bytes[0] = 0;
                bytes[1] = 0;
                bytes[2] = 8 + bytes[2] % 8;
                bytes[3] %= 6;
            }
            let folder = Folder::with(&[("i", bytes.clone()), ("l", bytes)]);
            if let Ok(source) = folder.open("i", "l") {
                let _ = all(&source);
            }
        }
    }
}
