//! What one producer sends to one partition stands there in the order it was sent.

use crate::digest::{Digest, Sent};
use std::collections::HashMap;

/// Names each pair of a producer's records whose offsets contradict their order.
pub fn check(digest: &Digest) -> Vec<String> {
    let offsets: HashMap<(u32, u64), u64> =
        digest.seen.iter().map(|s| ((s.partition, s.value), s.offset)).collect();
    let mut stored: Vec<(&Sent, u64)> = digest
        .sent
        .iter()
        .filter_map(|sent| Some((sent, *offsets.get(&(sent.partition, sent.value))?)))
        .collect();
    stored.sort_unstable_by_key(|(sent, _)| (sent.process, sent.partition, sent.order));
    stored
        .windows(2)
        .filter(|pair| {
            let [(earlier, before), (later, after)] = [pair[0], pair[1]];
            earlier.process == later.process && earlier.partition == later.partition && before >= after
        })
        .map(|pair| {
            let [(earlier, before), (later, after)] = [pair[0], pair[1]];
            format!(
                "process {} sent value {} before value {} to partition {}, they stand at {before} and {after}",
                earlier.process, earlier.value, later.value, earlier.partition
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::script::{digest, scanned, sent};
    use crate::history::Stage;

    #[test]
    fn an_exchanged_pair_is_found() {
        let sends = [sent(1, 0, Stage::Unknown), sent(2, 1, Stage::Unknown), sent(3, 2, Stage::Unknown)];
        let with = |scan| digest(&[sends[0].clone(), sends[1].clone(), sends[2].clone(), scan]);
        let bad = with(scanned(None, 0, 2, &[(0, 3), (1, 1)]));
        assert_eq!(
            check(&bad),
            ["process 1 sent value 1 before value 3 to partition 0, they stand at 1 and 0"]
        );
        // A record may be missing: it was never acknowledged.
        let repaired = with(scanned(None, 0, 2, &[(0, 1), (1, 3)]));
        assert!(check(&repaired).is_empty());
    }
}
