//! What is true: every feed as its writer wrote it, to which all that is stored is compared.

use std::collections::BTreeMap;

use bytes::Bytes;
use kinlog_feeds::replicate::HeadState;
use kinlog_feeds::store::Feed;
use kinlog_feeds::{FeedKey, Hash, KeyPair};

/// A feed as its writer wrote it.
#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) writer: usize,
    pub(crate) blocks: Vec<Bytes>,
    /// What the writer was about to append when its disk refused.
    pub(crate) attempt: Vec<Bytes>,
    /// The tree hash of each length that was signed.
    heads: BTreeMap<u64, Hash>,
    /// The block that somebody added by a copy of the key, and where.
    pub(crate) forged: Option<(u64, Bytes)>,
    /// The writer cannot be sure of what it signed: it signs no more.
    pub(crate) is_retired: bool,
}

/// Every feed.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(crate) books: BTreeMap<FeedKey, Book>,
}

impl Truth {
    pub(crate) fn add(&mut self, key: FeedKey, writer: usize) {
        let book = Book {
            writer,
            blocks: Vec::new(),
            attempt: Vec::new(),
            heads: BTreeMap::new(),
            forged: None,
            is_retired: false,
        };
        self.books.insert(key, book);
    }

    /// The writer was told that `blocks` are durable.
    pub(crate) fn acknowledged(&mut self, key: &FeedKey, blocks: &[Bytes], head: &HeadState) {
        let book = self.books.get_mut(key).unwrap();
        book.blocks.extend_from_slice(blocks);
        book.attempt.clear();
        assert_eq!(head.length, book.blocks.len() as u64, "length acknowledged");
        book.sign(head);
    }

    /// The writer's node is up again: it may hold what it had not been told of.
    pub(crate) fn reopened(&mut self, feed: &Feed) {
        let book = self.books.get_mut(&feed.key()).unwrap();
        let head = HeadState::from(&feed.info());
        let acknowledged = book.blocks.len() as u64;
        if !book.is_retired {
            assert!(
                head.length >= acknowledged,
                "lost: the writer was told of {acknowledged} blocks and holds {}",
                head.length
            );
        }
        let attempt = std::mem::take(&mut book.attempt);
        let may_be_forged = book.is_retired && book.forged.is_some();
        if head.length > acknowledged && !may_be_forged {
            let more = (head.length - acknowledged) as usize;
            assert!(more <= attempt.len(), "blocks that nobody wrote");
            book.blocks.extend_from_slice(&attempt[..more]);
        }
        if head.length > 0 {
            book.sign(&head);
        }
    }

    /// Asserts that a block is what its writer wrote.
    pub(crate) fn check_block(&self, node: usize, key: &FeedKey, block: u64, value: &Bytes) {
        let book = &self.books[key];
        let forged = book.forged.as_ref().filter(|(at, _)| *at == block);
        let at = block as usize;
        let written =
            book.blocks.get(at) == Some(value) || forged.is_some_and(|(_, forged)| forged == value);
        assert!(
            written,
            "unverified: node {node} holds {} bytes as block {block} of {key}",
            value.len()
        );
    }

    /// Asserts that a head is one that the writer signed.
    pub(crate) fn check_head(&mut self, node: usize, key: &FeedKey, head: &HeadState) {
        let book = self.books.get_mut(key).unwrap();
        if head.length > 0 && book.forged.is_none() {
            let signed = book.heads.get(&head.length);
            assert_eq!(
                signed,
                Some(&head.tree_hash),
                "two roots: node {node}, length {} of {key}",
                head.length
            );
        }
    }
}

impl Book {
    fn sign(&mut self, head: &HeadState) {
        if self.forged.is_some() {
            return;
        }
        let before = self.heads.insert(head.length, head.tree_hash);
        assert!(
            before.is_none_or(|before| before == head.tree_hash),
            "two roots: length {}",
            head.length
        );
    }
}

/// The key pair by which a writer's feed is signed.
pub(crate) fn pair_of(writer: usize) -> KeyPair {
    crate::rooms::room_pair(writer)
}
