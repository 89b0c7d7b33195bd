//! How long nothing ended: over all partitions, in each of them, and after each blow that was dealt.

use flotilla_types::Monotonic;
use std::collections::BTreeMap;
use std::time::Duration;

/// What followed a blow (a leader killed, say).
#[derive(Clone, Debug)]
pub struct Blow {
    /// When it began to be dealt: gaps count from here.
    pub at: Monotonic,
    /// When it had been dealt for certain.
    pub dealt: Option<Monotonic>,
    /// The longest time between two ends of which the later came after it.
    pub gap: Duration,
    /// The same in the partition where it was longest.
    pub partition_gap: Duration,
    /// When the longest gap began, after the blow; zero if before.
    pub gap_begins: Duration,
    /// From the end of the blow to the first end of a record that was due after it, by partition.
    pub first_new: BTreeMap<u32, Duration>,
}

/// Gaps between ends.
#[derive(Debug, Default)]
pub struct Gaps {
    last: Option<Monotonic>,
    longest: Duration,
    partitions: BTreeMap<u32, Monotonic>,
    partition_longest: Duration,
    blows: Vec<Blow>,
}

impl Gaps {
    /// Measuring begins: until the first end nothing has ended either.
    pub fn begin(&mut self, now: Monotonic) {
        self.last.get_or_insert(now);
    }

    /// A record of a partition ended; `due` = when it was.
    pub fn ended(&mut self, now: Monotonic, partition: u32, due: Option<Monotonic>) {
        let began = self.last.replace(now).unwrap_or(now);
        let gap = now.since(began);
        self.longest = self.longest.max(gap);
        let here = now.since(self.partitions.insert(partition, now).unwrap_or(began));
        self.partition_longest = self.partition_longest.max(here);
        let Some(blow) = self.blows.last_mut() else { return };
        blow.partition_gap = blow.partition_gap.max(here);
        if gap > blow.gap {
            blow.gap = gap;
            blow.gap_begins = began.since(blow.at);
        }
        // What was due while the blow was on its way may have gone before it.
        if let (Some(due), Some(dealt)) = (due, blow.dealt)
            && due >= dealt
        {
            blow.first_new.entry(partition).or_insert_with(|| now.since(dealt));
        }
    }

    /// A blow begins to be dealt.
    pub fn blow(&mut self, now: Monotonic) {
        let zero = Duration::ZERO;
        let (partition_gap, gap_begins) = (zero, zero);
        let first_new = BTreeMap::new();
        self.blows.push(Blow { at: now, dealt: None, gap: zero, partition_gap, gap_begins, first_new });
    }

    /// The last blow has been dealt.
    pub fn dealt(&mut self, now: Monotonic) {
        if let Some(blow) = self.blows.last_mut() {
            blow.dealt = Some(now);
        }
    }

    /// The run is over; with records still `waiting`, what lasts until now is a gap too.
    pub fn over(&mut self, now: Monotonic, waiting: bool) {
        let Some(last) = self.last.filter(|_| waiting) else { return };
        let gap = now.since(last);
        self.longest = self.longest.max(gap);
        self.partition_longest = self.partition_longest.max(gap);
        if let Some(blow) = self.blows.last_mut() {
            blow.gap = blow.gap.max(gap);
            blow.partition_gap = blow.partition_gap.max(gap);
        }
    }

    /// The longest over all partitions: something ended somewhere.
    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// The longest in any one partition, from its first end on.
    pub fn partition_longest(&self) -> Duration {
        self.partition_longest
    }

    /// What followed each blow.
    pub fn blows(&self) -> &[Blow] {
        &self.blows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Monotonic {
        Monotonic(Duration::from_millis(ms))
    }

    #[test]
    fn a_partition_that_stands_still_is_seen_behind_others_that_go_on() {
        let mut gaps = Gaps::default();
        gaps.begin(ms(0));
        for at in 1..=100 {
            gaps.ended(ms(at * 10), 0, None);
            if !(20..60).contains(&at) {
                gaps.ended(ms(at * 10), 1, None);
            }
        }
        assert_eq!(gaps.longest().as_millis(), 10);
        assert_eq!(gaps.partition_longest().as_millis(), 410);
    }

    #[test]
    fn what_follows_a_blow_is_counted_from_it() {
        let mut gaps = Gaps::default();
        gaps.begin(ms(0));
        gaps.ended(ms(90), 0, Some(ms(89)));
        gaps.ended(ms(95), 1, Some(ms(94)));
        gaps.blow(ms(98));
        gaps.ended(ms(99), 0, Some(ms(98)));
        gaps.dealt(ms(100));
        gaps.ended(ms(101), 0, Some(ms(99)));
        gaps.ended(ms(351), 0, Some(ms(102)));
        gaps.ended(ms(400), 1, Some(ms(103)));
        let [blow] = gaps.blows() else { panic!() };
        assert_eq!((blow.gap.as_millis(), blow.gap_begins.as_millis()), (250, 3));
        assert_eq!(blow.partition_gap.as_millis(), 305, "partition 1 waited longer than anybody noticed");
        let first: Vec<u128> = blow.first_new.values().map(Duration::as_millis).collect();
        assert_eq!(first, [251, 300], "a record that was due before the blow was dealt proves nothing");
    }

    #[test]
    fn silence_until_the_end_is_a_gap_and_so_is_silence_at_the_beginning() {
        let mut gaps = Gaps::default();
        gaps.begin(ms(0));
        gaps.ended(ms(700), 0, None);
        assert_eq!(gaps.longest().as_millis(), 700);
        gaps.over(ms(9_700), false);
        assert_eq!(gaps.longest().as_millis(), 700, "nothing was waited for");
        gaps.over(ms(9_700), true);
        assert_eq!(gaps.longest().as_millis(), 9_000);
    }
}
