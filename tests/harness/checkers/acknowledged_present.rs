//! What was acknowledged is there afterwards, unless retention removed it.

use crate::digest::{Digest, Outcome};
use std::collections::{BTreeMap, HashSet};

/// Names each acknowledged value that the last scan of its partition lacks. A partition with
/// acknowledged values and no scan at all is a finding too.
pub fn check(digest: &Digest) -> Vec<String> {
    let scans: BTreeMap<u32, (u64, HashSet<u64>)> = digest
        .last_scans()
        .into_iter()
        .map(|scan| (scan.partition, (scan.start, scan.records.iter().map(|r| r.1).collect())))
        .collect();
    let mut found = Vec::new();
    for sent in &digest.sent {
        let Outcome::Acknowledged(offset) = sent.outcome else { continue };
        match scans.get(&sent.partition) {
            None => {
                found.push(format!("partition {} was never scanned", sent.partition));
            }
            Some((start, values)) if offset >= *start && !values.contains(&sent.value) => {
                found.push(format!(
                    "value {} was acknowledged at partition {} offset {offset} and is gone",
                    sent.value, sent.partition
                ));
            }
            Some(_) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::script::{acked, digest, scanned};

    #[test]
    fn a_lost_record_is_found() {
        let bad = digest(&[acked(1, 0, 0), acked(2, 1, 1), scanned(None, 0, 1, &[(0, 1)])]);
        assert_eq!(check(&bad), ["value 2 was acknowledged at partition 0 offset 1 and is gone"]);
        let repaired = digest(&[acked(1, 0, 0), acked(2, 1, 1), scanned(None, 0, 2, &[(0, 1), (1, 2)])]);
        assert!(check(&repaired).is_empty());
    }

    #[test]
    fn only_the_last_scan_counts_and_none_is_a_finding() {
        let lost_later = digest(&[acked(1, 0, 0), scanned(None, 0, 1, &[(0, 1)]), scanned(None, 0, 0, &[])]);
        assert_eq!(check(&lost_later).len(), 1);
        assert_eq!(check(&digest(&[acked(1, 0, 0)])), ["partition 0 was never scanned"]);
    }

    #[test]
    fn what_retention_removed_is_not_lost() {
        let trimmed = digest(&[acked(1, 0, 0), acked(2, 1, 1), scanned(None, 1, 2, &[(1, 2)])]);
        assert!(check(&trimmed).is_empty());
    }
}
