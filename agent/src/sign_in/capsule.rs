//! What a password and a code open: the key that adds devices.
//!
//! Sealed it is an envelope of [`crate::vault`] with the label "sign-in", under the password and `code 16 ||
//! agent 32`. In it: `device secret 32 | u16 n | name n | zeros to 256`: as long as any other, whatever the name.

use kinlog_feeds::crypto::{AgentId, DeviceKey, KeyPair, Secret, namespace};
use kinlog_indexer::Text;
use kinlog_indexer::identity::DeviceCard;
use kinlog_indexer::limits::NAME_BYTES_MAX;
use kinlog_indexer::seal::device_dh_public;
use zeroize::Zeroizing;

use crate::keys::DeviceKeys;
use crate::sign_in::SignInCode;
use crate::vault::{
    ENVELOPE_OVERHEAD_BYTES, EnvelopeError, KdfParameters, Passphrase, Salt, open_with_both,
    seal_with_both,
};

const PLAIN_BYTES: usize = 32 + 2 + NAME_BYTES_MAX;

/// A key that adds devices, and the name that the agent goes by.
#[derive(Clone, Debug)]
pub struct Capsule {
    keys: DeviceKeys,
    /// What the agent calls itself: a new device is told by nobody else before it has met another one.
    pub name: Text<NAME_BYTES_MAX>,
}

/// Why a capsule is not opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CapsuleError {
    /// Wrong password, wrong code, another agent's or altered bytes: which of them is not said.
    #[error("this password and code together do not open it")]
    Closed,
    /// Parameters or a version that this build does not take, or too little memory.
    #[error(transparent)]
    Envelope(EnvelopeError),
    /// Sealed by whoever had password and code, and no capsule.
    #[error("what the password and the code open is no capsule")]
    Layout,
}

impl Capsule {
    /// Bytes of every sealed capsule.
    pub const SEALED_BYTES: usize = PLAIN_BYTES + ENVELOPE_OVERHEAD_BYTES;

    /// Takes 32 fresh random bytes and what the agent calls itself.
    pub fn new(secret: Secret, name: Text<NAME_BYTES_MAX>) -> Self {
        let keys = DeviceKeys::new(secret);
        Capsule { keys, name }
    }

    /// Returns the pair that signs for new devices.
    pub fn key_pair(&self) -> &KeyPair {
        self.keys.signing()
    }

    /// Returns what all its keys derive from; whoever calls this keeps it out of logs and errors.
    pub fn secret(&self) -> &Secret {
        self.keys.secret()
    }

    /// Returns the key that the agent's statements name.
    pub fn device(&self) -> DeviceKey {
        self.keys.device()
    }

    /// Returns the key's own word that it is `agent`'s; it has no directories.
    pub fn card(&self, agent: &AgentId) -> DeviceCard {
        let x25519 = device_dh_public(self.keys.dh());
        DeviceCard::without_directories(agent, self.keys.signing(), x25519)
    }

    /// Seals the capsule; `salt` and `nonce` are fresh random bytes. Blocks for as long as
    /// [`stretch`](crate::vault::stretch).
    ///
    /// # Errors
    /// [`EnvelopeError::Resources`] when the memory is not to be had.
    pub fn seal(
        &self,
        agent: &AgentId,
        password: &Passphrase,
        code: &SignInCode,
        salt: &Salt,
        nonce: &[u8; 24],
    ) -> Result<[u8; Capsule::SEALED_BYTES], EnvelopeError> {
        let mut plain = Zeroizing::new([0; PLAIN_BYTES]);
        let name = self.name.as_bytes();
        let length = u16::try_from(name.len()).expect("a name has at most NAME_BYTES_MAX bytes");
        plain[..32].copy_from_slice(self.keys.secret().expose());
        plain[32..34].copy_from_slice(&length.to_le_bytes());
        plain[34..34 + name.len()].copy_from_slice(name);
        let sealed = seal_with_both(
            password,
            also(agent, code).as_ref(),
            namespace::SIGN_IN,
            &KdfParameters::FLOOR,
            salt,
            nonce,
            plain.as_ref(),
        )?;
        Ok(sealed
            .try_into()
            .expect("an envelope is longer than its content by ENVELOPE_OVERHEAD_BYTES"))
    }

    /// Opens a capsule of `agent`. Blocks for as long as [`stretch`](crate::vault::stretch).
    ///
    /// # Errors
    /// [`CapsuleError::Closed`] whichever of password and code is wrong.
    pub fn open(
        sealed: &[u8],
        agent: &AgentId,
        password: &Passphrase,
        code: &SignInCode,
    ) -> Result<Capsule, CapsuleError> {
        let also = also(agent, code);
        let plain = open_with_both(password, also.as_ref(), namespace::SIGN_IN, sealed);
        let plain = plain.map_err(|error| match error {
            EnvelopeError::Closed => CapsuleError::Closed,
            other => CapsuleError::Envelope(other),
        })?;
        let (secret, rest) = plain.split_first_chunk().ok_or(CapsuleError::Layout)?;
        let (length, rest) = rest.split_first_chunk().ok_or(CapsuleError::Layout)?;
        let length = usize::from(u16::from_le_bytes(*length));
        let name = rest.get(..length).ok_or(CapsuleError::Layout)?;
        let padding = &rest[length..];
        if rest.len() != NAME_BYTES_MAX || padding.iter().any(|byte| *byte != 0) {
            return Err(CapsuleError::Layout);
        }
        let name = std::str::from_utf8(name).map_err(|_| CapsuleError::Layout)?;
        let name = name.try_into().map_err(|_| CapsuleError::Layout)?;
        Ok(Capsule::new(Secret::new(*secret), name))
    }
}

/// Returns what has to be known beside the password.
fn also(agent: &AgentId, code: &SignInCode) -> Zeroizing<[u8; 48]> {
    let mut also = Zeroizing::new([0; 48]);
    also[..16].copy_from_slice(code.expose());
    also[16..].copy_from_slice(agent.as_bytes());
    also
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::crypto::blake2b_256;
    use kinlog_feeds::text::encode_hex;

    use super::*;

    const AGENT: AgentId = AgentId([3; 32]);

    fn password(text: &str) -> Passphrase {
        Passphrase::typed(text).unwrap()
    }

    fn sealed() -> [u8; Capsule::SEALED_BYTES] {
        let capsule = Capsule::new(Secret::new([5; 32]), "Ada".try_into().unwrap());
        let code = SignInCode::new([7; 16]);
        capsule
            .seal(
                &AGENT,
                &password("correct horse"),
                &code,
                &[8; 16],
                &[9; 24],
            )
            .unwrap()
    }

    #[test]
    fn a_capsule_opens_with_password_code_and_agent_only() {
        let sealed = sealed();
        let right = password("correct horse");
        let code = SignInCode::new([7; 16]);
        let opened = Capsule::open(&sealed, &AGENT, &right, &code).unwrap();
        assert_eq!(opened.name.as_str(), "Ada");
        let expected = DeviceKeys::new(Secret::new([5; 32]));
        assert_eq!(opened.device(), expected.device());
        let open = |agent, text: &str, code| {
            Capsule::open(&sealed, agent, &password(text), &SignInCode::new(code)).unwrap_err()
        };
        for closed in [
            open(&AGENT, "correct horse", [6; 16]),
            open(&AGENT, "correct hors", [7; 16]),
            open(&AGENT, "", [7; 16]),
            open(&AgentId([4; 32]), "correct horse", [7; 16]),
        ] {
            assert_eq!(closed, CapsuleError::Closed);
            assert_eq!(
                closed.to_string(),
                "this password and code together do not open it"
            );
        }
    }

    #[test]
    fn the_bytes_of_a_sealed_capsule_are_final() {
        let sealed = sealed();
        let head = encode_hex(&sealed[..53]);
        let expected = "01000001000300000001000000\
                        08080808080808080808080808080808\
                        090909090909090909090909090909090909090909090909";
        assert_eq!(head, expected);
        assert_eq!(sealed.len(), 359);
        let hash = "8158e9f06f25fccb410bd304f4fa127004e3bbea84962251f014b0f3dd85f77e";
        assert_eq!(encode_hex(&blake2b_256(&[&sealed])), hash);
    }

    #[test]
    fn a_capsule_is_as_long_as_any_other_and_shows_nothing() {
        let name = "x".repeat(NAME_BYTES_MAX);
        let capsule = Capsule::new(Secret::new([5; 32]), name.as_str().try_into().unwrap());
        let (right, code) = (password("correct horse"), SignInCode::new([7; 16]));
        let sealed = capsule
            .seal(&AGENT, &right, &code, &[8; 16], &[9; 24])
            .unwrap();
        assert_eq!(sealed.len(), self::sealed().len());
        let opened = Capsule::open(&sealed, &AGENT, &right, &code).unwrap();
        assert_eq!(opened.name.as_str(), name);
        let shown = format!("{opened:?}");
        assert!(
            shown.contains("redacted") && !shown.contains("5, 5"),
            "{shown}"
        );
    }
}
