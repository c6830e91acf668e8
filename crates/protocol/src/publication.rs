//! One item in a room: what a client or the HTTP API published, as it is kept and delivered.

use std::sync::Arc;

use bytes::Bytes;

use crate::id::ClientId;

/// What was published, without the room and place that it got: section 2.
///
/// It is what a store keeps: with the room's name, epoch and offset it gives the same delivered bytes
/// again. The payload is exactly what the publisher wrote between `"payload":` and the next member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The envelope's `type`: 1 to 64 bytes, no leading `$`.
    pub kind: Box<str>,
    /// The payload as raw JSON text; `null` if there was none.
    pub payload: Bytes,
    /// When the server took it, in milliseconds since 1970; neither unique nor monotonic.
    pub time_ms: u64,
    /// Who published it; `None` if a call of the HTTP API said nothing about that.
    pub from: Option<Arc<Sender>>,
    /// The idempotency key, 1 to 64 bytes; only on what has a log.
    pub key: Option<Box<str>>,
}

/// Who published: `metadata.from`.
///
/// All three are set by the server from the session, or by the HTTP API's caller as far as it chose to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// The session that published; always set when one did.
    pub client: Option<ClientId>,
    /// The user whom the session speaks for.
    pub user: Option<Box<str>>,
    /// What the token says about the user, as raw JSON text.
    pub info: Option<Box<str>>,
}
