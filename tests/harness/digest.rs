//! A history sorted once, so that each checker is one pass.

use crate::history::{Event, Operation, Stage};

/// What became of a send, as its client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Acknowledged at this offset.
    Acknowledged(u64),
    /// Definitely not done.
    Failed,
    /// Not told, or told that nobody knows.
    Unknown,
}

/// One send, begin and end joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sent {
    /// Where to.
    pub partition: u32,
    /// What.
    pub value: u64,
    /// By whom.
    pub process: u32,
    /// The how-manieth of this process in this partition.
    pub order: u64,
    /// What became of it.
    pub outcome: Outcome,
}

/// One value seen at one offset, by an acknowledgement, a poll or a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sighting {
    /// Where.
    pub partition: u32,
    /// At which offset.
    pub offset: u64,
    /// Which value.
    pub value: u64,
}

/// A partition's records as read from start to end after everything had healed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Which partition.
    pub partition: u32,
    /// Which node was asked; none = whoever led.
    pub node: Option<u32>,
    /// First offset that is kept.
    pub start: u64,
    /// Offset after the last record.
    pub end: u64,
    /// Offset and value, as they came.
    pub records: Vec<(u64, u64)>,
}

/// Records that came to one reader, in the order they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Who read.
    pub process: u32,
    /// From where.
    pub partition: u32,
    /// Offset and value.
    pub records: Vec<(u64, u64)>,
}

/// A history, sorted.
#[derive(Clone, Debug, Default)]
pub struct Digest {
    /// By partition and value.
    pub sent: Vec<Sent>,
    /// By partition, offset and value, without repeats.
    pub seen: Vec<Sighting>,
    /// In the order they were made.
    pub scans: Vec<Scan>,
    /// By reader and partition.
    pub readings: Vec<Reading>,
}

impl Digest {
    /// Sorts a history.
    pub fn of(events: &[Event]) -> Self {
        let mut digest = Self::default();
        for event in events {
            match &event.operation {
                Operation::Send { partition, value, order, offset } => {
                    let outcome = match (event.stage, offset) {
                        (Stage::Ok, Some(offset)) => Outcome::Acknowledged(*offset),
                        (Stage::Fail, _) => Outcome::Failed,
                        _ => Outcome::Unknown,
                    };
                    if let Outcome::Acknowledged(offset) = outcome {
                        digest.seen.push(Sighting { partition: *partition, offset, value: *value });
                    }
                    digest.sent.push(Sent {
                        partition: *partition,
                        value: *value,
                        process: event.process,
                        order: *order,
                        outcome,
                    });
                }
                Operation::Poll { partition, records } => {
                    digest.sight(*partition, records);
                    digest.reading(event.process, *partition).records.extend(records);
                }
                Operation::Scan { partition, start, end, records } => {
                    digest.sight(*partition, records);
                    digest.scans.push(Scan {
                        partition: *partition,
                        node: event.node,
                        start: *start,
                        end: *end,
                        records: records.clone(),
                    });
                }
                Operation::Fault { .. } => {}
            }
        }
        // The end of a send sorts before its beginning, which says only `Unknown`.
        digest.sent.sort_unstable();
        digest.sent.dedup_by_key(|sent| (sent.partition, sent.value));
        digest.seen.sort_unstable();
        digest.seen.dedup();
        digest
    }

    /// The last scan of each partition that asked whoever led.
    pub fn last_scans(&self) -> Vec<&Scan> {
        let mut last: Vec<&Scan> = Vec::new();
        for scan in self.scans.iter().filter(|scan| scan.node.is_none()) {
            last.retain(|earlier| earlier.partition != scan.partition);
            last.push(scan);
        }
        last
    }

    fn sight(&mut self, partition: u32, records: &[(u64, u64)]) {
        self.seen.extend(records.iter().map(|&(offset, value)| Sighting { partition, offset, value }));
    }

    fn reading(&mut self, process: u32, partition: u32) -> &mut Reading {
        let place = self
            .readings
            .iter()
            .position(|r| r.process == process && r.partition == partition)
            .unwrap_or_else(|| {
                self.readings.push(Reading { process, partition, records: Vec::new() });
                self.readings.len() - 1
            });
        &mut self.readings[place]
    }
}
