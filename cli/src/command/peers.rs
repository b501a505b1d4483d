//! `kinlog peers`: whom this home may meet, and how each is reached.

use bytes::Bytes;
use clap::Args;
use kinlog_agent::api::{PeerInfo, PeerState, Reply, Request};

use crate::command::unexpected;
use crate::error::Failure;
use crate::output::{Paint, ago, bytes, clean, count, cut, now_ms, span, time};
use crate::target::{Context, Ended};

/// Columns of the rooms at the end of a line of 80.
const PLACE_COLUMNS: usize = 17;

/// Columns of the time before it.
const TIME_COLUMNS: usize = 9;

#[derive(Args, Debug)]
pub(crate) struct PeersArguments {
    /// Those of this room, or this agent alone [default: everybody]
    #[arg(value_name = "ROOM|AGENT")]
    of: Option<String>,

    /// Stay, and tell what changes as it happens
    #[arg(long)]
    watch: bool,
}

pub(crate) async fn run(arguments: PeersArguments, context: &Context<'_>) -> Result<(), Failure> {
    let output = context.output;
    let request = Request::Peers {
        of: arguments.of,
        watch: arguments.watch,
    };
    let ended = context
        .follow(request, Bytes::new(), |answer| {
            match &answer.reply {
                reply if output.is_json() => output.json(reply)?,
                Reply::Peers { network, peers } => show(peers, *network, context)?,
                Reply::PeerChanged { peer, .. } => {
                    let paint = output.paint();
                    let line = line(peer, PLACE_COLUMNS - TIME_COLUMNS, &paint);
                    output.data(&format!("{} {line}", paint.faint(&time(now_ms()))))?;
                }
                reply => return Err(unexpected(reply)),
            }
            output.flush()
        })
        .await?;
    match ended {
        Ended::Interrupted if !arguments.watch => Err(Failure::Interrupted),
        _ => Ok(()),
    }
}

fn show(peers: &[PeerInfo], network: bool, context: &Context<'_>) -> Result<(), Failure> {
    let output = context.output;
    for peer in peers {
        output.data(&line(peer, PLACE_COLUMNS, &output.paint()))?;
    }
    let connected = |peer: &&PeerInfo| peer.state <= PeerState::Relayed;
    let connected = peers.iter().filter(connected).count();
    match (peers.is_empty(), network) {
        (true, _) => output.say("nobody is known yet: follow somebody, or join a room"),
        (false, false) => output.say("the network is off, this is what was remembered: kinlog up"),
        (false, true) => output.say(format!(
            "{} of {} connected; `kinlog ping NAME` measures, docs/connecting.md explains",
            connected,
            count(peers.len() as u64, "peer")
        )),
    }
    Ok(())
}

/// Returns one line of at most 80 columns: a dot and a word, who, how, and from where it is known.
fn line(peer: &PeerInfo, place_columns: usize, paint: &Paint) -> String {
    let (dot, word) = match peer.state {
        PeerState::Direct => ("●", "direct"),
        PeerState::Relayed => ("◐", "relayed"),
        PeerState::Offline => ("○", "offline"),
        _ => ("◐", "online"),
    };
    let state = format!("{dot} {word:<7}");
    let state = match peer.color.as_str() {
        "green" => paint.good(&state),
        "yellow" => paint.warn(&state),
        _ => paint.faint(&state),
    };
    let name = cut(&clean(&peer.name), 18);
    let how = cut(&clean(&how(peer)), 33);
    let place = match peer.rooms.is_empty() {
        true => peer.is.join(", "),
        false => peer.rooms.join(", "),
    };
    format!(
        "{state} {} {how:<33} {}",
        paint.name(&format!("{name:<18}")),
        paint.faint(&cut(&clean(&place), place_columns)),
    )
}

fn how(peer: &PeerInfo) -> String {
    let connected = peer.state <= PeerState::Relayed;
    let Some(way) = peer.way.as_ref().filter(|_| connected) else {
        return match (peer.note.is_empty(), peer.last_seen_ms) {
            (false, _) => peer.note.clone(),
            (true, Some(at)) => format!("last seen {}", ago(at)),
            (true, None) => "not seen yet".to_owned(),
        };
    };
    let mut how = way.short();
    if let Some(ms) = peer.round_trip_ms {
        how.push_str(&match ms {
            0 => ", <1 ms".to_owned(),
            ms => format!(", {ms} ms"),
        });
    }
    if let Some(seconds) = peer.seconds {
        how.push_str(&format!(", {}", span(seconds)));
    }
    // What keeps a connection open is no transfer.
    let (rate, arrow) = match peer.rate_in >= peer.rate_out {
        true => (peer.rate_in, "in"),
        false => (peer.rate_out, "out"),
    };
    if rate >= 1000 {
        how.push_str(&format!(", {}/s {arrow}", bytes(rate)));
    }
    how
}
