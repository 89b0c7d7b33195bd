//! One partition's way to its leader: up to five batches on the way, in order, each exactly once.
//!
//! 1. Batches get their sequence when they enter the window and are sent in that order on one stream.
//! 2. When one fails, nothing new is sent until every batch on the way has its answer: those behind the
//!    failed one were refused as out of order, or their fate is as unknown as its own.
//! 3. Then all that may be tried again is sent again, in order, with the same stamps. What had been stored
//!    after all answers as a duplicate, with its first offset.
//! 4. The oldest batch without an answer never has more batches behind it than the partition remembers of a
//!    producer, answered or not, or it could not be recognised any more when it is sent again.
//! 5. A batch that ends without being stored leaves a hole in the sequence. If every later batch certainly
//!    is not stored, they move up. If one might be, moving it could store it twice: it ends as unknown,
//!    and the producer's epoch is bumped, which fences whatever copy still travels.
//!
//! The unsafe shortcut would be to send batch 2 anew when batch 1 failed: the first copy of 2 may follow.

use crate::batcher::{Batcher, Gathered, Next, Settled, Stored, pack};
use crate::error::{Error, Result};
use crate::identity::Identity;
use crate::produce_stream::{Attempt, ProduceStream, Refused};
use crate::producer::Shared;
use crate::retry::Backoff;
use crate::routes::Routes;
use flotilla_proto::convert::records::batch_to_wire;
use flotilla_proto::v1;
use flotilla_types::{
    Batch, BatchHeader, LeaderHint, Monotonic, PartitionId, Reason, Sequence, Term, TopicName,
};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot, watch};

mod recovery;
mod remainder;

/// An attempt is given up this much after the server should have answered it, or after as much again as it
/// had, whichever is less.
const ANSWER_SLACK: Duration = Duration::from_secs(1);
/// How long the old leader may still answer once a newer one is known.
const OLD_LEADER_GRACE: Duration = Duration::from_millis(300);

/// What a producer and a partition's pipeline share: records come in here.
#[derive(Debug, Default)]
pub(crate) struct Inlet {
    pub(crate) batcher: Mutex<Batcher>,
    pub(crate) wake: Notify,
}

/// A batch in the window.
#[derive(Debug)]
struct Sent {
    id: u64,
    /// Counts this partition's batches.
    number: u64,
    since: Monotonic,
    held: usize,
    atomic: bool,
    expected_offset: Option<flotilla_types::Offset>,
    done: oneshot::Sender<Settled>,
    batch: Batch,
    state: State,
    /// An earlier attempt ended without saying whether it stored the batch.
    doubtful: bool,
    /// Some of its records have ended already; see [`remainder`].
    remainder: Option<remainder::Remainder>,
}

#[derive(Debug)]
enum State {
    /// To be sent, perhaps again.
    Pending,
    /// On the way since then.
    Waiting {
        answer: oneshot::Receiver<Attempt>,
        since: Monotonic,
    },
    Answered(Attempt),
}

impl Sent {
    fn is_pending(&self) -> bool {
        matches!(self.state, State::Pending)
    }

    fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting { .. })
    }

    fn sequence(&self) -> Sequence {
        self.batch.header.producer.map_or(Sequence(0), |stamp| stamp.base_sequence)
    }
}

/// The owner of a partition's window. Runs as one task.
#[derive(Debug)]
pub(crate) struct Pipeline {
    shared: Arc<Shared>,
    topic: TopicName,
    partition: PartitionId,
    inlet: Arc<Inlet>,
    routes: watch::Receiver<Arc<Routes>>,
    identity: Identity,
    window: VecDeque<Sent>,
    next_number: u64,
    /// Where the batches on the way went, and under which leadership.
    stream: Option<(Arc<ProduceStream>, Term)>,
    /// A batch failed: drain, then try again.
    recovering: bool,
    /// A batch on the way ran out of time: until those behind it have their answers nobody knows whether the
    /// sequence goes on behind it.
    given_up: bool,
    /// The newest leadership that was tried.
    tried: Term,
    pause_until: Option<Monotonic>,
    abandon_at: Option<Monotonic>,
    linger: Option<Duration>,
    backoff: Backoff,
    last_error: Option<Error>,
}

impl Pipeline {
    pub(crate) fn new(
        shared: Arc<Shared>,
        topic: TopicName,
        partition: PartitionId,
        inlet: Arc<Inlet>,
    ) -> Self {
        let identity = Identity::allocate(&*shared.client.options.random);
        let routes = shared.client.metadata.watch();
        Self {
            shared,
            topic,
            partition,
            inlet,
            routes,
            identity,
            window: VecDeque::new(),
            next_number: 0,
            stream: None,
            recovering: false,
            given_up: false,
            tried: Term(0),
            pause_until: None,
            abandon_at: None,
            linger: None,
            backoff: Backoff::default(),
            last_error: None,
        }
    }

    /// Runs until the inlet is closed and empty.
    pub(crate) async fn run(mut self) {
        loop {
            self.expire();
            if self.given_up && self.window.is_empty() {
                self.given_up = false;
                self.identity.bump();
            }
            if !self.recovering {
                self.pull();
                self.send_pending().await;
            }
            if self.window.is_empty() {
                let batcher = self.inlet.batcher.lock();
                if batcher.closed && batcher.is_empty() {
                    return;
                }
            }
            self.wait().await;
        }
    }

    fn now(&self) -> Monotonic {
        self.shared.client.options.clock.monotonic()
    }

    fn attempt_timeout(&self) -> Duration {
        let given = self.shared.options.request_timeout;
        given + given.min(ANSWER_SLACK)
    }

    fn any_waiting(&self) -> bool {
        self.window.iter().any(Sent::is_waiting)
    }

    /// The partition remembers a producer's last few batches and knows a repeat by them. So the oldest batch
    /// without an answer may have that many behind it, also counting those that have theirs.
    fn has_room(&self) -> bool {
        let span = self.window.front().map_or(0, |oldest| self.next_number - oldest.number);
        span < self.shared.options.in_flight as u64
    }

    /// Fills the window with batches whose time has come.
    fn pull(&mut self) {
        let now = self.now();
        self.linger = None;
        while !self.given_up && self.has_room() {
            let idle = self.window.is_empty();
            let next = self.inlet.batcher.lock().next(now, self.shared.options.linger, idle);
            match next {
                Next::Batch(batch) => self.admit(batch),
                Next::Linger(rest) => {
                    self.linger = Some(rest);
                    return;
                }
                Next::Nothing => return,
            }
        }
    }

    fn admit(&mut self, gathered: Gathered) {
        let (compression, body) = pack(self.shared.options.compression, gathered.body.freeze());
        let header = BatchHeader {
            record_count: gathered.count,
            base_timestamp: gathered.base_timestamp,
            producer: Some(self.identity.stamp(gathered.count)),
            transactional: false,
            compression,
            schema_id: None,
            crc32c: 0,
        };
        let header = header.seal(&body);
        self.window.push_back(Sent {
            id: gathered.id,
            number: self.next_number,
            since: gathered.since,
            held: gathered.held,
            atomic: gathered.atomic,
            expected_offset: gathered.expected_offset,
            done: gathered.done,
            batch: Batch { header, body },
            state: State::Pending,
            doubtful: false,
            remainder: None,
        });
        self.next_number += 1;
    }

    /// Sends what is pending, in order, unless it is not the time or what is on the way went elsewhere.
    async fn send_pending(&mut self) {
        if !self.window.iter().any(Sent::is_pending) || self.pause_until.is_some_and(|at| at > self.now()) {
            return;
        }
        self.pause_until = None;
        let leader = match self.leader() {
            Ok(leader) => leader,
            Err(error) => return self.stumble(error),
        };
        self.tried = self.tried.max(leader.term);
        let same = self.stream.as_ref().filter(|(stream, term)| {
            stream.is_alive() && *term == leader.term && stream.endpoint == leader.endpoint
        });
        if same.is_none() {
            if self.any_waiting() {
                return; // they must have their answers first, or order would be lost
            }
            match self.shared.streams.to(&leader.endpoint).await {
                Ok(stream) => self.stream = Some((stream, leader.term)),
                Err(error) => return self.stumble(error),
            }
        }
        let Some((stream, _)) = self.stream.clone() else { return };
        for place in 0..self.window.len() {
            if !self.window[place].is_pending() {
                continue;
            }
            let request = self.request(&self.window[place]);
            match stream.submit(request, self.shared.options.request_timeout).await {
                Ok(answer) => {
                    let since = self.now();
                    self.window[place].state = State::Waiting { answer, since };
                }
                Err(error) => {
                    stream.abandon("the stream takes no more batches");
                    return self.stumble(error);
                }
            }
        }
    }

    fn request(&self, sent: &Sent) -> v1::ProduceRequest {
        let topic_id = self.routes.borrow().topic(self.topic.as_str()).map(|route| route.topic_id.clone());
        v1::ProduceRequest {
            correlation_id: self.shared.streams.next_correlation(),
            topic: self.topic.as_str().to_owned(),
            partition: self.partition.get() as i32,
            batch: Some(batch_to_wire(&sent.batch)),
            timeout_ms: self.shared.options.request_timeout.as_millis() as i32,
            expected_offset: sent.expected_offset.map(|offset| offset.get() as i64),
            topic_id: topic_id.filter(|id| !id.is_empty()),
            ..v1::ProduceRequest::default()
        }
    }

    fn leader(&self) -> Result<LeaderHint> {
        let routes = self.routes.borrow();
        let name = format!("{}/{}", self.topic, self.partition);
        let Some(leadership) = routes.leadership(self.topic.as_str(), self.partition) else {
            let message = format!("partition {name} is in no node's metadata");
            return Err(Error::retriable(Reason::UnknownTopicOrPartition, message));
        };
        leadership.leader.clone().ok_or_else(|| {
            let message = format!("partition {name} has no leader now");
            Error::retriable(Reason::LeaderNotAvailable, message)
        })
    }

    /// Notes a failure and waits before the next try.
    fn stumble(&mut self, error: Error) {
        let random = &*self.shared.client.options.random;
        let went_elsewhere =
            self.shared.client.metadata.hint(self.topic.as_str(), self.partition, error.leader());
        let pause = self.shared.budget.pause(self.backoff.pause(random, error.retry_after()));
        // The first hop to a leader that was just named needs no pause.
        let pause = if went_elsewhere && self.backoff.failures() == 1 { Duration::ZERO } else { pause };
        if !went_elsewhere {
            self.shared.client.metadata.refresh();
        }
        tracing::debug!(topic = %self.topic, partition = %self.partition, %error, ?pause, "append is tried again");
        self.pause_until = Some(self.now().plus(pause));
        self.last_error = Some(error);
    }

    /// Waits for the next thing to do: an answer, a record, a new leader or a deadline.
    async fn wait(&mut self) {
        let now = self.now();
        let sleep = self.next_deadline(now).map(|at| at.since(now));
        let answer = self.window.iter_mut().enumerate().find_map(|(place, sent)| match &mut sent.state {
            State::Waiting { answer, .. } => Some((place, answer)),
            _ => None,
        });
        let (place, answer) = answer.unzip();
        let answered = async {
            match answer {
                Some(answer) => {
                    answer.await.unwrap_or_else(|_| Err(Error::lost("the stream was given up").into()))
                }
                None => std::future::pending().await,
            }
        };
        let slept = async {
            match sleep {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            attempt = answered => self.take_answer(place.unwrap_or(0), attempt),
            () = self.inlet.wake.notified() => {}
            changed = self.routes.changed() => {
                if changed.is_ok() {
                    self.reroute();
                }
            }
            () = slept => {}
        }
    }

    fn next_deadline(&self, now: Monotonic) -> Option<Monotonic> {
        let options = &self.shared.options;
        let linger = self.linger.map(|rest| now.plus(rest));
        let attempt = self.window.iter().find_map(|sent| match &sent.state {
            State::Waiting { since, .. } => Some(since.plus(self.attempt_timeout())),
            _ => None,
        });
        let oldest = self.window.front().map(|sent| sent.since);
        let oldest = oldest.or_else(|| self.inlet.batcher.lock().oldest());
        let delivery = oldest.map(|since| since.plus(options.delivery_timeout));
        [linger, attempt, delivery, self.pause_until, self.abandon_at].into_iter().flatten().min()
    }

    fn take_answer(&mut self, place: usize, attempt: Attempt) {
        self.recovering |= attempt.is_err();
        if let Some(sent) = self.window.get_mut(place) {
            sent.state = State::Answered(attempt);
        }
        while let Some(State::Answered(Ok(_))) = self.window.front().map(|sent| &sent.state) {
            if let Some(Sent { state: State::Answered(Ok(stored)), .. }) = self.window.front() {
                let stored = stored.clone();
                self.backoff.reset();
                self.given_up = false; // what came before it was stored, or this could not be
                self.shared.budget.earn();
                if let Some(sent) = self.window.pop_front() {
                    self.settle(sent, Ok(stored));
                }
            }
        }
    }

    /// News of leaders: what waits for one goes on, what is on the way to an older one gets little time.
    fn reroute(&mut self) {
        let Ok(leader) = self.leader() else { return };
        if self.stream.as_ref().is_none_or(|(_, term)| leader.term > *term) {
            if self.any_waiting() {
                let at = self.now().plus(OLD_LEADER_GRACE);
                self.abandon_at.get_or_insert(at);
            } else if leader.term > self.tried {
                self.pause_until = None;
            }
        }
    }

    fn settle(&self, sent: Sent, outcome: Result<Stored>) {
        let settled = match sent.remainder {
            Some(remainder) => Settled::Each(Arc::new(remainder.complete(outcome))),
            None => Settled::All(outcome),
        };
        let _ = sent.done.send(settled);
        self.shared.settled(sent.id, sent.held);
    }

    fn name(&self) -> String {
        format!("{}/{}", self.topic, self.partition)
    }
}

/// For attempts that nobody answers any more.
fn unanswered(why: &str) -> Attempt {
    Err(Refused::from(Error::lost(why)))
}
