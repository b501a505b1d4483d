//! How soon what one agent sends to a room is a message at another.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use kinlog_agent::api::{Answers, Reply, Request};
use kinlog_agent::home::{Phrase, init};
use kinlog_agent::{Agent, NetworkConfig, OpenOptions};
use kinlog_swarm::link::Link as _;
use kinlog_swarm::link::webrtc::{Negotiation, Progress};
use serde_json::json;
use tokio::net::TcpListener;

use super::{everywhere, say, stdin_end};
use crate::scratch::Scratch;

const ROOM: &str = "family";

/// Messages before those that count.
const FIRST: usize = 20;

/// A message as large as one of the room is on the wire, more or less.
const PING_BYTES: usize = 400;

/// Two agents of this process in a room, met through a signal server; says how long each message took
/// from asking for it to be sent to the answer of a reader that watches.
pub(super) async fn talk(count: usize) -> Result<()> {
    let scratch = Scratch::new()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}/", listener.local_addr()?);
    let signal = kinlog_signal::serve(listener, kinlog_signal::Settings::default(), stdin_end());
    let signal = tokio::spawn(signal);
    let ann = agent(scratch.path(), "ann", &url).await?;
    let bob = agent(scratch.path(), "bob", &url).await?;
    let history = None;
    let name = ROOM.to_owned();
    ask(&ann, Request::RoomCreate { name, history }).await?;
    let room = ROOM.to_owned();
    let (role, expires_in, uses) = (None, None, None);
    let invite = Request::RoomInvite {
        room,
        role,
        expires_in,
        uses,
    };
    let Reply::Invite { link, .. } = ask(&ann, invite).await? else {
        bail!("no invite");
    };
    let wait_seconds = None;
    ask(&bob, Request::RoomJoin { link, wait_seconds }).await?;
    let watching = Request::Read {
        room: ROOM.to_owned(),
        last: None,
        watch: true,
        mentions: false,
        presence: false,
    };
    let mut watching = bob.request(watching, Bytes::new());
    let mut times = Vec::with_capacity(count);
    for number in 0..FIRST + count {
        let text = format!("message {number}");
        let start = Instant::now();
        let send = Request::Send {
            room: ROOM.to_owned(),
            text: text.clone(),
            reply_to: None,
        };
        // A send that is refused (a device keeps to a rate) ends the waiting, too.
        tokio::try_join!(ask(&ann, send), came(&mut watching, &text))?;
        if number >= FIRST {
            times.push(1_000.0 * start.elapsed().as_secs_f64());
        }
    }
    say_middle(times)?;
    drop(watching);
    bob.shutdown().await?;
    ann.shutdown().await?;
    signal.abort();
    Ok(())
}

async fn agent(folder: &Path, name: &str, signal: &str) -> Result<Agent> {
    let (home, state) = (folder.join(name), folder.join("state"));
    init(&home, &state, name, &Phrase::generate()?)?;
    let agent = Agent::open(&home, OpenOptions::new(state)).await?;
    let config = NetworkConfig {
        signal_urls: vec![signal.to_owned()],
        ..NetworkConfig::default()
    };
    agent.start_network(config).await?;
    Ok(agent)
}

async fn ask(agent: &Agent, request: Request) -> Result<Reply> {
    Ok(agent.request(request, Bytes::new()).last().await?.reply)
}

/// Waits for the message with this text.
async fn came(watching: &mut Answers, text: &str) -> Result<()> {
    loop {
        let answer = watching.next().await.context("reading ended")??;
        if matches!(answer.reply, Reply::Message(message) if message.text == text) {
            return Ok(());
        }
    }
}

/// Sends messages to and fro over a raw channel of this process; says how long there and back took.
pub(super) async fn ping(count: usize) -> Result<()> {
    let settings = everywhere();
    let (mut left, offer) = Negotiation::offer(&settings, 1).await?;
    let (mut right, answer) = Negotiation::answer(&settings, &offer).await?;
    left.accept(&answer).await?;
    tokio::try_join!(open(&mut left), open(&mut right))?;
    let (left, right) = (left.into_link().await?, right.into_link().await?);
    let echo = tokio::spawn(async move {
        while let Ok(Some(message)) = right.recv().await {
            right.send(BytesMut::from(&message[..])).await?;
        }
        Ok::<_, anyhow::Error>(())
    });
    let message = BytesMut::from(&vec![b'a'; PING_BYTES][..]);
    let mut times = Vec::with_capacity(count);
    for number in 0..FIRST + count {
        let start = Instant::now();
        left.send(message.clone()).await?;
        let back = left.recv().await?.context("the channel closed early")?;
        ensure!(back.len() == PING_BYTES, "another message came back");
        if number >= FIRST {
            times.push(1_000.0 * start.elapsed().as_secs_f64());
        }
    }
    say_middle(times)?;
    left.close().await;
    echo.abort();
    Ok(())
}

async fn open(negotiation: &mut Negotiation) -> Result<()> {
    while negotiation.progress().await? != Progress::Open {}
    Ok(())
}

fn say_middle(mut times: Vec<f64>) -> Result<()> {
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times.get((times.len() as f64 * part) as usize);
    say(&json!({ "p50_ms": at(0.50), "p99_ms": at(0.99) }))
}
