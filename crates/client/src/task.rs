//! The one place where this crate's tasks begin. Each ends when its owner is dropped.

use std::future::Future;
use tokio::task::{JoinHandle, JoinSet};

/// A task that is stopped when this is dropped.
#[derive(Debug)]
pub(crate) struct Owned(JoinHandle<()>);

impl Owned {
    /// Begins a task.
    #[expect(clippy::disallowed_methods, reason = "the client's named place; the handle owns the task")]
    pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }

    /// Stops it at its next pause.
    pub(crate) fn stop(&self) {
        self.0.abort();
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Tasks that are waited for together, and stopped when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Group(parking_lot::Mutex<JoinSet<()>>);

impl Group {
    /// Begins one more.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.lock().spawn(task);
    }

    /// Waits until all have ended by themselves.
    pub(crate) async fn join(&self) {
        let mut tasks = std::mem::take(&mut *self.0.lock());
        while tasks.join_next().await.is_some() {}
    }
}
