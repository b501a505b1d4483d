//! `kinlog recover`: a new device by the 24 words.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use kinlog_agent::NetworkConfig;
use kinlog_agent::home::{Phrase, Recover, check, recover};
use kinlog_agent::limits::RECOVER_WAIT;
use kinlog_agent::linking::fetch_identity;
use kinlog_agent::links::Link;
use kinlog_feeds::crypto::AgentId;

use crate::command::init::{default_name, keep_phrase};
use crate::error::Failure;
use crate::output::{clean, short_key};
use crate::target::{Context, blocking, interrupted, looks_at_lan};
use crate::words::read_phrase;

#[derive(Args, Debug)]
pub(crate) struct RecoverArguments {
    /// What the new device is called
    #[arg(long)]
    name: Option<String>,

    /// The agent's link; needed when its words were replaced before
    #[arg(long, value_name = "LINK")]
    agent: Option<String>,

    /// Signal server to find others at who hold the identity
    #[arg(long = "signal", value_name = "URL")]
    signals: Vec<String>,

    /// Seconds to look for them
    #[arg(long, value_name = "SECONDS", default_value_t = RECOVER_WAIT.as_secs())]
    wait: u64,

    /// Revoke every other device
    #[arg(long)]
    revoke_others: bool,

    /// Revoke this device, by name or key; may be given several times
    #[arg(long, value_name = "DEVICE", conflicts_with = "revoke_others")]
    revoke: Vec<String>,

    /// Make 24 new words, and let the old ones speak no more
    #[arg(long)]
    replace_root: bool,

    /// Write the new words into this new file instead of showing them
    #[arg(long, value_name = "FILE", requires = "replace_root")]
    phrase_file: Option<PathBuf>,
}

pub(crate) async fn run(arguments: RecoverArguments, context: &Context<'_>) -> Result<(), Failure> {
    let output = context.output;
    let name = arguments.name.unwrap_or_else(default_name);
    check(&context.home, &name)?;
    let given = arguments.agent.as_deref().map(str::parse::<Link>);
    let given = given
        .transpose()
        .map_err(|error| Failure::from(kinlog_agent::api::Error::from(error)))?;
    let (given, mut signals) = match &given {
        None => (None, Vec::new()),
        Some(Link::Agent {
            agent, signal_urls, ..
        }) => (Some(*agent), signal_urls.clone()),
        Some(_) => {
            return Err(Failure::usage("--agent takes the link of an agent")
                .hint("kinlog://agent/..., as `kinlog id` shows it"));
        }
    };
    signals.extend(arguments.signals);
    let phrase = read_phrase(output).await?;
    let agent = given.unwrap_or_else(|| AgentId(phrase.root().public_key().0));
    let fetched = if signals.is_empty() {
        None
    } else {
        output.say("looking for others who hold the identity");
        let network = NetworkConfig {
            lan: looks_at_lan(),
            signal_urls: signals.clone(),
            ..NetworkConfig::default()
        };
        let wait = Duration::from_secs(arguments.wait);
        tokio::select! {
            () = interrupted() => return Err(Failure::Interrupted),
            fetched = fetch_identity(&context.home, agent, network, wait) => fetched?,
        }
    };
    if fetched.is_none() && given.is_some_and(|given| given.0 != phrase.root().public_key().0) {
        return Err(Failure::new(
            kinlog_agent::api::ErrorKind::NoPeers,
            "nobody was found who holds the identity of that agent",
        )
        .hint("these words replaced others: somebody who knows the agent has to be online, --signal URL"));
    }
    let next = match arguments.replace_root {
        true => Some(keep_phrase(arguments.phrase_file.as_deref(), context).await?),
        false => None,
    };
    let written = next.as_ref().and_then(|(_, file)| file.clone());
    let options = Recover {
        name,
        revoke_others: arguments.revoke_others,
        revoke: arguments.revoke,
        replace_root: next.map(|(phrase, _): (Phrase, _)| phrase),
        signal_urls: signals,
    };
    let (home, state) = (context.home.clone(), context.state.clone());
    let made = blocking(move || Ok(recover(&home, &state, &phrase, fetched, options)?)).await;
    let made = match made {
        Ok(made) => made,
        Err(error) => {
            // Words that speak for nobody would mislead whoever finds them.
            if let Some(file) = &written {
                let _ = std::fs::remove_file(file);
            }
            return Err(error);
        }
    };
    if output.is_json() {
        return output.json(&made);
    }
    let paint = output.paint_words();
    output.say(format!(
        "{} is back in {}: device {} ({})",
        paint.strong(&clean(&made.made.name)),
        context.home.display(),
        paint.strong(&clean(&made.device_name)),
        short_key(&made.made.device),
    ));
    match (made.found_others, made.others.len()) {
        (false, _) => output.say(
            "nobody was met who holds the identity: `kinlog up --signal URL` makes the new device known",
        ),
        (true, 0) => output.say("it is the only device"),
        (true, _) => output.say(format!("other devices: {}", clean(&made.others.join(", ")))),
    }
    if !made.revoked.is_empty() {
        output.say(format!("revoked: {}", clean(&made.revoked.join(", "))));
    }
    if made.replaced_root {
        output.say("the old 24 words speak no more; safety numbers change, tell your contacts");
    }
    output.data(&made.made.link)
}
