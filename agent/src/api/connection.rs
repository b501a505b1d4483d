//! The caller's side of the local socket: one connection per request, the same stream of answers.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

use crate::api::{Answer, Answers, Error, ErrorKind, Reply, Request, read_frame, write_frame};
use crate::home::socket_path;

/// What the agent writes on the socket.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "frame", rename_all = "snake_case")]
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, and nearly all are answers"
)]
pub(crate) enum Told {
    /// One answer, its payload beside it.
    Answer { answer: Reply },
    /// The end, with an error.
    Error { error: Error },
    /// The end.
    End,
}

/// The way to a running agent.
#[derive(Clone, Debug)]
pub struct Connection {
    socket: PathBuf,
}

impl Connection {
    /// Finds the running agent of `home`; `None` when none runs.
    pub async fn find(home: &Path) -> Result<Option<Connection>, Error> {
        let socket = socket_path(home);
        match UnixStream::connect(&socket).await {
            Ok(_) => Ok(Some(Connection { socket })),
            Err(error) if gone(&error) => Ok(None),
            Err(error) => Err(Error::new(
                ErrorKind::Permission,
                format!("socket {} of the running agent: {error}", socket.display()),
            )),
        }
    }

    /// Asks the running agent. Dropping the answers ends the work.
    pub fn request(&self, request: Request, payload: Bytes) -> Answers {
        let (sender, answers) = Answers::channel();
        let socket = self.socket.clone();
        tokio::spawn(async move {
            let exchange = async {
                let mut stream = UnixStream::connect(&socket).await.map_err(|error| {
                    Error::new(
                        ErrorKind::NeedsAgent,
                        format!("{}: {error}", socket.display()),
                    )
                })?;
                write_frame(&mut stream, &request, &payload).await?;
                loop {
                    let frame = read_frame::<Told, _>(&mut stream).await?.ok_or_else(|| {
                        Error::new(ErrorKind::NeedsAgent, "the running agent stopped")
                    })?;
                    match frame.value {
                        Told::Answer { answer } => {
                            let answer = Answer {
                                reply: answer,
                                payload: frame.payload,
                            };
                            if sender.answer(answer).await.is_err() {
                                return Ok(());
                            }
                        }
                        Told::Error { error } => return Err(error),
                        Told::End => return Ok(()),
                    }
                }
            };
            tokio::select! {
                done = exchange => if let Err(error) = done { sender.error(error).await },
                () = sender.closed() => {}
            }
        });
        answers
    }
}

fn gone(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused
    )
}
