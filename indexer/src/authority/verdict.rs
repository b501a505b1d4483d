//! What became of each act, and why.

use std::fmt;

use kinlog_feeds::crypto::{AgentId, FeedKey};
use kinlog_feeds::text;

use crate::entry::{ActHash, ROOM_RULES, Role};
use crate::limits::{ROOM_ACTS_MAX, ROOM_DEVICES_MAX, ROOM_MEMBERS_MAX};

/// What an act comes to among those held.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It holds.
    Counts,
    /// These acts that its author had seen are not held; it says nothing until they are.
    Waits(Vec<ActHash>),
    /// Its author might not do it.
    Refused(Refusal),
    /// It was authorised, and another act took it back.
    Void(Void),
    /// The room has more acts than are evaluated.
    Beyond,
}

impl Verdict {
    /// Returns whether the act holds.
    pub fn counts(&self) -> bool {
        *self == Verdict::Counts
    }

    /// Returns the word that `index.db` and people use.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Verdict::Counts => "counts",
            Verdict::Waits(_) => "waits",
            Verdict::Refused(_) => "refused",
            Verdict::Void(_) => "void",
            Verdict::Beyond => "beyond",
        }
    }

    /// Returns the act that took this one back.
    pub fn voided_by(&self) -> Option<ActHash> {
        match self {
            Verdict::Void(void) => void.by,
            _ => None,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Counts => f.write_str("counts"),
            Verdict::Waits(missing) => {
                let some: Vec<String> = missing.iter().map(|hash| short(hash.as_bytes())).collect();
                write!(f, "waits for acts its author had seen: {}", some.join(" "))
            }
            Verdict::Refused(refusal) => write!(f, "not authorised: {refusal}"),
            Verdict::Void(void) => write!(f, "void: {void}"),
            Verdict::Beyond => write!(f, "beyond the {ROOM_ACTS_MAX} acts that are evaluated"),
        }
    }
}

/// Why an act is not authorised; decided by its own past, so for ever.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Refusal {
    /// No genesis, or not the one that the room's id names.
    OtherGenesis,
    /// The room was made by a newer build, whose rules this one does not have.
    NewerRules { rules: u32 },
    /// It names an act that is not authorised.
    NamesRefused { act: ActHash },
    /// Its past does not hold each act of its feed before it, once: it says that there are `seq`,
    /// the past holds `count`.
    Sequence { seq: u64, count: u64 },
    /// Its feed has as many acts as one of its author's role may.
    TooMany { limit: u64 },
    /// A claim, signature or identity set that it carries does not verify.
    Carried,
    /// It is sealed in an epoch that neither sealed the genesis nor is announced in its past.
    Sealed,
    /// Its feed is not in the room, in its past.
    Stranger,
    /// Its feed was cut, in its past.
    Cut { by: ActHash },
    /// Its author has no role, in its past.
    NoMember { agent: AgentId },
    /// Its author's role, in its past, is not enough.
    Role { needed: Role, actual: Role },
    /// It gives more than its author has.
    AboveOwn { given: Role, own: Role },
    /// It changes its author's own role, and does not lower it.
    NotLower { given: Role, own: Role },
    /// It removes or demotes a member of higher rank.
    HigherRank { agent: AgentId },
    /// Whom it is about is no member, in its past.
    NoTarget { agent: AgentId },
    /// One leaves; one does not remove oneself.
    Oneself,
    /// It would leave no owner.
    LastOwner,
    /// A device joins its own agent alone.
    OtherAgent { agent: AgentId },
    /// The feed was in the room already.
    KnownFeed { feed: FeedKey },
    /// The device is in the room already.
    KnownDevice,
    /// The device is not in the room, or its agent revoked it before.
    NotLive,
    /// The identity sets in its past say that the device is none of the agent's.
    NoDevice,
    /// No invite with this key, in its past.
    NoInvite,
    /// The invite gives less.
    InviteRole { given: Role, invite: Role },
    /// The invite was revoked, in its past.
    InviteRevoked { by: ActHash },
    /// The invite admitted as many as it may, in its past.
    InviteUsedUp { uses: u32 },
    /// The entry is dated after the invite's end, ms.
    InviteExpired { expired_ms: u64, dated_ms: u64 },
    /// There is an invite with this key already.
    KnownInvite,
    /// There is an epoch with one of these ids already.
    KnownEpoch,
    /// There is a grant with this hash already.
    KnownGrant,
    /// No grant with this hash, in its past.
    NoGrant,
    /// The room has as many members as it may.
    Members,
    /// The room has as many devices as it may.
    Devices,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |role: &Role| role.as_str();
        match self {
            Refusal::OtherGenesis => f.write_str("not the beginning that the room's id names"),
            Refusal::NewerRules { rules } => write!(
                f,
                "the room was made by a newer kinlog: it has rules {rules}, this one knows {ROOM_RULES}"
            ),
            Refusal::NamesRefused { act } => write!(
                f,
                "it goes after {}, which is not authorised",
                short(act.as_bytes())
            ),
            Refusal::Sequence { seq, count } => write!(
                f,
                "it says that its feed has {seq} acts before it, what its author had seen holds {count}"
            ),
            Refusal::TooMany { limit } => write!(f, "its feed has the {limit} acts that it may"),
            Refusal::Carried => f.write_str("a claim or signature that it carries does not verify"),
            Refusal::Sealed => f.write_str("sealed in an epoch that its author had not seen"),
            Refusal::Stranger => f.write_str("its feed is not in the room"),
            Refusal::Cut { by } => write!(f, "its feed was cut by {}", short(by.as_bytes())),
            Refusal::NoMember { agent } => {
                write!(f, "{} is no member", short(agent.as_bytes()))
            }
            Refusal::Role { needed, actual } => {
                write!(
                    f,
                    "its author is {}, it takes {}",
                    word(actual),
                    word(needed)
                )
            }
            Refusal::AboveOwn { given, own } => {
                write!(f, "its author is {} and gives {}", word(own), word(given))
            }
            Refusal::NotLower { given, own } => write!(
                f,
                "its author is {} and makes itself {}: one only lowers oneself",
                word(own),
                word(given)
            ),
            Refusal::HigherRank { agent } => {
                write!(
                    f,
                    "{} ranks higher than its author",
                    short(agent.as_bytes())
                )
            }
            Refusal::NoTarget { agent } => {
                write!(f, "{} was no member", short(agent.as_bytes()))
            }
            Refusal::Oneself => f.write_str("one leaves, and does not remove oneself"),
            Refusal::LastOwner => f.write_str("it would leave no owner"),
            Refusal::OtherAgent { agent } => {
                write!(
                    f,
                    "a device of {}, who is not its author",
                    short(agent.as_bytes())
                )
            }
            Refusal::KnownFeed { feed } => {
                write!(f, "feed {} was in the room already", short(feed.as_bytes()))
            }
            Refusal::KnownDevice => f.write_str("the device is in the room already"),
            Refusal::NotLive => f.write_str("the device is in the room no more"),
            Refusal::NoDevice => f.write_str("the device is none of the agent's"),
            Refusal::NoInvite => f.write_str("there is no such invite"),
            Refusal::InviteRole { given, invite } => {
                write!(f, "the invite is for {}, not {}", word(invite), word(given))
            }
            Refusal::InviteRevoked { by } => {
                write!(f, "the invite was revoked by {}", short(by.as_bytes()))
            }
            Refusal::InviteUsedUp { uses } => write!(f, "the invite admits {uses}, and did"),
            Refusal::InviteExpired {
                expired_ms,
                dated_ms,
            } => write!(
                f,
                "the invite ended at {expired_ms} ms, this is dated {dated_ms} ms"
            ),
            Refusal::KnownInvite => f.write_str("there is an invite with this key"),
            Refusal::KnownEpoch => f.write_str("there is an epoch with this id"),
            Refusal::KnownGrant => f.write_str("there is a grant with this hash"),
            Refusal::NoGrant => f.write_str("there is no such grant"),
            Refusal::Members => write!(f, "the room has {ROOM_MEMBERS_MAX} members"),
            Refusal::Devices => write!(f, "the room has {ROOM_DEVICES_MAX} devices"),
        }
    }
}

/// An authorised act that does not count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Void {
    /// The act that took it back, where one did.
    pub by: Option<ActHash>,
    /// Why.
    pub why: VoidReason,
    /// It is not meant itself, but what it stands on: what gave its author the role, brought in
    /// its author's device, or invited whom it admits.
    pub stands_on: bool,
}

impl fmt::Display for Void {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.stands_on {
            f.write_str("what it stands on does not count: ")?;
        }
        f.write_str(self.why.as_str())?;
        match self.by {
            Some(by) => write!(f, ", by {}", short(by.as_bytes())),
            None => Ok(()),
        }
    }
}

/// Why an authorised act does not count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum VoidReason {
    /// Its author was removed by a higher rank at the same time.
    Removed,
    /// Its author was given a smaller role at the same time, by a higher rank or by itself.
    Demoted,
    /// Its author left at the same time, with another device.
    Left,
    /// Its author's device was revoked at the same time.
    Revoked,
    /// Whom it is about was given a rank above the one in which it was done, at the same time.
    Lifted,
    /// The device that it brings was never its agent's.
    NeverDevice,
    /// The identity sets, taken together, do not revoke the device.
    NotRevoked,
    /// The invite was revoked at the same time.
    InviteRevoked,
    /// Others were admitted by the invite at the same time, as many as it may admit.
    InviteUsedUp,
    /// A higher rank brought the same key, feed or id at the same time.
    Taken,
    /// Its author did not name an earlier act of its own.
    Skips,
    /// It was void in what another had seen who removed its author, or lowered its role.
    WasVoid,
    /// No owner would be left.
    LastOwner,
}

impl VoidReason {
    /// Returns the reason as a person reads it.
    pub const fn as_str(self) -> &'static str {
        match self {
            VoidReason::Removed => "its author was removed at the same time",
            VoidReason::Demoted => "its author lost the role for it at the same time",
            VoidReason::Left => "its author left at the same time",
            VoidReason::Revoked => "its author's device was revoked at the same time",
            VoidReason::Lifted => "whom it is about was given a higher rank at the same time",
            VoidReason::NeverDevice => "the device was never its agent's",
            VoidReason::NotRevoked => "the agent's statements do not revoke the device",
            VoidReason::InviteRevoked => "the invite was revoked at the same time",
            VoidReason::InviteUsedUp => "the invite was used up at the same time",
            VoidReason::Taken => "a higher rank did the same at the same time",
            VoidReason::Skips => "it does not name an earlier act of its author",
            VoidReason::WasVoid => "it did not count where its author was removed or lost the role",
            VoidReason::LastOwner => "no owner would be left",
        }
    }
}

fn short(key: &[u8; 32]) -> String {
    let mut short = text::encode(key);
    short.truncate(8);
    short
}
