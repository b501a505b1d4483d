//! `kinlog status`: peers, feeds, what is held and why.

use kinlog_agent::api::{FeedStatus, LadderInfo, Reply, Request, SessionStatus, Status};

use crate::command::unexpected;
use crate::error::Failure;
use crate::output::{Paint, bytes, clean, count, short_key};
use crate::target::Context;

pub(crate) async fn run(context: &Context<'_>) -> Result<(), Failure> {
    for reply in context.ask(Request::Status).await? {
        let Reply::Status(status) = &reply else {
            return Err(unexpected(&reply));
        };
        if context.output.is_json() {
            context.output.json(&reply)?;
        } else {
            show(status, context)?;
        }
    }
    Ok(())
}

fn show(status: &Status, context: &Context<'_>) -> Result<(), Failure> {
    let output = context.output;
    let paint = output.paint();
    output.data(&format!(
        "{}  {}  {}",
        paint.strong(&clean(&status.name)),
        short_key(&status.agent),
        if status.network {
            format!("up, process {}", status.pid)
        } else {
            paint.faint("not running (kinlog up)")
        },
    ))?;
    output.data(&format!(
        "{}  {} in {}, {}",
        status.home.display(),
        bytes(status.store.bytes),
        count(status.store.feeds, "feed"),
        count(status.store.blocks, "block"),
    ))?;
    if let Some(reason) = &status.must_renew {
        output.data(&paint.warn(&format!(
            "this device may not write any more: {}",
            clean(reason)
        )))?;
        output.data("  `kinlog device renew` makes this a new device that continues the paths")?;
    }
    for signal in &status.signals {
        let state = match &signal.problem {
            _ if signal.connected => paint.good("connected"),
            Some(problem) => paint.warn(&clean(problem)),
            None => paint.warn("connecting"),
        };
        let found_by = match signal.found_by.as_str() {
            "" => "signal",
            found_by => found_by,
        };
        let url = clean(&signal.url);
        output.data(&format!("{:6}  {url}  {state}", clean(found_by)))?;
    }
    if let Some(lan) = &status.lan {
        let seen = match &lan.trouble {
            Some(trouble) => paint.warn(&clean(trouble)),
            None => format!(
                "{} on this network",
                count(lan.neighbours as u64, "other agent")
            ),
        };
        output.data(&format!("lan     {seen}"))?;
    }
    if !status.found.is_empty() {
        let found = status.found.iter();
        let found = found.map(|(by, times)| format!("{times} {}", clean(found_how(by))));
        output.data(&format!("found   {}", found.collect::<Vec<_>>().join(", ")))?;
    }
    let tried: Vec<String> = status.ladder.iter().filter_map(tried).collect();
    if !tried.is_empty() {
        output.data(&format!("tried   {}", clean(&tried.join("; "))))?;
    }
    let pool = &status.pool;
    if pool.active + pool.standby + pool.remembered > 0 {
        output.data(&format!(
            "pool    {} active, {} on standby (of {} and {}), {} remembered",
            pool.active, pool.standby, pool.active_max, pool.standby_max, pool.remembered
        ))?;
    }
    if status.network && status.signals.is_empty() && status.lan.is_none() {
        output.data(&format!(
            "signal  {}",
            paint.warn("none: kinlog up --signal URL")
        ))?;
    }
    heading("Peers", status.sessions.len(), context)?;
    for session in &status.sessions {
        output.data(&session_line(session, &paint))?;
    }
    heading("Feeds", status.feeds.len(), context)?;
    for feed in &status.feeds {
        output.data(&feed_line(feed, &paint))?;
        output.data(&format!("    {}", paint.faint(&clean(&reasons(feed)))))?;
    }
    if !status.rooms.is_empty() {
        heading("Rooms", status.rooms.len(), context)?;
        for room in &status.rooms {
            output.data(&format!(
                "  {}  {}, {}",
                paint.strong(&clean(&room.name)),
                count(room.members, "member"),
                count(room.messages, "message")
            ))?;
        }
    }
    for join in &status.open_joins {
        output.data(&paint.warn(&clean(join)))?;
    }
    Ok(())
}

fn heading(title: &str, number: usize, context: &Context<'_>) -> Result<(), Failure> {
    context.output.data(&format!(
        "\n{}",
        context
            .output
            .paint()
            .strong(&format!("{title} ({number})"))
    ))
}

/// Returns in words by what a peer was found.
fn found_how(found_by: &str) -> &str {
    match found_by {
        "signal" => "by a signal server",
        "own" => "came here",
        "lan" => "on the local network",
        "route" => "where they were met before",
        "coordinator" => "where coordinators are met",
        "peer" => "by another peer",
        other => other,
    }
}

/// Returns in words what came of one step of looking for peers, where it was tried.
fn tried(step: &LadderInfo) -> Option<String> {
    let how = match step.step.as_str() {
        "peers" => "peers",
        "lan" => "local network",
        "routes" => "remembered routes",
        "coordinators" => "coordinators",
        "signal" => "signal servers",
        other => other,
    };
    let took = match step.mean_ms {
        Some(ms) => format!(" in {ms} ms"),
        None => String::new(),
    };
    (step.tries > 0).then(|| format!("{how} {} of {}{took}", step.successes, step.tries))
}

fn session_line(session: &SessionStatus, paint: &Paint) -> String {
    let who = match (&session.agent, &session.device) {
        (Some(agent), _) => short_key(agent),
        (None, Some(device)) => format!("device {}", short_key(device)),
        (None, None) => "anonymous".to_owned(),
    };
    let path = match &session.ice {
        Some(ice) => format!(
            "{} {} <-> {} {}",
            ice.local_kind, ice.local, ice.remote_kind, ice.remote
        ),
        None => String::new(),
    };
    let associations = match session.associations {
        0 | 1 => String::new(),
        several => format!(" x{several}"),
    };
    let found = session.found_by.as_deref().map(found_how);
    let found = found.map_or(String::new(), |found| format!(", {found}"));
    format!(
        "  {}  by {} {}{}  {} in, {} out\n    {}",
        paint.name(&clean(&who)),
        clean(&session.met_by),
        clean(&session.topic),
        clean(&found),
        bytes(session.bytes_received),
        bytes(session.bytes_sent),
        paint.faint(&clean(
            format!("{}{associations} {path}", session.transport).trim()
        )),
    )
}

/// Returns in which sense a feed is in sync, and why it is stored.
fn reasons(status: &FeedStatus) -> String {
    let why = status.why.join("; ");
    if status.in_sync && status.feed.role != "own" {
        format!("{}; {why}", status.sync)
    } else {
        why
    }
}

fn feed_line(status: &FeedStatus, paint: &Paint) -> String {
    let feed = &status.feed;
    let name = match &feed.path {
        Some(path) => clean(path),
        None => short_key(&feed.key),
    };
    let sync = if status.in_sync {
        paint.good("in sync")
    } else {
        paint.warn(&clean(&status.sync))
    };
    let held = match status.want {
        0 => count(feed.blocks_held, "block"),
        want => format!("{} of {}", status.have, count(want, "block")),
    };
    format!(
        "  {}  {held}, {}  {sync}",
        paint.strong(&format!("{name:<28}")),
        bytes(feed.bytes_held),
    )
}
