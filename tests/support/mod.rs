//! What the end-to-end tests share: the binary, checkpoints made from a seed, and readers that know nothing of dlopt.

#![allow(dead_code, clippy::unwrap_used)]

pub(crate) mod texts;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::{Map, Value, json};

/// The binary under test.
pub(crate) const DLOPT: &str = env!("CARGO_BIN_EXE_dlopt");

/// A command that runs the binary, for assertions.
pub(crate) fn dlopt() -> assert_cmd::Command {
    assert_cmd::Command::new(DLOPT)
}

/// Runs the binary; arguments are text or paths.
pub(crate) fn run<A: AsRef<std::ffi::OsStr>>(arguments: &[A]) -> Output {
    std::process::Command::new(DLOPT).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// Splits at blanks and runs the binary in a folder.
pub(crate) fn run_in(dir: &Path, line: &str) -> Output {
    std::process::Command::new(DLOPT)
        .args(line.split_whitespace())
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// The same, and it must end with code 0.
pub(crate) fn ok_in(dir: &Path, line: &str) -> Output {
    let output = run_in(dir, line);
    assert_code(&output, 0, line);
    output
}

/// The exit code must be this one, and never a panic's.
pub(crate) fn assert_code(output: &Output, code: i32, what: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{what}\n{errors}");
    assert!(!errors.contains("panicked"), "{what}\n{errors}");
}

/// Standard output as text.
pub(crate) fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Standard error as text.
pub(crate) fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Standard output as JSON.
pub(crate) fn json_out(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}\n{}", out(output), err(output)))
}

/// Runs a shell pipe in a folder, each verb a line of arguments, and gives the output of the last with the codes and
/// errors of all.
pub(crate) fn pipe_in(dir: &Path, stdin: Option<&[u8]>, verbs: &[&str]) -> Piped {
    let mut children = Vec::new();
    let mut feed = None;
    for (i, line) in verbs.iter().enumerate() {
        let mut command = std::process::Command::new(DLOPT);
        command.args(line.split_whitespace()).current_dir(dir).stdout(Stdio::piped()).stderr(Stdio::piped());
        let before: Option<&mut std::process::Child> = children.last_mut();
        match before {
            Some(child) => command.stdin(child.stdout.take().unwrap()),
            None if stdin.is_some() => command.stdin(Stdio::piped()),
            None => command.stdin(Stdio::null()),
        };
        let mut child = command.spawn().unwrap();
        if i == 0 {
            feed = child.stdin.take();
        }
        children.push(child);
    }
    // Writer and readers run side by side, or a full pipe would stop them all.
    std::thread::scope(|scope| {
        if let (Some(mut feed), Some(bytes)) = (feed, stdin) {
            // A verb that refuses its input closes the pipe; its code tells.
            scope.spawn(move || drop(feed.write_all(bytes)));
        }
        let mut last = children.last_mut().unwrap().stdout.take().unwrap();
        let errors: Vec<_> = children
            .iter_mut()
            .map(|child| {
                let mut stderr = child.stderr.take().unwrap();
                scope.spawn(move || {
                    let mut text = Vec::new();
                    stderr.read_to_end(&mut text).unwrap();
                    String::from_utf8_lossy(&text).into_owned()
                })
            })
            .collect();
        let mut stdout = Vec::new();
        last.read_to_end(&mut stdout).unwrap();
        let errors = errors.into_iter().map(|e| e.join().unwrap()).collect();
        let codes = children.iter_mut().map(|child| child.wait().unwrap().code()).collect();
        Piped { stdout, errors, codes }
    })
}

/// What a shell pipe gave.
#[derive(Debug)]
pub(crate) struct Piped {
    /// Standard output of the last verb.
    pub(crate) stdout: Vec<u8>,
    /// Standard error of each verb.
    pub(crate) errors: Vec<String>,
    /// Exit code of each verb.
    pub(crate) codes: Vec<Option<i32>>,
}

impl Piped {
    /// Every verb must have ended with code 0.
    pub(crate) fn ok(self) -> Vec<u8> {
        assert!(self.codes.iter().all(|c| *c == Some(0)), "{:?}\n{}", self.codes, self.errors.join("\n"));
        self.stdout
    }
}

/// The verbs that `dlopt --help` shows.
pub(crate) fn shown_verbs() -> BTreeSet<String> {
    let help = out(&run(&["--help"]));
    let list = help.split_once("Commands:").unwrap().1.split_once("Options:").unwrap().0;
    let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
    list.lines().filter(|l| l.starts_with("  ") && !l.starts_with("   ")).filter_map(first).collect()
}

/// The long flags that `dlopt VERB --help` shows.
pub(crate) fn shown_flags(verb: &str) -> BTreeSet<String> {
    let help = out(&run(&[verb, "--help"]));
    let options = help.split_once("Options:").unwrap().1;
    let options = options.split_once("Example").map_or(options, |(options, _)| options);
    let flag = |line: &str| {
        let line = line.trim_start();
        let long =
            line.strip_prefix("--").or_else(|| line.get(4..).filter(|_| line.starts_with('-'))?.strip_prefix("--"))?;
        Some(long.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next()?.to_owned())
    };
    options.lines().filter_map(flag).filter(|f| f != "help").collect()
}

/// A new folder that vanishes with the test.
pub(crate) fn temp_dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A path below `fixtures/`.
pub(crate) fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(path)
}

/// Numbers from a seed: SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    /// Starts at a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// About normal, mean 0, standard deviation 1: twelve uniform numbers less six.
    pub(crate) fn normal(&mut self) -> f32 {
        let mut sum = 0.0f64;
        for _ in 0..6 {
            let bits = self.bits();
            sum += f64::from(bits as u32) / 4_294_967_296.0 + f64::from((bits >> 32) as u32) / 4_294_967_296.0;
        }
        (sum - 6.0) as f32
    }
}

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

/// Bits of an element of a dtype.
pub(crate) fn bits_of(dtype: &str) -> usize {
    match dtype {
        "U64" | "I64" | "F64" | "C64" => 64,
        "F32" | "U32" | "I32" => 32,
        "BF16" | "F16" | "U16" | "I16" => 16,
        "F6_E3M2" | "F6_E2M3" => 6,
        "F4" => 4,
        _ => 8,
    }
}

/// Every dtype of the format.
pub(crate) const ALL_DTYPES: [&str; 22] = [
    "U64",
    "I64",
    "F64",
    "C64",
    "F32",
    "U32",
    "I32",
    "BF16",
    "F16",
    "U16",
    "I16",
    "F8_E5M2FNUZ",
    "F8_E4M3FNUZ",
    "F8_E8M0",
    "F8_E4M3",
    "F8_E5M2",
    "I8",
    "U8",
    "F6_E3M2",
    "F6_E2M3",
    "F4",
    "BOOL",
];

impl Tensor {
    /// A tensor of given bytes.
    pub(crate) fn new(name: &str, dtype: &str, shape: &[usize], bytes: Vec<u8>) -> Self {
        let elements: usize = shape.iter().product();
        assert_eq!(bytes.len() * 8, elements * bits_of(dtype), "{name}");
        Self { name: name.to_owned(), dtype: dtype.to_owned(), shape: shape.to_vec(), bytes }
    }

    /// Given values, rounded to the dtype: F64, F32, BF16 or F16.
    pub(crate) fn of(name: &str, dtype: &str, shape: &[usize], values: &[f32]) -> Self {
        let bytes = match dtype {
            "F64" => values.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect(),
            "F32" => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            "BF16" => values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect(),
            "F16" => values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect(),
            other => panic!("{other} holds no weights"),
        };
        Self::new(name, dtype, shape, bytes)
    }

    /// Weights like a trained layer's (normal, deviation 0.02), or any bytes when the dtype holds no weights. The
    /// name seeds them too.
    pub(crate) fn random(name: &str, dtype: &str, shape: &[usize], seed: u64) -> Self {
        let seed = name.bytes().fold(seed, |s, b| s.wrapping_mul(0x0100_0000_01b3) ^ u64::from(b));
        let mut random = Random::new(seed);
        let elements: usize = shape.iter().product();
        if ["F64", "F32", "BF16", "F16"].contains(&dtype) {
            let values: Vec<f32> = (0..elements).map(|_| 0.02 * random.normal()).collect();
            return Self::of(name, dtype, shape, &values);
        }
        let limit = if dtype == "BOOL" { 2 } else { 256 };
        let bytes = (0..elements * bits_of(dtype) / 8).map(|_| (random.bits() % limit) as u8).collect();
        Self::new(name, dtype, shape, bytes)
    }

    /// Its values as f32: F64, F32, BF16 or F16.
    pub(crate) fn values(&self) -> Vec<f32> {
        let b = &self.bytes;
        match self.dtype.as_str() {
            "F64" => b.chunks_exact(8).map(|c| f64::from_le_bytes(c.try_into().unwrap()) as f32).collect(),
            "F32" => b.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect(),
            "BF16" => b.chunks_exact(2).map(|c| half::bf16::from_le_bytes(c.try_into().unwrap()).to_f32()).collect(),
            "F16" => b.chunks_exact(2).map(|c| half::f16::from_le_bytes(c.try_into().unwrap()).to_f32()).collect(),
            other => panic!("{other} holds no weights"),
        }
    }

    /// How many of its values are zero.
    pub(crate) fn zeros(&self) -> usize {
        self.values().iter().filter(|v| **v == 0.0).count()
    }

    /// How many elements it has.
    pub(crate) fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The bytes of a file that holds these tensors in this order, with no padding between the header text and the data
/// but the format's.
pub(crate) fn safetensors(tensors: &[Tensor], metadata: &[(&str, &str)]) -> Vec<u8> {
    let mut header = Map::new();
    if !metadata.is_empty() {
        let metadata: Map<String, Value> = metadata.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
        header.insert("__metadata__".to_owned(), Value::Object(metadata));
    }
    let mut begin = 0;
    for t in tensors {
        let end = begin + t.bytes.len();
        let entry = json!({ "dtype": t.dtype, "shape": t.shape, "data_offsets": [begin, end] });
        assert!(header.insert(t.name.clone(), entry).is_none(), "{} twice", t.name);
        begin = end;
    }
    let mut text = serde_json::to_vec(&header).unwrap();
    text.resize(text.len().next_multiple_of(8), b' ');
    with_header_text(&text, &tensors.iter().flat_map(|t| t.bytes.clone()).collect::<Vec<_>>())
}

/// The bytes of a file with this header text and these data, right or wrong.
pub(crate) fn with_header_text(text: &[u8], data: &[u8]) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(text);
    bytes.extend_from_slice(data);
    bytes
}

/// Writes a file of tensors.
pub(crate) fn write_file(path: &Path, tensors: &[Tensor], metadata: &[(&str, &str)]) {
    fs::write(path, safetensors(tensors, metadata)).unwrap();
}

/// Writes a Hugging Face folder: one file, or shards with their index; a config; small files.
pub(crate) fn write_folder(dir: &Path, shards: &[Vec<Tensor>], config: Option<&Value>, files: &[(&str, &[u8])]) {
    fs::create_dir_all(dir).unwrap();
    let format = [("format", "pt")];
    if let [only] = shards {
        write_file(&dir.join("model.safetensors"), only, &format);
    } else {
        let mut map = BTreeMap::new();
        let mut total = 0;
        for (i, tensors) in shards.iter().enumerate() {
            let file = format!("model-{:05}-of-{:05}.safetensors", i + 1, shards.len());
            write_file(&dir.join(&file), tensors, &format);
            for t in tensors {
                map.insert(t.name.clone(), file.clone());
                total += t.bytes.len();
            }
        }
        let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
        fs::write(dir.join("model.safetensors.index.json"), serde_json::to_vec_pretty(&index).unwrap()).unwrap();
    }
    if let Some(config) = config {
        fs::write(dir.join("config.json"), serde_json::to_vec_pretty(config).unwrap()).unwrap();
    }
    for (name, bytes) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// What a file says, read without dlopt.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Stored {
    /// Names in the order of the header text.
    pub(crate) names: Vec<String>,
    /// `__metadata__`, in the order of the header text.
    pub(crate) metadata: Vec<(String, String)>,
    /// The tensors by name.
    pub(crate) tensors: BTreeMap<String, Tensor>,
}

impl Stored {
    /// A tensor that must be there.
    pub(crate) fn get(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("no tensor {name} among {:?}", self.names))
    }

    /// A metadata value.
    pub(crate) fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}

/// Reads the bytes of a file.
pub(crate) fn parse(bytes: &[u8]) -> Stored {
    // The reference reader must take whatever dlopt writes.
    safetensors::SafeTensors::deserialize(bytes).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Map<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let data = &bytes[8 + length..];
    let mut stored = Stored::default();
    for (name, entry) in header {
        if name == "__metadata__" {
            let pairs = entry.as_object().into_iter().flatten();
            stored.metadata = pairs.map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned())).collect();
            continue;
        }
        let number = |v: &Value| v.as_u64().unwrap() as usize;
        let offsets = &entry["data_offsets"];
        let tensor = Tensor {
            name: name.clone(),
            dtype: entry["dtype"].as_str().unwrap().to_owned(),
            shape: entry["shape"].as_array().unwrap().iter().map(number).collect(),
            bytes: data[number(&offsets[0])..number(&offsets[1])].to_vec(),
        };
        stored.names.push(name.clone());
        stored.tensors.insert(name, tensor);
    }
    stored
}

/// Reads a file.
pub(crate) fn read_file(path: &Path) -> Stored {
    parse(&fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

/// Reads all tensors of a folder, by its index when it has one; a tensor must lie in the shard that the index names.
pub(crate) fn read_folder(dir: &Path) -> Stored {
    let index = dir.join("model.safetensors.index.json");
    if !index.exists() {
        return read_file(&dir.join("model.safetensors"));
    }
    let index = read_json(&index);
    let map = index["weight_map"].as_object().unwrap();
    let mut files: Vec<_> = map.values().map(|v| v.as_str().unwrap()).collect();
    files.sort_unstable();
    files.dedup();
    let mut all = Stored::default();
    for file in files {
        let shard = read_file(&dir.join(file));
        for name in &shard.names {
            assert_eq!(map.get(name).and_then(Value::as_str), Some(file), "{name}");
        }
        all.names.extend(shard.names);
        all.metadata = shard.metadata;
        all.tensors.extend(shard.tensors);
    }
    assert_eq!(all.names.len(), map.len(), "the index and the shards name the same tensors");
    all
}

/// Reads a file or a folder.
pub(crate) fn read(path: &Path) -> Stored {
    if path.is_dir() { read_folder(path) } else { read_file(path) }
}

/// Reads a JSON file.
pub(crate) fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).unwrap()
}

/// All files below a folder with their bytes, hidden ones included.
pub(crate) fn files_below(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(dir: &Path, base: &Path, into: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, base, into);
            } else {
                into.insert(path.strip_prefix(base).unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap());
            }
        }
    }
    let mut files = BTreeMap::new();
    walk(dir, dir, &mut files);
    files
}

/// The names in a folder, sorted: nothing may be left behind.
pub(crate) fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Two folders must hold the same files with the same bytes.
pub(crate) fn assert_same_folders(a: &Path, b: &Path) {
    let (a, b) = (files_below(a), files_below(b));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, bytes) in &a {
        assert!(*bytes == b[name], "{name} differs: {}", difference(name, bytes, &b[name]));
    }
}

/// What differs between two files, for people.
pub(crate) fn difference(name: &str, a: &[u8], b: &[u8]) -> String {
    if !name.ends_with(".safetensors") {
        return format!("{}\n{}", String::from_utf8_lossy(a), String::from_utf8_lossy(b));
    }
    let (a, b) = (parse(a), parse(b));
    if a.names != b.names {
        return format!("{:?}\n{:?}", a.names, b.names);
    }
    if a.metadata != b.metadata {
        return format!("{:?}\n{:?}", a.metadata, b.metadata);
    }
    let tensors = a.names.iter().filter(|n| a.tensors[*n] != b.tensors[*n]);
    format!("tensors {:?}", tensors.collect::<Vec<_>>())
}

/// Two files must hold the same tensors, byte for byte; order and metadata may differ.
pub(crate) fn assert_same_tensors(a: &Stored, b: &Stored) {
    assert_eq!(a.tensors.keys().collect::<Vec<_>>(), b.tensors.keys().collect::<Vec<_>>());
    for (name, tensor) in &a.tensors {
        let other = &b.tensors[name];
        assert_eq!((&tensor.dtype, &tensor.shape), (&other.dtype, &other.shape), "{name}");
        assert!(tensor.bytes == other.bytes, "the bytes of {name} differ");
    }
}

/// Sizes of a model that is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) hidden: usize,
    pub(crate) intermediate: usize,
    pub(crate) layers: usize,
    pub(crate) vocabulary: usize,
}

/// Small, with sizes that groups of 128 divide.
pub(crate) const SMALL: Sizes = Sizes { hidden: 128, intermediate: 256, layers: 2, vocabulary: 300 };

/// The tensors of a Llama, named as Hugging Face names them.
pub(crate) fn llama(sizes: Sizes, dtype: &str, seed: u64) -> Vec<Tensor> {
    let Sizes { hidden, intermediate, layers, vocabulary } = sizes;
    let make = |name: String, shape: &[usize]| Tensor::random(&name, dtype, shape, seed);
    let mut tensors = vec![make("model.embed_tokens.weight".to_owned(), &[vocabulary, hidden])];
    for l in 0..layers {
        let at = |rest: &str| format!("model.layers.{l}.{rest}.weight");
        for part in ["q", "k", "v", "o"] {
            tensors.push(make(at(&format!("self_attn.{part}_proj")), &[hidden, hidden]));
        }
        tensors.push(make(at("mlp.gate_proj"), &[intermediate, hidden]));
        tensors.push(make(at("mlp.up_proj"), &[intermediate, hidden]));
        tensors.push(make(at("mlp.down_proj"), &[hidden, intermediate]));
        tensors.push(make(at("input_layernorm"), &[hidden]));
        tensors.push(make(at("post_attention_layernorm"), &[hidden]));
    }
    tensors.push(make("model.norm.weight".to_owned(), &[hidden]));
    tensors.push(make("lm_head.weight".to_owned(), &[vocabulary, hidden]));
    tensors
}

/// The config of such a Llama.
pub(crate) fn llama_config(sizes: Sizes) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": sizes.hidden,
        "intermediate_size": sizes.intermediate, "num_hidden_layers": sizes.layers, "num_attention_heads": 4,
        "num_key_value_heads": 4, "vocab_size": sizes.vocabulary, "tie_word_embeddings": false,
        "torch_dtype": "bfloat16",
    })
}

/// The tensors of a BERT.
pub(crate) fn bert(sizes: Sizes, dtype: &str, seed: u64) -> Vec<Tensor> {
    let Sizes { hidden, intermediate, layers, vocabulary } = sizes;
    let mut tensors = Vec::new();
    let mut make = |name: &str, shape: &[usize]| tensors.push(Tensor::random(name, dtype, shape, seed));
    make("embeddings.word_embeddings.weight", &[vocabulary, hidden]);
    make("embeddings.position_embeddings.weight", &[16, hidden]);
    make("embeddings.LayerNorm.weight", &[hidden]);
    make("embeddings.LayerNorm.bias", &[hidden]);
    for l in 0..layers {
        let mut linear = |name: &str, outputs: usize, inputs: usize| {
            make(&format!("encoder.layer.{l}.{name}.weight"), &[outputs, inputs]);
            make(&format!("encoder.layer.{l}.{name}.bias"), &[outputs]);
        };
        linear("attention.self.query", hidden, hidden);
        linear("attention.self.key", hidden, hidden);
        linear("attention.self.value", hidden, hidden);
        linear("attention.output.dense", hidden, hidden);
        linear("intermediate.dense", intermediate, hidden);
        linear("output.dense", hidden, intermediate);
        make(&format!("encoder.layer.{l}.output.LayerNorm.weight"), &[hidden]);
        make(&format!("encoder.layer.{l}.output.LayerNorm.bias"), &[hidden]);
    }
    make("pooler.dense.weight", &[hidden, hidden]);
    make("pooler.dense.bias", &[hidden]);
    tensors
}

/// The config of such a BERT.
pub(crate) fn bert_config(sizes: Sizes) -> Value {
    json!({
        "architectures": ["BertModel"], "model_type": "bert", "hidden_size": sizes.hidden,
        "intermediate_size": sizes.intermediate, "num_hidden_layers": sizes.layers, "num_attention_heads": 4,
        "vocab_size": sizes.vocabulary, "max_position_embeddings": 16,
    })
}

/// Small files as a tokenizer has them: text, bytes that are no text, one in a folder.
pub(crate) const COMPANIONS: [(&str, &[u8]); 4] = [
    ("tokenizer.json", b"{\"version\": \"1.0\", \"added\": \"\xc3\xbc\"}\n"),
    ("tokenizer.model", b"\x0a\xff\xfe\x00\x01binary"),
    ("README.md", b"# a model\r\n"),
    ("1_Pooling/config.json", b"{\"pooling\": true}"),
];

/// A folder of data that `scripts/fetch-data.sh` brings, or `None` with how to fetch it.
pub(crate) fn fetched(name: &str) -> Option<PathBuf> {
    let path = fixture("../data").join(name);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("skipped: run bash scripts/fetch-data.sh {name} data");
    None
}

/// How [`digits_ground`] trains; flags may follow.
pub(crate) const TRAIN_DIGITS: &str = "train --data d.safetensors --batch 32 --learning-rate 0.004";

/// Columns of 9, of 81 and of 32: what groups fit and what they do not.
const NET: &str = "layers = [\n    { type = \"conv2d\", filters = 9, kernel = 3, activation = \"relu\" },\n    { type = \"max_pool2d\", size = 2 },\n    { type = \"flatten\" },\n    { type = \"dense\", units = 32, activation = \"relu\" },\n    { type = \"dense\", units = \"classes\" },\n]\n";

/// A folder with digits of 8 x 8 pixels (`d.safetensors`), a description (`net.toml`) and such a network that knows most of
/// them (`m.safetensors`).
pub(crate) fn digits_ground() -> tempfile::TempDir {
    let dir = temp_dir();
    let digits = fixture("digits/digits.csv.gz");
    std::fs::write(dir.path().join("net.toml"), NET).unwrap();
    let prepare =
        format!("prepare {} --shape 8x8 --split validation=0.2,test=0.2 -o d.safetensors -q", digits.display());
    ok_in(dir.path(), &prepare);
    ok_in(dir.path(), &format!("{TRAIN_DIGITS} --model net.toml --epochs 4 -o m.safetensors -q"));
    dir
}
