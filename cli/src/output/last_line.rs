//! A line below everything that was printed, on a terminal; it is replaced, and goes away.

use std::io::{self, IsTerminal, Write};

use crate::output::{Output, cut};

/// Columns of the narrowest terminal that is counted with: a line that wraps could not be taken back.
const COLUMNS: usize = 79;

/// The last line of a terminal that shows both data and words.
#[derive(Debug)]
pub(crate) struct LastLine {
    visible: bool,
    shown: Option<String>,
}

impl LastLine {
    /// Returns an empty line; nothing is ever shown where nobody looks, in JSON, or with `--quiet`.
    pub(crate) fn new(output: &Output) -> Self {
        let is_terminal = io::stderr().is_terminal() && io::stdout().is_terminal();
        LastLine {
            visible: is_terminal && !output.is_json() && !output.is_quiet(),
            shown: None,
        }
    }

    /// Returns whether it is ever seen.
    pub(crate) fn is_visible(&self) -> bool {
        self.visible
    }

    /// Shows a line in the place of the one before. Text of others must be clean already.
    pub(crate) fn show(&mut self, line: Option<String>) {
        if !self.visible || self.shown == line {
            return;
        }
        self.clear();
        if let Some(line) = &line {
            let _ = write!(io::stderr(), "\u{1b}[2m{}\u{1b}[0m", cut(line, COLUMNS));
            let _ = io::stderr().flush();
        }
        self.shown = line;
    }

    /// Takes the line away, so that something else can be printed.
    pub(crate) fn clear(&mut self) {
        if self.shown.take().is_some() {
            let _ = write!(io::stderr(), "\r\u{1b}[2K");
            let _ = io::stderr().flush();
        }
    }
}

impl Drop for LastLine {
    fn drop(&mut self) {
        self.clear();
    }
}
