//! Our WebRTC link to a page in a real Chromium and back, beside a data channel of the bare stack.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use async_trait::async_trait;
use bytes::BytesMut;
use kinlog_swarm::link::Link;
use kinlog_swarm::link::webrtc::{Negotiation, Progress, WebrtcLink, WebrtcSettings};
use rtc::ice::mdns::MulticastDnsMode;
use serde_json::Value;
use testkit::chromium::{Chromium, WAIT_MAX, body_of, description_of};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::timeout;
use webrtc::data_channel::{DataChannel, DataChannelEvent};
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
    RTCSessionDescription, SettingEngineBuilder,
};

use crate::replicate::number;
use crate::row::{Effort, Measured, Row};

/// Size of a message, as the links send.
const MESSAGE_BYTES: usize = 65_536;

/// Messages of one transfer: 128 MiB.
const MESSAGES: u64 = 2_048;

/// How long a transfer may take before it counts as stalled: 2 MB/s would do.
const TRANSFER_MAX: Duration = Duration::from_secs(60);

pub(crate) const TO: Row = Row {
    name: "to_chromium_64k",
    unit: "MB/s",
    definition: "2,048 messages (512 with --quick) of 64 KiB over our WebRTC link, as a session \
        sends, to a page in a headless Chromium over loopback; the clock runs in the page from the \
        first message to the last. Beside it, in turns, each with a connection of its own, a data \
        channel of the bare stack with its plain settings (no room asked for in UDP sockets, no send \
        limit) to the same page; afterwards two connections of the page with each other.",
    measure: |effort| measure(effort, Direction::ToPage),
    once: None,
};

pub(crate) const FROM: Row = Row {
    name: "from_chromium_64k",
    unit: "MB/s",
    definition: "as to_chromium_64k, the other way: the page keeps 1 to 4 MiB unsent, and the clock \
        runs in our process from the first message to the last.",
    measure: |effort| measure(effort, Direction::FromPage),
    once: None,
};

#[derive(Clone, Copy)]
enum Direction {
    ToPage,
    FromPage,
}

fn measure(effort: &Effort, direction: Direction) -> Result<Measured> {
    let messages = effort.scaled(MESSAGES);
    let runtime = Runtime::new()?;
    let page = RefCell::new(Chromium::start()?);
    let bytes = messages * MESSAGE_BYTES as u64;
    let rate = |seconds: f64| bytes as f64 / 1_000_000.0 / seconds;
    let itself = || {
        let ms = TRANSFER_MAX.as_millis();
        let call = format!("toItself({messages}, {MESSAGE_BYTES}, {ms})");
        let mut page = page.borrow_mut();
        let heard = page.evaluate(&call, TRANSFER_MAX + WAIT_MAX)?;
        Ok(rate(seconds_of(&heard, bytes)?))
    };
    Measured::alternate(
        effort,
        || {
            let mut page = page.borrow_mut();
            runtime.block_on(async {
                let link = our_link(&mut page).await?;
                let seconds = transfer(&link, &mut page, direction, messages).await;
                link.close().await;
                Ok(rate(seconds?))
            })
        },
        vec![(
            "webrtc 0.21.1 as it is".to_owned(),
            Box::new(|| {
                let mut page = page.borrow_mut();
                runtime.block_on(async {
                    let raw = Raw::open(&mut page).await?;
                    let seconds = transfer(&raw, &mut page, direction, messages).await;
                    raw.connection.close().await?;
                    Ok(rate(seconds?))
                })
            }),
        )],
        None,
    )?
    // Not in turns: it leaves the page busy for whoever comes next.
    .with_parts(effort, vec![("Chromium with itself", Box::new(itself))])
}

/// What both stacks do alike.
trait Channel {
    async fn send(&self, message: BytesMut) -> Result<()>;

    /// Returns the size of the next message.
    async fn recv(&self) -> Result<usize>;
}

/// Sends so many messages one way; returns the seconds from the first to the last one at the receiver.
async fn transfer(
    channel: &impl Channel,
    page: &mut Chromium,
    direction: Direction,
    messages: u64,
) -> Result<f64> {
    let bytes = messages * MESSAGE_BYTES as u64;
    match direction {
        Direction::ToPage => {
            page.evaluate("end.count()", WAIT_MAX)?;
            let begun = Instant::now();
            let sending = async {
                let message = BytesMut::from(&vec![b'a'; MESSAGE_BYTES][..]);
                for _ in 0..messages {
                    channel.send(message.clone()).await?;
                }
                Ok::<_, anyhow::Error>(())
            };
            // One that stalls is told by what came.
            if let Ok(sent) = timeout(TRANSFER_MAX, sending).await {
                sent?;
            }
            let left = TRANSFER_MAX.saturating_sub(begun.elapsed()).as_millis();
            let call = format!("end.counted({bytes}, {left})");
            let heard = page.evaluate(&call, TRANSFER_MAX + WAIT_MAX)?;
            seconds_of(&heard, bytes)
        }
        Direction::FromPage => {
            page.evaluate(
                &format!("void end.send({messages}, {MESSAGE_BYTES})"),
                WAIT_MAX,
            )?;
            let (mut received, mut first) = (0, None);
            let receiving = async {
                while received < bytes {
                    received += channel.recv().await? as u64;
                    first.get_or_insert_with(Instant::now);
                }
                Ok::<_, anyhow::Error>(())
            };
            let in_time = timeout(TRANSFER_MAX, receiving).await;
            ensure!(in_time.is_ok(), stalled(received, bytes));
            in_time??;
            Ok(first.map_or(0.0, |first| first.elapsed().as_secs_f64()))
        }
    }
}

fn seconds_of(heard: &Value, bytes: u64) -> Result<f64> {
    let received = heard["bytes"].as_u64().unwrap_or_default();
    ensure!(received == bytes, stalled(received, bytes));
    number(heard, "seconds")
}

fn stalled(received: u64, bytes: u64) -> String {
    format!("stalled: {received} of {bytes} bytes came within {TRANSFER_MAX:?}")
}

/// Opens our link to the page.
async fn our_link(page: &mut Chromium) -> Result<WebrtcLink> {
    let settings = WebrtcSettings {
        bind: vec![Ipv4Addr::LOCALHOST.into()],
        ..WebrtcSettings::default()
    };
    let (mut negotiation, offer) = Negotiation::offer(&settings, 1).await?;
    let answer = page.answer(description_of(&offer)?)?;
    negotiation.accept(&body_of(&answer)).await?;
    // All candidates of loopback are in the descriptions.
    let open = async {
        while negotiation.progress().await? != Progress::Open {}
        Ok::<_, anyhow::Error>(())
    };
    timeout(WAIT_MAX, open)
        .await
        .context("no channel opened")??;
    let link = negotiation.into_link().await?;
    page.evaluate("end.opened()", WAIT_MAX)?;
    Ok(link)
}

impl Channel for WebrtcLink {
    async fn send(&self, message: BytesMut) -> Result<()> {
        Ok(Link::send(self, message).await?)
    }

    async fn recv(&self) -> Result<usize> {
        let message = Link::recv(self).await?;
        Ok(message.context("the page closed the channel")?.len())
    }
}

/// A data channel of the stack, with nothing set but what it does not open without: loopback among the candidates,
/// and no mDNS.
struct Raw {
    connection: Arc<dyn PeerConnection>,
    channel: Arc<dyn DataChannel>,
}

/// Tells that all candidates are known.
struct Gathered(mpsc::Sender<()>);

#[async_trait]
impl PeerConnectionEventHandler for Gathered {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            // It is told once.
            let _ = self.0.try_send(());
        }
    }
}

impl Raw {
    async fn open(page: &mut Chromium) -> Result<Raw> {
        let (tell, mut gathered) = mpsc::channel(1);
        let engine = SettingEngineBuilder::new()
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .with_include_loopback_candidate(true)
            .build();
        let connection = PeerConnectionBuilder::new()
            .with_setting_engine(engine)
            .with_handler(Arc::new(Gathered(tell)))
            .with_udp_addrs(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))])
            .build()
            .await?;
        let connection: Arc<dyn PeerConnection> = Arc::new(connection);
        let channel = connection.create_data_channel("raw", None).await?;
        let offer = connection.create_offer(None).await?;
        connection.set_local_description(offer).await?;
        timeout(WAIT_MAX, gathered.recv()).await?;
        let offer = connection.local_description().await;
        let answer = page.answer(&offer.context("an offer")?.sdp)?;
        let answer = RTCSessionDescription::answer(answer)?;
        connection.set_remote_description(answer).await?;
        let open = async {
            loop {
                match channel.poll().await {
                    Some(DataChannelEvent::OnOpen) => return Ok(()),
                    Some(DataChannelEvent::OnClose) | None => bail!("the channel closed"),
                    Some(_) => {}
                }
            }
        };
        timeout(WAIT_MAX, open)
            .await
            .context("no channel opened")??;
        page.evaluate("end.opened()", WAIT_MAX)?;
        Ok(Raw {
            connection,
            channel,
        })
    }
}

impl Channel for Raw {
    async fn send(&self, message: BytesMut) -> Result<()> {
        Ok(self.channel.send(message).await?)
    }

    async fn recv(&self) -> Result<usize> {
        loop {
            match self.channel.poll().await {
                Some(DataChannelEvent::OnMessage(message)) => return Ok(message.data.len()),
                Some(DataChannelEvent::OnClose) | None => bail!("the page closed the channel"),
                Some(_) => {}
            }
        }
    }
}
