//! Plain HTTP for probes and scrapers: `/healthz`, `/readyz`, `/metrics`.

use crate::shutdown::{Phase, Phases};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use std::sync::{Arc, OnceLock};
use tokio::net::TcpListener;

/// What the pages show.
#[derive(Clone, Debug)]
pub struct Pages {
    registry: Arc<OnceLock<Registry>>,
    readiness: Arc<RwLock<Readiness>>,
}

/// Whether clients may be sent here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// They may.
    Ready,
    /// They may, and yet something is wrong that no other node does better: one line what.
    ReadyBut(String),
    /// They may not: one line why.
    Not(String),
}

impl Default for Pages {
    fn default() -> Self {
        let starting = Readiness::Not("starting".to_owned());
        Self { registry: Arc::default(), readiness: Arc::new(RwLock::new(starting)) }
    }
}

impl Pages {
    /// What `/metrics` shows from here on; empty before. Once.
    pub fn show(&self, registry: Registry) {
        assert!(self.registry.set(registry).is_ok(), "metrics are collected once");
    }

    /// Returns whether that is news.
    pub fn set(&self, readiness: Readiness) -> bool {
        let mut now = self.readiness.write();
        let changed = *now != readiness;
        *now = readiness;
        changed
    }

    /// As last set.
    pub fn readiness(&self) -> Readiness {
        self.readiness.read().clone()
    }

    fn router(self) -> Router {
        Router::new()
            .route("/healthz", get(async || "alive\n"))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(self)
    }
}

/// Serves until the node closes.
pub async fn serve(listener: TcpListener, pages: Pages, phases: Phases) {
    let closing = async move { phases.reached(Phase::Closing).await };
    let served = axum::serve(listener, pages.router()).with_graceful_shutdown(closing).await;
    if let Err(error) = served {
        tracing::warn!("http: {error}");
    }
}

async fn readyz(State(pages): State<Pages>) -> impl IntoResponse {
    match pages.readiness() {
        Readiness::Ready => (StatusCode::OK, "ready\n".to_owned()),
        Readiness::ReadyBut(what) => (StatusCode::OK, format!("ready, but {what}\n")),
        Readiness::Not(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

async fn metrics(State(pages): State<Pages>) -> impl IntoResponse {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let mut page = String::new();
    let nothing = Registry::default();
    let registry = pages.registry.get().unwrap_or(&nothing);
    match prometheus_client::encoding::text::encode(&mut page, registry) {
        Ok(()) => (StatusCode::OK, [(header::CONTENT_TYPE, OPEN_METRICS)], page),
        Err(error) => {
            let text = [(header::CONTENT_TYPE, "text/plain")];
            (StatusCode::INTERNAL_SERVER_ERROR, text, error.to_string())
        }
    }
}
