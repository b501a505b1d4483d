//! `wss` as people run it: a proxy with a certificate in front of the server.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use std::sync::Arc;
use std::time::Duration;

use kinlog_feeds::KeyPair;
use kinlog_signal::{
    Client, ClientConfig, ClientEvent, Settings, SignalUrl, Topic, serve, server_date,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

const SOON: Duration = Duration::from_secs(20);
const TOPIC: Topic = Topic([1; 32]);

/// Starts a server and a TLS proxy before it; returns the proxy's URL and its certificate.
async fn server_behind_tls() -> (SignalUrl, CertificateDer<'static>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let inside = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Settings::default(), std::future::pending()));

    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = proxy.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = proxy.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // Clients that refuse the certificate end here.
                let Ok(mut outer) = acceptor.accept(stream).await else {
                    return;
                };
                let mut inner = TcpStream::connect(inside).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
            });
        }
    });
    (
        format!("wss://localhost:{port}").parse().unwrap(),
        certificate,
    )
}

fn join(config: ClientConfig) -> (Client, mpsc::Receiver<ClientEvent>) {
    let (client, events) = Client::start(config);
    client.join(TOPIC, KeyPair::from_seed(&[1; 32]));
    (client, events)
}

#[tokio::test]
async fn a_client_joins_over_tls_under_the_name_it_dialled() {
    let (url, certificate) = server_behind_tls().await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut config = ClientConfig::new(url);
    config.tls = Some(Arc::new(tls));
    let date = server_date(&config).await.unwrap();
    assert!(
        date.is_some_and(|date| date.ends_with(" GMT")),
        "what a clock is compared with"
    );
    let (_client, mut events) = join(config);
    assert_eq!(
        timeout(SOON, events.recv()).await.unwrap(),
        Some(ClientEvent::Connected)
    );
    // The join's signature covers `localhost:port`, which the server knows from the Host header.
    let joined = ClientEvent::Joined {
        topic: TOPIC,
        peers: vec![],
    };
    assert_eq!(timeout(SOON, events.recv()).await.unwrap(), Some(joined));
}

#[tokio::test]
async fn a_certificate_nobody_vouches_for_is_refused() {
    let (url, _) = server_behind_tls().await;
    let (_client, mut events) = join(ClientConfig::new(url));
    match timeout(SOON, events.recv()).await.unwrap() {
        Some(ClientEvent::Disconnected { reason, .. }) => {
            assert!(reason.contains("certificate"), "{reason}");
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
}
