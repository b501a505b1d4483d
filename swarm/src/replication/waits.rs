//! Who waits for a single block, and is answered when that ends.

use std::collections::BTreeMap;

use kinlog_feeds::replicate::{GetEnd, GetId, GetRefused};
use tokio::sync::oneshot;

/// Where the answer goes.
pub(crate) type GetReply = oneshot::Sender<Result<GetEnd, GetRefused>>;

/// Everybody who waits.
#[derive(Debug, Default)]
pub(super) struct Waits {
    replies: BTreeMap<GetId, GetReply>,
}

impl Waits {
    /// Somebody waits from now on, or hears at once why not.
    pub(super) fn add(&mut self, id: Result<GetId, GetRefused>, reply: GetReply) {
        match id {
            Ok(id) => {
                self.replies.insert(id, reply);
            }
            Err(refused) => {
                // Whoever asked may have gone meanwhile.
                let _ = reply.send(Err(refused));
            }
        }
    }

    pub(super) fn end(&mut self, id: GetId, end: GetEnd) {
        if let Some(reply) = self.replies.remove(&id) {
            let _ = reply.send(Ok(end));
        }
    }

    /// Forgets those who wait no longer, and returns what they waited for.
    pub(super) fn gone(&mut self) -> Vec<GetId> {
        let gone = self.replies.extract_if(.., |_, reply| reply.is_closed());
        gone.map(|(id, _)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_no_longer_is_forgotten() {
        let mut waits = Waits::default();
        let (first, stays) = oneshot::channel();
        let (second, leaves) = oneshot::channel();
        let (third, refused) = oneshot::channel();
        waits.add(Ok(GetId(1)), first);
        waits.add(Ok(GetId(2)), second);
        waits.add(Err(GetRefused::UnknownFeed), third);
        assert!(waits.gone().is_empty());
        drop(leaves);
        assert_eq!(waits.gone(), [GetId(2)]);
        waits.end(GetId(1), GetEnd::NobodyHas);
        assert_eq!(stays.blocking_recv(), Ok(Ok(GetEnd::NobodyHas)));
        assert_eq!(refused.blocking_recv(), Ok(Err(GetRefused::UnknownFeed)));
        assert!(waits.replies.is_empty());
    }
}
