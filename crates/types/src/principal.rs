//! Who is asking.

use std::sync::Arc;

/// Who a connection speaks for. Made by `server` from the connection, judged by `broker`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Nobody said who they are; all that a cluster without access control knows.
    Anonymous,
    /// The subject of a certificate or token.
    Named(Arc<str>),
}
