//! A batch's way: permit, route, check, propose, wait for the outcome, answer.
//!
//! A batch is proposed in the order `produce` was called for its partition on one connection, and the
//! answer says what is known: acknowledged, definitely not in the log, or unknown. Whoever stops waiting
//! leaves the batch and its permit behind until its outcome is known, so that memory stays accounted for.

mod check;
mod error;
mod pending;
mod request;

pub use crate::admission::Permit;
pub use error::Error;
pub use pending::Pending;
pub use request::{Answer, RecordError, Request};

use crate::broker::Broker;
use crate::context::Context;
use crate::disk::DiskState;
use crate::metrics::{self, StageLabel};
use check::Checked;
use flotilla_machine::{Append, Command};
use flotilla_types::error::Describe;
use flotilla_types::{Compression, Monotonic};
use pending::InFlight;
use std::sync::Arc;
use std::time::Duration;

impl Broker {
    /// Waits a little for room for a batch's bytes. Take it before decoding where possible.
    pub async fn admit(&self, bytes: usize) -> Result<Permit, Error> {
        let begun = self.clock.monotonic();
        let permit = self.admission.admit(bytes).await;
        match &permit {
            Ok(_) => self.metrics.stage("admit", self.clock.monotonic().since(begun)),
            Err(error) => metrics::count(&self.metrics.produce_errors, error.describe().reason),
        }
        permit
    }

    /// Proposes a batch. When this returns the batch has its place in its partition's order; the answer
    /// comes through [`Pending`]. Call one after the other for batches of one connection.
    pub async fn produce(self: &Arc<Self>, context: &Context, request: Request, permit: Permit) -> Pending {
        self.metrics.produce_requests.inc();
        let begun = self.clock.monotonic();
        match self.propose(context, request, permit, begun).await {
            Ok(in_flight) => Pending::waiting(in_flight),
            Err(error) => {
                metrics::count(&self.metrics.produce_errors, error.describe().reason);
                Pending::refused(error)
            }
        }
    }

    async fn propose(
        self: &Arc<Self>,
        context: &Context,
        request: Request,
        permit: Permit,
        begun: Monotonic,
    ) -> Result<InFlight, Error> {
        let routes = self.routes();
        let located = self.locate_soon(&routes, &request.topic, request.partition, request.topic_id).await?;
        let (topic, shard) = (located.topic, located.shard);
        check::before(&request, topic.resolved.max_batch_bytes)?;
        if self.disk.state() != DiskState::Room {
            return Err(Error::DiskFull { free: self.disk.usage().free, limit: self.disk.soft_limit() });
        }
        let timeout = self.timeout(context, request.timeout, begun)?;
        let seat = self.admission.enter(shard.id(), request.body.len(), begun).await?;
        let (request, checked) = self.check(request, topic.resolved.dedup_window.is_some()).await?;
        let checked_at = self.clock.monotonic();
        self.metrics.stage("check", checked_at.since(begun));
        let left = timeout.saturating_sub(checked_at.since(begun));
        if left.is_zero() {
            return Err(Error::TooLate);
        }
        let Checked { header, message_ids } = checked;
        let (records, bytes) = (header.record_count, request.body.len());
        let command = Command::Append(Append {
            append_time: self.clock.wall(),
            expected_offset: request.expected_offset,
            batch: header,
            body_bytes: bytes as u32,
            message_ids,
            dedup_window_ms: topic.resolved.dedup_window.map(|window| window.as_millis() as u64),
        });
        let proposal = shard.propose(command, request.body);
        Ok(InFlight::new(self.clone(), proposal, (permit, seat), (records, bytes), begun, left))
    }

    /// Large compressed bodies are checked where they hold nobody up.
    async fn check(&self, request: Request, hash_ids: bool) -> Result<(Request, Checked), Error> {
        let dear = request.header.compression != Compression::None
            && request.body.len() >= self.config.check_inline_bytes.get();
        if !dear {
            let checked = check::check(&request, hash_ids)?;
            return Ok((request, checked));
        }
        let work = move || check::check(&request, hash_ids).map(|checked| (request, checked));
        self.pool.run(work).await.map_err(|full| Error::Overloaded {
            what: "work pool",
            limit: full.0.to_string(),
            retry_after: self.config.overloaded_retry,
        })?
    }

    /// How long the outcome is waited for: as asked, within the node's limit and the caller's deadline.
    fn timeout(&self, context: &Context, asked: Duration, now: Monotonic) -> Result<Duration, Error> {
        let asked = if asked.is_zero() { self.config.produce_timeout } else { asked };
        let left = context.remaining(now, asked.min(self.config.produce_timeout_max));
        if left.is_zero() { Err(Error::TooLate) } else { Ok(left) }
    }

    fn note_answer(&self, answer: &Result<Answer, Error>, (records, bytes): (u32, usize), begun: Monotonic) {
        match answer {
            Ok(answer) => {
                self.metrics.produce_records.inc_by(u64::from(records));
                self.metrics.produce_bytes.inc_by(bytes as u64);
                if answer.duplicate {
                    self.metrics.produce_duplicates.inc();
                }
                let total = self.clock.monotonic().since(begun).as_secs_f64();
                let stage = StageLabel { stage: "total" };
                self.metrics.produce_stage_seconds.get_or_create(&stage).observe(total);
            }
            Err(error) => metrics::count(&self.metrics.produce_errors, error.describe().reason),
        }
    }
}

#[cfg(test)]
mod tests;
