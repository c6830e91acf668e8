//! What one shard counted. Plain numbers; summed over workers when somebody asks.

use std::collections::BTreeMap;

/// Totals since the start, and gauges of this moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Gauge: connections, those still shaking hands included.
    pub connections: u64,
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
    /// Connections ended, by the close code that was sent or received; 1006 for none.
    pub closes: BTreeMap<u16, u64>,
    /// High-water mark of one connection's queued bytes since the last time it was asked for.
    pub outbox_bytes_max: u64,
}

impl Counters {
    /// Adds another shard's figures to these.
    pub fn add(&mut self, other: &Self) {
        for (sum, value) in [
            (&mut self.connections, other.connections),
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
        self.outbox_bytes_max = self.outbox_bytes_max.max(other.outbox_bytes_max);
    }
}
