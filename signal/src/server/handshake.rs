//! The answer to a request for a WebSocket (RFC 6455 section 4.2).

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, SEC_WEBSOCKET_VERSION};
use axum::response::{IntoResponse as _, Response};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

/// What is spoken.
const VERSION: HeaderValue = HeaderValue::from_static("13");

/// Returns the answer that opens the WebSocket.
///
/// # Errors
///
/// Returns the answer to a request for something else.
pub(super) fn accept(request: &Request) -> Result<Response, Box<Response>> {
    let answer = create_response_with_body(request, axum::body::Body::empty);
    answer.map_err(|error| Box::new(refusal(&error)))
}

fn refusal(error: &Error) -> Response {
    let status = match error {
        Error::Protocol(ProtocolError::WrongHttpMethod) => StatusCode::METHOD_NOT_ALLOWED,
        Error::Protocol(ProtocolError::MissingSecWebSocketVersionHeader) => {
            StatusCode::UPGRADE_REQUIRED
        }
        _ => StatusCode::BAD_REQUEST,
    };
    let shown = format!("this path speaks WebSocket: {error}");
    let mut response = (status, shown).into_response();
    if status == StatusCode::UPGRADE_REQUIRED {
        let headers = response.headers_mut();
        headers.insert(SEC_WEBSOCKET_VERSION, VERSION);
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::header::{
        CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE,
    };

    use super::*;

    const ASKED: [(HeaderName, &str); 4] = [
        (CONNECTION, "keep-alive, Upgrade"),
        (UPGRADE, "websocket"),
        (SEC_WEBSOCKET_VERSION, "13"),
        (SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn asked(method: &str, but: Option<HeaderName>) -> Request {
        let kept = ASKED.iter().filter(|(name, _)| Some(name) != but.as_ref());
        let request = Request::builder().method(method);
        let request = kept.fold(request, |request, (name, value)| {
            request.header(name, *value)
        });
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn the_request_of_rfc_6455_gets_its_answer() {
        // Section 1.3.
        let answer = accept(&asked("GET", None)).unwrap();
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        let accepted = answer.headers().get(SEC_WEBSOCKET_ACCEPT).unwrap();
        assert_eq!(accepted, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_request_that_lacks_something_is_told_so() {
        for (name, _) in ASKED {
            let expected = match name == SEC_WEBSOCKET_VERSION {
                true => StatusCode::UPGRADE_REQUIRED,
                false => StatusCode::BAD_REQUEST,
            };
            let answer = accept(&asked("GET", Some(name))).unwrap_err();
            assert_eq!(answer.status(), expected);
        }
        let answer = accept(&asked("POST", None)).unwrap_err();
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
