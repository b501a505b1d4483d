//! The machine: room on the disk, socket buffers, open files.

use std::fs;
use std::path::Path;

use kinlog_agent::api::DoctorInfo;

use super::Check;
use crate::output::bytes;

/// Socket buffer that a fast link over a long way asks for.
const BUFFER_BYTES: u64 = 4 * 1024 * 1024;

/// Free space below which a store soon stops.
const FREE_BYTES_LOW: u64 = 1_000_000_000;

/// Free space below which it stops any moment: a segment grows by 4 MiB, SQLite needs some more.
const FREE_BYTES_MIN: u64 = 100_000_000;

/// Open files that 64 sessions, the store and the index need, with some room.
const FILES_MIN: u64 = 1024;

pub(super) fn checks(home: &Path, agent: Option<&DoctorInfo>) -> Vec<Check> {
    let mut checks = vec![disk(home, agent)];
    checks.extend(buffers());
    checks.extend(files(agent));
    checks
}

fn disk(home: &Path, agent: Option<&DoctorInfo>) -> Check {
    // Of a home that is not there yet, the folder in which it would be.
    let folder = home.ancestors().find(|folder| folder.exists());
    let stat = match folder.map(rustix::fs::statvfs) {
        Some(Ok(stat)) => stat,
        Some(Err(error)) => return Check::warn("disk", format!("{}: {error}", home.display())),
        None => return Check::warn("disk", format!("{} is on no disk", home.display())),
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let used = match agent {
        Some(agent) => format!("the store takes {}, ", bytes(agent.store_bytes)),
        None => String::new(),
    };
    let found = format!("{used}{} are free", bytes(free));
    let hint = "`kinlog store stat` says what takes room, `kinlog unpin` gives some back";
    match free {
        0..FREE_BYTES_MIN => Check::bad("disk", found).hint(hint),
        FREE_BYTES_MIN..FREE_BYTES_LOW => Check::warn("disk", found).hint(hint),
        _ => Check::ok("disk", found),
    }
}

/// What the kernel gives a socket at most.
fn buffers() -> Option<Check> {
    let read = |name: &str| -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/sys/net/core/{name}")).ok()?;
        text.trim().parse().ok()
    };
    let (receive, send) = (read("rmem_max")?, read("wmem_max")?);
    let found = format!(
        "UDP socket buffers: receive {}, send {}",
        bytes(receive),
        bytes(send)
    );
    Some(match receive.min(send) >= BUFFER_BYTES {
        true => Check::ok("buffers", found),
        false => Check::warn(
            "buffers",
            format!("{found}, of 4 MiB asked for: far ways are slower"),
        )
        .hint("sudo sysctl -w net.core.rmem_max=4194304 net.core.wmem_max=4194304"),
    })
}

fn files(agent: Option<&DoctorInfo>) -> Option<Check> {
    let pid = agent.map_or_else(std::process::id, |agent| agent.pid);
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let max = files_max(&limits)?;
    let open = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |open| open.count() as u64);
    let found = format!("{open} of {max} files and sockets are open");
    Some(match max < FILES_MIN || open + FILES_MIN / 4 > max {
        true => Check::warn("files", found).hint("ulimit -n 4096, or LimitNOFILE= of the service"),
        false => Check::ok("files", found),
    })
}

/// Returns the soft limit of open files in the text of `/proc/PID/limits`.
fn files_max(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_is_the_soft_one() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
             Max open files            1024                 524288               files\n";
        assert_eq!(files_max(limits), Some(1024));
        assert_eq!(
            files_max("Max open files  unlimited unlimited files"),
            Some(u64::MAX)
        );
        assert_eq!(files_max("nothing of it"), None);
    }
}
