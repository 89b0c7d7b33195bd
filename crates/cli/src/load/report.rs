//! What a run came to, and whether it may be called good.

use super::check::{Checks, Verdict};
use super::gaps::Blow;
use super::measure::{Measure, Measured};
use super::plan::Plan;
use crate::exit::Failed;
use crate::output::{Column, Shape};
use serde_json::{Value, json};
use std::time::Duration;

/// The report's fields.
pub const REPORT: Shape = Shape {
    what: "the report of one run",
    columns: &[
        Column::new("mode", "produce, consume, e2e or failover"),
        Column::new("asked_rate", "records per second asked for, 0 = as fast as possible"),
        Column::new("reached_rate", "records per second that ended well"),
        Column::wide("reached_mib_per_second", "the same in MiB of values"),
        Column::new("records", "records that ended well: acknowledged, or read back"),
        Column::new("failed", "records that certainly were not stored"),
        Column::new("unknown", "records of which nobody knows"),
        Column::new("latency_us.p50", "microseconds from due to end: half of all"),
        Column::wide("latency_us.p90", "nine tenths"),
        Column::wide("latency_us.p95", "95 of 100"),
        Column::new("latency_us.p99", "99 of 100"),
        Column::new("latency_us.p999", "999 of 1000"),
        Column::new("latency_us.max", "all"),
        Column::new("longest_gap_ms", "longest time without an end"),
        Column::wide("longest_partition_gap_ms", "the same within one partition"),
        Column::wide("kills.count", "failover: how many blows were dealt"),
        Column::wide("kills.longest_gap_ms", "after any of them, the longest time without an end"),
        Column::wide("kills.longest_partition_gap_ms", "the same within one partition"),
        Column::wide("kills.first_new_ms", "longest from a blow until one due after it had ended"),
        Column::wide(
            "kills.all_partitions_ms",
            "the same until it was so in every partition, absent = never",
        ),
        Column::new("lost", "acknowledged and not read"),
        Column::new("repeated", "read more than once"),
        Column::new("out_of_order", "read after a later one"),
        Column::new("corrupt", "read, and not what was written"),
        Column::wide("refused_but_stored", "failed for certain, and read"),
        Column::wide("unknown_but_stored", "of unknown outcome, and read"),
        Column::wide("elapsed_ms", "from the end of the warm-up to the last end"),
        Column::wide("last_error", "the last failure"),
        Column::wide("topic", "where"),
        Column::wide("run", "the run's number, in hex"),
    ],
};

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    mode: &'static str,
    topic: String,
    run: Option<u64>,
    asked_rate: f64,
    partitions: u32,
    measured: Measured,
    verdict: Verdict,
    checked: bool,
}

impl Report {
    /// Of a run that sent; `checked` = and read back.
    pub fn new(mode: &'static str, plan: &Plan, measure: &Measure, checks: &Checks, checked: bool) -> Self {
        Self {
            mode,
            topic: plan.topic.clone(),
            run: Some(plan.run),
            asked_rate: plan.rate,
            partitions: plan.partitions,
            measured: measure.done(),
            verdict: if checked { checks.verdict() } else { Verdict { lost: 0, ..checks.verdict() } },
            checked,
        }
    }

    /// Of a run that only read.
    pub fn read_only(topic: &str, measure: &Measure, checks: &Checks) -> Self {
        Self {
            mode: "consume",
            topic: topic.to_owned(),
            run: None,
            asked_rate: 0.0,
            partitions: 0,
            measured: measure.done(),
            verdict: checks.verdict(),
            checked: true,
        }
    }

    /// With the contract of [`REPORT`].
    pub fn to_json(&self) -> Value {
        let Measured { latency, elapsed, .. } = &self.measured;
        let seconds = elapsed.as_secs_f64().max(0.001);
        let round = |number: f64| (number * 10.0).round() / 10.0;
        let checked = |count: u64| self.checked.then_some(count);
        let quantile = |q: f64| latency.value_at_quantile(q);
        let timed = self.mode != "consume";
        json!({
            "mode": self.mode,
            "topic": self.topic,
            "run": self.run.map(|run| format!("{run:016x}")),
            "asked_rate": self.asked_rate,
            "reached_rate": round(self.measured.ended as f64 / seconds),
            "reached_mib_per_second": round(self.measured.bytes as f64 / seconds / f64::from(1 << 20)),
            "sent": self.measured.sent,
            "records": self.measured.ended,
            "failed": self.measured.failed,
            "unknown": self.measured.unknown,
            "latency_us": timed.then(|| json!({
                "mean": round(latency.mean()), "p50": quantile(0.5), "p90": quantile(0.9), "p95": quantile(0.95),
                "p99": quantile(0.99), "p999": quantile(0.999), "max": latency.max(),
            })),
            "longest_gap_ms": round(self.measured.longest_gap.as_secs_f64() * 1_000.0),
            "longest_partition_gap_ms": round(self.measured.partition_gap.as_secs_f64() * 1_000.0),
            "kills": (self.mode == "failover").then(|| self.kills()),
            "lost": checked(self.verdict.lost),
            "repeated": checked(self.verdict.repeated),
            "out_of_order": self.verdict.out_of_order,
            "corrupt": checked(self.verdict.corrupt),
            "refused_but_stored": checked(self.verdict.refused_but_stored),
            "unknown_but_stored": checked(self.verdict.unknown_but_stored),
            "elapsed_ms": elapsed.as_millis() as u64,
            "last_error": self.measured.last_error,
        })
    }

    /// What followed the blows: the worst of each figure, and each of them.
    fn kills(&self) -> Value {
        let ms = |time: Duration| (time.as_secs_f64() * 10_000.0).round() / 10.0;
        let blows = &self.measured.blows;
        let worst = |of: fn(&Blow) -> Duration| blows.iter().map(of).max().map(ms);
        let first = |blow: &Blow| blow.first_new.values().min().copied();
        let all = |blow: &Blow| {
            let complete = blow.first_new.len() == self.partitions as usize;
            blow.first_new.values().max().copied().filter(|_| complete)
        };
        // A blow after which it never came is no blow after which it came soon.
        let longest = |times: Option<Vec<Duration>>| times.and_then(|t| t.into_iter().max()).map(ms);
        let each = blows.iter().map(|blow| {
            json!({
                "gap_ms": ms(blow.gap),
                "gap_begins_after_kill_ms": ms(blow.gap_begins),
                "partition_gap_ms": ms(blow.partition_gap),
                "first_new_ms": first(blow).map(ms),
                "all_partitions_ms": all(blow).map(ms),
            })
        });
        json!({
            "count": blows.len(),
            "longest_gap_ms": worst(|blow| blow.gap),
            "longest_partition_gap_ms": worst(|blow| blow.partition_gap),
            "first_new_ms": longest(blows.iter().map(first).collect()),
            "all_partitions_ms": longest(blows.iter().map(all).collect()),
            "each": each.collect::<Vec<_>>(),
        })
    }

    /// An error if a blow was followed by a longer gap than that.
    pub fn gap_within(&self, most: Option<Duration>) -> Result<(), Failed> {
        let longest = self.measured.longest_gap;
        match most {
            Some(most) if longest > most => Err(Failed::Other(format!(
                "nothing was acknowledged for {longest:.1?}, limit --max-gap {most:?}"
            ))),
            _ => Ok(()),
        }
    }

    /// An error if a promise was broken, or if nothing worked at all.
    pub fn verdict(&self) -> Result<(), Failed> {
        let Verdict { lost, repeated, out_of_order, corrupt, refused_but_stored, .. } = self.verdict;
        if !self.verdict.is_clean() {
            return Err(Failed::Other(format!(
                "{lost} lost, {repeated} repeated, {out_of_order} out of order, {corrupt} corrupt, \
                 {refused_but_stored} refused but stored"
            )));
        }
        match &self.measured.last_error {
            Some(error) if self.measured.ended == 0 => {
                Err(Failed::Other(format!("nothing was stored: {error}")))
            }
            _ => Ok(()),
        }
    }
}
