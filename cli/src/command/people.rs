//! `kinlog profile`, `contact`, `preference`, `vouch` and `attest`: what you say of yourself and of others, and
//! what you keep for yourself.

use clap::{Args, Subcommand};
use kinlog_agent::api::{
    ClaimInfo, ContactInfo, PreferenceInfo, ProfileInfo, Reply, Request, VouchInfo,
};

use crate::command::unexpected;
use crate::error::Failure;
use crate::output::{clean, date};
use crate::target::Context;

#[derive(Debug, Subcommand)]
pub(crate) enum ProfileCommand {
    /// Show what you, or another agent, say of yourselves
    Show {
        /// Agent, by link, key or name [default: this one]
        agent: Option<String>,
    },
    /// Change what you call yourself; everybody who follows you sees it
    Set(ProfileArguments),
}

#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
pub(crate) struct ProfileArguments {
    /// What you call yourself
    #[arg(long)]
    name: Option<String>,

    /// A few words about yourself
    #[arg(long, value_name = "TEXT")]
    about: Option<String>,

    /// Signal server at which whoever follows you meets you, up to four; those listed before go
    #[arg(long = "signal", value_name = "URL")]
    signals: Vec<String>,

    /// List no signal server any more
    #[arg(long, conflicts_with = "signals")]
    no_signals: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ContactCommand {
    /// Give an agent a name of your own, which is shown wherever it is
    Add(ContactArguments),
    /// Show your contacts
    List,
    /// Give a contact another name
    Name(ContactArguments),
    /// Remove a contact: it is shown as it calls itself
    Remove {
        /// Agent, by link, key or name
        agent: String,
    },
}

#[derive(Args, Debug)]
pub(crate) struct ContactArguments {
    /// Agent, by link, key or name
    agent: String,

    /// What you call it; only your own devices see that
    petname: String,

    /// A few words for yourself
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PreferenceCommand {
    /// Set a preference on all your devices
    Set {
        /// Name, such as read.last
        name: String,
        /// Value; empty takes it back
        value: String,
    },
    /// Show one
    Get {
        /// Name
        name: String,
    },
    /// Show all
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum VouchCommand {
    /// Say in public that you trust an agent
    For {
        /// Agent, by link, key or name
        agent: String,
        /// Why
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Take it back, or say that you do not trust it
    Against {
        /// Agent, by link, key or name
        agent: String,
        /// Why
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Show who vouches for whom, as far as that is known here
    List(ByAbout),
}

#[derive(Debug, Subcommand)]
pub(crate) enum AttestCommand {
    /// Claim something about an agent in public
    Agent {
        /// Agent, by link, key or name
        agent: String,
        /// What you claim
        text: String,
    },
    /// Say in public that you saw what a message or a block says
    Witness {
        /// FEED#INDEX, or a message with --room
        entry: String,
        /// What you saw
        text: String,
        /// Room of the message
        #[arg(long)]
        room: Option<String>,
    },
    /// Show claims, newest first, as far as they are known here
    List(ByAbout),
}

#[derive(Args, Debug)]
pub(crate) struct ByAbout {
    /// Only what this agent says
    #[arg(long, value_name = "AGENT")]
    by: Option<String>,

    /// Only what is said about this agent
    #[arg(long, value_name = "AGENT")]
    about: Option<String>,
}

pub(crate) async fn profile(command: ProfileCommand, context: &Context<'_>) -> Result<(), Failure> {
    let request = match command {
        ProfileCommand::Show { agent } => Request::Profile { of: agent },
        ProfileCommand::Set(said) => Request::ProfileSet {
            name: said.name,
            about: said.about,
            signal_urls: (said.no_signals || !said.signals.is_empty()).then_some(said.signals),
        },
    };
    show(request, context).await
}

pub(crate) async fn contact(command: ContactCommand, context: &Context<'_>) -> Result<(), Failure> {
    let request = match command {
        ContactCommand::Add(contact) | ContactCommand::Name(contact) => Request::ContactSet {
            who: contact.agent,
            petname: contact.petname,
            note: contact.note,
        },
        ContactCommand::List => Request::Contacts,
        ContactCommand::Remove { agent } => {
            return removed(Request::ContactRemove { who: agent }, context).await;
        }
    };
    show(request, context).await
}

pub(crate) async fn preference(
    command: PreferenceCommand,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let request = match command {
        PreferenceCommand::Set { name, value } => Request::PreferenceSet {
            name,
            value: Some(value).filter(|value| !value.is_empty()),
        },
        PreferenceCommand::Get { name } => Request::Preferences { name: Some(name) },
        PreferenceCommand::List => Request::Preferences { name: None },
    };
    show(request, context).await
}

pub(crate) async fn vouch(command: VouchCommand, context: &Context<'_>) -> Result<(), Failure> {
    let vouch = |who, trusted, reason| Request::Vouch {
        who,
        trusted,
        reason,
    };
    let request = match command {
        VouchCommand::For { agent, reason } => vouch(agent, true, reason),
        VouchCommand::Against { agent, reason } => vouch(agent, false, reason),
        VouchCommand::List(ByAbout { by, about }) => Request::Vouches { by, about },
    };
    show(request, context).await
}

pub(crate) async fn attest(command: AttestCommand, context: &Context<'_>) -> Result<(), Failure> {
    let request = match command {
        AttestCommand::Agent { agent, text } => Request::Attest { who: agent, text },
        AttestCommand::Witness { entry, text, room } => Request::Witness { entry, room, text },
        AttestCommand::List(ByAbout { by, about }) => Request::Claims { by, about },
    };
    show(request, context).await
}

async fn removed(request: Request, context: &Context<'_>) -> Result<(), Failure> {
    for reply in context.ask(request).await? {
        let Reply::Contacts { contacts } = &reply else {
            return Err(unexpected(&reply));
        };
        if context.output.is_json() {
            context.output.json(&reply)?;
            continue;
        }
        for contact in contacts {
            context.output.say(format!(
                "{} is no contact any more: it is shown as it calls itself",
                clean(&contact.petname)
            ));
        }
    }
    Ok(())
}

async fn show(request: Request, context: &Context<'_>) -> Result<(), Failure> {
    for reply in context.ask(request).await? {
        if context.output.is_json() {
            context.output.json(&reply)?;
            continue;
        }
        let output = context.output;
        match &reply {
            Reply::Profile(profile) => show_profile(profile, context)?,
            Reply::Contacts { contacts } if contacts.is_empty() => {
                output.say("no contacts yet: kinlog contact add AGENT NAME");
            }
            Reply::Contacts { contacts } => {
                contacts
                    .iter()
                    .try_for_each(|one| show_contact(one, context))?;
            }
            Reply::Preferences { preferences } if preferences.is_empty() => {
                output.say("nothing is set: kinlog preference set NAME VALUE");
            }
            Reply::Preferences { preferences } => {
                preferences
                    .iter()
                    .try_for_each(|one| show_preference(one, context))?;
            }
            Reply::Vouches { vouches } if vouches.is_empty() => {
                output.say("nobody known vouches for anybody");
            }
            Reply::Vouches { vouches } => {
                vouches
                    .iter()
                    .try_for_each(|one| show_vouch(one, context))?;
            }
            Reply::Claims { claims } if claims.is_empty() => {
                output.say("nobody known claims anything");
            }
            Reply::Claims { claims } => {
                claims.iter().try_for_each(|one| show_claim(one, context))?;
            }
            other => return Err(unexpected(other)),
        }
    }
    Ok(())
}

fn show_profile(profile: &ProfileInfo, context: &Context<'_>) -> Result<(), Failure> {
    let paint = context.output.paint();
    let row = |name: &str, value: String| context.output.data(&format!("{name:<10}{value}"));
    row("name", paint.strong(&clean(&profile.name)))?;
    if let Some(petname) = &profile.petname {
        row("petname", paint.strong(&clean(petname)))?;
    }
    if !profile.about.is_empty() {
        row("about", clean(&profile.about))?;
    }
    for url in &profile.signal_urls {
        row("met at", clean(url))?;
    }
    row("agent", profile.agent.to_string())?;
    match profile.updated_at_ms {
        Some(ms) => row("said", date(ms)),
        None => Ok(()),
    }
}

fn show_contact(contact: &ContactInfo, context: &Context<'_>) -> Result<(), Failure> {
    let paint = context.output.paint();
    let itself = match &contact.name {
        Some(name) => format!("  calls itself {}", clean(name)),
        None => String::new(),
    };
    context.output.data(&format!(
        "{}  {}{itself}",
        paint.strong(&clean(&contact.petname)),
        paint.faint(&contact.agent.to_string()),
    ))?;
    match contact.note.is_empty() {
        true => Ok(()),
        false => context
            .output
            .data(&format!("    {}", clean(&contact.note))),
    }
}

fn show_preference(preference: &PreferenceInfo, context: &Context<'_>) -> Result<(), Failure> {
    context.output.data(&format!(
        "{} = {}",
        context.output.paint().name(&clean(&preference.name)),
        clean(&preference.value)
    ))
}

fn show_vouch(vouch: &VouchInfo, context: &Context<'_>) -> Result<(), Failure> {
    let paint = context.output.paint();
    let said = match vouch.trusted {
        true => paint.good("trusts"),
        false => paint.bad("does not trust"),
    };
    let reason = match vouch.reason.is_empty() {
        true => String::new(),
        false => format!(": {}", clean(&vouch.reason)),
    };
    context.output.data(&format!(
        "{} {said} {}{reason}  {}",
        paint.strong(&clean(&vouch.by_name)),
        paint.strong(&clean(&vouch.about_name)),
        paint.faint(&date(vouch.updated_at_ms)),
    ))
}

fn show_claim(claim: &ClaimInfo, context: &Context<'_>) -> Result<(), Failure> {
    let paint = context.output.paint();
    let about = match (&claim.about_name, &claim.feed, claim.index) {
        (Some(name), ..) => clean(name),
        (None, Some(feed), Some(index)) => format!("{feed}#{index}"),
        _ => String::new(),
    };
    let verb = match claim.about_name {
        Some(_) => "about",
        None => "saw",
    };
    context.output.data(&format!(
        "{} {verb} {}: {}  {}",
        paint.strong(&clean(&claim.by_name)),
        paint.strong(&about),
        clean(&claim.text),
        paint.faint(&date(claim.created_at_ms)),
    ))
}
