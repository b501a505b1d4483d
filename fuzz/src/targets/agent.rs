//! What people paste: links, invites, ranges.

use kinlog_agent::api::Selection;
use kinlog_agent::links::{FeedPath, Invite, Link};

use crate::targets::golden::golden;

pub(super) fn link(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    if let Ok(path) = text.parse::<FeedPath>() {
        assert_eq!(path.to_string().parse::<FeedPath>(), Ok(path));
    }
    let Ok(link) = text.parse::<Link>() else {
        return false;
    };
    assert_eq!(link.to_string().parse::<Link>(), Ok(link));
    true
}

pub(super) fn link_seeds() -> Vec<Vec<u8>> {
    let key = kinlog_feeds::text::encode_link_key(&golden().feed.key().0);
    [
        format!("kinlog://agent/{key}/notes/today#s=ws://meeting.example:4848"),
        format!("kinlog://agent/{key}"),
        format!("kinlog://feed/{key}#s=wss://one.example&s=ws://two.example:99/x"),
    ]
    .map(String::into_bytes)
    .into_iter()
    .filter(|seed| link(seed))
    .collect()
}

pub(super) fn invite(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let Ok(invite) = Invite::decode(text) else {
        return false;
    };
    assert_eq!(Invite::decode(&invite.encode()), Ok(invite));
    true
}

pub(super) fn invite_seeds() -> Vec<Vec<u8>> {
    let invite = Invite {
        room: kinlog_indexer::RoomId([5; 32]),
        seed: kinlog_feeds::crypto::Secret::new([6; 32]),
        signal_urls: vec!["ws://meeting.example:4848".to_owned()],
    };
    Vec::from([invite.encode().into_bytes()])
}

pub(super) fn selection(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let Ok(selection) = text.parse::<Selection>() else {
        return false;
    };
    assert_eq!(selection.to_string().parse::<Selection>(), Ok(selection));
    true
}

pub(super) fn selection_seeds() -> Vec<Vec<u8>> {
    [
        "all",
        "0..17",
        "last:20",
        "18446744073709551614..18446744073709551615",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
