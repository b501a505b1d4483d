//! Following: pins, and how far each is.

mod progress;
mod watch;

use std::sync::Arc;

use kinlog_feeds::FeedKey;

use crate::api::{AnswerSender, Error, PinInfo, PinOptions, Reply, Selection};
use crate::core::Core;
use crate::knowledge::Line;
use crate::limits::{LINK_DEPTH_MAX, PIN_REASON_BYTES_MAX};
use crate::links::Link;
use crate::pins::{Role, blocks};
use crate::requests::{Ended, blocking};
use crate::state::{Pin, PinTarget};
use crate::tasks::Running;

pub(super) use progress::{Counts, Look, counts};

/// Tier of what is public and followed without a closer relationship.
const TIER: &str = "gift";

/// Who a pin is for decides what goes first when room runs out: the last of these.
const TIERS: [&str; 4] = ["sovereign", "reciprocal", "invested", TIER];

pub(super) async fn follow(
    running: &Arc<Running>,
    link: &str,
    selection: Selection,
    once: bool,
    options: PinOptions,
    to: &AnswerSender,
) -> Result<(), Ended> {
    let ends = once || matches!(selection, Selection::Range(_));
    // What is fetched once is for where it is fetched.
    let mut pin = new_pin(selection, !ends, options, "follow")?;
    pin.is_local |= once;
    let pin = add(running, link, pin).await?;
    running.ensure_signals().await?;
    watch::watch(running, vec![pin.clone()], ends, to).await?;
    if !pin.live {
        blocking(&running.core, move |core| settle(core, &pin)).await?;
    }
    Ok(())
}

/// Remembers a pin and answers with it as it is then.
pub(super) async fn pin(
    running: &Arc<Running>,
    link: &str,
    selection: Selection,
    options: PinOptions,
) -> Result<Reply, Error> {
    let live = !matches!(selection, Selection::Range(_));
    let pin = new_pin(selection, live, options, "pin")?;
    let pin = add(running, link, pin).await?;
    let pins = vec![blocking(&running.core, move |core| Ok(pin_info(core, &pin))).await?];
    Ok(Reply::Pins { pins })
}

/// Makes a pin whose target is put in later.
fn new_pin(
    selection: Selection,
    live: bool,
    options: PinOptions,
    reason: &str,
) -> Result<Pin, Error> {
    let tier = options.tier.unwrap_or_else(|| TIER.to_owned());
    if !TIERS.contains(&tier.as_str()) {
        return Err(Error::usage(format!("{tier:?} is no tier"))
            .hint(format!("one of {}", TIERS.join(", "))));
    }
    if options.depth > LINK_DEPTH_MAX {
        return Err(Error::usage(format!(
            "links are followed at most {LINK_DEPTH_MAX} times, not {}",
            options.depth
        )));
    }
    let reason = options.reason.unwrap_or_else(|| reason.to_owned());
    if reason.len() > PIN_REASON_BYTES_MAX || reason.chars().any(char::is_control) {
        return Err(Error::usage(format!(
            "a reason is a line of at most {PIN_REASON_BYTES_MAX} bytes"
        )));
    }
    Ok(Pin {
        target: PinTarget::Feed(FeedKey::default()),
        selection,
        live,
        tier,
        reason,
        depth: options.depth,
        is_local: options.here,
    })
}

/// Puts the blocks that were fetched in place of a pin that was for once: a later start fetches
/// nothing that nobody asked for.
fn settle(core: &Core, pin: &Pin) -> Result<(), Error> {
    let keys = progress::keys(core, pin);
    let ([(key, _)], Selection::All | Selection::Last(_)) = (keys.as_slice(), &pin.selection)
    else {
        return Ok(());
    };
    let held = blocks(&pin.selection, core.feed(key)?.head().length);
    let settled = Pin {
        selection: Selection::Range(held),
        ..pin.clone()
    };
    core.replace_pin(pin, &settled)?;
    core.relearn()?;
    core.replan()
}

pub(super) async fn seed(
    running: &Arc<Running>,
    links: &[String],
    to: &AnswerSender,
) -> Result<(), Ended> {
    let mut pins = Vec::with_capacity(links.len());
    for link in links {
        let pin = Pin {
            target: PinTarget::Feed(FeedKey::default()),
            selection: Selection::All,
            live: true,
            tier: TIER.to_owned(),
            reason: "seed".to_owned(),
            depth: 0,
            is_local: true,
        };
        pins.push(add(running, link, pin).await?);
    }
    if links.is_empty() {
        pins = running.core.knowledge(|knowledge| knowledge.pins.clone());
    }
    if pins.is_empty() {
        return Err(
            Error::usage("nothing to seed: no link was given and nothing is pinned").into(),
        );
    }
    running.ensure_signals().await?;
    watch::watch(running, pins, false, to).await
}

/// Remembers a pin on what a link names, with the link's signal servers.
async fn add(running: &Arc<Running>, link: &str, pin: Pin) -> Result<Pin, Error> {
    let link: Link = link.parse()?;
    blocking(&running.core, move |core| {
        let target = target(core, &link)?;
        for url in link.signal_urls() {
            core.state.add_signal(url)?;
        }
        // What is followed for ever stays so when it is looked at once.
        let known = core.state.pins()?;
        let mut same = known
            .iter()
            .filter(|one| one.target == target && one.selection == pin.selection);
        let live = pin.live || same.clone().any(|one| one.live);
        // And what is kept on all devices stays so.
        let is_local = pin.is_local && same.all(|one| one.is_local);
        let pin = Pin {
            target,
            live,
            is_local,
            ..pin
        };
        core.keep_pin(&pin)?;
        core.relearn()?;
        core.replan()?;
        Ok(pin)
    })
    .await
}

pub(super) fn target(core: &Core, link: &Link) -> Result<PinTarget, Error> {
    match link {
        Link::Agent { agent, path, .. } if *agent == core.agent => {
            // What another device of ours wrote of a path is not here by itself.
            let is_here = path.as_ref().is_none_or(|path| {
                core.knowledge(|knowledge| {
                    let line = knowledge.own_line(path);
                    let is_own = |line: &Line| knowledge.own.contains_key(&line.key);
                    line.map_or(knowledge.own_path(path).is_some(), is_own)
                })
            });
            if is_here {
                return Err(Error::usage(
                    "the link names this agent itself: its feeds are here already",
                )
                .hint("a path of another device of yours can be followed: give its whole link"));
            }
            Ok(PinTarget::Path(*agent, path.clone()))
        }
        Link::Agent { agent, path, .. } => Ok(PinTarget::Path(*agent, path.clone())),
        Link::Feed { key, .. } if core.knowledge(|known| known.own.contains_key(key)) => Err(
            Error::usage("the link names a feed of this agent itself: it is here already"),
        ),
        Link::Feed { key, .. } => Ok(PinTarget::Feed(*key)),
        Link::Join(_) => {
            Err(Error::usage("the link is an invitation to a room").hint("`kinlog room join LINK`"))
        }
        Link::Grant(_) => {
            Err(Error::usage("the link is a seed grant for a room")
                .hint("`kinlog seed accept LINK`"))
        }
    }
}

pub(super) fn unfollow(core: &Core, link: &str) -> Result<Reply, Error> {
    let target = target(core, &link.parse()?)?;
    let removed = core.drop_pins(&target)?;
    if removed.is_empty() {
        return Err(
            Error::not_found(format!("nothing is pinned by {}", link_of(&target)))
                .hint("`kinlog pins` shows what is"),
        );
    }
    let pins = removed.iter().map(|pin| pin_info(core, pin)).collect();
    core.relearn()?;
    core.replan()?;
    Ok(Reply::Pins { pins })
}

pub(super) fn pins(core: &Core) -> Result<Reply, Error> {
    let known = core.knowledge(|knowledge| knowledge.pins.clone());
    let mut pins: Vec<PinInfo> = known.iter().map(|pin| pin_info(core, pin)).collect();
    let plan = core.plan();
    for (key, why) in &plan.why {
        let Some(agent) = core.knowledge(|knowledge| knowledge.directory_of(key)) else {
            continue;
        };
        if agent == core.agent {
            continue;
        }
        let counts = counts(core, key, &Selection::All);
        pins.push(PinInfo {
            link: Link::Agent {
                agent,
                path: None,
                signal_urls: Vec::new(),
            }
            .to_string(),
            agent: Some(agent.into()),
            path: None,
            key: Some((*key).into()),
            range: Selection::All.into(),
            live: true,
            tier: TIER.to_owned(),
            reason: why.join("; "),
            depth: 0,
            here: false,
            role: core.role_of(key).to_owned(),
            length: counts.length,
            have: counts.have,
            want: counts.want,
        });
    }
    Ok(Reply::Pins { pins })
}

pub(super) fn pin_info(core: &Core, pin: &Pin) -> PinInfo {
    let keys = progress::keys(core, pin);
    let mut sum = progress::Counts::default();
    for (key, selection) in &keys {
        sum.add(&counts(core, key, selection));
    }
    let (agent, path) = match &pin.target {
        PinTarget::Path(agent, path) => (Some((*agent).into()), path.as_ref()),
        PinTarget::Feed(_) => (None, None),
    };
    PinInfo {
        link: link_of(&pin.target).to_string(),
        agent,
        path: path.map(ToString::to_string),
        key: match keys.as_slice() {
            [(key, _)] => Some((*key).into()),
            _ => None,
        },
        range: pin.selection.clone().into(),
        live: pin.live,
        tier: pin.tier.clone(),
        reason: pin.reason.clone(),
        depth: pin.depth,
        here: pin.is_local,
        role: Role::of(pin).as_str().to_owned(),
        length: sum.length,
        have: sum.have,
        want: sum.want,
    }
}

/// Returns the link a pin is known by.
pub(super) fn link_of(target: &PinTarget) -> Link {
    let signal_urls = Vec::new();
    match target.clone() {
        PinTarget::Path(agent, path) => Link::Agent {
            agent,
            path,
            signal_urls,
        },
        PinTarget::Feed(key) => Link::Feed { key, signal_urls },
    }
}
