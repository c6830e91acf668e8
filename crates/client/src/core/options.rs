//! What an application can choose.

use clarion_protocol::Position;

/// How a client behaves; every member has a default. Durations are milliseconds.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a command may take. Default 5,000.
    pub timeout_ms: u64,
    /// From the start of a try to the server's welcome. Default 10,000.
    pub connect_timeout_ms: u64,
    /// How long the answer to a heartbeat may take. Default 10,000.
    pub heartbeat_timeout_ms: u64,
    /// Upper bound of the first wait before a try. Default 500.
    pub backoff_base_ms: u64,
    /// Upper bound of every wait before a try. Default 20,000.
    pub backoff_cap_ms: u64,
    /// Acknowledges what was handled in `$user/<me>`. Default true.
    pub auto_ack: bool,
    /// Bounds of what waits for a connection.
    pub outbox: OutboxLimits,
    /// Shown to the server.
    pub token: Option<String>,
    /// Whether somebody answers [`Output::FetchToken`](super::Output::FetchToken).
    pub can_fetch_token: bool,
    /// Name and version for `$hello.sdk`, at most 64 bytes.
    pub sdk: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout_ms: 5_000,
            connect_timeout_ms: 10_000,
            heartbeat_timeout_ms: 10_000,
            backoff_base_ms: 500,
            backoff_cap_ms: 20_000,
            auto_ack: true,
            outbox: OutboxLimits::default(),
            token: None,
            can_fetch_token: false,
            sdk: concat!("clarion-rust/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Bounds of the publications that wait for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Publications. Default 100.
    pub messages: usize,
    /// Their encoded size in bytes. Default 262,144.
    pub bytes: usize,
    /// How long one may wait, in milliseconds. Default 60,000.
    pub age_ms: u64,
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self { messages: 100, bytes: 262_144, age_ms: 60_000 }
    }
}

/// How to join a room. The default is live only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinOptions {
    /// Replay everything after this.
    pub after: Option<Position>,
    /// Replay the newest so many, if there is no `after` or it is no longer in the log.
    pub last: Option<u64>,
    /// Hear who is there and who comes and goes.
    pub members: bool,
}

/// How to publish.
#[derive(Clone, Debug)]
pub struct PublishOptions {
    /// Idempotency key: publications with the same key are one. Made by the SDK when absent, where
    /// the room keeps a log.
    pub key: Option<String>,
    /// Deliver to who is there now; never logged, queued or repeated.
    pub ephemeral: bool,
    /// With `ephemeral`: false keeps it from coming back to this client. Default true.
    pub echo: bool,
    /// Milliseconds until it settles whatever happens. Without it: `timeout_ms` for the server's
    /// answer, after up to `age_ms` of waiting for a connection.
    pub timeout_ms: Option<u64>,
}

impl Default for PublishOptions {
    fn default() -> Self {
        Self { key: None, ephemeral: false, echo: true, timeout_ms: None }
    }
}

/// Which part of a log to read: its end, unless a bound is set. At most one of the bounds may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryOptions {
    /// The first `limit` publications above this position.
    pub after: Option<Position>,
    /// The last `limit` publications below this position.
    pub before: Option<Position>,
    /// At most this many; the server may send fewer. Default 50.
    pub limit: Option<u64>,
}

/// Which page of the members to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MembersOptions {
    /// The last `client` of the page before.
    pub after: Option<String>,
    /// At most this many; the server may send fewer, and decides if this is absent.
    pub limit: Option<u64>,
}
