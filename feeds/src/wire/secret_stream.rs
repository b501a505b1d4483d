//! libsodium's `crypto_secretstream_xchacha20poly1305`, on buffers in place.
//!
//! Layout of a message: one encrypted tag byte, the ciphertext, 16 bytes of Poly1305. The MAC
//! pads the ciphertext with `length & 15` zero bytes, not up to a multiple of 16: a slip of
//! libsodium that became the format.

use chacha20::cipher::{KeyIvInit, StreamCipher};
use chacha20::{ChaCha20, R20, hchacha};
use poly1305::Poly1305;
use poly1305::universal_hash::{KeyInit, UniversalHash};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::crypto::Secret;

/// Bytes of a stream's header.
pub(super) const HEADER_BYTES: usize = 24;

/// Bytes a message grows by: tag and MAC.
pub(super) const OVERHEAD_BYTES: usize = 1 + MAC_BYTES;

const MAC_BYTES: usize = 16;
const CIPHER_BLOCK_BYTES: usize = 64;
const TAG_MESSAGE: u8 = 0;
const TAG_REKEY: u8 = 2;
/// Ends the stream (it is push | rekey).
const TAG_FINAL: u8 = 3;

/// A message that does not authenticate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Forged;

/// What kind of message was received.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Received {
    /// One of many.
    Message,
    /// The last of its stream.
    Final,
}

/// One direction of a secret stream, for sending or for receiving.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct SecretStream {
    key: [u8; 32],
    /// Counter (4 bytes) and the part that every MAC is mixed into (8 bytes).
    nonce: [u8; 12],
}

impl SecretStream {
    /// Starts a stream with `key` and the sender's random `header`.
    pub(super) fn new(key: &Secret, header: &[u8; HEADER_BYTES]) -> Self {
        let mut input = [0; 16];
        input.copy_from_slice(&header[..16]);
        let mut subkey = hchacha::<R20>(&(*key.expose()).into(), &input.into());
        let mut stream = SecretStream {
            key: [0; 32],
            nonce: [0; 12],
        };
        stream.key.copy_from_slice(&subkey);
        subkey.as_mut_slice().zeroize();
        stream.nonce[4..].copy_from_slice(&header[16..]);
        stream.reset_counter();
        stream
    }

    /// Encrypts in place: `frame` holds one byte of room, the plaintext, 16 bytes of room.
    pub(super) fn seal(&mut self, frame: &mut [u8]) {
        let (tag, rest) = frame
            .split_first_mut()
            .expect("the caller leaves room for the tag");
        let (text, mac) = rest.split_at_mut(rest.len() - MAC_BYTES);
        let (mut cipher, poly) = self.start();
        let mut block = [0; CIPHER_BLOCK_BYTES];
        block[0] = TAG_MESSAGE;
        cipher.apply_keystream(&mut block);
        *tag = block[0];
        cipher.apply_keystream(text);
        let computed = authenticate(poly, &block, text);
        mac.copy_from_slice(&computed);
        self.advance(&computed, TAG_MESSAGE);
    }

    /// Decrypts in place what [`seal`](Self::seal) made; a forged frame changes nothing.
    pub(super) fn open(&mut self, frame: &mut [u8]) -> Result<Received, Forged> {
        let (sealed_tag, rest) = frame.split_first_mut().ok_or(Forged)?;
        let text_bytes = rest.len().checked_sub(MAC_BYTES).ok_or(Forged)?;
        let (text, mac) = rest.split_at_mut(text_bytes);
        let (mut cipher, poly) = self.start();
        let mut block = [0; CIPHER_BLOCK_BYTES];
        cipher.apply_keystream(&mut block);
        let tag = block[0] ^ *sealed_tag;
        block[0] = *sealed_tag;
        let computed = authenticate(poly, &block, text);
        if !bool::from(computed.ct_eq(mac)) {
            return Err(Forged);
        }
        cipher.apply_keystream(text);
        self.advance(&computed, tag);
        Ok(if tag == TAG_FINAL {
            Received::Final
        } else {
            Received::Message
        })
    }

    /// Returns the message's cipher, past its first block, and the MAC keyed with that block.
    fn start(&self) -> (ChaCha20, Poly1305) {
        let mut cipher = ChaCha20::new(&self.key.into(), &self.nonce.into());
        let mut block = [0; CIPHER_BLOCK_BYTES];
        cipher.apply_keystream(&mut block);
        let mut key = poly1305::Key::default();
        key.copy_from_slice(&block[..32]);
        let poly = Poly1305::new(&key);
        block.zeroize();
        key.as_mut_slice().zeroize();
        (cipher, poly)
    }

    fn advance(&mut self, mac: &[u8; MAC_BYTES], tag: u8) {
        for (own, mac) in self.nonce[4..].iter_mut().zip(mac) {
            *own ^= mac;
        }
        let [one, two, three, four, ..] = self.nonce;
        let counter = u32::from_le_bytes([one, two, three, four]).wrapping_add(1);
        self.nonce[..4].copy_from_slice(&counter.to_le_bytes());
        if tag & TAG_REKEY != 0 || counter == 0 {
            self.rekey();
        }
    }

    fn rekey(&mut self) {
        let mut fresh = [0; 40];
        fresh[..32].copy_from_slice(&self.key);
        fresh[32..].copy_from_slice(&self.nonce[4..]);
        ChaCha20::new(&self.key.into(), &self.nonce.into()).apply_keystream(&mut fresh);
        self.key.copy_from_slice(&fresh[..32]);
        self.nonce[4..].copy_from_slice(&fresh[32..]);
        self.reset_counter();
        fresh.zeroize();
    }

    fn reset_counter(&mut self) {
        self.nonce[..4].copy_from_slice(&1u32.to_le_bytes());
    }
}

fn authenticate(mut poly: Poly1305, block: &[u8; CIPHER_BLOCK_BYTES], text: &[u8]) -> [u8; 16] {
    let (blocks, _) = poly1305::Block::slice_as_chunks(block);
    poly.update(blocks);
    let (blocks, rest) = poly1305::Block::slice_as_chunks(text);
    poly.update(blocks);
    // rest, as many zeros again, length of the associated data (none), length of the rest.
    let mut tail = [0; 15 + 15 + 16];
    tail[..rest.len()].copy_from_slice(rest);
    let lengths = 2 * rest.len() + 8;
    let total = (CIPHER_BLOCK_BYTES + text.len()) as u64;
    tail[lengths..lengths + 8].copy_from_slice(&total.to_le_bytes());
    poly.compute_unpadded(&tail[..lengths + 8]).into()
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::text::encode_hex;

    /// Made with libsodium (npm `sodium-native`): key 05 x 32, header 00 01 .. 17, each message
    /// filled with its own length; (length, tag, sealed bytes or their SHA-256 above 100 bytes).
    const GOLDEN: &[(usize, u8, &str)] = &[
        (0, 0, "85e108fd58a66f0f31ddcc104f1b5bcbce"),
        (1, 0, "a7023572ab645eb65800d13e60a26f872b3d"),
        (
            15,
            0,
            "ce5f22fad2886fd9f2a4a1d0484611122235f362054addd0ae27b6ee6be1892e",
        ),
        (
            16,
            0,
            "93cf8a1bc941df3020cb41e850356fc57cfdc430dc4cc223c24e26de49e46fcb3e",
        ),
        (
            17,
            0,
            "e7071de24a7f9566661debeac0f82992b3d5b4a80ac7508eba9388fae17232c5eaaf",
        ),
        (
            63,
            0,
            "d97cf0a2fe2726be08452752cf1c5ad810c7cefd1401ac95707ee11a56cae3393112a762290ef6844bf2\
             2eb7fcddfa3eba44e905707b98623bde85de53cd03ffd063f0c31ab5f4fa8bef9a5687a43edb",
        ),
        (
            64,
            0,
            "71fa2d7a906fc92515e1cdd955abbf42c3d80a3760a2e44af93f60621af5e6a4d1b2b738fe55cef1c658\
             489bcdb40d760bca6cafb73695f4947a5381aaa5ca27dac3dca378eabeaee50521085b0f18f709",
        ),
        (
            100,
            0,
            "f4364a0437be205940983f96af56a10e2646510f12b3d3e0987d31e8de43aaf6c73204aab7dad3daaec\
             ead8486a24670e5a9d1d2429c227ef891528cc680f61b0116504f0c9e0bf59dbfca54302b7cc35380ff5\
             4691dd03a669239d0a0fdd0431bf63b709197bafcaf975eaa8bf7a3d5c454c2092b",
        ),
        (5, 2, "b8b16e70db00190ed491401d79eb5ebb102cda7f950f"),
        (7, 0, "e037bfdea152d7c6425a794a2588b341e6ab819cd7ac5dde"),
        (
            1000,
            0,
            "dcdaf52266f09e918772998997af1865cf160a02cf402ac1c2dcb8ce6c437db6",
        ),
        (3, 3, "02b149bbd9b9b3f367c167566470b70eaba8634d"),
    ];

    fn stream() -> SecretStream {
        let header = std::array::from_fn(|at| at as u8);
        SecretStream::new(&Secret::new([5; 32]), &header)
    }

    fn framed(length: usize) -> Vec<u8> {
        let mut frame = vec![0];
        frame.extend(std::iter::repeat_n(length as u8, length));
        frame.extend([0; MAC_BYTES]);
        frame
    }

    /// Seals with any tag, as only tests need.
    fn seal_tagged(stream: &mut SecretStream, frame: &mut [u8], tag: u8) {
        let end = frame.len() - MAC_BYTES;
        let (mut cipher, poly) = stream.start();
        let mut block = [0; CIPHER_BLOCK_BYTES];
        block[0] = tag;
        cipher.apply_keystream(&mut block);
        frame[0] = block[0];
        cipher.apply_keystream(&mut frame[1..end]);
        let computed = authenticate(poly, &block, &frame[1..end]);
        frame[end..].copy_from_slice(&computed);
        stream.advance(&computed, tag);
    }

    #[test]
    fn bytes_equal_libsodium_and_open_again() {
        let (mut sender, mut receiver) = (stream(), stream());
        for (length, tag, golden) in GOLDEN {
            let mut frame = framed(*length);
            if *tag == TAG_MESSAGE {
                sender.seal(&mut frame);
            } else {
                seal_tagged(&mut sender, &mut frame, *tag);
            }
            let shown = if *length > 100 {
                encode_hex(&Sha256::digest(&frame))
            } else {
                encode_hex(&frame)
            };
            assert_eq!(&shown, golden, "message of {length} bytes");
            let expected = if *tag == TAG_FINAL {
                Received::Final
            } else {
                Received::Message
            };
            assert_eq!(receiver.open(&mut frame), Ok(expected));
            assert!(frame[1..=*length].iter().all(|byte| *byte == *length as u8));
        }
    }

    #[test]
    fn any_flipped_bit_is_noticed_and_leaves_the_stream_usable() {
        let (mut sender, mut receiver) = (stream(), stream());
        let mut sealed = framed(33);
        sender.seal(&mut sealed);
        for at in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 1 << (at % 8);
            assert_eq!(receiver.open(&mut forged), Err(Forged), "byte {at}");
        }
        for length in 0..OVERHEAD_BYTES {
            assert_eq!(receiver.open(&mut sealed.clone()[..length]), Err(Forged));
        }
        assert_eq!(receiver.open(&mut sealed), Ok(Received::Message));
    }

    #[test]
    fn counter_overflow_rekeys_on_both_sides() {
        let (mut sender, mut receiver) = (stream(), stream());
        for side in [&mut sender, &mut receiver] {
            side.nonce[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        }
        let before = sender.key;
        for _ in 0..3 {
            let mut frame = framed(10);
            sender.seal(&mut frame);
            assert_eq!(receiver.open(&mut frame), Ok(Received::Message));
        }
        assert_ne!(sender.key, before);
    }
}
