//! Random numbers that a seed repeats, so that what a run found can be run again.

use std::time::{Duration, SystemTime};

/// A small generator (xorshift64*); not for secrets.
pub(crate) struct Random(u64);

impl Random {
    /// Returns a generator with the seed in `PROOF_SEED`, else `fixed`; `PROOF_SEED=time` is a new one each time. The
    /// seed is printed, so that a failing test shows it.
    #[expect(clippy::print_stdout, reason = "shown by the test runner when the test fails")]
    pub(crate) fn seeded(fixed: u64) -> Random {
        let seed = match std::env::var("PROOF_SEED") {
            Ok(word) if word == "time" => SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(1, |d| u64::from(d.subsec_nanos()) | d.as_secs() << 32),
            Ok(word) => word.parse().expect("PROOF_SEED is a number, or `time`"),
            Err(_) => fixed,
        };
        println!("PROOF_SEED={seed}");
        Random(seed.max(1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Returns a number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).expect("fits")).expect("fits")
    }

    /// Returns one of these.
    pub(crate) fn one_of<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// Returns a time up to `most`.
    pub(crate) fn up_to(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.next() % u64::try_from(most.as_micros()).expect("fits").max(1))
    }

    /// In a random order. Only the tests that are Linux's need it.
    #[cfg(target_os = "linux")]
    pub(crate) fn shuffle<T>(&mut self, of: &mut [T]) {
        for last in (1..of.len()).rev() {
            of.swap(last, self.below(last + 1));
        }
    }
}
