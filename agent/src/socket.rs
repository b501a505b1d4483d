//! The local socket of a home: whoever may open it (0600) speaks for the agent's owner.

use std::future::Future;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::api::{Answers, Error, Frame, Request, Told, read_frame, write_frame};
use crate::limits::{ACCEPT_AGAIN_AFTER, SOCKET_CALLERS_MAX};
use crate::requests;
use crate::tasks::Running;

/// Serves the socket until `shutdown` resolves; callers then are cut off.
pub(crate) async fn serve(
    running: Arc<Running>,
    path: PathBuf,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let socket = Socket::bind(path)?;
    let permits = Arc::new(Semaphore::new(SOCKET_CALLERS_MAX));
    let mut callers = tokio::task::JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&socket.listener, &permits) => {
                let (stream, permit) = accepted?;
                let running = running.clone();
                callers.spawn(async move {
                    let _permit = permit;
                    if let Err(error) = attend(running, stream).await {
                        tracing::debug!(%error, "caller on the local socket is gone");
                    }
                });
            }
            Some(_) = callers.join_next() => {}
        }
    }
    callers.shutdown().await;
    Ok(())
}

async fn accept(
    listener: &UnixListener,
    permits: &Arc<Semaphore>,
) -> Result<(UnixStream, tokio::sync::OwnedSemaphorePermit), Error> {
    let permit = permits.clone().acquire_owned().await;
    let permit = permit.map_err(|_| Error::general("the local socket is closed"))?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Ok((stream, permit)),
            // Out of descriptors for a moment, or a caller that hung up: the agent goes on.
            Err(error) => {
                tracing::warn!(%error, "caller on the local socket not accepted");
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
    }
}

/// Does the requests of one caller, one after the other.
async fn attend(running: Arc<Running>, mut stream: UnixStream) -> Result<(), Error> {
    while let Some(Frame { value, payload }) = read_frame::<Request, _>(&mut stream).await? {
        let (sender, mut answers) = Answers::channel();
        let work = tokio::spawn(requests::answer(sender, value, payload, running.clone()));
        let (reader, mut writer) = stream.split();
        let end = loop {
            tokio::select! {
                answer = answers.next() => match answer {
                    Some(Ok(answer)) => {
                        let told = Told::Answer { answer: answer.reply };
                        write_frame(&mut writer, &told, &answer.payload).await?;
                    }
                    Some(Err(error)) => break Told::Error { error },
                    None => break Told::End,
                },
                // A caller says nothing while it waits: readable means that it is gone.
                () = gone(&reader) => return Ok(()),
            }
        };
        drop(answers);
        // The work ended, or ends now that nobody takes its answers.
        let _ = work.await;
        write_frame(&mut writer, &end, &[]).await?;
    }
    Ok(())
}

async fn gone(reader: &tokio::net::unix::ReadHalf<'_>) {
    loop {
        if reader.readable().await.is_err() {
            return;
        }
        match reader.try_read(&mut [0; 1]) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            _ => return,
        }
    }
}

/// The bound socket; its file is removed when it is dropped.
struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Binds the socket; a file that a killed process left is replaced, since the home's lock is ours.
    ///
    /// It is made beside its place and moved there restricted, so that it is never open to others.
    fn bind(path: PathBuf) -> Result<Socket, Error> {
        let failed = |error: std::io::Error| Error::general(format!("{}: {error}", path.display()));
        if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(failed)?;
        }
        let fresh = path.with_extension("new");
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(&fresh).map_err(failed)?;
        restrict(&fresh).map_err(failed)?;
        std::fs::rename(&fresh, &path).map_err(failed)?;
        Ok(Socket { listener, path })
    }
}

fn restrict(path: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
