//! What is asked of whom: first the head, then the blocks that are wanted.

use crate::limits::{REQUEST_TIMEOUT, WANT_REGION_BLOCKS, WANT_REGIONS_MAX, WANT_SETTLE};
use crate::replicate::channel::{Asked, Gathered, What};
use crate::replicate::feed::{Feed, Upgrading};
use crate::replicate::flow::Context;
use crate::replicate::mistake::{Mistake, makes};
use crate::replicate::{FeedEvent, Output, PeerId, ProtocolViolation, Want};
use crate::tree::{ProofRequest, UpgradeRequest};
use crate::wire::hypercore::{self, Message, Request};

/// What planning a feed came to.
#[derive(Debug, Default)]
pub(super) struct Planned {
    /// The window was full: there is more to ask for.
    pub(super) starved: bool,
    /// Something is awaited that only time decides.
    pub(super) waits: bool,
    pub(super) violations: Vec<(PeerId, ProtocolViolation)>,
}

impl Feed {
    /// Asks for whatever the windows allow, and tells what changed.
    pub(super) fn plan(&mut self, cx: &mut Context<'_>) -> Planned {
        let ends = self.end_interest(cx);
        let mut planned = self.plan_requests(cx);
        planned.waits |= self.end_gets(cx) | self.renew_watch(cx) | ends;
        planned
    }

    fn plan_requests(&mut self, cx: &mut Context<'_>) -> Planned {
        let mut planned = Planned::default();
        if self.stopped {
            self.synchronize(cx);
            return planned;
        }
        planned.violations = self.free_what_hangs(cx);
        planned.violations.append(&mut self.convicted);
        if self.takes_nothing_but_pushes() {
            self.synchronize(cx);
            return planned;
        }
        self.look_at_forks(cx);
        self.look_while_withheld(cx);
        self.seek_rival(cx);
        self.plan_reorg(cx);
        planned.starved = self.plan_upgrade(cx);
        self.synchronize(cx);
        if self.wanted.is_settled() {
            // A window moves on before what it leaves behind is asked for.
            self.wanted.settle(self.plan_length());
        } else if !self.head_wanted || (self.interest.live && self.heads_are_known(cx)) {
            self.wanted.settle(self.length);
        }
        self.plan_wants(cx);
        planned.starved |= self.plan_blocks(cx);
        self.send_gathered(cx);
        planned.waits = self.tell_followers(cx, planned.starved) || self.waits_for_silent_peer(cx);
        self.close_idle(cx);
        planned
    }

    /// Closes channels of which neither side has any use, as npm `hypercore` does and waits for: whoever
    /// wants something later opens it again.
    fn close_idle(&mut self, cx: &mut Context<'_>) {
        for (peer, channel) in &mut self.channels {
            let rests =
                |told: Option<hypercore::Synchronize>| told.is_some_and(|told| !told.downloading);
            let is_idle = rests(channel.remote) && rests(channel.told) && channel.asked.is_empty();
            if is_idle && !channel.is_kinlog && !channel.is_closing {
                channel.is_closing = true;
                cx.outputs.push_back(Output::CloseIdle {
                    peer: *peer,
                    key: self.key,
                });
            }
        }
    }

    /// Returns whether a peer has a longer head that it is asked for once it counts as silent no more:
    /// nothing else may happen until then.
    fn waits_for_silent_peer(&self, cx: &Context<'_>) -> bool {
        let wanted = self.interest.live || self.head_wanted;
        let mut silent = self
            .channels
            .values()
            .filter(|channel| channel.is_snubbed(cx.now));
        let is_forgotten = makes(Mistake::SilenceForgotten);
        !is_forgotten && wanted && silent.any(|channel| channel.remote_length() > self.length)
    }

    /// Proofs hang when nothing on its way can bring the node they lead to.
    fn free_what_hangs(&mut self, cx: &mut Context<'_>) -> Vec<(PeerId, ProtocolViolation)> {
        if self.parked.is_empty() || self.is_applying() {
            return Vec::new();
        }
        let nothing_comes = self.in_flight() == 0;
        let now = cx.now;
        let old = |parked: Option<crate::Time>| {
            parked.is_some_and(|parked| now.since(parked) >= REQUEST_TIMEOUT)
        };
        let (hanging, parked) = std::mem::take(&mut self.parked)
            .into_iter()
            .partition(|item| nothing_comes || old(item.parked_at()));
        self.parked = parked;
        self.drop_parked(cx, hanging)
    }

    /// Asks the peer with the longest head for it; returns whether the window kept it from that.
    fn plan_upgrade(&mut self, cx: &mut Context<'_>) -> bool {
        let wanted = self.interest.live || self.head_wanted;
        if !wanted || self.upgrading.is_some() {
            return false;
        }
        let mut is_starved = false;
        let longest = self
            .channels
            .iter()
            .filter_map(|(peer, channel)| {
                let remote = channel.remote.as_ref()?;
                let usable = channel.is_usable(cx.now, self.fork_for(remote))
                    && remote.can_upgrade
                    && remote.length > self.length
                    && channel.upgrade_refused != Some(remote.length);
                let found = cx.peers.get(peer).filter(|_| usable)?;
                let has_room = cx.flow.allows(found, 0, usize::MAX, true);
                is_starved |= !has_room;
                has_room.then_some((remote.length, std::cmp::Reverse(*peer), *remote))
            })
            .max_by_key(|(length, peer, _)| (*length, *peer));
        let Some((target, std::cmp::Reverse(peer), remote)) = longest else {
            if self.length > 0 && self.heads_are_known(cx) && !self.interest.live {
                self.head_wanted = false;
            }
            return is_starved;
        };
        let upgrade = UpgradeRequest {
            start: self.length,
            length: target - self.length,
        };
        let proof = ProofRequest {
            upgrade: Some(upgrade),
            ..ProofRequest::default()
        };
        let (fork, manifest) = (self.fork_for(&remote), !self.manifest_known);
        self.ask(
            cx,
            peer,
            What::Upgrade(target),
            0,
            fork,
            proof,
            manifest,
            true,
        );
        self.upgrading = Some(Upgrading {
            peer,
            target,
            is_pushed: false,
        });
        false
    }

    /// Returns whether a peer has told its head and none has a longer one that can be had.
    fn heads_are_known(&self, cx: &Context<'_>) -> bool {
        let mut known = false;
        for channel in self.channels.values() {
            let Some(remote) = &channel.remote else {
                continue;
            };
            if remote.fork != self.fork || channel.is_snubbed(cx.now) {
                continue;
            }
            if remote.length > self.length && channel.upgrade_refused != Some(remote.length) {
                return false;
            }
            known |= remote.length > 0;
        }
        known && self.upgrading.is_none()
    }

    /// Asks peers that hold blocks with gaps what they hold of the regions that are wanted.
    fn plan_wants(&mut self, cx: &mut Context<'_>) {
        let length = self.plan_length();
        let (fork, is_new) = (self.fork, self.length == 0);
        let mut due = Vec::new();
        for (peer, channel) in &mut self.channels {
            let Some(remote) = channel
                .remote
                .filter(|remote| is_new || remote.fork == fork)
            else {
                continue;
            };
            let end = length.min(remote.length);
            // Enough is known while the peer's blocks fill the window.
            let mut missing = None;
            'runs: for run in self.wanted.below(end) {
                let mut at = run.start;
                loop {
                    at = self.planned.first_unset_from(at);
                    if at >= run.end {
                        break;
                    }
                    let known_end = channel.remote_have.first_unset_from(at);
                    if known_end > at {
                        at = known_end;
                        continue;
                    }
                    match channel.unasked_region(at) {
                        Some(region) => {
                            missing = Some(region);
                            break 'runs;
                        }
                        None => at = (at / WANT_REGION_BLOCKS + 1) * WANT_REGION_BLOCKS,
                    }
                }
            }
            if let Some(region) = missing
                && channel.wants.len() < WANT_REGIONS_MAX
            {
                channel.wants.insert(region, cx.now);
                due.push((*peer, region));
            }
        }
        for (peer, region) in due {
            let start = region * WANT_REGION_BLOCKS;
            let want = hypercore::Want {
                start,
                length: WANT_REGION_BLOCKS,
                any: false,
            };
            cx.outputs.push_back(self.send(peer, Message::Want(want)));
        }
    }

    #[allow(clippy::too_many_arguments)] // one call for the three kinds of request
    pub(super) fn ask(
        &mut self,
        cx: &mut Context<'_>,
        peer: PeerId,
        what: What,
        bytes: usize,
        fork: u64,
        proof: ProofRequest,
        manifest: bool,
        urgent: bool,
    ) {
        let in_set = matches!(what, What::Block(index) if self.asks_in_set(peer, index));
        let (Some(channel), Some(known)) = (self.channels.get_mut(&peer), cx.peers.get_mut(&peer))
        else {
            return;
        };
        let departure = cx.flow.asked(cx.now, known, bytes);
        known.in_sets += usize::from(in_set);
        let id = channel.ask(Asked {
            what,
            bytes,
            sent: cx.now,
            order: cx.flow.next_order(),
            fork,
            departure,
            hedged: false,
            in_set,
        });
        if let Some(block) = proof.block.filter(|_| in_set) {
            channel.gathered.push(Gathered {
                id,
                block: block.index,
                nodes: block.nodes,
                fork,
                is_urgent: urgent,
            });
            return;
        }
        // To others of our kind only: nothing is known of what npm makes of it.
        let priority = u64::from(urgent && channel.is_kinlog);
        let message = Message::Request(Request {
            id,
            fork,
            proof,
            manifest,
            priority,
        });
        cx.outputs.push_back(self.send(peer, message));
    }

    /// Tells followers that all is there, or that nobody has it. Returns whether time will tell.
    fn tell_followers(&mut self, cx: &mut Context<'_>, starved: bool) -> bool {
        if self.interest.want == Want::None && !self.interest.live {
            return false;
        }
        let busy = starved || self.is_applying() || self.in_flight() > 0 || !self.parked.is_empty();
        if busy {
            return true;
        }
        let first = self.wanted.first_missing(&self.have, self.length);
        let head_open = self.head_wanted && !(self.interest.live && self.length > 0);
        if first.is_none() && !head_open && self.wanted.is_settled() {
            if !self.told_complete {
                self.told_complete = true;
                cx.outputs.push_back(self.event(FeedEvent::Complete));
            }
            return false;
        }
        if first.is_none() && !head_open {
            return false; // the last blocks wait for a head that no peer has told yet
        }
        let unheard = self
            .channels
            .values()
            .any(|channel| channel.remote.is_none());
        let settles = self
            .channels
            .values()
            .filter_map(|channel| channel.wants_settle_at(WANT_SETTLE))
            .any(|settles| settles > cx.now);
        if unheard || settles {
            return true;
        }
        let blocks = self.wanted.count_missing(&self.have, self.length);
        if self.told_nobody != Some((blocks, first)) {
            self.told_nobody = Some((blocks, first));
            cx.outputs
                .push_back(self.event(FeedEvent::NobodyHas { blocks, first }));
        }
        // A peer that went silent is asked again later.
        self.channels
            .values()
            .any(|channel| channel.is_snubbed(cx.now))
    }
}
