//! What a network takes and how fast it runs here: measured in a process of its own, so that peak memory is its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use dlopt_checkpoint::{Checkpoint, Context, Result};
use dlopt_data::{Batch, Dataset, Learns};
use dlopt_kernels::nn::Team;
use dlopt_model::{Decoding, Execution, Mode, Prepared, Summary, Translator, prepare};
use dlopt_train::{Engine, check_shape};
use serde::{Deserialize, Serialize};

use crate::pin::PinnedTeam;
use crate::timing::{Ratio, Timing, in_turns};

/// Batches that calls go through in turns, so that one does not lie in a cache.
const BATCHES: usize = 8;
/// How often a network is loaded to time it.
const LOADS: usize = 3;

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The network.
    pub model: &'a Path,
    /// Another that runs in turns with it.
    pub against: Option<&'a Path>,
    /// Where samples come from.
    pub data: &'a Path,
    /// Which of them.
    pub split: &'a str,
    /// Samples that run together, for throughput.
    pub batches: &'a [usize],
    /// Seconds of each timing.
    pub seconds: f64,
}

/// What a network takes and how fast it runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measurement {
    /// Of all its files.
    pub disk_bytes: u64,
    /// Bytes of tensors times 8 over trained values.
    pub bits_per_weight: f64,
    /// Trained values, as if nothing were compressed.
    pub parameters: u64,
    /// Multiply-adds of products for one sample, zeros included.
    pub multiply_adds: u64,
    /// Of weights and statistics while it runs.
    pub weight_bytes: u64,
    /// The most memory that the process held until the first batches of one sample were done; nothing where the system
    /// does not say.
    pub peak_bytes: Option<u64>,
    /// From opening the file to a network that can run, kernels chosen by the clock included: the median of three.
    pub load_seconds: f64,
    /// Threads that run it.
    pub threads: usize,
    /// The processors that they stay on; empty where they are free.
    #[serde(default)]
    pub pinned: Vec<usize>,
    /// The instructions that kernels use.
    pub level: String,
    /// One sample at a time.
    pub latency: Timing,
    /// The same of the other network, in the same rounds.
    pub other_latency: Option<Timing>,
    /// Its latency over the other's: above 1 is slower.
    pub latency_ratio: Option<Ratio>,
    /// Batches of several samples.
    pub throughput: Vec<Throughput>,
}

/// How fast batches run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Throughput {
    /// Samples that run together.
    pub batch: usize,
    /// Samples a second, at the median.
    pub per_second: f64,
    /// Samples a second over the other's: below 1 is slower.
    pub ratio: Option<f64>,
    /// The calls.
    pub timing: Timing,
}

/// Measures a network.
///
/// # Errors
/// When it cannot be loaded, or does not fit the data.
pub fn measure(request: &Request<'_>, threads: &PinnedTeam) -> Result<Measurement> {
    let team = &threads.team;
    // Inputs stay on the disk: memory is to be the network's.
    let dataset = Dataset::open_within(request.data, 0)?;
    let mut loads = Vec::with_capacity(LOADS);
    let mut own = Contender::load(request.model, &dataset, request.split, 1, team)?;
    loads.push(own.load_seconds);
    own.run()?;
    let peak_bytes = peak_bytes();
    for _ in 1..LOADS {
        loads.push(Contender::load(request.model, &dataset, request.split, 1, team)?.load_seconds);
    }
    loads.sort_by(f64::total_cmp);
    let (latency, other_latency) = timed(&mut own, request, &dataset, 1, threads)?;
    let mut throughput = Vec::with_capacity(request.batches.len());
    for &batch in request.batches {
        let mut many = Contender::load(request.model, &dataset, request.split, batch, team)?;
        let (timing, other) = timed(&mut many, request, &dataset, batch, threads)?;
        // Data with fewer samples have no such batch.
        let batch = many.batches[0].indices.len();
        throughput.push(Throughput {
            batch,
            per_second: 1e6 * batch as f64 / timing.median,
            ratio: other.map(|other| 1.0 / timing.over(&other).median),
            timing,
        });
    }
    let summary = Summary::of(&own.prepared.loaded.config, &own.prepared.loaded.nodes, 1, 0)?;
    Ok(Measurement {
        disk_bytes: own.disk_bytes,
        bits_per_weight: 8.0 * own.tensor_bytes as f64 / own.prepared.parameters.max(1) as f64,
        parameters: own.prepared.parameters as u64,
        multiply_adds: summary.multiply_adds,
        weight_bytes: own.prepared.bytes() as u64,
        peak_bytes,
        load_seconds: loads[LOADS / 2],
        threads: team.threads(),
        pinned: threads.cores().to_vec(),
        level: dlopt_kernels::level().name().to_owned(),
        latency_ratio: other_latency.as_ref().map(|other| latency.over(other)),
        latency,
        other_latency,
        throughput,
    })
}

/// Times a network, in turns with the other where there is one.
fn timed(
    own: &mut Contender,
    request: &Request<'_>,
    dataset: &Dataset,
    batch: usize,
    threads: &PinnedTeam,
) -> Result<(Timing, Option<Timing>)> {
    let load = |path| Contender::load(path, dataset, request.split, batch, &threads.team);
    let other = request.against.map(load).transpose()?;
    let _held = threads.hold();
    let mut timings = match other {
        Some(mut other) => in_turns(&mut [&mut || own.run(), &mut || other.run()], request.seconds)?,
        None => in_turns(&mut [&mut || own.run()], request.seconds)?,
    }
    .into_iter();
    let own = timings.next().expect("one timing for each contender");
    Ok((own, timings.next()))
}

/// A network that is ready to run on batches of one size.
struct Contender {
    prepared: Prepared,
    runner: Runner,
    batches: Vec<Batch>,
    next: usize,
    load_seconds: f64,
    disk_bytes: u64,
    tensor_bytes: u64,
}

enum Runner {
    Forward { engine: Box<Engine>, buffers: Vec<f32> },
    Translate { translator: Box<Translator>, how: Decoding },
}

impl Contender {
    fn load(path: &Path, dataset: &Dataset, split: &str, batch: usize, team: &Arc<Team>) -> Result<Self> {
        let began = Instant::now();
        let checkpoint = Checkpoint::open(path)?;
        let prepared = prepare(&checkpoint, &Execution { batch, ..Execution::default() }, team)?;
        let loaded = &prepared.loaded;
        let runner = match dataset.info().learns {
            Learns::Sequence { .. } => {
                let translator = Translator::new(&loaded.nodes, &loaded.layout, &loaded.params, Arc::clone(team))?;
                Runner::Translate { translator: Box::new(translator), how: Decoding::default() }
            }
            _ => {
                let mut engine = Engine::holding(&prepared, Arc::clone(team), &[]);
                engine.load(&loaded.params, false)?;
                Runner::Forward { engine: Box::new(engine), buffers: loaded.buffers.clone() }
            }
        };
        let load_seconds = began.elapsed().as_secs_f64();
        check_shape(&loaded.config, &checkpoint.name, dataset)?;
        let samples = dataset.split(split)?;
        let size = batch.min(samples.len());
        let mut batches = Vec::with_capacity(BATCHES);
        for first in samples.clone().step_by(size).take_while(|first| first + size <= samples.end).take(BATCHES) {
            let mut own = Batch::default();
            dataset.gather(&(first..first + size).collect::<Vec<_>>(), &mut own)?;
            batches.push(own);
        }
        let mut disk_bytes = 0;
        for file in &checkpoint.files {
            disk_bytes += file.metadata().at(file.display())?.len();
        }
        let tensor_bytes = checkpoint.header.data_bytes();
        Ok(Self { prepared, runner, batches, next: 0, load_seconds, disk_bytes, tensor_bytes })
    }

    /// Runs the next batch.
    fn run(&mut self) -> Result<()> {
        let batch = &self.batches[self.next % self.batches.len()];
        self.next += 1;
        match &mut self.runner {
            Runner::Forward { engine, buffers } => {
                let outputs = engine.forward(&self.prepared.loaded.params, buffers, batch, Mode::Inference)?;
                engine.recycle(std::hint::black_box(outputs));
            }
            Runner::Translate { translator, how } => {
                let said = translator.translate(batch.indices.len(), &batch.inputs, batch.lengths.as_deref(), how);
                std::hint::black_box(said);
            }
        }
        Ok(())
    }
}

/// The most memory that this process has held, where Linux says it.
fn peak_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(1024 * kibibytes)
}
