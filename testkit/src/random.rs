//! Random numbers from a seed, the same on every machine.

/// A stream of random numbers (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts the stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// Returns the next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Returns a number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// Returns a position in something of `length` elements, which is not 0.
    pub fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// Returns `count` random bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next_u64() as u8).collect()
    }
}

/// Returns `usual` for an ordinary run, which says the same of the same code each time; `KINLOG_SEED` when
/// it is set, and the clock's seed in a soak run.
pub fn usual_seed(usual: u64) -> u64 {
    match std::env::var_os("KINLOG_SEED").is_some() || crate::soak::is_on() {
        true => seed(),
        false => usual,
    }
}

/// Returns the seed for a test: `KINLOG_SEED` when set, else the clock's. Print it.
pub fn seed() -> u64 {
    let set = std::env::var("KINLOG_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    set.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |now| now.as_nanos() as u64)
    })
}
