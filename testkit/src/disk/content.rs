//! Files in memory whose copies share what did not change.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::disk::crash::Event;

/// Bytes that a write copies: small enough that a small write copies little.
const PAGE_BYTES: usize = 4096;

/// The files and names of a folder; a copy costs what was written since the last
/// [`settle`](Self::settle).
#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    pub(super) files: Vec<Content>,
    pub(super) names: BTreeMap<String, usize>,
}

/// The bytes of one file: a base that copies share, and the pages that differ from it.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    base: Arc<Vec<u8>>,
    /// How much of the base is still part of the file.
    base_bytes: usize,
    pages: BTreeMap<usize, Box<[u8; PAGE_BYTES]>>,
    size: usize,
}

impl Contents {
    /// Makes a folder of these files.
    pub(super) fn from_files(files: &BTreeMap<String, Vec<u8>>) -> Self {
        let mut contents = Contents::default();
        for (name, bytes) in files {
            contents.names.insert(name.clone(), contents.files.len());
            contents.files.push(Content {
                base: Arc::new(bytes.clone()),
                base_bytes: bytes.len(),
                pages: BTreeMap::new(),
                size: bytes.len(),
            });
        }
        contents
    }

    /// Returns a copy of every named file.
    pub(super) fn to_files(&self) -> BTreeMap<String, Vec<u8>> {
        let named = self.names.iter();
        named
            .map(|(name, file)| (name.clone(), self.files[*file].to_vec()))
            .collect()
    }

    /// Does what an event says.
    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::Create { name, file } => {
                self.file(*file);
                self.names.insert(name.clone(), *file);
            }
            Event::Write {
                file,
                offset,
                bytes,
            } => self.file(*file).write(*offset as usize, bytes),
            Event::SetLen { file, size } => self.file(*file).set_len(*size as usize),
            Event::Punch {
                file,
                offset,
                bytes,
            } => self
                .file(*file)
                .punch(*offset as usize, (*offset + *bytes) as usize),
            Event::Rename { from, to } => {
                if let Some(file) = self.names.remove(from) {
                    self.names.insert(to.clone(), file);
                }
            }
            Event::Unlink { name } => {
                self.names.remove(name);
            }
            Event::SyncData { .. } | Event::SyncDir | Event::Mark(_) => {}
        }
    }

    /// Puts what was written to `file` into its base, so that later copies share it.
    pub(super) fn settle(&mut self, file: usize) {
        self.file(file).settle();
    }

    /// Returns the file, which exists as soon as it is spoken of, named or not.
    fn file(&mut self, file: usize) -> &mut Content {
        if self.files.len() <= file {
            self.files.resize_with(file + 1, Content::default);
        }
        &mut self.files[file]
    }
}

impl Content {
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Reads from `offset` until `buffer` is full or the file ends; returns the bytes read.
    pub(super) fn read(&self, offset: usize, buffer: &mut [u8]) -> usize {
        let count = self.size.saturating_sub(offset).min(buffer.len());
        let buffer = &mut buffer[..count];
        let from_base = self.base_bytes.saturating_sub(offset).min(count);
        if from_base > 0 {
            buffer[..from_base].copy_from_slice(&self.base[offset..offset + from_base]);
        }
        buffer[from_base..].fill(0);
        if count > 0 {
            let pages = offset / PAGE_BYTES..=(offset + count - 1) / PAGE_BYTES;
            for (number, page) in self.pages.range(pages) {
                let start = number * PAGE_BYTES;
                let (low, high) = (start.max(offset), (start + PAGE_BYTES).min(offset + count));
                buffer[low - offset..high - offset]
                    .copy_from_slice(&page[low - start..high - start]);
            }
        }
        count
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.size = self.size.max(offset + bytes.len());
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let inside = at % PAGE_BYTES;
            let (now, later) = rest.split_at(rest.len().min(PAGE_BYTES - inside));
            self.page(at / PAGE_BYTES)[inside..inside + now.len()].copy_from_slice(now);
            at += now.len();
            rest = later;
        }
    }

    fn set_len(&mut self, size: usize) {
        if size < self.size {
            self.base_bytes = self.base_bytes.min(size);
            self.pages.split_off(&size.div_ceil(PAGE_BYTES));
            if let Some(page) = self.pages.get_mut(&(size / PAGE_BYTES)) {
                page[size % PAGE_BYTES..].fill(0);
            }
        }
        self.size = size;
    }

    fn punch(&mut self, start: usize, end: usize) {
        let end = end.min(self.size);
        if start < end {
            self.write(start, &vec![0; end - start]);
        }
    }

    fn settle(&mut self) {
        let base = Arc::make_mut(&mut self.base);
        base.truncate(self.base_bytes);
        base.resize(self.size, 0);
        for (number, page) in std::mem::take(&mut self.pages) {
            let start = number * PAGE_BYTES;
            let end = (start + PAGE_BYTES).min(self.size);
            base[start..end].copy_from_slice(&page[..end - start]);
        }
        self.base_bytes = self.size;
    }

    fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.size];
        self.read(0, &mut bytes);
        bytes
    }

    fn page(&mut self, number: usize) -> &mut [u8; PAGE_BYTES] {
        self.pages.entry(number).or_insert_with(|| {
            let mut page = Box::new([0; PAGE_BYTES]);
            let start = number * PAGE_BYTES;
            if start < self.base_bytes {
                let end = (start + PAGE_BYTES).min(self.base_bytes);
                page[..end - start].copy_from_slice(&self.base[start..end]);
            }
            page
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn content_is_what_a_vector_would_be() {
        let mut random = Random::new(5);
        let (mut content, mut model) = (Content::default(), Vec::new());
        for step in 0..4000 {
            let at = random.index(30_000);
            match random.below(6) {
                0 => {
                    content.set_len(at);
                    model.resize(at, 0);
                }
                1 => {
                    content.punch(at, at + 9000);
                    let end = model.len().min(at + 9000);
                    if let Some(hole) = model.get_mut(at..end) {
                        hole.fill(0);
                    }
                }
                2 => {
                    content.settle();
                    content = content.clone();
                }
                _ => {
                    let count = random.index(9000);
                    let bytes = random.bytes(count);
                    content.write(at, &bytes);
                    if model.len() < at + bytes.len() {
                        model.resize(at + bytes.len(), 0);
                    }
                    model[at..at + bytes.len()].copy_from_slice(&bytes);
                }
            }
            assert_eq!(content.size(), model.len(), "step {step}");
            assert!(content.to_vec() == model, "step {step}");
        }
    }
}
