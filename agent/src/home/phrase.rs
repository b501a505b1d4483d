//! The 24 words an agent's root key comes from.

use std::fmt;

use kinlog_feeds::crypto::{KeyPair, root_seed};
use zeroize::Zeroizing;

/// A BIP39 phrase of 24 English words. Shown once, never stored.
#[derive(Clone)]
pub struct Phrase {
    mnemonic: bip39::Mnemonic,
}

/// Text that is no phrase.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PhraseError {
    /// Not 24 words.
    #[error("a phrase has 24 words, got {actual}")]
    Words { actual: usize },
    /// A word outside the list, or a check that does not fit; names no word.
    #[error("the phrase does not check: a word is mistyped or two are swapped")]
    Check,
    /// The system gave no random numbers.
    #[error("no random numbers: {reason}")]
    Random { reason: String },
}

impl Phrase {
    /// Makes a new random phrase.
    pub fn generate() -> Result<Phrase, PhraseError> {
        let mut entropy = Zeroizing::new([0; 32]);
        getrandom::fill(entropy.as_mut()).map_err(|error| PhraseError::Random {
            reason: error.to_string(),
        })?;
        let mnemonic =
            bip39::Mnemonic::from_entropy(entropy.as_ref()).map_err(|_| PhraseError::Check)?;
        Ok(Phrase { mnemonic })
    }

    /// Reads a phrase that somebody typed.
    pub fn parse(text: &str) -> Result<Phrase, PhraseError> {
        let words = text.split_whitespace().count();
        if words != 24 {
            return Err(PhraseError::Words { actual: words });
        }
        let lower = Zeroizing::new(text.to_lowercase());
        let mnemonic = bip39::Mnemonic::parse_normalized(
            &lower.split_whitespace().collect::<Vec<_>>().join(" "),
        )
        .map_err(|_| PhraseError::Check)?;
        Ok(Phrase { mnemonic })
    }

    /// Returns the words, to show them once.
    pub fn words(&self) -> Vec<&'static str> {
        self.mnemonic.words().collect()
    }

    /// Returns the agent's root key pair; whoever calls this drops it after signing with it.
    pub fn root(&self) -> KeyPair {
        let seed = Zeroizing::new(self.mnemonic.to_seed_normalized(""));
        KeyPair::from_seed(root_seed(&seed).expose())
    }
}

impl fmt::Debug for Phrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Phrase([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phrase_gives_the_same_root_again() {
        let phrase = Phrase::generate().expect("random");
        let again = Phrase::parse(&phrase.words().join("  ")).expect("valid");
        assert_eq!(phrase.words().len(), 24);
        assert_eq!(phrase.root().public_key(), again.root().public_key());
    }

    #[test]
    fn damaged_phrases_are_refused_without_naming_a_word() {
        let phrase = Phrase::generate().expect("random");
        let mut words = phrase.words();
        assert_eq!(
            Phrase::parse(&words[..23].join(" ")).expect_err("short"),
            PhraseError::Words { actual: 23 }
        );
        words[0] = "notaword";
        assert_eq!(
            Phrase::parse(&words.join(" ")).expect_err("unknown"),
            PhraseError::Check
        );
    }

    #[test]
    fn debug_shows_no_word() {
        let phrase = Phrase::generate().expect("random");
        let shown = format!("{phrase:?}");
        assert_eq!(shown, "Phrase([redacted])");
    }
}
