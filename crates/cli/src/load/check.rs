//! Whether what was read is what was acknowledged: nothing lost, nothing twice, nothing out of order, each
//! byte as it was written; and whether acknowledged offsets rise as records were sent.

use super::mark::{Lane, Mark};
use flotilla_types::Offset;
use std::collections::{BTreeMap, BTreeSet};
use unpoisoned::Mutex;

/// The standard library's lock without poison: a panic here ends the process anyway.
mod unpoisoned {
    /// A lock.
    #[derive(Debug, Default)]
    pub(super) struct Mutex<T>(std::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }
}

/// One sequence, as sent and as read.
#[derive(Debug, Default)]
struct Seen {
    /// Records sent, if this process sent them.
    sent: Option<u64>,
    acknowledged: u64,
    /// Where the last acknowledged record is.
    stored_at: Option<Offset>,
    /// Certainly not stored.
    refused: BTreeSet<u64>,
    /// Nobody knows.
    unknown: BTreeSet<u64>,
    /// The lowest sequence read, where reading began in the middle.
    first: Option<u64>,
    /// One above the highest sequence read.
    next: u64,
    /// Below `next`, and not read.
    missing: BTreeSet<u64>,
    out_of_order: u64,
    repeated: u64,
}

/// What is wrong, summed over all sequences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Acknowledged and not read.
    pub lost: u64,
    /// Read more than once.
    pub repeated: u64,
    /// Read after a later one, or acknowledged at a lower offset than one sent before.
    pub out_of_order: u64,
    /// Read, and not what was written.
    pub corrupt: u64,
    /// Refused for certain, and read nevertheless.
    pub refused_but_stored: u64,
    /// Of unknown outcome, and read.
    pub unknown_but_stored: u64,
}

impl Verdict {
    /// Whether every promise was kept. An unknown outcome may turn out either way.
    pub fn is_clean(&self) -> bool {
        self.lost + self.repeated + self.out_of_order + self.corrupt + self.refused_but_stored == 0
    }
}

/// All sequences. Shared by the producers and the reader of a run.
#[derive(Debug, Default)]
pub struct Checks(Mutex<BTreeMap<Lane, Seen>>, Mutex<u64>);

impl Checks {
    /// A record is about to be sent.
    pub fn sending(&self, lane: Lane, sequence: u64) {
        self.0.lock().entry(lane).or_default().sent = Some(sequence + 1);
    }

    /// A record was acknowledged; those of a lane are named in the order they were sent.
    pub fn acknowledged(&self, lane: Lane, at: Offset) {
        let mut lanes = self.0.lock();
        let seen = lanes.entry(lane).or_default();
        seen.acknowledged += 1;
        seen.out_of_order += u64::from(seen.stored_at.is_some_and(|before| at <= before));
        seen.stored_at = Some(at);
    }

    /// A record failed.
    pub fn failed(&self, lane: Lane, sequence: u64, unknown: bool) {
        let mut lanes = self.0.lock();
        let seen = lanes.entry(lane).or_default();
        if unknown {
            seen.unknown.insert(sequence)
        } else {
            seen.refused.insert(sequence)
        };
    }

    /// A record was read.
    pub fn read(&self, mark: &Mark) {
        let mut lanes = self.0.lock();
        lanes.entry(mark.lane).or_default().read(mark.sequence);
    }

    /// A record was read that is not as it was written.
    pub fn corrupt(&self) {
        *self.1.lock() += 1;
    }

    /// Whether every acknowledged record was read.
    pub fn all_seen(&self) -> bool {
        self.0.lock().values().all(|seen| seen.lost() == 0)
    }

    /// What is wrong.
    pub fn verdict(&self) -> Verdict {
        let corrupt = *self.1.lock();
        let lanes = self.0.lock();
        lanes.values().fold(Verdict { corrupt, ..Verdict::default() }, |sum, seen| Verdict {
            corrupt: sum.corrupt,
            lost: sum.lost + seen.lost(),
            repeated: sum.repeated + seen.repeated,
            out_of_order: sum.out_of_order + seen.out_of_order,
            refused_but_stored: sum.refused_but_stored + seen.stored(&seen.refused),
            unknown_but_stored: sum.unknown_but_stored + seen.stored(&seen.unknown),
        })
    }
}

impl Seen {
    fn read(&mut self, sequence: u64) {
        if self.sent.is_none() && self.first.is_none() {
            // Another process wrote this; reading may have begun behind its first records.
            self.next = sequence;
        }
        self.first.get_or_insert(sequence);
        if sequence >= self.next {
            self.missing.extend(self.next..sequence);
            self.next = sequence + 1;
        } else if self.missing.remove(&sequence) {
            self.out_of_order += 1;
        } else {
            self.repeated += 1;
        }
    }

    /// Records that should have been read and were not.
    fn lost(&self) -> u64 {
        let excused = |sequence: &u64| self.refused.contains(sequence) || self.unknown.contains(sequence);
        let holes = self.missing.iter().filter(|sequence| !excused(sequence)).count() as u64;
        match self.sent {
            // Only what has been acknowledged so far can be lost; the rest may be on its way.
            Some(_) => {
                let read = self.next - self.missing.len() as u64;
                let failed_but_read = self.stored(&self.refused) + self.stored(&self.unknown);
                self.acknowledged.saturating_sub(read.saturating_sub(failed_but_read))
            }
            None => holes,
        }
    }

    fn stored(&self, failed: &BTreeSet<u64>) -> u64 {
        failed.range(..self.next).filter(|sequence| !self.missing.contains(sequence)).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANE: Lane = Lane { run: 1, producer: 0, partition: 0 };

    fn after(sent: u64, failed: &[(u64, bool)], read: &[u64]) -> Verdict {
        let checks = Checks::default();
        for sequence in 0..sent {
            checks.sending(LANE, sequence);
            match failed.iter().find(|(f, _)| *f == sequence) {
                Some((_, unknown)) => checks.failed(LANE, sequence, *unknown),
                None => checks.acknowledged(LANE, Offset(sequence)),
            }
        }
        read.iter().for_each(|sequence| checks.read(&Mark { lane: LANE, sequence: *sequence, due_us: 0 }));
        checks.verdict()
    }

    #[test]
    fn what_was_promised_is_clean() {
        assert!(after(4, &[], &[0, 1, 2, 3]).is_clean());
        assert!(after(4, &[(1, false)], &[0, 2, 3]).is_clean(), "a refused record need not be there");
        assert!(after(4, &[(1, true)], &[0, 2, 3]).is_clean(), "nor one of unknown outcome");
        let found = after(4, &[(1, true)], &[0, 1, 2, 3]);
        assert!(found.is_clean() && found.unknown_but_stored == 1, "which may be there, too");
    }

    #[test]
    fn each_broken_promise_is_seen() {
        assert_eq!(after(4, &[], &[0, 1, 3]).lost, 1);
        assert_eq!(after(4, &[], &[0, 1, 2]).lost, 1, "also at the end");
        assert_eq!(after(4, &[], &[]).lost, 4);
        assert_eq!(after(4, &[], &[0, 1, 1, 2, 3]).repeated, 1);
        assert_eq!(after(4, &[], &[0, 2, 1, 3]).out_of_order, 1);
        assert_eq!(after(4, &[(2, false)], &[0, 1, 2, 3]).refused_but_stored, 1);
        assert_eq!(
            after(4, &[(2, true)], &[0, 1, 2]).lost,
            1,
            "an unknown one does not stand for a lost one"
        );
    }

    #[test]
    fn offsets_that_go_back_and_broken_bytes_are_seen() {
        let checks = Checks::default();
        for (sequence, at) in [(0, 10), (1, 12), (2, 11), (3, 11)] {
            checks.sending(LANE, sequence);
            checks.acknowledged(LANE, Offset(at));
        }
        checks.corrupt();
        let found = checks.verdict();
        assert_eq!((found.out_of_order, found.corrupt, found.is_clean()), (2, 1, false));
    }

    #[test]
    fn a_reader_alone_sees_holes_and_repeats() {
        let checks = Checks::default();
        for sequence in [5, 6, 8, 8] {
            checks.read(&Mark { lane: LANE, sequence, due_us: 0 });
        }
        let found = checks.verdict();
        assert_eq!((found.lost, found.repeated), (1, 1));
    }
}
