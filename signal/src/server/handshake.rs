//! The answer to a request for a WebSocket (RFC 6455 section 4.2).

use axum::http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use sha1::{Digest as _, Sha1};

use crate::base64::base64;

/// Behind the client's key (section 1.3): no server that does not know the protocol hashes this.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Characters of 16 random bytes.
const KEY_CHARACTERS: usize = 24;

const VERSION: &str = "13";

/// Returns the answer that opens the WebSocket.
///
/// # Errors
///
/// Returns the answer to a request for something else.
pub(super) fn accept(method: &Method, headers: &HeaderMap) -> Result<Response, Box<Response>> {
    let refused = |status, shown: &'static str| Box::new((status, shown).into_response());
    if method != Method::GET {
        return Err(refused(
            StatusCode::METHOD_NOT_ALLOWED,
            "a WebSocket is asked for by GET",
        ));
    }
    if !names(headers, &CONNECTION, "upgrade") || !names(headers, &UPGRADE, "websocket") {
        return Err(refused(
            StatusCode::BAD_REQUEST,
            "this path speaks WebSocket alone",
        ));
    }
    if !names(headers, &SEC_WEBSOCKET_VERSION, VERSION) {
        let shown = "version 13 of WebSocket is spoken";
        let version = [(SEC_WEBSOCKET_VERSION, VERSION)];
        return Err(Box::new(
            (StatusCode::UPGRADE_REQUIRED, version, shown).into_response(),
        ));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    let Some(key) = key.filter(|key| key.len() == KEY_CHARACTERS) else {
        return Err(refused(
            StatusCode::BAD_REQUEST,
            "the key of the WebSocket is missing",
        ));
    };
    let upgrade = [
        (CONNECTION, "upgrade".to_owned()),
        (UPGRADE, "websocket".to_owned()),
        (SEC_WEBSOCKET_ACCEPT, answer_to(key)),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, upgrade).into_response())
}

fn answer_to(key: &[u8]) -> String {
    base64(&Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// Returns whether a header that lists words has this one.
fn names(headers: &HeaderMap, header: &HeaderName, word: &str) -> bool {
    let lines = headers
        .get_all(header)
        .iter()
        .filter_map(|line| line.to_str().ok());
    let mut words = lines.flat_map(|line| line.split(','));
    words.any(|one| one.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: [(HeaderName, &str); 4] = [
        (CONNECTION, "keep-alive, Upgrade"),
        (UPGRADE, "websocket"),
        (SEC_WEBSOCKET_VERSION, VERSION),
        (SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn asked(but: Option<HeaderName>) -> HeaderMap {
        let kept = ASKED
            .into_iter()
            .filter(|(name, _)| Some(name) != but.as_ref());
        kept.map(|(name, value)| (name, HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn the_request_of_rfc_6455_gets_its_answer() {
        // Section 1.3.
        let answer = accept(&Method::GET, &asked(None)).unwrap();
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
            let answer = accept(&Method::GET, &asked(Some(name))).unwrap_err();
            assert_eq!(answer.status(), expected);
        }
        let answer = accept(&Method::POST, &asked(None)).unwrap_err();
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
