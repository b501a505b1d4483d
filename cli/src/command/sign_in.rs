//! `kinlog sign-in`: a new device by a password and a code.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use kinlog_agent::api::{Reply, Request, SignInInfo, Text};
use kinlog_agent::limits::SIGN_IN_WAIT;
use kinlog_agent::sign_in::{SignIn, SignInCode, SignInOffer, SignInStep, agent_named, sign_in};
use kinlog_agent::vault::Passphrase;

use crate::command::init::{WordScreen, prompt};
use crate::command::unexpected;
use crate::error::Failure;
use crate::home::absolute;
use crate::output::{clean, count, short_key};
use crate::passphrase;
use crate::target::{Context, blocking, interrupted};

/// Variable that names the file with the password.
const PASSWORD_VARIABLE: &str = "KINLOG_SIGN_IN_PASSWORD_FILE";
/// Variable that names the file with the code.
const CODE_VARIABLE: &str = "KINLOG_SIGN_IN_CODE_FILE";

#[derive(Debug, Subcommand)]
pub(crate) enum SignInCommand {
    /// Show whether this agent has a sign-in, what it added, and whose are held here
    Status,
    /// Choose a password for new devices; shows the code that goes with it once
    Create {
        #[command(flatten)]
        password: PasswordFile,
        /// Write the code into this new file instead of showing it
        #[arg(long, value_name = "FILE", conflicts_with = "same_code")]
        write_code: Option<PathBuf>,
        /// Keep the code there is, and ask for it: only the password changes
        #[arg(long)]
        same_code: bool,
        #[command(flatten)]
        code: CodeFile,
    },
    /// Make this machine a device of an agent that has others; asks for password and code
    Use(UseArguments),
    /// Take the sign-in back: its key adds no device any more
    Revoke,
    /// Hold the sign-in of somebody who asked for it, for when none of their devices is online
    Hold {
        /// Link that `kinlog sign-in create` printed there
        link: String,
    },
    /// Hold the sign-in of somebody no longer
    Release {
        /// Link or key of the agent
        agent: String,
    },
}

/// Where the password is read from.
#[derive(Args, Debug)]
pub(crate) struct PasswordFile {
    /// File (0600) with the password in its first line; without it the terminal is asked
    #[arg(long, value_name = "FILE", env = PASSWORD_VARIABLE)]
    password_file: Option<PathBuf>,
}

/// Where the code is read from.
#[derive(Args, Debug)]
pub(crate) struct CodeFile {
    /// File (0600) with the code in its first line; without it the terminal is asked
    #[arg(long, value_name = "FILE", env = CODE_VARIABLE)]
    code_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct UseArguments {
    /// Link or key of the agent
    #[arg(long, value_name = "LINK")]
    agent: String,
    /// What this device is called
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Signal server to meet others at, beside those of the link
    #[arg(long = "signal", value_name = "URL")]
    signals: Vec<String>,
    /// Seconds that others may take to answer [default: 60]
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
    #[command(flatten)]
    password: PasswordFile,
    #[command(flatten)]
    code: CodeFile,
}

pub(crate) async fn run(
    command: Option<SignInCommand>,
    context: &Context<'_>,
) -> Result<(), Failure> {
    match command.unwrap_or(SignInCommand::Status) {
        SignInCommand::Status => show(&ask(Request::SignIn, context).await?, context),
        SignInCommand::Create {
            password,
            write_code,
            same_code,
            code,
        } => create(password, write_code.as_deref(), same_code, code, context).await,
        SignInCommand::Use(arguments) => use_it(arguments, context).await,
        SignInCommand::Revoke => {
            let info = ask(Request::SignInRevoke, context).await?;
            if !context.output.is_json() {
                let say = "revoked: password and code add no device any more";
                context.output.say(say);
            }
            show(&info, context)
        }
        SignInCommand::Hold { link } => {
            show(&ask(Request::SignInHold { link }, context).await?, context)
        }
        SignInCommand::Release { agent } => show(
            &ask(Request::SignInRelease { agent }, context).await?,
            context,
        ),
    }
}

/// Password, code and the key's seed never leave this process: the agent is given what is sealed.
async fn create(
    password: PasswordFile,
    write_code: Option<&Path>,
    same_code: bool,
    code: CodeFile,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let replies = context.ask(Request::Id).await?;
    let [Reply::Id(id)] = &replies[..] else {
        return Err(Failure::general("the agent did not say who it is"));
    };
    let name = id.name.as_str().try_into();
    let name = name.map_err(|error| Failure::usage(format!("name of the agent: {error}")))?;
    let agent = id.agent.0;
    if !same_code && write_code.is_none() && !has_terminal() {
        return Err(Failure::usage("no terminal to show the sign-in code on")
            .hint("give --write-code FILE to write it down"));
    }
    let password = choose_password(password.password_file.as_deref()).await?;
    let code = match same_code {
        true => read_code(code.code_file.as_deref()).await?,
        false => new_code()?,
    };
    let sealing = code.clone();
    let offer = blocking(move || Ok(SignInOffer::make(&agent, name, &password, &sealing)?)).await?;
    let written = match (write_code, same_code) {
        (Some(file), _) => Some(write(&absolute(file)?, &code)?),
        (None, true) => None,
        (None, false) => {
            show_code(&code, context).await?;
            None
        }
    };
    drop(code);
    let offer = Box::new(Text(offer));
    let info = match ask(Request::SignInCreate { offer }, context).await {
        Ok(info) => info,
        Err(error) => {
            // A code that opens nothing would mislead whoever finds it.
            if let Some(file) = &written {
                let _ = std::fs::remove_file(file);
            }
            return Err(error);
        }
    };
    if let Some(file) = written.filter(|_| !context.output.is_json()) {
        context.output.say(format!(
            "the code is in {}: move it to paper, off this device",
            file.display()
        ));
    }
    show(&info, context)
}

async fn use_it(arguments: UseArguments, context: &Context<'_>) -> Result<(), Failure> {
    let (agent, of_link) = agent_named(&arguments.agent)?;
    let mut signal_urls = arguments.signals;
    signal_urls.extend(of_link);
    let name = arguments.name.unwrap_or_else(device_name);
    // The folder and the name are looked at before anybody types a secret.
    kinlog_agent::home::check(&context.home, &name)?;
    let device_name = name.as_str().try_into();
    let device_name = device_name.map_err(|error| Failure::usage(format!("name: {error}")))?;
    let code = read_code(arguments.code.code_file.as_deref()).await?;
    let password = ask_password(arguments.password.password_file.as_deref()).await?;
    let asked = SignIn {
        home: context.home.clone(),
        state: context.state.clone(),
        agent,
        signal_urls,
        device_name,
        password,
        code,
        wait: arguments.wait.map_or(SIGN_IN_WAIT, Duration::from_secs),
    };
    let output = context.output;
    let tell = |step| {
        if output.is_json() {
            return;
        }
        output.say(match step {
            SignInStep::Looking => "looking for the agent and its sign-in".to_owned(),
            SignInStep::AgentFound { devices } => {
                format!("found the agent: {}", count(devices as u64, "device"))
            }
            SignInStep::Opening => "opening the sign-in".to_owned(),
            SignInStep::Made => "this device is added, telling the others".to_owned(),
        });
    };
    let signed_in = tokio::select! {
        () = interrupted() => return Err(Failure::Interrupted),
        signed_in = sign_in(asked, tell) => signed_in?,
    };
    if output.is_json() {
        return output.json(&signed_in);
    }
    let paint = output.paint_words();
    output.say(format!(
        "{} is a device of {} now: {}",
        paint.strong(&clean(&signed_in.device_name)),
        clean(&signed_in.name),
        context.home.display()
    ));
    if !signed_in.told {
        output.say(paint.warn("no other device has taken that up yet: `kinlog up` tells them"));
    }
    output.data(&signed_in.link)?;
    output.say("\nNext:");
    output.say(
        "  kinlog up             meet the other devices: they give this one the keys of rooms",
    );
    output.say("  kinlog device list    see them");
    Ok(())
}

async fn ask(request: Request, context: &Context<'_>) -> Result<SignInInfo, Failure> {
    let mut replies = context.ask(request).await?;
    match replies.pop() {
        Some(Reply::SignIn(info)) => Ok(info),
        Some(other) => Err(unexpected(&other)),
        None => Err(Failure::general("the agent answered nothing")),
    }
}

fn show(info: &SignInInfo, context: &Context<'_>) -> Result<(), Failure> {
    let output = context.output;
    if output.is_json() {
        return output.json(&Reply::SignIn(info.clone()));
    }
    let paint = output.paint();
    let number = info
        .number
        .map_or(String::new(), |number| format!(", number {number}"));
    output.data(&match info.state.as_str() {
        "ready" => format!("{}{number}", paint.strong("password and code add devices")),
        "elsewhere" => "another device made a sign-in; its record has not come here yet".to_owned(),
        _ => "no sign-in".to_owned(),
    })?;
    for key in &info.keys {
        let devices: Vec<String> = key.devices.iter().map(|name| clean(name)).collect();
        output.data(&format!(
            "  {}  made by {}{}, {}",
            short_key(&key.key),
            clean(&key.made_by),
            if key.revoked { ", revoked" } else { "" },
            match devices.is_empty() {
                true => "added no device".to_owned(),
                false => format!("added {}", devices.join(", ")),
            }
        ))?;
    }
    if let Some(link) = &info.hold_link {
        output.data(&format!(
            "  a seeder holds it, too, after: kinlog sign-in hold '{link}'"
        ))?;
    }
    for held in &info.held {
        let name = held
            .name
            .as_deref()
            .map_or(String::new(), |name| format!(" ({})", clean(name)));
        output.data(&format!(
            "held for {}{name}: {}",
            held.agent,
            match held.number {
                Some(number) => format!("number {number}"),
                None => "waiting for it".to_owned(),
            }
        ))?;
    }
    Ok(())
}

fn has_terminal() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

fn new_code() -> Result<SignInCode, Failure> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::general(format!("no random numbers: {error}")))?;
    Ok(SignInCode::new(random))
}

async fn read_code(file: Option<&Path>) -> Result<SignInCode, Failure> {
    let text = match file {
        Some(file) => passphrase::read(file)?,
        None => {
            let hint = format!("name a file with the code: --code-file FILE, or {CODE_VARIABLE}");
            passphrase::typed("the code", "sign-in code: ", &hint).await?
        }
    };
    SignInCode::parse(&text).map_err(|error| {
        Failure::usage(error.to_string()).hint("it has eight groups of four letters and digits")
    })
}

async fn ask_password(file: Option<&Path>) -> Result<Passphrase, Failure> {
    let text = match file {
        Some(file) => passphrase::read(file)?,
        None => passphrase::typed("the password", "password: ", &password_hint()).await?,
    };
    Passphrase::typed(&text).map_err(|error| Failure::usage(error.to_string()))
}

async fn choose_password(file: Option<&Path>) -> Result<Passphrase, Failure> {
    let text = match file {
        Some(file) => passphrase::read(file)?,
        None => {
            let (what, hint) = ("the password", password_hint());
            let text = passphrase::typed(what, "password for new devices: ", &hint).await?;
            let again = passphrase::typed(what, "the same again: ", &hint).await?;
            if *again != *text {
                return Err(Failure::usage("the password was not typed the same twice"));
            }
            text
        }
    };
    Passphrase::choose(&text).map_err(|error| {
        Failure::usage(error.to_string()).hint("several words that only you put together are good")
    })
}

fn password_hint() -> String {
    format!("name a file with the password: --password-file FILE, or {PASSWORD_VARIABLE}")
}

/// Writes the code into a new file that only its owner reads, durably, before anything uses it.
fn write(file: &Path, code: &SignInCode) -> Result<PathBuf, Failure> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut open| {
            open.write_all(code.text().as_bytes())?;
            open.write_all(b"\n")?;
            open.sync_all()?;
            File::open(file.parent().unwrap_or(Path::new("/")))?.sync_all()
        });
    match written {
        Ok(()) => Ok(file.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Failure::usage(format!(
            "{} exists: it is not overwritten",
            file.display()
        ))
        .hint("name a file that does not exist yet")),
        Err(error) => Err(Failure::io(file.display(), &error)),
    }
}

async fn show_code(code: &SignInCode, context: &Context<'_>) -> Result<(), Failure> {
    let paint = context.output.paint_words();
    let mut screen = WordScreen::open();
    screen.line(&format!("{}\n", paint.strong("Your sign-in code")));
    screen.line(&format!("    {}\n", code.text().as_str()));
    screen.line("Write it on paper. With it and the password a new device signs in; neither");
    screen.line("is enough alone. It is shown this once and stored nowhere.");
    screen.line("\nPress Enter when it is written down.");
    prompt().await?;
    Ok(())
}

/// Returns the name of this machine.
fn device_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}
