//! What is known of an agent: its devices, and what their public directories list.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey};
use kinlog_indexer::directory::{Held, Wanted};
use kinlog_indexer::entry::{Content, PathKind};
use kinlog_indexer::identity::{Device, Identity, IdentityError, IdentitySet, VerifiedSet};
use kinlog_indexer::index::{DirectoryRow, SnapshotState};

use crate::api::Selection;
use crate::limits::REDIRECTS_MAX;
use crate::links::FeedPath;

/// A public path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Line {
    pub(crate) path: FeedPath,
    /// Labels that lead to it now.
    pub(crate) former: Vec<FeedPath>,
    pub(crate) key: FeedKey,
    /// Device whose directory lists it.
    pub(crate) device: DeviceKey,
    pub(crate) is_entries: bool,
    /// What the path is.
    pub(crate) kind: PathKind,
    /// Blocks of the path before this feed, which a later device continues it in.
    pub(crate) start: u64,
    /// Blocks of this feed that are the path's, when a later device continues it, or its device was
    /// revoked.
    pub(crate) cut: Option<u64>,
    /// Its device was revoked, and no other goes on with it: what is behind the cut nobody vouches for.
    pub(crate) is_unvouched: bool,
}

impl Line {
    /// Puts rows of a directory, which stand in order, into lines; labels that are no paths are none.
    pub(crate) fn of_rows(
        rows: Vec<DirectoryRow>,
        redirects: &BTreeMap<String, String>,
    ) -> Vec<Line> {
        let listed: BTreeSet<String> = rows.iter().map(|row| row.label.clone()).collect();
        let mut former: BTreeMap<&str, Vec<FeedPath>> = BTreeMap::new();
        // A label that is in use again leads nowhere else.
        for from in redirects.keys().filter(|from| !listed.contains(*from)) {
            let mut to = from;
            for _ in 0..REDIRECTS_MAX {
                match redirects.get(to) {
                    Some(next) if !listed.contains(to) => to = next,
                    _ => break,
                }
            }
            if let Ok(from) = from.parse() {
                former.entry(to).or_default().push(from);
            }
        }
        let mut lines: Vec<Line> = Vec::with_capacity(rows.len());
        for row in rows {
            let Ok(path) = row.label.parse() else {
                continue;
            };
            let kind = PathKind::of(&row.kind);
            let before = lines.last().filter(|line| line.path == path);
            let start = match kind {
                PathKind::Log => before.map_or(0, |line| line.start + line.cut.unwrap_or(0)),
                PathKind::Shared => 0,
            };
            let former = former.get(row.label.as_str()).cloned().unwrap_or_default();
            lines.push(Line {
                path,
                former,
                key: row.feed,
                device: row.device,
                is_entries: row.content == Content::Entries,
                kind,
                start,
                cut: row.cut,
                is_unvouched: false,
            });
        }
        lines
    }

    /// Ends it where its revoked device committed to it last, unless another device says where.
    pub(crate) fn end_at(&mut self, vouched: u64) {
        if self.cut.is_none() {
            (self.cut, self.is_unvouched) = (Some(vouched), true);
        }
    }

    /// Returns whether a pinned path covers it, under its label or one that leads to it.
    pub(crate) fn is_covered_by(&self, path: &FeedPath) -> bool {
        let mut labels = std::iter::once(&self.path).chain(&self.former);
        labels.any(|label| path.covers(label))
    }

    /// Returns whether it is found under a label.
    pub(crate) fn is_called(&self, path: &FeedPath) -> bool {
        self.path == *path || self.former.contains(path)
    }

    /// Returns what of this feed is meant by a selection of its path; `None` for nothing.
    ///
    /// A shared path has no block numbers: a range names nothing of it.
    pub(crate) fn selection(&self, of_path: &Selection) -> Option<Selection> {
        if self.kind == PathKind::Shared
            && matches!(of_path, Selection::Range(_) | Selection::From(_))
        {
            return None;
        }
        let local = match (of_path, self.cut) {
            (Selection::Range(range), cut) => {
                let end = range.end.saturating_sub(self.start);
                let end = cut.map_or(end, |cut| end.min(cut));
                range.start.saturating_sub(self.start)..end
            }
            (Selection::From(start), None) => {
                return Some(Selection::From(start.saturating_sub(self.start)));
            }
            (other, None) => return Some(other.clone()),
            (Selection::From(start), Some(cut)) => start.saturating_sub(self.start)..cut,
            // What is behind the end of the path here is as old as what follows it: some blocks too many.
            (Selection::Since(ms), Some(_)) => return Some(Selection::Since(*ms)),
            // The newest blocks stand in the feed that the path goes on in.
            (Selection::Newest(_), Some(cut)) if self.is_unvouched => 0..cut,
            (Selection::Newest(_), Some(_)) => return None,
            (Selection::All, Some(cut)) => 0..cut,
            // As if the feeds after it were empty: a few blocks too many, never one too few.
            (Selection::Last(count), Some(cut)) => cut.saturating_sub(*count)..cut,
        };
        (!local.is_empty()).then_some(Selection::Range(local))
    }
}

/// An agent whose identity set is held and verified.
#[derive(Clone, Debug)]
pub(crate) struct KnownAgent {
    pub(crate) identity: Identity,
    /// The statements that it follows from.
    pub(crate) verified: VerifiedSet,
    /// The set as it travels.
    pub(crate) set: Bytes,
    /// What the agent calls itself.
    pub(crate) name: Option<String>,
    /// Signal servers at which it says to be met.
    pub(crate) signal_urls: Vec<String>,
    /// What this agent calls it.
    pub(crate) petname: Option<String>,
    /// Public paths of all devices, by path.
    pub(crate) lines: Vec<Line>,
    /// What is held of the snapshots of its public directories.
    pub(crate) snapshots: BTreeMap<FeedKey, SnapshotState>,
    /// Labels of its paths that lead to each other.
    pub(crate) leads: Vec<(String, String)>,
}

impl KnownAgent {
    /// Verifies an encoded identity set of `agent`; its lines are read from the index later.
    pub(crate) fn verify(agent: &AgentId, set: Bytes) -> Result<KnownAgent, IdentityError> {
        KnownAgent::of(IdentitySet::decode(&set)?.check(agent)?.kept())
    }

    /// Returns what some sets of `agent` give together with what is `known`, in whatever order they came;
    /// `None` where that is nothing.
    pub(crate) fn together(
        agent: &AgentId,
        known: Option<KnownAgent>,
        sets: &[VerifiedSet],
    ) -> Option<KnownAgent> {
        let held = known.iter().map(|known| &known.verified);
        let all = VerifiedSet::together(*agent, held.chain(sets)).kept();
        let Some(mut known) = known else {
            return KnownAgent::of(all).ok();
        };
        // Where nothing of it counts, what was known stays.
        let _ = known.take(all);
        Some(known)
    }

    fn of(verified: VerifiedSet) -> Result<KnownAgent, IdentityError> {
        Ok(KnownAgent {
            identity: verified.identity()?,
            set: verified.set().encode(),
            verified,
            name: None,
            signal_urls: Vec::new(),
            petname: None,
            lines: Vec::new(),
            snapshots: BTreeMap::new(),
            leads: Vec::new(),
        })
    }

    /// Takes the statements of another set of the same agent in; returns whether any was new.
    pub(crate) fn merge(&mut self, set: &[u8]) -> Result<bool, IdentityError> {
        let other = IdentitySet::decode(set)?.check(&self.identity.agent)?;
        let both = self.verified.union(&other);
        self.take(both)
    }

    /// Takes a set in the place of the held one; returns whether it is another.
    fn take(&mut self, verified: VerifiedSet) -> Result<bool, IdentityError> {
        if verified == self.verified {
            return Ok(false);
        }
        self.identity = verified.identity()?;
        self.set = verified.set().encode();
        self.verified = verified;
        Ok(true)
    }

    /// Returns the devices with directories, those that were revoked among them: what they said before
    /// is still the agent's.
    pub(crate) fn writers(&self) -> impl Iterator<Item = &Device> {
        let revoked = self.identity.revoked.iter().map(|one| &one.device);
        let devices = self.identity.devices.iter().chain(revoked);
        devices.filter(|device| device.writes())
    }

    /// Returns their public directories.
    pub(crate) fn directories(&self) -> impl Iterator<Item = FeedKey> {
        self.writers().map(|device| device.directory)
    }

    /// Logs what of newly learned snapshots is not what they say. That is the doing of the device which
    /// signed them, whoever passed them on.
    pub(crate) fn note_faults(&self, snapshots: &BTreeMap<FeedKey, SnapshotState>) {
        for (directory, state) in snapshots {
            let known = self.snapshots.get(directory);
            for fault in &state.faults {
                if !known.is_some_and(|known| known.faults.contains(fault)) {
                    let agent = self.identity.agent;
                    tracing::warn!(%agent, %directory, %fault, "page of a snapshot is refused");
                }
            }
        }
    }

    /// Returns what a reader of prefixes is after in its directories.
    pub(crate) fn wanted(&self, prefixes: impl IntoIterator<Item = String>) -> Wanted {
        Wanted::new(prefixes, &self.leads)
    }

    /// Returns what is held of the snapshots of a directory.
    pub(crate) fn held(&self, directory: &FeedKey) -> Held<'_> {
        let state = self.snapshots.get(directory);
        state.map_or_else(Held::default, SnapshotState::held)
    }

    /// Returns how many blocks of a directory are accepted: those below the cut of whoever revoked its
    /// device; `None` for all, also those to come.
    pub(crate) fn accepted(&self, directory: &FeedKey) -> Option<u64> {
        let revoked = self.identity.revoked.iter();
        let mut limits = revoked.filter_map(|one| match directory {
            key if *key == one.device.directory => Some(one.public.map_or(0, |cut| cut.length)),
            // Whoever revoked it by the phrase alone has seen nothing of what is sealed.
            key if *key == one.device.private_directory => one.private.map(|cut| cut.length),
            _ => None,
        });
        limits.next()
    }

    /// Returns the newest line of a path: the feed that it goes on in.
    pub(crate) fn line(&self, path: &FeedPath) -> Option<&Line> {
        self.lines.iter().rfind(|line| line.is_called(path))
    }

    /// Returns what to call the agent: its petname, else its name and the start of its id.
    pub(crate) fn label(&self) -> String {
        if let Some(petname) = &self.petname {
            return petname.clone();
        }
        let id = self.identity.agent.to_string();
        match &self.name {
            Some(name) => format!("{name} ({})", &id[..8]),
            None => id[..8].to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::crypto::KeyPair;
    use kinlog_indexer::identity::{DeviceCard, DeviceRevoked, Names, Powers, Said, Statement};

    use super::*;

    fn set(root: &KeyPair, devices: &[u8]) -> Bytes {
        let agent = AgentId(root.public_key().0);
        let sets = devices.iter().map(|number| {
            let device = KeyPair::from_seed(&[*number; 32]);
            let [public, private] = [50, 51].map(|seed| KeyPair::from_seed(&[seed; 32]));
            let card = DeviceCard::sign(&agent, &device, [*number; 32], &public, &private);
            IdentitySet::begin(root, card, Powers::ALL, "laptop".try_into().expect("short"))
        });
        let statements: Vec<Statement> = sets
            .flat_map(|set| set.statements().cloned().collect::<Vec<_>>())
            .collect();
        IdentitySet::new(statements).expect("few").encode()
    }

    #[test]
    fn a_selection_of_a_path_is_shared_out_among_its_feeds() {
        let line = |start, cut| Line {
            path: "/notes".parse().expect("valid"),
            former: Vec::new(),
            key: FeedKey([1; 32]),
            device: DeviceKey([1; 32]),
            is_entries: false,
            kind: PathKind::Log,
            start,
            cut,
            is_unvouched: false,
        };
        // The path has blocks 0..10 in one feed and goes on in another.
        let (old, new) = (line(0, Some(10)), line(10, None));
        let of = |line: &Line, text: &str| {
            let selection = line.selection(&text.parse().expect("valid"));
            selection.map_or(String::new(), |selection| selection.to_string())
        };
        for (asked, of_old, of_new) in [
            ("all", "0..10", "all"),
            ("2..5", "2..5", ""),
            ("8..13", "8..10", "0..3"),
            ("12..13", "", "2..3"),
            ("last:3", "7..10", "last:3"),
            ("4..", "4..10", "0.."),
            ("12..", "", "2.."),
            ("bytes:50", "", "bytes:50"),
        ] {
            assert_eq!(of(&old, asked), of_old, "{asked}");
            assert_eq!(of(&new, asked), of_new, "{asked}");
        }
        assert_eq!(of(&line(0, Some(0)), "all"), "");
        // Its device was revoked: nothing comes after what it vouched for.
        let mut ended = line(0, None);
        ended.end_at(7);
        for (asked, of_it) in [
            ("all", "0..7"),
            ("last:3", "4..7"),
            ("5..", "5..7"),
            ("bytes:50", "0..7"),
        ] {
            assert_eq!(of(&ended, asked), of_it, "{asked}");
        }
        let mut continued = line(0, Some(10));
        continued.end_at(7);
        assert_eq!(
            of(&continued, "all"),
            "0..10",
            "the device that goes on says how much there is"
        );
    }

    #[test]
    fn sets_of_one_agent_are_united_and_those_of_another_refused() {
        let root = KeyPair::from_seed(&[1; 32]);
        let agent = AgentId(root.public_key().0);
        let mut known = KnownAgent::verify(&agent, set(&root, &[1, 2])).expect("holds");
        assert_eq!(known.merge(&set(&root, &[1])), Ok(false));
        assert_eq!(known.merge(&set(&root, &[3])), Ok(true));
        assert_eq!(known.directories().count(), 3);
        let stranger = KeyPair::from_seed(&[2; 32]);
        assert!(known.merge(&set(&stranger, &[4])).is_err());
        assert!(KnownAgent::verify(&agent, set(&stranger, &[4])).is_err());
    }

    #[test]
    fn what_one_set_names_is_found_in_another_in_whatever_order_they_came() {
        let root = KeyPair::from_seed(&[1; 32]);
        let agent = AgentId(root.public_key().0);
        let sets = [&[1][..], &[2], &[3]].map(|devices| {
            let set = IdentitySet::decode(&set(&root, devices)).expect("made here");
            set.check(&agent).expect("signed")
        });
        let device = DeviceKey(KeyPair::from_seed(&[1; 32]).public_key().0);
        let past = sets[1].set().statements().map(Statement::hash);
        let said = Said::DeviceRevoked(DeviceRevoked {
            device,
            public: None,
            private: None,
        });
        let revoking = Statement::sign(agent, &root, Names::new(past).expect("one"), said);
        let waits = IdentitySet::new([revoking]).and_then(|set| set.check(&agent));
        let mut sets = sets.to_vec();
        sets.insert(1, waits.expect("signed"));
        let known = KnownAgent::verify(&agent, sets[0].set().encode()).ok();
        for _ in 0..sets.len() {
            sets.rotate_left(1);
            let together = KnownAgent::together(&agent, known.clone(), &sets);
            let identity = together.expect("one is held").identity;
            assert_eq!(identity.devices.len(), 2);
            assert!(identity.revoked(&device).is_some());
        }
        assert!(KnownAgent::together(&agent, None, &[]).is_none());
    }
}
