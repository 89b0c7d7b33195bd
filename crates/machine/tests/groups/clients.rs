//! Clients that behave: they own what they were told last, give up what is missing in it, and say so. What they
//! hold in their hands is the truth that a coordinator must agree with; it is written without its code.

use flotilla_machine::groups::Assignment;
use flotilla_types::{GroupEpoch, PartitionId, TopicId};
use std::collections::BTreeMap;

pub type Place = (TopicId, PartitionId);

/// A partition in a client's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Since when, as it was told.
    pub since: GroupEpoch,
    /// The next record to process.
    pub position: u64,
}

/// A process.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Which process of this member; each begins with empty hands.
    pub life: u64,
    /// 0 = not joined.
    pub epoch: GroupEpoch,
    pub hands: BTreeMap<Place, Hold>,
    /// Counts its commits, over all its lives.
    pub calls: u64,
    /// It does not answer any more, until it wakes.
    pub asleep: bool,
}

impl Client {
    /// Begins anew, with nothing.
    pub fn start(&mut self) {
        *self = Self { life: self.life + 1, calls: self.calls, ..Self::default() };
    }

    /// It was told that it is no member: it drops everything.
    pub fn fenced(&mut self) {
        self.start();
    }

    /// An answer arrives.
    pub fn told(&mut self, told: &Assignment) {
        self.epoch = told.member_epoch;
        let mut hands = BTreeMap::new();
        for one in &told.partitions {
            let place = (one.topic_id, one.partition);
            let start = one.committed.map_or(0, flotilla_types::Offset::get);
            let fresh = Hold { since: one.assignment_epoch, position: start };
            // The same holding as before goes on where it is.
            let hold = self.hands.get(&place).filter(|hold| hold.since == one.assignment_epoch);
            hands.insert(place, hold.copied().unwrap_or(fresh));
        }
        self.hands = hands;
    }

    /// What it says it owns.
    pub fn owned(&self) -> flotilla_machine::groups::Partitions {
        let mut owned = flotilla_machine::groups::Partitions::new();
        for (topic, partition) in self.hands.keys() {
            owned.entry(*topic).or_default().insert(*partition);
        }
        owned
    }

    /// It processes a record of everything it has.
    pub fn work(&mut self) {
        self.hands.values_mut().for_each(|hold| hold.position += 1);
    }
}
