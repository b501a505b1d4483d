//! A port that answers `GET /metrics` and nothing else.

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use crate::limits::{HANDSHAKE_WITHIN, METRICS_HANDSHAKES_MAX};
use crate::server::accept::answer;
use crate::server::listen::accept;
use crate::server::metrics::Page;

/// Serves the page that `render` writes, anew for each request, until `shutdown` completes; 503 where it writes
/// none.
///
/// At most [`METRICS_HANDSHAKES_MAX`] connections are open at once, each for [`HANDSHAKE_WITHIN`] at most,
/// whatever is asked on it; one more is closed at once.
pub async fn serve_metrics<F>(
    listener: TcpListener,
    render: impl Fn() -> F + Clone + Send + Sync + 'static,
    shutdown: impl Future<Output = ()> + Send,
) where
    F: Future<Output = Option<Page>> + Send + 'static,
{
    let router = router(render);
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let stream = tokio::select! {
            () = &mut shutdown => return,
            Some(_) = connections.join_next() => continue,
            (stream, _) = accept(&listener) => stream,
        };
        if connections.len() >= METRICS_HANDSHAKES_MAX {
            debug!("too many connections to the metrics port");
            continue;
        }
        let answered = timeout(HANDSHAKE_WITHIN, answer(stream, router.clone()));
        connections.spawn(async move {
            // Whoever keeps a connection open makes another for the next request.
            let _ = answered.await;
        });
    }
}

fn router<F>(render: impl Fn() -> F + Clone + Send + Sync + 'static) -> Router
where
    F: Future<Output = Option<Page>> + Send + 'static,
{
    let metrics = move || async move {
        match render().await {
            Some(page) => page.into_response(),
            None => unavailable(),
        }
    };
    Router::new().route("/metrics", get(metrics))
}

fn unavailable() -> Response {
    StatusCode::SERVICE_UNAVAILABLE.into_response()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::{Duration, Instant};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn start(page: Option<Page>) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let render = move || {
            let page = page.clone();
            async move { page }
        };
        let forever = std::future::pending();
        (
            address,
            tokio::spawn(serve_metrics(listener, render, forever)),
        )
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_page_is_served_and_nothing_else() {
        let mut page = Page::default();
        page.gauge("a", "One.", 1);
        let (address, serving) = start(Some(page)).await;
        let answer = get(address, "/metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.ends_with("\na 1\n"), "{answer}");
        assert!(get(address, "/").await.starts_with("HTTP/1.1 404 "));
        serving.abort();
        let (address, serving) = start(None).await;
        assert!(get(address, "/metrics").await.starts_with("HTTP/1.1 503 "));
        serving.abort();
    }

    /// Whoever opens connections and says nothing holds a bounded number, until they end.
    #[tokio::test]
    async fn one_connection_too_many_is_closed_until_another_ends() {
        let (address, serving) = start(Some(Page::default())).await;
        let mut idle = Vec::new();
        for _ in 0..METRICS_HANDSHAKES_MAX {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        let mut surplus = TcpStream::connect(address).await.unwrap();
        let ended = surplus.read(&mut [0]).await;
        assert!(!matches!(ended, Ok(1..)), "{ended:?}");
        drop(idle);
        let until = Instant::now() + Duration::from_secs(60);
        while !asked(address).await {
            assert!(Instant::now() < until, "no connection is taken any more");
        }
        serving.abort();
    }

    /// Returns whether the page came; a connection may be closed at once.
    async fn asked(address: SocketAddr) -> bool {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _ = stream
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .await;
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        answer.starts_with("HTTP/1.1 200 ")
    }
}
