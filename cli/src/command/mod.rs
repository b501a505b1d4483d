//! What each command does, one family a file.

mod append;
pub(crate) mod backup;
pub(crate) mod bundle;
pub(crate) mod conflicts;
pub(crate) mod device;
pub(crate) mod doctor;
pub(crate) mod feed;
pub(crate) mod follow;
mod grant;
pub(crate) mod id;
pub(crate) mod index;
pub(crate) mod init;
pub(crate) mod link;
pub(crate) mod lock;
pub(crate) mod message;
pub(crate) mod pair;
pub(crate) mod peers;
pub(crate) mod people;
pub(crate) mod ping;
pub(crate) mod presence;
pub(crate) mod publish;
pub(crate) mod recover;
pub(crate) mod room;
mod seeding;
pub(crate) mod sign_in;
pub(crate) mod signal;
pub(crate) mod space;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod tcp;
pub(crate) mod up;
pub(crate) mod value_conflicts;

use kinlog_agent::api::Reply;

use crate::arguments::{Arguments, Command};
use crate::demo;
use crate::error::Failure;
use crate::home::{home, state};
use crate::output::Output;
use crate::target::Context;

/// Runs one command to its end.
pub(crate) fn run(arguments: Arguments, output: &Output) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("threads", &error))?;
    let result = runtime.block_on(dispatch(arguments, output));
    // A thread that waits for a key press would hold up the end.
    runtime.shutdown_background();
    result?;
    output.flush()
}

async fn dispatch(arguments: Arguments, output: &Output) -> Result<(), Failure> {
    let global = arguments.global;
    let context = || {
        Ok::<_, Failure>(Context {
            home: home(&global)?,
            state: state(&global)?,
            output,
        })
    };
    match arguments.command {
        Command::Init(arguments) => init::run(arguments, &context()?).await,
        Command::Recover(arguments) => recover::run(arguments, &context()?).await,
        Command::Id(arguments) => id::run(arguments, &context()?).await,
        Command::Up(arguments) => up::run(arguments, &context()?).await,
        Command::Doctor(arguments) => doctor::run(arguments, &context()?).await,
        Command::Pair(command) => pair::run(command, &context()?).await,
        Command::Peers(arguments) => peers::run(arguments, &context()?).await,
        Command::Ping(arguments) => ping::run(arguments, &context()?).await,
        Command::Presence(arguments) => presence::stance(arguments, &context()?).await,
        Command::Typing(arguments) => presence::typing(arguments, &context()?).await,
        Command::Status => status::run(&context()?).await,
        Command::Device { command } => device::run(command, &context()?).await,
        Command::SignIn { command } => sign_in::run(command, &context()?).await,
        Command::Lock => lock::lock(&context()?).await,
        Command::Unlock(arguments) => lock::unlock(arguments, &context()?).await,
        Command::Passphrase { command } => lock::passphrase(command, &context()?).await,
        Command::Backup(command) => backup::run(command, &context()?).await,
        Command::Feed(command) => feed::run(command, &context()?).await,
        Command::Store(command) => store::run(command, &context()?).await,
        Command::Publish(arguments) => publish::run(arguments, &context()?).await,
        Command::Follow(arguments) => follow::follow(arguments, &context()?).await,
        Command::Unfollow(arguments) => follow::unfollow(arguments, &context()?).await,
        Command::Pin(arguments) => follow::pin(arguments, &context()?).await,
        Command::Unpin(arguments) => follow::unpin(arguments, &context()?).await,
        Command::Profile { command } => {
            let all = people::ProfileCommand::Show { agent: None };
            people::profile(command.unwrap_or(all), &context()?).await
        }
        Command::Contact { command } => {
            let all = people::ContactCommand::List;
            people::contact(command.unwrap_or(all), &context()?).await
        }
        Command::Preference { command } => {
            let all = people::PreferenceCommand::List;
            people::preference(command.unwrap_or(all), &context()?).await
        }
        Command::Vouch(command) => people::vouch(command, &context()?).await,
        Command::Attest(command) => people::attest(command, &context()?).await,
        Command::Conflicts { command } => value_conflicts::run(command, &context()?).await,
        Command::Pins => follow::pins(&context()?).await,
        Command::Seed(arguments) => match arguments.command {
            Some(command) => seeding::run(command, &context()?).await,
            None => follow::seed(arguments, &context()?).await,
        },
        Command::Room(command) => room::run(command, &context()?).await,
        Command::Dm(arguments) => message::direct(arguments, &context()?).await,
        Command::Send(arguments) => message::send(arguments, &context()?).await,
        Command::React(arguments) => message::react(arguments, &context()?).await,
        Command::Edit(arguments) => message::edit(arguments, &context()?).await,
        Command::Delete(arguments) => message::delete(arguments, &context()?).await,
        Command::Read(arguments) => message::read(arguments, &context()?).await,
        Command::Search(arguments) => message::search(arguments, &context()?).await,
        Command::Index(command) => index::run(command, &context()?).await,
        Command::Query(arguments) => index::query(arguments, &context()?).await,
        Command::Why(arguments) => index::why(arguments, &context()?).await,
        Command::Signal(command) => signal::run(command, output).await,
        Command::Demo(arguments) => demo::run(arguments, output).await,
    }
}

/// An answer that does not belong to the question: the running agent is of another version.
fn unexpected(reply: &Reply) -> Failure {
    let reply = serde_json::to_value(reply).unwrap_or_default();
    Failure::general(format!(
        "the agent answered {} to this request",
        reply["reply"]
    ))
    .hint("restart `kinlog up`: it may be of another version than this command")
}
