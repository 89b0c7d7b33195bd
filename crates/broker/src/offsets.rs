//! Where a partition begins and ends, and where it was at a time.

use crate::broker::Broker;
use crate::context::Context;
use crate::fetch::{self, Isolation};
use crate::routes::RouteError;
use flotilla_types::error::Describe;
use flotilla_types::{Failure, Offset, PartitionId, ShardId, Term, TimestampMs, TopicName};

/// Which offset is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The first that is kept.
    Earliest,
    /// The next to be written, as far as the reader may see.
    Latest,
    /// The first record of the first batch appended at this time or later.
    At(TimestampMs),
}

/// One question.
#[derive(Clone, Debug)]
pub struct Query {
    /// Which topic.
    pub topic: TopicName,
    /// Which partition.
    pub partition: PartitionId,
    /// What about it.
    pub position: Position,
}

/// One answer. Order is the questions'.
#[derive(Clone, Debug)]
pub struct Found {
    /// Which topic.
    pub topic: TopicName,
    /// Which partition.
    pub partition: PartitionId,
    /// The offset; `None` where nothing was appended at the time asked for or later.
    pub offset: Option<Offset>,
    /// Append time of the batch that was found by time.
    pub timestamp: Option<TimestampMs>,
    /// Whose leadership answered.
    pub leader_epoch: Term,
    /// Why there is no answer.
    pub error: Option<Failure>,
}

/// Some questions.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which.
    pub queries: Vec<Query>,
    /// What `Latest` means.
    pub isolation: Isolation,
}

impl Broker {
    /// Answers every question, in order.
    pub async fn list_offsets(
        &self,
        _context: &Context,
        request: Request,
    ) -> Result<Vec<Found>, fetch::Error> {
        let limit = self.config.fetch_max_partitions as usize;
        if request.queries.len() > limit {
            return Err(fetch::Error::TooManyPartitions { asked: request.queries.len(), limit });
        }
        let mut answers = Vec::with_capacity(request.queries.len());
        for query in request.queries {
            let (topic, partition) = (query.topic.clone(), query.partition);
            let found = self.find_offset(query, request.isolation).await;
            let error = found.as_ref().err().map(Describe::describe);
            let (offset, timestamp, leader_epoch) = found.unwrap_or((None, None, Term(0)));
            answers.push(Found { topic, partition, offset, timestamp, leader_epoch, error });
        }
        Ok(answers)
    }

    async fn find_offset(
        &self,
        query: Query,
        isolation: Isolation,
    ) -> Result<(Option<Offset>, Option<TimestampMs>, Term), fetch::Error> {
        let routes = self.routes();
        let located = self.locate_soon(&routes, &query.topic, query.partition, None).await?;
        let (shard, term) = (located.shard, located.leadership.term);
        let progress = shard.progress();
        match query.position {
            Position::Earliest => Ok((Some(progress.log_start), None, term)),
            Position::Latest => Ok((Some(isolation.bound(&progress)), None, term)),
            Position::At(time) => {
                let found = self.offset_at(shard.id(), time).await?;
                // The batch may begin before the log does: the first kept record is not earlier than it.
                let kept = found.map(|(offset, time)| (offset.max(progress.log_start), time));
                let seen = kept.filter(|(offset, _)| *offset < isolation.bound(&progress));
                Ok((seen.map(|(offset, _)| offset), seen.map(|(_, time)| time), term))
            }
        }
    }

    /// The first batch appended at `time` or later: its base offset and time. The store's rows come before
    /// what only the tail has.
    pub(crate) async fn offset_at(
        &self,
        shard: ShardId,
        time: TimestampMs,
    ) -> Result<Option<(Offset, TimestampMs)>, fetch::Error> {
        let in_memory = self.observer.tail.at_time(shard, time);
        let store = self.serving().map_err(RouteError::Quarantined)?.store.clone();
        let stored = self
            .pool
            .run(move || store.index_at_time(shard, time))
            .await
            .map_err(|full| fetch::Error::Overloaded(full.0))??;
        let stored = stored.map(|row| (row.base_offset, row.append_time));
        Ok(stored.into_iter().chain(in_memory).min_by_key(|(offset, _)| *offset))
    }
}
