//! What the front counts, and the lines that the log gets of it.

use super::tls::TlsCounts;
use crate::worker::Clock;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

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
    /// A token that is no good, of a client that cannot be told otherwise.
    Unauthenticated,
    /// There are as many connections as are allowed.
    Full,
    /// Too many came in too short a time, or from one address.
    Limited,
    /// The server is about to stop.
    Draining,
    /// The socket went away under the answer.
    Lost,
}

impl Outcome {
    const ALL: [(Self, &'static str); 9] = [
        (Self::Accepted, "accepted"),
        (Self::Malformed, "malformed"),
        (Self::Subprotocol, "subprotocol"),
        (Self::Origin, "origin"),
        (Self::Unauthenticated, "unauthenticated"),
        (Self::Full, "full"),
        (Self::Limited, "limited"),
        (Self::Draining, "draining"),
        (Self::Lost, "lost"),
    ];
}

/// A limit of the front, by the name of its setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// WebSocket connections of the process.
    Connections,
    /// HTTP connections of the process.
    HttpConnections,
    /// Bytes of a request's body.
    HttpBodyBytes,
    /// Memory of the process.
    MemoryBytes,
    /// WebSocket connections of one address.
    ConnectionsPerIp,
    /// Handshakes a second.
    Handshakes,
    /// Handshakes a second of one address.
    HandshakesPerIp,
    /// Requests a second of one address.
    RequestsPerIp,
    /// Requests a second with one API key.
    RequestsPerKey,
    /// Not of `limits`: the address is banned.
    Bans,
}

impl Limit {
    const ALL: [(Self, &'static str); 10] = [
        (Self::Connections, "connections"),
        (Self::HttpConnections, "http_connections"),
        (Self::HttpBodyBytes, "http_body_bytes"),
        (Self::MemoryBytes, "memory_bytes"),
        (Self::ConnectionsPerIp, "connections_per_ip"),
        (Self::Handshakes, "handshakes_per_s"),
        (Self::HandshakesPerIp, "handshakes_per_s_per_ip"),
        (Self::RequestsPerIp, "requests_per_s_per_ip"),
        (Self::RequestsPerKey, "requests_per_s_per_key"),
        (Self::Bans, "bans"),
    ];
}

/// Everything that the front counts since the start.
#[derive(Debug)]
pub(crate) struct Counts {
    clock: Clock,
    handshakes: [Tally; Outcome::ALL.len()],
    limits: [Tally; Limit::ALL.len()],
    requests: Requests,
    pub(crate) tls: TlsCounts,
}

/// How often something happened, and how much of that the log knows.
#[derive(Debug, Default)]
struct Tally {
    count: AtomicU64,
    logged: AtomicU64,
    /// When the last line was written, seconds on the monotonic clock, plus one.
    logged_s: AtomicU64,
}

/// HTTP requests by route and status.
///
/// There are as many entries as there are routes and statuses in the source; no peer adds to them.
#[derive(Debug, Default)]
struct Requests(Mutex<BTreeMap<(&'static str, u16), u64>>);

impl Counts {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            handshakes: Default::default(),
            limits: Default::default(),
            requests: Requests::default(),
            tls: TlsCounts::default(),
        }
    }

    /// A handshake ended. Of refusals the log gets one line a second and kind.
    pub(crate) fn handshake(&self, outcome: Outcome) {
        let tally = &self.handshakes[outcome as usize];
        if outcome == Outcome::Accepted {
            tally.count.fetch_add(1, Relaxed);
        } else if let Some(count) = tally.hit(self.now_s()) {
            let outcome = Outcome::ALL[outcome as usize].1;
            tracing::info!(outcome, count, "handshakes refused");
        }
    }

    /// A limit was met, if by one peer by that. The log gets one line a second and limit.
    pub(crate) fn limit(&self, limit: Limit, peer: Option<IpAddr>) {
        if let Some(count) = self.limits[limit as usize].hit(self.now_s()) {
            log_limit(Limit::ALL[limit as usize].1, count, peer);
        }
    }

    /// A request was answered. `route` is one of the source's, not the peer's.
    pub(crate) fn request(&self, route: &'static str, status: u16) {
        *self.requests.lock().entry((route, status)).or_default() += 1;
    }

    /// Writes the lines of what happened since the last ones and was not followed by more.
    pub(crate) fn log_rest(&self) {
        for ((_, outcome), tally) in Outcome::ALL.iter().zip(&self.handshakes).skip(1) {
            let count = tally.rest();
            if count > 0 {
                tracing::info!(outcome, count, "handshakes refused");
            }
        }
        for ((_, limit), tally) in Limit::ALL.iter().zip(&self.limits) {
            let count = tally.rest();
            if count > 0 {
                log_limit(limit, count, None);
            }
        }
    }

    /// Every outcome's name and count.
    pub(crate) fn handshakes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = Outcome::ALL.into_iter().map(|(_, name)| name);
        names.zip(self.handshakes.iter().map(|tally| tally.count.load(Relaxed)))
    }

    /// Every limit's name and how often it was met.
    pub(crate) fn limits(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = Limit::ALL.into_iter().map(|(_, name)| name);
        names.zip(self.limits.iter().map(|tally| tally.count.load(Relaxed)))
    }

    /// Requests by route and status.
    pub(crate) fn requests(&self) -> BTreeMap<(&'static str, u16), u64> {
        self.requests.lock().clone()
    }

    fn now_s(&self) -> u64 {
        self.clock.mono_us() / 1_000_000
    }
}

/// The line about a limit, wherever it was met; `peer` is the last one that did.
pub(crate) fn log_limit(limit: &str, count: u64, peer: Option<IpAddr>) {
    let peer = peer.map(tracing::field::display);
    tracing::warn!(limit, count, peer, "limit met");
}

impl Tally {
    /// Counts one; how many a line should tell now, if it is time for one.
    fn hit(&self, now_s: u64) -> Option<u64> {
        self.count.fetch_add(1, Relaxed);
        let last = self.logged_s.load(Relaxed);
        // Of those that see a new second at the same time, one writes the line.
        let mine = last <= now_s
            && self.logged_s.compare_exchange(last, now_s + 1, Relaxed, Relaxed).is_ok();
        let count = if mine { self.rest() } else { 0 };
        (count > 0).then_some(count)
    }

    /// How many the log does not know of; it does from now on.
    fn rest(&self) -> u64 {
        let count = self.count.load(Relaxed);
        count.saturating_sub(self.logged.swap(count, Relaxed))
    }
}

impl Requests {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(&'static str, u16), u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn outcomes_and_limits_are_counted_under_their_own_names() {
        let counts = Counts::new(Clock::start());
        for (index, (outcome, _)) in Outcome::ALL.into_iter().enumerate() {
            (0..=index).for_each(|_| counts.handshake(outcome));
        }
        for (index, (name, count)) in counts.handshakes().enumerate() {
            assert_eq!((name, count), (Outcome::ALL[index].1, index as u64 + 1));
        }
        for (index, (limit, _)) in Limit::ALL.into_iter().enumerate() {
            (0..=index).for_each(|_| counts.limit(limit, None));
        }
        for (index, (name, count)) in counts.limits().enumerate() {
            assert_eq!((name, count), (Limit::ALL[index].1, index as u64 + 1));
        }
    }

    #[test]
    fn a_kind_gets_one_line_a_second_with_all_that_came_since_the_last() {
        let tally = Tally::default();
        assert_eq!(tally.hit(0), Some(1), "the first is told at once");
        assert_eq!((tally.hit(0), tally.hit(0)), (None, None));
        assert_eq!(tally.hit(1), Some(3));
        assert_eq!((tally.hit(1), tally.rest(), tally.rest()), (None, 1, 0));
        assert_eq!(tally.hit(9), Some(1));
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
