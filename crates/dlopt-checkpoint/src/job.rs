//! A job: a checkpoint, a chain of passes, and where the result goes.

use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::companions::FILES_KEY;
use crate::error::{Context, Error, Result};
use crate::execute::{Executor, Resources};
use crate::header::Header;
use crate::history::{header_digest, hex};
use crate::pass::{Note, Pass};
use crate::place::{Placement, Sharding};
use crate::report::{PassReport, TensorReport};
use crate::sink::{FileSink, FolderRequest, FolderSink, PipeSink, Sink, check_space, parent};
use crate::source::Checkpoint;

/// Where a result goes.
pub enum Target {
    /// One file, which appears whole or not at all.
    File(PathBuf),
    /// A folder, which appears whole or not at all.
    Folder(PathBuf),
    /// A stream.
    Stream(Box<dyn Write + Send>),
}

/// What to do with which checkpoint.
pub struct Job<'a> {
    /// The input.
    pub checkpoint: &'a Checkpoint,
    /// The passes, first to last.
    pub passes: Vec<&'a dyn Pass>,
    /// Whether the output is a folder; decides how it is cut.
    pub is_folder: bool,
    /// Most bytes of a shard's tensors; `None` cuts a folder as the input was.
    pub max_shard_bytes: Option<u64>,
    /// Whether the small files of the model come along.
    pub keep_files: bool,
    /// Replace an existing output.
    pub force: bool,
    /// Go on with a folder that a killed run left.
    pub resume: bool,
    /// Threads, memory, temporary space.
    pub resources: Resources<'a>,
}

/// What a job will write.
#[derive(Clone, Debug, serde::Serialize)]
pub struct JobPlan {
    /// Bytes of the tensors that are read.
    pub bytes_before: u64,
    /// Bytes of all output files with weights, headers included.
    pub bytes_after: u64,
    /// Least `--memory` that the largest block allows, in bytes.
    pub least_memory_bytes: u64,
    /// The files.
    pub files: Vec<PlannedFile>,
    /// What each pass decided.
    pub passes: Vec<PlannedPass>,
}

/// A file that a job will write.
#[derive(Clone, Debug, serde::Serialize)]
pub struct PlannedFile {
    /// Its name.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// Its tensors.
    pub tensors: Vec<PlannedTensor>,
}

/// A tensor that a job will write.
#[derive(Clone, Debug, serde::Serialize)]
pub struct PlannedTensor {
    /// Its name.
    pub name: String,
    /// Its dtype.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its bytes.
    pub bytes: u64,
}

/// What a pass decided from the header alone.
#[derive(Clone, Debug, serde::Serialize)]
pub struct PlannedPass {
    /// Its verb.
    pub verb: String,
    /// Its resolved options.
    pub options: serde_json::Value,
    /// Why each tensor is treated as it is.
    pub notes: Vec<Note>,
    /// What people should know.
    pub warnings: Vec<String>,
    /// A gate that is not met.
    pub gate: Option<String>,
}

/// What a job did.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Outcome {
    /// What each pass did.
    pub passes: Vec<PassReport>,
    /// Bytes of the tensors that were read.
    pub bytes_before: u64,
    /// Bytes of all output files with weights, headers included.
    pub bytes_after: u64,
    /// Lines to tell (what was left by a killed run, what was left out).
    pub remarks: Vec<String>,
}

impl<'a> Job<'a> {
    /// Says what would be written, without reading a weight (unless a pass's sizes depend on them).
    ///
    /// # Errors
    /// When a pass does not apply.
    pub fn plan(&self) -> Result<JobPlan> {
        let executor = Executor::new(self.checkpoint, &self.passes, &self.resources)?;
        let placement = self.place(&executor)?;
        let files = placement.shards.iter().map(|shard| PlannedFile {
            file: shard.file.clone(),
            bytes: shard.bytes,
            tensors: planned_tensors(&shard.header),
        });
        let passes = executor.chain.stages.iter().map(|stage| PlannedPass {
            verb: stage.pass.verb().to_owned(),
            options: stage.pass.options(),
            notes: stage.plan.notes.clone(),
            warnings: stage.plan.warnings.clone(),
            gate: stage.plan.gate.clone(),
        });
        Ok(JobPlan {
            bytes_before: self.checkpoint.header.data_bytes(),
            bytes_after: placement.bytes(),
            least_memory_bytes: executor.least_memory_bytes(),
            files: files.collect(),
            passes: passes.collect(),
        })
    }

    /// Does the work.
    ///
    /// # Errors
    /// When anything fails; files and folders then are as they were, a stream is cut short.
    pub fn run(&self, target: Target) -> Result<Outcome> {
        if let Target::File(path) | Target::Folder(path) = &target {
            self.refuse_to_overwrite_the_input(path)?;
        }
        let mut executor = Executor::new(self.checkpoint, &self.passes, &self.resources)?;
        let least = executor.least_memory_bytes();
        if least > self.resources.memory_bytes {
            return Err(Error::input(format!(
                "--memory {} is too little: the largest block needs {least} bytes",
                self.resources.memory_bytes
            ))
            .hint(format!("--memory {least}")));
        }
        let placement = self.place(&executor)?;
        let mut remarks: Vec<String> = Vec::new();
        let reports = match target {
            Target::File(path) => {
                check_space(&parent(&path), placement.bytes())?;
                let (sink, left) = FileSink::create(&path, self.force)?;
                remarks.extend(left);
                executor.survey()?;
                let reports = write_all(&mut executor, &placement, &sink)?;
                self.finish_stream()?;
                sink.finish()?;
                reports
            }
            Target::Stream(out) => {
                let held = (self.resources.memory_bytes / 4) as usize;
                let sink = PipeSink::new(out, held, self.resources.tmp_dir.clone());
                executor.survey()?;
                let reports = write_all(&mut executor, &placement, &sink)?;
                self.finish_stream()?;
                sink.finish(placement.bytes())?;
                reports
            }
            Target::Folder(path) => self.run_into_folder(&path, &mut executor, &placement, &mut remarks)?,
        };
        Ok(Outcome {
            passes: executor.pass_reports(reports),
            bytes_before: self.checkpoint.header.data_bytes(),
            bytes_after: placement.bytes(),
            remarks,
        })
    }

    fn run_into_folder(
        &self,
        path: &Path,
        executor: &mut Executor<'_>,
        placement: &Placement,
        remarks: &mut Vec<String>,
    ) -> Result<Vec<Vec<TensorReport>>> {
        let request = FolderRequest {
            target: path,
            placement,
            fingerprint: self.fingerprint(placement)?,
            force: self.force,
            resume: self.resume,
        };
        check_space(&parent(path), placement.bytes())?;
        let (mut sink, finished, notes) = FolderSink::create(&request)?;
        remarks.extend(notes);
        executor.survey()?;
        let mut reports: Vec<Vec<TensorReport>> = vec![Vec::new(); self.passes.len()];
        for (s, done) in finished.into_iter().enumerate() {
            let own = if let Some(done) = done {
                done.reports
            } else {
                let units: Vec<usize> = (0..placement.parts.len())
                    .filter(|&u| placement.parts[u].first().map_or(s == 0, |&(shard, _)| shard == s))
                    .collect();
                sink.write(s, 0, &placement.shards[s].head)?;
                let own = executor.write(&units, &placement.parts, &sink)?;
                sink.finish_shard(s, placement, own.clone())?;
                own
            };
            for (all, own) in reports.iter_mut().zip(own) {
                all.extend(own);
            }
        }
        self.finish_stream()?;
        let config = executor.last().plan.metadata.get("config").map(String::as_str);
        let none = crate::companions::Companions::default();
        let companions = if self.keep_files { &self.checkpoint.companions } else { &none };
        sink.finish(placement, config, companions)?;
        Ok(reports)
    }

    /// Decides files and offsets.
    fn place(&self, executor: &Executor<'_>) -> Result<Placement> {
        let plan = &executor.last().plan;
        let mut metadata = plan.metadata.clone();
        metadata.entry("format".to_owned()).or_insert_with(|| "pt".to_owned());
        let sharding = if !self.is_folder {
            if self.keep_files
                && let Some(text) = self.checkpoint.companions.to_metadata()?
            {
                metadata.insert(FILES_KEY.to_owned(), text);
            }
            Sharding::One
        } else {
            metadata.remove("config");
            match self.max_shard_bytes {
                Some(bytes) => Sharding::AtMost(bytes),
                None if self.checkpoint.shards.len() == 1 => Sharding::One,
                None => {
                    let s = executor.chain.stages.len() - 1;
                    let shard = |u| self.checkpoint.shard_of.get(executor.first_source(s, u)).copied().unwrap_or(0);
                    Sharding::ByUnit((0..plan.units.len()).map(shard).collect())
                }
            }
        };
        Placement::new(plan, &sharding, &metadata)
    }

    fn finish_stream(&self) -> Result<()> {
        self.checkpoint.stream().map_or(Ok(()), crate::stream::Stream::finish)
    }

    /// Inputs are never modified, so an output may not be one of them.
    fn refuse_to_overwrite_the_input(&self, path: &Path) -> Result<()> {
        let Ok(target) = path.canonicalize() else { return Ok(()) };
        for file in &self.checkpoint.files {
            let Ok(input) = file.canonicalize() else { continue };
            if input.starts_with(&target) {
                return Err(Error::usage(format!("{}: is the input, which is never modified", path.display()))
                    .hint("write to another name with -o"));
            }
        }
        Ok(())
    }

    /// What must be equal for finished shards to be of use to this job.
    fn fingerprint(&self, placement: &Placement) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(env!("CARGO_PKG_VERSION"));
        hash.update(header_digest(&self.checkpoint.header));
        for pass in &self.passes {
            hash.update(pass.verb());
            hash.update(pass.options().to_string());
        }
        for shard in &placement.shards {
            hash.update(&shard.file);
            hash.update(&shard.head);
        }
        for file in &self.checkpoint.files {
            let meta = file.metadata().at(file.display())?;
            let modified = meta.modified().ok().and_then(|m| m.duration_since(std::time::UNIX_EPOCH).ok());
            hash.update(format!("{} {:?}", meta.len(), modified.map(|m| m.as_nanos())));
        }
        Ok(hex(&hash.finalize()))
    }
}

fn write_all(executor: &mut Executor<'_>, placement: &Placement, sink: &dyn Sink) -> Result<Vec<Vec<TensorReport>>> {
    sink.write(0, 0, &placement.shards[0].head)?;
    let units: Vec<usize> = (0..placement.parts.len()).collect();
    executor.write(&units, &placement.parts, sink)
}

fn planned_tensors(header: &Header) -> Vec<PlannedTensor> {
    let planned = header.tensors.iter().map(|t| PlannedTensor {
        name: t.name.clone(),
        dtype: crate::dtype::dtype_name(t.dtype).to_owned(),
        shape: t.shape.clone(),
        bytes: t.bytes(),
    });
    planned.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;
    use std::sync::atomic::AtomicBool;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::carry::Carry;
    use crate::dtype::Dtype;
    use crate::execute::NoProgress;
    use crate::header::TensorInfo;

    #[derive(Clone, Default)]
    struct Collected(Arc<Mutex<Vec<u8>>>);

    impl Write for Collected {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Odd sizes, an empty tensor, a scalar, odd names.
    fn sample() -> Vec<u8> {
        let header = Header {
            tensors: vec![
                TensorInfo::new("wide", Dtype::F32, [300, 1001]),
                TensorInfo::new("scalar", Dtype::F32, []),
                TensorInfo::new("empty", Dtype::BF16, [0, 7]),
                TensorInfo::new("ün.icode . dots", Dtype::I8, [13]),
                TensorInfo::new("last", Dtype::U8, [70_000]),
            ],
            metadata: BTreeMap::from([("format".to_owned(), "pt".to_owned())]),
        };
        let mut bytes = header.to_bytes().unwrap();
        bytes.extend((0..header.data_bytes()).map(|i| (i * 31 % 251) as u8));
        bytes
    }

    struct Slow(std::io::Cursor<Vec<u8>>);

    impl Read for Slow {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let some = into.len().min(1000);
            self.0.read(&mut into[..some])
        }
    }

    fn convert(
        checkpoint: &Checkpoint,
        target: Target,
        threads: usize,
        memory_bytes: u64,
        max_shard_bytes: Option<u64>,
    ) -> Result<Outcome> {
        let job = Job {
            checkpoint,
            passes: vec![&Carry],
            is_folder: matches!(target, Target::Folder(_)),
            max_shard_bytes,
            keep_files: true,
            force: false,
            resume: false,
            resources: Resources {
                threads,
                memory_bytes,
                tmp_dir: std::env::temp_dir(),
                progress: &NoProgress,
                stop: &AtomicBool::new(false),
            },
        };
        job.run(target)
    }

    #[test]
    fn file_folder_and_stream_give_the_same_bytes_at_any_threads_and_memory() {
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("in.safetensors");
        std::fs::write(&input, sample()).unwrap();
        for (i, (threads, memory)) in [(1, 1 << 20), (2, 3 << 20), (64, 128 << 20)].into_iter().enumerate() {
            let file = dir.path().join(format!("out{i}.safetensors"));
            convert(&Checkpoint::open(&input).unwrap(), Target::File(file.clone()), threads, memory, None).unwrap();
            assert_eq!(std::fs::read(&file).unwrap(), sample());

            let folder = dir.path().join(format!("out{i}"));
            convert(&Checkpoint::open(&input).unwrap(), Target::Folder(folder.clone()), threads, memory, Some(70_000))
                .unwrap();
            assert!(folder.join("model.safetensors.index.json").exists());
            let back = Collected::default();
            let target = Target::Stream(Box::new(back.clone()));
            convert(&Checkpoint::open(&folder).unwrap(), target, threads, memory, None).unwrap();
            assert_eq!(*back.0.lock().unwrap(), sample());

            let piped = Collected::default();
            let stream =
                Checkpoint::from_stream(Box::new(Slow(std::io::Cursor::new(sample()))), "pipe".into()).unwrap();
            convert(&stream, Target::Stream(Box::new(piped.clone())), threads, memory, None).unwrap();
            assert_eq!(*piped.0.lock().unwrap(), sample());
        }
    }

    #[test]
    fn a_cut_or_overlong_stream_leaves_nothing_behind() {
        for (bytes, message) in [
            (sample()[..sample().len() - 1].to_vec(), "inside tensor `last`"),
            ([sample(), vec![0]].concat(), "the stream goes on after them"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let stream = Checkpoint::from_stream(Box::new(std::io::Cursor::new(bytes)), "pipe".into()).unwrap();
            let target = Target::File(dir.path().join("out.safetensors"));
            let error = convert(&stream, target, 2, 1 << 20, None).unwrap_err();
            assert!(error.message().contains(message), "{error}");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn the_input_is_never_the_output() {
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("in.safetensors");
        std::fs::write(&input, sample()).unwrap();
        let error =
            convert(&Checkpoint::open(&input).unwrap(), Target::File(input.clone()), 1, 1 << 20, None).unwrap_err();
        assert!(error.message().contains("never modified"), "{error}");
    }
}
