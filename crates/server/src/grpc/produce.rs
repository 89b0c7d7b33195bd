//! One produce stream: batches in, answers out, without a task of its own.
//!
//! Two things happen side by side in the answer's stream. The reader takes a request, waits for room,
//! proposes the batch and only then takes the next, so batches of a stream get their places in send order.
//! The answers are awaited together; those of one partition and producer come out in send order, whatever
//! order they are known in. At most [`crate::config::Limits::produce_in_flight_stream`] batches are
//! between the two; beyond that, or while there is no room, nothing is read and HTTP/2 holds the client
//! back.

mod answers;

use crate::grpc::Api;
use crate::shutdown::Phase;
use answers::{Answers, Key};
use flotilla_broker::produce::{self, Pending};
use flotilla_broker::{Broker, Context};
use flotilla_proto::convert::{self, Invalid, errors, records};
use flotilla_proto::v1;
use flotilla_types::error::Describe;
use flotilla_types::{Failure, PartitionId, Reason};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

/// What the reader hands over: a batch that has its place, or one that was refused at once.
#[derive(Debug)]
struct Taken {
    key: Key,
    correlation_id: u64,
    partition: PartitionId,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    Pending(Pending),
    Refused(Failure),
}

/// Serves a stream until the client half-closes and everything is answered.
pub(super) fn serve(
    api: Api,
    context: Context,
    requests: Streaming<v1::ProduceRequest>,
) -> BoxStream<'static, Result<v1::ProduceResponse, Status>> {
    let bound = api.limits.produce_in_flight_stream as usize;
    let (taken, takes) = mpsc::channel(1);
    let phases = api.phases.clone();
    let open = Open::new(&api);
    let stream = Stream {
        reader: Some(read(api.clone(), context.clone(), requests, taken).boxed()),
        takes,
        answers: Answers::new(),
        bound,
        closing: async move { phases.reached(Phase::Closing).await }.boxed(),
        failed: None,
        api,
        open,
    };
    futures::stream::unfold(stream, |mut stream| async move {
        let next = stream.next().await?;
        Some((next, stream))
    })
    .boxed()
}

/// A stream in the gauge.
struct Open(crate::metrics::Metrics);

impl Open {
    fn new(api: &Api) -> Self {
        api.metrics.produce_streams.inc();
        Self(api.metrics.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.produce_streams.dec();
    }
}

struct Stream {
    /// `None` once the client has half-closed, or its side broke.
    reader: Option<BoxFuture<'static, Result<(), Status>>>,
    takes: mpsc::Receiver<Taken>,
    answers: Answers<Known>,
    bound: usize,
    closing: BoxFuture<'static, ()>,
    /// How the client's side ended; said after the last answer.
    failed: Option<Status>,
    api: Api,
    #[expect(dead_code, reason = "held to be dropped")]
    open: Open,
}

/// One batch's end.
struct Known {
    correlation_id: u64,
    partition: PartitionId,
    result: Result<produce::Answer, Ended>,
}

enum Ended {
    Broker(produce::Error),
    Here(Failure),
}

impl Stream {
    async fn next(&mut self) -> Option<Result<v1::ProduceResponse, Status>> {
        loop {
            let done_reading = self.reader.is_none();
            if done_reading && self.answers.is_empty() && self.takes.is_empty() {
                return self.failed.take().map(Err);
            }
            tokio::select! {
                biased;
                Some(known) = self.answers.next(), if !self.answers.is_empty() => {
                    return Some(Ok(self.response(known)));
                }
                Some(taken) = self.takes.recv(), if self.answers.len() < self.bound => self.answers.push(taken.key.clone(), known(taken)),
                ended = reading(self.reader.as_mut()), if !done_reading => {
                    self.reader = None;
                    self.failed = ended.err();
                }
                () = &mut self.closing => {
                    // Whatever was not answered may or may not be stored; the client asks elsewhere.
                    self.reader = None;
                    return Some(Err(Status::unavailable("node is stopping")));
                }
            }
        }
    }

    fn response(&self, known: Known) -> v1::ProduceResponse {
        let mut response = v1::ProduceResponse {
            correlation_id: known.correlation_id,
            partition: known.partition.get() as i32,
            base_offset: -1,
            ..v1::ProduceResponse::default()
        };
        let failure = match known.result {
            Ok(answer) => {
                response.base_offset = answer.base_offset.get() as i64;
                response.log_append_time = answer.append_time;
                response.log_start_offset = answer.log_start.get() as i64;
                response.duplicate = answer.duplicate;
                return response;
            }
            Err(Ended::Here(failure)) => failure,
            Err(Ended::Broker(error)) => {
                let wire = |record: produce::RecordError| v1::produce_response::RecordError {
                    index: record.index as i32,
                    error: Some(errors::to_wire(&record.failure)),
                };
                response.record_errors = error.record_errors().into_iter().map(wire).collect();
                error.describe()
            }
        };
        self.api.calls.count("Produce", &failure);
        response.error = Some(errors::to_wire(&failure));
        response
    }
}

async fn reading(reader: Option<&mut BoxFuture<'static, Result<(), Status>>>) -> Result<(), Status> {
    match reader {
        Some(reader) => reader.await,
        None => std::future::pending().await,
    }
}

fn known(taken: Taken) -> BoxFuture<'static, Known> {
    let Taken { correlation_id, partition, answer, .. } = taken;
    async move {
        let result = match answer {
            Answer::Pending(pending) => pending.await.map_err(Ended::Broker),
            Answer::Refused(failure) => Err(Ended::Here(failure)),
        };
        Known { correlation_id, partition, result }
    }
    .boxed()
}

/// Takes one request after the other until the client half-closes.
async fn read(
    api: Api,
    context: Context,
    mut requests: Streaming<v1::ProduceRequest>,
    taken: mpsc::Sender<Taken>,
) -> Result<(), Status> {
    while let Some(request) = requests.message().await? {
        // Room among the answers first: what is read is proposed at once.
        let Ok(seat) = taken.reserve().await else { return Ok(()) };
        seat.send(take(&api.broker, &context, request).await);
    }
    Ok(())
}

async fn take(broker: &Arc<Broker>, context: &Context, wire: v1::ProduceRequest) -> Taken {
    let correlation_id = wire.correlation_id;
    let partition = PartitionId(u32::try_from(wire.partition).unwrap_or(0));
    let producer = wire.batch.as_ref().and_then(|batch| batch.producer_id);
    let key = Key { topic: wire.topic.as_str().into(), partition: wire.partition, producer };
    let answer = match request_from_wire(wire) {
        Err(failure) => Answer::Refused(failure),
        Ok(request) => match broker.admit(request.body.len()).await {
            Err(error) => Answer::Refused(error.describe()),
            Ok(permit) => Answer::Pending(broker.produce(context, request, permit).await),
        },
    };
    Taken { key, correlation_id, partition, answer }
}

fn request_from_wire(wire: v1::ProduceRequest) -> Result<produce::Request, Failure> {
    let described = |invalid: Invalid| invalid.describe();
    if wire.transactional_id.is_some_and(|id| !id.is_empty()) {
        let message = "transactional_id is set, transactions come in a later version";
        return Err(Failure::new(Reason::UnsupportedVersion, message).with("field", "transactional_id"));
    }
    let timeout_ms = u64::try_from(wire.timeout_ms).map_err(|_| {
        described(Invalid::new("timeout_ms", format!("is {}, expected at least 0", wire.timeout_ms)))
    })?;
    let expected_offset =
        wire.expected_offset.map(|offset| convert::log::offset_from_wire("expected_offset", offset));
    let batch = wire.batch.ok_or_else(|| described(Invalid::missing("batch")))?;
    let sent = records::batch_from_wire(batch).map_err(described)?;
    Ok(produce::Request {
        topic: convert::topic_name(&wire.topic).map_err(described)?,
        partition: convert::partition_id(wire.partition).map_err(described)?,
        topic_id: convert::topic_id(wire.topic_id.as_deref()).map_err(described)?,
        header: sent.batch.header,
        body: sent.batch.body,
        sealed: sent.crc32c.is_some(),
        expected_offset: expected_offset.transpose().map_err(described)?,
        timeout: Duration::from_millis(timeout_ms),
    })
}
