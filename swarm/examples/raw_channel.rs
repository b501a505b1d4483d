//! Measures one WebRTC data channel of this machine, without anything of ours on it: how long it
//! takes to open and how fast 64 KiB messages cross it. Prints one JSON line.
//!
//! `raw_channel [MiB]`, 256 by default. `cargo xtask bench` quotes replication beside this figure.

use std::error::Error;
use std::time::Instant;

use bytes::BytesMut;
use kinlog_swarm::link::webrtc::{Negotiation, Progress, WebrtcSettings};
use kinlog_swarm::link::{Link, LinkError};

const MESSAGE_BYTES: usize = 65_536;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mib = std::env::args()
        .nth(1)
        .map_or(Ok(256), |text| text.parse::<usize>())?;
    let settings = WebrtcSettings::default();

    let start = Instant::now();
    let (mut left, offer) = Negotiation::offer(&settings, 1).await?;
    let (mut right, answer) = Negotiation::answer(&settings, &offer).await?;
    left.accept(&answer).await?;
    tokio::try_join!(open(&mut left), open(&mut right))?;
    let open_ms = start.elapsed().as_secs_f64() * 1e3;
    let (left, right) = (left.into_link().await?, right.into_link().await?);

    let total = mib * 1024 * 1024;
    let start = Instant::now();
    let sender = tokio::spawn(async move {
        let message = vec![7; MESSAGE_BYTES];
        for _ in 0..total / MESSAGE_BYTES {
            left.send(BytesMut::from(&message[..])).await?;
        }
        Ok::<_, LinkError>(left)
    });
    let mut received = 0;
    while received < total {
        received += right.recv().await?.ok_or(LinkError::Closed)?.len();
    }
    let seconds = start.elapsed().as_secs_f64();
    let path = right.path().await.ice;
    sender.await??.close().await;

    let line = serde_json::json!({
        "bench": "raw_channel",
        "open_ms": open_ms,
        "mb_per_s": total as f64 / seconds / 1e6,
        "mib": mib,
        "path": path,
    });
    println!("{line}");
    Ok(())
}

async fn open(negotiation: &mut Negotiation) -> Result<(), LinkError> {
    while negotiation.progress().await? != Progress::Open {}
    Ok(())
}
