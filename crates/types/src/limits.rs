//! Limits that are part of the contract. Those an operator may change are in configuration instead.

/// Longest name of a topic, group or transactional id, in bytes.
pub const NAME_MAX_LEN: usize = 249;
/// Largest record on its own (key, value, headers), in bytes of its encoding.
pub const RECORD_MAX_BYTES: usize = 1 << 20;
/// Largest batch a topic may allow, in bytes as sent. A topic's own limit is `max_batch_bytes`.
pub const BATCH_MAX_BYTES: usize = 8 << 20;
/// A topic's batch limit where it sets none.
pub const BATCH_DEFAULT_MAX_BYTES: usize = 1 << 20;
/// Most records in a batch.
pub const BATCH_MAX_RECORDS: u32 = 10_000;
/// A compressed body may not grow beyond this many bytes when it is checked, nor beyond
/// [`BATCH_MAX_EXPANSION`] times its compressed size where that is more than [`BATCH_FREE_EXPANSION`].
pub const BATCH_MAX_DECOMPRESSED_BYTES: usize = 32 << 20;
/// See [`BATCH_MAX_DECOMPRESSED_BYTES`].
pub const BATCH_MAX_EXPANSION: usize = 256;
/// Bodies up to this size after decompression are never refused for their ratio.
pub const BATCH_FREE_EXPANSION: usize = 4 << 20;
/// Most partitions in one topic.
pub const TOPIC_MAX_PARTITIONS: u32 = 10_000;
/// Most replicas of a partition.
pub const REPLICATION_MAX: u32 = 7;
/// How many of a producer's last batches a partition remembers, at least. A client may have at most this
/// many batches of one producer and partition in flight.
pub const PRODUCER_REMEMBERED_BATCHES: usize = 5;
/// Most headers of one record.
pub const RECORD_MAX_HEADERS: usize = 1_000;
/// Longest name of a group's member, in bytes.
pub const MEMBER_ID_MAX_LEN: usize = 128;
/// Most topics that one member of a group names.
pub const SUBSCRIPTION_MAX_TOPICS: usize = 1_000;
/// Longest pattern of topics, in bytes.
pub const TOPIC_PATTERN_MAX_LEN: usize = 1_024;
/// Longest text kept with an offset commit, in bytes.
pub const OFFSET_METADATA_MAX: usize = 4_096;
/// Most offset commits in one call.
pub const OFFSET_COMMITS_MAX: usize = 10_000;
/// Most partitions a group has offsets of.
pub const GROUP_OFFSETS_MAX: usize = 200_000;
