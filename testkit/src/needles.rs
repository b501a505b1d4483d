//! A search for many values in many bytes at once: frames, files, another process's memory.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;

use kinlog_feeds::text;

/// Bytes by which candidates are found; every needle has at least as many.
const HEAD: usize = 4;

/// What is looked for, each value under a name and in several spellings.
#[derive(Clone, Debug)]
pub struct Needles {
    /// Name, spelling and bytes.
    spelled: Vec<(String, &'static str, Vec<u8>)>,
    /// By their first two bytes, the needles that begin so.
    begins: Vec<Vec<usize>>,
}

impl Needles {
    /// Returns a search for nothing yet.
    pub fn new() -> Needles {
        Needles {
            spelled: Vec::new(),
            begins: vec![Vec::new(); 1 << 16],
        }
    }

    /// Adds a value as it is, in hex, in z-base-32 and base64 at any offset, and as a debugger prints it.
    ///
    /// # Panics
    /// When the value is so short that it would be found by chance.
    #[track_caller]
    pub fn add(&mut self, name: &str, value: &[u8]) {
        assert!(
            value.len() >= 8,
            "{name}: too short to be found only where it is meant"
        );
        self.add_spelled(name, "raw", value.to_vec());
        let hex = text::encode_hex(value);
        self.add_spelled(name, "hex", hex.to_uppercase().into_bytes());
        self.add_spelled(name, "hex", hex.into_bytes());
        for offset in 0..5 {
            self.add_spelled(name, "z-base-32", characters(value, offset, 5, Z_BASE_32));
        }
        for alphabet in [BASE_64, BASE_64_URL] {
            for offset in 0..3 {
                self.add_spelled(name, "base64", characters(value, offset, 6, alphabet));
            }
        }
        let list = format!("{value:?}");
        self.add_spelled(name, "list", list.as_bytes()[1..list.len() - 1].to_vec());
        let escaped = value.escape_ascii().to_string().into_bytes();
        if escaped != value {
            self.add_spelled(name, "escaped", escaped);
        }
    }

    /// Adds another spelling of a value.
    ///
    /// # Panics
    /// When it is shorter than four bytes.
    pub fn add_spelled(&mut self, name: &str, spelling: &'static str, bytes: Vec<u8>) {
        assert!(bytes.len() >= HEAD);
        let begin = usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
        self.begins[begin].push(self.spelled.len());
        self.spelled.push((name.to_owned(), spelling, bytes));
    }

    /// Returns what stands in `hay`, as `name (spelling)`.
    pub fn found_in(&self, hay: &[u8]) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for at in 0..hay.len().saturating_sub(HEAD - 1) {
            let begin = usize::from(u16::from_le_bytes([hay[at], hay[at + 1]]));
            for needle in &self.begins[begin] {
                let (name, spelling, bytes) = &self.spelled[*needle];
                if hay[at..].starts_with(bytes) {
                    found.insert(format!("{name} ({spelling})"));
                }
            }
        }
        found
    }

    /// Returns what stands in the readable memory of a process.
    ///
    /// # Panics
    /// When there is no such process, or its memory cannot be read.
    pub fn found_in_memory(&self, pid: u32) -> BTreeSet<String> {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("the process runs");
        let memory = File::open(format!("/proc/{pid}/mem")).expect("its memory can be read");
        let mut found = BTreeSet::new();
        let mut bytes_read = 0;
        for line in maps.lines() {
            let mut words = line.split_whitespace();
            let (Some(range), Some(mode)) = (words.next(), words.next()) else {
                continue;
            };
            let name = words.nth(3).unwrap_or_default();
            // Kernel pages of every process, which cannot be read like memory.
            if !mode.starts_with('r') || name == "[vvar]" || name == "[vsyscall]" {
                continue;
            }
            let Some((start, end)) = range.split_once('-') else {
                continue;
            };
            let number = |hex: &str| u64::from_str_radix(hex, 16).expect("addresses are hex");
            let (start, end) = (number(start), number(end));
            let mut region = vec![0; usize::try_from(end - start).expect("regions fit")];
            // A region may be gone since the list was made.
            if memory.read_exact_at(&mut region, start).is_ok() {
                bytes_read += region.len();
                found.extend(self.found_in(&region));
            }
        }
        assert!(
            bytes_read > 1_000_000,
            "only {bytes_read} bytes of memory could be read"
        );
        found
    }
}

impl Default for Needles {
    fn default() -> Self {
        Needles::new()
    }
}

const Z_BASE_32: &[u8] = b"ybndrfg8ejkmcpqxot1uwisza345h769";
const BASE_64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE_64_URL: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Returns the characters of `width` bits that `value` has whatever stands before and after it, when
/// it begins `offset` bytes into a group.
fn characters(value: &[u8], offset: usize, width: usize, alphabet: &[u8]) -> Vec<u8> {
    let mut bits = vec![false; offset * 8];
    bits.extend(
        value
            .iter()
            .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)),
    );
    // The first and the last character also hold bits of the neighbours.
    let first = (offset * 8).div_ceil(width);
    bits.chunks_exact(width)
        .skip(first)
        .map(|some| {
            alphabet[some
                .iter()
                .fold(0, |value, bit| value << 1 | usize::from(*bit))]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_found() {
        let mut needles = Needles::new();
        needles.add("value", b"a value of some length");
        for hay in [
            "..a value of some length..",
            "..612076616c7565206f6620736f6d65206c656e677468..",
            // base64 of "a value of some length", of "xa value ..." and of "xya value ...".
            "YSB2YWx1ZSBvZiBzb21lIGxlbmd0aA==",
            "eGEgdmFsdWUgb2Ygc29tZSBsZW5ndGg=",
            "eHlhIHZhbHVlIG9mIHNvbWUgbGVuZ3Ro",
        ] {
            assert_eq!(needles.found_in(hay.as_bytes()).len(), 1, "{hay}");
        }
        for before in ["", "x", "xy", "xyz", "wxyz"] {
            let spelled = text::encode(format!("{before}a value of some length!").as_bytes());
            assert_eq!(needles.found_in(spelled.as_bytes()).len(), 1, "{spelled}");
        }
        let listed = format!("{:?}", b"<a value of some length>");
        assert_eq!(needles.found_in(listed.as_bytes()).len(), 1);
        assert!(needles.found_in(b"a value of no length").is_empty());
        let mut needles = Needles::new();
        needles.add("value", b"eight \xff\x01");
        assert_eq!(needles.found_in(b"(eight \\xff\\x01)").len(), 1);
    }

    #[test]
    fn what_this_process_holds_is_found_in_its_memory() {
        let held = std::hint::black_box(b"held in memory, 7f1c".to_vec());
        let mut needles = Needles::new();
        needles.add_spelled("held", "raw", held);
        let found = needles.found_in_memory(std::process::id());
        assert_eq!(found, BTreeSet::from(["held (raw)".to_owned()]));
    }
}
