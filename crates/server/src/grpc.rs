//! The public contract over gRPC: wire to vocabulary, one call of the broker, vocabulary to wire.
//!
//! Start with [`call`] (what each call brings along) and [`status`] (the only place where a failure becomes
//! a status), then one file per service. Services of later versions are answered by [`later`].

pub mod admin;
pub mod call;
pub mod cluster;
pub mod groups;
pub mod later;
pub mod log;
mod produce;
pub mod status;
pub mod transactions;

use crate::config::Limits;
use flotilla_broker::Broker;
use flotilla_proto::FILE_DESCRIPTOR_SET;
use flotilla_proto::v1::admin_server::AdminServer;
use flotilla_proto::v1::cluster_server::ClusterServer;
use flotilla_proto::v1::groups_server::GroupsServer;
use flotilla_proto::v1::log_server::LogServer;
use flotilla_proto::v1::transactions_server::TransactionsServer;
use std::sync::Arc;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// What every service is made of.
#[derive(Clone, Debug)]
pub struct Api {
    /// Does what is asked.
    pub broker: Arc<Broker>,
    /// Contexts and answers.
    pub calls: call::Calls,
    /// Bounds.
    pub limits: Arc<Limits>,
    /// Until when streams may stay.
    pub phases: crate::shutdown::Phases,
    /// What is counted.
    pub metrics: crate::metrics::Metrics,
}

/// Everything the client listener answers: our services, health, reflection, and a word on the rest.
pub fn routes(api: Api, health: HealthReporter) -> Result<Routes, tonic_reflection::server::Error> {
    let decode = api.limits.decode_bytes();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let mut routes = Routes::default();
    *routes.axum_router_mut() = axum::Router::new().fallback(later::answer);
    Ok(routes
        .add_service(LogServer::new(api.clone()).max_decoding_message_size(decode))
        .add_service(AdminServer::new(api.clone()).max_decoding_message_size(CONTROL_MESSAGE_BYTES))
        .add_service(ClusterServer::new(api.clone()).max_decoding_message_size(CONTROL_MESSAGE_BYTES))
        .add_service(GroupsServer::new(api.clone()).max_decoding_message_size(GROUP_MESSAGE_BYTES))
        .add_service(TransactionsServer::new(api).max_decoding_message_size(CONTROL_MESSAGE_BYTES))
        .add_service(tonic_health::pb::health_server::HealthServer::new(
            tonic_health::server::HealthService::from_health_reporter(health),
        ))
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?))
}

/// Control calls are small.
const CONTROL_MESSAGE_BYTES: usize = 1 << 20;
/// The most offsets of one commit, with what is said about each.
const GROUP_MESSAGE_BYTES: usize = 4 << 20;

/// Tells load balancers whether to send calls here. Under the empty name and each service's.
pub async fn report_health(health: &HealthReporter, serving: bool) {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    for name in ["", "flotilla.v1.Log", "flotilla.v1.Groups"] {
        health.set_service_status(name, status).await;
    }
    // These answer also while the node is quarantined: somebody must be able to ask why.
    for name in ["flotilla.v1.Admin", "flotilla.v1.Cluster"] {
        health.set_service_status(name, ServingStatus::Serving).await;
    }
}
