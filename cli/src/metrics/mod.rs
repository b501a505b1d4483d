//! `--metrics`: a port at which Prometheus asks a node how it does.

mod page;

use clap::Args;
use kinlog_agent::api::{Answers, Reply, Request};
use kinlog_signal::server::{Page, serve_metrics};
use tokio::net::TcpListener;

use crate::command::signal::bind;
use crate::error::Failure;
use crate::output::Output;

#[derive(Args, Debug)]
pub(crate) struct MetricsArguments {
    /// Serve /metrics for Prometheus on this address, such as 127.0.0.1:9849; port 0 takes a free one [default: off]
    #[arg(long, value_name = "ADDR", env = "KINLOG_METRICS")]
    metrics: Option<String>,
}

/// A port that was taken, and where the page will be.
#[derive(Debug)]
pub(crate) struct MetricsPort {
    listener: TcpListener,
    pub(crate) url: String,
}

impl MetricsArguments {
    /// Returns whether somebody asked for them.
    pub(crate) fn is_wanted(&self) -> bool {
        self.metrics
            .as_deref()
            .is_some_and(|address| !address.is_empty())
    }

    /// Takes the port, if one is wanted.
    pub(crate) async fn bind(&self) -> Result<Option<MetricsPort>, Failure> {
        let Some(address) = self.metrics.as_deref().filter(|_| self.is_wanted()) else {
            return Ok(None);
        };
        let (listener, url) = bind("metrics", address, "http").await?;
        let url = format!("{url}/metrics");
        Ok(Some(MetricsPort { listener, url }))
    }
}

impl MetricsPort {
    /// Says where the metrics are, to people.
    pub(crate) fn tell(&self, output: &Output) {
        output.say(format!("metrics are at {}", self.url));
        let address = self.listener.local_addr();
        if address.is_ok_and(|address| !address.ip().is_loopback()) {
            let word = output.paint_words().warn("not on this machine alone:");
            output.say(format!("{word} whoever reaches that address reads them"));
        }
    }

    /// Serves what `ask` brings, for as long as this runs.
    pub(crate) async fn serve(self, ask: impl Fn() -> Answers + Clone + Send + Sync + 'static) {
        let render = move || {
            let answers = ask();
            async move { page_of(answers).await }
        };
        serve_metrics(self.listener, render, std::future::pending()).await;
    }
}

/// Returns what a node is asked for.
pub(crate) fn request() -> Request {
    Request::Metrics
}

async fn page_of(answers: Answers) -> Option<Page> {
    match answers.last().await.map(|answer| answer.reply) {
        Ok(Reply::Metrics(metrics)) => Some(page::page(&metrics)),
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(%error, "no metrics");
            None
        }
    }
}
