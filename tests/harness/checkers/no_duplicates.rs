//! A retry of an idempotent producer leaves no second copy.

use crate::digest::Digest;

/// Names each value that was seen at two offsets, or in two partitions.
pub fn check(digest: &Digest) -> Vec<String> {
    let mut by_value = digest.seen.clone();
    by_value.sort_unstable_by_key(|s| (s.value, s.partition, s.offset));
    by_value
        .windows(2)
        .filter(|pair| pair[0].value == pair[1].value)
        .map(|pair| {
            let [first, second] = [pair[0], pair[1]];
            format!(
                "value {} stands at partition {} offset {} and at partition {} offset {}",
                first.value, first.partition, first.offset, second.partition, second.offset
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::script::{acked, digest, scanned};

    #[test]
    fn a_second_copy_is_found() {
        let bad = digest(&[acked(1, 0, 0), scanned(None, 0, 2, &[(0, 1), (1, 1)])]);
        assert_eq!(check(&bad), ["value 1 stands at partition 0 offset 0 and at partition 0 offset 1"]);
        let repaired = digest(&[acked(1, 0, 0), scanned(None, 0, 2, &[(0, 1), (1, 2)])]);
        assert!(check(&repaired).is_empty());
    }

    #[test]
    fn an_acknowledgement_of_a_copy_elsewhere_is_found() {
        let bad = digest(&[acked(1, 0, 4), scanned(None, 0, 1, &[(0, 1)])]);
        assert_eq!(check(&bad).len(), 1);
    }
}
