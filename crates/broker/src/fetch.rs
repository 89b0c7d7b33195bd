//! A reader's way: route, bound by the watermark, memory, then disk, else wait and look again.
//!
//! No Raft message, and near the end no disk and no other task. What was read once is kept while more is
//! waited for, so `min_bytes` costs nothing twice.

mod error;
mod read;
mod request;

pub use error::Error;
pub use request::{FetchPartition, FetchedBatch, FetchedPartition, Isolation, Request};

use crate::broker::Broker;
use crate::context::Context;
use crate::metrics;
use flotilla_raft::{Progress, Shard};
use flotilla_types::error::Describe;
use flotilla_types::{Offset, Term};
use futures::future::select_all;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

impl Isolation {
    /// First offset that may not be seen.
    pub(crate) fn bound(self, progress: &Progress) -> Offset {
        match self {
            Self::ReadCommitted => progress.last_stable.min(progress.high_watermark),
            Self::ReadUncommitted => progress.high_watermark,
        }
    }
}

/// A partition that is being read.
struct Reading {
    shard: Arc<Shard>,
    progress: watch::Receiver<Progress>,
    max_bytes: usize,
    bytes: usize,
}

impl Broker {
    /// Waits until there are `min_bytes`, something is wrong with a partition, or the time is over. Answers
    /// every partition that was asked for, in that order.
    pub async fn fetch(&self, context: &Context, request: Request) -> Result<Vec<FetchedPartition>, Error> {
        self.metrics.fetch_requests.inc();
        let limit = self.config.fetch_max_partitions as usize;
        if request.partitions.len() > limit {
            return Err(Error::TooManyPartitions { asked: request.partitions.len(), limit });
        }
        let begun = self.clock.monotonic();
        let wait = context.remaining(begun, request.max_wait.min(self.config.fetch_wait_max));
        let most = self.config.fetch_max_bytes.get();
        let max_bytes = if request.max_bytes == 0 { most } else { request.max_bytes.min(most) };
        let mut answers: Vec<FetchedPartition> = request.partitions.iter().map(empty).collect();
        let mut readings: Vec<Option<Reading>> = Vec::new();
        for (asked, answer) in request.partitions.iter().zip(&mut answers) {
            readings.push(self.begin_reading(asked, answer).await);
        }
        let mut bytes = 0;
        let mut waited = false;
        loop {
            let draining = self.is_draining();
            for ((asked, answer), slot) in request.partitions.iter().zip(&mut answers).zip(&mut readings) {
                let Some(reading) = slot else { continue };
                if let Err(error) = self.still_leads(asked, answer, reading) {
                    answer.error = Some(error.describe());
                    *slot = None;
                    continue;
                }
                let room = max_bytes.saturating_sub(bytes);
                match self.read_on(reading, answer, request.isolation, room, bytes == 0).await {
                    Ok(read) => bytes += read,
                    Err(error) => {
                        answer.error = Some(error.describe());
                        *slot = None;
                    }
                }
            }
            let failed = answers.iter().any(|answer| answer.error.is_some());
            let left = wait.saturating_sub(self.clock.monotonic().since(begun));
            if failed || draining || bytes >= request.min_bytes.max(1) || left.is_zero() {
                break;
            }
            if !waited {
                self.metrics.fetch_waits.inc();
                waited = true;
            }
            self.wait_for_news(&mut readings, left).await;
        }
        self.note_fetch(&answers, bytes);
        Ok(answers)
    }

    /// Finds a partition and checks where the reader wants to begin.
    async fn begin_reading(&self, asked: &FetchPartition, answer: &mut FetchedPartition) -> Option<Reading> {
        match self.try_begin(asked, answer).await {
            Ok(reading) => Some(reading),
            Err(error) => {
                answer.error = Some(error.describe());
                None
            }
        }
    }

    async fn try_begin(
        &self,
        asked: &FetchPartition,
        answer: &mut FetchedPartition,
    ) -> Result<Reading, Error> {
        let routes = self.routes();
        let located = self.locate_soon(&routes, &asked.topic, asked.partition, asked.topic_id).await?;
        self.fence(&routes, (&asked.topic, asked.partition), &located.leadership, asked.leader_epoch)?;
        answer.leader_epoch = located.leadership.term;
        let mut progress = located.shard.watch_progress();
        let mut now = *progress.borrow_and_update();
        if asked.offset > now.high_watermark {
            // A deposed leader that does not know it yet must not send readers back.
            let barrier = located.shard.read_barrier();
            match tokio::time::timeout(self.config.forward_timeout, barrier).await {
                Ok(Ok(_)) => now = *progress.borrow_and_update(),
                _ => return Err(Error::Unconfirmed),
            }
        }
        answer.see(&now);
        if asked.offset < now.log_start || asked.offset > now.high_watermark {
            return Err(Error::OutOfRange {
                asked: asked.offset,
                log_start: now.log_start,
                high_watermark: now.high_watermark,
            });
        }
        let default = self.config.fetch_partition_bytes.get();
        let max_bytes = if asked.max_bytes == 0 { default } else { asked.max_bytes };
        Ok(Reading { shard: located.shard, progress, max_bytes, bytes: 0 })
    }

    /// A reader that waits must hear when the leader moves on, not only when its time is over.
    fn still_leads(
        &self,
        asked: &FetchPartition,
        answer: &FetchedPartition,
        reading: &Reading,
    ) -> Result<(), Error> {
        let leadership = reading.shard.leadership();
        if leadership.is_leader && leadership.term == answer.leader_epoch {
            return Ok(());
        }
        let routes = self.routes();
        let located = self.locate(&routes, &asked.topic, asked.partition, asked.topic_id)?;
        let epoch = Some(answer.leader_epoch);
        self.fence(&routes, (&asked.topic, asked.partition), &located.leadership, epoch)?;
        Ok(())
    }

    /// Adds what there is from `next_offset` on.
    async fn read_on(
        &self,
        reading: &mut Reading,
        answer: &mut FetchedPartition,
        isolation: Isolation,
        room: usize,
        one_fits: bool,
    ) -> Result<usize, Error> {
        let now = *reading.progress.borrow_and_update();
        answer.see(&now);
        if answer.next_offset < now.log_start {
            return Err(Error::OutOfRange {
                asked: answer.next_offset,
                log_start: now.log_start,
                high_watermark: now.high_watermark,
            });
        }
        let bound = isolation.bound(&now);
        let room = room.min(reading.max_bytes.saturating_sub(reading.bytes));
        if answer.next_offset >= bound || (room == 0 && !one_fits) {
            return Ok(0);
        }
        let batches = self.read(&reading.shard, answer.next_offset, bound, room, one_fits).await?;
        let read = batches.iter().map(FetchedBatch::weight).sum();
        if let Some(last) = batches.last() {
            answer.next_offset = last.end_offset();
        }
        reading.bytes += read;
        answer.batches.extend(batches);
        Ok(read)
    }

    /// Until any partition's watermark or leader moves, the node drains, or `left` has passed.
    async fn wait_for_news(&self, readings: &mut [Option<Reading>], left: Duration) {
        self.metrics.fetch_waiting.inc();
        let _waiting = Waiting(&self.metrics);
        let mut moved: Vec<_> = readings
            .iter()
            .flatten()
            .map(|reading| {
                let (mut progress, mut leadership) =
                    (reading.progress.clone(), reading.shard.watch_leadership());
                let (term, leads) = {
                    let now = leadership.borrow_and_update();
                    (now.term, now.is_leader)
                };
                Box::pin(async move {
                    let lost = leadership.wait_for(|now| now.term != term || now.is_leader != leads);
                    tokio::select! {
                        _ = progress.changed() => {}
                        _ = lost => {}
                    }
                })
            })
            .collect();
        let mut draining = self.draining.subscribe();
        let drained = draining.wait_for(|draining| *draining);
        if moved.is_empty() {
            return;
        }
        let any = select_all(moved.drain(..));
        tokio::select! {
            _ = any => {}
            _ = drained => {}
            () = tokio::time::sleep(left) => {}
        }
    }

    fn note_fetch(&self, answers: &[FetchedPartition], bytes: usize) {
        self.metrics.fetch_bytes.inc_by(bytes as u64);
        for answer in answers {
            let records: u64 = answer.batches.iter().map(|b| u64::from(b.header.record_count)).sum();
            self.metrics.fetch_records.inc_by(records);
            if let Some(failure) = &answer.error {
                metrics::count(&self.metrics.fetch_errors, failure.reason);
            }
        }
    }
}

struct Waiting<'a>(&'a metrics::Metrics);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_waiting.dec();
    }
}

fn empty(asked: &FetchPartition) -> FetchedPartition {
    FetchedPartition {
        topic: asked.topic.clone(),
        partition: asked.partition,
        leader_epoch: Term(0),
        high_watermark: Offset(0),
        last_stable: Offset(0),
        log_start: Offset(0),
        batches: Vec::new(),
        next_offset: asked.offset,
        error: None,
    }
}

impl FetchedPartition {
    fn see(&mut self, progress: &Progress) {
        self.high_watermark = progress.high_watermark;
        self.last_stable = progress.last_stable;
        self.log_start = progress.log_start;
    }
}

#[cfg(test)]
mod tests;
