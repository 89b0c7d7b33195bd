//! What a coordinator's leader does now and then: it forgets offsets of groups that are long empty, and measures
//! lag. Both look at memory only where there is nothing to do.

use super::describe::{Stand, Timed, by_id, stands, total};
use super::lead::look;
use crate::broker::Broker;
use crate::metrics::{GroupLabel, StateLabel};
use flotilla_machine::groups::{Answer, Command};
use flotilla_types::GroupId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Pause between two rounds.
const EVERY: Duration = Duration::from_secs(15);
/// Rounds between two looks for offsets to forget.
const EXPIRY_ROUNDS: u64 = 40;
/// Groups whose lag is shown, and partitions that are asked about for it, per round.
const LAGS_SHOWN: usize = 100;
const LAG_PARTITIONS_MAX: usize = 20_000;

impl Broker {
    pub(crate) async fn keep_group_house(self: Arc<Self>) {
        for round in 1u64.. {
            tokio::time::sleep(EVERY).await;
            self.warn_of_long_rebalances();
            self.measure_groups().await;
            if round.is_multiple_of(EXPIRY_ROUNDS) {
                self.expire_offsets().await;
            }
        }
    }

    /// Groups that were empty for longer than offsets are kept go.
    pub(super) async fn expire_offsets(&self) {
        let retention_ms = self.config.groups.offsets_expiry.as_millis() as u64;
        for id in self.groups.memory.led() {
            let Some(shard) = self.led_coordinator(id) else { continue };
            let now = self.clock.wall();
            let is_due = |since: i64| now.saturating_sub(since) as u64 > retention_ms;
            let due = look(&shard, |groups| {
                groups.iter().any(|(_, group)| group.empty_since().is_some_and(is_due))
            });
            if !due.unwrap_or(false) {
                continue;
            }
            let nobody = GroupId::new("expired").expect("it follows the rule of names");
            loop {
                let command = Command::ExpireOffsets { retention_ms, now };
                match self.decide(&nobody, &shard, command).await.map(|outcome| outcome.answer) {
                    Ok(Ok(Answer::OffsetsExpired { groups, offsets, more })) => {
                        tracing::info!(shard = %id, groups, offsets, "groups that were long empty are forgotten");
                        if !more {
                            break;
                        }
                    }
                    other => {
                        tracing::warn!(shard = %id, ?other, "offsets are not forgotten yet");
                        break;
                    }
                }
            }
        }
    }

    /// Counts groups and members, and how far the groups are behind.
    pub(super) async fn measure_groups(&self) {
        let routes = self.routes();
        let ids = by_id(&routes);
        let mut members = 0;
        let mut states = BTreeMap::from([("empty", 0), ("reconciling", 0), ("stable", 0)]);
        let mut behind: Vec<Measured> = Vec::new();
        let mut partitions = 0;
        for id in self.groups.memory.led() {
            let Some(shard) = self.led_coordinator(id) else { continue };
            let _ = look(&shard, |rules| {
                for (name, group) in rules.iter() {
                    members += group.members().len() as i64;
                    *states.entry(group.state().name()).or_default() += 1;
                    if group.offsets().is_empty() || partitions > LAG_PARTITIONS_MAX {
                        continue;
                    }
                    let stands = stands(rules, group, (&routes, &ids));
                    partitions += stands.len();
                    let (epoch, size) = (group.epoch().get(), group.members().len());
                    behind.push(Measured { group: name.clone(), stands, epoch, size, lag: None });
                }
            });
        }
        for (state, count) in states {
            self.metrics.groups.get_or_create(&StateLabel { state }).set(count);
        }
        self.metrics.group_members.set(members);
        let all = behind.iter().flat_map(|measured| measured.stands.clone()).collect();
        let mut positions = self.positions(all, Timed::No).await.into_iter();
        for measured in &mut behind {
            let of_it = positions.by_ref().take(measured.stands.len());
            measured.lag = total(of_it.map(|position| position.lag));
        }
        behind.sort_unstable_by(|a, b| (b.lag, &b.group).cmp(&(a.lag, &a.group)));
        let metrics = &self.metrics;
        for family in [&metrics.group_lag, &metrics.group_epoch, &metrics.group_size] {
            family.clear();
        }
        for Measured { group, epoch, size, lag, .. } in behind.into_iter().take(LAGS_SHOWN) {
            let Some(lag) = lag else { continue };
            let label = GroupLabel { group: group.into() };
            metrics.group_lag.get_or_create(&label).set(lag as i64);
            metrics.group_epoch.get_or_create(&label).set(epoch as i64);
            metrics.group_size.get_or_create(&label).set(size as i64);
        }
    }
}

/// What is shown of a group.
struct Measured {
    group: GroupId,
    stands: Vec<Stand>,
    epoch: u64,
    size: usize,
    lag: Option<u64>,
}
