//! The language of `testdata/groups/*.txt`: what a coordinator's leader sees and hears, and what is answered.
//!
//! `topic` and `gone` change what the leader sees; its commands carry that, and `tell` proposes it by itself.
//! `join`, `resubscribe`, `ack`, `leave`, `expire`, `commit`, `seek`, `configure`, `delete` and `forget` are
//! commands; `epoch=` is the member's own where it is not given, and `ack` gives up whatever it must. `show`
//! prints a group. The group is `g` where `group=` does not say otherwise.

mod show;

use super::Checked;
use flotilla_machine::groups::{
    Assignor, Command, Join, OffsetCommit, Overdue, Partitions, Sight, Subscription, TopicLife,
};
use flotilla_machine::{Kind, Outcome};
use flotilla_types::{
    GroupEpoch, GroupId, InstanceId, LogIndex, MemberId, Offset, PartitionId, TopicId, TopicName,
};
use std::collections::{BTreeMap, BTreeSet};

/// Runs one script and gives it back with the answers it really got.
pub fn run(script: &str) -> String {
    let mut world = World::new();
    super::script::run_with(script, |line| world.line(line))
}

struct World {
    coordinator: Checked,
    /// What the leader sees, by the controller's log index.
    seen_at: u64,
    seen: BTreeMap<TopicName, TopicLife>,
    time: i64,
}

/// A line's words: the verb, words of their own, pairs.
struct Words<'a> {
    verb: &'a str,
    bare: Vec<&'a str>,
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Words<'a> {
    fn new(line: &'a str) -> Self {
        let mut words = line.split_whitespace();
        let verb = words.next().unwrap();
        // `orders:0=5` is a place and its offset, which is no pair.
        let (pairs, bare): (Vec<_>, Vec<_>) = words.partition(|w| w.contains('=') && !w.contains(':'));
        let pairs = pairs.into_iter().map(|pair: &str| pair.split_once('=').unwrap()).collect();
        Self { verb, bare, pairs }
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.pairs.iter().find(|(other, _)| *other == key).map(|(_, value)| *value)
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.text(key).map(|value| value.parse().unwrap_or_else(|_| panic!("{key}={value}")))
    }

    fn has(&self, word: &str) -> bool {
        self.bare.contains(&word)
    }

    fn group(&self) -> GroupId {
        GroupId::new(self.text("group").unwrap_or("g")).unwrap()
    }

    fn member(&self) -> MemberId {
        MemberId::new(self.bare[0]).unwrap()
    }

    fn subscription(&self) -> Subscription {
        let topics = self.text("topics").into_iter().flat_map(|list| list.split(','));
        Subscription {
            topics: topics.map(|topic| TopicName::new(topic).unwrap()).collect(),
            pattern: self.text("pattern").map(str::to_owned),
            assignor: self.text("assignor").map(|name| Assignor::parse(name).unwrap()),
            rack: self.text("rack").map(str::to_owned),
            rebalance_timeout_ms: self.number("timeout").unwrap_or(0) as u32,
            client: self.text("client").unwrap_or_default().to_owned(),
        }
    }
}

impl World {
    fn new() -> Self {
        let coordinator = Checked::new(Kind::Coordinator);
        Self { coordinator, seen_at: 100, seen: BTreeMap::new(), time: 0 }
    }

    fn line(&mut self, line: &str) -> String {
        let words = Words::new(line);
        self.time = words.number("time").map_or(self.time, |time| time as i64);
        match words.verb {
            "topic" => return self.topic(&words),
            "gone" => {
                self.seen_at += 1;
                let topic = TopicName::new(words.bare[0]).unwrap();
                return self.seen.remove(&topic).map_or("not there", |_| "seen").to_owned() + "\n";
            }
            "show" => return show::group(self.groups(), &words.group()),
            _ => {}
        }
        let command = self.command(&words);
        let applied = self.coordinator.apply(&flotilla_machine::Command::Group(command)).unwrap();
        let Outcome::Group(outcome) = applied.outcome else { panic!("a coordinator answers for groups") };
        show::outcome(self.groups(), &outcome)
    }

    fn groups(&self) -> &flotilla_machine::groups::Groups {
        self.coordinator.shard.coordinator().unwrap().groups()
    }

    /// `topic orders partitions=4 racks=a|b;b`: it is there, and so from now on.
    fn topic(&mut self, words: &Words<'_>) -> String {
        self.seen_at += 1;
        let name = TopicName::new(words.bare[0]).unwrap();
        // As with the controller, an id is the index of the entry that made the topic.
        let id = self.seen.get(&name).map_or(self.seen_at, |life| life.id.get());
        let racks = words.text("racks").into_iter().flat_map(|list| list.split(';'));
        let racks = racks.map(|racks| racks.split('|').filter(|r| *r != "-").map(str::to_owned).collect());
        let life = TopicLife {
            id: TopicId(id),
            partitions: words.number("partitions").unwrap() as u32,
            racks: racks.collect(),
        };
        self.seen.insert(name, life);
        "seen\n".to_owned()
    }

    /// What the leader sees of these; patterns are prefixes here.
    fn sight(&self, names: impl IntoIterator<Item = TopicName>, patterns: &[String]) -> Sight {
        let matching = |pattern: &String| -> BTreeSet<TopicName> {
            let prefix = pattern.trim_end_matches(".*").to_owned();
            self.seen.keys().filter(|name| name.as_str().starts_with(&prefix)).cloned().collect()
        };
        let patterns: BTreeMap<_, _> = patterns.iter().map(|p| (p.clone(), matching(p))).collect();
        let names = names.into_iter().chain(patterns.values().flatten().cloned());
        let topics = names.map(|name| (name.clone(), self.seen.get(&name).cloned())).collect();
        Sight { as_of: LogIndex(self.seen_at), topics, patterns, gone: BTreeSet::new() }
    }

    fn sight_of(&self, subscription: &Subscription) -> Sight {
        self.sight(subscription.topics.clone(), subscription.pattern.as_slice())
    }

    /// All that differs from what the groups know.
    fn news(&self) -> Sight {
        let groups = self.groups();
        let patterns: Vec<_> = groups.wanted_patterns().map(str::to_owned).collect();
        let names = groups.wanted_topics().chain(groups.topics().keys()).cloned();
        let there: BTreeSet<_> = self.seen.values().map(|life| life.id).collect();
        let gone = groups.offset_topics().into_iter().filter(|id| !there.contains(id));
        Sight { gone: gone.collect(), ..self.sight(names, &patterns) }
    }

    fn command(&self, words: &Words<'_>) -> Command {
        let (group, now) = (words.group(), self.time);
        let epoch = |member: &MemberId| {
            let own = self.groups().get(&group).and_then(|g| Some(g.member_epoch(g.members().get(member)?)));
            words.number("epoch").map_or(own.unwrap_or_default(), GroupEpoch)
        };
        match words.verb {
            "join" => {
                let subscription = words.subscription();
                Command::Join(Box::new(Join {
                    group,
                    member: words.member(),
                    instance: words.text("instance").map(|name| InstanceId::new(name).unwrap()),
                    holder_gone: words.has("holder-gone"),
                    peer: words.text("peer").unwrap_or("peer").to_owned(),
                    members_max: words.number("max").unwrap_or(1000) as u32,
                    sight: self.sight_of(&subscription),
                    subscription,
                    now,
                }))
            }
            "resubscribe" => {
                let (member, subscription) = (words.member(), words.subscription());
                let (epoch, sight) = (epoch(&member), self.sight_of(&subscription));
                Command::Resubscribe { group, epoch, member, subscription, sight, now }
            }
            "ack" => {
                let member = words.member();
                let own = self.groups().get(&group).and_then(|group| group.members().get(&member));
                let revision = words.number("revision").map(LogIndex);
                let revision = revision.or(own.map(|own| own.revision())).unwrap_or_default();
                let epoch = epoch(&member);
                Command::Acknowledge { group, member, epoch, revision, owned: self.owned(words), now }
            }
            "leave" => {
                let member = words.member();
                let (epoch, temporary) = (epoch(&member), words.has("temporary"));
                Command::Leave { group, member, epoch, temporary, now }
            }
            "expire" => {
                let member = words.member();
                let cause = match words.bare[1] {
                    "session" => Overdue::Session,
                    "revocation" => Overdue::Revocation,
                    "poll" => Overdue::Poll,
                    other => panic!("nothing waits for {other}"),
                };
                Command::Expire { epoch: epoch(&member), group, member, cause, now }
            }
            "commit" => {
                let by = (!words.bare[0].contains(':')).then(|| words.member());
                let offsets = self.offsets(words);
                let member = by.map(|by| (by.clone(), epoch(&by)));
                let number = words.number("number").unwrap_or(0);
                Command::Commit { group, member, number, offsets, now }
            }
            "seek" => Command::Seek { group, offsets: self.offsets(words), now },
            "configure" => {
                Command::Configure { group, paused_until: words.number("paused").map(|t| t as i64), now }
            }
            "delete" => Command::Delete { group, force: words.has("force"), now },
            "tell" => Command::TopicsChanged { sight: self.news(), now },
            "forget" => Command::ExpireOffsets { retention_ms: words.number("after").unwrap(), now },
            verb => panic!("no such verb: {verb}"),
        }
    }

    /// A topic's id by its name as seen, or by its number.
    fn id(&self, topic: &str) -> TopicId {
        let seen = TopicName::new(topic).ok().and_then(|name| Some(self.seen.get(&name)?.id));
        seen.unwrap_or_else(|| TopicId(topic.parse().unwrap_or_else(|_| panic!("no topic {topic}"))))
    }

    /// `owned=orders:0,1` is written as a bare word `orders:0,1`.
    fn owned(&self, words: &Words<'_>) -> Partitions {
        let lists = words.bare.iter().filter_map(|word| word.split_once(':'));
        let numbers = |list: &str| list.split(',').map(|n| PartitionId(n.parse().unwrap())).collect();
        lists.map(|(topic, list)| (self.id(topic), numbers(list))).collect()
    }

    /// `orders:0=5,1=7`, each perhaps with the last record's term: `0=5@2`.
    fn offsets(&self, words: &Words<'_>) -> Vec<OffsetCommit> {
        let mut offsets = Vec::new();
        for (topic, list) in words.bare.iter().filter_map(|word| word.split_once(':')) {
            for (partition, offset) in list.split(',').map(|one| one.split_once('=').unwrap()) {
                let (offset, term) = offset.split_once('@').map_or((offset, None), |(o, t)| (o, Some(t)));
                offsets.push(OffsetCommit {
                    topic: self.id(topic),
                    partition: PartitionId(partition.parse().unwrap()),
                    offset: Offset(offset.parse().unwrap()),
                    leader_epoch: term.map(|term| flotilla_types::Term(term.parse().unwrap())),
                    metadata: words.text("metadata").unwrap_or_default().to_owned(),
                });
            }
        }
        offsets
    }
}
