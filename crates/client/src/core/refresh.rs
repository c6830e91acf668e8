//! Replaces the token on the open connection when the server says that it expires soon.

use super::backoff::Backoff;
use super::options::Options;
use super::random::Random;

/// At least this long between two tries to replace a token that still works.
const AGAIN_MS: u64 = 1_000;

/// When to try that again.
///
/// What fails is tried again with backoff, for as long as this connection lasts: the worst that can
/// happen is that the server closes it with 4102, and then a token is fetched before coming back.
#[derive(Default)]
pub(super) struct Refresh {
    backoff: Backoff,
    again_at_ms: Option<u64>,
}

impl Refresh {
    pub(super) fn failed(&mut self, now_ms: u64, options: &Options, random: &mut Random) {
        let wait_ms = self.backoff.next_ms(random, options.backoff_base_ms, options.backoff_cap_ms);
        self.again_at_ms = Some(now_ms.saturating_add(AGAIN_MS).saturating_add(wait_ms));
    }

    pub(super) fn succeeded(&mut self) {
        self.backoff.reset();
    }

    /// Tells, once, that it is time to try again.
    pub(super) fn is_due(&mut self, now_ms: u64) -> bool {
        self.again_at_ms.take_if(|at_ms| *at_ms <= now_ms).is_some()
    }

    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        self.again_at_ms
    }

    /// The connection is gone.
    pub(super) fn stop(&mut self) {
        self.again_at_ms = None;
    }
}
