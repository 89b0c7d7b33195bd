//! Groups under any order of events: what scripts do not think of.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

#[path = "../harness/mod.rs"]
mod harness;

mod bounds;
mod clients;
mod commits;
mod model;
mod ops;
mod plans;
mod sights;
mod stories;
mod timing;
mod world;

use flotilla_types::{GroupId, MemberId, TopicName};

fn group() -> GroupId {
    GroupId::new("g").unwrap()
}

fn member(number: usize) -> MemberId {
    MemberId::new(&format!("m{number}")).unwrap()
}

fn topic(number: usize) -> TopicName {
    TopicName::new(&format!("t{number}")).unwrap()
}
