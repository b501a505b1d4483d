//! One way to ask an agent, whether it runs already or is opened for this command.

use std::future::Future;
use std::path::PathBuf;

use bytes::Bytes;
use kinlog_agent::api::{Answer, Reply, Request};
use kinlog_agent::{NetworkConfig, OpenOptions, Target};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::error::Failure;
use crate::output::Output;

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) home: PathBuf,
    pub(crate) output: &'a Output,
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
        let session = Session::open(self, request.needs_network()).await?;
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
    pub(crate) async fn open(context: &Context<'_>, network: bool) -> Result<Self, Failure> {
        let target = Target::connect_or_open(&context.home, OpenOptions::default()).await?;
        if !network {
            return Ok(Session {
                target,
                socket: None,
            });
        }
        target.start_network(NetworkConfig::default()).await?;
        let socket = match &target {
            Target::Running(_) => None,
            Target::Opened(agent) => {
                let agent = agent.clone();
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
                Some((stop, tokio::spawn(serve)))
            }
        };
        Ok(Session { target, socket })
    }

    pub(crate) async fn follow(
        &self,
        request: Request,
        payload: Bytes,
        each: &mut impl FnMut(Answer) -> Result<(), Failure>,
    ) -> Result<Ended, Failure> {
        let mut answers = self.target.request(request, payload);
        let interrupted = interrupted();
        tokio::pin!(interrupted);
        loop {
            tokio::select! {
                () = &mut interrupted => return Ok(Ended::Interrupted),
                answer = answers.next() => match answer {
                    Some(answer) => each(answer?)?,
                    None => return Ok(Ended::Done),
                },
            }
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
