//! A thread that waits until another one tells it something, once.

use std::sync::OnceLock;
use std::thread::{self, Thread};

/// Where the thread that made it is told something.
///
/// Each waiting thread has its own, so that a thousand that wait cost each other nothing: nobody
/// is woken to find that it was not meant.
#[derive(Debug)]
pub(super) struct Turn<T> {
    thread: Thread,
    told: OnceLock<T>,
}

impl<T> Turn<T> {
    /// Makes one for the current thread.
    pub(super) fn new() -> Self {
        Turn {
            thread: thread::current(),
            told: OnceLock::new(),
        }
    }

    /// Tells `what` and wakes the thread; what is told later is not heard.
    pub(super) fn tell(&self, what: T) {
        let _ = self.told.set(what);
        self.thread.unpark();
    }

    /// Returns what is told, once it is; only the thread that made it waits here.
    pub(super) fn wait(&self) -> &T {
        loop {
            if let Some(told) = self.told.get() {
                return told;
            }
            thread::park();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_first_word_is_heard_also_when_it_was_said_before() {
        let turn = Arc::new(Turn::new());
        turn.tell(1);
        turn.tell(2);
        assert_eq!(*turn.wait(), 1);
        let turn = Arc::new(Turn::new());
        thread::scope(|scope| {
            let other = turn.clone();
            scope.spawn(move || other.tell(3));
            assert_eq!(*turn.wait(), 3);
        });
    }
}
