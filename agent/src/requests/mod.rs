//! One function a request: from its words to answers. Work on disk runs on worker threads.

mod bundles;
mod conflicts;
mod devices;
mod doctor;
mod feeds;
mod fetch;
mod files;
mod follow;
mod found;
mod links;
mod messages;
mod metrics;
mod pairing;
mod peers;
mod people;
mod ping;
mod plain;
mod presence;
mod publish;
mod query;
mod room_people;
mod rooms;
mod seeding;
mod sign_in;
mod space;
mod status;
mod unpin;
mod value_conflicts;
mod why;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::api::{AnswerSender, CallerGone, Error, Reply, Request};
use crate::core::Core;
use crate::tasks::Running;

/// Does a request and answers it, until it is done or the caller is gone.
///
/// The agent is the last parameter, so that it is let go before the end of the answers is seen: who has
/// read them all may stop the agent and open the home again.
pub(crate) async fn answer(
    to: AnswerSender,
    request: Request,
    payload: Bytes,
    running: Arc<Running>,
) {
    let done = tokio::select! {
        done = dispatch(&running, request, payload, &to) => done,
        () = to.closed() => return,
    };
    if let Err(Ended::Failed(error)) = done {
        let renewed = blocking(&running.core, |core| core.renew_damaged_index()).await;
        let error = match renewed {
            Ok(true) => error.hint("the index was damaged and is made anew: ask again"),
            Ok(false) => error,
            Err(worse) => worse,
        };
        to.error(error).await;
    }
}

/// Why a request ended early.
#[derive(Debug)]
pub(crate) enum Ended {
    Failed(Error),
    CallerGone,
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Ended::Failed(error)
    }
}

impl From<CallerGone> for Ended {
    fn from(_: CallerGone) -> Self {
        Ended::CallerGone
    }
}

async fn dispatch(
    running: &Arc<Running>,
    request: Request,
    payload: Bytes,
    to: &AnswerSender,
) -> Result<(), Ended> {
    let core = &running.core;
    match request {
        Request::Peers { of, watch } => peers::peers(running, of, watch, to).await?,
        Request::Ping {
            peer,
            count,
            wait_ms,
        } => ping::ping(running, &peer, count, wait_ms, to).await?,
        Request::PairOffer => pairing::offer(running, to).await?,
        Request::PairAnswer { text } => pairing::answer(running, &text, to).await?,
        Request::PairFinish { text } => pairing::finish(running, &text, to).await?,
        Request::Doctor => to.reply(doctor::doctor(running).await?).await?,
        Request::Egress => to.reply(doctor::egress(running).await?).await?,
        Request::Stop => {
            to.reply(Reply::Stopping).await?;
            running.ask_to_stop();
        }
        Request::Id => to.reply(status::id(core)).await?,
        Request::Status => to.reply(status::status(running).await?).await?,
        Request::Metrics => to.reply(metrics::metrics(running).await?).await?,
        Request::Devices { of } => {
            one(core, to, move |core| devices::list(core, of.as_deref())).await?;
        }
        Request::DeviceRename { device, name } => {
            one(core, to, move |core| devices::rename(core, &device, &name)).await?;
        }
        Request::DeviceRevoke {
            device,
            undo,
            preview,
        } => {
            one(core, to, move |core| {
                devices::revoke(core, &device, &undo, preview)
            })
            .await?;
        }
        Request::LinkOpen { powers, wait } => links::open(running, powers, wait, to).await?,
        Request::LinkAsk { asked } => {
            one(core, to, move |core| links::ask(core, &asked)).await?;
        }
        Request::LinkConfirm { words } => {
            one(core, to, move |core| links::confirm(core, &words)).await?;
        }
        Request::Unpublished => {
            one(core, to, |core| {
                let feeds = core.unpublished_feeds()?;
                Ok(Reply::Unpublished { feeds })
            })
            .await?;
        }
        Request::Safety { agent } => {
            one(core, to, move |core| devices::safety(core, &agent)).await?;
        }
        Request::SignInCreate { offer } => {
            one(core, to, move |core| sign_in::create(core, &offer.0)).await?;
        }
        Request::SignIn => one(core, to, sign_in::show).await?,
        Request::SignInRevoke => one(core, to, sign_in::revoke).await?,
        Request::SignInHold { link } => {
            one(core, to, move |core| sign_in::hold(core, &link)).await?;
        }
        Request::SignInRelease { agent } => {
            one(core, to, move |core| sign_in::release(core, &agent)).await?;
        }
        Request::FeedCreate {
            path,
            plain,
            private,
            kind,
        } => {
            one(core, to, move |core| {
                feeds::create(core, &path, plain, private, kind.as_deref())
            })
            .await?;
        }
        Request::FeedRename { path, to: label } => {
            one(core, to, move |core| feeds::rename(core, &path, &label)).await?;
        }
        Request::FeedTake { path } => {
            one(core, to, move |core| feeds::take(core, &path)).await?;
        }
        Request::FeedRetire { path } => {
            one(core, to, move |core| feeds::retire(core, &path)).await?;
        }
        Request::FeedList => one(core, to, feeds::list).await?,
        Request::FeedInfo { feed } => one(core, to, move |core| feeds::info(core, &feed)).await?,
        Request::FeedAppend { path, lengths } => {
            one(core, to, move |core| {
                feeds::append(core, &path, &lengths, &payload)
            })
            .await?;
        }
        Request::FeedRead {
            feed,
            bytes: Some(bytes),
            ..
        } => {
            many(core, to, move |core, to| {
                feeds::read_bytes(core, &feed, bytes, to)
            })
            .await?;
        }
        Request::FeedRead {
            feed,
            range,
            wait_ms,
            ..
        } => {
            let range = range.map(|range| range.0);
            if let Some(ms) = wait_ms {
                fetch::fetch(core, &feed, range.as_ref(), Duration::from_millis(ms)).await?;
            }
            many(core, to, move |core, to| {
                feeds::read(core, &feed, range, to)
            })
            .await?;
        }
        Request::FeedImport {
            path,
            file,
            block_size,
        } => {
            many(core, to, move |core, to| {
                files::import(core, &path, &file, block_size, to)
            })
            .await?;
        }
        Request::FeedExport { feed, file, range } => {
            let range = range.map(|range| range.0);
            many(core, to, move |core, to| {
                files::export(core, &feed, &file, range, to)
            })
            .await?;
        }
        Request::BundleExport { feed, file, ranges } => {
            let ranges: Vec<_> = ranges.into_iter().map(|range| range.0).collect();
            many(core, to, move |core, to| {
                bundles::export(core, &feed, &file, &ranges, to)
            })
            .await?;
        }
        Request::BundleImport { file } => {
            many(core, to, move |core, to| bundles::import(core, &file, to)).await?;
        }
        Request::FeedClear {
            feed,
            range,
            own,
            everywhere,
        } => {
            one(core, to, move |core| {
                space::clear(core, &feed, &range.0, own, everywhere)
            })
            .await?;
        }
        Request::FeedConflicts { feed } => {
            many(core, to, move |core, to| {
                conflicts::list(core, feed.as_deref(), to)
            })
            .await?;
        }
        Request::FeedTruncate { feed, length } => {
            one(core, to, move |core| {
                conflicts::truncate(core, &feed, length)
            })
            .await?;
        }
        Request::FeedDrop { feed } => {
            one(core, to, move |core| space::drop_feed(core, &feed)).await?;
        }
        Request::StoreStat => one(core, to, space::stat).await?,
        Request::StoreCompact => one(core, to, space::compact).await?,
        Request::StoreCheck => many(core, to, space::check).await?,
        Request::FeedVerify { feed } => {
            many(core, to, move |core, to| feeds::verify(core, &feed, to)).await?;
        }
        Request::Publish {
            path,
            files,
            private,
        } => {
            one(core, to, move |core| {
                publish::publish(core, &path, &files, private)
            })
            .await?;
        }
        Request::FeedServe { feeds, tcp } => plain::serve(running, &feeds, &tcp, to).await?,
        Request::FeedPull {
            keys,
            tcp,
            range,
            bytes,
            live,
        } => {
            let asked = match bytes {
                Some(bytes) => plain::Asked::Bytes(bytes),
                None => plain::Asked::Blocks(range.map(|range| range.0).unwrap_or_default()),
            };
            plain::pull(running, &keys, &tcp, &asked, live, to).await?;
        }
        Request::Follow {
            link,
            range,
            once,
            options,
        } => {
            let range = range.map(|range| range.0).unwrap_or_default();
            follow::follow(running, &link, range, once, options, to).await?;
        }
        Request::Pin {
            link,
            range,
            options,
        } => {
            let range = range.map(|range| range.0).unwrap_or_default();
            let reply = follow::pin(running, &link, range, options).await?;
            to.reply(reply).await?;
        }
        Request::Unpin { link } => {
            one(core, to, move |core| unpin::unpin(core, &link)).await?;
        }
        Request::Unfollow { link } => {
            one(core, to, move |core| follow::unfollow(core, &link)).await?;
        }
        Request::Pins => one(core, to, follow::pins).await?,
        Request::Seed { links } => follow::seed(running, &links, to).await?,
        Request::SeedAccept { link } => seeding::accept(running, &link, to).await?,
        Request::RoomGrant {
            room,
            to: seeder,
            expires_in,
            quota_class,
        } => {
            one(core, to, move |core| {
                seeding::grant(core, &room, &seeder, expires_in, quota_class)
            })
            .await?;
        }
        Request::RoomGrants { room } => {
            one(core, to, move |core| seeding::grants(core, &room)).await?;
        }
        Request::RoomGrantRevoke { room, grant } => {
            one(core, to, move |core| seeding::revoke(core, &room, &grant)).await?;
        }
        Request::SeedList => one(core, to, seeding::list).await?,
        Request::SeedDrop { grant } => {
            one(core, to, move |core| seeding::drop(core, &grant)).await?;
        }
        Request::RoomCreate { name, history } => {
            one(core, to, move |core| {
                rooms::create(core, &name, history.as_deref())
            })
            .await?;
        }
        Request::RoomInvite {
            room,
            role,
            expires_in,
            uses,
        } => {
            one(core, to, move |core| {
                room_people::invite(core, &room, role.as_deref(), expires_in, uses)
            })
            .await?;
        }
        Request::RoomInvites { room } => {
            one(core, to, move |core| room_people::invites(core, &room)).await?;
        }
        Request::RoomInviteRevoke { room, key } => {
            one(core, to, move |core| {
                room_people::revoke_invite(core, &room, &key)
            })
            .await?;
        }
        Request::RoomRole { room, who, role } => {
            one(core, to, move |core| {
                room_people::role(core, &room, &who, &role)
            })
            .await?;
        }
        Request::RoomRemove { room, who, reason } => {
            one(core, to, move |core| {
                room_people::remove(core, &room, &who, &reason)
            })
            .await?;
        }
        Request::RoomLeave { room, purge } => {
            one(core, to, move |core| room_people::leave(core, &room, purge)).await?;
        }
        Request::RoomExport { room, folder } => {
            one(core, to, move |core| {
                room_people::export(core, &room, &folder)
            })
            .await?;
        }
        Request::Direct { agent, text } => {
            one(core, to, move |core| rooms::direct(core, &agent, &text)).await?;
        }
        Request::RoomJoin { link, wait_seconds } => {
            rooms::join(running, &link, wait_seconds, to).await?;
        }
        Request::RoomList => one(core, to, rooms::list).await?,
        Request::RoomMembers { room } => {
            one(core, to, move |core| room_people::members(core, &room)).await?;
        }
        Request::Send {
            room,
            text,
            reply_to,
        } => {
            one(core, to, move |core| {
                messages::send(core, &room, &text, reply_to.as_deref())
            })
            .await?;
        }
        Request::React {
            room,
            message,
            emoji,
            remove,
        } => {
            one(core, to, move |core| {
                messages::react(core, &room, &message, &emoji, remove)
            })
            .await?;
        }
        Request::Edit {
            room,
            message,
            text,
        } => {
            one(core, to, move |core| {
                messages::edit(core, &room, &message, &text)
            })
            .await?;
        }
        Request::Delete {
            room,
            message,
            reason,
        } => {
            one(core, to, move |core| {
                messages::delete(core, &room, &message, &reason)
            })
            .await?;
        }
        Request::Read {
            room,
            last,
            watch,
            mentions,
            presence,
        } => {
            let asked = messages::Asked {
                last,
                watch,
                mentions,
                presence,
            };
            messages::read(core, &room, &asked, to).await?;
        }
        Request::Typing { room, stop } => {
            one(core, to, move |core| presence::typing(core, &room, stop)).await?;
        }
        Request::Stance { set } => {
            one(core, to, move |core| presence::stance(core, set)).await?;
        }
        Request::Search { query } => {
            many(core, to, move |core, to| found::search(core, &query, to)).await?;
        }
        Request::Index { rebuild } => {
            one(core, to, move |core| found::index(core, rebuild)).await?
        }
        Request::IndexCheck => one(core, to, found::check).await?,
        Request::Query { sql } => {
            one(core, to, move |core| query::query(core, &sql)).await?;
        }
        Request::Profile { of } => {
            one(core, to, move |core| people::profile(core, of.as_deref())).await?;
        }
        Request::ProfileSet {
            name,
            about,
            signal_urls,
        } => {
            one(core, to, move |core| {
                people::set_profile(core, name.as_deref(), about.as_deref(), signal_urls)
            })
            .await?;
        }
        Request::Contacts => one(core, to, people::contacts).await?,
        Request::ContactSet { who, petname, note } => {
            one(core, to, move |core| {
                people::set_contact(core, &who, &petname, note.as_deref())
            })
            .await?;
        }
        Request::ContactRemove { who } => {
            one(core, to, move |core| people::remove_contact(core, &who)).await?;
        }
        Request::Preferences { name } => {
            one(core, to, move |core| {
                people::preferences(core, name.as_deref())
            })
            .await?;
        }
        Request::PreferenceSet { name, value } => {
            one(core, to, move |core| {
                people::set_preference(core, &name, value.as_deref())
            })
            .await?;
        }
        Request::Vouch {
            who,
            trusted,
            reason,
        } => {
            one(core, to, move |core| {
                people::vouch(core, &who, trusted, &reason)
            })
            .await?;
        }
        Request::Vouches { by, about } => {
            one(core, to, move |core| {
                people::vouches(core, by.as_deref(), about.as_deref())
            })
            .await?;
        }
        Request::Attest { who, text } => {
            one(core, to, move |core| people::attest(core, &who, &text)).await?;
        }
        Request::Witness { entry, room, text } => {
            one(core, to, move |core| {
                people::witness(core, &entry, room.as_deref(), &text)
            })
            .await?;
        }
        Request::Claims { by, about } => {
            one(core, to, move |core| {
                people::claims(core, by.as_deref(), about.as_deref())
            })
            .await?;
        }
        Request::ValueConflicts { all } => {
            one(core, to, move |core| value_conflicts::list(core, all)).await?;
        }
        Request::ValueConflict { id } => {
            one(core, to, move |core| value_conflicts::show(core, &id)).await?;
        }
        Request::ConflictResolve { id, side } => {
            one(core, to, move |core| {
                value_conflicts::resolve(core, &id, side)
            })
            .await?;
        }
        Request::Why { thing, room } => {
            one(core, to, move |core| {
                why::why(core, &thing, room.as_deref())
            })
            .await?;
        }
    }
    Ok(())
}

/// Does blocking work with one answer on a worker thread.
async fn one(
    core: &Arc<Core>,
    to: &AnswerSender,
    work: impl FnOnce(&Core) -> Result<Reply, Error> + Send + 'static,
) -> Result<(), Ended> {
    let reply = blocking(core, work).await?;
    Ok(to.reply(reply).await?)
}

/// Does blocking work with many answers on a worker thread.
async fn many(
    core: &Arc<Core>,
    to: &AnswerSender,
    work: impl FnOnce(&Core, &AnswerSender) -> Result<(), Ended> + Send + 'static,
) -> Result<(), Ended> {
    let (core, to) = (core.clone(), to.clone());
    let done = tokio::task::spawn_blocking(move || work(&core, &to)).await;
    done.unwrap_or_else(|error| Err(Error::general(format!("worker: {error}")).into()))
}

/// Does blocking work on a worker thread.
pub(crate) async fn blocking<T: Send + 'static>(
    core: &Arc<Core>,
    work: impl FnOnce(&Core) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let core = core.clone();
    let turn = core.at_work.clone().acquire_owned().await;
    let turn = turn.map_err(|_| Error::general("the agent has stopped"))?;
    let done = tokio::task::spawn_blocking(move || {
        let done = work(&core);
        // In this order: whoever waits for the turn may open the home again.
        drop(core);
        drop(turn);
        done
    })
    .await;
    done.unwrap_or_else(|error| Err(Error::general(format!("worker: {error}"))))
}
