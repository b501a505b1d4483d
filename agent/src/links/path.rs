//! A path: a label on a feed under its author, such as `/paths/webrtc`.

use std::fmt;
use std::str::FromStr;

/// Longest path, 255 bytes: what a file name may be, so that a path can be mapped to one.
pub(super) const PATH_BYTES_MAX: usize = 255;

/// A checked path: begins with `/`, has no empty, `.` or `..` segment and no control characters.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FeedPath(String);

/// Text that is no path.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// No slash in front.
    #[error("path {path:?} does not begin with /")]
    NoSlash { path: String },
    /// A segment that is empty, `.` or `..`.
    #[error("path {path:?} has the segment {segment:?}")]
    Segment { path: String, segment: String },
    /// A control character.
    #[error("path {path:?} has the control character {character:?}")]
    Control { path: String, character: char },
    /// Longer than [`PATH_BYTES_MAX`].
    #[error("path of {actual} bytes is longer than {PATH_BYTES_MAX}")]
    TooLong { actual: usize },
}

impl FeedPath {
    /// Returns the path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether `other` is this path or lies below it.
    pub fn covers(&self, other: &FeedPath) -> bool {
        other
            .0
            .strip_prefix(&self.0)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl FromStr for FeedPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        if text.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong { actual: text.len() });
        }
        let path = || text.to_owned();
        if let Some(character) = text.chars().find(|character| character.is_control()) {
            return Err(PathError::Control {
                path: path(),
                character,
            });
        }
        let rest = text
            .strip_prefix('/')
            .ok_or_else(|| PathError::NoSlash { path: path() })?;
        if let Some(segment) = rest
            .split('/')
            .find(|part| matches!(*part, "" | "." | ".."))
        {
            return Err(PathError::Segment {
                path: path(),
                segment: segment.to_owned(),
            });
        }
        Ok(FeedPath(path()))
    }
}

impl fmt::Display for FeedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_covers_itself_and_what_lies_below() {
        let path = |text: &str| text.parse::<FeedPath>().expect("valid");
        assert!(path("/paths").covers(&path("/paths")));
        assert!(path("/paths").covers(&path("/paths/a")));
        assert!(!path("/paths").covers(&path("/pathsa")));
        assert!(!path("/paths/a").covers(&path("/paths")));
    }

    #[test]
    fn strange_paths_are_refused() {
        for text in [
            "", "/", "notes", "/a//b", "/a/", "/a/../b", "/.", "/a\0b", "/a\nb",
        ] {
            assert!(text.parse::<FeedPath>().is_err(), "{text:?}");
        }
        assert!(
            format!("/{}", "x".repeat(PATH_BYTES_MAX))
                .parse::<FeedPath>()
                .is_err()
        );
    }
}
