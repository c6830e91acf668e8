//! Keeps a client under the server's `publish_per_s`.

/// A bucket that holds a tenth less than the server's and fills a twentieth slower.
///
/// Repeated violations end in a close code that stops for good, and messages that the network
/// bunches up would otherwise overdraw the server's bucket now and then.
#[derive(Debug)]
pub(super) struct Pace {
    /// Tokens per millisecond; `None` is no limit.
    per_ms: Option<f64>,
    capacity: f64,
    tokens: f64,
    filled_at_ms: u64,
}

impl Pace {
    /// `per_second` 0 is no limit.
    pub(super) fn new(per_second: u64, now_ms: u64) -> Self {
        let capacity = (per_second as f64 * 0.9).floor().max(1.0);
        let per_ms = (per_second > 0).then_some(per_second as f64 * 0.95 / 1000.0);
        Self { per_ms, capacity, tokens: capacity, filled_at_ms: now_ms }
    }

    /// Takes one token and returns 0, or returns the milliseconds until there will be one.
    pub(super) fn take(&mut self, now_ms: u64) -> u64 {
        let Some(per_ms) = self.per_ms else { return 0 };
        let gained = now_ms.saturating_sub(self.filled_at_ms) as f64 * per_ms;
        self.tokens = self.capacity.min(self.tokens + gained);
        self.filled_at_ms = now_ms;
        if self.tokens < 1.0 {
            return (((1.0 - self.tokens) / per_ms).ceil() as u64).max(1);
        }
        self.tokens -= 1.0;
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_under_the_limit_and_says_how_long_to_wait() {
        let mut pace = Pace::new(50, 0);
        let burst = (0..100).take_while(|_| pace.take(0) == 0).count();
        assert_eq!(burst, 45);
        let wait_ms = pace.take(0);
        assert!((1..=22).contains(&wait_ms), "{wait_ms}");
        assert_eq!(pace.take(wait_ms), 0);
        let in_a_minute = (wait_ms..60_000).filter(|&now_ms| pace.take(now_ms) == 0).count();
        assert!((2_800..=2_860).contains(&in_a_minute), "{in_a_minute}");
    }

    #[test]
    fn zero_is_no_limit() {
        let mut pace = Pace::new(0, 0);
        assert!((0..10_000).all(|_| pace.take(0) == 0));
    }
}
