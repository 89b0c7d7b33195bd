//! After a failure: what is tried again, what ends and how, and with which stamps the rest goes on.

use super::{Pipeline, Sent, State, remainder::Remainder, unanswered};
use crate::batcher::Settled;
use crate::error::Error;
use crate::identity::Identity;
use crate::produce_stream::Refused;
use flotilla_types::{Action, Reason, Sequence};
use std::collections::VecDeque;

/// What became of the stamps.
#[derive(Debug, Default)]
struct Damage {
    /// Nothing was stored from this sequence on: later batches may move up.
    hole: Option<Sequence>,
    /// Something may have been stored that we gave up: fence it.
    fence: bool,
    /// The partition does not know us any more: begin as somebody new.
    stranger: bool,
}

/// What is done about one refused batch.
enum Verdict {
    Again,
    /// Again, as somebody new.
    AgainAsNew,
    End,
    EndAsNew,
}

/// `head` = everything before it is stored, so the refusal is about this batch itself.
fn verdict(error: &Error, head: bool, doubtful: bool) -> Verdict {
    if error.is_outcome_unknown() {
        return Verdict::Again;
    }
    match error.reason() {
        Some(Reason::OutOfOrderSequence | Reason::ProducerStateExpired | Reason::InvalidProducerEpoch)
            if !head =>
        {
            Verdict::Again
        }
        // The partition lost what it acknowledged, or this client's count is wrong: say so.
        Some(Reason::OutOfOrderSequence) => Verdict::EndAsNew,
        Some(Reason::ProducerStateExpired | Reason::InvalidProducerEpoch | Reason::ProducerFenced) => {
            if doubtful {
                Verdict::EndAsNew
            } else {
                Verdict::AgainAsNew
            }
        }
        _ => match error.action() {
            Action::Retry | Action::RefreshMetadata => Verdict::Again,
            Action::ReinitProducer if !doubtful => Verdict::AgainAsNew,
            Action::ReinitProducer => Verdict::EndAsNew,
            Action::Fail | Action::AbortTransaction | Action::Rejoin | Action::RefreshMember => Verdict::End,
        },
    }
}

impl Pipeline {
    /// Every batch has its answer, at least one of them bad. Decides on each and prepares the rest.
    pub(super) fn recover(&mut self) {
        self.recovering = false;
        self.abandon_at = None;
        let mut damage = Damage { fence: std::mem::take(&mut self.given_up), ..Damage::default() };
        let mut first: Option<Error> = None;
        let mut kept = VecDeque::new();
        for mut sent in std::mem::take(&mut self.window) {
            let Refused { error, records } = match std::mem::replace(&mut sent.state, State::Pending) {
                State::Answered(Err(refused)) => refused,
                State::Answered(Ok(stored)) => {
                    // Stored behind a batch that was refused for good: the count is not what we think.
                    damage.fence |= damage.hole.is_some();
                    self.settle(sent, Ok(stored));
                    continue;
                }
                State::Pending | State::Waiting { .. } => {
                    kept.push_back(sent);
                    continue;
                }
            };
            sent.doubtful |= error.is_outcome_unknown();
            let head = kept.is_empty() && damage.hole.is_none() && !damage.fence;
            let verdict = verdict(&error, head, sent.doubtful);
            damage.stranger |= matches!(verdict, Verdict::AgainAsNew | Verdict::EndAsNew);
            match verdict {
                Verdict::Again | Verdict::AgainAsNew => {
                    first.get_or_insert(error);
                    kept.push_back(sent);
                }
                Verdict::End | Verdict::EndAsNew => {
                    let sequence = sent.sequence();
                    damage.hole.get_or_insert(sequence);
                    kept.extend(self.split(sent, error, &records, &mut damage));
                }
            }
        }
        self.window = self.repair(kept, damage);
        if let Some(error) = first.filter(|_| !self.window.is_empty()) {
            self.stumble(error);
        }
    }

    /// Ends a batch; if the server named single records of it, the others go on as a smaller batch.
    fn split(&self, sent: Sent, error: Error, records: &[(u32, Error)], damage: &mut Damage) -> Option<Sent> {
        if !sent.doubtful && !sent.atomic && !records.is_empty() {
            return match Remainder::without(sent, records) {
                Ok(rest) => Some(rest),
                Err(ended) => {
                    let (sent, settled) = *ended;
                    let _ = sent.done.send(Settled::Each(settled.into()));
                    self.shared.settled(sent.id, sent.held);
                    None
                }
            };
        }
        damage.fence |= sent.doubtful;
        let error = if sent.doubtful { error.doubted() } else { error };
        self.settle(sent, Err(error.context(format!("partition {}", self.name()))));
        None
    }

    /// Gives the remaining batches stamps that cannot store anything twice.
    fn repair(&mut self, kept: VecDeque<Sent>, damage: Damage) -> VecDeque<Sent> {
        if damage.hole.is_none() && !damage.fence && !damage.stranger {
            return kept;
        }
        let behind = |sent: &Sent| damage.hole.is_none_or(|hole| sent.sequence() >= hole);
        if !damage.fence && !damage.stranger && !kept.iter().any(|sent| sent.doubtful && behind(sent)) {
            return self.move_up(kept, damage.hole);
        }
        let mut sure = VecDeque::new();
        for sent in kept {
            if sent.doubtful {
                let error = self.last_words("an earlier batch failed while this one was on its way");
                self.settle(sent, Err(error.doubted()));
            } else {
                sure.push_back(sent);
            }
        }
        if damage.stranger {
            tracing::warn!(topic = %self.topic, partition = %self.partition, "going on as a new producer");
            self.identity = Identity::allocate(&*self.shared.client.options.random);
        } else {
            self.identity.bump();
        }
        sure.iter_mut().for_each(|sent| self.stamp(sent));
        sure
    }

    /// Closes the hole. What stands before it keeps its stamps.
    fn move_up(&mut self, mut kept: VecDeque<Sent>, hole: Option<Sequence>) -> VecDeque<Sent> {
        if let Some(hole) = hole {
            self.identity.rewind(hole);
            kept.iter_mut().filter(|sent| sent.sequence() >= hole).for_each(|sent| self.stamp(sent));
        }
        kept
    }

    fn stamp(&mut self, sent: &mut Sent) {
        sent.batch.header.producer = Some(self.identity.stamp(sent.batch.header.record_count));
        sent.batch.header = sent.batch.header.seal(&sent.batch.body);
    }

    /// Deadlines: of attempts, of an old leader's grace, and of records.
    pub(super) fn expire(&mut self) {
        let now = self.now();
        let attempt = self.attempt_timeout();
        let overdue = self
            .window
            .iter()
            .any(|sent| matches!(&sent.state, State::Waiting { since, .. } if now.since(*since) >= attempt));
        if overdue {
            self.abandon("no answer in time", true);
        } else if self.abandon_at.is_some_and(|at| now >= at) {
            self.abandon("the old leader did not answer", false);
        }
        if self.recovering && !self.any_waiting() {
            self.recover();
        }
        self.expire_window();
        self.expire_inlet();
    }

    /// Ends what has had its time. What is on the way behind it goes on: its answers will tell.
    fn expire_window(&mut self) {
        let now = self.now();
        let timeout = self.shared.options.delivery_timeout;
        let mut damage = Damage::default();
        while let Some(sent) = self.window.pop_front_if(|sent| now.since(sent.since) >= timeout) {
            let on_the_way = !sent.is_pending();
            let doubtful = sent.doubtful
                || match &sent.state {
                    State::Pending | State::Answered(Ok(_)) => false,
                    State::Waiting { .. } => true,
                    State::Answered(Err(refused)) => refused.error.is_outcome_unknown(),
                };
            if on_the_way {
                self.given_up = true;
            } else {
                damage.hole.get_or_insert(sent.sequence());
                damage.fence |= doubtful;
            }
            let error = self.last_words(&format!("not acknowledged within {timeout:?}"));
            let error = if doubtful { error.doubted() } else { error };
            self.settle(sent, Err(error));
        }
        if damage.hole.is_some() {
            // The first was pending, so all were: nothing is on the way.
            damage.fence |= std::mem::take(&mut self.given_up);
            let kept = std::mem::take(&mut self.window);
            self.window = self.repair(kept, damage);
        }
    }

    /// Batches that never got into the window end as certainly not stored.
    fn expire_inlet(&self) {
        let timeout = self.shared.options.delivery_timeout;
        let Some(since) = self.now().0.checked_sub(timeout) else { return };
        let old = self.inlet.batcher.lock().take_older(flotilla_types::Monotonic(since));
        for batch in old {
            let error = self.last_words(&format!("not sent within {timeout:?}"));
            let _ = batch.done.send(Settled::All(Err(error)));
            self.shared.settled(batch.id, batch.held);
        }
    }

    /// Nobody waits for the answers of what is on the way any more: their outcome is unknown.
    fn abandon(&mut self, why: &str, hung: bool) {
        self.abandon_at = None;
        self.recovering = true;
        for sent in self.window.iter_mut().filter(|sent| sent.is_waiting()) {
            sent.state = State::Answered(unanswered(why));
        }
        if let Some((stream, _)) = self.stream.take()
            && hung
        {
            stream.abandon(why);
        }
    }

    /// A timeout, with what went wrong last.
    fn last_words(&self, why: &str) -> Error {
        let last = self.last_error.as_ref().map(|error| format!("; last: {error}")).unwrap_or_default();
        Error::retriable(Reason::RequestTimedOut, format!("partition {}: {why}{last}", self.name()))
    }
}
