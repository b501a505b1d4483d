//! Our WebRTC link and a page in a real Chromium: two stacks that share no line.
//!
//! Needs the Debian package chromium; `cargo xtask test` sees to it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::BytesMut;
use kinlog_swarm::link::webrtc::{Negotiation, Progress, WebrtcLink, WebrtcSettings};
use kinlog_swarm::link::{Link as _, Transport};
use testkit::chromium::{Chromium, WAIT_MAX, body_of, description_of};
use tokio::time::timeout;

/// Longer than anything here takes on a busy machine; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(40);

fn loopback() -> WebrtcSettings {
    WebrtcSettings {
        bind: vec![Ipv4Addr::LOCALHOST.into()],
        ..WebrtcSettings::default()
    }
}

async fn we_offer(page: &mut Chromium) -> WebrtcLink {
    let (negotiation, offer) = Negotiation::offer(&loopback(), 1).await.unwrap();
    let answer = page.answer(description_of(&offer).unwrap()).unwrap();
    negotiation.accept(&body_of(&answer)).await.unwrap();
    opened(negotiation, page).await
}

async fn page_offers(page: &mut Chromium) -> WebrtcLink {
    let offer = body_of(&page.offer().unwrap());
    let (negotiation, answer) = Negotiation::answer(&loopback(), &offer).await.unwrap();
    page.accept(description_of(&answer).unwrap()).unwrap();
    opened(negotiation, page).await
}

/// Waits until both sides have the open channel.
async fn opened(mut negotiation: Negotiation, page: &mut Chromium) -> WebrtcLink {
    let open = async { while negotiation.progress().await.unwrap() != Progress::Open {} };
    timeout(PATIENCE, open).await.expect("the channel opens");
    let link = negotiation.into_link().await.unwrap();
    let taken = page.evaluate("end.opened()", WAIT_MAX).unwrap();
    assert_eq!(
        taken.as_u64(),
        Some(link.max_message() as u64),
        "the page is told how large messages may be"
    );
    let path = link.path().await;
    assert_eq!(path.transport, Transport::Webrtc);
    assert!(path.ice.is_some(), "{path:?}");
    link
}

/// Sends messages of many sizes, which the page says back.
async fn exchange(link: &WebrtcLink, page: &mut Chromium) {
    page.evaluate("end.echo()", WAIT_MAX).unwrap();
    let sizes = [0, 1, 1_200, 16_384, 65_535, link.max_message(), 1];
    let messages = sizes.map(|size| -> Vec<u8> {
        (0..size)
            .map(|at| (at * 7 + at / 251 + size) as u8)
            .collect()
    });
    for message in &messages {
        link.send(BytesMut::from(&message[..])).await.unwrap();
    }
    for message in &messages {
        let heard = timeout(PATIENCE, link.recv()).await.expect("it comes back");
        let heard = heard.unwrap().expect("the link is open");
        assert_eq!(heard.len(), message.len());
        assert!(heard == message[..], "bytes were changed");
    }
}

/// Waits until our side is told that the page has gone.
async fn notices_the_end(link: &WebrtcLink) {
    let end = timeout(PATIENCE, link.recv()).await;
    assert!(matches!(end.expect("in time"), Ok(None)), "nothing came");
}

/// One Chromium for all of it: starting one takes longer than everything else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chromium_exchanges_messages_with_our_link_and_each_notices_the_others_end() {
    let mut page = Chromium::start().unwrap();

    let link = we_offer(&mut page).await;
    exchange(&link, &mut page).await;
    link.close().await;
    page.evaluate("end.closed()", PATIENCE).unwrap();

    let link = page_offers(&mut page).await;
    exchange(&link, &mut page).await;
    page.evaluate("end.close()", WAIT_MAX).unwrap();
    notices_the_end(&link).await;

    let link = we_offer(&mut page).await;
    exchange(&link, &mut page).await;
    page.evaluate("end.leave()", WAIT_MAX).unwrap();
    notices_the_end(&link).await;
}
