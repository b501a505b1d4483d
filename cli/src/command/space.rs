//! What `feed clear` and `feed drop` tell.

use kinlog_agent::api::{Reply, Request};

use crate::command::unexpected;
use crate::error::Failure;
use crate::output::{bytes, count};
use crate::target::Context;

pub(crate) async fn cleared(request: Request, context: &Context<'_>) -> Result<(), Failure> {
    let output = context.output;
    for reply in context.ask(request).await? {
        if output.is_json() {
            output.json(&reply)?;
            continue;
        }
        let Reply::Cleared {
            range,
            blocks,
            bytes: size,
            wanted,
            everywhere,
            ..
        } = &reply
        else {
            return Err(unexpected(&reply));
        };
        let then = match everywhere {
            true => {
                "whoever follows the feed hears of it in your directory and gives them up a day later"
            }
            false => "proofs and length stay, so that they can be fetched again",
        };
        output.say(format!(
            "{} of {range} given up, {}; {then}",
            count(*blocks, "block"),
            bytes(*size)
        ));
        if *wanted {
            output.say("a pin asks for some of them: they are fetched again (kinlog pins)");
        }
    }
    Ok(())
}

pub(crate) async fn dropped(request: Request, context: &Context<'_>) -> Result<(), Failure> {
    let output = context.output;
    for reply in context.ask(request).await? {
        if output.is_json() {
            output.json(&reply)?;
            continue;
        }
        let Reply::Dropped {
            blocks,
            bytes: size,
            ..
        } = &reply
        else {
            return Err(unexpected(&reply));
        };
        output.say(format!(
            "the feed is gone with {}, {}; kinlog store compact gives the space back",
            count(*blocks, "block"),
            bytes(*size)
        ));
    }
    Ok(())
}
