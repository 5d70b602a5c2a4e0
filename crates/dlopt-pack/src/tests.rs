//! Containers as a whole.

use std::io::Read;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use dlopt_checkpoint::{Dtype, Header, NoProgress, Result, TensorInfo};
use proptest::prelude::*;

use crate::container::put_number;
use crate::{PackReport, PackedFile, Packer, Source, Unpacker, Whole};

/// A checkpoint of several dtypes, whose bf16 tensor takes more than a block.
fn checkpoint() -> Vec<u8> {
    let tensors = vec![
        TensorInfo::new("a.weight", Dtype::BF16, [700, 900]),
        TensorInfo::new("a.bias", Dtype::F32, [7]),
        TensorInfo::new("empty", Dtype::F16, [0, 3]),
        TensorInfo::new("mask", Dtype::BOOL, [301]),
        TensorInfo::new("wide", Dtype::F64, [33]),
        TensorInfo::new("ids", Dtype::I64, [65]),
    ];
    let header = Header { tensors, ..Header::default() };
    let mut bytes = header.to_bytes().unwrap();
    let mut next = 1_u64;
    for tensor in &header.tensors {
        for i in 0..tensor.elements() {
            next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let x = (next >> 40) as f32 / (1 << 24) as f32 - 0.5;
            match tensor.dtype {
                Dtype::BF16 => bytes.extend(half::bf16::from_f32(x * x * x).to_le_bytes()),
                Dtype::F32 => bytes.extend(x.to_le_bytes()),
                Dtype::F64 => bytes.extend(f64::from(x).to_le_bytes()),
                Dtype::I64 => bytes.extend((i as i64 * 17).to_le_bytes()),
                _ => bytes.push(u8::from(x > 0.4)),
            }
        }
    }
    bytes
}

fn pack(source: Source<'_>, threads: usize) -> Result<(Vec<u8>, PackReport)> {
    let stop = AtomicBool::new(false);
    let mut out = Vec::new();
    let report = Packer::new(threads, &NoProgress, &stop)?.pack(source, &mut out, "out")?;
    Ok((out, report))
}

fn stream(bytes: &[u8], is_sized: bool) -> Source<'_> {
    Source::Stream(Box::new(bytes), is_sized.then_some(bytes.len() as u64), "in".to_owned())
}

fn unpack(packed: &[u8], threads: usize) -> Result<Vec<(PackedFile, Vec<u8>)>> {
    let mut unpacker = Unpacker::open(packed, "packed", threads)?;
    let mut files = Vec::new();
    while let Some(file) = unpacker.next_file()? {
        let mut bytes = Vec::new();
        while let Some(pieces) = unpacker.next_bytes()? {
            pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
        }
        assert_eq!(bytes.len() as u64, file.bytes);
        files.push((file, bytes));
    }
    Ok(files)
}

#[test]
fn a_checkpoint_comes_back_bit_for_bit_from_the_same_container_at_any_number_of_threads() {
    let bytes = checkpoint();
    let (packed, report) = pack(stream(&bytes, true), 1).unwrap();
    assert_eq!(pack(stream(&bytes, true), 3).unwrap().0, packed);
    assert_eq!(pack(stream(&bytes, false), 2).unwrap().0, packed);
    assert_eq!(unpack(&packed, 2).unwrap(), [(PackedFile { name: None, bytes: bytes.len() as u64 }, bytes.clone())]);
    assert_eq!((report.files, report.tensors), (1, 6));
    assert_eq!((report.bytes_before, report.bytes_after), (bytes.len() as u64, packed.len() as u64));
    assert!(report.ratio > 1.2, "{}", report.ratio);
}

#[test]
fn the_container_is_within_three_percent_of_the_entropy_of_its_planes() {
    let (packed, report) = pack(stream(&checkpoint(), true), 2).unwrap();
    let entropy: f64 = report.planes.iter().map(|plane| plane.entropy_bytes).sum();
    assert!((packed.len() as f64) < 1.03 * entropy, "{} of {entropy}", packed.len());
}

#[test]
fn a_folder_comes_back_with_all_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let text = b"{\"vocab\": 3}".repeat(40);
    put("config.json", &text);
    put("model.safetensors", &checkpoint());
    put("deep/er/notes.txt", b"");
    put("broken.safetensors", b"\xff\xff\xff\xff\xff\xff\xff\xff no header");
    let (packed, report) = pack(Source::Folder(dir.path().to_owned()), 2).unwrap();
    assert_eq!(report.files, 4);
    let files = unpack(&packed, 2).unwrap();
    let names: Vec<_> = files.iter().map(|(file, _)| file.name.clone().unwrap()).collect();
    assert_eq!(names, ["broken.safetensors", "config.json", "deep/er/notes.txt", "model.safetensors"]);
    for (file, bytes) in &files {
        assert_eq!(&std::fs::read(dir.path().join(file.name.as_ref().unwrap())).unwrap(), bytes);
    }
    assert!(Whole::new(Unpacker::open(&packed[..], "packed", 1).unwrap()).is_err());
    assert!(pack(Source::Folder(dir.path().join("deep/er/none")), 1).is_err());
}

#[test]
fn codes_that_no_config_speaks_of_come_back() {
    let (rows, columns) = (40, 200);
    let tensors =
        vec![TensorInfo::new("w_packed", Dtype::I32, [rows, 32]), TensorInfo::new("w_scale", Dtype::F32, [rows, 1])];
    let header = Header { tensors, ..Header::default() };
    let mut bytes = header.to_bytes().unwrap();
    for row in 0..rows {
        let codes: Vec<i8> =
            (0..columns).map(|i| if (i * 7 + row * 13) % 17 == 0 { (i % 9) as i8 } else { 0 }).collect();
        let mut packed = vec![0; dlopt_kernels::packed_bytes(columns, 5)];
        dlopt_kernels::pack(&codes, 5, &mut packed);
        bytes.extend(packed);
    }
    bytes.extend(vec![0; 4 * rows]);
    let (packed, _) = pack(stream(&bytes, true), 1).unwrap();
    assert_eq!(unpack(&packed, 1).unwrap()[0].1, bytes);
}

#[test]
fn a_stream_of_anything_else_is_refused_and_a_file_of_it_is_not() {
    let bytes = b"no checkpoint at all, but long enough for a length".to_vec();
    let error = pack(stream(&bytes, false), 1).unwrap_err();
    assert!(error.message().starts_with("in: "), "{error}");
    let (packed, _) = pack(stream(&bytes, true), 1).unwrap();
    assert_eq!(unpack(&packed, 1).unwrap()[0].1, bytes);
    assert_eq!(unpack(&pack(stream(b"", true), 1).unwrap().0, 1).unwrap()[0].1, b"");
}

#[test]
fn an_input_that_is_cut_short_or_longer_than_said_is_an_error() {
    let bytes = checkpoint();
    let error = pack(stream(&bytes[..bytes.len() - 9], false), 1).unwrap_err();
    assert!(error.message().contains("within `ids`"), "{error}");
    let source = Source::Stream(Box::new(&bytes[..]), Some(bytes.len() as u64 - 1), "in".to_owned());
    assert!(pack(source, 1).is_err());
}

#[test]
fn a_later_version_and_other_files_are_named() {
    let (mut packed, _) = pack(stream(&checkpoint(), true), 1).unwrap();
    packed[4] = 9;
    assert!(unpack(&packed, 1).unwrap_err().message().contains("version 9"));
    assert!(unpack(b"PK\x03\x04....", 1).unwrap_err().message().contains("no container"));
}

#[test]
fn a_name_that_leads_out_of_the_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("xx_a"), b"1").unwrap();
    let (mut packed, _) = pack(Source::Folder(dir.path().to_owned()), 1).unwrap();
    let at = packed.windows(4).position(|four| four == b"xx_a").unwrap();
    packed[at..at + 3].copy_from_slice(b"../");
    packed[at + 4..at + 8].copy_from_slice(&crc32fast::hash(b"../a").to_le_bytes());
    assert!(unpack(&packed, 1).unwrap_err().message().contains("leads out of the folder"));
}

#[test]
fn lengths_that_no_file_has_take_no_memory() {
    let plain = [&b"DLPK\x01\x00\x00"[..], &[0xff; 9], &[1]].concat();
    assert!(unpack(&plain, 1).unwrap_err().message().contains("ends at byte 17, within block 0 of the file"));
    let header = Header { tensors: vec![TensorInfo::new("a", Dtype::U8, [1 << 58])], ..Header::default() };
    let start = header.to_bytes().unwrap();
    let mut bytes = b"DLPK\x01\x00\x01".to_vec();
    put_number(&mut bytes, start.len() as u64);
    put_number(&mut bytes, start.len() as u64 + 1);
    bytes.push(0);
    bytes.extend_from_slice(&start);
    bytes.extend(crc32fast::hash(&start).to_le_bytes());
    bytes.push(1);
    assert!(unpack(&bytes, 1).unwrap_err().message().contains("within block 0 of tensor `a`"));
}

#[test]
fn every_flipped_bit_of_a_folder_is_found_or_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), b"{\"vocab\": 3}".repeat(9)).unwrap();
    std::fs::write(dir.path().join("none"), b"").unwrap();
    let tensors = vec![TensorInfo::new("w", Dtype::BF16, [300]), TensorInfo::new("mask", Dtype::BOOL, [90])];
    let mut bytes = Header { tensors, ..Header::default() }.to_bytes().unwrap();
    bytes.extend((0..300_u32).flat_map(|i| half::bf16::from_f32((i as f32).sin()).to_le_bytes()));
    bytes.extend((0..90).map(|i| u8::from(i % 7 == 0)));
    std::fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
    let (packed, _) = pack(Source::Folder(dir.path().to_owned()), 1).unwrap();
    let whole = unpack(&packed, 1).unwrap();
    for at in 0..packed.len() {
        for bit in 0..8 {
            let mut wrong = packed.clone();
            wrong[at] ^= 1 << bit;
            assert!(unpack(&wrong, 1).map_or(true, |files| files == whole), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn the_one_file_is_a_stream() {
    let bytes = checkpoint();
    let (packed, _) = pack(stream(&bytes, true), 2).unwrap();
    let mut whole = Whole::new(Unpacker::open(&packed[..], "packed", 2).unwrap()).unwrap();
    let mut found = Vec::new();
    whole.read_to_end(&mut found).unwrap();
    assert_eq!(found, bytes);
    let mut cut = Whole::new(Unpacker::open(&packed[..packed.len() - 1], "packed", 2).unwrap()).unwrap();
    assert!(cut.read_to_end(&mut found).unwrap_err().to_string().contains("within the end"));
}

#[test]
fn links_to_files_are_followed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("blob"), b"123").unwrap();
    std::fs::create_dir(dir.path().join("model")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("blob"), dir.path().join("model/weights")).unwrap();
    let (packed, _) = pack(Source::Folder(dir.path().join("model")), 1).unwrap();
    assert_eq!(unpack(&packed, 1).unwrap()[0].1, b"123");
    std::os::unix::fs::symlink(Path::new("/nowhere"), dir.path().join("model/broken")).unwrap();
    assert!(pack(Source::Folder(dir.path().join("model")), 1).unwrap_err().message().contains("broken"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_container_with_wrong_bytes_is_never_taken_for_another(places in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut in any::<prop::sample::Index>(), is_cut: bool) {
        let tensors = vec![TensorInfo::new("w", Dtype::BF16, [300]), TensorInfo::new("b", Dtype::F32, [5])];
        let mut bytes = Header { tensors, ..Header::default() }.to_bytes().unwrap();
        bytes.extend((0..300_u32).flat_map(|i| half::bf16::from_f32((i as f32).sin()).to_le_bytes()));
        bytes.extend([7; 20]);
        let (packed, _) = pack(stream(&bytes, true), 1).unwrap();
        let mut wrong = packed.clone();
        for (place, byte) in places {
            let place = place.index(wrong.len());
            wrong[place] = byte;
        }
        if is_cut {
            wrong.truncate(cut.index(wrong.len()));
        }
        if let Ok(files) = unpack(&wrong, 1) {
            prop_assert_eq!(&files[0].1, &bytes);
        }
    }
}
