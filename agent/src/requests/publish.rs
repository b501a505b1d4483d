//! Publishing text files as documents that everyone who follows can search.

use std::path::{Path, PathBuf};

use kinlog_indexer::entry::{Body, Content, Document};
use kinlog_indexer::limits::DOCUMENT_BYTES_MAX;

use crate::api::{DocumentInfo, Error, Reply};
use crate::core::{Core, NewPath, Place};
use crate::links::FeedPath;
use crate::settings::check_unreserved;

pub(super) fn publish(
    core: &Core,
    path: &str,
    files: &[PathBuf],
    is_private: bool,
) -> Result<Reply, Error> {
    let path: FeedPath = path.parse()?;
    // Every file is read and checked before anything is written.
    let documents = files
        .iter()
        .map(|file| document(file))
        .collect::<Result<Vec<_>, Error>>()?;
    check_unreserved(&path)?;
    let held = core.writable(&path)?;
    let own = match held {
        Some(own) if !own.is_entries => {
            return Err(Error::usage(format!("{path} is a feed of raw blocks"))
                .hint("publish under another path"));
        }
        Some(own) if is_private && !own.is_private => {
            return Err(Error::usage(format!("{path} is a public path"))
                .hint("publish under another path: what a path is never changes"));
        }
        Some(own) => own,
        None => {
            let new = NewPath {
                is_private,
                ..NewPath::public(Content::Entries)
            };
            core.create_path(&path, new)?
        }
    };
    let infos: Vec<(String, u64)> = documents
        .iter()
        .map(|one| (one.title.to_string(), one.text.len() as u64))
        .collect();
    let bodies = documents.into_iter().map(Body::Document).collect();
    let appended = match own.is_private {
        true => core.write_entries(&own, Place::Private(&core.own_epoch()?), bodies)?,
        false => core.write_entries(&own, Place::Public, bodies)?,
    };
    let documents = (appended.start..)
        .zip(infos)
        .map(|(index, (title, bytes))| DocumentInfo {
            title,
            index,
            bytes,
        })
        .collect();
    Ok(Reply::Published {
        key: own.key.into(),
        link: match own.is_private {
            true => None,
            false => Some(core.path_link(&path)?),
        },
        path: path.to_string(),
        length: appended.length,
        documents,
    })
}

fn document(file: &Path) -> Result<Document, Error> {
    let shown = file.display();
    let bytes =
        std::fs::read(file).map_err(|error| Error::not_found(format!("{shown}: {error}")))?;
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(Error::usage(format!(
            "{shown} has {} bytes, a document at most {DOCUMENT_BYTES_MAX}",
            bytes.len()
        ))
        .hint("`kinlog feed import` takes files of any size"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::usage(format!("{shown} is not UTF-8 text at byte {at}"))
            .hint("`kinlog feed import` takes files of any kind")
    })?;
    let mime = match file.extension().and_then(|extension| extension.to_str()) {
        Some("md" | "markdown") => "text/markdown",
        Some("html" | "htm") => "text/html",
        _ => "text/plain",
    };
    let title = title(file, &text);
    let fits = |error: kinlog_indexer::TextError| Error::usage(format!("{shown}: {error}"));
    Ok(Document {
        title: title.try_into().map_err(fits)?,
        text: text.try_into().map_err(fits)?,
        mime: mime.try_into().map_err(fits)?,
        language: "".try_into().map_err(fits)?,
    })
}

/// Returns the first heading of a Markdown text, else the file's name.
fn title(file: &Path, text: &str) -> String {
    let heading = text.lines().find_map(|line| line.strip_prefix("# "));
    let name = || {
        file.file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let title = heading
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty());
    title.unwrap_or_else(name).chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_the_first_heading_or_the_file_name() {
        let file = Path::new("/x/lesson-1.md");
        assert_eq!(
            title(file, "intro\n# What a tree is\n# Other"),
            "What a tree is"
        );
        assert_eq!(title(file, "no heading"), "lesson-1");
        assert_eq!(title(file, "# \ntext"), "lesson-1");
    }
}
