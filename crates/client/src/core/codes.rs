//! Close codes by name. What each range tells the client to do is [`clarion_protocol::close`]'s.

use clarion_protocol::close;

/// What is reported when there was no close frame.
pub(super) const ABNORMAL: u16 = 1006;

/// A short stable name for a close code whose close frame gave no reason.
pub fn close_reason(code: u16) -> String {
    let known = match code {
        close::NORMAL => "normal",
        close::GOING_AWAY => "going_away",
        ABNORMAL => "connection_lost",
        close::MESSAGE_TOO_BIG => "too_large",
        close::UNAUTHENTICATED => "unauthenticated",
        close::FORBIDDEN => "forbidden",
        close::ABUSE => "abuse",
        close::REPLACED => "replaced",
        close::DISCONNECTED => "disconnected",
        close::OVERLOADED => "overloaded",
        close::TOKEN_EXPIRED => "token_expired",
        close::SLOW_CONSUMER => "slow_consumer",
        close::RATE_LIMITED => "rate_limited",
        close::MOVED => "moved",
        close::HEARTBEAT_MISSED => "heartbeat_missed",
        other => return format!("close_{other}"),
    };
    known.to_owned()
}
