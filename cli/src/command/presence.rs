//! `kinlog presence` and `kinlog typing`: how one shows oneself; and the line below a room that is watched.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use kinlog_agent::api::{PresenceInfo, PresenceState, Reply, Request, Stance};

use crate::command::unexpected;
use crate::error::Failure;
use crate::output::{clean, count};
use crate::target::Context;

/// People who are named on the line; of more the number is said.
const NAMED_MAX: usize = 3;

#[derive(Args, Debug)]
pub(crate) struct PresenceArguments {
    /// How to show this device from now on
    stance: Option<Shown>,
}

/// How a device shows itself.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shown {
    /// There
    Online,
    /// There, and nobody sits before it
    Away,
    /// Not at all, nor that you type; whoever is connected sees the connection
    Off,
}

#[derive(Args, Debug)]
pub(crate) struct TypingArguments {
    /// Name, code or id of the room
    room: String,

    /// No longer
    #[arg(long)]
    stop: bool,
}

pub(crate) async fn stance(
    arguments: PresenceArguments,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let set = arguments.stance.map(|shown| match shown {
        Shown::Online => Stance::Online,
        Shown::Away => Stance::Away,
        Shown::Off => Stance::Off,
    });
    for reply in context.ask(Request::Stance { set }).await? {
        let Reply::Stance { stance } = &reply else {
            return Err(unexpected(&reply));
        };
        let (output, stance) = (context.output, *stance);
        if output.is_json() {
            output.json(&reply)?;
            continue;
        }
        output.data(match stance {
            Stance::Online => "online",
            Stance::Away => "away",
            Stance::Off => "off",
        })?;
        output.say(match stance {
            Stance::Online | Stance::Away => {
                "members of your rooms who are connected are told so; it is stored nowhere"
            }
            Stance::Off => {
                "nobody is told whether you are there or type; who is connected sees the connection"
            }
        });
    }
    Ok(())
}

pub(crate) async fn typing(
    arguments: TypingArguments,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let TypingArguments { room, stop } = arguments;
    for reply in context.ask(Request::Typing { room, stop }).await? {
        let Reply::TypingTold { room, told } = &reply else {
            return Err(unexpected(&reply));
        };
        let output = context.output;
        if output.is_json() {
            output.json(&reply)?;
            continue;
        }
        output.say(match told {
            0 => format!("nobody in {} can hear it now", clean(room)),
            told => format!(
                "told {} in {}",
                count(*told, "connected device"),
                clean(room)
            ),
        });
    }
    Ok(())
}

/// Who types in a room that is watched.
#[derive(Debug, Default)]
pub(crate) struct Typists(BTreeMap<String, String>);

impl Typists {
    pub(crate) fn take(&mut self, info: &PresenceInfo) {
        match info.state {
            PresenceState::Typing => self.0.insert(info.agent.clone(), clean(&info.name)),
            _ => self.0.remove(&info.agent),
        };
    }

    /// Returns the line about them; `None` when nobody types.
    pub(crate) fn line(&self) -> Option<String> {
        let names: Vec<&str> = self.0.values().map(String::as_str).collect();
        match names.as_slice() {
            [] => None,
            [one] => Some(format!("{one} is typing \u{2026}")),
            [more @ .., last] if names.len() <= NAMED_MAX => Some(format!(
                "{} and {last} are typing \u{2026}",
                more.join(", ")
            )),
            _ => Some(format!("{} people are typing \u{2026}", names.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_who_type_are_named_and_many_counted() {
        let mut typists = Typists::default();
        let mut say = |name: &str, state| {
            typists.take(&PresenceInfo {
                room: "kitchen".to_owned(),
                agent: name.to_owned(),
                name: name.to_owned(),
                state,
            });
            typists.line().unwrap_or_default()
        };
        assert_eq!(say("Ada", PresenceState::Online), "");
        assert_eq!(say("Ada", PresenceState::Typing), "Ada is typing \u{2026}");
        assert_eq!(
            say("Ben", PresenceState::Typing),
            "Ada and Ben are typing \u{2026}"
        );
        say("Cleo\u{1b}[2J", PresenceState::Typing);
        let three = say("Ben", PresenceState::Typing);
        assert!(three.starts_with("Ada, Ben and Cleo"), "{three}");
        assert!(!three.contains('\u{1b}'), "{three:?}");
        assert_eq!(
            say("Dan", PresenceState::Typing),
            "4 people are typing \u{2026}"
        );
        say("Dan", PresenceState::Silent);
        say("Cleo\u{1b}[2J", PresenceState::Away);
        say("Ada", PresenceState::Online);
        assert_eq!(say("Ben", PresenceState::Silent), "");
    }
}
