//! `flotilla.v1.Log`: append and read.

use crate::grpc::call::Changes;
use crate::grpc::{Api, produce, status};
use flotilla_broker::fetch::{self, FetchedPartition};
use flotilla_broker::offsets;
use flotilla_proto::convert::{self, Invalid, errors, records};
use flotilla_proto::v1;
use flotilla_proto::v1::log_server::Log;
use flotilla_types::Term;
use flotilla_types::error::Describe;
use futures::stream::BoxStream;
use std::time::Duration;
use tonic::{Request, Response, Status, Streaming};

#[tonic::async_trait]
impl Log for Api {
    type ProduceStream = BoxStream<'static, Result<v1::ProduceResponse, Status>>;

    async fn produce(
        &self,
        request: Request<Streaming<v1::ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStream>, Status> {
        let context = self.calls.stream_context(&request);
        Ok(Response::new(produce::serve(self.clone(), context, request.into_inner())))
    }

    async fn fetch(&self, request: Request<v1::FetchRequest>) -> Result<Response<v1::FetchResponse>, Status> {
        let wait = Duration::from_millis(request.get_ref().max_wait_ms.max(0) as u64);
        // A long poll may take as long as it says, on top of what any call may take.
        let context = self.calls.context_with(&request, wait);
        let asked = fetch_from_wire(request.into_inner())
            .map_err(|invalid| self.calls.refuse("Fetch", &context, &invalid.describe()))?;
        let work = async {
            let partitions = self.broker.fetch(&context, asked).await?;
            let partitions = partitions.into_iter().map(fetched_to_wire).collect();
            Ok::<_, fetch::Error>(v1::FetchResponse { partitions, throttle_time_ms: 0 })
        };
        self.calls.unary("Fetch", &context, Changes::Nothing, work).await
    }

    type ConsumeStream = BoxStream<'static, Result<v1::ConsumeResponse, Status>>;

    async fn consume(
        &self,
        _request: Request<Streaming<v1::ConsumeRequest>>,
    ) -> Result<Response<Self::ConsumeStream>, Status> {
        Err(status::comes_later("flotilla.v1.Log/Consume", "use Fetch"))
    }

    async fn list_offsets(
        &self,
        request: Request<v1::ListOffsetsRequest>,
    ) -> Result<Response<v1::ListOffsetsResponse>, Status> {
        let context = self.calls.context(&request);
        let asked = offsets_from_wire(request.into_inner())
            .map_err(|invalid| self.calls.refuse("ListOffsets", &context, &invalid.describe()))?;
        let work = async {
            let found = self.broker.list_offsets(&context, asked).await?;
            Ok::<_, fetch::Error>(v1::ListOffsetsResponse {
                results: found.into_iter().map(found_to_wire).collect(),
            })
        };
        self.calls.unary("ListOffsets", &context, Changes::Nothing, work).await
    }
}

fn isolation(number: i32) -> Result<fetch::Isolation, Invalid> {
    Ok(match convert::log::isolation_from_wire(number)? {
        convert::log::Isolation::ReadCommitted => fetch::Isolation::ReadCommitted,
        convert::log::Isolation::ReadUncommitted => fetch::Isolation::ReadUncommitted,
    })
}

fn size(field: &'static str, number: i32) -> Result<usize, Invalid> {
    usize::try_from(number).map_err(|_| Invalid::new(field, format!("is {number}, expected at least 0")))
}

fn fetch_from_wire(wire: v1::FetchRequest) -> Result<fetch::Request, Invalid> {
    convert::log::refuse_filter(wire.filter.as_ref())?;
    let partition = |wire: v1::FetchPartition| {
        let epoch = wire.current_leader_epoch.map(|epoch| {
            u64::try_from(epoch)
                .map(Term)
                .map_err(|_| Invalid::new("current_leader_epoch", format!("is {epoch}, expected at least 0")))
        });
        Ok(fetch::FetchPartition {
            topic: convert::topic_name(&wire.topic)?,
            partition: convert::partition_id(wire.partition)?,
            topic_id: convert::topic_id(wire.topic_id.as_deref())?,
            offset: convert::log::offset_from_wire("fetch_offset", wire.fetch_offset)?,
            leader_epoch: epoch.transpose()?,
            max_bytes: size("max_bytes", wire.max_bytes)?,
        })
    };
    Ok(fetch::Request {
        partitions: wire.partitions.into_iter().map(partition).collect::<Result<_, Invalid>>()?,
        min_bytes: size("min_bytes", wire.min_bytes)?,
        max_bytes: size("max_bytes", wire.max_bytes)?,
        max_wait: Duration::from_millis(size("max_wait_ms", wire.max_wait_ms)? as u64),
        isolation: isolation(wire.isolation_level)?,
    })
}

fn fetched_to_wire(fetched: FetchedPartition) -> v1::FetchedPartition {
    let batches = fetched.batches.into_iter().map(|batch| {
        let header = records::stamped(&batch.header, batch.append_time, &batch.body);
        records::fetched_to_wire(batch.base_offset, batch.term, &header, batch.body)
    });
    v1::FetchedPartition {
        topic: fetched.topic.as_str().to_owned(),
        partition: fetched.partition.get() as i32,
        error: fetched.error.as_ref().map(errors::to_wire),
        high_watermark: fetched.high_watermark.get() as i64,
        last_stable_offset: fetched.last_stable.get() as i64,
        log_start_offset: fetched.log_start.get() as i64,
        batches: batches.collect(),
        next_offset: fetched.next_offset.get() as i64,
        diverging_offset: None,
    }
}

fn offsets_from_wire(wire: v1::ListOffsetsRequest) -> Result<offsets::Request, Invalid> {
    let query = |wire: v1::list_offsets_request::Query| {
        Ok(offsets::Query {
            topic: convert::topic_name(&wire.topic)?,
            partition: convert::partition_id(wire.partition)?,
            position: match convert::log::position_from_wire(wire.position)? {
                convert::log::Position::Earliest => offsets::Position::Earliest,
                convert::log::Position::Latest => offsets::Position::Latest,
                convert::log::Position::At(time) => offsets::Position::At(time),
            },
        })
    };
    Ok(offsets::Request {
        queries: wire.queries.into_iter().map(query).collect::<Result<_, Invalid>>()?,
        isolation: isolation(wire.isolation_level)?,
    })
}

/// An offset of -1 means: nothing was appended at that time or later.
fn found_to_wire(found: offsets::Found) -> v1::list_offsets_response::Result {
    v1::list_offsets_response::Result {
        topic: found.topic.as_str().to_owned(),
        partition: found.partition.get() as i32,
        error: found.error.as_ref().map(errors::to_wire),
        offset: found.offset.map_or(-1, |offset| offset.get() as i64),
        timestamp_ms: found.timestamp.unwrap_or(-1),
        leader_epoch: found.leader_epoch.get() as i64,
    }
}
