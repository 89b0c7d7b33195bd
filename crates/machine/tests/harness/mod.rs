//! A shard that is checked at every step: what it gives back must agree with what it keeps.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod groups;
pub mod script;

use bytes::Bytes;
use flotilla_machine::{Append, Applied, Broken, Command, Kind, Shard};
use flotilla_types::{
    BatchHeader, ChangeSet, Compression, LogId, LogIndex, ProducerEpoch, ProducerId, ProducerStamp, Sequence,
    Term,
};
use std::collections::BTreeMap;

/// A shard, the rows that its change sets left in a store, and a second replica.
#[derive(Clone, Debug)]
pub struct Checked {
    pub shard: Shard,
    replica: Shard,
    rows: BTreeMap<Bytes, Bytes>,
    pub term: Term,
    /// Of the next entry.
    pub next: LogIndex,
}

impl Checked {
    pub fn new(kind: Kind) -> Self {
        let (shard, replica) = (Shard::new(kind), Shard::new(kind));
        Self { shard, replica, rows: BTreeMap::new(), term: Term(1), next: LogIndex(1) }
    }

    /// Applies the next entry and checks everything that must hold after any entry.
    pub fn apply(&mut self, command: &Command) -> Result<Applied, Broken> {
        let encoded = command.encode();
        let decoded = Command::decode(&encoded).expect("what was encoded can be read");
        assert_eq!(decoded.encode(), encoded, "a command has one encoding");
        self.step(|shard, at| shard.apply(at, &decoded))
    }

    /// Passes over an entry of Raft's own.
    pub fn skip(&mut self) -> Result<Applied, Broken> {
        self.step(|shard, at| shard.skip(at))
    }

    fn step(
        &mut self,
        apply: impl Fn(&mut Shard, LogId) -> Result<Applied, Broken>,
    ) -> Result<Applied, Broken> {
        let at = LogId { term: self.term, index: self.next };
        let purged = self.shard.purge_to();
        let applied = apply(&mut self.shard, at);
        assert_eq!(apply(&mut self.replica, at), applied, "replicas answer alike");
        let applied = applied?;
        let now = self.shard.purge_to();
        assert_eq!(applied.purge_to, if now == purged { None } else { now }, "a purge point is told once");
        if let Some(partition) = self.shard.partition() {
            let newest = partition.checkpoints().next_back().map(|checkpoint| checkpoint.index);
            let useful = |checkpoint: &&flotilla_machine::partitions::Checkpoint| {
                checkpoint.next_offset <= partition.log_start()
            };
            let purgeable = partition.checkpoints().rfind(useful).map(|c| c.purge_to());
            assert_eq!(now, purgeable, "the log is purged as far as it can be");
            assert_eq!(applied.checkpoint, newest == Some(at.index), "a checkpoint is listed when made");
        }
        self.next = self.next.next();
        write(&mut self.rows, &applied.changes);
        self.check_rows();
        Ok(applied)
    }

    /// The state is exactly what the change sets wrote, and it is all that matters.
    fn check_rows(&mut self) {
        let rows = self.shard.rows();
        let written: Vec<_> = self.rows.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        assert_eq!(rows, written, "change sets write what the state holds");
        let loaded = Shard::load(self.shard.kind(), &rows).expect("own rows can be read");
        assert_eq!(loaded, self.shard, "a state is its rows");
        assert_eq!(loaded.hash(), self.replica.hash());
        assert_eq!(loaded.chain(), self.replica.chain());
        // From here on the replica is the one that was loaded: every suffix is applied to a loaded prefix.
        self.replica = loaded;
    }
}

/// What a store does with a change set.
pub fn write(rows: &mut BTreeMap<Bytes, Bytes>, changes: &ChangeSet) {
    for write in &changes.state {
        match &write.value {
            Some(value) => rows.insert(write.key.clone(), value.clone()),
            None => rows.remove(&write.key),
        };
    }
}

/// A batch's header; the seal is a mere number, since nothing here looks at bodies.
pub fn batch(record_count: u32, producer: Option<(u64, u64, u64)>) -> BatchHeader {
    BatchHeader {
        record_count,
        base_timestamp: 0,
        producer: producer.map(|(id, epoch, sequence)| ProducerStamp {
            id: ProducerId(id),
            epoch: ProducerEpoch(epoch),
            base_sequence: Sequence(sequence),
        }),
        transactional: false,
        compression: Compression::None,
        schema_id: None,
        crc32c: 0x5eed,
    }
}

/// A plain append at a time.
pub fn append(record_count: u32, append_time: i64) -> Append {
    Append {
        append_time,
        expected_offset: None,
        batch: batch(record_count, None),
        body_bytes: 100 * record_count,
        message_ids: Vec::new(),
        dedup_window_ms: None,
    }
}
