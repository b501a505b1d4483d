//! From wanting a feed to its first block.

use anyhow::Result;

use crate::npm::{Npm, Served};
use crate::process::Process;
use crate::replicate::{pull, raw_channel, text};
use crate::row::{Effort, Measured, Row, Run};

pub(crate) const FIRST_BLOCK: Row = Row {
    name: "connect_first_block_ms",
    unit: "ms",
    definition: "from joining a feed's topic on a signal server to its first block verified and \
        durable: introduction, offer and answer, ICE, DTLS, data channel, Noise, capability, head \
        and block; both ends are processes on loopback, the serving one has joined before, the \
        reader is new each time (less is better). Limit: from creating a raw channel's offer to \
        its opening, same stack and settings, descriptions passed by pipe. npm: from dialling a \
        known TCP address to the first block, which leaves finding and WebRTC out.",
    measure,
    once: None,
};

fn measure(effort: &Effort) -> Result<Measured> {
    let mut signal = Process::end(&["signal"])?;
    let url = text(&signal.json()?, "url")?;
    let mut server = Process::end(&["serve", &url, "1", "100"])?;
    let key = text(&server.json()?, "key")?;
    Measured::alternate(
        effort,
        || Ok(1_000.0 * pull(&url, &key, 1)?.first_block_seconds),
        Npm::BOTH.map(npm).into(),
        Some((
            "raw data channel open",
            Box::new(|| Ok(1_000.0 * raw_channel(1)?.open_seconds)),
        )),
    )
}

fn npm<'a>(npm: Npm) -> (String, Run<'a>) {
    let mut served = None;
    let run = move || {
        let served = match &mut served {
            Some(served) => served,
            none => none.insert(Served::start(npm, 1, 100)?),
        };
        Ok(1_000.0 * served.pull_blocks(1)?)
    };
    (npm.name(), Box::new(run))
}
