//! The way in: one client per cluster, shared by all its producers, consumers and admins.

use crate::admin::Admin;
use crate::config::{ConsumerOptions, Options, ProducerOptions};
use crate::connection::Pool;
use crate::consumer::Consumer;
use crate::error::{Error, Result};
use crate::metadata::Metadata;
use crate::producer::Producer;
use crate::retry::Backoff;
use crate::task::Owned;
use flotilla_types::{Reason, limits};
use std::sync::Arc;
use std::time::Duration;

/// How long the first record of a topic waits for the topic's settings.
const LIMIT_WAIT: Duration = Duration::from_secs(1);

/// A cluster as its clients see it: connections and the routes to leaders. Cheap to clone; the
/// connections close when the last clone and everything made from it are gone.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

/// What everything made from a client shares.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) pool: Arc<Pool>,
    pub(crate) metadata: Arc<Metadata>,
    _keeper: Owned,
}

impl Inner {
    /// The most bytes a topic takes in one batch. Records flow without the control plane, so a cluster that
    /// does not say it soon gets batches of the default size.
    pub(crate) async fn batch_limit(&self, topic: &str) -> usize {
        let asked = tokio::time::timeout(LIMIT_WAIT, crate::admin::topic_of(self, topic)).await;
        let limit = asked.ok().and_then(Result::ok).and_then(|topic| topic.config.max_batch_bytes);
        limit.map_or(limits::BATCH_DEFAULT_MAX_BYTES, |bytes| bytes as usize)
    }
}

impl Client {
    /// Connects to a cluster through any of its nodes (`host:port`), and returns once one of them has said
    /// who leads what. Fails after [`Options::call_timeout`].
    ///
    /// ```no_run
    /// # async fn example() -> flotilla_client::Result<()> {
    /// use flotilla_client::{Client, Options};
    /// let client = Client::connect(["127.0.0.1:7401", "127.0.0.1:7402"], Options::default()).await?;
    /// println!("connected to cluster {}", client.cluster_id());
    /// # Ok(()) }
    /// ```
    pub async fn connect<E: Into<String>>(
        endpoints: impl IntoIterator<Item = E>,
        options: Options,
    ) -> Result<Self> {
        let seeds: Vec<String> = endpoints.into_iter().map(Into::into).collect();
        if seeds.is_empty() {
            return Err(Error::invalid("no endpoints were given"));
        }
        let pool = Arc::new(Pool::new(options.clone()));
        let metadata = Arc::new(Metadata::new(seeds.clone(), Arc::clone(&pool), options.clone()));
        let mut backoff = Backoff::default();
        let mut last = Error::retriable(Reason::LeaderNotAvailable, "no node answered yet");
        let asked = async {
            while let Err(error) = metadata.ask().await {
                let pause = backoff.pause(&*options.random, error.retry_after());
                last = error;
                tokio::time::sleep(pause).await;
            }
        };
        if tokio::time::timeout(options.call_timeout, asked).await.is_err() {
            let message = format!("none of {} answers: {}", seeds.join(", "), last.message());
            return Err(Error::retriable(Reason::LeaderNotAvailable, message));
        }
        let keeper = Owned::spawn(Arc::clone(&metadata).keep());
        Ok(Self { inner: Arc::new(Inner { options, pool, metadata, _keeper: keeper }) })
    }

    /// The cluster's id, as it says itself.
    pub fn cluster_id(&self) -> String {
        self.inner.metadata.routes().cluster_id.clone()
    }

    /// A producer. It has its own buffer and streams; one per process is usually right.
    pub fn producer(&self, options: ProducerOptions) -> Producer {
        Producer::new(Arc::clone(&self.inner), options)
    }

    /// A consumer without partitions; see [`Consumer::assign`].
    pub fn consumer(&self, options: ConsumerOptions) -> Consumer {
        Consumer::new(Arc::clone(&self.inner), options)
    }

    /// What everything made from this client shares.
    pub(crate) fn inner(&self) -> Arc<Inner> {
        Arc::clone(&self.inner)
    }

    /// Topics, health, partitions.
    pub fn admin(&self) -> Admin {
        Admin::new(Arc::clone(&self.inner))
    }
}
