//! Power cuts: what each leaves of the operations that no sync had made durable.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::disk::content::Contents;
use crate::disk::crash::{CrashDisk, Event};
use crate::random::Random;

/// Syncs that a lying drive may have answered without doing them.
const LIES_MAX: usize = 2;

/// What of the pending operations a power cut leaves.
///
/// Where a policy has variants, [`Cuts::image`]'s seed goes through them: seeds 0 to 3 show all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CrashPolicy {
    /// Nothing: a clean power cut.
    DropPending,
    /// All: the process was killed.
    KeepPending,
    /// Those before a random one: an ordered journal.
    Prefix,
    /// A random subset: the drive reorders.
    Subset,
    /// A random subset and the last write torn: cut at a boundary, or some of its sectors missing
    /// (seed: 512 B or 4 KiB).
    TornWrite,
    /// Writes have their size, but their content is zeros, what stood in other files, or random
    /// (seed: each of these, then mixed).
    SizeWithoutContent,
    /// Names are lost and content is not, or the other way round (seed: names lost, content lost,
    /// some names, some of each).
    NamesLost,
    /// The last one or two syncs did nothing (seed), and what they should have made durable is
    /// lost, wholly or in part.
    LyingSync,
}

impl CrashPolicy {
    /// Every policy.
    pub const ALL: [CrashPolicy; 8] = [
        CrashPolicy::DropPending,
        CrashPolicy::KeepPending,
        CrashPolicy::Prefix,
        CrashPolicy::Subset,
        CrashPolicy::TornWrite,
        CrashPolicy::SizeWithoutContent,
        CrashPolicy::NamesLost,
        CrashPolicy::LyingSync,
    ];
}

/// Walks through what was recorded and makes images of it, one operation after the other.
///
/// What is durable is kept from cut to cut and shared by the images; an image costs what is
/// pending.
#[derive(Debug)]
pub struct Cuts {
    events: Arc<[Event]>,
    at: usize,
    mark: u64,
    /// What is durable when the last 0, 1, 2 syncs lied.
    tracks: [Track; LIES_MAX + 1],
    /// Writes so far: what stale content is made of.
    writes: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Track {
    lies: usize,
    durable: Contents,
    /// Operations that no sync covers, in order.
    pending: Vec<usize>,
    /// Syncs that are not believed yet.
    syncs: VecDeque<usize>,
}

impl Cuts {
    /// Starts before the first operation.
    pub fn new(disk: &CrashDisk) -> Self {
        let track = |lies| Track {
            lies,
            durable: disk.start(),
            pending: Vec::new(),
            syncs: VecDeque::new(),
        };
        Cuts {
            events: disk.events().into(),
            at: 0,
            mark: 0,
            tracks: [track(0), track(1), track(2)],
            writes: Vec::new(),
        }
    }

    /// Goes on behind the next operation; returns whether there was one.
    pub fn advance(&mut self) -> bool {
        while let Some(event) = self.events.get(self.at) {
            self.at += 1;
            match event {
                Event::Mark(mark) => {
                    self.mark = *mark;
                    continue;
                }
                Event::Write { .. } => self.writes.push(self.at - 1),
                _ => {}
            }
            for track in &mut self.tracks {
                track.push(self.at - 1, &self.events);
            }
            return true;
        }
        false
    }

    /// Returns the last mark before here.
    pub fn mark(&self) -> u64 {
        self.mark
    }

    /// Returns how many events lie before here, marks included.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Returns the disk that a power cut here leaves.
    pub fn image(&self, policy: CrashPolicy, seed: u64) -> CrashDisk {
        let mut random = Random::new(seed << 32 ^ self.at as u64);
        let lies = match policy {
            CrashPolicy::LyingSync => 1 + seed as usize % LIES_MAX,
            _ => 0,
        };
        let track = &self.tracks[lies];
        let mut contents = track.durable.clone();
        for event in self.survivors(&track.pending, policy, seed, &mut random) {
            contents.apply(&event);
        }
        CrashDisk::from_contents(contents)
    }

    /// Returns what of the pending operations survives, in the form in which it does.
    fn survivors(
        &self,
        pending: &[usize],
        policy: CrashPolicy,
        seed: u64,
        random: &mut Random,
    ) -> Vec<Event> {
        let events = pending.iter().map(|at| &self.events[*at]);
        let cloned = |keep: &mut dyn FnMut(&Event) -> bool| -> Vec<Event> {
            events
                .clone()
                .filter(|event| keep(event))
                .cloned()
                .collect()
        };
        match policy {
            CrashPolicy::DropPending => Vec::new(),
            CrashPolicy::KeepPending => cloned(&mut |_| true),
            CrashPolicy::Prefix => {
                let count = random.below(pending.len() as u64 + 1) as usize;
                events.take(count).cloned().collect()
            }
            CrashPolicy::Subset => cloned(&mut |_| random.below(2) == 0),
            CrashPolicy::TornWrite => {
                let last = pending
                    .iter()
                    .rposition(|at| matches!(self.events[*at], Event::Write { .. }));
                let sector = [512, 4096][seed as usize % 2];
                let mut kept = Vec::new();
                for (number, event) in events.enumerate() {
                    if Some(number) == last {
                        kept.extend(torn(event, sector, random));
                    } else if random.below(2) == 0 {
                        kept.push(event.clone());
                    }
                }
                kept
            }
            CrashPolicy::SizeWithoutContent => events
                .map(|event| self.without_content(event, seed, random))
                .collect(),
            CrashPolicy::NamesLost => cloned(&mut |event| match (seed % 4, is_name(event)) {
                (0, name) => !name,
                (1, name) => name,
                (2, false) => true,
                _ => random.below(2) == 0,
            }),
            CrashPolicy::LyingSync if seed % 4 < 2 => Vec::new(),
            CrashPolicy::LyingSync => cloned(&mut |_| random.below(2) == 0),
        }
    }

    /// Returns a write whose bytes are not those that were written.
    fn without_content(&self, event: &Event, seed: u64, random: &mut Random) -> Event {
        let Event::Write {
            file,
            offset,
            bytes,
        } = event
        else {
            return event.clone();
        };
        let variant = match seed % 4 {
            3 => random.below(4),
            all => all,
        };
        let bytes: Arc<[u8]> = match variant {
            0 => vec![0; bytes.len()].into(),
            1 => {
                let old = self.writes[random.index(self.writes.len())];
                match &self.events[old] {
                    Event::Write { bytes: old, .. } if !old.is_empty() => {
                        old.iter().copied().cycle().take(bytes.len()).collect()
                    }
                    _ => vec![0; bytes.len()].into(),
                }
            }
            2 => random.bytes(bytes.len()).into(),
            _ => bytes.clone(),
        };
        Event::Write {
            file: *file,
            offset: *offset,
            bytes,
        }
    }
}

impl Track {
    fn push(&mut self, at: usize, events: &[Event]) {
        match &events[at] {
            Event::Create { file, .. } => {
                // The file is there from now on; whether its name is, is another matter.
                self.durable.settle(*file);
                self.pending.push(at);
            }
            event if event.is_sync() => self.syncs.push_back(at),
            _ => self.pending.push(at),
        }
        if self.syncs.len() > self.lies
            && let Some(sync) = self.syncs.pop_front()
        {
            let durable = &mut self.durable;
            self.pending.retain(|at| {
                let covered = *at < sync && covers(&events[sync], &events[*at]);
                if covered {
                    durable.apply(&events[*at]);
                }
                !covered
            });
            if let Event::SyncData { file } = &events[sync] {
                durable.settle(*file);
            }
        }
    }
}

/// Returns whether a sync makes an earlier operation durable.
fn covers(sync: &Event, event: &Event) -> bool {
    match (sync, event) {
        (
            Event::SyncData { file: synced },
            Event::Write { file, .. } | Event::SetLen { file, .. } | Event::Punch { file, .. },
        ) => synced == file,
        (Event::SyncDir, event) => is_name(event),
        _ => false,
    }
}

fn is_name(event: &Event) -> bool {
    matches!(
        event,
        Event::Create { .. } | Event::Rename { .. } | Event::Unlink { .. }
    )
}

/// Returns what is left of a write of which only some sectors reached the disk: the first ones, or
/// any of them.
fn torn(event: &Event, sector: u64, random: &mut Random) -> Vec<Event> {
    let Event::Write {
        file,
        offset,
        bytes,
    } = event
    else {
        return vec![event.clone()];
    };
    let end = offset + bytes.len() as u64;
    let (first, last) = (offset / sector, end.div_ceil(sector));
    let in_order = random.below(2) == 0;
    let cut = first + random.below(last - first + 1);
    (first..last)
        .filter(|number| {
            if in_order {
                *number < cut
            } else {
                random.below(2) == 0
            }
        })
        .map(|number| {
            let (from, to) = (
                (number * sector).max(*offset),
                ((number + 1) * sector).min(end),
            );
            Event::Write {
                file: *file,
                offset: from,
                bytes: bytes[(from - offset) as usize..(to - offset) as usize].into(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinlog_feeds::store::Disk as _;

    fn recorded() -> CrashDisk {
        let disk = CrashDisk::new();
        let file = disk.open("a", true).unwrap();
        disk.sync_dir().unwrap();
        file.write_at(0, &[1; 1000]).unwrap();
        file.sync_data().unwrap();
        file.write_at(1000, &[2; 1000]).unwrap();
        disk.mark(7);
        file.sync_data().unwrap();
        file.write_at(500, &[3; 1000]).unwrap();
        disk.open("b", true).unwrap();
        disk
    }

    fn at_end(disk: &CrashDisk) -> Cuts {
        let mut cuts = Cuts::new(disk);
        while cuts.advance() {}
        cuts
    }

    #[test]
    fn what_was_synced_survives_and_the_rest_by_policy() {
        let cuts = at_end(&recorded());
        assert_eq!(cuts.mark(), 7);
        let image = |policy, seed| cuts.image(policy, seed).to_files();
        let mut durable = vec![1; 1000];
        durable.extend([2; 1000]);
        let mut all = durable.clone();
        all[500..1500].fill(3);
        let dropped = image(CrashPolicy::DropPending, 0);
        assert_eq!(dropped, [("a".to_owned(), durable.clone())].into());
        let kept = image(CrashPolicy::KeepPending, 0);
        assert_eq!(kept["a"], all);
        assert!(kept["b"].is_empty());
        let lost = image(CrashPolicy::NamesLost, 0);
        assert_eq!(lost, [("a".to_owned(), all.clone())].into());
        let early = image(CrashPolicy::NamesLost, 1);
        assert_eq!(early["a"], durable);
        assert!(early["b"].is_empty());
        let zeros = image(CrashPolicy::SizeWithoutContent, 0);
        assert!(zeros["a"][500..1500].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_torn_write_is_cut_at_sectors() {
        let cuts = at_end(&recorded());
        let mut shapes = std::collections::BTreeSet::new();
        for seed in (0..100).step_by(2) {
            let file = cuts.image(CrashPolicy::TornWrite, seed).to_files()["a"].clone();
            let new: Vec<bool> = file.iter().map(|byte| *byte == 3).collect();
            for part in [500..512, 512..1024, 1024..1500] {
                let first = new[part.start];
                assert!(new[part].iter().all(|new| *new == first));
            }
            assert!(!new[499] && !new[1500]);
            shapes.insert([new[500], new[512], new[1024]]);
        }
        assert_eq!(shapes.len(), 8, "{shapes:?}");
    }

    #[test]
    fn lying_syncs_lose_what_they_confirmed() {
        let cuts = at_end(&recorded());
        let one = cuts.image(CrashPolicy::LyingSync, 0).to_files();
        assert_eq!(one["a"], [1; 1000]);
        let two = cuts.image(CrashPolicy::LyingSync, 1).to_files();
        assert!(two["a"].is_empty());
    }
}
