//! Offset commits that arrive when they like, and seeks: what must be stored is worked out from what clients hold.

use super::clients::Place;
use super::group;
use super::model::{Model, name};
use flotilla_machine::groups::{Answer, Command, OffsetCommit};
use flotilla_types::{GroupEpoch, Offset};
use std::collections::BTreeMap;

/// A commit on its way.
#[derive(Clone, Debug)]
pub struct Sent {
    slot: usize,
    life: u64,
    epoch: GroupEpoch,
    number: u64,
    offsets: BTreeMap<Place, (GroupEpoch, u64)>,
}

impl Model {
    pub fn send(&mut self, slot: usize) {
        let client = &mut self.clients[slot];
        if client.epoch == GroupEpoch(0) {
            return;
        }
        client.calls += 1;
        let offsets =
            client.hands.iter().map(|(place, hold)| (*place, (hold.since, hold.position))).collect();
        self.sent.push(Sent { slot, life: client.life, epoch: client.epoch, number: client.calls, offsets });
    }

    /// A commit counts exactly if its sender is the member it was, and has had the partition ever since.
    pub fn arrive(&mut self, which: usize) {
        if self.sent.is_empty() {
            return;
        }
        let sent = self.sent.remove(which % self.sent.len());
        let id = name(sent.slot, sent.life);
        let is_member = self.members.get(&sent.slot) == Some(&sent.life);
        let owns = |place: &Place| self.of_group(|group| group.members().get(&id)?.owns(place.0, place.1));
        let held: BTreeMap<Place, Option<GroupEpoch>> =
            sent.offsets.keys().map(|place| (*place, owns(place).flatten())).collect();
        let (mut expected, mut refused) = (self.stored.clone(), 0);
        for (place, (since, offset)) in &sent.offsets {
            // After a seek nothing counts until the member has come to its epoch.
            if !is_member || held[place] != Some(*since) || sent.epoch < *since {
                refused += 1;
                continue;
            }
            let overtaken = self.calls.get(place).is_some_and(|(life, slot, number)| {
                (*life, *slot) == (sent.life, sent.slot) && *number > sent.number
            });
            if !overtaken {
                expected.insert(*place, *offset);
                self.calls.insert(*place, (sent.life, sent.slot, sent.number));
            }
        }
        let offsets = sent.offsets.iter().map(|(place, (_, offset))| OffsetCommit {
            topic: place.0,
            partition: place.1,
            offset: Offset(*offset),
            leader_epoch: None,
            metadata: String::new(),
        });
        let by = Some((id, sent.epoch));
        let (offsets, number) = (offsets.collect(), sent.number);
        let outcome = self.apply(Command::Commit { group: group(), member: by, number, offsets, now: 0 });
        match outcome.answer {
            Ok(Answer::Committed { refused: told }) => assert_eq!(told.len(), refused),
            other => assert!(!is_member, "{other:?}"),
        }
        assert_eq!(self.stored, expected);
    }

    pub fn seek(&mut self, which: usize, to: u64) {
        let places = self.of_group(|group| group.targets().keys().copied().collect::<Vec<_>>());
        let Some(place) = places.and_then(|places| places.get(which).copied()) else { return };
        self.calls.remove(&place);
        let (topic, partition) = place;
        let offsets = vec![OffsetCommit {
            topic,
            partition,
            offset: Offset(to),
            leader_epoch: None,
            metadata: String::new(),
        }];
        self.apply(Command::Seek { group: group(), offsets, now: 0 });
    }
}
