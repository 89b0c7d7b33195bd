//! What a partition's leader proposes now and then: a later log start, a checkpoint where it is
//! quiet. (Audits of the replicas are proposed by consensus itself.)

use crate::broker::Broker;
use crate::fetch;
use flotilla_machine::Command;
use flotilla_raft::Shard;
use flotilla_store::Store;
use flotilla_types::topic::Resolved;
use flotilla_types::{Offset, ShardId, TimestampMs};
use std::sync::Arc;
use std::time::Duration;

/// Index rows looked at in one go, and at most in one round of one partition.
const ROWS_AT_ONCE: usize = 1024;
const ROWS_MAX: usize = 64 * 1024;
/// On quiet partitions a checkpoint is made after this share of the retention time.
const CHECKPOINTS_PER_RETENTION: i64 = 10;
/// The same where records are kept for ever.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(24 * 3600);

/// What retention needs to know of a partition's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub log_start: Offset,
    pub next_offset: Offset,
    pub last_append: TimestampMs,
    /// Newest checkpoint: where and when.
    pub checkpoint: Option<(Offset, TimestampMs)>,
}

impl Broker {
    pub(crate) async fn keep_retention(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.config.retention_interval).await;
            self.retain_once().await;
        }
    }

    /// One round over the partitions that this node leads.
    pub(crate) async fn retain_once(&self) {
        let routes = self.routes();
        for (topic, _, placed) in routes.partitions() {
            let Some(shard) = self.shard(placed.shard).filter(|shard| shard.leadership().is_leader) else {
                continue;
            };
            self.lags.note(placed.shard, &shard.replicas(), self.clock.monotonic());
            if let Err(error) = self.retain(&shard, &topic.resolved).await {
                tracing::warn!(shard = %placed.shard, %error, "retention waits for another round");
            }
        }
    }

    async fn retain(&self, shard: &Shard, config: &Resolved) -> Result<(), fetch::Error> {
        let now = self.clock.wall();
        let standing = shard.read(standing);
        let by_time = self.start_by_time(shard.id(), &standing, config, now).await?;
        let by_size = self.start_by_size(shard.id(), &standing, config).await?;
        let log_start = by_time.max(by_size).min(shard.progress().high_watermark);
        if log_start > standing.log_start {
            tracing::info!(shard = %shard.id(), from = %standing.log_start, to = %log_start, "retention moves the log start");
            self.metrics.trims.inc();
            self.propose_quietly(shard, Command::Trim { log_start, now });
        } else if checkpoint_due(&standing, config, now) {
            self.propose_quietly(shard, Command::Checkpoint { now });
        }
        Ok(())
    }

    /// What is older than the topic keeps goes, batch by batch.
    async fn start_by_time(
        &self,
        shard: ShardId,
        standing: &Standing,
        config: &Resolved,
        now: TimestampMs,
    ) -> Result<Offset, fetch::Error> {
        let Some(keep) = config.retention else { return Ok(Offset(0)) };
        if standing.log_start == standing.next_offset {
            return Ok(Offset(0));
        }
        let since = now.saturating_sub(keep.as_millis() as i64);
        if standing.last_append < since {
            return Ok(standing.next_offset);
        }
        Ok(self.offset_at(shard, since).await?.map_or(Offset(0), |(offset, _)| offset))
    }

    /// What is beyond the bytes that the topic keeps goes, oldest batches first.
    async fn start_by_size(
        &self,
        shard: ShardId,
        standing: &Standing,
        config: &Resolved,
    ) -> Result<Offset, fetch::Error> {
        let Some(keep) = config.retention_bytes else { return Ok(Offset(0)) };
        let store = self.serving().map_err(crate::routes::RouteError::Quarantined)?.store.clone();
        let from = standing.log_start;
        let walked = self.pool.run(move || start_by_size(&*store, shard, from, keep)).await;
        walked.map_err(|full| fetch::Error::Overloaded(full.0))?.map_err(fetch::Error::from)
    }

    /// Nobody waits for it: what is lost is proposed again in the next round.
    fn propose_quietly(&self, shard: &Shard, command: Command) {
        let proposal = shard.propose(command, bytes::Bytes::new());
        let id = shard.id();
        self.runtime.spawn(async move {
            if let Err(error) = proposal.await {
                tracing::debug!(shard = %id, %error, "housekeeping waits for another round");
            }
        });
    }
}

/// Walks the index twice: once to sum what is kept, once to find where the sum is small enough.
fn start_by_size(
    store: &dyn Store,
    shard: ShardId,
    from: Offset,
    keep: u64,
) -> Result<Offset, flotilla_store::ReadError> {
    let mut sizes: Vec<(Offset, u64)> = Vec::new();
    let mut next = from;
    while sizes.len() < ROWS_MAX {
        let rows = store.index_range(shard, next, ROWS_AT_ONCE)?;
        let Some(last) = rows.last() else { break };
        next = last.end_offset();
        sizes.extend(rows.iter().map(|row| (row.end_offset(), u64::from(row.body_bytes))));
    }
    let mut kept: u64 = sizes.iter().map(|(_, bytes)| bytes).sum();
    let mut start = Offset(0);
    // The newest batch stays, however large it is.
    for (end, bytes) in sizes.iter().take(sizes.len().saturating_sub(1)) {
        if kept <= keep {
            break;
        }
        kept -= bytes;
        start = *end;
    }
    Ok(start)
}

pub(crate) fn standing(state: &flotilla_machine::Shard) -> Standing {
    state.partition().map_or_else(Standing::default, |partition| Standing {
        log_start: partition.log_start(),
        next_offset: partition.next_offset(),
        last_append: partition.last_append_time(),
        checkpoint: partition.checkpoints().next_back().map(|c| (c.next_offset, c.time)),
    })
}

/// Whether something was appended since the last checkpoint, and that is long ago.
fn checkpoint_due(standing: &Standing, config: &Resolved, now: TimestampMs) -> bool {
    let every = config.retention.map_or(CHECKPOINT_EVERY.as_millis() as i64, |keep| {
        keep.as_millis() as i64 / CHECKPOINTS_PER_RETENTION
    });
    match standing.checkpoint {
        Some((offset, time)) => offset < standing.next_offset && now.saturating_sub(time) >= every,
        None => standing.next_offset > Offset(0) && now.saturating_sub(standing.last_append) >= every,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::topic::TopicConfig;

    #[test]
    fn quiet_partitions_get_a_checkpoint_per_tenth_of_their_retention() {
        let config = TopicConfig::default().resolved();
        let tenth = 7 * 24 * 3600 * 100;
        let quiet = Standing { next_offset: Offset(9), last_append: 1, ..Standing::default() };
        assert!(!checkpoint_due(&quiet, &config, tenth));
        assert!(checkpoint_due(&quiet, &config, tenth + 1));
        let done = Standing { checkpoint: Some((Offset(9), tenth)), ..quiet };
        assert!(!checkpoint_due(&done, &config, tenth * 5), "nothing new since");
        let more = Standing { next_offset: Offset(10), ..done };
        assert!(checkpoint_due(&more, &config, tenth * 5));
        assert!(!checkpoint_due(&Standing::default(), &config, i64::MAX), "nothing was ever appended");
    }
}
