//! Where each partition of a member stands: handed out, processed, committed. Pure, so that the promise
//! "a committed offset never goes back without a seek" is tested without a network.

use crate::consumer::Position;
use flotilla_types::{Offset, PartitionId, Term, TopicName};
use std::collections::BTreeMap;

/// A partition by name.
pub(crate) type Key = (TopicName, PartitionId);

/// What may be done with a partition now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Assigned; the listener has not heard of it yet, and nothing is read.
    Prepared,
    /// Read and handed out.
    Active,
    /// To be given up: nothing more is handed out, and what was handed out is waited for.
    Draining,
}

/// One partition while this member has it.
#[derive(Clone, Debug)]
struct Held {
    /// This holding; the same partition assigned again is another one.
    serial: u64,
    /// Changes with every seek, so that what was fetched for an earlier place is recognised.
    reading: u64,
    assignment_epoch: i64,
    /// The life of the topic its offsets belong to, if it was known.
    topic_id: Option<String>,
    stage: Stage,
    /// `None`: nothing is committed, and the application has to say where to begin.
    start: Option<Position>,
    paused: bool,
    /// After the last record that the application was given.
    handed: Option<(Offset, Option<Term>)>,
    /// After the last record that the application is done with.
    processed: Option<(Offset, Option<Term>)>,
    /// What the coordinator has.
    committed: Option<Offset>,
    /// The application went back itself, so the next offset commit may.
    rewound: bool,
}

/// A partition's start as the coordinator and the options say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Begin {
    pub(crate) assignment_epoch: i64,
    pub(crate) topic_id: Option<String>,
    pub(crate) committed: Option<Offset>,
    /// Where to read from if nothing is committed; `None`: the application has to say.
    pub(crate) otherwise: Option<Position>,
}

/// An offset on its way to the coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) key: Key,
    pub(crate) serial: u64,
    pub(crate) offset: Offset,
    pub(crate) leader_epoch: Option<Term>,
    pub(crate) topic_id: Option<String>,
    pub(crate) metadata: String,
}

/// What the reader should be doing for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) number: u64,
    pub(crate) start: Option<Position>,
    pub(crate) paused: bool,
}

/// All partitions of a member.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    held: BTreeMap<Key, Held>,
    /// Handed out since the application last asked.
    outstanding: Vec<Key>,
    next: u64,
    version: u64,
}

impl Ledger {
    /// Rises whenever the reader has to do something else.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.version += 1;
        self.next
    }

    /// Takes a partition, from its committed offset if it has one. One that is held already starts again.
    pub(crate) fn assign(&mut self, key: Key, begin: Begin) {
        let serial = self.number();
        let start = begin.committed.map(Position::Offset).or(begin.otherwise);
        let paused = self.held.get(&key).is_some_and(|held| held.paused);
        let held = Held {
            serial,
            reading: serial,
            assignment_epoch: begin.assignment_epoch,
            topic_id: begin.topic_id,
            stage: Stage::Prepared,
            start,
            paused,
            handed: None,
            processed: None,
            committed: begin.committed,
            rewound: false,
        };
        self.held.insert(key, held);
    }

    /// Reads what was assigned.
    pub(crate) fn activate(&mut self) {
        self.version += 1;
        for held in self.held.values_mut().filter(|held| held.stage == Stage::Prepared) {
            held.stage = Stage::Active;
        }
    }

    /// Hands nothing more out of these.
    pub(crate) fn drain(&mut self, which: impl Fn(&Key) -> bool) {
        self.version += 1;
        for (_, held) in self.held.iter_mut().filter(|(key, _)| which(key)) {
            held.stage = Stage::Draining;
        }
    }

    /// Whether the application is done with everything it was given of a partition.
    pub(crate) fn is_drained(&self, key: &Key) -> bool {
        self.held.get(key).is_none_or(|held| held.handed.is_none() || held.handed == held.processed)
    }

    /// Gives a partition up.
    pub(crate) fn remove(&mut self, key: &Key) {
        self.version += 1;
        self.held.remove(key);
    }

    /// Gives everything up, and says what it was.
    pub(crate) fn clear(&mut self) -> Vec<Key> {
        self.version += 1;
        std::mem::take(&mut self.held).into_keys().collect()
    }

    /// Every partition, with the epoch it was assigned at.
    pub(crate) fn owned(&self) -> BTreeMap<Key, i64> {
        self.held.iter().map(|(key, held)| (key.clone(), held.assignment_epoch)).collect()
    }

    /// What the reader should be reading.
    pub(crate) fn readable(&self) -> BTreeMap<Key, Reading> {
        let reading = |held: &Held| Reading { number: held.reading, start: held.start, paused: held.paused };
        let active = self.held.iter().filter(|(_, held)| held.stage == Stage::Active);
        active.map(|(key, held)| (key.clone(), reading(held))).collect()
    }

    /// Notes that the application gets the records before `next`. False if it must not: the partition is
    /// being given up, or was read from elsewhere. (A pause is the reader's to keep: refused here, records
    /// that it has already passed over would be left out.)
    pub(crate) fn hand_out(&mut self, key: &Key, reading: u64, next: Offset, epoch: Term) -> bool {
        let held = self.held.get_mut(key);
        let Some(held) = held.filter(|held| held.stage == Stage::Active && held.reading == reading) else {
            return false;
        };
        held.handed = Some((next, Some(epoch)));
        self.outstanding.push(key.clone());
        true
    }

    /// The application asks for more, so it is done with what it has. Says whether somebody waits for that.
    pub(crate) fn all_processed(&mut self) -> bool {
        let mut awaited = false;
        for key in std::mem::take(&mut self.outstanding) {
            if let Some(held) = self.held.get_mut(&key)
                && held.handed.is_some()
            {
                held.processed = held.handed;
                awaited |= held.stage == Stage::Draining;
            }
        }
        awaited
    }

    /// What the application has in hand does not count: somebody will get it again.
    pub(crate) fn take_back(&mut self) {
        self.outstanding.clear();
        self.held.values_mut().for_each(|held| held.handed = held.processed);
    }

    /// Where a reader that began at the end turned out to begin. That place is committed too: the next
    /// owner would otherwise begin at a later end and leave out what lies between.
    pub(crate) fn began(&mut self, key: &Key, reading: u64, at: Offset) {
        if let Some(held) = self.held.get_mut(key)
            && held.reading == reading
            && held.processed.is_none()
        {
            held.processed = Some((at, None));
        }
    }

    /// Goes elsewhere. False if the partition is not held.
    pub(crate) fn seek(&mut self, key: &Key, to: Position) -> bool {
        let reading = self.number();
        let Some(held) = self.held.get_mut(key) else { return false };
        held.reading = reading;
        held.start = Some(to);
        held.handed = None;
        held.processed = match to {
            Position::Offset(offset) => Some((offset, None)),
            _ => None,
        };
        held.rewound = true;
        true
    }

    /// Pauses or resumes. False if the partition is not held.
    pub(crate) fn pause(&mut self, key: &Key, paused: bool) -> bool {
        self.version += 1;
        let Some(held) = self.held.get_mut(key) else { return false };
        held.paused = paused;
        true
    }

    /// What the coordinator has of a partition; `None` if that is nothing, or the partition is not held.
    pub(crate) fn committed(&self, key: &Key) -> Option<Offset> {
        self.held.get(key)?.committed
    }

    /// This holding of a partition.
    pub(crate) fn serial(&self, key: &Key) -> Option<u64> {
        self.held.get(key).map(|held| held.serial)
    }

    /// After the last record the application was given, else where it began.
    pub(crate) fn position(&self, key: &Key) -> Option<Offset> {
        let held = self.held.get(key)?;
        let began = || match held.start {
            Some(Position::Offset(offset)) => Some(offset),
            _ => None,
        };
        held.handed.or(held.processed).map(|(offset, _)| offset).or_else(began)
    }

    /// What was processed and is not committed, of the partitions that `which` names.
    pub(crate) fn processed(&self, which: impl Fn(&Key) -> bool) -> Vec<Pending> {
        let pending = |(key, held): (&Key, &Held)| {
            let (offset, epoch) = held.processed?;
            held.wants(offset).then(|| held.pending(key, offset, epoch, String::new()))
        };
        self.held.iter().filter(|(key, _)| which(key)).filter_map(pending).collect()
    }

    /// The same of everything handed out: for an application that says it is done.
    pub(crate) fn handed(&self) -> Vec<Pending> {
        let pending = |(key, held): (&Key, &Held)| {
            let (offset, epoch) = held.handed.or(held.processed)?;
            held.wants(offset).then(|| held.pending(key, offset, epoch, String::new()))
        };
        self.held.iter().filter_map(pending).collect()
    }

    /// An offset that the application gave. `None`: the partition is not held (any more), or there is
    /// nothing to do because the coordinator has this offset or a later one.
    pub(crate) fn explicit(&self, key: &Key, serial: u64, offset: Offset, metadata: &str) -> Option<Pending> {
        let held = self.held.get(key).filter(|held| held.serial == serial)?;
        let epoch = held.handed.filter(|(handed, _)| *handed == offset).and_then(|(_, epoch)| epoch);
        held.wants(offset).then(|| held.pending(key, offset, epoch, metadata.to_owned()))
    }

    /// The coordinator has stored an offset.
    pub(crate) fn stored(&mut self, pending: &Pending) {
        if let Some(held) = self.held.get_mut(&pending.key)
            && held.serial == pending.serial
        {
            held.committed = Some(pending.offset);
            // Still rewound if the application went elsewhere while this was on its way.
            held.rewound &= held.processed.is_some_and(|(offset, _)| offset < pending.offset);
        }
    }
}

impl Held {
    /// Whether an offset is news to the coordinator: further on, or anywhere after a seek.
    fn wants(&self, offset: Offset) -> bool {
        self.committed.is_none_or(|committed| offset > committed || (self.rewound && offset != committed))
    }

    fn pending(&self, key: &Key, offset: Offset, epoch: Option<Term>, metadata: String) -> Pending {
        Pending {
            key: key.clone(),
            serial: self.serial,
            offset,
            leader_epoch: epoch,
            topic_id: self.topic_id.clone(),
            metadata,
        }
    }
}

#[cfg(test)]
mod tests;
