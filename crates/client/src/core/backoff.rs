//! How long to wait before the next try.

use super::random::Random;

/// Full jitter: anywhere between 0 and `min(cap_ms, base_ms * 2^tries)`. `fraction` is below 1.
///
/// The whole interval is random, not only its end: when a node with n clients dies they come back
/// spread evenly over the interval, where "1 s plus a little" would bring them all in one second.
pub fn backoff_delay_ms(tries: u32, fraction: f64, base_ms: u64, cap_ms: u64) -> u64 {
    let bound_ms = cap_ms.min(base_ms.saturating_mul(1 << tries.min(30)));
    (fraction * bound_ms as f64) as u64
}

/// Counts failed tries.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    tries: u32,
}

impl Backoff {
    /// Milliseconds to wait now; each call counts as one more failure.
    pub(super) fn next_ms(&mut self, random: &mut Random, base_ms: u64, cap_ms: u64) -> u64 {
        let delay_ms = backoff_delay_ms(self.tries, random.fraction(), base_ms, cap_ms);
        self.tries = self.tries.saturating_add(1);
        delay_ms
    }

    pub(super) fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bound_doubles_up_to_the_cap() {
        let bounds: Vec<_> =
            (0..8).map(|tries| backoff_delay_ms(tries, 1.0, 500, 20_000)).collect();
        assert_eq!(bounds, [500, 1000, 2000, 4000, 8000, 16_000, 20_000, 20_000]);
        assert_eq!(backoff_delay_ms(u32::MAX, 1.0, 500, 20_000), 20_000);
        assert_eq!(backoff_delay_ms(u32::MAX, 1.0, u64::MAX, u64::MAX), u64::MAX);
    }

    #[test]
    fn waits_are_spread_evenly_over_the_whole_interval() {
        let mut random = Random::new([1; 32]);
        let mut tenths = [0_u32; 10];
        for _ in 0..10_000 {
            let mut backoff = Backoff { tries: 3 };
            tenths[(backoff.next_ms(&mut random, 500, 20_000) / 400) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (900..1100).contains(count)), "{tenths:?}");
    }
}
