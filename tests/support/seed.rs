//! Chosen by chance, and again the same when asked: `TATARA_SEED` repeats a run whose seed was printed.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

static SEED: LazyLock<u64> = LazyLock::new(|| {
    let given = std::env::var("TATARA_SEED").ok();
    let seed = match given {
        Some(text) => text.parse().unwrap_or_else(|_| panic!("TATARA_SEED is `{text}`; expected a number")),
        // Digits enough to differ from run to run, few enough to type.
        None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() % 1_000_000),
    };
    eprintln!("TATARA_SEED={seed} repeats what was chosen here");
    seed
});

/// The seed of this run; printed at its first use.
#[must_use]
pub fn seed() -> u64 {
    *SEED
}

/// A number in which every bit depends on every bit of `number` (splitmix64).
#[must_use]
pub fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// All of `list` when the whole matrix is run (`make faults` sets `TATARA_ALL`), else `count` of them, in their order.
/// `salt` has each list chosen from differently.
#[must_use]
pub fn some<T: Clone>(list: &[T], count: usize, salt: u64) -> Vec<T> {
    if std::env::var_os("TATARA_ALL").is_some() {
        return list.to_vec();
    }
    let mut order: Vec<usize> = (0..list.len()).collect();
    order.sort_by_key(|i| mixed(seed() ^ mixed(salt) ^ *i as u64));
    order.truncate(count);
    order.sort_unstable();
    order.into_iter().map(|i| list[i].clone()).collect()
}
