//! What each crash, copy and rollback leaves, and that no signature is made after one of them.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use kinlog_feeds::store::{AppendError, Kind, Role};

use super::*;
use crate::home::{OpenHome, Phrase, init, open_home};
use crate::keys::DIRECTORY_ID;
use crate::test_folder::TestFolder;

struct Installation {
    folder: TestFolder,
}

impl Installation {
    fn new() -> Self {
        let folder = TestFolder::new();
        let phrase = Phrase::generate().unwrap();
        init(&folder.path().join("home"), &folder.state(), "Ada", &phrase).unwrap();
        Installation { folder }
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn record(&self) -> PathBuf {
        self.home().join("install")
    }

    fn twin(&self) -> PathBuf {
        let mut files = fs::read_dir(self.folder.state()).unwrap();
        files.next().unwrap().unwrap().path()
    }

    fn open(&self) -> OpenHome {
        open_home(&self.home(), &self.folder.state(), None).unwrap()
    }

    /// Opens, signs so many heads and stops cleanly.
    #[track_caller]
    fn sign(&self, heads: u32) {
        let home = self.open();
        for _ in 0..heads {
            sign(&home).unwrap();
        }
        home.store.close().unwrap();
        home.guard.seal(home.store.synced_sequence()).unwrap();
    }

    /// Asserts that nothing is signed, now and after another start, and returns why.
    #[track_caller]
    fn doubt(&self) -> Doubt {
        let first = self.open();
        let doubt = first.guard.doubt().unwrap();
        let error = first.guard.check().unwrap_err();
        assert_eq!((error.kind, error.exit_code()), (ErrorKind::MustRenew, 10));
        assert!(error.hint.unwrap().contains("kinlog device renew"));
        assert!(matches!(
            sign(&first),
            Err(AppendError::Refused {
                refused: SignRefused::NotCertain { .. },
                ..
            })
        ));
        drop(first);
        assert_eq!(self.open().guard.doubt().unwrap(), doubt);
        doubt
    }
}

fn sign(home: &OpenHome) -> Result<(), AppendError> {
    let manifest = home.keys.manifest(&DIRECTORY_ID);
    let feed = home
        .store
        .create_feed(&manifest, Role::Own, Kind::Kinlog)
        .unwrap();
    feed.append_batch(&home.keys.feed(&DIRECTORY_ID), &[Bytes::from_static(b"x")])?;
    Ok(())
}

/// Returns all files below a folder with their contents.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push((path.clone(), fs::read(&path).unwrap())),
        }
    }
    found
}

/// Writes contents back into files that stand, as a copying program does.
fn put_back(files: &[(PathBuf, Vec<u8>)]) {
    for (path, content) in files {
        fs::write(path, content).unwrap();
    }
}

/// Does the first steps of a reservation, then nothing more, as a crash does.
fn crash_after(installation: &Installation, steps: usize) {
    let home = installation.open();
    let standing = home.guard.standing();
    let found = home.guard.look(&standing).unwrap();
    let reservation = Reservation {
        keeper: &*home.guard.keeper,
        path: &home.guard.home.record,
        next: InstallRecord {
            reserved: found.record.reserved + SIGNATURES_RESERVED,
            mark: "next".to_owned(),
            ..found.record.clone()
        },
        found,
    };
    let all = [
        Reservation::announce,
        Reservation::write,
        Reservation::settle,
    ];
    for step in &all[..steps] {
        step(&reservation).unwrap();
    }
}

#[test]
fn a_home_stays_certain_from_start_to_start() {
    let installation = Installation::new();
    let mut reserved = 0;
    for heads in [0, 1, 3] {
        installation.sign(heads);
        let found = Found::read(&installation.record()).unwrap().unwrap();
        let twin = Twin::decode(&fs::read(installation.twin()).unwrap()).unwrap();
        assert_eq!((twin.record, twin.next), (found.hash, None));
        assert!(found.record.reserved > reserved);
        reserved = found.record.reserved;
    }
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&installation.twin()), 0o600);
    assert_eq!(mode(&installation.record()), 0o600);
    assert_eq!(mode(&installation.folder.state()), 0o700);
}

#[test]
fn reading_reserves_nothing() {
    let installation = Installation::new();
    let before = (
        fs::read(installation.record()).unwrap(),
        fs::read(installation.twin()).unwrap(),
    );
    installation.sign(0);
    let after = (
        fs::read(installation.record()).unwrap(),
        fs::read(installation.twin()).unwrap(),
    );
    assert_eq!(before, after);
}

#[test]
fn signatures_are_reserved_by_the_thousand_and_for_a_second() {
    let installation = Installation::new();
    let home = installation.open();
    let reserved = || {
        let found = Found::read(&installation.record()).unwrap().unwrap();
        found.record.reserved
    };
    let begun = reserved();
    // The second of each reservation is not waited for: the test says when it is over.
    let keep = || home.guard.until_ms.store(u64::MAX, Ordering::Release);
    home.guard.sign(&home.store).unwrap();
    keep();
    for _ in 1..SIGNATURES_RESERVED {
        home.guard.sign(&home.store).unwrap();
    }
    assert_eq!(reserved(), begun + SIGNATURES_RESERVED);
    home.guard.sign(&home.store).unwrap();
    keep();
    assert_eq!(reserved(), begun + 2 * SIGNATURES_RESERVED);
    home.guard.until_ms.store(0, Ordering::Release);
    home.guard.sign(&home.store).unwrap();
    assert_eq!(reserved(), begun + 3 * SIGNATURES_RESERVED);
}

#[test]
fn a_crash_between_any_two_steps_is_no_rollback() {
    for steps in 0..=3 {
        for leaves_half_a_file in [false, true] {
            let installation = Installation::new();
            installation.sign(2);
            crash_after(&installation, steps);
            if leaves_half_a_file {
                for file in [installation.record(), installation.twin()] {
                    let mut half = file.into_os_string();
                    half.push(".new");
                    fs::write(half, b"{\"v\":").unwrap();
                }
            }
            assert_eq!(installation.open().guard.doubt(), None, "{steps}");
            // A second crash on the way out of the first is none either.
            crash_after(&installation, steps);
            installation.sign(1);
            assert_eq!(installation.open().guard.doubt(), None, "{steps}");
        }
    }
}

#[test]
fn a_rollback_is_told_from_a_crash_at_every_step() {
    for steps in 0..=3 {
        let installation = Installation::new();
        installation.sign(1);
        let (home, twin) = (
            files(&installation.home()),
            files(&installation.folder.state()),
        );
        installation.sign(1);
        crash_after(&installation, steps);
        let newest = (
            files(&installation.home()),
            files(&installation.folder.state()),
        );
        put_back(&home);
        assert!(
            matches!(installation.doubt(), Doubt::HomeOlder { .. }),
            "{steps}"
        );
        put_back(&newest.0);
        put_back(&twin);
        assert!(
            matches!(installation.doubt(), Doubt::TwinOlder { .. }),
            "{steps}"
        );
        put_back(&home);
        let doubt = installation.doubt();
        assert_eq!(doubt, Doubt::RecordCopied, "{steps}");
        // Nothing was signed meanwhile, so what was newest is newest again.
        put_back(&newest.0);
        put_back(&newest.1);
        assert_eq!(installation.open().guard.doubt(), None, "{steps}");
    }
}

#[test]
fn an_older_store_in_place_is_noticed() {
    let installation = Installation::new();
    installation.sign(1);
    let store = files(&installation.home().join("store"));
    installation.sign(1);
    put_back(&store);
    assert!(matches!(installation.doubt(), Doubt::StoreOlder { .. }));
}

#[test]
fn a_lost_store_is_not_begun_anew() {
    let installation = Installation::new();
    installation.sign(1);
    for (path, _) in files(&installation.home().join("store")) {
        fs::remove_file(path).unwrap();
    }
    assert_eq!(installation.doubt(), Doubt::OtherStore);
}

#[test]
fn a_copied_store_folder_is_noticed() {
    let installation = Installation::new();
    installation.sign(1);
    let store = installation.home().join("store");
    let moved = installation.home().join("moved");
    fs::rename(&store, &moved).unwrap();
    fs::create_dir(&store).unwrap();
    for entry in fs::read_dir(&moved).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), store.join(entry.file_name())).unwrap();
    }
    assert_eq!(installation.doubt(), Doubt::OtherFolder);
}

#[test]
fn another_machine_disk_or_inode_is_noticed() {
    type Change = fn(&mut Place);
    let changes: [(Change, Doubt); 3] = [
        (
            |place| place.machine = Some("other".into()),
            Doubt::OtherMachine,
        ),
        (|place| place.device += 1, Doubt::OtherFolder),
        (|place| place.folder.inode += 1, Doubt::OtherFolder),
    ];
    for (change, expected) in changes {
        let installation = Installation::new();
        installation.sign(1);
        let home = installation.open();
        let found = home.guard.look(&home.guard.standing()).unwrap();
        let mut place = found.record.place.clone();
        change(&mut place);
        let reservation = Reservation {
            keeper: &*home.guard.keeper,
            path: &home.guard.home.record,
            next: InstallRecord {
                place,
                ..found.record.clone()
            },
            found,
        };
        reservation.announce().unwrap();
        reservation.write().unwrap();
        reservation.settle().unwrap();
        drop(home);
        assert_eq!(installation.doubt(), expected);
    }
}

#[test]
fn without_twin_or_record_nothing_is_signed() {
    let installation = Installation::new();
    let (record, twin) = (installation.record(), installation.twin());
    let (content, known) = (fs::read(&record).unwrap(), fs::read(&twin).unwrap());
    for damage in [
        &b""[..],
        b"{",
        b"null",
        &known[..known.len() / 2],
        b"\xff\xfe",
    ] {
        fs::write(&twin, damage).unwrap();
        assert!(matches!(installation.doubt(), Doubt::Twin { .. }));
        fs::write(&twin, &known).unwrap();
        fs::write(&record, damage).unwrap();
        assert!(matches!(installation.doubt(), Doubt::Record { .. }));
        fs::write(&record, &content).unwrap();
    }
    fs::remove_file(&twin).unwrap();
    assert!(matches!(installation.doubt(), Doubt::TwinMissing { .. }));
    assert!(!twin.exists(), "a lost twin is not made anew");
    fs::write(&twin, &known).unwrap();
    assert_eq!(installation.open().guard.doubt(), None);
    fs::remove_file(&record).unwrap();
    assert!(matches!(installation.doubt(), Doubt::Record { .. }));
    assert!(!record.exists(), "a lost record is not made anew");
}

#[test]
fn every_changed_byte_of_record_and_twin_is_noticed_or_changes_nothing() {
    let installation = Installation::new();
    installation.sign(1);
    let home = installation.open();
    let standing = home.guard.standing();
    for file in [installation.record(), installation.twin()] {
        let content = fs::read(&file).unwrap();
        let before: Option<Twin> = Twin::decode(&content).ok();
        for at in 0..content.len() {
            let mut altered = content.clone();
            altered[at] ^= 1;
            fs::write(&file, &altered).unwrap();
            if home.guard.look(&standing).is_ok() {
                // The counts in a twin only word the message; white space says nothing.
                let after = Twin::decode(&altered).unwrap();
                let before = before.clone().unwrap();
                let reserved = before.reserved;
                assert_eq!(Twin { reserved, ..after }, before, "byte {at}");
            }
        }
        fs::write(&file, &content).unwrap();
    }
    assert!(home.guard.look(&standing).is_ok());
}

#[test]
fn a_head_that_a_peer_shows_ends_it_for_good() {
    let installation = Installation::new();
    let home = installation.open();
    sign(&home).unwrap();
    let feed = home.keys.feed_key(&DIRECTORY_ID);
    home.guard.handle_foreign_head(&feed, 7);
    assert!(sign(&home).is_err());
    drop(home);
    let length = 7;
    let feed = feed.to_string();
    assert_eq!(installation.doubt(), Doubt::ForeignHead { feed, length });
}

#[test]
fn a_state_folder_that_takes_nothing_refuses_and_leaves_no_doubt() {
    let installation = Installation::new();
    let home = installation.open();
    // What stands where the next twin is written cannot be moved away.
    let mut blocked = installation.twin().into_os_string();
    blocked.push(".new");
    fs::create_dir(&blocked).unwrap();
    let refused = sign(&home).unwrap_err();
    assert!(matches!(
        &refused,
        AppendError::Refused {
            refused: SignRefused::NotReserved { .. },
            ..
        }
    ));
    let error = Error::from(refused);
    assert_eq!(error.kind, ErrorKind::General);
    assert!(error.message.contains("state"), "{error}");
    assert_eq!(home.guard.doubt(), None);
    fs::remove_dir(&blocked).unwrap();
    sign(&home).unwrap();
    drop(home);
    installation.sign(1);
}
