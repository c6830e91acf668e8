//! One item in a room.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clarion_protocol::Position;
use serde::{Deserialize, Serialize};

use super::json::{Json, present};

/// One item in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Publication {
    /// The envelope's `type`.
    pub kind: String,
    /// What was published.
    pub payload: Json,
    /// Where.
    pub room: String,
    /// Its place in the room's log; `None` if it was not logged.
    pub position: Option<Position>,
    /// When the server took it, in milliseconds since 1970; neither unique nor monotonic: order by
    /// offset. 0 if the server did not say.
    pub time_ms: u64,
    /// Who published.
    pub from: Sender,
    /// Its idempotency key, if it had one.
    pub key: Option<String>,
}

impl Publication {
    /// When the server took it.
    pub fn time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.time_ms)
    }
}

/// Who published. What is absent was not set by the HTTP API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Sender {
    /// The session; one's own publications are recognised by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The user whom the session speaks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What the token says about the user.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub info: Option<Json>,
}
