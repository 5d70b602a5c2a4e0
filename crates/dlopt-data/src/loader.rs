//! Batches in order, gathered ahead of the step that uses them.
//!
//! What lies in memory is gathered by the caller's own thread: that takes microseconds, less than handing it over would.
//! What lies on disk is read by a thread of its own, a bounded number of batches ahead.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use dlopt_checkpoint::{Error, Result};

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

    /// Takes a batch that is not needed any more; its buffers are used again.
    pub fn give_back(&mut self, batch: Batch) {
        match &mut self.source {
            Source::Direct { spare, .. } => spare.push(batch),
            // A thread that is done needs no buffers.
            Source::Thread { used, .. } => drop(used.send(batch)),
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
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        if let Source::Thread { batches, thread, .. } = &mut self.source {
            // A thread that waits for room sees that nobody listens any more.
            drop(batches.take());
            if let Some(thread) = thread.take() {
                let _ = thread.join();
            }
        }
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
