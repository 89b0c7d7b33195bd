//! The Rust client: produce, consume, administer.
//!
//! A [`Client`] keeps connections and knows who leads what. From it come a [`Producer`], which batches,
//! pipelines and retries without reordering or repeating; a [`Consumer`], which reads chosen partitions
//! ahead and never skips silently; and an [`Admin`]. An [`Error`] says whether to try again, not to, or
//! that nobody can know what happened.
//!
//! Start with [`Client::connect`], then [`producer`] and [`consumer`]; `examples/` has a small program for
//! each. Inside, read `pipeline` first: it is where order and exactly-once are kept.
//!
//! This crate does not know how a node stores or replicates anything.
//!
//! # Invariants
//!
//! - A batch whose outcome is unknown is sent again only with the stamp it had (`tests/produce.rs`).
//! - Batches of a partition are never on the way to two leaders at once (`tests/produce.rs`).
//! - A record is given to the application at most once per position, and none is left out
//!   (`batch_reader::tests`, `tests/consume.rs`).
//! - A leader is replaced only by one of a newer leadership (`routes::tests`).
//!
//! ```no_run
//! use flotilla_client::{Client, ConsumerOptions, Options, Position, ProducerOptions, Record};
//!
//! # async fn example() -> flotilla_client::Result<()> {
//! let client = Client::connect(["127.0.0.1:7401"], Options::default()).await?;
//!
//! let producer = client.producer(ProducerOptions::default());
//! let delivery = producer.send("orders", Record::new("paid").key("order-7")).await?;
//! let stored = delivery.await?;
//! println!("stored in partition {} at offset {}", stored.partition, stored.offset);
//!
//! let mut consumer = client.consumer(ConsumerOptions::default());
//! consumer.assign("orders", stored.partition, Position::Offset(stored.offset))?;
//! let record = consumer.next().await?;
//! assert_eq!(record.value.as_deref(), Some(&b"paid"[..]));
//! # Ok(()) }
//! ```

pub mod admin;
mod batch_reader;
mod batcher;
mod call;
pub mod client;
pub mod config;
mod connection;
pub mod consumer;
pub mod error;
mod fetcher;
pub mod groups;
mod identity;
mod metadata;
pub mod offsets;
pub mod partitioner;
mod pipeline;
mod produce_stream;
pub mod producer;
pub mod record;
mod retry;
mod routes;
mod task;

pub use admin::{Admin, NewTopic, PartitionFilter, TopicUpdate};
pub use client::Client;
pub use config::{ConsumerOptions, Isolation, Options, OutOfRange, ProducerOptions};
pub use consumer::{Consumer, Position};
pub use error::{Class, Error, Result};
pub use groups::{GroupConsumer, GroupHandle, GroupOptions};
pub use offsets::{ListedOffset, OffsetQuery};
pub use producer::{Delivered, Delivery, Producer};
pub use record::{ConsumedRecord, Header, Record};

pub use flotilla_types as types;
