//! Connections to nodes, made when needed and kept: one per node and lane, so that bulk reads cannot
//! delay the answers to appends, nor either of them a look at the metadata.

use crate::config::Options;
use crate::error::{Error, Result};
use crate::retry::Backoff;
use flotilla_types::{Monotonic, Reason};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tonic::transport::{Channel, Endpoint};

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    Control,
    Produce,
    Fetch,
}

/// HTTP/2's own 64 KiB would hold a fetch or an append back for a round trip every 64 KiB.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
/// A fetch answers with at most 8 MiB and one batch more.
pub(crate) const DECODE_MAX_BYTES: usize = 32 << 20;

/// A connection, and which one it is, so that only this one is thrown away when it fails.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) channel: Channel,
    number: u64,
}

/// All connections of a client.
#[derive(Debug)]
pub(crate) struct Pool {
    options: Options,
    places: Mutex<HashMap<(String, Lane), Arc<Place>>>,
}

type Place = tokio::sync::Mutex<Slot>;

/// One node and lane. The circuit is open until `not_before`: who comes earlier fails at once instead of
/// queueing behind a node that does not answer.
#[derive(Debug, Default)]
struct Slot {
    connection: Option<Connection>,
    made: u64,
    backoff: Backoff,
    not_before: Option<Monotonic>,
}

impl Pool {
    pub(crate) fn new(options: Options) -> Self {
        Self { options, places: Mutex::new(HashMap::new()) }
    }

    fn place(&self, endpoint: &str, lane: Lane) -> Arc<Place> {
        Arc::clone(self.places.lock().entry((endpoint.to_owned(), lane)).or_default())
    }

    /// The connection to `host:port`, made now if there is none. Errors are definite: nothing was sent.
    pub(crate) async fn connect(&self, endpoint: &str, lane: Lane) -> Result<Connection> {
        let place = self.place(endpoint, lane);
        let mut slot = place.lock().await;
        if let Some(connection) = &slot.connection {
            return Ok(connection.clone());
        }
        let now = self.options.clock.monotonic();
        if let Some(wait) = slot.not_before.map(|at| at.since(now)).filter(|wait| !wait.is_zero()) {
            let message = format!("node at {endpoint} does not accept connections, next try in {wait:.0?}");
            return Err(Error::retriable(Reason::LeaderNotAvailable, message));
        }
        let made = self.endpoint(endpoint)?;
        let attempt = tokio::time::timeout(self.options.connect_timeout, made.connect());
        let failed = match attempt.await {
            Ok(Ok(channel)) => {
                slot.made += 1;
                let connection = Connection { channel, number: slot.made };
                slot.connection = Some(connection.clone());
                slot.backoff.reset();
                slot.not_before = None;
                return Ok(connection);
            }
            Ok(Err(error)) => source_of(&error),
            Err(_) => format!("no answer within {:?}", self.options.connect_timeout),
        };
        let pause = slot.backoff.pause(&*self.options.random, None);
        slot.not_before = Some(self.options.clock.monotonic().plus(pause));
        let message = format!("cannot connect to node at {endpoint}: {failed}");
        Err(Error::retriable(Reason::LeaderNotAvailable, message))
    }

    /// Forgets a connection that failed; who holds it may go on holding it.
    pub(crate) async fn discard(&self, endpoint: &str, lane: Lane, failed: &Connection) {
        let place = self.place(endpoint, lane);
        let mut slot = place.lock().await;
        slot.connection.take_if(|current| current.number == failed.number);
    }

    fn endpoint(&self, endpoint: &str) -> Result<Endpoint> {
        let made = Endpoint::from_shared(format!("http://{endpoint}"))
            .map_err(|error| Error::invalid(format!("endpoint {endpoint:?} is not host:port: {error}")))?;
        Ok(made
            .connect_timeout(self.options.connect_timeout)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(self.options.keepalive_interval)
            .keep_alive_timeout(self.options.keepalive_timeout)
            .keep_alive_while_idle(true))
    }
}

/// The innermost reason of a failed connection, which is the one that says something.
fn source_of(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
