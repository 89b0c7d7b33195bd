//! Who serves what: from the controller's applied state and the leaders that nodes tell each other of.

mod build;
mod error;
mod keep;
mod table;

pub(crate) use build::Source;
pub use error::RouteError;
pub use table::{Changes, Node, PartitionRoute, Routes, TopicRoute};

#[cfg(test)]
mod tests;
