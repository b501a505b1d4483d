//! The act in which a large file goes from author to reader.

use std::path::PathBuf;
use std::time::Instant;

use kinlog_agent::api::Reply;

use crate::demo::big_file;
use crate::demo::claims::Claim;
use crate::demo::limits::{BIG_FILE_BYTES_MIN, TRANSFER_WAIT_MAX};
use crate::demo::report::{Played, Transfer};
use crate::demo::stage::{Stage, seconds};
use crate::demo::story::{AUTHOR, READER, blocking, follow};
use crate::error::Failure;
use crate::output::{bytes, rate};

/// A file of over 100 MB goes from author to reader and is compared.
pub(super) async fn send_a_large_file(
    stage: &mut Stage<'_>,
    played: &mut Played,
) -> Result<(), Failure> {
    stage.act("A large file goes from author to reader");
    let folder = stage.folder.clone();
    let file = blocking(move || big_file::find(&folder)).await??;
    let size = std::fs::metadata(&file)
        .map_err(|error| Failure::io(file.display(), &error))?
        .len();
    let name = big_file::name(&file);
    let shown = file.display().to_string();
    let path = "/files/large".to_owned();

    let started = Instant::now();
    let mut link = None;
    let progress = stage.output.progress("import");
    stage
        .player(AUTHOR)?
        .watch(
            &["feed", "import", &path, &shown],
            "imported file",
            TRANSFER_WAIT_MAX,
            |reply| match reply {
                Reply::Progress(now) => {
                    progress.update(now.bytes, size);
                    None
                }
                Reply::Appended {
                    link: made, key, ..
                } => {
                    link = Some(
                        made.clone()
                            .unwrap_or_else(|| format!("kinlog://feed/{key}")),
                    );
                    Some(())
                }
                _ => None,
            },
        )
        .await?;
    progress.clear();
    let link = link.ok_or_else(|| Failure::general("author: kinlog feed import gave no link"))?;
    stage.tell(
        AUTHOR,
        &format!(
            "{name}, {} signed and stored in {}",
            bytes(size),
            seconds(started.elapsed())
        ),
    );

    let progress = stage.output.progress("author > reader");
    let (time, got) = follow(stage.player(READER)?, &link, |now| {
        progress.update(now.bytes.min(size), size)
    })
    .await?;
    progress.clear();
    stage.tell(
        READER,
        &format!(
            "{} verified and on disk in {}, {}",
            bytes(got.bytes),
            seconds(time),
            rate(got.bytes, time)
        ),
    );
    played.transfers.push(Transfer::new(
        name.clone(),
        (AUTHOR, READER),
        (got.have, got.bytes),
        time,
    ));

    let copy = stage.folder.join("copy-of-the-reader");
    let copy_shown = copy.display().to_string();
    stage
        .player(READER)?
        .ask_others(&["feed", "export", &link, &copy_shown])
        .await?;
    let same = blocking(move || compare(file, copy)).await??;
    let evidence = match same {
        Ok(compared) => format!("{compared} bytes compared"),
        Err(at) => format!("they differ at byte {at}"),
    };
    stage.tell(READER, &format!("compared with the original: {evidence}"));
    played.claims.push(Claim::new(
        "a file of over 100 MB arrived equal, byte for byte",
        same == Ok(size) && size > BIG_FILE_BYTES_MIN,
        evidence,
    ));
    Ok(())
}

fn compare(file: PathBuf, copy: PathBuf) -> Result<Result<u64, u64>, Failure> {
    let compared =
        big_file::compare(&file, &copy).map_err(|error| Failure::io(copy.display(), &error))?;
    // The copy has served its purpose, and is large.
    let _ = std::fs::remove_file(&copy);
    Ok(compared)
}
