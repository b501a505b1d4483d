//! One store at a time uses a folder, and says so at once to every other.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use kinlog_feeds::store::{FileDisk, MemoryDisk, OpenError, Options, Store};

use testkit::process::Running;
use testkit::soak::{self, Stopwatch};

use crate::support::*;

/// Time within which a second opening is refused.
const REFUSED_WITHIN: Duration = Duration::from_millis(50);

/// A folder of its own for a test, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let unique = format!("kinlog-store-{name}-{}", std::process::id());
        Folder(std::env::temp_dir().join(unique))
    }

    fn open(&self) -> Result<Store, OpenError> {
        let disk = FileDisk::new(&self.0).unwrap();
        Store::open(Arc::new(disk), Options::new([3; 16]))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_second_handle_on_one_folder_is_refused_with_the_pid() {
    a_second_handle_is_refused(Options::new([3; 16]));

    let disk = MemoryDisk::new();
    let store = open(&disk);
    assert!(matches!(try_open(&disk), Err(OpenError::Locked { .. })));
    drop(store);
    open(&disk);
}

/// Opens a folder twice, like this.
pub(crate) fn a_second_handle_is_refused(options: Options) {
    let folder = Folder::new("handle");
    let open = || {
        let disk = FileDisk::new(&folder.0).unwrap();
        Store::open(Arc::new(disk), options.clone())
    };
    let store = open().unwrap();
    let pid = std::process::id();
    let refused = open();
    assert!(
        matches!(refused, Err(OpenError::Locked { pid: held }) if held == pid),
        "a second handle on one folder is refused"
    );
    store.close().unwrap();
    open().unwrap();
}

/// Run by the test below in a process of its own.
#[test]
#[ignore = "the other process of a_second_process_is_refused_with_the_pid_of_the_first"]
fn other_process() {
    let folder = std::env::var("KINLOG_TEST_FOLDER").unwrap();
    let disk = FileDisk::new(folder).unwrap();
    match Store::open(Arc::new(disk), Options::new([3; 16])) {
        Err(OpenError::Locked { pid }) => println!("locked by {pid}"),
        other => println!("unexpected: {other:?}"),
    }
}

#[test]
fn a_second_process_is_refused_with_the_pid_of_the_first() {
    let folder = Folder::new("process");
    let store = folder.open().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "locking::other_process",
            "--ignored",
            "--nocapture",
        ])
        .env("KINLOG_TEST_FOLDER", &folder.0)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains(&format!("locked by {}", std::process::id())),
        "{said}"
    );
    drop(store);
}

/// Run by the test below in a process of its own.
#[test]
#[ignore = "the other process of a_stopped_process_still_holds_its_store"]
fn holds_until_killed() {
    let disk = FileDisk::new(std::env::var_os("KINLOG_TEST_FOLDER").unwrap()).unwrap();
    let _store = Store::open(Arc::new(disk), Options::new([3; 16])).unwrap();
    println!("open");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[test]
fn a_stopped_process_still_holds_its_store() {
    let folder = Folder::new("stopped");
    let mut holder = Running::start(
        Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "locking::holds_until_killed",
                "--ignored",
                "--nocapture",
            ])
            .env("KINLOG_TEST_FOLDER", &folder.0),
    );
    holder.read_until("open\n");
    let pid = holder.pid();
    let stopped = Command::new("kill")
        .args(["-STOP", &pid.to_string()])
        .status()
        .unwrap();
    assert!(stopped.success());
    let refusals = (0..20).map(|_| {
        let watch = Stopwatch::new();
        let refused = folder.open();
        assert!(
            matches!(refused, Err(OpenError::Locked { pid: held }) if held == pid),
            "{refused:?}"
        );
        watch.elapsed()
    });
    // The quickest of them: a loaded machine may take its time over any.
    let quickest = refusals.min().unwrap();
    assert!(quickest < REFUSED_WITHIN, "{quickest:?}");
    holder.kill();
    folder.open().unwrap();
}

#[test]
fn of_many_that_open_at_once_one_gets_the_store() {
    let folder = Folder::new("race");
    for race in 0..soak::choose(20, 1_000) {
        let start = Barrier::new(4);
        let stores: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        folder.open()
                    })
                })
                .collect();
            let opened = threads.into_iter().map(|thread| thread.join().unwrap());
            opened.collect()
        });
        let open = stores.iter().filter(|store| store.is_ok()).count();
        assert_eq!(open, 1, "race {race}: {stores:?}");
        for store in stores {
            assert!(matches!(store, Ok(_) | Err(OpenError::Locked { .. })));
        }
    }
}

#[test]
fn an_owner_record_from_before_a_restart_keeps_nobody_out() {
    let folder = Folder::new("stale");
    std::fs::create_dir(&folder.0).unwrap();
    let lock = folder.0.join("lock");
    // Its pid runs, in another boot: pids are given again.
    let record = format!("pid {}\nboot 0-0\nowner 0-0\n", std::process::id());
    std::fs::write(&lock, record).unwrap();
    let store = folder.open().unwrap();
    let now = std::fs::read_to_string(&lock).unwrap();
    assert!(!now.contains("boot 0-0"), "{now}");
    assert!(now.starts_with(&format!("pid {}\nboot ", std::process::id())));
    drop(store);
    // One that makes no sense costs the pid in the message at most.
    std::fs::write(&lock, [0xff; 300]).unwrap();
    folder.open().unwrap();
}

#[test]
fn files_and_folder_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("modes");
    let store = folder.open().unwrap();
    own_feed(&store, &writer())
        .append_batch(&writer(), &blocks(0..10))
        .unwrap();
    store.close().unwrap();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder.0), 0o700);
    let names: Vec<_> = std::fs::read_dir(&folder.0)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(names.len() >= 3, "log, index and lock: {names:?}");
    for path in names {
        assert_eq!(mode(&path), 0o600, "{path:?}");
    }
}

#[test]
fn a_store_on_a_real_disk_reopens() {
    let folder = Folder::new("reopen");
    let store = folder.open().unwrap();
    let feed = own_feed(&store, &writer());
    feed.append_batch(&writer(), &blocks(0..100)).unwrap();
    feed.clear(3..4).unwrap();
    let key = feed.key();
    drop((store, feed));
    let store = folder.open().unwrap();
    let feed = store.feed(&key).unwrap();
    assert_eq!(feed.get(3).unwrap(), None);
    assert_eq!(feed.get(99).unwrap(), Some(block(99)));
    assert_eq!(feed.verify().unwrap().problems, vec![]);
    assert!(store.stat().unwrap().free_bytes > 0);
}
