//! Write-ahead logs of SQLite, as a crash or a damaged disk leaves them: where each step of what was
//! written ends.
//!
//! Layout: <https://sqlite.org/fileformat2.html#the_write_ahead_log>.

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// A page that was written into the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Frame {
    /// Where it ends in the file: a crash right after it leaves so many bytes.
    pub end: usize,
    /// It is the last one of its transaction.
    pub commits: bool,
}

/// Returns the frames of a log, in order.
///
/// # Panics
/// When it is no log.
pub fn frames(log: &[u8]) -> Vec<Frame> {
    let number = |at: usize| u32::from_be_bytes(log[at..at + 4].try_into().expect("four bytes"));
    assert_eq!(number(0) & !1, 0x377f_0682, "a log begins so");
    let page_bytes = number(8) as usize;
    let mut frames = Vec::new();
    let mut at = HEADER_BYTES;
    while at + FRAME_HEADER_BYTES + page_bytes <= log.len() {
        let commits = number(at + 4) > 0;
        at += FRAME_HEADER_BYTES + page_bytes;
        frames.push(Frame { end: at, commits });
    }
    frames
}
