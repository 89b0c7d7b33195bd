//! What clients tried and what they were told, in the order it happened to them.

use flotilla_types::time::{Clock, SystemClock};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::io::Write;

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Begun.
    Invoke,
    /// Done, and the client was told so.
    Ok,
    /// Definitely not done: it must never take effect.
    Fail,
    /// Anything may have happened.
    Unknown,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "op")]
pub enum Operation {
    /// A record is appended.
    Send {
        /// Where to.
        partition: u32,
        /// What: unique among all values of a history.
        value: u64,
        /// The how-manieth of this process in this partition.
        order: u64,
        /// Where it was put, once known.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        offset: Option<u64>,
    },
    /// Records came to a reader.
    Poll {
        /// From where.
        partition: u32,
        /// Offset and value of each, as they came.
        records: Vec<(u64, u64)>,
    },
    /// A whole partition was read after everything had healed.
    Scan {
        /// Which.
        partition: u32,
        /// First offset that is kept, as the server says.
        start: u64,
        /// Offset after the last record, as the server says.
        end: u64,
        /// Offset and value of each.
        records: Vec<(u64, u64)>,
    },
    /// Something was done to the cluster.
    Fault {
        /// In words.
        what: String,
    },
}

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Nanoseconds since the history began.
    pub at: u64,
    /// Who: one producer, one reader, or the test itself.
    pub process: u32,
    /// How far.
    pub stage: Stage,
    /// Which node was asked, where the client chose one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub node: Option<u32>,
    /// What.
    #[serde(flatten)]
    pub operation: Operation,
}

/// Collects events from any thread.
#[derive(Debug)]
pub struct History {
    clock: SystemClock,
    events: Mutex<Vec<Event>>,
}

impl Default for History {
    fn default() -> Self {
        Self { clock: SystemClock::new(), events: Mutex::default() }
    }
}

impl History {
    /// Adds an event that happens now.
    pub fn add(&self, process: u32, stage: Stage, operation: Operation) {
        self.add_at_node(process, stage, None, operation);
    }

    /// Adds an event of a client that had chosen a node.
    pub fn add_at_node(&self, process: u32, stage: Stage, node: Option<u32>, operation: Operation) {
        let mut events = self.events.lock();
        // Within the lock, so that the order of lines is the order of times.
        let at = self.clock.monotonic().0.as_nanos() as u64;
        events.push(Event { at, process, stage, node, operation });
    }

    /// Notes what the test did to the cluster.
    pub fn fault(&self, what: impl Into<String>) {
        self.add(u32::MAX, Stage::Ok, Operation::Fault { what: what.into() });
    }

    /// Everything so far.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().clone()
    }

    /// Sends that were answered with success so far.
    pub fn acknowledged(&self) -> usize {
        let ok = |e: &&Event| e.stage == Stage::Ok && matches!(e.operation, Operation::Send { .. });
        self.events.lock().iter().filter(ok).count()
    }

    /// Writes one JSON object a line.
    pub fn write_to(&self, out: &mut impl Write) -> std::io::Result<()> {
        for event in self.events.lock().iter() {
            serde_json::to_writer(&mut *out, event)?;
            out.write_all(b"\n")?;
        }
        out.flush()
    }
}

/// Reads what [`History::write_to`] wrote.
pub fn read(lines: &str) -> serde_json::Result<Vec<Event>> {
    lines.lines().map(serde_json::from_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_reads_as_it_was_written() {
        let history = History::default();
        history.add(1, Stage::Invoke, Operation::Send { partition: 0, value: 7, order: 0, offset: None });
        history.add(1, Stage::Ok, Operation::Send { partition: 0, value: 7, order: 0, offset: Some(3) });
        history.add_at_node(
            2,
            Stage::Ok,
            Some(3),
            Operation::Scan { partition: 0, start: 0, end: 1, records: vec![(0, 7)] },
        );
        history.fault("node 1 killed");
        let mut lines = Vec::new();
        history.write_to(&mut lines).unwrap();
        assert_eq!(read(&String::from_utf8(lines).unwrap()).unwrap(), history.events());
        assert_eq!(history.acknowledged(), 1);
    }
}
