//! Which blocks are held: a set of block indexes in pages of bits.
//!
//! A page is in one of three states: absent (no bit set), partial (4 KiB of words), or inside a run
//! of full pages, which costs two integers however long it is. So a peer that claims to hold 2^53
//! blocks costs no more than one that holds a page of them.

use std::collections::BTreeMap;
use std::ops::Range;

/// Bits of a page, as in npm `hypercore`.
pub const PAGE_BITS: u64 = 32_768;
const PAGE_WORDS: usize = (PAGE_BITS / 64) as usize;

type Words = [u64; PAGE_WORDS];

/// A page that is neither empty nor full.
#[derive(Clone, Eq, PartialEq)]
struct Page {
    words: Box<Words>,
    count: u64,
}

/// A set of block indexes. The default is empty.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Bitfield {
    /// Partial pages by number. Never empty, never full, never inside a full run.
    partial: BTreeMap<u64, Page>,
    /// Runs of full pages, first page to the page behind. Never adjacent to each other.
    full: BTreeMap<u64, u64>,
}

impl Bitfield {
    /// Returns an empty set.
    pub fn new() -> Bitfield {
        Bitfield::default()
    }

    /// Adds or removes one index; returns whether that changed anything.
    pub fn set(&mut self, index: u64, value: bool) -> bool {
        if self.get(index) == value {
            return false;
        }
        let (page, bit) = (index / PAGE_BITS, index % PAGE_BITS);
        self.change_page(page, bit..bit + 1, value);
        true
    }

    /// Adds all indexes of `range`.
    pub fn set_range(&mut self, range: Range<u64>) {
        self.change(range, true);
    }

    /// Removes all indexes of `range`.
    pub fn clear_range(&mut self, range: Range<u64>) {
        self.change(range, false);
    }

    /// Adds the indexes of the bits set in `words`, of which the first is index `start` (a multiple
    /// of 32), lowest bit first; the others in reach are removed. As in the wire's bitfield message.
    pub fn set_words(&mut self, start: u64, words: &[u32]) {
        debug_assert!(start.is_multiple_of(32), "words begin at multiples of 32");
        let (mut at, mut rest) = (start, words);
        while !rest.is_empty() {
            let (page, bit) = (at / PAGE_BITS, at % PAGE_BITS);
            let fitting = rest.len().min(((PAGE_BITS - bit) / 32) as usize);
            let (now, later) = rest.split_at(fitting);
            self.set_page_words(page, bit as usize / 32, now);
            let Some(next) = at.checked_add(32 * fitting as u64) else {
                return;
            };
            (at, rest) = (next, later);
        }
    }

    /// Returns whether `index` is in the set.
    pub fn get(&self, index: u64) -> bool {
        let (page, bit) = (index / PAGE_BITS, index % PAGE_BITS);
        match self.partial.get(&page) {
            Some(partial) => partial.get(bit),
            None => self.is_full(page),
        }
    }

    /// Returns whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.partial.is_empty() && self.full.is_empty()
    }

    /// Returns the number of parts that the set is kept in: pages that are neither empty nor full,
    /// of 4 KiB each, and runs of full pages, of some 50 bytes each.
    pub fn parts(&self) -> usize {
        self.partial.len() + self.full.len()
    }

    /// Returns the number of indexes in the set.
    pub fn count(&self) -> u64 {
        let partial: u64 = self.partial.values().map(|page| page.count).sum();
        let full: u64 = self
            .full
            .iter()
            .map(|(first, end)| (end - first) * PAGE_BITS)
            .sum();
        partial + full
    }

    /// Returns the number of indexes of `range` in the set.
    pub fn count_range(&self, range: Range<u64>) -> u64 {
        self.runs(range).map(|run| run.end - run.start).sum()
    }

    /// Returns whether any index of `range` is in the set.
    pub fn any_in(&self, range: Range<u64>) -> bool {
        if range.is_empty() {
            return false;
        }
        let page = range.start / PAGE_BITS;
        if (range.end - 1) / PAGE_BITS == page {
            // Looks at no word beyond the range: the replicator asks this for every block.
            let first = page * PAGE_BITS;
            return match self.partial.get(&page) {
                Some(partial) => partial.any(range.start - first..range.end - first),
                None => self.is_full(page),
            };
        }
        self.first_set_from(range.start)
            .is_some_and(|index| index < range.end)
    }

    /// Returns whether every index of `range` is in the set.
    pub fn all_in(&self, range: Range<u64>) -> bool {
        range.is_empty() || self.first_unset_from(range.start) >= range.end
    }

    /// Returns the first index from `index` on that is in the set.
    pub fn first_set_from(&self, index: u64) -> Option<u64> {
        let (page, bit) = (index / PAGE_BITS, index % PAGE_BITS);
        if self.is_full(page) {
            return Some(index);
        }
        if let Some(bit) = self
            .partial
            .get(&page)
            .and_then(|partial| partial.next(bit, true))
        {
            return Some(page * PAGE_BITS + bit);
        }
        let next = page.checked_add(1)?;
        let partial = self.partial.range(next..).next().map(|(page, partial)| {
            let bit = partial.next(0, true).expect("a partial page is not empty");
            page * PAGE_BITS + bit
        });
        let full = self
            .full
            .range(next..)
            .next()
            .map(|(first, _)| first * PAGE_BITS);
        partial.into_iter().chain(full).min()
    }

    /// Returns the first index from `index` on that is not in the set (`u64::MAX` if there is none).
    pub fn first_unset_from(&self, index: u64) -> u64 {
        let (mut page, mut bit) = (index / PAGE_BITS, index % PAGE_BITS);
        loop {
            if let Some(end) = self.full_run_end(page) {
                page = end;
            } else if let Some(partial) = self.partial.get(&page) {
                if let Some(bit) = partial.next(bit, false) {
                    return page * PAGE_BITS + bit;
                }
                page += 1;
            } else {
                return page * PAGE_BITS + bit;
            }
            bit = 0;
            if page > u64::MAX / PAGE_BITS {
                return u64::MAX;
            }
        }
    }

    /// Returns how many indexes from 0 on are in the set without a gap.
    pub fn contiguous_length(&self) -> u64 {
        self.first_unset_from(0)
    }

    /// Returns the runs of consecutive indexes of `range` that are in the set, in order.
    pub fn runs(&self, range: Range<u64>) -> Runs<'_> {
        Runs {
            bitfield: self,
            at: range.start,
            end: range.end,
        }
    }

    /// Returns the runs of indexes of `range` that are in the set and not in `other`, in order.
    pub fn without(&self, other: &Bitfield, range: Range<u64>) -> Vec<Range<u64>> {
        let mut left = Vec::new();
        for run in self.runs(range) {
            let mut at = other.first_unset_from(run.start);
            while at < run.end {
                let end = other.first_set_from(at).unwrap_or(run.end).min(run.end);
                left.push(at..end);
                at = other.first_unset_from(end);
            }
        }
        left
    }

    /// Returns the bits of `length` indexes from `start` (a multiple of 32) as the wire's bitfield
    /// message carries them, lowest bit first; the last word is filled up with what follows.
    ///
    /// The caller bounds `length`: the result has a word for every 32.
    pub fn words(&self, start: u64, length: u64) -> Vec<u32> {
        debug_assert!(start.is_multiple_of(32), "words begin at multiples of 32");
        let count = length.div_ceil(32);
        (0..count)
            .map_while(|word| start.checked_add(word.checked_mul(32)?))
            .map(|index| {
                let (page, bit) = (index / PAGE_BITS, index % PAGE_BITS);
                match self.partial.get(&page) {
                    Some(partial) => (partial.words[bit as usize / 64] >> (bit % 64)) as u32,
                    None if self.is_full(page) => u32::MAX,
                    None => 0,
                }
            })
            .collect()
    }

    fn is_full(&self, page: u64) -> bool {
        self.full_run_end(page).is_some()
    }

    /// Returns the page behind the full run that `page` is in.
    fn full_run_end(&self, page: u64) -> Option<u64> {
        self.full
            .range(..=page)
            .next_back()
            .map(|(_, end)| *end)
            .filter(|end| page < *end)
    }

    fn change(&mut self, range: Range<u64>, value: bool) {
        if range.is_empty() {
            return;
        }
        let first = range.start / PAGE_BITS;
        let last = (range.end - 1) / PAGE_BITS;
        let (from, to) = (range.start % PAGE_BITS, (range.end - 1) % PAGE_BITS + 1);
        if first == last {
            self.change_page(first, from..to, value);
            return;
        }
        let mut whole = first..last + 1;
        if from > 0 {
            self.change_page(first, from..PAGE_BITS, value);
            whole.start += 1;
        }
        if to < PAGE_BITS {
            self.change_page(last, 0..to, value);
            whole.end -= 1;
        }
        self.change_whole_pages(whole, value);
    }

    fn change_whole_pages(&mut self, pages: Range<u64>, value: bool) {
        if pages.is_empty() {
            return;
        }
        let partial: Vec<u64> = self
            .partial
            .range(pages.clone())
            .map(|(page, _)| *page)
            .collect();
        for page in partial {
            self.partial.remove(&page);
        }
        self.remove_full(pages.clone());
        if value {
            self.insert_full(pages);
        }
    }

    fn change_page(&mut self, page: u64, bits: Range<u64>, value: bool) {
        if bits == (0..PAGE_BITS) {
            self.change_whole_pages(page..page + 1, value);
            return;
        }
        let full = self.is_full(page);
        let absent = !full && !self.partial.contains_key(&page);
        if (full && value) || (absent && !value) {
            return;
        }
        self.page_mut(page, full).change(bits, value);
        self.settle(page);
    }

    /// Writes whole words of 32 bits into a page, the first at word `first`.
    fn set_page_words(&mut self, page: u64, first: usize, words: &[u32]) {
        let full = self.is_full(page);
        let same = if full { u32::MAX } else { 0 };
        let uniform = full || !self.partial.contains_key(&page);
        if uniform && words.iter().all(|word| *word == same) {
            return;
        }
        self.page_mut(page, full).set_words(first, words);
        self.settle(page);
    }

    /// Returns a page to be changed, taken out of the run that it is in if it is `full`.
    fn page_mut(&mut self, page: u64, full: bool) -> &mut Page {
        if full {
            self.remove_full(page..page + 1);
        }
        self.partial
            .entry(page)
            .or_insert_with(|| Page::filled(full))
    }

    /// Puts a page that was changed into the form that it has by now.
    fn settle(&mut self, page: u64) {
        match self.partial.get(&page).map(|partial| partial.count) {
            Some(0) => {
                self.partial.remove(&page);
            }
            Some(PAGE_BITS) => {
                self.partial.remove(&page);
                self.insert_full(page..page + 1);
            }
            _ => {}
        }
    }

    fn remove_full(&mut self, pages: Range<u64>) {
        while let Some((first, end)) = self
            .full
            .range(..pages.end)
            .next_back()
            .map(|(first, end)| (*first, *end))
            .filter(|(_, end)| *end > pages.start)
        {
            self.full.remove(&first);
            if end > pages.end {
                self.full.insert(pages.end, end);
            }
            if first < pages.start {
                self.full.insert(first, pages.start);
            }
        }
    }

    /// Adds a run that overlaps none, and joins it with its neighbours.
    fn insert_full(&mut self, pages: Range<u64>) {
        let Range { mut start, mut end } = pages;
        if let Some((first, _)) = self
            .full
            .range(..start)
            .next_back()
            .filter(|(_, before)| **before == start)
        {
            start = *first;
        }
        if let Some(after) = self.full.remove(&end) {
            end = after;
        }
        self.full.insert(start, end);
    }
}

impl std::fmt::Debug for Bitfield {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bitfield")
            .field("count", &self.count())
            .field("contiguous_length", &self.contiguous_length())
            .finish_non_exhaustive()
    }
}

impl FromIterator<Range<u64>> for Bitfield {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> Bitfield {
        let mut bitfield = Bitfield::new();
        ranges
            .into_iter()
            .for_each(|range| bitfield.set_range(range));
        bitfield
    }
}

/// Runs of consecutive indexes in a set.
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    bitfield: &'a Bitfield,
    at: u64,
    end: u64,
}

impl Iterator for Runs<'_> {
    type Item = Range<u64>;

    fn next(&mut self) -> Option<Range<u64>> {
        if self.at >= self.end {
            return None;
        }
        let start = self
            .bitfield
            .first_set_from(self.at)
            .filter(|start| *start < self.end)?;
        let end = self.bitfield.first_unset_from(start).min(self.end);
        self.at = end;
        Some(start..end)
    }
}

impl Page {
    fn filled(value: bool) -> Page {
        let (word, count) = if value { (u64::MAX, PAGE_BITS) } else { (0, 0) };
        Page {
            words: Box::new([word; PAGE_WORDS]),
            count,
        }
    }

    fn get(&self, bit: u64) -> bool {
        self.words[bit as usize / 64] >> (bit % 64) & 1 == 1
    }

    fn change(&mut self, bits: Range<u64>, value: bool) {
        let mut at = bits.start;
        while at < bits.end {
            let word = &mut self.words[at as usize / 64];
            let end = bits.end.min((at / 64 + 1) * 64);
            let mask = (u64::MAX >> (64 - (end - at))) << (at % 64);
            let before = word.count_ones();
            *word = if value { *word | mask } else { *word & !mask };
            self.count = self.count + u64::from(word.count_ones()) - u64::from(before);
            at = end;
        }
    }

    fn set_words(&mut self, first: usize, words: &[u32]) {
        for (at, new) in (first..).zip(words) {
            let shift = at % 2 * 32;
            let word = &mut self.words[at / 2];
            let before = word.count_ones();
            *word = *word & !(u64::from(u32::MAX) << shift) | u64::from(*new) << shift;
            self.count = self.count + u64::from(word.count_ones()) - u64::from(before);
        }
    }

    /// Returns whether any bit of `bits`, which are not empty, is set.
    fn any(&self, bits: Range<u64>) -> bool {
        let (first, last) = (bits.start as usize / 64, (bits.end - 1) as usize / 64);
        let from = u64::MAX << (bits.start % 64);
        let to = u64::MAX >> (63 - (bits.end - 1) % 64);
        if first == last {
            return self.words[first] & from & to != 0;
        }
        self.words[first] & from != 0
            || self.words[last] & to != 0
            || self.words[first + 1..last].iter().any(|word| *word != 0)
    }

    /// Returns the first bit from `bit` on that is `value`.
    fn next(&self, bit: u64, value: bool) -> Option<u64> {
        let mut mask = u64::MAX << (bit % 64);
        for (at, word) in self.words.iter().enumerate().skip(bit as usize / 64) {
            let found = if value { *word } else { !*word } & mask;
            if found != 0 {
                return Some(at as u64 * 64 + u64::from(found.trailing_zeros()));
            }
            mask = u64::MAX;
        }
        None
    }
}
