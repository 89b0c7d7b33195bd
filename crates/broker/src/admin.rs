//! Topics: make, describe, change, delete, trim. Any node answers; the controller's leader decides.

mod controller;
mod error;
mod mask;
mod request;
mod validate;

pub use error::Error;
pub use request::{CreateTopic, ListTopics, Topic, TopicPage, Trim, TrimFailed, UpdateTopic};

use crate::broker::Broker;
use crate::context::Context;
use crate::forward::{Answer, Call};
use crate::metrics;
use crate::routes::{Routes, TopicRoute};
use flotilla_types::error::Describe;
use flotilla_types::{LogIndex, Offset, ProducerEpoch, ProducerId, TopicId, TopicName};
use std::sync::Arc;
use std::time::Duration;

/// Producer ids taken from the controller at once.
const PRODUCER_ID_BLOCK: u32 = 1000;
/// Topics of a page where the request says nothing, and at most.
const PAGE_DEFAULT: u32 = 100;
const PAGE_MAX: u32 = 1000;
/// How long a description waits to be fresh before it says what this node knows.
const FRESH_WAIT: Duration = Duration::from_secs(2);

impl Broker {
    /// Makes a topic and waits (a while) until its partitions have leaders, so that produce works at once.
    pub async fn create_topic(&self, context: &Context, create: CreateTopic) -> Result<Topic, Error> {
        self.counted(self.try_create(context, create).await)
    }

    async fn try_create(&self, context: &Context, create: CreateTopic) -> Result<Topic, Error> {
        validate::create(&create)?;
        // The same for every try of this call, so that a lost answer cannot turn into ALREADY_EXISTS.
        let request = (u128::from(self.random.bits()) << 64) | u128::from(self.random.bits()) | 1;
        let (topic, _) = self.ask_topic(Call::create(&create, request)).await?;
        if !create.validate_only {
            tracing::info!(topic = %topic.name, id = %topic.id.to_wire(), partitions = topic.partition_count,
                replicas = topic.replication_factor, client = %context.client, "topic created");
            self.await_leaders(context, &topic.name, topic.id).await;
        }
        Ok(topic)
    }

    /// One topic, with how its partitions stand.
    pub async fn get_topic(&self, _context: &Context, name: &TopicName) -> Result<Topic, Error> {
        self.counted(self.try_get(name).await)
    }

    async fn try_get(&self, name: &TopicName) -> Result<Topic, Error> {
        self.freshen().await?;
        let routes = self.routes();
        let route = find(&routes, name)?;
        let wanted: Vec<_> = (0..).map(flotilla_types::PartitionId).zip(&route.partitions).collect();
        let partitions = wanted.into_iter().map(|(number, placed)| (route, number, placed)).collect();
        let partitions = self.states(&routes, partitions).await;
        Ok(Topic { partitions, ..described(route) })
    }

    /// A page of topics by name.
    pub async fn list_topics(&self, _context: &Context, list: ListTopics) -> Result<TopicPage, Error> {
        self.counted(self.try_list(list).await)
    }

    async fn try_list(&self, list: ListTopics) -> Result<TopicPage, Error> {
        let prefix = list.filter.strip_suffix('*').unwrap_or(&list.filter);
        validate::prefix(prefix)?;
        validate::page_token(&list.page_token)?;
        self.freshen().await?;
        let size = if list.page_size == 0 { PAGE_DEFAULT } else { list.page_size.min(PAGE_MAX) } as usize;
        let routes = self.routes();
        let mut matching = routes.topics.iter().filter(|(name, _)| {
            name.as_str().starts_with(prefix) && name.as_str() > list.page_token.as_str()
        });
        let topics: Vec<Topic> = matching.by_ref().take(size).map(|(_, route)| described(route)).collect();
        let more = matching.next().is_some();
        let last = topics.last().filter(|_| more).map(|topic| topic.name.to_string());
        Ok(TopicPage { topics, next_page_token: last.unwrap_or_default() })
    }

    /// Changes settings, labels or the number of partitions.
    pub async fn update_topic(&self, context: &Context, update: UpdateTopic) -> Result<Topic, Error> {
        self.counted(self.try_update(context, update).await)
    }

    async fn try_update(&self, context: &Context, update: UpdateTopic) -> Result<Topic, Error> {
        mask::check(&update.fields)?;
        let (topic, version) = self.ask_topic(Call::update(&update)).await?;
        if !update.validate_only {
            tracing::info!(topic = %topic.name, client = %context.client, "topic updated");
            self.await_version(version, self.config.create_wait).await;
            self.await_leaders(context, &topic.name, topic.id).await;
        }
        Ok(topic)
    }

    /// Deletes a topic with all its records.
    pub async fn delete_topic(
        &self,
        context: &Context,
        name: &TopicName,
        id: Option<TopicId>,
    ) -> Result<(), Error> {
        self.counted(self.try_delete(context, name, id).await)
    }

    async fn try_delete(
        &self,
        context: &Context,
        name: &TopicName,
        id: Option<TopicId>,
    ) -> Result<(), Error> {
        let call = Call::DeleteTopic { name: name.to_string(), id: id.map(TopicId::get) };
        if let Answer::Done { version } = self.ask_controller(call).await? {
            tracing::info!(topic = %name, client = %context.client, "topic deleted");
            self.await_version(LogIndex(version), self.config.create_wait).await;
        }
        Ok(())
    }

    /// Removes records before an offset, partition by partition; answers those that failed.
    pub async fn trim(&self, context: &Context, trims: Vec<Trim>) -> Vec<TrimFailed> {
        let mut failed = Vec::new();
        for trim in trims {
            let (topic, partition) = (trim.topic.clone(), trim.partition);
            match self.counted(self.trim_one(&trim).await) {
                Ok(log_start) => tracing::info!(topic = %topic, partition = %partition, %log_start,
                    client = %context.client, "log trimmed"),
                Err(error) => failed.push(TrimFailed { topic, partition, failure: error.describe() }),
            }
        }
        failed
    }

    async fn trim_one(&self, trim: &Trim) -> Result<Offset, Error> {
        self.serving().map_err(Error::Quarantined)?;
        let begun = self.clock.monotonic();
        loop {
            let routes = self.routes();
            let (_, placed) = routes
                .find(&trim.topic, trim.partition, None)
                .map_err(|error| Error::NotFound { what: "partition", name: error.to_string() })?;
            let answer = match placed.leader {
                Some((node, _)) => self.ask(node, Call::trim(placed.shard, trim)).await,
                None => Err(Error::NoLeader("it is being elected".to_owned())),
            };
            match answer {
                Ok(Answer::Trimmed { log_start }) => return Ok(Offset(log_start)),
                Ok(other) => return Err(Error::Lost(format!("the leader answered {other:?}"))),
                // A trim repeated is a trim: trying again is always safe.
                Err(
                    Error::NoLeader(_) | Error::NotController(_) | Error::ControllerAway(_) | Error::Lost(_),
                ) if self.clock.monotonic().since(begun) < self.config.forward_timeout => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// An identity for an idempotent producer: a new one, or the next epoch of the one it has.
    pub async fn init_producer(
        &self,
        _context: &Context,
        current: Option<(ProducerId, ProducerEpoch)>,
    ) -> Result<(ProducerId, ProducerEpoch), Error> {
        if let Some((id, epoch)) = current
            && epoch.get() < i64::MAX as u64 - 1
        {
            return Ok((id, epoch.next()));
        }
        let mut block = self.producer_ids.lock().await;
        if block.1 == 0 {
            match self
                .counted(self.ask_controller(Call::AllocateProducerIds { count: PRODUCER_ID_BLOCK }).await)?
            {
                Answer::ProducerIds { first, count } if count > 0 => *block = (ProducerId(first), count),
                other => return Err(Error::Lost(format!("the controller answered {other:?}"))),
            }
        }
        let (id, left) = *block;
        *block = (id.next(), left - 1);
        Ok((id, ProducerEpoch(0)))
    }

    async fn ask_topic(&self, call: Call) -> Result<(Topic, LogIndex), Error> {
        match self.ask_controller(call).await? {
            Answer::Topic { topic, version } => Ok((topic.topic()?, LogIndex(version))),
            other => Err(Error::Lost(format!("the controller answered {other:?}"))),
        }
    }

    /// Waits until this node knows what the controller knew when it was asked. If it cannot be asked, what
    /// is known here is better than nothing.
    pub(crate) async fn freshen(&self) -> Result<(), Error> {
        self.serving().map_err(Error::Quarantined)?;
        let asked = tokio::time::timeout(FRESH_WAIT, self.ask_controller(Call::Version)).await;
        match asked {
            Ok(Ok(Answer::Version { version })) => self.await_version(LogIndex(version), FRESH_WAIT).await,
            _ => tracing::warn!("controller cannot be asked: answering with what this node knows"),
        }
        Ok(())
    }

    async fn await_version(&self, version: LogIndex, wait: Duration) {
        let mut routes = self.watch_routes();
        let _ = tokio::time::timeout(wait, routes.wait_for(|routes| routes.version >= version)).await;
    }

    async fn await_leaders(&self, context: &Context, name: &TopicName, id: TopicId) {
        let wait = context.remaining(self.clock.monotonic(), self.config.create_wait);
        let led = |routes: &Arc<Routes>| {
            routes.topics.get(name).is_some_and(|topic| {
                topic.id == id && topic.partitions.iter().all(|partition| partition.leader.is_some())
            })
        };
        let mut routes = self.watch_routes();
        if tokio::time::timeout(wait, routes.wait_for(led)).await.is_err() {
            tracing::warn!(topic = %name, "not all partitions have a leader yet");
        }
    }

    pub(crate) fn counted<T>(&self, answer: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &answer {
            metrics::count(&self.metrics.admin_errors, error.describe().reason);
        }
        answer
    }
}

pub(crate) fn find<'a>(routes: &'a Routes, name: &TopicName) -> Result<&'a Arc<TopicRoute>, Error> {
    let route = routes.topics.get(name);
    route.ok_or_else(|| Error::NotFound { what: "topic", name: name.to_string() })
}

/// Without its partitions' states.
fn described(route: &TopicRoute) -> Topic {
    Topic {
        name: route.name.clone(),
        id: route.id,
        partition_count: route.partitions.len() as u32,
        replication_factor: route.partitions.first().map_or(0, |partition| partition.replicas.len() as u32),
        config: route.config.clone(),
        labels: route.labels.clone(),
        created_at: route.created_at,
        partitions: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
