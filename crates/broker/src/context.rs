//! Who asks, until when, and from where: travels with every call.

use flotilla_types::{Monotonic, Principal};
use std::sync::Arc;
use std::time::Duration;

/// Made by the border for each call.
#[derive(Clone, Debug)]
pub struct Context {
    /// Who is asking.
    pub principal: Principal,
    /// When the caller stops waiting, on this node's clock. `None` = the call's own default holds.
    pub deadline: Option<Monotonic>,
    /// The caller's address, for logs; control characters already escaped.
    pub client: Arc<str>,
}

impl Context {
    /// For calls a node makes on its own behalf.
    pub fn internal() -> Self {
        Self { principal: Principal::Anonymous, deadline: None, client: Arc::from("internal") }
    }

    /// What is left until the deadline, at most `limit`.
    pub fn remaining(&self, now: Monotonic, limit: Duration) -> Duration {
        self.deadline.map_or(limit, |deadline| deadline.since(now).min(limit))
    }
}
