//! Formats stay: every command and row that any build wrote can be read, and this build writes the same.
//!
//! Lines are a name and hex digits. With `MACHINE_TESTDATA=write` they are written anew, which is right only
//! for what no release has written yet.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod harness;

use flotilla_machine::controller::{self, NodeSpec};
use flotilla_machine::groups::{self, Assignor, Join, OffsetCommit, Overdue, Sight, Subscription, TopicLife};
use flotilla_machine::partitions::Settings;
use flotilla_machine::{Append, Command, Kind, Malformed, Shard};
use flotilla_types::topic::{Retention, TopicConfig};
use flotilla_types::{
    ClusterId, Compression, GroupEpoch, GroupId, InstanceId, LogIndex, MemberId, NodeId, Offset, PartitionId,
    ShardId, StoreId, Term, TopicId, TopicName,
};
use harness::{Checked, batch};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

fn node(id: u32) -> NodeSpec {
    NodeSpec {
        id: NodeId(id),
        peer: format!("n{id}:7501"),
        client: format!("n{id}:7401"),
        rack: (id != 2).then(|| "a".to_owned()),
    }
}

fn full_append() -> Append {
    let header = batch(3, Some((7, 2, 41)));
    Append {
        append_time: 1_700_000_000_000,
        expected_offset: Some(Offset(9)),
        batch: flotilla_types::BatchHeader { compression: Compression::Zstd, schema_id: Some(5), ..header },
        body_bytes: 4096,
        message_ids: vec![(0, 1), (2, u128::MAX)],
        dedup_window_ms: Some(60_000),
    }
}

fn config() -> TopicConfig {
    TopicConfig {
        retention: Some(Retention::For(Duration::new(3600, 5))),
        retention_bytes: Some(1 << 30),
        max_batch_bytes: Some(4096),
        dedup_window: Some(Duration::from_secs(60)),
        trace_sample_ratio: Some(0.01),
    }
}

/// Every kind of command, with its fields set and, where it has some, absent.
fn commands() -> Vec<(&'static str, Command)> {
    use controller::Command as C;
    let name = TopicName::new("orders").unwrap();
    let labels = BTreeMap::from([("team".to_owned(), "blue".to_owned()), ("zone".to_owned(), String::new())]);
    let placement = vec![vec![NodeId(1), NodeId(2)], vec![NodeId(2)]];
    let c = Command::Controller;
    vec![
        ("append", Command::Append(full_append())),
        ("append-plain", Command::Append(harness::append(1, 0))),
        ("trim", Command::Trim { log_start: Offset(77), now: 1_700_000_000_001 }),
        ("checkpoint", Command::Checkpoint { now: -1 }),
        ("audit", Command::Audit { at: LogIndex(4096), chain: u128::MAX - 1 }),
        ("configure", Command::Configure(Settings::default())),
        ("bootstrap", c(C::Bootstrap { cluster: ClusterId::from_number(42), nodes: vec![node(1), node(2)] })),
        ("register-node", c(C::RegisterNode { node: node(1), store: StoreId::from_number(43) })),
        ("update-node", c(C::UpdateNode { node: node(2) })),
        ("retire-node", c(C::RetireNode { node: NodeId(3) })),
        (
            "create-topic",
            c(C::CreateTopic {
                name: name.clone(),
                config: config(),
                labels: labels.clone(),
                placement: placement.clone(),
                now: 5,
                request: 99,
            }),
        ),
        (
            "create-topic-plain",
            c(C::CreateTopic {
                name,
                config: TopicConfig::default(),
                labels: BTreeMap::new(),
                placement: placement.clone(),
                now: 6,
                request: 0,
            }),
        ),
        (
            "update-topic",
            c(C::UpdateTopic {
                topic: TopicId(2),
                config: TopicConfig { retention: Some(Retention::Unlimited), ..TopicConfig::default() },
                labels,
            }),
        ),
        ("add-partitions", c(C::AddPartitions { topic: TopicId(2), from: 2, placement })),
        ("delete-topic", c(C::DeleteTopic { topic: TopicId(2) })),
        (
            "place-replicas",
            c(C::PlaceReplicas {
                shard: ShardId(1024),
                from: Some(vec![NodeId(1), NodeId(2)]),
                replicas: vec![NodeId(2), NodeId(1)],
            }),
        ),
        ("allocate-producer-ids", c(C::AllocateProducerIds { count: 1000 })),
        ("set-feature", c(C::SetFeature { name: "transactions".to_owned(), level: 2 })),
        ("set-setting", c(C::SetSetting { name: "x".to_owned(), value: Some("y".to_owned()) })),
        ("set-setting-default", c(C::SetSetting { name: "x".to_owned(), value: None })),
    ]
}

fn subscription() -> Subscription {
    Subscription {
        topics: [TopicName::new("bills").unwrap(), TopicName::new("orders").unwrap()].into(),
        pattern: Some("ord.*".to_owned()),
        assignor: Some(Assignor::Range),
        rack: Some("a".to_owned()),
        rebalance_timeout_ms: 45_000,
        client: "tests".to_owned(),
    }
}

fn sight() -> Sight {
    let racks = vec![["a".to_owned(), "b".to_owned()].into(), ["b".to_owned()].into()];
    let orders = TopicLife { id: TopicId(7), partitions: 4, racks };
    Sight {
        as_of: LogIndex(9),
        topics: [(TopicName::new("orders").unwrap(), Some(orders)), (TopicName::new("bills").unwrap(), None)]
            .into(),
        patterns: [("ord.*".to_owned(), [TopicName::new("orders").unwrap()].into())].into(),
        gone: [TopicId(3)].into(),
    }
}

/// The same of groups, in an order in which all of them do something.
fn group_commands() -> Vec<(&'static str, Command)> {
    use groups::Command as C;
    let group = || GroupId::new("g.1").unwrap();
    let member = |name: &str| MemberId::new(name).unwrap();
    let (a, now) = (|| member("a"), 1_700_000_000_000);
    let join = |name: &str, instance: Option<&str>| {
        C::Join(Box::new(Join {
            group: group(),
            member: member(name),
            instance: instance.map(|name| InstanceId::new(name).unwrap()),
            holder_gone: false,
            subscription: subscription(),
            peer: "10.0.0.1:5000".to_owned(),
            members_max: 1000,
            sight: sight(),
            now,
        }))
    };
    let plain =
        Subscription { topics: [TopicName::new("orders").unwrap()].into(), ..Subscription::default() };
    let offset = |partition| OffsetCommit {
        topic: TopicId(7),
        partition: PartitionId(partition),
        offset: Offset(41),
        leader_epoch: Some(Term(3)),
        metadata: "m\u{e9}tadata".to_owned(),
    };
    let owned = [(TopicId(7), [PartitionId(2), PartitionId(3)].into())].into();
    let by = Some((a(), GroupEpoch(1)));
    let bare = OffsetCommit { leader_epoch: None, metadata: String::new(), ..offset(0) };
    let commands = vec![
        ("group-join", join("a", Some("i-1"))),
        (
            "group-commit",
            C::Commit { group: group(), member: by, number: 5, offsets: vec![offset(0), offset(2)], now },
        ),
        ("group-join-second", join("b", None)),
        (
            "group-acknowledge",
            C::Acknowledge {
                group: group(),
                member: a(),
                epoch: GroupEpoch(1),
                revision: LogIndex(3),
                owned,
                now,
            },
        ),
        (
            "group-resubscribe",
            C::Resubscribe {
                group: group(),
                member: member("b"),
                epoch: GroupEpoch(2),
                subscription: plain,
                sight: Sight { as_of: LogIndex(9), ..Sight::default() },
                now,
            },
        ),
        ("group-seek", C::Seek { group: group(), offsets: vec![offset(3)], now }),
        ("group-leave", C::Leave { group: group(), member: a(), epoch: GroupEpoch(4), temporary: true, now }),
        ("group-configure", C::Configure { group: group(), paused_until: Some(now + 1), now }),
        ("group-topics-changed", C::TopicsChanged { sight: sight(), now }),
        (
            "group-commit-by-nobody",
            C::Commit {
                group: GroupId::new("h").unwrap(),
                member: None,
                number: 0,
                offsets: vec![bare],
                now,
            },
        ),
        ("group-expire-offsets", C::ExpireOffsets { retention_ms: 1000, now }),
    ];
    let expire = |cause| C::Expire { group: group(), member: member("c"), epoch: GroupEpoch(4), cause, now };
    let last = vec![
        ("group-expire", expire(Overdue::Session)),
        ("group-expire-revocation", expire(Overdue::Revocation)),
        ("group-expire-poll", expire(Overdue::Poll)),
        ("group-delete", C::Delete { group: GroupId::new("x").unwrap(), force: true, now }),
    ];
    commands.into_iter().chain(last).map(|(name, command)| (name, Command::Group(command))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").unwrap();
        out
    })
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Compares with a file of `testdata`, or writes it.
fn golden(name: &str, actual: &str) {
    let path = format!("{}/testdata/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("MACHINE_TESTDATA").is_some_and(|how| how == "write") {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    for (expected, actual) in expected.lines().zip(actual.lines()) {
        assert_eq!(expected, actual);
    }
    assert_eq!(expected, actual);
}

#[test]
fn commands_have_the_bytes_they_always_had() {
    let mut lines = String::new();
    for (name, command) in commands().into_iter().chain(group_commands()) {
        let bytes = command.encode();
        assert_eq!(Command::decode(&bytes), Ok(command), "{name}");
        writeln!(lines, "{name} {}", hex(&bytes)).unwrap();
    }
    golden("commands.golden", &lines);
}

#[test]
fn commands_of_later_builds_are_unknown_and_nothing_else_is() {
    let unknown = |version, kind| Err(Malformed::Unknown { version, kind });
    assert_eq!(Command::decode(&[1, 6]), unknown(1, 6));
    assert_eq!(Command::decode(&[1, 200, 1, 2, 3]), unknown(1, 200));
    assert_eq!(Command::decode(&[2, 1, 0, 0]), unknown(2, 1));
    for bytes in [&[][..], &[1], &[1, 1], &[1, 32, 0]] {
        assert!(matches!(Command::decode(bytes), Err(Malformed::Corrupt { .. })), "{bytes:?}");
    }
}

#[test]
fn rows_have_the_bytes_they_always_had() {
    let mut lines = String::new();
    for kind in [Kind::Partition, Kind::Controller] {
        let mut checked = Checked::new(kind);
        // Every kind of row: marks need 4096 entries.
        for _ in 1..4090 {
            checked.skip().unwrap();
        }
        for (name, command) in commands() {
            if !matches!(name, "append" | "delete-topic" | "set-setting-default" | "retire-node" | "audit") {
                checked.apply(&command).unwrap();
            }
        }
        let again = Append { expected_offset: None, batch: batch(3, Some((7, 2, 0))), ..full_append() };
        checked.apply(&Command::Append(again)).unwrap();
        for (key, value) in checked.shard.rows() {
            writeln!(lines, "{kind:?} {} {}", hex(&key), hex(&value)).unwrap();
        }
    }
    let mut checked = Checked::new(Kind::Coordinator);
    for (name, command) in group_commands() {
        let applied = checked.apply(&command).unwrap();
        let flotilla_machine::Outcome::Group(outcome) = applied.outcome else { panic!("{name}") };
        assert!(outcome.answer.is_ok() || name == "group-delete", "{name}: {outcome:?}");
    }
    for (key, value) in checked.shard.rows() {
        writeln!(lines, "Coordinator {} {}", hex(&key), hex(&value)).unwrap();
    }
    golden("rows.golden", &lines);
    for kind in [Kind::Partition, Kind::Controller, Kind::Coordinator] {
        let rows: Vec<_> = lines
            .lines()
            .filter_map(|line| line.strip_prefix(&format!("{kind:?} "))?.split_once(' '))
            .map(|(key, value)| (unhex(key).into(), unhex(value).into()))
            .collect();
        let shard = Shard::load(kind, &rows).unwrap();
        assert_eq!(shard.rows(), rows);
    }
}
