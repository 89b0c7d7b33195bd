//! Answers that are awaited together and come out in send order per key.

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Whose answers keep their order: one producer's in one partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) producer: Option<i64>,
}

/// Futures of which, for each key, only the oldest is awaited: a later one is not known before it.
pub(super) struct Answers<T> {
    heads: FuturesUnordered<BoxFuture<'static, (Key, T)>>,
    /// Behind the head of each key that has one; present, maybe empty, while the head is awaited.
    behind: HashMap<Key, VecDeque<BoxFuture<'static, T>>>,
    len: usize,
}

impl<T: Send + 'static> Answers<T> {
    pub(super) fn new() -> Self {
        Self { heads: FuturesUnordered::new(), behind: HashMap::new(), len: 0 }
    }

    /// One more, after all others of its key. The caller bounds how many there are.
    pub(super) fn push(&mut self, key: Key, answer: BoxFuture<'static, T>) {
        self.len += 1;
        match self.behind.get_mut(&key) {
            Some(behind) => behind.push_back(answer),
            None => {
                self.behind.insert(key.clone(), VecDeque::new());
                self.heads.push(Box::pin(async move { (key, answer.await) }));
            }
        }
    }

    /// The next that is known. `None` if there are none at all. May be dropped at any time.
    pub(super) async fn next(&mut self) -> Option<T> {
        let (key, known) = self.heads.next().await?;
        self.len -= 1;
        match self.behind.get_mut(&key).and_then(VecDeque::pop_front) {
            Some(answer) => self.heads.push(Box::pin(async move { (key, answer.await) })),
            None => {
                self.behind.remove(&key);
            }
        }
        Some(known)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use tokio::sync::oneshot;

    fn key(partition: i32) -> Key {
        Key { topic: "t".into(), partition, producer: Some(1) }
    }

    fn answer(number: u32) -> (oneshot::Sender<()>, BoxFuture<'static, u32>) {
        let (tell, told) = oneshot::channel();
        let future = async move {
            told.await.ok();
            number
        };
        (tell, future.boxed())
    }

    #[tokio::test]
    async fn send_order_per_key_and_completion_order_across() {
        let mut answers = Answers::new();
        let mut tell = Vec::new();
        for (number, partition) in [(0, 0), (1, 0), (2, 1), (3, 1)] {
            let (sender, future) = answer(number);
            tell.push(Some(sender));
            answers.push(key(partition), future);
        }
        let mut know = |number: usize| tell[number].take().unwrap().send(()).unwrap();
        know(1);
        know(3);
        assert!(answers.next().now_or_never().is_none(), "their predecessors are unknown");
        know(2);
        assert_eq!(answers.next().await, Some(2));
        assert_eq!(answers.next().await, Some(3));
        assert!(answers.next().now_or_never().is_none());
        know(0);
        assert_eq!(answers.next().await, Some(0));
        assert_eq!(answers.len(), 1);
        assert_eq!(answers.next().await, Some(1));
        assert_eq!(answers.next().await, None);
        assert!(answers.is_empty() && answers.behind.is_empty(), "nothing is left behind");
    }
}
