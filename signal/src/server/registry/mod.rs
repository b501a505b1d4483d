//! The registry over HTTP: a view of topics for who has no WebSocket open.
//!
//! Everything in an answer is blinded: networks are topics, users and peers are client keys. Nothing
//! is taken but announcements and heartbeats; a body with anything else in it is refused.

mod body;
mod calls;

use axum::Router;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, CACHE_CONTROL, CONTENT_TYPE,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::server::accept::Server;

/// Description of every call, for programs and people.
const OPENAPI: &str = include_str!("openapi.json");

/// Paths of the registry with their methods, as OpenAPI writes them.
pub(super) fn router() -> Router<Server> {
    Router::new()
        .route(
            "/network/{networkId}/active-peers",
            get(calls::active_peers).options(preflight),
        )
        .route(
            "/network/{networkId}/announce",
            post(calls::announce).options(preflight),
        )
        .route(
            "/network/{networkId}/peer/{userId}",
            get(calls::peer).options(preflight),
        )
        .route(
            "/coordinator/heartbeat",
            post(calls::heartbeat).options(preflight),
        )
        .route("/api/openapi.json", get(openapi).options(preflight))
        .layer(middleware::map_response(any_origin))
}

async fn openapi() -> impl IntoResponse {
    let head = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "max-age=3600"),
    ];
    (head, OPENAPI)
}

/// Answers what a browser asks before it posts JSON to another origin.
async fn preflight() -> impl IntoResponse {
    let head = [
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (ACCESS_CONTROL_ALLOW_HEADERS, "content-type"),
        (ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    (StatusCode::NO_CONTENT, head)
}

/// Browsers are peers: pages of any origin may read and announce. There are no cookies and no
/// credentials here, so nobody's rights are lent to a page.
async fn any_origin(mut response: Response) -> Response {
    let all = HeaderValue::from_static("*");
    response
        .headers_mut()
        .insert(ACCESS_CONTROL_ALLOW_ORIGIN, all);
    response
}
