//! Why a shard stopped on this node, if it did. Shared by all its parts; the first reason stays.

use std::sync::OnceLock;

/// Sound until something finds otherwise.
#[derive(Debug, Default)]
pub(crate) struct Health {
    broken: OnceLock<String>,
}

impl Health {
    /// The shard cannot go on here. The rest of the node can.
    pub fn break_down(&self, why: String) {
        let _ = self.broken.set(why);
    }

    pub fn broken(&self) -> Option<&str> {
        self.broken.get().map(String::as_str)
    }
}
