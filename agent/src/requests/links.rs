//! Linking another device: show a code, take its request, add it when the words were compared.

use std::sync::Arc;
use std::time::Duration;

use kinlog_feeds::text::{decode_hex, encode_hex};
use kinlog_indexer::identity::Powers;
use tokio::time::{Instant, sleep_until};

use crate::api::{AnswerSender, Error, Reply};
use crate::core::Core;
use crate::requests::{Ended, blocking};
use crate::tasks::Running;
use crate::wall_ms;

pub(super) async fn open(
    running: &Arc<Running>,
    powers: Vec<String>,
    wait: bool,
    to: &AnswerSender,
) -> Result<(), Ended> {
    let powers = read_powers(&powers)?;
    let core = &running.core;
    if wait {
        running.ensure_signals().await?;
    }
    let mut changes = core.changes();
    let mut identity = core.device_changes();
    let (code, link) = blocking(core, move |core| {
        Ok((core.open_link(powers)?, core.link()?))
    })
    .await?;
    let until_ms = link.until_ms;
    let code_shown = Reply::LinkCode {
        code: code.to_string(),
        until_ms,
    };
    to.reply(code_shown).await?;
    if !wait {
        return Ok(());
    }
    let until = Instant::now() + Duration::from_millis(until_ms.saturating_sub(wall_ms()));
    let mut told = None;
    loop {
        changes.borrow_and_update();
        let link = core.knowledge(|knowledge| knowledge.link.clone());
        let asked = match &link {
            Some(link) if link.code == code => {
                let asked = link.asked.as_ref();
                asked.map(|request| (request.card.device, link.info(request)))
            }
            // It is closed: because a device was added, or because something failed.
            _ => {
                let added = told.and_then(|device| {
                    let identity = core.own_identity().ok()?;
                    identity.device(&device).cloned()
                });
                let Some(added) = added else {
                    let spent = Error::verification("the code is spent: no device was added");
                    return Err(spent.hint("`kinlog device link` makes a new one").into());
                };
                let linked = Reply::Linked {
                    device: added.key.into(),
                    name: added.name,
                    answer: String::new(),
                };
                return Ok(to.reply(linked).await?);
            }
        };
        if let (None, Some((device, info))) = (told, asked) {
            told = Some(device);
            to.reply(Reply::LinkAsked(info)).await?;
        }
        tokio::select! {
            // The agent is closed.
            changed = changes.changed() => if changed.is_err() { return Ok(()) },
            // A slow watcher looks again all the same.
            _ = identity.recv() => {}
            () = sleep_until(until) => {
                blocking(core, |core| core.close_link()).await?;
                return Err(Error::no_peers("no device asked by the code within ten minutes")
                    .hint("`kinlog device link` makes a new one")
                    .into());
            }
        }
    }
}

pub(super) fn ask(core: &Core, request: &str) -> Result<Reply, Error> {
    let request = decode_hex(request)
        .map_err(|_| Error::usage("the request is not hex: a character was lost or changed"))?;
    Ok(Reply::LinkAsked(core.ask_link(&request)?))
}

pub(super) fn confirm(core: &Core, words: &str) -> Result<Reply, Error> {
    let (request, answer) = core.confirm_link(words)?;
    Ok(Reply::Linked {
        device: request.card.device.into(),
        name: request.name,
        answer: encode_hex(&answer),
    })
}

fn read_powers(words: &[String]) -> Result<Option<Powers>, Error> {
    if words.is_empty() {
        return Ok(None);
    }
    let mut powers = Powers::default();
    for word in words {
        let power = [Powers::WRITE, Powers::ADD, Powers::REVOKE]
            .into_iter()
            .find(|power| power.words() == [word.as_str()]);
        let power = power.ok_or_else(|| {
            Error::usage(format!(
                "{word:?} is no power: expected write, add or revoke"
            ))
        })?;
        powers = powers.with(power);
    }
    Ok(Some(powers))
}
