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
    /// Records that had to be read, where that was said.
    wanted: Option<u64>,
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
            wanted: None,
        }
    }

    /// Of a run that only read; `wanted` = so many records, or the run is no good.
    pub fn read_only(topic: &str, measure: &Measure, checks: &Checks, wanted: Option<u64>) -> Self {
        Self {
            mode: "consume",
            topic: topic.to_owned(),
            run: None,
            asked_rate: 0.0,
            partitions: 0,
            measured: measure.done(),
            verdict: checks.verdict(),
            checked: true,
            wanted,
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
        if let Some(wanted) = self.wanted.filter(|wanted| self.measured.ended < *wanted) {
            return Err(Failed::Other(format!(
                "{} records were read in the time there was, --records asks for {wanted}",
                self.measured.ended
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::mark::{Lane, Mark};
    use flotilla_types::Offset;
    use flotilla_types::time::SystemClock;
    use std::sync::Arc;

    /// The report of a run that sent four records to each of two partitions and read these back.
    fn run(read: &[&[u64]]) -> Report {
        let (checks, measure) =
            (Checks::default(), Measure::new(Arc::new(SystemClock::new()), Duration::ZERO, false));
        for partition in 0..2 {
            let lane = Lane { run: 1, producer: 0, partition };
            for sequence in 0..4 {
                checks.sending(lane, sequence);
                measure.sent(Duration::ZERO);
                checks.acknowledged(lane, Offset(sequence));
                measure.ended(Duration::ZERO, 1_024, partition);
            }
            for sequence in read[partition as usize] {
                checks.read(&Mark { lane, sequence: *sequence, due_us: 0 });
            }
        }
        Report {
            mode: "e2e",
            topic: "load".to_owned(),
            run: Some(1),
            asked_rate: 100.0,
            partitions: 2,
            measured: measure.done(),
            verdict: checks.verdict(),
            checked: true,
            wanted: None,
        }
    }

    /// The exit code is not zero, and the words say what is wrong.
    fn refused(report: &Report) -> String {
        let failed = report.verdict().unwrap_err();
        assert_ne!(failed.code(), 0);
        failed.to_string()
    }

    #[test]
    fn a_run_that_lost_a_record_or_its_order_fails_and_its_twin_does_not() {
        assert!(run(&[&[0, 1, 2, 3], &[0, 1, 2, 3]]).verdict().is_ok());
        assert!(
            refused(&run(&[&[0, 1, 2, 3], &[0, 1, 3]])).starts_with("1 lost, 0 repeated, 0 out of order")
        );
        assert!(
            refused(&run(&[&[0, 2, 1, 3], &[0, 1, 2, 3]])).contains("0 lost, 0 repeated, 1 out of order")
        );
        assert!(refused(&run(&[&[0, 1, 2, 2, 3], &[0, 1, 2, 3]])).contains("1 repeated"));
        assert!(refused(&run(&[&[], &[]])).starts_with("8 lost"));
    }

    #[test]
    fn a_reader_that_was_to_find_more_fails() {
        let short = Report { wanted: Some(9), ..run(&[&[0, 1, 2, 3], &[0, 1, 2, 3]]) };
        assert!(refused(&short).contains("8 records were read"));
        assert!(Report { wanted: Some(8), ..short }.verdict().is_ok());
    }

    #[test]
    fn a_gap_beyond_the_bound_fails() {
        let mut report = run(&[&[0, 1, 2, 3], &[0, 1, 2, 3]]);
        report.measured.longest_gap = Duration::from_millis(301);
        assert!(
            report.gap_within(None).is_ok() && report.gap_within(Some(Duration::from_millis(301))).is_ok()
        );
        assert!(report.gap_within(Some(Duration::from_millis(300))).is_err());
    }

    /// What scripts read by name is there, in every mode.
    #[test]
    fn every_field_that_is_promised_is_in_the_report() {
        for mode in ["produce", "consume", "e2e", "failover"] {
            let report = Report { mode, ..run(&[&[0, 1, 2, 3], &[0, 1, 2, 3]]) }.to_json();
            for column in REPORT.columns {
                let mut parts = column.field.split('.');
                let field = report.get(parts.next().unwrap_or_default());
                let field = field.unwrap_or_else(|| panic!("{mode}: {} is missing", column.field));
                // Groups of fields that this mode does not have are null as a whole.
                if let Some(inner) = parts.next().filter(|_| !field.is_null()) {
                    assert!(field.get(inner).is_some(), "{mode}: {} is missing", column.field);
                }
            }
        }
    }
}
