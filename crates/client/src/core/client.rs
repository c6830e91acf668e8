//! One client: its connections one after the other, and what outlives them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use clarion_protocol::close::{self, Policy};
use clarion_protocol::{Position, RoomName};

use super::backoff::Backoff;
use super::codec::{self, Incoming, Json, Metadata, Welcome};
use super::codes::close_reason;
use super::commands::{COMMANDS_MAX, Commands, ConnId, Owner};
use super::connection::{Connection, End, Step};
use super::credentials::{Credentials, TokenError, TokenReason};
use super::errors::{ClientError, CommandError};
use super::key::KeyMaker;
use super::members::MembersSnapshot;
use super::membership::{Membership, RoomState, is_address};
use super::options::{HistoryOptions, JoinOptions, MembersOptions, Options, PublishOptions};
use super::outbox::Outbox;
use super::output::{CallId, ClientEvent, FetchId, Outcome, Output, Session};
use super::random::Random;
use super::refresh::Refresh;
use super::status::{ClientState, StateEvent, Status};
use super::time::Now;

/// A connection that lasted this long was a success: the next failure starts from the beginning.
const STABLE_MS: u64 = 5_000;
/// Come back within this when the server moved us without saying when.
const SLOT_MS: f64 = 5_000.0;
/// What a server takes before it has said what it takes.
const MESSAGE_BYTES: u64 = 65_536;

/// What the parts of the core share.
pub(super) struct Cx {
    pub(super) now: Now,
    pub(super) options: Options,
    pub(super) out: VecDeque<Output>,
    pub(super) commands: Commands,
    pub(super) random: Random,
    pub(super) keys: KeyMaker,
    pub(super) connected: bool,
}

impl Cx {
    pub(super) fn done(&mut self, call: CallId, result: Result<Outcome, CommandError>) {
        self.out.push_back(Output::Done { call, result });
    }

    pub(super) fn issue(
        &mut self,
        owner: Owner,
        deadline_ms: u64,
        build: impl FnOnce(u64) -> String,
    ) -> u64 {
        self.commands.issue(owner, deadline_ms, build, &mut self.out)
    }

    /// Issues a command about a room, with the usual time to be answered in.
    pub(super) fn command(&mut self, owner: Owner, kind: &str, payload: &str, room: &str) -> u64 {
        let deadline_ms = self.now.mono_ms.saturating_add(self.options.timeout_ms);
        self.issue(owner, deadline_ms, |id| {
            let metadata = Metadata { room: Some(room), id: Some(id), ..Metadata::default() };
            codec::encode(kind, payload, metadata)
        })
    }

    fn report(&mut self, error: ClientError) {
        self.out.push_back(Output::Client(ClientEvent::Error(error)));
    }
}

/// What the client does when its timer runs out.
#[derive(Clone, Debug)]
enum Plan {
    /// Tries to connect; the reason is that of the status.
    Try(String),
    /// Moves, in the slot that the server gave.
    Move,
    /// Gives up waiting for a token.
    GiveUpToken,
}

/// What a fetched token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Connect,
    /// For the connection with this id.
    Refresh(ConnId),
}

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
/// have named. Everything else is bounded: publications by the outbox, other commands by 1,024 that
/// wait at a time.
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

/// When and where to come back, as `$reconnect` said.
struct Slot {
    at_ms: u64,
    url: Option<String>,
}

/// What the application asks.
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

    /// Joins, and stays joined over reconnects until `leave`. A timeout fails the call and nothing
    /// else: the room is joined as soon as that is possible.
    pub fn join(
        &mut self,
        room: &str,
        options: JoinOptions,
        timeout_ms: Option<u64>,
        now: Now,
    ) -> CallId {
        let (call, timeout_ms) = self.begin(now, timeout_ms);
        if let Some(room) = self.checked(call, room) {
            membership(&mut self.rooms, &room).join(call, options, timeout_ms, &mut self.cx);
        }
        call
    }

    /// Leaves, and forgets the position.
    pub fn leave(&mut self, room: &str, timeout_ms: Option<u64>, now: Now) -> CallId {
        let (call, timeout_ms) = self.begin(now, timeout_ms);
        match self.rooms.get_mut(room) {
            Some(membership) => membership.leave(call, timeout_ms, &mut self.cx),
            None => self.cx.done(call, Ok(Outcome::Done)),
        }
        call
    }

    /// Publishes. Settles when the server has accepted it to the room's durability, or will not.
    pub fn publish(
        &mut self,
        room: &str,
        kind: impl Into<String>,
        payload: Json,
        options: PublishOptions,
        now: Now,
    ) -> CallId {
        let (call, _) = self.begin(now, None);
        if self.status.state == ClientState::Closed {
            self.cx.publish_failed(call, CommandError::Closed, options.key);
        } else if let Err(rule) = RoomName::parse(room) {
            let limit = rule.limit();
            let error = CommandError::invalid("bad_room", rule.message(), "metadata.room", limit);
            self.cx.publish_failed(call, error, options.key);
        } else {
            let (outbox, cx) = (&mut self.outbox, &mut self.cx);
            outbox.publish(call, room.into(), kind.into(), payload, options, cx);
        }
        call
    }

    /// Reads the log.
    pub fn history(
        &mut self,
        room: &str,
        mut options: HistoryOptions,
        timeout_ms: Option<u64>,
        now: Now,
    ) -> CallId {
        const LIMIT: u64 = 50;
        options.limit.get_or_insert(LIMIT);
        let payload = codec::history_payload(&options);
        self.request(Owner::History, "$history", &payload, Some(room), timeout_ms, now)
    }

    /// Asks who is in a room, a page at a time by client id.
    pub fn list_members(
        &mut self,
        room: &str,
        options: &MembersOptions,
        timeout_ms: Option<u64>,
        now: Now,
    ) -> CallId {
        let payload = codec::members_payload(options);
        self.request(Owner::Members, "$members", &payload, Some(room), timeout_ms, now)
    }

    /// Sets my presence state in a room; it is set again after a reconnect.
    pub fn set_state(
        &mut self,
        room: &str,
        state: Json,
        timeout_ms: Option<u64>,
        now: Now,
    ) -> CallId {
        let text = state.text().to_owned();
        let joined = self.rooms.get_mut(room).is_some_and(|membership| {
            membership.present(state.clone());
            membership.status.state == RoomState::Joined
        });
        if joined {
            return self.request(Owner::Empty, "$state", &text, Some(room), timeout_ms, now);
        }
        let (call, _) = self.begin(now, None);
        if let Some(room) = self.checked(call, room) {
            membership(&mut self.rooms, &room).present(state);
            self.cx.done(call, Ok(Outcome::Done));
        }
        call
    }

    /// In `$user/<me>`: everything up to here was handled.
    pub fn ack(
        &mut self,
        room: &str,
        position: &Position,
        timeout_ms: Option<u64>,
        now: Now,
    ) -> CallId {
        let payload = codec::ack_payload(position);
        self.request(Owner::Empty, "$ack", &payload, Some(room), timeout_ms, now)
    }

    /// Measures the way to the server and back.
    pub fn ping(&mut self, timeout_ms: Option<u64>, now: Now) -> CallId {
        let owner = |call| Owner::Ping(call, now.mono_ms);
        self.request(owner, "$ping", "null", None, timeout_ms, now)
    }

    /// Nobody waits for this call any more. A publication that was not sent will not be; what was
    /// sent, or joined, stays so.
    pub fn cancel(&mut self, call: CallId, now: Now) {
        self.cx.now = now;
        if self.outbox.cancel(call, &mut self.cx) {
            return;
        }
        if self.rooms.values_mut().any(|membership| membership.cancel(call)) {
            return;
        }
        if let Some(id) = self.cx.commands.of_call(call)
            && self.cx.commands.is_revocable(id)
        {
            self.cx.commands.take(id);
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
    fn begin(&mut self, now: Now, timeout_ms: Option<u64>) -> (CallId, u64) {
        self.cx.now = now;
        self.last_call += 1;
        (CallId(self.last_call), timeout_ms.unwrap_or(self.cx.options.timeout_ms))
    }

    /// The room by a name that follows the rules; else the call is over.
    fn checked(&mut self, call: CallId, room: &str) -> Option<Arc<str>> {
        match RoomName::parse(room) {
            Ok(_) => Some(room.into()),
            Err(rule) => {
                let limit = rule.limit();
                let error =
                    CommandError::invalid("bad_room", rule.message(), "metadata.room", limit);
                self.cx.done(call, Err(error));
                None
            }
        }
    }

    fn request(
        &mut self,
        owner: impl FnOnce(CallId) -> Owner,
        kind: &str,
        payload: &str,
        room: Option<&str>,
        timeout_ms: Option<u64>,
        now: Now,
    ) -> CallId {
        let (call, timeout_ms) = self.begin(now, timeout_ms);
        if let Some(room) = room
            && self.checked(call, room).is_none()
        {
            return call;
        }
        if self.status.state == ClientState::Closed {
            self.cx.done(call, Err(CommandError::Closed));
        } else if self.cx.commands.len() >= COMMANDS_MAX {
            self.cx.done(call, Err(CommandError::QueueFull));
        } else {
            let deadline_ms = now.mono_ms.saturating_add(timeout_ms);
            self.cx.issue(owner(call), deadline_ms, |id| {
                codec::encode(kind, payload, Metadata { room, id: Some(id), ..Metadata::default() })
            });
        }
        call
    }

    fn is_current(&self, conn: ConnId) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.id == conn)
    }

    fn try_connect(&mut self, reason: String) {
        self.timer = None;
        self.fetch = None;
        let code = self.status.code;
        self.transition(Status::new(ClientState::Connecting, reason).code(code).retrying());
        match self.credentials.prepare(self.cx.now) {
            None => self.open(),
            Some(reason) => {
                // The fetch has the same time as the connection: it must not hang the client.
                let wait_ms = self.cx.options.connect_timeout_ms;
                let at_ms = self.cx.now.mono_ms.saturating_add(wait_ms);
                self.timer = Some((at_ms, Plan::GiveUpToken));
                self.start_fetch(reason, Purpose::Connect);
            }
        }
    }

    fn start_fetch(&mut self, reason: TokenReason, purpose: Purpose) {
        self.last_fetch += 1;
        let fetch = FetchId(self.last_fetch);
        self.fetch = Some((fetch, purpose));
        self.cx.out.push_back(Output::FetchToken { fetch, reason });
    }

    fn open(&mut self) {
        self.timer = None;
        let url = self.slot.take().and_then(|slot| slot.url);
        self.last_conn += 1;
        let conn = ConnId(self.last_conn);
        self.connection = Some(Connection::new(conn, &self.cx.options, self.cx.now.mono_ms));
        self.cx.out.push_back(Output::Open { conn, url });
    }

    /// The wanted rooms are those of this moment; what does not fit is joined after the welcome.
    fn hello(&mut self) -> String {
        let limits = self.session.as_ref().map(|session| session.limits);
        let bytes = limits.map(|it| it.message_bytes).filter(|it| *it > 0).unwrap_or(MESSAGE_BYTES);
        let budget = bytes / 4 * 3;
        let mut rooms = Vec::new();
        let mut used = 0;
        for (name, membership) in &mut self.rooms {
            if used >= budget {
                break;
            }
            if let Some(entry) = membership.hello(&mut self.cx) {
                used += (name.len() + entry.len() + 4) as u64;
                rooms.push((&**name, entry));
            }
        }
        let token = self.credentials.token();
        let ticket = self.credentials.ticket(self.cx.now);
        codec::hello_payload(token, ticket, &rooms, &self.cx.options.sdk)
    }

    fn step(&mut self, step: Step<'_>) {
        match step {
            Step::Nothing => {}
            Step::Send(text) => {
                if let Some(connection) = &self.connection {
                    self.cx.out.push_back(Output::Send { conn: connection.id, text });
                }
            }
            Step::Malformed(why) => self.cx.report(ClientError::Malformed(why)),
            Step::Welcomed(welcome) => self.welcomed(welcome),
            Step::Incoming(incoming) => self.receive(incoming),
            Step::Dropped(end) => {
                self.end_connection(close::HEARTBEAT_MISSED, "");
                self.lost(end);
            }
        }
    }

    fn welcomed(&mut self, mut welcome: Box<Welcome>) {
        let Some(conn) = self.connection.as_ref().map(|connection| connection.id) else { return };
        self.credentials.welcomed(&mut welcome, self.cx.now);
        let Welcome { client, user, resumed, limits, .. } = *welcome;
        self.session = Some(Session { client, user, resumed, limits });
        self.connected_at_ms = self.cx.now.mono_ms;
        self.cx.connected = true;
        let reason = if resumed { "resumed" } else { "welcome" };
        self.transition(Status::new(ClientState::Connected, reason));
        self.cx.commands.attach(conn, &mut self.cx.out);
        for membership in self.rooms.values_mut() {
            membership.connected(&mut self.cx);
        }
        self.outbox.attach(&limits, &mut self.cx);
    }

    fn receive(&mut self, incoming: Incoming<'_>) {
        let cx = &mut self.cx;
        match incoming {
            Incoming::Reply { id: Some(id), payload }
            | Incoming::Pong { id: Some(id), payload } => {
                if let Some(owner) = cx.commands.take(id) {
                    self.settled(id, owner, Ok(payload));
                }
            }
            Incoming::Reply { id: None, .. } | Incoming::Pong { id: None, .. } => {}
            Incoming::Error { id, room, refused, key: _ } => {
                let error = CommandError::Refused(refused);
                match id {
                    // An answer to a command that has timed out is no news.
                    Some(codec::Id::Number(id)) => {
                        if let Some(owner) = cx.commands.take(id) {
                            self.settled(id, owner, Err(error));
                        }
                    }
                    Some(codec::Id::Text(_)) => {}
                    None => self.failed(room.as_deref(), error),
                }
            }
            Incoming::Refresh { .. } => self.start_refresh(),
            Incoming::Reconnect { after_ms, url } => {
                // The server drains: go before it closes on us.
                let at_ms = self.cx.now.mono_ms.saturating_add(after_ms);
                self.slot = Some(Slot { at_ms, url });
                self.timer = Some((at_ms, Plan::Move));
            }
            Incoming::Joined(room, reply) => {
                let room: Arc<str> = room.into();
                let logged = reply.position.is_some();
                let is_new = !self.rooms.contains_key(&room);
                // Before the room joins, so that whoever starts listening now hears everything.
                if is_new {
                    self.cx.out.push_back(Output::Client(ClientEvent::Room(room.clone())));
                }
                let membership = membership(&mut self.rooms, &room);
                if membership.handle_joined(reply, &mut self.cx) {
                    self.outbox.learn(&room, logged);
                }
            }
            Incoming::Left(room, reason) => {
                if let Some(membership) = self.rooms.get_mut(&*room) {
                    membership.handle_left(reason, cx);
                }
            }
            Incoming::Gap(room, gap) => {
                if let Some(membership) = self.rooms.get_mut(&*room) {
                    membership.handle_gap(gap, cx);
                }
            }
            Incoming::Members(room, change) => {
                if let Some(membership) = self.rooms.get_mut(&*room) {
                    membership.handle_members(change, cx);
                }
            }
            Incoming::Publication(publication) => {
                if is_address(&publication.room) {
                    let room = publication.room.as_str().into();
                    membership(&mut self.rooms, &room).handle_publication(*publication, cx);
                } else if let Some(membership) = self.rooms.get_mut(&*publication.room) {
                    membership.handle_publication(*publication, cx);
                }
            }
            // A second welcome is none.
            Incoming::Welcome(_) | Incoming::Ignored => {}
        }
    }

    /// An error without id: the answer to an entry of `$hello.rooms`, or a complaint.
    fn failed(&mut self, room: Option<&str>, error: CommandError) {
        let CommandError::Refused(refused) = error else { return };
        let of_join = refused.command.as_deref().is_none_or(|command| command == "$join");
        if let Some(membership) = room.filter(|_| of_join).and_then(|it| self.rooms.get_mut(it))
            && membership.handle_error(&CommandError::Refused(refused.clone()), &mut self.cx)
        {
            return;
        }
        self.cx.report(ClientError::Refused(refused));
    }

    fn settled(&mut self, id: u64, owner: Owner, result: Result<&str, CommandError>) {
        let cx = &mut self.cx;
        let outcome = |outcome: Result<Outcome, serde_json::Error>| {
            outcome.map_err(|_| CommandError::Malformed)
        };
        match owner {
            Owner::History(call) => {
                let result =
                    result.and_then(|it| outcome(codec::history(it).map(Outcome::History)));
                cx.done(call, result);
            }
            Owner::Members(call) => {
                let result =
                    result.and_then(|it| outcome(codec::members(it).map(Outcome::Members)));
                cx.done(call, result);
            }
            Owner::Empty(call) => cx.done(call, result.map(|_| Outcome::Done)),
            Owner::Ping(call, sent_at_ms) => {
                let wait_ms = cx.now.mono_ms.saturating_sub(sent_at_ms);
                cx.done(call, result.map(|_| Outcome::Pong(Duration::from_millis(wait_ms))));
            }
            Owner::Publish(call) => self.outbox.answered(call, result, cx),
            Owner::Ephemeral(call) => {
                let ack =
                    result.and_then(|it| outcome(codec::ack(it, None).map(Outcome::Published)));
                match ack {
                    Ok(ack) => cx.done(call, Ok(ack)),
                    Err(error) => cx.publish_failed(call, error, None),
                }
            }
            Owner::Join(room) => {
                let Some(membership) = self.rooms.get_mut(&room) else { return };
                membership.answered(id, result, cx);
                if membership.status.state == RoomState::Joined
                    && let Some(logged) = membership.logged
                {
                    self.outbox.learn(&room, logged);
                }
            }
            Owner::Leave(room, call) => {
                if let Some(membership) = self.rooms.get_mut(&room) {
                    membership.left(id, call, result, cx);
                }
            }
            Owner::Refresh => self.refreshed(result),
            Owner::Nobody => {}
        }
    }

    fn start_refresh(&mut self) {
        let Some(conn) = self.connection.as_ref().map(|connection| connection.id) else { return };
        if self.credentials.can_refresh() {
            self.start_fetch(TokenReason::Refresh, Purpose::Refresh(conn));
        }
    }

    fn refreshed(&mut self, result: Result<&str, CommandError>) {
        let expires = result
            .and_then(|payload| codec::expires_at_ms(payload).map_err(|_| CommandError::Malformed));
        match expires {
            Ok(expires_at_ms) => {
                self.refresh.succeeded();
                self.credentials.expires_at(expires_at_ms);
            }
            // The next connection shows the new token.
            Err(CommandError::ConnectionLost | CommandError::Closed) => {}
            Err(error) => {
                if error.is_temporary() {
                    let now_ms = self.cx.now.mono_ms;
                    self.refresh.failed(now_ms, &self.cx.options, &mut self.cx.random);
                }
                self.cx.report(ClientError::Refresh(error));
            }
        }
    }

    /// Closes the socket; nothing more is heard of it.
    fn end_connection(&mut self, code: u16, reason: &'static str) {
        if let Some(connection) = self.connection.take() {
            self.cx.out.push_back(Output::Close { conn: connection.id, code, reason });
        }
    }

    fn lost(&mut self, End { code, reason, retry_after_ms }: End) {
        let now_ms = self.cx.now.mono_ms;
        let was_connected = self.status.state == ClientState::Connected;
        self.detach();
        if was_connected && now_ms.saturating_sub(self.connected_at_ms) >= STABLE_MS {
            self.backoff.reset();
        }
        if code == close::TOKEN_EXPIRED {
            self.credentials.refuse();
        }
        let mut policy = close::policy(code);
        if code == close::UNAUTHENTICATED && self.credentials.refuse() {
            policy = Policy::Backoff;
        }
        let wait_ms = match (policy, &self.slot) {
            (Policy::Stop, _) => {
                self.stop(code, reason);
                return;
            }
            (_, Some(slot)) => retry_after_ms.max(slot.at_ms.saturating_sub(now_ms)),
            (Policy::Slot, None) => {
                retry_after_ms.saturating_add((self.cx.random.fraction() * SLOT_MS) as u64)
            }
            (Policy::Backoff, None) => retry_after_ms.saturating_add(self.next_backoff_ms()),
        };
        self.may_hurry = self.slot.is_none() && policy == Policy::Backoff && retry_after_ms == 0;
        self.wait(code, reason, wait_ms);
    }

    fn next_backoff_ms(&mut self) -> u64 {
        let Options { backoff_base_ms, backoff_cap_ms, .. } = self.cx.options;
        self.backoff.next_ms(&mut self.cx.random, backoff_base_ms, backoff_cap_ms)
    }

    fn wait(&mut self, code: u16, reason: String, wait_ms: u64) {
        let at_ms = self.cx.now.mono_ms.saturating_add(wait_ms);
        self.timer = Some((at_ms, Plan::Try(reason.clone())));
        let status = Status::new(ClientState::Connecting, reason).code(code);
        self.transition(status.retry_in_ms(wait_ms));
    }

    fn token_failed(&mut self, error: &TokenError) {
        self.cx.report(ClientError::Token(error.to_string()));
        match error {
            TokenError::Refused(_) => {
                self.stop(close::UNAUTHENTICATED, close_reason(close::UNAUTHENTICATED));
            }
            TokenError::Failed(_) => {
                self.may_hurry = true;
                let wait_ms = self.next_backoff_ms();
                self.wait(0, "token_failed".to_owned(), wait_ms);
            }
        }
    }

    fn stop(&mut self, code: u16, reason: String) {
        // What waits for an answer or a connection will not get one.
        self.outbox.suspend();
        for (id, owner) in self.cx.commands.take_all() {
            self.settled(id, owner, Err(CommandError::Closed));
        }
        self.outbox.fail_all(&mut self.cx);
        self.connection = None;
        self.detach();
        self.timer = None;
        self.fetch = None;
        self.slot = None;
        self.credentials.forget_session();
        self.transition(Status::new(ClientState::Closed, reason).code(code));
    }

    /// Lets go of the connection, in the order in which commands, queue and rooms depend on it.
    fn detach(&mut self) {
        self.cx.connected = false;
        self.refresh.stop();
        self.timer = None;
        self.outbox.suspend();
        for (id, owner) in self.cx.commands.detach() {
            self.settled(id, owner, Err(CommandError::ConnectionLost));
        }
        self.outbox.detach(&mut self.cx);
    }

    fn transition(&mut self, next: Status<ClientState>) {
        let previous = std::mem::replace(&mut self.status, next.clone()).state;
        if next.retry_in.is_some() || next.state == ClientState::Closed {
            for membership in self.rooms.values_mut() {
                membership.dropped(&next, &mut self.cx);
            }
        }
        let event = StateEvent { previous, status: next };
        self.cx.out.push_back(Output::Client(ClientEvent::State(event)));
    }
}

/// The room of this name, which is made if it is new.
fn membership<'a>(
    rooms: &'a mut BTreeMap<Arc<str>, Membership>,
    room: &Arc<str>,
) -> &'a mut Membership {
    rooms.entry(room.clone()).or_insert_with(|| Membership::new(room.clone()))
}
