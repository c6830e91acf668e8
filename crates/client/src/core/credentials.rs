//! What the client shows at the door: a token, and after the first `$welcome` a ticket.

use std::fmt;

use super::codec::Welcome;
use super::time::Now;

/// Why a token is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenReason {
    /// For the first time.
    Connect,
    /// The last was refused, or its time is over.
    Expired,
    /// It expires soon; the connection stays.
    Refresh,
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// This user may not connect: the client stops.
    Refused(String),
    /// It could not be fetched: the client tries again with backoff.
    Failed(String),
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Refused(why) | Self::Failed(why)) = self;
        f.write_str(why)
    }
}

impl std::error::Error for TokenError {}

/// Token and ticket.
///
/// The token is kept and sent beside the ticket. A server that cannot use the ticket then falls back
/// to the token and not to a guest, and a thousand clients that resume ask nobody for a new one.
pub(super) struct Credentials {
    can_fetch: bool,
    token: Option<String>,
    /// With the end of its life, in milliseconds of the monotonic clock.
    ticket: Option<(String, u64)>,
    /// Milliseconds since 1970.
    token_expires_at_ms: u64,
    refused: bool,
    fresh: bool,
}

impl Credentials {
    pub(super) fn new(token: Option<String>, can_fetch: bool) -> Self {
        Self {
            can_fetch,
            token,
            ticket: None,
            token_expires_at_ms: u64::MAX,
            refused: false,
            fresh: false,
        }
    }

    pub(super) fn can_refresh(&self) -> bool {
        self.can_fetch
    }

    /// What to fetch a token for before connecting; `None` when there is nothing to wait for.
    pub(super) fn prepare(&mut self, now: Now) -> Option<TokenReason> {
        let expired = self.refused || now.wall_ms >= self.token_expires_at_ms;
        self.fresh = false;
        if !self.can_fetch || (self.token.is_some() && !expired) {
            return None;
        }
        Some(if expired { TokenReason::Expired } else { TokenReason::Connect })
    }

    /// Takes a token. One that was fetched for this very try is `fresh`.
    pub(super) fn fetched(&mut self, token: String, fresh: bool) {
        self.token = Some(token);
        self.refused = false;
        self.fresh = fresh;
        self.token_expires_at_ms = u64::MAX;
    }

    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    pub(super) fn ticket(&self, now: Now) -> Option<&str> {
        self.ticket.as_ref().filter(|(_, end_ms)| now.mono_ms < *end_ms).map(|(text, _)| &**text)
    }

    pub(super) fn welcomed(&mut self, welcome: &mut Welcome, now: Now) {
        // If it is refused later, that is since it was revoked, and there may be another.
        self.fresh = false;
        let ttl_ms = welcome.ticket_ttl_ms.unwrap_or(u64::MAX);
        let end_ms = now.mono_ms.saturating_add(ttl_ms);
        self.ticket = welcome.ticket.take().map(|ticket| (ticket, end_ms));
        self.expires_at(welcome.expires_at_ms);
    }

    /// The server says until when the token is good.
    pub(super) fn expires_at(&mut self, wall_ms: Option<u64>) {
        self.token_expires_at_ms = wall_ms.unwrap_or(u64::MAX);
    }

    /// The server refused what it was shown. Returns whether another try with a new token makes
    /// sense: it does not when the refused one had just been fetched, or there is nobody to ask.
    pub(super) fn refuse(&mut self) -> bool {
        self.forget_session();
        self.refused = true;
        self.can_fetch && !self.fresh
    }

    /// The session is over: the next connection is a new one.
    pub(super) fn forget_session(&mut self) {
        self.ticket = None;
    }
}
