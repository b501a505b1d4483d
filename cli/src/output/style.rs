//! Colours, where they help and nobody minds.

use std::env;

/// Whether text is coloured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Style {
    Plain,
    Colored,
}

impl Style {
    /// Colours on a terminal that can show them, unless NO_COLOR (no-color.org) is set.
    pub(crate) fn automatic(terminal: bool) -> Style {
        let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        if terminal && !unwanted && !dumb {
            Style::Colored
        } else {
            Style::Plain
        }
    }
}

/// Paints words by their meaning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    style: Style,
}

impl Paint {
    pub(crate) fn new(style: Style) -> Self {
        Paint { style }
    }

    pub(crate) fn is_colored(self) -> bool {
        self.style == Style::Colored
    }

    /// Something to look at first.
    pub(crate) fn strong(&self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// Something that holds.
    pub(crate) fn good(&self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// Something that needs a look.
    pub(crate) fn warn(&self, text: &str) -> String {
        self.wrap("33", text)
    }

    /// Something that failed.
    pub(crate) fn bad(&self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    /// Something that may be skipped.
    pub(crate) fn faint(&self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// A name of somebody or something.
    pub(crate) fn name(&self, text: &str) -> String {
        self.wrap("36", text)
    }

    fn wrap(&self, code: &str, text: &str) -> String {
        match self.style {
            Style::Plain => text.to_owned(),
            Style::Colored => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }
}
