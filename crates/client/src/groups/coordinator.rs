//! Calls to a group's coordinator. Any node forwards them, so the one that answered last is asked again,
//! and another one as soon as it fails.

use crate::call;
use crate::client::Inner;
use crate::connection::{DECODE_MAX_BYTES, Lane};
use crate::error::{Class, Error, Result};
use flotilla_proto::v1;
use flotilla_proto::v1::groups_client::GroupsClient;
use flotilla_types::Action;
use parking_lot::Mutex;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tonic::Request;
use tonic::transport::Channel;

/// A held call that is answered later than its wait plus this is given up, at the latest.
pub(crate) const ANSWER_SLACK: Duration = Duration::from_secs(5);

/// The way to a coordinator.
#[derive(Debug)]
pub(crate) struct Coordinator {
    client: Arc<Inner>,
    /// Who answered last.
    node: Mutex<Option<String>>,
}

pub(crate) fn groups(channel: Channel) -> GroupsClient<Channel> {
    GroupsClient::new(channel).max_decoding_message_size(DECODE_MAX_BYTES)
}

impl Coordinator {
    pub(crate) fn new(client: Arc<Inner>) -> Self {
        Self { client, node: Mutex::new(None) }
    }

    /// Given up `slack` after the time it may be held.
    pub(crate) async fn heartbeat(
        &self,
        request: &v1::HeartbeatRequest,
        slack: Duration,
    ) -> Result<v1::HeartbeatResponse> {
        let timeout = Duration::from_millis(u64::from(request.max_wait_ms.unsigned_abs())) + slack;
        self.once(timeout, |channel| {
            let request = within(timeout, request.clone());
            async move { groups(channel).heartbeat(request).await }
        })
        .await
    }

    pub(crate) async fn commit(
        &self,
        request: &v1::CommitOffsetsRequest,
        timeout: Duration,
    ) -> Result<v1::CommitOffsetsResponse> {
        self.once(timeout, |channel| {
            let request = within(timeout, request.clone());
            async move { groups(channel).commit_offsets(request).await }
        })
        .await
    }

    /// One attempt at one node.
    async fn once<T, F>(&self, timeout: Duration, call: impl Fn(Channel) -> F + Send + Sync) -> Result<T>
    where
        F: Future<Output = std::result::Result<tonic::Response<T>, tonic::Status>> + Send,
    {
        let known = self.node.lock().clone();
        let endpoints = self.client.metadata.endpoints();
        let endpoint = known.or_else(|| endpoints.first().cloned());
        let endpoint = endpoint.ok_or_else(|| Error::invalid("no endpoints were given"))?;
        let answer = call::at(&self.client, &endpoint, Lane::Control, timeout, call).await;
        let next = match &answer {
            Ok(_) => Some(endpoint),
            Err(error) if matches!(error.action(), Action::Rejoin | Action::RefreshMember | Action::Fail) => {
                Some(endpoint) // the coordinator itself has spoken
            }
            Err(error) => {
                let hint = error.leader().map(|leader| leader.endpoint.clone()).filter(|e| !e.is_empty());
                let other = || endpoints.iter().find(|other| **other != endpoint).cloned();
                if error.class() == Class::Retriable && hint.is_some() { hint } else { other() }
            }
        };
        *self.node.lock() = next;
        answer
    }
}

/// The time left travels with the call, so that a node that was stopped meanwhile does not carry out what
/// nobody waits for.
fn within<T>(timeout: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}
