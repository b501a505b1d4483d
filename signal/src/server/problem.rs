//! Errors as RFC 9457 has them.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// An answer that says what is wrong.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    /// Short, fixed and for programs: the end of the problem's type.
    pub(super) name: &'static str,
    pub(super) detail: String,
    pub(super) retry_after_s: Option<u64>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, name: &'static str, detail: impl Into<String>) -> Self {
        Problem {
            status,
            name,
            detail: detail.into(),
            retry_after_s: None,
        }
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": format!("urn:kinlog:problem:{}", self.name),
            "title": self.status.canonical_reason().unwrap_or(self.name),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let head = [
            (CONTENT_TYPE, "application/problem+json"),
            (CACHE_CONTROL, "no-store"),
        ];
        let mut response = (self.status, head, body.to_string()).into_response();
        if let Some(seconds) = self.retry_after_s {
            let seconds = HeaderValue::from(seconds);
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        response
    }
}
