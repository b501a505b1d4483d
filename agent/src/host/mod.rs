//! What the swarm asks of the agent: which feeds a session may have, and what the agent says on it.

mod agent_host;
mod view;

pub(crate) use agent_host::{AgentHost, HostEvent, HostEvents};
pub(crate) use view::{GrantedView, View};
