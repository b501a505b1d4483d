//! What an invite link holds: `u8 version=1 | room id 32 | invite seed 32 | uint n | n signal URLs | check 4`.

use kinlog_feeds::crypto::{KeyPair, PublicKey, Secret, blake2b_256, namespace};
use kinlog_feeds::encoding::{DecodeError, Reader, Writer};

use crate::links::base64url;
use crate::links::signals::{SignalsError, put_signals, read_signals};
use crate::rooms::RoomId;

const VERSION: u8 = 1;
const CHECK_BYTES: usize = 4;

/// An invitation to a room: whoever holds it may ask to join.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Invite {
    /// The room.
    pub room: RoomId,
    /// Seed of the invite's own key pair.
    pub seed: Secret,
    /// Signal servers at which members meet those who hold the invite.
    pub signal_urls: Vec<String>,
}

/// A fragment that is no invite.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InviteError {
    /// Characters that are not base64url.
    #[error("the invite is not base64url: a character was lost or changed")]
    NotBase64,
    /// Too short to hold a check, or a check that does not fit.
    #[error("the invite's check does not fit: a character was lost or changed")]
    Check,
    /// A version that this build does not know.
    #[error("the invite has version {actual}, this build knows {VERSION}")]
    Version { actual: u8 },
    /// Fields that do not decode.
    #[error("the invite does not decode: {0}")]
    Decode(#[from] DecodeError),
    /// A signal URL that is not UTF-8.
    #[error("signal URL {number} of the invite is not UTF-8")]
    Url { number: usize },
}

impl From<SignalsError> for InviteError {
    fn from(error: SignalsError) -> Self {
        match error {
            SignalsError::Decode(error) => error.into(),
            SignalsError::Url { number } => InviteError::Url { number },
        }
    }
}

impl Invite {
    /// Returns the pair whose public key the room holds and whose topic both sides meet in.
    pub fn key_pair(&self) -> KeyPair {
        KeyPair::from_seed(self.seed.expose())
    }

    /// Returns the public key of the invite.
    pub fn public_key(&self) -> PublicKey {
        self.key_pair().public_key()
    }

    /// Encodes the invite as it stands behind `#` in a link.
    pub fn encode(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.put_raw(&self.room.0);
        bytes.put_raw(self.seed.expose());
        put_signals(&mut bytes, &self.signal_urls);
        let check = check(&bytes);
        bytes.put_raw(&check);
        base64url::encode(&bytes)
    }

    /// Decodes what stands behind `#` in a link.
    pub fn decode(text: &str) -> Result<Invite, InviteError> {
        let bytes = base64url::decode(text).map_err(|_| InviteError::NotBase64)?;
        let at = bytes
            .len()
            .checked_sub(CHECK_BYTES)
            .ok_or(InviteError::Check)?;
        let (body, said) = bytes.split_at(at);
        if said != check(body) {
            return Err(InviteError::Check);
        }
        let mut reader = Reader::strict(body);
        match reader.u8()? {
            VERSION => {}
            actual => return Err(InviteError::Version { actual }),
        }
        let room = RoomId(reader.fixed()?);
        let seed = Secret::new(reader.fixed()?);
        let signal_urls = read_signals(&mut reader)?;
        reader.finish()?;
        Ok(Invite {
            room,
            seed,
            signal_urls,
        })
    }
}

fn check(body: &[u8]) -> [u8; CHECK_BYTES] {
    let hash = blake2b_256(&[&namespace::INVITE_CHECK.hash(), body]);
    hash[..CHECK_BYTES].try_into().expect("a hash has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invite() -> Invite {
        Invite {
            room: RoomId([3; 32]),
            seed: Secret::new([4; 32]),
            signal_urls: vec![
                "ws://127.0.0.1:9000/".into(),
                "wss://signal.example/".into(),
            ],
        }
    }

    #[test]
    fn invites_round_trip() {
        assert_eq!(Invite::decode(&invite().encode()), Ok(invite()));
    }

    #[test]
    fn the_bytes_of_an_invite_are_final() {
        // Made by other code: 1 | 32 x 3 | 32 x 4 | 2 | 20 "ws://..." | 21 "wss://..." | check.
        let golden = concat!(
            "AQMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE",
            "BAQEBAQEBAQCFHdzOi8vMTI3LjAuMC4xOjkwMDAvFXdzczovL3NpZ25hbC5leGFtcGxlLzX31_E"
        );
        assert_eq!(invite().encode(), golden);
    }

    #[test]
    fn any_changed_or_lost_character_is_noticed() {
        let text = invite().encode();
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            assert!(Invite::decode(&changed).is_err(), "{at}");
            assert!(Invite::decode(&text[..at]).is_err(), "{at}");
        }
    }
}
