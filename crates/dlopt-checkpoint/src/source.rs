//! Where a checkpoint comes from: one file, a folder of shards, a foreign file, or a stream.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::companions::{Companions, FILES_KEY, check_relative};
use crate::error::{Context, Error, Result};
use crate::header::{Header, header_text_bytes};
use crate::import::{Imported, open_import, open_import_folder};
use crate::stream::Stream;
use crate::tensors::Tensors;

/// Largest index file that is read, in bytes.
const MAX_INDEX_BYTES: u64 = 100 << 20;

/// A checkpoint that is open for reading.
pub struct Checkpoint {
    /// How errors and reports name it.
    pub name: String,
    /// What it holds. `config` stands in the metadata wherever it came from; `dlopt.files` does not.
    pub header: Header,
    /// Which input shard each tensor lies in.
    pub shard_of: Vec<usize>,
    /// Names of the input shards.
    pub shards: Vec<String>,
    /// The small files of the model.
    pub companions: Companions,
    /// Whether it came as a folder; a folder is then the natural output.
    pub is_folder: bool,
    /// What was left out on reading (entries of a foreign file that are no tensors).
    pub left_out: Vec<String>,
    /// The files behind it, for fingerprints and for refusing to overwrite an input.
    pub files: Vec<PathBuf>,
    data: Data,
}

enum Data {
    Files { files: Vec<(PathBuf, File)>, place: Vec<(usize, u64)> },
    Foreign(Imported),
    Stream(Stream),
}

impl Checkpoint {
    /// Opens a file or folder, whatever it is. Compressed members of foreign files are unpacked in the system's
    /// temporary folder.
    ///
    /// # Errors
    /// When nothing readable is there, or a header is broken.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_spooling_in(path, &std::env::temp_dir())
    }

    /// The same with a place for what must be unpacked.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_spooling_in(path: &Path, tmp_dir: &Path) -> Result<Self> {
        let meta = path.metadata().at(path.display())?;
        if meta.is_dir() {
            return open_folder(path, tmp_dir);
        }
        if !meta.is_file() {
            // A named pipe or a device: a stream with a name.
            let file = File::open(path).at(path.display())?;
            return Self::from_stream(Box::new(file), path.display().to_string());
        }
        if is_foreign(path)? {
            return Ok(foreign(
                path.display().to_string(),
                open_import(path)?.spool_in(tmp_dir),
                vec![path.to_owned()],
            ));
        }
        let (header, file, data_begin) = open_safetensors(path)?;
        let place = header.offsets().into_iter().map(|o| (0, data_begin + o)).collect();
        let data = Data::Files { files: vec![(path.to_owned(), file)], place };
        finish(path.display().to_string(), header, vec![file_name(path)], data, vec![path.to_owned()])
    }

    /// Reads a checkpoint from a stream; only the header is read now.
    ///
    /// # Errors
    /// When the stream does not begin with a header.
    pub fn from_stream(reader: Box<dyn Read + Send>, name: String) -> Result<Self> {
        let (header, stream) = Stream::open(reader, name.clone())?;
        finish(name, header, vec!["model.safetensors".to_owned()], Data::Stream(stream), Vec::new())
    }

    /// The stream behind it, when it is one.
    pub fn stream(&self) -> Option<&Stream> {
        match &self.data {
            Data::Stream(stream) => Some(stream),
            _ => None,
        }
    }
}

impl Tensors for Checkpoint {
    fn header(&self) -> &Header {
        &self.header
    }

    fn read(&self, tensor: usize, offset: u64, into: &mut [u8]) -> Result<()> {
        let name = &self.header.tensors[tensor].name;
        match &self.data {
            Data::Files { files, place } => {
                let (file, begin) = place[tensor];
                let (path, file) = &files[file];
                file.read_exact_at(into, begin + offset).map_err(|e| {
                    if e.kind() == std::io::ErrorKind::UnexpectedEof {
                        let end = file.metadata().map_or(0, |m| m.len());
                        Error::input(format!(
                            "{}: the file shrank to {end} bytes while tensor `{name}` was read at byte {}",
                            path.display(),
                            begin + offset
                        ))
                        .hint("something else is writing to it: wait until it is done")
                    } else {
                        let read: std::io::Result<()> = Err(e);
                        read.at(format!("{}: tensor `{name}`", path.display())).expect_err("made from an error")
                    }
                })
            }
            Data::Foreign(imported) => imported.read(tensor, offset, into),
            Data::Stream(stream) => stream.read(tensor, offset, into),
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Opens a safetensors file: its header, and where its data begin.
fn open_safetensors(path: &Path) -> Result<(Header, File, u64)> {
    let within = |e: Error| e.within(path.display());
    let file = File::open(path).at(path.display())?;
    let size = file.metadata().at(path.display())?.len();
    if size < 8 {
        return Err(within(
            Error::input(format!("the file has {size} bytes; a safetensors file has at least 8"))
                .hint("the file is empty or was cut short: fetch it again"),
        ));
    }
    let mut first = [0; 8];
    file.read_exact_at(&mut first, 0).at(path.display())?;
    let length = header_text_bytes(first, Some(size)).map_err(within)?;
    let mut text = vec![0; length];
    file.read_exact_at(&mut text, 8).at(path.display())?;
    let data_begin = 8 + length as u64;
    let header = Header::from_text(&text, Some(size - data_begin)).map_err(within)?;
    Ok((header, file, data_begin))
}

/// Whether the first bytes are those of a zip, a pickle or a NumPy file.
fn is_foreign(path: &Path) -> Result<bool> {
    let mut first = [0; 8];
    let mut file = File::open(path).at(path.display())?;
    let mut got = 0;
    while got < first.len() {
        match file.read(&mut first[got..]).at(path.display())? {
            0 => break,
            more => got += more,
        }
    }
    // A safetensors header longer than 2^32 bytes does not exist, so its bytes 4..8 are zero.
    let is_safetensors = got == 8 && first[4..8] == [0; 4];
    Ok(!is_safetensors
        && (first.starts_with(b"PK") || first.starts_with(b"\x93NUMPY") || (first[0] == 0x80 && first[1] <= 5)))
}

fn foreign(name: String, imported: Imported, files: Vec<PathBuf>) -> Checkpoint {
    let header = imported.header.clone();
    Checkpoint {
        name,
        shard_of: vec![0; header.tensors.len()],
        shards: vec!["model.safetensors".to_owned()],
        companions: Companions::default(),
        is_folder: false,
        left_out: imported.skipped.clone(),
        files,
        header,
        data: Data::Foreign(imported),
    }
}

fn finish(
    name: String,
    mut header: Header,
    shards: Vec<String>,
    data: Data,
    files: Vec<PathBuf>,
) -> Result<Checkpoint> {
    let companions = match header.metadata.remove(FILES_KEY) {
        Some(text) => Companions::from_metadata(&text).map_err(|e| e.within(&name))?,
        None => Companions::default(),
    };
    Ok(Checkpoint {
        name,
        shard_of: vec![0; header.tensors.len()],
        shards,
        companions,
        is_folder: false,
        left_out: Vec::new(),
        files,
        header,
        data,
    })
}

fn open_folder(dir: &Path, tmp_dir: &Path) -> Result<Checkpoint> {
    let within = |e: Error| e.within(dir.display());
    let names = listing(dir)?;
    let companions = Companions::of_folder(dir)?;
    let config = match dir.join("config.json") {
        path if path.is_file() => Some(std::fs::read_to_string(&path).at(path.display())?),
        _ => None,
    };
    let index = one_index(&names).map_err(within)?;
    let mut checkpoint = if let Some(index) = index {
        open_shards(dir, &index, &names)?
    } else {
        let weights: Vec<_> = names.iter().filter(|n| n.ends_with(".safetensors")).collect();
        let single = match weights.iter().find(|n| n.as_str() == "model.safetensors") {
            Some(name) => Some(*name),
            None if weights.len() == 1 => Some(weights[0]),
            None => None,
        };
        match single {
            Some(name) => {
                let mut single = Checkpoint::open(&dir.join(name))?;
                single.name = dir.display().to_string();
                single
            }
            None if weights.is_empty()
                && names.iter().any(|n| n.starts_with("pytorch_model") && n.contains(".bin")) =>
            {
                let files = names.iter().filter(|n| n.starts_with("pytorch_model")).map(|n| dir.join(n)).collect();
                foreign(dir.display().to_string(), open_import_folder(dir)?.spool_in(tmp_dir), files)
            }
            None if weights.is_empty() => {
                return Err(Error::input(format!("{}: no weights here", dir.display()))
                    .hint("a model folder holds model.safetensors, or shards and model.safetensors.index.json"));
            }
            None => {
                return Err(Error::input(format!(
                    "{}: {} safetensors files and no model.safetensors.index.json",
                    dir.display(),
                    weights.len()
                ))
                .hint("name the one file you mean"));
            }
        }
    };
    if let Some(config) = config {
        checkpoint.header.metadata.insert("config".to_owned(), config);
        checkpoint.header.config().map_err(|e| e.within(dir.join("config.json").display()))?;
    }
    checkpoint.companions = companions;
    checkpoint.is_folder = true;
    Ok(checkpoint)
}

fn listing(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).at(dir.display())? {
        names.push(entry.at(dir.display())?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The index of the plain weights; variants (`model.safetensors.index.fp16.json`) only when there is nothing else.
fn one_index(names: &[String]) -> Result<Option<String>> {
    const PLAIN: &str = "model.safetensors.index.json";
    if names.iter().any(|n| n == PLAIN) {
        return Ok(Some(PLAIN.to_owned()));
    }
    let others: Vec<_> = names.iter().filter(|n| n.contains(".safetensors.index.") && n.ends_with(".json")).collect();
    match others.len() {
        0 => Ok(None),
        1 if !names.iter().any(|n| n == "model.safetensors") => Ok(Some(others[0].clone())),
        _ if names.iter().any(|n| n == "model.safetensors") => Ok(None),
        _ => Err(Error::input("several index files and no plain one").hint("leave one model in the folder")),
    }
}

#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

fn open_shards(dir: &Path, index_name: &str, names: &[String]) -> Result<Checkpoint> {
    let path = dir.join(index_name);
    let within = |e: Error| e.within(path.display());
    let size = path.metadata().at(path.display())?.len();
    if size > MAX_INDEX_BYTES {
        return Err(within(Error::input(format!("the index has {size} bytes; {MAX_INDEX_BYTES} is the most"))));
    }
    let text = std::fs::read_to_string(&path).at(path.display())?;
    let index: Index =
        serde_json::from_str(&text).map_err(|e| within(Error::input(format!("the index is broken: {e}"))))?;
    let mut shards: Vec<String> = index.weight_map.values().cloned().collect();
    shards.sort();
    shards.dedup();
    if shards.is_empty() {
        return Err(within(Error::input("the index names no shard")));
    }
    for shard in &shards {
        check_relative(shard).map_err(within)?;
        if shard.contains('/') {
            return Err(within(Error::input(format!("`{shard}` leads out of the folder"))));
        }
        if !names.contains(shard) {
            return Err(within(
                Error::input(format!("shard `{shard}` is missing")).hint("fetch the rest of the model"),
            ));
        }
    }
    let mut header = Header::default();
    let (mut place, mut shard_of, mut files) = (Vec::new(), Vec::new(), Vec::new());
    let opened: Vec<_> = shards.par_iter().map(|shard| open_safetensors(&dir.join(shard))).collect();
    for ((s, shard), opened) in shards.iter().enumerate().zip(opened) {
        let (own, file, data_begin) = opened?;
        let offsets = own.offsets();
        for (tensor, offset) in own.tensors.into_iter().zip(offsets) {
            match index.weight_map.get(&tensor.name) {
                Some(named) if named == shard => {}
                Some(named) => {
                    return Err(within(Error::input(format!(
                        "tensor `{}` is in `{shard}`, the index says `{named}`",
                        tensor.name
                    ))));
                }
                None => {
                    return Err(within(Error::input(format!(
                        "tensor `{}` of `{shard}` is missing from the index",
                        tensor.name
                    ))));
                }
            }
            place.push((s, data_begin + offset));
            shard_of.push(s);
            header.tensors.push(tensor);
        }
        for (key, value) in own.metadata {
            header.metadata.entry(key).or_insert(value);
        }
        files.push((dir.join(shard), file));
    }
    // Every tensor has its own entry, so with as many entries as tensors none is left over.
    if index.weight_map.len() != header.tensors.len() {
        let found: HashSet<&str> = header.tensors.iter().map(|t| t.name.as_str()).collect();
        if let Some((name, shard)) = index.weight_map.iter().find(|(name, _)| !found.contains(name.as_str())) {
            return Err(within(Error::input(format!("tensor `{name}` is not in `{shard}`, where the index puts it"))));
        }
    }
    let paths = files.iter().map(|(p, _)| p.clone()).collect();
    let data = Data::Files { files, place };
    let mut checkpoint = finish(dir.display().to_string(), header, shards, data, paths)?;
    checkpoint.shard_of = shard_of;
    Ok(checkpoint)
}
