//! What a member is to its group: the states of KIP-848's client and what moves it from one to another.
//! Pure: it says what the next heartbeat holds and what there is to do, and is told what came of it.
//!
//! | State | Heartbeats | Left when |
//! | --- | --- | --- |
//! | Unsubscribed | none | it is started |
//! | Joining | epoch 0, everything | the coordinator gives it an epoch |
//! | Reconciling | plain, so that the session lives | partitions are given up and taken as assigned |
//! | Acknowledging | what it owns now, at once | that is answered |
//! | Stable | plain | another assignment comes |
//! | Fenced | none | its partitions are dropped; then it joins |
//! | Preparing to leave | plain | its partitions are drained and committed |
//! | Leaving | the leave | that is answered |
//! | Stale | none | the application polls again; then it joins |
//! | Fatal | none | never |
//!
//! A heartbeat whose answer nobody saw may have been handled. Its successor therefore says everything
//! again, so that the coordinator answers with everything.

use super::ledger::Key;
use crate::error::Error;
use flotilla_types::{Action, Offset, Reason};
use std::collections::BTreeMap;

/// See the table above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not a member.
    Unsubscribed,
    /// Asks to become one.
    Joining,
    /// Gives partitions up and takes others.
    Reconciling,
    /// Says what it owns now.
    Acknowledging,
    /// Owns what it should.
    Stable,
    /// Was thrown out; drops its partitions.
    Fenced,
    /// Drains and commits before it leaves.
    PreparingToLeave,
    /// Says that it leaves.
    Leaving,
    /// Has left because the application stopped polling.
    Stale,
    /// Cannot be a member, for a reason that stays.
    Fatal,
}

/// What a member asks to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) topics: Vec<String>,
    pub(crate) pattern: String,
}

/// One partition of an assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) assignment_epoch: i64,
    pub(crate) committed: Option<Offset>,
    /// The life of the topic that its offsets belong to.
    pub(crate) topic_id: Option<String>,
}

/// What the coordinator wants a member to own.
pub(crate) type Target = BTreeMap<Key, Entry>;

/// How a member leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    Forever,
    /// A static member that will be back; its partitions wait for it.
    Temporarily,
}

/// A heartbeat to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The membership it belongs to, so that late answers are recognised.
    pub(crate) session: u64,
    pub(crate) epoch: i64,
    pub(crate) subscription: Option<Subscription>,
    pub(crate) owned: Option<Vec<Key>>,
    pub(crate) leave: Option<Leave>,
    told: Told,
}

/// How much of what a member has to say is known to the coordinator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    subscription: u64,
    owned: u64,
}

/// What there is to do besides heartbeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Make what is owned equal to what is assigned.
    Reconcile {
        /// No longer assigned.
        revoke: Vec<Key>,
        /// Assigned and not owned, or owned under an earlier assignment and to be read from elsewhere.
        take: Target,
    },
    /// Drop everything at once: others own it already, or soon.
    Drop,
}

/// A member's standing.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    state: State,
    session: u64,
    epoch: i64,
    subscription: Subscription,
    target: Option<Target>,
    owned: BTreeMap<Key, i64>,
    now: Told,
    told: Told,
    /// An answer was lost or not waited for.
    doubt: bool,
    leave: Leave,
    /// It leaves because nobody polls.
    going_stale: bool,
    /// What it had is dropped, so it may join again.
    dropped: bool,
    fatal: Option<Error>,
}

impl Member {
    pub(crate) fn new(subscription: Subscription) -> Self {
        Self {
            state: State::Unsubscribed,
            session: 0,
            epoch: 0,
            subscription,
            target: None,
            owned: BTreeMap::new(),
            now: Told { subscription: 1, owned: 1 },
            told: Told::default(),
            doubt: false,
            leave: Leave::Forever,
            going_stale: false,
            dropped: true,
            fatal: None,
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// The epoch it has reached; 0 before the first answer.
    pub(crate) fn epoch(&self) -> i64 {
        self.epoch
    }

    /// This membership; a member that joins again begins another one.
    pub(crate) fn session(&self) -> u64 {
        self.session
    }

    /// Why it can never be a member.
    pub(crate) fn fatal(&self) -> Option<&Error> {
        self.fatal.as_ref()
    }

    /// Whether the coordinator counts it as a member, as far as it knows.
    pub(crate) fn is_joined(&self) -> bool {
        self.epoch > 0
            && matches!(
                self.state,
                State::Reconciling | State::Acknowledging | State::Stable | State::PreparingToLeave
            )
    }

    /// Whether what it was assigned is its own still.
    pub(crate) fn keeps(&self) -> bool {
        !matches!(self.state, State::Unsubscribed | State::Joining | State::Fenced)
    }

    /// Whether records may be handed out.
    pub(crate) fn may_read(&self) -> bool {
        self.is_joined() && self.state != State::PreparingToLeave
    }

    /// Begins.
    pub(crate) fn start(&mut self) {
        if self.state == State::Unsubscribed {
            self.join();
        }
    }

    fn join(&mut self) {
        self.state = State::Joining;
        self.session += 1;
        self.epoch = 0;
        self.target = None;
        self.owned.clear();
        self.told = Told::default();
        self.doubt = false;
        self.going_stale = false;
        self.dropped = false;
    }

    /// Asks to read something else.
    pub(crate) fn subscribe(&mut self, subscription: Subscription) {
        self.subscription = subscription;
        self.now.subscription += 1;
    }

    /// The heartbeat to send now, if it should send one.
    pub(crate) fn request(&self) -> Option<Request> {
        let full = self.state == State::Joining || self.doubt;
        let (subscription, owned, leave) = match self.state {
            State::Unsubscribed | State::Fenced | State::Stale | State::Fatal => return None,
            State::PreparingToLeave if self.epoch == 0 => return None,
            State::Leaving => (false, false, Some(self.leave)),
            State::Joining | State::Acknowledging | State::Stable => {
                (full || self.now.subscription > self.told.subscription, true, None)
            }
            State::Reconciling | State::PreparingToLeave => {
                (full || self.now.subscription > self.told.subscription, full, None)
            }
        };
        let owned = owned && (full || self.now.owned > self.told.owned);
        let told = Told {
            subscription: if subscription { self.now.subscription } else { self.told.subscription },
            owned: if owned { self.now.owned } else { self.told.owned },
        };
        Some(Request {
            session: self.session,
            epoch: self.epoch,
            subscription: subscription.then(|| self.subscription.clone()),
            owned: owned.then(|| self.owned.keys().cloned().collect()),
            leave,
            told,
        })
    }

    /// Whether a heartbeat on its way should not be waited for, because there is something else to say. A
    /// join is waited for: a leave that overtook it would leave a member behind that nobody is.
    pub(crate) fn is_outdated(&self, sent: &Request) -> bool {
        if sent.session != self.session {
            return true;
        }
        let news = |next: Request| next.leave != sent.leave || next.told > sent.told;
        sent.epoch > 0 && self.request().is_none_or(news)
    }

    /// A heartbeat was given up while it was on its way.
    pub(crate) fn interrupted(&mut self, sent: &Request) {
        if sent.session == self.session {
            self.doubt = true;
        }
    }

    /// A heartbeat was answered. An answer to another membership, or one older than what is known, is
    /// forgotten. Says whether anything is new.
    pub(crate) fn answered(&mut self, sent: &Request, epoch: i64, assignment: Option<Target>) -> bool {
        if sent.session != self.session {
            return false;
        }
        if sent.leave.is_some() {
            self.left();
            return true;
        }
        if epoch < self.epoch {
            return false;
        }
        let before = (self.state, self.epoch);
        match self.state {
            State::Joining | State::Reconciling | State::Acknowledging | State::Stable => {}
            // What is assigned now does not matter any more; the epoch does, for the last commits.
            State::PreparingToLeave | State::Leaving => {
                self.epoch = epoch;
                return before.1 != epoch;
            }
            State::Unsubscribed | State::Fenced | State::Stale | State::Fatal => return false,
        }
        self.epoch = epoch;
        self.doubt = false;
        self.told.subscription = self.told.subscription.max(sent.told.subscription);
        self.told.owned = self.told.owned.max(sent.told.owned);
        let news = assignment.is_some();
        if let Some(target) = assignment {
            self.target = Some(target);
        }
        if self.state != State::Reconciling {
            self.state = if !self.is_reconciled() {
                State::Reconciling
            } else if self.now.owned > self.told.owned {
                State::Acknowledging
            } else {
                State::Stable
            };
        }
        news || before != (self.state, self.epoch)
    }

    /// A heartbeat was refused, or nobody knows what came of it.
    pub(crate) fn failed(&mut self, sent: &Request, error: &Error) {
        if sent.session != self.session {
            return;
        }
        match error.action() {
            Action::Rejoin if sent.leave.is_some() => self.left(),
            Action::Rejoin => self.fence(sent.session),
            Action::Fail | Action::AbortTransaction | Action::ReinitProducer
                if !error.is_outcome_unknown() =>
            {
                // A leave that is refused for good is as good as done: the session will end.
                if sent.leave.is_some() {
                    self.left();
                } else if error.reason() == Some(Reason::UnknownTopicOrPartition) {
                    self.doubt = true;
                } else {
                    self.fatal = Some(error.clone());
                    self.state = State::Fatal;
                }
            }
            _ => self.doubt = true,
        }
    }

    fn left(&mut self) {
        self.epoch = 0;
        self.state = if self.going_stale { State::Stale } else { State::Unsubscribed };
        self.going_stale = false;
    }

    fn is_reconciled(&self) -> bool {
        let Some(target) = &self.target else { return true };
        target.len() == self.owned.len()
            && target.iter().all(|(key, entry)| self.owned.get(key) == Some(&entry.assignment_epoch))
    }

    /// What there is to do besides heartbeats.
    pub(crate) fn work(&self) -> Option<Work> {
        match self.state {
            State::Reconciling => {
                let target = self.target.as_ref()?;
                let revoke = self.owned.keys().filter(|key| !target.contains_key(*key)).cloned();
                let news =
                    |(key, entry): &(&Key, &Entry)| self.owned.get(*key) != Some(&entry.assignment_epoch);
                let take = target.iter().filter(news).map(|(key, entry)| (key.clone(), entry.clone()));
                Some(Work::Reconcile { revoke: revoke.collect(), take: take.collect() })
            }
            State::Fenced | State::Fatal | State::Stale if !self.dropped => Some(Work::Drop),
            _ => None,
        }
    }

    /// What was to be given up is given up, what was to be taken is taken.
    pub(crate) fn reconciled(&mut self, owned: BTreeMap<Key, i64>) {
        if self.state == State::Reconciling {
            self.owned = owned;
            self.now.owned += 1;
            self.state = State::Acknowledging;
        }
    }

    /// The coordinator does not know this membership any more. No heartbeat is sent until what it owned is
    /// dropped; a membership that has been left since is not harmed.
    pub(crate) fn fence(&mut self, session: u64) {
        if session != self.session {
            return;
        }
        match self.state {
            State::Joining | State::Reconciling | State::Acknowledging | State::Stable => {
                self.state = State::Fenced;
                self.session += 1;
                self.epoch = 0;
            }
            State::PreparingToLeave | State::Leaving => self.left(),
            State::Unsubscribed | State::Fenced | State::Stale | State::Fatal => {}
        }
    }

    /// Everything it owned is dropped.
    pub(crate) fn dropped(&mut self) {
        self.owned.clear();
        self.dropped = true;
        if self.state == State::Fenced {
            self.join();
        }
    }

    /// The application does not poll any more: others should have the work. A static member leaves for good
    /// too, since its partitions would wait for a process that hangs.
    pub(crate) fn go_stale(&mut self) {
        if self.is_joined() && self.state != State::PreparingToLeave {
            self.going_stale = true;
            self.leave = Leave::Forever;
            self.state = State::Leaving;
        }
    }

    /// The application polls. Says whether that changed anything.
    pub(crate) fn polled(&mut self) -> bool {
        let again = self.state == State::Stale && self.dropped;
        if again {
            self.join();
        }
        again
    }

    /// Nothing more is taken on. Says whether there is a membership to end.
    pub(crate) fn prepare_to_leave(&mut self) -> bool {
        match self.state {
            State::Joining | State::Reconciling | State::Acknowledging | State::Stable => {
                self.state = State::PreparingToLeave;
                true
            }
            State::PreparingToLeave | State::Leaving => true,
            State::Unsubscribed | State::Fenced | State::Stale | State::Fatal => {
                self.state = State::Unsubscribed;
                false
            }
        }
    }

    /// Says goodbye with the next heartbeat.
    pub(crate) fn leave(&mut self, leave: Leave) {
        if self.state == State::PreparingToLeave {
            self.leave = leave;
            self.state = State::Leaving;
        }
    }
}

#[cfg(test)]
mod tests;
