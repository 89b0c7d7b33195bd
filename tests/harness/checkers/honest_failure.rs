//! An operation that was definitely refused never takes effect.

use crate::digest::{Digest, Outcome};
use std::collections::HashMap;

/// Names each value that was refused for good and seen all the same.
pub fn check(digest: &Digest) -> Vec<String> {
    let failed: HashMap<(u32, u64), u32> = digest
        .sent
        .iter()
        .filter(|s| s.outcome == Outcome::Failed)
        .map(|s| ((s.partition, s.value), s.process))
        .collect();
    digest
        .seen
        .iter()
        .filter_map(|s| {
            let process = failed.get(&(s.partition, s.value))?;
            Some(format!(
                "value {} was refused to process {process} and stands at partition {} offset {}",
                s.value, s.partition, s.offset
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::script::{digest, scanned, sent};
    use crate::history::Stage;

    #[test]
    fn a_refused_value_that_was_written_is_found() {
        let bad =
            digest(&[sent(1, 0, Stage::Invoke), sent(1, 0, Stage::Fail), scanned(None, 0, 1, &[(0, 1)])]);
        assert_eq!(check(&bad), ["value 1 was refused to process 1 and stands at partition 0 offset 0"]);
        let repaired =
            digest(&[sent(1, 0, Stage::Invoke), sent(1, 0, Stage::Unknown), scanned(None, 0, 1, &[(0, 1)])]);
        assert!(check(&repaired).is_empty());
    }
}
