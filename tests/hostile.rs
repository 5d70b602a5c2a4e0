//! Damaged and hostile files for every reader and decoder: no panic, no hang, no memory that the file does not pay for.
//!
//! The equivalent of fuzz targets on stable Rust: valid files are changed by rules that know the formats, from fixed
//! seeds. A case that fails is kept under `target/tmp/hostile/` and named; the ones that failed once live in
//! `fixtures/regressions/`. `DLOPT_HOSTILE_ROUNDS=20` runs twenty times as many cases.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use dlopt_checkpoint::{
    Carry, Checkpoint, Job, NoProgress, Pass, Resources, Target, Tensors, View, open_import, tensor_bytes,
};
use dlopt_data::{Batch, Dataset};
use dlopt_inspect::{DiffOptions, VerifyOptions, diff, metadata, stats, summary, verify, verify_path};
use dlopt_kernels::nn::Team;
use dlopt_model::{Summary, load};
use dlopt_prune::Densify;
use dlopt_quantize::Dequantize;
use dlopt_train::{Engine, check_preprocessing, check_shape, run_over};
use serde_json::{Value, json};
use support::{DLOPT, Random, Tensor, bits_of, err, fixture, names_in, ok_in, parse, temp_dir, with_header_text};

/// A case may take this long on a busy machine.
const LIMIT: Duration = Duration::from_secs(10);

/// Peak memory of all cases together: many times what the files hold, and far below what they may claim.
const MOST_RESIDENT_BYTES: u64 = 1 << 30;

/// Most bytes that are read from one tensor.
const MOST_READ: u64 = 1 << 20;

/// How many times as many cases to run.
fn rounds() -> u64 {
    std::env::var("DLOPT_HOSTILE_ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(1)
}

/// Cases of one reader.
struct Trials {
    name: &'static str,
    dir: PathBuf,
    failures: Vec<String>,
    cases: usize,
    /// Cases that were read, all that is in them.
    read: usize,
}

impl Trials {
    fn new(name: &'static str) -> Self {
        limit_address_space();
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile");
        fs::create_dir_all(&dir).unwrap();
        Self { name, dir, failures: Vec::new(), cases: 0, read: 0 }
    }

    /// Runs one case. The file stays where it is until the next one, so that an abort leaves it too.
    fn run(&mut self, what: &str, bytes: &[u8], reader: impl Fn(&Path, &[u8]) -> bool) {
        self.cases += 1;
        let path = self.dir.join(format!("{}.safetensors", self.name));
        fs::write(&path, bytes).unwrap();
        let begin = Instant::now();
        let caught = catch_unwind(AssertUnwindSafe(|| reader(&path, bytes)));
        let took = begin.elapsed();
        let fault = match caught {
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned())).unwrap_or_default()
            }
            Ok(_) if took > LIMIT => format!("took {took:?}"),
            Ok(is_read) => {
                self.read += usize::from(is_read);
                return;
            }
        };
        let kept = self.dir.join(format!("{}-{}.bad", self.name, self.cases));
        fs::copy(&path, &kept).unwrap();
        self.failures.push(format!("{what}: {fault}\n    kept as {}", kept.display()));
    }

    /// All cases must have been met, and the changes must be neither too wild nor too tame to say much.
    fn end_mixed(self) {
        let (read, cases) = (self.read, self.cases);
        let name = self.name;
        self.end();
        assert!(read * 50 > cases && read * 20 < cases * 19, "{name}: {read} of {cases} cases were read");
        println!("{name}: {read} of {cases} cases were read");
    }

    /// All cases must have been met.
    fn end(self) {
        assert!(
            self.failures.is_empty(),
            "{} of {} cases failed:\n{}",
            self.failures.len(),
            self.cases,
            self.failures.join("\n")
        );
        if let Some(peak) = peak_resident_bytes() {
            assert!(peak < MOST_RESIDENT_BYTES, "{}: {peak} bytes were resident", self.name);
        }
    }
}

/// A claim of terabytes must fail as an error, not because memory is there by chance.
fn limit_address_space() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::As);
    let most = 64 << 30;
    if limit.current.is_none_or(|now| now > most) {
        limit.current = Some(most);
        setrlimit(Resource::As, limit).unwrap();
    }
}

fn peak_resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// Picks among what there is.
fn pick<'a, T>(random: &mut Random, from: &'a [T]) -> &'a T {
    &from[below(random, from.len())]
}

fn below(random: &mut Random, limit: usize) -> usize {
    (random.bits() % limit.max(1) as u64) as usize
}

/// Numbers at the edges of what counts, sizes and groups may be.
const EDGES: [i128; 30] = [
    0,
    1,
    -1,
    2,
    3,
    4,
    5,
    7,
    8,
    9,
    16,
    31,
    32,
    33,
    63,
    127,
    128,
    255,
    256,
    65_535,
    (1 << 31) - 1,
    1 << 31,
    1 << 32,
    1 << 40,
    1 << 53,
    1 << 62,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
    -(1 << 63),
];

/// Shapes of no elements whose other extents multiply to more than counts; and of too many elements.
fn endless_shapes() -> Vec<Value> {
    let huge = 1u64 << 62;
    vec![
        json!([0, huge, huge]),
        json!([0, 1u64 << 40, 1u64 << 40]),
        json!([0, (1u64 << 63) - 1, 3]),
        json!([huge, 0, huge]),
        json!([huge, huge, 0]),
        json!([0, 0, huge, huge, huge]),
        json!([huge, huge]),
        json!([1, huge]),
    ]
}

// Changes to bytes.

fn change_bytes(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=below(random, 3) {
        if bytes.is_empty() {
            bytes.extend_from_slice(&other[..other.len().min(16)]);
            continue;
        }
        let at = below(random, bytes.len());
        match below(random, 9) {
            0 => bytes[at] ^= 1 << below(random, 8),
            1 => bytes[at] = random.bits() as u8,
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..(at + 1 + below(random, 16)).min(bytes.len()))),
            4 => {
                let more: Vec<u8> = (0..=below(random, 16)).map(|_| random.bits() as u8).collect();
                bytes.splice(at..at, more);
            }
            5 => {
                // A piece of another file, put in or laid over.
                let from = below(random, other.len());
                let piece = &other[from..(from + 1 + below(random, 64)).min(other.len())];
                let end = if random.bits().is_multiple_of(2) { at } else { (at + piece.len()).min(bytes.len()) };
                bytes.splice(at..end, piece.iter().copied());
            }
            6 => {
                // A piece of the same file again.
                let from = below(random, bytes.len());
                let piece = bytes[from..(from + 1 + below(random, 64)).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            7 => {
                let number = (*pick(random, &EDGES) as u64).to_le_bytes();
                let size = [1, 2, 4, 8][below(random, 4)].min(bytes.len() - at);
                bytes[at..at + size].copy_from_slice(&number[..size]);
            }
            _ => change_digits(bytes, random),
        }
    }
}

/// One byte or number, and everything else stays in its place: what is found by offsets is found.
fn change_one_number(bytes: &mut [u8], random: &mut Random) {
    let at = below(random, bytes.len());
    match below(random, 3) {
        0 => bytes[at] ^= 1 << below(random, 8),
        1 => bytes[at] = random.bits() as u8,
        _ => {
            let number = (*pick(random, &EDGES) as u64).to_le_bytes();
            let size = [1, 2, 4, 8][below(random, 4)].min(bytes.len() - at);
            bytes[at..at + size].copy_from_slice(&number[..size]);
        }
    }
}

/// Another number where there is one in the text.
fn change_digits(bytes: &mut Vec<u8>, random: &mut Random) {
    let from = below(random, bytes.len());
    let Some(begin) = (from..bytes.len()).find(|&i| bytes[i].is_ascii_digit()) else { return };
    let end = (begin..bytes.len()).find(|&i| !bytes[i].is_ascii_digit()).unwrap_or(bytes.len());
    let number = pick(random, &EDGES).to_string();
    bytes.splice(begin..end, number.into_bytes());
}

// Changes to JSON.

fn nodes(value: &Value, at: &str, into: &mut Vec<String>) {
    into.push(at.to_owned());
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(map) => map.iter().for_each(|(k, v)| nodes(v, &format!("{at}/{}", escaped(k)), into)),
        Value::Array(list) => list.iter().enumerate().for_each(|(i, v)| nodes(v, &format!("{at}/{i}"), into)),
        _ => {}
    }
}

fn change_json(value: &mut Value, random: &mut Random) {
    for _ in 0..=below(random, 2) {
        let mut all = Vec::new();
        nodes(value, "", &mut all);
        let other = value.pointer(&all[below(random, all.len())]).unwrap().clone();
        let at = pick(random, &all).clone();
        let edge = *pick(random, &EDGES);
        let number = i64::try_from(edge).map_or_else(|_| json!(edge as u64), |n| json!(n));
        let node = value.pointer_mut(&at).unwrap();
        match below(random, 8) {
            0 | 1 => *node = number,
            7 => *node = pick(random, &endless_shapes()).clone(),
            2 => *node = other,
            3 => {
                *node = [json!(null), json!([]), json!({}), json!(""), json!(true), json!(1e300), json!("x")]
                    [below(random, 7)]
                .clone();
            }
            4 => match node {
                Value::Number(n) => *node = json!(n.as_i64().unwrap_or(0).wrapping_add(1)),
                Value::Bool(b) => *b = !*b,
                Value::String(s) => drop(s.pop()),
                Value::Array(list) => list.push(number),
                Value::Object(map) => drop(map.insert("x".to_owned(), number)),
                Value::Null => {}
            },
            5 => match node {
                Value::Array(list) => drop(list.pop()),
                Value::Object(map) if !map.is_empty() => {
                    let key = map.keys().nth(below(random, map.len())).unwrap().clone();
                    map.shift_remove(&key);
                }
                _ => *node = number,
            },
            _ => {
                if let Value::Object(map) = node
                    && map.len() > 1
                {
                    // Two entries change places.
                    let keys: Vec<String> = map.keys().cloned().collect();
                    let (a, b) = (pick(random, &keys), pick(random, &keys));
                    let (x, y) = (map[a].clone(), map[b].clone());
                    map.insert(a.clone(), y);
                    map.insert(b.clone(), x);
                }
            }
        }
    }
}

// Changes to checkpoints that leave the container right.

#[derive(Clone)]
struct Model {
    tensors: Vec<Tensor>,
    metadata: Vec<(String, String)>,
}

impl Model {
    fn of(bytes: &[u8]) -> Self {
        let stored = parse(bytes);
        Self { tensors: stored.names.iter().map(|n| stored.get(n).clone()).collect(), metadata: stored.metadata }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut header = serde_json::Map::new();
        let pairs: serde_json::Map<String, Value> =
            self.metadata.iter().map(|(k, v)| (k.clone(), Value::String(v.clone()))).collect();
        header.insert("__metadata__".to_owned(), Value::Object(pairs));
        let mut data = Vec::new();
        for t in &self.tensors {
            if header.contains_key(&t.name) {
                continue;
            }
            let begin = data.len();
            data.extend_from_slice(&t.bytes);
            let entry = json!({ "dtype": t.dtype, "shape": t.shape, "data_offsets": [begin, data.len()] });
            header.insert(t.name.clone(), entry);
        }
        let mut text = serde_json::to_vec(&header).unwrap();
        text.resize(text.len().next_multiple_of(8), b' ');
        with_header_text(&text, &data)
    }

    fn change(&mut self, random: &mut Random) {
        for _ in 0..=below(random, 2) {
            match below(random, 3) {
                0 => self.change_metadata(random),
                _ => self.change_tensor(random),
            }
        }
    }

    fn change_metadata(&mut self, random: &mut Random) {
        if self.metadata.is_empty() {
            return;
        }
        let at = below(random, self.metadata.len());
        let text = &mut self.metadata[at].1;
        match serde_json::from_str::<Value>(text) {
            Ok(mut value) if !random.bits().is_multiple_of(8) => {
                change_json(&mut value, random);
                *text = value.to_string();
            }
            _ => {
                let mut bytes = text.clone().into_bytes();
                change_bytes(&mut bytes, b"{\"schema\":1}", random);
                *text = String::from_utf8_lossy(&bytes).into_owned();
            }
        }
    }

    fn change_tensor(&mut self, random: &mut Random) {
        if self.tensors.is_empty() {
            return;
        }
        let other = pick(random, &self.tensors).clone();
        let at = below(random, self.tensors.len());
        let t = &mut self.tensors[at];
        match below(random, 10) {
            // Another dtype of the same size.
            0 => {
                let same: Vec<_> =
                    support::ALL_DTYPES.into_iter().filter(|d| bits_of(d) == bits_of(&t.dtype)).collect();
                t.dtype = (*pick(random, &same)).to_owned();
            }
            // Another shape of the same size.
            1 => match below(random, 4) {
                0 => t.shape.reverse(),
                1 => t.shape = vec![t.elements()],
                2 => t.shape.insert(0, 1),
                _ => {
                    let elements = t.elements();
                    let divisors: Vec<_> = (1..=elements.min(64)).filter(|d| elements.is_multiple_of(*d)).collect();
                    if let Some(&divisor) = divisors.get(below(random, divisors.len())) {
                        t.shape = vec![divisor, elements / divisor];
                    }
                }
            },
            // Another size.
            2 | 3 if !t.shape.is_empty() => {
                let dim = below(random, t.shape.len());
                t.shape[dim] =
                    [0, 1, 2, t.shape[dim] + 1, t.shape[dim].saturating_sub(1), t.shape[dim] * 2][below(random, 6)];
                let bits = t.elements() * bits_of(&t.dtype);
                if bits > 1 << 24 || !bits.is_multiple_of(8) {
                    return;
                }
                t.bytes.resize(bits / 8, random.bits() as u8);
            }
            4 => drop(self.tensors.remove(at)),
            // A part that goes by another name.
            5 => {
                let module = t.name.rsplit_once('.').map_or("", |(m, _)| m).to_owned();
                let suffix = [
                    "weight",
                    "weight_scale",
                    "weight_zero_point",
                    "weight_g_idx",
                    "weight_shape",
                    "weight_packed",
                    "weight_global_scale",
                    "input_scale",
                    "bitmask",
                    "row_offsets",
                    "compressed",
                    "shape",
                ][below(random, 12)];
                t.name = format!("{module}.{suffix}");
            }
            6 if other.bytes.len() == t.bytes.len() => t.bytes = other.bytes,
            7 => *t = Tensor { name: t.name.clone(), ..other },
            // Values.
            _ if !t.bytes.is_empty() => {
                for _ in 0..=below(random, 4) {
                    let size = (bits_of(&t.dtype) / 8).max(1);
                    let begin = below(random, t.bytes.len()) / size * size;
                    let number = (*pick(random, &EDGES) as u64).to_le_bytes();
                    let end = (begin + size).min(t.bytes.len());
                    t.bytes[begin..end].copy_from_slice(&number[..end - begin]);
                }
            }
            _ => {}
        }
    }
}

// Readers.

/// Whether everything could be read.
fn read_all(tensors: &dyn Tensors) -> bool {
    let mut is_read = true;
    let header = tensors.header().clone();
    for (i, info) in header.tensors.iter().enumerate() {
        // The size of a decoded tensor is no sum of a file: it must not overflow.
        let Ok(bytes) = tensor_bytes(info.dtype, &info.shape) else {
            panic!("tensor `{}` of shape {:?} has no size", info.name, info.shape)
        };
        let read = |offset: u64, length: u64| {
            let mut into = vec![0; length as usize];
            tensors.read(i, offset, &mut into).map_err(|e| assert!(!e.message().is_empty())).is_ok()
        };
        is_read &= read(0, bytes.min(MOST_READ));
        if is_read && bytes > 3 {
            is_read &= read(bytes / 2 + 1, (bytes - bytes / 2 - 1).min(100));
            is_read &= read(bytes - 1, 1);
        }
    }
    is_read
}

fn resources<'a>(tmp_dir: &Path, stop: &'a AtomicBool) -> Resources<'a> {
    Resources { threads: 2, memory_bytes: 8 << 20, tmp_dir: tmp_dir.to_owned(), progress: &NoProgress, stop }
}

/// A folder whose files need no disk, where there is one: what is written here is synced and looked at once.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| temp_dir())
}

/// Writes what passes make of a checkpoint; the plan must keep what it says, and nothing may stay of a failure.
fn write_through(checkpoint: &Checkpoint, passes: &[&dyn Pass], tmp_dir: &Path) -> bool {
    let stop = AtomicBool::new(false);
    let job = Job {
        checkpoint,
        passes: passes.to_vec(),
        is_folder: false,
        max_shard_bytes: None,
        keep_files: true,
        force: false,
        resume: false,
        resources: resources(tmp_dir, &stop),
    };
    let Ok(plan) = job.plan() else { return false };
    if plan.bytes_after > 64 << 20 {
        return false;
    }
    let scratch = scratch();
    let out = scratch.path().join("out.safetensors");
    let done = job.run(Target::File(out.clone()));
    if done.is_err() {
        assert_eq!(names_in(scratch.path()), [""; 0], "left behind");
        return false;
    }
    let bytes = fs::read(&out).unwrap();
    assert_eq!(bytes.len() as u64, plan.bytes_after, "the plan is not what was written");
    let reference = safetensors::SafeTensors::deserialize(&bytes);
    assert!(reference.is_ok(), "the reference does not read what was written: {:?}", reference.err());
    true
}

/// The header reader, from a file and from a pipe.
fn read_header(path: &Path, bytes: &[u8]) -> bool {
    let mut is_read = false;
    let file = Checkpoint::open(path);
    let piped = Checkpoint::from_stream(Box::new(Cursor::new(bytes.to_vec())), "pipe".to_owned());
    if let Ok(checkpoint) = &file {
        let is_foreign = bytes.starts_with(b"PK") || bytes.starts_with(b"\x93NUMPY") || bytes[0] == 0x80;
        if !is_foreign {
            let reference = safetensors::SafeTensors::deserialize(bytes);
            assert!(reference.is_ok(), "the reference refuses it: {:?}", reference.err());
            assert!(piped.is_ok(), "a pipe refuses it: {:?}", piped.err());
        }
        summary(checkpoint);
        metadata(checkpoint);
        is_read = read_all(checkpoint);
        is_read &= write_through(checkpoint, &[&Carry], path.parent().unwrap());
    }
    if let Ok(checkpoint) = &piped {
        summary(checkpoint);
        let total = checkpoint.header.data_bytes();
        if total < 1 << 30 {
            write_through(checkpoint, &[&Carry], path.parent().unwrap());
        } else {
            let _ = checkpoint.read(0, 0, &mut []);
        }
    }
    is_read
}

/// Everything that decodes.
fn decode(path: &Path, bytes: &[u8]) -> bool {
    let stop = AtomicBool::new(false);
    let tmp_dir = path.parent().unwrap();
    // Verify finds what others refuse.
    let _ = verify_path(path, VerifyOptions::default(), &resources(tmp_dir, &stop));
    let Ok(checkpoint) = Checkpoint::open(path) else { return false };
    summary(&checkpoint);
    metadata(&checkpoint);
    for passes in [&[&Dequantize as &dyn Pass][..], &[&Densify], &[&Densify, &Dequantize], &[&Dequantize, &Densify]] {
        if let Ok(view) = View::new(&checkpoint, passes) {
            read_all(&view);
        }
    }
    let is_read = write_through(&checkpoint, &[&Dequantize, &Densify], tmp_dir);
    let _ = stats(&checkpoint, &resources(tmp_dir, &stop));
    let _ = verify(&checkpoint, VerifyOptions { is_quick: true }, &resources(tmp_dir, &stop));
    let _ = diff(&checkpoint, &checkpoint, DiffOptions { tolerance: Some(0.1) }, &resources(tmp_dir, &stop));
    if let Ok(piped) = Checkpoint::from_stream(Box::new(Cursor::new(bytes.to_vec())), "pipe".to_owned()) {
        let is_piped = write_through(&piped, &[&Dequantize, &Densify], tmp_dir);
        assert_eq!(is_piped, is_read, "a pipe and a file give different answers");
    }
    is_read
}

/// The readers of pickles and arrays.
fn import(path: &Path, _bytes: &[u8]) -> bool {
    let mut is_read = false;
    if let Ok(imported) = open_import(path) {
        for (i, info) in imported.header.tensors.iter().enumerate() {
            let mut into = vec![0; info.bytes().min(MOST_READ) as usize];
            is_read = imported.read(i, 0, &mut into).is_ok();
        }
        let _ = imported.read(imported.header.tensors.len(), 0, &mut [0]);
    }
    if let Ok(checkpoint) = Checkpoint::open(path) {
        summary(&checkpoint);
        if checkpoint.header.data_bytes() < 1 << 26 {
            write_through(&checkpoint, &[&Carry], path.parent().unwrap());
        }
    }
    is_read
}

// The files that are changed.

fn containers() -> Vec<(String, Vec<u8>)> {
    let folder = fixture("golden/safetensors");
    let names = names_in(&folder).into_iter().filter(|n| n.ends_with(".safetensors"));
    names.map(|n| (n.clone(), fs::read(folder.join(&n)).unwrap())).collect()
}

fn imports() -> Vec<(String, Vec<u8>)> {
    let folder = fixture("import");
    let is_one = |n: &String| [".pth", ".npz", ".npy"].iter().any(|e| n.ends_with(e));
    names_in(&folder).into_iter().filter(is_one).map(|n| (n.clone(), fs::read(folder.join(&n)).unwrap())).collect()
}

/// Compressed checkpoints: the golden folders as single files, and what the binary makes of small layers of all kinds.
fn compressed() -> Vec<(String, Model)> {
    let mut models = Vec::new();
    for name in ["w4a16_g32", "w4a16_g32_asym", "w8a8_int8", "nvfp4a16", "dense"] {
        let folder = fixture("golden/tiny_llama").join(name);
        let mut model = Model::of(&fs::read(folder.join("model.safetensors")).unwrap());
        let config: Value = support::read_json(&folder.join("config.json"));
        model.metadata.push(("config".to_owned(), config.to_string()));
        models.push((name.to_owned(), model));
    }
    let dir = temp_dir();
    let make = |name: &str, shape: &[usize]| Tensor::random(name, "F32", shape, 5);
    let mut tensors = vec![
        make("conv1.weight", &[6, 5, 3]),
        make("conv1.bias", &[6]),
        make("lstm_cell.weight_ih", &[16, 8]),
        make("lstm_cell.weight_hh", &[16, 4]),
        make("encoder.layer.0.output.dense.weight", &[9, 32]),
    ];
    tensors.push(Tensor::random("encoder.layer.1.output.dense.weight", "BF16", &[10, 64], 6));
    tensors.push(Tensor::random("encoder.layer.2.output.dense.weight", "F16", &[130, 16], 7));
    support::write_file(&dir.path().join("in.safetensors"), &tensors, &[("config", "{\"model_type\":\"bert\"}")]);
    for (i, line) in [
        "quantize --scheme w4a16 --group 8 --fallback channel",
        "quantize --scheme w4a16_asym --group 16 --fallback channel",
        "quantize --scheme w2a16 --group channel",
        "quantize --scheme w8a16 --group tensor",
        "quantize --scheme w8a8",
        "quantize --scheme fp8_block",
        "quantize --scheme fp8a16",
        "prune --sparsity 0.6 --store bitmask",
        "prune --pattern 2:4 --store bitmask",
    ]
    .into_iter()
    .enumerate()
    {
        let output = support::run_in(dir.path(), &format!("{line} in.safetensors -o {i}.safetensors"));
        assert!([Some(0), Some(3)].contains(&output.status.code()), "{line}: {}", err(&output));
        let made = fs::read(dir.path().join(format!("{i}.safetensors"))).unwrap();
        models.push((line.to_owned(), Model::of(&made)));
    }
    models
}

/// Batches of a dataset, from memory and from disk.
fn read_dataset(path: &Path, _bytes: &[u8]) -> bool {
    let mut answers = Vec::new();
    for memory_bytes in [0, u64::MAX] {
        let Ok(dataset) = Dataset::open_within(path, memory_bytes) else {
            answers.push(None);
            continue;
        };
        for split in dataset.info().splits.keys() {
            let _ = dataset.split(split);
        }
        let last = dataset.samples() - 1;
        let mut batch = Batch::default();
        let is_read = dataset.gather(&[last, 0, last / 2, 0], &mut batch).is_ok();
        answers.push(is_read.then_some(batch));
    }
    assert!(answers[0] == answers[1], "memory and disk give different answers");
    answers[0].is_some()
}

/// A network run over a dataset that it may have been trained on.
fn run_network(path: &Path, data: &Path) -> bool {
    let dataset = Dataset::open(data).unwrap();
    let Ok(checkpoint) = Checkpoint::open(path) else { return false };
    let Ok(loaded) = load(&checkpoint) else { return false };
    let _ = Summary::of(&loaded.config, &loaded.nodes, 32, 2);
    let fits = check_shape(&loaded.config, "model", &dataset)
        .and_then(|()| check_preprocessing(&loaded.config, "model", &dataset));
    if fits.is_err() || loaded.config.outputs != dataset.outputs() {
        return false;
    }
    let is_frozen = vec![false; loaded.layout.nodes.len()];
    let team = Arc::new(Team::new(1));
    let Ok(mut engine) = Engine::new("cpu", &loaded.nodes, &loaded.layout, &is_frozen, team) else { return false };
    let mut buffers = loaded.buffers.clone();
    let stop = AtomicBool::new(false);
    let (samples, values) = (0..dataset.samples(), (&loaded.params[..], &mut buffers[..]));
    run_over(&mut engine, &Arc::new(dataset), samples, 7, values, &stop, |_, _| Ok(())).is_ok()
}

/// Datasets of every kind, and for each a network that takes it, dense and compressed: names of files in a new folder.
fn learning() -> (tempfile::TempDir, Vec<(&'static str, Vec<String>)>) {
    let made = temp_dir();
    let dir = made.path();
    let mut random = Random::new(11);
    let mut rows = String::new();
    let mut series = String::from("@problemName s\n@dimensions 2\n@classLabel true a b\n@data\n");
    for row in 0..24 {
        for _ in 0..24 {
            rows += &format!("{},", random.bits() % 17);
        }
        rows += &format!("{}\n", ["x", "y", "z"][row % 3]);
        let steps =
            |random: &mut Random| (0..3 + row % 5).map(|_| random.normal().to_string()).collect::<Vec<_>>().join(",");
        series += &format!("{}:{}:{}\n", steps(&mut random), steps(&mut random), ["a", "b"][row % 2]);
    }
    fs::write(dir.join("rows.csv"), rows).unwrap();
    fs::write(dir.join("steps.ts"), series).unwrap();
    let picture = "{ type = \"conv2d\", filters = 3, kernel = 2, padding = 1, activation = \"relu\" }, { type = \"batch_norm\" }, \
         { type = \"max_pool2d\", size = 2 }, { type = \"residual\", body = [{ type = \"conv2d\", filters = 3, kernel = 3, \
         padding = 1 }] }, { type = \"flatten\" }, ";
    let recurrent =
        "{ type = \"conv1d\", filters = 3, kernel = 2 }, { type = \"lstm\", hidden = 5, bidirectional = true }, ";
    let cut = "--split-at 16,20 -q";
    for (name, from, layers) in [
        ("vectors", "rows.csv --constant keep", "{ type = \"dense\", units = 5 }, { type = \"layer_norm\" }, "),
        ("pictures", "rows.csv --shape 6x4", picture),
        ("series", "steps.ts", recurrent),
        ("numbers", "rows.csv --targets 23,24 --drop 25", ""),
    ] {
        ok_in(dir, &format!("prepare {from} {cut} -o {name}.safetensors"));
        let text = format!("layers = [{layers}{{ type = \"dense\", units = \"classes\" }}]");
        fs::write(dir.join(format!("{name}.toml")), text).unwrap();
        ok_in(
            dir,
            &format!("train --model {name}.toml --data {name}.safetensors --epochs 1 -q -o {name}-dense.safetensors"),
        );
        let pass = |line: &str, to: &str| {
            ok_in(dir, &format!("{line} {name}-dense.safetensors -o {name}-{to}.safetensors -q"));
        };
        pass("quantize --scheme w8a16 --group channel --include *weight*", "w8");
        pass("prune --sparsity 0.5 --store bitmask --include *weight*", "sparse");
    }
    let names =
        |name: &'static str| (name, ["dense", "w8", "sparse"].map(|m| format!("{name}-{m}.safetensors")).to_vec());
    (made, ["vectors", "pictures", "series", "numbers"].map(names).to_vec())
}

// The tests.

#[test]
fn changed_datasets_are_read_or_refused() {
    let mut trials = Trials::new("dataset");
    let (dir, made) = learning();
    for (i, (name, _)) in made.iter().enumerate() {
        let model = Model::of(&fs::read(dir.path().join(format!("{name}.safetensors"))).unwrap());
        trials.run(name, &model.to_bytes(), read_dataset);
        for seed in 0..250 * rounds() {
            let mut changed = model.clone();
            changed.change(&mut Random::new(seed << 16 | i as u64));
            trials.run(&format!("{name}, seed {seed}"), &changed.to_bytes(), read_dataset);
        }
    }
    trials.end_mixed();
}

#[test]
fn changed_networks_are_run_or_refused() {
    let mut trials = Trials::new("network");
    let (dir, made) = learning();
    for (i, (name, models)) in made.iter().enumerate() {
        let data = dir.path().join(format!("{name}.safetensors"));
        for (j, file) in models.iter().enumerate() {
            let model = Model::of(&fs::read(dir.path().join(file)).unwrap());
            assert!(run_network(&dir.path().join(file), &data), "{file}");
            for seed in 0..100 * rounds() {
                let mut changed = model.clone();
                changed.change(&mut Random::new(seed << 16 | (8 * i + j) as u64));
                trials.run(&format!("{file}, seed {seed}"), &changed.to_bytes(), |path, _| run_network(path, &data));
            }
        }
    }
    trials.end_mixed();
}

#[test]
fn every_number_of_a_network_s_config_may_be_at_an_edge() {
    let mut trials = Trials::new("network_edges");
    let (dir, made) = learning();
    for (name, models) in &made {
        let data = dir.path().join(format!("{name}.safetensors"));
        let model = Model::of(&fs::read(dir.path().join(&models[0])).unwrap());
        let at = model.metadata.iter().position(|(key, _)| key == "config").unwrap();
        let config: Value = serde_json::from_str(&model.metadata[at].1).unwrap();
        let mut all = Vec::new();
        nodes(&config, "", &mut all);
        let of_training = |at: &String| at.starts_with("/training");
        for pointer in all.iter().filter(|at| config.pointer(at).unwrap().is_number() && !of_training(at)) {
            for edge in EDGES {
                let mut value = config.clone();
                let number = i64::try_from(edge).map_or_else(|_| json!(edge as u64), |n| json!(n));
                *value.pointer_mut(pointer).unwrap() = number;
                let mut changed = model.clone();
                changed.metadata[at].1 = value.to_string();
                trials
                    .run(&format!("{name}{pointer} = {edge}"), &changed.to_bytes(), |path, _| run_network(path, &data));
            }
        }
    }
    trials.end();
}

#[test]
fn train_and_eval_survive_changed_files() {
    let (dir, made) = learning();
    let mut wrong = Vec::new();
    for (i, (name, models)) in made.iter().enumerate() {
        for (file, lines) in [
            (
                format!("{name}.safetensors"),
                [
                    format!(
                        "train --model {name}.toml --data bad.safetensors --epochs 1 -q -o out.safetensors --force"
                    ),
                    format!("eval {name}-dense.safetensors --data bad.safetensors -q"),
                ],
            ),
            (
                models[0].clone(),
                [
                    format!(
                        "train --init bad.safetensors --data {name}.safetensors --epochs 1 -q -o out.safetensors --force"
                    ),
                    format!("eval bad.safetensors --data {name}.safetensors -q"),
                ],
            ),
        ] {
            let model = Model::of(&fs::read(dir.path().join(&file)).unwrap());
            for seed in 0..10 * rounds() {
                let mut changed = model.clone();
                changed.change(&mut Random::new(seed << 16 | (900 + i) as u64));
                fs::write(dir.path().join("bad.safetensors"), changed.to_bytes()).unwrap();
                for line in &lines {
                    let script = format!("ulimit -v 4194304; exec timeout 60 '{DLOPT}' {line} --threads 2");
                    let output = Command::new("bash")
                        .args(["-c", &script])
                        .current_dir(dir.path())
                        .stdin(Stdio::null())
                        .output();
                    let output = output.unwrap();
                    let (text, code) = (err(&output), output.status.code());
                    let is_one_error = text.lines().filter(|l| l.starts_with("error: ")).count() == 1;
                    let is_refused = [Some(1), Some(2)].contains(&code) && is_one_error && !text.contains("panicked");
                    if code != Some(0) && !is_refused {
                        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("learning-{}.bad", wrong.len()));
                        fs::write(&kept, changed.to_bytes()).unwrap();
                        wrong
                            .push(format!("{file}, seed {seed}: {line}: {code:?}, kept as {}\n{text}", kept.display()));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn changed_containers_are_read_or_refused() {
    let mut trials = Trials::new("container");
    let files = containers();
    // What is broken already only gets more so: change what is right, with pieces of everything.
    let right: Vec<_> = files.iter().filter(|(n, _)| n.starts_with("valid_") || n.starts_with("accepted_")).collect();
    for seed in 0..120 * rounds() {
        for (i, (name, bytes)) in right.iter().enumerate() {
            let mut random = Random::new(seed << 16 | i as u64);
            let other = &pick(&mut random, &files).1;
            let mut changed = bytes.clone();
            if changed.len() > 16 && random.bits().is_multiple_of(2) {
                // The header text alone, with a length that fits: past the first check.
                let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()).min(bytes.len() as u64 - 8) as usize;
                let mut text = bytes[8..8 + length].to_vec();
                match serde_json::from_slice::<Value>(&text) {
                    Ok(mut value) if random.bits().is_multiple_of(2) => {
                        change_json(&mut value, &mut random);
                        text = serde_json::to_vec(&value).unwrap();
                    }
                    _ => change_bytes(&mut text, &other[other.len().min(8)..], &mut random),
                }
                changed = with_header_text(&text, &bytes[8 + length..]);
            } else {
                change_bytes(&mut changed, other, &mut random);
            }
            trials.run(&format!("{name}, seed {seed}"), &changed, read_header);
        }
    }
    trials.end_mixed();
}

#[test]
fn shapes_of_nothing_with_endless_extents_are_read_or_refused() {
    let mut trials = Trials::new("endless");
    for dtype in support::ALL_DTYPES {
        for shape in endless_shapes() {
            for name in ["a.weight", "conv.weight", "model.embed_tokens.weight", "lstm.weight_ih_l0", "x"] {
                let header = json!({ name: { "dtype": dtype, "shape": shape, "data_offsets": [0, 0] } });
                let bytes = with_header_text(header.to_string().as_bytes(), &[]);
                trials.run(&format!("{name} {dtype} {shape}"), &bytes, |path, bytes| {
                    read_header(path, bytes) & decode(path, bytes)
                });
            }
        }
    }
    trials.end();
}

#[test]
fn containers_cut_at_every_byte_are_refused() {
    let mut trials = Trials::new("cut");
    for (name, bytes) in containers() {
        if !name.starts_with("valid_") || bytes.len() < 9 {
            continue;
        }
        for end in 0..bytes.len() {
            trials.run(&format!("{name} cut at {end}"), &bytes[..end], |path, bytes| {
                assert!(Checkpoint::open(path).is_err(), "a file cut short is taken");
                let stream = Checkpoint::from_stream(Box::new(Cursor::new(bytes.to_vec())), "pipe".to_owned());
                if let Ok(stream) = stream {
                    let mut failed = false;
                    for (i, info) in stream.header.tensors.iter().enumerate() {
                        failed |= stream.read(i, 0, &mut vec![0; info.bytes() as usize]).is_err();
                    }
                    assert!(failed, "a stream cut short is taken");
                }
                false
            });
        }
    }
    trials.end();
}

#[test]
fn changed_pickles_and_arrays_are_read_or_refused() {
    let mut trials = Trials::new("import");
    let files = imports();
    for seed in 0..150 * rounds() {
        for (i, (name, bytes)) in files.iter().enumerate() {
            let mut random = Random::new(seed << 16 | i as u64);
            let mut changed = bytes.clone();
            if seed % 3 == 0 {
                change_bytes(&mut changed, &pick(&mut random, &files).1, &mut random);
            } else {
                change_one_number(&mut changed, &mut random);
            }
            trials.run(&format!("{name}, seed {seed}"), &changed, import);
        }
    }
    trials.end_mixed();
}

#[test]
fn pickles_and_arrays_cut_at_every_byte_are_read_or_refused() {
    let mut trials = Trials::new("import_cut");
    for (name, bytes) in imports() {
        for end in (0..bytes.len()).step_by(if bytes.len() > 800 { 3 } else { 1 }) {
            trials.run(&format!("{name} cut at {end}"), &bytes[..end], import);
        }
    }
    trials.end();
}

#[test]
fn changed_compressed_checkpoints_are_decoded_or_refused() {
    let mut trials = Trials::new("decode");
    let models = compressed();
    for (name, model) in &models {
        trials.run(name, &model.to_bytes(), decode);
    }
    for seed in 0..40 * rounds() {
        for (i, (name, model)) in models.iter().enumerate() {
            let mut random = Random::new(seed << 16 | i as u64);
            let mut changed = model.clone();
            changed.change(&mut random);
            trials.run(&format!("{name}, seed {seed}"), &changed.to_bytes(), decode);
        }
    }
    trials.end_mixed();
}

#[test]
fn every_number_of_a_description_may_be_at_an_edge() {
    let mut trials = Trials::new("edges");
    for (name, model) in compressed() {
        for (k, (key, text)) in model.metadata.iter().enumerate() {
            let Ok(value) = serde_json::from_str::<Value>(text) else { continue };
            if !["config", "dlopt.layout", "dlopt.shapes"].contains(&key.as_str()) {
                continue;
            }
            let mut all = Vec::new();
            nodes(&value, "", &mut all);
            let is_about_weights = |at: &&String| {
                let leaf = at.rsplit('/').next().unwrap_or_default();
                value.pointer(at).is_some_and(Value::is_number)
                    || ["symmetric", "strategy", "type", "group_size", "format", "dtype", "shape"].contains(&leaf)
            };
            for at in all.iter().filter(is_about_weights) {
                let is_quantization = key != "config" || at.contains("quantization");
                let edges = EDGES.iter().skip(if is_quantization { 0 } else { 26 });
                let edges = edges.map(|e| i64::try_from(*e).map_or_else(|_| json!(*e as u64), |n| json!(n)));
                let edges: Vec<Value> = if at.ends_with("/shape") { endless_shapes() } else { edges.collect() };
                for edge in edges {
                    let mut changed = model.clone();
                    let mut value = value.clone();
                    *value.pointer_mut(at).unwrap() = edge.clone();
                    changed.metadata[k].1 = value.to_string();
                    trials.run(&format!("{name}: {key}{at} = {edge}"), &changed.to_bytes(), |path, _| {
                        let Ok(checkpoint) = Checkpoint::open(path) else { return false };
                        summary(&checkpoint);
                        let mut is_read = true;
                        for passes in [&[&Dequantize as &dyn Pass][..], &[&Densify]] {
                            is_read &= View::new(&checkpoint, passes).is_ok_and(|view| read_all(&view));
                        }
                        is_read
                    });
                }
            }
        }
    }
    trials.end_mixed();
}

#[test]
fn the_binary_survives_what_the_readers_survive() {
    let mut wrong = Vec::new();
    let mut cases: Vec<(String, Vec<u8>)> = Vec::new();
    let models = compressed();
    for seed in 1000..1000 + 4 * rounds() {
        for (i, (name, model)) in models.iter().enumerate() {
            let mut changed = model.clone();
            changed.change(&mut Random::new(seed << 16 | i as u64));
            cases.push((format!("{name}, seed {seed}"), changed.to_bytes()));
        }
    }
    // A real model, made small by the binary.
    let dir = temp_dir();
    let silero = fixture("silero/silero_vad_16k.safetensors");
    for line in ["quantize --group 32 --fallback channel", "prune --sparsity 0.7 --store bitmask"] {
        let output = support::run_in(dir.path(), &format!("{line} {} -o s.safetensors --force", silero.display()));
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        let made = Model::of(&fs::read(dir.path().join("s.safetensors")).unwrap());
        for seed in 0..6 * rounds() {
            let mut changed = made.clone();
            changed.change(&mut Random::new(seed));
            cases.push((format!("silero {line}, seed {seed}"), changed.to_bytes()));
        }
    }
    for (what, bytes) in &cases {
        let dir = temp_dir();
        fs::write(dir.path().join("in.safetensors"), bytes).unwrap();
        for line in [
            "convert --decompress in.safetensors -o out.safetensors",
            "convert --decompress in.safetensors",
            "verify in.safetensors",
        ] {
            // 4 GiB of address space: what a file claims and does not hold is not allocated.
            let script = format!("ulimit -v 4194304; exec timeout 60 '{DLOPT}' {line} --threads 2");
            let output = Command::new("bash")
                .args(["-c", &script])
                .current_dir(dir.path())
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let text = err(&output);
            let code = output.status.code();
            let is_met = [Some(0), Some(1), Some(3)].contains(&code) && !text.contains("panicked");
            let is_out = line.ends_with("-o out.safetensors") && code == Some(0);
            let _ = fs::remove_file(dir.path().join(if is_out { "out.safetensors" } else { "" }));
            if !is_met || names_in(dir.path()) != ["in.safetensors"] {
                let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("binary-{}.bad", wrong.len()));
                fs::write(&kept, bytes).unwrap();
                wrong.push(format!("{what}: {line}: {code:?}, kept as {}\n{text}", kept.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Files that made a reader fail once.
#[test]
fn what_failed_once_does_not_fail_again() {
    let folder = fixture("regressions");
    if !folder.exists() {
        return;
    }
    let mut trials = Trials::new("regressions");
    for name in names_in(&folder) {
        let bytes = fs::read(folder.join(&name)).unwrap();
        trials.run(&name, &bytes, |path, bytes| {
            let is_read = [read_header(path, bytes), decode(path, bytes), import(path, bytes)];
            is_read.contains(&true)
        });
    }
    trials.end();
}
