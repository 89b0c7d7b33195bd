//! Between the first offset that is kept and the end, every offset is one record.

use crate::digest::Digest;

/// Names each scan with a hole, a step back, or another length than its server said.
pub fn check(digest: &Digest) -> Vec<String> {
    let mut found = Vec::new();
    for scan in &digest.scans {
        let mut next = scan.start;
        for &(offset, value) in &scan.records {
            if offset != next {
                found.push(format!(
                    "partition {}: value {value} stands at offset {offset}, expected {next}",
                    scan.partition
                ));
            }
            next = offset + 1;
        }
        if next != scan.end {
            found.push(format!(
                "partition {} was read up to offset {next}, its end is {}",
                scan.partition, scan.end
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::script::{digest, scanned};

    #[test]
    fn holes_and_short_reads_are_found() {
        let hole = digest(&[scanned(None, 5, 8, &[(5, 1), (7, 2)])]);
        assert_eq!(check(&hole), ["partition 0: value 2 stands at offset 7, expected 6"]);
        let short = digest(&[scanned(None, 5, 8, &[(5, 1), (6, 3)])]);
        assert_eq!(check(&short), ["partition 0 was read up to offset 7, its end is 8"]);
        let repaired = digest(&[scanned(None, 5, 8, &[(5, 1), (6, 3), (7, 2)])]);
        assert!(check(&repaired).is_empty());
    }
}
