//! Calls that this version does not have: a clear word instead of an empty one.

use crate::grpc::status;
use axum::response::IntoResponse;
use http::{Request, Response};

/// Services of the contract that come later.
const LATER: [&str; 3] = ["flotilla.v1.Transactions", "flotilla.v1.Queue", "flotilla.v1.Schemas"];

/// Names the call and says that it is not there, or not yet.
pub async fn answer(request: Request<axum::body::Body>) -> Response<axum::body::Body> {
    let path = request.uri().path().trim_start_matches('/');
    let service = path.split('/').next().unwrap_or_default();
    let shown = crate::telemetry::escape(path, 128);
    let status = if LATER.contains(&service) {
        status::comes_later(&shown, "")
    } else {
        tonic::Status::unimplemented(format!("there is no call {shown}"))
    };
    status.into_http::<tonic::body::Body>().map(axum::body::Body::new).into_response()
}
