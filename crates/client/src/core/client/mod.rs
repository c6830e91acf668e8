//! One client: its connections one after the other, and what outlives them.

mod calls;
mod lifecycle;
mod messages;
mod replies;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use clarion_protocol::Position;
use clarion_protocol::close;

use self::lifecycle::{Plan, Purpose, Slot};
use super::backoff::Backoff;
use super::codec::{self, Metadata};
use super::commands::{Commands, ConnId, Owner};
use super::connection::{Connection, End, Step};
use super::credentials::{Credentials, TokenError};
use super::cx::Cx;
use super::errors::{ClientError, CommandError};
use super::key::KeyMaker;
use super::members::MembersSnapshot;
use super::membership::{Membership, RoomState};
use super::options::Options;
use super::outbox::Outbox;
use super::output::{FetchId, Output, Session};
use super::random::Random;
use super::refresh::Refresh;
use super::status::{ClientState, Status};
use super::time::Now;

/// One client of one server.
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
/// `closed` keeps what was wanted: `connect` resumes it.
///
/// Rooms are remembered by name for ever, so there are as many as the application and the server
/// have named. Publications are bounded by the outbox and 1,024 in flight, other commands by 1,024
/// that wait at a time. Joins and leaves are not counted: there are as many as the application made
/// within their time.
pub struct Core {
    cx: Cx,
    status: Status<ClientState>,
    connection: Option<Connection>,
    session: Option<Session>,
    credentials: Credentials,
    refresh: Refresh,
    outbox: Outbox,
    rooms: BTreeMap<Arc<str>, Membership>,
    backoff: Backoff,
    connected_at_ms: u64,
    timer: Option<(u64, Plan)>,
    fetch: Option<(FetchId, Purpose)>,
    slot: Option<Slot>,
    /// Trying earlier than planned is fine: nobody told us to wait.
    may_hurry: bool,
    last_conn: u64,
    last_call: u64,
    last_fetch: u64,
}

/// What the application asks. What has an answer is in `calls`.
impl Core {
    /// Makes a client that is idle. `seed` must come from a source of entropy: jitter and
    /// idempotency keys are derived from it.
    pub fn new(options: Options, seed: [u8; 32]) -> Self {
        let credentials = Credentials::new(options.token.clone(), options.can_fetch_token);
        Self {
            cx: Cx {
                now: Now::default(),
                options,
                out: VecDeque::new(),
                commands: Commands::default(),
                random: Random::new(seed),
                keys: KeyMaker::default(),
                connected: false,
            },
            status: Status::new(ClientState::Idle, "new"),
            connection: None,
            session: None,
            credentials,
            refresh: Refresh::default(),
            outbox: Outbox::default(),
            rooms: BTreeMap::new(),
            backoff: Backoff::default(),
            connected_at_ms: 0,
            timer: None,
            fetch: None,
            slot: None,
            may_hurry: true,
            last_conn: 0,
            last_call: 0,
            last_fetch: 0,
        }
    }

    /// Starts connecting; while waiting for the next try, tries now.
    pub fn connect(&mut self, now: Now) {
        self.cx.now = now;
        let reason = match self.status.state {
            ClientState::Connected => return,
            ClientState::Connecting if self.status.retry_in.is_none() => return,
            ClientState::Connecting => self.status.reason.clone(),
            ClientState::Idle | ClientState::Closed => {
                self.backoff.reset();
                "connect".to_owned()
            }
        };
        self.try_connect(reason);
    }

    /// Ends the session. Every call that still waits fails with `closed`.
    pub fn close(&mut self, now: Now) {
        self.cx.now = now;
        if self.status.state == ClientState::Closed {
            return;
        }
        self.end_connection(close::NORMAL, "");
        self.stop(close::NORMAL, "closed".to_owned());
    }

    /// The world around the client has changed (the network is back, the computer woke up): tests
    /// the connection at once, or tries now unless the server told us to wait.
    pub fn wake(&mut self, now: Now) {
        self.cx.now = now;
        match self.status.state {
            ClientState::Connected => {
                let step = self.connection.as_mut().map(|it| it.probe(now.mono_ms));
                self.step(step.unwrap_or(Step::Nothing));
            }
            ClientState::Connecting if self.may_hurry => self.connect(now),
            ClientState::Connecting | ClientState::Idle | ClientState::Closed => {}
        }
    }
}

/// What came from outside.
impl Core {
    /// The socket is open and the server took the subprotocol.
    pub fn on_open(&mut self, conn: ConnId, now: Now) {
        self.cx.now = now;
        if !self.is_current(conn) {
            return;
        }
        let hello = self.hello();
        self.cx.out.push_back(Output::Send { conn, text: Connection::hello(&hello) });
    }

    /// Something came that is no message: a Ping, or a part of one.
    pub fn on_heard(&mut self, conn: ConnId, now: Now) {
        self.cx.now = now;
        if let Some(connection) = self.connection.as_mut().filter(|it| it.id == conn) {
            connection.heard(now.mono_ms);
        }
    }

    /// The server sent a text message.
    pub fn on_text(&mut self, conn: ConnId, text: &str, now: Now) {
        self.cx.now = now;
        let Some(connection) = self.connection.as_mut().filter(|it| it.id == conn) else { return };
        let step = connection.on_text(text, now.mono_ms);
        self.step(step);
    }

    /// The connection is over, or could not be opened: `code` is that of the close frame, or 1006.
    /// `retry_after_ms` is what an HTTP answer demanded.
    pub fn on_close(
        &mut self,
        conn: ConnId,
        code: u16,
        reason: impl Into<String>,
        retry_after_ms: Option<u64>,
        now: Now,
    ) {
        self.cx.now = now;
        if let Some(connection) = self.connection.take_if(|it| it.id == conn) {
            self.lost(connection.ended(code, reason.into(), retry_after_ms));
        }
    }

    /// Why a connection could not be opened, for people. Before `on_close`.
    pub fn on_connect_error(&mut self, conn: ConnId, why: impl Into<String>, now: Now) {
        self.cx.now = now;
        if self.is_current(conn) {
            self.cx.report(ClientError::Connect(why.into()));
        }
    }

    /// The token was fetched, or could not be.
    pub fn on_token(&mut self, fetch: FetchId, result: Result<String, TokenError>, now: Now) {
        self.cx.now = now;
        let purpose = self.fetch.take_if(|(wanted, _)| *wanted == fetch).map(|(_, it)| it);
        match (purpose, result) {
            (Some(Purpose::Connect), Ok(token)) => {
                self.credentials.fetched(token, true);
                self.open();
            }
            (Some(Purpose::Connect), Err(error)) => self.token_failed(&error),
            (Some(Purpose::Refresh(conn)), Ok(token)) => {
                let payload = codec::refresh_payload(&token);
                self.credentials.fetched(token, false);
                if self.is_current(conn) {
                    let deadline_ms = now.mono_ms.saturating_add(self.cx.options.timeout_ms);
                    self.cx.issue(Owner::Refresh, deadline_ms, |id| {
                        let metadata = Metadata { id: Some(id), ..Metadata::default() };
                        codec::encode("$refresh", &payload, metadata)
                    });
                }
            }
            (Some(Purpose::Refresh(conn)), Err(error)) => {
                if self.is_current(conn) {
                    self.cx.report(ClientError::Token(error.to_string()));
                    self.refresh.failed(now.mono_ms, &self.cx.options, &mut self.cx.random);
                }
            }
            // It comes too late for what it was fetched for, and is as good as any.
            (None, Ok(token)) => self.credentials.fetched(token, false),
            (None, Err(_)) => {}
        }
    }

    /// The socket takes no more for now, or does again: publications wait meanwhile.
    pub fn on_congested(&mut self, congested: bool, now: Now) {
        self.cx.now = now;
        self.outbox.set_congested(congested, &mut self.cx);
    }

    /// Time has passed.
    pub fn on_tick(&mut self, now: Now) {
        self.cx.now = now;
        while let Some((id, owner)) = self.cx.commands.take_late(now.mono_ms) {
            self.settled(id, owner, Err(CommandError::Timeout));
        }
        self.outbox.on_tick(&mut self.cx);
        for membership in self.rooms.values_mut() {
            membership.on_tick(&mut self.cx);
        }
        if self.refresh.is_due(now.mono_ms) {
            self.start_refresh();
        }
        let step = self.connection.as_mut().map(|it| it.on_tick(now.mono_ms));
        self.step(step.unwrap_or(Step::Nothing));
        match self.timer.take_if(|(at_ms, _)| *at_ms <= now.mono_ms) {
            None => {}
            Some((_, Plan::Try(reason))) => self.try_connect(reason),
            Some((_, Plan::Move)) => {
                self.end_connection(close::MOVED, "moved");
                self.lost(End {
                    code: close::MOVED,
                    reason: "moved".to_owned(),
                    retry_after_ms: 0,
                    refused: None,
                });
            }
            Some((_, Plan::GiveUpToken)) => {
                self.fetch = None;
                self.token_failed(&TokenError::Failed("nobody answered in time".to_owned()));
            }
        }
    }
}

/// What is to be done, and what there is to see.
impl Core {
    /// The next thing to do or to tell.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.cx.out.pop_front()
    }

    /// When to call `on_tick` at the latest, in milliseconds of the monotonic clock.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let rooms = self.rooms.values().filter_map(Membership::next_deadline_ms).min();
        let deadlines = [
            rooms,
            self.cx.commands.next_deadline_ms(),
            self.outbox.next_deadline_ms(),
            self.refresh.next_deadline_ms(),
            self.connection.as_ref().map(Connection::next_deadline_ms),
            self.timer.as_ref().map(|(at_ms, _)| *at_ms),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Where the client stands.
    pub fn status(&self) -> &Status<ClientState> {
        &self.status
    }

    /// Who the server says I am; `None` before the first welcome.
    pub fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// How many publications wait for a connection.
    pub fn queued(&self) -> usize {
        self.outbox.len()
    }

    /// Where the client stands in a room; `None` if it was never told to join it.
    pub fn room_status(&self, room: &str) -> Option<&Status<RoomState>> {
        self.rooms.get(room).map(|membership| &membership.status)
    }

    /// The last publication seen in a room. To join from there later, keep it before `leave`.
    pub fn position(&self, room: &str) -> Option<&Position> {
        self.rooms.get(room)?.position.as_ref()
    }

    /// Whether a room keeps a log; unknown before the first join.
    pub fn is_logged(&self, room: &str) -> Option<bool> {
        self.rooms.get(room)?.logged
    }

    /// Who is in a room, if joined with `members`.
    pub fn members(&self, room: &str) -> MembersSnapshot {
        self.rooms.get(room).map_or_else(MembersSnapshot::default, |it| it.members.clone())
    }
}

impl Core {
    fn is_current(&self, conn: ConnId) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.id == conn)
    }
}

/// The room of this name, which is made if it is new.
fn membership<'a>(
    rooms: &'a mut BTreeMap<Arc<str>, Membership>,
    room: &Arc<str>,
) -> &'a mut Membership {
    rooms.entry(room.clone()).or_insert_with(|| Membership::new(room.clone()))
}
