//! What an agent can be asked and what it answers: the same values in one process and over the
//! local socket of a running agent, so that every caller has one code path.
//!
//! A request is one [`Request`] with a payload; its answers are a stream of [`Answer`]s that ends,
//! or that ends with an [`Error`].

mod answers;
mod connection;
mod devices;
mod doctor;
mod error;
mod feeds;
mod frame;
mod messages;
mod metrics;
mod peers;
mod people;
mod presence;
mod reply;
mod request;
mod rooms;
mod seeding;
mod selection;
mod status;
mod text;

pub use answers::{Answer, AnswerSender, Answers, CallerGone};
pub use connection::Connection;
pub(crate) use connection::Told;
pub use devices::{
    CutInfo, DeviceChange, DeviceInfo, HeldSignInInfo, LinkAskedInfo, SignInInfo, SignInKeyInfo,
};
pub use doctor::{DoctorInfo, EgressInfo};
pub use error::{Error, ErrorKind};
pub use feeds::{
    BlockProblem, ConflictHead, ConflictInfo, DocumentInfo, FeedInfo, FollowProgress, FollowStep,
    PinInfo, RepairedFeedInfo, StoreInfo, TransferProgress, UnpublishedFeed,
};
pub use frame::{Frame, read_frame, write_frame};
pub use messages::{DeletedInfo, MessageInfo, ReactionInfo, ReplyInfo};
pub use metrics::{ConnectionCount, Metrics, Timings};
pub use peers::{PairedInfo, PeerInfo, PeerState, PongInfo, StepInfo, WayInfo, WayKind};
pub use people::{
    ClaimInfo, ConflictSide, ContactInfo, PreferenceInfo, ProfileInfo, ValueConflictInfo, VouchInfo,
};
pub use presence::{PresenceInfo, PresenceState, Stance};
pub use reply::{FoundEntry, IdInfo, Reply, WhyReason};
pub use request::{PinOptions, Request};
pub use rooms::{
    InviteInfo, MemberDeviceInfo, MemberInfo, ReaderInfo, RoomChange, RoomExported, RoomInfo,
    RoomLeft,
};
pub use seeding::{GrantInfo, SeedingInfo};
pub use selection::Selection;
pub use status::{
    FeedStatus, IceInfo, LadderInfo, LanStatus, PoolInfo, RouteStatus, SearchInfo, SearchStep,
    SessionStatus, SignalStatus, Status, StoreStatus,
};
pub use text::Text;
