//! What the core wants done, and what it tells.

use std::sync::Arc;
use std::time::Duration;

use super::codec::{Ack, Gap, HistoryPage, Limits, MembersPage, Publication};
use super::commands::ConnId;
use super::credentials::TokenReason;
use super::errors::{ClientError, CommandError, PublishError};
use super::members::MembersSnapshot;
use super::membership::RoomState;
use super::status::{ClientState, StateEvent};

/// One call of the application that has an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// One fetch of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FetchId(pub(super) u64);

/// What the core wants done or told, in order.
#[non_exhaustive]
pub enum Output {
    /// Open a socket, offering [`clarion_protocol::codec::SUBPROTOCOL_JSON`]; then `on_open`, or
    /// `on_close` if that fails.
    Open {
        /// What this connection is called from now on.
        conn: ConnId,
        /// Where, if not at the client's own address: the server said so.
        url: Option<String>,
    },
    /// Send this message.
    Send {
        /// On this connection.
        conn: ConnId,
        /// As one text message.
        text: String,
    },
    /// Close by handshake, without waiting for it. What the connection still says is ignored.
    Close {
        /// This connection.
        conn: ConnId,
        /// The close code.
        code: u16,
        /// The reason.
        reason: &'static str,
    },
    /// Fetch a token, then `on_token`. A newer fetch makes an older one pointless.
    FetchToken {
        /// This fetch.
        fetch: FetchId,
        /// Why.
        reason: TokenReason,
    },
    /// A call is over.
    Done {
        /// Which.
        call: CallId,
        /// How.
        result: Result<Outcome, CommandError>,
    },
    /// A call of `publish` failed.
    PublishFailed {
        /// Which.
        call: CallId,
        /// Why.
        error: PublishError,
    },
    /// Something happened to the client.
    Client(ClientEvent),
    /// Something happened in a room.
    Room(Arc<str>, RoomEvent),
}

/// What a call that succeeded gives.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is done: `join`, `leave`, `set_state`, `ack`.
    Done,
    /// `publish`.
    Published(Ack),
    /// `history`.
    History(HistoryPage),
    /// `list_members`.
    Members(MembersPage),
    /// `ping`: the way to the server and back.
    Pong(Duration),
}

/// What happens to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientEvent {
    /// It stands elsewhere now.
    State(StateEvent<ClientState>),
    /// The server joined me to a room that I had not asked for.
    Room(Arc<str>),
    /// Something went wrong that no call reports.
    Error(ClientError),
}

/// What happens in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RoomEvent {
    /// The client stands elsewhere in it now.
    State(StateEvent<RoomState>),
    /// A publication.
    Publication(Arc<Publication>),
    /// Something was lost for good, and what follows comes after it.
    Gap(Gap),
    /// Back after a lost connection, or new in `$user/<me>`: the missed publications `from..=to`
    /// follow, all of them. None were missed if `to` is below `from`.
    Recovered {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// Who is here now, if joined with `members`.
    Members(Arc<MembersSnapshot>),
}

/// Who the server says I am. Kept while reconnecting.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Session {
    /// Public id of this session; stable over reconnects.
    pub client: String,
    /// Whom it speaks for.
    pub user: String,
    /// It is the one from before the connection was lost.
    pub resumed: bool,
    /// What the server takes.
    pub limits: Limits,
}
