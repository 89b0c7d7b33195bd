//! What is read was sent.

use crate::digest::Digest;
use std::collections::HashSet;

/// Names each value that was read from a partition that nobody sent it to.
pub fn check(digest: &Digest) -> Vec<String> {
    let sent: HashSet<(u32, u64)> = digest.sent.iter().map(|s| (s.partition, s.value)).collect();
    digest
        .seen
        .iter()
        .filter(|s| !sent.contains(&(s.partition, s.value)))
        .map(|s| format!("value {} at partition {} offset {} was never sent", s.value, s.partition, s.offset))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::script::{digest, polled, sent};
    use crate::history::Stage;

    #[test]
    fn a_value_out_of_nowhere_is_found() {
        let bad = digest(&[sent(1, 0, Stage::Unknown), polled(&[(0, 1), (1, 2)])]);
        assert_eq!(check(&bad), ["value 2 at partition 0 offset 1 was never sent"]);
        let repaired =
            digest(&[sent(1, 0, Stage::Unknown), sent(2, 1, Stage::Invoke), polled(&[(0, 1), (1, 2)])]);
        assert!(check(&repaired).is_empty());
    }
}
