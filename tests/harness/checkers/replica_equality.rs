//! Every replica holds the same records.

use crate::digest::{Digest, Scan};
use std::collections::BTreeMap;

/// Names each partition of which two nodes gave different records, and each node that lacks a
/// partition's scan which another node has.
pub fn check(digest: &Digest) -> Vec<String> {
    let mut last: BTreeMap<(u32, u32), &Scan> = BTreeMap::new();
    for scan in &digest.scans {
        if let Some(node) = scan.node {
            last.insert((scan.partition, node), scan);
        }
    }
    let scans: Vec<(&(u32, u32), &&Scan)> = last.iter().collect();
    scans
        .windows(2)
        .filter(|pair| pair[0].0.0 == pair[1].0.0)
        .filter_map(|pair| {
            let [((partition, one), first), ((_, other), second)] = [pair[0], pair[1]];
            let difference = differ(first, second)?;
            Some(format!("partition {partition} differs between nodes {one} and {other}: {difference}"))
        })
        .collect()
}

/// Where two scans differ. Each node may keep a little more of the past than another, not of the present.
fn differ(first: &Scan, second: &Scan) -> Option<String> {
    let start = first.start.max(second.start);
    let kept = |scan: &Scan| -> Vec<(u64, u64)> {
        scan.records.iter().copied().filter(|record| record.0 >= start).collect()
    };
    let (a, b) = (kept(first), kept(second));
    if a == b {
        return None;
    }
    let place = a.iter().zip(&b).position(|(a, b)| a != b).unwrap_or(a.len().min(b.len()));
    Some(format!("{:?} against {:?}", a.get(place), b.get(place)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::script::{digest, scanned};

    #[test]
    fn a_replica_with_other_records_is_found() {
        let bad =
            digest(&[scanned(Some(1), 0, 2, &[(0, 1), (1, 2)]), scanned(Some(2), 0, 2, &[(0, 1), (1, 3)])]);
        assert_eq!(
            check(&bad),
            ["partition 0 differs between nodes 1 and 2: Some((1, 2)) against Some((1, 3))"]
        );
        let repaired =
            digest(&[scanned(Some(1), 0, 2, &[(0, 1), (1, 2)]), scanned(Some(2), 1, 2, &[(1, 2)])]);
        assert!(check(&repaired).is_empty());
    }

    #[test]
    fn a_replica_that_is_shorter_is_found() {
        let bad = digest(&[scanned(Some(1), 0, 2, &[(0, 1), (1, 2)]), scanned(Some(3), 0, 1, &[(0, 1)])]);
        assert_eq!(check(&bad).len(), 1);
    }
}
