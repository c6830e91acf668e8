//! Close codes and what each tells a client: section 6.

/// The connection ended as it should; by the client, it also ends the session.
pub const NORMAL: u16 = 1000;
/// The server stops, without a slot for this client.
pub const GOING_AWAY: u16 = 1001;
/// The peer broke RFC 6455.
pub const PROTOCOL_ERROR: u16 = 1002;
/// A binary message, which no negotiated format of ours has.
pub const UNSUPPORTED_DATA: u16 = 1003;
/// A text message that is not UTF-8.
pub const INVALID_DATA: u16 = 1007;
/// A message that breaks a rule which no other code names.
pub const POLICY_VIOLATION: u16 = 1008;
/// A message over `limits.message_bytes`.
pub const MESSAGE_TOO_BIG: u16 = 1009;
/// A bug or failure of ours.
pub const INTERNAL_ERROR: u16 = 1011;

/// Nobody within the handshake time, or credentials that are not valid.
pub const UNAUTHENTICATED: u16 = 4001;
/// Known, and not allowed to connect.
pub const FORBIDDEN: u16 = 4003;
/// Repeated violations.
pub const ABUSE: u16 = 4004;
/// A newer connection resumed this session.
pub const REPLACED: u16 = 4005;
/// An operator disconnected this session.
pub const DISCONNECTED: u16 = 4006;

/// The server has no room for this connection now.
pub const OVERLOADED: u16 = 4100;
/// The token's time is over: the client fetches a new one, then reconnects.
pub const TOKEN_EXPIRED: u16 = 4102;
/// The client read too slowly for longer than the grace time.
pub const SLOW_CONSUMER: u16 = 4108;
/// Too many messages for too long.
pub const RATE_LIMITED: u16 = 4129;

/// The server drains; the client comes back in the slot that `$reconnect` gave it.
pub const MOVED: u16 = 4200;
/// Nothing came within `heartbeat.timeout` of a Ping.
pub const HEARTBEAT_MISSED: u16 = 4201;

/// What a client does after a close, by the range of its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// It does not reconnect by itself.
    Stop,
    /// It reconnects with full-jitter backoff.
    Backoff,
    /// It reconnects in the slot that it was given, else after a random 0 to 5 s.
    Slot,
}

/// What a client does after a close with `code`; every unknown code is [`Policy::Backoff`].
///
/// 1005, 1006 and 1015 are never sent; they are what a client's library reports when there was no
/// code, no close frame and no TLS.
pub fn policy(code: u16) -> Policy {
    match code {
        1000 | 1002 | 1003 | 1007..=1010 | 4000..=4099 => Policy::Stop,
        4200..=4299 => Policy::Slot,
        _ => Policy::Backoff,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // [6.stop] [6.back] [6.slot]
    #[test]
    fn ranges_are_those_of_section_6() {
        let stop = [1000, 1002, 1003, 1007, 1008, 1009, 1010, 4000, 4001, 4006, 4099];
        let backoff = [0, 999, 1001, 1004, 1005, 1006, 1011, 1015, 1016, 3000, 4100, 4199, 4300];
        assert!(stop.iter().all(|&code| policy(code) == Policy::Stop));
        assert!(backoff.iter().all(|&code| policy(code) == Policy::Backoff));
        assert!([4200, 4201, 4299].iter().all(|&code| policy(code) == Policy::Slot));
    }
}
