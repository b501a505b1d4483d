//! A home whose key the operating system's key ring has: a real one, GNOME's, on a session bus of its own.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::Home;
use testkit::process::{Finished, Folder, WAIT_MAX, run};

/// A user's session: a bus and a key ring, which end with it.
struct Session {
    folder: Folder,
    address: String,
    bus: Child,
    key_ring: Child,
}

impl Session {
    /// Starts both. The key ring is made when it is first unlocked.
    fn log_in() -> Session {
        let folder = Folder::new("session");
        let mut bus = within(&folder, "dbus-daemon")
            .args(["--session", "--nofork", "--nopidfile", "--print-address"])
            .arg(format!("--address=unix:dir={}", folder.path().display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        let mut said = BufReader::new(bus.stdout.take().unwrap());
        said.read_line(&mut address).unwrap();
        let address = address.trim().to_owned();
        let key_ring = key_ring(&folder, &address, true);
        Session {
            folder,
            address,
            bus,
            key_ring,
        }
    }

    /// As after a restart: the key ring is there, and nobody gave its password.
    fn restart_locked(&mut self) {
        self.restart(false);
    }

    fn restart(&mut self, is_unlocked: bool) {
        end(&mut self.key_ring);
        fs::remove_dir_all(self.folder.join("keyring")).unwrap();
        self.key_ring = key_ring(&self.folder, &self.address, is_unlocked);
    }

    fn run(&self, home: &Home, words: &[&str]) -> Finished {
        let mut command = home.command(words);
        run(command.env("DBUS_SESSION_BUS_ADDRESS", &self.address), b"")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        end(&mut self.key_ring);
        end(&mut self.bus);
    }
}

/// Starts a program that finds nothing of the person who runs the test.
fn within(folder: &Folder, program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env("HOME", folder.path())
        .env("XDG_DATA_HOME", folder.path())
        .env("XDG_RUNTIME_DIR", folder.path())
        .env_remove("DISPLAY")
        .env_remove("WAYLAND_DISPLAY")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn key_ring(folder: &Folder, address: &str, is_unlocked: bool) -> Child {
    let mut command = within(folder, "gnome-keyring-daemon");
    command
        .args(["--foreground", "--components=secrets"])
        .env("DBUS_SESSION_BUS_ADDRESS", address);
    if is_unlocked {
        command.arg("--unlock").stdin(Stdio::piped());
    }
    let mut child = command.spawn().unwrap();
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(b"login password").unwrap();
    }
    let control = folder.join("keyring/control");
    let start = Instant::now();
    while !control.exists() {
        assert!(start.elapsed() < WAIT_MAX, "the key ring does not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    child
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

#[test]
fn keyring_a_home_opens_for_whoever_has_logged_in_and_its_files_alone_open_nothing() {
    let mut session = Session::log_in();
    let home = Home::init("ann");
    let clear = fs::read(home.path().join("home.key")).unwrap();
    home.run(["room", "create", "garden"]).ok();
    home.run(["send", "garden", "the roses are out"]).ok();

    session
        .run(&home, &["passphrase", "keyring"])
        .ok()
        .says("key ring");
    assert!(!home.path().join("home.key").exists());
    for file in home.files() {
        let bytes = fs::read(&file).unwrap();
        assert!(
            !bytes.windows(clear.len()).any(|window| window == clear),
            "{} has the key",
            file.display()
        );
    }
    let shown = session.run(&home, &["read", "garden"]).ok();
    assert!(shown.text().contains("the roses are out"));
    session
        .run(&home, &["passphrase", "keyring"])
        .exits(2)
        .says("already");

    // Without a session, as for a thief, and while the key ring is locked.
    home.run(["read", "garden"]).exits(6).says("key ring");
    session.restart_locked();
    session
        .run(&home, &["read", "garden"])
        .exits(6)
        .says("locked");
    session.restart(true);
    session.run(&home, &["read", "garden"]).ok();

    // `lock` leaves the key where it is, and no index that says what rooms hold.
    session.run(&home, &["lock"]).ok();
    assert!(!home.files().iter().any(|file| file.ends_with("index.db")));
    let shown = session.run(&home, &["read", "garden"]).ok();
    assert!(shown.text().contains("the roses are out"));

    session.run(&home, &["passphrase", "remove"]).ok();
    assert_eq!(fs::read(home.path().join("home.key")).unwrap(), clear);
    home.run(["read", "garden"]).ok();
}

#[test]
fn keyring_a_home_goes_from_passphrase_to_key_ring_and_back() {
    let session = Session::log_in();
    let home = Home::init("ann");
    let passphrase = home.secret_file("passphrase", "correct horse battery");
    let passphrase = passphrase.to_str().unwrap();
    let set = ["passphrase", "set", "--new-passphrase-file", passphrase];
    let to_ring = ["passphrase", "keyring", "--passphrase-file", passphrase];
    session.run(&home, &set).ok();

    // Nothing changes where no key ring answers.
    home.run(to_ring).exits(6).says("key ring");
    home.run(["id"]).ok();
    session.run(&home, &to_ring).ok();
    assert!(!home.path().join("vault").exists());
    session.run(&home, &["id"]).ok();
    session.run(&home, &["unlock"]).ok().says("key ring");

    session.run(&home, &set).ok().says("unlocked");
    assert!(!home.path().join("keyring").exists());
    home.run(["id"]).ok();
}
