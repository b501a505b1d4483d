//! Everything that can stand on the command line.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::command::{
    backup, device, doctor, feed, follow, id, index, init, lock, message, pair, peers, people,
    ping, presence, publish, recover, room, sign_in, signal, store, up, value_conflicts,
};
use crate::demo;

/// Logs that live with your people: append here, follow there, no server holds your data.
#[derive(Debug, Parser)]
#[command(
    name = "kinlog",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = EXIT_CODES,
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0 ok                    4 no peers, or timed out     8 needs a running agent
  1 general               5 verification failed        9 a fork was found
  2 usage, bad text       6 permission, other process  130 interrupted
  3 not found             7 quota or disk full         10 device must be renewed";

/// What every command understands.
#[derive(Args, Clone, Debug)]
pub(crate) struct Global {
    /// Folder with the agent's keys and feeds [default: $XDG_DATA_HOME/kinlog]
    #[arg(long, global = true, value_name = "DIR", env = "KINLOG_HOME")]
    pub(crate) home: Option<PathBuf>,

    /// Folder outside the home that tells it from its copies [default: $XDG_STATE_HOME/kinlog]
    #[arg(long, global = true, value_name = "DIR", env = "KINLOG_STATE")]
    pub(crate) state: Option<PathBuf>,

    /// Print data as JSON, one object per line where it goes on
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Print data and errors only
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,

    /// Tell more on stderr; twice for debugging
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    Always,
    Never,
}

/// One family of commands each; a file of its own in `command/` does it.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make an identity and a home for it
    Init(init::InitArguments),
    /// Make a new device with the 24 words, when the others are lost
    Recover(recover::RecoverArguments),
    /// Show who this agent is
    Id(id::IdArguments),
    /// Run the agent as a service until ctrl-c
    Up(up::UpArguments),
    /// Show peers, feeds, what is held and why
    Status,
    /// Connect two machines without any server, by texts that you carry
    #[command(subcommand)]
    Pair(pair::PairCommand),
    /// Look at everything that connecting needs, and say what to do
    Doctor(doctor::DoctorArguments),
    /// Show whom you may meet, and how each is reached now
    Peers(peers::PeersArguments),
    /// Measure the way to somebody, and say how it goes
    Ping(ping::PingArguments),
    /// Show or set how this device shows itself to members of its rooms
    Presence(presence::PresenceArguments),
    /// Tell a room for some seconds that you are writing there
    Typing(presence::TypingArguments),
    /// Show, link, rename and revoke the devices of this agent, or make this one new
    Device {
        #[command(subcommand)]
        command: Option<device::DeviceCommand>,
    },
    /// Show and change what you say of yourself
    Profile {
        #[command(subcommand)]
        command: Option<people::ProfileCommand>,
    },
    /// Call others by names of your own
    Contact {
        #[command(subcommand)]
        command: Option<people::ContactCommand>,
    },
    /// Set what you like, on all your devices
    Preference {
        #[command(subcommand)]
        command: Option<people::PreferenceCommand>,
    },
    /// Say in public whom you trust
    #[command(subcommand)]
    Vouch(people::VouchCommand),
    /// Claim in public what you know of others, or saw
    #[command(subcommand)]
    Attest(people::AttestCommand),
    /// Show values that your devices wrote without knowing of each other, and settle them
    Conflicts {
        #[command(subcommand)]
        command: Option<value_conflicts::ConflictsCommand>,
    },
    /// Sign in on a new device with a password and a code
    SignIn {
        #[command(subcommand)]
        command: Option<sign_in::SignInCommand>,
    },
    /// Lock the home: its secrets and texts need the passphrase from then on
    Lock,
    /// Unlock the home with its passphrase
    Unlock(lock::UnlockArguments),
    /// Put the home under a passphrase, change or remove it
    Passphrase {
        #[command(subcommand)]
        command: Option<lock::PassphraseCommand>,
    },
    /// Make a backup, check one, make a home from one
    #[command(subcommand)]
    Backup(backup::BackupCommand),
    /// Make, fill, read and check feeds
    #[command(subcommand)]
    Feed(feed::FeedCommand),
    /// Look at the store of all feeds, check it, give space back
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Publish text files as searchable documents under a path
    Publish(publish::PublishArguments),
    /// Keep what a link names, now and from now on
    Follow(follow::FollowArguments),
    /// Follow a link no longer
    Unfollow(follow::UnfollowArguments),
    /// Keep what a link names, without waiting for it
    Pin(follow::PinArguments),
    /// Keep it no longer, and give its space back
    Unpin(follow::UnfollowArguments),
    /// Show what is kept, and why
    Pins,
    /// Follow everything given, for ever, and serve it
    Seed(follow::SeedArguments),
    /// Make rooms, invite and join
    #[command(subcommand)]
    Room(room::RoomCommand),
    /// Write to one agent, in a room of the two of you
    Dm(message::DirectArguments),
    /// Write a message into a room
    Send(message::SendArguments),
    /// React to a message
    React(message::ReactArguments),
    /// Change what a message of yours says
    Edit(message::EditArguments),
    /// Delete a message
    Delete(message::DeleteArguments),
    /// Read the messages of a room
    Read(message::ReadArguments),
    /// Search messages and documents
    Search(message::SearchArguments),
    /// Make the index anew, check it, show its hash
    #[command(subcommand)]
    Index(index::IndexCommand),
    /// Ask the index in SQL: one SELECT, nothing is changed
    Query(index::QueryArguments),
    /// Show why a feed is here, or a message is (not) shown
    Why(index::WhyArguments),
    /// Run the server that introduces peers to each other
    #[command(subcommand)]
    Signal(signal::SignalCommand),
    /// Watch it all work: five processes on this machine
    Demo(demo::DemoArguments),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_surface_is_consistent() {
        Arguments::command().debug_assert();
    }
}
