//! A reader that does not seek skips nothing and never steps back.

use crate::digest::Digest;

/// Names each place where a reader's next record was not the next offset.
pub fn check(digest: &Digest) -> Vec<String> {
    digest
        .readings
        .iter()
        .flat_map(|reading| {
            reading.records.windows(2).filter(|pair| pair[1].0 != pair[0].0 + 1).map(|pair| {
                format!(
                    "reader {} of partition {} came from offset {} to offset {}",
                    reading.process, reading.partition, pair[0].0, pair[1].0
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::script::{digest, polled};

    #[test]
    fn skips_and_steps_back_are_found_across_polls() {
        let skip = digest(&[polled(&[(0, 1)]), polled(&[(2, 3)])]);
        assert_eq!(check(&skip), ["reader 9 of partition 0 came from offset 0 to offset 2"]);
        let back = digest(&[polled(&[(4, 1), (5, 2)]), polled(&[(5, 2)])]);
        assert_eq!(check(&back), ["reader 9 of partition 0 came from offset 5 to offset 5"]);
        let repaired = digest(&[polled(&[(0, 1), (1, 2)]), polled(&[(2, 3)])]);
        assert!(check(&repaired).is_empty());
    }
}
