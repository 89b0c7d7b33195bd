//! Who and what: nodes, shards, topics, partitions, producers, clusters and stores.

use std::fmt;
use uuid::Uuid;

/// A number with a meaning: ordered, copied, printed as itself.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The plain number, for formats and metrics.
            pub const fn get(self) -> $inner {
                self.0
            }

            /// The one after.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0, f)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    };
}
pub(crate) use number;

number! {
    /// One server process. Given by the operator, never reused: a lost disk comes back under a new id.
    /// At least 1 and at most `i32::MAX`; 0 stands for "none" on the wire.
    NodeId(u32)
}
number! {
    /// One Raft group: the controller ([`ShardId::CONTROLLER`]), a coordinator, or one partition
    /// (from [`ShardId::FIRST_PARTITION`] on, given by the controller, never reused).
    ShardId(u32)
}
number! {
    /// One life of a topic: the controller's log index of the command that created it. A topic that is
    /// deleted and made again gets another. Printed as 16 hex digits on the wire ([`TopicId::to_wire`]).
    TopicId(u64)
}
number! {
    /// A partition's place in its topic, from 0.
    PartitionId(u32)
}
number! {
    /// An idempotent producer; ids are given out in blocks by the controller.
    ProducerId(u64)
}
number! {
    /// Bumped whenever an older holder of the same producer id must be fenced, and at every end of a
    /// transaction (KIP-890). 64 bit, so it does not overflow.
    ProducerEpoch(u64)
}
number! {
    /// Counts records per producer, epoch and partition, from 0. 64 bit, so it does not wrap.
    Sequence(u64)
}

impl ShardId {
    /// The shard that holds cluster metadata.
    pub const CONTROLLER: Self = Self(0);
    /// Coordinators take 1 up to this, exclusive.
    pub const FIRST_PARTITION: Self = Self(1024);

    /// Whether this shard carries a partition.
    pub const fn is_partition(self) -> bool {
        self.0 >= Self::FIRST_PARTITION.0
    }
}

impl TopicId {
    /// As the contract writes it: 16 hex digits.
    pub fn to_wire(self) -> String {
        format!("{:016x}", self.0)
    }

    /// Reads what [`TopicId::to_wire`] wrote; `None` for anything else.
    pub fn from_wire(text: &str) -> Option<Self> {
        (text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit()))
            .then(|| u64::from_str_radix(text, 16).ok().map(Self))
            .flatten()
    }
}

/// A cluster, for its whole life. All nodes of a cluster are configured with the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ClusterId(pub Uuid);

/// One data directory, for its whole life: random, made when the directory is first used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct StoreId(pub Uuid);

impl ClusterId {
    /// As a number, for formats.
    pub const fn get(self) -> u128 {
        self.0.as_u128()
    }

    /// Reads what [`ClusterId::get`] gave.
    pub const fn from_number(number: u128) -> Self {
        Self(Uuid::from_u128(number))
    }
}

impl StoreId {
    /// As a number, for formats.
    pub const fn get(self) -> u128 {
        self.0.as_u128()
    }

    /// Reads what [`StoreId::get`] gave.
    pub const fn from_number(number: u128) -> Self {
        Self(Uuid::from_u128(number))
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_ids_survive_the_wire() {
        let id = TopicId(0xfeed_0001);
        assert_eq!(id.to_wire(), "00000000feed0001");
        assert_eq!(TopicId::from_wire(&id.to_wire()), Some(id));
        assert_eq!(TopicId::from_wire("feed"), None);
        assert_eq!(TopicId::from_wire("+000000000000001"), None);
    }
}
