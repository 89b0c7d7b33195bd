//! The consensus library's network over the transport: pipelined, bounded, with a deadline for every answer.

use crate::links::{CallError, Links, Pending};
use crate::observer::Observer;
use crate::transport::{Lane, PeerState};
use crate::types::{LogId, Snapshot, Types, Vote, node};
use crate::wire::{self, Answer, FrameKind, Refusal, SnapshotPiece};
use bytes::Bytes;
use flotilla_types::{NodeId, ShardId};
use futures::{Stream, StreamExt};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, EmptyNode, EntryPayload, OptionalSend};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Entries must be acknowledged within this many heartbeats: a disk may be slow, a peer may not be silent.
const APPEND_TTL_HEARTBEATS: u32 = 20;
/// Pause before asking again for a vote where the shard is not started yet.
const NOT_STARTED_PAUSE: Duration = Duration::from_millis(20);

/// Makes the ways from one shard to its replicas.
#[derive(Clone)]
pub(crate) struct Network {
    pub links: Arc<Links>,
    pub shard: ShardId,
    pub observer: Arc<dyn Observer>,
    pub matched: Arc<Matched>,
}

/// What each replica has acknowledged in this term. A replica that falls behind it has lost what it had
/// acknowledged, and must not be heard: it would break the library's and our own promises.
#[derive(Debug, Default)]
pub(crate) struct Matched(Mutex<BTreeMap<NodeId, Peerage>>);

#[derive(Clone, Copy, Debug)]
struct Peerage {
    term: u64,
    index: u64,
    reverted: bool,
}

impl Matched {
    /// Notes an acknowledgement.
    fn note(&self, peer: NodeId, term: u64, matched: LogId) {
        let mut peers = self.0.lock();
        let known = peers.entry(peer).or_insert(Peerage { term, index: matched.index, reverted: false });
        if term > known.term {
            *known = Peerage { term, index: matched.index, reverted: false };
        } else if term == known.term {
            known.index = known.index.max(matched.index);
        }
    }

    /// Whether a peer that lacks `missing` has lost what it had acknowledged. Remembers it for the term.
    fn contradicts(&self, peer: NodeId, term: u64, missing: LogId) -> bool {
        let mut peers = self.0.lock();
        match peers.get_mut(&peer) {
            Some(known) if known.term == term && known.index >= missing.index => {
                known.reverted = true;
                true
            }
            _ => false,
        }
    }

    fn is_reverted(&self, peer: NodeId, term: u64) -> bool {
        self.0.lock().get(&peer).is_some_and(|known| known.term == term && known.reverted)
    }
}

/// The way from one shard to one replica.
pub(crate) struct Peer {
    network: Network,
    to: NodeId,
    /// Heartbeats overtake entries, so that a busy shard's leader is not taken for dead.
    lane: Lane,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _: &EmptyNode) -> Peer {
        Peer { network: self.clone(), to: node(target), lane: Lane::Data }
    }

    async fn new_heartbeat_client(&mut self, target: u64, _: &EmptyNode) -> Peer {
        Peer { network: self.clone(), to: node(target), lane: Lane::Control }
    }
}

fn unreachable(why: impl ToString) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::new(&AnyError::error(why)))
}

fn failed(error: CallError) -> RPCError<Types> {
    match error {
        CallError::TimedOut(_) | CallError::Refused(Refusal::Busy) => {
            RPCError::Network(NetworkError::new(&AnyError::error(error)))
        }
        error => unreachable(error),
    }
}

/// A request that was sent.
struct Sent {
    pending: Pending,
    bytes: usize,
    request_vote: Vote,
    prev: Option<LogId>,
}

/// A run of requests, answered in order.
struct Run<S> {
    peer: Network,
    to: NodeId,
    lane: Lane,
    name: u64,
    ttl: Duration,
    input: Option<S>,
    sent: VecDeque<Sent>,
    bytes: usize,
    failed: bool,
}

fn weight(request: &AppendEntriesRequest<Types>) -> usize {
    let of = |entry: &crate::types::Entry| match &entry.payload {
        EntryPayload::Normal(data) => data.header.len() + data.payload.len() + 64,
        EntryPayload::Blank | EntryPayload::Membership(_) => 128,
    };
    128 + request.entries.iter().map(of).sum::<usize>()
}

impl<S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin> Run<S> {
    async fn send(&mut self, request: AppendEntriesRequest<Types>) -> Result<(), RPCError<Types>> {
        let term = request.vote.leader_id.term;
        if self.peer.matched.is_reverted(self.to, term) {
            return Err(unreachable("it has lost entries that it had acknowledged"));
        }
        let bytes = weight(&request);
        let frame = wire::append(self.peer.shard, self.lane, self.name, &request);
        if self.peer.shard.is_partition() && !frame.payloads.is_empty() && self.peer.links.is_full(self.to) {
            return Err(failed(CallError::Refused(Refusal::Full)));
        }
        let pending = self.peer.links.expect(self.to);
        let frame = crate::transport::Frame { call: pending.call, ..frame };
        self.peer.links.send(self.to, frame).await.map_err(failed)?;
        self.bytes += bytes;
        let (request_vote, prev) = (request.vote, request.prev_log_id);
        self.sent.push_back(Sent { pending, bytes, request_vote, prev });
        Ok(())
    }

    /// The next answer, sending on meanwhile as far as the bounds allow.
    async fn next(&mut self) -> Option<Result<StreamAppendResult<Types>, RPCError<Types>>> {
        if self.failed {
            return None;
        }
        let config = &self.peer.links.config;
        let (max_messages, max_bytes) = (config.pipeline_max_messages, config.pipeline_max_bytes);
        loop {
            if self.input.is_none() && self.sent.is_empty() {
                return None;
            }
            let has_room = self.sent.len() < max_messages && self.bytes < max_bytes;
            let input = if has_room { self.input.as_mut() } else { None };
            let ttl = self.ttl;
            tokio::select! {
                biased;
                answer = async { match self.sent.front_mut() {
                    Some(sent) => sent.pending.wait(ttl).await,
                    None => std::future::pending().await,
                }} => {
                    let sent = self.sent.pop_front()?;
                    self.bytes -= sent.bytes;
                    let answer = self.heard(&sent, answer);
                    self.failed = !matches!(answer, Ok(Ok(_)));
                    return Some(answer);
                }
                request = async { match input {
                    Some(input) => input.next().await,
                    None => std::future::pending().await,
                }} => match request {
                    Some(request) => if let Err(error) = self.send(request).await {
                        self.failed = true;
                        return Some(Err(error));
                    },
                    None => self.input = None,
                },
            }
        }
    }

    fn heard(
        &self,
        sent: &Sent,
        answer: Result<Answer, CallError>,
    ) -> Result<StreamAppendResult<Types>, RPCError<Types>> {
        let Network { shard, observer, matched, links } = &self.peer;
        if answer == Err(CallError::Refused(Refusal::Full)) {
            links.note_full(self.to);
        }
        let Answer::Append(answer) = answer.map_err(failed)? else {
            return Err(failed(CallError::Unfit));
        };
        let term = sent.request_vote.leader_id.term;
        match answer {
            Ok(Some(id)) => matched.note(self.to, term, id),
            Ok(None) | Err(StreamAppendError::HigherVote(_)) => {}
            Err(StreamAppendError::Conflict(id)) => {
                // A heartbeat asks about what is known to match.
                let is_known = self.lane == Lane::Control && sent.prev.is_some();
                if is_known {
                    matched.note(self.to, term, id);
                }
                if matched.contradicts(self.to, term, id) {
                    let why = format!("it lacks entry {id}, which it had acknowledged");
                    links.metrics.reversions.inc();
                    observer.reverted(*shard, self.to, &why);
                    return Err(unreachable(why));
                }
            }
        }
        Ok(answer)
    }
}

impl Peer {
    async fn ask_vote(
        &self,
        kind: FrameKind,
        request: VoteRequest<Types>,
        option: &RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let Network { links, shard, .. } = &self.network;
        let frame = wire::vote(kind, *shard, &request);
        let ask = async {
            loop {
                match links.ask(self.to, frame.clone(), links.config.call_timeout()).await {
                    // A new shard starts on its nodes at nearly, but not exactly, the same time.
                    Err(CallError::Refused(Refusal::UnknownShard)) => {
                        tokio::time::sleep(NOT_STARTED_PAUSE).await;
                    }
                    Ok(Answer::Vote(response)) => return Ok(response),
                    Ok(_) => return Err(failed(CallError::Unfit)),
                    Err(error) => return Err(failed(error)),
                }
            }
        };
        let ttl = option.hard_ttl().max(links.config.call_timeout());
        tokio::time::timeout(ttl, ask).await.unwrap_or_else(|_| Err(failed(CallError::TimedOut(ttl))))
    }

    async fn send_snapshot(&self, vote: Vote, at: LogId, snapshot: Bytes) -> Result<Vote, CallError> {
        let Network { links, shard, .. } = &self.network;
        let total_bytes = snapshot.len() as u64;
        let transfer = links.number();
        let mut rest = snapshot;
        loop {
            let offset = total_bytes - rest.len() as u64;
            let piece = rest.split_to(rest.len().min(links.config.message_max_bytes));
            let frame =
                wire::snapshot(*shard, &SnapshotPiece { transfer, vote, at, total_bytes, offset }, piece);
            if rest.is_empty() {
                return match links.ask(self.to, frame, links.config.snapshot_timeout()).await? {
                    Answer::Snapshot(vote) => Ok(vote),
                    _ => Err(CallError::Unfit),
                };
            }
            links.send(self.to, frame).await?;
        }
    }
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let once = futures::stream::iter([request]);
        let mut answers = self.stream_append(once, option).await?;
        match answers.next().await {
            Some(answer) => Ok(AppendEntriesResponse::from(answer?)),
            None => Err(failed(CallError::Unfit)),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            // First the input, where the library waits out its backoff; failing before that is a hot loop.
            let Some(first) = input.next().await else {
                let nothing: BoxStream<'s, _> = Box::pin(futures::stream::empty());
                return Ok(nothing);
            };
            let links = &self.network.links;
            if links.transport.state(self.to) != PeerState::Up {
                return Err(unreachable("not connected"));
            }
            let ttl = match self.lane {
                Lane::Control => option.hard_ttl(),
                Lane::Data => links.config.heartbeat() * APPEND_TTL_HEARTBEATS,
            };
            let mut run = Run {
                peer: self.network.clone(),
                to: self.to,
                lane: self.lane,
                name: links.number(),
                ttl,
                input: Some(input),
                sent: VecDeque::new(),
                bytes: 0,
                failed: false,
            };
            run.send(first).await?;
            let answers: BoxStream<'s, _> = Box::pin(futures::stream::unfold(run, async |mut run| {
                let answer = run.next().await?;
                Some((answer, run))
            }));
            Ok(answers)
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(FrameKind::Vote, request, &option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(FrameKind::PreVote, request, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let unreachable = |why: String| StreamingError::Unreachable(Unreachable::new(&AnyError::error(why)));
        let Some(at) = snapshot.meta.last_log_id else {
            return Err(unreachable("a snapshot of nothing".into()));
        };
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, at, snapshot.snapshot) => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(error) => Err(unreachable(error.to_string())),
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        _: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let Network { links, shard, .. } = &self.network;
        let frame = wire::transfer(*shard, &request);
        match links.ask(self.to, frame, links.config.call_timeout()).await.map_err(failed)? {
            Answer::Transferred(true) => Ok(Ok(())),
            Answer::Transferred(false) => Err(unreachable("it does not accept the leadership")),
            _ => Err(failed(CallError::Unfit)),
        }
    }
}
