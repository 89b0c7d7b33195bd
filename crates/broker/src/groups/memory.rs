//! What the leader of coordinators remembers besides the replicated state: who was heard of when, what each
//! member was told last, whom to wake, and all deadlines.
//!
//! None of it is replicated. A new leader begins with nothing and gives every member a full session. Whatever is
//! here belongs to a term of leadership; with the term it goes, and who waits for it is woken.

mod seen;

pub(crate) use seen::{Heard, Told};

use super::timers::Timers;
use flotilla_machine::groups::{Change, Outcome};
use flotilla_types::{GroupId, MemberId, Monotonic, ShardId, Term, TimestampMs};
use parking_lot::Mutex;
use seen::Seen;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use tokio::sync::watch;

/// Changes that may wait to be told of; more are dropped, oldest first, and counted.
const CHANGES_MAX: usize = 16 * 1024;

/// A member of a group that a led coordinator keeps.
pub(crate) type Place = (ShardId, GroupId, MemberId);

/// What a deadline is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The member must be heard of.
    Session(Place),
    /// The member must have given partitions up.
    Revocation(Place),
}

impl Timer {
    pub const fn place(&self) -> &Place {
        match self {
            Self::Session(place) | Self::Revocation(place) => place,
        }
    }
}

/// The memory of all coordinators that this node leads.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    led: BTreeMap<ShardId, Led>,
    timers: Timers<Timer>,
    /// Members whose assignment changed and that were not looked at since.
    revised: BTreeSet<Place>,
    changes: VecDeque<Changed>,
    dropped: u64,
}

/// A coordinator in a term of this node's leadership.
#[derive(Debug)]
struct Led {
    term: Term,
    members: BTreeMap<(GroupId, MemberId), Seen>,
}

/// A change that this leader saw applied.
#[derive(Clone, Debug)]
pub(crate) struct Changed {
    pub shard: ShardId,
    pub change: Change,
    pub at: Monotonic,
    pub wall: TimestampMs,
}

impl Memory {
    /// Whether this term of leadership is known here.
    pub fn knows(&self, shard: ShardId, term: Term) -> bool {
        self.0.lock().led.get(&shard).is_some_and(|led| led.term == term)
    }

    /// A term of leadership begins: from now on changes are noted.
    pub fn begin(&self, shard: ShardId, term: Term) {
        let mut state = self.0.lock();
        state.forget(shard);
        state.led.insert(shard, Led { term, members: BTreeMap::new() });
    }

    /// Leadership is over: whoever waits is woken by the end of his news.
    pub fn end(&self, shard: ShardId) {
        self.0.lock().forget(shard);
    }

    /// Whether a coordinator is led here, as far as was noted.
    pub fn is_led(&self, shard: ShardId) -> bool {
        self.0.lock().led.contains_key(&shard)
    }

    /// The coordinators that are led here, as far as was noted.
    pub fn led(&self) -> Vec<ShardId> {
        self.0.lock().led.keys().copied().collect()
    }

    /// Sets a deadline where there is none; answers whether it is the earliest now. Only for led coordinators.
    pub fn arm_if_absent(&self, timer: Timer, at: Monotonic) -> bool {
        let mut state = self.0.lock();
        state.led.contains_key(&timer.place().0) && state.timers.set_if_absent(timer, at)
    }

    /// Forgets a deadline.
    pub fn disarm(&self, timer: &Timer) {
        self.0.lock().timers.clear(timer);
    }

    /// Whether a deadline is set.
    pub fn is_armed(&self, timer: &Timer) -> bool {
        self.0.lock().timers.at(timer).is_some()
    }

    /// A member that was there before this term: it may come any moment.
    pub fn expect(&self, place: &Place) {
        let mut state = self.0.lock();
        if let Some(led) = state.led.get_mut(&place.0) {
            led.members.entry((place.1.clone(), place.2.clone())).or_default();
        }
    }

    /// When something is due.
    pub fn next_due(&self) -> Option<Monotonic> {
        self.0.lock().timers.next()
    }

    /// Takes what is due.
    pub fn due(&self, now: Monotonic) -> Vec<Timer> {
        self.0.lock().timers.due(now)
    }

    /// A sign of life: the session counts from here. Answers whether its end is the earliest deadline now.
    pub fn heard(
        &self,
        place: &Place,
        peer: &str,
        (at, wall): (Monotonic, TimestampMs),
        session: Duration,
    ) -> bool {
        let mut state = self.0.lock();
        let Some(led) = state.led.get_mut(&place.0) else { return false };
        let seen = led.members.entry((place.1.clone(), place.2.clone())).or_default();
        seen.heard = Some((at, wall));
        seen.broken_off = false;
        if seen.peer != peer {
            peer.clone_into(&mut seen.peer);
        }
        state.timers.set(Timer::Session(place.clone()), at.plus(session))
    }

    /// The member is out: nothing of it is remembered, and its heartbeats are answered.
    pub fn forget(&self, place: &Place) {
        let mut state = self.0.lock();
        state.timers.clear(&Timer::Session(place.clone()));
        state.timers.clear(&Timer::Revocation(place.clone()));
        if let Some(led) = state.led.get_mut(&place.0) {
            led.members.remove(&(place.1.clone(), place.2.clone()));
        }
    }

    /// What the member was told last.
    pub fn told(&self, place: &Place) -> Option<Told> {
        self.with(place, |seen| seen.told).flatten()
    }

    /// The member is answered this.
    pub fn tell(&self, place: &Place, told: Told) {
        self.with(place, |seen| seen.told = Some(told));
    }

    /// Heartbeats of a group's members are looked at again.
    pub fn wake(&self, shard: ShardId, group: &GroupId) {
        let state = self.0.lock();
        let members = state.led.get(&shard).into_iter().flat_map(|led| &led.members);
        for (_, seen) in members.filter(|((of, _), _)| of == group) {
            seen.news.send_modify(|number| *number += 1);
        }
    }

    /// For a heartbeat that is to be held. `None` = the coordinator is not led here any more, or the member is
    /// out.
    pub fn hold(&self, place: &Place) -> Option<watch::Receiver<u64>> {
        self.with(place, |seen| {
            seen.held += 1;
            seen.news.subscribe()
        })
    }

    /// The held heartbeat is over: answered, or given up by its caller.
    pub fn release(&self, place: &Place, answered: bool) {
        self.with(place, |seen| {
            seen.held = seen.held.saturating_sub(1);
            seen.broken_off = !answered && seen.held == 0;
        });
    }

    /// Whether nobody speaks for the member: no heartbeat is held, and the last one broke off or is longer ago
    /// than `silence`.
    pub fn is_gone(&self, place: &Place, now: Monotonic, silence: Duration) -> bool {
        self.with(place, |seen| {
            seen.held == 0 && (seen.broken_off || seen.heard.is_some_and(|(at, _)| now.since(at) > silence))
        })
        // Not heard of since this node leads: it may be about to come.
        .unwrap_or(false)
    }

    /// When a member was heard of, and from where.
    pub fn last_heard(&self, place: &Place) -> Heard {
        let heard = |seen: &mut Seen| Heard { at: seen.heard.map(|(_, wall)| wall), peer: seen.peer.clone() };
        self.with(place, heard).unwrap_or_default()
    }

    fn with<T>(&self, place: &Place, act: impl FnOnce(&mut Seen) -> T) -> Option<T> {
        let mut state = self.0.lock();
        let led = state.led.get_mut(&place.0)?;
        led.members.get_mut(&(place.1.clone(), place.2.clone())).map(act)
    }

    /// A command was applied. Wakes whom it concerns and keeps what others want to hear of.
    pub fn applied(&self, shard: ShardId, outcome: &Outcome, at: Monotonic, wall: TimestampMs) -> bool {
        if outcome.changes.is_empty() {
            return false;
        }
        let mut state = self.0.lock();
        let state = &mut *state;
        let Some(led) = state.led.get_mut(&shard) else { return false };
        for change in &outcome.changes {
            for member in change.revised.iter().chain(&change.removed) {
                let place = (change.group.clone(), member.clone());
                if let Some(seen) = led.members.get(&place) {
                    seen.news.send_modify(|number| *number += 1);
                }
                state.revised.insert((shard, place.0, place.1));
            }
            if state.changes.len() == CHANGES_MAX {
                state.changes.pop_front();
                state.dropped += 1;
            }
            state.changes.push_back(Changed { shard, change: change.clone(), at, wall });
        }
        true
    }

    /// Takes the members whose assignment changed since the last time.
    pub fn take_revised(&self) -> BTreeSet<Place> {
        std::mem::take(&mut self.0.lock().revised)
    }

    /// Takes the changes, and how many were lost.
    pub fn take_changes(&self) -> (VecDeque<Changed>, u64) {
        let mut state = self.0.lock();
        (std::mem::take(&mut state.changes), std::mem::take(&mut state.dropped))
    }
}

impl State {
    fn forget(&mut self, shard: ShardId) {
        if self.led.remove(&shard).is_some() {
            self.timers.retain(|timer| timer.place().0 != shard);
            self.revised.retain(|place| place.0 != shard);
        }
    }
}

#[cfg(test)]
mod tests;
