//! The member's application side: asks for records, and so says that it is done with those before.

use super::builder::GroupBuilder;
use super::commits;
use super::config::GroupOptions;
use super::event::{Event, Listener};
use super::ledger::{Key, Reading};
use super::member::{Leave, State, Subscription};
use super::shared::Shared;
use super::{GroupHandle, heartbeat, reconcile};
use crate::client::Inner;
use crate::consumer::{Consumer, Position};
use crate::error::{Error, Result};
use crate::record::ConsumedRecord;
use crate::task::Owned;
use flotilla_types::{PartitionId, Reason, TopicName};
use futures::Stream;
use std::collections::{BTreeMap, HashSet};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;

/// How often a reader that begins at the end is asked where that is.
const START_LOOK: Duration = Duration::from_millis(100);

/// A member of a consumer group. Made by [`crate::Client::group`]; everything of [`GroupHandle`] can be
/// called on it too.
///
/// Close it with [`GroupConsumer::close`]: one that is only dropped stays in its group until its session
/// ends, and what it processed since the last offset commit is read again.
#[derive(Debug)]
pub struct GroupConsumer {
    handle: GroupHandle,
    reader: Consumer,
    /// What the reader reads, and under which number of the ledger.
    reading: BTreeMap<Key, Reading>,
    /// The ledger's version that the reader follows.
    version: Option<u64>,
    /// Partitions without a start that were reported, by number.
    reported: HashSet<u64>,
    /// Partitions whose start is being looked up, and must be known.
    starting: Vec<(Key, u64)>,
    /// Held by the reconciler while it works.
    busy: Arc<tokio::sync::Mutex<()>>,
    tasks: Vec<Owned>,
}

impl Deref for GroupConsumer {
    type Target = GroupHandle;

    fn deref(&self) -> &GroupHandle {
        &self.handle
    }
}

/// Says that the application is inside `poll`, for as long as it is, also if the call is given up.
struct Polling<'a>(&'a Shared);

impl<'a> Polling<'a> {
    fn begin(shared: &'a Shared) -> Self {
        let awaited = shared.look(|inside| {
            inside.polling = true;
            inside.ledger.all_processed()
        });
        if awaited {
            shared.change(|_| ());
        }
        Self(shared)
    }
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        self.0.look(|inside| {
            inside.polling = false;
            inside.polled_at = self.0.clock().monotonic();
        });
    }
}

impl GroupConsumer {
    pub(super) fn start(
        client: Arc<Inner>,
        group: String,
        subscription: Subscription,
        options: GroupOptions,
        listener: Arc<dyn Listener>,
    ) -> Self {
        let shared = Arc::new(Shared::new(Arc::clone(&client), group, subscription, options, listener));
        let busy = Arc::new(tokio::sync::Mutex::new(()));
        let mut tasks = vec![
            Owned::spawn(heartbeat::run(Arc::clone(&shared))),
            Owned::spawn(reconcile::run(Arc::clone(&shared), Arc::clone(&busy))),
        ];
        if let Some(every) = shared.options.auto_commit {
            tasks.push(Owned::spawn(commits::run(Arc::clone(&shared), every)));
        }
        let reader = Consumer::new(client, shared.options.consumer.clone());
        Self {
            handle: GroupHandle { shared },
            reader,
            reading: BTreeMap::new(),
            version: None,
            reported: HashSet::new(),
            starting: Vec::new(),
            busy,
            tasks,
        }
    }

    /// The same group, to be used from elsewhere.
    pub fn handle(&self) -> GroupHandle {
        self.handle.clone()
    }

    /// What happens to this member's partitions, from now on. A reader that is hundreds of events behind
    /// misses the oldest.
    pub fn events(&self) -> impl Stream<Item = Event> + Send + use<> {
        BroadcastStream::new(self.handle.shared.events.subscribe()).filter_map(std::result::Result::ok)
    }

    /// Records of one partition, at most [`GroupOptions::poll_records`]; none if nothing came within
    /// `timeout`. Asking says that the application is done with all records it was given before.
    ///
    /// An error of one partition leaves the others going. A [fatal](crate::Class::Fatal) one without a
    /// partition in its metadata is the member's end.
    pub async fn poll(&mut self, timeout: Duration) -> Result<Vec<ConsumedRecord>> {
        let most = self.handle.shared.options.poll_records;
        self.poll_up_to(most, timeout).await
    }

    /// The same, with at most so many records.
    pub async fn poll_up_to(&mut self, most: usize, timeout: Duration) -> Result<Vec<ConsumedRecord>> {
        let shared = Arc::clone(&self.handle.shared);
        let _polling = Polling::begin(&shared);
        tokio::time::timeout(timeout, self.arrived(&shared, most)).await.unwrap_or_else(|_| Ok(Vec::new()))
    }

    /// The next record of any partition; waits until there is one. Asking says that the application is
    /// done with the one before. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Result<ConsumedRecord> {
        let shared = Arc::clone(&self.handle.shared);
        let _polling = Polling::begin(&shared);
        loop {
            if let Some(record) = self.arrived(&shared, 1).await?.pop() {
                return Ok(record);
            }
        }
    }

    /// All records as a stream. Taking the next item says that the application is done with the one
    /// before: with adapters that read ahead (`buffered`, `chunks`) turn auto-commit off and commit offsets.
    pub fn records(&mut self) -> impl Stream<Item = Result<ConsumedRecord>> + '_ {
        futures::stream::unfold(self, |consumer| async move { Some((consumer.next().await, consumer)) })
    }

    /// Partitions from which nothing comes at the moment, and why. They are tried again all the time.
    pub fn trouble(&self) -> Vec<(TopicName, PartitionId, Error)> {
        self.reader.trouble()
    }

    /// Waits for records that may be handed out.
    async fn arrived(&mut self, shared: &Shared, most: usize) -> Result<Vec<ConsumedRecord>> {
        let mut versions = shared.watch();
        loop {
            versions.borrow_and_update();
            self.follow(shared)?;
            tokio::select! {
                biased;
                changed = versions.changed() => {
                    if changed.is_err() {
                        return Ok(Vec::new());
                    }
                }
                () = tokio::time::sleep(START_LOOK), if !self.starting.is_empty() => {}
                records = self.reader.poll_up_to(most, Duration::MAX) => {
                    let records = records?;
                    let Some(last) = records.last() else { continue };
                    let key = (last.topic.clone(), last.partition);
                    let number = self.reading.get(&key).map_or(0, |reading| reading.number);
                    let (next, epoch) = (last.offset.next(), last.leader_epoch);
                    shared.check_session();
                    let given = shared.look(|inside| {
                        inside.member.may_read() && inside.ledger.hand_out(&key, number, next, epoch)
                    });
                    if given {
                        return Ok(records);
                    }
                    // Revoked or moved in the meantime; the reader hears of it with the next look.
                    self.version = None;
                }
            }
        }
    }

    /// Makes the reader read what the ledger says.
    fn follow(&mut self, shared: &Shared) -> Result<()> {
        let seen = self.version;
        let (fatal, wanted) = shared.look(|inside| {
            let version = inside.ledger.version();
            let wanted = (seen != Some(version)).then(|| inside.ledger.readable());
            self.version = Some(version);
            (inside.member.fatal().cloned(), wanted)
        });
        if let Some(fatal) = fatal {
            return Err(fatal);
        }
        if shared.look(|inside| inside.member.state() == State::Stale) {
            shared.change(|inside| inside.member.polled());
        }
        if let Some(wanted) = wanted {
            self.read(wanted)?;
        }
        self.note_starts(shared);
        Ok(())
    }

    fn read(&mut self, wanted: BTreeMap<Key, Reading>) -> Result<()> {
        let gone: Vec<Key> = self.reading.keys().filter(|key| !wanted.contains_key(*key)).cloned().collect();
        for key in gone {
            self.reader.unassign(key.0.as_str(), key.1)?;
            self.reading.remove(&key);
        }
        let mut homeless = None;
        for (key, reading) in wanted {
            let (topic, partition) = (key.0.as_str(), key.1);
            let known = self.reading.get(&key).copied();
            if known == Some(reading) {
                continue;
            }
            let Some(start) = reading.start else {
                if self.reported.insert(reading.number) {
                    homeless = Some(key);
                }
                continue;
            };
            if known.is_none_or(|known| known.number != reading.number) {
                // A new reader, so that nothing fetched before can come after.
                self.reader.unassign(topic, partition)?;
                self.reader.assign(topic, partition, start)?;
                if matches!(start, Position::End | Position::Timestamp(_)) {
                    self.starting.push((key.clone(), reading.number));
                }
            }
            let was_paused = known.is_some_and(|known| known.number == reading.number && known.paused);
            match (was_paused, reading.paused) {
                (false, true) => self.reader.pause(topic, partition)?,
                (true, false) => self.reader.resume(topic, partition)?,
                _ => {}
            }
            self.reading.insert(key, reading);
        }
        let Some((topic, partition)) = homeless else { return Ok(()) };
        // The next call goes on with the others, and reports the next one.
        self.version = None;
        let message =
            format!("partition {topic}/{partition} has no committed offset; seek says where to begin");
        Err(Error::fatal(Reason::OffsetOutOfRange, message).with("topic", topic).with("partition", partition))
    }

    /// Readers that began at the end say where that was.
    fn note_starts(&mut self, shared: &Shared) {
        let (reader, reading) = (&self.reader, &self.reading);
        self.starting.retain(|(key, number)| {
            if reading.get(key).is_none_or(|reading| reading.number != *number) {
                return false;
            }
            let Some(at) = reader.position(key.0.as_str(), key.1) else { return true };
            shared.look(|inside| inside.ledger.began(key, *number, at));
            false
        });
    }

    /// Leaves the group: what polls have returned counts as processed, is committed (with auto-commit),
    /// and the partitions go to others at once. A static member's partitions wait for it instead.
    ///
    /// Takes at most [`GroupOptions::close_timeout`]; an error says that the coordinator did not hear of
    /// it all in time, so that records may be read again or the partitions rest until the session ends.
    pub async fn close(self) -> Result<()> {
        let shared = &self.handle.shared;
        let leave = if shared.options.instance_id.is_some() { Leave::Temporarily } else { Leave::Forever };
        self.end(leave, true).await
    }

    /// Leaves the group for good, also as a static member.
    pub async fn leave(self) -> Result<()> {
        self.end(Leave::Forever, true).await
    }

    /// Leaves the group for good. What the last poll returned does not count as processed, and is given to
    /// somebody again: for an application that failed in its midst.
    pub async fn abandon(self) -> Result<()> {
        self.end(Leave::Forever, false).await
    }

    async fn end(self, leave: Leave, processed: bool) -> Result<()> {
        let shared = Arc::clone(&self.handle.shared);
        let within = shared.options.close_timeout;
        let ended = tokio::time::timeout(within, self.say_goodbye(&shared, leave, processed)).await;
        drop(self.tasks);
        ended.unwrap_or_else(|_| {
            Err(Error::lost(format!("group {} did not hear of the leave within {within:?}", shared.group)))
        })
    }

    async fn say_goodbye(&self, shared: &Shared, leave: Leave, processed: bool) -> Result<()> {
        let member = shared.change(|inside| {
            if processed {
                inside.ledger.all_processed();
            } else {
                inside.ledger.take_back();
            }
            inside.ledger.drain(|_| true);
            inside.member.prepare_to_leave()
        });
        // A rebalance that is under way ends first; with everything drained it does so soon.
        let _busy = self.busy.lock().await;
        if !member {
            shared.change(|inside| inside.ledger.clear());
            return Ok(());
        }
        let keys: Vec<Key> = shared.look(|inside| inside.ledger.owned().into_keys().collect());
        // Most of the time belongs to listener and offsets, the rest to the leave.
        let within = shared.options.close_timeout * 7 / 10;
        let given_up = reconcile::give_up(&self.handle, &keys, shared.clock().monotonic());
        let stored = tokio::time::timeout(within, given_up).await;
        let stored = stored.unwrap_or_else(|_| Err(Error::lost("offsets were not stored in time")));
        shared.change(|inside| inside.member.leave(leave));
        let gone = |state| matches!(state, State::Unsubscribed | State::Fatal);
        shared.until(|inside| gone(inside.member.state()).then_some(())).await;
        stored
    }
}

impl crate::Client {
    /// A member of a consumer group, to be told what to read.
    ///
    /// ```no_run
    /// # async fn example(client: flotilla_client::Client) -> flotilla_client::Result<()> {
    /// use std::time::Duration;
    /// let mut consumer = client.group("billing").topics(["orders"]).start()?;
    /// for record in consumer.poll(Duration::from_secs(1)).await? {
    ///     println!("{}/{} at {}", record.topic, record.partition, record.offset);
    /// }
    /// consumer.close().await
    /// # }
    /// ```
    pub fn group(&self, group: impl Into<String>) -> GroupBuilder {
        GroupBuilder::new(self.inner(), group.into())
    }
}
