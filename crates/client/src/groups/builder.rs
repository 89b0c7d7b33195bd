//! Becoming a member: which group, what to read, and how.

use super::config::{GroupOptions, OffsetReset};
use super::consumer::GroupConsumer;
use super::event::{Listener, Nobody};
use super::member::Subscription;
use crate::client::Inner;
use crate::error::{Error, Result};
use flotilla_types::{TopicName, name};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Longest pattern of topics, in bytes.
const PATTERN_MAX: usize = 1_000;
/// Longest assignor, rack and client id, in bytes.
const TEXT_MAX: usize = flotilla_types::limits::NAME_MAX_LEN;

/// A group consumer to be. Made by [`crate::Client::group`].
pub struct GroupBuilder {
    client: Arc<Inner>,
    group: String,
    subscription: Subscription,
    options: GroupOptions,
    listener: Arc<dyn Listener>,
}

impl fmt::Debug for GroupBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupBuilder")
            .field("group", &self.group)
            .field("subscription", &self.subscription)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl GroupBuilder {
    pub(crate) fn new(client: Arc<Inner>, group: String) -> Self {
        let (subscription, options) = (Subscription::default(), GroupOptions::default());
        Self { client, group, subscription, options, listener: Arc::new(Nobody) }
    }

    /// Reads these topics. One that does not exist yet is read once it does.
    pub fn topics<T: Into<String>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.subscription.topics = topics.into_iter().map(Into::into).collect();
        self
    }

    /// Reads every topic whose whole name matches this regular expression, also those to come.
    pub fn pattern(mut self, pattern: impl Into<String>) -> Self {
        self.subscription.pattern = pattern.into();
        self
    }

    /// All settings at once.
    pub fn options(mut self, options: GroupOptions) -> Self {
        self.options = options;
        self
    }

    /// See [`GroupOptions::assignor`].
    pub fn assignor(mut self, assignor: impl Into<String>) -> Self {
        self.options.assignor = assignor.into();
        self
    }

    /// See [`GroupOptions::instance_id`].
    pub fn instance_id(mut self, instance: impl Into<String>) -> Self {
        self.options.instance_id = Some(instance.into());
        self
    }

    /// See [`GroupOptions::rack_id`].
    pub fn rack_id(mut self, rack: impl Into<String>) -> Self {
        self.options.rack_id = rack.into();
        self
    }

    /// See [`GroupOptions::offset_reset`].
    pub fn offset_reset(mut self, reset: OffsetReset) -> Self {
        self.options.offset_reset = reset;
        self
    }

    /// See [`GroupOptions::auto_commit`].
    pub fn auto_commit(mut self, every: Option<Duration>) -> Self {
        self.options.auto_commit = every;
        self
    }

    /// See [`GroupOptions::rebalance_timeout`].
    pub fn rebalance_timeout(mut self, timeout: Duration) -> Self {
        self.options.rebalance_timeout = timeout;
        self
    }

    /// See [`GroupOptions::max_poll_interval`].
    pub fn max_poll_interval(mut self, interval: Duration) -> Self {
        self.options.max_poll_interval = interval;
        self
    }

    /// Hears of rebalances while they happen.
    pub fn listener(mut self, listener: Arc<dyn Listener>) -> Self {
        self.listener = listener;
        self
    }

    /// Checks what was asked for, and begins to join. Records come with [`GroupConsumer::poll`].
    ///
    /// Must be called inside a tokio runtime.
    pub fn start(self) -> Result<GroupConsumer> {
        let invalid = |what: &str, error: &dyn fmt::Display| Error::invalid(format!("{what}: {error}"));
        name::check(&self.group).map_err(|error| invalid("group id", &error))?;
        check(&self.subscription)?;
        if let Some(instance) = &self.options.instance_id {
            name::check(instance).map_err(|error| invalid("instance id", &error))?;
        }
        let texts = [&self.options.assignor, &self.options.rack_id, &self.options.client_id];
        if let Some(text) = texts.into_iter().find(|text| text.len() > TEXT_MAX) {
            let message =
                format!("assignor, rack id or client id has {} bytes, limit {TEXT_MAX}", text.len());
            return Err(Error::invalid(message));
        }
        Ok(GroupConsumer::start(self.client, self.group, self.subscription, self.options, self.listener))
    }
}

/// Whether this can be subscribed to, as far as can be said here.
pub(crate) fn check(subscription: &Subscription) -> Result<()> {
    let Subscription { topics, pattern } = subscription;
    if topics.is_empty() && pattern.is_empty() {
        return Err(Error::invalid("neither topics nor a pattern of topics was given"));
    }
    for topic in topics {
        TopicName::new(topic).map_err(|error| Error::invalid(format!("topic: {error}")))?;
    }
    if pattern.len() > PATTERN_MAX {
        return Err(Error::invalid(format!("pattern has {} bytes, limit {PATTERN_MAX}", pattern.len())));
    }
    Ok(())
}
