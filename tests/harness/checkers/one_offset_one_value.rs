//! An offset has one value: for all readers, at all nodes, at all times, and as it was acknowledged.

use crate::digest::Digest;

/// Names each offset at which two values were seen.
pub fn check(digest: &Digest) -> Vec<String> {
    digest
        .seen
        .windows(2)
        .filter(|pair| pair[0].partition == pair[1].partition && pair[0].offset == pair[1].offset)
        .map(|pair| {
            let [first, second] = [pair[0], pair[1]];
            format!(
                "partition {} offset {} holds value {} and value {}",
                first.partition, first.offset, first.value, second.value
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::script::{acked, digest, polled, scanned};

    #[test]
    fn two_values_at_one_offset_are_found() {
        let bad = digest(&[polled(&[(0, 1)]), scanned(None, 0, 1, &[(0, 2)])]);
        assert_eq!(check(&bad), ["partition 0 offset 0 holds value 1 and value 2"]);
        let repaired = digest(&[polled(&[(0, 1)]), scanned(None, 0, 2, &[(0, 1), (1, 2)])]);
        assert!(check(&repaired).is_empty());
    }

    #[test]
    fn an_acknowledged_offset_is_binding() {
        let bad = digest(&[acked(1, 0, 0), polled(&[(0, 5), (1, 1)])]);
        assert_eq!(check(&bad), ["partition 0 offset 0 holds value 1 and value 5"]);
    }
}
