//! One way to ask an agent, whether it runs already or is opened for this command.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use bytes::Bytes;
use kinlog_agent::api::{Answer, Answers, Reply, Request};
use kinlog_agent::home::{Protection, protection};
use kinlog_agent::vault::Passphrase;
use kinlog_agent::{Agent, NetworkConfig, OpenOptions, Target};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::error::Failure;
use crate::output::Output;
use crate::passphrase;

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) home: PathBuf,
    /// Folder with the twins of install records.
    pub(crate) state: PathBuf,
    pub(crate) output: &'a Output,
}

/// Environment variable that keeps agents from the local network, as `--no-lan` does.
pub(crate) const NO_LAN: &str = "KINLOG_NO_LAN";

/// Returns whether a command that meets others by itself looks for them on the local network.
pub(crate) fn looks_at_lan() -> bool {
    let switch = std::env::var(NO_LAN).unwrap_or_default();
    matches!(
        switch.to_lowercase().as_str(),
        "" | "0" | "n" | "no" | "f" | "false" | "off"
    )
}

/// How an open request ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ended {
    /// The agent had no more answers.
    Done,
    /// Ctrl-c, or a polite request to stop.
    Interrupted,
}

impl Context<'_> {
    /// Returns how the home is opened: a locked one with the passphrase that the environment names.
    pub(crate) fn options(&self) -> Result<OpenOptions, Failure> {
        let options = OpenOptions::new(&self.state);
        let Some(file) = passphrase::file_of_environment() else {
            return Ok(options);
        };
        match protection(&self.home, &self.state) {
            Ok(Protection::Locked) => {}
            // What else is wrong with the home is said when it is opened.
            _ => return Ok(options),
        }
        let text = passphrase::read(&file)?;
        let passphrase = Passphrase::typed(&text);
        let passphrase = passphrase.map_err(|error| Failure::usage(error.to_string()))?;
        Ok(options.passphrase(passphrase))
    }

    /// Asks and returns all answers.
    pub(crate) async fn ask(&self, request: Request) -> Result<Vec<Reply>, Failure> {
        let mut replies = Vec::new();
        let ended = self
            .follow(request, Bytes::new(), |answer| {
                replies.push(answer.reply);
                Ok(())
            })
            .await?;
        match ended {
            Ended::Done => Ok(replies),
            Ended::Interrupted => Err(Failure::Interrupted),
        }
    }

    /// Asks and hands each answer on as it comes, until the end or ctrl-c.
    pub(crate) async fn follow(
        &self,
        request: Request,
        payload: Bytes,
        mut each: impl FnMut(Answer) -> Result<(), Failure>,
    ) -> Result<Ended, Failure> {
        let session = Session::open_for(self, &request).await?;
        let result = session.follow(request, payload, &mut each).await;
        session.close().await?;
        result
    }
}

/// An agent to ask several things.
#[derive(Debug)]
pub(crate) struct Session {
    target: Target,
    /// Serves the socket of a home this process opened, so that `kinlog status` works meanwhile.
    socket: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Session {
    /// Opens an agent to ask short things.
    pub(crate) async fn open(context: &Context<'_>) -> Result<Self, Failure> {
        let target = Target::connect_or_open(&context.home, context.options()?).await?;
        Ok(Session {
            target,
            socket: None,
        })
    }

    /// Opens an agent with all that `request` needs.
    pub(crate) async fn open_for(
        context: &Context<'_>,
        request: &Request,
    ) -> Result<Self, Failure> {
        let mut session = Session::open(context).await?;
        if request.needs_network() {
            let network = NetworkConfig {
                lan: looks_at_lan(),
                ..NetworkConfig::default()
            };
            session.target.start_network(network).await?;
        }
        if let Target::Opened(agent) = &session.target
            && request.lasts()
        {
            session.socket = Some(serve_socket(agent.clone()));
        }
        Ok(session)
    }

    /// Returns whether an agent runs that goes on when this command ends.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.target, Target::Running(_))
    }

    /// Returns the agent that this process opened, if it did.
    pub(crate) fn agent(&self) -> Option<Agent> {
        match &self.target {
            Target::Running(_) => None,
            Target::Opened(agent) => Some(agent.clone()),
        }
    }

    /// Asks for something that a person waits for, and may interrupt.
    pub(crate) fn wait_for(&self, request: Request) -> Waited {
        Waited {
            answers: self.request(request),
            interrupted: Box::pin(interrupted()),
        }
    }

    /// Asks; dropping the answers ends the work.
    pub(crate) fn request(&self, request: Request) -> Answers {
        self.target.request(request, Bytes::new())
    }

    pub(crate) async fn follow(
        &self,
        request: Request,
        payload: Bytes,
        each: &mut impl FnMut(Answer) -> Result<(), Failure>,
    ) -> Result<Ended, Failure> {
        let mut answers = self.target.request(request, payload);
        let interrupted = interrupted();
        let asked_to_stop = self.asked_to_stop();
        tokio::pin!(interrupted, asked_to_stop);
        loop {
            tokio::select! {
                () = &mut interrupted => return Ok(Ended::Interrupted),
                () = &mut asked_to_stop => return Ok(Ended::Interrupted),
                answer = answers.next() => match answer {
                    Some(answer) => each(answer?)?,
                    None => return Ok(Ended::Done),
                },
            }
        }
    }

    /// Resolves when somebody wants the home that this process holds.
    pub(crate) async fn asked_to_stop(&self) {
        match &self.target {
            Target::Running(_) => std::future::pending().await,
            Target::Opened(agent) => agent.asked_to_stop().await,
        }
    }

    pub(crate) async fn close(self) -> Result<(), Failure> {
        if let Some((stop, serving)) = self.socket {
            let _ = stop.send(());
            let _ = serving.await;
        }
        Ok(self.target.close().await?)
    }
}

/// Answers that a person waits for; dropping it ends the work.
pub(crate) struct Waited {
    answers: Answers,
    interrupted: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Waited {
    /// Returns the next answer, `None` at the end; ctrl-c ends the waiting.
    pub(crate) async fn next(&mut self) -> Result<Option<Reply>, Failure> {
        let answer = tokio::select! {
            () = &mut self.interrupted => return Err(Failure::Interrupted),
            answer = self.answers.next() => answer,
        };
        Ok(answer.transpose()?.map(|answer| answer.reply))
    }
}

/// Serves the socket of an opened home until told to stop.
fn serve_socket(agent: Agent) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let serve = async move {
        let shutdown = async move {
            // A sender that is gone means the same.
            let _ = stopped.await;
        };
        if let Err(error) = agent.serve_socket(shutdown).await {
            tracing::warn!(%error, "other commands cannot reach this one");
        }
    };
    (stop, tokio::spawn(serve))
}

/// Does blocking work on a worker thread.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Failure::general(format!("worker: {error}"))))
}

/// Resolves at ctrl-c or SIGTERM, and from then on keeps them from killing the process.
pub(crate) fn interrupted() -> impl Future<Output = ()> {
    let interrupt = signal(SignalKind::interrupt());
    let terminate = signal(SignalKind::terminate());
    async move {
        match (interrupt, terminate) {
            (Ok(mut interrupt), Ok(mut terminate)) => {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            }
            // Without handlers the signals end the process, as they do by default.
            _ => std::future::pending().await,
        }
    }
}
