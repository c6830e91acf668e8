//! A handle on a client.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::builder::Builder;
use crate::call::{Call, error_of};
use crate::core::{ClientEvent, ClientState, CommandError, Outcome, Session, Status};
use crate::events::Events;
use crate::room::Room;
use crate::shared::{Answer, Handle, Shared, is_closed};

/// How many events wait in a stream, unless its maker says otherwise.
pub(crate) const EVENTS: usize = 1024;

/// A client of one Clarion server: a cheap handle on a task.
///
/// ```text
///             connect               $welcome
///     idle ──────────────► connecting ─────────────► connected
///                           ▲  ▲  │                   │   │
///                 connect   │  └──│───────────────────┘   │
///                           │     │   lost: tries again   │
///                         closed ◄┴───────────────────────┘
///                                   close, or a close code that means stop
/// ```
///
/// `closed` keeps what was wanted: `connect` resumes it. Clones, rooms and calls that wait are
/// handles as well; when the last is dropped, the session is ended as by [`close`](Self::close),
/// and the task ends.
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

impl Client {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { handle: Arc::new(Handle { shared }) }
    }

    /// Begins to make a client of the server at `url`: `ws://host:port/ws`.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder::new(url.into())
    }

    /// Where the client stands, and why.
    pub fn status(&self) -> Status<ClientState> {
        self.handle.shared.look(|core| core.status().clone())
    }

    /// Who the server says I am; `None` before the first welcome.
    pub fn session(&self) -> Option<Session> {
        self.handle.shared.look(|core| core.session().cloned())
    }

    /// How many publications wait for a connection.
    pub fn queued(&self) -> usize {
        self.handle.shared.look(|core| core.queued())
    }

    /// A handle on a room. Nothing happens there before it is told to.
    pub fn room(&self, name: impl Into<String>) -> Room {
        Room::new(self.handle.clone(), name.into().into())
    }

    /// What happens to the client from now on, at most 1,024 events at a time.
    pub fn events(&self) -> Events<ClientEvent> {
        Events::new(self.handle.shared.client_events(EVENTS))
    }

    /// Starts connecting; while waiting for the next try, tries now.
    pub fn connect(&self) {
        self.handle.shared.connect();
    }

    /// The world around the client has changed, for example the network is back: tests the
    /// connection at once, or tries now unless the server asked to wait.
    pub fn wake(&self) {
        self.handle.shared.with(|core, now| core.wake(now));
    }

    /// Ends the session. Every call that waits fails with [`CommandError::Closed`].
    /// [`closed`](Self::closed) waits until the server was told.
    pub fn close(&self) {
        self.handle.shared.with(|core, now| core.close(now));
    }

    /// Waits until the client is connected.
    ///
    /// # Errors
    /// It is closed, and this is why.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub async fn connected(&self) -> Result<Session, Status<ClientState>> {
        let shared = &self.handle.shared;
        let found = shared.wait(|core, _| match core.status().state {
            ClientState::Connected => core.session().cloned().map(Ok),
            ClientState::Closed => Some(Err(core.status().clone())),
            ClientState::Idle | ClientState::Connecting => None,
        });
        found.await
    }

    /// Waits until the client is closed or was never told to connect, and no socket of it is left:
    /// at most 2 s after [`close`](Self::close), however the server behaves.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub async fn closed(&self) {
        self.handle.shared.wait(is_closed).await;
    }

    /// Measures the way to the server and back.
    ///
    /// # Errors
    /// There was no answer in time, or the connection was lost meanwhile.
    pub fn ping(&self) -> Call<Result<Duration, CommandError>> {
        Call::new(
            &self.handle,
            |core, now| core.ping(None, now),
            |answer| match answer {
                Answer::Done(Ok(Outcome::Pong(time))) => Ok(time),
                other => Err(error_of(other)),
            },
        )
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("state", &self.status().state).finish_non_exhaustive()
    }
}
