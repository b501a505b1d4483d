//! A device is let in over the network, whatever becomes of the connection on which it asked.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use std::time::Duration;

use crate::stage::{Cast, Folder, Signal, soon};
use bytes::Bytes;
use kinlog_agent::NetworkConfig;
use kinlog_agent::api::{Reply, Request};
use kinlog_agent::linking::{LinkCode, PendingDevice, link_over_network};

/// More than any test takes.
const WAIT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_whose_connection_ended_before_its_words_were_confirmed_gets_its_answer_later() {
    let (folder, signal) = (Folder::new(), Signal::start().await);
    let laptop = Cast::online(&folder, "laptop", &signal).await;
    let mut shown = laptop.ask(Request::LinkOpen {
        powers: Vec::new(),
        wait: true,
    });
    let Reply::LinkCode { code, .. } = soon(shown.next()).await.unwrap().unwrap().reply else {
        panic!("no code");
    };
    let code: LinkCode = code.parse().unwrap();
    let (home, state) = (
        folder.path().join("phone"),
        folder.path().join("phone.state"),
    );
    let pending = PendingDevice::new(&home, &state, code.clone(), "phone").unwrap();
    let (request, words) = pending.request();
    let ask = |beside: &str| {
        let (beside, code, request) = (folder.path().join(beside), code.clone(), request.clone());
        async move {
            let network = NetworkConfig::default();
            link_over_network(&beside, &code, request, network, WAIT).await
        }
    };

    // The first time it is gone as soon as it was heard.
    let asked = tokio::select! {
        asked = soon(shown.next()) => asked.unwrap().unwrap().reply,
        answer = ask("first") => panic!("answered before the words were confirmed: {answer:?}"),
    };
    let Reply::LinkAsked(asked) = asked else {
        panic!("{asked:?}");
    };
    assert_eq!(asked.words, words);
    let confirm = Request::LinkConfirm {
        words: words.clone(),
    };
    laptop.reply(confirm).await.unwrap();
    let linked = soon(shown.next()).await.unwrap().unwrap().reply;
    assert!(matches!(linked, Reply::Linked { name, .. } if name == "phone"));

    let answer: Bytes = soon(ask("second")).await.unwrap();
    let made = pending.finish(&home, &state, &answer).unwrap();
    assert_eq!(made.agent, laptop.id.agent);

    // Nobody else is let in by it.
    let other = folder.path().join("tablet");
    let stranger = PendingDevice::new(&other, &folder.path().join("tablet.state"), code, "tablet");
    let request = stranger.unwrap().request().0;
    let asked = Request::LinkAsk {
        asked: request.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    laptop.reply(asked).await.unwrap_err();
    laptop.stop().await;
}
