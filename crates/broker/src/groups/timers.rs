//! Deadlines, ordered: one set for all groups that this node coordinates, so that a group at rest costs nothing.

use flotilla_types::Monotonic;
use std::collections::{BTreeMap, BTreeSet};

/// At most one deadline per key.
#[derive(Debug)]
pub(crate) struct Timers<K> {
    by_key: BTreeMap<K, Monotonic>,
    by_time: BTreeSet<(Monotonic, K)>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { by_key: BTreeMap::new(), by_time: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> Timers<K> {
    /// Sets or moves a deadline. Answers whether it is the earliest now.
    pub fn set(&mut self, key: K, at: Monotonic) -> bool {
        self.clear(&key);
        self.by_key.insert(key.clone(), at);
        self.by_time.insert((at, key));
        self.next() == Some(at)
    }

    /// Sets a deadline where there is none.
    pub fn set_if_absent(&mut self, key: K, at: Monotonic) -> bool {
        if self.by_key.contains_key(&key) { false } else { self.set(key, at) }
    }

    /// Forgets a deadline.
    pub fn clear(&mut self, key: &K) {
        if let Some(at) = self.by_key.remove(key) {
            self.by_time.remove(&(at, key.clone()));
        }
    }

    /// When a key is due.
    pub fn at(&self, key: &K) -> Option<Monotonic> {
        self.by_key.get(key).copied()
    }

    /// When the first is due.
    pub fn next(&self) -> Option<Monotonic> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes all that are due.
    pub fn due(&mut self, now: Monotonic) -> Vec<K> {
        let mut due = Vec::new();
        while let Some((at, _)) = self.by_time.first()
            && *at <= now
            && let Some((_, key)) = self.by_time.pop_first()
        {
            self.by_key.remove(&key);
            due.push(key);
        }
        due
    }

    /// Forgets all keys that are not to be kept.
    pub fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.by_key.retain(|key, _| keep(key));
        self.by_time.retain(|(_, key)| keep(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    #[test]
    fn a_deadline_that_moved_is_not_due_at_its_old_time() {
        let mut timers = Timers::default();
        assert!(timers.set("a", at(5)));
        assert!(!timers.set("b", at(7)));
        assert!(!timers.set("a", at(9)));
        assert!(!timers.set_if_absent("b", at(1)), "it has one");
        assert_eq!((timers.next(), timers.at(&"a")), (Some(at(7)), Some(at(9))));
        assert_eq!(timers.due(at(8)), ["b"]);
        assert_eq!(timers.due(at(8)), [""; 0]);
        timers.clear(&"a");
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn all_that_is_due_comes_in_order_of_time() {
        let mut timers = Timers::default();
        for n in [3, 1, 2, 9] {
            timers.set(n, at(n));
        }
        timers.retain(|n| *n != 2);
        assert_eq!(timers.due(at(3)), [1, 3]);
        assert_eq!(timers.next(), Some(at(9)));
    }
}
