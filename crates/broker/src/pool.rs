//! Blocking work off the tasks that serve connections: reads from disk, checks of large compressed bodies.
//!
//! Bounded twice: how many run at once, and how many may wait for it. Under a simulation everything runs
//! in place, so that one seed gives one order.

use crate::metrics::Metrics;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;

/// Where blocking work runs.
#[derive(Debug)]
pub struct Pool {
    places: Option<Arc<Semaphore>>,
    waiting: AtomicUsize,
    queue: usize,
    metrics: Metrics,
}

/// More work waits than the pool allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the work pool's queue is full: {0} waiting")]
pub struct PoolFull(pub usize);

impl Pool {
    /// `threads` at once, `queue` waiting.
    pub(crate) fn threads(threads: usize, queue: usize, metrics: Metrics) -> Self {
        Self { places: Some(Arc::new(Semaphore::new(threads))), waiting: AtomicUsize::new(0), queue, metrics }
    }

    /// Everything runs at once where it was asked for.
    pub(crate) fn in_place(metrics: Metrics) -> Self {
        Self { places: None, waiting: AtomicUsize::new(0), queue: usize::MAX, metrics }
    }

    /// Runs `work` and waits for it. Work that was begun runs to its end even if nobody waits any more.
    #[expect(clippy::disallowed_methods, reason = "the pool itself: bounded by its places")]
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolFull> {
        let Some(places) = &self.places else { return Ok(work()) };
        let place = match places.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                let waiting = Waiting::enter(&self.waiting);
                if waiting.before >= self.queue {
                    self.metrics.shed("pool");
                    return Err(PoolFull(waiting.before));
                }
                places.clone().acquire_owned().await.expect("the pool's semaphore is never closed")
            }
        };
        let task = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(place);
            done
        });
        match task.await {
            Ok(done) => Ok(done),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(PoolFull(0)),
        }
    }
}

struct Waiting<'a> {
    count: &'a AtomicUsize,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        Self { before: count.fetch_add(1, Ordering::Relaxed), count }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
