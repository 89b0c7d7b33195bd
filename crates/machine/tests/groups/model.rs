//! Clients, a leader and a coordinator under any order of joins, heartbeats, lost answers, commits that are held
//! up, seeks, leaves, expiries, changes of topics that a leader sees late, and new leaders.
//!
//! The harness checks at every step that change sets write what the state holds, that a loaded state goes on as
//! its origin would, and that replicas answer alike.

use super::clients::{Client, Place};
use super::commits::Sent;
use super::ops::{Op, op};
use super::world::{World, wish};
use super::{group, plans};
use crate::harness::Checked;
use flotilla_machine::groups::{
    Answer, Command, Group, GroupState, Groups, Join, MemberState, Outcome, Overdue, Refusal,
};
use flotilla_machine::{Kind, Outcome as Applied};
use flotilla_types::{GroupEpoch, InstanceId, LogIndex, MemberId};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What a client calls itself. Every other one is static: each of its processes has a name of its own.
pub fn name(slot: usize, life: u64) -> MemberId {
    let name = if slot % 2 == 1 { format!("m{slot}-{life}") } else { format!("m{slot}") };
    MemberId::new(&name).unwrap()
}

/// Clients there are.
pub const SLOTS: usize = 5;

pub struct Model {
    coordinator: Checked,
    world: World,
    /// The moment that the leader sees.
    sees: usize,
    /// What the leader answered last, by member.
    told: BTreeMap<MemberId, LogIndex>,
    pub clients: Vec<Client>,
    /// Lives that the coordinator has as members, by slot.
    pub members: BTreeMap<usize, u64>,
    /// Slots that said they will be back.
    away: Vec<usize>,
    pub sent: Vec<Sent>,
    /// The last call that was stored for a place since it has this owner, and what is stored.
    pub calls: BTreeMap<Place, (u64, usize, u64)>,
    pub stored: BTreeMap<Place, u64>,
}

impl Model {
    fn new() -> Self {
        let mut world = World::new();
        world.change(0, 3);
        world.change(1, 2);
        let sees = world.latest();
        Self {
            coordinator: Checked::new(Kind::Coordinator),
            world,
            sees,
            told: BTreeMap::new(),
            clients: vec![Client::default(); SLOTS],
            members: BTreeMap::new(),
            away: Vec::new(),
            sent: Vec::new(),
            calls: BTreeMap::new(),
            stored: BTreeMap::new(),
        }
    }

    fn groups(&self) -> &Groups {
        self.coordinator.shard.coordinator().unwrap().groups()
    }

    pub fn of_group<T>(&self, look: impl FnOnce(&Group) -> T) -> Option<T> {
        self.groups().get(&group()).map(look)
    }

    pub fn apply(&mut self, command: Command) -> Outcome {
        let before = self.groups().get(&group()).cloned();
        let applied = self.coordinator.apply(&flotilla_machine::Command::Group(command.clone())).unwrap();
        let Applied::Group(outcome) = applied.outcome else { panic!("a coordinator answers for groups") };
        plans::check(self.groups(), before.as_ref(), &command);
        self.check(matches!(command, Command::Seek { .. }));
        *outcome
    }

    /// What must hold after every command.
    fn check(&mut self, sought: bool) {
        let Some(group) = self.groups().get(&group()) else { return };
        let mut owners: BTreeMap<Place, &MemberId> = BTreeMap::new();
        for (id, member) in group.members() {
            for owned in [member.assigned(), member.revoking()] {
                for (topic, partitions) in owned {
                    for (partition, since) in partitions {
                        assert_eq!(owners.insert((*topic, *partition), id), None, "one owner");
                        assert!(*since <= group.epoch());
                    }
                }
            }
            let epoch = group.member_epoch(member);
            assert!(member.joined() <= epoch && epoch <= group.epoch(), "{id} is at {epoch}");
        }
        for (place, owner) in &owners {
            assert_eq!(group.owner(place.0, place.1), Some(*owner));
        }
        for (place, heir) in group.targets().iter().filter(|(place, _)| !owners.contains_key(place)) {
            let state = group.member_state(&group.members()[heir]);
            let waits = state == MemberState::UnrevokedPartitions;
            assert!(waits, "{place:?} is free, and {heir} is to have it");
        }
        let now: BTreeMap<Place, u64> =
            group.offsets().iter().map(|(place, c)| (*place, c.offset.get())).collect();
        for (place, offset) in &now {
            let before = self.stored.get(place).copied().unwrap_or(0);
            assert!(sought || *offset >= before, "{place:?} went back from {before} to {offset}");
        }
        self.stored = now;
        self.check_hands();
    }

    /// No two clients that are members have the same in their hands, and the coordinator knows what they have.
    fn check_hands(&self) {
        let mut hands: BTreeMap<Place, usize> = BTreeMap::new();
        let topics = self.world.at(self.world.latest());
        // Of a topic that is gone nobody reads, whatever a leader that lags behind makes of it.
        let lives = |place: &&Place| topics.values().any(|life| life.id == place.0);
        for (slot, client) in self.clients.iter().enumerate() {
            if self.members.get(&slot) != Some(&client.life) || self.away.contains(&slot) {
                continue;
            }
            for place in client.hands.keys().filter(lives) {
                assert_eq!(hands.insert(*place, slot), None, "{place:?} is in two clients' hands");
                let owner = self.of_group(|group| group.owner(place.0, place.1).cloned()).flatten();
                assert_eq!(owner, Some(name(slot, client.life)), "{place:?}");
            }
        }
    }

    /// A client is answered, or not.
    fn answer(&mut self, slot: usize, answer: Result<Answer, Refusal>, lost: bool) {
        match answer {
            Ok(Answer::Member(told)) => {
                self.told.insert(name(slot, self.clients[slot].life), told.revision);
                if !lost {
                    self.clients[slot].told(&told);
                }
            }
            Ok(_) => {}
            Err(Refusal::MemberUnknown { .. } | Refusal::Fenced { .. }) if !lost => {
                self.clients[slot].fenced();
            }
            Err(_) => {}
        }
    }

    fn join(&mut self, slot: usize, number: usize, lost: bool) {
        self.clients[slot].start();
        let subscription = wish(number);
        let sight = self.world.sight_of(self.sees, &subscription);
        let outcome = self.apply_join(
            slot,
            Join {
                group: group(),
                member: name(slot, self.clients[slot].life),
                instance: (slot % 2 == 1).then(|| InstanceId::new(&format!("i{slot}")).unwrap()),
                holder_gone: true,
                subscription,
                peer: String::new(),
                members_max: 100,
                sight,
                now: 0,
            },
        );
        self.answer(slot, outcome.answer, lost);
    }

    fn apply_join(&mut self, slot: usize, join: Join) -> Outcome {
        self.members.insert(slot, self.clients[slot].life);
        self.away.retain(|away| *away != slot);
        self.apply(Command::Join(Box::new(join)))
    }

    /// A heartbeat, as the leader deals with it.
    fn beat(&mut self, slot: usize, lost: bool) {
        let client = &self.clients[slot];
        if client.epoch == GroupEpoch(0) || client.asleep {
            return;
        }
        let (id, epoch, owned) = (name(slot, client.life), client.epoch, client.owned());
        if let Err(refusal) = self.groups().check(&group(), &id, epoch).map(drop) {
            return self.answer(slot, Err(refusal), lost);
        }
        let (revision, gives_up) = self
            .of_group(|group| {
                let member = &group.members()[&id];
                let mut revoking =
                    member.revoking().iter().flat_map(|(t, list)| list.keys().map(move |p| (t, p)));
                let lacks = revoking.any(|(t, p)| !owned.get(t).is_some_and(|owned| owned.contains(p)));
                (member.revision(), lacks)
            })
            .unwrap();
        let answer = if gives_up && self.told.get(&id) == Some(&revision) {
            let command = Command::Acknowledge { group: group(), member: id, epoch, revision, owned, now: 0 };
            self.apply(command).answer
        } else {
            Ok(Answer::Member(Box::new(self.groups().assignment(&group(), &id).unwrap())))
        };
        self.answer(slot, answer, lost);
        self.check_hands();
    }

    fn expire(&mut self, slot: usize, cause: Overdue) {
        let Some(life) = self.members.get(&slot) else { return };
        let id = name(slot, *life);
        let found = self.of_group(|group| {
            let member = group.members().get(&id)?;
            Some((group.member_epoch(member), group.member_state(member)))
        });
        let Some((epoch, state)) = found.flatten() else { return };
        if cause == Overdue::Revocation && state != MemberState::UnrevokedPartitions {
            return;
        }
        self.members.remove(&slot);
        let outcome = self.apply(Command::Expire { group: group(), member: id, epoch, cause, now: 0 });
        assert_eq!(outcome.answer, Ok(Answer::Expired));
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Join { slot, wish, lost } => self.join(slot, wish, lost),
            Op::Beat { slot, lost } => self.beat(slot, lost),
            Op::Wish { slot, wish: number } => {
                let (id, epoch, subscription) =
                    (name(slot, self.clients[slot].life), self.clients[slot].epoch, wish(number));
                if epoch > GroupEpoch(0) {
                    let sight = self.world.sight_of(self.sees, &subscription);
                    let command = Command::Resubscribe {
                        group: group(),
                        member: id,
                        epoch,
                        subscription,
                        sight,
                        now: 0,
                    };
                    let answer = self.apply(command).answer;
                    self.answer(slot, answer, false);
                }
            }
            Op::Leave { slot, temporary } => {
                let epoch = self.clients[slot].epoch;
                if epoch == GroupEpoch(0) || self.members.get(&slot) != Some(&self.clients[slot].life) {
                    return;
                }
                let stays = temporary && slot % 2 == 1;
                if stays {
                    self.away.push(slot);
                } else {
                    self.members.remove(&slot);
                    self.away.retain(|away| *away != slot);
                }
                // Its hands are empty, its life is over only when it joins again: a commit may be on its way.
                self.clients[slot].hands.clear();
                self.clients[slot].epoch = GroupEpoch(0);
                let command = Command::Leave {
                    group: group(),
                    member: name(slot, self.clients[slot].life),
                    epoch,
                    temporary,
                    now: 0,
                };
                assert_eq!(self.apply(command).answer, Ok(Answer::Left));
            }
            Op::Expire { slot } => self.expire(slot, Overdue::Session),
            Op::Overdue { slot } => self.expire(slot, Overdue::Revocation),
            Op::Work { slot } => self.clients[slot].work(),
            Op::Send { slot } => self.send(slot),
            Op::Arrive { which } => self.arrive(which),
            Op::Seek { which, to } => self.seek(which, to),
            Op::Topic { number, partitions } => self.world.change(number, partitions),
            Op::Tell => {
                self.sees = (self.sees + 1).min(self.world.latest());
                self.tell();
            }
            Op::NewLeader { behind } => {
                self.told.clear();
                self.sees = self.world.latest().saturating_sub(behind);
                self.tell();
            }
        }
    }

    fn tell(&mut self) {
        let sight = self.world.news(self.sees, self.groups());
        self.apply(Command::TopicsChanged { sight, now: 0 });
        let live: Vec<_> = self.stored.keys().map(|place| place.0).collect();
        self.calls.retain(|place, _| live.contains(&place.0));
    }

    /// Everyone heartbeats and nothing is lost: before long everyone has what he is to have, and nothing else.
    fn settle(&mut self) {
        self.sees = self.world.latest();
        self.tell();
        for slot in self.away.clone() {
            self.expire(slot, Overdue::Session);
        }
        for _ in 0..4 {
            for slot in 0..SLOTS {
                self.beat(slot, false);
            }
        }
        for slot in 0..SLOTS {
            if self.clients[slot].epoch == GroupEpoch(0) && self.members.contains_key(&slot) {
                // It never heard that it joined.
                self.expire(slot, Overdue::Session);
            }
        }
        for _ in 0..4 {
            for slot in 0..SLOTS {
                self.beat(slot, false);
            }
        }
        let Some(group) = self.groups().get(&group()) else { return };
        let expected = if group.members().is_empty() { GroupState::Empty } else { GroupState::Stable };
        assert_eq!(group.state(), expected);
        for (slot, client) in self.clients.iter().enumerate() {
            let target = group.members().get(&name(slot, client.life)).map(|member| member.target().clone());
            assert_eq!(client.owned(), target.unwrap_or_default(), "m{slot} has what it is to have");
        }
        plans::check_whole(self.groups(), self.world.at(self.world.latest()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_partition_has_one_owner_and_offsets_go_forward(ops in prop::collection::vec(op(), 1..150)) {
        let mut model = Model::new();
        ops.into_iter().for_each(|op| model.step(op));
        model.settle();
    }
}
