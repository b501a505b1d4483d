//! Work in steps of which each is done whatever becomes of the others: what one room, feed or session
//! cannot do keeps no other from it, and what comes last always comes.

use crate::api::Error;

/// What became of some steps: the first that did not go well is told to the caller, the others in one
/// line of the log.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    first: Option<Error>,
    more: usize,
    last: Option<(&'static str, Error)>,
}

impl Steps {
    /// Takes the result of a step, `what` says which; returns what it gave.
    pub(crate) fn take<T>(&mut self, what: &'static str, result: Result<T, Error>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) if self.first.is_none() => {
                tracing::debug!(what, %error, "a step did not go well, the next is taken");
                self.first = Some(error);
                None
            }
            Err(error) => {
                self.more += 1;
                self.last = Some((what, error));
                None
            }
        }
    }

    /// Ends the work.
    ///
    /// # Errors
    /// That of the first step that did not go well.
    pub(crate) fn end(self) -> Result<(), Error> {
        if let Some((what, error)) = self.last {
            tracing::warn!(more = self.more, what, %error, "further steps did not go well");
        }
        self.first.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_taken_and_the_first_error_is_told() {
        let mut steps = Steps::default();
        assert_eq!(steps.take("one", Ok(1)), Some(1));
        assert_eq!(
            steps.take("two", Err::<(), _>(Error::general("second"))),
            None
        );
        assert_eq!(
            steps.take("three", Err::<(), _>(Error::general("third"))),
            None
        );
        assert_eq!(steps.take("four", Ok(4)), Some(4));
        assert_eq!(steps.end().unwrap_err().message, "second");
        assert!(Steps::default().end().is_ok());
    }
}
