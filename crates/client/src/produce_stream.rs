//! One stream of batches to one node, shared by all partitions that the node leads.

use crate::batcher::Stored;
use crate::connection::{Connection, DECODE_MAX_BYTES, Lane, Pool};
use crate::error::{Error, Result};
use crate::task::Owned;
use flotilla_proto::v1;
use flotilla_proto::v1::log_client::LogClient;
use flotilla_types::{Offset, Reason};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

/// Batches that wait for the connection to take them. The producer's buffer bounds their bytes.
const QUEUED_MAX: usize = 16;

/// A batch that was not stored, with what the server says of single records.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) error: Error,
    pub(crate) records: Vec<(u32, Error)>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, records: Vec::new() }
    }
}

/// How one attempt ended.
pub(crate) type Attempt = std::result::Result<Stored, Refused>;

/// One node's stream; who opens it makes the others wait.
type Place = tokio::sync::Mutex<Option<Arc<ProduceStream>>>;

/// The producer's streams, by endpoint.
#[derive(Debug)]
pub(crate) struct ProduceStreams {
    pool: Arc<Pool>,
    open: Mutex<HashMap<String, Arc<Place>>>,
    correlation: AtomicU64,
}

impl ProduceStreams {
    pub(crate) fn new(pool: Arc<Pool>) -> Self {
        Self { pool, open: Mutex::new(HashMap::new()), correlation: AtomicU64::new(1) }
    }

    /// The stream to a node, opened now if there is none. Errors are definite: nothing was sent.
    pub(crate) async fn to(&self, endpoint: &str) -> Result<Arc<ProduceStream>> {
        let place = Arc::clone(self.open.lock().entry(endpoint.to_owned()).or_default());
        let mut place = place.lock().await;
        if let Some(stream) = place.as_ref().filter(|stream| stream.is_alive()) {
            return Ok(Arc::clone(stream));
        }
        if let Some(dead) = place.take() {
            self.pool.discard(endpoint, Lane::Produce, &dead.connection).await;
        }
        let connection = self.pool.connect(endpoint, Lane::Produce).await?;
        let stream = Arc::new(ProduceStream::open(endpoint, connection));
        *place = Some(Arc::clone(&stream));
        Ok(stream)
    }

    /// A number no other request of this producer has.
    pub(crate) fn next_correlation(&self) -> u64 {
        self.correlation.fetch_add(1, Ordering::Relaxed)
    }
}

/// One stream. Dead once its connection, its server or its user gave it up; then another is opened.
#[derive(Debug)]
pub(crate) struct ProduceStream {
    pub(crate) endpoint: String,
    connection: Connection,
    requests: mpsc::Sender<v1::ProduceRequest>,
    answers: Arc<Answers>,
    reader: Owned,
}

/// Who waits for which answer.
#[derive(Debug, Default)]
struct Answers(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    by_correlation: HashMap<u64, oneshot::Sender<Attempt>>,
    any_answered: bool,
    dead: bool,
}

impl ProduceStream {
    fn open(endpoint: &str, connection: Connection) -> Self {
        let (requests, queued) = mpsc::channel(QUEUED_MAX);
        let answers = Arc::new(Answers::default());
        let client = LogClient::new(connection.channel.clone()).max_decoding_message_size(DECODE_MAX_BYTES);
        let reader = Owned::spawn(read(client, queued, Arc::clone(&answers)));
        Self { endpoint: endpoint.to_owned(), connection, requests, answers, reader }
    }

    pub(crate) fn is_alive(&self) -> bool {
        !self.answers.0.lock().dead
    }

    /// Hands a batch over. An error is definite: the batch was not handed over. What comes later through
    /// the receiver says itself whether it is.
    pub(crate) async fn submit(
        &self,
        request: v1::ProduceRequest,
        patience: Duration,
    ) -> Result<oneshot::Receiver<Attempt>> {
        let closed = || {
            let message = format!("stream to node at {} has ended", self.endpoint);
            Error::retriable(Reason::LeaderNotAvailable, message)
        };
        let room = tokio::time::timeout(patience, self.requests.reserve()).await.map_err(|_| {
            let message = format!("node at {} takes no batches for {patience:?}", self.endpoint);
            Error::retriable(Reason::Overloaded, message)
        })?;
        let room = room.map_err(|_| closed())?;
        let (answer, answered) = oneshot::channel();
        {
            let mut waiting = self.answers.0.lock();
            if waiting.dead {
                return Err(closed());
            }
            waiting.by_correlation.insert(request.correlation_id, answer);
        }
        room.send(request);
        Ok(answered)
    }

    /// Gives the stream up: whoever waits gets an unknown outcome.
    pub(crate) fn abandon(&self, why: &str) {
        self.answers.end(|_| Error::lost(format!("{why} (node at {})", self.endpoint)));
        self.reader.stop();
    }
}

/// Reads answers until the stream ends, whoever ends it.
async fn read(
    mut client: LogClient<tonic::transport::Channel>,
    queued: mpsc::Receiver<v1::ProduceRequest>,
    answers: Arc<Answers>,
) {
    let outcome = async {
        let mut stream = client.produce(ReceiverStream::new(queued)).await?.into_inner();
        while let Some(answer) = stream.message().await? {
            answers.take(answer);
        }
        Ok(())
    };
    match outcome.await {
        Ok(()) => answers.end(|_| Error::lost("the node ended the stream before it answered")),
        Err(status) => answers.end(|any_answered| lost(&status, any_answered)),
    }
}

/// What the end of a stream says about a batch on it: hardly ever that nothing happened. Only a server
/// that answered nothing and refuses the caller or the call as such has certainly stored nothing.
fn lost(status: &tonic::Status, any_answered: bool) -> Error {
    let error = Error::from_status(status);
    let refused_as_such = matches!(
        status.code(),
        tonic::Code::Unimplemented | tonic::Code::Unauthenticated | tonic::Code::PermissionDenied
    );
    if refused_as_such && !any_answered { error } else { error.doubted() }
}

impl Answers {
    fn take(&self, answer: v1::ProduceResponse) {
        let waiting = {
            let mut waiting = self.0.lock();
            waiting.any_answered = true;
            waiting.by_correlation.remove(&answer.correlation_id)
        };
        let Some(waiting) = waiting else { return }; // given up meanwhile
        let _ = waiting.send(attempt(answer));
    }

    fn end(&self, why: impl Fn(bool) -> Error) {
        let (waiting, any_answered) = {
            let mut waiting = self.0.lock();
            waiting.dead = true;
            (std::mem::take(&mut waiting.by_correlation), waiting.any_answered)
        };
        for (_, waiting) in waiting {
            let _ = waiting.send(Err(why(any_answered).into()));
        }
    }
}

fn attempt(answer: v1::ProduceResponse) -> Attempt {
    if let Some(error) = answer.error {
        let records = answer
            .record_errors
            .into_iter()
            .filter_map(|r| Some((u32::try_from(r.index).ok()?, Error::from_wire(r.error?))))
            .collect();
        return Err(Refused { error: Error::from_wire(error), records });
    }
    match u64::try_from(answer.base_offset) {
        Ok(base) => Ok(Stored {
            base_offset: Offset(base),
            append_time: answer.log_append_time,
            duplicate: answer.duplicate,
        }),
        Err(_) => Err(Error::lost(format!("answer names offset {}", answer.base_offset)).into()),
    }
}
