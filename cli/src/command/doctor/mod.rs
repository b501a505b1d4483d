//! `kinlog doctor`: everything that connecting needs, each with what to do about it.

mod machine;
mod network;
mod stun;

use clap::Args;
use kinlog_agent::api::{DoctorInfo, EgressInfo, Reply, Request};
use serde::Serialize;

use crate::command::unexpected;
use crate::error::Failure;
use crate::output::{ago, clean, count, cut};
use crate::target::{Context, Session};

/// Columns of a terminal, and those of the sentence in it.
const COLUMNS: usize = 80;
const TEXT_COLUMNS: usize = 65;

#[derive(Args, Debug)]
pub(crate) struct DoctorArguments {
    /// List every host that this home contacted, and why, instead
    #[arg(long)]
    egress: bool,
}

/// How something is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Health {
    /// Nothing to do.
    Ok,
    /// It works, and could work better, or could not be told.
    Warn,
    /// It keeps people from meeting.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    name: &'static str,
    health: Health,
    /// One sentence.
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Check {
    fn new(name: &'static str, health: Health, found: impl Into<String>) -> Check {
        Check {
            name,
            health,
            found: found.into(),
            hint: None,
        }
    }

    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Check {
        Check::new(name, Health::Ok, found)
    }

    pub(super) fn warn(name: &'static str, found: impl Into<String>) -> Check {
        Check::new(name, Health::Warn, found)
    }

    pub(super) fn bad(name: &'static str, found: impl Into<String>) -> Check {
        Check::new(name, Health::Bad, found)
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Check {
        self.hint = Some(hint.into());
        self
    }
}

/// Everything, as `--json` prints it.
#[derive(Serialize)]
struct Report<'a> {
    reply: &'static str,
    checks: &'a [Check],
}

pub(crate) async fn run(arguments: DoctorArguments, context: &Context<'_>) -> Result<(), Failure> {
    if arguments.egress {
        return egress(context).await;
    }
    let mut checks = Vec::new();
    let agent = match ask(context).await {
        Ok((agent, runs)) => {
            checks.push(home(&agent, runs, context));
            Some((agent, runs))
        }
        Err(Failure::Agent(error)) => {
            let check = Check::bad("home", error.message);
            let hint = error
                .hint
                .unwrap_or_else(|| "kinlog init makes one".to_owned());
            checks.push(check.hint(hint));
            None
        }
        Err(other) => return Err(other),
    };
    let known = agent.as_ref().map(|(agent, _)| agent);
    checks.extend(machine::checks(&context.home, known));
    checks.extend(network::checks(known).await);
    if let Some(agent) = known {
        checks.extend(stun::checks(&agent.stun_urls).await);
        checks.extend(stun::relays(&agent.turn_urls).await);
    }
    show(&checks, context)
}

/// Asks the agent, and returns whether one runs.
async fn ask(context: &Context<'_>) -> Result<(DoctorInfo, bool), Failure> {
    let session = Session::open(context).await?;
    let runs = session.is_running();
    let reply = session.request(Request::Doctor).last().await;
    session.close().await?;
    match reply?.reply {
        Reply::Doctor(agent) => Ok((*agent, runs)),
        reply => Err(unexpected(&reply)),
    }
}

fn home(agent: &DoctorInfo, runs: bool, context: &Context<'_>) -> Check {
    let home = context.home.display();
    let own = env!("CARGO_PKG_VERSION");
    match runs {
        true if agent.version != own => Check::warn(
            "home",
            format!(
                "{home}, held by process {} of version {}; this command is {own}",
                agent.pid, agent.version
            ),
        )
        .hint("restart `kinlog up`"),
        true => Check::ok(
            "home",
            format!(
                "{home}, kinlog {own} runs as process {}, {} open",
                agent.pid,
                count(agent.sessions, "connection")
            ),
        ),
        false => Check::warn("home", format!("{home} opens; no agent is running"))
            .hint("kinlog up starts it: what only a running agent knows is left out here"),
    }
}

fn show(checks: &[Check], context: &Context<'_>) -> Result<(), Failure> {
    let output = context.output;
    if output.is_json() {
        let reply = "doctor_report";
        return output.json(&Report { reply, checks });
    }
    let paint = output.paint();
    for check in checks {
        let mark = match check.health {
            Health::Ok => paint.good("ok  "),
            Health::Warn => paint.warn("warn"),
            Health::Bad => paint.bad("bad "),
        };
        let name = paint.strong(&format!("{:<9}", check.name));
        let found = wrapped(&clean(&check.found), TEXT_COLUMNS);
        let gap = " ".repeat(COLUMNS - TEXT_COLUMNS);
        for (number, line) in found.iter().enumerate() {
            match number {
                0 => output.data(&format!("{mark} {name} {line}"))?,
                _ => output.data(&format!("{gap}{line}"))?,
            }
        }
        let hint = check.hint.as_deref().unwrap_or_default();
        for line in wrapped(&clean(hint), TEXT_COLUMNS) {
            output.data(&format!("{gap}{}", paint.faint(&line)))?;
        }
    }
    let of = |health: Health| checks.iter().filter(|one| one.health == health).count() as u64;
    output.say(match (of(Health::Bad), of(Health::Warn)) {
        (0, 0) => "nothing is wrong".to_owned(),
        (0, warns) => format!(
            "nothing keeps you from connecting; {}",
            count(warns, "warning")
        ),
        (bad, _) => format!("{} to look at", count(bad, "thing")),
    });
    Ok(())
}

/// Returns a text in lines of at most so many characters, where its words allow it.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

async fn egress(context: &Context<'_>) -> Result<(), Failure> {
    let output = context.output;
    for reply in context.ask(Request::Egress).await? {
        let Reply::Egress { hosts } = &reply else {
            return Err(unexpected(&reply));
        };
        if output.is_json() {
            output.json(&reply)?;
            continue;
        }
        if hosts.is_empty() {
            output.say("this home has contacted nobody");
        }
        for host in hosts {
            output.data(&host_line(host))?;
        }
        output.say("kept on this machine alone, at most 1000 of them");
    }
    Ok(())
}

fn host_line(host: &EgressInfo) -> String {
    format!(
        "{:<34} {:<12} {}",
        cut(&clean(&host.host), 34),
        ago(host.last_ms),
        clean(&host.why)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_wrapped_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("endlessly long", 3), ["endlessly", "long"]);
        assert_eq!(wrapped("", 3), [""; 0]);
    }
}
