//! What a client asks, from its text to the room's home and back.

use crate::connection::{Parked, Phase, pause};
use crate::effects::{Action, Credentials, Effects, Question, Verdict};
use crate::id::{ConnId, Now};
use crate::mail::{JoinBy, Outcome, Place, What};
use crate::presence::wire;
use crate::shard::Shard;
use bytes::Bytes;
use clarion_protocol::command::Credential;
use clarion_protocol::{
    Command, CommandId, ErrorName, Incoming, Join, LeftReason, Position, Publication, Refusal,
    Reply, RoomName, codec,
};
use std::sync::Arc;

/// When a page may be asked for again that met a full outbox, milliseconds.
const FULL_RETRY_MS: u64 = 1_000;

impl Shard {
    /// One message of a client.
    pub(crate) fn on_text(&mut self, conn: ConnId, text: &str, now: Now, fx: &mut impl Effects) {
        let Some(connection) = self.connection(conn) else { return };
        match connection.phase {
            Phase::Open => self.on_message(conn, text, now, fx),
            Phase::Hello => self.on_first(conn, text, now, fx),
            Phase::Authenticating | Phase::Binding => {
                connection.waiting().early.push_back(text.into());
                self.check_commands(conn, fx);
            }
            Phase::Echo | Phase::Closing | Phase::Closed => {}
        }
    }

    /// A message before the session: only a `$hello` will do.
    fn on_first(&mut self, conn: ConnId, text: &str, now: Now, fx: &mut impl Effects) {
        match codec::json::decode(text) {
            Ok(Incoming { id, command: Command::Hello(hello), .. }) => {
                self.on_hello(conn, id, hello, now, fx);
            }
            Ok(Incoming { id, room, key, command }) => {
                let refusal = Refusal::unauthenticated("say $hello first");
                let command = Some(command.kind());
                let (room, key) = (room.as_deref(), key.as_deref());
                self.refuse(conn, id.as_ref(), room, key, command, &refusal, now, fx);
            }
            Err(rejected) => self.reject(conn, &rejected, now, fx),
        }
    }

    fn on_message(&mut self, conn: ConnId, text: &str, now: Now, fx: &mut impl Effects) {
        let decoded = codec::json::decode(text);
        let rate = self.check_rate(conn, decoded.as_ref().ok(), now);
        let Incoming { id, room, key, command } = match decoded {
            Ok(incoming) => incoming,
            Err(mut rejected) => {
                if let Err(refusal) = rate {
                    rejected.refusal = refusal;
                }
                return self.reject(conn, &rejected, now, fx);
            }
        };
        if let Err(refusal) = rate {
            let (room, key) = (room.as_deref(), key.as_deref());
            let kind = Some(command.kind());
            return self.refuse(conn, id.as_ref(), room, key, kind, &refusal, now, fx);
        }
        let (kind, refusal) = match command {
            Command::Hello(_) => ("$hello", Refusal::already_welcomed()),
            Command::Ping { payload } => {
                let frame = self.frame(|out| codec::json::pong(out, id.as_ref(), payload));
                return self.send(conn, frame, now, fx);
            }
            Command::Refresh { token } => return self.on_refresh(conn, id, token, now, fx),
            Command::Ack { room, position } if self.is_own(conn, &room) => {
                let guest = self.connection(conn).is_some_and(|connection| connection.guest);
                if !guest {
                    let what = What::Ack { position };
                    return self.park_or_forward(conn, room, id, what, now, fx);
                }
                // A guest's room is an address without log.
                ("$ack", Refusal::no_history("metadata.room"))
            }
            Command::Ack { .. } => ("$ack", Refusal::forbidden("this is not your own room")),
            Command::Join { room, join } => match self.check_rooms(conn) {
                Ok(()) => {
                    let what = What::Join { join, by: JoinBy::Command };
                    return self.ask(conn, room, id, what, Action::Join, now, fx);
                }
                Err(refusal) => ("$join", refusal),
            },
            Command::Leave { room } => {
                return self.park_or_forward(conn, room, id, What::Leave, now, fx);
            }
            Command::History { room, after, before, limit } => {
                let what = What::History { after, before, limit };
                return self.ask(conn, room, id, what, Action::History, now, fx);
            }
            Command::Members { room, limit, after } => {
                let what = What::Members { limit, after };
                return self.ask(conn, room, id, what, Action::Members, now, fx);
            }
            Command::State { room, value } => {
                let what = What::State { value: value.into() };
                return self.ask(conn, room, id, what, Action::State, now, fx);
            }
            Command::Publish { room, kind, payload, key, ephemeral, echo } => {
                let Some(connection) = self.connection(conn) else { return };
                let Some(from) = connection.sender.clone() else { return };
                let user = from.user.as_deref().unwrap_or_default();
                let principal = match &key {
                    Some(_) => format!("u:{user}").into(),
                    None => Box::default(),
                };
                let publication = Arc::new(Publication {
                    kind: kind.into(),
                    payload: Bytes::copy_from_slice(payload.as_bytes()),
                    time_ms: now.wall_ms,
                    from: Some(from),
                    key: key.map(Into::into),
                });
                let what =
                    What::Publish { publication, ephemeral, echo, principal, at_us: now.mono_us };
                return self.ask(conn, room.to_name(), id, what, Action::Publish, now, fx);
            }
        };
        let (room, key) = (room.as_deref(), key.as_deref());
        self.refuse(conn, id.as_ref(), room, key, Some(kind), &refusal, now, fx);
    }

    /// Takes a message off what the connection may send in this time; `None` is a malformed one.
    fn check_rate(
        &mut self,
        conn: ConnId,
        incoming: Option<&Incoming<'_>>,
        now: Now,
    ) -> Result<(), Refusal> {
        let limits = self.config.limits;
        let Some(connection) = self.connection(conn) else { return Ok(()) };
        let publishes = matches!(incoming, Some(Incoming { command: Command::Publish { .. }, .. }));
        let (publish_per_s, commands_per_s, _) = connection.limits(&limits);
        let (bucket, rate, name) = if publishes {
            (&mut connection.publish, publish_per_s, "publish_per_s")
        } else {
            (&mut connection.commands, commands_per_s, "commands_per_s")
        };
        bucket.take(rate, now.mono_us).map_err(|retry_after_ms| {
            self.counters.limit(name);
            Refusal::rate_limited(u64::from(rate), retry_after_ms)
        })
    }

    /// A room of `$hello.rooms`.
    pub(crate) fn join_wanted(
        &mut self,
        conn: ConnId,
        room: RoomName,
        join: Join,
        now: Now,
        fx: &mut impl Effects,
    ) {
        match self.check_rooms(conn) {
            Ok(()) => {
                let what = What::Join { join, by: JoinBy::Hello };
                self.ask(conn, room, None, what, Action::Join, now, fx);
            }
            Err(refusal) => {
                let room = Some(room.as_str());
                self.refuse(conn, None, room, None, Some(""), &refusal, now, fx);
            }
        }
    }

    fn check_rooms(&mut self, conn: ConnId) -> Result<(), Refusal> {
        let limits = self.config.limits;
        let Some(connection) = self.connection(conn) else { return Ok(()) };
        let (.., limit) = connection.limits(&limits);
        let parked = connection.waiting.as_ref().map_or(0, |waiting| {
            waiting.parked.iter().filter(|parked| parked.what.place() == Place::Room).count()
        });
        let joined = connection.rooms.iter().filter(|membership| !membership.server).count();
        if joined + connection.joining as usize + parked < limit {
            return Ok(());
        }
        self.counters.limit("rooms");
        Err(Refusal::new(ErrorName::RateLimited, "one connection can be in no more rooms")
            .with_field("metadata.room")
            .with_limit(limit as u64))
    }

    fn on_refresh(
        &mut self,
        conn: ConnId,
        id: Option<CommandId>,
        token: Credential,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let Some(connection) = self.connection(conn) else { return };
        if connection.waiting().refresh.is_some() {
            let refusal = Refusal::rate_limited(1, 1_000);
            return self.refuse(conn, id.as_ref(), None, None, Some("$refresh"), &refusal, now, fx);
        }
        connection.waiting().refresh = Some(id);
        connection.under_way += 1;
        if let Some(outcome) = fx.authenticate(conn, &Credentials::Token(token)) {
            self.on_authenticated(conn, outcome, now, fx);
        }
    }

    // Permission.

    /// Asks whether the command is allowed, and does it when it is.
    fn ask(
        &mut self,
        conn: ConnId,
        room: RoomName,
        id: Option<CommandId>,
        what: What,
        action: Action,
        now: Now,
        fx: &mut impl Effects,
    ) {
        self.questions += 1;
        let token = self.questions;
        let Some(connection) = self.connection(conn) else { return };
        let Some(sender) = connection.sender.clone() else { return };
        let (guest, grants) = (connection.guest, connection.grants.clone());
        let behind = connection.is_parked(&room);
        let member = room.kind().is_special() && self.is_seated(conn, &room);
        let members = matches!(&what, What::Join { join, .. } if join.members);
        let question =
            Question { token, conn, sender, guest, grants, member, action, members, room };
        let verdict = fx.decide(&question);
        let room = question.room;
        match verdict {
            Some(verdict) if !behind => self.decided(conn, room, id, what, verdict, now, fx),
            verdict => self.park(conn, Parked { token, verdict, room, id, what }, fx),
        }
    }

    /// Asks whether the session still may be in a room, and takes it out if not.
    pub(crate) fn doubt(&mut self, conn: ConnId, room: RoomName, fx: &mut impl Effects) {
        self.questions += 1;
        let token = self.questions;
        let Some(connection) = self.connection(conn) else { return };
        let Some(sender) = connection.sender.clone() else { return };
        let (guest, grants) = (connection.guest, connection.grants.clone());
        let (member, members, action) = (true, false, Action::Join);
        let question =
            Question { token, conn, sender, guest, grants, member, action, members, room };
        match fx.decide(&question) {
            Some(verdict) => self.doubted(conn, question.room, verdict, fx),
            None => {
                if let Some(connection) = self.connection(conn) {
                    connection.waiting().doubts.push((token, question.room));
                }
            }
        }
    }

    /// Nobody is taken out of a room because it could not be found out whether it may be there.
    fn doubted(&mut self, conn: ConnId, room: RoomName, verdict: Verdict, fx: &mut impl Effects) {
        if verdict == Verdict::Deny {
            self.take_out(conn, room, LeftReason::Forbidden, fx);
        }
    }

    /// A command that needs no permission; it keeps its place behind those that do.
    fn park_or_forward(
        &mut self,
        conn: ConnId,
        room: RoomName,
        id: Option<CommandId>,
        what: What,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let Some(connection) = self.connection(conn) else { return };
        if connection.is_parked(&room) {
            let verdict = Some(Verdict::Allow);
            self.park(conn, Parked { token: 0, verdict, room, id, what }, fx);
        } else {
            self.decided(conn, room, id, what, Verdict::Allow, now, fx);
        }
    }

    fn park(&mut self, conn: ConnId, parked: Parked, fx: &mut impl Effects) {
        let Some(connection) = self.connection(conn) else { return };
        connection.waiting().parked.push_back(parked);
        self.check_commands(conn, fx);
    }

    /// A verdict that came late.
    pub(crate) fn on_decided(
        &mut self,
        conn: ConnId,
        token: u64,
        verdict: Verdict,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let Some(connection) = self.connection(conn) else { return };
        let Some(waiting) = &mut connection.waiting else { return };
        if let Some(at) = waiting.doubts.iter().position(|(doubt, _)| *doubt == token) {
            let (_, room) = waiting.doubts.swap_remove(at);
            return self.doubted(conn, room, verdict, fx);
        }
        let Some(parked) = waiting.parked.iter_mut().find(|parked| parked.token == token) else {
            return;
        };
        parked.verdict = Some(verdict);
        let room = parked.room.clone();
        // What is first for this room may go on; what is behind it follows while it is decided.
        while let Some(waiting) = self.connection(conn).and_then(|c| c.waiting.as_mut())
            && let Some(first) = waiting.parked.iter().position(|parked| parked.room == room)
            && let Some(verdict) = waiting.parked[first].verdict
        {
            let Parked { room, id, what, .. } =
                waiting.parked.remove(first).expect("the position was found");
            self.decided(conn, room, id, what, verdict, now, fx);
        }
        if let Some(connection) = self.connection(conn)
            && connection.waiting.as_ref().is_some_and(|waiting| waiting.is_empty())
        {
            connection.waiting = None;
        }
        self.check_commands(conn, fx);
    }

    fn decided(
        &mut self,
        conn: ConnId,
        room: RoomName,
        id: Option<CommandId>,
        what: What,
        verdict: Verdict,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let refusal = match verdict {
            Verdict::Allow => {
                self.forward(conn, room, id, what, fx);
                return self.check_commands(conn, fx);
            }
            Verdict::Deny => Refusal::forbidden("you may not do this here"),
            Verdict::Unavailable => Refusal::unavailable("it is not known whether you may do this"),
        };
        let key = match &what {
            What::Publish { publication, .. } => publication.key.as_deref(),
            _ => None,
        };
        let (room, command) = (Some(room.as_str()), Some(what.command()));
        self.refuse(conn, id.as_ref(), room, key, command, &refusal, now, fx);
    }

    /// Reads the connection only while it has fewer commands under way than it may.
    pub(crate) fn check_commands(&mut self, conn: ConnId, fx: &mut impl Effects) {
        let limit = self.config.limits.commands;
        let Some(connection) = self.connection(conn) else { return };
        let waiting = connection
            .waiting
            .as_ref()
            .map_or(0, |waiting| (waiting.early.len() + waiting.parked.len()) as u32);
        if connection.under_way + waiting >= limit {
            self.pause(conn, pause::COMMANDS, fx);
        } else {
            self.unpause(conn, pause::COMMANDS, fx);
        }
    }

    // Outcomes.

    /// What came of a command.
    pub(crate) fn on_outcome(
        &mut self,
        conn: ConnId,
        room: &RoomName,
        id: Option<&CommandId>,
        key: Option<&str>,
        command: Option<&str>,
        place: Place,
        outcome: Outcome,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let ended = self.count_outcome(conn);
        if let Some(connection) = self.connection(conn) {
            let command = u32::from(place != Place::None);
            connection.under_way = connection.under_way.saturating_sub(command);
            let room = u32::from(place == Place::Room);
            connection.joining = connection.joining.saturating_sub(room);
        } else if !matches!(outcome, Outcome::Joined(_)) {
            return;
        }
        let name = Some(room.as_str());
        let outbox_bytes = self.config.limits.outbox_bytes;
        let outcome = match outcome {
            // It asked twice, and in between the home forgot it for a newer connection of the session
            // that is gone again.
            Outcome::Joined(joined) if self.is_open(conn) && self.is_seated(conn, room) => {
                self.stay(conn, room, &joined, now, fx)
            }
            outcome => outcome,
        };
        match outcome {
            // A page may be a thousand times as long as what asked for it, and one read brings many
            // that ask; so whoever has an outbox full of them gets no more.
            Outcome::History { .. } | Outcome::Members { .. } if fx.queued(conn) > outbox_bytes => {
                let refusal = Refusal::rate_limited(outbox_bytes as u64, FULL_RETRY_MS);
                self.refuse(conn, id, name, key, command, &refusal, now, fx);
            }
            Outcome::Refused(refusal) => {
                self.refuse(conn, id, name, key, command, &refusal, now, fx);
            }
            Outcome::Joined(joined) => self.on_joined(conn, room, id, *joined, ended, now, fx),
            Outcome::Left => self.on_left(conn, room, id, now, fx),
            Outcome::Published { position, time_ms, duplicate, .. } => {
                let position = position.as_ref();
                self.answer(
                    conn,
                    id,
                    name,
                    &Reply::Published { position, time_ms, duplicate },
                    now,
                    fx,
                );
            }
            Outcome::History { page } => {
                let publications: Vec<_> = page
                    .publications
                    .iter()
                    .map(|(offset, publication)| (*offset, &**publication))
                    .collect();
                let position = Position::new(page.standing.epoch, page.standing.head);
                let reply = Reply::History {
                    position: &position,
                    first: page.standing.first,
                    publications: &publications,
                    more: page.more,
                };
                self.answer(conn, id, name, &reply, now, fx);
            }
            Outcome::Members { members, count, users, more } => {
                let members = wire(&members);
                let reply = Reply::Members { members: &members, count, users, more };
                self.answer(conn, id, name, &reply, now, fx);
            }
            Outcome::Stated => self.answer(conn, id, name, &Reply::Empty, now, fx),
            // The connection did not ask; whoever had to be told was.
            Outcome::Count(_) | Outcome::Users(_) => {}
        }
        self.check_commands(conn, fx);
    }

    /// One outcome less is to come; whether the session has ended whose connection asked for it.
    pub(crate) fn count_outcome(&mut self, conn: ConnId) -> bool {
        if let Some(connection) = self.connection(conn) {
            connection.expecting = connection.expecting.saturating_sub(1);
            return connection.ended;
        }
        let Some(expecting) = self.ended.get_mut(&conn) else { return false };
        *expecting -= 1;
        if *expecting == 0 {
            self.ended.remove(&conn);
        }
        true
    }

    fn on_left(
        &mut self,
        conn: ConnId,
        room: &RoomName,
        id: Option<&CommandId>,
        now: Now,
        fx: &mut impl Effects,
    ) {
        if !self.planted.is(crate::fault::Fault::DeliveryAfterLeave)
            && let Some(local) = self.locals.find(room)
        {
            self.vacate(conn, local);
        }
        self.answer(conn, id, Some(room.as_str()), &Reply::Empty, now, fx);
    }

    fn answer(
        &mut self,
        conn: ConnId,
        id: Option<&CommandId>,
        room: Option<&str>,
        reply: &Reply<'_>,
        now: Now,
        fx: &mut impl Effects,
    ) {
        if let Some(id) = id {
            let frame = self.frame(|out| codec::json::reply(out, id, room, reply));
            self.send(conn, frame, now, fx);
        }
    }

    fn reject(
        &mut self,
        conn: ConnId,
        rejected: &clarion_protocol::Rejected,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let (id, room) = (rejected.id.as_ref(), rejected.room.as_deref());
        let (key, kind) = (rejected.key.as_deref(), rejected.kind.as_deref());
        self.refuse(conn, id, room, key, kind, &rejected.refusal, now, fx);
    }

    /// Answers a command that failed. One without id is named by room, key and command; an empty
    /// command says that it is a room of `$hello`.
    pub(crate) fn refuse(
        &mut self,
        conn: ConnId,
        id: Option<&CommandId>,
        room: Option<&str>,
        key: Option<&str>,
        command: Option<&str>,
        refusal: &Refusal,
        now: Now,
        fx: &mut impl Effects,
    ) {
        self.counters.error(refusal.name);
        // A room of `$hello` is answered whatever happens to others, and by nothing but its name.
        let of_hello = command == Some("");
        let per_min = self.config.limits.violations_per_min;
        let Some(connection) = self.connection(conn) else { return };
        let code = connection.violate(refusal.name, per_min, now.mono_us);
        let suppressed = if id.is_some() || of_hello || code.is_some() {
            None
        } else {
            match connection.may_tell(refusal.name, now.mono_us) {
                Some(0) => None,
                Some(suppressed) => Some(suppressed),
                None => return,
            }
        };
        let (room, key, command) =
            if id.is_some() { (None, None, None) } else { (room, key, command) };
        let command = command.filter(|_| !of_hello);
        let frame = self.frame(|out| {
            codec::json::error(out, id, room, key, command, refusal, code, suppressed);
        });
        self.send(conn, frame, now, fx);
        if let Some(code) = code {
            self.counters.limit("violations_per_min");
            self.close(conn, code, "too many messages that had to be refused", now, fx);
        }
    }
}
