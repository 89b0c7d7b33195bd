//! The wire contract in Rust: generated code and its conversions to and from `types`.
//!
//! `proto/` at the root of the repository is the source. `generated/` is made from it by
//! `cargo run --release -p flotilla-proto --example regenerate` and checked in; a test makes it again and
//! compares, so nobody needs a protobuf compiler to build.
//!
//! Start with [`v1`] (the public contract), then [`convert`]. [`peer`] is node to node.
//!
//! This crate does not know what a request causes.
//!
//! # Invariants
//!
//! - `RecordBatch.records` is read as bytes here, while other languages see plain records: on the wire the
//!   two look the same, and a batch must stay the bytes its maker sealed (`tests/generated.rs`).
//! - What is sent to `types` and back is the same (`convert` tests).

/// The public contract, package `flotilla.v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod v1 {
    include!("generated/flotilla.v1.rs");
}

/// Node to node.
pub mod peer {
    /// Package `flotilla.peer.v1`.
    #[allow(missing_docs, clippy::all, clippy::pedantic)]
    pub mod v1 {
        include!("generated/flotilla.peer.v1.rs");
    }
}

pub mod convert;

/// The public contract's descriptors, for server reflection: with plain records, as other languages see them.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptors.bin");
