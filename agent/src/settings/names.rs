//! What agents are called here: by their petname, else as they call themselves.

use kinlog_feeds::crypto::AgentId;

use crate::api::Error;
use crate::core::Core;
use crate::knowledge::Knowledge;

impl Knowledge {
    /// Returns what an agent that calls itself `said` is called here; `None` when nothing is known.
    ///
    /// Who takes the name that a contact has here is shown with the start of its id.
    pub(crate) fn called(&self, agent: &AgentId, said: Option<&str>) -> Option<String> {
        if let Some(petname) = self.petnames.get(agent) {
            return Some(petname.clone());
        }
        let said = said?;
        let is_taken = self.petnames.values().any(|petname| petname == said);
        Some(match is_taken {
            true => format!("{said} ({})", &agent.to_string()[..8]),
            false => said.to_owned(),
        })
    }
}

impl Core {
    /// As [`Knowledge::called`].
    pub(crate) fn called(&self, agent: &AgentId, said: Option<&str>) -> Option<String> {
        self.knowledge(|knowledge| knowledge.called(agent, said))
    }

    /// Returns the contact that has a petname.
    ///
    /// # Errors
    /// `Usage` when several have it.
    pub(crate) fn petnamed(&self, petname: &str) -> Result<Option<AgentId>, Error> {
        let found: Vec<AgentId> = self.knowledge(|knowledge| {
            let named = knowledge.petnames.iter();
            let named = named.filter(|(_, one)| *one == petname);
            named.map(|(agent, _)| *agent).collect()
        });
        match found.as_slice() {
            [] => Ok(None),
            [agent] => Ok(Some(*agent)),
            several => Err(Error::usage(format!(
                "{} contacts are called {petname:?}",
                several.len()
            ))
            .hint("name one by its id: `kinlog contact list` shows them")),
        }
    }
}
