//! Figures of the crate `hypercore`, one JSON line: `hypercore-crate append BLOCKS BYTES BATCH FOLDER`.
//!
//! The clock runs from the first append to the return of the last; the crate does not sync.

use std::env;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use hypercore::{HypercoreBuilder, Storage};

#[tokio::main]
async fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [task, blocks, bytes, batch, folder] = words.as_slice() else {
        bail!("append BLOCKS BYTES BATCH FOLDER");
    };
    ensure!(task == "append", "no task {task:?}");
    let (blocks, bytes, batch): (u64, usize, usize) =
        (blocks.parse()?, bytes.parse()?, batch.parse()?);
    let storage = Storage::new_disk(&PathBuf::from(folder), false)
        .await
        .context("opening the folder")?;
    let core = HypercoreBuilder::new(storage)
        .build()
        .await
        .context("making a core")?;
    let values = vec![vec![b'a'; bytes]; batch];
    let start = Instant::now();
    for _ in 0..blocks / batch as u64 {
        match values.as_slice() {
            [one] => core.append(one).await?,
            many => core.append_batch(many).await?,
        };
    }
    let seconds = start.elapsed().as_secs_f64();
    ensure!(
        core.info().length == blocks / batch as u64 * batch as u64,
        "not everything was appended"
    );
    println!("{{\"seconds\": {seconds}, \"blocks\": {blocks}}}");
    Ok(())
}
