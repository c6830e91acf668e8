//! Where a client or a room stands, and why.

use std::time::Duration;

/// Where a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientState {
    /// It was made and not yet told to connect.
    Idle,
    /// It tries, or waits for the next try.
    Connecting,
    /// The server has welcomed it.
    Connected,
    /// It was closed, or the server said that trying again makes no sense.
    Closed,
}

/// Where a client or a room stands, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status<S> {
    /// Where.
    pub state: S,
    /// The close code or error code that led here; 0 when neither did.
    pub code: u16,
    /// A short stable name such as `connection_lost` or `forbidden`.
    pub reason: String,
    /// The SDK is trying, or will try, by itself.
    pub will_retry: bool,
    /// After how long it tries again, counted from the change; `None` while it tries or does not
    /// wait.
    pub retry_in: Option<Duration>,
}

/// A change of status. `previous` equals the state when only the next try changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateEvent<S> {
    /// Where it was before.
    pub previous: S,
    /// Where it is now.
    pub status: Status<S>,
}

impl<S> Status<S> {
    /// The usual status: nothing went wrong and nothing is waited for.
    pub(crate) fn new(state: S, reason: impl Into<String>) -> Self {
        Self { state, code: 0, reason: reason.into(), will_retry: false, retry_in: None }
    }

    pub(super) fn code(self, code: u16) -> Self {
        Self { code, ..self }
    }

    pub(super) fn retrying(self) -> Self {
        Self { will_retry: true, ..self }
    }

    pub(super) fn retry_in_ms(self, wait_ms: u64) -> Self {
        Self { will_retry: true, retry_in: Some(Duration::from_millis(wait_ms)), ..self }
    }
}
