//! `prepare` on real and made data: what it writes, what it refuses, and every flag of it.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use support::*;

/// A folder with raw data of every format.
struct Ground(tempfile::TempDir);

impl Ground {
    fn new() -> Self {
        let ground = Self(temp_dir());
        for file in ["digits.csv.gz", "iris.csv", "wine_data.csv"] {
            fs::copy(fixture(&format!("digits/{file}")), ground.path(file)).unwrap();
        }
        let pixels = |samples: usize, seed: u64| -> Vec<u8> {
            let mut random = Random::new(seed);
            (0..samples * 35).map(|_| random.bits() as u8).collect()
        };
        let labels = |samples: usize| (0..samples).map(|i| (i % 3) as u8).collect::<Vec<u8>>();
        fs::create_dir(ground.path("idx")).unwrap();
        ground.write("idx/train-images-idx3-ubyte", &idx(8, &[60, 7, 5], &pixels(60, 1)));
        ground.write("idx/train-labels-idx1-ubyte", &idx(8, &[60], &labels(60)));
        ground.write("idx/t10k-images-idx3-ubyte.gz", &gzip(&idx(8, &[21, 7, 5], &pixels(21, 2))));
        ground.write("idx/t10k-labels-idx1-ubyte.gz", &gzip(&idx(8, &[21], &labels(21))));
        let head =
            "@problemName Set\n@timeStamps false\n@dimensions 2\n@equalLength false\n@classLabel true a b\n@data\n";
        ground.write("Set_TRAIN.ts", format!("{head}1,2,3:4,5,6:a\n7,8:9,1:b\n").as_bytes());
        ground.write("Set_TEST.ts", format!("{head}1,2,3,4:5,6,7,8:b\n").as_bytes());
        ground.write(
            "houses.csv",
            b"id,area,rooms,price,kind\n1,50,2,100.5,flat\n2,80,3,160,flat\n3,120,5,300,house\n4,90,4,210,house\n",
        );
        ground.write(
            "said.tsv",
            b"who\tsaid\tkind\tin German\na\tyes\tx\tja\nb\tno \"no\"\ty\tnein\na\twell\tx\tna ja\n",
        );
        ground
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn run(&self, line: &str) -> Output {
        run_in(self.0.path(), &format!("prepare {line}"))
    }

    /// Prepares, and gives the file and what it says about itself.
    fn ok(&self, line: &str) -> (Stored, Value) {
        ok_in(self.0.path(), &format!("prepare {line} -o data.safetensors --force --quiet"));
        let stored = read_file(&self.path("data.safetensors"));
        let about = serde_json::from_str(stored.metadata("dlopt.dataset").unwrap()).unwrap();
        (stored, about)
    }

    /// What is refused: the code, and what standard error says. Nothing may be left behind.
    fn refused(&self, line: &str, code: i32) -> String {
        let before = names_in(self.0.path());
        let done = self.run(&format!("{line} -o refused.safetensors"));
        assert_code(&done, code, line);
        assert_eq!(names_in(self.0.path()), before, "{line} left something behind");
        err(&done)
    }
}

fn idx(code: u8, shape: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, code, shape.len() as u8];
    shape.iter().for_each(|extent| bytes.extend_from_slice(&extent.to_be_bytes()));
    bytes.extend_from_slice(data);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

/// Mean and deviation of columns, by another way than dlopt's.
fn moments(rows: &[Vec<f64>]) -> (Vec<f64>, Vec<f64>) {
    let count = rows.len() as f64;
    let columns = rows[0].len();
    let mean: Vec<f64> = (0..columns).map(|c| rows.iter().map(|r| r[c]).sum::<f64>() / count).collect();
    let spread = |c: usize| (rows.iter().map(|r| (r[c] - mean[c]).powi(2)).sum::<f64>() / count).sqrt();
    let deviation = (0..columns).map(spread).collect();
    (mean, deviation)
}

fn assert_close(found: &[f64], wanted: &[f64]) {
    assert_eq!(found.len(), wanted.len());
    for (f, w) in found.iter().zip(wanted) {
        // Statistics are stored as 32-bit floats.
        assert!((f - w).abs() <= 1e-6 * w.abs().max(1e-3), "{found:?} {wanted:?}");
    }
}

#[test]
fn idx_folders_keep_their_split_and_their_bytes() {
    let g = Ground::new();
    let (stored, about) = g.ok("idx");
    assert_eq!(about["splits"], json!({ "train": [0, 60], "test": [60, 81] }));
    assert_eq!(about["elements"], json!({ "kind": "image", "height": 7, "width": 5, "channels": 1 }));
    assert_eq!(about["classes"], json!(["0", "1", "2"]));
    let inputs = stored.get("inputs");
    assert_eq!((inputs.dtype.as_str(), &inputs.shape[..]), ("U8", &[81, 7, 5, 1][..]));
    let raw = fs::read(g.path("idx/train-images-idx3-ubyte")).unwrap();
    assert_eq!(inputs.bytes[..60 * 35], raw[16..]);
    let rows: Vec<Vec<f64>> = raw[16..].iter().map(|&x| vec![f64::from(x) / 255.0]).collect();
    let (mean, deviation) = moments(&rows);
    assert_close(&numbers(&about["mean"]), &mean);
    assert_close(&numbers(&about["deviation"]), &deviation);
    let sources = about["sources"].as_array().unwrap();
    assert_eq!(sources.len(), 4);
    assert!(
        sources.iter().all(|s| s["sha256"].as_str().unwrap().len() == 64 && !s["name"].as_str().unwrap().contains('/'))
    );
}

#[test]
fn digits_become_pictures_that_the_seed_network_takes() {
    let g = Ground::new();
    let (stored, about) = g.ok("digits.csv.gz --shape 8x8 --split-at 1437 --resize 28x28");
    assert_eq!(about["splits"], json!({ "train": [0, 1437], "test": [1437, 1797] }));
    let inputs = stored.get("inputs");
    assert_eq!((inputs.dtype.as_str(), &inputs.shape[..]), ("U8", &[1797, 28, 28, 1][..]));
    // 0 to 16 is spread to 0 to 240 so that interpolation is not rounded away.
    assert_eq!(about["steps"][0], json!({ "step": "multiply", "by": 15.0 }));
    assert_eq!(inputs.bytes.iter().max(), Some(&240));
    assert!((about["scale"].as_f64().unwrap() - 1.0 / 240.0).abs() < 1e-9);
    assert_eq!(stored.get("labels").bytes[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let (plain, about) = g.ok("digits.csv.gz --shape 8x8 --split-at 1437");
    assert_eq!(plain.get("inputs").bytes[..8], [0, 0, 5, 13, 9, 1, 0, 0]);
    assert_eq!(about["scale"].as_f64().unwrap(), 1.0 / 16.0);
}

#[test]
fn the_tables_of_scikit_learn_are_read() {
    let g = Ground::new();
    for (file, features, rows, classes) in [
        ("iris.csv", 4, 150, json!(["setosa", "versicolor", "virginica"])),
        ("wine_data.csv", 13, 178, json!(["class_0", "class_1", "class_2"])),
    ] {
        let (stored, about) = g.ok(file);
        assert_eq!(stored.get("inputs").shape, [rows, features]);
        assert_eq!(about["classes"], classes);
        let text = fs::read_to_string(g.path(file)).unwrap();
        let table: Vec<Vec<f64>> =
            text.lines().skip(1).map(|l| l.split(',').take(features).map(|x| x.parse().unwrap()).collect()).collect();
        let (mean, deviation) = moments(&table);
        assert_close(&numbers(&about["mean"]), &mean);
        assert_close(&numbers(&about["deviation"]), &deviation);
    }
}

#[test]
fn series_of_different_lengths_are_padded_and_measured_without_the_padding() {
    let g = Ground::new();
    let (stored, about) = g.ok("--train Set_TRAIN.ts --test Set_TEST.ts");
    assert_eq!(about["elements"], json!({ "kind": "series", "time": 4, "features": 2 }));
    assert_eq!(stored.get("inputs").values()[..8], [1.0, 4.0, 2.0, 5.0, 3.0, 6.0, 0.0, 0.0]);
    assert_eq!(stored.get("lengths").bytes, [3, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0]);
    let steps = [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0], [7.0, 9.0], [8.0, 1.0]].map(|s| s.to_vec());
    let (mean, deviation) = moments(&steps);
    assert_close(&numbers(&about["mean"]), &mean);
    assert_close(&numbers(&about["deviation"]), &deviation);
}

#[test]
fn arrays_by_name_give_the_same_as_idx() {
    let g = Ground::new();
    let (idx, _) = g.ok("idx");
    let part = |name: &str, rows: std::ops::Range<usize>, each: usize, shape: &[usize]| {
        let stored = idx.get(name);
        Tensor::new(
            &format!("{}_{}", if name == "inputs" { "x" } else { "y" }, if rows.start == 0 { "train" } else { "test" }),
            "U8",
            shape,
            stored.bytes[rows.start * each..rows.end * each].to_vec(),
        )
    };
    let arrays = [
        part("inputs", 0..60, 35, &[60, 7, 5]),
        part("labels", 0..60, 1, &[60]),
        part("inputs", 60..81, 35, &[21, 7, 5]),
        part("labels", 60..81, 1, &[21]),
    ];
    write_file(&g.path("arrays.safetensors"), &arrays, &[]);
    let (stored, _) = g.ok("arrays.safetensors");
    assert_same_tensors(&stored, &idx);
    fs::write(g.path("stored.npz"), npz(&arrays)).unwrap();
    let (stored, about) = g.ok("stored.npz");
    assert_same_tensors(&stored, &idx);
    assert_eq!(about["sources"].as_array().unwrap().len(), 1);
}

/// An archive as `numpy.savez_compressed` writes it, by another writer than dlopt's reader.
fn npz(arrays: &[Tensor]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for array in arrays {
        let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        archive.start_file(format!("{}.npy", array.name), options).unwrap();
        let shape: String = array.shape.iter().map(|extent| format!("{extent}, ")).collect();
        let mut text = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({shape}), }}");
        while (text.len() + 11) % 64 != 0 {
            text.push(' ');
        }
        text.push('\n');
        archive.write_all(b"\x93NUMPY\x01\x00").unwrap();
        archive.write_all(&(text.len() as u16).to_le_bytes()).unwrap();
        archive.write_all(text.as_bytes()).unwrap();
        archive.write_all(&array.bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

#[test]
fn the_same_options_give_the_same_bytes_and_another_seed_others() {
    let g = Ground::new();
    let bytes = |line: &str| {
        g.ok(line);
        fs::read(g.path("data.safetensors")).unwrap()
    };
    let first = bytes("iris.csv --split test=0.2,validation=0.1 --seed 5");
    assert!(first == bytes("iris.csv --split test=0.2,validation=0.1 --seed 5"));
    assert!(first != bytes("iris.csv --split test=0.2,validation=0.1 --seed 6"));
}

#[test]
fn samples_are_stored_ordered_by_split_and_none_is_lost() {
    let g = Ground::new();
    let (plain, _) = g.ok("iris.csv");
    let (split, about) = g.ok("iris.csv --split test=0.2,validation=0.1");
    assert_eq!(about["splits"], json!({ "train": [0, 105], "validation": [105, 120], "test": [120, 150] }));
    let rows = |stored: &Stored| {
        let inputs = stored.get("inputs").bytes.chunks(16).map(<[u8]>::to_vec);
        let mut rows: Vec<_> = inputs.zip(stored.get("labels").bytes.clone()).collect();
        rows.sort();
        rows
    };
    assert_eq!(rows(&plain), rows(&split));
    for range in [0..105, 105..120, 120..150] {
        let labels = &split.get("labels").bytes[range.clone()];
        for class in 0..3 {
            assert_eq!(labels.iter().filter(|l| **l == class).count() * 3, range.len(), "{class} in {range:?}");
        }
    }
}

#[test]
fn a_dataset_is_prepared_again_from_its_own_arrays() {
    let g = Ground::new();
    g.ok("iris.csv");
    fs::rename(g.path("data.safetensors"), g.path("first.safetensors")).unwrap();
    let (again, _) = g.ok("first.safetensors --split test=0.2");
    assert_eq!(again.get("inputs").shape, [150, 4]);
}

#[test]
fn bad_input_is_one_clear_error_and_leaves_nothing() {
    let g = Ground::new();
    let says = |line: &str, code: i32, parts: &[&str]| {
        let said = g.refused(line, code);
        assert_eq!(said.matches("error:").count(), 1, "{said}");
        for part in parts {
            assert!(said.contains(part), "{line}\nwanted {part}\n{said}");
        }
    };
    let images = fs::read(g.path("idx/train-images-idx3-ubyte")).unwrap();
    g.write("short-images", &images[..images.len() - 7]);
    g.write("short-labels", &idx(8, &[60], &[0; 60]));
    says(
        "short-images short-labels --format idx",
        1,
        &["short-images", "takes 2116 bytes", "there are 2109", "cut short"],
    );
    g.write("few-labels", &idx(8, &[59], &[0; 59]));
    g.write("few-images", &images);
    says("few-images few-labels --format idx", 1, &["holds 60 samples", "holds 59 labels"]);
    g.write("magic-images", &[&[7, 7], &images[2..]].concat());
    says("magic-images few-labels --format idx", 1, &["magic-images", "begins with the bytes 07 07"]);
    let packed = gzip(&images);
    g.write("cut-images.gz", &packed[..packed.len() / 2]);
    says("cut-images.gz short-labels --format idx", 1, &["cut-images.gz", "does not unpack", "fetch it again"]);
    g.write("ragged.csv", b"a,b,c\n1,2,x\n3,y\n");
    says("ragged.csv", 1, &["ragged.csv: line 3 has 2 columns", "has 3"]);
    g.write("text.csv", b"a,b,c\n1,2,x\n3,four,y\n");
    says("text.csv", 1, &["text.csv: line 3, column `b`: `four` is not a number"]);
    g.write("nan.csv", b"a,b,c\n1,2,x\n3,NaN,y\n");
    says("nan.csv", 1, &["line 3, column `b`: `NaN` is not a finite number"]);
    g.write("flat.csv", b"a,b,c\n1,2,x\n3,2,y\n");
    says("flat.csv", 1, &["flat.csv: feature `b` is 2 in every training sample", "--constant keep"]);
    says("houses.csv --label knid", 2, &["no column `knid`", "did you mean `kind`?"]);
    says("idx --classes a,b", 1, &["label 2 of sample 2 is outside the 2 classes", "--classes"]);
    says("iris.csv --split test=0.001", 1, &["split `test` would have none of the 150 samples"]);
    says("iris.csv --split-at 150", 2, &["--split-at 150"]);
    says("iris.csv --resize 9x9", 2, &["`resize` is for pictures"]);
    says("nothing.csv", 1, &["nothing.csv: no such file"]);
    g.write("odd.ts", b"@classLabel true a b\n@dimensions 2\n@data\n1,2:3,?:a\n");
    says("odd.ts", 1, &["odd.ts: line 4: dimension 2, step 2: a missing value"]);
    g.write("odd.ts", b"@classLabel true a b\n@dimensions 2\n@data\n1,2:3,4\n");
    says("odd.ts", 1, &["odd.ts: line 4", "no class"]);
    g.write("odd.ts", b"@classLabel true a b\n@dimensions 3\n@data\n1,2:3,4:5,6:a\n");
    says("--train Set_TRAIN.ts --test odd.ts", 1, &["series of up to 2 steps with 3 features", "with 2 features"]);
    let mut floats = [1.0_f32; 12];
    floats[7] = f32::NAN;
    let bytes: Vec<u8> = floats.iter().flat_map(|x| x.to_le_bytes()).collect();
    let arrays = [Tensor::new("x", "F32", &[3, 4], bytes), Tensor::new("y", "U8", &[3], vec![0, 1, 0])];
    write_file(&g.path("nan.safetensors"), &arrays, &[]);
    says("nan.safetensors", 1, &["nan.safetensors", "sample 1: element 3 is NaN"]);
    says("--train iris.csv --test iris.csv wine_data.csv", 1, &["rows of 13 features", "rows of 4 features"]);
    says("iris.csv --train iris.csv", 2, &["with and without a split"]);
    says("", 2, &["no raw data"]);
}

#[test]
fn a_class_that_is_missing_in_training_is_told() {
    let g = Ground::new();
    g.write("a.csv", b"1,2,x\n2,4,y\n3,1,x\n");
    g.write("b.csv", b"1,2,z\n");
    let done = g.run("--train a.csv --test b.csv -o data.safetensors");
    assert_code(&done, 0, "a class only in the test split");
    assert!(err(&done).contains("class `z` has no sample in the training split"), "{}", err(&done));
}

#[test]
fn a_disk_that_is_full_leaves_nothing() {
    let g = Ground::new();
    let before = names_in(g.0.path());
    // A limit on file sizes, in blocks of 1,024 bytes, stands in for the disk.
    let line = "prepare digits.csv.gz --shape 8x8 --resize 28x28 -o data.safetensors";
    let script = format!("ulimit -f 64; trap '' XFSZ; exec '{DLOPT}' {line}");
    let done = std::process::Command::new("bash").args(["-c", &script]).current_dir(g.0.path()).output().unwrap();
    assert_code(&done, 1, "a full disk");
    assert!(err(&done).contains("data.safetensors: file too large"), "{}", err(&done));
    assert_eq!(names_in(g.0.path()), before);
}

#[test]
fn an_input_is_never_replaced() {
    let g = Ground::new();
    let before = fs::read(g.path("iris.csv")).unwrap();
    let done = g.run("iris.csv -o iris.csv --force");
    assert_code(&done, 2, "the output is the input");
    let done = g.run("iris.csv -o data.safetensors --report iris.csv");
    assert_code(&done, 2, "the report is the input");
    assert!(fs::read(g.path("iris.csv")).unwrap() == before);
    assert!(!g.path("data.safetensors").exists());
}

/// Folders of pictures by class: two sizes, one grey, one cut short, one blank, two that are the same.
fn pictures(g: &Ground) {
    let colour = |height: usize, width: usize, seed: u64| {
        let mut random = Random::new(seed);
        let pixels = (0..height * width * 3).map(|_| random.bits() as u8);
        format!("P6 {width} {height} 255\n").into_bytes().into_iter().chain(pixels).collect::<Vec<u8>>()
    };
    for class in ["cat", "dog"] {
        fs::create_dir_all(g.path(&format!("pictures/{class}"))).unwrap();
    }
    g.write("pictures/cat/1.ppm", &colour(9, 7, 1));
    g.write("pictures/cat/2.ppm", &colour(8, 8, 2));
    g.write("pictures/cat/blank.ppm", &[&b"P6 4 4 255\n"[..], &[9; 48]].concat());
    g.write("pictures/cat/grey.pgm", &[&b"P5 3 2 255\n"[..], &[1, 200, 3, 90, 5, 60]].concat());
    g.write("pictures/dog/1.ppm", &colour(7, 9, 3));
    g.write("pictures/dog/2.ppm", &colour(12, 10, 4));
    g.write("pictures/dog/again.ppm", &colour(9, 7, 1));
    g.write("pictures/dog/cut.ppm", &colour(9, 7, 5)[..60]);
    g.write("pictures/dog/note.txt", b"no picture");
}

/// A flag, and the test that turns it.
type Case = (&'static str, fn(&Ground));

const CASES: [Case; 44] = [
    ("output", |g| {
        for flag in ["-o", "--output"] {
            assert_code(&g.run(&format!("iris.csv {flag} out.safetensors --force")), 0, flag);
        }
        assert!(g.path("out.safetensors").is_file());
        assert_code(&g.run("iris.csv -o folder/"), 2, "a folder");
        assert_code(&g.run("iris.csv"), 2, "no output");
    }),
    ("force", |g| {
        g.write("out.safetensors", b"mine");
        let refused = g.run("iris.csv -o out.safetensors");
        assert_code(&refused, 1, "an output that exists");
        assert!(err(&refused).contains("--force"));
        assert_eq!(fs::read(g.path("out.safetensors")).unwrap(), b"mine");
        assert_code(&g.run("iris.csv -o out.safetensors --force"), 0, "--force");
        assert!(fs::read(g.path("out.safetensors")).unwrap() != b"mine");
    }),
    ("train", |g| {
        assert_eq!(g.ok("--train iris.csv").1["splits"], json!({ "train": [0, 150] }));
        let pair = g.ok("--train idx/train-images-idx3-ubyte idx/train-labels-idx1-ubyte");
        assert_eq!(pair.1["splits"], json!({ "train": [0, 60] }));
    }),
    ("validation", |g| {
        let splits = &g.ok("--train iris.csv --validation iris.csv").1["splits"];
        assert_eq!(*splits, json!({ "train": [0, 150], "validation": [150, 300] }));
    }),
    ("test", |g| {
        let splits = &g.ok("--train idx/train-images-idx3-ubyte --test idx/t10k-images-idx3-ubyte.gz").1["splits"];
        assert_eq!(*splits, json!({ "train": [0, 60], "test": [60, 81] }));
    }),
    ("format", |g| {
        fs::copy(g.path("iris.csv"), g.path("iris.ts")).unwrap();
        assert!(g.refused("iris.ts", 1).contains("before `@data`"));
        assert_eq!(g.ok("iris.ts --format csv").0.get("inputs").shape, [150, 4]);
        assert!(g.refused("iris.csv --format jpg", 2).contains("no format `jpg`"));
    }),
    ("header", |g| {
        g.write("h.csv", b"1,2,3\n4,5,6\n7,9,3\n");
        assert_eq!(g.ok("h.csv").0.get("inputs").shape, [3, 2]);
        assert_eq!(g.ok("h.csv --header yes").0.get("inputs").shape, [2, 2]);
        g.write("h.csv", b"a,b,c\n4,5,6\n");
        assert!(g.refused("h.csv --header no", 1).contains("line 1, column 1: `a` is not a number"));
    }),
    ("delimiter", |g| {
        g.write("d.csv", b"1|2|a\n3|4|b\n");
        assert!(g.refused("d.csv", 1).contains("--delimiter"));
        assert_eq!(g.ok("d.csv --delimiter |").0.get("inputs").values(), [1.0, 2.0, 3.0, 4.0]);
    }),
    ("label", |g| {
        let by_name = g.ok("houses.csv --drop kind --label rooms").1;
        assert_eq!(by_name["classes"], json!(["2", "3", "4", "5"]));
        assert_eq!(g.ok("houses.csv --drop kind --label 3").1["classes"], by_name["classes"]);
    }),
    ("targets", |g| {
        let (stored, about) = g.ok("houses.csv --targets price,rooms --drop id,kind");
        assert_eq!(stored.get("targets").values()[..4], [100.5, 2.0, 160.0, 3.0]);
        assert_eq!(about["outputs"], json!(["price", "rooms"]));
        assert!(!stored.tensors.contains_key("labels"));
    }),
    ("drop", |g| {
        assert_eq!(g.ok("houses.csv").0.get("inputs").shape, [4, 4]);
        let about = g.ok("houses.csv --drop id,price").1;
        assert_eq!(about["elements"]["names"], json!(["area", "rooms"]));
    }),
    ("text", |g| {
        let (stored, about) = g.ok("said.tsv --text said --label kind");
        assert_eq!(about["raw"], json!({ "kind": "text" }));
        assert_eq!(stored.get("inputs").shape, [3, 7]);
        assert_eq!(stored.get("inputs").bytes[7..14], *b"no \"no\"");
        assert!(g.refused("said.tsv --text siad --label kind", 2).contains("did you mean `said`?"));
    }),
    ("answer", |g| {
        let (stored, about) = g.ok("said.tsv --header yes --text 2 --answer 4");
        assert_eq!(about["learns"]["kind"], "sequence");
        assert_eq!(stored.get("sequence_lengths").bytes, [3, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0]);
        assert!(g.refused("said.tsv --answer said", 2).contains("--text COLUMN"));
    }),
    ("group", |g| {
        let rows: String = (0..40).map(|row| format!("{}\tw{row}\t{}\n", row % 8, row % 3)).collect();
        g.write("many.tsv", rows.as_bytes());
        let (stored, about) = g.ok("many.tsv --text 2 --label 3 --group 1 --split test=0.25");
        let split = about["splits"]["test"][0].as_u64().unwrap() as usize;
        let who =
            |text: &[u8]| std::str::from_utf8(&text[1..]).unwrap().trim_end_matches('\0').parse::<u32>().unwrap() % 8;
        let who: Vec<u32> = stored.get("inputs").bytes.chunks(3).map(who).collect();
        assert!(split == 30 && who[split..].iter().all(|test| !who[..split].contains(test)), "{who:?}");
        let numbers = g.ok("houses.csv --group rooms --label kind --split test=0.5").1;
        assert_eq!(numbers["elements"]["names"], json!(["id", "area", "price"]));
        for (class, voice) in [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")] {
            fs::create_dir_all(g.path(&format!("texts/{class}"))).unwrap();
            (0..5).for_each(|n| g.write(&format!("texts/{class}/{voice}_{n}.txt"), voice.repeat(n + 1).as_bytes()));
        }
        // Half of the samples is one of two voices, not five samples of each class.
        let voices = |line: &str| {
            let (stored, about) = g.ok(&format!("texts --split test=0.5 --seed 2 {line}"));
            let begin = about["splits"]["test"][0].as_u64().unwrap() as usize;
            let rows = stored.get("inputs").bytes.chunks(stored.get("inputs").shape[1]).skip(begin);
            rows.map(|row| row[0]).collect::<BTreeSet<u8>>().len()
        };
        assert_eq!((voices("--group ^(.)_"), voices("")), (1, 2));
    }),
    ("quotes", |g| {
        g.write("q.tsv", b"\"a\tb\"\tx\nc\ty\n");
        assert!(g.refused("q.tsv --text 1 --label 2", 1).contains("line 2 has 2 columns"));
        assert_eq!(g.ok("q.tsv --text 1 --label 2 --quotes yes").0.get("inputs").bytes, *b"a\tbc\0\0");
    }),
    ("encoding", |g| {
        g.write("l.tsv", b"caf\xe9\tx\nbar\ty\n");
        assert!(g.refused("l.tsv --text 1", 1).contains("line 1, column 1: no UTF-8 there"));
        assert_eq!(g.ok("l.tsv --text 1 --encoding latin1").0.get("inputs").bytes[..5], *"café".as_bytes());
        assert!(g.refused("l.tsv --text 1 --encoding latin17", 2).contains("no encoding `latin17`"));
    }),
    ("window", |g| {
        g.write("long.txt", &b"abcdefgh".repeat(40));
        assert_eq!(g.ok("long.txt").0.get("inputs").shape, [2, 129]);
        let (stored, about) = g.ok("long.txt --window 9");
        assert_eq!(about["learns"], json!({ "kind": "next-token" }));
        assert_eq!(stored.get("inputs").bytes[..20], *b"abcdefghabbcdefghabc");
        assert!(g.refused("long.txt --window 320", 1).contains("shorter than one window"));
    }),
    ("target-step", |g| {
        let (stored, about) = g.ok("said.tsv --text said --answer 4 --target-step tokenise=words,bounds=true");
        assert_eq!(about["sequence_steps"][0]["symbols"], json!(["<pad>", "<unk>", "<s>", "</s>", "ja", "na", "nein"]));
        assert_eq!(stored.get("sequences").shape, [3, 3]);
        let said = g.refused("said.tsv --text said --answer 4 --target-step tokenise=words", 2);
        assert!(said.contains("no marks of their beginning and end"), "{said}");
    }),
    ("shape", |g| {
        assert_eq!(g.ok("iris.csv --shape 2x2").0.get("inputs").shape, [150, 2, 2, 1]);
        assert!(g.refused("iris.csv --shape 3x3", 2).contains("--shape 3x3 has 9"));
    }),
    ("as", |g| {
        let (series, about) = g.ok("idx --as series");
        assert_eq!(about["elements"], json!({ "kind": "series", "time": 7, "features": 5 }));
        assert_eq!(numbers(&about["mean"]).len(), 1, "pixels share their statistics");
        assert_eq!(series.get("inputs").bytes, g.ok("idx").0.get("inputs").bytes);
        assert_eq!(g.ok("idx --as vector").0.get("inputs").shape, [81, 35]);
    }),
    ("classes", |g| {
        assert_eq!(g.ok("idx --classes a,b,c,d").1["classes"], json!(["a", "b", "c", "d"]));
    }),
    ("split", |g| {
        let splits = &g.ok("iris.csv --split test=0.2").1["splits"];
        assert_eq!(*splits, json!({ "train": [0, 120], "test": [120, 150] }));
    }),
    ("split-at", |g| {
        let splits = &g.ok("iris.csv --split-at 100,120").1["splits"];
        assert_eq!(*splits, json!({ "train": [0, 100], "validation": [100, 120], "test": [120, 150] }));
    }),
    ("seed", |g| {
        let draw = |seed: u64| g.ok(&format!("iris.csv --split test=0.2 --seed {seed}")).0.get("inputs").bytes.clone();
        assert!(draw(1) != draw(2) && draw(1) == draw(1));
    }),
    ("step", |g| {
        let (stored, about) = g.ok("idx --step crop=4x3 --step resize=8x6,filter=nearest");
        assert_eq!(stored.get("inputs").shape, [81, 8, 6, 1]);
        let steps: Vec<_> = about["steps"].as_array().unwrap().iter().map(|step| step["step"].clone()).collect();
        assert_eq!(steps, ["crop", "resize"]);
        assert!(g.refused("idx --step crup=4x3", 2).contains("did you mean `crop`?"));
        assert!(g.refused("idx --step crop=4x3,colour=red", 2).contains("colour"));
    }),
    ("features", |g| {
        let (stored, about) = g.ok("idx --features lbp,edges");
        assert_eq!(stored.get("inputs").shape.len(), 2);
        let names = about["elements"]["names"].as_array().unwrap();
        assert_eq!(names.len() as u64, about["elements"]["features"].as_u64().unwrap());
        assert!(names[0].as_str().unwrap().starts_with("lbp") && g.refused("idx --features lbb", 2).contains("`lbp`"));
        assert!(g.refused("iris.csv --features lbp", 2).contains("pictures"));
    }),
    ("fold", |g| {
        let tests: Vec<_> =
            (1..=3).map(|fold| g.ok(&format!("iris.csv --fold {fold}/3")).1["splits"].clone()).collect();
        assert!(tests.iter().all(|splits| *splits == json!({ "train": [0, 100], "test": [100, 150] })), "{tests:?}");
        let inputs = |fold: &str| g.ok(&format!("iris.csv --fold {fold}")).0.get("inputs").bytes.clone();
        assert!(inputs("1/3") != inputs("2/3") && inputs("1/3") == inputs("1/3"));
        assert!(g.refused("iris.csv --fold 4/3", 2).contains("--fold 4/3"));
    }),
    ("mean", |g| {
        let (_, about) = g.ok("idx --mean 0.5 --deviation 0.25");
        assert_eq!((&about["mean"], &about["deviation"]), (&json!([0.5]), &json!([0.25])));
        assert!(g.refused("idx --mean 0.5 --deviation 0", 2).contains("--mean and --deviation"));
    }),
    ("deviation", |g| {
        assert_code(&g.run("idx --deviation 2 -o data.safetensors"), 2, "without --mean");
        assert_eq!(g.ok("idx --mean 0 --deviation 2").1["standardise"], "given");
    }),
    ("clean", |g| {
        pictures(g);
        let done = json_out(&g.run(
            "pictures --clean unreadable=drop,duplicate=drop,blank=drop,channels=fix --resize 4x4 \
                                    -o data.safetensors --force --json",
        ));
        assert_eq!((&done["samples"], done["findings"].as_array().unwrap().len()), (&json!(5), 4));
        assert!(g.refused("pictures --resize 4x4", 1).contains("cut.ppm"));
        let mixed = g.refused("pictures --clean unreadable=drop --resize 4x4", 1);
        assert!(mixed.contains("grey.pgm") && mixed.contains("channels=fix"), "{mixed}");
        let sizes = g.refused("pictures --clean unreadable=drop,channels=fix", 1);
        assert!(sizes.contains("--resize HxW"), "{sizes}");
        assert!(g.refused("pictures --clean dust=drop", 2).contains("unreadable, duplicate"));
    }),
    ("found", |g| {
        pictures(g);
        g.ok("pictures --clean unreadable=drop,blank=flag,channels=fix --resize 4x4 --found found.png");
        assert!(fs::read(g.path("found.png")).unwrap().starts_with(b"\x89PNG"));
    }),
    ("preview", |g| {
        g.ok("idx --preview sheet.png");
        assert!(fs::read(g.path("sheet.png")).unwrap().starts_with(b"\x89PNG"));
    }),
    ("threads", |g| {
        pictures(g);
        let line = "pictures --clean unreadable=drop,channels=fix --resize 4x4 --threads";
        let bytes = |threads: u8| {
            g.ok(&format!("{line} {threads}"));
            fs::read(g.path("data.safetensors")).unwrap()
        };
        assert!(bytes(1) == bytes(3));
    }),
    ("like", |g| {
        let (_, about) = g.ok("iris.csv --fold 1/3");
        ok_in(g.0.path(), "train --model mlp --data data.safetensors --epochs 1 -o m.safetensors --quiet");
        let (_, again) = g.ok("iris.csv --like m.safetensors");
        assert_eq!((&again["mean"], &again["classes"]), (&about["mean"], &about["classes"]));
        assert!(g.refused("iris.csv --like iris.csv", 1).contains("iris.csv"));
    }),
    ("resize", |g| {
        assert_eq!(g.ok("idx --resize 9x4").0.get("inputs").shape, [81, 9, 4, 1]);
    }),
    ("filter", |g| {
        let scaled = |filter: &str| g.ok(&format!("idx --resize 9x4 --filter {filter}")).0.get("inputs").bytes.clone();
        assert!(scaled("nearest") != scaled("bilinear"));
        assert_eq!(scaled("bilinear"), g.ok("idx --resize 9x4").0.get("inputs").bytes);
    }),
    ("scale", |g| {
        assert_eq!(g.ok("idx --scale 0.5").1["scale"], 0.5);
        let fraction = g.ok("idx --scale 1/16").1;
        assert_eq!(fraction["scale"], 1.0 / 16.0);
        let largest = g.ok("iris.csv --scale max").1["scale"].as_f64().unwrap();
        assert!((largest - 1.0 / 7.9).abs() < 1e-7, "{largest}");
    }),
    ("standardise", |g| {
        let how = |which: &str| g.ok(&format!("idx --standardise {which}")).1;
        assert_eq!(how("none")["mean"], json!([]));
        assert_eq!(numbers(&how("channel")["mean"]).len(), 1);
        assert_eq!(numbers(&how("feature")["mean"]).len(), 35);
        assert_eq!(how("min-max")["mean"], json!([0.0]));
        assert_eq!(how("min-max")["deviation"], json!([1.0]));
        assert_eq!(g.ok("idx --standardize none").1["standardise"], "none");
    }),
    ("constant", |g| {
        g.write("flat.csv", b"a,b,c\n1,2,x\n3,2,y\n");
        g.refused("flat.csv", 1);
        let about = g.ok("flat.csv --constant keep").1;
        assert_eq!((&about["mean"], &about["deviation"]), (&json!([2.0, 2.0]), &json!([1.0, 1.0])));
    }),
    ("tmp-dir", |g| {
        let done = g.run("iris.csv -o data.safetensors --tmp-dir nowhere");
        assert_code(&done, 1, "--tmp-dir");
        assert!(err(&done).contains("nowhere: --tmp-dir is no folder"));
        g.ok("iris.csv --tmp-dir .");
    }),
    ("json", |g| {
        let report = json_out(&g.run("idx -o data.safetensors --force --json"));
        assert_eq!(report["samples"], 81);
        assert_eq!(report["splits"][1], json!({ "name": "test", "samples": 21, "classes": [7, 7, 7] }));
        assert_eq!(report["bytes"].as_u64(), Some(fs::metadata(g.path("data.safetensors")).unwrap().len()));
    }),
    ("report", |g| {
        let printed = json_out(&g.run("idx -o data.safetensors --force --json --report report.json"));
        assert_eq!(read_json(&g.path("report.json")), printed);
    }),
    ("quiet", |g| {
        let told = g.run("iris.csv -o data.safetensors --force");
        assert!(out(&told).contains("setosa") && err(&told).contains("all samples are for training"));
        let quiet = g.run("iris.csv -o data.safetensors --force -q");
        assert!(quiet.stdout.is_empty() && quiet.stderr.is_empty());
    }),
    ("verbose", |g| {
        let (short, long) = (g.run("idx -o data.safetensors --force"), g.run("idx -o data.safetensors --force -v"));
        assert!(!out(&short).contains("SHA-256") && out(&long).contains("SHA-256"));
    }),
];

#[test]
fn every_flag_of_prepare_changes_something() {
    for (flag, test) in CASES {
        let ground = Ground::new();
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&ground)));
        assert!(done.is_ok(), "--{flag}");
    }
}

#[test]
fn no_flag_of_prepare_is_without_a_test() {
    let tested: BTreeSet<String> = CASES.iter().map(|(flag, _)| (*flag).to_owned()).collect();
    assert_eq!(shown_flags("prepare"), tested);
}

#[test]
fn fashion_mnist_has_its_known_statistics() {
    let Some(raw) = fetched("fashion-mnist") else { return };
    let g = Ground::new();
    let done = run(&[Path::new("prepare"), &raw, Path::new("-o"), &g.path("fashion.safetensors"), Path::new("--json")]);
    let report = json_out(&done);
    assert_close_to(&report["info"]["mean"], 0.2860);
    assert_close_to(&report["info"]["deviation"], 0.3530);
    assert_eq!(report["splits"][0]["classes"], json!(vec![6000; 10]));
    assert_eq!(report["splits"][1]["classes"], json!(vec![1000; 10]));
}

#[test]
fn the_series_of_the_archives_are_read() {
    let Some(raw) = fetched("series") else { return };
    let g = Ground::new();
    for (set, features, time, classes, train, test, is_ragged) in [
        ("JapaneseVowels", 12, 29, 9, 270, 370, true),
        ("ArrowHead", 1, 251, 3, 36, 175, false),
        ("BasicMotions", 6, 100, 4, 40, 40, false),
        ("GunPoint", 1, 150, 2, 50, 150, false),
        ("ItalyPowerDemand", 1, 24, 2, 67, 1029, false),
    ] {
        let files = ["TRAIN", "TEST"].map(|part| raw.join(format!("{set}_{part}.ts")).display().to_string());
        let (stored, about) = g.ok(&format!("--train {} --test {}", files[0], files[1]));
        assert_eq!(about["splits"], json!({ "train": [0, train], "test": [train, train + test] }), "{set}");
        assert_eq!(stored.get("inputs").shape, [train + test, time, features], "{set}");
        assert_eq!(about["classes"].as_array().unwrap().len(), classes, "{set}");
        assert_eq!(stored.tensors.contains_key("lengths"), is_ragged, "{set}");
    }
}

fn assert_close_to(value: &Value, wanted: f64) {
    let found = numbers(value);
    assert!(found.len() == 1 && (found[0] - wanted).abs() < 5e-5, "{value} is not {wanted}");
}
