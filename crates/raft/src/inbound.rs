//! Frames from peers to shards. Requests of one run (peer, shard, stream) are taken in the order they came.

use crate::host::Host;
use crate::metrics::Cause;
use crate::shard::Shard;
use crate::transport::{Frame, Lane};
use crate::types::{Snapshot, SnapshotMeta, Types, Vote, from_raft, to_raft};
use crate::wire::{self, Answer, FrameKind, Refusal};
use bytes::{Bytes, BytesMut};
use flotilla_machine::Kind;
use flotilla_types::{NodeId, ShardId};
use futures::StreamExt;
use openraft::raft::AppendEntriesRequest;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;

/// A run without requests for this long is closed.
const RUN_IDLE: Duration = Duration::from_secs(10);
/// Largest snapshot that is taken in. A shard's small state is far below.
const SNAPSHOT_MAX_BYTES: u64 = 256 << 20;

type Request = (u64, AppendEntriesRequest<Types>);

/// What comes in and is not finished.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    runs: Mutex<HashMap<(NodeId, ShardId), Run>>,
    /// At most one snapshot per peer and shard.
    snapshots: Mutex<HashMap<(NodeId, ShardId), Incoming>>,
}

#[derive(Debug)]
struct Run {
    name: u64,
    requests: mpsc::Sender<Request>,
}

#[derive(Debug)]
struct Incoming {
    transfer: u64,
    bytes: BytesMut,
}

impl Host {
    /// A request to a shard of this node.
    pub(crate) fn dispatch(self: &Arc<Self>, from: NodeId, kind: FrameKind, frame: Frame) {
        let Some(shard) = self.shard(frame.shard).filter(|shard| !shard.is_stopped()) else {
            self.refuse(from, &frame, Refusal::UnknownShard);
            return;
        };
        if shard.broken().is_some() {
            self.refuse(from, &frame, Refusal::Stopped);
            return;
        }
        let taken = match kind {
            FrameKind::Append => self.append(from, &shard, &frame),
            FrameKind::Vote | FrameKind::PreVote => self.vote(from, shard, kind, &frame),
            FrameKind::Snapshot => self.snapshot(from, shard, &frame),
            FrameKind::Transfer => self.transfer(from, shard, &frame),
            FrameKind::Answer | FrameKind::Liveness | FrameKind::Rest | FrameKind::Wake => Ok(()),
        };
        if let Err(refusal) = taken {
            match refusal {
                Refusal::Malformed => self.links.metrics.frames_malformed.inc(),
                Refusal::Busy => self.links.metrics.frames_refused_busy.inc(),
                Refusal::Full => self.links.metrics.frames_refused_full.inc(),
                _ => 0,
            };
            self.refuse(from, &frame, refusal);
        }
    }

    fn refuse(&self, from: NodeId, frame: &Frame, refusal: Refusal) {
        self.answer(from, frame.shard, frame.call, Answer::Refused(refusal));
    }

    fn answer(&self, to: NodeId, shard: ShardId, call: u64, answer: Answer) {
        if call != 0 {
            let links = self.links.clone();
            self.runtime.spawn(async move { links.answer(to, shard, call, answer).await });
        }
    }

    fn append(self: &Arc<Self>, from: NodeId, shard: &Arc<Shard>, frame: &Frame) -> Result<(), Refusal> {
        // Before anything is decoded or written. The sender begins another run after a pause, from what this
        // replica has; heartbeats, which carry no batch, keep the two in touch meanwhile.
        if !frame.payloads.is_empty()
            && shard.replica.kind == Kind::Partition
            && self.is_full.load(Ordering::Acquire)
        {
            return Err(Refusal::Full);
        }
        let (name, request) = wire::read_append(frame).map_err(|error| {
            tracing::warn!(%from, shard = %shard.id(), %error, "an append frame is refused");
            Refusal::Malformed
        })?;
        if !request.entries.is_empty() {
            shard.wake("entries from the leader");
        }
        if frame.lane == Lane::Control {
            self.heartbeat(from, shard.clone(), frame.call, request);
            return Ok(());
        }
        let key = (from, shard.id());
        let mut request = (frame.call, request);
        let mut runs = self.intake.runs.lock();
        if let Some(run) = runs.get(&key).filter(|run| run.name == name) {
            match run.requests.try_send(request) {
                Ok(()) => return Ok(()),
                Err(mpsc::error::TrySendError::Full(_)) => return Err(Refusal::Busy),
                // It ended meanwhile, by an answer that ends it at the sender too, or by idleness.
                Err(mpsc::error::TrySendError::Closed(back)) => request = back,
            }
        }
        // The sender bounds a run; twice that is room enough for any that keeps to it.
        let (requests, intake) = mpsc::channel(2 * self.links.config.pipeline_max_messages.max(1));
        let _ = requests.try_send(request);
        runs.insert(key, Run { name, requests });
        drop(runs);
        let (host, shard) = (self.clone(), shard.clone());
        self.runtime.spawn(async move {
            host.run(from, &shard, intake).await;
            let mut runs = host.intake.runs.lock();
            if runs.get(&key).is_some_and(|run| run.name == name && run.requests.is_closed()) {
                runs.remove(&key);
            }
        });
        Ok(())
    }

    /// Feeds one run to consensus and sends its answers, in order.
    async fn run(&self, from: NodeId, shard: &Shard, intake: mpsc::Receiver<Request>) {
        let calls = Arc::new(Mutex::new(VecDeque::new()));
        let asked = calls.clone();
        let requests = futures::stream::unfold(intake, move |mut intake| {
            let asked = asked.clone();
            async move {
                let (call, request) = tokio::time::timeout(RUN_IDLE, intake.recv()).await.ok()??;
                asked.lock().push_back(call);
                Some((request, intake))
            }
        });
        let mut answers = Box::pin(shard.raft.stream_append(requests));
        while let Some(answer) = answers.next().await {
            let call = calls.lock().pop_front().unwrap_or(0);
            let answer = answer.map_or(Answer::Refused(Refusal::Stopped), Answer::Append);
            self.links.answer(from, shard.id(), call, answer).await;
        }
        // Whatever follows a refusal in this run is not answered: its sender has begun another.
    }

    fn heartbeat(&self, from: NodeId, shard: Arc<Shard>, call: u64, request: AppendEntriesRequest<Types>) {
        let links = self.links.clone();
        self.runtime.spawn(async move {
            let once = futures::stream::iter([request]);
            let mut answers = Box::pin(shard.raft.stream_append(once));
            let answer = match answers.next().await {
                Some(Ok(answer)) => Answer::Append(answer),
                Some(Err(_)) | None => Answer::Refused(Refusal::Stopped),
            };
            links.answer(from, shard.id(), call, answer).await;
        });
    }

    fn vote(&self, from: NodeId, shard: Arc<Shard>, kind: FrameKind, frame: &Frame) -> Result<(), Refusal> {
        let request = wire::read_vote(frame).map_err(|_| Refusal::Malformed)?;
        // Who rests has heard nothing of its leader for long, and would let anybody lead. But the leader lives:
        // it is asked to wake and show itself, and the candidate to come again.
        if shard.is_resting() && !request.leadership_transfer {
            let leader = shard.observe().leader;
            if let Some(leader) = leader.filter(|leader| *leader != from && self.is_alive(*leader)) {
                shard.wake_as_follower("another replica campaigns", self.links.config.election_max());
                if leader != self.links.node {
                    self.ask_to_wake(leader, shard.id());
                }
                return Err(Refusal::Resting);
            }
            shard.wake("another replica campaigns");
        }
        let (links, call) = (self.links.clone(), frame.call);
        let (is_succession, theirs) = (request.leadership_transfer, request.last_log_id);
        let term = request.vote.leader_id.term;
        self.runtime.spawn(async move {
            let response = match kind {
                FrameKind::PreVote => shard.raft.pre_vote(request).await,
                _ => shard.raft.vote(request).await,
            };
            if is_succession
                && response.as_ref().is_ok_and(|ours| !ours.vote_granted && ours.last_log_id > theirs)
            {
                shard.outrun.note(term);
            }
            let answer = response.map_or(Answer::Refused(Refusal::Stopped), Answer::Vote);
            links.answer(from, shard.id(), call, answer).await;
        });
        Ok(())
    }

    fn transfer(&self, from: NodeId, shard: Arc<Shard>, frame: &Frame) -> Result<(), Refusal> {
        let request = wire::read_transfer(frame).map_err(|_| Refusal::Malformed)?;
        shard.wake("leadership is handed over");
        shard.note_cause(Cause::Transfer);
        let (links, call) = (self.links.clone(), frame.call);
        self.runtime.spawn(async move {
            let answer = match shard.raft.handle_transfer_leader(request).await {
                Ok(accepted) => Answer::Transferred(accepted.is_ok()),
                Err(_) => Answer::Refused(Refusal::Stopped),
            };
            links.answer(from, shard.id(), call, answer).await;
        });
        Ok(())
    }

    fn snapshot(&self, from: NodeId, shard: Arc<Shard>, frame: &Frame) -> Result<(), Refusal> {
        let (piece, bytes) = wire::read_snapshot(frame).map_err(|_| Refusal::Malformed)?;
        if piece.total_bytes > SNAPSHOT_MAX_BYTES {
            return Err(Refusal::Malformed);
        }
        let key = (from, shard.id());
        let whole = {
            let mut snapshots = self.intake.snapshots.lock();
            if piece.offset == 0 {
                snapshots.insert(key, Incoming { transfer: piece.transfer, bytes: BytesMut::new() });
            }
            let incoming = snapshots.get_mut(&key).filter(|incoming| incoming.transfer == piece.transfer);
            let Some(incoming) = incoming else { return Err(Refusal::Malformed) };
            let have = incoming.bytes.len() as u64;
            if have != piece.offset || have + bytes.len() as u64 > piece.total_bytes {
                snapshots.remove(&key);
                return Err(Refusal::Malformed);
            }
            incoming.bytes.extend_from_slice(&bytes);
            let is_whole = incoming.bytes.len() as u64 == piece.total_bytes;
            is_whole.then(|| snapshots.remove(&key)).flatten().map(|incoming| incoming.bytes.freeze())
        };
        if let Some(whole) = whole {
            self.install(from, shard, frame.call, piece.vote, piece.at, whole)?;
        }
        Ok(())
    }

    fn install(
        &self,
        from: NodeId,
        shard: Arc<Shard>,
        call: u64,
        vote: Vote,
        at: crate::types::LogId,
        bytes: Bytes,
    ) -> Result<(), Refusal> {
        // Its own CRC is behind it: a damaged one goes no further.
        let checkpoint =
            crate::encoding::Checkpoint::decode(bytes.clone()).map_err(|_| Refusal::Malformed)?;
        if checkpoint.at != to_raft(from_raft(&at)) {
            return Err(Refusal::Malformed);
        }
        let meta = SnapshotMeta { last_log_id: Some(at), last_membership: checkpoint.membership };
        shard.wake("a snapshot from the leader");
        let links = self.links.clone();
        self.runtime.spawn(async move {
            let snapshot = Snapshot { meta, snapshot: bytes };
            let answer = match shard.raft.install_full_snapshot(vote, snapshot).await {
                Ok(response) => {
                    links.metrics.snapshots_installed.inc();
                    Answer::Snapshot(response.vote)
                }
                Err(_) => Answer::Refused(Refusal::Stopped),
            };
            links.answer(from, shard.id(), call, answer).await;
        });
        Ok(())
    }

    /// Nothing more is awaited from a peer, or for a shard.
    pub(crate) fn forget(&self, is_gone: impl Fn(NodeId, ShardId) -> bool) {
        self.intake.runs.lock().retain(|(peer, shard), _| !is_gone(*peer, *shard));
        self.intake.snapshots.lock().retain(|(peer, shard), _| !is_gone(*peer, *shard));
    }
}
