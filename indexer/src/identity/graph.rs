//! The order that statements name: the past of each, its depth, and who waits.

use std::collections::HashMap;

use kinlog_feeds::crypto::Hash;

use crate::identity::Statement;
use crate::identity::bits::{Bits, EVALUATED_MAX};

/// Statements with what they name, numbered in the order they were given.
#[derive(Debug)]
pub(super) struct Graph<'a> {
    pub(super) statements: Vec<(Hash, &'a Statement)>,
    /// What each statement reaches through the hashes it names, itself not among them.
    pub(super) past: Vec<Bits>,
    /// Longest chain of names that ends in the statement, 1 when it names none.
    pub(super) depth: Vec<u32>,
    /// The statements whose past is held whole, each after those that it names.
    pub(super) ready: Vec<usize>,
}

impl<'a> Graph<'a> {
    /// Orders at most [`EVALUATED_MAX`] statements.
    pub(super) fn new(statements: Vec<(Hash, &'a Statement)>) -> Self {
        let count = statements.len();
        assert!(count <= EVALUATED_MAX, "two full sets are the most");
        let numbers: HashMap<Hash, usize> = statements
            .iter()
            .enumerate()
            .map(|(number, (hash, _))| (*hash, number))
            .collect();
        let mut named_by: Vec<Vec<usize>> = vec![Vec::new(); count];
        let mut missing = vec![0; count];
        for (number, (_, statement)) in statements.iter().enumerate() {
            // What a later build said may change anything: as if its past were missing.
            missing[number] = usize::from(statement.said().waits());
            for name in statement.names().hashes() {
                missing[number] += 1;
                // What names something that is not held never becomes ready.
                if let Some(named) = numbers.get(name) {
                    named_by[*named].push(number);
                }
            }
        }
        let mut graph = Graph {
            past: vec![Bits::default(); count],
            depth: vec![1; count],
            ready: (0..count).filter(|number| missing[*number] == 0).collect(),
            statements,
        };
        let mut next = 0;
        while let Some(number) = graph.ready.get(next).copied() {
            next += 1;
            let mut with = graph.past[number];
            with.insert(number);
            let below = graph.depth[number] + 1;
            for &later in &named_by[number] {
                graph.past[later] = graph.past[later].or(&with);
                graph.depth[later] = graph.depth[later].max(below);
                missing[later] -= 1;
                if missing[later] == 0 {
                    graph.ready.push(later);
                }
            }
        }
        graph
    }

    pub(super) fn hash(&self, number: usize) -> Hash {
        self.statements[number].0
    }
}
