//! A history in which nothing succeeded proves nothing.

use crate::digest::{Digest, Outcome};

/// Finds histories without a single acknowledged record, or with fewer acknowledged than refused.
pub fn check(digest: &Digest) -> Vec<String> {
    let count = |wanted: fn(&Outcome) -> bool| digest.sent.iter().filter(|s| wanted(&s.outcome)).count();
    let acknowledged = count(|o| matches!(o, Outcome::Acknowledged(_)));
    let failed = count(|o| matches!(o, Outcome::Failed));
    if acknowledged == 0 {
        return vec![format!("nothing was acknowledged of {} records sent", digest.sent.len())];
    }
    if failed > acknowledged {
        return vec![format!("{failed} records were refused and only {acknowledged} acknowledged")];
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::script::{acked, digest, sent};
    use crate::history::Stage;

    #[test]
    fn a_history_of_errors_is_found() {
        assert_eq!(check(&digest(&[sent(1, 0, Stage::Unknown)])).len(), 1);
        let bad = digest(&[acked(1, 0, 0), sent(2, 1, Stage::Fail), sent(3, 2, Stage::Fail)]);
        assert_eq!(check(&bad), ["2 records were refused and only 1 acknowledged"]);
        let repaired = digest(&[acked(1, 0, 0), sent(2, 1, Stage::Fail)]);
        assert!(check(&repaired).is_empty());
    }
}
