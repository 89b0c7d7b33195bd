//! The handle of one shard on this node: propose, wait, look, and change who leads or takes part.

use crate::barrier::Barrier;
use crate::error::{Error, ProposeError};
use crate::links::Links;
use crate::log_store::LogStore;
use crate::metrics::Cause;
use crate::proposal::{Asker, Fate, Gate, Known, Released, Waiting, fate};
use crate::replica::Replica;
use crate::status::{Leadership, Progress, ReplicaStatus};
use crate::succession::Outrun;
use crate::types::{Data, Raft, Reply, from_raft, node};
use bytes::Bytes;
use flotilla_machine::Command;
use flotilla_types::{LogIndex, NodeId, Offset, ShardId, Term};
use futures::FutureExt;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::ForwardToLeader;
use openraft::raft::linearizable_read::LinearizerOption;
use openraft::{ReadPolicy, ServerState};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;

pub use crate::proposal::Proposal;

/// Rounds for hearing a majority before the commands that wait for it are refused.
const REGAIN_ROUNDS: u32 = 3;
/// Pause between these rounds.
const REGAIN_PAUSE: Duration = Duration::from_millis(20);

/// One shard on this node.
pub struct Shard {
    pub(crate) replica: Arc<Replica>,
    pub(crate) raft: Raft,
    pub(crate) log: LogStore,
    pub(crate) links: Arc<Links>,
    pub(crate) leadership: watch::Sender<Leadership>,
    pub(crate) gate: Mutex<Gate>,
    pub(crate) barrier: Barrier,
    pub(crate) outrun: Outrun,
    /// Why this node campaigned last, if not for silence; until there is a leader.
    pub(crate) cause: Mutex<Cause>,
    /// Idle: no ticks, heartbeats or elections of its own. Changes only under the gate's lock.
    pub(crate) resting: AtomicBool,
    pub(crate) stopped: AtomicBool,
    pub(crate) runtime: Handle,
    pub(crate) me: Weak<Shard>,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard")
            .field("id", &self.id())
            .field("resting", &self.is_resting())
            .finish_non_exhaustive()
    }
}

impl Shard {
    /// Which shard.
    pub fn id(&self) -> ShardId {
        self.replica.shard
    }

    /// Queues a command; commands of one shard are applied in the order of these calls. One that cannot keep
    /// its place, because the leader lost and regained touch with its majority, is refused.
    pub fn propose(&self, command: Command, payload: Bytes) -> Proposal {
        let (asker, proposal) = Asker::new();
        if let Some(refusal) = self.refusal() {
            asker.answer(Err(refusal));
            return proposal;
        }
        let waiting = Waiting { data: Data { header: command.encode(), payload }, asker, waited: false };
        self.replica.touch();
        let mut gate = self.gate.lock();
        if gate.is_open() && !(self.is_resting() && self.leads()) {
            self.submit(&mut gate, waiting);
        } else if gate.waiting() < self.links.config.proposals_max {
            gate.queue(waiting);
            if gate.close() {
                drop(gate);
                self.regain();
            }
        } else {
            waiting
                .asker
                .answer(Err(ProposeError::Unavailable { why: "too many commands wait for the leader" }));
        }
        proposal
    }

    /// Waits until this node, which leads, has applied everything that was committed anywhere before the
    /// call. One round trip to a majority, shared by all who wait.
    pub async fn read_barrier(&self) -> Result<LogIndex, ProposeError> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        match self.me.upgrade() {
            Some(me) => self.barrier.wait(me).await,
            None => Err(ProposeError::Stopped),
        }
    }

    /// Who leads and who takes part.
    pub fn leadership(&self) -> Leadership {
        self.leadership.borrow().clone()
    }

    /// The same, as it changes.
    pub fn watch_leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    /// How far this replica has come.
    pub fn progress(&self) -> Progress {
        *self.replica.progress.borrow()
    }

    /// The same, as it changes.
    pub fn watch_progress(&self) -> watch::Receiver<Progress> {
        self.replica.progress.subscribe()
    }

    /// Index rows below this offset are written: readable in the store.
    pub fn stored_to(&self) -> Offset {
        self.replica.stored_to()
    }

    /// Looks at the applied state under a short lock. Call nothing else from `look`.
    pub fn read<T>(&self, look: impl FnOnce(&flotilla_machine::Shard) -> T) -> T {
        look(&self.replica.machine.lock())
    }

    /// Leader only (empty elsewhere): the replicas as it sees them, itself included.
    pub fn replicas(&self) -> Vec<ReplicaStatus> {
        let leadership = self.leadership();
        if !self.leads() {
            return Vec::new();
        }
        let last = self.log.last().map_or(0, |id| id.index);
        let metrics = self.raft.data_metrics();
        let replication = metrics.borrow_watched().replication.clone().unwrap_or_default();
        let status = |id: NodeId, voter| {
            let matched = if id == self.links.node {
                Some(last)
            } else {
                replication.get(&u64::from(id.0)).and_then(|id| id.map(|id| id.index))
            };
            let lag = matched.map_or(last + 1, |matched| last.saturating_sub(matched));
            ReplicaStatus { node: id, matched: matched.map(LogIndex), lag, voter }
        };
        let voters = leadership.voters.iter().map(|id| status(*id, true));
        voters.chain(leadership.learners.iter().map(|id| status(*id, false))).collect()
    }

    /// Why the shard stopped on this node, if it is broken.
    pub fn broken(&self) -> Option<String> {
        self.replica.health.broken().map(str::to_owned)
    }

    /// Whether it rests: idle, without heartbeats of its own.
    pub fn is_resting(&self) -> bool {
        self.resting.load(Ordering::Acquire)
    }

    /// Whether it was stopped here. A stopped shard stays so; the host starts another.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Whether consensus takes this node for the leader, be it able to serve yet or not.
    pub(crate) fn leads(&self) -> bool {
        self.raft.server_metrics().borrow_watched().state == ServerState::Leader
    }

    /// Notes why this node campaigns.
    pub(crate) fn note_cause(&self, cause: Cause) {
        *self.cause.lock() = cause;
    }

    pub(crate) fn take_cause(&self) -> Cause {
        std::mem::take(&mut *self.cause.lock())
    }

    pub(crate) fn refusal(&self) -> Option<ProposeError> {
        if let Some(why) = self.broken() {
            Some(ProposeError::Broken { why })
        } else {
            self.is_stopped().then_some(ProposeError::Stopped)
        }
    }

    /// What consensus says of leadership now.
    pub(crate) fn observe(&self) -> Leadership {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched().clone();
        let term = metrics.vote.leader_id.term;
        let leads = metrics.state == ServerState::Leader;
        let has_begun = self.replica.has_begun(term);
        let membership = metrics.membership_config.membership();
        Leadership {
            leader: metrics.current_leader.map(node),
            term: Term(term),
            is_leader: leads && has_begun && !self.is_stopped() && self.broken().is_none(),
            voters: membership.voter_ids().map(node).collect(),
            learners: membership.learner_ids().map(node).collect(),
        }
    }

    fn known(&self, to: &ForwardToLeader<crate::types::Types>) -> Known {
        let known = self.leadership.borrow().known();
        match to.leader_id {
            Some(leader) if known.is_none_or(|(id, _)| id != node(leader)) => {
                Some((node(leader), self.observe().term))
            }
            Some(_) => known,
            None => known.filter(|(id, _)| *id != self.links.node),
        }
    }

    /// Gives a command to consensus, in the order of calls.
    fn submit(&self, gate: &mut Gate, waiting: Waiting) {
        let Waiting { data, asker, waited } = waiting;
        let number = gate.give();
        let (me, again, told) = (self.me.clone(), data.clone(), asker.clone());
        let reply = Reply::new(move |result| {
            let Some(shard) = me.upgrade() else { return };
            match fate(result, |to| shard.known(to)) {
                Fate::Answered(answer) => told.answer(answer),
                Fate::LeaseExpired if waited => {
                    shard.gate.lock().refuse(number, None);
                    told.answer(Err(ProposeError::Unavailable {
                        why: "the leader does not hear a majority",
                    }));
                }
                Fate::LeaseExpired => {
                    shard.wait_for_lease(number, Waiting { data: again, asker: told, waited: true });
                }
            }
        });
        // Polled once: it is taken now, or its queue is full. The scheduler's budget is not to be asked.
        let sent = tokio::task::unconstrained(self.raft.client_write_ff(data, Some(reply))).now_or_never();
        match sent {
            Some(Ok(())) => {}
            Some(Err(_)) => asker.answer(Err(self.refusal().unwrap_or(ProposeError::Stopped))),
            None => {
                gate.take_back();
                asker.answer(Err(ProposeError::Unavailable { why: "too many commands wait for consensus" }));
            }
        }
    }

    fn wait_for_lease(&self, number: u64, waiting: Waiting) {
        let mut gate = self.gate.lock();
        gate.refuse(number, Some(waiting));
        if gate.close() {
            drop(gate);
            self.regain();
        }
    }

    /// Wakes the shard if it rests, asks a majority, and lets the commands go that wait behind the gate.
    fn regain(&self) {
        let Some(me) = self.me.upgrade() else { return };
        self.runtime.spawn(async move {
            me.wake("a write");
            let mut heard = me.hear_majority().await;
            for _ in 1..REGAIN_ROUNDS {
                if !matches!(heard, Err(ProposeError::Unavailable { .. })) {
                    break;
                }
                tokio::time::sleep(REGAIN_PAUSE).await;
                heard = me.hear_majority().await;
            }
            let mut gate = me.gate.lock();
            // The question to the majority went through consensus behind all that it was given before, and
            // nothing was given since: whatever was not refused by now is, or may be, written.
            let Released { go, overtaken } = gate.open();
            for waiting in overtaken {
                waiting.asker.answer(Err(ProposeError::Unavailable {
                    why: "a later command was written while the leader did not hear a majority",
                }));
            }
            for waiting in go {
                match &heard {
                    Ok(_) => me.submit(&mut gate, waiting),
                    Err(error) => waiting.asker.answer(Err(error.clone())),
                }
            }
        });
    }

    /// One round trip to a majority; then everything up to the answer is applied here.
    pub(crate) async fn hear_majority(&self) -> Result<LogIndex, ProposeError> {
        let read = self.raft.ensure_linearizable(LinearizerOption::from(ReadPolicy::ReadIndex));
        match tokio::time::timeout(self.links.config.call_timeout(), read).await {
            Ok(Ok(read)) => Ok(LogIndex(read.log_id().index)),
            Ok(Err(error)) => Err(match error.forward_to_leader() {
                Some(to) if to.leader_id != Some(u64::from(self.links.node.0)) => {
                    ProposeError::NotLeader { leader: self.known(to) }
                }
                _ => self
                    .refusal()
                    .unwrap_or(ProposeError::Unavailable { why: "the leader does not hear a majority" }),
            }),
            Err(_) => Err(ProposeError::Unavailable { why: "no majority answered in time" }),
        }
    }

    pub(crate) fn error(&self, error: ProposeError) -> Error {
        let shard = self.id();
        match error {
            ProposeError::NotLeader { leader } | ProposeError::Lost { leader } => {
                Error::NotLeader { shard, leader }
            }
            ProposeError::Stopped => Error::Stopped { shard },
            ProposeError::Broken { why } => Error::Broken { shard, why },
            ProposeError::Unavailable { why } => Error::Refused { shard, why: why.into() },
        }
    }

    /// Last entry here, and whether it is applied.
    pub(crate) fn is_settled(&self) -> Option<crate::types::LogId> {
        let last = self.log.last()?;
        (self.progress().applied == Some(from_raft(&last))).then_some(last)
    }

    /// Ends consensus of this shard here. Commands inside have an unknown outcome, commands that wait have none.
    pub(crate) async fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        if self.resting.swap(false, Ordering::AcqRel) {
            self.links.metrics.shards_resting.dec();
        }
        let Released { go, overtaken } = self.gate.lock().open();
        for waiting in overtaken.into_iter().chain(go) {
            waiting.asker.answer(Err(self.refusal().unwrap_or(ProposeError::Stopped)));
        }
        let _ = self.raft.shutdown().await;
        self.replica.changed.notify_one();
    }
}
