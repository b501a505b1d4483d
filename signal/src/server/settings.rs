//! What an operator may change.

use std::sync::Arc;

use crate::rules::RuleSettings;
use crate::server::record::Record;

/// Settings of a server; the defaults suit a public one.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Settings {
    /// Limits and rates.
    pub rules: RuleSettings,
    /// Names (`host:port`, lower case) under which this server is dialled. When any are given,
    /// requests for other names are refused with status 421: then a hostile server cannot pass the
    /// joins of its own clients on to this one. Default: none, every name is taken.
    pub names: Vec<String>,
    /// Takes connections from private, link-local and loopback addresses alone, and closes others
    /// unheard: for a meeting point that is meant for one network. Default: off.
    pub only_local: bool,
    /// Diagnostic: gets every frame in and out. Default none. Whoever sets it sees all topics,
    /// client keys and signals; it exists so that a test can search them.
    pub record: Option<Arc<dyn Record>>,
}

impl Settings {
    /// Replaces limits and rates.
    pub fn rules(mut self, rules: RuleSettings) -> Self {
        self.rules = rules;
        self
    }

    /// Replaces the names the server answers to.
    pub fn names(mut self, names: Vec<String>) -> Self {
        self.names = names;
        self
    }

    /// Takes connections from addresses of a local network alone.
    pub fn only_local(mut self, only_local: bool) -> Self {
        self.only_local = only_local;
        self
    }

    /// Sets the diagnostic that gets every frame.
    pub fn record(mut self, record: Arc<dyn Record>) -> Self {
        self.record = Some(record);
        self
    }
}
