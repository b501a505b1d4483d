//! Credentials for TURN servers, signed with a secret that is shared with them.
//!
//! `username = expiry:name`, expiry in Unix seconds; `credential = base64(HMAC-SHA1(secret,
//! username))`. SHA-1 is what TURN servers check; a MAC with it is not broken.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use zeroize::Zeroizing;

use super::IceCredential;
use crate::base64::base64;
use crate::limits::{TURN_SECRET_BYTES_MAX, TURN_SECRET_BYTES_MIN, TURN_SECRETS_MAX};

/// What credentials for TURN servers are signed with; `Debug` does not show it.
///
/// While a secret is replaced there are two: the TURN servers take both, this server signs with the
/// first.
#[derive(Clone)]
pub struct TurnSecrets {
    signing: Zeroizing<String>,
    /// The one before, whose credentials are good until they end.
    before: Option<Zeroizing<String>>,
}

/// Text that gives no secrets.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TurnSecretsError {
    /// Too few or too many lines.
    #[error("{actual} secrets, expected one, or two while one is replaced, a line each")]
    Count { actual: usize },
    /// A line that is too short to be a secret, or too long for TURN servers.
    #[error(
        "secret in line {line} has {actual} bytes, expected {TURN_SECRET_BYTES_MIN} to \
         {TURN_SECRET_BYTES_MAX}"
    )]
    Length { line: usize, actual: usize },
}

impl TurnSecrets {
    /// Reads secrets, one a line; empty lines do not count.
    ///
    /// # Errors
    ///
    /// Returns [`TurnSecretsError`] for other than one or two lines of 16 to 256 bytes.
    pub fn parse(text: &str) -> Result<Self, TurnSecretsError> {
        let lines = text.lines().enumerate();
        let lines = lines.map(|(at, line)| (at + 1, line.trim()));
        let secrets: Vec<(usize, &str)> = lines.filter(|(_, line)| !line.is_empty()).collect();
        let (Some((_, signing)), 1..=TURN_SECRETS_MAX) = (secrets.first(), secrets.len()) else {
            return Err(TurnSecretsError::Count {
                actual: secrets.len(),
            });
        };
        for (line, secret) in &secrets {
            if !(TURN_SECRET_BYTES_MIN..=TURN_SECRET_BYTES_MAX).contains(&secret.len()) {
                return Err(TurnSecretsError::Length {
                    line: *line,
                    actual: secret.len(),
                });
            }
        }
        let keep = |secret: &&str| Zeroizing::new((*secret).to_owned());
        Ok(TurnSecrets {
            signing: keep(signing),
            before: secrets.get(1).map(|(_, secret)| keep(secret)),
        })
    }

    /// Returns username and credential of `name` that are good until `expiry`, in Unix seconds.
    pub fn sign(&self, expiry: u64, name: &str) -> (String, IceCredential) {
        let username = format!("{expiry}:{name}");
        let credential = credential(&self.signing, &username);
        (username, credential)
    }

    /// Returns what may be the credential of a username, by each secret.
    pub(crate) fn credentials(&self, username: &str) -> impl Iterator<Item = IceCredential> {
        let secrets = [Some(&self.signing), self.before.as_ref()];
        let secrets = secrets.into_iter().flatten();
        secrets.map(move |secret| credential(secret, username))
    }
}

fn credential(secret: &str, username: &str) -> IceCredential {
    let mut mac =
        Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(username.as_bytes());
    IceCredential::new(base64(&mac.finalize().into_bytes()))
}

impl fmt::Debug for TurnSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnSecrets")
            .field("count", &(1 + usize::from(self.before.is_some())))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credential_is_what_openssl_computes() {
        // printf 1433895918:kinlog | openssl dgst -sha1 -hmac north-south-east-west -binary | base64
        let secrets = TurnSecrets::parse("north-south-east-west\n").unwrap();
        let (username, credential) = secrets.sign(1_433_895_918, "kinlog");
        assert_eq!(username, "1433895918:kinlog");
        assert_eq!(credential.reveal(), "fcQM6Js/TotPU6tKeRFIiW74Nfs=");
    }

    #[test]
    fn first_of_two_secrets_signs() {
        let one = TurnSecrets::parse("the-newer-of-the-two").unwrap();
        let two = TurnSecrets::parse("\n the-newer-of-the-two\r\nthe-older-of-the-two\n").unwrap();
        assert_eq!(one.sign(1, "a"), two.sign(1, "a"));
    }

    #[test]
    fn other_than_one_or_two_real_secrets_are_refused() {
        let error = |text: &str| TurnSecrets::parse(text).unwrap_err();
        let real = "sixteen-bytes-ok\n";
        assert_eq!(error("\n\n"), TurnSecretsError::Count { actual: 0 });
        assert_eq!(
            error(&real.repeat(3)),
            TurnSecretsError::Count { actual: 3 }
        );
        let length = |line, actual| TurnSecretsError::Length { line, actual };
        assert_eq!(error("short"), length(1, 5));
        assert_eq!(
            error(&format!("{real}\n{}", "x".repeat(257))),
            length(3, 257)
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", TurnSecrets::parse("north-south-east-west").unwrap());
        assert_eq!(shown, "TurnSecrets { count: 1, .. }");
    }
}
