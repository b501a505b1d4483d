//! What a command shows: data on stdout, words for people on stderr.

mod date;
mod figures;
mod last_line;
mod log;
mod progress;
mod qr;
mod sanitize;
mod style;

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::arguments::{Color, Global};
use crate::error::Failure;

pub(crate) use date::{ago, date, now_ms, time};
pub(crate) use figures::{bytes, count, cut, rate, short_key, span};
pub(crate) use last_line::LastLine;
pub(crate) use log::start_log;
pub(crate) use progress::Progress;
pub(crate) use qr::{qr, qr_svg, show_qr};
pub(crate) use sanitize::{clean, clean_lines};
pub(crate) use style::{Paint, Style};

/// Version of every JSON object that is printed.
const JSON_VERSION: u8 = 1;

/// Where a command tells what it did.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    stdout_style: Style,
    stderr_style: Style,
}

impl Output {
    pub(crate) fn new(global: &Global) -> Self {
        let style = |terminal: bool| match global.color {
            Color::Always => Style::Colored,
            Color::Never => Style::Plain,
            Color::Auto => Style::automatic(terminal),
        };
        Output {
            json: global.json,
            quiet: global.quiet,
            stdout_style: style(io::stdout().is_terminal()),
            stderr_style: style(io::stderr().is_terminal()),
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Returns the style of data on stdout.
    pub(crate) fn paint(&self) -> Paint {
        Paint::new(self.stdout_style)
    }

    /// Returns the style of words on stderr.
    pub(crate) fn paint_words(&self) -> Paint {
        Paint::new(self.stderr_style)
    }

    /// Prints a value as one line of JSON.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Versioned<'a, T> {
            v: u8,
            #[serde(flatten)]
            value: &'a T,
        }
        let line = serde_json::to_string(&Versioned {
            v: JSON_VERSION,
            value,
        })
        .map_err(|error| Failure::general(format!("this answer is no JSON: {error}")))?;
        self.data(&line)
    }

    /// Prints a line of data on stdout. Text of others must be [`clean`] already.
    pub(crate) fn data(&self, line: &str) -> Result<(), Failure> {
        self.bytes(line.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Writes bytes to stdout as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        io::stdout()
            .write_all(bytes)
            .map_err(|error| closed(&error))
    }

    /// Makes what was printed visible to whoever waits for it.
    pub(crate) fn flush(&self) -> Result<(), Failure> {
        io::stdout().flush().map_err(|error| closed(&error))
    }

    /// Prints a line for people on stderr, unless `--quiet`.
    pub(crate) fn say(&self, line: impl AsRef<str>) {
        if !self.quiet {
            // Nobody can be told that stderr is closed.
            let _ = writeln!(io::stderr(), "{}", line.as_ref());
        }
    }

    /// Shows progress where a person looks at it: on a terminal, without `--quiet` and `--json`.
    pub(crate) fn progress(&self, label: &str) -> Progress {
        let visible = io::stderr().is_terminal() && !self.quiet && !self.json;
        Progress::new(label, visible)
    }

    /// Tells why the command failed: words on stderr, and with `--json` an object on stdout.
    pub(crate) fn failure(&self, failure: &Failure) {
        let Some(report) = failure.report() else {
            return;
        };
        let paint = self.paint_words();
        let _ = writeln!(
            io::stderr(),
            "{} {}",
            paint.bad("error:"),
            clean_lines(&report.error)
        );
        if let Some(hint) = &report.hint {
            let _ = writeln!(
                io::stderr(),
                " {} {}",
                paint.strong("hint:"),
                clean_lines(hint)
            );
        }
        if self.json {
            // The exit code tells the same.
            let _ = self.json(&report);
        }
        let _ = self.flush();
    }
}

fn closed(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::io("stdout", error),
    }
}
