//! Files from `fixtures/import/make_import_fixtures.py`, the same damaged, and hostile ones.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use proptest::prelude::*;

use super::pickle_input::Input;
use super::{Imported, open_import, open_import_folder, pickle};
use crate::dtype::{Dtype, dtype_name};
use crate::error::Error;

const MAX_PROPTEST_BYTES: u64 = 1 << 20;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/import").join(name)
}

fn open(name: &str) -> Imported {
    open_import(&fixture(name)).unwrap_or_else(|e| panic!("{e}"))
}

fn refused(name: &str) -> Error {
    let error = open_import(&fixture(name)).unwrap_err();
    assert!(error.message().contains(name), "{error}");
    error
}

fn bytes_of(imported: &Imported, name: &str) -> Vec<u8> {
    let at = imported.header.by_name()[name];
    let mut bytes = vec![0xaa; imported.header.tensors[at].bytes() as usize];
    imported.read(at, 0, &mut bytes).unwrap();
    bytes
}

/// All numbers of a tensor as f64.
fn numbers(imported: &Imported, name: &str) -> Vec<f64> {
    let dtype = imported.header.tensors[imported.header.by_name()[name]].dtype;
    let bytes = bytes_of(imported, name);
    bytes
        .chunks(dtype.bitsize() / 8)
        .map(|c| match dtype {
            Dtype::F64 => f64::from_le_bytes(c.try_into().unwrap()),
            Dtype::F32 => f64::from(f32::from_le_bytes(c.try_into().unwrap())),
            Dtype::F16 => f16::from_le_bytes(c.try_into().unwrap()).to_f64(),
            Dtype::BF16 => bf16::from_le_bytes(c.try_into().unwrap()).to_f64(),
            Dtype::I64 => i64::from_le_bytes(c.try_into().unwrap()) as f64,
            Dtype::I32 => f64::from(i32::from_le_bytes(c.try_into().unwrap())),
            Dtype::I16 => f64::from(i16::from_le_bytes(c.try_into().unwrap())),
            Dtype::U8 | Dtype::BOOL => f64::from(c[0]),
            _ => panic!("{dtype:?}"),
        })
        .collect()
}

fn counting(first: usize, count: usize) -> Vec<f64> {
    (first..first + count).map(|i| i as f64).collect()
}

/// `name DTYPE [shape]` of every tensor, in order.
fn described(imported: &Imported) -> Vec<String> {
    imported.header.tensors.iter().map(|t| format!("{} {} {:?}", t.name, dtype_name(t.dtype), t.shape)).collect()
}

fn is_plain(imported: &Imported) {
    assert_eq!(
        described(imported),
        [
            "fc1.weight F32 [3, 5]",
            "fc1.bias F32 [3]",
            "bn.num_batches_tracked I64 []",
            "half F16 [2, 2]",
            "empty F32 [0, 4]"
        ]
    );
    assert_eq!(imported.header.metadata.iter().collect::<Vec<_>>(), [(&"format".into(), &"pt".into())]);
    assert_eq!(numbers(imported, "fc1.weight"), counting(1, 15));
    assert_eq!(numbers(imported, "fc1.bias"), counting(100, 3));
    assert_eq!(numbers(imported, "bn.num_batches_tracked"), [7.0]);
    assert_eq!(numbers(imported, "half"), counting(0, 4));
    assert_eq!(numbers(imported, "empty"), [0.0; 0]);
}

#[test]
fn every_form_of_a_state_dict_reads_the_same() {
    for name in ["plain.pth", "protocol4.pth", "protocol5.pth", "legacy.pth"] {
        let imported = open(name);
        is_plain(&imported);
        assert!(imported.skipped.is_empty(), "{name}: {:?}", imported.skipped);
    }
}

#[test]
fn views_are_gathered_from_their_storage() {
    for name in ["views.pth", "deflated.pth"] {
        let imported = open(name);
        assert_eq!(numbers(&imported, "whole"), counting(0, 30));
        let transposed: Vec<f64> = (0..6).flat_map(|c| (0..5).map(move |r| f64::from(r * 6 + c))).collect();
        assert_eq!(numbers(&imported, "transposed"), transposed);
        assert_eq!(numbers(&imported, "rows"), counting(12, 12));
        assert_eq!(numbers(&imported, "column"), [4.0, 10.0, 16.0, 22.0, 28.0]);
        assert_eq!(numbers(&imported, "expanded"), [9.0, 10.0, 11.0, 9.0, 10.0, 11.0]);
        assert_eq!(numbers(&imported, "one_row"), counting(6, 6));
        assert_eq!(numbers(&imported, "parameter"), counting(50, 6));
        assert_eq!(numbers(&imported, "attributed"), counting(60, 2));
        assert_eq!(numbers(&imported, "mask"), [1.0, 0.0, 1.0]);
        assert_eq!(bytes_of(&imported, "fp8"), [0x38, 0x40, 0xb8, 0]);
        assert_eq!(described(&imported)[9], "fp8 F8_E4M3 [2, 2]");
    }
}

#[test]
fn old_storages_stand_in_the_order_of_their_key_list() {
    let imported = open("legacy_many.pth");
    for i in 0..12 {
        assert_eq!(numbers(&imported, &format!("t{i}")), counting(10 * i, i + 1));
    }
    // A view of elements 6..10 of the storage, and in it from 1 on.
    assert_eq!(numbers(&open("legacy_view.pth"), "tail"), counting(7, 3));
}

#[test]
fn the_weights_of_a_training_checkpoint_keep_their_names() {
    let imported = open("nested.pth");
    is_plain(&imported);
    assert_eq!(imported.skipped, ["`epoch` (int)", "`optimizer` (dict)", "`args` (dict)"]);
}

#[test]
fn other_nesting_is_flattened_with_dots() {
    let imported = open("flat.pth");
    assert_eq!(described(&imported), ["net.a.w F32 [2]", "net.5.0 F32 [1]"]);
    assert_eq!(imported.skipped, ["`step` (int)", "`log` (list)"]);
    assert_eq!(described(&open("alone.pth")), ["tensor F32 [2, 2]"]);
}

#[test]
fn no_pickle_gets_anything_called() {
    for (name, callable) in [
        ("evil_global.pth", "data.pkl asks to call `posix.system`"),
        ("evil_stack_global.pth", "data.pkl asks to call `posix.system`"),
        ("evil_eval.pth", "data.pkl asks to call `__builtin__.eval`"),
        ("evil_legacy.pth", "the object's pickle asks to call `posix.system`"),
    ] {
        let error = refused(name);
        assert!(error.message().contains(callable), "{error}");
        assert!(error.message().ends_with("dlopt runs no code from pickles"), "{error}");
        assert!(error.what_to_try().unwrap().contains("state_dict"));
    }
}

#[test]
fn every_way_to_name_a_callable_is_checked() {
    for code in [
        &b"cos\nsystem\n."[..],
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"(ios\nsystem\n.",
        b"(cos\nsystem\nS'echo'\no.",
        b"cos\nsystem\n)\x81.",
        b"ctorch.hub\nload\n.",
        b"ctorch\nhub.load\n.",
        b"cbuiltins\ngetattr\n.",
        b"ctorch._utils\n_rebuild_qtensor\n.",
        b"ctorch\nFloat\n.",
        b"ctorch\nfloat32Storage\n.",
    ] {
        let error = load(code).unwrap_err();
        assert!(error.message().contains("asks to call"), "{}: {error}", code.escape_ascii());
    }
}

#[test]
fn a_tensor_must_lie_in_its_storage() {
    for (name, what) in [
        ("bad_bounds.pth", "leaves its storage `0` of 4 elements"),
        ("bad_offset.pth", "leaves its storage"),
        ("bad_strides.pth", "leaves its storage"),
        ("bad_shape.pth", "overflows"),
        ("bad_bomb.pth", "grow"),
    ] {
        let error = refused(name);
        assert!(error.message().contains("tensor `w`: ") && error.message().contains(what), "{error}");
    }
    assert!(refused("bad_negative.pth").message().contains("other arguments"));
    assert!(refused("bad_conjugated.pth").message().contains("conjugated"));
}

#[test]
fn what_is_no_plain_checkpoint_says_so() {
    for (name, what) in [
        ("big_endian.pth", "byte order `big`"),
        ("legacy_big_endian.pth", "big-endian"),
        ("torchscript.pth", "TorchScript"),
        ("objects.npz", "array `o`: holds `|O`: Python objects"),
        ("void.npz", "array `v`: holds `|V2`: raw bytes"),
        ("record.npz", "several fields"),
        ("longdouble.npz", "array `c`: holds `<c16`"),
    ] {
        let error = refused(name);
        assert!(error.message().contains(what), "{error}");
    }
}

#[test]
fn arrays_of_every_order_read_as_c_order_little_endian() {
    for name in ["stored.npz", "deflated.npz"] {
        let imported = open(name);
        assert_eq!(
            described(&imported),
            [
                "w F32 [3, 5]",
                "fortran I16 [2, 3, 4]",
                "big F64 [2, 3]",
                "big_fortran I32 [2, 3]",
                "complex C64 [2]",
                "half F16 [3]",
                "bf16 BF16 [4]",
                "u8 U8 [3]",
                "flag BOOL [2]",
                "scalar F32 []",
                "empty F32 [0, 3]"
            ]
        );
        assert_eq!(numbers(&imported, "w"), counting(1, 15));
        assert_eq!(numbers(&imported, "fortran"), counting(0, 24));
        assert_eq!(numbers(&imported, "big"), [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]);
        assert_eq!(numbers(&imported, "big_fortran"), counting(1, 6));
        let complex: Vec<u8> = [0_f32, 1.0, 1.0, 1.0].iter().flat_map(|f| f.to_le_bytes()).collect();
        assert_eq!(bytes_of(&imported, "complex"), complex);
        assert_eq!(numbers(&imported, "half"), counting(0, 3));
        assert_eq!(numbers(&imported, "bf16"), counting(0, 4));
        assert_eq!(numbers(&imported, "u8"), counting(0, 3));
        assert_eq!(bytes_of(&imported, "flag"), [1, 0]);
        assert_eq!(numbers(&imported, "scalar"), [2.5]);
        assert_eq!(imported.skipped, ["`label` (text)"]);
    }
    for name in ["one.npy", "version3.npy"] {
        assert_eq!(numbers(&open(name), "arr_0"), counting(1, 15));
    }
}

#[test]
fn zip64_sizes_and_offsets_are_read() {
    let imported = open("zip64.npz");
    assert_eq!(numbers(&imported, "w"), counting(1, 15));
    assert_eq!(numbers(&imported, "u8"), counting(0, 3));
}

#[test]
fn any_range_of_bytes_can_be_read_by_any_thread() {
    for name in ["views.pth", "deflated.pth", "stored.npz", "deflated.npz", "legacy.pth"] {
        let imported = open(name);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for (at, tensor) in imported.header.tensors.iter().enumerate() {
                        let whole = bytes_of(&imported, &tensor.name);
                        for begin in 0..=whole.len() {
                            for end in begin..=whole.len() {
                                let mut part = vec![0xaa; end - begin];
                                imported.read(at, begin as u64, &mut part).unwrap();
                                assert_eq!(part, whole[begin..end], "{name}: {} {begin}..{end}", tensor.name);
                            }
                        }
                    }
                });
            }
        });
        assert!(imported.read(0, u64::MAX, &mut [0; 2]).is_err());
        let past = imported.header.tensors[0].bytes();
        assert!(imported.read(0, past, &mut [0]).unwrap_err().message().contains("were asked for"));
        assert!(imported.read(99, 0, &mut [0]).is_err());
    }
}

#[test]
fn a_large_transposed_array_is_gathered_in_pieces() {
    // 700 x 401 numbers: more than are gathered at once, and rows further apart than a gap worth reading.
    let (rows, columns) = (700_usize, 401_usize);
    let mut text = format!("{{'descr': '>u4', 'fortran_order': True, 'shape': ({rows}, {columns})}}");
    text.push_str(&" ".repeat(118 - text.len()));
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    for column in 0..columns {
        for row in 0..rows {
            bytes.extend(((row * columns + column) as u32).to_be_bytes());
        }
    }
    let file = written(&bytes);
    let imported = open_import(file.path()).unwrap();
    let found = bytes_of(&imported, "arr_0");
    for (i, number) in found.chunks(4).enumerate() {
        assert_eq!(u32::from_le_bytes(number.try_into().unwrap()) as usize, i);
    }
    // Two rows only: their numbers lie 2,800 bytes apart.
    let mut part = vec![0; 2 * columns * 4];
    imported.read(0, (5 * columns * 4) as u64, &mut part).unwrap();
    assert_eq!(part, found[5 * columns * 4..7 * columns * 4]);
}

#[test]
fn a_split_model_is_read_through_its_index() {
    let imported = open_import_folder(&fixture("split")).unwrap();
    assert_eq!(described(&imported), ["a F32 [2]", "b F32 [3]"]);
    assert_eq!(numbers(&imported, "b"), counting(5, 3));
}

#[test]
fn an_index_must_agree_with_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin");
    for file in [first, second] {
        fs::copy(fixture("split").join(file), folder.path().join(file)).unwrap();
    }
    let with = |map: &[(&str, &str)]| {
        let map: serde_json::Map<_, _> = map.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
        let text = serde_json::json!({ "weight_map": map }).to_string();
        fs::write(folder.path().join("pytorch_model.bin.index.json"), text).unwrap();
        open_import_folder(folder.path()).map_err(|e| e.message().to_owned())
    };
    assert!(with(&[("a", first), ("b", second)]).is_ok());
    for (map, what) in [
        (vec![("a", first)], ""),
        (vec![("a", first), ("b", second), ("c", first)], "tensor `c` should be in `pytorch_model-00001"),
        (vec![("a", first), ("c", second)], "tensor `b` of `pytorch_model-00002-of-00002.bin` is not in the index"),
        (vec![("a", second), ("b", second), ("c", first)], "the index says `pytorch_model-00002"),
        (vec![("a", first), ("b", "gone.bin")], "names `gone.bin`, which is not in the folder"),
        (vec![("a", "../x.bin")], "only names in its own folder"),
        (vec![("a", "/etc/passwd")], "only names in its own folder"),
        (vec![("a", "..")], "only names in its own folder"),
    ] {
        match with(&map) {
            Ok(imported) => assert!(what.is_empty() && imported.header.tensors.len() == 1, "{map:?}"),
            Err(message) => assert!(!what.is_empty() && message.contains(what), "{map:?}: {message}"),
        }
    }
    let single = tempfile::tempdir().unwrap();
    assert!(open_import_folder(single.path()).unwrap_err().message().contains("holds neither"));
    fs::copy(fixture("plain.pth"), single.path().join("pytorch_model.bin")).unwrap();
    is_plain(&open_import_folder(single.path()).unwrap());
}

#[test]
fn a_file_cut_anywhere_is_refused_and_says_so() {
    for name in ["legacy.pth", "one.npy", "plain.pth", "stored.npz"] {
        let whole = fs::read(fixture(name)).unwrap();
        for length in 0..whole.len() {
            let file = written(&whole[..length]);
            let error = open_import(file.path()).expect_err(name);
            assert!(!error.message().is_empty());
            if name == "legacy.pth" && length > 40 {
                assert_eq!(error.what_to_try(), Some("the file was cut short: fetch it again"), "{length}: {error}");
            }
        }
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_an_error() {
    for name in ["plain.pth", "legacy.pth", "deflated.npz", "stored.npz"] {
        let file = written(&fs::read(fixture(name)).unwrap());
        let imported = open_import(file.path()).unwrap();
        file.as_file().set_len(30).unwrap();
        let mut into = vec![0; imported.header.tensors[0].bytes() as usize];
        let error = imported.read(0, 0, &mut into).unwrap_err();
        assert!(error.message().contains("ends before tensor") || error.message().contains("unpack"), "{error}");
    }
}

#[test]
fn a_member_that_unpacks_to_something_else_is_refused() {
    let mut bytes = fs::read(fixture("deflated.npz")).unwrap();
    // The checksum of the first member, in the directory.
    let entry = bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    bytes[entry + 16] ^= 1;
    let imported = open_import(written(&bytes).path());
    let imported = imported.unwrap_or_else(|e| panic!("{e}"));
    let error = imported.read(0, 0, &mut [0; 4]).unwrap_err();
    assert!(error.message().contains("member `w.npy` does not match its checksum"), "{error}");
}

#[test]
fn pickles_that_nest_share_or_repeat_without_end_are_bounded() {
    // A list that holds itself.
    let (value, _) = load(b"]q\x00h\x00a.").unwrap();
    assert!(matches!(value, pickle::Value::List(_)));
    // A million lists in one another.
    let mut deep = vec![b']'; 1_000_000];
    deep.extend(vec![b'a'; 999_999]);
    deep.push(b'.');
    load(&deep).unwrap();
    // A list of many numbers is left out as one thing.
    let losses = [&b"\x80\x02}U\x04loss]("[..], &b"K\x01".repeat(100_000), b"es."].concat();
    let error = open_import(written(&legacy_around(&losses)).path()).unwrap_err();
    assert!(error.message().ends_with("holds no tensor, only things like `loss` (list)"), "{error}");
    // Forty dicts, each twice in the next: a trillion leaves if they were walked.
    let mut laughs = b"\x80\x02}q\x00".to_vec();
    for i in 0..40_u8 {
        laughs.extend([b'}', b'q', i + 1, b'(', b'K', 1, b'h', i, b'K', 2, b'h', i, b'u']);
    }
    laughs.push(b'.');
    let file = written(&legacy_around(&laughs));
    let error = open_import(file.path()).unwrap_err();
    assert!(error.message().contains("holds more than 2000000 values"), "{error}");
    // A string that claims four gigabytes.
    let error = load(b"X\xff\xff\xff\xffabc.").unwrap_err();
    assert!(error.message().contains("ends in its middle"), "{error}");
}

#[test]
fn broken_pickles_say_what_is_broken() {
    for (code, what) in [
        (&b"."[..], "empty stack"),
        (b"N", "ends in its middle"),
        (b"h\x05.", "never remembered"),
        (b"e.", "a mark that was never set"),
        (b"Na.", "empty stack"),
        (b"NNa.", "appends to what is no list"),
        (b"}(NNNu.", "a key without a value"),
        (b"NNR.", "calls what cannot be called"),
        (b"ccollections\nOrderedDict\nNR.", "without a tuple"),
        (b"(K\x01(.", "empty stack"),
        (b"\xff.", "no opcode 0xff"),
        (b"\x80\x09.", "protocol is over 5"),
        (b"Pid\n.", "PyTorch never writes"),
        (b"I1x\n.", "a number that is none"),
        (b"c\xff\n\n.", "not UTF-8"),
        (b"(X\x06\x00\x00\x00module\x89NNtQ.", "a whole model with its code"),
        (b"NQ.", "no storage"),
    ] {
        let error = load(code).unwrap_err();
        assert!(error.message().contains(what), "{}: {error}", code.escape_ascii());
    }
}

#[test]
fn a_pickle_of_something_else_is_told_from_a_checkpoint() {
    for code in [&b"\x80\x04K\x01."[..], b"\x80\x02cos\nsystem\n."] {
        let error = open_import(written(code).path()).unwrap_err();
        assert!(error.message().contains("none that torch.save wrote"), "{error}");
    }
    for (bytes, what) in [
        (&b""[..], "is empty"),
        (b"hello", "neither a PyTorch nor a NumPy file"),
        (b"PK\x03\x04 no zip", "damaged zip archive"),
    ] {
        let error = open_import(written(bytes).path()).unwrap_err();
        assert!(error.message().contains(what), "{error}");
    }
    assert!(open_import(Path::new("/nowhere/model.pth")).unwrap_err().message().starts_with("/nowhere/model.pth: "));
    assert!(open_import(&fixture("")).unwrap_err().message().contains("not a regular file"));
}

fn load(code: &[u8]) -> crate::error::Result<(pickle::Value, pickle::Heap)> {
    pickle::load(&mut Input::new(code, code.len() as u64), "data.pkl")
}

fn written(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// An old file of PyTorch around the pickle of one object, without storages.
fn legacy_around(object: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.".to_vec();
    bytes.extend(object);
    bytes.extend(b"\x80\x02].");
    bytes
}

/// Opens and, when that works, reads everything, as far as it is small.
fn open_and_read(bytes: &[u8]) {
    let file = written(bytes);
    if let Ok(imported) = open_import(file.path()) {
        for (at, tensor) in imported.header.tensors.iter().enumerate() {
            if tensor.bytes() < MAX_PROPTEST_BYTES {
                let _ = imported.read(at, 0, &mut vec![0; tensor.bytes() as usize]);
            }
        }
    }
}

/// Bytes that look like a pickle more often than chance would have it.
fn pickled() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        4 => prop::sample::select(b"().0123]}{NRQabdelotusqhj\x85\x86\x87\x88\x89\x81\x91\x8f\x90\x93\x94".to_vec()).prop_map(|c| vec![c]),
        1 => any::<u8>().prop_map(|c| vec![c]),
        1 => any::<u8>().prop_map(|c| vec![b'K', c]),
        1 => any::<u8>().prop_map(|c| vec![b'q', c % 8]),
        1 => any::<u8>().prop_map(|c| vec![b'h', c % 8]),
        1 => Just(b"ccollections\nOrderedDict\n".to_vec()),
        1 => Just(b"ctorch._utils\n_rebuild_tensor_v2\n".to_vec()),
        1 => Just(b"ctorch._tensor\n_rebuild_from_type_v2\n".to_vec()),
        1 => Just(b"ctorch\nFloatStorage\n".to_vec()),
        1 => Just(b"ctorch\nSize\n".to_vec()),
        1 => Just(b"U\x07storage".to_vec()),
        1 => Just(b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x04tQ".to_vec()),
    ];
    prop::collection::vec(word, 0..60).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_bytes_make_the_readers_panic(
        start in prop::sample::select(vec![&b""[..], b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x02\x00", b"\x80\x02"]),
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        open_and_read(&[start, &bytes].concat());
    }

    #[test]
    fn no_pickle_makes_the_machine_panic(code in pickled()) {
        let _ = load(&code);
        open_and_read(&legacy_around(&code));
    }

    #[test]
    fn no_change_of_a_file_makes_the_readers_panic(
        name in prop::sample::select(vec![
            "views.pth", "deflated.pth", "protocol4.pth", "legacy.pth", "legacy_many.pth", "legacy_view.pth",
            "nested.pth", "stored.npz", "deflated.npz", "zip64.npz", "one.npy",
        ]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut bytes = fs::read(fixture(name)).unwrap();
        for (at, value) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        open_and_read(&bytes);
    }
}
