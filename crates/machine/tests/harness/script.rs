//! The language of `testdata/*.txt`: command lines, `----`, the expected answer, an empty line.
//!
//! A line is a verb, perhaps the name of a shard, and `key=value` words. Each line answers with at least
//! one line. Time stays where the last `time=` set it.

use super::{Checked, batch};
use flotilla_machine::controller::{self, NodeSpec};
use flotilla_machine::partitions::{Refusal, Settings};
use flotilla_machine::{Append, Applied, Broken, Command, Kind, Mark, Outcome};
use flotilla_types::topic::{Retention, TopicConfig};
use flotilla_types::{
    ClusterId, LogIndex, NodeId, Offset, ProducerId, ShardId, StoreId, Term, TopicId, TopicName,
};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// Runs one script and gives it back with the answers it really got.
pub fn run(script: &str) -> String {
    let mut world = World::default();
    run_with(script, |line| world.line(line))
}

/// The same with another meaning of lines.
pub fn run_with(script: &str, mut answer: impl FnMut(&str) -> String) -> String {
    let mut out = String::new();
    let mut expected = false;
    let mut answers = String::new();
    for line in script.lines() {
        match line {
            "----" => {
                expected = true;
                out.push_str("----\n");
                out.push_str(&std::mem::take(&mut answers));
            }
            "" => {
                expected = false;
                out.push('\n');
            }
            _ if expected => {}
            comment if comment.starts_with('#') => writeln!(out, "{comment}").unwrap(),
            command => {
                writeln!(out, "{command}").unwrap();
                answers.push_str(&answer(command));
            }
        }
    }
    out
}

#[derive(Default)]
struct World {
    shards: BTreeMap<String, Checked>,
    time: i64,
}

/// A line's words.
struct Words<'a> {
    verb: &'a str,
    name: Option<&'a str>,
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Words<'a> {
    fn new(line: &'a str) -> Self {
        let mut words = line.split_whitespace();
        let verb = words.next().unwrap();
        let (names, pairs): (Vec<_>, Vec<_>) = words.partition(|word| !word.contains('='));
        let pairs = pairs.into_iter().map(|pair| pair.split_once('=').unwrap()).collect();
        Self { verb, name: names.first().copied(), pairs }
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.pairs.iter().find(|(other, _)| *other == key).map(|(_, value)| *value)
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.text(key).map(|value| value.parse().unwrap_or_else(|_| panic!("{key}={value}")))
    }

    fn must(&self, key: &str) -> u64 {
        self.number(key).unwrap_or_else(|| panic!("{} needs {key}", self.verb))
    }

    fn nodes(&self, key: &str) -> Option<Vec<NodeId>> {
        self.text(key).map(nodes)
    }

    fn placement(&self, key: &str) -> Vec<Vec<NodeId>> {
        self.text(key).unwrap_or_default().split(';').map(nodes).collect()
    }

    /// Every pair whose key begins so.
    fn labels(&self) -> BTreeMap<String, String> {
        let label =
            |(key, value): &(&str, &str)| Some((key.strip_prefix("label.")?.to_owned(), (*value).to_owned()));
        self.pairs.iter().filter_map(label).collect()
    }
}

fn nodes(list: &str) -> Vec<NodeId> {
    list.split(',').filter(|node| !node.is_empty()).map(|node| NodeId(node.parse().unwrap())).collect()
}

impl World {
    fn line(&mut self, line: &str) -> String {
        let words = Words::new(line);
        self.time = words.number("time").map_or(self.time, |time| time as i64);
        let controls = words.name.is_none_or(|name| name == "controller");
        let kind = if controls { Kind::Controller } else { Kind::Partition };
        let name = words.name.unwrap_or("controller").to_owned();
        let time = self.time;
        let checked = self.shards.entry(name).or_insert_with(|| Checked::new(kind));
        match words.verb {
            "show" => return show(checked),
            "producer" => return producer(checked, words.must("id")),
            "topics" => return topics(checked),
            "nodes" => return known_nodes(checked),
            "blank" => {
                for _ in 1..words.number("times").unwrap_or(1) {
                    checked.skip().unwrap();
                }
                return answer(checked.skip(), checked.next);
            }
            "elect" => {
                checked.term = Term(words.must("term"));
                return answer(checked.skip(), checked.next);
            }
            "jump" => {
                checked.next = LogIndex(words.must("to"));
                return answer(checked.skip(), checked.next);
            }
            _ => {}
        }
        let command = command(&words, time, checked);
        for _ in 1..words.number("times").unwrap_or(1) {
            checked.apply(&command).unwrap();
        }
        answer(checked.apply(&command), checked.next)
    }
}

fn command(words: &Words<'_>, time: i64, checked: &Checked) -> Command {
    match words.verb {
        "append" => Command::Append(append(words, time)),
        "trim" => Command::Trim { log_start: Offset(words.must("start")), now: time },
        "checkpoint" => Command::Checkpoint { now: time },
        "configure" => {
            let default = Settings::default();
            Command::Configure(Settings {
                producer_expiry_ms: words.number("expiry").unwrap_or(default.producer_expiry_ms),
                producers_max: words.number("producers").map_or(default.producers_max, |n| n as u32),
                checkpoint_bytes: words.number("checkpoint").unwrap_or(default.checkpoint_bytes),
            })
        }
        "audit" => {
            let at = LogIndex(words.must("at"));
            let own = checked.shard.marks().find(|mark| mark.at == at).map_or(0, |Mark { chain, .. }| chain);
            let chain = if words.text("chain") == Some("own") { own } else { own ^ 1 };
            Command::Audit { at, chain }
        }
        _ => Command::Controller(control(words, time)),
    }
}

fn append(words: &Words<'_>, time: i64) -> Append {
    let count = words.number("records").unwrap_or(1) as u32;
    let producer = words.number("producer").map(|id| (id, words.must("epoch"), words.must("sequence")));
    let ids = words.text("ids").unwrap_or_default().split(',').enumerate();
    let ids = ids.filter(|(_, id)| !id.is_empty() && *id != "-");
    Append {
        append_time: time,
        expected_offset: words.number("expected").map(Offset),
        batch: batch(count, producer),
        body_bytes: words.number("bytes").unwrap_or(100) as u32,
        message_ids: ids.map(|(record, id)| (record as u32, name_hash(id))).collect(),
        dedup_window_ms: words.number("window"),
    }
}

fn name_hash(id: &str) -> u128 {
    id.bytes().fold(7, |hash, byte| hash * 257 + u128::from(byte))
}

fn control(words: &Words<'_>, now: i64) -> controller::Command {
    use controller::Command as C;
    let spec = || node(words.must("node"), words);
    let topic = || TopicId(words.must("topic"));
    let name = |key| words.text(key).unwrap().to_owned();
    match words.verb {
        "bootstrap" => C::Bootstrap {
            cluster: ClusterId::from_number(u128::from(words.must("cluster"))),
            nodes: words.nodes("nodes").unwrap().iter().map(|id| node(u64::from(id.get()), words)).collect(),
        },
        "register" => {
            C::RegisterNode { node: spec(), store: StoreId::from_number(u128::from(words.must("store"))) }
        }
        "update-node" => C::UpdateNode { node: spec() },
        "retire" => C::RetireNode { node: NodeId(words.must("node") as u32) },
        "create" => C::CreateTopic {
            name: TopicName::new(words.text("topic").unwrap()).unwrap(),
            config: config(words),
            labels: words.labels(),
            placement: words.placement("partitions"),
            now,
            request: u128::from(words.number("request").unwrap_or(0)),
        },
        "update" => C::UpdateTopic { topic: topic(), config: config(words), labels: words.labels() },
        "add" => C::AddPartitions {
            topic: topic(),
            from: words.must("from") as u32,
            placement: words.placement("partitions"),
        },
        "delete" => C::DeleteTopic { topic: topic() },
        "place" => C::PlaceReplicas {
            shard: ShardId(words.must("shard") as u32),
            from: words.nodes("from"),
            replicas: words.nodes("on").unwrap(),
        },
        "ids" => C::AllocateProducerIds { count: words.must("count") as u32 },
        "feature" => C::SetFeature { name: name("name"), level: words.must("level") as u32 },
        "setting" => C::SetSetting { name: name("name"), value: words.text("value").map(str::to_owned) },
        verb => panic!("no such verb: {verb}"),
    }
}

fn node(id: u64, words: &Words<'_>) -> NodeSpec {
    NodeSpec {
        id: NodeId(id as u32),
        peer: words.text("peer").map_or(format!("n{id}:7501"), str::to_owned),
        client: words.text("client").map_or(format!("n{id}:7401"), str::to_owned),
        rack: words.text("rack").map(str::to_owned),
    }
}

fn config(words: &Words<'_>) -> TopicConfig {
    TopicConfig {
        retention: words.number("retention").map(|s| Retention::For(Duration::from_secs(s))),
        retention_bytes: words.number("retention_bytes"),
        max_batch_bytes: words.number("batch").map(|bytes| bytes as u32),
        dedup_window: words.number("dedup").map(Duration::from_secs),
        trace_sample_ratio: None,
    }
}

/// The outcome on one line, then what raft has to do.
fn answer(applied: Result<Applied, Broken>, next: LogIndex) -> String {
    let applied = match applied {
        Ok(applied) => applied,
        Err(broken) => return format!("broken: {broken}\n"),
    };
    let mut out = match applied.outcome {
        Outcome::Group(outcome) => format!("{outcome:?}\n"),
        Outcome::Appended { base_offset, append_time, duplicate, .. } => {
            match applied.changes.index.first() {
                Some(row) => {
                    assert!(!duplicate && row.base_offset == base_offset && row.append_time == append_time);
                    format!("offsets {base_offset}..{} at time {append_time}\n", row.end_offset())
                }
                None => format!("duplicate of offset {base_offset} at time {append_time}\n"),
            }
        }
        Outcome::AppendRefused(Refusal::MessageIdsKnown { known }) => {
            let known: Vec<_> =
                known.iter().map(|known| format!("{} at {}", known.record, known.first_offset)).collect();
            format!("refused: known records {}\n", known.join(", "))
        }
        Outcome::AppendRefused(refusal) => format!("refused: {refusal}\n"),
        Outcome::Trimmed { log_start } => format!("log starts at {log_start}\n"),
        Outcome::TrimRefused { next_offset } => format!("refused: the log ends at {next_offset}\n"),
        Outcome::Audited { compared: true } => "alike\n".to_owned(),
        Outcome::Audited { compared: false } => "not compared\n".to_owned(),
        Outcome::Controller(outcome) => control_answer(outcome),
        Outcome::Noop => "ok\n".to_owned(),
        Outcome::Misdirected => "refused: not for this kind of shard\n".to_owned(),
    };
    if applied.checkpoint {
        writeln!(out, "  checkpoint at entry {}", next.get() - 1).unwrap();
    }
    if let Some(purge) = applied.purge_to {
        writeln!(out, "  purge to entry {}, index below {}", purge.index, purge.index_rows_below).unwrap();
    }
    out
}

fn control_answer(outcome: controller::Outcome) -> String {
    use controller::Outcome as O;
    let list = |shards: Vec<ShardId>| shards.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    match outcome {
        controller::Outcome::CoordinatorsPlaced { shards } => format!("coordinators {shards:?}"),
        O::Bootstrapped { cluster } => format!("cluster {}\n", cluster.get()),
        O::NodeKnown { node } => format!("node {node} known\n"),
        O::NodeRetired { node } => format!("node {node} retired\n"),
        O::TopicCreated { topic, shards } => format!("topic {topic} on shards {}\n", list(shards)),
        O::TopicUpdated { topic } => format!("topic {topic} updated\n"),
        O::PartitionsAdded { topic, shards } => format!("topic {topic} added shards {}\n", list(shards)),
        O::TopicDeleted { topic, shards } => format!("topic {topic} gone with shards [{}]\n", list(shards)),
        O::ReplicasPlaced { shard } => format!("shard {shard} placed\n"),
        O::ProducerIds { first: ProducerId(first), count } => {
            format!("ids {first}..{}\n", first + u64::from(count))
        }
        O::FeatureSet { level } => format!("level {level}\n"),
        O::SettingSet => "set\n".to_owned(),
        O::Refused(refusal) => format!("refused: {refusal}\n"),
    }
}

fn show(checked: &Checked) -> String {
    let mut out = String::new();
    if let Some(p) = checked.shard.partition() {
        let (start, end, time, bytes) = (p.log_start(), p.next_offset(), p.log_time(), p.bytes());
        writeln!(out, "offsets {start}..{end}, time {time}, {bytes} bytes").unwrap();
        let (producers, expired, ids) = (p.producers().len(), p.producers_expired(), p.message_ids().len());
        writeln!(out, "{producers} producers, {expired} forgotten, {ids} message ids").unwrap();
        for c in p.checkpoints() {
            let purged = if p.purge_to() == Some(c.purge_to()) { ", purged to here" } else { "" };
            writeln!(out, "checkpoint {}: offset {}, {} bytes{purged}", c.index, c.next_offset, c.bytes)
                .unwrap();
        }
    }
    if let Some(c) = checked.shard.controller() {
        let (version, shard, producer) = (c.version(), c.next_shard_id(), c.next_producer_id());
        writeln!(out, "version {version}, next shard {shard}, next producer {producer}").unwrap();
        for (name, level) in c.features() {
            writeln!(out, "feature {name}={level}").unwrap();
        }
        for (name, value) in c.settings() {
            writeln!(out, "setting {name}={value}").unwrap();
        }
    }
    out
}

fn producer(checked: &Checked, id: u64) -> String {
    let Some(p) = checked.shard.partition().unwrap().producers().get(ProducerId(id)) else {
        return "not known\n".to_owned();
    };
    let batches: Vec<_> = p
        .batches
        .iter()
        .map(|b| format!("{}+{}@{}", b.base_sequence, b.record_count, b.base_offset))
        .collect();
    format!("epoch {}, next sequence {}, batches {}\n", p.epoch, p.next_sequence, batches.join(" "))
}

fn topics(checked: &Checked) -> String {
    let controller = checked.shard.controller().unwrap();
    let mut out = String::new();
    for (name, topic) in controller.topics() {
        let labels: Vec<_> = topic.labels.iter().map(|(key, value)| format!(" {key}={value}")).collect();
        writeln!(out, "{name}: topic {} made at time {}{}", topic.id, topic.created_at, labels.concat())
            .unwrap();
        for placed in &topic.partitions {
            let replicas: Vec<_> =
                placed.replicas.iter().map(|r| format!("{}@{}", r.node, r.made_at)).collect();
            writeln!(out, "  shard {} on {}", placed.shard, replicas.join(" ")).unwrap();
        }
    }
    if out.is_empty() { "none\n".to_owned() } else { out }
}

fn known_nodes(checked: &Checked) -> String {
    let mut out = String::new();
    for (id, node) in checked.shard.controller().unwrap().nodes() {
        let store = node.store.map_or("none".to_owned(), |store| store.get().to_string());
        let rack = node.rack.as_deref().unwrap_or("-");
        let retired = if node.retired { " retired" } else { "" };
        writeln!(out, "{id}: {} {} rack {rack} store {store}{retired}", node.peer, node.client).unwrap();
    }
    out
}
