//! Where those meet who have nothing in common yet but a secret: an invite or a code.

use kinlog_swarm::Label;

use crate::pins::plan::Planning;

impl Planning<'_> {
    /// Holders of a sign-in record meet in the topic of its code, and give it to who comes there.
    pub(super) fn sign_ins(&mut self) {
        let knowledge = self.knowledge;
        let own = knowledge.agents.get(&knowledge.agent);
        let devices = own.into_iter().flat_map(|known| &known.identity.devices);
        let others =
            devices.filter(|one| one.writes() && !knowledge.own.contains_key(&one.directory));
        self.plan.view.siblings = others.map(|one| one.key).collect();
        for (agent, held) in &knowledge.sign_ins {
            let identity = knowledge.agents.get(agent).map(|known| &known.identity);
            // What its agent took back is given to nobody.
            let standing = held
                .record
                .as_ref()
                .filter(|record| identity.is_some_and(|identity| record.stands(identity).is_ok()));
            let record = standing.map(|record| (record.counter, record.encode().into()));
            if *agent == knowledge.agent {
                self.plan.view.own_sign_in.clone_from(&record);
            }
            self.plan.topics.insert((Label::Code, held.meet_key));
            self.plan.view.sign_ins.insert(held.meet_key, record);
        }
    }

    pub(super) fn invites(&mut self) {
        for key in self.knowledge.invites.keys() {
            self.plan.topics.insert((Label::Invite, key.0));
            self.plan.view.invites.insert(key.0);
        }
        for join in &self.knowledge.joins {
            self.plan
                .topics
                .insert((Label::Invite, join.invite.public_key().0));
        }
    }

    /// The topics of codes: one that is shown, one that let a device in lately, and one that is asked by.
    pub(super) fn codes(&mut self) {
        if let Some(link) = &self.knowledge.link {
            let key = link.code.public_key().0;
            self.plan.topics.insert((Label::Code, key));
            self.plan.view.codes.insert(key);
        }
        if let Some(answered) = &self.knowledge.link_answered
            && self.knowledge.now_ms < answered.until_ms
        {
            let key = answered.code.public_key().0;
            self.plan.topics.insert((Label::Code, key));
            self.plan.view.codes.insert(key);
        }
        let pairs = self.knowledge.pairs.keys();
        self.plan.view.pairs = pairs.copied().collect();
        if let Some((key, _)) = &self.knowledge.asks_link {
            self.plan.topics.insert((Label::Code, *key));
        }
    }
}
