//! Read barriers, batched: whoever comes while a round trip is under way waits for the next one.

use crate::error::ProposeError;
use crate::shard::Shard;
use flotilla_types::LogIndex;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::oneshot;

type Tell = oneshot::Sender<Result<LogIndex, ProposeError>>;

/// Readers that wait for a round trip to begin.
#[derive(Debug, Default)]
pub(crate) struct Barrier(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Tell>,
    is_running: bool,
}

impl Barrier {
    pub async fn wait(&self, shard: Arc<Shard>) -> Result<LogIndex, ProposeError> {
        let (tell, answer) = oneshot::channel();
        let must_run = {
            let mut state = self.0.lock();
            state.waiting.push(tell);
            !std::mem::replace(&mut state.is_running, true)
        };
        if must_run {
            let runtime = shard.runtime.clone();
            runtime.spawn(async move { shard.barrier.run(&shard).await });
        }
        answer.await.unwrap_or(Err(ProposeError::Stopped))
    }

    async fn run(&self, shard: &Shard) {
        loop {
            let readers = {
                let mut state = self.0.lock();
                if state.waiting.is_empty() {
                    state.is_running = false;
                    return;
                }
                std::mem::take(&mut state.waiting)
            };
            let heard = shard.hear_majority().await;
            for reader in readers {
                let _ = reader.send(heard.clone());
            }
        }
    }
}
