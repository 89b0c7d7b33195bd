//! Keeps the routes: follows one node's `WatchMetadata`, goes to another node when that ends, asks once
//! by `GetMetadata` when somebody missed something, and takes leader hints out of errors.

use crate::config::Options;
use crate::connection::{Lane, Pool};
use crate::error::{Error, Result};
use crate::retry::Backoff;
use crate::routes::{Routes, TopicRoute};
use flotilla_proto::v1;
use flotilla_proto::v1::cluster_client::ClusterClient;
use flotilla_types::{LeaderHint, PartitionId, Reason};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Somebody may ask for a fresh look at most this often.
const REFRESH_EVERY: Duration = Duration::from_millis(50);
/// How often `GetMetadata` is asked where a node has no `WatchMetadata`.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// A look at the metadata takes no longer.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);
/// A topic that nobody knows may have been made a moment ago.
const TOPIC_WAIT: Duration = Duration::from_secs(2);

/// The client's view of the cluster.
#[derive(Debug)]
pub(crate) struct Metadata {
    seeds: Vec<String>,
    pool: Arc<Pool>,
    options: Options,
    routes: watch::Sender<Arc<Routes>>,
    wanted: Notify,
}

impl Metadata {
    pub(crate) fn new(seeds: Vec<String>, pool: Arc<Pool>, options: Options) -> Self {
        let routes = watch::Sender::new(Arc::new(Routes::default()));
        Self { seeds, pool, options, routes, wanted: Notify::new() }
    }

    /// The routes now.
    pub(crate) fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.routes.borrow())
    }

    /// The routes and their changes.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Routes>> {
        self.routes.subscribe()
    }

    /// Asks for a fresh look, soon; many askers get one.
    pub(crate) fn refresh(&self) {
        self.wanted.notify_one();
    }

    /// Takes a leader hint out of an error; true if it was news.
    pub(crate) fn hint(&self, topic: &str, partition: PartitionId, hint: Option<&LeaderHint>) -> bool {
        hint.is_some_and(|hint| {
            self.routes.send_if_modified(|routes| Arc::make_mut(routes).hint(topic, partition, hint))
        })
    }

    fn merge(&self, news: v1::Metadata, whole: bool) {
        self.routes.send_if_modified(|routes| Arc::make_mut(routes).merge(news, whole));
    }

    /// Where to ask: the nodes we know and the seeds, starting somewhere.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        let routes = self.routes();
        let mut endpoints: Vec<String> = routes.nodes.values().filter(|e| !e.is_empty()).cloned().collect();
        for seed in &self.seeds {
            if !endpoints.contains(seed) {
                endpoints.push(seed.clone());
            }
        }
        if !endpoints.is_empty() {
            let start = self.options.random.below(endpoints.len() as u64) as usize;
            endpoints.rotate_left(start);
        }
        endpoints
    }

    /// Asks one node after the other until one answers.
    pub(crate) async fn ask(&self) -> Result<()> {
        let mut failed = Error::invalid("no endpoints were given");
        for endpoint in self.endpoints() {
            match tokio::time::timeout(ASK_TIMEOUT, self.ask_at(&endpoint)).await {
                Ok(Ok(news)) => {
                    self.merge(news, true);
                    return Ok(());
                }
                Ok(Err(error)) => failed = error,
                Err(_) => {
                    let message = format!("node at {endpoint} gave no metadata within {ASK_TIMEOUT:?}");
                    failed = Error::retriable(Reason::LeaderNotAvailable, message);
                }
            }
        }
        Err(failed)
    }

    async fn ask_at(&self, endpoint: &str) -> Result<v1::Metadata> {
        let connection = self.pool.connect(endpoint, Lane::Control).await?;
        let answer = client(&connection).get_metadata(v1::GetMetadataRequest::default()).await;
        match answer {
            Ok(news) => Ok(news.into_inner()),
            Err(status) => {
                self.pool.discard(endpoint, Lane::Control, &connection).await;
                Err(Error::from_status(&status).context(format!("metadata from {endpoint}")))
            }
        }
    }

    /// A topic's route; waits a moment for one that was made just now.
    pub(crate) async fn topic(&self, topic: &str) -> Result<Arc<TopicRoute>> {
        let mut routes = self.watch();
        let found = async {
            loop {
                if let Some(route) = routes.borrow_and_update().topic(topic) {
                    return Arc::clone(route);
                }
                self.refresh();
                let _ = tokio::time::timeout(REFRESH_EVERY * 4, routes.changed()).await;
            }
        };
        tokio::time::timeout(TOPIC_WAIT, found).await.map_err(|_| {
            Error::fatal(Reason::UnknownTopicOrPartition, format!("topic {topic:?} does not exist"))
                .with("topic", topic)
        })
    }

    /// Runs for as long as the client lives.
    pub(crate) async fn keep(self: Arc<Self>) {
        tokio::join!(self.follow(), self.answer_refreshes());
    }

    async fn answer_refreshes(&self) {
        let mut backoff = Backoff::default();
        loop {
            self.wanted.notified().await;
            match self.ask().await {
                Ok(()) => {
                    backoff.reset();
                    tokio::time::sleep(REFRESH_EVERY).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "metadata could not be refreshed");
                    let pause = backoff.pause(&*self.options.random, error.retry_after());
                    tokio::time::sleep(pause.max(REFRESH_EVERY)).await;
                }
            }
        }
    }

    async fn follow(&self) {
        let mut backoff = Backoff::default();
        loop {
            for endpoint in self.endpoints() {
                match self.follow_at(&endpoint).await {
                    Ok(()) => backoff.reset(),
                    Err(error) => tracing::debug!(%endpoint, %error, "metadata watch could not begin"),
                }
            }
            tokio::time::sleep(backoff.pause(&*self.options.random, None).max(REFRESH_EVERY)).await;
        }
    }

    /// Follows one node until it goes. An error means that not even the first message came.
    async fn follow_at(&self, endpoint: &str) -> Result<()> {
        let connection = self.pool.connect(endpoint, Lane::Control).await?;
        let watch = client(&connection).watch_metadata(v1::GetMetadataRequest::default()).await;
        let mut watch = match watch {
            Ok(watch) => watch.into_inner(),
            Err(status) if status.code() == tonic::Code::Unimplemented => return self.poll(endpoint).await,
            Err(status) => {
                self.pool.discard(endpoint, Lane::Control, &connection).await;
                return Err(Error::from_status(&status));
            }
        };
        let mut first = true;
        loop {
            match watch.message().await {
                Ok(Some(news)) => self.merge(news, std::mem::take(&mut first)),
                Ok(None) if !first => return Ok(()),
                Ok(None) => return Err(Error::lost("metadata watch ended before it began")),
                Err(status) => {
                    self.pool.discard(endpoint, Lane::Control, &connection).await;
                    return if first { Err(Error::from_status(&status)) } else { Ok(()) };
                }
            }
        }
    }

    async fn poll(&self, endpoint: &str) -> Result<()> {
        loop {
            self.merge(self.ask_at(endpoint).await?, true);
            tokio::time::sleep(POLL_EVERY).await;
        }
    }
}

fn client(connection: &crate::connection::Connection) -> ClusterClient<tonic::transport::Channel> {
    ClusterClient::new(connection.channel.clone())
        .max_decoding_message_size(crate::connection::DECODE_MAX_BYTES)
}
