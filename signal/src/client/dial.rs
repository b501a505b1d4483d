//! One attempt to open a WebSocket to a signal server.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::{DATE, HOST};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use crate::SignalUrl;
use crate::client::ClientConfig;
use crate::limits::{DIAL_WITHIN, FRAME_BYTES_MAX};

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Opens a WebSocket, or returns in words why not.
pub(super) async fn dial(
    url: &SignalUrl,
    tls: Option<Arc<rustls::ClientConfig>>,
) -> Result<Socket, String> {
    match timeout(DIAL_WITHIN, open(url, tls)).await {
        Ok(opened) => Ok(opened?.0),
        Err(_) => Err(format!(
            "{url} did not answer within {} s",
            DIAL_WITHIN.as_secs()
        )),
    }
}

/// Greets a server, and returns the date by its clock as it stands in the answer (RFC 9110 section 6.6.1), if it
/// does.
///
/// # Errors
/// In words, why the server was not reached within [`DIAL_WITHIN`].
pub async fn server_date(config: &ClientConfig) -> Result<Option<String>, String> {
    let url = &config.url;
    let greeted = timeout(DIAL_WITHIN, open(url, config.tls.clone())).await;
    let (_socket, answer) = greeted.map_err(|_| format!("{url} did not answer"))??;
    let date = answer.headers().get(DATE);
    Ok(date.and_then(|date| Some(date.to_str().ok()?.to_owned())))
}

async fn open(
    url: &SignalUrl,
    tls: Option<Arc<rustls::ClientConfig>>,
) -> Result<(Socket, Response), String> {
    let name = url.server_name();
    let stream = TcpStream::connect(name.as_str())
        .await
        .map_err(|error| format!("cannot reach {url}: {error}"))?;
    stream
        .set_nodelay(true)
        .map_err(|error| format!("cannot reach {url}: {error}"))?;
    let mut request = url
        .endpoint()
        .into_client_request()
        .map_err(|error| format!("{url}: {error}"))?;
    // Joins sign the name with its port; libraries leave a default port out of the header.
    let host = HeaderValue::from_str(name.as_str()).map_err(|error| format!("{url}: {error}"))?;
    request.headers_mut().insert(HOST, host);
    let config = WebSocketConfig::default()
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX))
        .read_buffer_size(8 * 1024);
    let connector = match (url.is_secure(), tls) {
        (false, _) => Connector::Plain,
        (true, Some(tls)) => Connector::Rustls(tls),
        (true, None) => Connector::Rustls(Arc::new(public_tls()?)),
    };
    client_async_tls_with_config(request, stream, Some(config), Some(connector))
        .await
        .map_err(|error| format!("{url} is no signal server: {error}"))
}

/// TLS by `ring` with the web's usual roots.
fn public_tls() -> Result<rustls::ClientConfig, String> {
    let roots = rustls::RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
