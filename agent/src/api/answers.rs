//! The stream of answers to one request.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::mpsc;

use crate::api::{Error, Reply};
use crate::limits::ANSWERS_QUEUED_MAX;

/// One answer with the bytes that belong to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The answer.
    pub reply: Reply,
    /// Block content, for answers that carry some.
    pub payload: Bytes,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Answer {
            reply,
            payload: Bytes::new(),
        }
    }
}

/// The answers to one request, in order. Dropping it ends the work.
#[derive(Debug)]
pub struct Answers {
    receiver: mpsc::Receiver<Result<Answer, Error>>,
}

impl Answers {
    /// Returns a stream and the end that fills it.
    pub fn channel() -> (AnswerSender, Answers) {
        let (sender, receiver) = mpsc::channel(ANSWERS_QUEUED_MAX);
        (AnswerSender { sender }, Answers { receiver })
    }

    /// Returns the next answer, or `None` at the end; after an error comes nothing.
    pub async fn next(&mut self) -> Option<Result<Answer, Error>> {
        self.receiver.recv().await
    }

    /// Returns the last answer of a request that has one.
    pub async fn last(mut self) -> Result<Answer, Error> {
        let mut last = None;
        while let Some(answer) = self.next().await {
            last = Some(answer?);
        }
        last.ok_or_else(|| Error::general("the agent gave no answer"))
    }

    /// Returns all answers of a request that ends.
    pub async fn all(mut self) -> Result<Vec<Answer>, Error> {
        let mut all = Vec::new();
        while let Some(answer) = self.next().await {
            all.push(answer?);
        }
        Ok(all)
    }
}

impl Stream for Answers {
    type Item = Result<Answer, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(cx)
    }
}

/// The end that answers.
#[derive(Clone, Debug)]
pub struct AnswerSender {
    sender: mpsc::Sender<Result<Answer, Error>>,
}

/// The caller is gone; the work can stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CallerGone;

impl AnswerSender {
    /// Sends an answer without payload, waiting for room.
    pub async fn reply(&self, reply: Reply) -> Result<(), CallerGone> {
        self.answer(reply.into()).await
    }

    /// Sends an answer, waiting for room.
    pub async fn answer(&self, answer: Answer) -> Result<(), CallerGone> {
        self.sender.send(Ok(answer)).await.map_err(|_| CallerGone)
    }

    /// Ends with an error.
    pub async fn error(&self, error: Error) {
        // A caller that is gone needs no error.
        let _ = self.sender.send(Err(error)).await;
    }

    /// Resolves when the caller dropped its stream.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Sends from a worker thread that may block.
    pub fn blocking_answer(&self, answer: Answer) -> Result<(), CallerGone> {
        self.sender
            .blocking_send(Ok(answer))
            .map_err(|_| CallerGone)
    }
}
