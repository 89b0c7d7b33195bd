//! Questions to peers and their answers, over the transport that all shards share.

use crate::config::Config;
use crate::metrics::Metrics;
use crate::transport::{Frame, Transport};
use crate::wire::{self, Answer, Refusal};
use flotilla_types::{Clock, Monotonic, NodeId, ShardId};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// A peer that has said its disk is full is sent no records for this long, by any shard; then it is tried.
const FULL_PAUSE: Duration = Duration::from_secs(1);

/// The way to every peer.
#[derive(Debug)]
pub(crate) struct Links {
    pub node: NodeId,
    pub config: Config,
    pub transport: Arc<dyn Transport>,
    pub metrics: Metrics,
    /// Questions without an answer yet. Bounded by those who ask: each shard has a pipeline per replica.
    waiting: Mutex<HashMap<u64, Asked>>,
    /// Peers without room for records, and when they said so last.
    full: Mutex<BTreeMap<NodeId, Monotonic>>,
    clock: Arc<dyn Clock>,
    next_call: AtomicU64,
}

#[derive(Debug)]
struct Asked {
    peer: NodeId,
    tell: oneshot::Sender<Result<Answer, CallError>>,
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    #[error("unreachable: {0}")]
    Unreachable(String),
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    #[error("refused: {0}")]
    Refused(Refusal),
    #[error("the answer is not to the question")]
    Unfit,
}

/// An answer that is on its way. Dropping it forgets the question.
#[derive(Debug)]
pub(crate) struct Pending {
    links: Arc<Links>,
    pub call: u64,
    answer: oneshot::Receiver<Result<Answer, CallError>>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.links.waiting.lock().remove(&self.call);
    }
}

impl Pending {
    /// Waits until `ttl` has passed. May be called again after it was dropped halfway.
    pub async fn wait(&mut self, ttl: Duration) -> Result<Answer, CallError> {
        match tokio::time::timeout(ttl, &mut self.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(CallError::Unreachable("the connection was lost".into())),
            Err(_) => Err(CallError::TimedOut(ttl)),
        }
    }
}

impl Links {
    pub fn new(
        node: NodeId,
        config: Config,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
        first_call: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            node,
            config,
            transport,
            metrics: Metrics::default(),
            waiting: Mutex::default(),
            full: Mutex::default(),
            clock,
            // Not from 1: answers to an earlier life of this node must not fit.
            next_call: AtomicU64::new(first_call.max(1)),
        })
    }

    /// A number for a question, or for anything that must differ from earlier ones.
    pub fn number(&self) -> u64 {
        self.next_call.fetch_add(1, Ordering::Relaxed)
    }

    /// Expects an answer from `peer`.
    pub fn expect(self: &Arc<Self>, peer: NodeId) -> Pending {
        let call = self.number();
        let (tell, answer) = oneshot::channel();
        self.waiting.lock().insert(call, Asked { peer, tell });
        Pending { links: self.clone(), call, answer }
    }

    /// Asks and waits.
    pub async fn ask(
        self: &Arc<Self>,
        peer: NodeId,
        frame: Frame,
        ttl: Duration,
    ) -> Result<Answer, CallError> {
        let mut pending = self.expect(peer);
        let frame = Frame { call: pending.call, ..frame };
        let asked = async {
            self.send(peer, frame).await?;
            pending.wait(ttl).await
        };
        tokio::time::timeout(ttl, asked).await.unwrap_or(Err(CallError::TimedOut(ttl)))
    }

    /// Sends without an answer awaited, or with one that is expected already.
    pub async fn send(&self, peer: NodeId, frame: Frame) -> Result<(), CallError> {
        self.transport.send(peer, frame).await.map_err(|error| CallError::Unreachable(error.why))
    }

    /// Answers a question. If that fails the asker will notice.
    pub async fn answer(&self, peer: NodeId, shard: ShardId, call: u64, answer: Answer) {
        if call != 0 {
            let _ = self.send(peer, wire::answer(shard, call, &answer)).await;
        }
    }

    /// An answer came.
    pub fn answered(&self, from: NodeId, frame: &Frame) {
        let Ok(answer) = wire::read_answer(frame) else {
            self.metrics.frames_malformed.inc();
            return;
        };
        let asked = {
            let mut waiting = self.waiting.lock();
            match waiting.get(&frame.call) {
                Some(asked) if asked.peer == from => waiting.remove(&frame.call),
                _ => None,
            }
        };
        if let Some(asked) = asked {
            let answer = match answer {
                Answer::Refused(refusal) => Err(CallError::Refused(refusal)),
                answer => Ok(answer),
            };
            let _ = asked.tell.send(answer);
        }
    }

    /// A peer said that it has no room for records.
    pub fn note_full(&self, peer: NodeId) {
        self.full.lock().insert(peer, self.clock.monotonic());
    }

    /// Whether a peer said so just now.
    pub fn is_full(&self, peer: NodeId) -> bool {
        let said = self.full.lock().get(&peer).copied();
        said.is_some_and(|said| self.clock.monotonic().since(said) < FULL_PAUSE)
    }

    /// The connections to `peer` are lost: nobody waits for its answers any more.
    pub fn lost(&self, peer: NodeId) {
        let gone: Vec<Asked> = {
            let mut waiting = self.waiting.lock();
            waiting.extract_if(|_, asked| asked.peer == peer).map(|(_, asked)| asked).collect()
        };
        for asked in gone {
            let _ = asked.tell.send(Err(CallError::Unreachable("the connection was lost".into())));
        }
    }
}
