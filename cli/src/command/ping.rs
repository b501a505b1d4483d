//! `kinlog ping`: is somebody reached, over what, how far away.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use kinlog_agent::api::{PongInfo, Reply, Request, StepInfo};

use crate::command::unexpected;
use crate::error::Failure;
use crate::output::{Output, clean};
use crate::target::{Context, Ended};

#[derive(Args, Debug)]
pub(crate) struct PingArguments {
    /// Contact, member of a room, agent id or link, or a device of yours
    peer: String,

    /// How many times
    #[arg(long, short, value_name = "N", default_value_t = 4)]
    count: u32,

    /// Seconds to wait for a connection
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    wait: f64,
}

pub(crate) async fn run(arguments: PingArguments, context: &Context<'_>) -> Result<(), Failure> {
    let output = context.output;
    let wait = Duration::try_from_secs_f64(arguments.wait)
        .map_err(|_| Failure::usage(format!("{} s is no time to wait", arguments.wait)))?;
    if arguments.count == 0 {
        return Err(Failure::usage("no ping at all measures nothing"));
    }
    let request = Request::Ping {
        peer: arguments.peer,
        count: arguments.count,
        wait_ms: u64::try_from(wait.as_millis()).ok(),
    };
    let mut pongs = Vec::new();
    let ended = context
        .follow(request, Bytes::new(), |answer| {
            match answer.reply {
                Reply::Pong(pong) => {
                    match output.is_json() {
                        true => output.json(&Reply::Pong(pong.clone()))?,
                        false => output.data(&line(&pong))?,
                    }
                    pongs.push(pong);
                }
                reply @ Reply::NotReached { .. } if output.is_json() => output.json(&reply)?,
                Reply::NotReached { steps, .. } => show_steps(&steps, output),
                reply => return Err(unexpected(&reply)),
            }
            output.flush()
        })
        .await?;
    summary(&pongs, output);
    match ended {
        Ended::Interrupted if pongs.is_empty() => Err(Failure::Interrupted),
        _ => Ok(()),
    }
}

fn line(pong: &PongInfo) -> String {
    let name = match pong.certain {
        true => clean(&pong.name),
        false => format!("somebody with the feeds of {}", clean(&pong.name)),
    };
    format!(
        "{name}  {}  {}",
        milliseconds(pong.round_trip_us),
        clean(&pong.sentence)
    )
}

fn summary(pongs: &[PongInfo], output: &Output) {
    let times = pongs.iter().map(|pong| pong.round_trip_us);
    let (Some(least), Some(most)) = (times.clone().min(), times.clone().max()) else {
        return;
    };
    if pongs.len() > 1 {
        let mean = times.sum::<u64>() / pongs.len() as u64;
        output.say(format!(
            "{} answered: least {}, mean {}, most {}",
            pongs.len(),
            milliseconds(least),
            milliseconds(mean),
            milliseconds(most)
        ));
    }
    if pongs.iter().any(|pong| !pong.certain) {
        output.say("who holds public feeds stays unnamed: that it is the agent itself shows in a room only");
    }
}

/// Shows what was tried on the way to somebody, for people.
pub(super) fn show_steps(steps: &[StepInfo], output: &Output) {
    let paint = output.paint_words();
    for step in steps {
        let mark = match step.ok {
            true => paint.good("ok "),
            false => paint.bad("-  "),
        };
        let after = match step.after_ms {
            Some(ms) => paint.faint(&format!("  after {:.1} s", ms as f64 / 1000.0)),
            None => String::new(),
        };
        output.say(format!("  {mark} {}{after}", clean(&step.found)));
        if let Some(hint) = &step.hint {
            output.say(format!("      {}", paint.faint(&clean(hint))));
        }
    }
}

fn milliseconds(micros: u64) -> String {
    match micros {
        0..10_000 => format!("{:.2} ms", micros as f64 / 1000.0),
        10_000..100_000 => format!("{:.1} ms", micros as f64 / 1000.0),
        _ => format!("{} ms", micros / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_as_many_digits_as_say_something() {
        assert_eq!(milliseconds(180), "0.18 ms");
        assert_eq!(milliseconds(12_345), "12.3 ms");
        assert_eq!(milliseconds(1_234_567), "1234 ms");
    }
}
