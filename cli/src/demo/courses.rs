//! The learning paths, inside the binary, so that the demo needs no checkout.

use std::path::{Path, PathBuf};

use crate::error::Failure;

/// A course: its folder's name, and its lessons in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    pub(crate) name: &'static str,
    lessons: &'static [Lesson],
}

#[derive(Clone, Copy, Debug)]
struct Lesson {
    file: &'static str,
    text: &'static str,
}

macro_rules! course {
    ($name:literal: $($file:literal),+ $(,)?) => {
        Course {
            name: $name,
            lessons: &[$(Lesson {
                file: $file,
                text: include_str!(concat!("../../../examples/learning-paths/", $name, "/", $file)),
            }),+],
        }
    };
}

/// All courses; a test holds this against the folder.
pub(crate) const COURSES: [Course; 5] = [
    course!("merkle-proofs": "01-what-a-hash-promises.md", "02-trees-and-proofs.md", "03-sparse-downloads.md"),
    course!("webrtc": "01-two-peers-and-an-introducer.md", "02-ice-stun-and-candidates.md", "03-dtls-sctp-and-data-channels.md"),
    course!("keys-and-signatures": "01-one-secret-one-name.md", "02-what-a-signature-says.md", "03-secrets-in-a-group.md"),
    course!("offline-first": "01-offline-is-the-normal-case.md", "02-clocks-and-order.md", "03-what-a-queue-is-for.md"),
    course!("running-a-family-rack": "01-what-to-run-and-where.md", "02-copies-are-not-backups.md", "03-restore-drills.md"),
];

impl Course {
    /// Returns the path it is published under.
    pub(crate) fn path(&self) -> String {
        format!("/paths/{}", self.name)
    }

    pub(crate) fn lessons(&self) -> u64 {
        self.lessons.len() as u64
    }

    /// Writes the lessons as files below `folder` and returns them in order.
    pub(crate) fn write(&self, folder: &Path) -> Result<Vec<PathBuf>, Failure> {
        let folder = folder.join(self.name);
        std::fs::create_dir_all(&folder).map_err(|error| Failure::io(folder.display(), &error))?;
        self.lessons
            .iter()
            .map(|lesson| {
                let file = folder.join(lesson.file);
                std::fs::write(&file, lesson.text)
                    .map_err(|error| Failure::io(file.display(), &error))?;
                Ok(file)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_lesson_of_the_examples_is_in_the_binary() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/learning-paths");
        let mut on_disk = BTreeSet::new();
        for course in std::fs::read_dir(&root).expect("the examples are there") {
            let course = course.expect("readable").path();
            for lesson in std::fs::read_dir(&course).expect("a folder per course") {
                let lesson = lesson.expect("readable").path();
                on_disk.insert(
                    lesson
                        .strip_prefix(&root)
                        .expect("below the root")
                        .to_owned(),
                );
            }
        }
        let lessons = |course: &Course| {
            let folder = Path::new(course.name);
            course
                .lessons
                .iter()
                .map(move |lesson| folder.join(lesson.file))
                .collect::<Vec<_>>()
        };
        let embedded = COURSES.iter().flat_map(lessons).collect::<BTreeSet<_>>();
        assert_eq!(on_disk, embedded);
    }

    #[test]
    fn every_course_has_three_titled_lessons_of_a_readable_length() {
        for course in COURSES {
            assert!(course.lessons.len() >= 3, "{}", course.name);
            for lesson in course.lessons {
                assert!(lesson.text.starts_with("# "), "{}", lesson.file);
                let words = lesson.text.split_whitespace().count();
                assert!(
                    (300..=650).contains(&words),
                    "{}: {words} words",
                    lesson.file
                );
            }
        }
    }
}
