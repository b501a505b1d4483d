//! A radix tree over subscriptions: one walk along a path finds every pin that covers it.

use kinlog_feeds::AgentId;

use crate::links::FeedPath;

/// Values under keys, of which each node holds what all below it begin with.
#[derive(Clone, Debug)]
pub(crate) struct Trie<T> {
    root: Node<T>,
}

#[derive(Clone, Debug)]
struct Node<T> {
    /// What follows the key of the node above.
    part: Box<[u8]>,
    values: Vec<T>,
    /// In order of their first bytes, which differ.
    below: Vec<Node<T>>,
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Trie {
            root: Node::new(&[]),
        }
    }
}

impl<T> Trie<T> {
    /// Puts a value under a path of an agent, or without a path under all of them.
    pub(crate) fn insert(&mut self, agent: &AgentId, path: Option<&FeedPath>, value: T) {
        self.root.insert(&key(agent, path), value);
    }

    /// Returns the values whose path covers this one, those of shorter paths first.
    pub(crate) fn covering(&self, agent: &AgentId, path: &FeedPath) -> Vec<&T> {
        let key = key(agent, Some(path));
        let (mut found, mut node, mut at) = (Vec::new(), &self.root, 0);
        loop {
            // A pin covers whole segments: `/paths` covers `/paths/a` and not `/pathsa`.
            let is_boundary = at == key.len() || at == 32 || (at > 32 && key[at] == b'/');
            if is_boundary {
                found.extend(&node.values);
            }
            let Some(next) = key.get(at).and_then(|first| node.child(*first)) else {
                return found;
            };
            if !key[at..].starts_with(&next.part) {
                return found;
            }
            at += next.part.len();
            node = next;
        }
    }
}

impl<T> Node<T> {
    fn new(part: &[u8]) -> Self {
        Node {
            part: part.into(),
            values: Vec::new(),
            below: Vec::new(),
        }
    }

    fn child(&self, first: u8) -> Option<&Node<T>> {
        let at = self.below.binary_search_by_key(&first, |node| node.part[0]);
        at.ok().map(|at| &self.below[at])
    }

    fn insert(&mut self, key: &[u8], value: T) {
        let Some(first) = key.first() else {
            self.values.push(value);
            return;
        };
        let at = match self.below.binary_search_by_key(first, |node| node.part[0]) {
            Ok(at) => at,
            Err(at) => {
                let mut node = Node::new(key);
                node.values.push(value);
                self.below.insert(at, node);
                return;
            }
        };
        let child = &mut self.below[at];
        let same = child
            .part
            .iter()
            .zip(key)
            .take_while(|(one, other)| one == other);
        let same = same.count();
        if same < child.part.len() {
            let mut upper = Node::new(&child.part[..same]);
            child.part = child.part[same..].into();
            std::mem::swap(child, &mut upper);
            // What was the child is the part that was cut off now.
            child.below.push(upper);
        }
        child.insert(&key[same..], value);
    }
}

fn key(agent: &AgentId, path: Option<&FeedPath>) -> Vec<u8> {
    let path = path.map_or("", FeedPath::as_str);
    [agent.as_bytes().as_slice(), path.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> FeedPath {
        text.parse().expect("valid")
    }

    #[test]
    fn pins_cover_whole_segments_of_their_agent_alone() {
        let (one, other) = (AgentId([1; 32]), AgentId([2; 32]));
        let mut trie = Trie::default();
        for text in ["/paths", "/paths/a", "/paths/ab", "/p", "/notes"] {
            trie.insert(&one, Some(&path(text)), text);
        }
        trie.insert(&other, None, "all");
        let of = |agent: &AgentId, text: &str| {
            trie.covering(agent, &path(text))
                .into_iter()
                .copied()
                .collect::<Vec<_>>()
        };
        assert_eq!(of(&one, "/paths/a/b"), ["/paths", "/paths/a"]);
        assert_eq!(of(&one, "/paths/ab"), ["/paths", "/paths/ab"]);
        assert_eq!(of(&one, "/pathsa"), Vec::<&str>::new());
        assert_eq!(of(&one, "/p"), ["/p"]);
        assert_eq!(of(&other, "/notes"), ["all"]);
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_covers(
            pins in proptest::collection::vec(("[ab]{1,3}(/[ab]{1,2}){0,3}", any::<bool>()), 0..20),
            asked in "[ab]{1,3}(/[ab]{1,2}){0,4}",
        ) {
            let agent = |first: bool| AgentId([u8::from(first); 32]);
            let mut trie = Trie::default();
            let pins: Vec<(FeedPath, bool)> =
                pins.into_iter().map(|(text, first)| (path(&format!("/{text}")), first)).collect();
            for (number, (pin, first)) in pins.iter().enumerate() {
                trie.insert(&agent(*first), Some(pin), number);
            }
            let asked = path(&format!("/{asked}"));
            let mut found: Vec<usize> =
                trie.covering(&agent(true), &asked).into_iter().copied().collect();
            found.sort_unstable();
            let covers = |(_, (pin, first)): &(usize, &(FeedPath, bool))| *first && pin.covers(&asked);
            let expected: Vec<usize> =
                pins.iter().enumerate().filter(covers).map(|(number, _)| number).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
