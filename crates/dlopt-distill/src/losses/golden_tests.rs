//! Every loss against formulas written down from the papers in PyTorch, differentiated by it: `fixtures/distill/make.py`
//! made the files.

use std::collections::BTreeMap;
use std::path::Path;

use dlopt_checkpoint::{Checkpoint, Dtype, Tensors};

use super::{LOSSES, Pair, Values};
use crate::options::Options;

/// Largest difference over the largest magnitude: files are exact to one rounding, gradients are rounded to 32 bits once,
/// and the regressor of hints sums a handful of products in 32 bits.
const TOLERANCE: f64 = 1e-5;

type Tensor = (Vec<usize>, Vec<f64>);

/// The name and options of a loss, and the tensors of a file.
fn read(path: &Path) -> (String, String, BTreeMap<String, Tensor>) {
    let checkpoint = Checkpoint::open(path).unwrap();
    let mut tensors = BTreeMap::new();
    for (index, info) in checkpoint.header.tensors.iter().enumerate() {
        let mut bytes = vec![0; info.bytes() as usize];
        checkpoint.read(index, 0, &mut bytes).unwrap();
        let values = match info.dtype {
            Dtype::I64 => bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
            Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
            _ => bytes.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
        };
        tensors.insert(info.name.clone(), (info.shape.clone(), values));
    }
    let text = |key: &str| checkpoint.header.metadata.get(key).unwrap().to_owned();
    (text("loss"), text("options"), tensors)
}

fn close(found: &[f32], wanted: &[f64], what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let largest = wanted.iter().fold(1e-6_f64, |largest, v| largest.max(v.abs()));
    for (at, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        assert!(
            (f64::from(*found) - wanted).abs() <= TOLERANCE * largest,
            "{what}: value {at} is {found}, wanted {wanted}"
        );
    }
}

#[test]
fn losses_and_gradients_agree_with_pytorch() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/distill");
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "safetensors") {
            continue;
        }
        let (name, options, tensors) = read(&path);
        let case = path.file_stem().unwrap().to_string_lossy().into_owned();
        let kind = LOSSES.iter().find(|kind| kind.name == name).unwrap();
        let mut options = Options::parse(options.split(',').filter(|option| !option.is_empty())).unwrap();
        let mut loss = (kind.make)(&mut options).unwrap();
        options.finish(kind.options).unwrap();
        let single = |tensor: &str| tensors[tensor].1.iter().map(|v| *v as f32).collect::<Vec<f32>>();
        let (own, said) = (single("student"), single("teacher"));
        let extent = |tensor: &str| match tensors[tensor].0[..] {
            [_, height, width, channels] => ([height, width], channels),
            _ => panic!("{case}: {tensor} is [rows, height, width, channels]"),
        };
        let (student, teacher) = (extent("student"), extent("teacher"));
        loss.begin(student, teacher, 0).unwrap();
        if let Some(learned) = loss.learned() {
            learned.values.copy_from_slice(&single("learned"));
        }
        let labels: Vec<u32> = tensors["labels"].1.iter().map(|v| *v as u32).collect();
        let pair = Pair {
            student: Values { values: &own, places: student.0, channels: student.1 },
            teacher: Values { values: &said, places: teacher.0, channels: teacher.1 },
            labels: &labels,
            progress: 0.0,
        };
        let mut gradient = vec![0.0; own.len()];
        let sum = loss.evaluate(&pair, 1.0, &mut gradient);
        let wanted = tensors["loss"].1[0];
        assert!((sum - wanted).abs() <= TOLERANCE * wanted.abs(), "{case}: {sum}, wanted {wanted}");
        close(&gradient, &tensors["gradient.student"].1, &case);
        if let Some(learned) = loss.learned() {
            close(&learned.gradients, &tensors["gradient.learned"].1, &format!("{case}: what is learned"));
        }
        seen.push(name);
    }
    for kind in LOSSES {
        assert!(seen.iter().any(|name| name == kind.name), "no golden file of {}", kind.name);
    }
}
