//! Small checkpoints on disk, and the fixtures of the repository.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use dlopt_checkpoint::{
    Checkpoint, Context, Dtype, Header, Job, NoProgress, Pass, Resources, Result, Target, TensorInfo, Tensors,
};

static STOP: AtomicBool = AtomicBool::new(false);

pub(crate) fn resources(threads: usize, memory_bytes: u64) -> Resources<'static> {
    Resources { threads, memory_bytes, tmp_dir: std::env::temp_dir(), progress: &NoProgress, stop: &STOP }
}

pub(crate) fn usual() -> Resources<'static> {
    resources(2, 1 << 30)
}

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

/// A checkpoint in memory, to be changed and written.
pub(crate) struct Model {
    pub(crate) header: Header,
    pub(crate) data: Vec<Vec<u8>>,
}

impl Model {
    pub(crate) fn new() -> Self {
        let mut header = Header::default();
        header.metadata.insert("format".to_owned(), "pt".to_owned());
        Self { header, data: Vec::new() }
    }

    pub(crate) fn read(path: &Path) -> Self {
        let checkpoint = Checkpoint::open(path).unwrap();
        let data = checkpoint.header.tensors.iter().enumerate().map(|(i, info)| {
            let mut bytes = vec![0; info.bytes() as usize];
            checkpoint.read(i, 0, &mut bytes).unwrap();
            bytes
        });
        Self { data: data.collect(), header: checkpoint.header.clone() }
    }

    pub(crate) fn with(mut self, name: &str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> Self {
        self.header.tensors.push(TensorInfo::new(name, dtype, shape));
        self.data.push(bytes);
        self
    }

    pub(crate) fn with_f32(self, name: &str, shape: &[usize], values: &[f32]) -> Self {
        self.with(name, Dtype::F32, shape, values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    pub(crate) fn with_metadata(mut self, key: &str, text: &str) -> Self {
        self.header.metadata.insert(key.to_owned(), text.to_owned());
        self
    }

    pub(crate) fn place(&self, name: &str) -> usize {
        self.header.tensors.iter().position(|t| t.name == name).unwrap()
    }

    pub(crate) fn bytes_of(&mut self, name: &str) -> &mut Vec<u8> {
        let at = self.place(name);
        &mut self.data[at]
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        let at = self.place(name);
        self.header.tensors.remove(at);
        self.data.remove(at);
        self
    }

    pub(crate) fn file(&self) -> Vec<u8> {
        let mut bytes = self.header.to_bytes().unwrap();
        self.data.iter().for_each(|d| bytes.extend(d));
        bytes
    }

    /// Writes one file that holds its config.
    pub(crate) fn write(&self, dir: &Path) -> PathBuf {
        let path = dir.join("model.safetensors");
        std::fs::write(&path, self.file()).unwrap();
        path
    }

    pub(crate) fn open(&self, dir: &Path) -> Checkpoint {
        Checkpoint::open(&self.write(dir)).unwrap()
    }
}

/// Runs passes from a file or folder to another file.
pub(crate) fn run(from: &Path, passes: &[&dyn Pass], to: &Path) -> Result<()> {
    let checkpoint = Checkpoint::open(from)?;
    std::fs::create_dir_all(to.parent().unwrap()).at("out")?;
    let job = Job {
        checkpoint: &checkpoint,
        passes: passes.to_vec(),
        is_folder: false,
        max_shard_bytes: None,
        keep_files: true,
        force: true,
        resume: false,
        resources: usual(),
    };
    job.run(Target::File(to.to_owned())).map(|_| ())
}

/// Values that look random and are the same everywhere.
pub(crate) fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next()).collect()
}
