//! Waiting between attempts: growing, with jitter, capped.

use std::time::Duration;

/// The first wait.
pub const FIRST: Duration = Duration::from_secs(1);

/// No wait is longer than this: whoever repairs the server or the cable should not stand before an idle machine.
pub const CAP: Duration = Duration::from_secs(60);

/// The waits of one series of attempts.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    attempt: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(FIRST, CAP)
    }
}

impl Backoff {
    /// A series that starts at `first` and doubles until `cap`.
    #[must_use]
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, attempt: 0 }
    }

    /// How long to wait after the attempt that just failed.
    pub fn next_wait(&mut self) -> Duration {
        let wait = wait(self.first, self.cap, self.attempt, random());
        self.attempt = self.attempt.saturating_add(1);
        wait
    }

    /// How many waits were given since the start or the last [`Self::reset`].
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempt
    }

    /// Starts again at the first wait: something went well.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

/// The wait after attempt number `attempt` (from 0): between half and the whole of `first · 2^attempt`, at most `cap`.
///
/// Half is fixed so that a wait is never nothing; half is random so that a rack that lost its server does not come back
/// in step ("equal jitter" in <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>).
/// `random` is the place in the random half, 0 to `u32::MAX`.
#[must_use]
pub fn wait(first: Duration, cap: Duration, attempt: u32, random: u32) -> Duration {
    let grown = 2_u32.checked_pow(attempt).and_then(|factor| first.checked_mul(factor)).unwrap_or(cap);
    let half = grown.min(cap) / 2;
    half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// A random number of the kernel. Without one (the pool is not ready on a machine that just started) the middle does.
fn random() -> u32 {
    let mut bytes = [0; 4];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK) {
        Ok(4) => u32::from_ne_bytes(bytes),
        _ => u32::MAX / 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn stays_between_half_and_whole_of_the_step(attempt in any::<u32>(), random in any::<u32>()) {
            let step = FIRST * 2_u32.saturating_pow(attempt.min(6));
            let step = step.min(CAP);
            let wait = wait(FIRST, CAP, attempt, random);
            prop_assert!(wait >= step / 2 && wait <= step, "{wait:?} of {step:?}");
        }
    }

    #[test]
    fn grows_to_the_cap_and_starts_again() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..10).map(|_| backoff.next_wait()).collect();
        assert!(waits[0] <= FIRST);
        assert!(waits[9] >= CAP / 2);
        assert_eq!(backoff.attempts(), 10);
        backoff.reset();
        assert!(backoff.next_wait() <= FIRST);
    }
}
