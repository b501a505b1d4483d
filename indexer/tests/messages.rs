//! What becomes of messages: answers, mentions, reactions, edits, deletions, in any order.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod world;

use kinlog_feeds::crypto::FeedKey;
use kinlog_indexer::entry::{Body, Edit, Links, Mentions, Message, Reaction, Ref, Role, Tombstone};
use kinlog_indexer::index::{Block, MessageRow, SearchHit};
use kinlog_indexer::{Index, Text};
use world::{World, admit_as, message, room_feed};

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

    fn edit(&mut self, who: usize, text: &str) -> Ref {
        let edit = Edit {
            target: self.question,
            text: Text::new(text).unwrap(),
            mentions: Mentions::default(),
        };
        self.say(who, Body::Edit(edit))
    }

    fn delete(&mut self, who: usize) {
        let tombstone = Tombstone {
            target: self.question,
            reason: Text::default(),
        };
        self.say(who, Body::Tombstone(tombstone));
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
    talk.delete(2);
    assert_eq!(talk.question().1.text, "soup at eight?", "a member may not");
    talk.edit(1, "soup at nine?");
    talk.delete(0);
    let (mut index, row) = talk.question();
    assert_eq!(row.text, "");
    assert_eq!(
        row.deleted.map(|(agent, _)| agent),
        Some(talk.world.agents[0].id)
    );
    assert_eq!(found(&index, "soup"), Vec::<String>::new());
    assert_eq!(index.edits(&row).unwrap(), []);
    talk.delete(1);
    let news = talk.world.blocks();
    let report = index.ingest(&news).unwrap();
    assert!(report.deleted.contains(&talk.question), "to be cleared");
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
        let tombstone = Tombstone {
            target,
            reason: Text::default(),
        };
        talk.say(0, Body::Tombstone(tombstone));
    }
    let (index, row) = talk.question();
    assert_eq!(row.text, "soup at eight?");
    assert_eq!(index.messages(&talk.world.room, 10).unwrap().len(), 1);
    assert_eq!(index.room_members(&talk.world.room).unwrap().len(), 3);
}
