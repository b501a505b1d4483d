//! A bar on a terminal, nothing elsewhere.

use std::cell::Cell;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::clean;

/// How often a bar is redrawn at most.
const REDRAW_HZ: u8 = 10;

/// Progress of one piece of work in bytes or blocks.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    /// Whether there was anything to show since it was cleared.
    is_shown: Cell<bool>,
}

impl Progress {
    pub(crate) fn new(label: &str, visible: bool) -> Self {
        let target = if visible {
            ProgressDrawTarget::stderr_with_hz(REDRAW_HZ)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_message(clean(label));
        bar.set_style(style("{decimal_bytes} {decimal_bytes_per_sec}"));
        let is_shown = Cell::new(false);
        Progress { bar, is_shown }
    }

    /// Shows `done` of `total` bytes; a total of zero is not known yet.
    pub(crate) fn update(&self, done: u64, total: u64) {
        self.show(
            done,
            total,
            "{wide_bar:.cyan/dim} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}",
        );
    }

    /// Shows `done` of `total` blocks.
    pub(crate) fn update_blocks(&self, done: u64, total: u64) {
        self.show(done, total, "{wide_bar:.cyan/dim} {pos}/{len} blocks {eta}");
    }

    fn show(&self, done: u64, total: u64, template: &str) {
        if total > 0 && self.bar.length() != Some(total) {
            self.bar.set_length(total);
            self.bar.set_style(style(template));
        }
        self.is_shown.set(true);
        self.bar.set_position(done);
    }

    /// Prints a line above the bar.
    pub(crate) fn suspend(&self, print: impl FnOnce()) {
        if self.is_shown.get() {
            self.bar.suspend(print);
        } else {
            // There is no bar yet: none is drawn for the sake of a line.
            print();
        }
    }

    /// Removes the bar.
    pub(crate) fn clear(&self) {
        self.is_shown.set(false);
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(&format!("  {{msg}} {template}"))
        .expect("the templates are constants")
        .progress_chars("━━─")
}
