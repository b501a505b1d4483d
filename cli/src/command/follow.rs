//! `kinlog follow`, `unfollow`, `pins` and `seed`: what is kept, and why.

use bytes::Bytes;
use clap::Args;
use kinlog_agent::api::{
    Answer, ErrorKind, FollowProgress, FollowStep, PinInfo, PinOptions, Reply, Request, Selection,
    Text,
};
use kinlog_agent::links::{FeedPath, Link};
use tokio::task::JoinSet;

use crate::command::ping::show_steps;
use crate::command::seeding::SeedCommand;
use crate::command::unexpected;
use crate::error::Failure;
use crate::metrics::{MetricsArguments, request};
use crate::output::{Progress, bytes, clean, count};
use crate::target::{Context, Ended, Session};

#[derive(Args, Debug)]
pub(crate) struct FollowArguments {
    /// kinlog://agent/KEY/PATH, kinlog://feed/KEY, or a bare key
    link: String,

    #[command(flatten)]
    what: WhatArguments,

    /// End when everything asked for is stored
    #[arg(long)]
    once: bool,
}

/// What of a link is kept, and how.
#[derive(Args, Debug)]
pub(crate) struct WhatArguments {
    /// Blocks A..B (B not included), A.., last:N, since:YYYY-MM-DD or bytes:N (K, M, G)
    /// [default: all, also those to come]
    #[arg(long)]
    range: Option<Selection>,

    /// Path and everything below it, for a link to an agent
    #[arg(long, value_name = "PATH")]
    path: Option<String>,

    /// Follow links in documents too, and in those, so many times
    #[arg(long, value_name = "N", default_value_t = 0)]
    depth: u8,

    /// sovereign (mine), reciprocal (family), invested (community) or gift: what goes last when room runs
    /// out [default: gift]
    #[arg(long)]
    tier: Option<String>,

    /// Why, in a few words; it stands in `kinlog pins`
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// On this device alone; otherwise all your devices keep it
    #[arg(long)]
    here: bool,
}

impl WhatArguments {
    fn options(&self) -> PinOptions {
        PinOptions {
            depth: self.depth,
            tier: self.tier.clone(),
            reason: self.reason.clone(),
            here: self.here,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct PinArguments {
    /// kinlog://agent/KEY/PATH, kinlog://feed/KEY, or a bare key
    link: String,

    #[command(flatten)]
    what: WhatArguments,
}

/// Puts a path into a link to an agent.
fn with_path(link: String, path: Option<&str>) -> Result<String, Failure> {
    let Some(path) = path else { return Ok(link) };
    let parsed = link.parse::<Link>();
    match parsed.map_err(|error| Failure::usage(error.to_string()))? {
        Link::Agent {
            agent,
            path: None,
            signal_urls,
        } => {
            let path = path.parse::<FeedPath>();
            let path = path.map_err(|error| Failure::usage(error.to_string()))?;
            let path = Some(path);
            Ok(Link::Agent {
                agent,
                path,
                signal_urls,
            }
            .to_string())
        }
        _ => Err(
            Failure::usage("--path goes with a link to an agent, without a path of its own")
                .hint("kinlog://agent/KEY, as `kinlog id` of that agent shows it"),
        ),
    }
}

#[derive(Args, Debug)]
pub(crate) struct UnfollowArguments {
    /// The link as it stands in `kinlog pins`
    link: String,
}

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct SeedArguments {
    #[command(subcommand)]
    pub(crate) command: Option<SeedCommand>,

    /// What to keep, beside everything that is kept already
    links: Vec<String>,

    #[command(flatten)]
    metrics: MetricsArguments,
}

pub(crate) async fn follow(
    arguments: FollowArguments,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let once = arguments.once;
    let what = arguments.what;
    let ends = once || matches!(what.range, Some(Selection::Range(_)));
    let request = Request::Follow {
        link: with_path(arguments.link, what.path.as_deref())?,
        options: what.options(),
        range: what.range.map(Text),
        once: arguments.once,
    };
    let mut shown = Shown::new(context, !ends);
    let ended = context
        .follow(request, Bytes::new(), |answer| {
            if ends && !context.output.is_json() {
                if let Reply::Follow(now) = &answer.reply {
                    shown.bar.suspend(|| show_steps(&now.steps, context.output));
                }
                refuse_to_wait(&answer.reply, once)?;
            }
            shown.progress(&answer.reply)?;
            if ends {
                refuse_to_wait(&answer.reply, once)?;
            }
            Ok(())
        })
        .await;
    shown.bar.clear();
    match (ended?, shown.complete) {
        (Ended::Interrupted, false) => Err(Failure::Interrupted),
        (Ended::Done, false) if ends => Err(Failure::new(
            ErrorKind::NoPeers,
            "the agent stopped before everything was stored",
        )),
        _ => Ok(()),
    }
}

/// Fails when nobody was found in the step that a follow is in.
fn refuse_to_wait(reply: &Reply, once: bool) -> Result<(), Failure> {
    let Reply::Follow(now) = reply else {
        return Ok(());
    };
    if !now.nobody || now.complete {
        return Ok(());
    }
    let mut hint = match now.step {
        FollowStep::Signal => "start that server, or name another: kinlog up --signal URL",
        FollowStep::Blocks => "the link stays followed, `kinlog up` fetches the rest when it comes",
        _ => "the link stays followed, `kinlog up` fetches it when somebody is there",
    }
    .to_owned();
    if once {
        hint.push_str("; without --once this command waits");
    }
    Err(Failure::new(ErrorKind::NoPeers, clean(&now.message)).hint(hint))
}

pub(crate) async fn seed(arguments: SeedArguments, context: &Context<'_>) -> Result<(), Failure> {
    let mut shown = Shown::new(context, true);
    let seed = Request::Seed {
        links: arguments.links,
    };
    let session = Session::open_for(context, &seed).await?;
    let ended = match watch(&session, &arguments.metrics, context).await {
        Ok(_watched) => {
            let mut each = |answer: Answer| shown.progress(&answer.reply);
            session.follow(seed, Bytes::new(), &mut each).await
        }
        Err(failure) => Err(failure),
    };
    shown.bar.clear();
    session.close().await?;
    ended.map(|_| ())
}

/// Serves the metrics of the node that this process is, until what is returned is dropped.
async fn watch(
    session: &Session,
    metrics: &MetricsArguments,
    context: &Context<'_>,
) -> Result<JoinSet<()>, Failure> {
    let mut serving = JoinSet::new();
    match session.agent() {
        Some(agent) => {
            if let Some(port) = metrics.bind().await? {
                port.tell(context.output);
                let ask = move || agent.request(request(), Bytes::new());
                serving.spawn(port.serve(ask));
            }
        }
        None if metrics.is_wanted() => {
            let word = context.output.paint_words().warn("no metrics here:");
            let why = "the agent that runs serves them, kinlog up --metrics";
            context.output.say(format!("{word} {why}"));
        }
        None => {}
    }
    Ok(serving)
}

pub(crate) async fn unfollow(
    arguments: UnfollowArguments,
    context: &Context<'_>,
) -> Result<(), Failure> {
    for reply in context
        .ask(Request::Unfollow {
            link: arguments.link,
        })
        .await?
    {
        let Reply::Pins { pins } = &reply else {
            return Err(unexpected(&reply));
        };
        if context.output.is_json() {
            context.output.json(&reply)?;
            continue;
        }
        for pin in pins {
            context.output.say(format!(
                "no longer followed: {} {}",
                clean(&pin.link),
                pin.range
            ));
        }
    }
    Ok(())
}

pub(crate) async fn pin(arguments: PinArguments, context: &Context<'_>) -> Result<(), Failure> {
    let what = arguments.what;
    let request = Request::Pin {
        link: with_path(arguments.link, what.path.as_deref())?,
        options: what.options(),
        range: what.range.map(Text),
    };
    show_pins(request, context).await
}

pub(crate) async fn unpin(
    arguments: UnfollowArguments,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let request = Request::Unpin {
        link: arguments.link,
    };
    for reply in context.ask(request).await? {
        let Reply::Unpinned {
            pins,
            blocks,
            bytes: freed,
        } = &reply
        else {
            return Err(unexpected(&reply));
        };
        if context.output.is_json() {
            context.output.json(&reply)?;
            continue;
        }
        for pin in pins {
            let link = clean(&pin.link);
            context
                .output
                .say(format!("no longer pinned: {link} {}", pin.range));
        }
        context.output.say(format!(
            "given back: {}, {}; own feeds are never touched",
            count(*blocks, "block"),
            bytes(*freed)
        ));
    }
    Ok(())
}

pub(crate) async fn pins(context: &Context<'_>) -> Result<(), Failure> {
    show_pins(Request::Pins, context).await
}

async fn show_pins(request: Request, context: &Context<'_>) -> Result<(), Failure> {
    for reply in context.ask(request).await? {
        let Reply::Pins { pins } = &reply else {
            return Err(unexpected(&reply));
        };
        if context.output.is_json() {
            context.output.json(&reply)?;
            continue;
        }
        if pins.is_empty() {
            context
                .output
                .say("nothing is followed yet: kinlog follow LINK");
        }
        for pin in pins {
            show_pin(pin, context)?;
        }
    }
    Ok(())
}

fn show_pin(pin: &PinInfo, context: &Context<'_>) -> Result<(), Failure> {
    let paint = context.output.paint();
    let live = if pin.live { ", live" } else { "" };
    let deep = match pin.depth {
        0 => String::new(),
        depth => format!(", links {depth} deep"),
    };
    let here = if pin.here { ", here alone" } else { "" };
    context.output.data(&paint.name(&clean(&pin.link)))?;
    context.output.data(&format!(
        "    {}{live}{deep}{here}  {} of {} held  {}",
        pin.range,
        pin.have,
        count(pin.want, "block"),
        paint.faint(&clean(&format!(
            "{}, {}: {}",
            pin.role, pin.tier, pin.reason
        ))),
    ))
}

/// Shows how far follows are: a bar on a terminal, a line per step elsewhere.
struct Shown<'a> {
    context: &'a Context<'a>,
    bar: Progress,
    /// Whether the command goes on when all is there.
    open: bool,
    last: Option<(String, FollowStep, bool, Option<u64>)>,
    complete: bool,
}

impl<'a> Shown<'a> {
    fn new(context: &'a Context<'a>, open: bool) -> Self {
        Shown {
            context,
            bar: context.output.progress(""),
            open,
            last: None,
            complete: false,
        }
    }

    fn progress(&mut self, reply: &Reply) -> Result<(), Failure> {
        let Reply::Follow(now) = reply else {
            return Err(unexpected(reply));
        };
        self.complete = now.complete;
        let output = self.context.output;
        if output.is_json() {
            output.json(reply)?;
            return output.flush();
        }
        if now.step == FollowStep::Blocks && now.want > 0 {
            self.bar.update_blocks(now.have, now.want);
        }
        if now.complete {
            self.bar.clear();
        }
        // What is added to a complete feed is news, each block of a fetch is not.
        let added = now.complete.then_some(now.have);
        let state = (now.link.clone(), now.step, now.nobody, added);
        if self.last.as_ref() == Some(&state) {
            return Ok(());
        }
        self.last = Some(state);
        let line = self.line(now);
        self.bar.suspend(|| {
            output.say(line);
            show_steps(&now.steps, output);
            if !now.steps.is_empty() && self.open {
                output.say("it goes on trying; ctrl-c ends, and `kinlog up` goes on");
            }
        });
        Ok(())
    }

    fn line(&self, now: &FollowProgress) -> String {
        let paint = self.context.output.paint_words();
        let message = clean(&now.message);
        if now.nobody {
            return format!("{} {message}", paint.warn("waiting:"));
        }
        if !now.complete {
            return message;
        }
        let goes_on = if self.open {
            "; what comes later is fetched, ctrl-c ends"
        } else {
            ""
        };
        // The bytes are those of the whole feed.
        let size = if now.have == now.length {
            format!(", {}", bytes(now.bytes))
        } else {
            format!(" of {}", now.length)
        };
        format!(
            "{} {}{size}{goes_on}",
            paint.good("stored:"),
            count(now.have, "block"),
        )
    }
}
