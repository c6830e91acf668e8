//! What one shard counted. Plain numbers; summed over workers when somebody asks.

use crate::connection::Phase;
use clarion_protocol::close;
use std::collections::BTreeMap;

/// Totals since the start, and gauges of this moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Gauge: connections, those still shaking hands included.
    pub connections: u64,
    /// Gauge: of them, those that have no session yet.
    pub greeting: u64,
    /// Gauge: of them, those with a session.
    pub sessions: u64,
    /// Gauge: of them, those on `/echo`.
    pub echoes: u64,
    /// Gauge: of them, those whose closing handshake is under way, or only their end left to come.
    pub closing: u64,
    /// Gauge: members that read the log, since they are behind their room.
    pub behind: u64,
    /// Gauge: revocations that this worker knows, some of which may be over; all know the same.
    pub revocations: u64,
    /// Gauge: how many publications the last of them is behind.
    pub lag: u64,
    /// Gauge: rooms whose home this is.
    pub rooms: u64,
    /// Gauge: members of those rooms, absent ones in their grace included.
    pub members: u64,
    /// WebSocket messages received.
    pub messages_in: u64,
    /// Messages queued for clients: deliveries, replies and the rest.
    pub messages_out: u64,
    /// Bytes received, after the handshake.
    pub bytes_in: u64,
    /// Bytes queued for clients.
    pub bytes_out: u64,
    /// Publications accepted.
    pub publications: u64,
    /// Publications queued for members, one for each member.
    pub deliveries: u64,
    /// Sessions resumed with a ticket.
    pub resumed: u64,
    /// Members that fell back to reading the log.
    pub fell_behind: u64,
    /// `$gap`s sent.
    pub gaps: u64,
    /// Messages compressed; one that was compressed once for many counts once.
    pub deflated_messages: u64,
    /// Their bytes before.
    pub deflated_plain_bytes: u64,
    /// Their bytes after.
    pub deflated_bytes: u64,
    /// Compressed messages received.
    pub inflated_messages: u64,
    /// Their bytes, inflated.
    pub inflated_plain_bytes: u64,
    /// Their bytes as they came.
    pub inflated_bytes: u64,
    /// `$error`s by name.
    pub errors: BTreeMap<&'static str, u64>,
    /// Connections ended, by the close code that was sent or received; 1006 for none, 0 for one that
    /// the peer made up, so that peers do not decide how many entries there are.
    pub closes: BTreeMap<u16, u64>,
    /// How often a limit was met, by the name of its setting in `limits`.
    pub limits: BTreeMap<&'static str, u64>,
}

impl Counters {
    /// Adds another shard's figures to these.
    pub fn add(&mut self, other: &Self) {
        for (sum, value) in [
            (&mut self.connections, other.connections),
            (&mut self.greeting, other.greeting),
            (&mut self.sessions, other.sessions),
            (&mut self.echoes, other.echoes),
            (&mut self.closing, other.closing),
            (&mut self.behind, other.behind),
            (&mut self.rooms, other.rooms),
            (&mut self.members, other.members),
            (&mut self.messages_in, other.messages_in),
            (&mut self.messages_out, other.messages_out),
            (&mut self.bytes_in, other.bytes_in),
            (&mut self.bytes_out, other.bytes_out),
            (&mut self.publications, other.publications),
            (&mut self.deliveries, other.deliveries),
            (&mut self.resumed, other.resumed),
            (&mut self.fell_behind, other.fell_behind),
            (&mut self.gaps, other.gaps),
            (&mut self.deflated_messages, other.deflated_messages),
            (&mut self.deflated_plain_bytes, other.deflated_plain_bytes),
            (&mut self.deflated_bytes, other.deflated_bytes),
            (&mut self.inflated_messages, other.inflated_messages),
            (&mut self.inflated_plain_bytes, other.inflated_plain_bytes),
            (&mut self.inflated_bytes, other.inflated_bytes),
        ] {
            *sum += value;
        }
        for (name, count) in &other.errors {
            *self.errors.entry(name).or_default() += count;
        }
        for (code, count) in &other.closes {
            *self.closes.entry(*code).or_default() += count;
        }
        for (name, count) in &other.limits {
            *self.limits.entry(name).or_default() += count;
        }
        self.lag = self.lag.max(other.lag);
        self.revocations = self.revocations.max(other.revocations);
    }

    /// A limit was met: `name` is that of its setting in `limits`.
    pub(crate) fn limit(&mut self, name: &'static str) {
        *self.limits.entry(name).or_default() += 1;
    }

    /// A connection ended with `code`.
    pub(crate) fn closed(&mut self, code: u16) {
        let known = match code {
            close::UNAUTHENTICATED
            | close::FORBIDDEN
            | close::ABUSE
            | close::REPLACED
            | close::DISCONNECTED
            | close::OVERLOADED
            | close::TOKEN_EXPIRED
            | close::SLOW_CONSUMER
            | close::RATE_LIMITED
            | close::MOVED
            | close::HEARTBEAT_MISSED
            | 1000..=1015 => code,
            _ => 0,
        };
        *self.closes.entry(known).or_default() += 1;
    }

    /// So many more connections are in a phase.
    pub(crate) fn phase(&mut self, phase: Phase, more: i64) {
        let gauge = match phase {
            Phase::Echo => &mut self.echoes,
            Phase::Hello | Phase::Authenticating | Phase::Binding => &mut self.greeting,
            Phase::Open => &mut self.sessions,
            Phase::Closing | Phase::Closed => &mut self.closing,
        };
        *gauge = gauge.wrapping_add_signed(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_peers_make_up_share_one_entry() {
        let mut counters = Counters::default();
        (1000..5000).for_each(|code| counters.closed(code));
        assert_eq!(counters.closes[&1000], 1);
        assert_eq!(counters.closes[&close::SLOW_CONSUMER], 1);
        assert!(counters.closes.len() < 40 && counters.closes[&0] > 3_900);
    }

    #[test]
    fn a_connection_is_counted_where_it_is() {
        let mut counters = Counters::default();
        counters.phase(Phase::Hello, 1);
        counters.phase(Phase::Hello, -1);
        counters.phase(Phase::Open, 1);
        assert_eq!((counters.greeting, counters.sessions), (0, 1));
    }
}
