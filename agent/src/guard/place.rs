//! Where something stands on this machine: what a copy of it cannot have in common with it.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use kinlog_feeds::crypto::blake2b_256;
use kinlog_feeds::text;
use serde::{Deserialize, Serialize};

/// What tells a file or folder from a copy of it: a copy has another inode, and is born later.
///
/// Unlike the time of change, the time of birth stays when owner, mode or links change.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Marks {
    pub(super) inode: u64,
    /// Nanoseconds since 1970; unknown on file systems that do not keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) born_ns: Option<u64>,
}

impl Marks {
    pub(super) fn of(path: &Path) -> io::Result<Marks> {
        Ok(Marks::from(&fs::metadata(path)?))
    }

    /// Returns whether both are of one file. A time that only one of them knows says nothing: another
    /// kernel may tell more.
    pub(super) fn is_same(&self, other: &Marks) -> bool {
        let both_born = self.born_ns.zip(other.born_ns);
        self.inode == other.inode && both_born.is_none_or(|(one, other)| one == other)
    }
}

impl From<&Metadata> for Marks {
    fn from(metadata: &Metadata) -> Self {
        let since = |time: std::time::SystemTime| time.duration_since(UNIX_EPOCH).ok();
        let born = metadata.created().ok().and_then(since);
        Marks {
            inode: metadata.ino(),
            born_ns: born.and_then(|born| u64::try_from(born.as_nanos()).ok()),
        }
    }
}

/// Where the store's folder stands.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    /// The folder itself.
    pub(super) folder: Marks,
    /// Number of its file system. Many systems give another one after each start.
    pub(super) device: u64,
    /// The start of the system that this was written in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) boot: Option<String>,
    /// The machine, as a hash of its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) machine: Option<String>,
}

impl Place {
    /// Looks where `folder` stands now.
    pub(super) fn of(folder: &Path) -> io::Result<Place> {
        let metadata = fs::metadata(folder)?;
        let line = |path| {
            let text = fs::read_to_string(path).ok()?;
            Some(text.trim().to_owned()).filter(|line| !line.is_empty())
        };
        Ok(Place {
            folder: Marks::from(&metadata),
            device: metadata.dev(),
            boot: line("/proc/sys/kernel/random/boot_id"),
            machine: line("/etc/machine-id").map(|id| {
                // The id itself is nobody else's business (machine-id(5)).
                let hash = blake2b_256(&[b"kinlog/machine", id.as_bytes()]);
                text::encode(&hash[..16])
            }),
        })
    }

    /// Returns whether `now` is the folder and the file system that this was written of.
    ///
    /// The number of the file system counts within one start of the system; across starts it does
    /// only where the folder's birth is not known.
    pub(super) fn is_same_folder(&self, now: &Place) -> bool {
        let has_restarted = self.boot.is_none() || self.boot != now.boot;
        let is_born = self.folder.born_ns.is_some() && now.folder.born_ns.is_some();
        self.folder.is_same(&now.folder) && (self.device == now.device || has_restarted && is_born)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_folder::TestFolder;

    #[test]
    fn a_copy_has_other_marks_and_a_moved_folder_the_same() {
        let folder = TestFolder::new();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        fs::write(&one, b"content").unwrap();
        let marks = Marks::of(&one).unwrap();
        fs::copy(&one, &two).unwrap();
        assert!(!marks.is_same(&Marks::of(&two).unwrap()));
        let moved = folder.path().join("moved");
        fs::rename(&one, &moved).unwrap();
        assert!(marks.is_same(&Marks::of(&moved).unwrap()));
    }

    #[test]
    fn a_file_system_is_known_by_its_number_until_the_next_start() {
        let place = |boot: &str, device, born_ns| Place {
            folder: Marks { inode: 7, born_ns },
            device,
            boot: Some(boot.to_owned()),
            machine: None,
        };
        let then = place("one", 1, Some(5));
        assert!(then.is_same_folder(&place("one", 1, Some(5))));
        assert!(!then.is_same_folder(&place("one", 2, Some(5))));
        assert!(then.is_same_folder(&place("two", 2, Some(5))));
        assert!(!then.is_same_folder(&place("two", 1, Some(6))));
        assert!(!place("one", 1, None).is_same_folder(&place("two", 2, None)));
        assert!(place("one", 1, None).is_same_folder(&place("two", 1, None)));
    }
}
