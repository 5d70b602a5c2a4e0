//! Batches in order, gathered ahead of the step that uses them.
//!
//! What lies in memory is gathered by the caller's own thread: that takes microseconds, less than handing it over would.
//! What lies on disk is read by a thread of its own, a bounded number of batches ahead. Batches whose samples are changed
//! on their way come from as many threads as are asked for, each a batch at a time.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use dlopt_checkpoint::{Error, Result};

use crate::change::Changes;
use crate::dataset::{Batch, Dataset};

/// Cuts an order into batches of `size` samples; the last may be smaller.
pub fn batches(order: Vec<usize>, size: usize) -> impl Iterator<Item = Vec<usize>> + Send + 'static {
    let size = size.max(1);
    (0..order.len()).step_by(size).map(move |begin| order[begin..order.len().min(begin + size)].to_vec())
}

/// Gives batches in the order they were asked for.
pub struct Loader {
    source: Source,
}

enum Source {
    Direct { dataset: Arc<Dataset>, order: Box<dyn Iterator<Item = Vec<usize>> + Send>, spare: Vec<Batch> },
    Thread { batches: Option<Receiver<Result<Batch>>>, used: Sender<Batch>, thread: Option<JoinHandle<()>> },
    Team(Team),
}

/// Threads that each gather every so manieth batch.
struct Team {
    batches: Vec<Receiver<Result<Batch>>>,
    used: Vec<Sender<Batch>>,
    threads: Vec<JoinHandle<()>>,
    /// Batches that were given.
    given: usize,
    is_over: bool,
}

impl Loader {
    /// Gathers the batches of `order`, each a list of samples, at most `ahead` of them (at least one) before they are
    /// asked for.
    pub fn new<I>(dataset: Arc<Dataset>, order: I, ahead: usize) -> Self
    where
        I: IntoIterator<Item = Vec<usize>>,
        I::IntoIter: Send + 'static,
    {
        let order = Box::new(order.into_iter());
        if dataset.is_in_memory() {
            return Self { source: Source::Direct { dataset, order, spare: Vec::new() } };
        }
        let (filled, batches) = sync_channel(ahead.max(1));
        let (used, spare) = channel();
        let work = {
            let dataset = Arc::clone(&dataset);
            move || gather_all(&dataset, order, &filled, &spare)
        };
        match std::thread::Builder::new().name("dlopt-read-ahead".to_owned()).spawn(work) {
            Ok(thread) => Self { source: Source::Thread { batches: Some(batches), used, thread: Some(thread) } },
            Err(e) => {
                // No thread, no batches: the first one asked for says why.
                let (failed, batches) = sync_channel(1);
                let _ = failed.send(Err(Error::input(format!("no thread to read ahead: {e}"))));
                Self { source: Source::Thread { batches: Some(batches), used, thread: None } }
            }
        }
    }

    /// Gathers batches on `threads` threads, every sample changed; otherwise as [`Loader::new`].
    pub fn changing(
        dataset: &Arc<Dataset>,
        order: Vec<Vec<usize>>,
        ahead: usize,
        changes: &dyn Changes,
        threads: usize,
    ) -> Self {
        let threads = threads.clamp(1, order.len().max(1));
        let mut team = Team { batches: Vec::new(), used: Vec::new(), threads: Vec::new(), given: 0, is_over: false };
        let mut own: Vec<Vec<Vec<usize>>> = vec![Vec::new(); threads];
        for (number, batch) in order.into_iter().enumerate() {
            own[number % threads].push(batch);
        }
        for order in own {
            let (filled, batches) = sync_channel(ahead.div_ceil(threads));
            let (used, spare) = channel::<Batch>();
            let (dataset, mut change) = (Arc::clone(dataset), changes.change());
            let failed = filled.clone();
            let work = move || {
                for indices in order {
                    let mut batch = spare.try_recv().unwrap_or_default();
                    let gathered = dataset.gather_changed(&indices, &mut batch, &mut *change).map(|()| batch);
                    let is_last = gathered.is_err();
                    if filled.send(gathered).is_err() || is_last {
                        return;
                    }
                }
            };
            match std::thread::Builder::new().name("dlopt-augment".to_owned()).spawn(work) {
                Ok(thread) => team.threads.push(thread),
                Err(e) => {
                    let _ = failed.try_send(Err(Error::input(format!("no thread to read ahead: {e}"))));
                }
            }
            team.batches.push(batches);
            team.used.push(used);
        }
        Self { source: Source::Team(team) }
    }

    /// Takes a batch that is not needed any more; its buffers are used again.
    pub fn give_back(&mut self, batch: Batch) {
        match &mut self.source {
            Source::Direct { spare, .. } => spare.push(batch),
            // A thread that is done needs no buffers.
            Source::Thread { used, .. } => drop(used.send(batch)),
            // The batch that was given last, or one of those before it: the threads need about as many each.
            Source::Team(team) => {
                let thread = team.given.saturating_sub(1) % team.used.len();
                drop(team.used[thread].send(batch));
            }
        }
    }
}

impl Iterator for Loader {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.source {
            Source::Direct { dataset, order, spare } => {
                let indices = order.next()?;
                let mut batch = spare.pop().unwrap_or_default();
                Some(dataset.gather(&indices, &mut batch).map(|()| batch))
            }
            Source::Thread { batches, thread, .. } => match batches.as_ref()?.recv() {
                Ok(batch) => Some(batch),
                // The thread let go of its end: it is done, unless it died.
                Err(_) => match thread.take()?.join() {
                    Ok(()) => None,
                    Err(_) => Some(Err(Error::input("the thread that reads ahead died"))),
                },
            },
            Source::Team(team) => team.next(),
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        match &mut self.source {
            Source::Direct { .. } => {}
            Source::Thread { batches, thread, .. } => {
                // A thread that waits for room sees that nobody listens any more.
                drop(batches.take());
                if let Some(thread) = thread.take() {
                    let _ = thread.join();
                }
            }
            Source::Team(team) => {
                team.batches.clear();
                for thread in team.threads.drain(..) {
                    let _ = thread.join();
                }
            }
        }
    }
}

impl Team {
    fn next(&mut self) -> Option<Result<Batch>> {
        if self.is_over {
            return None;
        }
        let thread = self.given % self.batches.len();
        self.given += 1;
        if let Ok(batch) = self.batches[thread].recv() {
            self.is_over = batch.is_err();
            return Some(batch);
        }
        // The first thread without a next batch: all are done, unless one died.
        self.is_over = true;
        self.batches.clear();
        let died = self.threads.drain(..).any(|thread| thread.join().is_err());
        died.then(|| Err(Error::input("a thread that changes samples died")))
    }
}

/// Fills batches until the order ends, one fails, or nobody wants them.
fn gather_all(
    dataset: &Dataset,
    order: impl Iterator<Item = Vec<usize>>,
    filled: &SyncSender<Result<Batch>>,
    spare: &Receiver<Batch>,
) {
    for indices in order {
        let mut batch = spare.try_recv().unwrap_or_default();
        let gathered = dataset.gather(&indices, &mut batch).map(|()| batch);
        let is_last = gathered.is_err();
        if filled.send(gathered).is_err() || is_last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::epoch_order;
    use dlopt_checkpoint::Dtype;

    fn datasets(bad: Option<usize>) -> [Arc<Dataset>; 2] {
        let mut values: Vec<f32> = (0..300).map(|x| x as f32).collect();
        if let Some(bad) = bad {
            values[bad] = f32::INFINITY;
        }
        let bytes = crate::dataset::tests::file_of(
            &[
                ("inputs", Dtype::F32, &[100, 3], values.iter().flat_map(|x| x.to_le_bytes()).collect()),
                ("labels", Dtype::U8, &[100], (0..100).map(|i| i % 7).collect()),
            ],
            None,
        );
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.safetensors");
        std::fs::write(&path, bytes).unwrap();
        [u64::MAX, 0].map(|memory| Arc::new(Dataset::open_within(&path, memory).unwrap()))
    }

    #[test]
    fn batches_come_in_order_from_memory_and_from_disk() {
        for dataset in datasets(None) {
            let order = epoch_order(0..100, 5, 0);
            let mut loader = Loader::new(Arc::clone(&dataset), batches(order.clone(), 8), 3);
            let mut seen = Vec::new();
            while let Some(batch) = loader.next() {
                let batch = batch.unwrap();
                assert_eq!(batch.inputs[0], 3.0 * batch.indices[0] as f32);
                assert_eq!(batch.inputs.len(), 3 * batch.indices.len());
                seen.extend_from_slice(&batch.indices);
                loader.give_back(batch);
            }
            assert_eq!(seen, order);
            assert!(loader.next().is_none());
        }
    }

    #[test]
    fn a_list_of_batches_is_an_order() {
        for dataset in datasets(None) {
            let loader = Loader::new(dataset, vec![vec![3, 1], vec![], vec![99]], 1);
            let sizes: Vec<_> = loader.map(|batch| batch.unwrap().labels).collect();
            assert_eq!(sizes, [vec![3, 1], vec![], vec![1]]);
        }
    }

    #[test]
    fn a_loader_can_be_dropped_in_the_middle() {
        for dataset in datasets(None) {
            let mut loader = Loader::new(dataset, batches((0..100).collect(), 1), 2);
            assert!(loader.next().unwrap().is_ok());
        }
    }

    #[test]
    fn a_bad_sample_is_told_where_its_batch_comes() {
        for dataset in datasets(Some(40)) {
            let mut loader = Loader::new(dataset, batches((0..100).collect(), 10), 4);
            assert!(loader.next().unwrap().is_ok());
            let error = loader.next().unwrap().unwrap_err();
            assert!(error.message().contains("sample 13: element 1 is infinite"), "{error}");
        }
    }

    #[test]
    fn the_last_batch_holds_the_rest() {
        let sizes = |samples: usize, size| batches((0..samples).collect(), size).map(|b| b.len()).collect::<Vec<_>>();
        assert_eq!(sizes(7, 3), [3, 3, 1]);
        assert!(sizes(0, 3).is_empty());
        assert_eq!(sizes(2, 0), [1, 1]);
    }
}
