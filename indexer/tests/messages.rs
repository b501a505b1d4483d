//! What becomes of messages: answers, mentions, reactions, edits, deletions, in any order.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;

use crate::world::{World, act, admit_as, message, room_feed, tombstone};
use bytes::Bytes;
use kinlog_feeds::crypto::FeedKey;
use kinlog_indexer::entry::{
    Body, Deed, Edit, Envelope, Links, Mentions, Message, Reaction, Ref, Role, RoleChange, tag,
};
use kinlog_indexer::index::{Block, MessageRow, SearchHit};
use kinlog_indexer::{Clock, Index, Text};
use testkit::process::Folder;

/// A room of three with one message by agent 1, which `question` names.
struct Talk {
    world: World,
    depth: u64,
    question: Ref,
}

impl Talk {
    fn new() -> Self {
        let mut world = World::new(1, 3);
        let admit = admit_as(world.agents[1].membership(&world.room, 1), Role::Member);
        world.write(room_feed(0), 1, 2_000, Links::default(), admit);
        let admit = admit_as(world.agents[2].membership(&world.room, 2), Role::Member);
        world.write(room_feed(0), 2, 2_001, Links::default(), admit);
        let question = Ref {
            feed: room_feed(1),
            index: 0,
        };
        let mut talk = Talk {
            world,
            depth: 2,
            question,
        };
        talk.say(1, message("soup at eight?"));
        talk
    }

    fn say(&mut self, who: usize, body: Body) -> Ref {
        self.depth += 1;
        let ms = 3_000 + self.depth;
        let feed = room_feed(who);
        let block = self
            .world
            .write(feed, self.depth, ms, Links::default(), body);
        Ref {
            feed,
            index: block.index,
        }
    }

    /// Says a message that nobody reads: of a format to come, or with a body that is none.
    fn mumble(&mut self, who: usize, format: u64, body: &'static [u8]) -> Ref {
        self.depth += 1;
        let envelope = Envelope {
            flags: 0,
            links: Links::default(),
            depth: self.depth,
            clock: Clock {
                ms: 3_000 + self.depth,
                counter: 0,
            },
            tag: tag::MESSAGE,
            format,
            body: Bytes::from_static(body),
        };
        let feed = room_feed(who);
        let block = self.world.write_bytes(feed, &envelope.encode().unwrap());
        Ref {
            feed,
            index: block.index,
        }
    }

    fn edit(&mut self, who: usize, text: &str) -> Ref {
        let edit = Edit {
            target: self.question,
            text: Text::new(text).unwrap(),
            mentions: Mentions::default(),
        };
        self.say(who, Body::Edit(edit))
    }

    /// Deletes the question with these edits of it, as one's own.
    fn delete(&mut self, who: usize, edits: &[Ref]) {
        let all = [&[self.question], edits].concat();
        let body = Body::Tombstone(tombstone(&self.world, &all));
        self.say(who, body);
    }

    /// Deletes the question with these edits of it, as an admin.
    fn moderate(&mut self, who: usize, edits: &[Ref]) {
        let all = [&[self.question], edits].concat();
        let body = act(Deed::Delete(tombstone(&self.world, &all)));
        self.say(who, body);
    }

    /// Tries to, as one who may not.
    fn moderate_in_vain(&mut self, who: usize) {
        let last_act = self.world.last_act;
        self.moderate(who, &[]);
        self.world.go_on_without(room_feed(who), last_act);
    }

    fn react(&mut self, who: usize, emoji: &str, removes: Vec<Ref>) -> Ref {
        let emoji = Text::new(emoji).unwrap();
        let reaction = Reaction::new(self.question, emoji, removes).unwrap();
        self.say(who, Body::Reaction(reaction))
    }

    /// The indexes of all orders that are looked at: as written, backwards, one by one.
    fn indexes(&self) -> Vec<Index> {
        let mut backwards = self.world.blocks();
        backwards.reverse();
        let orders: [Vec<Block>; 2] = [self.world.blocks(), backwards];
        let mut indexes = vec![self.world.indexed()];
        for blocks in orders {
            let mut index = self.world.index();
            for block in blocks {
                index.ingest(&[block]).unwrap();
            }
            indexes.push(index);
        }
        let hashes: Vec<_> = indexes
            .iter()
            .map(|index| index.dump_hash().unwrap())
            .collect();
        assert_eq!(hashes, [hashes[0]; 3], "one hash in any order");
        indexes
    }

    /// The question as all orders show it.
    fn question(&self) -> (Index, MessageRow) {
        let index = self.indexes().pop().unwrap();
        let row = index.message(&self.question).unwrap().unwrap();
        (index, row)
    }
}

fn found(index: &Index, query: &str) -> Vec<String> {
    let hits = index.search(query, 10).unwrap();
    hits.into_iter()
        .map(|hit| match hit {
            SearchHit::Message(message) => message.text,
            SearchHit::Document(document) => document.title,
        })
        .collect()
}

#[test]
fn an_answer_and_those_it_names_are_kept() {
    let mut talk = Talk::new();
    let (bob, cleo) = (talk.world.agents[1].id, talk.world.agents[2].id);
    let answer = Message {
        reply: Some(talk.question),
        mentions: Mentions::new([bob]).unwrap(),
        ..Message::new(Text::new("yes, @bob").unwrap())
    };
    talk.say(2, Body::Message(answer));
    let (index, _) = talk.question();
    let room = &talk.world.room;
    let messages = index.messages(room, 10).unwrap();
    assert_eq!(messages[1].reply, Some(talk.question));
    assert_eq!(index.mentions(room, &bob, 10).unwrap(), messages[1..]);
    assert_eq!(index.mentions(room, &cleo, 10).unwrap(), []);
}

#[test]
fn the_newest_edit_by_the_author_stands_and_all_are_kept() {
    let mut talk = Talk::new();
    talk.edit(1, "soup at nine?");
    talk.edit(2, "no soup for anybody");
    talk.edit(1, "stew at nine?");
    let (index, row) = talk.question();
    assert_eq!(row.text, "stew at nine?");
    assert!(row.edited_at.is_some() && row.deleted.is_none());
    let texts: Vec<String> = index
        .edits(&row)
        .unwrap()
        .into_iter()
        .map(|edit| edit.text)
        .collect();
    assert_eq!(texts, ["soup at eight?", "soup at nine?", "stew at nine?"]);
    assert_eq!(found(&index, "stew"), ["stew at nine?"]);
    assert_eq!(found(&index, "soup"), Vec::<String>::new());
}

#[test]
fn authors_and_owners_delete_and_nobody_else() {
    let mut talk = Talk::new();
    talk.delete(2, &[]);
    talk.moderate_in_vain(2);
    talk.delete(0, &[]);
    assert_eq!(talk.question().1.text, "soup at eight?", "a member may not");
    let edit = talk.edit(1, "soup at nine?");
    talk.moderate(0, &[edit]);
    let (mut index, row) = talk.question();
    assert_eq!((row.text.as_str(), row.edited_at), ("", None));
    assert_eq!(
        row.deleted.map(|(agent, _)| agent),
        Some(talk.world.agents[0].id)
    );
    assert_eq!(found(&index, "soup"), Vec::<String>::new());
    assert_eq!(index.edits(&row).unwrap(), []);
    talk.delete(1, &[edit]);
    let news = talk.world.blocks();
    let report = index.ingest(&news).unwrap();
    let deleted = BTreeSet::from([talk.question, edit]);
    assert!(report.deleted.keys().copied().eq(deleted), "to be cleared");
    for (entry, ended) in report.deleted {
        assert!(index.is_deleted(&entry, &ended.head).unwrap());
    }
}

/// Whether the text was there, or the block never came, or came last: the rows are the same, and the
/// text is in none of them.
#[test]
fn who_never_saw_what_was_deleted_has_the_same_tables() {
    let folder = Folder::new("deleted");
    let path = folder.join("index.db");
    let mut talk = Talk::new();
    let answer = Message {
        reply: Some(talk.question),
        ..Message::new(Text::new("yes").unwrap())
    };
    talk.say(2, Body::Message(answer));
    let edit = talk.edit(1, "under the flowerpot at nine?");
    talk.react(0, "+1", Vec::new());
    talk.delete(1, &[edit]);
    talk.say(1, message("what is said afterwards"));
    let gone = [talk.question, edit];
    let blocks = talk.world.blocks();
    let is_gone = |block: &Block| {
        gone.iter()
            .any(|gone| (gone.feed, gone.index) == (block.feed, block.index))
    };
    let (deleted, kept): (Vec<Block>, Vec<Block>) = blocks.iter().cloned().partition(is_gone);
    {
        let mut index = Index::open(&path).unwrap();
        talk.world.tell(&mut index);
        let first = blocks.len() - 2;
        index.ingest(&blocks[..first]).unwrap();
        index.ingest(&blocks[first..]).unwrap();
        let mut never = talk.world.index();
        never.ingest(&kept).unwrap();
        let hash = index.dump_hash().unwrap();
        assert_eq!(never.dump_hash().unwrap(), hash);
        let is_read = |index: &Index, block: &Block| {
            let runs = index.indexed(&block.feed).unwrap();
            runs.iter().any(|run| run.contains(&block.index))
        };
        for block in &deleted {
            assert!(is_read(&index, block), "it is not read over and over");
            assert!(!is_read(&never, block), "it may come");
            // It comes from somebody who knows nothing yet: it is reported, and changes nothing.
            let report = never.ingest(std::slice::from_ref(block)).unwrap();
            assert_eq!(report.deleted.len(), 1);
        }
        assert_eq!(never.dump_hash().unwrap(), hash);
        let rows = never.messages(&talk.world.room, 9).unwrap();
        let row = rows
            .iter()
            .find(|row| row.entry() == talk.question)
            .unwrap();
        assert_eq!((row.text.as_str(), row.deleted.is_some()), ("", true));
        talk.indexes();
        assert!(index.scrub().unwrap());
        assert_eq!(index.dump_hash().unwrap(), hash);
        for name in ["", "-wal"] {
            let bytes = std::fs::read(folder.join(format!("index.db{name}"))).unwrap();
            for text in [&b"soup at eight"[..], b"flowerpot", b"nine", b"eight"] {
                let found = bytes.windows(text.len()).any(|window| window == text);
                assert!(
                    !found,
                    "{} is in index.db{name}",
                    String::from_utf8_lossy(text)
                );
            }
        }
    }
}

/// It stands in no view before: deleted it does, as for those who never had it.
#[test]
fn a_message_that_nobody_could_read_is_shown_as_deleted_in_any_order() {
    let format = u64::from(kinlog_indexer::BODY_FORMAT);
    for (format, body) in [(format + 1, &b"?"[..]), (format, &[0xff, 0xff])] {
        let mut talk = Talk::new();
        talk.question = talk.mumble(1, format, body);
        talk.delete(1, &[]);
        let (_, row) = talk.question();
        assert_eq!((row.text.as_str(), row.deleted.is_some()), ("", true));
    }
}

/// Nobody makes an act disappear by calling it a message, and who was told so first believes what it
/// sees.
#[test]
fn a_deletion_that_says_what_is_not_true_counts_for_nothing() {
    let mut talk = Talk::new();
    let change = act(Deed::Role(RoleChange {
        agent: talk.world.agents[2].id,
        role: Role::Admin,
    }));
    let promoted = talk.say(0, change);
    talk.question = promoted;
    talk.delete(0, &[]);
    talk.moderate(0, &[]);
    let indexes = talk.indexes();
    let admin = talk.world.agents[2].id;
    for index in &indexes {
        let role = index.member_role(&talk.world.room, &admin).unwrap();
        assert_eq!(role, Some(Role::Admin));
        assert_eq!(index.messages(&talk.world.room, 9).unwrap().len(), 1);
    }
}

/// A deletion holds by what its author was when it wrote it.
#[test]
fn a_deletion_by_an_admin_outlives_the_role_and_one_by_a_later_admin_does_not_begin() {
    let mut talk = Talk::new();
    let role = |agent, role| act(Deed::Role(RoleChange { agent, role }));
    let cleo = talk.world.agents[2].id;
    talk.moderate_in_vain(2);
    talk.say(0, role(cleo, Role::Admin));
    assert_eq!(
        talk.question().1.text,
        "soup at eight?",
        "she was none then"
    );
    talk.moderate(2, &[]);
    assert_eq!(talk.question().1.text, "");
    talk.say(0, role(cleo, Role::Guest));
    assert_eq!(talk.question().1.text, "", "she was one then");
}

#[test]
fn reactions_are_a_set_from_which_each_takes_its_own() {
    let mut talk = Talk::new();
    let leaf = talk.react(2, "\u{1f331}", Vec::new());
    let yes = talk.react(0, "+1", Vec::new());
    let again = talk.react(2, "\u{1f331}", Vec::new());
    // Somebody else's is not taken, one's own is, once.
    talk.react(2, "", vec![leaf, yes, leaf]);
    let (index, row) = talk.question();
    let entries: Vec<Ref> = index
        .reactions(&row)
        .unwrap()
        .into_iter()
        .map(|one| one.entry)
        .collect();
    assert_eq!(entries, [yes, again]);
}

#[test]
fn marks_on_what_is_no_message_change_nothing() {
    let mut talk = Talk::new();
    let nowhere = Ref {
        feed: FeedKey([77; 32]),
        index: 3,
    };
    let admit = Ref {
        feed: room_feed(0),
        index: 1,
    };
    for target in [nowhere, admit] {
        let body = Body::Tombstone(tombstone(&talk.world, &[target]));
        talk.say(0, body);
    }
    let (index, row) = talk.question();
    assert_eq!(row.text, "soup at eight?");
    assert_eq!(index.messages(&talk.world.room, 10).unwrap().len(), 1);
    assert_eq!(index.room_members(&talk.world.room).unwrap().len(), 3);
}
