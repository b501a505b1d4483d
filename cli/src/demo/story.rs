//! The play, act by act. Each act does something with real processes and then checks it.

mod large_file;
mod talk;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kinlog_agent::api::{FollowProgress, Reply};

use crate::demo::cast::{Introducer, Player};
use crate::demo::claims::{Claim, Seen, all_over_webrtc, feed_at, meetings, paths_held};
use crate::demo::courses::{COURSES, Course};
use crate::demo::limits::{LOOK_EVERY, MEETING_WAIT_MAX, SETTLE_MAX, TRANSFER_WAIT_MAX};
use crate::demo::report::{Played, Transfer};
use crate::demo::stage::{Stage, seconds};
use crate::error::Failure;
use crate::output::{bytes, count, short_key};

const AUTHOR: &str = "author";
const READER: &str = "reader";
const SEEDER: &str = "seeder";
const LATECOMER: &str = "latecomer";

/// Plays all acts.
pub(crate) async fn play(stage: &mut Stage<'_>) -> Result<Played, Failure> {
    let mut played = Played::default();
    gather(stage).await?;
    let links = publish(stage).await?;
    pin(stage, &links, &mut played).await?;
    without_the_author(stage, &links, &mut played).await?;
    talk::talk(stage, &mut played).await?;
    talk::search(stage, &mut played).await?;
    large_file::send_a_large_file(stage, &mut played).await?;
    look(stage, &mut played).await?;
    close(stage, &mut played).await?;
    Ok(played)
}

/// The signal server starts, and the agents make their homes.
async fn gather(stage: &mut Stage<'_>) -> Result<(), Failure> {
    stage.act("A signal server and four agents, each a process with a home of its own");
    let introducer = Introducer::start().await?;
    stage.tell(
        "signal server",
        &format!("{}  introduces, stores nothing", introducer.url),
    );
    stage.introducer = Some(introducer);
    for name in [AUTHOR, READER, SEEDER, LATECOMER] {
        let player = Player::init(name, &stage.folder).await?;
        stage.tell(
            name,
            &format!("agent {}  {}", short_key(&player.id), player.home.display()),
        );
        stage.players.push(player);
    }
    Ok(())
}

/// A course and the link that others follow it by.
#[derive(Clone, Debug)]
struct Published {
    course: Course,
    link: String,
}

async fn publish(stage: &mut Stage<'_>) -> Result<Vec<Published>, Failure> {
    stage.act("The author publishes five learning paths, offline");
    let author = stage.player(AUTHOR)?;
    let mut links = Vec::new();
    for course in COURSES {
        let files = course.write(&stage.folder.join("courses"))?;
        let path = course.path();
        let mut arguments = vec!["publish".to_owned(), path.clone()];
        arguments.extend(files.iter().map(|file| file.display().to_string()));
        let arguments = arguments.iter().map(String::as_str).collect::<Vec<_>>();
        let link = author
            .ask(&arguments)
            .await?
            .into_iter()
            .find_map(|reply| match reply {
                Reply::Published { link, .. } => link,
                _ => None,
            })
            .ok_or_else(|| {
                Failure::general(format!("author: kinlog publish gave no link for {path}"))
            })?;
        stage.tell(
            AUTHOR,
            &format!("{path}  {}", count(course.lessons(), "lesson")),
        );
        links.push(Published { course, link });
    }
    let url = stage.signal_url()?;
    for name in [AUTHOR, READER, SEEDER] {
        stage.player_mut(name)?.up(&url).await?;
    }
    Ok(links)
}

/// The reader pins two of the five, the seeder all.
async fn pin(
    stage: &mut Stage<'_>,
    links: &[Published],
    played: &mut Played,
) -> Result<(), Failure> {
    stage.act("The reader pins two of the five, the seeder keeps all");
    for published in &links[..2] {
        let (time, got) = follow(stage.player(READER)?, &published.link, |_| {}).await?;
        tell_arrival(stage, READER, &published.course, &got, time);
        played
            .transfers
            .push(transfer(&published.course, (AUTHOR, READER), &got, time));
    }
    let started = Instant::now();
    let mut arguments = vec!["seed"];
    arguments.extend(links.iter().map(|published| published.link.as_str()));
    let mut complete = BTreeSet::new();
    let seeder = stage.player(SEEDER)?;
    seeder
        .watch(
            &arguments,
            "copy of all five paths",
            MEETING_WAIT_MAX,
            |reply| {
                if let Reply::Follow(now) = reply
                    && now.complete
                    && now.path.is_some()
                {
                    complete.insert(now.path.clone());
                }
                (complete.len() == links.len()).then_some(())
            },
        )
        .await?;
    stage.tell(
        SEEDER,
        &format!("all five paths in {}", seconds(started.elapsed())),
    );

    let held = paths_held(&stage.player(READER)?.status().await?, "/paths/");
    let wanted = links[..2]
        .iter()
        .map(|published| published.course.path())
        .collect::<BTreeSet<_>>();
    played.claims.push(Claim::new(
        "the reader stores the two paths it pinned and nothing of the other three",
        held == wanted,
        join(&held),
    ));
    let status = seeder.status().await?;
    let whole = links.iter().filter(|published| {
        feed_at(&status, &published.course.path()).is_some_and(|feed| {
            feed.feed.length >= published.course.lessons()
                && feed.feed.blocks_held == feed.feed.length
        })
    });
    let whole = whole.count();
    played.claims.push(Claim::new(
        "the seeder stores all five paths whole",
        whole == links.len(),
        format!("{whole} of {} whole", links.len()),
    ));
    Ok(())
}

/// The author stops; somebody who never met it gets a path from the seeder.
async fn without_the_author(
    stage: &mut Stage<'_>,
    links: &[Published],
    played: &mut Played,
) -> Result<(), Failure> {
    stage.act("The author leaves; a latecomer who never met it pins a path");
    let pid = stage.player(AUTHOR)?.pid();
    stage.player_mut(AUTHOR)?.down().await?;
    let gone = pid.is_some_and(|pid| !runs(pid));
    stage.tell(
        AUTHOR,
        &format!("process {} has ended", pid.unwrap_or_default()),
    );

    let url = stage.signal_url()?;
    stage.player_mut(LATECOMER)?.up(&url).await?;
    let published = &links[4];
    let path = published.course.path();
    let (time, got) = follow(stage.player(LATECOMER)?, &published.link, |_| {}).await?;
    tell_arrival(stage, LATECOMER, &published.course, &got, time);

    let (seen, with_seeder) = see_latecomer_at_seeder(stage).await?;
    let only_seeder_has_it = seen
        .iter()
        .filter(|seen| seen.name != LATECOMER)
        .all(|seen| paths_held(&seen.status, &path).is_empty() == (seen.name != SEEDER));
    let whole = seen
        .iter()
        .filter(|seen| seen.name == LATECOMER)
        .any(|seen| {
            feed_at(&seen.status, &path).is_some_and(|feed| {
                feed.feed.blocks_held == feed.feed.length
                    && feed.feed.length >= published.course.lessons()
            })
        });
    played.claims.push(Claim::new(
        "the author's process had ended before the latecomer's began",
        gone,
        format!("process {} is gone", pid.unwrap_or_default()),
    ));
    played.claims.push(Claim::new(
        "the latecomer has its path whole, from the seeder, the only one up that held it",
        whole && with_seeder && only_seeder_has_it,
        format!(
            "{} of {path}, connected to the seeder: {with_seeder}",
            count(got.have, "block")
        ),
    ));
    played
        .transfers
        .push(transfer(&published.course, (SEEDER, LATECOMER), &got, time));
    Ok(())
}

/// What the agents say at the end about themselves.
async fn look(stage: &mut Stage<'_>, played: &mut Played) -> Result<(), Failure> {
    played.seen = see(stage, &[AUTHOR, READER, SEEDER, LATECOMER]).await?;
    played.met = meetings(&played.seen);
    played.claims.push(all_over_webrtc(&played.met));
    let unexplained = played
        .seen
        .iter()
        .flat_map(|seen| &seen.status.feeds)
        .filter(|feed| feed.feed.blocks_held > 0 && feed.why.is_empty())
        .count();
    played.claims.push(Claim::new(
        "every feed that is stored says why",
        unexplained == 0,
        format!("{unexplained} without a reason"),
    ));
    Ok(())
}

/// All stop; then every store is checked against the signatures.
async fn close(stage: &mut Stage<'_>, played: &mut Played) -> Result<(), Failure> {
    stage.act("All stop, and each store is checked against the signatures");
    let mut unclean = Vec::new();
    for player in &mut stage.players {
        if let Err(failure) = player.down().await {
            unclean.push(describe(&failure));
        }
    }
    if let Some(server) = stage.introducer.take()
        && let Err(failure) = server.stop().await
    {
        unclean.push(describe(&failure));
    }
    played.claims.push(Claim::new(
        "every process stopped cleanly when asked",
        unclean.is_empty(),
        if unclean.is_empty() {
            "5 processes".to_owned()
        } else {
            unclean.join("; ")
        },
    ));

    let (mut feeds, mut blocks, mut problems) = (0, 0, Vec::new());
    for player in &stage.players {
        let mut own = 0;
        for key in stored_feeds(player).await? {
            feeds += 1;
            for reply in player.ask_others(&["feed", "verify", &key]).await? {
                if let Reply::Verified {
                    blocks_checked,
                    problems: found,
                    ..
                } = reply
                {
                    own += blocks_checked;
                    problems.extend(found.into_iter().map(|problem| problem.problem));
                }
            }
        }
        blocks += own;
        stage.tell(player.name, &format!("{} verified", count(own, "block")));
    }
    played.claims.push(Claim::new(
        "every block in all four stores is what its author signed",
        problems.is_empty() && blocks > 0,
        format!(
            "{} in {}, {}",
            count(blocks, "block"),
            count(feeds, "feed"),
            count(problems.len() as u64, "problem")
        ),
    ));
    Ok(())
}

async fn stored_feeds(player: &Player) -> Result<Vec<String>, Failure> {
    let mut keys = Vec::new();
    for reply in player.ask(&["feed", "list"]).await? {
        if let Reply::Feeds { feeds } = reply {
            keys.extend(
                feeds
                    .iter()
                    .filter(|feed| feed.blocks_held > 0)
                    .map(|feed| feed.key.to_string()),
            );
        }
    }
    Ok(keys)
}

/// Follows a link until all of it is stored; returns the time it took and the last word on it.
async fn follow(
    player: &Player,
    link: &str,
    mut each: impl FnMut(&FollowProgress),
) -> Result<(Duration, FollowProgress), Failure> {
    let started = Instant::now();
    let got = player
        .watch(
            &["follow", link],
            "complete copy",
            TRANSFER_WAIT_MAX,
            |reply| {
                let Reply::Follow(now) = reply else {
                    return None;
                };
                each(now);
                now.complete.then(|| now.clone())
            },
        )
        .await?;
    Ok((started.elapsed(), got))
}

/// Looks at who is up until the latecomer's session with the seeder is seen at both ends: two that dialled
/// each other at once exchange two sessions for one, between one look and the next.
async fn see_latecomer_at_seeder(stage: &Stage<'_>) -> Result<(Vec<Seen>, bool), Failure> {
    let started = Instant::now();
    loop {
        let seen = see(stage, &[READER, SEEDER, LATECOMER]).await?;
        let with_seeder = meetings(&seen).iter().any(|met| {
            let ends = [Some(met.one), met.other];
            ends.contains(&Some(SEEDER)) && ends.contains(&Some(LATECOMER))
        });
        if with_seeder || started.elapsed() > SETTLE_MAX {
            return Ok((seen, with_seeder));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn see(stage: &Stage<'_>, names: &[&'static str]) -> Result<Vec<Seen>, Failure> {
    let mut seen = Vec::new();
    for name in names {
        seen.push(Seen {
            name,
            status: stage.player(name)?.status().await?,
        });
    }
    Ok(seen)
}

fn tell_arrival(
    stage: &Stage<'_>,
    who: &str,
    course: &Course,
    got: &FollowProgress,
    time: Duration,
) {
    stage.tell(
        who,
        &format!(
            "{}  {}, {} in {}",
            course.path(),
            count(got.have, "block"),
            bytes(got.bytes),
            seconds(time)
        ),
    );
}

fn transfer(
    course: &Course,
    ends: (&'static str, &'static str),
    got: &FollowProgress,
    time: Duration,
) -> Transfer {
    Transfer::new(course.path(), ends, (got.have, got.bytes), time)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::general(error.to_string()))
}

/// Returns whether a process of that number exists.
fn runs(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    else {
        return false;
    };
    rustix::process::test_kill_process(pid).is_ok()
}

fn describe(failure: &Failure) -> String {
    failure
        .report()
        .map(|report| report.error)
        .unwrap_or_default()
}

fn join(names: &BTreeSet<String>) -> String {
    names
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}
