//! One client in one room: `left`, `joining` or `joined`, and the position in the log.

use std::sync::Arc;

use clarion_protocol::{ErrorName, Position};

use super::acks::Acks;
use super::backoff::Backoff;
use super::codec::{self, Gap, Joined, Json, MembersChange, Metadata, Publication};
use super::commands::Owner;
use super::cx::Cx;
use super::errors::CommandError;
use super::members::MembersSnapshot;
use super::options::JoinOptions;
use super::output::{CallId, Outcome, Output, RoomEvent};
use super::position::{Follow, follow, resume, unknown_gap};
use super::status::{ClientState, StateEvent, Status};

/// Where a client stands in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoomState {
    /// Not a member, and not trying to be.
    Left,
    /// It tries, or waits for a connection.
    Joining,
    /// A member.
    Joined,
}

/// The one answer that may end `joining`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaiting {
    /// The entry in `$hello.rooms`.
    Hello,
    /// The `$join` with this id.
    Join(u64),
}

/// One client in one room.
///
/// ```text
///            join                    reply / $joined
///   left ──────────────► joining ──────────────────────► joined
///    ▲                    │   ▲                            │
///    │ refused, leave,    │   │ connection lost            │
///    └─ close, $left ─────┴───┴────────────────────────────┘
/// ```
///
/// `awaiting` names the one answer that may end `joining`; every other one is of an old attempt and
/// is dropped. Publications count only in `joined`: what comes at another time belongs to a
/// membership that is over, or is replayed after the next join.
pub(super) struct Membership {
    room: Arc<str>,
    pub(super) status: Status<RoomState>,
    wanted: bool,
    options: JoinOptions,
    awaiting: Option<Awaiting>,
    leaving: Option<u64>,
    pub(super) position: Option<Position>,
    pub(super) logged: Option<bool>,
    /// Was joined, lost the connection, and has not been joined again.
    away: bool,
    pub(super) members: MembersSnapshot,
    /// Set again after each join.
    presence: Option<Json>,
    backoff: Backoff,
    retry_at_ms: Option<u64>,
    /// Calls of `join` that wait, with their time.
    waiters: Vec<(CallId, u64)>,
    acks: Acks,
}

impl Membership {
    pub(super) fn new(room: Arc<str>) -> Self {
        Self {
            room,
            status: Status::new(RoomState::Left, "new"),
            wanted: false,
            options: JoinOptions::default(),
            awaiting: None,
            leaving: None,
            position: None,
            logged: None,
            away: false,
            members: MembersSnapshot::default(),
            presence: None,
            backoff: Backoff::default(),
            retry_at_ms: None,
            waiters: Vec::new(),
            acks: Acks::default(),
        }
    }

    /// Rooms with `$` are joined by the server only.
    fn is_managed(&self) -> bool {
        self.room.starts_with('$')
    }

    /// Whether what comes is for us.
    fn hears(&self) -> bool {
        self.status.state == RoomState::Joined || is_address(&self.room)
    }

    pub(super) fn join(
        &mut self,
        call: CallId,
        options: JoinOptions,
        timeout_ms: u64,
        cx: &mut Cx,
    ) {
        if self.is_managed() {
            cx.done(call, Err(managed()));
            return;
        }
        if !self.wanted {
            self.wanted = true;
            if options.after.is_some() {
                self.position.clone_from(&options.after);
            }
            self.options = options;
        }
        match self.status.state {
            RoomState::Joined => {
                cx.done(call, Ok(Outcome::Done));
                return;
            }
            RoomState::Left => {
                self.backoff.reset();
                self.transition(Status::new(RoomState::Joining, "join").retrying(), cx);
                self.send(cx);
            }
            RoomState::Joining => {}
        }
        self.waiters.push((call, cx.now.mono_ms.saturating_add(timeout_ms)));
    }

    pub(super) fn leave(&mut self, call: CallId, timeout_ms: u64, cx: &mut Cx) {
        if self.is_managed() {
            cx.done(call, Err(managed()));
            return;
        }
        self.wanted = false;
        let known = self.status.state == RoomState::Joined || self.awaiting.is_some();
        self.end(Status::new(RoomState::Left, "leave"), &CommandError::Aborted, cx);
        if known {
            self.send_leave(Some(call), timeout_ms, cx);
        } else {
            cx.done(call, Ok(Outcome::Done));
        }
    }

    /// Nobody waits for this `join` any more.
    pub(super) fn cancel(&mut self, call: CallId) -> bool {
        let before = self.waiters.len();
        self.waiters.retain(|(waiter, _)| *waiter != call);
        self.waiters.len() != before
    }

    pub(super) fn present(&mut self, state: Json) {
        self.presence = Some(state);
    }

    /// In `$user/<me>`: everything up to here was handled.
    pub(super) fn handled(&mut self, position: &Position, cx: &mut Cx) {
        self.acks.handled(position);
        if self.status.state == RoomState::Joined {
            self.acks.say(&self.room, cx);
        }
    }

    /// The `$ack` with this id, of `said`, was answered, or will not be.
    pub(super) fn acked(
        &mut self,
        id: u64,
        said: &Position,
        result: Result<(), CommandError>,
        cx: &mut Cx,
    ) {
        self.acks.answered(id, said, result, &self.room, cx);
    }

    /// The entry for `$hello.rooms`, which from now on is what is awaited.
    pub(super) fn hello(&mut self, cx: &mut Cx) -> Option<String> {
        if self.is_managed() {
            // The server joins me to my inbox and my groups; I only tell it where I stopped reading.
            let position = self.position.as_ref()?;
            return Some(codec::join_payload(&JoinOptions::default(), Some(position)));
        }
        if !self.wanted {
            return None;
        }
        self.retry_at_ms = None;
        self.awaiting = Some(Awaiting::Hello);
        let reason = self.status.reason.clone();
        self.transition(Status::new(RoomState::Joining, reason).retrying(), cx);
        Some(codec::join_payload(&self.options, self.position.as_ref()))
    }

    /// There is a connection; joins what its `$hello` did not contain.
    pub(super) fn connected(&mut self, cx: &mut Cx) {
        if self.wanted && self.awaiting.is_none() {
            self.send(cx);
        }
    }

    /// There is none, or the next try was put off; `why` is the client's status.
    pub(super) fn dropped(&mut self, why: &Status<ClientState>, cx: &mut Cx) {
        self.awaiting = None;
        self.retry_at_ms = None;
        self.acks.dropped();
        if let Some(id) = self.leaving.take()
            && let Some(Owner::Leave(_, Some(call))) = cx.commands.take(id)
        {
            cx.done(call, Ok(Outcome::Done));
        }
        if self.status.state == RoomState::Joined {
            self.away = true;
        }
        let Status { code, reason, will_retry, retry_in, .. } = why.clone();
        if self.wanted && will_retry {
            let state = RoomState::Joining;
            self.transition(Status { state, code, reason, will_retry, retry_in }, cx);
        } else if self.status.state != RoomState::Left {
            let state = RoomState::Left;
            self.reset(Status { state, code, reason, will_retry, retry_in: None }, cx);
            self.reject(&CommandError::Closed, cx);
        }
    }

    /// The reply of a `$hello.rooms` entry, or the server made us join. Returns whether it counts.
    pub(super) fn handle_joined(&mut self, reply: Joined, cx: &mut Cx) -> bool {
        if self.awaiting == Some(Awaiting::Hello) || self.is_managed() {
            self.joined(reply, cx);
        } else if self.status.state == RoomState::Left && self.leaving.is_none() {
            // Joined through the API: from now on wanted, so that the next `$hello` keeps it.
            self.wanted = true;
            self.joined(reply, cx);
        } else {
            return false;
        }
        true
    }

    /// Returns false when the error is not about joining.
    pub(super) fn handle_error(&mut self, error: &CommandError, cx: &mut Cx) -> bool {
        if self.awaiting != Some(Awaiting::Hello) {
            return false;
        }
        self.refused(error, cx);
        true
    }

    pub(super) fn handle_left(&mut self, reason: String, cx: &mut Cx) {
        if self.status.state == RoomState::Joined {
            self.wanted = false;
            self.end(Status::new(RoomState::Left, reason), &CommandError::Aborted, cx);
        }
    }

    pub(super) fn handle_publication(&mut self, publication: Publication, cx: &mut Cx) {
        if !self.hears() {
            return;
        }
        if let Some(position) = &publication.position {
            match follow(self.position.as_ref(), position) {
                Follow::Drop => return,
                Follow::DeliverAfter(gap) => self.tell(RoomEvent::Gap(gap), cx),
                Follow::Deliver => {}
            }
            self.position = Some(position.clone());
        }
        self.tell(RoomEvent::Publication(Arc::new(publication)), cx);
    }

    pub(super) fn handle_gap(&mut self, gap: Gap, cx: &mut Cx) {
        if !self.hears() {
            return;
        }
        if gap.position.is_some() {
            self.position.clone_from(&gap.position);
        }
        self.tell(RoomEvent::Gap(gap), cx);
    }

    pub(super) fn handle_members(&mut self, change: MembersChange, cx: &mut Cx) {
        if self.status.state == RoomState::Joined {
            self.members.apply(change);
            self.tell_members(cx);
        }
    }

    /// The `$join` with this id was answered, or will not be.
    pub(super) fn answered(&mut self, id: u64, result: Result<&str, CommandError>, cx: &mut Cx) {
        if self.awaiting != Some(Awaiting::Join(id)) {
            return;
        }
        let reply =
            result.and_then(|payload| codec::joined(payload).map_err(|_| CommandError::Malformed));
        match reply {
            Ok(reply) => self.joined(reply, cx),
            Err(error) => self.refused(&error, cx),
        }
    }

    /// The `$leave` with this id was answered, or will not be.
    pub(super) fn left(
        &mut self,
        id: u64,
        call: Option<CallId>,
        result: Result<&str, CommandError>,
        cx: &mut Cx,
    ) {
        if self.leaving == Some(id) {
            self.leaving = None;
        }
        let Some(call) = call else { return };
        match result {
            Ok(_) => cx.done(call, Ok(Outcome::Done)),
            // Errors after which we are as out as can be.
            Err(error) if matches!(error.name(), "not_joined" | "connection_lost" | "closed") => {
                cx.done(call, Ok(Outcome::Done));
            }
            Err(error) => cx.done(call, Err(error)),
        }
    }

    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        let waiters = self.waiters.iter().map(|(_, deadline_ms)| *deadline_ms);
        waiters.chain(self.retry_at_ms).chain(self.acks.next_deadline_ms()).min()
    }

    pub(super) fn on_tick(&mut self, cx: &mut Cx) {
        let now_ms = cx.now.mono_ms;
        for (call, _) in self.waiters.extract_if(.., |(_, deadline_ms)| *deadline_ms <= now_ms) {
            // The wish stays: the room is joined as soon as that is possible.
            cx.done(call, Err(CommandError::Timeout));
        }
        if self.retry_at_ms.take_if(|at_ms| *at_ms <= now_ms).is_some() {
            let Status { code, reason, .. } = self.status.clone();
            self.transition(Status::new(RoomState::Joining, reason).code(code).retrying(), cx);
            self.send(cx);
        }
        self.acks.on_tick(&self.room, cx);
    }

    fn send(&mut self, cx: &mut Cx) {
        self.retry_at_ms = None;
        if !cx.connected {
            return;
        }
        let payload = codec::join_payload(&self.options, self.position.as_ref());
        let id = cx.command(Owner::Join(self.room.clone()), "$join", &payload, &self.room);
        self.awaiting = Some(Awaiting::Join(id));
    }

    fn send_leave(&mut self, call: Option<CallId>, timeout_ms: u64, cx: &mut Cx) {
        let deadline_ms = cx.now.mono_ms.saturating_add(timeout_ms);
        let room = self.room.clone();
        let id = cx.issue(Owner::Leave(self.room.clone(), call), deadline_ms, |id| {
            let metadata = Metadata { room: Some(&room), id: Some(id), ..Metadata::default() };
            codec::encode("$leave", "{}", metadata)
        });
        self.leaving = Some(id);
    }

    fn joined(&mut self, reply: Joined, cx: &mut Cx) {
        let before = self.position.take();
        let away = std::mem::take(&mut self.away);
        self.awaiting = None;
        self.backoff.reset();
        let logged = reply.position.is_some();
        self.logged = Some(logged);
        let resumption = resume(before.as_ref(), &reply, self.room.starts_with("$user/"));
        self.position = resumption.position;
        self.transition(Status::new(RoomState::Joined, "joined"), cx);
        if let Some(members) = reply.members {
            self.members = MembersSnapshot::default();
            self.members.apply(members);
            self.tell_members(cx);
        }
        if let Some(gap) = resumption.gap {
            self.tell(RoomEvent::Gap(gap), cx);
        } else if away && !logged {
            // Nobody can tell what was said in a room without log while we were away.
            self.tell(RoomEvent::Gap(unknown_gap()), cx);
        } else if (before.is_some() || reply.recovered)
            && let (Some(position), Some(head)) = (&self.position, &reply.position)
        {
            let from = position.offset.saturating_add(1);
            let event = RoomEvent::Recovered { from, to: head.offset };
            self.tell(event, cx);
        }
        self.acks.say(&self.room, cx);
        for (call, _) in std::mem::take(&mut self.waiters) {
            cx.done(call, Ok(Outcome::Done));
        }
        if let Some(state) = &self.presence {
            let state = state.text().to_owned();
            cx.command(Owner::Nobody, "$state", &state, &self.room);
        }
    }

    fn refused(&mut self, error: &CommandError, cx: &mut Cx) {
        self.awaiting = None;
        let (code, reason) = (error.code(), error.name());
        // The client's status tells the rest, through `dropped`.
        if matches!(error, CommandError::ConnectionLost | CommandError::Closed) {
            return;
        }
        if reason == ErrorName::NoHistory.as_str() && self.position.take().is_some() {
            // The room kept a log when we were here last, and does not any more.
            self.logged = Some(false);
            self.options = JoinOptions { members: self.options.members, ..JoinOptions::default() };
            self.send(cx);
            return;
        }
        if reason == ErrorName::AlreadyJoined.as_str() {
            // An earlier join of ours got through, but not its reply: without it our position is
            // unknown.
            self.send_leave(None, cx.options.timeout_ms, cx);
        } else if !error.is_temporary() {
            self.wanted = false;
            self.end(Status::new(RoomState::Left, reason).code(code), error, cx);
            return;
        }
        let wait_ms = cx.backoff_ms(&mut self.backoff, error);
        self.retry_at_ms = Some(cx.now.mono_ms.saturating_add(wait_ms));
        self.transition(
            Status::new(RoomState::Joining, reason).code(code).retry_in_ms(wait_ms),
            cx,
        );
    }

    /// Out, and not by accident: the position is forgotten.
    fn end(&mut self, next: Status<RoomState>, error: &CommandError, cx: &mut Cx) {
        self.awaiting = None;
        self.retry_at_ms = None;
        self.position = None;
        self.away = false;
        self.reset(next, cx);
        self.reject(error, cx);
    }

    fn reset(&mut self, next: Status<RoomState>, cx: &mut Cx) {
        self.transition(next, cx);
        if self.members != MembersSnapshot::default() {
            self.members = MembersSnapshot::default();
            self.tell_members(cx);
        }
    }

    fn reject(&mut self, error: &CommandError, cx: &mut Cx) {
        for (call, _) in std::mem::take(&mut self.waiters) {
            cx.done(call, Err(error.clone()));
        }
    }

    fn transition(&mut self, next: Status<RoomState>, cx: &mut Cx) {
        if next != self.status {
            let previous = std::mem::replace(&mut self.status, next).state;
            let status = self.status.clone();
            self.tell(RoomEvent::State(StateEvent { previous, status }), cx);
        }
    }

    fn tell_members(&self, cx: &mut Cx) {
        self.tell(RoomEvent::Members(Arc::new(self.members.clone())), cx);
    }

    fn tell(&self, event: RoomEvent, cx: &mut Cx) {
        cx.out.push_back(Output::Room(self.room.clone(), event));
    }
}

/// `$all` and `$client/<me>`: nobody is ever told to have joined them, and whatever comes to them is
/// meant for this connection.
pub(super) fn is_address(room: &str) -> bool {
    room == "$all" || room.starts_with("$client/")
}

fn managed() -> CommandError {
    CommandError::invalid(ErrorName::BadRoom, "the server joins rooms with a $", "room", None)
}
