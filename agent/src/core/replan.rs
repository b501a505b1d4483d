//! Putting a new plan into effect: store, host, network.

use std::sync::Arc;

use kinlog_feeds::store::{Kind, Role};

use crate::api::Error;
use crate::core::{Core, lock};
use crate::pins::plan;

impl Core {
    /// Decides anew from everything known, and puts it into effect.
    pub(crate) fn replan(&self) -> Result<(), Error> {
        let _turn = lock(&self.planning);
        let must_renew = self.guard.doubt().is_some();
        self.knowledge(|knowledge| knowledge.must_renew = must_renew);
        let length = |key: &_| self.store.feed(key).map_or(0, |feed| feed.head().length);
        let plan = self.knowledge(|knowledge| plan(knowledge, self.switches, length));
        for key in plan.interests.keys() {
            if self.store.feed(key).is_none() {
                let listed = self.knowledge(|knowledge| {
                    knowledge.listed(key).is_some()
                        || knowledge.directory_of(key).is_some()
                        || knowledge.room_of(key).is_some()
                });
                // What no directory or room lists may follow Hypercore's looser rules.
                let kind = if listed { Kind::Kinlog } else { Kind::Plain };
                self.store.create_unknown(*key, Role::Followed, kind)?;
            }
        }
        self.host.set_view(plan.view.clone());
        if let Some(network) = self.network() {
            network.apply(&plan);
        }
        *lock(&self.plan) = Arc::new(plan);
        self.changed();
        Ok(())
    }
}
