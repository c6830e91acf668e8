//! Is the other side still there? Section 4, "Heartbeat".

/// What to do now, and when to ask again (milliseconds of the monotonic clock).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advice {
    Wait { until_ms: u64 },
    Ping { until_ms: u64 },
    Drop,
}

/// Decides from timestamps.
///
/// After `interval + timeout` of silence it asks for a `$ping`, and when nothing at all comes within
/// another `timeout` it gives the connection up. A computer that slept wakes up with a long silence:
/// that too asks first and drops later.
#[derive(Debug)]
pub(super) struct Heartbeat {
    interval_ms: u64,
    timeout_ms: u64,
    heard_at_ms: u64,
    pinged_at_ms: Option<u64>,
}

impl Heartbeat {
    pub(super) fn new(interval_ms: u64, timeout_ms: u64, now_ms: u64) -> Self {
        Self { interval_ms, timeout_ms, heard_at_ms: now_ms, pinged_at_ms: None }
    }

    pub(super) fn heard(&mut self, now_ms: u64) {
        self.heard_at_ms = now_ms;
        self.pinged_at_ms = None;
    }

    pub(super) fn advice(&mut self, now_ms: u64) -> Advice {
        if let Some(pinged_at_ms) = self.pinged_at_ms {
            let until_ms = pinged_at_ms.saturating_add(self.timeout_ms);
            return if until_ms > now_ms { Advice::Wait { until_ms } } else { Advice::Drop };
        }
        let silence_ms = self.interval_ms.saturating_add(self.timeout_ms);
        let until_ms = self.heard_at_ms.saturating_add(silence_ms);
        if until_ms > now_ms { Advice::Wait { until_ms } } else { self.ping(now_ms) }
    }

    /// Asks for a `$ping` at once, unless one is on its way.
    pub(super) fn ping(&mut self, now_ms: u64) -> Advice {
        if self.pinged_at_ms.is_some() {
            return self.advice(now_ms);
        }
        self.pinged_at_ms = Some(now_ms);
        Advice::Ping { until_ms: now_ms.saturating_add(self.timeout_ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_asked_and_then_dropped() {
        let mut heartbeat = Heartbeat::new(25_000, 10_000, 0);
        assert_eq!(heartbeat.advice(0), Advice::Wait { until_ms: 35_000 });
        heartbeat.heard(1_000);
        assert_eq!(heartbeat.advice(35_000), Advice::Wait { until_ms: 36_000 });
        assert_eq!(heartbeat.advice(36_000), Advice::Ping { until_ms: 46_000 });
        assert_eq!(heartbeat.advice(45_999), Advice::Wait { until_ms: 46_000 });
        assert_eq!(heartbeat.advice(46_000), Advice::Drop);
    }

    #[test]
    fn sleep_asks_first_and_anything_heard_counts() {
        let mut heartbeat = Heartbeat::new(25_000, 10_000, 0);
        assert_eq!(heartbeat.advice(900_000), Advice::Ping { until_ms: 910_000 });
        assert_eq!(heartbeat.ping(900_001), Advice::Wait { until_ms: 910_000 });
        heartbeat.heard(905_000);
        assert_eq!(heartbeat.advice(910_000), Advice::Wait { until_ms: 940_000 });
    }
}
