//! What the front counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// How a WebSocket handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is a connection.
    Accepted,
    /// It breaks a rule of RFC 6455.
    Malformed,
    /// It offers only subprotocols that we do not speak.
    Subprotocol,
    /// A page that may not.
    Origin,
    /// There are as many connections as are allowed.
    Full,
    /// The server is about to stop.
    Draining,
    /// The socket went away under the answer.
    Lost,
}

impl Outcome {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Accepted, "accepted"),
        (Self::Malformed, "malformed"),
        (Self::Subprotocol, "subprotocol"),
        (Self::Origin, "origin"),
        (Self::Full, "full"),
        (Self::Draining, "draining"),
        (Self::Lost, "lost"),
    ];
}

/// Handshakes since the start, by outcome.
#[derive(Debug, Default)]
pub(crate) struct Handshakes([AtomicU64; Outcome::ALL.len()]);

impl Handshakes {
    pub(crate) fn count(&self, outcome: Outcome) {
        self.0[outcome as usize].fetch_add(1, Relaxed);
    }

    /// Every outcome's name and count.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Outcome::ALL
            .into_iter()
            .map(|(outcome, name)| (name, self.0[outcome as usize].load(Relaxed)))
    }
}

/// A number of things that are there now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauge(Arc<AtomicUsize>);

/// One of them; no longer there when dropped.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Gauge {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// Counts one more, if there are fewer than `max`.
    pub(crate) fn enter(&self, max: usize) -> Option<Counted> {
        let one_more = |count: usize| (count < max).then_some(count + 1);
        self.0.fetch_update(Relaxed, Relaxed, one_more).ok()?;
        Some(Counted(self.clone()))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_counted_under_their_own_names() {
        let handshakes = Handshakes::default();
        for (index, (outcome, _)) in Outcome::ALL.into_iter().enumerate() {
            (0..=index).for_each(|_| handshakes.count(outcome));
        }
        for (index, (name, count)) in handshakes.counts().enumerate() {
            assert_eq!((name, count), (Outcome::ALL[index].1, index as u64 + 1));
        }
    }

    #[test]
    fn a_gauge_has_a_bound_and_goes_down_again() {
        let gauge = Gauge::default();
        let first = gauge.enter(1).unwrap();
        assert!(gauge.enter(1).is_none());
        drop(first);
        assert_eq!(gauge.count(), 0);
        assert!(gauge.enter(1).is_some());
    }
}
