//! The install record, its twin, and how either is put on the disk: whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use kinlog_feeds::crypto::{DeviceKey, FeedKey, blake2b_256};
use kinlog_feeds::text;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::api::Text;
use crate::guard::place::{Marks, Place};
use crate::limits::INSTALL_FILE_BYTES_MAX;

/// Version of both layouts; another one is not certain.
pub(super) const VERSION: u8 = 1;

/// What the home says of its installation; the file `install`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InstallRecord {
    pub(super) v: u8,
    /// Random name of the installation, and of the twin's file.
    pub(super) install: String,
    /// The device whose secret may sign here.
    pub(super) device: Text<DeviceKey>,
    /// Signatures reserved since the installation began.
    pub(super) reserved: u64,
    /// Random for each reservation: equal counts of two lives are told apart.
    pub(super) mark: String,
    /// Where the store's folder stood.
    pub(super) place: Place,
    /// Id of the store.
    pub(super) store: String,
    /// Newest durable record of the store when this was written.
    pub(super) sequence: u64,
    /// A peer showed a head of ours that this store did not sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tripped: Option<ForeignHead>,
}

/// A valid head of an own feed that this store did not sign.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ForeignHead {
    pub(super) feed: Text<FeedKey>,
    pub(super) length: u64,
}

impl InstallRecord {
    pub(super) fn encode(&self) -> Vec<u8> {
        encode(self)
    }
}

/// What the state folder knows of an installation.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Twin {
    pub(super) v: u8,
    pub(super) install: String,
    /// As in the record it names.
    pub(super) reserved: u64,
    /// Hash of the record in the home.
    pub(super) record: String,
    /// The record's file.
    pub(super) file: Marks,
    /// The record that is about to take its place; nothing is signed until this is gone again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<Next>,
}

/// A record on its way.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Next {
    pub(super) reserved: u64,
    pub(super) record: String,
}

impl Twin {
    pub(super) fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    pub(super) fn decode(bytes: &[u8]) -> io::Result<Twin> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// Returns the hash by which a twin names a record.
pub(super) fn hash(record: &[u8]) -> String {
    text::encode(&blake2b_256(&[b"kinlog/install", record]))
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .expect("numbers, texts and options of them have a form in JSON");
    bytes.push(b'\n');
    bytes
}

/// A record as it stands in the home.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Found {
    pub(super) record: InstallRecord,
    pub(super) hash: String,
    pub(super) file: Marks,
}

impl Found {
    /// Reads the record; `None` when there is none.
    pub(super) fn read(path: &Path) -> io::Result<Option<Found>> {
        let Some(bytes) = read_small(path)? else {
            return Ok(None);
        };
        Ok(Some(Found {
            record: decode(&bytes)?,
            hash: hash(&bytes),
            file: Marks::of(path)?,
        }))
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    Ok(serde_json::from_slice(bytes)?)
}

/// Reads a small file; `None` when there is none.
pub(crate) fn read_small(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    io::Read::read_to_end(
        &mut io::Read::take(file, INSTALL_FILE_BYTES_MAX),
        &mut bytes,
    )?;
    Ok(Some(bytes))
}

/// Puts `bytes` in place of what stands at `path`, durably: 0600, a new file each time.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    // What a crash left half written was never in place.
    match fs::remove_file(beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(beside, path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
