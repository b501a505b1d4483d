//! The order of system calls of a process that appends and then tells another of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;

use kinlog_feeds::store::{FileDisk, Options, Store};
use testkit::process::Folder;

use crate::support::*;

const FOLDER: &str = "KINLOG_TEST_FOLDER";
const ADDRESS: &str = "KINLOG_TEST_ADDRESS";

/// Everything that writes, makes durable, changes names or sends.
const TRACED: &str = "trace=write,pwrite64,writev,pwritev,pwritev2,fdatasync,fsync,openat,rename,\
                      renameat,renameat2,unlink,unlinkat,sendto,sendmsg";

/// Appends that are told of.
const APPENDS: u64 = 40;

/// Run by the test below, traced, in a process of its own.
#[test]
#[ignore = "the process that strace_sees_a_record_synced_before_its_length_is_sent traces"]
fn appends_and_tells() {
    let mut stream = TcpStream::connect(std::env::var(ADDRESS).unwrap()).unwrap();
    let disk = FileDisk::new(std::env::var_os(FOLDER).unwrap()).unwrap();
    let options = Options::new([3; 16])
        .segments(16 * 1024, 4 * 1024)
        .checkpoint_every(12 * 1024)
        .without_keeper();
    let store = Store::open(Arc::new(disk), options).unwrap();
    let feed = own_feed(&store, &writer());
    for number in 0..APPENDS {
        let appended = feed.append_batch(&writer(), &blocks(number..number + 1));
        let length = appended.unwrap().length;
        stream
            .write_all(format!("length {length}\n").as_bytes())
            .unwrap();
    }
    store.close().unwrap();
}

/// What a traced call did.
#[derive(Debug, Eq, PartialEq)]
enum Call {
    Created(String),
    Wrote(String),
    Synced(String),
    /// Renamed to, or removed.
    Named(String),
    Sent(u64),
}

/// Reads the calls of a trace, in the order in which they took effect: what writes counts when it
/// begins, what makes durable when it has ended.
fn calls(trace: &str, folder: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut unfinished: BTreeMap<&str, &str> = BTreeMap::new();
    for line in trace.lines() {
        let Some((process, call)) = line.split_once(' ') else {
            continue;
        };
        let call = call.trim_start();
        if let Some(begun) = call.strip_suffix("<unfinished ...>") {
            unfinished.insert(process, begun);
            if !begun.contains("sync(") {
                calls.extend(call_of(begun, folder));
            }
        } else if call.starts_with("<... ") {
            let begun = unfinished.remove(process).unwrap_or_default();
            if begun.contains("sync(") {
                calls.extend(call_of(begun, folder));
            }
        } else {
            calls.extend(call_of(call, folder));
        }
    }
    calls
}

/// Reads one call: `fdatasync(5</folder/log-00000000>) = 0`.
fn call_of(call: &str, folder: &str) -> Option<Call> {
    let (name, arguments) = call.split_once('(')?;
    let quoted = |number: usize| arguments.split('"').nth(1 + 2 * number).map(file_name);
    let opened = || {
        let path = arguments.split_once('<')?.1.split_once('>')?.0;
        let inside = path.strip_prefix(folder)?;
        Some(inside.trim_start_matches('/').to_owned())
    };
    match name {
        "fdatasync" | "fsync" => Some(Call::Synced(opened()?)),
        "openat" if arguments.contains("O_CREAT") && arguments.contains(folder) => {
            Some(Call::Created(quoted(0)?))
        }
        "rename" | "renameat" | "renameat2" => Some(Call::Named(quoted(1)?)),
        "unlink" | "unlinkat" => Some(Call::Named(quoted(0)?)),
        "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2" | "sendto" | "sendmsg" => {
            match opened() {
                Some(file) => Some(Call::Wrote(file)),
                None => {
                    let length = arguments.split_once("\"length ")?.1;
                    let digits = length.split(|c: char| !c.is_ascii_digit()).next()?;
                    Some(Call::Sent(digits.parse().ok()?))
                }
            }
        }
        _ => None,
    }
}

fn file_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

#[test]
fn strace_sees_a_record_synced_before_its_length_is_sent() {
    let folder = Folder::new("order");
    let store = folder.join("store");
    let trace = folder.join("trace");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut traced = Command::new("strace")
        .args([
            "--follow-forks",
            "--decode-fds=path",
            "--string-limit=200",
            "-e",
            TRACED,
        ])
        .arg("--output")
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "order::appends_and_tells",
            "--ignored",
            "--nocapture",
        ])
        .env(FOLDER, &store)
        .env(ADDRESS, listener.local_addr().unwrap().to_string())
        .stdout(Stdio::null())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let (stream, _) = listener.accept().unwrap();
    let told = BufReader::new(stream).lines().map_while(Result::ok).count();
    assert_eq!(told as u64, APPENDS);
    assert!(traced.wait().unwrap().success());

    let trace = std::fs::read_to_string(trace).unwrap();
    let calls = calls(&trace, store.to_str().unwrap());
    let (mut unsynced, mut unnamed) = (BTreeSet::new(), BTreeSet::new());
    let mut records_since = false;
    let (mut segments, mut sent, mut indexes) = (BTreeSet::new(), 0, 0);
    for call in &calls {
        match call {
            Call::Created(file) if file.starts_with("log-") => {
                // Opened with O_CREAT once it is there, too; then nothing has to be named.
                if segments.insert(file) {
                    unnamed.insert(file.clone());
                }
            }
            Call::Created(_) => {}
            Call::Wrote(file) if file.starts_with("log-") => {
                records_since = true;
                unsynced.insert(file.clone());
            }
            Call::Wrote(file) => {
                unsynced.insert(file.clone());
            }
            Call::Named(file) => {
                assert!(
                    !unsynced.contains("index.new"),
                    "{file} is renamed once it is synced"
                );
                unnamed.insert(file.clone());
                indexes += 1;
            }
            Call::Synced(file) if file.is_empty() => unnamed.clear(),
            Call::Synced(file) => {
                unsynced.remove(file);
            }
            Call::Sent(length) => {
                sent += 1;
                assert_eq!(*length, sent, "each length once, in order");
                assert!(
                    records_since,
                    "length {length} is sent after a record of its own"
                );
                let log = |file: &&String| file.starts_with("log-");
                assert_eq!(unsynced.iter().find(log), None, "before length {length}");
                assert_eq!(unnamed.iter().find(log), None, "before length {length}");
                records_since = false;
            }
        }
    }
    assert_eq!(sent, APPENDS);
    assert!(
        segments.len() > 2,
        "the test crosses segments: {segments:?}"
    );
    assert!(indexes > 0, "the index was put in its place");
    assert_eq!(
        unnamed,
        BTreeSet::new(),
        "the folder was synced after the last name"
    );
    unsynced.retain(|file| file != "lock");
    assert_eq!(
        unsynced,
        BTreeSet::new(),
        "everything was synced in the end"
    );
}
